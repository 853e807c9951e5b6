"""A bad network between a real browser and a real server: latency while it lasts, and after it.

    python benchmarks/faulty_path.py            # about a minute and a half

Every datagram of a session, both ways, goes through `relay.py`, on loopback, without root. `network_faults.py` measures
the jitter buffer alone, in virtual time and against another's; here the whole system is measured: encoders, key frames,
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

import hardware
import numpy as np
from alignment import percentiles
from browser import HERE, Recording, Unmeasurable, Visit, make_voice, open_chromium, open_server, write_json
from mic_to_photon import SETTLE, analyse

RESULTS = HERE / "results" / "faulty_path.json"
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
        [sys.executable, str(HERE / "relay.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
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


def phases_of(t: np.ndarray, latency: np.ndarray, edges: Sequence[float]) -> list[dict[str, Any]]:
    """t [n] s and latency [n] ms of the frames presented, edges [phases + 1] s: the numbers of each phase."""
    rows: list[dict[str, Any]] = []
    for phase, begin, end in zip(PHASES, edges[:-1], edges[1:], strict=True):
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


def run(size: int | None = None, command: str | None = None) -> dict[str, Any]:
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        voice = make_voice(wav)
        with open_server(command) as server, open_chromium(wav) as chromium, open_relay() as relay:
            visit = Visit(chromium, server.url, echo_cancellation=False, size=size, detour=relay.ports)

            def tell(recording: Recording) -> None:
                if "serverPort" in recording.marks:
                    relay.order(server=recording.marks["serverPort"])

            visit.start(meanwhile=tell)
            visit.watch(SETTLE)
            edges = []
            for phase in PHASES:
                relay.order(**phase.faults)
                edges.append(visit.page.evaluate("performance.now()"))
                visit.watch(phase.seconds, every=2.0)
            edges.append(visit.recording.now)
            numbers = analyse(
                visit.recording, voice, begin=edges[0], end=edges[-1], output_delay_ms=0.0, points=100_000
            )
            state = visit.server_state()
            visit.close()
            browser = chromium.version
    t = np.array(numbers["series"]["t"]) + numbers["series"]["began_ms"] / 1000
    latency = np.array(numbers["series"]["total"])
    at = [edge / 1000 for edge in edges]
    rows = phases_of(t, latency, at)
    before = latency[(t >= at[0]) & (t < at[1])]
    stalled = next(i for i, phase in enumerate(PHASES) if phase.name == STALL)
    target = float(np.median(before)) + BACK_MS
    last = latency[t >= at[-1] - 5]
    return {
        "benchmark": "faulty_path",
        "began": began,
        "renderer": state["renderer"],
        "settings": {"size": state["size"], "phases": [vars(phase) for phase in PHASES]},
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
    parser.add_argument(
        "--quick", action="store_true", help="accepted for symmetry: it takes a minute and a half anyway"
    )
    parser.add_argument("--command", help="what to run instead of `lipstream`")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        report = run(options.size, options.command)
    except (Unmeasurable, ValueError) as error:
        print(f"faulty_path: {error}", file=sys.stderr)
        return 1
    for row in report["phases"]:
        total = row["total_ms"] or {"p50": float("nan"), "p95": float("nan"), "p99": float("nan")}
        print(
            f"{row['phase']:28} {total['p50']:g}/{total['p95']:g}/{total['p99']:g} ms, {row['fps']:g} fps, "
            f"longest gap {row['longest_gap_ms']:g} ms"
        )
    stall = report["after_stall"]
    print(f"back after the stall: {stall['back_after_s']} s, {stall['lasting_ms']:+g} ms for good")
    write_json(options.out, report)
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
