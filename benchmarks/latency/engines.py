"""Time per frame of the neural generator with each CPU engine: `python -m benchmarks.latency.engines`.

OpenVINO in each precision of this CPU and onnxruntime, on one and two threads, take turns drawing each frame, so that
other load on the machine affects them equally. Besides wall time, the CPU time of the whole process is measured: it
shows what is left for a browser, and depends less on other load. Times of single networks are measured apart.

Writes JSON with the hardware (default: `benchmarks/results/engines.json`).
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.lib import hardware
from benchmarks.lib.paths import RESULTS
from streamer.base.constants import DEFAULT_SIZES, SIZES
from streamer.model.runtime.compiled import Compiled
from streamer.model.runtime.compose import MAX_REFERENCES
from streamer.model.runtime.engines import Engine, Network, OnnxRuntime, OpenVino
from streamer.model.runtime.graph_cpu import GraphFrameRenderer, stand_in
from streamer.model.runtime.graphs import Graphs, find
from streamer.model.runtime.stream import NotFinite, random_conditions


class Timed(Mapping[str, Network]):
    """Networks that record how long they take."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self._networks = networks
        self.seconds: dict[str, list[float]] = {}

    def __getitem__(self, graph: str) -> Network:
        network = self._networks[graph]

        def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
            began = time.perf_counter()
            found = network(given)
            self.seconds.setdefault(graph, []).append(time.perf_counter() - began)
            return found

        return run

    def __iter__(self) -> Any:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)


def _milliseconds(seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {"least": 1e3 * float(np.min(seconds)), "p50": 1e3 * float(np.median(seconds))}


def measure(graphs: Graphs, frames: int, threads: Sequence[int], size: int, references: int) -> list[dict[str, Any]]:
    """A row for each engine, precision and number of threads. Raises Unavailable if an engine cannot draw."""
    rows: list[dict[str, Any]] = []
    draws: list[Callable[[np.random.Generator], np.ndarray]] = []
    watches: list[Timed] = []

    def add(engine: Engine, precision: str, used: int) -> None:
        watch = Timed(Compiled(graphs, engine, precision, used, OnnxRuntime()))
        renderer = GraphFrameRenderer(graphs.config, watch, graphs.config.transformer.context)
        session = stand_in(renderer, size, np.random.default_rng(0), references)

        def draw(rng: np.random.Generator) -> np.ndarray:
            renderer.hear(session, random_conditions(rng))
            (frame,) = renderer.draw([session], planes=False)
            if isinstance(frame, NotFinite):
                raise frame
            return np.asarray(frame)

        rows.append({"engine": engine.name, "precision": precision, "threads": used, "n": frames})
        draws.append(draw)
        watches.append(watch)

    for used in threads:
        for engine in (OnnxRuntime(), OpenVino()):
            for precision in engine.precisions():
                add(engine, precision, used)
    wall = np.zeros((len(rows), frames))
    spent, apart = np.zeros_like(wall), np.zeros_like(wall)
    for k in range(-3, frames):  # the first three warm up
        plain: np.ndarray | None = None
        for i, draw in enumerate(draws):
            if k == 0:
                watches[i].seconds.clear()
            began, cpu = time.perf_counter(), time.process_time()
            frame = draw(np.random.default_rng(k + 3))
            took = time.perf_counter() - began, time.process_time() - cpu
            plain = frame.astype(np.float32) if plain is None else plain
            if k >= 0:
                wall[i, k], spent[i, k] = took
                apart[i, k] = np.abs(frame - plain).mean()
    for i, row in enumerate(rows):
        row["wall_ms"], row["processor_ms"] = _milliseconds(wall[i]), _milliseconds(spent[i])
        row["networks_ms"] = {graph: _milliseconds(each) for graph, each in watches[i].seconds.items()}
        row["levels_from_onnxruntime"] = float(apart[i].mean())
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--frames", type=int, default=60, help="frames that each engine draws (default: %(default)s)")
    parser.add_argument("--size", type=int, choices=SIZES, default=DEFAULT_SIZES["neural"])
    parser.add_argument("--references", type=int, choices=range(1, MAX_REFERENCES + 1), default=1)
    parser.add_argument("--threads", default="1,2", help="comma-separated (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "engines.json")
    args = parser.parse_args(argv)
    try:
        threads = tuple(int(number) for number in args.threads.split(","))
    except ValueError:
        parser.error(f"--threads is {args.threads!r}: must be numbers, comma-separated")
    if min(threads) < 1 or args.frames < 2:
        parser.error(f"--threads is {args.threads} and --frames is {args.frames}: at least 1 and 2 are needed")
    load_before = hardware.load()
    cv2.setNumThreads(1)
    rows = measure(find(args.preset), args.frames, threads, args.size, args.references)
    for row in rows:
        print(f"{row['engine']:20} {row['precision']:5} {row['threads']} threads: {row['wall_ms']['p50']:6.1f} ms, CPU "
              f"{row['processor_ms']['p50']:6.1f} ms")  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"hardware": hardware.describe(), "load_before": load_before, "preset": args.preset, "size": args.size,
              "references": args.references, "rows": rows}  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1, default=float) + "\n")
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
