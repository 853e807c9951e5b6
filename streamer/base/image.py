"""Pictures in the video encoders' format (YUV 4:2:0, BT.601, limited range), as generators on a GPU deliver them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Yuv:
    """A YUV 4:2:0 picture: full-resolution luma, chroma at half resolution in each direction."""

    planes: np.ndarray
    """[3 S / 2, S] uint8: S rows of luma, then the two chroma planes [S / 2, S / 2], U before V."""
    alpha: np.ndarray | None = None
    """[S, S] uint8, 0 transparent to 255 opaque; None if fully opaque. The colour is not premultiplied."""

    def __post_init__(self) -> None:
        rows, size = self.planes.shape
        if size % 4 or 2 * rows != 3 * size or self.planes.dtype != np.uint8:
            found = f"{self.planes.dtype} planes of shape {self.planes.shape}"
            raise ValueError(f"{found}: want uint8 [3 S / 2, S] with S divisible by 4")
        if self.alpha is not None and (self.alpha.shape != (size, size) or self.alpha.dtype != np.uint8):
            found = f"{self.alpha.dtype} alpha of shape {self.alpha.shape}"
            raise ValueError(f"{found}: want uint8 [{size}, {size}], matching the planes")

    @property
    def size(self) -> int:
        """S: the picture's edge."""
        return int(self.planes.shape[1])

    @property
    def brightness(self) -> np.ndarray:
        """Luma [S, S], a view: 16 is black, 235 white."""
        return self.planes[: self.size]

    @property
    def colour(self) -> np.ndarray:
        """Chroma [2, S / 2, S / 2], U then V, a view of the contiguous planes: 128 is grey."""
        return self.planes[self.size :].reshape(2, self.size // 2, self.size // 2)

    def copy(self) -> "Yuv":
        return Yuv(self.planes.copy(), None if self.alpha is None else self.alpha.copy())


Picture = np.ndarray | Yuv
"""A rendered picture: straight RGBA [S, S, 4] uint8, or YUV planes."""


def backdrop(size: int) -> np.ndarray:
    """The background behind a cut-out when its own background is requested: opaque RGBA [S, S, 4] uint8."""
    rows = np.linspace(0, 1, size)[:, None, None]
    colour = np.array([46, 52, 70]) * (1 - rows) + np.array([22, 24, 34]) * rows
    pixels = np.broadcast_to(colour, (size, size, 3))
    return np.concatenate([pixels, np.full((size, size, 1), 255)], -1).astype(np.uint8)


def enlarged(image: np.ndarray) -> np.ndarray:
    """[S, S, C] uint8 to [2 S - 1, 2 S - 1, C]: inserts a position between each two.

    Bilinear samples between a picture's pixels blur edges; between these positions they do not. Even rows and columns
    are the picture's own pixels, so that whatever does not move is bit-identical to the picture.
    """
    return _between(np.swapaxes(_between(np.swapaxes(image, 0, 1)), 0, 1))


def _between(image: np.ndarray) -> np.ndarray:
    """[R, C, N] uint8 to [2 R - 1, C, N]: six taps, slightly sharper than cubic, since bilinear samples follow."""
    padded = np.pad(image, ((2, 2), (0, 0), (0, 0)), "edge").astype(np.int16)
    count = len(image) - 1
    near, far, farthest = (padded[2 - k :][:count] + padded[3 + k :][:count] for k in range(3))
    out = np.empty((2 * len(image) - 1, *image.shape[1:]), np.uint8)
    out[::2] = image
    out[1::2] = np.clip((20 * near - 5 * far + farthest + 16) >> 5, 0, 255)
    return out
