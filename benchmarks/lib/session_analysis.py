"""From what the probe recorded of a session to its numbers. Pure: no browser, no clock."""

import base64
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.lib.alignment import PER_MS, RATE, Heard, Voice, anchors, percentiles, pixel_lag, settle, turns
from benchmarks.lib.errors import Unmeasurable
from benchmarks.lib.recording import Recording, Stream
from benchmarks.lib.targets import SKEW_MS
from benchmarks.lib.ties import tie
from streamer.base.constants import FPS, SAMPLES_PER_FRAME

FREEZE_MS = 1000 / FPS + 150  # Chromium's definition of a freeze, at this rate
ONSET_MS = 400.0
SETTLE = 3.0
"""Seconds after the first frame that are not measured: jitter buffers and rate control find their place."""


def analyse(
    recording: Recording,
    voice: Voice,
    *,
    begin: float,
    end: float,
    output_delay_ms: float,
    keep: float = 1.0,
    every: float = 2.0,
    echo_cancellation: bool = True,
    processing_ms: float | None = None,
    points: int = 1500,
) -> dict[str, Any]:
    """The numbers of the frames presented between `begin` and `end` (ms, page's clock)."""
    hello = recording.event("hello")
    if hello is None:
        raise Unmeasurable("the server never said hello on the control channel")
    ties = tie(recording, voice, hello["message"]["audio_rtp_offset"], keep, every, echo_cancellation, processing_ms)
    offset = ties.report["clock_offset_ms"]
    lookahead = float(hello["message"]["lookahead_ms"])

    shown = [frame for frame in recording.frames if begin <= frame[1] < end]
    if len(shown) < FPS:
        raise Unmeasurable(f"{len(shown)} frames were presented in {(end - begin) / 1000:.0f} s")
    k = np.array([frame[0] for frame in shown])
    presented = np.array([frame[1] for frame in shown])
    position = ties.position(k * SAMPLES_PER_FRAME)
    captured = ties.device.when(position)
    loops = turns(presented - captured, voice.period)
    position += loops * voice.period
    captured = ties.device.when(position)
    total = presented - captured

    rows = {int(row[0]): row for row in recording.rows}
    joined = np.array([number in rows for number in k])
    servers = np.array([rows[number][2:] if number in rows else [np.nan] * 6 for number in k]) - offset
    estimate, arrived, started, drawn, encoded, sent = servers.T
    received = np.array([np.nan if frame[2] is None else frame[2] for frame in shown])
    stages = {
        "processing": np.full(len(k), ties.processing_ms + 0.0),
        "uplink": arrived - captured - lookahead - ties.processing_ms,
        "lookahead": np.full(len(k), lookahead),
        "wait": started - arrived,
        "draw": drawn - started,
        "encode": encoded - drawn,
        "send": sent - encoded,
        "network": received - sent,
        "display": presented - received,
    }
    skew = played_at(recording.played, voice, position) + output_delay_ms - presented
    fresh = near_onset(voice, position)
    loud = voiced(voice, position)
    return {
        "frames": len(k),
        "joined_share": round(float(joined.mean()), 4),
        "seconds": round((end - begin) / 1000, 1),
        "total_ms": percentiles(total),
        "stages_ms": {name: percentiles(values) for name, values in stages.items()},
        "onset_ms": {
            "after_silence": percentiles(total[fresh]),
            "in_speech": percentiles(total[loud & ~fresh]),
            "in_silence": percentiles(total[~loud & ~fresh]),
            "onsets": int(np.count_nonzero(np.diff(fresh.astype(int)) == 1)),
        },
        "av_skew_ms": skew_report(skew, output_delay_ms, np.array([frame[3] for frame in shown]) - presented),
        "display": display_report(k, presented, [frame[4] for frame in shown]),
        "server_estimate_ms": percentiles(estimate - captured),
        "ties": ties.report,
        "series": series(presented, total, skew, points),
    }


def played_at(stream: Stream, voice: Voice, position: np.ndarray) -> np.ndarray:
    """When each voice position left the jitter buffer to be played (ms); NaN where it was not recorded."""
    if len(stream.blocks) < 100:
        return np.full(len(position), np.nan)
    blocks = np.array(stream.blocks)
    scale = RATE / stream.rate
    starts = (stream.ends() - blocks[:, 2]) * scale
    found = anchors(voice, stream.chunks, stream.rate, seconds=0.5)
    if not found:
        return np.full(len(position), np.nan)
    heard = Heard(blocks[:, 0], starts, settle(found, voice.period))
    # Both streams know their place only up to whole loops.
    middle = heard.starts[len(starts) // 2] + heard.offset(heard.starts[len(starts) // 2])
    loops = np.round((middle - np.median(position)) / voice.period)
    return heard.when(position + loops * voice.period)


def near_onset(voice: Voice, position: np.ndarray) -> np.ndarray:
    """Whether each position lies within the first 400 ms of speech after half a second or more of silence."""
    after = np.full(len(position), np.inf)
    for onset in onsets(voice):
        after = np.minimum(after, (position - onset) % voice.period)
    return after < ONSET_MS * PER_MS


def voiced(voice: Voice, position: np.ndarray) -> np.ndarray:
    levels = loudness(voice)
    return levels[(np.asarray(position) / 480).astype(int) % len(levels)] > 0.02


def loudness(voice: Voice) -> np.ndarray:
    """Root mean square of each 10 ms."""
    return np.sqrt(np.mean(np.square(voice.samples.reshape(-1, 480)), axis=1))


def onsets(voice: Voice, silence: float = 0.5) -> list[int]:
    """Positions where speech begins after at least `silence` seconds without, the loop's seam included."""
    loud = loudness(voice) > 0.02
    quiet = int(silence * 100)
    twice = np.concatenate([loud, loud])
    return [
        480 * (i - len(loud))
        for i in range(len(loud), len(twice))
        if twice[i] and not twice[max(0, i - quiet) : i].any()
    ]


def skew_report(skew: np.ndarray, output_delay_ms: float, to_display: np.ndarray) -> dict[str, Any] | None:
    known = skew[np.isfinite(skew)]
    if not len(known):
        return None
    p5, p50, p95 = np.percentile(known, [5, 50, 95])
    return {
        "p5": round(float(p5), 1),
        "p50": round(float(p50), 1),
        "p95": round(float(p95), 1),
        "within_40": round(float(np.mean(np.abs(known) <= SKEW_MS)), 4),
        "frames": len(known),
        "output_delay_ms": round(output_delay_ms, 1),
        "without_output_delay_p50": round(float(p50) - output_delay_ms, 1),
        "presented_to_expected_display_p50": round(float(np.median(to_display)), 1),
    }


def display_report(k: np.ndarray, presented: np.ndarray, stamps: Sequence[int | None]) -> dict[str, Any]:
    gaps = np.diff(presented)
    wrong = [(int(number), stamp) for number, stamp in zip(k, stamps, strict=True) if stamp != number & 0xFFFFFF]
    expected = int(k.max() - k.min() + 1)
    return {
        "fps": round((len(k) - 1) / (presented[-1] - presented[0]) * 1000, 2),
        "expected": expected,
        "not_seen": expected - len(np.unique(k)),
        "out_of_order": int(np.count_nonzero(np.diff(k) <= 0)),
        "freezes": int(np.count_nonzero(gaps > FREEZE_MS)),
        "longest_gap_ms": round(float(gaps.max()), 1),
        "misread": sum(stamp is None for _, stamp in wrong),
        "newer_in_pixels": sum(stamp is not None and stamp > number & 0xFFFFFF for number, stamp in wrong),
        "older_in_pixels": sum(stamp is not None and stamp < number & 0xFFFFFF for number, stamp in wrong),
    }


def series(presented: np.ndarray, total: np.ndarray, skew: np.ndarray, most: int = 1500) -> dict[str, Any]:
    """For plots: seconds, latency and skew of at most `most` frames, evenly spaced."""
    take = np.unique(np.linspace(0, len(total) - 1, min(most, len(total))).astype(int))
    return {
        "began_ms": round(float(presented[0]), 1),
        "t": [round(float(t), 2) for t in (presented[take] - presented[0]) / 1000],
        "total": [round(float(value), 1) for value in total[take]],
        "skew": [round(float(value), 1) if np.isfinite(value) else None for value in skew[take]],
    }


def interruptions(done: Sequence[dict[str, float]], recording: Recording) -> dict[str, Any] | None:
    """From the message until the first frame of the new epoch is presented."""
    epochs = {int(row[0]): int(row[1]) for row in recording.rows}
    taken = []
    for cut in done:
        after = [frame[1] for frame in recording.frames if epochs.get(frame[0], -1) >= cut["epoch"]]
        if after:
            taken.append(min(after) - cut["sent"])
    if not taken:
        return None
    answers = [cut["answered"] - cut["sent"] for cut in done]
    return {
        "times": len(taken),
        "median": round(median(taken), 1),
        "longest": round(max(taken), 1),
        "answered_median": round(median(answers), 1),
        "all": [round(value, 1) for value in taken],
    }


def check_pixels(recording: Recording, voice: Voice, keep: float, every: float) -> dict[str, Any]:
    """Independent of clocks: do the pixels move with the sound that the frame's number stands for?

    The session is one without echo cancellation. Raises Unmeasurable.
    """
    hello = recording.event("hello")
    if hello is None:
        raise Unmeasurable("the server never said hello on the control channel")
    ties = tie(recording, voice, hello["message"]["audio_rtp_offset"], keep, every, echo_cancellation=False)
    frames = [frame for frame in recording.frames if frame[5]]
    pictures = np.array([np.frombuffer(base64.b64decode(frame[5]), np.uint8) for frame in frames], float)
    moments = ties.position(np.array([frame[0] for frame in frames]) * SAMPLES_PER_FRAME) / RATE
    levels = np.convolve(loudness(voice), np.ones(4) / 4, "same")  # a frame answers about 40 ms

    def at(seconds: np.ndarray) -> np.ndarray:
        return levels[(seconds * 100).astype(int) % len(levels)]

    return {"frames": len(frames), **pixel_lag(pictures, moments, at)}


def output_delay(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Milliseconds from the jitter buffer's output to the loudspeaker, as the browser estimates them."""
    a, b = before.get("media-playout audio", {}), after.get("media-playout audio", {})
    samples = b.get("totalSamplesCount", 0) - a.get("totalSamplesCount", 0)
    return 1000 * (b["totalPlayoutDelay"] - a["totalPlayoutDelay"]) / samples if samples else 0.0
