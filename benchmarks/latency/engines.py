"""Time per frame of the neural generator with each CPU engine: `python -m benchmarks.latency.engines`.

PyTorch and OpenVINO, in float32 and bfloat16, on one and two threads, take turns drawing each frame, so that other load
on the machine affects them equally. Besides wall time, the CPU time of the whole process is measured: it shows what is
left for a browser, and depends less on other load.

Writes JSON with the hardware (default: `benchmarks/results/engines.json`).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib import hardware
from benchmarks.lib.paths import RESULTS
from streamer.model.checkpoint import Networks, load
from streamer.model.runtime.openvino_cpu import OpenVinoFrameRenderer, models
from streamer.model.runtime.torch_cpu import TIMES, FrameConditions, FrameRenderer, random_conditions, stand_in

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def drawer(frame_renderer: FrameRenderer, threads: int, times: int) -> Callable[[FrameConditions], np.ndarray]:
    """A function that draws a session's next frame at `times` the networks' size S: [times S, times S, 4] uint8."""
    session = stand_in(frame_renderer, np.random.default_rng(0), times)

    def draw(conditions: FrameConditions) -> np.ndarray:
        torch.set_num_threads(threads)  # OpenVINO's threads were set when it compiled
        frame_renderer.hear(session, conditions)
        (frame,) = frame_renderer.draw([session])
        if isinstance(frame, Exception):
            raise frame
        return frame

    return draw


def measure(networks: Networks, frames: int, threads: tuple[int, ...], times: int = 1) -> list[dict[str, Any]]:
    """A row for each engine, precision and number of threads. Raises Unavailable if OpenVINO cannot draw."""
    made, rng = models(networks), np.random.default_rng(1)
    engines: list[tuple[str, str, int, Callable[[FrameConditions], np.ndarray]]] = []
    for used in threads:
        for name, dtype in DTYPES.items():
            engines.append(("PyTorch", name, used, drawer(FrameRenderer(networks, dtype), used, times)))
            if dtype in made.precisions():
                frame_renderer = OpenVinoFrameRenderer(networks, dtype, made, used)
                engines.append((made.name, name, used, drawer(frame_renderer, used, times)))
    wall = np.zeros((frames, len(engines)))
    spent, apart = np.zeros_like(wall), np.zeros_like(wall)
    for k in range(-3, frames):  # the first three warm up
        conditions = random_conditions(rng)
        plain: np.ndarray | None = None
        for i in range(len(engines)):
            began, cpu = time.perf_counter(), time.process_time()
            frame = engines[i][3](conditions).astype(np.float32)
            took = time.perf_counter() - began, time.process_time() - cpu
            plain = frame if plain is None else plain
            if k >= 0:
                wall[k, i], spent[k, i] = took
                apart[k, i] = np.abs(frame - plain).mean()
    rows = []
    for i, (engine, precision, used, _) in enumerate(engines):
        base = next(j for j, other in enumerate(engines) if other[:3] == ("PyTorch", precision, used))
        rows.append({
            "engine": engine, "dtype": precision, "threads": used, "n": frames,
            "wall_ms": {"least": 1e3 * wall[:, i].min(), "p50": 1e3 * np.median(wall[:, i])},
            "processor_ms": {"least": 1e3 * spent[:, i].min(), "p50": 1e3 * np.median(spent[:, i])},
            "of_pytorch": {
                "wall": float(np.median(wall[:, i] / wall[:, base])),
                "processor": float(np.median(spent[:, i] / spent[:, base])),
            },
            "levels_from_pytorch_float32": float(apart[:, i].mean()),
        })  # fmt: skip
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--frames", type=int, default=60, help="frames that each engine draws (default: %(default)s)")
    parser.add_argument("--times", type=int, choices=TIMES, default=1, help="frame size relative to the networks' size")
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
    torch.set_flush_denormal(True)
    rows = measure(load(args.preset), args.frames, threads, args.times)
    for row in rows:
        for name in ("wall_ms", "processor_ms", "of_pytorch"):
            row[name] = {key: round(value, 2) for key, value in row[name].items()}
        row["levels_from_pytorch_float32"] = round(row["levels_from_pytorch_float32"], 4)
        print(f"{row['engine']:20} {row['dtype']:9} {row['threads']} threads: {row['wall_ms']['p50']:6.1f} ms, CPU "
              f"{row['processor_ms']['p50']:6.1f} ms; relative to PyTorch {row['of_pytorch']}")  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"hardware": hardware.describe(), "load_before": load_before, "preset": args.preset, "times": args.times,
              "rows": rows}  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
