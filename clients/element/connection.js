// @ts-check
/** The WebRTC session with the server: signalling over HTTP, media, and the control channel. */

import { Clock } from "./clock.js";
import { LipStreamError, errorOfResponse } from "./errors.js";
import { commands, readMessage, trickleFragment } from "./protocol.js";

const CONNECT_TIMEOUT_MS = 10000;
const DISCONNECTED_MS = 4000; // ICE recovers from short interruptions by itself
const PING_BURST = 6;
const PING_BURST_MS = 40;
const PING_MS = 1000;
const DELETE_MS = 1000; // the peer connection closes at the latest then
const SILENT_MS = 5000; // detects a dead connection sooner than ICE's own timers
const MAX_UNANSWERED = 4; // pings: after the computer slept, the time alone does not mean a dead connection

/**
 * One session: offer and answer, trickled candidates, the control channel, the end. Opened once and closed once.
 * @typedef {{
 *   base: string, headers: Record<string, string>, query: URLSearchParams, iceServers: RTCIceServer[],
 *   stream: MediaStream, codec: string | null,
 *   onTracks: (stream: MediaStream) => void, onMessage: (message: Record<string, any>) => void,
 *   onReady: () => void, onLost: (error: LipStreamError) => void, onWarning: (reason: string, detail: string) => void,
 * }} ConnectionOptions
 */
export class Connection {
  /** @type {RTCPeerConnection} */ #pc;
  /** @type {RTCDataChannel} */ #control;
  /** @type {RTCRtpSender} */ #sender;
  /** @type {{ candidate: string, sdpMid: string | null }[]} */ #candidates = [];
  #gathered = false;
  #aborted = new AbortController();
  #patching = false;
  #location = "";
  #etag = "";
  #closed = false;
  #disconnected = 0;
  #timeout = 0;
  #ping = 0;
  #pings = 0;
  #pongs = 0;
  #lastHeard = 0;
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
    preferCodec(video, options.codec);
    minimizePlayoutDelay(video.receiver);

    const received = new MediaStream();
    pc.ontrack = ({ track, streams }) => {
      minimizePlayoutDelay(track.kind === "video" ? video.receiver : null);
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
      this.#lastHeard = performance.now();
      this.#sendPing();
      options.onReady();
    };
    this.#control.onmessage = ({ data }) => this.#receive(data);
    this.#control.onclose = () => this.#lose(new LipStreamError("network_lost"));
  }

  /** Resolves when the server has accepted the session. @throws {LipStreamError} */
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
    if (response.status !== 201) throw await errorOfResponse(response);
    this.#location = new URL(response.headers.get("Location") ?? "", response.url).href;
    this.#etag = response.headers.get("ETag") ?? "";
    if (this.#closed) return void this.#delete(); // closed while the server was answering
    await this.#pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
    this.#trickle();
  }

  /** @param {Record<string, unknown>} message @returns {boolean} whether the channel was open */
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

  /** @param {{ gone?: boolean }} [how] gone: the server has already ended the session */
  close({ gone = false } = {}) {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timeout);
    clearTimeout(this.#disconnected);
    clearTimeout(this.#ping);
    this.#aborted.abort(); // a PATCH in flight would only be refused
    this.#control.onmessage = null;
    // The server ends a session whose peer has gone: the DELETE must reach it first, or finds no session.
    const deleted = this.#location && !gone ? this.#delete() : null;
    Promise.race([deleted, new Promise((resolve) => setTimeout(resolve, DELETE_MS))]).then(() => this.#pc.close());
  }

  /** With keepalive the request outlives the page. */
  async #delete() {
    const { headers } = this.options;
    await fetch(this.#location, { method: "DELETE", headers, keepalive: true }).catch(() => {});
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

  /** Sends the candidates gathered so far, one request at a time, so that they arrive in order. */
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
        signal: this.#aborted.signal,
      });
      if (!response.ok && !this.#closed)
        this.options.onWarning("trickle_failed", (await errorOfResponse(response)).message);
    } catch {
      // the candidates already known may do; if not, the connect timeout reports it
    }
    this.#patching = false;
    if (complete) this.#gathered = false;
    if (this.#candidates.length || this.#gathered) this.#trickle();
  }

  #sendPing() {
    if (this.#closed) return;
    const silent = performance.now() - this.#lastHeard > SILENT_MS;
    if (silent && this.#pings - this.#pongs >= MAX_UNANSWERED) return this.#lose(new LipStreamError("network_lost"));
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
      this.#pongs = message.id + 1;
      this.#lastHeard = now;
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
 * @param {string | null} codec "h264" or "vp8" to prefer it; null: the browser's order
 */
function preferCodec(transceiver, codec) {
  const known = RTCRtpReceiver.getCapabilities?.("video")?.codecs;
  if (!codec || !known || !transceiver.setCodecPreferences) return;
  const wanted = known.filter(({ mimeType }) => mimeType.toLowerCase() === `video/${codec}`);
  transceiver.setCodecPreferences([...wanted, ...known.filter((one) => !wanted.includes(one))]);
}

/** Has the browser display frames as soon as they are complete. @param {any} receiver */
function minimizePlayoutDelay(receiver) {
  if (!receiver) return;
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
}
