// @ts-check
/**
 * <lip-stream>: sends a voice to the server and shows the talking character that comes back, with the latency of each
 * displayed frame. Public members are documented in lip-stream.d.ts.
 */

import { ReflectedAttributes } from "./attributes.js";
import { AudioInput, audioTrack, openMicrophone, stopTracks } from "./audio-input.js";
import { Connection } from "./connection.js";
import { allOrNone, deferred } from "./promises.js";
import { FATAL, LipStreamError } from "./errors.js";
import { FrameLog, frameRecord } from "./frame-log.js";
import { commands, frameOfRtp } from "./protocol.js";
import { ReceiveStats } from "./receive-stats.js";
import { ServerApi } from "./server-api.js";
import { SessionControl } from "./session-control.js";
import { View } from "./view.js";

/** @typedef {import("./lip-stream.js").ServerConfig} ServerConfig */

const RETRY_MS = [300, 1000, 2000, 4000, 6000, 8000, 8000];
const STATS_MS = 500;
const PICTURE_SIZES = [128, 256, 512]; // the server takes up to a second to draw larger ones

export class LipStream extends ReflectedAttributes {
  readStamps = false;
  /** @type {(() => string | Promise<string>) | null} */
  renewToken = Object(this).renewToken ?? null; // a page may have set it before this module was loaded
  /** @type {string} */ #state = "idle";
  #api = new ServerApi(this);
  #input = new AudioInput((error) => this.#fail(error));
  /** @type {View} */ #view;
  /** @type {MediaStream | null} */ #output = null;
  /** @type {Connection | null} */ #connection = null;
  #control = new SessionControl(this, this.#input);
  /** @type {Record<string, any> | null} */ #hello = null;
  #log = new FrameLog();
  #receiveStats = new ReceiveStats();
  #run = 0; // incremented by start() and stop(): continuations of an earlier run change nothing
  /** @type {{ promise: Promise<boolean>, resolve: (live: boolean) => void } | null} */ #starting = null;
  #attempt = 0;
  #retryTimer = 0;
  #statsTimer = 0;
  #startedAt = 0;
  #firstFrameMs = NaN;
  #renderer = "";
  #lastFrame = 0;
  /** @type {number | null} */ #inputLatency = null;
  #speaking = false;

  constructor() {
    super();
    this.#view = new View(this.attachShadow({ mode: "open" }), {
      onFrame: (metadata) => this.#onFrame(metadata),
      onPlaying: () => this.#onLive(),
      onWarning: (reason, detail) => this.#emitWarning(reason, detail),
    });
  }

  connectedCallback() {
    this.#showPicture();
    if (this.hasAttribute("src") || this.character) this.config().catch(() => {}); // so that start() need not wait
  }

  disconnectedCallback() {
    queueMicrotask(() => this.isConnected || this.stop()); // an element that was only moved goes on
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "src" || name === "token") this.#api.forgetConfig();
    if (name === "hear") this.#view.setMuted(!this.hear);
    if (["src", "token", "character", "size", "background", "alpha"].includes(name)) this.#showPicture();
    if (["echo-cancellation", "microphone"].includes(name) && this.#input.owned)
      this.setInput().catch((error) => this.#emitError(error));
  }

  // public properties ----------------------------------------------------------------------------------------------

  get state() {
    return this.#state;
  }
  get muted() {
    return this.#input.muted;
  }
  get away() {
    return this.#control.away;
  }
  get speaking() {
    return this.#speaking;
  }
  get input() {
    return this.#input.stream;
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
  /** Why this browser cannot time frames; empty where it can. */
  get untimed() {
    if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype))
      return "This browser does not say when it shows a frame, so latency cannot be measured here.";
    return this.#view.reported > 50 && !this.#log.records.length
      ? "This browser does not say which frame it shows, so latency cannot be measured here."
      : "";
  }

  // public methods -------------------------------------------------------------------------------------------------

  config() {
    return this.#api.config();
  }

  /** @param {string} path @param {RequestInit} [init] */
  async fetch(path, init = {}) {
    return this.#api.fetch(path, init);
  }

  /** @param {string} id @param {number} [size] */
  pictureUrl(id, size = 256) {
    return this.#api.pictureUrl(id, size, this.background);
  }

  /**
   * Starts a session with the microphone or with a stream of the page's own. Resolves with whether the character is
   * live; an `error` event says why not. While a start is in progress, another call gets the same promise.
   * @param {MediaStream} [stream]
   * @returns {Promise<boolean>}
   */
  start(stream) {
    if (this.#state === "live") return Promise.resolve(true);
    const idle = this.#state === "idle" || this.#state === "error";
    const { promise } = (this.#starting ??= deferred());
    if (idle) this.#begin(++this.#run, stream);
    return promise;
  }

  /** Ends the session, here and on the server. */
  stop() {
    this.#run++;
    this.#release();
    this.#setState("idle");
  }

  /** Cuts off the utterance: the mouth closes, its sound stops. */
  interrupt() {
    return this.#control.interrupt();
  }

  /** Mutes the microphone, here and on the server. @param {boolean} [muted] */
  mute(muted = true) {
    return this.#control.mute(Boolean(muted));
  }

  /** Changes the character; a live session continues with it. @param {string} id */
  setCharacter(id) {
    return this.#control.setCharacter(id);
  }

  /** @param {string} name @param {number} [strength] 0..1 */
  setEmotion(name, strength = 1) {
    return this.#control.setEmotion(name, strength);
  }

  /** Plays a gesture; `config().gestures` lists them. @param {string} name */
  async gesture(name) {
    return this.#control.now(commands.gesture(name), "gesture");
  }

  /**
   * Goes away, showing "be right back" or a picture, in silence; or comes back.
   * @param {boolean} [away] @param {string} [picture] a character's id
   */
  setAway(away = true, picture) {
    return this.#control.setAway(Boolean(away), picture);
  }

  /**
   * Moves head, eyes, brows, body or hands within the ranges of `config().plan`. The motion lapses after `hold` seconds
   * unless it is requested again.
   * @param {Record<string, number | null>} values null releases a control
   * @param {{ mode?: "add" | "replace", hold?: number }} [options]
   */
  async move(values, { mode, hold } = {}) {
    return this.#control.now(commands.plan(values, mode, hold), "plan");
  }

  /** How the character behaves while it does not speak. @param {"idle" | "listening" | "thinking"} state */
  async setAttention(state) {
    return this.#control.now(commands.attention(state), "attention");
  }

  /** The former name of `setAttention`. @param {"idle" | "listening" | "thinking"} state */
  attend(state) {
    console.warn("<lip-stream>: attend() is now setAttention(); the old name works until lipstream 0.3");
    return this.setAttention(state);
  }

  /** Sends another stream from now on, or the microphone, without a new session. @param {MediaStream} [stream] */
  async setInput(stream) {
    const run = this.#run;
    const input = stream ?? (await this.#openMicrophone());
    const unused = () => {
      const stale = run !== this.#run || !this.#input.stream;
      if (stale && !stream) stopTracks(input);
      return stale;
    };
    if (unused()) return;
    await this.#connection?.replaceTrack(audioTrack(input));
    if (!unused()) this.#input.use(input, !stream);
  }

  /** Statistics of the last seconds. @param {number} [seconds] */
  stats(seconds = 10) {
    return {
      state: this.#state,
      seconds,
      ...this.#log.summary(seconds, performance.now(), this.#hello?.lookahead_ms ?? 0),
      firstFrameMs: this.#firstFrameMs,
      rtt: this.clock.rtt ?? NaN,
      clockOffset: this.clock.offset ?? NaN,
      missed: this.#view.missed,
      ...this.#receiveStats.video,
      untimed: this.untimed,
    };
  }

  /** The peer connection's own statistics, or null without a session. */
  getStats() {
    return this.#connection ? this.#connection.getStats() : Promise.resolve(null);
  }

  // connecting -----------------------------------------------------------------------------------------------------

  /** @param {number} run @param {MediaStream} [stream] */
  async #begin(run, stream) {
    this.#startedAt = performance.now();
    this.#firstFrameMs = NaN;
    this.#attempt = 0;
    this.#log = new FrameLog(this.#log.capacity);
    try {
      if (!globalThis.RTCPeerConnection) throw new LipStreamError("no_webrtc");
      this.#setState(stream ? "connecting" : "microphone");
      const [, input] = await allOrNone(this.config(), stream ?? this.#openMicrophone(), (opened) => {
        if (opened && opened !== stream) stopTracks(opened);
      });
      if (run !== this.#run) return void (stream || stopTracks(input));
      this.#input.use(input, !stream);
      window.addEventListener("pagehide", this.#onPageHide);
      window.addEventListener("online", this.#onOnline);
      this.#connect(run);
    } catch (error) {
      if (run === this.#run) this.#fail(error);
    }
  }

  /** @param {number} run */
  async #connect(run) {
    this.#setState(this.#attempt ? "reconnecting" : "connecting");
    try {
      await this.#api.withRenewedToken(() => this.#openConnection(run));
    } catch (error) {
      if (run !== this.#run) return;
      const known =
        error instanceof LipStreamError ? error : new LipStreamError("bad_answer", { detail: String(error) });
      if (this.#attempt && !FATAL.has(known.reason)) this.#onLost(known);
      else this.#fail(known);
    }
  }

  /** @param {number} run */
  async #openConnection(run) {
    const config = await this.config();
    if (run !== this.#run || this.#connection) return;
    this.#hello = null;
    const query = this.#sessionQuery(config);
    const connection = (this.#connection = new Connection({
      base: this.src,
      headers: this.#api.headers(),
      query,
      iceServers: config.ice_servers,
      stream: /** @type {MediaStream} */ (this.#input.stream),
      codec: this.getAttribute("codec"),
      onTracks: (stream) => this.#showStream(stream),
      onReady: () => this.#control.restore((error) => this.#emitError(error)),
      onMessage: (message) => this.#onMessage(message),
      onLost: (error) => run === this.#run && this.#onLost(error),
      onWarning: (reason, detail) => this.#emitWarning(reason, detail),
    }));
    this.#control.open(connection, query.get("character") ?? "");
    try {
      await connection.open();
    } catch (error) {
      connection.close();
      if (this.#connection === connection) this.#connection = null;
      throw error;
    }
  }

  /** The parameters of a new session. @param {ServerConfig} config */
  #sessionQuery(config) {
    const query = new URLSearchParams();
    const character = this.character || config.default_character;
    if (character) query.set("character", character);
    if (this.size) query.set("size", String(this.size));
    this.#view.packed = this.alpha;
    if (this.alpha) query.set("alpha", "packed");
    if (this.background === this.alpha) query.set("background", this.background ? "1" : "0");
    if (this.hasAttribute("stamp")) query.set("stamp", "1");
    if (this.getAttribute("voice") === "speech") query.set("voice", "speech");
    return query;
  }

  /** The connection is gone: tries again after a pause, or gives up. @param {LipStreamError} error */
  #onLost(error) {
    const run = this.#run;
    this.#connection = null;
    this.#endSession(error);
    this.#view.setVisible(false); // an ended track is black; the picture is better
    const neverLive = this.#attempt === 0 && Number.isNaN(this.#firstFrameMs);
    if (neverLive || FATAL.has(error.reason) || this.#attempt >= RETRY_MS.length) return this.#fail(error);
    const wait = Math.max(RETRY_MS[this.#attempt] * (0.8 + 0.4 * Math.random()), (error.retryAfter ?? 0) * 1000);
    this.#attempt++;
    this.#setState("reconnecting", error.reason);
    this.#retryTimer = setTimeout(() => run === this.#run && this.#connect(run), wait);
  }

  /** @param {any} error */
  #fail(error) {
    this.#run++;
    this.#release();
    const known = error instanceof LipStreamError ? error : new LipStreamError("unexpected", { detail: String(error) });
    this.#setState("error", known.reason);
    this.#emitError(known);
  }

  #release() {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#statsTimer);
    window.removeEventListener("pagehide", this.#onPageHide);
    window.removeEventListener("online", this.#onOnline);
    this.#connection?.close();
    this.#connection = null;
    this.#endSession(new LipStreamError("network_lost"));
    this.#input.release();
    this.#view.clear();
    this.#output = null;
    this.#starting?.resolve(false);
    this.#starting = null;
  }

  /** @param {Error} error that pending requests fail with */
  #endSession(error) {
    this.#control.close(error);
    this.#hello = null;
    if (this.#speaking) this.#emit("vad", { speaking: (this.#speaking = false), pts: 0 });
  }

  #onPageHide = () => this.stop();
  #onOnline = () => {
    if (this.#state !== "reconnecting" || this.#connection) return;
    clearTimeout(this.#retryTimer);
    this.#connect(this.#run);
  };

  #openMicrophone() {
    const options = { deviceId: this.microphone, processing: this.echoCancellation };
    const onReplaced = () =>
      this.#emitWarning("microphone_changed", "The chosen microphone is not available; another one is used.");
    return openMicrophone(options, onReplaced);
  }

  // the control channel --------------------------------------------------------------------------------------------

  /** @param {Record<string, any>} message */
  #onMessage(message) {
    const settled = this.#control.receive(message);
    if (message.type === "error" && !settled)
      this.#emitError(new LipStreamError(message.reason, { detail: message.detail ?? "" }));
    if (message.type === "hello" || message.type === "character") this.#renderer = message.renderer ?? "";
    if (message.type === "hello") {
      this.#hello = message;
      this.#log.restart();
    }
    if (message.type === "vad") {
      this.#speaking = message.speaking;
      this.#emit("vad", { speaking: message.speaking, pts: message.pts });
    }
    if (message.type === "frames" && this.#connection) this.#log.rows(message.rows, this.#connection.clock);
    if (message.type === "warning") this.#emitWarning(message.reason, message.detail ?? "");
    this.#emit("control", message);
  }

  // the picture ----------------------------------------------------------------------------------------------------

  #showPicture() {
    if (!this.isConnected || !this.character) return;
    const pixels = (this.clientWidth || this.size || 256) * (globalThis.devicePixelRatio || 1);
    const size = PICTURE_SIZES.find((one) => one >= pixels) ?? PICTURE_SIZES.at(-1);
    this.#view.showPicture(this.pictureUrl(this.character, size));
  }

  /** @param {MediaStream} stream */
  #showStream(stream) {
    if (this.#output !== stream) this.#lastFrame = 0;
    this.#output = stream;
    this.#view.show(stream, !this.hear);
  }

  /** Called for each displayed frame, so it must be cheap. @param {any} metadata VideoFrameCallbackMetadata */
  #onFrame(metadata) {
    if (!this.#connection) return;
    if (this.#state !== "live") this.#onLive();
    if (!this.#hello || metadata.rtpTimestamp === undefined) return;
    const k = frameOfRtp(metadata.rtpTimestamp, this.#hello.video_rtp_offset, this.#lastFrame);
    if (k === null || k < 0) return;
    this.#lastFrame = k;
    const stamp = this.readStamps ? this.#view.readStamp() : undefined;
    const record = frameRecord(k, metadata, { device: this.#inputLatency, packed: this.#view.packed, stamp });
    this.#log.seen(record, this.#connection.clock);
    this.#emit("frame", record);
  }

  /** A frame of this session is on the screen. */
  #onLive() {
    if (!["connecting", "reconnecting"].includes(this.#state)) return;
    if (Number.isNaN(this.#firstFrameMs)) this.#firstFrameMs = performance.now() - this.#startedAt;
    this.#attempt = 0;
    this.#inputLatency = this.#input.latency;
    this.#view.setVisible(true);
    this.#setState("live");
    clearInterval(this.#statsTimer);
    this.#statsTimer = setInterval(() => this.#emitStats(), STATS_MS);
    this.#starting?.resolve(true);
    this.#starting = null;
  }

  async #emitStats() {
    const report = await this.getStats().catch(() => null);
    const audioDelay = report && this.#receiveStats.update(report);
    // The server owns lip sync: it needs to know how late sound is played. While it is muted, frames need not wait.
    if (audioDelay !== null) this.#connection?.send(commands.playout(this.hear ? Math.round(audioDelay) : 0));
    if (this.#state === "live") this.#emit("stats", this.stats());
  }

  // events ---------------------------------------------------------------------------------------------------------

  /** @param {string} state @param {string} [reason] */
  #setState(state, reason = "") {
    if (state === this.#state) return;
    const previous = this.#state;
    this.#state = state;
    this.#emit("state", { state, previous, reason });
  }

  /** @param {any} error */
  #emitError(error) {
    const { reason, message, detail, status, retryAfter } =
      error instanceof LipStreamError ? error : new LipStreamError("unexpected", { detail: String(error) });
    this.#emit("error", { reason, message, detail, status, retryAfter, fatal: this.#state === "error" });
  }

  /** @param {string} reason @param {string} detail */
  #emitWarning(reason, detail) {
    this.#emit("warning", { reason, detail });
  }

  /** @param {string} type @param {unknown} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

if (globalThis.customElements && !customElements.get("lip-stream")) customElements.define("lip-stream", LipStream);
