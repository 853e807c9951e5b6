// @ts-check
/** The server's HTTP API: its configuration, requests with the token, and token renewal. */

import { LipStreamError, RENEWABLE, errorOfResponse, errorWithoutResponse } from "./errors.js";

/** @typedef {import("./lip-stream.js").ServerConfig} ServerConfig */
/**
 * Where the server is and what opens it; read anew for each request.
 * @typedef {{
 *   readonly src: string, token: string, readonly renewToken: (() => string | Promise<string>) | null,
 * }} Access
 */

export class ServerApi {
  /** @type {Promise<ServerConfig> | null} */ #config = null;
  #configExpires = Infinity; // Date.now()
  #reached = false;

  /** @param {Access} access */
  constructor(access) {
    this.access = access;
  }

  /** @returns {Record<string, string>} */
  headers() {
    const { token } = this.access;
    return /** @type {Record<string, string>} */ (token ? { Authorization: `Bearer ${token}` } : {});
  }

  /**
   * The server's configuration: fetched once, and again after half of the lifetime of its TURN credentials.
   * @returns {Promise<ServerConfig>}
   */
  config() {
    if (this.#config && Date.now() < this.#configExpires) return this.#config;
    /** @type {Promise<ServerConfig>} */
    const request = (this.#config = this.fetch("/v1/config").then((response) => response.json()));
    this.#configExpires = Infinity;
    request.then(
      ({ ice_ttl_s: ttl }) => ttl && (this.#configExpires = Date.now() + 500 * ttl),
      () => this.#config === request && (this.#config = null),
    );
    return request;
  }

  /** The server or the token has changed. */
  forgetConfig() {
    this.#config = null;
  }

  /**
   * A request with the token.
   * @param {string} path
   * @param {RequestInit} [init]
   * @throws {LipStreamError} for each status that is not 2xx
   */
  async fetch(path, init = {}) {
    return this.withRenewedToken(async () => {
      const { src } = this.access;
      const headers = { ...this.headers(), ...init.headers };
      const response = await fetch(src + path, { ...init, headers }).catch(async () => {
        throw this.#reached ? new LipStreamError("server_unreachable") : await errorWithoutResponse(src);
      });
      this.#reached = true;
      if (!response.ok) throw await errorOfResponse(response);
      return response;
    });
  }

  /**
   * Makes a request, and once more with a new token if the server refused the token and the page can renew it.
   * @template T
   * @param {() => Promise<T>} request
   * @returns {Promise<T>}
   */
  async withRenewedToken(request) {
    try {
      return await request();
    } catch (error) {
      const { access } = this;
      if (!access.renewToken || !(error instanceof LipStreamError) || !RENEWABLE.has(error.reason)) throw error;
      access.token = await access.renewToken();
      return request();
    }
  }

  /**
   * The address of a character's picture. An <img> sends no headers, so the token is in the query.
   * @param {string} id
   * @param {number} size
   * @param {boolean} background
   */
  pictureUrl(id, size, background) {
    const query = new URLSearchParams({ size: String(size), background: background ? "1" : "0" });
    if (this.access.token) query.set("token", this.access.token);
    return `${this.access.src}/v1/characters/${encodeURIComponent(id)}/picture?${query}`;
  }
}
