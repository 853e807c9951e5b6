// @ts-check
/**
 * The protocol's messages and formats, described in clients/PROTOCOL.md. Pure functions; clients/vectors/ holds the
 * examples that every implementation is tested against.
 */

export const RTP_TICKS_PER_FRAME = 3600; // the 90 kHz video clock at 25 frames a second
export const MAX_MESSAGE_BYTES = 16384;

/**
 * The index of the frame with this RTP timestamp. The clock wraps every 13 h 15 min, and its period is not a multiple
 * of a frame, so a frame index known to be `near` (within 6 h 37 min) selects the right wrap.
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
 * The 32 cells of the stamp strip of frame k: 24 bits of k, most significant first, then an 8-bit checksum.
 * @param {number} k
 */
export function stampBits(k) {
  const index = k & 0xffffff;
  const sum = ((index & 255) + 3 * ((index >> 8) & 255) + 7 * ((index >> 16) & 255) + 90) & 255;
  return Array.from({ length: 32 }, (_, i) => (i < 24 ? (index >> (23 - i)) & 1 : (sum >> (31 - i)) & 1));
}

/**
 * The low 24 bits of the frame index in a stamp strip.
 * @param {ArrayLike<number>} luma brightness of the 32 cells, left to right, 0..255
 * @returns {number | null} null where the checksum does not match
 */
export function stampedFrame(luma) {
  let index = 0;
  for (let i = 0; i < 24; i++) index = index * 2 + (luma[i] > 127 ? 1 : 0);
  return stampBits(index).every((bit, i) => bit === (luma[i] > 127 ? 1 : 0)) ? index : null;
}

/**
 * The body of a trickle ICE PATCH request (an SDP fragment as in RFC 8840 and RFC 9725).
 * @param {string} sdp the local description that the candidates belong to
 * @param {{ candidate: string, sdpMid: string | null }[]} candidates
 * @param {boolean} complete whether gathering is complete
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
/** The server validates the controls' names and ranges, which clients read from its configuration. */
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

/** The fields of each server message. @type {Record<string, Record<string, (v: unknown) => boolean>>} */
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
  gesture: { name: isText, frame: isCount, drawn: optional(isFlag) },
  away: { away: isFlag, frame: isCount },
  state: { state: isText },
  vad: { speaking: isFlag, pts: isCount },
  frames: { rows: isRows },
  warning: { reason: isText, detail: optional((v) => typeof v === "string") },
  error: { reason: isText, detail: optional((v) => typeof v === "string") },
  closed: { reason: isText, detail: optional((v) => typeof v === "string") },
};

/**
 * Parses a control channel message. Unknown types and fields are ignored, so that newer servers can add some.
 * @param {unknown} text
 * @returns {Record<string, any> | null} null for an unknown type
 * @throws {TypeError} with the field that is invalid
 */
export function readMessage(text) {
  if (typeof text !== "string") throw new TypeError("a control message must be text, but this one is binary");
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new TypeError("a control message must be JSON, but this one is not");
  }
  if (typeof message !== "object" || message === null || Array.isArray(message))
    throw new TypeError("a control message must be a JSON object");
  if (typeof message.type !== "string") throw new TypeError("a control message must have a type");
  if (!Object.hasOwn(SERVER_MESSAGES, message.type)) return null;
  for (const [field, rule] of Object.entries(SERVER_MESSAGES[message.type]))
    if (!rule(message[field])) throw new TypeError(`${message.type}.${field} is ${JSON.stringify(message[field])}`);
  return message;
}

/** Builders of the client's messages. Each validates its arguments and throws a TypeError for invalid ones. */
export const commands = {
  /** @param {number} id @param {number} t the client's clock, ms */
  ping: (id, t) => check("ping", { id, t }, { id: isCount, t: isNumber }),
  /** @param {number} differenceMs how much later audio is played than video that was sent at the same time */
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
  /** @param {boolean} away @param {string} [picture] id of the character whose picture is shown meanwhile */
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
