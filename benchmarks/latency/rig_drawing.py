"""Drawing speed of the studio's rig: `python -m benchmarks.latency.rig_drawing [OUT.json]` prints and writes JSON.

For each size, with and without ground truth: median and 95th percentile of the time per frame in one process, its CPU
time, and the frames per second of one and of two processes. Poses move like a speaking character's. Run it on an idle
machine; on a busy one, only the CPU time is meaningful.
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np

from benchmarks.lib import hardware
from streamer.motion.controls import controls
from streamer.studio.character import Character
from streamer.studio.rig import Rig

CHARACTERS = 24
FRAMES = 40  # per character


def poses(frames: int) -> list[np.ndarray]:
    """Controls of a lively speaker: all parts move, and one hand is raised half of the time."""
    out = []
    for k in range(frames):
        p = k / frames * 2 * np.pi
        out.append(
            controls(
                open=0.5 + 0.5 * np.sin(5 * p), wide=max(0.0, np.sin(3 * p)), smile=0.4, yaw=0.3 * np.sin(p),
                pitch=0.1 * np.cos(2 * p), roll=0.1 * np.sin(2 * p), blink_left=float(k % 20 == 5),
                blink_right=float(k % 20 == 5), gaze_x=0.3 * np.sin(p), sway_x=np.sin(p), breath=np.sin(p),
                left_raise=float(k % 40 >= 20),
            )
        )  # fmt: skip
    return out


def frame_times(size: int, truth: bool, first_seed: int = 0) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds of each frame over many characters, without the time to build the rigs."""
    seconds, busy = [], []
    for seed in range(first_seed, first_seed + CHARACTERS):
        with Rig(Character.from_seed(seed), size) as rig:
            draw = rig.draw_with_truth if truth else rig.draw
            draw(poses(1)[0])
            for k, pose in enumerate(poses(FRAMES)):
                begin, begin_busy = time.perf_counter(), time.thread_time()
                draw(pose, k / 25)
                seconds.append(time.perf_counter() - begin)
                busy.append(time.thread_time() - begin_busy)
    return seconds, busy


def _rate(task: tuple[int, bool, int]) -> float:
    seconds, _ = frame_times(*task)
    return len(seconds) / sum(seconds)


def measure(size: int, truth: bool) -> dict[str, float]:
    """Measures one size."""
    milliseconds, busy = (np.array(values) * 1e3 for values in frame_times(size, truth))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        both = sum(pool.map(_rate, [(size, truth, 0), (size, truth, CHARACTERS)], chunksize=1))
    return {
        "median_ms": round(float(np.median(milliseconds)), 2),
        "median_cpu_ms": round(float(np.median(busy)), 2),
        "p95_ms": round(float(np.percentile(milliseconds, 95)), 2),
        "frames_per_second_one_process": round(1e3 / float(milliseconds.mean()), 1),
        "frames_per_second_two_processes": round(both, 1),
    }


def build_time(size: int) -> float:
    """Median milliseconds to build a rig from a seed, including its background."""
    times = []
    for seed in range(CHARACTERS):
        begin = time.perf_counter()
        Rig(Character.from_seed(seed), size).close()
        times.append(time.perf_counter() - begin)
    return round(float(np.median(times)) * 1e3, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", help="also write the JSON to this file")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    options = parser.parse_args()
    report = {
        "benchmark": "studio",
        "renderer": "studio_rig",
        "hardware": hardware.describe(),
        "load_before": hardware.load(),
        "characters": CHARACTERS,
        "frames_each": FRAMES,
        "draw": {str(size): measure(size, False) for size in options.sizes},
        "draw_with_truth": {str(size): measure(size, True) for size in options.sizes},
        "build_ms": {str(size): build_time(size) for size in options.sizes},
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
