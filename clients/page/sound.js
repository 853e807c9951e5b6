// @ts-check
/** The sound panel: the source of the voice, playback, and the options of the next session. */

import { $ } from "./dom.js";
import { toast, toastError } from "./messages.js";
import { SampleVoice } from "./sample.js";
import { settings } from "./settings.js";

/** @typedef {import("../element/lip-stream.js").LipStream} LipStream */

/** @param {{ stream: LipStream, isLive: () => boolean, onChange: () => void }} options */
export function createSound({ stream, isLive, onChange }) {
  const sample = new SampleVoice(new URL("./sample.wav", import.meta.url));
  let warnedOfFeedback = false;

  /** @returns {"microphone" | "sample"} */
  const source = () => /** @type {any} */ (document.querySelector("input[name=source]:checked")).value;

  async function changeSource() {
    const sampled = source() === "sample";
    $("device-field").hidden = $("echo-field").hidden = sampled;
    $("aloud-field").hidden = !sampled;
    onChange();
    if (!isLive()) return;
    try {
      await stream.setInput(sampled ? await sample.open() : undefined);
      if (!sampled) sample.close();
    } catch (error) {
      toastError(error);
    }
  }

  /** Device names are known only once the microphone has been allowed. */
  async function listDevices() {
    const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
    const inputs = devices.filter(
      ({ kind, deviceId, label }) => kind === "audioinput" && label && deviceId !== "default",
    );
    if (!inputs.length) return;
    const chosen = $("device").value;
    $("device").replaceChildren(
      new Option("System default", ""),
      ...inputs.map(({ deviceId, label }) => new Option(label, deviceId, false, deviceId === chosen)),
    );
  }

  /** @param {boolean} on */
  function setHear(on) {
    stream.hear = on;
    $("hear").setAttribute("aria-pressed", String(on));
    $("hear-switch").checked = on;
    if (!on || warnedOfFeedback || source() !== "microphone") return;
    toast("You now hear your own voice. Wear headphones: speakers cause feedback.");
    warnedOfFeedback = true;
  }

  /** `?voice=speech`: the character speaks with a bot's voice, which is played; the microphone is for the bot. */
  function applyAddress() {
    if (new URLSearchParams(location.search).get("voice") !== "speech") return;
    stream.setAttribute("voice", "speech");
    stream.hear = true;
    $("hear").setAttribute("aria-pressed", "true");
    $("hear-switch").checked = true;
  }

  for (const radio of document.querySelectorAll("input[name=source]"))
    /** @type {any} */ (radio).onchange = changeSource;
  $("aloud").onchange = () => (sample.aloud = $("aloud").checked);
  $("hear-switch").onchange = () => setHear($("hear-switch").checked);
  $("hear").onclick = () => setHear(!stream.hear);
  $("echo").onchange = () => {
    stream.echoCancellation = $("echo").checked;
    settings.set("echo", $("echo").checked ? "on" : "off");
  };
  $("device").onchange = () => (stream.microphone = $("device").value);
  $("alpha").onchange = () => {
    stream.alpha = $("alpha").checked;
    settings.set("alpha", $("alpha").checked ? "on" : "off");
  };
  $("size").onchange = () => {
    stream.size = Number($("size").value);
    settings.set("size", $("size").value);
  };
  navigator.mediaDevices?.addEventListener?.("devicechange", listDevices);
  $("obs-path").textContent = new URL("obs", document.baseURI).pathname;
  if (settings.get("alpha") === "on") $("alpha").checked = stream.alpha = true;
  if (settings.get("echo") === "off") $("echo").checked = stream.echoCancellation = false;
  applyAddress();

  return {
    source,
    changeSource,
    listDevices,
    setHear,
    /** The stream to start with; undefined: the microphone. @returns {Promise<MediaStream | undefined>} */
    open: async () => (source() === "sample" ? sample.open() : undefined),
    close: () => sample.close(),
    /** @param {"microphone" | "sample"} value */
    setSource(value) {
      /** @type {any} */ (document.querySelector(`input[name=source][value=${value}]`)).checked = true;
      changeSource();
    },
    /** Fills the list of sizes, and takes the one that was kept. @param {number[]} sizes the server's */
    fillSizes(sizes) {
      const kept = Number(settings.get("size"));
      const size = sizes.includes(kept) ? kept : 0;
      $("size").replaceChildren(
        new Option("Automatic", "0", false, size === 0),
        ...sizes.map((one) => new Option(`${one} × ${one}`, String(one), false, one === size)),
      );
      stream.size = size;
    },
  };
}
