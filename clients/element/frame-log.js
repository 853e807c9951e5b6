// @ts-check
/** Per-frame latency: timestamps of displayed frames, the stages between them, and percentiles. */

/** @typedef {import("./lip-stream.js").FrameRecord} FrameRecord */
/** @typedef {import("./lip-stream.js").Percentiles} Percentiles */
/** @typedef {{ readonly offset: number | null }} Clock */

/** The stages of a frame's latency, in order. They add up to the total. */
export const STAGES = /** @type {const} */ ([
  "device", // the microphone's own latency, where the browser reports one
  "uplink", // packetization, network, jitter buffer, decoding
  "lookahead", // future audio that the lips need
  "wait", // until the renderer starts the frame
  "draw",
  "encode",
  "send",
  "network", // last packet sent by the server to last packet received by the browser
  "display", // decoding, until the frame is submitted to the compositor
]);

/**
 * Linear interpolation, as numpy's default.
 * @param {number[]} sorted ascending
 * @param {number} share 0..1
 */
export function percentile(sorted, share) {
  if (!sorted.length) return NaN;
  const at = (sorted.length - 1) * share;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

/** @param {number[]} values @returns {Percentiles} */
function percentiles(values) {
  const sorted = values.slice().sort((a, b) => a - b);
  return { p50: percentile(sorted, 0.5), p95: percentile(sorted, 0.95), p99: percentile(sorted, 0.99) };
}

/**
 * The record of a frame that was just displayed, without the server's timestamps.
 * @param {number} k
 * @param {any} metadata VideoFrameCallbackMetadata
 * @param {{ device: number | null, packed: boolean, stamp: number | null | undefined }} more
 * @returns {FrameRecord}
 */
export function frameRecord(k, metadata, { device, packed, stamp }) {
  return {
    k,
    rtp: metadata.rtpTimestamp,
    epoch: null,
    device,
    captured: null,
    arrived: null,
    started: null,
    drawn: null,
    encoded: null,
    sent: null,
    receiveTime: metadata.receiveTime ?? null,
    presentationTime: metadata.presentationTime,
    expectedDisplayTime: metadata.expectedDisplayTime,
    processingMs: (metadata.processingDuration ?? NaN) * 1000,
    width: packed ? metadata.width / 2 : metadata.width,
    height: metadata.height,
    offset: null,
    stamp,
  };
}

/**
 * Joins each displayed frame with the server's timestamps for it, whichever arrives first.
 * All times are local (performance.now(), ms). Bounded: new records replace the oldest.
 */
export class FrameLog {
  /** @type {FrameRecord[]} */
  #ring = [];
  #next = 0;
  /** @type {Map<number, FrameRecord>} records without the server's timestamps yet */
  #unjoined = new Map();
  /** @type {Map<number, number[]>} the server's rows for frames that were not displayed yet */
  #rows = new Map();

  /** @param {number} capacity number of records kept: two minutes by default */
  constructor(capacity = 3000) {
    this.capacity = capacity;
  }

  /** @param {FrameRecord} record @param {Clock} clock */
  seen(record, clock) {
    if (this.#ring.length < this.capacity) this.#ring.push(record);
    else this.#ring[this.#next % this.#ring.length] = record;
    this.#next++;
    const row = this.#rows.get(record.k);
    if (row && clock.offset !== null) {
      this.#rows.delete(record.k);
      join(record, row, clock.offset);
    } else {
      setBounded(this.#unjoined, record.k, record);
    }
  }

  /** @param {number[][]} rows @param {Clock} clock */
  rows(rows, clock) {
    for (const row of rows) {
      const record = this.#unjoined.get(row[0]);
      if (record && clock.offset !== null) {
        this.#unjoined.delete(row[0]);
        join(record, row, clock.offset);
      } else {
        setBounded(this.#rows, row[0], row);
      }
    }
  }

  /** A new session starts, whose frames count from 0 again. */
  restart() {
    this.#unjoined.clear();
    this.#rows.clear();
  }

  /** Oldest first. @returns {FrameRecord[]} */
  get records() {
    const at = this.#ring.length < this.capacity ? 0 : this.#next % this.#ring.length;
    return this.#ring.slice(at).concat(this.#ring.slice(0, at));
  }

  /** @param {number} seconds @param {number} now @returns {FrameRecord[]} */
  recent(seconds, now) {
    const out = [];
    for (let i = 1; i <= this.#ring.length; i++) {
      const record = this.#ring[(this.#next - i + this.#ring.length * 2) % this.#ring.length];
      if (record.presentationTime < now - seconds * 1000) break;
      out.push(record);
    }
    return out.reverse();
  }

  /** @param {number} seconds @param {number} now @param {number} lookahead ms */
  summary(seconds, now, lookahead) {
    const recent = this.recent(seconds, now);
    const joined = recent.filter((record) => record.captured !== null);
    const split = joined.map((record) => stagesOf(record, lookahead));
    /** @type {Record<string, Percentiles>} */
    const stages = {};
    for (const stage of STAGES)
      stages[stage] = percentiles(split.map((times) => times[stage]).filter((value) => !Number.isNaN(value)));
    const last = Math.max(recent.at(-1)?.presentationTime ?? 0, now - 40); // frozen video lowers the rate
    const span = recent.length > 1 ? last - recent[0].presentationTime : 0;
    return {
      frames: joined.length,
      fps: span > 0 ? ((recent.length - 1) * 1000) / span : 0,
      total: percentiles(joined.map((record) => micToPhoton(record))),
      stages,
    };
  }
}

const MAX_UNMATCHED = 250; // ten seconds: older halves will not be joined any more

/** @template T @param {Map<number, T>} map @param {number} key @param {T} value */
function setBounded(map, key, value) {
  map.set(key, value);
  if (map.size > MAX_UNMATCHED) map.delete(/** @type {number} */ (map.keys().next().value));
}

/** @param {FrameRecord} record @param {number[]} row @param {number} offset */
function join(record, row, offset) {
  [, record.epoch] = row;
  [record.captured, record.arrived, record.started, record.drawn, record.encoded, record.sent] = row
    .slice(2)
    .map((time) => time - offset);
  record.offset = offset;
}

/**
 * Latency in ms: from the capture of the audio sample that a frame answers to the frame's submission to the compositor.
 * A microphone latency that the browser does not report counts as 0.
 * @param {FrameRecord} record
 */
export function micToPhoton(record) {
  return record.captured === null ? NaN : record.presentationTime - record.captured + (record.device ?? 0);
}

/**
 * The duration of each stage in ms; NaN where the browser does not report what it needs.
 * @param {FrameRecord} record
 * @param {number} lookahead ms
 * @returns {Record<string, number>}
 */
export function stagesOf(record, lookahead) {
  const { captured, arrived, started, drawn, encoded, sent, receiveTime, presentationTime } = /** @type {any} */ (
    record
  );
  return {
    device: record.device ?? NaN,
    uplink: arrived - captured - lookahead,
    lookahead,
    wait: started - arrived,
    draw: drawn - started,
    encode: encoded - drawn,
    send: sent - encoded,
    network: receiveTime === null ? NaN : receiveTime - sent,
    display: presentationTime - (receiveTime === null ? sent : receiveTime),
  };
}
