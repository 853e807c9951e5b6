"""Time and sharpness of composing frames outside the networks: `python -m benchmarks.latency.composing [OUT.json]`.

For each size and number of references: milliseconds of one thread from what the networks return to YUV planes over a
plate, with one painted patch, in two cases. *Local*: further references and paint matter around eyes and mouth only.
*Everywhere*: all of them matter in every pixel, which a trained painter should not do. *Warm*: frame after frame, as
alone on a machine. *Cold*: other memory was used in between, as the networks do.

Sharpness: gradient energy, and PSNR, of a drawn character moved by a sub-pixel shift and a small rotation, against the
same move of a picture of four times the size, for what the frame could be sampled from.

Prints a table and writes JSON with the hardware.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.lib import hardware
from streamer.base.alpha import premultiplied
from streamer.model.runtime.compose import CELLS, Composer, Patch, Scene, patch_input, patch_place, texture
from streamer.motion.controls import rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig

EDGE = 128  # of weights and paint
CENTRE = (0.5, 0.45)
MOVES = ((0.5, 0.5, 0.0), (0.3, 0.7, 4.0), (0.4, 0.2, -7.0))  # pixels right and down, degrees
CHARACTERS = (3, 11, 25)
OTHER_MEMORY = np.ones(8 << 20, np.float32)


def drawn(seed: int, size: int) -> np.ndarray:
    """A character at rest without background, [size, size, 4] uint8 premultiplied."""
    with Rig(Character.from_seed(seed), size, background=False) as rig:
        return premultiplied(rig.draw(rest()))


def smooth(rng: np.random.Generator, shape: tuple[int, ...], edge: int) -> np.ndarray:
    """Smooth random values [*shape, edge, edge] float32 in 0..1."""
    coarse = rng.random((int(np.prod(shape)), 7, 7)).astype(np.float32)
    large = [cv2.resize(grid, (edge, edge), interpolation=cv2.INTER_CUBIC) for grid in coarse]
    return np.stack(large).reshape(*shape, edge, edge).clip(0, 1)


def networks_output(references: int, everywhere: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Flow, weights, paint and a patch, as the networks return them."""
    rng = np.random.default_rng(references)
    flow = 0.06 * smooth(rng, (references, 2), CELLS) - np.float32(0.03)
    if everywhere:
        weights, paint = smooth(rng, (references,), EDGE) + 0.1, smooth(rng, (5,), EDGE).clip(0.1, 1)
        weights /= weights.sum(0)
    else:
        weights, paint = np.zeros((references, EDGE, EDGE), np.float32), np.zeros((5, EDGE, EDGE), np.float32)
        for r, (rows, columns) in enumerate([((50, 60), (45, 83)), ((66, 84), (53, 75)), ((50, 84), (45, 83))], 1):
            weights[r : r + 1, slice(*rows), slice(*columns)] = 0.3
        weights[0] = 1 - weights[1:].sum(0)
        paint[:, 48:86, 44:84] = 0.7
    return flow, weights, paint, smooth(rng, (5,), 192)


def timed(step: Callable[[], object], frames: int) -> dict[str, dict[str, float]]:
    """Milliseconds of this thread's CPU time, warm and cold."""
    taken: dict[str, list[float]] = {"warm": [], "cold": []}
    for k in range(-3, frames):
        for kind, values in taken.items():
            if kind == "cold":
                OTHER_MEMORY.sum()
            else:
                step()
            began = time.thread_time()
            step()
            if k >= 0:
                values.append(1e3 * (time.thread_time() - began))
    return {
        kind: {"least": round(min(values), 2), "p50": round(float(np.median(values)), 2)}
        for kind, values in taken.items()
    }


def measure(size: int, references: int, everywhere: bool, frames: int) -> dict[str, Any]:
    """One row of the table."""
    pictures = [drawn(seed, size) for seed in range(references)]
    plate = np.full((size, size, 3), 60, np.uint8)
    scene, composer = Scene.prepare(pictures, size, plate), Composer(size)
    flow, weights, paint, pixels = networks_output(references, everywhere)
    frame = composer.compose(scene, flow, weights, paint)

    def whole() -> None:
        composer.compose(scene, flow, weights, paint, frame)
        place = patch_place(flow[0], CENTRE, 192)
        patch_input(frame, place, 192)
        composer.finish(scene, frame, [Patch(place, pixels)])

    return {
        "size": size,
        "references": references,
        "shares": "everywhere" if everywhere else "local",
        "frames": frames,
        "frame_ms": timed(whole, frames),
        "compose_ms": timed(lambda: composer.compose(scene, flow, weights, paint, frame), frames),
        "finish_ms": timed(lambda: composer.finish(scene, frame), frames),
    }


def _moved(size: int, move: tuple[float, float, float]) -> np.ndarray:
    """[size, size, 2]: for each output pixel its source, OpenCV's coordinates."""
    centre = size / 2 - 0.5
    matrix = cv2.getRotationMatrix2D((centre, centre), move[2], 1.0)
    matrix[:, 2] += np.array(move[:2])
    back = cv2.invertAffineTransform(matrix)
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    return np.stack([x, y, np.ones_like(x)], -1) @ back.T


def _energy(picture: np.ndarray) -> float:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGBA2GRAY).astype(np.float32)
    return float((np.diff(grey, axis=0) ** 2).mean() + (np.diff(grey, axis=1) ** 2).mean())


def sharpness(size: int) -> dict[str, dict[str, float]]:
    """Gradient energy of the truth's (1 is as sharp) and PSNR in dB, for each way to sample."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in CHARACTERS:
        fine = drawn(seed, 4 * size)
        plain, double = (cv2.resize(fine, (edge, edge), interpolation=cv2.INTER_AREA) for edge in (size, 2 * size))
        for move in MOVES:
            places = _moved(4 * size, (4 * move[0], 4 * move[1], move[2])).astype(np.float32)
            truth = cv2.resize(
                cv2.remap(fine, places, None, cv2.INTER_LINEAR), (size, size), interpolation=cv2.INTER_AREA
            )
            places = _moved(size, move)
            samples = {
                "linear": cv2.remap(plain, places.astype(np.float32), None, cv2.INTER_LINEAR),
                "cubic": cv2.remap(plain, places.astype(np.float32), None, cv2.INTER_CUBIC),
            }
            for name, picture in (("texture of a picture of the size", plain), ("of twice the size", double)):
                prepared = texture(picture, size)
                at = (places * prepared.scale + prepared.offset).astype(np.float32)
                samples[name] = cv2.remap(prepared.pixels, at, None, cv2.INTER_LINEAR)
            inside = slice(size // 8, -size // 8)
            for name, sample in samples.items():
                one, other = sample[inside, inside], truth[inside, inside]
                error = float(((one.astype(np.float32) - other) ** 2).mean())
                found.setdefault(name, []).append((_energy(one) / _energy(other), 10 * np.log10(255**2 / error)))
    return {
        name: {"gradient_energy": round(float(np.mean(energy)), 3), "psnr_db": round(float(np.mean(psnr)), 2)}
        for name, values in found.items()
        for energy, psnr in [zip(*values, strict=True)]
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="also write the JSON to this file")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 768, 1024])
    parser.add_argument("--references", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--frames", type=int, default=40, help="frames of each row (default: %(default)s)")
    args = parser.parse_args(argv)
    if min(args.references) < 1 or max(args.references) > 4 or args.frames < 2:
        parser.error(f"--references is {args.references} and --frames is {args.frames}: want 1 to 4, and at least 2")
    load_before = hardware.load()
    cv2.setNumThreads(1)
    rows = []
    for size in args.sizes:
        for references in args.references:
            for everywhere in (False, True):
                row = measure(size, references, everywhere, args.frames)
                rows.append(row)
                times = row["frame_ms"]
                print(f"{size:5} {references} references, {row['shares']:10} {times['warm']['p50']:6.2f} ms warm, "
                      f"{times['cold']['p50']:6.2f} ms cold")  # fmt: skip
    sharp = {str(size): sharpness(size) for size in args.sizes if size <= 512}
    for size_name, ways in sharp.items():
        for name, values in ways.items():
            print(f"{size_name:>5} {name:34} {100 * values['gradient_energy']:6.1f} % of the truth's gradient energy, "
                  f"{values['psnr_db']:.2f} dB")  # fmt: skip
    if args.out:
        result = {"benchmark": "composing", "hardware": hardware.describe(), "opencv": cv2.__version__, "threads": 1,
                  "load_before": load_before, "rows": rows, "sharpness": sharp}  # fmt: skip
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
