// @ts-check
/** The element's attributes as properties. */

const OFF = new Set(["off", "false", "0", "no"]);
/** @type {typeof HTMLElement} */
const Base = globalThis.HTMLElement ?? class {}; // so that the module can be imported where there is no DOM

export class ReflectedAttributes extends Base {
  static observedAttributes = [
    "src",
    "token",
    "character",
    "size",
    "background",
    "alpha",
    "hear",
    "echo-cancellation",
    "microphone",
  ];

  /** The server's URL without a trailing slash. By default the server that this module was loaded from. */
  get src() {
    return (this.getAttribute("src") ?? new URL("..", import.meta.url).href).replace(/\/+$/, "");
  }
  set src(value) {
    this.setAttribute("src", value);
  }
  get token() {
    return this.getAttribute("token") ?? "";
  }
  set token(value) {
    this.setAttribute("token", value);
  }
  get character() {
    return this.getAttribute("character") ?? "";
  }
  set character(value) {
    this.setAttribute("character", value);
  }
  get size() {
    return Number(this.getAttribute("size")) || 0;
  }
  set size(value) {
    this.setAttribute("size", String(value));
  }
  get microphone() {
    return this.getAttribute("microphone") ?? "";
  }
  set microphone(value) {
    this.setAttribute("microphone", value);
  }
  get hear() {
    return this.hasAttribute("hear") && !OFF.has(this.getAttribute("hear") ?? "");
  }
  set hear(value) {
    this.toggleAttribute("hear", Boolean(value));
  }
  get echoCancellation() {
    return !OFF.has(this.getAttribute("echo-cancellation") ?? "on");
  }
  set echoCancellation(value) {
    this.setAttribute("echo-cancellation", value ? "on" : "off");
  }
  get alpha() {
    return this.hasAttribute("alpha") && !OFF.has(this.getAttribute("alpha") ?? "");
  }
  set alpha(value) {
    this.toggleAttribute("alpha", Boolean(value));
  }
  get background() {
    const value = this.getAttribute("background");
    return value === null ? !this.alpha : !OFF.has(value);
  }
  set background(value) {
    this.setAttribute("background", value ? "on" : "off");
  }
}
