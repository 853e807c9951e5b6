// @ts-check
/** The element's side of the control channel: commands, their answers, and the settings that each new session gets. */

import { LipStreamError } from "./errors.js";
import { PendingRequests } from "./pending-requests.js";
import { commands } from "./protocol.js";

/** @typedef {import("./audio-input.js").AudioInput} AudioInput */
/** @typedef {{ readonly state: string, character: string, readonly background: boolean }} Host the element */
/** @typedef {{ send(message: Record<string, unknown>): boolean }} Channel an open or closed Connection */

const ANSWER_TIMEOUT_MS = 3000;

export class SessionControl {
  #pending = new PendingRequests(ANSWER_TIMEOUT_MS);
  /** @type {Channel | null} */ #channel = null;
  #greeted = false; // the server's hello has come
  #sessionCharacter = ""; // the one that the session was created with or changed to
  /** @type {{ picture: string | undefined } | null} */ #away = null;
  /** @type {{ name: string, strength: number } | null} */ #emotion = null;

  /** @param {Host} host @param {AudioInput} input */
  constructor(host, input) {
    this.host = host;
    this.input = input;
  }

  get away() {
    return this.#away !== null;
  }

  /** A new connection, whose session starts with this character. @param {Channel} channel @param {string} character */
  open(channel, character) {
    this.#channel = channel;
    this.#greeted = false;
    this.#sessionCharacter = character;
  }

  /** The connection is gone. @param {Error} error that pending requests fail with */
  close(error) {
    this.#channel = null;
    this.#greeted = false;
    this.#pending.rejectAll(error);
  }

  /** Sends what was set before the channel was open. @param {(error: Error) => void} onError */
  restore(onError) {
    const { character } = this.host;
    if (character && character !== this.#sessionCharacter)
      this.#request(commands.character(character, this.host.background), "character").then(
        () => (this.#sessionCharacter = character),
        onError,
      );
    if (this.input.muted) this.#request(commands.mute(true), "muted").catch(() => {});
    if (this.#emotion)
      this.#request(commands.emotion(this.#emotion.name, this.#emotion.strength), "emotion").catch(() => {});
    if (this.#away) this.#request(commands.away(true, this.#away.picture), "away").catch(onError);
  }

  /**
   * Settles the request that a message answers, or takes over what somebody else changed over HTTP.
   * @param {Record<string, any>} message
   * @returns {boolean} whether it answered a request
   */
  receive(message) {
    if (message.type === "hello") this.#greeted = true;
    if (!message.remote) return this.#pending.settle(message);
    if (message.type === "muted") this.input.muted = message.muted;
    if (message.type === "emotion") this.#emotion = { name: message.name, strength: message.strength };
    if (message.type === "character") this.host.character = this.#sessionCharacter = message.id;
    if (message.type === "away") this.#away = message.away ? { picture: undefined } : null;
    return false;
  }

  interrupt() {
    return this.#request(commands.interrupt(), "interrupted");
  }

  /** @param {boolean} muted */
  mute(muted) {
    this.input.muted = muted;
    return this.#channel ? this.#request(commands.mute(muted), "muted") : Promise.resolve(null);
  }

  /** @param {string} id */
  async setCharacter(id) {
    if (!this.#live) {
      this.host.character = id; // a session that is being set up gets it as soon as it is ready
      return null;
    }
    const answer = await this.#request(commands.character(id, this.host.background), "character");
    this.host.character = this.#sessionCharacter = id;
    return answer;
  }

  /** @param {string} name @param {number} strength */
  setEmotion(name, strength) {
    const message = commands.emotion(name, strength);
    this.#emotion = { name, strength };
    return this.#channel ? this.#request(message, "emotion") : Promise.resolve(null);
  }

  /** @param {boolean} away @param {string} [picture] */
  async setAway(away, picture) {
    const message = commands.away(away, picture);
    if (this.#channel && this.#greeted) {
      const answer = await this.#request(message, "away");
      this.#away = answer.away ? { picture } : null;
      return answer;
    }
    this.#away = away ? { picture } : null; // a session that is being set up gets it as soon as it is ready
    return null;
  }

  /**
   * A command for the moment, which is not kept for another session. Its arguments are checked even while not live.
   * @param {Record<string, unknown>} message @param {string} type of the answer
   */
  async now(message, type) {
    return this.#live ? this.#request(message, type) : null;
  }

  get #live() {
    return this.host.state === "live";
  }

  /** @param {Record<string, unknown>} message @param {string} type of the answer @returns {Promise<any>} */
  #request(message, type) {
    if (!this.#channel?.send(message)) return Promise.reject(new LipStreamError("network_lost"));
    return this.#pending.add(type);
  }
}
