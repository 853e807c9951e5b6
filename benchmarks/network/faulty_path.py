"""A bad network between a real browser and a real server: latency while it lasts, and after it.

    python -m benchmarks.network.faulty_path            # about a minute and a half

Every datagram of a session, both ways, goes through `relay.py`, on loopback, without root. `jitter_buffer.py` measures
the jitter buffer alone, in virtual time and against aiortc's; here the whole system is measured: encoders, key frames,
retransmission, the browser's own buffers.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib import hardware
from benchmarks.lib.alignment import percentiles
from benchmarks.lib.browser import open_chromium, open_steady
from benchmarks.lib.errors import ServerFailed, Unmeasurable
from benchmarks.lib.paths import RESULTS, ROOT
from benchmarks.lib.recording import Recording
from benchmarks.lib.results import failure, not_measured, write_json
from benchmarks.lib.server import open_server
from benchmarks.lib.session_analysis import analyse
from benchmarks.lib.voice import make_voice

OUT = RESULTS / "faulty_path.json"
CALM = {"loss": 0.0, "jitter": 0.0, "reorder": 0.0, "hold": False}
BACK_MS = 20.0  # above the median before, and still "back"
STALL = "stall of 2 s, then a burst"


@dataclass(frozen=True)
class Phase:
    name: str
    seconds: float
    faults: dict[str, Any]


PHASES = (
    Phase("clean", 10, CALM),
    Phase("loss 5 %", 12, CALM | {"loss": 0.05}),
    Phase("after loss", 6, CALM),
    Phase("jitter 20 ms", 12, CALM | {"jitter": 0.02}),
    Phase("after jitter", 8, CALM),
    Phase("reordering 5 %", 10, CALM | {"reorder": 0.05}),
    Phase("after reordering", 6, CALM),
    Phase(STALL, 2, CALM | {"hold": True}),
    Phase("after the stall", 15, CALM),
)


class Relay:
    """The relay's process."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        assert process.stdout is not None
        self.ports: dict[str, int] = json.loads(process.stdout.readline())

    def order(self, **what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(what) + "\n").encode())
        self._process.stdin.flush()


@contextlib.contextmanager
def open_relay() -> Iterator[Relay]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.network.relay"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Relay(process)
        finally:
            process.terminate()


def recovery(t: np.ndarray, latency: np.ndarray, end: float, target: float) -> float | None:
    """Seconds from `end` until the median of the following second is at `target` or below; None if never."""
    for start in np.arange(end, t[-1] - 1, 0.05):
        inside = (t >= start) & (t < start + 1)
        if np.count_nonzero(inside) >= 10 and np.median(latency[inside]) <= target:
            return round(float(start - end), 2)
    return None


def phases_of(
    t: np.ndarray, latency: np.ndarray, edges: Sequence[float], phases: Sequence[Phase] = PHASES
) -> list[dict[str, Any]]:
    """t [n] s and latency [n] ms of the frames presented, edges [phases + 1] s: the numbers of each phase."""
    rows: list[dict[str, Any]] = []
    for phase, begin, end in zip(phases, edges[:-1], edges[1:], strict=True):
        inside = (t >= begin) & (t < end)
        gaps = np.diff(np.concatenate([[begin], t[inside], [end]]))
        rows.append(
            {
                "phase": phase.name,
                "seconds": round(end - begin, 1),
                "total_ms": percentiles(latency[inside]),
                "fps": round(float(np.count_nonzero(inside) / (end - begin)), 2),
                "longest_gap_ms": round(float(gaps.max()) * 1000, 1),
            }
        )
    return rows


def run(size: int | None = None, command: str | None = None, phases: Sequence[Phase] = PHASES) -> dict[str, Any]:
    """Raises Unmeasurable, and ServerFailed."""
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        voice = make_voice(wav)
        with open_server(command) as server, open_chromium(wav) as chromium, open_relay() as relay:

            def tell(recording: Recording) -> None:
                if "serverPort" in recording.marks:
                    relay.order(server=recording.marks["serverPort"])

            visit = open_steady(
                chromium, server.url, voice, meanwhile=tell, echo_cancellation=False, size=size, detour=relay.ports
            )
            edges = []
            for phase in phases:
                relay.order(**phase.faults)
                edges.append(visit.page.evaluate("performance.now()"))
                visit.watch(phase.seconds, every=2.0)
            edges.append(visit.recording.now)
            numbers = analyse(
                visit.recording,
                voice,
                begin=edges[0],
                end=edges[-1],
                output_delay_ms=0.0,
                points=100_000,
                echo_cancellation=False,
            )
            state = visit.server_state()
            visit.close()
            browser = chromium.version
    t = np.array(numbers["series"]["t"]) + numbers["series"]["began_ms"] / 1000
    latency = np.array(numbers["series"]["total"])
    at = [edge / 1000 for edge in edges]
    rows = phases_of(t, latency, at, phases)
    before = latency[(t >= at[0]) & (t < at[1])]
    stalled = next(i for i, phase in enumerate(phases) if phase.name == STALL)
    target = float(np.median(before)) + BACK_MS
    last = latency[t >= at[-1] - 5]
    return {
        "benchmark": "faulty_path",
        "began": began,
        "renderer": state["renderer"],
        "settings": {"size": state["size"], "phases": [vars(phase) for phase in phases]},
        "hardware": hardware.describe(browser),
        "phases": rows,
        "after_stall": {
            "back_after_s": recovery(t, latency, at[stalled + 1], target),
            "target_ms": round(target, 1),
            "lasting_ms": round(float(np.median(last) - np.median(before)), 1),
        },
        "series": {
            "t": [round(float(x - at[0]), 2) for x in t],
            "total": [round(float(x), 1) for x in latency],
            "edges": [round(edge - at[0], 2) for edge in at],
        },
        "server_counts": {"frames": state["frames"], "audio": state["audio"]},
        "loadavg": [hardware.load()],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A bad network between a real browser and a real server.")
    parser.add_argument("--size", type=int, help="edge in pixels (default: what the server gives)")
    parser.add_argument("--quick", action="store_true", help="the same: it takes a minute and a half anyway")
    parser.add_argument("--command", help="what to run instead of `lipstream`")
    parser.add_argument("--out", type=Path, default=OUT, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        report = run(options.size, options.command)
    except Unmeasurable as error:
        return not_measured(options.out, "faulty_path", str(error))
    except ServerFailed as error:
        return failure("faulty_path", error)
    for row in report["phases"]:
        total = row["total_ms"]
        latency = f"{total['p50']:g} / {total['p95']:g} / {total['p99']:g} ms" if total else "no frame"
        print(f"{row['phase']:28} {latency}, {row['fps']:g} frames/s, longest gap {row['longest_gap_ms']:g} ms")
    stall = report["after_stall"]
    back = stall["back_after_s"]
    print(
        f"latency back after the stall: {'never' if back is None else f'{back:g} s'}; "
        f"{stall['lasting_ms']:+g} ms at the end against the beginning"
    )
    write_json(options.out, report)
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
