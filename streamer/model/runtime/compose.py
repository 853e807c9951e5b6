"""Copies a character's pixels to where the painter's flow moves them, and finishes the frame for the encoder.

The networks compute where pixels come from, how references are blended, and what no reference shows; the pixels of the
references themselves are copied here, at the size of the output, by OpenCV:

    textures ─▶ copied along the flow ─▶ blended ─▶ painted over ─▶ frame ─▶ patches ─▶ plate ─▶ RGBA or YUV planes
    └──────────────────────── Composer.compose ─────────────────────────┘    └──────── Composer.finish ───────────┘

Frames between the two steps are premultiplied RGBA [S, S, 4] uint8 of the person alone. Positions of patches are in
pixels of a frame of UNIT, whatever the output's size is. All of it runs on the calling thread, apart from the threads
that OpenCV itself may use (`cv2.setNumThreads`).

Letters used in shapes: S output edge, R references, E edge of a grid of shares, F edge of the flow, P edge of a patch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from streamer.base.image import Picture, Yuv, enlarged
from streamer.model.runtime.yuv import yuv_planes

CELLS = 64
"""F: edge of the flow. Output sizes are multiples of it."""

UNIT = 512
"""Edge of the frame in whose pixels positions of patches are given."""

STEP = 8
"""Positions of patches are multiples of this many pixels of UNIT: one cell of the flow and of the features."""

MAX_REFERENCES = 4

_LEAST = 4
"""Shares below this many 255ths count as none, so that a network's faint traces do not cost a whole frame's work."""

_STRIP = 32
"""Pixels across that are copied at a time, at least; much wider and narrower strips were slower."""

_LANES = 16
"""OpenCV copies that many pixels of a row at once, and what remains of the row one by one."""

_AROUND = np.ones((3, 3), np.uint8)

_FARTHEST = 1.0
"""Longest offset, in frame edges: a longer one leads out of the frame from anywhere in it."""


class NotFiniteInput(ArithmeticError):
    """A network's output contained NaN or Inf; nothing was drawn."""


class Place(NamedTuple):
    """A square part of the frame, in pixels of UNIT, whatever the output's size."""

    x: int
    y: int
    size: int

    def scaled(self, size: int) -> tuple[slice, slice]:
        """Rows and columns of the place in a frame of that size."""
        left, top, edge = (value * size // UNIT for value in self)
        return slice(top, top + edge), slice(left, left + edge)


class Patch(NamedTuple):
    """A part that was painted at high resolution."""

    place: Place
    pixels: np.ndarray
    """[5, P, P] float32: premultiplied RGBA and the paint's share, as in `Composer.compose`. P may differ from the
    place's size in the frame: the patch is resized."""


@dataclass(frozen=True, eq=False)
class Texture:
    """A reference picture, ready to be sampled bilinearly at places between its pixels."""

    pixels: np.ndarray
    """[T, T, 4] uint8 premultiplied RGBA."""
    scale: float
    """Texture pixels for each output pixel."""
    offset: float
    """Texture coordinate of the output's first pixel; OpenCV's pixel centres are at integers."""
    seen: np.ndarray
    """[F, F] uint8: 1 in cells that are not empty, and up to two cells beyond."""

    @property
    def opaque(self) -> bool:
        return bool(self.pixels[..., 3].min() == 255)


def texture(picture: np.ndarray, size: int) -> Texture:
    """
    Prepares a reference, premultiplied RGBA [T, T, 4] uint8 with T at least `size`, for frames of that size.

    After a small move, bilinear samples of a 512² picture have two thirds of its gradient energy, but 92 % if it is
    first enlarged, and all of it if it really is twice as large; cubic interpolation is as sharp as the second, and
    takes six times as long. Without motion, a picture of the output's size is reproduced exactly. Raises ValueError.
    """
    edge = picture.shape[0]
    if picture.ndim != 3 or picture.shape != (edge, edge, 4) or picture.dtype != np.uint8:
        raise ValueError(f"a reference of shape {picture.shape} and {picture.dtype}: want uint8 [T, T, 4]")
    if edge < size:
        raise ValueError(f"a reference of {edge} pixels for frames of {size}: it must not be smaller")
    if edge == size:
        large, offset = np.ascontiguousarray(enlarged(picture)), 0.0
    else:
        large, offset = picture.copy(), 0.5
        if edge != 2 * size:
            way = cv2.INTER_AREA if edge > 2 * size else cv2.INTER_LANCZOS4
            large = cv2.resize(picture, (2 * size, 2 * size), interpolation=way)
    np.minimum(large[..., :3], large[..., 3:], out=large[..., :3])  # interpolation overshoots
    return Texture(large, 2.0, offset, cv2.dilate(_cells(large[..., 3].copy()), _AROUND, iterations=2))


@dataclass(frozen=True, eq=False)
class Scene:
    """What a character's frames of one size are composed from: prepared once, shared by sessions, read-only."""

    size: int
    """S."""
    textures: tuple[Texture, ...]
    plate: np.ndarray | None
    """[S, S, 4] uint8 premultiplied RGBA: the background; None if the frame keeps the person's alpha."""
    opaque: bool
    """Whether finished frames are opaque: the plate is, or every reference."""

    @classmethod
    def prepare(cls, references: Sequence[np.ndarray], size: int, plate: np.ndarray | None = None) -> "Scene":
        """
        From 1 to MAX_REFERENCES references, as in `texture`, the neutral one first, and a plate [S, S, 3] RGB or
        [S, S, 4] straight RGBA, uint8. Raises ValueError.
        """
        if not 1 <= len(references) <= MAX_REFERENCES:
            raise ValueError(f"{len(references)} references: want 1 to {MAX_REFERENCES}")
        if plate is not None and (plate.shape not in ((size, size, 3), (size, size, 4)) or plate.dtype != np.uint8):
            raise ValueError(f"a plate of shape {plate.shape} and {plate.dtype}: want uint8 [{size}, {size}, 3 or 4]")
        textures = tuple(texture(picture, size) for picture in references)
        if plate is None:
            return cls(size, textures, None, all(each.opaque for each in textures))
        if plate.shape[2] == 3:
            return cls(size, textures, cv2.cvtColor(plate, cv2.COLOR_RGB2RGBA), True)
        return cls(size, textures, cv2.cvtColor(plate, cv2.COLOR_RGBA2mRGBA), bool(plate[..., 3].min() == 255))


class _Box(NamedTuple):
    """A part of the frame in cells of the flow."""

    top: int
    bottom: int
    left: int
    right: int

    def pixels(self, cell: int, within: "_Box | None" = None) -> tuple[slice, slice]:
        """Rows and columns in a frame whose cells have that edge, or in another box's part of it."""
        top, left = (within.top, within.left) if within else (0, 0)
        return (
            slice((self.top - top) * cell, (self.bottom - top) * cell),
            slice((self.left - left) * cell, (self.right - left) * cell),
        )


_WHOLE = _Box(0, CELLS, 0, CELLS)


class Composer:
    """
    Composes frames of one size from what the networks return. It holds buffers only, no session's state: one serves all
    sessions of a thread. Not thread-safe.
    """

    def __init__(self, size: int) -> None:
        """Raises ValueError if the size is not a multiple of CELLS."""
        if size % CELLS or size < CELLS:
            raise ValueError(f"frames of {size} pixels: the size must be a multiple of {CELLS}")
        self.size = size
        self._cell = size // CELLS
        # [F + 2, F + 2, 2]: x and y of the flow's cells' centres, and of one more on each side, in output pixels.
        centres = (np.arange(-1, CELLS + 1, dtype=np.float32) + np.float32(0.5)) * self._cell - np.float32(0.5)
        self._centres = np.stack(np.meshgrid(centres, centres), -1)
        # Columns of cells are used in groups that are whole lanes.
        self._group = math.lcm(_LANES, self._cell) // self._cell
        self._wide = self._group * max(_STRIP // (self._group * self._cell), 1)
        # Reused: touching a new buffer's pages takes as long as the work on them.
        self._maps = np.empty(2 * (CELLS + 2) * (self._wide + 2) * self._cell**2, np.float32)
        self._buffers = [np.empty(4 * size * size, np.uint8) for _ in range(3)]

    def compose(
        self,
        scene: Scene,
        flow: np.ndarray,
        weights: np.ndarray,
        paint: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Copies the references along the flow, blends them and paints over them: [S, S, 4] uint8 premultiplied RGBA.

        `flow` [R, 2, F, F] float32: x and y offsets from an output place to its source, in frame edges. `weights`
        [R, E, E] float32: each reference's share; the first reference gets what the others leave. `paint` [5, E, E]
        float32: premultiplied RGBA in 0..1 and the share s of paint, with E as above or another. With `up` as bilinear
        enlargement (half-pixel centres), the frame is

            (1 - up(s)) * sum over r of up(weights_r) * reference_r(place + up(flow_r))  +  up(s * paint)

        so that colour where nothing is painted does not bleed into what is. References continue beyond their edges
        with their outermost pixels. `out`, the frame of an earlier call, is overwritten. Raises NotFiniteInput before
        anything is written, ValueError for other shapes.
        """
        count = len(scene.textures)
        _expect("flow", flow, (count, 2, CELLS, CELLS))
        _expect("weights", weights, (count, *weights.shape[-1:] * 2))
        if paint is not None:
            _expect("paint", paint, (5, *paint.shape[-1:] * 2))
        if scene.size != self.size:
            raise ValueError(f"a scene of {scene.size} pixels for frames of {self.size}")
        if out is not None:
            self._check(out)
        frame = np.empty((self.size, self.size, 4), np.uint8) if out is None else out
        self._copy(scene.textures[0], flow[0], np.ones((CELLS, CELLS), bool), _WHOLE, frame)
        if count > 1:
            self._blend(scene, flow, weights, frame)
        if paint is not None:
            share = _share(paint[4])
            box = _extent(_reach(share), self._group)
            if box is not None:
                painted = self._enlarged(_premultiplied(paint, share), box, 0)
                self._cover(frame[box.pixels(self._cell)], self._enlarged(share, box, 1), painted)
        return frame

    def finish(
        self, scene: Scene, frame: np.ndarray, patches: Sequence[Patch] = (), planes: bool | None = None
    ) -> Picture:
        """
        Blends patches into a composed frame, which is overwritten, and puts it over the scene's plate.

        With `planes` YUV planes, and an alpha plane unless the scene is opaque; otherwise straight RGBA. The default is
        planes for opaque scenes only, since packed alpha is encoded from RGBA. Raises NotFiniteInput before anything is
        written, ValueError for other shapes.
        """
        self._check(frame)
        for patch in patches:
            _expect("a patch", patch.pixels, (5, *patch.pixels.shape[-1:] * 2))
            x, y, edge = patch.place
            if min(x, y) < 0 or edge <= 0 or max(x, y) + edge > UNIT or (x | y | edge) % STEP:
                raise ValueError(f"a patch at {tuple(patch.place)}: want multiples of {STEP} within {UNIT}")
        for patch in patches:
            share = _share(patch.pixels[4])
            if share.any():
                part = frame[patch.place.scaled(self.size)]
                painted = _resized(_premultiplied(patch.pixels, share), len(part))
                self._cover(part, _resized(share, len(part)), painted)
        if scene.plate is not None:
            behind = self._spread(cv2.bitwise_not(cv2.extractChannel(frame, 3)))
            cv2.multiply(scene.plate, behind, dst=behind, scale=1 / 255)
            cv2.add(frame, behind, dst=frame)
        if planes is None:
            planes = scene.opaque
        if scene.opaque:
            if planes:
                return Yuv(yuv_planes(frame))
            picture = frame.copy()
            picture[..., 3] = 255  # the networks' alpha is not exact
            return picture
        straight = self._straight(frame)
        return Yuv(yuv_planes(straight), cv2.extractChannel(straight, 3)) if planes else straight

    def _check(self, frame: np.ndarray) -> None:
        # OpenCV would silently write to a new array instead.
        if frame.shape != (self.size, self.size, 4) or frame.dtype != np.uint8 or not frame.flags.c_contiguous:
            raise ValueError(
                f"a frame of shape {frame.shape} and {frame.dtype}: want uint8 [{self.size}, {self.size}, 4]"
            )

    def _copy(self, source: Texture, flow: np.ndarray, wanted: np.ndarray, box: _Box, into: np.ndarray) -> None:
        """
        Samples the texture along the flow [2, F, F] for a part of the frame, [h, w, 4] uint8: at least in the cells
        `wanted` [F, F] bool.
        """
        # Enlarging the sources' coordinates bilinearly, not the offsets, saves a pass over the frame. The cells beyond
        # the frame continue the grid, with the offsets of those beside them.
        cell = self._cell
        sources = cv2.merge(list(np.clip(flow, -_FARTHEST, _FARTHEST) * np.float32(self.size)))
        sources = cv2.copyMakeBorder(sources, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        sources += self._centres
        sources *= np.float32(source.scale)
        sources += np.float32(source.offset)
        active = (_shown(source, sources) & wanted)[box.top : box.bottom, box.left : box.right]
        if not active.all():
            into[:] = 0
        # Strips: where the flow is not level, a row of the frame crosses many rows of the texture, which the processor
        # does not prefetch; down a narrow strip it does.
        wide = self._wide
        for left in range(0, active.shape[1], wide):
            rows = np.flatnonzero(active[:, left : left + wide].any(1))
            if not len(rows):
                continue
            part = _Box(int(rows[0]), int(rows[-1]) + 1, left, min(left + wide, active.shape[1]))
            top, start = box.top + part.top, box.left + part.left
            known = sources[top : box.top + part.bottom + 2, start : box.left + part.right + 2]
            height, width = known.shape[0] * cell, known.shape[1] * cell
            places = self._maps[: 2 * height * width].reshape(height, width, 2)
            cv2.resize(known, (width, height), dst=places)
            inner = places[cell:-cell, cell:-cell]
            strip = into[part.pixels(cell)]
            cv2.remap(source.pixels, inner, None, cv2.INTER_LINEAR, dst=strip, borderMode=cv2.BORDER_REPLICATE)

    def _blend(self, scene: Scene, flow: np.ndarray, weights: np.ndarray, frame: np.ndarray) -> None:
        """Blends the further references into a frame of the first one, where they have a share."""
        grids = {r: _share(weights[r]) for r in range(1, len(weights))}
        reaches = {r: _reach(grid) for r, grid in grids.items()}
        boxes = {r: box for r, reach in reaches.items() if (box := _extent(reach, self._group)) is not None}
        if not boxes:
            return
        tops, bottoms, lefts, rights = zip(*boxes.values(), strict=True)
        around, cell = _Box(min(tops), max(bottoms), min(lefts), max(rights)), self._cell
        part = frame[around.pixels(cell)]
        left = np.full(part.shape[:2], 255, np.uint8)
        shares = {}
        for r, box in boxes.items():
            its = left[box.pixels(cell, around)]
            # Shares whose sum is exactly 255 keep an opaque picture opaque.
            shares[r] = cv2.min(self._enlarged(grids[r], box), its)
            cv2.subtract(its, shares[r], dst=its)
        cv2.multiply(part, self._spread(left), dst=part, scale=1 / 255)
        for r, box in boxes.items():
            copied = self._view(1, (*shares[r].shape, 4))
            self._copy(scene.textures[r], flow[r], reaches[r], box, copied)
            cv2.multiply(copied, self._spread(shares[r]), dst=copied, scale=1 / 255)
            its = part[box.pixels(cell, around)]
            cv2.add(its, copied, dst=its)

    def _cover(self, part: np.ndarray, share: np.ndarray, painted: np.ndarray) -> None:
        """Covers a part of a frame with paint [h, w, 4] that is premultiplied by its share [h, w], all uint8."""
        cv2.multiply(part, self._spread(cv2.bitwise_not(share)), dst=part, scale=1 / 255)
        cv2.add(part, painted, dst=part)

    def _straight(self, frame: np.ndarray) -> np.ndarray:
        """Straight RGBA of a premultiplied frame; black where it is transparent."""
        alpha = self._spread(cv2.extractChannel(frame, 3))
        alpha[..., 3] = 255
        return np.asarray(cv2.divide(frame, alpha, scale=255))  # a quotient by 0 is 0

    def _enlarged(self, grid: np.ndarray, box: _Box, buffer: int | None = None) -> np.ndarray:
        """Enlarges a part of a grid [E, E] or [E, E, 4] uint8 bilinearly to its size in the frame."""
        cell, edge = self._cell, len(grid)
        if edge % CELLS:
            return np.ascontiguousarray(cv2.resize(grid, (self.size, self.size))[box.pixels(cell)])
        # One more cell on each side, where there is one, makes the part's border as in the whole.
        wide = _Box(max(box.top - 1, 0), min(box.bottom + 1, CELLS), max(box.left - 1, 0), min(box.right + 1, CELLS))
        known = grid[wide.pixels(edge // CELLS)]
        height, width = (wide.bottom - wide.top) * cell, (wide.right - wide.left) * cell
        large = None if buffer is None else self._view(buffer, (height, width, *grid.shape[2:]))
        return np.asarray(cv2.resize(known, (width, height), dst=large)[box.pixels(cell, wide)])

    def _spread(self, plane: np.ndarray) -> np.ndarray:
        """[h, w] uint8 -> [h, w, 4], the same in every channel; valid until the next call."""
        spread = self._view(2, (*plane.shape, 4))
        cv2.merge([plane] * 4, dst=spread)
        return spread

    def _view(self, buffer: int, shape: tuple[int, ...]) -> np.ndarray:
        return self._buffers[buffer][: math.prod(shape)].reshape(shape)


def patch_input(frame: np.ndarray, place: Place, edge: int) -> np.ndarray:
    """A place of a composed frame [S, S, 4] uint8 as the patch network's input: [4, edge, edge] float32 in 0..1."""
    part = _resized(frame[place.scaled(len(frame))], edge)
    pixels = np.empty((4, edge, edge), np.float32)
    for channel, plane in zip(cv2.split(part), pixels, strict=True):
        np.multiply(channel, np.float32(1 / 255), out=plane)
    return pixels


def patch_place(flow: np.ndarray, centre: tuple[float, float], size: int, last: Place | None = None) -> Place:
    """
    Where a region of the neutral reference is in the output: a square of `size` pixels of UNIT around it.

    `flow` [2, F, F] float32 of that reference, `centre` x and y in frame edges. The offset is the mean over the output
    places whose source lies near the centre, without those far from their median: where the picture is empty, the flow
    may be anything. If there are none, the region is assumed not to have moved. With the place of the frame before,
    `last`, it moves only by more than three quarters of a step, since a change of the grid is visible. Raises
    NotFiniteInput, ValueError.
    """
    _expect("flow", flow, (2, CELLS, CELLS))
    if size % STEP or not 0 < size <= UNIT:
        raise ValueError(f"a place of {size} pixels: want a multiple of {STEP} up to {UNIT}")
    at = (np.arange(CELLS, dtype=np.float32) + np.float32(0.5)) / np.float32(CELLS)
    away_x, away_y = flow[0] + (at - np.float32(centre[0])), flow[1] + (at[:, None] - np.float32(centre[1]))
    radius = size / UNIT / 4
    offsets = flow[:, away_x**2 + away_y**2 < radius**2]
    found = np.zeros(2, np.float32)
    if offsets.shape[1]:
        middle = np.median(offsets, 1, keepdims=True)
        close = np.abs(offsets - middle).max(0) <= radius
        found = offsets[:, close].mean(1) if close.any() else middle[:, 0]
    corner = [UNIT * (float(centre[k]) - float(found[k])) - size / 2 for k in range(2)]
    if last is not None and last.size == size:
        corner = [value if abs(value - kept) > 0.75 * STEP else kept for value, kept in zip(corner, last, strict=False)]
    x, y = (min(max(STEP * round(value / STEP), 0), UNIT - size) for value in corner)
    return Place(x, y, size)


def crop(features: np.ndarray, place: Place) -> np.ndarray:
    """The place's part of features [..., F, F]: a view [..., n, n] with n = size / STEP."""
    rows, columns = place.scaled(CELLS)
    return features[..., rows, columns]


def _expect(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises ValueError for another shape or type than float32, NotFiniteInput for NaN and Inf."""
    if values.shape != shape or values.dtype != np.float32:
        raise ValueError(f"{name} of shape {values.shape} and {values.dtype}: want float32 {shape}")
    if not np.isfinite(values).all():
        raise NotFiniteInput(f"{name} contains NaN or Inf in {np.count_nonzero(~np.isfinite(values))} places")


def _share(grid: np.ndarray) -> np.ndarray:
    """Shares [E, E] float32 in 255ths, uint8; none where below _LEAST."""
    share = cv2.multiply(grid, 255.0, dtype=cv2.CV_8U)
    return np.asarray(cv2.threshold(share, _LEAST - 1, 0, cv2.THRESH_TOZERO)[1])


def _premultiplied(paint: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Paint [5, E, E] float32 times its share [E, E] uint8: [E, E, 4] uint8."""
    weight = np.multiply(share, np.float32(1 / 255))
    planes = [cv2.multiply(plane, weight, scale=255, dtype=cv2.CV_8U) for plane in paint[:4]]
    alpha = cv2.min(planes[3], share)
    return np.asarray(cv2.merge([*(cv2.min(plane, alpha) for plane in planes[:3]), alpha]))


def _reach(share: np.ndarray) -> np.ndarray:
    """[F, F] bool: the frame's cells that shares [E, E] uint8 reach when enlarged."""
    if len(share) < CELLS:  # reaches far beyond a cell
        return np.full((CELLS, CELLS), bool(share.any()))
    return np.asarray(cv2.dilate(_cells(share), _AROUND) > 0)


def _cells(plane: np.ndarray) -> np.ndarray:
    """[F, F] uint8: 1 in the cells where a plane [T, T] uint8, T at least F, is not 0 everywhere."""
    some = (plane > 0).astype(np.float32)
    return (cv2.resize(some, (CELLS, CELLS), interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)


def _shown(source: Texture, sources: np.ndarray) -> np.ndarray:
    """[F, F] bool: cells that may show something of a texture, of which they show coordinates [F + 2, F + 2, 2].

    What is seen extends by two cells, so that nothing is missed unless neighbouring cells show places more than four
    cells apart.
    """
    if source.seen.all():
        return source.seen > 0
    cells = sources * np.float32(CELLS / len(source.pixels))
    found = cv2.remap(source.seen, cells, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.dilate(found, _AROUND)[1:-1, 1:-1] > 0)


def _extent(cells: np.ndarray, group: int) -> _Box | None:
    """The box around the cells that are set in [F, F] bool, in whole groups of columns; None if there are none."""
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    if not len(rows):
        return None
    left, right = int(columns[0]) // group * group, -(-(int(columns[-1]) + 1) // group) * group
    return _Box(int(rows[0]), int(rows[-1]) + 1, left, right)


def _resized(picture: np.ndarray, edge: int) -> np.ndarray:
    """[P, P] or [P, P, 4] uint8 at another edge: bilinear, or the mean over areas where it shrinks."""
    if len(picture) == edge:
        return picture
    way = cv2.INTER_AREA if edge < len(picture) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (edge, edge), interpolation=way))
