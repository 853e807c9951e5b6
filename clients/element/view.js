// @ts-check
/** What is seen: the character's picture until the first frame, then the video, or with alpha the canvas made of it. */

import { AlphaCanvas } from "./alpha-canvas.js";
import { stampedFrame } from "./protocol.js";

const STYLE = `
  :host { display: inline-block; position: relative; overflow: hidden; width: 256px; aspect-ratio: 1; }
  :host([hidden]) { display: none; }
  img, video, canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
  img, video, canvas { object-fit: contain; border-radius: inherit; }
  video, canvas { opacity: 0; transition: opacity 200ms ease-out; }
  video.shown, canvas.shown { opacity: 1; }
  canvas { pointer-events: none; }
  img[hidden] { display: none; }
  slot { position: relative; }
  @media (prefers-reduced-motion: reduce) { video, canvas { transition: none; } }
`;
const STAMP_CELLS = 32;

/**
 * @typedef {{
 *   onFrame: (metadata: any) => void, onPlaying: () => void, onWarning: (reason: string, detail: string) => void,
 * }} ViewOptions onFrame: called with each displayed frame's VideoFrameCallbackMetadata; onPlaying: called at the first
 * frame in browsers that do not report frames
 */
export class View {
  /** The video is two halves, colour and alpha. Set it before `show`. */
  packed = false;
  /** @type {HTMLVideoElement} */ #video;
  /** @type {HTMLImageElement} */ #picture;
  /** @type {HTMLCanvasElement} */ #canvas;
  /** @type {AlphaCanvas | null} */ #alpha = null;
  /** @type {CanvasRenderingContext2D | null} */ #stampContext = null;
  /** Numbers that the browser gave the first and the last frame of this stream, and how many were reported. */
  #presented = { first: 0, last: 0, reported: 0 };

  /** @param {ShadowRoot} root @param {ViewOptions} options */
  constructor(root, options) {
    this.options = options;
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    this.#picture = document.createElement("img");
    this.#picture.part.add("picture");
    this.#picture.alt = "";
    this.#picture.hidden = true;
    this.#picture.onload = () => (this.#picture.hidden = false);
    this.#picture.onerror = () => (this.#picture.hidden = true);
    this.#video = document.createElement("video");
    this.#video.part.add("video");
    this.#video.autoplay = this.#video.playsInline = this.#video.muted = true;
    this.#video.disablePictureInPicture = false;
    this.#video.setAttribute("aria-label", "The character, live");
    this.#canvas = document.createElement("canvas");
    this.#canvas.part.add("canvas");
    this.#canvas.setAttribute("aria-hidden", "true"); // the video carries the name
    root.append(this.#picture, this.#video, this.#canvas, document.createElement("slot"));
    this.#watchFrames();
  }

  /** Frames that the browser displayed without reporting them. */
  get missed() {
    const { first, last, reported } = this.#presented;
    return reported ? last - first + 1 - reported : 0;
  }

  /** Frames of this stream that the browser reported. */
  get reported() {
    return this.#presented.reported;
  }

  /** @param {string} url */
  showPicture(url) {
    if (this.#picture.src !== url) this.#picture.src = url;
  }

  /** Plays a stream, invisible until `setVisible`. @param {MediaStream} stream @param {boolean} muted */
  show(stream, muted) {
    if (this.#video.srcObject === stream) return;
    this.#presented = { first: 0, last: 0, reported: 0 };
    this.#video.srcObject = stream;
    this.setMuted(muted);
    if (!("requestVideoFrameCallback" in this.#video)) this.#pollFrames(stream);
  }

  clear() {
    this.#video.srcObject = null;
    this.setVisible(false);
  }

  /** @param {boolean} muted */
  setMuted(muted) {
    this.#video.muted = muted;
    if (!this.#video.srcObject) return;
    this.#video.play().catch((error) => {
      if (error?.name !== "NotAllowedError" || this.#video.muted) return;
      this.options.onWarning("autoplay_blocked", "The browser plays sound only after a click on the page.");
      this.#video.muted = true;
      this.#video.play().catch(() => {});
    });
  }

  /** Shows the live video rather than the picture. @param {boolean} visible */
  setVisible(visible) {
    this.#video.classList.toggle("shown", visible && !this.packed);
    this.#canvas.classList.toggle("shown", visible && this.packed);
    this.#picture.style.visibility = visible && this.packed ? "hidden" : ""; // it would show through the canvas
  }

  #watchFrames() {
    if (!("requestVideoFrameCallback" in this.#video)) return;
    const next = (/** @type {number} */ _now, /** @type {any} */ metadata) => {
      this.#video.requestVideoFrameCallback(next);
      if (!this.#video.srcObject) return;
      this.#compose();
      const count = this.#presented;
      if (!count.reported) count.first = metadata.presentedFrames;
      count.last = metadata.presentedFrames;
      count.reported++;
      this.options.onFrame(metadata);
    };
    this.#video.requestVideoFrameCallback(next);
  }

  /** For browsers without requestVideoFrameCallback. @param {MediaStream} stream */
  #pollFrames(stream) {
    const video = this.#video;
    video.addEventListener("playing", () => this.options.onPlaying(), { once: true });
    const next = () => {
      if (video.srcObject !== stream) return; // another stream has its own loop
      this.#compose();
      requestAnimationFrame(next);
    };
    next();
  }

  /** Draws the current frame of a packed video. */
  #compose() {
    if (!this.packed) return;
    if (!this.#alpha) {
      this.#alpha = new AlphaCanvas(this.#canvas);
      if (this.#alpha.by !== "webgl")
        this.options.onWarning(
          "no_webgl",
          this.#alpha.by
            ? "This browser has no WebGL: transparency is computed without it, which takes more CPU."
            : "This browser cannot draw on a canvas: the transparent character cannot be shown.",
        );
    }
    this.#alpha.draw(this.#video);
  }

  /**
   * The low 24 bits of the frame index in the stamp strip of the current frame; null: unreadable. The strip's middle
   * line is drawn on 32 pixels, one for each cell.
   */
  readStamp() {
    const { videoHeight } = this.#video;
    const videoWidth = this.packed ? this.#video.videoWidth / 2 : this.#video.videoWidth;
    if (!this.#stampContext) {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [STAMP_CELLS, 1];
      this.#stampContext = canvas.getContext("2d", { willReadFrequently: true });
    }
    const context = this.#stampContext;
    if (!context) return null;
    const cell = videoWidth / STAMP_CELLS;
    context.drawImage(this.#video, 0, videoHeight - 1.5 * cell, videoWidth, cell, 0, 0, STAMP_CELLS, 1);
    const { data } = context.getImageData(0, 0, STAMP_CELLS, 1);
    return stampedFrame(Array.from({ length: STAMP_CELLS }, (_, i) => data[4 * i + 1]));
  }
}
