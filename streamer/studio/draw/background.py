"""Painted backgrounds, a little out of focus, drawn once for a rig: one function each, in BACKGROUNDS."""

from collections.abc import Callable

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.palette import Color, mix, rgb, tone


def backdrop(size: int, stops: list[tuple[float, Color]], tilt: float = 0.15) -> np.ndarray:
    """[S,S,3] float32: a gradient downwards, with a soft vignette."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / max(1, size - 1)
    v = np.clip(y + tilt * (x - 0.5), 0, 1)
    offsets = [o for o, _ in stops]
    image = np.stack([np.interp(v, offsets, [c[k] for _, c in stops]) for k in range(3)], -1).astype(np.float32)
    return image * (1.04 - 0.22 * ((x - 0.5) ** 2 + (y - 0.45) ** 2))[..., None]


def disc(image: np.ndarray, x: float, y: float, radius: float, color: Color, opacity: float, soft: float = 0.15) -> None:
    """Adds a soft disc, in shares of the size: bokeh."""
    size = len(image)
    v, u = np.mgrid[0:size, 0:size].astype(np.float32) / size
    d = np.hypot(u - x, v - y) / radius
    m = np.clip((1 - d) / soft, 0, 1) * (0.72 + 0.28 * np.clip(d, 0, 1) ** 4) * opacity
    image += (np.array(color[:3], np.float32) - image) * m[..., None]


def box(image: np.ndarray, x0: float, y0: float, x1: float, y1: float, color: Color, opacity: float = 1.0, blur: float = 0.012) -> None:
    """Adds a rectangle with soft edges, in shares of the size."""
    size = len(image)
    g = (np.arange(size, dtype=np.float32) + 0.5) / size

    def edge(a: float, b: float) -> np.ndarray:
        return np.clip((g - a) / blur + 0.5, 0, 1) * np.clip((b - g) / blur + 0.5, 0, 1)

    m = edge(y0, y1)[:, None] * edge(x0, x1)[None, :] * opacity
    image += (np.array(color[:3], np.float32) - image) * m[..., None]


def bokeh(a: Anatomy, size: int, rng: np.random.Generator) -> np.ndarray:
    key = a.accent.base if max(a.accent.base) - min(a.accent.base) > 40 else a.colour("eye_colour")
    soft = mix(tone(key, 1.25, 0.0, 0.7), (255, 250, 245), 0.45)
    image = backdrop(size, [(0, mix(soft, (255, 255, 255), 0.25)), (0.55, soft), (1, mix(tone(key, 0.8, 0.06, 0.8), soft, 0.35))])
    for _ in range(16):
        disc(image, rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.03, 0.10), mix(soft, (255, 255, 255), 0.75), rng.uniform(0.12, 0.4))
    return image


BACKGROUNDS: dict[str, Callable[[Anatomy, int, np.random.Generator], np.ndarray]] = {
    "bokeh": bokeh,
}


def background(a: Anatomy, size: int) -> np.ndarray:
    """[S,S,4] uint8 opaque."""
    paint = BACKGROUNDS.get(str(a.traits["background"]), bokeh)
    image = paint(a, size, a.rng("background"))
    return np.dstack([np.clip(image + 0.5, 0, 255).astype(np.uint8), np.full((size, size), 255, np.uint8)])


__all__ = ["BACKGROUNDS", "background", "rgb"]
