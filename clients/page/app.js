// @ts-check
/** The page: connects its controls with <lip-stream>. Each part of the panel has its own module. */

import "../element/lip-stream.js";
import { createBuilder } from "./builder.js";
import { $, icon } from "./dom.js";
import { fillEmotions, markEmotion } from "./emotions.js";
import { TILE, createGallery } from "./gallery.js";
import { keyLines } from "./hotkeys.js";
import { createHud, rendererName } from "./hud.js";
import { createKeyboard } from "./keyboard.js";
import { hideProblem, showProblem, toast, toastError } from "./messages.js";
import { settings } from "./settings.js";
import { createSound } from "./sound.js";
import { createSteering } from "./steer.js";
import { createTabs } from "./tabs.js";
import { askToken, knownToken, onToken } from "./token.js";
import { createUploader } from "./upload.js";

/** @typedef {import("../element/lip-stream.js").LipStream} LipStream */

const stream = /** @type {LipStream} */ ($("character"));

const LIVE = new Set(["live", "reconnecting"]);
const isLive = () => LIVE.has(stream.state);
const STATUS = /** @type {Record<string, string>} */ ({
  idle: "Ready",
  microphone: "Waiting for the microphone",
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  error: "Not connected",
});
const WARNINGS = /** @type {Record<string, string>} */ ({
  silent_microphone: "No sound arrives. Is the microphone muted in the system settings?",
  clipping: "The microphone is too loud: turn it down a little.",
  overloaded: "The server cannot draw every frame in time; some are skipped.",
});

// the panel ------------------------------------------------------------------------------------------------------

const hud = createHud();
const tabs = createTabs((name) => hud.visible(name === "latency"));
const sound = createSound({ stream, isLive, onChange: render });
/** @param {{ id: string, name: string, kind: string, picture: string, face: boolean }} character */
const onMade = (character) => {
  gallery.add(character);
  choose(character.id);
};
const uploader = createUploader({ stream, onMade });
const gallery = createGallery({ stream, choose, onFiles: uploader.open });
const builder = createBuilder({
  stream,
  onOpen: () => ($("gallery-view").hidden = true),
  onClose: () => ($("gallery-view").hidden = false),
  onMade,
});
$("open-builder").onclick = () => builder.open();
$("upload").onclick = () => uploader.open();

/** @param {string} id */
async function choose(id) {
  const before = stream.character;
  gallery.select(id);
  try {
    await stream.setCharacter(id);
    settings.set("character", id);
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

// the stage ------------------------------------------------------------------------------------------------------

/** @type {Promise<void> | null} */ let starting = null;

/** A second call while the first is in progress joins it. */
function start() {
  starting ??= openAndStart().finally(() => (starting = null));
}

async function openAndStart() {
  hideProblem();
  builder.close();
  try {
    await stream.start(await sound.open());
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    showProblem({ reason: "sample", message: `The sample voice cannot be played: ${message}` });
  }
}

function stop() {
  stream.stop();
  sound.close();
}

function render() {
  const { state } = stream;
  const sampled = sound.source() === "sample";
  const busy = state === "microphone" || state === "connecting" || state === "reconnecting";
  document.body.classList.toggle("live", isLive());
  $("status").dataset.state = state;
  $("status-text").textContent = STATUS[state];
  $("busy").hidden = !busy;
  $("busy-text").textContent = state === "microphone" ? "Allow the microphone in your browser" : `${STATUS[state]}…`;
  $("deck-idle").hidden = isLive();
  $("deck-live").hidden = !isLive();
  $("start").disabled = busy;
  $("start-text").textContent = sampled ? "Start the sample voice" : "Start talking";
  setIcon($("start"), sampled ? "i-wave" : "i-mic");
  $("start-other").textContent = sampled ? "Speak yourself instead" : "No microphone at hand? Use the sample voice";
  $("latency-pill").hidden = !isLive();
  renderVoice();
  renderAway();
}

function renderVoice() {
  const { state, muted, speaking, away } = stream;
  const voice = muted || away ? "muted" : speaking ? "speaking" : "quiet";
  $("frame").classList.toggle("speaking", state === "live" && voice === "speaking");
  $("listening").hidden = state !== "live";
  $("listening").dataset.voice = voice;
  $("listening-text").textContent = away ? "Away" : muted ? "Muted" : speaking ? "Speaking" : "Listening";
  hud.voice(voice);
  $("mute").setAttribute("aria-pressed", String(muted));
  setIcon($("mute"), muted ? "i-mic-off" : "i-mic");
  $("mute").querySelector(".caption").textContent = muted ? "Unmute" : "Mute";
}

function renderAway() {
  $("away").setAttribute("aria-pressed", String(stream.away));
  $("away").querySelector(".caption").textContent = stream.away ? "Back" : "Away";
}

/** @param {HTMLElement} button @param {string} id */
const setIcon = (button, id) => button.querySelector("use")?.setAttribute("href", `#${id}`);

async function toggleMute() {
  await stream.mute(!stream.muted).catch(toastError);
  renderVoice();
}

async function toggleAway() {
  await stream.setAway(!stream.away).catch((error) => error?.reason === "overtaken" || toastError(error));
  render();
}

function interrupt() {
  stream.interrupt().then(() => toast("Interrupted"), toastError);
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
$("away").onclick = toggleAway;
$("fullscreen").onclick = toggleFullscreen;
$("fullscreen").hidden = !document.fullscreenEnabled;
$("latency-pill").onclick = () => tabs.show("latency", true);
$("problem-retry").onclick = () => ($("gallery").childElementCount ? start() : open());
$("problem-close").onclick = hideProblem;
$("problem-sample").onclick = () => {
  sound.setSource("sample");
  start();
};
$("start-other").onclick = () => sound.setSource(sound.source() === "sample" ? "microphone" : "sample");

// what the element reports ---------------------------------------------------------------------------------------

let latencyShown = false;
stream.addEventListener("state", ({ detail }) => {
  render();
  if (detail.state === "live") {
    hideProblem();
    sound.listDevices();
    if (detail.previous === "connecting") hud.restart();
    if (!latencyShown && !builder.isOpen()) tabs.show("latency");
    latencyShown = true;
    if (document.activeElement === document.body || document.activeElement === $("start"))
      $("mute").focus({ preventScroll: true });
  }
  if (detail.state === "idle" || detail.state === "error") {
    sound.close();
    if (document.activeElement === document.body) $("start").focus({ preventScroll: true });
  }
});
stream.addEventListener("vad", renderVoice);
stream.addEventListener("stats", ({ detail }) => hud.update(detail));
stream.addEventListener("frame", ({ detail }) => hud.frame(detail));
stream.addEventListener("error", ({ detail }) => (detail.fatal ? onProblem(detail) : toast(detail.message)));
stream.addEventListener("warning", ({ detail }) => {
  if (detail.reason !== "trickle_failed") toast(WARNINGS[detail.reason] ?? detail.detail ?? detail.reason);
});
stream.addEventListener("control", ({ detail }) => {
  if (detail.type === "hello" || detail.type === "character") hud.drawnBy(stream.renderer);
  if (detail.type === "gesture" && detail.drawn === false)
    toast(`${rendererName(stream.renderer)} cannot draw the gesture “${detail.name}”.`);
  if (!detail.remote) return;
  // requested by a stream deck or a script
  if (detail.type === "character") {
    gallery.select(detail.id);
    showAmbience();
  }
  if (detail.type === "emotion") markEmotion(detail.name);
  renderVoice();
  renderAway();
});

/** @param {{ reason: string, message: string }} error */
function onProblem(error) {
  if (error.reason === "unauthorized") askToken(Boolean(stream.token));
  else showProblem(error);
}

// keys and gamepad -----------------------------------------------------------------------------------------------

const steering = createSteering({
  stream,
  onPad: (connected) => {
    $("steer-keys").hidden = connected;
    $("steer-pad").hidden = !connected;
  },
});

/** @type {string[]} */ let gestures = [];

createKeyboard({
  press: steering.press,
  isLive,
  gestures: () => gestures,
  onCommand: (command) => {
    if ("gesture" in command) stream.gesture(command.gesture).catch(toastError);
    else if ("away" in command) toggleAway();
    else gallery.click(command.character);
  },
  actions: {
    s: () => (["idle", "error"].includes(stream.state) ? start() : stop()),
    m: () => isLive() && toggleMute(),
    i: () => isLive() && interrupt(),
    h: () => sound.setHear(!stream.hear),
    f: toggleFullscreen,
    l: () => tabs.show("latency", true),
  },
});

// start-up -------------------------------------------------------------------------------------------------------

async function open() {
  try {
    const config = await stream.config();
    const known = await gallery.known();
    const kept = settings.get("character");
    const first =
      known.find(({ id }) => id === kept) ?? known.find(({ id }) => id === config.default_character) ?? known[0];
    sound.fillSizes(config.sizes);
    uploader.limit(config);
    fillEmotions(config.emotions, (name) => stream.setEmotion(name, 1).catch(toastError));
    steering.limit(config.plan);
    gestures = Object.keys(config.gestures);
    $("gesture-keys").replaceChildren(...keyLines(gestures));
    hideProblem();
    if (first) stream.character = first.id; // its picture is loaded before the gallery's
    gallery.fill(known);
    if (first) await choose(first.id);
  } catch (error) {
    onProblem(/** @type {any} */ (error));
  }
}

onToken((token) => {
  stream.token = token;
  open();
});
const token = knownToken();
if (token) stream.token = token;
render();
sound.changeSource();
sound.listDevices();
open();
