// @ts-check
/** Video with packed alpha (colour on the left, alpha on the right), drawn on a canvas. */

// Video coding distorts alpha near its ends: up to the lower bound it is 0, from the upper one on it is 1.
const TRANSPARENT = 6 / 255;
const OPAQUE = 249 / 255;

const VERTEX = `
  attribute vec2 corner;
  varying highp vec2 at;
  void main() {
    at = vec2(0.5 + 0.5 * corner.x, 0.5 - 0.5 * corner.y);
    gl_Position = vec4(corner, 0.0, 1.0);
  }`;
const FRAGMENT = `
  precision mediump float;
  uniform sampler2D frame;
  varying highp vec2 at;
  void main() {
    vec3 colour = texture2D(frame, vec2(0.5 * at.x, at.y)).rgb;
    float shown = texture2D(frame, vec2(0.5 + 0.5 * at.x, at.y)).g;
    float alpha = clamp((shown - ${TRANSPARENT.toFixed(6)}) / ${(OPAQUE - TRANSPARENT).toFixed(6)}, 0.0, 1.0);
    gl_FragColor = vec4(colour * alpha, alpha);
  }`;

/**
 * Draws a video whose left half is colour and whose right half is alpha on a canvas with real transparency: with WebGL
 * or, where it is missing, pixel by pixel.
 */
export class AlphaCanvas {
  /** @type {WebGLRenderingContext | null} */ #gl = null;
  /** @type {CanvasRenderingContext2D | null} */ #context2d = null;
  /** @type {CanvasRenderingContext2D | null} */ #scratch = null;
  #ready = false;

  /** @param {HTMLCanvasElement} canvas one without a context yet */
  constructor(canvas) {
    this.canvas = canvas;
    const settings = { alpha: true, premultipliedAlpha: true, antialias: false, depth: false, stencil: false };
    this.#gl = /** @type {WebGLRenderingContext | null} */ (canvas.getContext("webgl", settings));
    if (this.#gl) {
      canvas.addEventListener("webglcontextlost", (event) => {
        event.preventDefault(); // without this the context is never restored
        this.#ready = false;
      });
      canvas.addEventListener("webglcontextrestored", () => this.#prepare());
      this.#prepare();
    }
    if (!this.#gl) this.#context2d = canvas.getContext("2d");
  }

  /** "webgl"; "2d" where each pixel is blended in JavaScript; "" where nothing can be drawn. */
  get by() {
    return this.#gl ? "webgl" : this.#context2d ? "2d" : "";
  }

  #prepare() {
    const gl = /** @type {WebGLRenderingContext} */ (this.#gl);
    const program = gl.createProgram();
    const texture = gl.createTexture();
    if (!program || gl.isContextLost()) return; // webglcontextrestored will follow
    for (const [type, source] of /** @type {[number, string][]} */ ([
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ])) {
      const shader = /** @type {WebGLShader} */ (gl.createShader(type));
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW); // covers the square
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST); // no colour bleeds over from the other half
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    this.#ready = true;
  }

  /** @param {HTMLVideoElement} video @returns {boolean} whether its current frame was drawn */
  draw(video) {
    const [width, height] = [video.videoWidth >> 1, video.videoHeight];
    if (!width || !height || (this.#gl && !this.#ready)) return false;
    const { canvas } = this;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    if (this.#gl) {
      const gl = this.#gl;
      gl.viewport(0, 0, width, height);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, video);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      return true;
    }
    return this.#blend(video, width, height);
  }

  /** @param {HTMLVideoElement} video @param {number} width @param {number} height */
  #blend(video, width, height) {
    this.#scratch ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const scratch = this.#scratch;
    if (!scratch || !this.#context2d) return false;
    if (scratch.canvas.width !== 2 * width || scratch.canvas.height !== height)
      [scratch.canvas.width, scratch.canvas.height] = [2 * width, height];
    scratch.drawImage(video, 0, 0);
    const colour = scratch.getImageData(0, 0, width, height);
    const shown = scratch.getImageData(width, 0, width, height).data;
    const scale = 1 / (OPAQUE - TRANSPARENT);
    for (let i = 3; i < shown.length; i += 4) colour.data[i] = (shown[i - 2] - 255 * TRANSPARENT) * scale; // it clamps
    this.#context2d.putImageData(colour, 0, 0);
    return true;
  }

  /** Clears the canvas. */
  clear() {
    if (this.#gl && this.#ready) this.#gl.clear(this.#gl.COLOR_BUFFER_BIT);
    this.#context2d?.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }
}
