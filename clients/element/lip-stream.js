// @ts-check
/**
 * <lip-stream>: a microphone goes out, a talking character comes back, and every displayed frame is timed.
 *
 *   <script type="module" src="http://127.0.0.1:8080/element/lip-stream.js"></script>
 *   <lip-stream character="..." size="256"></lip-stream>
 *
 * Read in this order: protocol (pure), clock and frame log (pure), connection (WebRTC), transparency, element.
 * The protocol is described in clients/PROTOCOL.md; clients/vectors/ holds what all its implementations are tested on.
 */

/** @typedef {import("./lip-stream.js").FrameRecord} FrameRecord */
/** @typedef {import("./lip-stream.js").Face} Face */
/** @typedef {import("./lip-stream.js").Problem} Problem */
/** @typedef {import("./lip-stream.js").ServerConfig} ServerConfig */
/** @typedef {import("./lip-stream.js").Percentiles} Percentiles */

// ---------------------------------------------------------------------------------------------------------- protocol

export const RTP_TICKS_PER_FRAME = 3600; // the 90 kHz video clock at 25 frames a second
export const MAX_MESSAGE_BYTES = 16384;

/**
 * The frame that an RTP timestamp names. The clock wraps every 13 h 15 min, and its period is no multiple of a frame,
 * so a frame known to be `near` (within 6 h 37 min) decides which turn of the clock is meant.
 * @param {number} rtp unsigned 32 bits
 * @param {number} offset the timestamp of frame 0
 * @param {number} near
 * @returns {number | null} null for a timestamp between two frames
 */
export function frameOfRtp(rtp, offset, near = 0) {
  const ticks = (rtp - offset - near * RTP_TICKS_PER_FRAME) | 0; // modulo 2^32, signed
  return ticks % RTP_TICKS_PER_FRAME === 0 ? near + ticks / RTP_TICKS_PER_FRAME : null;
}

/**
 * The 32 cells of frame k's stamp strip: 24 bits of k, most significant first, then 8 of checksum.
 * @param {number} k
 */
export function stampBits(k) {
  const index = k & 0xffffff;
  const sum = ((index & 255) + 3 * ((index >> 8) & 255) + 7 * ((index >> 16) & 255) + 90) & 255;
  return Array.from({ length: 32 }, (_, i) => (i < 24 ? (index >> (23 - i)) & 1 : (sum >> (31 - i)) & 1));
}

/**
 * The low 24 bits of the frame index that a stamp strip shows.
 * @param {ArrayLike<number>} luma the brightness of the 32 cells, left to right, 0..255
 * @returns {number | null} null where the checksum does not fit
 */
export function stampedFrame(luma) {
  let index = 0;
  for (let i = 0; i < 24; i++) index = index * 2 + (luma[i] > 127 ? 1 : 0);
  return stampBits(index).every((bit, i) => bit === (luma[i] > 127 ? 1 : 0)) ? index : null;
}

/**
 * The body of a PATCH that trickles candidates (RFC 8840, in the form of RFC 9725).
 * @param {string} sdp the local description they belong to
 * @param {{ candidate: string, sdpMid: string | null }[]} candidates
 * @param {boolean} complete no candidate follows
 */
export function trickleFragment(sdp, candidates, complete) {
  const lines = sdp.split(/\r?\n/);
  const first = (/** @type {string} */ prefix) => lines.find((line) => line.startsWith(prefix));
  /** @type {{ media: string, mid: string }[]} */
  const sections = [];
  let media = "";
  for (const line of lines) {
    if (line.startsWith("m=")) media = line;
    else if (line.startsWith("a=mid:") && media) sections.push({ media, mid: line.slice(6) });
  }
  const out = [first("a=group:BUNDLE"), first("a=ice-ufrag:"), first("a=ice-pwd:")].filter(Boolean);
  sections.forEach((section, i) => {
    const own = candidates.filter(({ sdpMid }) => sdpMid === section.mid || (sdpMid === null && i === 0));
    const last = complete && i === 0; // everything is bundled on the first section
    if (!own.length && !last) return;
    out.push(section.media.replace(/^(m=\w+) \d+/, "$1 9"), `a=mid:${section.mid}`);
    for (const { candidate } of own) out.push(`a=${candidate}`);
    if (last) out.push("a=end-of-candidates");
  });
  return out.join("\r\n") + "\r\n";
}

const isText = (/** @type {unknown} */ v) => typeof v === "string" && v.length > 0;
const isFlag = (/** @type {unknown} */ v) => typeof v === "boolean";
const isNumber = (/** @type {unknown} */ v) => typeof v === "number" && Number.isFinite(v);
const isCount = (/** @type {unknown} */ v) => Number.isSafeInteger(v) && Number(v) >= 0;
const isPositive = (/** @type {unknown} */ v) => isNumber(v) && Number(v) > 0;
const isStrength = (/** @type {unknown} */ v) => isNumber(v) && Number(v) >= 0 && Number(v) <= 1;
const isMode = (/** @type {unknown} */ v) => v === "add" || v === "replace";
const isAttention = (/** @type {unknown} */ v) => v === "idle" || v === "listening" || v === "thinking";
const isHold = (/** @type {unknown} */ v) => isPositive(v) && Number(v) <= 10;
/** Which controls there are, and how far each goes, is the server's to say. */
const isPlan = (/** @type {unknown} */ v) =>
  typeof v === "object" &&
  v !== null &&
  !Array.isArray(v) &&
  Object.keys(v).length > 0 &&
  Object.values(v).every((one) => one === null || isNumber(one));
const isTimestamp = (/** @type {unknown} */ v) => isCount(v) && Number(v) < 2 ** 32;
const isRows = (/** @type {unknown} */ v) =>
  Array.isArray(v) &&
  v.every((row) => Array.isArray(row) && row.length === 8 && row.every(isNumber) && isCount(row[0]) && isCount(row[1]));
const optional = (/** @type {(v: unknown) => boolean} */ rule) => (/** @type {unknown} */ v) =>
  v === undefined || rule(v);

/** What each message of the server must hold. @type {Record<string, Record<string, (v: unknown) => boolean>>} */
const SERVER_MESSAGES = {
  hello: {
    session: isText,
    version: isText,
    fps: isPositive,
    samples_per_frame: isPositive,
    sample_rate: isPositive,
    lookahead_ms: isNumber,
    video_rtp_offset: isTimestamp,
    audio_rtp_offset: isTimestamp,
    epoch: isCount,
    renderer: optional(isText),
    size: optional(isPositive),
  },
  pong: { id: isCount, t: isNumber, server: isNumber },
  interrupted: { epoch: isCount, pts: isCount, frame: isCount },
  muted: { muted: isFlag },
  character: { id: isText, frame: isCount, renderer: optional(isText) },
  emotion: { name: isText, strength: isStrength },
  plan: { frame: isCount },
  attention: { state: isText },
  gesture: { name: isText, frame: isCount },
  away: { away: isFlag, frame: isCount },
  state: { state: isText },
  vad: { speaking: isFlag, pts: isCount },
  frames: { rows: isRows },
  warning: { reason: isText, detail: optional((v) => typeof v === "string") },
  error: { reason: isText, detail: optional((v) => typeof v === "string") },
  closed: { reason: isText, detail: optional((v) => typeof v === "string") },
};

/**
 * One message of the control channel. Types and fields that this client does not know are let through or ignored,
 * so that a newer server can say more.
 * @param {unknown} text
 * @returns {Record<string, any> | null} null for a type that is not known
 * @throws {TypeError} naming what is wrong
 */
export function readMessage(text) {
  if (typeof text !== "string") throw new TypeError("a message is text, this one is binary");
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new TypeError("a message is JSON, this one is not");
  }
  if (typeof message !== "object" || message === null || Array.isArray(message))
    throw new TypeError("a message is a JSON object");
  if (typeof message.type !== "string") throw new TypeError("a message has a type");
  if (!Object.hasOwn(SERVER_MESSAGES, message.type)) return null;
  for (const [field, rule] of Object.entries(SERVER_MESSAGES[message.type]))
    if (!rule(message[field])) throw new TypeError(`${message.type}.${field} is ${JSON.stringify(message[field])}`);
  return message;
}

/** What a client may say; each builder checks its arguments and returns the message. */
export const commands = {
  /** @param {number} id @param {number} t the client's clock, ms */
  ping: (id, t) => check("ping", { id, t }, { id: isCount, t: isNumber }),
  /** @param {number} differenceMs by how much sound is heard later than a picture that was sent with it is seen */
  playout: (differenceMs) => check("playout", { difference_ms: differenceMs }, { difference_ms: isNumber }),
  interrupt: () => check("interrupt", {}, {}),
  /** @param {boolean} muted */
  mute: (muted) => check("mute", { muted }, { muted: isFlag }),
  /** @param {string} id @param {boolean} [background] */
  character: (id, background) =>
    check("character", background === undefined ? { id } : { id, background }, {
      id: isText,
      background: optional(isFlag),
    }),
  /** @param {string} name @param {number} [strength] */
  emotion: (name, strength = 1) => check("emotion", { name, strength }, { name: isText, strength: isStrength }),
  /** @param {Record<string, number | null>} values @param {"add" | "replace"} [mode] @param {number} [hold] s */
  plan: (values, mode = "add", hold = 1) =>
    check("plan", { mode, hold, values }, { mode: isMode, hold: isHold, values: isPlan }),
  /** @param {"idle" | "listening" | "thinking"} state */
  attention: (state) => check("attention", { state }, { state: isAttention }),
  /** @param {string} name */
  gesture: (name) => check("gesture", { name }, { name: isText }),
  /** @param {boolean} away @param {string} [picture] a character's id, whose picture is shown meanwhile */
  away: (away, picture) =>
    check("away", picture === undefined ? { away } : { away, picture }, {
      away: isFlag,
      picture: optional((v) => isText(v) && away),
    }),
};

/**
 * @param {string} type
 * @param {Record<string, unknown>} fields
 * @param {Record<string, (v: unknown) => boolean>} rules
 */
function check(type, fields, rules) {
  for (const [field, rule] of Object.entries(rules))
    if (!rule(fields[field])) throw new TypeError(`${type}.${field} cannot be ${JSON.stringify(fields[field])}`);
  return { type, ...fields };
}

// ------------------------------------------------------------------------------------------------ clock and frame log

/** The server's clock seen from here: of the last pings the one with the shortest round trip is believed. */
export class Clock {
  /** @type {{ offset: number, rtt: number }[]} */
  #samples = [];
  /** @type {{ offset: number, rtt: number } | null} */
  #best = null;

  /** @param {number} window pings that are remembered: as many seconds once the first burst is over */
  constructor(window = 30) {
    this.window = window;
  }

  /** @param {number} sent ms @param {number} received ms @param {number} server its clock between the two, ms */
  add(sent, received, server) {
    this.#samples.push({ offset: server - (sent + received) / 2, rtt: received - sent });
    if (this.#samples.length > this.window) this.#samples.shift();
    this.#best = this.#samples.reduce((a, b) => (b.rtt < a.rtt ? b : a));
  }

  /** Server time minus local time (ms), or null before the first ping came back; wrong by at most half of `rtt`. */
  get offset() {
    return this.#best && this.#best.offset;
  }

  get rtt() {
    return this.#best && this.#best.rtt;
  }
}

/** Where a frame's milliseconds went, in the order of the way. `total` is the sum of all. */
export const STAGES = /** @type {const} */ ([
  "device", // what the browser says about the microphone's own delay; 0 where it says nothing
  "uplink", // microphone's packet, network, jitter buffer, decoding
  "lookahead", // speech that the character must hear before it moves
  "wait", // until the generator takes the frame up
  "draw",
  "encode",
  "send",
  "network", // last packet leaves the server, last packet reaches the browser
  "display", // decoding, until the frame is submitted to the compositor
]);

/**
 * The same interpolation as numpy's default.
 * @param {number[]} sorted ascending
 * @param {number} share 0..1
 */
export function percentile(sorted, share) {
  if (!sorted.length) return NaN;
  const at = (sorted.length - 1) * share;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

/** @param {number[]} values @returns {Percentiles} */
function percentiles(values) {
  const sorted = values.slice().sort((a, b) => a - b);
  return { p50: percentile(sorted, 0.5), p95: percentile(sorted, 0.95), p99: percentile(sorted, 0.99) };
}

/**
 * Joins what the browser saw of a frame with what the server did for it, whichever comes first.
 * All times are local (performance.now(), ms). Bounded: the oldest records make room for new ones.
 */
export class FrameLog {
  /** @type {FrameRecord[]} */
  #ring = [];
  #next = 0;
  /** @type {Map<number, FrameRecord>} records that still lack the server's times */
  #waiting = new Map();
  /** @type {Map<number, number[]>} the server's rows whose frame has not been seen yet */
  #rows = new Map();

  /** @param {number} capacity records that are kept: two minutes by default */
  constructor(capacity = 3000) {
    this.capacity = capacity;
  }

  /** @param {FrameRecord} record @param {Clock} clock */
  seen(record, clock) {
    if (this.#ring.length < this.capacity) this.#ring.push(record);
    else this.#ring[this.#next % this.#ring.length] = record;
    this.#next++;
    const row = this.#rows.get(record.k);
    if (row && clock.offset !== null) {
      this.#rows.delete(record.k);
      join(record, row, clock.offset);
    } else {
      bounded(this.#waiting, record.k, record);
    }
  }

  /** @param {number[][]} rows @param {Clock} clock */
  rows(rows, clock) {
    for (const row of rows) {
      const record = this.#waiting.get(row[0]);
      if (record && clock.offset !== null) {
        this.#waiting.delete(row[0]);
        join(record, row, clock.offset);
      } else {
        bounded(this.#rows, row[0], row);
      }
    }
  }

  /** Another session begins, and counts its frames from 0 again. */
  restart() {
    this.#waiting.clear();
    this.#rows.clear();
  }

  /** Oldest first. @returns {FrameRecord[]} */
  get records() {
    const at = this.#ring.length < this.capacity ? 0 : this.#next % this.#ring.length;
    return this.#ring.slice(at).concat(this.#ring.slice(0, at));
  }

  /** @param {number} seconds @param {number} now @returns {FrameRecord[]} */
  recent(seconds, now) {
    const out = [];
    for (let i = 1; i <= this.#ring.length; i++) {
      const record = this.#ring[(this.#next - i + this.#ring.length * 2) % this.#ring.length];
      if (record.presentationTime < now - seconds * 1000) break;
      out.push(record);
    }
    return out.reverse();
  }

  /** @param {number} seconds @param {number} now @param {number} lookahead ms */
  summary(seconds, now, lookahead) {
    const recent = this.recent(seconds, now);
    const joined = recent.filter((record) => record.captured !== null);
    const split = joined.map((record) => stagesOf(record, lookahead));
    /** @type {Record<string, Percentiles>} */
    const stages = {};
    for (const stage of STAGES)
      stages[stage] = percentiles(split.map((times) => times[stage]).filter((value) => !Number.isNaN(value)));
    const last = Math.max(recent.at(-1)?.presentationTime ?? 0, now - 40); // a picture that stands still has no rate
    const span = recent.length > 1 ? last - recent[0].presentationTime : 0;
    return {
      frames: joined.length,
      fps: span > 0 ? ((recent.length - 1) * 1000) / span : 0,
      total: percentiles(joined.map((record) => micToPhoton(record))),
      stages,
    };
  }
}

const UNMATCHED = 250; // ten seconds: what has not met its other half by then never will

/** @template T @param {Map<number, T>} map @param {number} key @param {T} value */
function bounded(map, key, value) {
  map.set(key, value);
  if (map.size > UNMATCHED) map.delete(/** @type {number} */ (map.keys().next().value));
}

/** @param {FrameRecord} record @param {number[]} row @param {number} offset */
function join(record, row, offset) {
  [, record.epoch] = row;
  [record.captured, record.arrived, record.started, record.drawn, record.encoded, record.sent] = row
    .slice(2)
    .map((time) => time - offset);
  record.offset = offset;
}

/**
 * Milliseconds from the capture of the sample that a frame answers to the frame's submission to the compositor.
 * @param {FrameRecord} record
 */
export function micToPhoton(record) {
  return record.captured === null ? NaN : record.presentationTime - record.captured + record.device;
}

/** @param {FrameRecord} record @param {number} lookahead ms @returns {Record<string, number>} */
export function stagesOf(record, lookahead) {
  const { captured, arrived, started, drawn, encoded, sent, receiveTime, presentationTime } = /** @type {any} */ (
    record
  );
  return {
    device: record.device,
    uplink: arrived - captured - lookahead,
    lookahead,
    wait: started - arrived,
    draw: drawn - started,
    encode: encoded - drawn,
    send: sent - encoded,
    network: receiveTime === null ? NaN : receiveTime - sent,
    display: presentationTime - (receiveTime === null ? sent : receiveTime),
  };
}

// ------------------------------------------------------------------------------------------------------------- errors

/** What a user reads. A server's own `detail` is put behind it. @type {Record<string, string>} */
const MESSAGES = {
  microphone_denied:
    "The microphone is blocked. Allow it for this page in the browser's address bar, then start again.",
  microphone_missing: "No microphone was found. Plug one in, or use the sample voice.",
  microphone_busy: "The microphone is in use by another program.",
  microphone_lost: "The microphone was unplugged or taken away.",
  insecure_context:
    "Browsers give the microphone only to https pages and to this computer itself. Open the page over https.",
  no_webrtc: "This browser has no WebRTC, which carries the sound and the picture.",
  server_unreachable: "The server does not answer. Is it running?",
  network_lost: "The connection was lost and could not be made again.",
  connect_timeout: "The server answered, but no media came through. A firewall may block UDP.",
  too_many_sessions: "The server is full at the moment.",
  overloaded: "The server is too busy to take another session.",
  unauthorized: "The server asks for a token, and this one does not fit.",
  bad_origin: "The server does not take requests from this page's address.",
  bad_token: "The token is not of this server.",
  token_expired: "The token of this page has expired.",
  token_used: "The token of this page has opened all the sessions that it may.",
  token_origin: "The token was made for another page.",
  unknown_character: "The server does not know this character.",
  session_closed: "The server ended the session.",
  server_restarted: "The server was shut down.",
};

/** Reasons for which trying again by itself has no use. */
const FATAL = new Set([
  "unauthorized",
  "bad_origin",
  "bad_token",
  "token_expired",
  "token_used",
  "token_origin",
  "token_scope",
  "token_character",
  "unknown_character",
  "malformed_sdp",
  "no_audio",
  "unsupported_codec",
  "bad_request",
  "no_webrtc",
  "session_closed",
]);

/** Reasons that another session token mends. */
const STALE = new Set(["bad_token", "token_expired", "token_used"]);

export class LipStreamError extends Error {
  /**
   * @param {string} reason
   * @param {{ detail?: string, status?: number, retryAfter?: number | null, faces?: Face[] }} [more]
   */
  constructor(reason, { detail = "", status = 0, retryAfter = null, faces = [] } = {}) {
    const base = MESSAGES[reason] ?? (detail ? "" : `Something went wrong (${reason}).`);
    const wait = retryAfter === null ? "" : ` Try again in ${retryAfter} s.`;
    super([base, sentence(detail)].filter(Boolean).join(" ") + wait);
    this.name = "LipStreamError";
    this.reason = reason;
    this.detail = detail;
    this.status = status;
    this.retryAfter = retryAfter;
    this.faces = faces;
  }
}

/** @param {string} text */
function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(capital) || !capital ? capital : `${capital}.`;
}

/** The error that a refused request stands for (RFC 9457). @param {Response} response */
async function refusal(response) {
  /** @type {Partial<Problem>} */
  const problem = await response.json().catch(() => ({}));
  const after = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new LipStreamError(problem.reason ?? `http_${response.status}`, {
    detail: problem.detail ?? `HTTP ${response.status} ${response.statusText}`.trim(),
    status: response.status,
    retryAfter: Number.isNaN(after) ? null : after,
    faces: problem.faces ?? [],
  });
}

/**
 * The error of a request that got no answer. Browsers tell a page of another origin no more than that; but where the
 * server answers what the page may not read, it is up, and was not told of this origin.
 * @param {string} base
 */
async function unanswered(base) {
  const foreign = new URL(base, location.href).origin !== location.origin;
  const up = foreign && (await fetch(`${base}/healthz`, { mode: "no-cors", cache: "no-store" }).catch(() => null));
  if (!up) return new LipStreamError("server_unreachable");
  return new LipStreamError("bad_origin", { detail: `It was not started with --allow-origin ${location.origin}` });
}

/** The error that a refused microphone stands for. @param {any} error */
function microphoneError(error) {
  const reasons = /** @type {Record<string, string>} */ ({
    NotAllowedError: "microphone_denied",
    SecurityError: "microphone_denied",
    NotFoundError: "microphone_missing",
    OverconstrainedError: "microphone_missing",
    NotReadableError: "microphone_busy",
    AbortError: "microphone_busy",
  });
  return new LipStreamError(reasons[error?.name] ?? "microphone_busy", {
    detail: reasons[error?.name] ? "" : String(error?.message ?? error),
  });
}

// --------------------------------------------------------------------------------------------------------- connection

const CONNECT_TIMEOUT_MS = 10000;
const DISCONNECTED_MS = 4000; // ICE mends short breaks by itself
const PING_BURST = 6;
const PING_BURST_MS = 40;
const PING_MS = 1000;
const UNHEARD_MS = 5000; // a dead connection is noticed sooner than by ICE's own timers
const UNANSWERED = 4; // pings: a clock that stood still while the computer slept is no dead connection

/**
 * One session: offer and answer, trickled candidates, the control channel, the end. It is opened once and closed once.
 * @typedef {{
 *   base: string, headers: Record<string, string>, query: URLSearchParams, iceServers: RTCIceServer[],
 *   stream: MediaStream, codec: string | null,
 *   onTracks: (stream: MediaStream) => void, onMessage: (message: Record<string, any>) => void,
 *   onReady: () => void, onLost: (error: LipStreamError) => void, onWarning: (reason: string, detail: string) => void,
 * }} ConnectionOptions
 */
class Connection {
  /** @type {RTCPeerConnection} */ #pc;
  /** @type {RTCDataChannel} */ #control;
  /** @type {RTCRtpSender} */ #sender;
  /** @type {{ candidate: string, sdpMid: string | null }[]} */ #candidates = [];
  #gathered = false;
  #ending = new AbortController();
  #patching = false;
  #location = "";
  #etag = "";
  #closed = false;
  #disconnected = 0;
  #timeout = 0;
  #ping = 0;
  #pings = 0;
  #answered = 0;
  #heard = 0;
  clock = new Clock();

  /** @param {ConnectionOptions} options */
  constructor(options) {
    this.options = options;
    const pc = new RTCPeerConnection({ iceServers: options.iceServers, bundlePolicy: "max-bundle" });
    this.#pc = pc;
    this.#control = pc.createDataChannel("control", { ordered: true });
    const track = options.stream.getAudioTracks()[0];
    this.#sender = pc.addTransceiver(track, { direction: "sendrecv", streams: [options.stream] }).sender;
    const video = pc.addTransceiver("video", { direction: "recvonly" });
    prefer(video, options.codec);
    lowestDelay(video.receiver);

    const received = new MediaStream();
    pc.ontrack = ({ track, streams }) => {
      lowestDelay(track.kind === "video" ? video.receiver : null);
      if (!streams.length) received.addTrack(track);
      options.onTracks(streams[0] ?? received);
    };
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.#candidates.push({ candidate: candidate.candidate, sdpMid: candidate.sdpMid });
      else this.#gathered = true;
      this.#trickle();
    };
    pc.onconnectionstatechange = () => this.#watch();
    this.#control.onopen = () => {
      this.#heard = performance.now();
      this.#sendPing();
      options.onReady();
    };
    this.#control.onmessage = ({ data }) => this.#receive(data);
    this.#control.onclose = () => this.#lose(new LipStreamError("network_lost"));
  }

  /** Resolves when the server has accepted. @throws {LipStreamError} */
  async open() {
    const { base, headers, query } = this.options;
    this.#timeout = setTimeout(() => this.#lose(new LipStreamError("connect_timeout")), CONNECT_TIMEOUT_MS);
    await this.#pc.setLocalDescription();
    if (this.#closed) return;
    const response = await fetch(`${base}/v1/sessions?${query}`, {
      method: "POST",
      headers: { ...headers, "Content-Type": "application/sdp" },
      body: this.#pc.localDescription?.sdp,
    }).catch(() => {
      throw new LipStreamError("server_unreachable");
    });
    if (response.status !== 201) throw await refusal(response);
    this.#location = new URL(response.headers.get("Location") ?? "", response.url).href;
    this.#etag = response.headers.get("ETag") ?? "";
    if (this.#closed) return void this.#delete(); // stopped while the server was answering
    await this.#pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
    this.#trickle();
  }

  /** @param {Record<string, unknown>} message @returns {boolean} whether it could be sent */
  send(message) {
    if (this.#control.readyState !== "open") return false;
    this.#control.send(JSON.stringify(message));
    return true;
  }

  /** @param {MediaStreamTrack} track */
  replaceTrack(track) {
    return this.#sender.replaceTrack(track);
  }

  getStats() {
    return this.#pc.getStats();
  }

  /** @param {{ gone?: boolean }} [how] gone: the server has already let the session go */
  close({ gone = false } = {}) {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timeout);
    clearTimeout(this.#disconnected);
    clearTimeout(this.#ping);
    this.#ending.abort(); // a candidate under way would find the session gone
    if (this.#location && !gone) this.#delete();
    this.#pc.close();
  }

  /** keepalive lets the request outlive the page. */
  #delete() {
    fetch(this.#location, { method: "DELETE", headers: this.options.headers, keepalive: true }).catch(() => {});
  }

  /** @param {LipStreamError} error @param {{ gone?: boolean }} [how] */
  #lose(error, how) {
    if (this.#closed) return;
    this.close(how);
    this.options.onLost(error);
  }

  #watch() {
    const state = this.#pc.connectionState;
    clearTimeout(this.#disconnected);
    if (state === "connected") clearTimeout(this.#timeout);
    if (state === "failed" || state === "closed") this.#lose(new LipStreamError("network_lost"));
    if (state === "disconnected")
      this.#disconnected = setTimeout(() => this.#lose(new LipStreamError("network_lost")), DISCONNECTED_MS);
  }

  /** Sends what has been gathered; one request at a time, so that candidates arrive in order. */
  async #trickle() {
    if (!this.#location || this.#closed || this.#patching) return;
    if (!this.#candidates.length && !this.#gathered) return;
    const candidates = this.#candidates.splice(0);
    const complete = this.#gathered;
    this.#patching = true;
    try {
      const response = await fetch(this.#location, {
        method: "PATCH",
        headers: {
          ...this.options.headers,
          "Content-Type": "application/trickle-ice-sdpfrag",
          "If-Match": this.#etag,
        },
        body: trickleFragment(this.#pc.localDescription?.sdp ?? "", candidates, complete),
        signal: this.#ending.signal,
      });
      if (!response.ok && !this.#closed) this.options.onWarning("trickle_failed", (await refusal(response)).message);
    } catch {
      // ICE may have all it needs; if not, the connect timeout says so
    }
    this.#patching = false;
    if (complete) this.#gathered = false;
    if (this.#candidates.length || this.#gathered) this.#trickle();
  }

  #sendPing() {
    if (this.#closed) return;
    const unheard = performance.now() - this.#heard > UNHEARD_MS;
    if (unheard && this.#pings - this.#answered >= UNANSWERED) return this.#lose(new LipStreamError("network_lost"));
    this.send(commands.ping(this.#pings++, performance.now()));
    this.#ping = setTimeout(() => this.#sendPing(), this.#pings < PING_BURST ? PING_BURST_MS : PING_MS);
  }

  /** @param {unknown} data */
  #receive(data) {
    const now = performance.now();
    let message;
    try {
      message = readMessage(data);
    } catch (error) {
      return this.options.onWarning("bad_message", String(/** @type {Error} */ (error).message));
    }
    if (message === null) return;
    if (message.type === "pong") {
      this.#answered = message.id + 1;
      this.#heard = now;
      this.clock.add(message.t, now, message.server);
    }
    this.options.onMessage(message);
    if (message.type === "closed") {
      const reason = message.reason === "shutdown" ? "server_restarted" : "session_closed";
      this.#lose(new LipStreamError(reason, { detail: message.detail ?? `(${message.reason})` }), { gone: true });
    }
  }
}

/**
 * @param {RTCRtpTransceiver} transceiver
 * @param {string | null} codec "h264" or "vp8" first; null: the browser's order
 */
function prefer(transceiver, codec) {
  const known = RTCRtpReceiver.getCapabilities?.("video")?.codecs;
  if (!codec || !known || !transceiver.setCodecPreferences) return;
  const wanted = known.filter(({ mimeType }) => mimeType.toLowerCase() === `video/${codec}`);
  transceiver.setCodecPreferences([...wanted, ...known.filter((one) => !wanted.includes(one))]);
}

/** @param {any} receiver asks the browser to show frames as soon as they are complete */
function lowestDelay(receiver) {
  if (!receiver) return;
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
}

// ------------------------------------------------------------------------------------------------------- transparency

// What coding leaves of nothing and of all: alpha below the one is none, above the other is full.
const FAINT = 6 / 255;
const SOLID = 249 / 255;

const VERTEX = `
  attribute vec2 corner;
  varying highp vec2 at;
  void main() {
    at = vec2(0.5 + 0.5 * corner.x, 0.5 - 0.5 * corner.y);
    gl_Position = vec4(corner, 0.0, 1.0);
  }`;
const FRAGMENT = `
  precision mediump float;
  uniform sampler2D frame;
  varying highp vec2 at;
  void main() {
    vec3 colour = texture2D(frame, vec2(0.5 * at.x, at.y)).rgb;
    float shown = texture2D(frame, vec2(0.5 + 0.5 * at.x, at.y)).g;
    float alpha = clamp((shown - ${FAINT.toFixed(6)}) / ${(SOLID - FAINT).toFixed(6)}, 0.0, 1.0);
    gl_FragColor = vec4(colour * alpha, alpha);
  }`;

/**
 * Puts together what came packed: a video whose left half is colour and whose right half is alpha becomes a canvas
 * with real transparency. By WebGL; where there is none, pixel by pixel.
 */
export class AlphaCanvas {
  /** @type {WebGLRenderingContext | null} */ #gl = null;
  /** @type {CanvasRenderingContext2D | null} */ #flat = null;
  /** @type {CanvasRenderingContext2D | null} */ #scratch = null;
  #ready = false;

  /** @param {HTMLCanvasElement} canvas one that no context was asked of yet */
  constructor(canvas) {
    this.canvas = canvas;
    const settings = { alpha: true, premultipliedAlpha: true, antialias: false, depth: false, stencil: false };
    this.#gl = /** @type {WebGLRenderingContext | null} */ (canvas.getContext("webgl", settings));
    if (this.#gl) {
      canvas.addEventListener("webglcontextlost", (event) => {
        event.preventDefault(); // or it would not come back
        this.#ready = false;
      });
      canvas.addEventListener("webglcontextrestored", () => this.#prepare());
      this.#prepare();
    }
    if (!this.#gl) this.#flat = canvas.getContext("2d");
  }

  /** "webgl", "2d" where every pixel is mixed by hand, "" where nothing can be drawn. */
  get by() {
    return this.#gl ? "webgl" : this.#flat ? "2d" : "";
  }

  #prepare() {
    const gl = /** @type {WebGLRenderingContext} */ (this.#gl);
    const program = gl.createProgram();
    const texture = gl.createTexture();
    if (!program || gl.isContextLost()) return; // it tells when it is back
    for (const [type, source] of /** @type {[number, string][]} */ ([
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ])) {
      const shader = /** @type {WebGLShader} */ (gl.createShader(type));
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW); // covers the square
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST); // pixel for pixel: no colour comes out of the other half
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    this.#ready = true;
  }

  /** @param {HTMLVideoElement} video @returns {boolean} whether its frame is on the canvas now */
  draw(video) {
    const [width, height] = [video.videoWidth >> 1, video.videoHeight];
    if (!width || !height || (this.#gl && !this.#ready)) return false;
    const { canvas } = this;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    if (this.#gl) {
      const gl = this.#gl;
      gl.viewport(0, 0, width, height);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, video);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      return true;
    }
    return this.#mix(video, width, height);
  }

  /** @param {HTMLVideoElement} video @param {number} width @param {number} height */
  #mix(video, width, height) {
    this.#scratch ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const scratch = this.#scratch;
    if (!scratch || !this.#flat) return false;
    if (scratch.canvas.width !== 2 * width || scratch.canvas.height !== height)
      [scratch.canvas.width, scratch.canvas.height] = [2 * width, height];
    scratch.drawImage(video, 0, 0);
    const colour = scratch.getImageData(0, 0, width, height);
    const shown = scratch.getImageData(width, 0, width, height).data;
    const scale = 1 / (SOLID - FAINT);
    for (let i = 3; i < shown.length; i += 4) colour.data[i] = (shown[i - 2] - 255 * FAINT) * scale; // clamps by itself
    this.#flat.putImageData(colour, 0, 0);
    return true;
  }

  /** Nothing is on the canvas any more. */
  clear() {
    if (this.#gl && this.#ready) this.#gl.clear(this.#gl.COLOR_BUFFER_BIT);
    this.#flat?.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }
}

// ------------------------------------------------------------------------------------------------------------ element

const RETRY_MS = [300, 1000, 2000, 4000, 6000, 8000, 8000];
const STATS_MS = 500;
const ANSWER_MS = 3000;

const CSS_TEXT = `
  :host { display: inline-block; position: relative; overflow: hidden; width: 256px; aspect-ratio: 1; }
  :host([hidden]) { display: none; }
  img, video, canvas { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; border-radius: inherit; }
  video, canvas { opacity: 0; transition: opacity 200ms ease-out; }
  video.shown, canvas.shown { opacity: 1; }
  canvas { pointer-events: none; }
  img[hidden] { display: none; }
  slot { position: relative; }
  @media (prefers-reduced-motion: reduce) { video, canvas { transition: none; } }
`;

const OFF = new Set(["off", "false", "0", "no"]);
/** @type {typeof HTMLElement} */
const Base = globalThis.HTMLElement ?? class {}; // importable where there is no DOM

/** The element. Its public members are described in lip-stream.d.ts. */
export class LipStream extends Base {
  static observedAttributes = [
    "src",
    "token",
    "character",
    "size",
    "background",
    "alpha",
    "hear",
    "echo-cancellation",
    "microphone",
  ];

  readStamps = false;
  /** @type {string} */ #state = "idle";
  /** @type {HTMLVideoElement} */ #video;
  /** @type {HTMLImageElement} */ #picture;
  /** @type {HTMLCanvasElement} */ #canvas;
  /** @type {AlphaCanvas | null} */ #alpha = null;
  #packed = false; // whether this session's video is two halves
  /** @type {CanvasRenderingContext2D | null} */ #stamps = null;
  /** @type {(() => string | Promise<string>) | null} */
  renewToken = this.renewToken ?? null; // a page may have set it before this module was there
  /** @type {Promise<ServerConfig> | null} */ #config = null;
  #configUntil = Infinity; // Date.now(): its TURN credentials lapse
  #reached = false;
  /** @type {MediaStream | null} */ #input = null;
  #ownInput = false;
  /** @type {MediaStream | null} */ #output = null;
  /** @type {Connection | null} */ #connection = null;
  /** @type {Record<string, any> | null} */ #hello = null;
  #log = new FrameLog();
  #run = 0; // counts start() and stop(), so that what a former run still awaits changes nothing
  #attempt = 0;
  #retry = 0;
  #playout = { buffered: 0, emitted: 0, output: 0, played: 0 };
  #statsTimer = 0;
  #startedAt = 0;
  #firstFrameMs = NaN;
  #renderer = ""; // what draws it, as the server says
  #worn = ""; // the character that the session was made with or changed to
  #near = 0;
  #delay = 0;
  #presented = { first: 0, last: 0, seen: 0 };
  #muted = false;
  /** @type {{ picture: string | undefined } | null} */ #away = null;
  #speaking = false;
  /** @type {{ name: string, strength: number } | null} */ #emotion = null;
  /** @type {{ type: string, resolve: (m: any) => void, reject: (e: Error) => void, timer: number }[]} */ #asked = [];
  /** @type {((live: boolean) => void)[]} */ #starting = [];
  #inbound = { dropped: 0, freezes: 0, freezeMs: 0, jitterBufferMs: NaN, packetsLost: 0 };

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS_TEXT);
    root.adoptedStyleSheets = [sheet];
    this.#picture = document.createElement("img");
    this.#picture.part.add("picture");
    this.#picture.alt = "";
    this.#picture.hidden = true;
    this.#picture.onload = () => (this.#picture.hidden = false);
    this.#picture.onerror = () => (this.#picture.hidden = true);
    this.#video = document.createElement("video");
    this.#video.part.add("video");
    this.#video.autoplay = this.#video.playsInline = this.#video.muted = true;
    this.#video.disablePictureInPicture = false;
    this.#video.setAttribute("aria-label", "The character, live");
    this.#canvas = document.createElement("canvas");
    this.#canvas.part.add("canvas");
    this.#canvas.setAttribute("aria-hidden", "true"); // the video has the name
    root.append(this.#picture, this.#video, this.#canvas, document.createElement("slot"));
    this.#watchFrames();
  }

  // attributes ----------------------------------------------------------------------------------------------------

  /** The server. By default the one that this module came from. */
  get src() {
    return (this.getAttribute("src") ?? new URL("..", import.meta.url).href).replace(/\/+$/, "");
  }
  set src(value) {
    this.setAttribute("src", value);
  }
  get token() {
    return this.getAttribute("token") ?? "";
  }
  set token(value) {
    this.setAttribute("token", value);
  }
  get character() {
    return this.getAttribute("character") ?? "";
  }
  set character(value) {
    this.setAttribute("character", value);
  }
  get size() {
    return Number(this.getAttribute("size")) || 0;
  }
  set size(value) {
    this.setAttribute("size", String(value));
  }
  get microphone() {
    return this.getAttribute("microphone") ?? "";
  }
  set microphone(value) {
    this.setAttribute("microphone", value);
  }
  get hear() {
    return this.hasAttribute("hear") && !OFF.has(this.getAttribute("hear") ?? "");
  }
  set hear(value) {
    this.toggleAttribute("hear", Boolean(value));
  }
  get echoCancellation() {
    return !OFF.has(this.getAttribute("echo-cancellation") ?? "on");
  }
  set echoCancellation(value) {
    this.setAttribute("echo-cancellation", value ? "on" : "off");
  }
  get alpha() {
    return this.hasAttribute("alpha") && !OFF.has(this.getAttribute("alpha") ?? "");
  }
  set alpha(value) {
    this.toggleAttribute("alpha", Boolean(value));
  }
  get background() {
    const said = this.getAttribute("background");
    return said === null ? !this.alpha : !OFF.has(said);
  }
  set background(value) {
    this.setAttribute("background", value ? "on" : "off");
  }

  connectedCallback() {
    this.#showPicture();
    if (this.hasAttribute("src") || this.character) this.config().catch(() => {}); // so that start() need not wait
  }

  disconnectedCallback() {
    queueMicrotask(() => this.isConnected || this.stop()); // an element that is only moved goes on
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "src" || name === "token") this.#config = null;
    if (name === "hear") this.#applyHear();
    if (["src", "token", "character", "size", "background", "alpha"].includes(name)) this.#showPicture();
    if (["echo-cancellation", "microphone"].includes(name) && this.#input && this.#ownInput)
      this.setInput().catch((error) => this.#report(error));
  }

  // what a page calls ----------------------------------------------------------------------------------------------

  get state() {
    return this.#state;
  }
  get muted() {
    return this.#muted;
  }
  get away() {
    return this.#away !== null;
  }
  get speaking() {
    return this.#speaking;
  }
  get input() {
    return this.#input;
  }
  get output() {
    return this.#output;
  }
  get session() {
    return this.#hello?.session ?? null;
  }
  get renderer() {
    return this.#renderer;
  }
  get records() {
    return this.#log.records;
  }
  get recordsCapacity() {
    return this.#log.capacity;
  }
  set recordsCapacity(value) {
    this.#log = new FrameLog(value);
  }
  get clock() {
    const clock = this.#connection?.clock;
    return { offset: clock?.offset ?? null, rtt: clock?.rtt ?? null };
  }
  /** Why frames cannot be timed in this browser; empty where they can. */
  get untimed() {
    if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype))
      return "This browser does not say when it shows a frame, so latency cannot be measured here.";
    return this.#presented.seen > 50 && !this.#log.records.length
      ? "This browser does not say which frame it shows, so latency cannot be measured here."
      : "";
  }

  /**
   * The server's configuration: fetched once, and again when half of its TURN credentials' time has passed.
   * @returns {Promise<ServerConfig>}
   */
  config() {
    if (this.#config && Date.now() < this.#configUntil) return this.#config;
    /** @type {Promise<ServerConfig>} */
    const asked = (this.#config = this.fetch("/v1/config").then((response) => response.json()));
    this.#configUntil = Infinity;
    asked.then(
      ({ ice_ttl_s: ttl }) => ttl && (this.#configUntil = Date.now() + 500 * ttl),
      () => this.#config === asked && (this.#config = null),
    );
    return asked;
  }

  /**
   * A request to the server with the token; refusals are LipStreamErrors.
   * @param {string} path
   * @param {RequestInit} [init]
   */
  async fetch(path, init = {}) {
    return this.#renewing(async () => {
      const headers = { ...this.#headers(), ...init.headers };
      const response = await fetch(this.src + path, { ...init, headers }).catch(async () => {
        throw this.#reached ? new LipStreamError("server_unreachable") : await unanswered(this.src);
      });
      this.#reached = true;
      if (!response.ok) throw await refusal(response);
      return response;
    });
  }

  /**
   * Does what the server may refuse for its token, and once again with another token where the page has one.
   * @template T
   * @param {() => Promise<T>} request
   * @returns {Promise<T>}
   */
  async #renewing(request) {
    try {
      return await request();
    } catch (error) {
      if (!this.renewToken || !(error instanceof LipStreamError) || !STALE.has(error.reason)) throw error;
      this.token = await this.renewToken();
      return request();
    }
  }

  /**
   * The address of a character's picture, with the token where there is one.
   * @param {string} id
   * @param {number} [size]
   */
  pictureUrl(id, size = 256) {
    const query = new URLSearchParams({ size: String(size), background: this.background ? "1" : "0" });
    if (this.token) query.set("token", this.token);
    return `${this.src}/v1/characters/${encodeURIComponent(id)}/picture?${query}`;
  }

  /**
   * Starts a session with the microphone, or with a stream of your own. Resolves with true when the character lives,
   * with false when it came to nothing; why is told by an `error` event.
   * @param {MediaStream} [stream]
   * @returns {Promise<boolean>}
   */
  async start(stream) {
    if (!["idle", "error"].includes(this.#state)) return this.#state === "live";
    const run = ++this.#run;
    this.#startedAt = performance.now();
    this.#firstFrameMs = NaN;
    this.#attempt = 0;
    this.#log = new FrameLog(this.#log.capacity);
    const live = /** @type {Promise<boolean>} */ (new Promise((resolve) => this.#starting.push(resolve)));
    try {
      if (!globalThis.RTCPeerConnection) throw new LipStreamError("no_webrtc");
      this.#setState(stream ? "connecting" : "microphone");
      const [, input] = await allOrNone(this.config(), stream ?? this.#openMicrophone(), (opened) => {
        if (opened && opened !== stream) halt(opened);
      });
      if (run !== this.#run) return (stream || halt(input), false);
      this.#takeInput(input, !stream);
      window.addEventListener("pagehide", this.#onPageHide);
      window.addEventListener("online", this.#onOnline);
      this.#connect(run);
    } catch (error) {
      if (run === this.#run) this.#fail(error);
    }
    return live;
  }

  /** Ends the session, here and on the server. */
  stop() {
    this.#run++;
    this.#release();
    this.#setState("idle");
  }

  /** Cuts the utterance: the mouth closes, its sound stops. Resolves with the server's answer. */
  interrupt() {
    return this.#ask(commands.interrupt(), "interrupted");
  }

  /** Mutes the microphone, here and on the server. @param {boolean} muted */
  mute(muted = true) {
    this.#muted = Boolean(muted);
    this.#input?.getAudioTracks().forEach((track) => (track.enabled = !this.#muted));
    return this.#connection ? this.#ask(commands.mute(this.#muted), "muted") : Promise.resolve(null);
  }

  /** Changes the character; a running session goes on with it. @param {string} id */
  async setCharacter(id) {
    if (this.#state !== "live") {
      this.character = id; // a session that is being made gets it once it can be told
      return null;
    }
    const answer = await this.#ask(commands.character(id, this.background), "character");
    this.character = this.#worn = id;
    return answer;
  }

  /** @param {string} name @param {number} [strength] 0..1 */
  setEmotion(name, strength = 1) {
    const message = commands.emotion(name, strength);
    this.#emotion = { name, strength };
    return this.#connection ? this.#ask(message, "emotion") : Promise.resolve(null);
  }

  /** Makes a gesture; `config().gestures` names them. @param {string} name */
  async gesture(name) {
    const message = commands.gesture(name);
    return this.#state === "live" ? this.#ask(message, "gesture") : null;
  }

  /**
   * Goes away: "be right back" is shown, or a picture of your own, and nothing is heard. Or comes back.
   * @param {boolean} away @param {string} [picture] a character's id
   */
  async setAway(away = true, picture) {
    const message = commands.away(Boolean(away), picture);
    if (this.#connection && this.#hello) {
      const answer = await this.#ask(message, "away");
      this.#away = answer.away ? { picture } : null;
      return answer;
    }
    this.#away = away ? { picture } : null; // a session that is being made is told
    return null;
  }

  /**
   * Moves head, eyes, brows, body or hands; what may move, and how far, is in the server's `config().plan`. It lapses
   * after `hold` seconds unless it is asked again, so it is not kept for another session.
   * @param {Record<string, number | null>} values null lets go @param {{ mode?: "add" | "replace", hold?: number }} [how]
   */
  async move(values, { mode, hold } = {}) {
    const message = commands.plan(values, mode, hold);
    return this.#state === "live" ? this.#ask(message, "plan") : null;
  }

  /** What the character does while it does not speak. @param {"idle" | "listening" | "thinking"} state */
  async attend(state) {
    const message = commands.attention(state);
    return this.#state === "live" ? this.#ask(message, "attention") : null;
  }

  /** Speaks with another stream from now on; without one, with the microphone. @param {MediaStream} [stream] */
  async setInput(stream) {
    const run = this.#run;
    const input = stream ?? (await this.#openMicrophone());
    if (run !== this.#run || !this.#input) return void (stream || halt(input));
    const before = this.#ownInput ? this.#input : null;
    await this.#connection?.replaceTrack(input.getAudioTracks()[0]);
    this.#takeInput(input, !stream);
    if (before) halt(before);
  }

  /** What the last seconds were like. @param {number} [seconds] */
  stats(seconds = 10) {
    const now = performance.now();
    const { first, last, seen } = this.#presented;
    return {
      state: this.#state,
      seconds,
      ...this.#log.summary(seconds, now, this.#hello?.lookahead_ms ?? 0),
      firstFrameMs: this.#firstFrameMs,
      rtt: this.clock.rtt ?? NaN,
      clockOffset: this.clock.offset ?? NaN,
      missed: seen ? last - first + 1 - seen : 0,
      ...this.#inbound,
      untimed: this.untimed,
    };
  }

  /** The peer connection's own statistics, or null without a session. */
  getStats() {
    return this.#connection ? this.#connection.getStats() : Promise.resolve(null);
  }

  // the way of a session -------------------------------------------------------------------------------------------

  /** @param {number} run */
  async #connect(run) {
    this.#setState(this.#attempt ? "reconnecting" : "connecting");
    try {
      await this.#renewing(() => this.#open(run));
    } catch (error) {
      if (run !== this.#run) return;
      const refused =
        error instanceof LipStreamError ? error : new LipStreamError("bad_answer", { detail: String(error) });
      if (this.#attempt && !FATAL.has(refused.reason)) this.#lost(run, refused);
      else this.#fail(refused);
    }
  }

  /** @param {number} run */
  async #open(run) {
    const config = await this.config();
    if (run !== this.#run || this.#connection) return;
    const connection = (this.#connection = this.#prepare(run, config));
    try {
      await connection.open();
    } catch (error) {
      connection.close();
      if (this.#connection === connection) this.#connection = null;
      throw error;
    }
  }

  /** @param {number} run @param {ServerConfig} config */
  #prepare(run, config) {
    const query = new URLSearchParams();
    const character = this.character || config.default_character;
    if (character) query.set("character", character);
    this.#worn = character;
    if (this.size) query.set("size", String(this.size));
    this.#packed = this.alpha;
    if (this.#packed) query.set("alpha", "packed");
    if (this.background === this.#packed) query.set("background", this.background ? "1" : "0");
    if (this.hasAttribute("stamp")) query.set("stamp", "1");
    if (this.getAttribute("voice") === "speech") query.set("voice", "speech");
    this.#hello = null;
    return new Connection({
      base: this.src,
      headers: this.#headers(),
      query,
      iceServers: config.ice_servers,
      stream: /** @type {MediaStream} */ (this.#input),
      codec: this.getAttribute("codec"),
      onTracks: (stream) => this.#show(stream),
      onReady: () => this.#restore(),
      onMessage: (message) => this.#take(message),
      onLost: (error) => run === this.#run && this.#lost(run, error),
      onWarning: (reason, detail) => this.#warn(reason, detail),
    });
  }

  /**
   * Back off and try again, or give up.
   * @param {number} run
   * @param {LipStreamError} error
   */
  #lost(run, error) {
    this.#connection = null;
    this.#forget(error);
    this.#unveil(false); // an ended track is black; the picture is better
    const never = this.#attempt === 0 && Number.isNaN(this.#firstFrameMs);
    if (never || FATAL.has(error.reason) || this.#attempt >= RETRY_MS.length) return this.#fail(error);
    const wait = Math.max(RETRY_MS[this.#attempt] * (0.8 + 0.4 * Math.random()), (error.retryAfter ?? 0) * 1000);
    this.#attempt++;
    this.#setState("reconnecting", error.reason);
    this.#retry = setTimeout(() => run === this.#run && this.#connect(run), wait);
  }

  /** @param {any} error */
  #fail(error) {
    this.#run++;
    this.#release();
    const known = error instanceof LipStreamError ? error : new LipStreamError("unexpected", { detail: String(error) });
    this.#setState("error", known.reason);
    this.#report(known);
  }

  #release() {
    clearTimeout(this.#retry);
    clearInterval(this.#statsTimer);
    window.removeEventListener("pagehide", this.#onPageHide);
    window.removeEventListener("online", this.#onOnline);
    this.#connection?.close();
    this.#connection = null;
    this.#forget(new LipStreamError("network_lost"));
    if (this.#input && this.#ownInput) halt(this.#input);
    this.#input?.getAudioTracks().forEach((track) => (track.onended = null));
    this.#input = null;
    this.#video.srcObject = null;
    this.#unveil(false);
    this.#output = null;
    this.#starting.splice(0).forEach((resolve) => resolve(false));
  }

  /** What was asked of a connection that is gone will not be answered. @param {Error} error */
  #forget(error) {
    for (const { timer, reject } of this.#asked.splice(0)) {
      clearTimeout(timer);
      reject(error);
    }
    this.#hello = null;
    if (this.#speaking) this.#tell("vad", { speaking: (this.#speaking = false), pts: 0 });
  }

  #onPageHide = () => this.stop();
  #onOnline = () => {
    if (this.#state !== "reconnecting" || this.#connection) return;
    clearTimeout(this.#retry);
    this.#connect(this.#run);
  };

  async #openMicrophone() {
    if (!navigator.mediaDevices?.getUserMedia) throw new LipStreamError("insecure_context");
    const processed = this.echoCancellation;
    /** @type {MediaTrackConstraints & { latency?: ConstrainDouble }} */
    const audio = {
      echoCancellation: processed,
      noiseSuppression: processed,
      autoGainControl: processed,
      channelCount: { ideal: 1 },
      latency: { ideal: 0.01 },
    };
    if (this.microphone) audio.deviceId = { exact: this.microphone };
    try {
      return await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      if (/** @type {any} */ (error)?.name !== "OverconstrainedError" || !this.microphone) throw microphoneError(error);
    }
    delete audio.deviceId; // the chosen one is gone: any other is better than none
    this.#warn("microphone_changed", "The chosen microphone is gone; another one is used.");
    return navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
      throw microphoneError(error);
    });
  }

  /** @param {MediaStream} stream @param {boolean} own opened here, so closed here */
  #takeInput(stream, own) {
    this.#input?.getAudioTracks().forEach((track) => (track.onended = null));
    this.#input = stream;
    this.#ownInput = own;
    const track = stream.getAudioTracks()[0];
    if (!track) throw new LipStreamError("microphone_missing");
    track.enabled = !this.#muted;
    track.onended = () => this.#fail(new LipStreamError("microphone_lost"));
  }

  /** The microphone's own delay in ms, where the browser tells it. */
  #deviceDelay() {
    const track = this.#ownInput ? this.#input?.getAudioTracks()[0] : null;
    /** @type {any} */
    const settings = track?.getSettings?.() ?? {};
    return 1000 * (settings.latency ?? 0);
  }

  /** What the user has set before this connection stood. */
  #restore() {
    if (this.character && this.character !== this.#worn) {
      const report = (/** @type {Error} */ error) => this.#report(error);
      this.#ask(commands.character(this.character, this.background), "character").then(
        () => (this.#worn = this.character),
        report,
      );
    }
    if (this.#muted) this.#ask(commands.mute(true), "muted").catch(() => {});
    if (this.#emotion)
      this.#ask(commands.emotion(this.#emotion.name, this.#emotion.strength), "emotion").catch(() => {});
    if (this.#away) this.#ask(commands.away(true, this.#away.picture), "away").catch((error) => this.#report(error));
  }

  /** @param {Record<string, unknown>} message @param {string} type of the answer @returns {Promise<any>} */
  #ask(message, type) {
    return new Promise((resolve, reject) => {
      if (!this.#connection?.send(message)) return reject(new LipStreamError("network_lost"));
      const entry = { type, resolve, reject, timer: 0 };
      entry.timer = setTimeout(() => {
        this.#asked = this.#asked.filter((other) => other !== entry);
        reject(new LipStreamError("no_answer", { detail: `The server did not answer within ${ANSWER_MS / 1000} s.` }));
      }, ANSWER_MS);
      this.#asked.push(entry);
    });
  }

  /** @param {Record<string, any>} message */
  #take(message) {
    const answers = (/** @type {{ type: string }} */ { type }) => type === message.type || message.type === "error";
    const asked = message.remote ? undefined : this.#asked.find(answers);
    if (asked) {
      this.#asked = this.#asked.filter((other) => other !== asked);
      clearTimeout(asked.timer);
      if (message.type === "error") asked.reject(new LipStreamError(message.reason, { detail: message.detail ?? "" }));
      else asked.resolve(message);
    } else if (message.type === "error") {
      this.#report(new LipStreamError(message.reason, { detail: message.detail ?? "" }));
    }
    if (message.remote) this.#follow(message);
    if (message.type === "hello" || message.type === "character") this.#renderer = message.renderer ?? "";
    if (message.type === "hello") {
      this.#hello = message;
      this.#log.restart();
    }
    if (message.type === "vad") {
      this.#speaking = message.speaking;
      this.#tell("vad", { speaking: message.speaking, pts: message.pts });
    }
    if (message.type === "frames" && this.#connection) this.#log.rows(message.rows, this.#connection.clock);
    if (message.type === "warning") this.#warn(message.reason, message.detail ?? "");
    this.#tell("control", message);
  }

  /** What somebody else has asked of this session, over HTTP, holds here too. @param {Record<string, any>} message */
  #follow(message) {
    if (message.type === "muted") {
      this.#muted = message.muted;
      this.#input?.getAudioTracks().forEach((track) => (track.enabled = !this.#muted));
    }
    if (message.type === "emotion") this.#emotion = { name: message.name, strength: message.strength };
    if (message.type === "character") this.character = this.#worn = message.id;
    if (message.type === "away") this.#away = message.away ? { picture: undefined } : null;
  }

  // what is seen ---------------------------------------------------------------------------------------------------

  #showPicture() {
    if (!this.isConnected || !this.character) return;
    const shown = (this.clientWidth || this.size || 256) * (globalThis.devicePixelRatio || 1);
    const size = [128, 256].find((one) => one >= shown) ?? 512; // larger ones take the server up to a second to draw
    const address = this.pictureUrl(this.character, size);
    if (this.#picture.src !== address) this.#picture.src = address;
  }

  /** @param {MediaStream} stream */
  #show(stream) {
    this.#output = stream;
    if (this.#video.srcObject === stream) return;
    this.#near = 0;
    this.#presented = { first: 0, last: 0, seen: 0 };
    this.#video.srcObject = stream;
    this.#applyHear();
    if (!("requestVideoFrameCallback" in this.#video)) {
      const video = /** @type {HTMLVideoElement} */ (this.#video);
      video.addEventListener("playing", () => this.#alive(), { once: true });
      const { srcObject } = video;
      const again = () => {
        if (video.srcObject !== srcObject) return; // another one has a loop of its own
        this.#compose();
        requestAnimationFrame(again);
      };
      again();
    }
  }

  #applyHear() {
    this.#video.muted = !this.hear;
    if (!this.#video.srcObject) return;
    this.#video.play().catch((error) => {
      if (error?.name !== "NotAllowedError" || this.#video.muted) return;
      this.#warn("autoplay_blocked", "The browser plays sound only after a click on the page.");
      this.#video.muted = true;
      this.#video.play().catch(() => {});
    });
  }

  #watchFrames() {
    if (!("requestVideoFrameCallback" in this.#video)) return;
    const next = (/** @type {number} */ _now, /** @type {any} */ metadata) => {
      this.#video.requestVideoFrameCallback(next);
      this.#compose();
      this.#seen(metadata);
    };
    this.#video.requestVideoFrameCallback(next);
  }

  /** The frame that is on the video, in one piece. */
  #compose() {
    if (!this.#packed || !this.#connection) return;
    if (!this.#alpha) {
      this.#alpha = new AlphaCanvas(this.#canvas);
      if (this.#alpha.by !== "webgl")
        this.#warn(
          "no_webgl",
          this.#alpha.by
            ? "This browser has no WebGL: transparency is made without it, which takes more of the processor."
            : "This browser can draw on no canvas: the transparent character cannot be shown.",
        );
    }
    this.#alpha.draw(this.#video);
  }

  /** @param {boolean} shown whether the live picture is to be seen */
  #unveil(shown) {
    this.#video.classList.toggle("shown", shown && !this.#packed);
    this.#canvas.classList.toggle("shown", shown && this.#packed);
    this.#picture.style.visibility = shown && this.#packed ? "hidden" : ""; // it would shine through
  }

  /** Once a frame: keep it cheap. @param {any} metadata VideoFrameCallbackMetadata */
  #seen(metadata) {
    if (!this.#connection) return;
    const count = this.#presented;
    if (!count.seen) count.first = metadata.presentedFrames;
    count.last = metadata.presentedFrames;
    count.seen++;
    if (this.#state !== "live") this.#alive();
    if (!this.#hello || metadata.rtpTimestamp === undefined) return;
    const k = frameOfRtp(metadata.rtpTimestamp, this.#hello.video_rtp_offset, this.#near);
    if (k === null || k < 0) return;
    this.#near = k;
    /** @type {FrameRecord} */
    const record = {
      k,
      rtp: metadata.rtpTimestamp,
      epoch: null,
      device: this.#delay,
      captured: null,
      arrived: null,
      started: null,
      drawn: null,
      encoded: null,
      sent: null,
      receiveTime: metadata.receiveTime ?? null,
      presentationTime: metadata.presentationTime,
      expectedDisplayTime: metadata.expectedDisplayTime,
      processingMs: (metadata.processingDuration ?? NaN) * 1000,
      width: this.#packed ? metadata.width / 2 : metadata.width,
      height: metadata.height,
      offset: null,
      stamp: this.readStamps ? this.#readStamp() : undefined,
    };
    this.#log.seen(record, this.#connection.clock);
    this.#tell("frame", record);
  }

  /** The strip's 32 cells, drawn onto 32 pixels: the middle line of the strip, the middle of each cell. */
  #readStamp() {
    const { videoHeight } = this.#video;
    const videoWidth = this.#packed ? this.#video.videoWidth / 2 : this.#video.videoWidth;
    if (!this.#stamps) {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [32, 1];
      this.#stamps = canvas.getContext("2d", { willReadFrequently: true });
    }
    const context = this.#stamps;
    if (!context) return null;
    const cell = videoWidth / 32;
    context.drawImage(this.#video, 0, videoHeight - 1.5 * cell, videoWidth, cell, 0, 0, 32, 1);
    const { data } = context.getImageData(0, 0, 32, 1);
    return stampedFrame(Array.from({ length: 32 }, (_, i) => data[4 * i + 1]));
  }

  /** A frame is on the screen. */
  #alive() {
    if (!["connecting", "reconnecting"].includes(this.#state)) return;
    if (Number.isNaN(this.#firstFrameMs)) this.#firstFrameMs = performance.now() - this.#startedAt;
    this.#attempt = 0;
    this.#delay = this.#deviceDelay();
    this.#unveil(true);
    this.#setState("live");
    clearInterval(this.#statsTimer);
    this.#statsTimer = setInterval(() => this.#tellStats(), STATS_MS);
    this.#starting.splice(0).forEach((resolve) => resolve(true));
  }

  async #tellStats() {
    const report = await this.getStats().catch(() => null);
    if (report) this.#tellPlayout(report);
    report?.forEach((/** @type {any} */ one) => {
      if (one.type !== "inbound-rtp" || one.kind !== "video") return;
      this.#inbound = {
        dropped: one.framesDropped ?? 0,
        freezes: one.freezeCount ?? 0,
        freezeMs: 1000 * (one.totalFreezesDuration ?? 0),
        jitterBufferMs: one.jitterBufferEmittedCount
          ? (1000 * one.jitterBufferDelay) / one.jitterBufferEmittedCount
          : NaN,
        packetsLost: one.packetsLost ?? 0,
      };
    });
    if (this.#state === "live") this.#tell("stats", this.stats());
  }

  /**
   * Tells the server, which owns lip sync, how late sound is played here. While nobody hears it frames need not wait.
   * @param {RTCStatsReport} report
   */
  #tellPlayout(report) {
    const now = { buffered: 0, emitted: 0, output: 0, played: 0 };
    report.forEach((/** @type {any} */ one) => {
      if (one.type === "inbound-rtp" && one.kind === "audio") {
        now.buffered += one.jitterBufferDelay ?? 0;
        now.emitted += one.jitterBufferEmittedCount ?? 0;
      } else if (one.type === "media-playout") {
        now.output += one.totalPlayoutDelay ?? 0;
        now.played += one.totalSamplesCount ?? 0;
      }
    });
    const { buffered, emitted, output, played } = this.#playout;
    const mean = (/** @type {number} */ sum, /** @type {number} */ count) => (count > 0 ? sum / count : 0);
    this.#playout = now;
    if (now.emitted <= emitted) return; // nothing was played, or another connection's counters began
    const sound = mean(now.buffered - buffered, now.emitted - emitted) + mean(now.output - output, now.played - played);
    if (Number.isFinite(sound)) this.#connection?.send(commands.playout(this.hear ? Math.round(1000 * sound) : 0));
  }

  #headers() {
    return /** @type {Record<string, string>} */ (this.token ? { Authorization: `Bearer ${this.token}` } : {});
  }

  /** @param {string} state @param {string} [reason] */
  #setState(state, reason = "") {
    if (state === this.#state) return;
    const previous = this.#state;
    this.#state = state;
    this.#tell("state", { state, previous, reason });
  }

  /** @param {any} error */
  #report(error) {
    const { reason, message, detail, status, retryAfter } =
      error instanceof LipStreamError ? error : new LipStreamError("unexpected", { detail: String(error) });
    this.#tell("error", { reason, message, detail, status, retryAfter, fatal: this.#state === "error" });
  }

  /** @param {string} reason @param {string} detail */
  #warn(reason, detail) {
    this.#tell("warning", { reason, detail });
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** @param {MediaStream} stream */
function halt(stream) {
  stream.getTracks().forEach((track) => track.stop());
}

/**
 * Both, or the first error; `undo` gets what was opened in vain.
 * @template A, B
 * @param {Promise<A>} a
 * @param {Promise<B> | B} b
 * @param {(opened: B | null) => void} undo
 * @returns {Promise<[A, B]>}
 */
async function allOrNone(a, b, undo) {
  const [first, second] = await Promise.allSettled([a, b]);
  if (first.status === "fulfilled" && second.status === "fulfilled") return [first.value, second.value];
  if (second.status === "rejected") throw second.reason;
  undo(second.value);
  throw /** @type {PromiseRejectedResult} */ (first).reason;
}

if (globalThis.customElements && !customElements.get("lip-stream")) customElements.define("lip-stream", LipStream);
