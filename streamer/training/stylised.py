"""Clips as if painted or drawn: applied when a clip is read, so that nothing is rendered twice.

All pictures of a clip are changed alike and each pixel by its surroundings only, so that what is copied from a
reference still looks the same, and nothing flickers.

Letters used in shapes: S pixels along an edge.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from streamer.training.clip import Clip
from streamer.training.variety import Style

KINDS = ("recoloured", "painted", "toon", "ink")


@dataclass(frozen=True)
class Painting:
    """How a clip's pictures are painted. Lengths are shares of the edge, so that sizes look alike."""

    kind: str
    style: Style
    smooth: float
    """Radius of the brush: details smaller than it disappear within areas, edges stay."""
    steps: int
    """Tones of a picture in flat colours; 0: as many as there are"""
    soft: float
    """Width of the passage between two tones, as a share of a step: hard ones flicker."""
    lines: float
    """Strength of outlines, 0..1"""
    grey: float
    """Share of colour that is taken away"""

    @staticmethod
    def random(rng: np.random.Generator) -> "Painting":
        kind = str(rng.choice(KINDS, p=(0.3, 0.3, 0.3, 0.1)))
        style = Style.random(rng)
        if kind == "recoloured":
            return Painting(kind, style, 0.0, 0, 1.0, 0.0, 0.0)
        style = replace(style, blur=0.0, outlines=0)
        if kind == "painted":
            return Painting(kind, style, float(rng.uniform(0.006, 0.014)), int(rng.choice((0, 10, 14))), 0.6,
                            float(rng.uniform(0, 0.25)), 0.0)  # fmt: skip
        if kind == "toon":
            return Painting(kind, style, float(rng.uniform(0.006, 0.012)), int(rng.integers(4, 9)), 0.35,
                            float(rng.uniform(0.3, 0.9)), 0.0)  # fmt: skip
        return Painting(kind, style, 0.006, int(rng.integers(3, 6)), 0.4, 1.0, float(rng.uniform(0.7, 1)))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """[S, S, 3] uint8 -> the same."""
        result = np.ascontiguousarray(picture)
        if self.smooth:
            result = self._smoothed(result)
        lines = self._outlines(result) if self.lines else None
        if self.steps:
            result = self._flat(result)
        opaque = np.concatenate([result, np.full_like(result[..., :1], 255)], -1)
        result = np.ascontiguousarray(self.style(opaque)[..., :3])
        if self.grey:
            grey = cv2.cvtColor(cv2.cvtColor(result, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            result = cv2.addWeighted(result, 1 - self.grey, grey, self.grey, 0)
        if lines is not None:
            result = cv2.multiply(result, np.repeat(lines[..., None], 3, 2), dtype=cv2.CV_8U)
        return result

    def _smoothed(self, picture: np.ndarray) -> np.ndarray:
        radius = self.smooth * len(picture)
        for _ in range(2):
            picture = cv2.bilateralFilter(picture, 2 * round(radius) + 1, 38, radius)
        return picture

    def _flat(self, picture: np.ndarray) -> np.ndarray:
        """Lightness in steps with soft passages; hues stay."""
        level = np.arange(256) / 255 * self.steps
        base = np.floor(level)
        passage = np.clip((level - base - 0.5) / self.soft + 0.5, 0, 1)
        table = (255 * (base + passage * passage * (3 - 2 * passage)) / self.steps).clip(0, 255).astype(np.uint8)
        lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.LUT(np.ascontiguousarray(lab[..., 0]), table)
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)

    def _outlines(self, picture: np.ndarray) -> np.ndarray:
        """[S, S] float32: a factor that darkens what is darker than its surroundings, as a pen does."""
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        width = max(0.0022 * len(picture), 0.6)
        fine, wide = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (width, 1.8 * width))
        return 1 - self.lines * np.clip((wide - fine - 1.5) / 5, 0, 1)


def stylised(clip: Clip, rng: np.random.Generator) -> Clip:
    """The clip painted or drawn in one way that the generator chooses; its truth is unchanged. References lose their
    film grain and keep their compression."""
    paint = Painting.random(rng)
    return replace(
        clip,
        grain=tuple(replace(grain, strength=0.0) for grain in clip.grain),
        background=paint(clip.background),
        references=np.stack([paint(picture) for picture in clip.references]),
        frames=np.stack([paint(picture) for picture in clip.frames]),
    )
