"""Marks synthetic video: a small visible label, and a watermark that `streamer/provenance/detector.py` finds.

The watermark is the same for all of lipstream: a sign for each of 64×64 cells of the frame, at any frame size, added
with an amplitude of one to three levels of 255. It says only that a video is synthetic: the pattern is public, so it
proves no origin, and it can be removed deliberately.
"""

import hashlib
import sys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from streamer.base.image import Picture, Yuv

CELLS = 64
"""Cells per edge: small enough for thousands of signs, large enough (2 pixels of 128) to survive compression."""

_NAME = "lipstream synthetic video 1"
STRENGTHS = (0.6, 1.0, 1.6)
"""Root mean square of the pattern in levels of 255, at 256×256: in dark areas, in flat areas, and where edges and
texture mask more."""
_SPARSE = 0.8
"""Visible fraction of the frame below which the pattern is amplified, because less area carries it."""
_SPARSE_TIMES = 1.4
_DARK_BELOW = 56
"""Levels of a cell below which the eye sees smaller steps."""
_AS_BEFORE = 8
"""Frames for which the chosen strengths are kept: choosing them costs a third, and the pattern stays stable."""
_BAND = 1 << 16  # pixels
_BUSY_FROM = 20
"""Local contrast (levels) at which the strongest pattern is used."""
_LIMITED = 219 / 255
_TEXT = "AI"
_ALPHA = np.uint32(0xFF000000 if sys.byteorder == "little" else 0x000000FF)


def signs(name: str = _NAME) -> np.ndarray:
    """[64, 64] float32 of +1 and -1: the mark; any other name gives an independent pattern for comparison."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(name.encode()).digest(CELLS * CELLS // 8), np.uint8))
    return (2.0 * bits - 1).astype(np.float32).reshape(CELLS, CELLS)


class Marker:
    """
    Marks the S×S frames of one session in place. Not thread-safe. Raises ValueError if a watermark is requested and S
    is not a multiple of 64.
    """

    def __init__(self, size: int, label: bool = True, watermark: bool = True) -> None:
        if watermark and (size % CELLS or size < 2 * CELLS):
            raise ValueError(f"a watermark needs frames of a multiple of 64 pixels, at least 128, not {size}")
        self.size = size
        self._label, self._watermark = label, watermark
        self._marks = np.zeros((2, 0, 0), np.uint8)
        self._frames = 0

    def apply(self, image: Picture) -> None:
        """Marks C-contiguous RGBA [S, S, 4] uint8, or planes. Where alpha is 0 only the label changes the colour."""
        if self._watermark:
            if isinstance(image, Yuv):
                # Black is left unchanged: planes have no alpha, and they are black where nothing was drawn.
                bright = image.brightness
                self._mark(bright, bright, (16, 235), None if bright.min() > 16 else bright > 16)
            else:
                words = image.reshape(self.size, -1).view(np.uint32)  # one word per pixel masks all its channels
                seen = None if image[..., 3].min() > 0 else np.not_equal(words & _ALPHA, 0)
                self._mark(words, image[..., 1], (0, 255), seen)
        if self._label:
            if isinstance(image, Yuv):
                _label_planes(image)
            else:
                _label_colours(image)

    def _mark(self, values: np.ndarray, grey: np.ndarray, limits: tuple[int, int], seen: np.ndarray | None) -> None:
        """Adds the pattern to the visible area, in bands of rows that fit the cache."""
        if self._frames % _AS_BEFORE == 0 or self._marks.dtype != values.dtype:
            self._choose(values.dtype, grey, limits[0], seen)
        self._frames += 1
        band = max(1, _BAND // self.size)
        for first in range(0, self.size, band):
            rows = slice(first, first + band)
            plus, minus = self._marks[:, rows]
            if seen is not None:
                plus, minus = plus * seen[rows], minus * seen[rows]
            _add(values[rows].view(np.uint8), plus.view(np.uint8), minus.view(np.uint8), *limits)

    def _choose(self, dtype: np.dtype, grey: np.ndarray, black: int, seen: np.ndarray | None) -> None:
        """Chooses the pattern's strength for each cell and prepares what is added and subtracted."""
        sparse = seen is not None and np.count_nonzero(seen) < _SPARSE * seen.size
        cell = self.size // CELLS
        bright, busy = (
            np.repeat(cells, cell, 1).astype(dtype)[:, None]  # [64, 1, S]
            for cells in _bears(grey[cell // 2 :: cell, cell // 2 :: cell], black)
        )
        if self._marks.dtype != dtype or not self._marks.size:
            self._marks = np.zeros((2, self.size, self.size), dtype)
        fields = _fields(self.size, dtype == np.uint32, sparse)
        some = max(1, _BAND // (cell * self.size))  # rows of cells
        for first in range(0, CELLS, some):
            here, rows = slice(first, first + some), slice(first * cell, (first + some) * cell)
            for mark, (dim, even, strong) in zip(self._marks[:, rows], fields[:, :, rows], strict=True):
                cells = (len(mark) // cell, cell, self.size)
                np.multiply(even.reshape(cells), bright[here], out=mark.reshape(cells))
                mark += dim
                mark += (strong.reshape(cells) * busy[here]).reshape(mark.shape)


def _bears(grey: np.ndarray, black: int) -> tuple[np.ndarray, np.ndarray]:
    """A sample of each cell, [64, 64] uint8, to two bool masks: the cell is at least flat; the cell is busy."""
    low, high = grey.copy(), grey.copy()
    for here, there in (
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        low[here] = np.minimum(low[here], grey[there])
        high[here] = np.maximum(high[here], grey[there])
    busy = high - low >= _BUSY_FROM
    return (grey >= black + _DARK_BELOW) | busy, busy


def _add(values: np.ndarray, plus: np.ndarray, minus: np.ndarray, least: int, most: int) -> None:
    """values + plus - minus in place, all uint8, clamped to [least, most]."""
    np.minimum(values, most - plus, out=values)
    np.add(values, plus, out=values)
    np.maximum(values, least + minus, out=values)
    np.subtract(values, minus, out=values)


@lru_cache(maxsize=8)
def _fields(size: int, colours: bool, sparse: bool) -> np.ndarray:
    """
    [2, 3, S, S]: what is added, and what is subtracted; for each, the weakest pattern and the increments to the next
    two. uint32 with equal bytes for red, green and blue and 0 for alpha, or uint8 for limited-range luma.
    """
    soft = np.asarray(Image.fromarray(signs()).resize((size, size), Image.Resampling.BICUBIC))
    soft = soft / np.sqrt(np.mean(soft**2)) * (1.0 if colours else _LIMITED)
    soft = soft * (256 / size) ** 0.35  # larger cells are more visible, to the eye and to the detector
    soft = soft * (_SPARSE_TIMES if sparse else 1.0)
    chance = np.random.default_rng(0).random((size, size))  # dithers fractions of a level, which avoids contours
    levels = [np.floor(soft * strength + chance).astype(np.int16) for strength in STRENGTHS]
    opened = np.zeros((2, len(levels), size, size, 4 if colours else 1), np.uint8)
    for field, sign in zip(opened, (1, -1), strict=True):
        reached = np.zeros((size, size), np.int16)
        for part, level in zip(field, levels, strict=True):
            further = np.maximum(reached, sign * level)
            part[..., :3] = (further - reached)[..., None]
            reached = further
    fields: np.ndarray = opened.view(np.uint32 if colours else np.uint8)[..., 0]
    fields.flags.writeable = False
    return fields


@lru_cache(maxsize=8)
def label(size: int) -> tuple[np.ndarray, slice, slice]:
    """
    The label for S×S frames, white on a dark pill in the lower right corner: premultiplied [h, w, 4] float32 in 0..1,
    and the rows and columns where it lies. All even.
    """
    height = 2 * round(max(14, 10 + size / 24) / 2)
    width, margin = 2 * round(0.82 * height), 2 * round(max(4, size / 40) / 2)
    fine = 4
    drawn = Image.new("L", (fine * width, fine * height))
    ImageDraw.Draw(drawn).rounded_rectangle((0, 0, fine * width - 1, fine * height - 1), fine * height * 0.34, fill=255)
    pill = np.asarray(drawn.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    drawn = Image.new("L", (fine * width, fine * height))
    ImageDraw.Draw(drawn).text(
        (fine * width / 2, fine * height / 2), _TEXT, fill=255, font=ImageFont.load_default(fine * height * 0.72),
        anchor="mm", stroke_width=fine * height * 0.012,
    )  # fmt: skip
    text = np.asarray(drawn.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    alpha = np.maximum(0.62 * pill, text)
    rgba = np.stack([0.95 * text] * 3 + [alpha], -1)
    rgba.flags.writeable = False
    end = size - margin
    return rgba, slice(end - height, end), slice(end - width, end)


def _label_colours(image: np.ndarray) -> None:
    """Blends the label over straight RGBA; over transparent pixels it stands alone."""
    over, rows, columns = label(image.shape[0])
    patch = image[rows, columns]
    if patch[..., 3].min() == 255:
        left, own = _opaque(image.shape[0])
        patch[..., :3] = (patch[..., :3] * left + own) >> 8
        return
    under = patch.astype(np.float32) / 255
    left = under[..., 3:] * (1 - over[..., 3:])
    alpha = over[..., 3:] + left
    mixed = (over[..., :3] + under[..., :3] * left) / np.maximum(alpha, 1e-6)
    patch[...] = np.rint(255 * np.concatenate([mixed, alpha], -1))


@lru_cache(maxsize=8)
def _opaque(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The factor for an opaque picture under the label [h, w, 1] and the label's addend [h, w, 3], in 256ths."""
    over, _, _ = label(size)
    return np.rint(256 * (1 - over[..., 3:])).astype(np.uint16), np.rint(255 * 256 * over[..., :3]).astype(np.uint16)


def _label_planes(image: Yuv) -> None:
    over, rows, columns = label(image.size)
    bright, alpha = 16 + 219 * over[..., 0], over[..., 3]
    under = image.brightness[rows, columns]
    image.brightness[rows, columns] = np.rint(under * (1 - alpha) + bright - 16 * (1 - alpha))
    h, w = alpha.shape
    halved = alpha.reshape(h // 2, 2, w // 2, 2).mean((1, 3))
    half = (slice(None), slice(rows.start // 2, rows.stop // 2), slice(columns.start // 2, columns.stop // 2))
    image.colour[half] = np.rint(128 * halved + image.colour[half] * (1 - halved))
