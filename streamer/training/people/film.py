"""What a camera does to a picture. `Grade` is a clip's look and part of every frame; `Grain` belongs to one exposure
and is added when clips are used, to the pictures that stand for uploads.

Letters used in shapes: S pixels along an edge.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np


@dataclass(frozen=True)
class Grade:
    gamma: tuple[float, float, float]
    black: float
    saturation: float
    vignette: float
    blur: float
    """Standard deviation of the lens's softness, share of the edge."""

    @staticmethod
    def random(rng: np.random.Generator) -> "Grade":
        r, g, b = np.exp(rng.normal(0, 0.05) + rng.normal(0, 0.025, 3))
        soft = rng.uniform(0.0, 0.0012) if rng.random() < 0.5 else 0.0
        return Grade((float(r), float(g), float(b)), float(rng.uniform(0, 0.05)), float(rng.uniform(0.75, 1.15)),
                     float(max(rng.normal(0.0, 0.10), 0)), float(soft))  # fmt: skip

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """[S, S, 3] uint8 -> the same."""
        size = picture.shape[0]
        level = np.arange(256) / 255
        table = np.stack([255 * (self.black + (1 - self.black) * level**g) for g in self.gamma], 1)
        result = cv2.LUT(picture, table.clip(0, 255).astype(np.uint8)[None])
        if abs(self.saturation - 1) > 0.01:
            grey = cv2.cvtColor(cv2.cvtColor(result, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            result = cv2.addWeighted(result, self.saturation, grey, 1 - self.saturation, 0)
        if self.vignette > 0.01:
            result = cv2.multiply(result, _vignette(size, round(self.vignette, 3)), dtype=cv2.CV_8U)
        if self.blur * size > 0.3:
            result = cv2.GaussianBlur(result, (0, 0), self.blur * size)
        return result


@lru_cache(4)
def _vignette(size: int, strength: float) -> np.ndarray:
    """[S, S, 3] float32"""
    place = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    fall = 1 - strength * (place[:, None] ** 2 + place[None] ** 2)
    return np.repeat(fall[..., None], 3, 2)


@dataclass(frozen=True)
class Grain:
    """One exposure and its file. Costs nothing to keep: the same seed gives the same grain."""

    seed: int
    strength: float
    """Standard deviation in levels of 255 at middle grey."""
    size: float
    """Of a grain, in pixels."""
    colour: float
    """0: the same in red, green and blue .. 1: independent"""
    quality: int
    """Of JPEG; 100 and more: not compressed."""

    @staticmethod
    def random(rng: np.random.Generator) -> "Grain":
        strength = float(rng.gamma(1.2, 1.6)) if rng.random() < 0.7 else 0.0
        quality = int(rng.integers(60, 98)) if rng.random() < 0.75 else 101
        return Grain(int(rng.integers(2**31)), strength, float(rng.uniform(0.3, 1.1)), float(rng.random()), quality)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """[S, S, 3] uint8 -> the same, as it comes out of a camera's file."""
        result = picture
        if self.strength > 0.05:
            rng = np.random.default_rng(self.seed)
            shape = picture.shape[:2]
            noise = rng.standard_normal((*shape, 1), np.float32) * np.sqrt(1 - self.colour)
            noise = noise + rng.standard_normal((*shape, 3), np.float32) * np.sqrt(self.colour)
            noise = cv2.GaussianBlur(noise, (0, 0), self.size)
            noise *= self.strength / max(float(noise.std()), 1e-6)
            shown = picture.astype(np.float32)
            result = np.clip(shown + noise * (0.5 + 0.5 * np.sin(np.pi * shown / 255)), 0, 255).astype(np.uint8)
        if self.quality <= 100:
            sampling = (
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if self.quality < 88 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
            )
            settings = [cv2.IMWRITE_JPEG_QUALITY, self.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
            _, packed = cv2.imencode(".jpg", cv2.cvtColor(result, cv2.COLOR_RGB2BGR), settings)
            result = cv2.cvtColor(cv2.imdecode(packed, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return result
