// @ts-check
/** What the element reads from the peer connection's statistics. */

/**
 * Counters of the received video since the connection began; NaN where the browser does not report one.
 * @typedef {{
 *   dropped: number, freezes: number, freezeMs: number, jitterBufferMs: number, packetsLost: number,
 * }} InboundVideo
 */

export class ReceiveStats {
  /** @type {InboundVideo} */
  video = { dropped: 0, freezes: 0, freezeMs: 0, jitterBufferMs: NaN, packetsLost: 0 };
  #audio = { delay: 0, emitted: 0, outputDelay: 0, outputSamples: 0 };

  /**
   * Takes in a report and returns by how many ms audio was played later than it arrived since the report before: jitter
   * buffer and output device. null: no audio was played, or the counters are those of a new connection.
   * @param {{ forEach(callback: (one: any) => void): void }} report an RTCStatsReport
   * @returns {number | null}
   */
  update(report) {
    const now = { delay: 0, emitted: 0, outputDelay: 0, outputSamples: 0 };
    report.forEach((/** @type {any} */ one) => {
      if (one.type === "inbound-rtp" && one.kind === "video") this.video = videoCounters(one);
      else if (one.type === "inbound-rtp" && one.kind === "audio") {
        now.delay += one.jitterBufferDelay ?? 0;
        now.emitted += one.jitterBufferEmittedCount ?? 0;
      } else if (one.type === "media-playout") {
        now.outputDelay += one.totalPlayoutDelay ?? 0;
        now.outputSamples += one.totalSamplesCount ?? 0;
      }
    });
    const before = this.#audio;
    this.#audio = now;
    if (now.emitted <= before.emitted) return null;
    const seconds =
      mean(now.delay - before.delay, now.emitted - before.emitted) +
      mean(now.outputDelay - before.outputDelay, now.outputSamples - before.outputSamples);
    return Number.isFinite(seconds) ? 1000 * seconds : null;
  }
}

/** @param {any} inbound RTCInboundRtpStreamStats @returns {InboundVideo} */
function videoCounters(inbound) {
  return {
    dropped: inbound.framesDropped ?? NaN,
    freezes: inbound.freezeCount ?? NaN,
    freezeMs: 1000 * (inbound.totalFreezesDuration ?? NaN),
    jitterBufferMs: inbound.jitterBufferEmittedCount
      ? (1000 * inbound.jitterBufferDelay) / inbound.jitterBufferEmittedCount
      : NaN,
    packetsLost: inbound.packetsLost ?? NaN,
  };
}

/** @param {number} sum @param {number} count */
const mean = (sum, count) => (count > 0 ? sum / count : 0);
