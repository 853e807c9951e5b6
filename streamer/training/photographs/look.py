"""How a portrait looks in a clip: recoloured, relit, mirrored. All of it happens to the picture before it is moved, so
that the truth about copied pixels stays exact.

Letters used in shapes: H, W the picture's edges; n knots along an edge.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.training.mirror import mirrored_fit
from streamer.training.photographs.portraits import Portrait
from streamer.training.variety import Style, colour_mix, tone_curve

_KNOTS = 4
_MILD = 0.2


@dataclass(frozen=True)
class Look:
    mirrored: bool
    style: Style | None
    light: np.ndarray
    """[n, n, 3] float32: factors over the picture, interpolated between; 1 changes nothing"""

    @staticmethod
    def random(rng: np.random.Generator) -> "Look":
        """A third keeps its colours; of the others most are changed as cameras do, one in five beyond nature."""
        style = None
        if rng.random() < 0.67:
            share = 1.0 if rng.random() < 0.2 else _MILD
            mix = np.eye(3) + share * (colour_mix(rng) - np.eye(3))
            tones = tone_curve(rng).astype(float)
            plain = np.arange(256)
            style = Style(mix.astype(np.float32), (plain + max(share, 0.6) * (tones - plain)).round().astype(np.uint8),
                          0.0, 0)  # fmt: skip
        angle, strength = rng.uniform(0, 2 * np.pi), abs(rng.normal(0, 0.22))
        x, y = np.meshgrid(*[np.linspace(-1, 1, _KNOTS)] * 2)
        across = strength * (np.cos(angle) * x + np.sin(angle) * y) + rng.normal(0, 0.05, x.shape)
        tint = rng.normal(0, 0.04, 3)
        light = np.exp(across[..., None] * (1 + tint) + rng.normal(0, 0.05))
        return Look(bool(rng.random() < 0.5), style, light.clip(0.5, 1.7).astype(np.float32))

    def __call__(self, portrait: Portrait) -> Portrait:
        """The portrait as this look has it."""
        pixels, matte, fit = portrait.pixels, portrait.matte, portrait.fit
        height, width = pixels.shape[:2]
        colour = pixels[..., :3]
        if self.style is not None:
            # Straight colours need no alpha to be limited by.
            opaque = np.concatenate([colour, np.full_like(pixels[..., 3:], 255)], -1)
            colour = self.style(opaque)[..., :3]
        light = cv2.resize(self.light, (width, height), interpolation=cv2.INTER_CUBIC)
        colour = cv2.multiply(np.ascontiguousarray(colour), light, dtype=cv2.CV_8U)
        pixels = np.concatenate([colour, pixels[..., 3:]], -1)
        if self.mirrored:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            matte = None if matte is None else np.ascontiguousarray(matte[:, ::-1])
            fit = mirrored_fit(fit, width)
        return Portrait(portrait.person, pixels, matte, fit)
