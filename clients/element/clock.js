// @ts-check
/** Estimates the server's clock from pings. */

/** The offset of the server's clock, taken from the ping with the shortest round trip among the recent ones. */
export class Clock {
  /** @type {{ offset: number, rtt: number }[]} */
  #samples = [];
  /** @type {{ offset: number, rtt: number } | null} */
  #best = null;

  /** @param {number} window number of pings kept: one a second after the initial burst */
  constructor(window = 30) {
    this.window = window;
  }

  /** @param {number} sent ms @param {number} received ms @param {number} server server time in between, ms */
  add(sent, received, server) {
    this.#samples.push({ offset: server - (sent + received) / 2, rtt: received - sent });
    if (this.#samples.length > this.window) this.#samples.shift();
    this.#best = this.#samples.reduce((a, b) => (b.rtt < a.rtt ? b : a));
  }

  /** Server time minus local time in ms, or null before the first answer. The error is at most half of `rtt`. */
  get offset() {
    return this.#best && this.#best.offset;
  }

  /** Round-trip time of the ping that `offset` is taken from, ms. */
  get rtt() {
    return this.#best && this.#best.rtt;
  }
}
