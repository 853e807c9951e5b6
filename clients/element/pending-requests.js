// @ts-check
/** Requests on the control channel that await their answer. */

import { LipStreamError } from "./errors.js";

/**
 * Answers carry no id: a message answers the oldest request that awaits its type, and an `error` the oldest of all.
 */
export class PendingRequests {
  /** @type {{ type: string, resolve: (m: any) => void, reject: (e: Error) => void, timer: number }[]} */
  #pending = [];

  /** @param {number} timeoutMs after which a request fails with `no_answer` */
  constructor(timeoutMs) {
    this.timeoutMs = timeoutMs;
  }

  /** Awaits an answer of a type. @param {string} type @returns {Promise<any>} */
  add(type) {
    return new Promise((resolve, reject) => {
      const entry = { type, resolve, reject, timer: 0 };
      entry.timer = setTimeout(() => {
        this.#remove(entry);
        const detail = `The server did not answer within ${this.timeoutMs / 1000} s.`;
        reject(new LipStreamError("no_answer", { detail }));
      }, this.timeoutMs);
      this.#pending.push(entry);
    });
  }

  /**
   * Settles the request that a message answers.
   * @param {Record<string, any>} message
   * @returns {boolean} false where it answers none
   */
  settle(message) {
    const entry = this.#pending.find(({ type }) => type === message.type || message.type === "error");
    if (!entry) return false;
    this.#remove(entry);
    clearTimeout(entry.timer);
    if (message.type === "error") entry.reject(new LipStreamError(message.reason, { detail: message.detail ?? "" }));
    else entry.resolve(message);
    return true;
  }

  /** Fails all requests: the connection that they were sent on is gone. @param {Error} error */
  rejectAll(error) {
    for (const { timer, reject } of this.#pending.splice(0)) {
      clearTimeout(timer);
      reject(error);
    }
  }

  /** @param {object} entry */
  #remove(entry) {
    this.#pending = this.#pending.filter((other) => other !== entry);
  }
}
