"""Mic-to-photon latency: from the capture of a sample to the display of its frame, in a real browser on the real page.

    python -m benchmarks.latency.mic_to_photon                        # 5 minutes, 3 runs, echo cancellation on and off
    python -m benchmarks.latency.mic_to_photon --quick                # 20 seconds, once each
    python -m benchmarks.latency.mic_to_photon --sessions 2 --quick   # two users at once
    python -m benchmarks.latency.mic_to_photon --picture me.jpg       # an uploaded picture

The targets are those of the renderer that the server reports. docs/benchmarks.md explains definitions and method;
benchmarks/lib/session_analysis.py computes the numbers.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.lib import hardware
from benchmarks.lib.alignment import Voice
from benchmarks.lib.browser import Chromium, Visit, open_chromium, open_steady
from benchmarks.lib.errors import NothingToMeasure, ServerFailed, Unmeasurable
from benchmarks.lib.paths import RESULTS
from benchmarks.lib.recording import Recording
from benchmarks.lib.results import failure, not_measured, write_json
from benchmarks.lib.server import ServerProcess, open_server, upload
from benchmarks.lib.session_analysis import SETTLE, analyse, check_pixels, interruptions, output_delay
from benchmarks.lib.targets import promised, verdicts
from benchmarks.lib.usage import Usage
from benchmarks.lib.voice import make_voice
from streamer.base.constants import FPS

ATTEMPTS = 3  # per run: on a busy machine connections time out, and sessions are lost


def middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median over the runs of each value that is a number in all of them."""
    out: dict[str, Any] = {}
    for key in runs[0]:
        values: list[Any] = [run.get(key) for run in runs]
        if all(isinstance(other, dict) for other in values):
            out[key] = middle(values)
        elif all(isinstance(other, int | float) and not isinstance(other, bool) for other in values):
            out[key] = round(median(values), 4)
    return out


def run_once(
    server: ServerProcess,
    *,
    seconds: float,
    echo_cancellation: bool,
    size: int | None,
    sessions: int,
    picture: Path | None = None,
    interrupts: int = 6,
) -> list[dict[str, Any]]:
    """One run in a new browser: a report for each session, or the reason why the server refused it.

    An attempt that cannot be measured is repeated in the same browser, and its reason is included in the report.
    Raises Unmeasurable after ATTEMPTS attempts.
    """
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        voice = make_voice(wav)
        with open_chromium(wav) as chromium:
            failed: list[str] = []
            options = {
                "echo_cancellation": echo_cancellation,
                "size": size,
                "character": upload(server.url, picture) if picture else "",
            }
            while True:
                visits: list[Visit | str] = []
                try:
                    reports = _attempt(server, chromium, voice, visits, seconds, sessions, interrupts, options)
                    return [report | {"failed_attempts": failed} for report in reports]
                except NothingToMeasure:
                    raise
                except Unmeasurable as error:
                    failed.append(str(error))
                    print(f"attempt {len(failed)} of {ATTEMPTS}: {error}", flush=True)
                    if len(failed) == ATTEMPTS:
                        raise
                finally:
                    for visit in visits:
                        if isinstance(visit, Visit):
                            visit.close()


def _attempt(
    server: ServerProcess,
    chromium: Chromium,
    voice: Voice,
    visits: list[Visit | str],
    seconds: float,
    sessions: int,
    interrupts: int,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """One attempt. Appends each session's visit, or the reason for its refusal, to `visits`. `options`: of a visit."""
    loads = [hardware.load()]
    for _ in range(sessions):
        try:
            visits.append(open_steady(chromium, server.url, voice, **options))
        except Unmeasurable as refused:
            visits.append(str(refused))
    live = [visit for visit in visits if isinstance(visit, Visit)]
    if not live:
        raise Unmeasurable(str(visits[0]))
    if sessions > 1:
        _watch_all(live, SETTLE)  # setting up a session disturbs those that already run
    about = _measure(live, seconds, server, chromium)
    loads.append(hardware.load())
    reports: list[dict[str, Any]] = []
    for visit in visits:
        if isinstance(visit, str):
            reports.append({"refused": visit})
            continue
        (begin, before), (end, after) = about["ends"][id(visit)]
        shown, state = visit.shown(), visit.server_state()
        cuts = visit.interrupt(interrupts)
        marks = visit.recording.marks
        numbers = analyse(
            visit.recording, voice, begin=begin, end=end, output_delay_ms=output_delay(before, after),
            processing_ms=visit.processing_ms,
        )  # fmt: skip
        reports.append(
            numbers
            | {
                "first_frame_ms": round(marks["firstFrame"] - marks["click"], 1),
                "first_frame_by": _startup(visit.recording),
                "interrupt_ms": interruptions(cuts, visit.recording),
                "cpu_percent": about["cpu_percent"],
                "memory_mb": about["memory_mb"],
                "loadavg": loads,
                "browser_counts": _counts(before, after),
                "renderer": state["renderer"],
                "size": state["size"],
                "server_counts": {"frames": state["frames"], "audio": state["audio"]},
                "page_shows_ms": _numbers(shown["total"]),
                "warnings": sorted({e["reason"] for e in visit.recording.events if e["type"] == "element_warning"}),
                "microphones_opened": visit.attempts,
                "browser": chromium.version,
            }
        )
    return reports


def _measure(live: Sequence[Visit], seconds: float, server: ServerProcess, chromium: Chromium) -> dict[str, Any]:
    """Lets the sessions run. Returns CPU and memory of server and browser, and the ends of each session's recording."""
    usage = {"server": Usage([server.process]), "chromium": Usage(chromium.processes())}
    begun = {id(visit): (visit.recording.now, visit.stats()) for visit in live}
    _watch_all(live, seconds)
    return {
        "cpu_percent": {name: used.cpu_percent() for name, used in usage.items()},
        "memory_mb": {name: used.memory_mb() for name, used in usage.items()},
        "ends": {id(visit): (begun[id(visit)], (visit.recording.now, visit.stats())) for visit in live},
    }


def _startup(recording: Recording) -> dict[str, float]:
    """Milliseconds from the click to the open microphone, the control channel's hello, and the first frame."""
    hello = recording.event("hello")
    marks = {"microphone": recording.marks.get("microphone"), "hello": hello and hello["at"]}
    marks["frame"] = recording.marks["firstFrame"]
    return {name: round(at - recording.marks["click"], 1) for name, at in marks.items() if at is not None}


def _watch_all(visits: Sequence[Visit], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for visit in visits:
            visit.watch(min(left, 5.0) / len(visits))


def _counts(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The browser's own counters over the measured time."""
    video = ("framesReceived", "framesDecoded", "framesDropped", "freezeCount", "keyFramesDecoded", "packetsLost")
    audio = ("concealedSamples", "insertedSamplesForDeceleration", "removedSamplesForAcceleration", "packetsLost")
    out = {}
    for kind, names in (("video", video), ("audio", audio)):
        a, b = before.get(f"inbound-rtp {kind}", {}), after.get(f"inbound-rtp {kind}", {})
        out[kind] = {name: b[name] - a.get(name, 0) for name in names if name in b}
    return out


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 1) for key, value in values.items() if isinstance(value, int | float)}


def verify(server: ServerProcess, size: int | None, picture: Path | None, seconds: float = 12.0) -> dict[str, Any]:
    """Compares displayed pixels with the audio in a short run; returns the reason if that cannot be measured."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            wav = Path(folder) / "voice.wav"
            voice = make_voice(wav)
            with open_chromium(wav) as chromium:
                character = upload(server.url, picture) if picture else ""
                visit = Visit(
                    chromium, server.url, echo_cancellation=False, size=size, character=character, pixels=True
                )
                visit.start()
                visit.watch(seconds)
                visit.close()
                return check_pixels(visit.recording, voice, 1.0, 2.0)
    except Unmeasurable as error:
        print(f"pixels were not compared with the audio: {error}", flush=True)
        return {"not_measured": str(error)}


def run(
    server: ServerProcess,
    seconds: float = 300.0,
    runs: int = 3,
    echo: Sequence[bool] = (True, False),
    size: int | None = None,
    sessions: int = 1,
    generator: str | None = None,
    picture: Path | None = None,
    pixels: bool = True,
) -> dict[str, Any]:
    """Measures all configurations on one server, and prints a line per run. The report lists failed runs with reasons.

    `generator`: the one requested from the server. Raises Unmeasurable if every run failed.
    """
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    settings: dict[str, Any] = {
        "seconds": seconds,
        "runs": runs,
        "sessions": sessions,
        "fps": FPS,
        "generator": generator or "default",
        "picture": picture.name if picture else None,
    }
    configurations, failed, browser, drawn = [], [], None, {}
    for echo_cancellation in echo:
        reports = []
        for number in range(runs):
            try:
                result = run_once(
                    server, seconds=seconds, echo_cancellation=echo_cancellation, size=size, sessions=sessions,
                    picture=picture,
                )  # fmt: skip
            except NothingToMeasure:
                raise
            except Unmeasurable as error:
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
                "targets": verdicts(numbers, promised({**drawn, "settings": settings | drawn})),
                "runs": reports if sessions > 1 else [result[0] for result in reports],
            }
        )
    if not configurations:
        raise Unmeasurable("; ".join(sorted({str(run["why"]) for run in failed})) or "every session was refused")
    return {
        "benchmark": "mic_to_photon" if sessions == 1 else "two_sessions",
        "began": began,
        "renderer": drawn["renderer"],
        "settings": settings | {"size": drawn["size"]},
        "hardware": hardware.describe(browser),
        "configurations": configurations,
        "failed_runs": failed,
        "pixel_check": verify(server, size, picture) if pixels else None,
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
        f"{total['p50']:g}/{total['p95']:g}/{total['p99']:g} ms (p50/p95/p99), {report['display']['fps']:g} frames/s, "
        f"first frame {report['first_frame_ms']:g} ms, "
        + (f"A/V skew {skew['p50']:+g} ms ({skew['within_40']:.1%} within ±40), " if skew else "A/V skew unknown, ")
        + f"load {report['loadavg']}\n    {stages}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Latency from the microphone to the screen, in a real browser.")
    parser.add_argument("--seconds", type=float, default=300.0, help="length of each run (default: %(default)g)")
    parser.add_argument("--runs", type=int, default=3, help="the median of so many is reported (default: %(default)s)")
    parser.add_argument("--echo", choices=("on", "off", "both"), default="both", help="the browser's echo cancellation")
    parser.add_argument("--size", type=int, help="edge of the frame in pixels (default: the renderer's own)")
    parser.add_argument("--picture", type=Path, help="measure this picture instead of the default character")
    parser.add_argument("--sessions", type=int, default=1, help="concurrent users (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one run of 20 seconds per configuration")
    parser.add_argument("--no-pixels", action="store_true", help="skip the comparison of pixels with the audio")
    parser.add_argument("--command", help="command to start instead of `lipstream`")
    parser.add_argument("--generator", help="the server's generator (default: the server's own choice)")
    parser.add_argument("--out", type=Path, help="output file (default: benchmarks/results/NAME.json)")
    options = parser.parse_args(arguments)
    if options.seconds < 5 or options.runs < 1 or options.sessions < 1:
        parser.error(
            f"--seconds is {options.seconds:g}, --runs {options.runs} and --sessions {options.sessions}: "
            "at least 5, 1 and 1 are needed"
        )
    name = "mic_to_photon" if options.sessions == 1 else "two_sessions"
    out = options.out or RESULTS / f"{name}.json"
    try:
        with open_server(options.command, options.generator) as server:
            report = run(
                server,
                seconds=20.0 if options.quick else options.seconds,
                runs=1 if options.quick else options.runs,
                echo={"on": (True,), "off": (False,), "both": (True, False)}[options.echo],
                size=options.size,
                sessions=options.sessions,
                generator=options.generator,
                picture=options.picture,
                pixels=not options.no_pixels and options.sessions == 1,
            )
    except Unmeasurable as error:
        return not_measured(out, name, str(error))
    except ServerFailed as error:
        return failure(name, error)
    write_json(out, report)
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
