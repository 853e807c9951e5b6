// @ts-check
/**
 * A browser source for OBS: the character and nothing else, on transparent ground, with its sound. It views a session
 * (WHEP), or opens the microphone itself, and begins again by itself whatever happens. All settings are in the address.
 */

import { AlphaCanvas, trickleFragment } from "../element/lip-stream.js";

/** @typedef {import("../element/lip-stream.js").LipStream} LipStream */
/** @typedef {ReturnType<typeof settingsOf>} Settings */

const LOOK_MS = 1500; // between looks for a session where there is none
const RETRY_MS = [300, 1000, 2000, 4000, 8000, 15000]; // after so many failures in a row; the last one from then on
const CONNECT_MS = 10000;
const STILL_MS = 2500; // packets come every 40 ms: after so long without one the session is gone
const LOOK_IN_MS = 500;
const VEIL_MS = 1500; // for so long the last picture stays where the connection was lost

/**
 * What an address asks for.
 * @param {string} search @param {string} hash
 */
export function settingsOf(search, hash) {
  const query = new URLSearchParams(search);
  const on = (/** @type {string} */ name, /** @type {boolean} */ usual) =>
    query.has(name) ? !["0", "off", "false", "no"].includes(query.get(name) ?? "") : usual;
  return {
    /** null: the newest that is live */
    session: query.get("session") || null,
    microphone: query.get("source") === "microphone",
    alpha: on("alpha", true),
    muted: on("muted", false),
    debug: on("debug", false),
    /** Of a session that this page makes itself. */
    character: query.get("character") ?? "",
    size: Number(query.get("size")) || 0,
    echoCancellation: on("echo", false),
    token: new URLSearchParams(hash.slice(1)).get("token") ?? "",
  };
}

/** How long to wait after so many failures in a row; not for all pages at once. @param {number} failures */
export function waitAfter(failures, chance = Math.random()) {
  return RETRY_MS[Math.min(Math.max(failures, 1), RETRY_MS.length) - 1] * (0.8 + 0.4 * chance);
}

/**
 * Less of the playout-delay extension: without it the browser keeps sound and picture together by itself, which for
 * people who look on matters more than the last milliseconds.
 * @param {string} sdp
 */
export function inStep(sdp) {
  return sdp.replace(/^a=extmap:\d+ \S*playout-delay\S*\r?\n/gm, "");
}

// where sessions come from -----------------------------------------------------------------------------------------

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

  /** The newest session that is live, or the one that is wanted. @param {string | null} wanted */
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

/** One view of one session, from its beginning to its end, whoever ends it. */
class View {
  /** @type {RTCPeerConnection} */ #pc;
  /** @type {{ candidate: string, sdpMid: string | null }[]} */ #candidates = [];
  #location = "";
  #etag = "";
  #patching = false;
  #gathered = false;
  #over = false;
  #packets = 0;
  #heard = performance.now();
  #limit = CONNECT_MS;
  #watch = 0;

  /** @param {Server} server @param {HTMLVideoElement} video @param {() => void} onFrame @param {RTCIceServer[]} ice */
  constructor(server, video, onFrame, ice) {
    this.server = server;
    this.video = video;
    this.onFrame = onFrame;
    /** Resolves with why the view is over. @type {Promise<string>} */
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
    this.#frames();
    this.#watch = setInterval(() => this.#listen(), LOOK_IN_MS);
  }

  /** @param {string} id @param {boolean} alpha */
  async open(id, alpha) {
    const pc = this.#pc;
    const offer = await pc.createOffer();
    await pc.setLocalDescription({ type: "offer", sdp: inStep(offer.sdp ?? "") });
    const query = alpha ? "?alpha=packed" : "";
    const response = await this.server.fetch(`v1/sessions/${encodeURIComponent(id)}/whep${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: pc.localDescription?.sdp,
    });
    this.#location = new URL(response.headers.get("Location") ?? "", response.url).href;
    this.#etag = response.headers.get("ETag") ?? "";
    const answer = await response.text();
    if (this.#over) return this.#delete();
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    this.#trickle();
  }

  #frames() {
    const next = () => {
      if (this.#over) return;
      this.video.requestVideoFrameCallback(next);
      this.onFrame();
    };
    this.video.requestVideoFrameCallback(next);
  }

  /** Packets, not shown frames, say that a session lives: a source that is hidden in OBS shows none. */
  async #listen() {
    let packets = 0;
    for (const one of (await this.#pc.getStats()).values())
      if (one.type === "inbound-rtp" && one.kind === "video") packets += one.packetsReceived;
    const now = performance.now();
    if (packets > this.#packets) [this.#packets, this.#heard, this.#limit] = [packets, now, STILL_MS];
    if (now - this.#heard > this.#limit) this.end("no picture comes");
  }

  async #trickle() {
    if (!this.#location || this.#over || this.#patching || (!this.#candidates.length && !this.#gathered)) return;
    const [candidates, complete] = [this.#candidates.splice(0), this.#gathered];
    this.#patching = true;
    try {
      await this.server.fetch(this.#location, {
        method: "PATCH",
        headers: { "Content-Type": "application/trickle-ice-sdpfrag", ...(this.#etag && { "If-Match": this.#etag }) },
        body: trickleFragment(this.#pc.localDescription?.sdp ?? "", candidates, complete),
      });
    } catch (error) {
      say(`candidates were not taken: ${error}`); // ICE may have all it needs; if not, no picture comes
    }
    this.#patching = false;
    if (complete) this.#gathered = false;
    this.#trickle();
  }

  #delete() {
    const { headers } = this.server;
    fetch(this.#location, { method: "DELETE", headers, keepalive: true }).catch(() => {}); // keepalive outlives the page
  }

  /** @param {string} why @param {(why: string) => void} resolve */
  #close(why, resolve) {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#watch);
    this.#pc.onconnectionstatechange = null;
    this.#pc.close();
    if (this.#location) this.#delete();
    resolve(why);
  }

  getStats() {
    return this.#pc.getStats();
  }
}

/** OBS plays at once; other browsers may want a click before there is sound. @param {HTMLVideoElement} video */
function play(video) {
  const wanted = video.muted;
  video.play().catch((error) => {
    if (error?.name !== "NotAllowedError" || wanted) return;
    video.muted = true;
    video.play().catch(() => {});
    addEventListener("pointerdown", () => (video.muted = false), { once: true });
  });
}

// the page ---------------------------------------------------------------------------------------------------------

/** @type {(text: string) => void} */
let say = () => {};

/** A pause that ends sooner when the network comes back. @param {number} ms @returns {Promise<void>} */
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

/** Views sessions, one after the other, without end. @param {Settings} settings @param {HTMLElement} stage */
async function view(settings, stage) {
  const server = new Server(new URL(".", location.href).href, settings.token);
  const video = document.createElement("video");
  video.autoplay = video.playsInline = true;
  video.muted = settings.muted;
  const canvas = document.createElement("canvas");
  stage.append(video, canvas);
  const [shown, alpha] = settings.alpha ? [canvas, new AlphaCanvas(canvas)] : [video, null];
  let veil = 0;
  /** @type {View | null} */ let current = null;
  addEventListener("pagehide", () => current?.end("the page is left"));
  for (let failures = 0; ;) {
    try {
      const id = await server.find(settings.session);
      if (id === null) {
        failures = 0;
        say(settings.session ? `session ${settings.session} is not live` : "no session is live");
        await pause(LOOK_MS);
        continue;
      }
      const { ice_servers } = await server.json("v1/config");
      say(`session ${id}: connecting`);
      const onFrame = () => {
        clearTimeout(veil);
        veil = 0;
        if (alpha && !alpha.draw(video)) return;
        if (failures || !shown.classList.contains("shown")) say(`session ${id}: live`);
        failures = 0;
        shown.classList.add("shown");
      };
      current = new View(server, video, onFrame, ice_servers);
      Object.assign(globalThis, { view: current }); // for whoever looks in with the developer tools
      await current.open(id, settings.alpha).catch((error) => {
        current?.end("refused");
        throw error;
      });
      const why = await current.ended;
      say(`session ${id}: ${why}`);
      failures++;
    } catch (error) {
      failures++;
      say(String(error));
    }
    current = null;
    veil ||= setTimeout(() => shown.classList.remove("shown"), VEIL_MS);
    await pause(waitAfter(failures));
  }
}

/** Speaks with its own microphone, without end. @param {Settings} settings @param {HTMLElement} stage */
async function speak(settings, stage) {
  const stream = /** @type {LipStream} */ (document.createElement("lip-stream"));
  stream.alpha = settings.alpha;
  stream.hear = !settings.muted;
  stream.echoCancellation = settings.echoCancellation;
  if (settings.character) stream.character = settings.character;
  if (settings.size) stream.size = settings.size;
  if (settings.token) stream.token = settings.token;
  stage.append(stream);
  stream.addEventListener("error", ({ detail }) => say(detail.message));
  stream.addEventListener("warning", ({ detail }) => say(`${detail.reason}: ${detail.detail}`));
  stream.addEventListener("state", ({ detail }) => {
    if (detail.state !== "error") say(detail.state);
    stream.classList.toggle("shown", detail.state === "live");
  });
  for (let failures = 0; ;) {
    if (await stream.start()) {
      failures = 0;
      await over(stream);
    }
    await pause(waitAfter(++failures));
  }
}

/** Resolves when a session is over and the component has given up. @param {LipStream} stream @returns {Promise<void>} */
function over(stream) {
  return new Promise((resolve) => {
    const look = () => {
      if (!["idle", "error"].includes(stream.state)) return;
      stream.removeEventListener("state", look);
      resolve();
    };
    stream.addEventListener("state", look);
    look();
  });
}

const stage = document.getElementById("stage");
if (stage) {
  const settings = settingsOf(location.search, location.hash);
  const said = /** @type {HTMLElement} */ (document.getElementById("said"));
  said.hidden = !settings.debug;
  if (settings.debug) say = (text) => (said.textContent = `${new Date().toLocaleTimeString()} ${text}`);
  (settings.microphone ? speak : view)(settings, stage);
}
