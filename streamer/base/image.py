"""Pictures as video coders want them: YUV 4:2:0, BT.601, limited range. So a generator on a GPU hands frames over."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Yuv:
    """Three planes: brightness at every pixel, two of colour at every second one each way."""

    planes: np.ndarray
    """[3 S / 2, S] uint8: S rows of brightness, then both planes of colour [S / 2, S / 2], one after the other."""
    alpha: np.ndarray | None = None
    """[S, S] uint8, 0 where nothing is to be seen; None where all is. The planes' colour is not premultiplied."""

    def __post_init__(self) -> None:
        rows, size = self.planes.shape
        if size % 4 or 2 * rows != 3 * size or self.planes.dtype != np.uint8:
            found = f"{self.planes.dtype} planes of shape {self.planes.shape}"
            raise ValueError(f"{found}: want uint8 [3 S / 2, S] of an S that 4 divides")
        if self.alpha is not None and (self.alpha.shape != (size, size) or self.alpha.dtype != np.uint8):
            found = f"{self.alpha.dtype} alpha of shape {self.alpha.shape}"
            raise ValueError(f"{found}: want uint8 [{size}, {size}], as the planes are")

    @property
    def size(self) -> int:
        """S: the picture's edge."""
        return int(self.planes.shape[1])

    @property
    def brightness(self) -> np.ndarray:
        """[S, S], a view: 16 is black, 235 white."""
        return self.planes[: self.size]

    @property
    def colour(self) -> np.ndarray:
        """[2, S / 2, S / 2], blue then red, a view of planes that lie in one piece: 128 is grey."""
        return self.planes[self.size :].reshape(2, self.size // 2, self.size // 2)

    def copy(self) -> "Yuv":
        return Yuv(self.planes.copy(), None if self.alpha is None else self.alpha.copy())


Picture = np.ndarray | Yuv
"""A drawn frame: [S, S, 4] uint8 straight RGBA, or planes."""


def backdrop(size: int) -> np.ndarray:
    """What a cut-out stands before where its own background is asked for: [S, S, 4] uint8 opaque RGBA."""
    rows = np.linspace(0, 1, size)[:, None, None]
    colour = np.array([46, 52, 70]) * (1 - rows) + np.array([22, 24, 34]) * rows
    pixels = np.broadcast_to(colour, (size, size, 3))
    return np.concatenate([pixels, np.full((size, size, 1), 255)], -1).astype(np.uint8)
