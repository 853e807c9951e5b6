// @ts-check
/** Errors with a stable reason for programs and a sentence for users. */

/** @typedef {import("./lip-stream.js").Face} Face */
/** @typedef {import("./lip-stream.js").Problem} Problem */

/** The user's sentence for each reason. The server's `detail` is appended. @type {Record<string, string>} */
const MESSAGES = {
  microphone_denied:
    "The microphone is blocked. Allow it for this page in the browser's address bar, then start again.",
  microphone_missing: "No microphone was found. Plug one in, or use the sample voice.",
  microphone_busy: "The microphone is in use by another program.",
  microphone_lost: "The microphone was disconnected.",
  insecure_context:
    "Browsers allow the microphone only on https pages and on this computer itself. Open the page over https.",
  no_webrtc: "This browser does not support WebRTC, which carries the sound and the video.",
  server_unreachable: "The server does not respond. Is it running?",
  network_lost: "The connection was lost and could not be restored.",
  connect_timeout: "The server responded, but no media arrived. A firewall may block UDP.",
  too_many_sessions: "The server is full at the moment.",
  overloaded: "The server is too busy for another session.",
  unauthorized: "The server requires a token, and this one is not valid.",
  bad_origin: "The server does not accept requests from this page's address.",
  bad_token: "The token was not issued by this server.",
  token_expired: "This page's token has expired.",
  token_used: "This page's token has already opened as many sessions as it allows.",
  token_origin: "The token was issued for another page.",
  unknown_character: "The server does not have this character.",
  session_closed: "The server ended the session.",
  server_restarted: "The server was shut down.",
};

/** Reasons for which an automatic retry is pointless. */
export const FATAL = new Set([
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

/** Reasons that a new session token resolves. */
export const RENEWABLE = new Set(["bad_token", "token_expired", "token_used"]);

export class LipStreamError extends Error {
  /**
   * @param {string} reason
   * @param {{ detail?: string, status?: number, retryAfter?: number | null, faces?: Face[] }} [more]
   */
  constructor(reason, { detail = "", status = 0, retryAfter = null, faces = [] } = {}) {
    const base = MESSAGES[reason] ?? (detail ? "" : `Something went wrong (${reason}).`);
    const wait = retryAfter === null ? "" : ` Try again in ${retryAfter} s.`;
    super([base, asSentence(detail)].filter(Boolean).join(" ") + wait);
    this.name = "LipStreamError";
    this.reason = reason;
    this.detail = detail;
    this.status = status;
    this.retryAfter = retryAfter;
    this.faces = faces;
  }
}

/** @param {string} text */
function asSentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(capital) || !capital ? capital : `${capital}.`;
}

/** The error for a refused request, from its problem details (RFC 9457). @param {Response} response */
export async function errorOfResponse(response) {
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
 * The error for a request without a readable response. Browsers hide from a page of another origin why it failed; but
 * if the server responds to a request whose response the page may not read, it is up and does not allow this origin.
 * @param {string} base the server's URL
 */
export async function errorWithoutResponse(base) {
  const crossOrigin = new URL(base, location.href).origin !== location.origin;
  const up = crossOrigin && (await fetch(`${base}/healthz`, { mode: "no-cors", cache: "no-store" }).catch(() => null));
  if (!up) return new LipStreamError("server_unreachable");
  return new LipStreamError("bad_origin", { detail: `It was not started with --allow-origin ${location.origin}` });
}

/** The error for a failed getUserMedia(). @param {any} error */
export function microphoneError(error) {
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
