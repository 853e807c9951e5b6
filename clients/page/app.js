// @ts-check
/** The page: wires the controls to <lip-stream>. Each part of the panel has its own module. */

import "../element/lip-stream.js";
import { createBuilder } from "./builder.js";
import { TILE, createGallery } from "./gallery.js";
import { askedBy, keyLines } from "./hotkeys.js";
import { createHud } from "./hud.js";
import { SampleVoice } from "./sample.js";
import { createSteering } from "./steer.js";
import { createUploader } from "./upload.js";

/** @typedef {import("../element/lip-stream.js").LipStream} LipStream */

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);
const stream = /** @type {LipStream} */ ($("character"));
const sample = new SampleVoice(new URL("./sample.wav", import.meta.url));

const LIVE = new Set(["live", "reconnecting"]);
const STATUS = /** @type {Record<string, string>} */ ({
  idle: "Ready",
  microphone: "Waiting for the microphone",
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  error: "Not connected",
});
const WARNINGS = /** @type {Record<string, string>} */ ({
  silent_microphone: "No sound arrives. Is the microphone muted in the system?",
  clipping: "The microphone is too loud: turn it down a little.",
  overloaded: "The server cannot draw every frame in time; some are left out.",
});

// what is remembered from visit to visit -------------------------------------------------------------------------

const memory = {
  /** @param {string} key */
  get: (key) => {
    try {
      return localStorage.getItem(`lipstream.${key}`);
    } catch {
      return null; // storage may be forbidden
    }
  },
  /** @param {string} key @param {string} value */
  set: (key, value) => {
    try {
      localStorage.setItem(`lipstream.${key}`, value);
    } catch {
      // then it is not remembered
    }
  },
};

// messages -------------------------------------------------------------------------------------------------------

let toastTimer = 0;
/** @param {string} text */
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => ($("toast").hidden = true), 6000);
}

/** @param {any} error */
const toastError = (error) => toast(String(error?.message ?? error));

/** @param {{ reason: string, message: string }} error */
function showProblem({ reason, message }) {
  if (reason === "unauthorized") return askToken(true);
  $("problem-text").textContent = message;
  $("problem-sample").hidden = !reason.startsWith("microphone") && reason !== "insecure_context";
  $("problem").hidden = false;
}

const hideProblem = () => ($("problem").hidden = true);

// the stage ------------------------------------------------------------------------------------------------------

/** @returns {"microphone" | "sample"} */
const source = () => /** @type {any} */ (document.querySelector("input[name=source]:checked")).value;

async function start() {
  hideProblem();
  builder.close();
  try {
    if (source() === "sample") await stream.start(await sample.open());
    else await stream.start();
  } catch (error) {
    showProblem({
      reason: "sample",
      message: `The sample voice cannot be played: ${/** @type {any} */ (error).message}`,
    });
  }
}

function stop() {
  stream.stop();
  sample.close();
}

function render() {
  const { state } = stream;
  const busy = state === "microphone" || state === "connecting" || state === "reconnecting";
  const live = LIVE.has(state);
  document.body.classList.toggle("live", live);
  $("status").dataset.state = state;
  $("status-text").textContent = STATUS[state];
  $("busy").hidden = !busy;
  $("busy-text").textContent = state === "microphone" ? "Allow the microphone in your browser" : `${STATUS[state]}…`;
  $("deck-idle").hidden = live;
  $("deck-live").hidden = !live;
  $("start").disabled = busy;
  $("start-text").textContent = source() === "sample" ? "Start the sample voice" : "Start talking";
  $("start")
    .querySelector("use")
    .setAttribute("href", source() === "sample" ? "#i-wave" : "#i-mic");
  $("start-other").textContent =
    source() === "sample" ? "Speak yourself instead" : "No microphone at hand? Use the sample voice";
  $("latency-pill").hidden = !live;
  renderVoice();
  renderAway();
}

function renderVoice() {
  const { state, muted, speaking, away } = stream;
  const unheard = muted || away;
  $("frame").classList.toggle("speaking", state === "live" && speaking && !unheard);
  $("listening").hidden = state !== "live";
  $("listening").dataset.voice = unheard ? "muted" : speaking ? "speaking" : "quiet";
  $("listening-text").textContent = away ? "Away" : muted ? "Muted" : speaking ? "Speaking" : "Listening";
  hud.voice(unheard ? "muted" : speaking ? "speaking" : "quiet");
  $("mute").setAttribute("aria-pressed", String(muted));
  $("mute")
    .querySelector("use")
    .setAttribute("href", muted ? "#i-mic-off" : "#i-mic");
  $("mute").querySelector(".caption").textContent = muted ? "Unmute" : "Mute";
}

let toldLatency = false;
stream.addEventListener("state", ({ detail }) => {
  render();
  if (detail.state === "live") {
    hideProblem();
    listDevices();
    if (detail.previous === "connecting") hud.restart();
    if (!toldLatency && !builder.isOpen()) showTab("latency");
    toldLatency = true;
    if (document.activeElement === document.body || document.activeElement === $("start"))
      $("mute").focus({ preventScroll: true });
  }
  if (detail.state === "idle" || detail.state === "error") {
    sample.close();
    if (document.activeElement === document.body) $("start").focus({ preventScroll: true });
  }
});
stream.addEventListener("vad", renderVoice);
stream.addEventListener("stats", ({ detail }) => hud.update(detail));
stream.addEventListener("frame", ({ detail }) => hud.frame(detail));
stream.addEventListener("error", ({ detail }) => (detail.fatal ? showProblem(detail) : toast(detail.message)));
stream.addEventListener("warning", ({ detail }) => {
  if (detail.reason !== "trickle_failed") toast(WARNINGS[detail.reason] ?? detail.detail ?? detail.reason);
});

async function toggleMute() {
  await stream.mute(!stream.muted).catch(toastError);
  renderVoice();
}

/** @param {boolean} [away] */
async function toggleAway(away = !stream.away) {
  await stream.setAway(away).catch((error) => error?.reason === "overtaken" || toastError(error));
  render();
}

function renderAway() {
  $("away").setAttribute("aria-pressed", String(stream.away));
  $("away").querySelector(".caption").textContent = stream.away ? "Back" : "Away";
}

/** What a stream deck or a script has asked for is seen here, too. */
stream.addEventListener("control", ({ detail }) => {
  if (detail.type === "hello" || detail.type === "character") hud.drawnBy(stream.renderer);
  if (!detail.remote) return;
  if (detail.type === "character") {
    gallery.select(detail.id);
    showAmbience();
  }
  if (detail.type === "emotion") {
    const radio = /** @type {HTMLInputElement | null} */ (
      document.querySelector(`input[name=emotion][value="${CSS.escape(detail.name)}"]`)
    );
    if (radio) radio.checked = true;
  }
  renderVoice();
  renderAway();
});

function interrupt() {
  stream.interrupt().then(() => toast("Cut"), toastError);
}

let toldHear = false;
/** @param {boolean} on */
function setHear(on) {
  stream.hear = on;
  $("hear").setAttribute("aria-pressed", String(on));
  $("hear-switch").checked = on;
  if (on && !toldHear && source() === "microphone")
    toast("You hear your own voice come back. Wear headphones: on speakers it howls.");
  toldHear ||= on && source() === "microphone";
}

function toggleFullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else
    $("stage")
      .requestFullscreen?.()
      .catch(() => toast("This browser does not allow full screen here."));
}

$("start").onclick = start;
$("stop").onclick = stop;
$("mute").onclick = toggleMute;
$("interrupt").onclick = interrupt;
$("away").onclick = () => toggleAway();
$("hear").onclick = () => setHear(!stream.hear);
$("fullscreen").onclick = toggleFullscreen;
$("fullscreen").hidden = !document.fullscreenEnabled;
$("latency-pill").onclick = () => showTab("latency", true);
$("problem-retry").onclick = start;
$("problem-close").onclick = hideProblem;
$("problem-sample").onclick = () => {
  setSource("sample");
  start();
};
$("start-other").onclick = () => setSource(source() === "sample" ? "microphone" : "sample");

// emotions -------------------------------------------------------------------------------------------------------

/** @param {string[]} names */
function fillEmotions(names) {
  $("emotions").replaceChildren(
    ...names.map((name, i) => {
      const label = document.createElement("label");
      label.className = "emotion";
      const radio = Object.assign(document.createElement("input"), { type: "radio", name: "emotion", value: name });
      radio.checked = i === 0;
      radio.onchange = () => stream.setEmotion(name, 1).catch(toastError);
      const text = document.createElement("span");
      text.textContent = name.charAt(0).toUpperCase() + name.slice(1);
      label.title = `${text.textContent} (${i + 1})`;
      label.append(radio, icon(document.getElementById(`f-${name}`) ? `f-${name}` : "f-neutral"), text);
      return label;
    }),
  );
}

/** @param {string} id */
function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  svg.firstElementChild?.setAttribute("href", `#${id}`);
  return svg;
}

// the panel ------------------------------------------------------------------------------------------------------

const TABS = ["characters", "sound", "latency"];

/** @param {string} name @param {boolean} [scroll] where the panel lies below the stage */
function showTab(name, scroll = false) {
  for (const tab of TABS) {
    const chosen = tab === name;
    $(`tab-${tab}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${tab}`).tabIndex = chosen ? 0 : -1;
    $(`view-${tab}`).hidden = !chosen;
  }
  hud.visible(name === "latency");
  if (scroll) $("panel").scrollIntoView({ behavior: "smooth", block: "start" });
}

TABS.forEach((name, i) => {
  $(`tab-${name}`).onclick = () => showTab(name);
  $(`tab-${name}`).onkeydown = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = TABS[(i + step + TABS.length) % TABS.length];
    showTab(next);
    $(`tab-${next}`).focus();
  };
});

const hud = createHud();
const uploader = createUploader({
  stream,
  icon,
  onMade: (character) => {
    gallery.add(character);
    choose(character.id);
  },
});
const gallery = createGallery({ stream, icon, choose, onFiles: uploader.open });
const builder = createBuilder({
  stream,
  onOpen: () => ($("gallery-view").hidden = true),
  onClose: () => ($("gallery-view").hidden = false),
  onMade: (character) => {
    gallery.add(character);
    choose(character.id);
  },
});
$("open-builder").onclick = () => builder.open();
$("upload").onclick = () => uploader.open();

/** @param {string} id */
async function choose(id) {
  const before = stream.character;
  gallery.select(id);
  try {
    await stream.setCharacter(id);
    memory.set("character", id);
  } catch (error) {
    if (/** @type {any} */ (error)?.reason === "overtaken") return; // by a later choice
    gallery.select(before);
    toastError(error);
  }
  showAmbience();
}

function showAmbience() {
  if (stream.character) $("ambience").src = stream.pictureUrl(stream.character, TILE);
}
$("ambience").onload = () => ($("ambience").hidden = false);
$("ambience").onerror = () => ($("ambience").hidden = true);

// sound ----------------------------------------------------------------------------------------------------------

/** @param {"microphone" | "sample"} value */
function setSource(value) {
  /** @type {any} */ (document.querySelector(`input[name=source][value=${value}]`)).checked = true;
  changeSource();
}

async function changeSource() {
  const sampled = source() === "sample";
  $("device-field").hidden = $("echo-field").hidden = sampled;
  $("aloud-field").hidden = !sampled;
  render();
  if (!LIVE.has(stream.state)) return;
  try {
    await stream.setInput(sampled ? await sample.open() : undefined);
    if (!sampled) sample.close();
  } catch (error) {
    toastError(error);
  }
}

for (const radio of document.querySelectorAll("input[name=source]")) /** @type {any} */ (radio).onchange = changeSource;
$("aloud").onchange = () => (sample.aloud = $("aloud").checked);
$("hear-switch").onchange = () => setHear($("hear-switch").checked);
$("echo").onchange = () => {
  stream.echoCancellation = $("echo").checked;
  memory.set("echo", $("echo").checked ? "on" : "off");
};
$("device").onchange = () => (stream.microphone = $("device").value);
$("alpha").onchange = () => {
  stream.alpha = $("alpha").checked;
  memory.set("alpha", $("alpha").checked ? "on" : "off");
};
$("size").onchange = () => {
  stream.size = Number($("size").value);
  memory.set("size", $("size").value);
};

/** Names are known only once the microphone has been allowed. */
async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  const inputs = devices.filter(
    ({ kind, deviceId, label }) => kind === "audioinput" && label && deviceId !== "default",
  );
  if (!inputs.length) return;
  const chosen = $("device").value;
  $("device").replaceChildren(
    new Option("The system's default", ""),
    ...inputs.map(({ deviceId, label }) => new Option(label, deviceId, false, deviceId === chosen)),
  );
}
navigator.mediaDevices?.addEventListener?.("devicechange", listDevices);

// keys and gamepad -----------------------------------------------------------------------------------------------

const steering = createSteering({
  stream,
  onPad: (connected) => {
    $("steer-keys").hidden = connected;
    $("steer-pad").hidden = !connected;
  },
});

/** @type {string[]} */ let gestures = [];

/** @param {NonNullable<ReturnType<typeof askedBy>>} asked */
function act(asked) {
  if ("gesture" in asked) stream.gesture(asked.gesture).catch(toastError);
  else if ("away" in asked) toggleAway();
  else {
    const radios = /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("input[name=character]"));
    radios[asked.character]?.click();
  }
}

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.closest("select, textarea, input:not([type=radio], [type=checkbox], [type=range])");
  if (event.ctrlKey || event.metaKey || event.altKey || typing || document.querySelector("dialog[open]")) return;
  if (steering.press(event)) return;
  const live = LIVE.has(stream.state);
  const asked = live ? askedBy(event, gestures) : null;
  if (asked) return act(asked);
  const emotion = /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("input[name=emotion]"))[
    Number(event.key) - 1
  ];
  const actions = /** @type {Record<string, () => void>} */ ({
    s: () => (["idle", "error"].includes(stream.state) ? start() : stop()),
    m: () => live && toggleMute(),
    i: () => live && interrupt(),
    h: () => setHear(!stream.hear),
    f: toggleFullscreen,
    l: () => showTab("latency", true),
    "?": () => $("shortcuts").showModal(),
  });
  if (live && emotion) emotion.click();
  else actions[event.key.toLowerCase()]?.();
});
$("open-shortcuts").onclick = $("steer-more").onclick = () => $("shortcuts").showModal();
for (const dialog of document.querySelectorAll("dialog#shortcuts"))
  dialog.addEventListener(
    "click",
    (event) => event.target === dialog && /** @type {HTMLDialogElement} */ (dialog).close(),
  );

// start-up -------------------------------------------------------------------------------------------------------

/** @param {boolean} wrong */
function askToken(wrong = false) {
  $("token-problem").hidden = !wrong || !stream.token;
  if (!$("token-dialog").open) $("token-dialog").showModal();
}
$("token-form").onsubmit = () => {
  stream.token = $("token").value;
  sessionStorage.setItem("lipstream.token", stream.token);
  open();
};

/** `#token=…` in the address, so that a link can carry it without it reaching a server's log. */
function tokenFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  try {
    if (given) sessionStorage.setItem("lipstream.token", given);
    return given ?? sessionStorage.getItem("lipstream.token");
  } catch {
    return given;
  }
}

/** `?voice=speech`: a bot is the voice, which is to be heard, and the microphone is for the bot. */
function voiceFromAddress() {
  if (new URLSearchParams(location.search).get("voice") !== "speech") return;
  stream.setAttribute("voice", "speech");
  stream.hear = true;
  $("hear").setAttribute("aria-pressed", "true");
  $("hear-switch").checked = true;
}

async function open() {
  try {
    const config = await stream.config();
    const known = await gallery.known();
    const remembered = memory.get("character");
    const first =
      known.find(({ id }) => id === remembered) ?? known.find(({ id }) => id === config.default_character) ?? known[0];
    const size = config.sizes.includes(Number(memory.get("size"))) ? Number(memory.get("size")) : 0;
    $("size").replaceChildren(
      new Option("Automatic", "0", false, size === 0),
      ...config.sizes.map((one) => new Option(`${one} × ${one}`, String(one), false, one === size)),
    );
    stream.size = size;
    uploader.limit(config);
    fillEmotions(config.emotions);
    steering.limit(config.plan);
    gestures = Object.keys(config.gestures);
    $("gesture-keys").replaceChildren(...keyLines(gestures));
    hideProblem();
    if (first) stream.character = first.id; // its picture is asked for before the gallery's
    gallery.fill(known);
    if (first) await choose(first.id);
  } catch (error) {
    showProblem(/** @type {any} */ (error));
  }
}

const token = tokenFromAddress();
if (token) stream.token = token;
voiceFromAddress();
if (memory.get("alpha") === "on") $("alpha").checked = stream.alpha = true;
if (memory.get("echo") === "off") $("echo").checked = stream.echoCancellation = false;
$("problem-retry").onclick = () => ($("gallery").childElementCount ? start() : open());
render();
changeSource();
listDevices();
open();
