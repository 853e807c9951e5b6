/** Types of lip-stream.js: the `<lip-stream>` element and the pure functions behind it. Times are milliseconds. */

export type State = "idle" | "microphone" | "connecting" | "live" | "reconnecting" | "error";

export type Attention = "idle" | "listening" | "thinking";

export type Stage = "device" | "uplink" | "lookahead" | "wait" | "draw" | "encode" | "send" | "network" | "display";

export interface Percentiles {
  p50: number;
  p95: number;
  p99: number;
}

/** One displayed frame. Times are on the page's clock (performance.now()); null: not known (yet). */
export interface FrameRecord {
  /** Index of the frame: it answers sample 640·k of the microphone (16 kHz). */
  k: number;
  rtp: number;
  /** Utterances cut so far. */
  epoch: number | null;
  /** The microphone's own delay, as the browser reports it; 0 where it does not. */
  device: number;
  /** Server's estimate of when sample 640·k was captured; the microphone's own delay is not in it. */
  captured: number | null;
  /** The last sample needed for the frame, look-ahead included, was there. */
  arrived: number | null;
  started: number | null;
  drawn: number | null;
  encoded: number | null;
  /** Last packet handed to the socket. */
  sent: number | null;
  /** Last packet received, where the browser says so. */
  receiveTime: number | null;
  /** Submitted to the compositor. */
  presentationTime: number;
  expectedDisplayTime: number;
  processingMs: number;
  width: number;
  height: number;
  /** Server's clock minus the page's clock, as it was when the server's times were translated. */
  offset: number | null;
  /**
   * Low 24 bits of the frame index read from the stamp strip; null: unreadable; undefined: `readStamps` is off. Where the
   * next frame came before the callback ran, the pixels are already that frame's.
   */
  stamp: number | null | undefined;
}

export interface Stats {
  state: State;
  seconds: number;
  /** Frames that were timed within these seconds. */
  frames: number;
  fps: number;
  total: Percentiles;
  stages: Record<Stage, Percentiles>;
  /** From start() to the first frame on the screen. */
  firstFrameMs: number;
  rtt: number;
  clockOffset: number;
  /** Frames shown between two callbacks, so not timed; they were displayed all the same. */
  missed: number;
  dropped: number;
  freezes: number;
  freezeMs: number;
  jitterBufferMs: number;
  packetsLost: number;
  /** Why frames cannot be timed in this browser; empty where they can. */
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
  /** Seconds, when the server is full. */
  retryAfter: number | null;
  /** The session is over (true), or goes on (false). */
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
  /** What chooses the renderers: "auto", "neural" or "rig". */
  generator: string;
  /** What can draw characters here: edge of a session that asks for none, and milliseconds of a core for such a frame. */
  renderers: Record<string, { default_size: number; frame_ms: number }>;
  /** Pictures are taken with `consent=1` only. */
  require_consent: boolean;
  ice_servers: RTCIceServer[];
  /** Seconds that the credentials in `ice_servers` hold; null: they do not lapse. */
  ice_ttl_s: number | null;
  max_picture_bytes: number;
  /** Pictures that one character may be made of. */
  max_pictures: number;
  max_clip_bytes: number;
  emotions: string[];
  /** What `gesture` may name, and how many seconds each takes. */
  gestures: Record<string, number>;
  /** What `move` may name, and the least and the most of each. */
  plan: Record<string, [number, number]>;
  auth: boolean;
}

export interface LipStreamEventMap {
  state: CustomEvent<{ state: State; previous: State; reason: string }>;
  vad: CustomEvent<{ speaking: boolean; pts: number }>;
  /** A frame is on the screen; the server's times follow within about 250 ms, in the same object. */
  frame: CustomEvent<FrameRecord>;
  stats: CustomEvent<Stats>;
  error: CustomEvent<ErrorDetail>;
  warning: CustomEvent<{ reason: string; detail: string }>;
  /** Every message of the server, as it came. */
  control: CustomEvent<Record<string, any>>;
}

/** A face in an uploaded picture, in its pixels: middles of both eyes and of the mouth; x0, y0, x1, y1. */
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
  /** Where an uploaded picture was refused because no single face was found: those that could be meant. */
  faces: Face[];
}

export class LipStream extends HTMLElement {
  /** Attribute `src`: the server; by default the one that the module came from. */
  src: string;
  token: string;
  /** Gives another session token where the one at hand is used up, expired or of a server that was restarted since. */
  renewToken: (() => string | Promise<string>) | null;
  character: string;
  /** Pixels; 0: the server's default. */
  size: number;
  /** Attribute `background="off"`: no painted background; without it, none where `alpha` is. */
  background: boolean;
  /** Attribute `alpha`: the character stands on nothing, and the page shines through. From the next start on. */
  alpha: boolean;
  /** Device id; empty: the browser's choice. */
  microphone: string;
  /** Play the voice that comes back. Off by default: hearing oneself late disturbs speech, and howls on speakers. */
  hear: boolean;
  /** Attribute `echo-cancellation="off"`; noise suppression and gain control follow it. */
  echoCancellation: boolean;
  /** Read the stamp strip of each frame (attribute `stamp` asks the server for it). */
  readStamps: boolean;

  readonly state: State;
  readonly muted: boolean;
  readonly away: boolean;
  readonly speaking: boolean;
  readonly session: string | null;
  /** What draws the character: "studio_rig", "picture_rig", "still" or "neural"; empty before it is known. */
  readonly renderer: string;
  readonly input: MediaStream | null;
  readonly output: MediaStream | null;
  readonly records: FrameRecord[];
  recordsCapacity: number;
  readonly clock: { offset: number | null; rtt: number | null };
  readonly untimed: string;

  start(stream?: MediaStream): Promise<boolean>;
  stop(): void;
  interrupt(): Promise<{ epoch: number; pts: number; frame: number }>;
  mute(muted?: boolean): Promise<unknown>;
  setCharacter(id: string): Promise<{ id: string; frame: number } | null>;
  setEmotion(name: string, strength?: number): Promise<unknown>;
  /** Head, eyes, brows, body and hands as the user wants them; lapses after `hold` seconds (1, at most 10). */
  move(
    values: Record<string, number | null>,
    how?: { mode?: "add" | "replace"; hold?: number },
  ): Promise<{ frame: number } | null>;
  /** What the character does while it does not speak. */
  attend(state: Attention): Promise<{ state: Attention } | null>;
  /** One of `config().gestures`. */
  gesture(name: string): Promise<{ name: string; frame: number } | null>;
  /** "Be right back", or a picture of your own, and silence; `false`: here again. */
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
/** A video whose left half is colour and whose right half is alpha, put together on a canvas. */
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
