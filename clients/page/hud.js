// @ts-check
/** The latency panel: percentiles in total and by stage, and each frame of the last minute. */

import { STAGES, micToPhoton } from "../element/lip-stream.js";
import { $ } from "./dom.js";

/** @typedef {import("../element/lip-stream.js").Stats} Stats */
/** @typedef {import("../element/lip-stream.js").FrameRecord} FrameRecord */

/** @type {Record<import("../element/lip-stream.js").Stage, [label: string, hint: string]>} */
const LABELS = {
  device: ["Microphone", "As reported by the browser; not measured"],
  uplink: ["Uplink", "Audio packets, network, jitter buffer, decoding"],
  lookahead: ["Look-ahead", "Future audio that the lips need to move in time"],
  wait: ["Wait", "Until the renderer starts the frame"],
  draw: ["Draw", "Rendering the frame"],
  encode: ["Encode", "Compressing the frame"],
  send: ["Send", "Sending the packets"],
  network: ["Downlink", "From the server's socket to the browser"],
  display: ["Display", "Decoding, until the frame is submitted to the compositor"],
};
/** @type {Record<string, string>} */
const RENDERERS = {
  studio_rig: "studio rig",
  picture_rig: "picture rig",
  still: "still picture",
  neural: "neural generator",
};
const MINUTE = 60000;
const UNREPORTED = "not reported by this browser";

/** @param {string} renderer */
export function rendererName(renderer) {
  const name = RENDERERS[renderer] ?? "renderer";
  return `The ${name}`;
}

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
    let summary = "";
    for (const { stage, row, bar, cells } of rows) {
      const { p50, p95, p99 } = stats.stages[stage];
      const reported = Number.isFinite(p50);
      row.hidden = stage === "device" && p50 === 0; // a stream of the page's own
      bar.hidden = row.hidden || !reported;
      bar.style.flexGrow = String(Math.max(p50 || 0, 0.001));
      [p50, p95, p99].forEach((value, i) => (cells[i].textContent = tenth(value)));
      cells[0].colSpan = reported ? 1 : cells.length;
      cells.slice(1).forEach((cell) => (cell.hidden = !reported));
      if (!reported) cells[0].textContent = UNREPORTED;
      cells[0].classList.toggle("unreported", !reported);
      if (!row.hidden) summary += `${LABELS[stage][0]} ${reported ? `${tenth(p50)} ms` : UNREPORTED}, `;
    }
    $("stack").setAttribute("aria-label", `Median by stage: ${summary}${whole(stats.total.p50)} ms in total`);
    $("fps").textContent = `${tenth(stats.fps)} fps`;
    $("dropped").textContent = whole(stats.dropped);
    $("frozen").textContent = stats.freezes ? `${stats.freezes}, ${whole(stats.freezeMs)} ms` : whole(stats.freezes);
    $("rtt").textContent = `${tenth(stats.rtt)} ms`;
    $("first").textContent = `${whole(stats.firstFrameMs)} ms`;
    $("device-note").textContent = deviceNote(stats.stages.device.p50);
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

/** @param {number} ms NaN where it is not reported; 0 where there is no microphone */
function deviceNote(ms) {
  if (ms > 0) return `The browser reports ${tenth(ms)} ms for this microphone, which are included.`;
  return ms === 0 ? "This source has none." : "This browser does not report it, so it is not included.";
}
