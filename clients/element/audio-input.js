// @ts-check
/** The audio that a session sends: the microphone, or a stream that the page brings. */

import { LipStreamError, microphoneError } from "./errors.js";

/**
 * Asks for the microphone. If the chosen device is gone, any other is taken and `onReplaced` is called.
 * @param {{ deviceId: string, processing: boolean }} options processing: echo cancellation, noise suppression and
 * automatic gain control
 * @param {() => void} onReplaced
 * @returns {Promise<MediaStream>}
 * @throws {LipStreamError}
 */
export async function openMicrophone({ deviceId, processing }, onReplaced) {
  if (!navigator.mediaDevices?.getUserMedia) throw new LipStreamError("insecure_context");
  /** @type {MediaTrackConstraints & { latency?: ConstrainDouble }} */
  const audio = {
    echoCancellation: processing,
    noiseSuppression: processing,
    autoGainControl: processing,
    channelCount: { ideal: 1 },
    latency: { ideal: 0.01 },
  };
  if (deviceId) audio.deviceId = { exact: deviceId };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    if (/** @type {any} */ (error)?.name !== "OverconstrainedError" || !deviceId) throw microphoneError(error);
  }
  delete audio.deviceId;
  onReplaced();
  return navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
    throw microphoneError(error);
  });
}

/** @param {MediaStream} stream */
export function stopTracks(stream) {
  stream.getTracks().forEach((track) => track.stop());
}

/** The stream in use. A microphone that the element opened is also closed by it; a page's own stream is not. */
export class AudioInput {
  /** @type {MediaStream | null} */ #stream = null;
  #owned = false;
  #muted = false;

  /** @param {(error: LipStreamError) => void} onLost called when the track ends by itself */
  constructor(onLost) {
    this.onLost = onLost;
  }

  get stream() {
    return this.#stream;
  }

  /** Whether the stream is a microphone that the element opened. */
  get owned() {
    return this.#owned;
  }

  get muted() {
    return this.#muted;
  }
  set muted(muted) {
    this.#muted = muted;
    this.#stream?.getAudioTracks().forEach((track) => (track.enabled = !muted));
  }

  /** Uses another stream from now on. @param {MediaStream} stream @param {boolean} owned */
  use(stream, owned) {
    const track = audioTrack(stream);
    const { onLost } = this;
    if (stream !== this.#stream) this.release();
    this.#stream = stream;
    this.#owned = owned;
    track.enabled = !this.#muted;
    track.onended = () => onLost(new LipStreamError("microphone_lost"));
  }

  release() {
    this.#stream?.getAudioTracks().forEach((track) => (track.onended = null));
    if (this.#stream && this.#owned) stopTracks(this.#stream);
    this.#stream = null;
    this.#owned = false;
  }

  /** The microphone's own latency in ms; 0 for a page's own stream, null where the browser does not report it. */
  get latency() {
    if (!this.#stream || !this.#owned) return 0;
    /** @type {any} */
    const settings = this.#stream.getAudioTracks()[0]?.getSettings?.() ?? {};
    return typeof settings.latency === "number" ? 1000 * settings.latency : null;
  }
}

/** The first audio track. @param {MediaStream} stream @throws {LipStreamError} where there is none */
export function audioTrack(stream) {
  const track = stream.getAudioTracks()[0];
  if (!track) throw new LipStreamError("microphone_missing");
  return track;
}
