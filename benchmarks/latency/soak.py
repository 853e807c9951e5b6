"""One long session: do latency, memory or the number of threads grow?

    python -m benchmarks.latency.soak --minutes 30
    python -m benchmarks.latency.soak --quick            # two minutes: only a smoke test

Slopes have 95 % confidence intervals; "flat" means that the interval contains 0, or that the slope is below one
millisecond per hour. The recording is analysed minute by minute and then dropped, so that the benchmark's own memory
does not grow.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib import hardware
from benchmarks.lib.alignment import percentiles, slope
from benchmarks.lib.browser import open_chromium, open_steady
from benchmarks.lib.errors import ServerFailed, Unmeasurable
from benchmarks.lib.paths import RESULTS
from benchmarks.lib.results import failure, not_measured, write_json
from benchmarks.lib.server import open_server
from benchmarks.lib.session_analysis import analyse, output_delay
from benchmarks.lib.targets import FLAT_SHARE
from benchmarks.lib.usage import Usage, rss
from benchmarks.lib.voice import make_voice

OUT = RESULTS / "soak.json"
WINDOW = 60.0  # seconds that are analysed together
WARM_UP = 120.0  # seconds until memory settles: pools, caches, the browser's code
KEEP, EVERY = 2.0, 4.0  # seconds of audio kept for alignment, out of every EVERY seconds


def summarize(windows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summary of consecutive windows {"at": seconds since the start, "total_ms", "skew_ms", "memory_mb", ...}."""
    hours = np.array([window["at"] for window in windows]) / 3600
    out: dict[str, Any] = {}
    for name, key in (("latency_p50", "total_ms"), ("latency_p95", "total_ms"), ("audio_skew", "skew_ms")):
        values = [window[key] and window[key]["p95" if name.endswith("95") else "p50"] for window in windows]
        out[f"{name}_slope_ms_per_hour"] = _slope(hours, values)
    memory = np.array([window["memory_mb"]["server"] for window in windows])
    warm = hours * 3600 >= min(WARM_UP, 0.2 * windows[-1]["at"])
    base = float(np.median(memory[warm][: max(1, warm.sum() // 5)]))
    last = float(np.median(memory[warm][-max(1, warm.sum() // 5) :]))
    out["server_memory_mb"] = {
        "first": round(base, 1),
        "last": round(last, 1),
        "change": round(last / base - 1, 4),
        "highest": round(float(memory.max()), 1),
        "slope_mb_per_hour": _slope(hours[warm], memory[warm]),
    }
    browser = [window["memory_mb"]["chromium"] for window in windows]
    out["chromium_memory_mb"] = {"first": browser[0], "last": browser[-1]}
    threads = [window["threads"] for window in windows]
    out["threads"] = {"first": threads[0], "last": threads[-1], "most": max(threads)}
    for name in ("expected", "not_seen", "freezes", "misread"):
        out[name] = sum(window["display"][name] for window in windows)
    out["latency_over_windows_ms"] = percentiles(np.array([window["total_ms"]["p50"] for window in windows]))
    out["flat"] = {
        "latency": _flat(out["latency_p50_slope_ms_per_hour"]),
        "memory": abs(last / base - 1) <= FLAT_SHARE,
        "threads": threads[-1] <= threads[0],
    }
    return out


def _slope(hours: np.ndarray, values: Sequence[float | None]) -> dict[str, float] | None:
    known = np.array([value is not None for value in values])
    if known.sum() < 12:
        return None
    rise, error = slope(np.asarray(hours)[known], np.array([value for value in values if value is not None]))
    return {"slope": round(rise, 3), "confidence": round(error, 3)}


def _flat(found: dict[str, float] | None) -> bool | None:
    """None if the run is too short to tell."""
    if found is None:
        return None
    return abs(found["slope"]) <= max(found["confidence"], 1.0)


def run(
    minutes: float = 30.0, echo_cancellation: bool = True, size: int | None = None, command: str | None = None
) -> dict:
    """Runs one session for `minutes`, and prints a line for each window. Raises Unmeasurable or ServerFailed."""
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    window_seconds = min(WINDOW, minutes * 60 / 12)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        voice = make_voice(wav)
        with open_server(command) as server, open_chromium(wav) as chromium:
            visit = open_steady(
                chromium, server.url, voice,
                echo_cancellation=echo_cancellation, size=size, keep=KEEP, every=EVERY,
            )  # fmt: skip
            start = visit.recording.now
            windows: list[dict[str, Any]] = []
            lost: list[dict[str, Any]] = []
            while (at := visit.recording.now - start) < minutes * 60_000 - window_seconds * 500:
                begin, before = visit.recording.now, visit.stats()
                usage = {"server": Usage([server.process]), "chromium": Usage(chromium.processes())}
                visit.watch(window_seconds)
                try:
                    numbers = analyse(
                        visit.recording,
                        voice,
                        begin=begin,
                        end=visit.recording.now,
                        output_delay_ms=output_delay(before, visit.stats()),
                        keep=KEEP,
                        every=EVERY,
                        processing_ms=visit.processing_ms,
                    )
                except Unmeasurable as error:
                    lost.append({"at": round(at / 1000, 1), "why": str(error)})
                    print(f"{at / 60_000:6.1f} min: not measured: {error}", flush=True)
                    visit.recording.forget(visit.recording.now - 3000)
                    continue
                visit.recording.forget(visit.recording.now - 3000)
                windows.append(
                    {
                        "at": round(at / 1000, 1),
                        "total_ms": numbers["total_ms"],
                        "skew_ms": numbers["av_skew_ms"],
                        "display": numbers["display"],
                        "memory_mb": {
                            "server": round(rss(server.process) / 2**20, 2),
                            "chromium": usage["chromium"].memory_mb(),
                        },
                        "cpu_percent": {name: used.cpu_percent() for name, used in usage.items()},
                        "threads": server.threads(),
                        "loadavg": hardware.load(),
                        "microphone_slipped_ms": numbers["ties"]["microphone_slipped_ms"],
                    }
                )
                _print_window(windows[-1])
            state = visit.server_state()
            visit.close()
            browser = chromium.version
    if not windows:
        raise Unmeasurable(f"none of {len(lost)} windows could be measured: {lost[0]['why']}")
    return {
        "benchmark": "soak",
        "began": began,
        "renderer": state["renderer"],
        "settings": {"minutes": minutes, "echo_cancellation": echo_cancellation, "size": state["size"]},
        "hardware": hardware.describe(browser),
        "summary": summarize(windows),
        "windows": windows,
        "windows_not_measured": lost,
        "server_counts": {"frames": state["frames"], "audio": state["audio"]},
    }


def _print_window(window: dict[str, Any]) -> None:
    total = window["total_ms"]
    print(
        f"{window['at'] / 60:6.1f} min: {total['p50']:g}/{total['p95']:g}/{total['p99']:g} ms, "
        f"{window['display']['fps']:g} frames/s, server {window['memory_mb']['server']:g} MB, "
        f"{window['threads']} threads, load {window['loadavg']}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Growth of latency and memory over a long session.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--echo", choices=("on", "off"), default="on", help="the browser's echo cancellation")
    parser.add_argument("--size", type=int, help="edge of the frame in pixels (default: the server's)")
    parser.add_argument("--quick", action="store_true", help="two minutes")
    parser.add_argument("--command", help="command to start instead of `lipstream`")
    parser.add_argument("--out", type=Path, default=OUT, help="output file (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.minutes < 1:
        parser.error(f"--minutes is {options.minutes:g}: at least 1 is needed")
    try:
        report = run(2.0 if options.quick else options.minutes, options.echo == "on", options.size, options.command)
    except Unmeasurable as error:
        return not_measured(options.out, "soak", str(error))
    except ServerFailed as error:
        return failure("soak", error)
    write_json(options.out, report)
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
