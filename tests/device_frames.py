"""How far a device's frames may be from the CPU's: the one table, for the tests of devices."""

from typing import NamedTuple

import numpy as np
import torch

from streamer.base.image import Yuv
from streamer.model.config import PRESETS
from streamer.model.runtime.torch_cpu import NotFinite

TINY = PRESETS["tiny"]
SIZE, EDGE = TINY.size, TINY.size // 16


class Tolerance(NamedTuple):
    """Levels of 255 that planes may differ from those of float32 on the CPU."""

    most: int
    mean: float


TOLERANCES = {  # device and precision of the whole model: the one table that CPU and GPU are held to
    ("cpu", torch.float32): Tolerance(2, 0.2),
    ("cpu", torch.bfloat16): Tolerance(255, 8.0),
    ("cuda", torch.float32): Tolerance(4, 0.3),  # without TF32, which is about float16
    ("cuda", torch.float16): Tolerance(48, 1.5),
    ("cuda", torch.bfloat16): Tolerance(255, 8.0),
}


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied, partly transparent, and its face."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (SIZE, SIZE, 4)).astype(np.uint8)
    pixels[..., :3] = pixels[..., :3] * (pixels[..., 3:] / 255)
    return pixels, rng.random((EDGE, EDGE))


def close(found: Yuv | NotFinite, wanted: np.ndarray, allowed: Tolerance = TOLERANCES["cpu", torch.float32]) -> None:
    """Planes within what is allowed."""
    assert isinstance(found, Yuv), found
    apart = np.abs(found.planes.astype(int) - wanted)
    assert apart.max() <= allowed.most and apart.mean() <= allowed.mean, (apart.max(), apart.mean())
