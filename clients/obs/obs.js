// @ts-check
/**
 * A browser source for OBS: only the character, on a transparent background, with its sound. It views a session (WHEP)
 * or opens the microphone itself, and always reconnects by itself. All settings are in the address.
 */

import { AlphaCanvas, trickleFragment } from "../element/lip-stream.js";

/** @typedef {import("../element/lip-stream.js").LipStream} LipStream */
/** @typedef {ReturnType<typeof settingsFromUrl>} Settings */

const POLL_MS = 1500; // while no session is live
const RETRY_MS = [300, 1000, 2000, 4000, 8000, 15000]; // after this many failures in a row; the last one from then on
const CONNECT_MS = 10000;
const STALLED_MS = 2500; // packets arrive every 40 ms: after this long without one the session is gone
const STATS_MS = 500;
const DELETE_MS = 1000; // the peer connection closes at the latest then
const HIDE_MS = 1500; // how long the last frame stays after the connection was lost

/**
 * The settings in a page's address.
 * @param {string} search @param {string} hash
 */
export function settingsFromUrl(search, hash) {
  const query = new URLSearchParams(search);
  const on = (/** @type {string} */ name, /** @type {boolean} */ byDefault) =>
    query.has(name) ? !["0", "off", "false", "no"].includes(query.get(name) ?? "") : byDefault;
  return {
    /** null: the newest live session */
    session: query.get("session") || null,
    microphone: query.get("source") === "microphone",
    alpha: on("alpha", true),
    muted: on("muted", false),
    debug: on("debug", false),
    /** For a session that this page creates itself. */
    character: query.get("character") ?? "",
    size: Number(query.get("size")) || 0,
    echoCancellation: on("echo", false),
    token: new URLSearchParams(hash.slice(1)).get("token") ?? "",
  };
}

/**
 * The pause after this many failures in a row, with jitter so that pages do not reconnect all at once.
 * @param {number} failures
 */
export function retryDelay(failures, jitter = Math.random()) {
  return RETRY_MS[Math.min(Math.max(failures, 1), RETRY_MS.length) - 1] * (0.8 + 0.4 * jitter);
}

/**
 * Removes the playout-delay extension: without it the browser synchronizes sound and video by itself, which matters
 * more to viewers than the last milliseconds.
 * @param {string} sdp
 */
export function withoutPlayoutDelay(sdp) {
  return sdp.replace(/^a=extmap:\d+ \S*playout-delay\S*\r?\n/gm, "");
}

// the server --------------------------------------------------------------------------------------------------------

class Server {
  /** @param {string} base @param {string} token */
  constructor(base, token) {
    this.base = base;
    /** @type {Record<string, string>} */
    this.headers = token ? { Authorization: `Bearer ${token}` } : {};
  }

  /** @param {string} address @param {RequestInit} [init] */
  async fetch(address, init = {}) {
    const headers = { ...this.headers, ...init.headers };
    const response = await fetch(new URL(address, this.base), { cache: "no-store", ...init, headers });
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({}));
    throw Object.assign(new Error(`${problem.reason ?? response.status}: ${problem.detail ?? response.statusText}`), {
      status: response.status,
    });
  }

  /** @param {string} address */
  async json(address) {
    return (await this.fetch(address)).json();
  }

  /** The newest live session, or the wanted one if it is live. @param {string | null} wanted */
  async find(wanted) {
    if (wanted) return (await this.isLive(wanted)) ? wanted : null;
    const { sessions } = await this.json("v1/sessions");
    for (const id of sessions.reverse()) if (await this.isLive(id)) return /** @type {string} */ (id);
    return null;
  }

  /** @param {string} id */
  async isLive(id) {
    try {
      return (await this.json(`v1/sessions/${encodeURIComponent(id)}`)).state === "live";
    } catch (error) {
      if (/** @type {any} */ (error).status === 404) return false;
      throw error;
    }
  }
}

// viewing ----------------------------------------------------------------------------------------------------------

/** A view of one session, until either side ends it. */
class View {
  /** @type {RTCPeerConnection} */ #pc;
  /** @type {{ candidate: string, sdpMid: string | null }[]} */ #candidates = [];
  #location = "";
  #etag = "";
  #patching = false;
  #gathered = false;
  #closed = false;
  #packets = 0;
  #lastPacketAt = performance.now();
  #timeoutMs = CONNECT_MS;
  #statsTimer = 0;

  /** @param {Server} server @param {HTMLVideoElement} video @param {() => void} onFrame @param {RTCIceServer[]} ice */
  constructor(server, video, onFrame, ice) {
    this.server = server;
    this.video = video;
    this.onFrame = onFrame;
    /** Resolves with the reason why the view ended. @type {Promise<string>} */
    this.ended = new Promise((resolve) => (this.end = (/** @type {string} */ why) => this.#close(why, resolve)));
    const pc = (this.#pc = new RTCPeerConnection({ iceServers: ice, bundlePolicy: "max-bundle" }));
    for (const kind of ["audio", "video"]) pc.addTransceiver(kind, { direction: "recvonly" });
    const stream = new MediaStream();
    pc.ontrack = ({ track, streams }) => {
      if (!streams.length) stream.addTrack(track);
      if (video.srcObject !== (streams[0] ?? stream)) video.srcObject = streams[0] ?? stream;
      play(video);
    };
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.#candidates.push({ candidate: candidate.candidate, sdpMid: candidate.sdpMid });
      else this.#gathered = true;
      this.#trickle();
    };
    pc.onconnectionstatechange = () => {
      if (["failed", "closed"].includes(pc.connectionState)) this.end(`connection ${pc.connectionState}`);
    };
    this.#watchFrames();
    this.#statsTimer = setInterval(() => this.#checkPackets(), STATS_MS);
  }

  /** @param {string} id @param {boolean} alpha */
  async open(id, alpha) {
    const pc = this.#pc;
    const offer = await pc.createOffer();
    await pc.setLocalDescription({ type: "offer", sdp: withoutPlayoutDelay(offer.sdp ?? "") });
    const query = alpha ? "?alpha=packed" : "";
    const response = await this.server.fetch(`v1/sessions/${encodeURIComponent(id)}/whep${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: pc.localDescription?.sdp,
    });
    this.#location = new URL(response.headers.get("Location") ?? "", response.url).href;
    this.#etag = response.headers.get("ETag") ?? "";
    const answer = await response.text();
    if (this.#closed) return void this.#delete();
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    this.#trickle();
  }

  #watchFrames() {
    const next = () => {
      if (this.#closed) return;
      this.video.requestVideoFrameCallback(next);
      this.onFrame();
    };
    this.video.requestVideoFrameCallback(next);
  }

  /** Packets, not displayed frames, show that a session is alive: a source that is hidden in OBS displays none. */
  async #checkPackets() {
    let packets = 0;
    for (const one of (await this.#pc.getStats()).values())
      if (one.type === "inbound-rtp" && one.kind === "video") packets += one.packetsReceived;
    const now = performance.now();
    if (packets > this.#packets) [this.#packets, this.#lastPacketAt, this.#timeoutMs] = [packets, now, STALLED_MS];
    if (now - this.#lastPacketAt > this.#timeoutMs) this.end("no video arrives");
  }

  async #trickle() {
    if (!this.#location || this.#closed || this.#patching || (!this.#candidates.length && !this.#gathered)) return;
    const [candidates, complete] = [this.#candidates.splice(0), this.#gathered];
    this.#patching = true;
    try {
      await this.server.fetch(this.#location, {
        method: "PATCH",
        headers: { "Content-Type": "application/trickle-ice-sdpfrag", ...(this.#etag && { "If-Match": this.#etag }) },
        body: trickleFragment(this.#pc.localDescription?.sdp ?? "", candidates, complete),
      });
    } catch (error) {
      report(`candidates were refused: ${error}`); // those already known may do; if not, no video arrives
    }
    this.#patching = false;
    if (complete) this.#gathered = false;
    this.#trickle();
  }

  /** With keepalive the request outlives the page. */
  async #delete() {
    const { headers } = this.server;
    await fetch(this.#location, { method: "DELETE", headers, keepalive: true }).catch(() => {});
  }

  /** @param {string} why @param {(why: string) => void} resolve */
  #close(why, resolve) {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#statsTimer);
    this.#pc.onconnectionstatechange = null;
    // The server ends a viewer whose peer has gone: the DELETE must reach it first, or finds none.
    const deleted = this.#location ? this.#delete() : null;
    Promise.race([deleted, new Promise((settle) => setTimeout(settle, DELETE_MS))]).then(() => this.#pc.close());
    resolve(why);
  }

  getStats() {
    return this.#pc.getStats();
  }
}

/** OBS plays at once; other browsers may require a click before they play sound. @param {HTMLVideoElement} video */
function play(video) {
  const { muted } = video;
  video.play().catch((error) => {
    if (error?.name !== "NotAllowedError" || muted) return;
    video.muted = true;
    video.play().catch(() => {});
    addEventListener("pointerdown", () => (video.muted = false), { once: true });
  });
}

// the page ---------------------------------------------------------------------------------------------------------

/** @type {(text: string) => void} */
let report = () => {};

/** A pause that ends early when the network comes back. @param {number} ms @returns {Promise<void>} */
function pause(ms) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
  });
}

/** Views sessions, one after the other, for ever. @param {Settings} settings @param {HTMLElement} stage */
async function view(settings, stage) {
  const server = new Server(new URL(".", location.href).href, settings.token);
  const video = document.createElement("video");
  video.autoplay = video.playsInline = true;
  video.muted = settings.muted;
  const canvas = document.createElement("canvas");
  stage.append(video, canvas);
  const [shown, alpha] = settings.alpha ? [canvas, new AlphaCanvas(canvas)] : [video, null];
  let hideTimer = 0;
  /** @type {View | null} */ let current = null;
  addEventListener("pagehide", () => current?.end("the page was left"));
  for (let failures = 0; ;) {
    try {
      const id = await server.find(settings.session);
      if (id === null) {
        failures = 0;
        report(settings.session ? `session ${settings.session} is not live` : "no session is live");
        await pause(POLL_MS);
        continue;
      }
      const { ice_servers } = await server.json("v1/config");
      report(`session ${id}: connecting`);
      const onFrame = () => {
        clearTimeout(hideTimer);
        hideTimer = 0;
        if (alpha && !alpha.draw(video)) return;
        if (failures || !shown.classList.contains("shown")) report(`session ${id}: live`);
        failures = 0;
        shown.classList.add("shown");
      };
      current = new View(server, video, onFrame, ice_servers);
      Object.assign(globalThis, { view: current }); // for debugging
      await current.open(id, settings.alpha).catch((error) => {
        current?.end("refused");
        throw error;
      });
      const why = await current.ended;
      report(`session ${id}: ${why}`);
      failures++;
    } catch (error) {
      failures++;
      report(String(error));
    }
    current = null;
    hideTimer ||= setTimeout(() => shown.classList.remove("shown"), HIDE_MS);
    await pause(retryDelay(failures));
  }
}

/** Runs sessions with the microphone, for ever. @param {Settings} settings @param {HTMLElement} stage */
async function speak(settings, stage) {
  const stream = /** @type {LipStream} */ (document.createElement("lip-stream"));
  stream.alpha = settings.alpha;
  stream.hear = !settings.muted;
  stream.echoCancellation = settings.echoCancellation;
  if (settings.character) stream.character = settings.character;
  if (settings.size) stream.size = settings.size;
  if (settings.token) stream.token = settings.token;
  stage.append(stream);
  stream.addEventListener("error", ({ detail }) => report(detail.message));
  stream.addEventListener("warning", ({ detail }) => report(`${detail.reason}: ${detail.detail}`));
  stream.addEventListener("state", ({ detail }) => {
    if (detail.state !== "error") report(detail.state);
    stream.classList.toggle("shown", detail.state === "live");
  });
  for (let failures = 0; ;) {
    if (await stream.start()) {
      failures = 0;
      await ended(stream);
    }
    await pause(retryDelay(++failures));
  }
}

/** Resolves when a session has ended for good. @param {LipStream} stream @returns {Promise<void>} */
function ended(stream) {
  return new Promise((resolve) => {
    const check = () => {
      if (!["idle", "error"].includes(stream.state)) return;
      stream.removeEventListener("state", check);
      resolve();
    };
    stream.addEventListener("state", check);
    check();
  });
}

const stage = document.getElementById("stage");
if (stage) {
  const settings = settingsFromUrl(location.search, location.hash);
  const log = /** @type {HTMLElement} */ (document.getElementById("log"));
  log.hidden = !settings.debug;
  if (settings.debug) report = (text) => (log.textContent = `${new Date().toLocaleTimeString()} ${text}`);
  (settings.microphone ? speak : view)(settings, stage);
}
