/** Types of lip-stream.js: the `<lip-stream>` element and the pure functions behind it. Times are in milliseconds. */

export type State = "idle" | "microphone" | "connecting" | "live" | "reconnecting" | "error";

export type Attention = "idle" | "listening" | "thinking";

export type Stage = "device" | "uplink" | "lookahead" | "wait" | "draw" | "encode" | "send" | "network" | "display";

export interface Percentiles {
  p50: number;
  p95: number;
  p99: number;
}

/** One displayed frame. Times are on the page's clock (performance.now()); null: not known, or not known yet. */
export interface FrameRecord {
  /** Index of the frame: it answers sample 640·k of the microphone (16 kHz). */
  k: number;
  rtp: number;
  /** Number of interruptions so far. */
  epoch: number | null;
  /** The microphone's own latency; null where the browser does not report it, 0 for a stream of the page's own. */
  device: number | null;
  /** The server's estimate of when sample 640·k was captured, without the microphone's own latency. */
  captured: number | null;
  /** The last sample needed for the frame, including the look-ahead, had arrived. */
  arrived: number | null;
  started: number | null;
  drawn: number | null;
  encoded: number | null;
  /** The last packet was passed to the socket. */
  sent: number | null;
  /** The last packet was received; null where the browser does not report it. */
  receiveTime: number | null;
  /** Submitted to the compositor. */
  presentationTime: number;
  expectedDisplayTime: number;
  processingMs: number;
  width: number;
  height: number;
  /** The server's clock minus the page's, as used to translate the server's times. */
  offset: number | null;
  /**
   * Low 24 bits of the frame index in the stamp strip; null: unreadable; undefined: `readStamps` is off. If the next
   * frame came before the callback ran, the pixels are already that frame's.
   */
  stamp: number | null | undefined;
}

export interface Stats {
  state: State;
  seconds: number;
  /** Frames timed within these seconds. */
  frames: number;
  fps: number;
  total: Percentiles;
  /** NaN for stages that the browser does not report. */
  stages: Record<Stage, Percentiles>;
  /** From start() to the first frame on the screen. */
  firstFrameMs: number;
  rtt: number;
  clockOffset: number;
  /** Frames displayed between two callbacks, and therefore not timed. */
  missed: number;
  /** This and the next four: NaN where the browser does not report them. */
  dropped: number;
  freezes: number;
  freezeMs: number;
  jitterBufferMs: number;
  packetsLost: number;
  /** Why this browser cannot time frames; empty where it can. */
  untimed: string;
}

export interface ErrorDetail {
  /** Stable snake_case code. */
  reason: string;
  /** A sentence for the user. */
  message: string;
  detail: string;
  /** HTTP status, or 0. */
  status: number;
  /** Seconds to wait, where the server asks for it. */
  retryAfter: number | null;
  /** Whether the session is over. */
  fatal: boolean;
}

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  reason: string;
  faces?: Face[];
}

export interface ServerConfig {
  version: string;
  fps: number;
  sizes: number[];
  default_size: number;
  default_character: string;
  lookahead_ms: number;
  /** How renderers are chosen: "auto", "neural" or "rig". */
  generator: string;
  /** The available renderers: default edge in pixels, and CPU milliseconds per frame of that size. */
  renderers: Record<string, { default_size: number; frame_ms: number }>;
  /** Uploads need `consent=1`. */
  require_consent: boolean;
  ice_servers: RTCIceServer[];
  /** Lifetime of the credentials in `ice_servers` in seconds; null: unlimited. */
  ice_ttl_s: number | null;
  max_picture_bytes: number;
  /** Most pictures of one character. */
  max_pictures: number;
  max_clip_bytes: number;
  emotions: string[];
  /** The names for `gesture`, and the duration of each in seconds. */
  gestures: Record<string, number>;
  /** The controls for `move`, with their ranges. */
  plan: Record<string, [number, number]>;
  auth: boolean;
}

export interface LipStreamEventMap {
  state: CustomEvent<{ state: State; previous: State; reason: string }>;
  vad: CustomEvent<{ speaking: boolean; pts: number }>;
  /** A displayed frame. The server's times are added to the same object within about 250 ms. */
  frame: CustomEvent<FrameRecord>;
  stats: CustomEvent<Stats>;
  error: CustomEvent<ErrorDetail>;
  warning: CustomEvent<{ reason: string; detail: string }>;
  /** Each message from the server, unchanged. */
  control: CustomEvent<Record<string, any>>;
}

/** A face in an uploaded picture, in pixels: centres of both eyes and of the mouth; box x0, y0, x1, y1. */
export interface Face {
  score: number;
  eyes: [[number, number], [number, number]];
  mouth: [number, number];
  box: [number, number, number, number];
}

export class LipStreamError extends Error {
  constructor(reason: string, more?: { detail?: string; status?: number; retryAfter?: number | null; faces?: Face[] });
  reason: string;
  detail: string;
  status: number;
  retryAfter: number | null;
  /** The candidates, where an uploaded picture was refused because it has not exactly one face. */
  faces: Face[];
}

export class LipStream extends HTMLElement {
  /** Attribute `src`: the server; by default the one that the module was loaded from. */
  src: string;
  token: string;
  /** Supplies a new session token when the current one is used up or expired, or the server was restarted. */
  renewToken: (() => string | Promise<string>) | null;
  character: string;
  /** Pixels; 0: the server's default. */
  size: number;
  /** Attribute `background="off"`: no painted background. Without the attribute it is off only with `alpha`. */
  background: boolean;
  /** Attribute `alpha`: a transparent background. Takes effect at the next start. */
  alpha: boolean;
  /** Device id; empty: the browser's choice. */
  microphone: string;
  /** Play the returned voice. Off by default: hearing oneself with a delay disturbs speech, and speakers feed back. */
  hear: boolean;
  /** Attribute `echo-cancellation="off"`; noise suppression and gain control follow it. */
  echoCancellation: boolean;
  /** Read the stamp strip of each frame (the attribute `stamp` requests it from the server). */
  readStamps: boolean;

  readonly state: State;
  readonly muted: boolean;
  readonly away: boolean;
  readonly speaking: boolean;
  readonly session: string | null;
  /** The renderer of the character: "studio_rig", "picture_rig", "still" or "neural"; empty before it is known. */
  readonly renderer: string;
  readonly input: MediaStream | null;
  readonly output: MediaStream | null;
  readonly records: FrameRecord[];
  recordsCapacity: number;
  readonly clock: { offset: number | null; rtt: number | null };
  readonly untimed: string;

  /**
   * Whether the character is live. While a start is in progress, another call returns the same promise and ignores its
   * stream.
   */
  start(stream?: MediaStream): Promise<boolean>;
  stop(): void;
  interrupt(): Promise<{ epoch: number; pts: number; frame: number }>;
  mute(muted?: boolean): Promise<unknown>;
  setCharacter(id: string): Promise<{ id: string; frame: number } | null>;
  setEmotion(name: string, strength?: number): Promise<unknown>;
  /** Moves head, eyes, brows, body and hands; lapses after `hold` seconds (default 1, at most 10). */
  move(
    values: Record<string, number | null>,
    how?: { mode?: "add" | "replace"; hold?: number },
  ): Promise<{ frame: number } | null>;
  /** How the character behaves while it does not speak. */
  setAttention(state: Attention): Promise<{ state: Attention } | null>;
  /** @deprecated The former name of `setAttention`; works until lipstream 0.3. */
  attend(state: Attention): Promise<{ state: Attention } | null>;
  /** Plays one of `config().gestures`. `drawn: false`: the character's renderer cannot draw it. */
  gesture(name: string): Promise<{ name: string; frame: number; drawn?: boolean } | null>;
  /** Shows "be right back" or a picture of your own, in silence; `false`: back again. */
  setAway(away?: boolean, picture?: string): Promise<{ away: boolean; frame: number } | null>;
  setInput(stream?: MediaStream): Promise<void>;
  stats(seconds?: number): Stats;
  getStats(): Promise<RTCStatsReport | null>;
  config(): Promise<ServerConfig>;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  pictureUrl(id: string, size?: number): string;

  addEventListener<K extends keyof LipStreamEventMap>(
    type: K,
    listener: (this: LipStream, event: LipStreamEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

export class Clock {
  constructor(window?: number);
  window: number;
  add(sent: number, received: number, server: number): void;
  readonly offset: number | null;
  readonly rtt: number | null;
}

export class FrameLog {
  constructor(capacity?: number);
  capacity: number;
  seen(record: FrameRecord, clock: Clock): void;
  rows(rows: number[][], clock: Clock): void;
  restart(): void;
  readonly records: FrameRecord[];
  recent(seconds: number, now: number): FrameRecord[];
  summary(
    seconds: number,
    now: number,
    lookahead: number,
  ): { frames: number; fps: number; total: Percentiles; stages: Record<Stage, Percentiles> };
}

export const RTP_TICKS_PER_FRAME: number;
export const MAX_MESSAGE_BYTES: number;
export const STAGES: readonly Stage[];
export const commands: {
  ping(id: number, t: number): { type: "ping"; id: number; t: number };
  playout(differenceMs: number): { type: "playout"; difference_ms: number };
  interrupt(): { type: "interrupt" };
  mute(muted: boolean): { type: "mute"; muted: boolean };
  character(id: string, background?: boolean): { type: "character"; id: string; background?: boolean };
  emotion(name: string, strength?: number): { type: "emotion"; name: string; strength: number };
  plan(
    values: Record<string, number | null>,
    mode?: "add" | "replace",
    hold?: number,
  ): { type: "plan"; mode: "add" | "replace"; hold: number; values: Record<string, number | null> };
  attention(state: Attention): { type: "attention"; state: Attention };
  gesture(name: string): { type: "gesture"; name: string };
  away(away: boolean, picture?: string): { type: "away"; away: boolean; picture?: string };
};
/** Draws a video whose left half is colour and whose right half is alpha on a transparent canvas. */
export class AlphaCanvas {
  constructor(canvas: HTMLCanvasElement);
  readonly canvas: HTMLCanvasElement;
  readonly by: "webgl" | "2d" | "";
  draw(video: HTMLVideoElement): boolean;
  clear(): void;
}
export function frameOfRtp(rtp: number, offset: number, near?: number): number | null;
export function stampBits(k: number): number[];
export function stampedFrame(luma: ArrayLike<number>): number | null;
export function trickleFragment(
  sdp: string,
  candidates: { candidate: string; sdpMid: string | null }[],
  complete: boolean,
): string;
export function readMessage(text: unknown): Record<string, any> | null;
export function percentile(sorted: number[], share: number): number;
export function micToPhoton(record: FrameRecord): number;
export function stagesOf(record: FrameRecord, lookahead: number): Record<Stage, number>;

declare global {
  interface HTMLElementTagNameMap {
    "lip-stream": LipStream;
  }
}
