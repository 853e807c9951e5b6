// @ts-check
/** The latency panel: percentiles, where the time goes, and each frame of the last minute. */

import { STAGES, micToPhoton } from "../element/lip-stream.js";
import { $ } from "./dom.js";

/** @typedef {import("../element/lip-stream.js").Stats} Stats */
/** @typedef {import("../element/lip-stream.js").FrameRecord} FrameRecord */

/** @type {Record<import("../element/lip-stream.js").Stage, [label: string, hint: string]>} */
const LABELS = {
  device: ["Microphone", "As the browser reports it; not measured"],
  uplink: ["Uplink", "Sound packet, network, jitter buffer, decoding"],
  lookahead: ["Look-ahead", "Sound that is heard before the lips move, so that they move in time"],
  wait: ["Wait", "Until the generator takes the frame up"],
  draw: ["Draw", "The frame itself"],
  encode: ["Encode", "Compressing the frame"],
  send: ["Send", "Handing the packets to the network"],
  network: ["Downlink", "From the server's socket to the browser"],
  display: ["Display", "Decoding, until the compositor has the frame"],
};
/** @type {Record<string, string>} */
const RENDERERS = {
  studio_rig: "studio rig",
  picture_rig: "picture rig",
  still: "still picture",
  neural: "neural generator",
};
const MINUTE = 60000;

const whole = (/** @type {number} */ value) => (Number.isFinite(value) ? String(Math.round(value)) : "–");
const tenth = (/** @type {number} */ value) => (Number.isFinite(value) ? value.toFixed(1) : "–");

export function createHud() {
  /** @type {FrameRecord[]} */ let frames = [];
  let shown = false;
  const rows = STAGES.map((stage) => {
    const [label, hint] = LABELS[stage];
    const bar = document.createElement("i");
    bar.className = `stage-${stage}`;
    $("stack").append(bar);
    const row = document.createElement("tr");
    row.title = hint;
    const name = document.createElement("th");
    name.scope = "row";
    const dot = document.createElement("i");
    dot.className = `stage-${stage}`;
    name.append(dot, label);
    const cells = ["p50", "p95", "p99"].map(() => document.createElement("td"));
    row.append(name, ...cells);
    $("stages").append(row);
    return { stage, row, bar, cells };
  });

  /** @param {Stats} stats */
  function update(stats) {
    $("pill-number").textContent = whole(stats.total.p50);
    if (!shown) return;
    $("latency-empty").hidden = stats.frames > 0;
    $("latency-empty").textContent = stats.untimed || "Waiting for the first timed frames…";
    $("latency").hidden = !stats.frames;
    if (!stats.frames) return;
    for (const share of /** @type {const} */ (["p50", "p95", "p99"])) $(share).textContent = whole(stats.total[share]);
    let told = "";
    for (const { stage, row, bar, cells } of rows) {
      const { p50, p95, p99 } = stats.stages[stage];
      bar.hidden = row.hidden = stage === "device" && p50 === 0;
      bar.style.flexGrow = String(Math.max(p50 || 0, 0.001));
      [p50, p95, p99].forEach((value, i) => (cells[i].textContent = tenth(value)));
      if (!row.hidden) told += `${LABELS[stage][0]} ${tenth(p50)} ms, `;
    }
    $("stack").setAttribute("aria-label", `Median by stage: ${told}${whole(stats.total.p50)} ms in all`);
    $("fps").textContent = `${tenth(stats.fps)} fps`;
    $("dropped").textContent = String(stats.dropped);
    $("frozen").textContent = stats.freezes ? `${stats.freezes}, ${whole(stats.freezeMs)} ms` : "0";
    $("rtt").textContent = `${tenth(stats.rtt)} ms`;
    $("first").textContent = `${whole(stats.firstFrameMs)} ms`;
    const device = stats.stages.device.p50;
    $("device-note").textContent = device
      ? `The browser reports ${tenth(device)} ms for this microphone, and they are counted.`
      : "The browser reports none for this source.";
    plot();
  }

  function plot() {
    const now = performance.now();
    frames = frames.filter((one) => one.presentationTime > now - MINUTE);
    const canvas = /** @type {HTMLCanvasElement} */ ($("plot"));
    const scale = Math.min(globalThis.devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== width * scale) [canvas.width, canvas.height] = [width * scale, height * scale];
    const context = canvas.getContext("2d");
    if (!context) return;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const times = frames.map(micToPhoton);
    const highest = times.reduce((top, one) => (one > top ? one : top), 0);
    const top = Math.max(100, Math.ceil((highest * 1.1) / 100) * 100);
    const [left, bottom] = [30, height - 4];
    const y = (/** @type {number} */ ms) => bottom - (ms / top) * (bottom - 10);
    const x = (/** @type {number} */ at) => width - ((now - at) / MINUTE) * (width - left);
    context.font = `11px ${style.fontFamily}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let ms = 0; ms <= top; ms += top / 2) {
      context.fillStyle = style.getPropertyValue("--line");
      context.fillRect(left, Math.round(y(ms)), width - left, 1);
      context.fillStyle = style.getPropertyValue("--ink-soft");
      context.fillText(String(ms), left - 7, y(ms) + (ms === 0 ? -3 : 0));
    }
    context.fillStyle = style.getPropertyValue("--accent");
    frames.forEach((frame, i) => {
      if (Number.isFinite(times[i])) context.fillRect(x(frame.presentationTime) - 0.75, y(times[i]) - 1, 1.5, 2);
    });
  }

  return {
    update,
    /** @param {FrameRecord} record */
    frame: (record) => {
      frames.push(record);
      if (frames.length > 3000) frames = frames.slice(-1500);
    },
    restart: () => {
      frames = [];
      $("pill-number").textContent = "–";
      $("latency").hidden = true;
      $("latency-empty").hidden = false;
      $("latency-empty").textContent = "Waiting for the first timed frames…";
    },
    /** @param {boolean} on */
    visible: (on) => (shown = on),
    /** @param {string} renderer */
    drawnBy: (renderer) => ($("drawn-by").textContent = RENDERERS[renderer] ?? (renderer || "–")),
    /** @param {string} text */
    voice: (text) => ($("vad").textContent = text),
  };
}
