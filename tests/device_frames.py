"""Characters for the tests of devices, and how far a device's frames may be from the CPU's: the one table."""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from streamer.base.image import Yuv
from streamer.model.config import PRESETS
from streamer.model.runtime.cuda import CudaFrameRenderer, Seated
from streamer.model.runtime.stream import NotFinite

TINY = PRESETS["tiny"]
SIZE, EDGE = 2 * TINY.size, TINY.size // 16
"""Edge of frames as they are drawn, and of a latent."""


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


class Character(NamedTuple):
    """What a character is prepared from, in the order in which `CudaFrameRenderer.prepare` takes it."""

    references: list[np.ndarray]
    face: np.ndarray
    centre: tuple[float, float]
    size: int
    plate: np.ndarray | None


def smooth(edge: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """[edge, edge, channels] uint8 without order, whose detail is an eighth of SIZE wide."""
    planes = rng.integers(0, 256, (channels, 17, 17)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(p).resize((edge, edge), Image.Resampling.BICUBIC)) for p in planes], -1)


def character(
    seed: int,
    size: int = SIZE,
    count: int = 1,
    opaque: bool = False,
    plated: bool = True,
    edge: int = SIZE,
    plate_edge: int = SIZE,
) -> Character:
    """Of `count` pictures of `edge` pixels, premultiplied and partly transparent or opaque, with or without a plate."""
    rng = np.random.default_rng(seed)
    references = []
    for _ in range(count):
        pixels = smooth(edge, 4, rng)
        if opaque:
            pixels[..., 3] = 255
        pixels[..., :3] = pixels[..., :3] * (pixels[..., 3:] / 255)
        references.append(pixels)
    plate = smooth(plate_edge, 3, rng) if plated and not opaque else None
    x, y = rng.uniform(0.3, 0.7, 2)
    return Character(references, rng.random((EDGE, EDGE)), (float(x), float(y)), size, plate)


def seated(frame_renderer: CudaFrameRenderer, seed: int, size: int = SIZE) -> Seated:
    """A session of a character with one to three pictures."""
    return frame_renderer.stream(frame_renderer.prepare(*character(seed, size, 1 + seed % 3)), seed)


def close(found: Yuv | NotFinite, wanted: np.ndarray, allowed: Tolerance = TOLERANCES["cpu", torch.float32]) -> None:
    """Planes within what is allowed."""
    assert isinstance(found, Yuv), found
    apart = np.abs(found.planes.astype(int) - wanted)
    assert apart.max() <= allowed.most and apart.mean() <= allowed.mean, (apart.max(), apart.mean())
