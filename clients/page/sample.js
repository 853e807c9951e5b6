// @ts-check
/** The built-in voice: a recording that is sent instead of a microphone's sound. */
export class SampleVoice {
  /** @type {AudioContext | null} */ #context = null;
  /** @type {AudioBufferSourceNode | null} */ #player = null;
  /** @type {GainNode | null} */ #speaker = null;
  /** @type {Promise<ArrayBuffer> | null} */ #bytes = null;
  #aloud = false;

  /** @param {URL} address */
  constructor(address) {
    this.address = address;
  }

  get aloud() {
    return this.#aloud;
  }
  set aloud(on) {
    this.#aloud = on;
    if (this.#speaker) this.#speaker.gain.value = on ? 1 : 0;
  }

  /**
   * A stream that plays the recording in a loop, from its start. Must be called from a user gesture.
   * @returns {Promise<MediaStream>}
   */
  async open() {
    this.close();
    const context = (this.#context = new AudioContext({ latencyHint: "interactive" }));
    this.#bytes ??= fetch(this.address).then((response) => {
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      return response.arrayBuffer();
    });
    this.#bytes.catch(() => (this.#bytes = null));
    const buffer = await context.decodeAudioData((await this.#bytes).slice(0)); // decodeAudioData detaches its buffer
    const player = (this.#player = new AudioBufferSourceNode(context, { buffer, loop: true }));
    const wire = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    this.#speaker = new GainNode(context, { gain: this.#aloud ? 1 : 0 });
    player.connect(wire);
    player.connect(this.#speaker).connect(context.destination);
    await context.resume();
    player.start();
    return wire.stream;
  }

  close() {
    this.#player?.stop();
    this.#context?.close();
    this.#player = this.#context = this.#speaker = null;
  }
}
