"""Mic-to-photon: from the capture of a sample to the frame that answers it, in a real browser on the real page.

    python benchmarks/mic_to_photon.py                        # five minutes, three runs, echo cancellation on and off
    python benchmarks/mic_to_photon.py --quick                # 20 seconds, once each
    python benchmarks/mic_to_photon.py --sessions 2 --quick   # two users at once
    python benchmarks/mic_to_photon.py --picture me.jpg       # of an uploaded picture

What drew is asked of the server, and the targets are that renderer's.

The definitions are in benchmarks/README.md. `analyse` and all below it are pure: they take what was recorded.
"""

import argparse
import json
import mimetypes
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import hardware
import numpy as np
from alignment import (
    PER_MS,
    RATE,
    DeviceClock,
    Heard,
    Voice,
    anchors,
    blocks_missed,
    clock_offset,
    percentiles,
    pixel_lag,
    settle,
    spread_ms,
    turns,
)
from browser import (
    NothingToMeasure,
    Recording,
    Unmeasurable,
    Usage,
    Visit,
    make_voice,
    open_chromium,
    open_server,
    write_json,
)
from targets import FRAMES_PER_SECOND, LATENCY

from streamer.audio.opus import OpusDecoder
from streamer.base.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

RESULTS = Path(__file__).resolve().parent / "results" / "mic_to_photon.json"
STAGES = ("processing", "uplink", "lookahead", "wait", "draw", "encode", "send", "network", "display")
SETTLE = 3.0  # seconds after the first frame that are not measured: jitter buffers and rate control find their place
SKEW_MS = 40.0
INTERRUPT_MS = 80.0
LONGEST_PROCESSING_MS = 40.0  # what the browser's cleaning of a voice can take; beyond it a tie is wrong
ATTEMPTS = 3  # at a run, should it fail: a starved machine's microphone begins irregularly, a connection times out
FREEZE_MS = 1000 / FPS + 150  # Chromium's definition of a freeze, at this rate
ONSET_MS = 400.0
POSITIONS_PER_PTS = RATE // SAMPLE_RATE


class Irregular(Unmeasurable):
    """The fake microphone was starved as it began, so that this run says nothing; another may."""


# From a recording to numbers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ties:
    """What ties a session's sample numbers (pts) to the voice, and the voice to the page's clock."""

    device: DeviceClock
    pts_offset: Any  # position of pts 0, modulo the voice, as a function of 3·pts
    processing_ms: float
    report: dict[str, Any]

    def position(self, pts: np.ndarray) -> np.ndarray:
        """Voice position of each pts, up to whole loops."""
        at = POSITIONS_PER_PTS * np.asarray(pts, float)
        return at + self.pts_offset(at)


def tie(
    recording: Recording,
    voice: Voice,
    audio_offset: int,
    keep: float = 1.0,
    every: float = 2.0,
    processing_ms: float | None = None,
) -> Ties:
    """Finds the ties. `processing_ms`: from an earlier part of the same session, where its beginning is gone.

    Raises Unmeasurable where the microphone or what came back cannot be found in the voice.
    """
    stream = recording.microphone
    if len(stream.blocks) < 100 or not recording.packets:
        raise Unmeasurable(f"{len(stream.blocks)} blocks from the microphone, {len(recording.packets)} packets back")
    blocks, ends = np.array(stream.blocks), stream.ends()
    # The first blocks may carry another clock, from before their tap had moved to its worker.
    good = blocks[:, 1] - blocks[:, 0] > -1.0
    blocks, ends = blocks[good], ends[good]
    scale = RATE / stream.rate
    block = float(np.median(blocks[:, 2])) * scale
    found = anchors(voice, stream.chunks, stream.rate)
    tapped = settle(found, voice.period)(ends * scale)
    # Blocks lost between device and page make the content jump ahead by as much.
    lost = block * np.round((tapped - tapped[0]) / block)
    if processing_ms is None:
        # What the tap's blocks hold is behind what the device had delivered by the time that cleaning a voice takes.
        missed = blocks_missed(np.array(recording.delivered), blocks[:, 0], ends) * block
        behind = (missed + np.median(lost - tapped) + voice.period / 2) % voice.period - voice.period / 2
        processing_ms = float(behind) / PER_MS
        if not -0.5 <= processing_ms < LONGEST_PROCESSING_MS:
            raise Irregular(
                f"the microphone's blocks and what is in them are {processing_ms:.1f} ms apart: it began irregularly"
            )
    device = DeviceClock(blocks[:, 0], ends * scale + np.median(tapped - lost) + lost + processing_ms * PER_MS)
    returned = anchors(voice, decoded(recording.packets, audio_offset, keep, every), SAMPLE_RATE)
    offset, rtt = clock_offset(np.array(recording.pongs))
    report = {
        "clock_offset_ms": round(offset, 2),
        "clock_rtt_ms": round(rtt, 2),
        "microphone_rate": stream.rate,
        "microphone_prominence": round(median(anchor.prominence for anchor in found), 1),
        "microphone_slipped_ms": round(device.slipped_ms, 1),
        "microphone_lost_ms": round(float(lost[-1]) / PER_MS, 1) + 0.0,  # no "-0.0"
        "returned_prominence": round(median(anchor.prominence for anchor in returned), 1) if returned else None,
        "returned_spread_ms": round(spread_ms(returned, voice.period), 2) if returned else None,
        "anchors": len(returned),
        "processing_ms": round(processing_ms, 2) + 0.0,
    }
    return Ties(device, settle(returned, voice.period), processing_ms, report)


def decoded(
    packets: Sequence[tuple[int, float, bytes]], audio_offset: int, keep: float, every: float
) -> list[tuple[int, np.ndarray]]:
    """The returned packets as (pts, samples): the same packets that the server heard, decoded once more.

    All are decoded, for a decoder remembers; of each `every` seconds `keep` are returned.
    """
    decoder = OpusDecoder()
    out = []
    last = -1
    for stamp, payload in sorted(
        ((((stamp - audio_offset) & 0xFFFFFFFF), payload) for stamp, _, payload in packets), key=lambda entry: entry[0]
    ):
        pts = stamp // POSITIONS_PER_PTS
        if pts == last:
            continue
        last = pts
        samples = decoder.decode(payload)
        if samples is not None and (pts / SAMPLE_RATE) % every < keep:
            out.append((pts, samples))
    return out


def analyse(
    recording: Recording,
    voice: Voice,
    *,
    begin: float,
    end: float,
    output_delay_ms: float,
    keep: float = 1.0,
    every: float = 2.0,
    processing_ms: float | None = None,
    points: int = 1500,
) -> dict[str, Any]:
    """The numbers of the frames presented between `begin` and `end` (ms, page's clock)."""
    hello = recording.event("hello")
    if hello is None:
        raise Unmeasurable("the server never said hello on the control channel")
    ties = tie(recording, voice, hello["message"]["audio_rtp_offset"], keep, every, processing_ms)
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


def played_at(stream: Any, voice: Voice, position: np.ndarray) -> np.ndarray:
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
    """For plots: seconds, latency and skew of at most so many frames, evenly taken."""
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
    """Independent of every clock and number: do the pixels move with the voice that the frame's number says?"""
    hello = recording.event("hello")
    assert hello is not None
    ties = tie(recording, voice, hello["message"]["audio_rtp_offset"], keep, every)
    frames = [frame for frame in recording.frames if frame[5]]
    pictures = np.array([np.frombuffer(_bytes(frame[5]), np.uint8) for frame in frames], float)
    moments = ties.position(np.array([frame[0] for frame in frames]) * SAMPLES_PER_FRAME) / RATE
    levels = np.convolve(loudness(voice), np.ones(4) / 4, "same")  # a frame answers about 40 ms

    def at(seconds: np.ndarray) -> np.ndarray:
        return levels[(seconds * 100).astype(int) % len(levels)]

    return {"frames": len(frames), **pixel_lag(pictures, moments, at)}


def _bytes(text: str) -> bytes:
    import base64

    return base64.b64decode(text)


def middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Number by number the median of the runs; what is no number in all of them is left out."""
    out: dict[str, Any] = {}
    for key in runs[0]:
        values: list[Any] = [run.get(key) for run in runs]
        if all(isinstance(other, dict) for other in values):
            out[key] = middle(values)
        elif all(isinstance(other, int | float) and not isinstance(other, bool) for other in values):
            out[key] = round(median(values), 4)
    return out


def verdicts(numbers: dict[str, Any], renderer: str) -> dict[str, bool]:
    """Which of the project's targets for a renderer these numbers meet."""
    total, skew, cut = numbers["total_ms"], numbers.get("av_skew_ms"), numbers.get("interrupt_ms")
    met = {f"mic-to-photon {name} ≤ {limit:g} ms": total[name] <= limit for name, limit in LATENCY[renderer].items()}
    met["first frame ≤ 1 s after the click"] = numbers["first_frame_ms"] <= 1000
    if skew:
        met["A/V skew within ±40 ms for 95 % of frames"] = skew["within_40"] >= 0.95
    if cut:
        # The message's way there and the picture's way back are the transport's.
        transport = numbers["ties"]["clock_rtt_ms"] + sum(
            numbers["stages_ms"][name]["p50"] for name in ("encode", "send", "network", "display")
        )
        met["interrupt ≤ 80 ms plus transport"] = cut["longest"] <= INTERRUPT_MS + transport
    met["25 fps"] = numbers["display"]["fps"] >= FRAMES_PER_SECOND[renderer]
    return {name: bool(holds) for name, holds in met.items()}


# Runs -----------------------------------------------------------------------------------------------------------------


def run_once(**options: Any) -> list[dict[str, Any]]:
    """`run_attempt`, again where it could not be measured; what went wrong is reported with the numbers."""
    failed: list[str] = []
    while True:
        try:
            return [report | {"failed_attempts": failed} for report in run_attempt(**options)]
        except NothingToMeasure:
            raise
        except (Unmeasurable, ValueError) as error:
            failed.append(str(error))
            print(f"attempt {len(failed)} of {ATTEMPTS} failed: {error}", flush=True)
            if len(failed) == ATTEMPTS:
                raise


def run_attempt(
    *,
    seconds: float,
    echo_cancellation: bool,
    size: int | None,
    sessions: int,
    command: str | None,
    generator: str | None = None,
    picture: Path | None = None,
    interrupts: int = 6,
) -> list[dict[str, Any]]:
    """One run with a server and a browser of its own: a report for each session; a refused one says so."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        voice = make_voice(wav)
        loads = [hardware.load()]
        with open_server(command, generator) as server, open_chromium(wav) as chromium:
            character = upload(server.url, picture) if picture else ""
            visits: list[Visit | str] = []
            for _ in range(sessions):
                visit = Visit(chromium, server.url, echo_cancellation=echo_cancellation, size=size, character=character)
                try:
                    visit.start()
                    visits.append(visit)
                except Unmeasurable as refused:
                    visit.close()
                    visits.append(str(refused))
            live = [visit for visit in visits if isinstance(visit, Visit)]
            if not live:
                raise Unmeasurable(str(visits[0]))
            _watch_all(live, SETTLE)
            usage = {"server": Usage([server.process]), "chromium": Usage(chromium.processes())}
            begun = {id(visit): (visit.recording.now, visit.stats()) for visit in live}
            _watch_all(live, seconds)
            loads.append(hardware.load())
            cpu = {name: used.cpu_percent() for name, used in usage.items()}
            memory = {name: used.memory_mb() for name, used in usage.items()}
            ended = {id(visit): (visit.recording.now, visit.stats()) for visit in live}
            reports = []
            for asked in visits:
                if isinstance(asked, str):
                    reports.append({"refused": asked})
                    continue
                visit = asked
                (begin, before), (end, after) = begun[id(visit)], ended[id(visit)]
                shown, state = visit.shown(), visit.server_state()
                cuts = visit.interrupt(interrupts)
                marks = visit.recording.marks
                reports.append(
                    analyse(visit.recording, voice, begin=begin, end=end, output_delay_ms=_output_delay(before, after))
                    | {
                        "first_frame_ms": round(marks["firstFrame"] - marks["click"], 1),
                        "first_frame_by": _startup(visit.recording),
                        "interrupt_ms": interruptions(cuts, visit.recording),
                        "cpu_percent": cpu,
                        "memory_mb": memory,
                        "loadavg": loads,
                        "browser_counts": _counts(before, after),
                        "renderer": state["renderer"],
                        "size": state["size"],
                        "server_counts": {"frames": state["frames"], "audio": state["audio"]},
                        "page_shows_ms": _clean(shown["total"]),
                        "warnings": sorted(
                            {e["reason"] for e in visit.recording.events if e["type"] == "element_warning"}
                        ),
                        "browser": chromium.version,
                    }
                )
            for visit in live:
                visit.close()
            return reports


def upload(url: str, picture: Path) -> str:
    """The id of the character that a server makes of a picture."""
    kind = mimetypes.guess_type(picture.name)[0] or "image/png"
    asked = urllib.request.Request(
        f"{url}/v1/characters?consent=1", picture.read_bytes(), {"Content-Type": kind}, method="POST"
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return str(json.load(answer)["id"])
    except urllib.error.HTTPError as refused:
        raise NothingToMeasure(f"{picture}: {json.load(refused)['detail']}") from None


def _startup(recording: Recording) -> dict[str, float]:
    """Milliseconds from the click to an open microphone, the control channel's hello, the first frame."""
    hello = recording.event("hello")
    marks = {"microphone": recording.marks.get("microphone"), "hello": hello and hello["at"]}
    marks["frame"] = recording.marks["firstFrame"]
    return {name: round(at - recording.marks["click"], 1) for name, at in marks.items() if at is not None}


def _watch_all(visits: Sequence[Visit], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for visit in visits:
            visit.watch(min(left, 5.0) / len(visits))


def _output_delay(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Milliseconds from a sample's leaving the jitter buffer to its being heard, as the browser estimates it."""
    a, b = before.get("media-playout audio", {}), after.get("media-playout audio", {})
    samples = b.get("totalSamplesCount", 0) - a.get("totalSamplesCount", 0)
    return 1000 * (b["totalPlayoutDelay"] - a["totalPlayoutDelay"]) / samples if samples else 0.0


def _counts(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The browser's own counters over the measured time."""
    video = ("framesReceived", "framesDecoded", "framesDropped", "freezeCount", "keyFramesDecoded", "packetsLost")
    audio = ("concealedSamples", "insertedSamplesForDeceleration", "removedSamplesForAcceleration", "packetsLost")
    out = {}
    for kind, names in (("video", video), ("audio", audio)):
        a, b = before.get(f"inbound-rtp {kind}", {}), after.get(f"inbound-rtp {kind}", {})
        out[kind] = {name: b[name] - a.get(name, 0) for name in names if name in b}
    return out


def _clean(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 1) for key, value in values.items() if isinstance(value, int | float)}


def verify(
    command: str | None, generator: str | None, size: int | None, picture: Path | None, seconds: float = 12.0
) -> dict[str, Any]:
    """A short run in which the displayed pixels themselves are compared with the voice."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        voice = make_voice(wav)
        with open_server(command, generator) as server, open_chromium(wav) as chromium:
            character = upload(server.url, picture) if picture else ""
            visit = Visit(chromium, server.url, echo_cancellation=False, size=size, character=character, pixels=True)
            visit.start()
            visit.watch(seconds)
            visit.close()
            return check_pixels(visit.recording, voice, 1.0, 2.0)


def run(
    seconds: float = 300.0,
    runs: int = 3,
    echo: Sequence[bool] = (True, False),
    size: int | None = None,
    sessions: int = 1,
    command: str | None = None,
    generator: str | None = None,
    picture: Path | None = None,
    pixels: bool = True,
) -> dict[str, Any]:
    """All configurations; prints as it goes. A run that failed is told of in the report, and costs no other run."""
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    configurations, failed, browser, drawn = [], [], None, {}
    for echo_cancellation in echo:
        reports = []
        for number in range(runs):
            try:
                result = run_once(
                    seconds=seconds, echo_cancellation=echo_cancellation, size=size, sessions=sessions,
                    command=command, generator=generator, picture=picture,
                )  # fmt: skip
            except NothingToMeasure:
                raise
            except (Unmeasurable, ValueError) as error:
                failed.append({"echo_cancellation": echo_cancellation, "run": number + 1, "why": str(error)})
                continue
            reports.append(result)
            for index, report in enumerate(result):
                browser = report.get("browser", browser)
                _print_run(echo_cancellation, number, index, sessions, report)
        measured = [report for result in reports for report in result if "refused" not in report]
        if not measured:
            continue
        numbers = middle(measured)
        drawn = {key: measured[0][key] for key in ("renderer", "size")}
        configurations.append(
            {
                "echo_cancellation": echo_cancellation,
                "median": numbers,
                "targets": verdicts(numbers, drawn["renderer"]),
                "runs": reports if sessions > 1 else [result[0] for result in reports],
            }
        )
    if not configurations:
        raise Unmeasurable("; ".join(sorted({run["why"] for run in failed})) or "every session was refused")
    return {
        "benchmark": "mic_to_photon" if sessions == 1 else "two_sessions",
        "began": began,
        "renderer": drawn["renderer"],
        "settings": {
            "seconds": seconds,
            "runs": runs,
            "size": drawn["size"],
            "sessions": sessions,
            "fps": FPS,
            "generator": generator or "default",
            "picture": picture.name if picture else None,
        },
        "hardware": hardware.describe(browser),
        "configurations": configurations,
        "failed_runs": failed,
        "pixel_check": verify(command, generator, size, picture) if pixels else None,
    }


def _print_run(echo: bool, number: int, index: int, sessions: int, report: dict[str, Any]) -> None:
    who = f"echo cancellation {'on' if echo else 'off'}, run {number + 1}" + (
        f", session {index + 1}" if sessions > 1 else ""
    )
    if "refused" in report:
        print(f"{who}: refused ({report['refused']})", flush=True)
        return
    total, skew = report["total_ms"], report["av_skew_ms"]
    stages = " ".join(f"{name} {values['p50']:g}" for name, values in report["stages_ms"].items() if values)
    print(
        f"{who}, {report['renderer']} at {report['size']}: "
        f"{total['p50']:g}/{total['p95']:g}/{total['p99']:g} ms, {report['display']['fps']:g} fps, "
        f"first frame {report['first_frame_ms']:g} ms, "
        + (f"skew {skew['p50']:+g} ms ({skew['within_40']:.1%} within ±40), " if skew else "skew unknown, ")
        + f"load {report['loadavg']}\n    {stages}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Latency from the microphone to the screen, in a real browser.")
    parser.add_argument("--seconds", type=float, default=300.0, help="measured in each run (default: %(default)g)")
    parser.add_argument("--runs", type=int, default=3, help="the median of so many is reported (default: %(default)s)")
    parser.add_argument("--echo", choices=("on", "off", "both"), default="both", help="the browser's echo cancellation")
    parser.add_argument("--size", type=int, help="edge in pixels (default: what the server gives for what draws)")
    parser.add_argument("--picture", type=Path, help="a picture to be shown instead of the page's first character")
    parser.add_argument("--sessions", type=int, default=1, help="users at once")
    parser.add_argument("--quick", action="store_true", help="20 seconds, one run each")
    parser.add_argument("--no-pixels", action="store_true", help="leave out the check of pixels against sound")
    parser.add_argument("--command", help="what to run instead of `lipstream`")
    parser.add_argument("--generator", help="what draws the character (default: the server's own default)")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes (default: {RESULTS.name})")
    options = parser.parse_args(arguments)
    if options.seconds < 5 or options.runs < 1 or options.sessions < 1:
        parser.error("want at least 5 seconds, 1 run and 1 session")
    try:
        report = run(
            seconds=20.0 if options.quick else options.seconds,
            runs=1 if options.quick else options.runs,
            echo={"on": (True,), "off": (False,), "both": (True, False)}[options.echo],
            size=options.size,
            sessions=options.sessions,
            command=options.command,
            generator=options.generator,
            picture=options.picture,
            pixels=not options.no_pixels and options.sessions == 1,
        )
    except (Unmeasurable, ValueError) as error:
        print(f"mic_to_photon: {error}", file=sys.stderr)
        return 1
    out = options.out or (RESULTS if options.sessions == 1 else RESULTS.with_name("two_sessions.json"))
    write_json(out, report)
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
