"""
Augmentation of studio characters, so that pictures from elsewhere are less out of distribution.

A `Bend` moves, stretches and bends all pictures of a scene alike: the studio's mouths are in one place, its faces of
one build. A `Style` changes appearance without motion: colours, tones, softness, outlines. Latents encode motion, not
appearance, so they are encoded from the scene as rendered; a style only changes the picture that generator and decoder
see, and the decoder's target.

Letters used in shapes: h a picture's edge.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

_KNOTS = 5


@dataclass(frozen=True)
class Bend:
    """Source positions of a bent picture. Positions are x, y in -1..1 from border to border."""

    zoom: np.ndarray  # [2]: x and y, about the centre
    shift: np.ndarray  # [2]: relative to the edge
    knots: np.ndarray  # [2, n, n]: displacement on a grid over the picture, relative to the edge

    @staticmethod
    def random(rng: np.random.Generator) -> "Bend":
        """Sizes of 0.86 to 1.15, proportions within 5 %, shifts of up to 5 %, most of them faces of another build."""
        return Bend(
            rng.uniform(0.86, 1.15) * rng.uniform(0.95, 1.05, 2),
            rng.normal(0, 0.02, 2).clip(-0.05, 0.05),
            rng.normal(0, 0.02, (2, _KNOTS, _KNOTS)).clip(-0.04, 0.04) * (rng.random() < 0.75),
        )

    def sources(self, places: Tensor) -> Tensor:
        """[1, a, b, 2] -> the same."""
        knots = torch.from_numpy(self.knots).float()[None]
        bent = functional.grid_sample(knots, places, "bicubic", "border", align_corners=True)
        zoom, shift = (torch.from_numpy(v).float() for v in (self.zoom, self.shift))
        return (places - 2 * shift) / zoom + 2 * bent.permute(0, 2, 3, 1)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """
        Bends premultiplied pictures [..., h, h, 4] uint8, or maps [..., h, h] of another type; the border is extended.
        """
        colour = pictures.dtype == np.uint8
        shape = pictures.shape
        flat = torch.from_numpy(pictures.reshape(-1, *(shape[-3:] if colour else (*shape[-2:], 1))))
        edge = flat.shape[1]
        rows = (torch.arange(edge) * 2 + 1) / edge - 1
        x, y = torch.meshgrid(rows, rows, indexing="xy")
        grid = self.sources(torch.stack([x, y], -1)[None]).expand(len(flat), -1, -1, -1)
        bent = functional.grid_sample(
            flat.permute(0, 3, 1, 2).float(), grid, "bicubic" if colour else "bilinear", "border", align_corners=False
        ).permute(0, 2, 3, 1)
        if not colour:
            return bent.numpy().reshape(shape).astype(pictures.dtype)
        pixels = bent.round().clamp(0, 255).to(torch.uint8).numpy()
        return np.concatenate([np.minimum(pixels[..., :3], pixels[..., 3:]), pixels[..., 3:]], -1).reshape(shape)

    def places(self, places: np.ndarray, edge: int) -> np.ndarray:
        """Maps points [P, 2] in pixels of a picture, x and y, to the bent one: float32."""
        wanted = torch.from_numpy(places).float()[None, None] * 2 / edge - 1
        found = wanted
        for _ in range(8):  # a bend is smooth and small, so the inversion converges fast
            found = found + wanted - self.sources(found)
        return ((found[0, 0] + 1) * edge / 2).numpy()


def colour_mix(rng: np.random.Generator) -> np.ndarray:
    """[3, 3] float32: rotates hues about the grey axis and scales saturation."""
    angle = rng.normal(0, 0.6)
    third, root = (1 - np.cos(angle)) / 3, np.sin(angle) / np.sqrt(3)
    turn = np.full((3, 3), third) + np.cos(angle) * np.eye(3)
    turn += root * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    grey = np.full((3, 3), 1 / 3)
    colour = rng.uniform(0.3, 1.4) if rng.random() < 0.85 else 0.0
    return (grey + colour * (turn - grey)).astype(np.float32)


def tone_curve(rng: np.random.Generator) -> np.ndarray:
    """[256] uint8: random brightness and contrast, raised black and lowered white."""
    x = np.linspace(0, 1, 256)
    x = x ** np.exp(rng.normal(0, 0.35))
    x = x + rng.uniform(-0.6, 0.6) * x * (1 - x) * (2 * x - 1)  # an S, or its inverse
    low, high = np.abs(rng.normal(0, 0.05)), 1 - np.abs(rng.normal(0, 0.1))
    return (255 * (low + (high - low) * x)).clip(0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Style:
    """A scene's appearance, the same for the picture and all frames."""

    mix: np.ndarray  # [3, 3]: of colours
    tones: np.ndarray  # [256] uint8
    blur: float  # pixels; 0 for none
    outlines: int  # 1: dark lines a pixel wider on each side; -1: thinner; 0: unchanged

    @staticmethod
    def random(rng: np.random.Generator) -> "Style":
        """Random changes, usually several at once."""
        blur = rng.uniform(0.4, 1.3) if rng.random() < 0.3 else 0.0
        outlines = int(rng.choice((0, 1, -1), p=(0.65, 0.2, 0.15)))
        return Style(colour_mix(rng), tone_curve(rng), float(blur), outlines)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Premultiplied [..., h, w, 4] uint8 -> the same; only the blur changes alpha, and no colour exceeds it."""
        colour = (pictures[..., :3] @ self.mix.T).clip(0, 255).round().astype(np.uint8)
        out = np.concatenate([np.minimum(self.tones[colour], pictures[..., 3:]), pictures[..., 3:]], -1)
        if self.outlines or self.blur:
            flat = out.reshape(-1, *out.shape[-3:])
            for k, picture in enumerate(flat):
                flat[k] = self._drawn(picture)
        return out

    def _drawn(self, picture: np.ndarray) -> np.ndarray:
        image = Image.fromarray(picture)
        if self.outlines:
            widen = ImageFilter.MinFilter if self.outlines > 0 else ImageFilter.MaxFilter
            colour = np.minimum(np.asarray(image.convert("RGB").filter(widen(3))), picture[..., 3:])
            image = Image.fromarray(np.concatenate([colour, picture[..., 3:]], -1))
        if self.blur:
            image = image.filter(ImageFilter.GaussianBlur(self.blur))
        return np.asarray(image)
