"""Displacement fields: grids with the effect of each channel and of head rotation, and their numerical inverse.

    vertices' channels ─▶ Grid (once per picture) ─▶ displacement (per frame) ─▶ inverted: source of each frame position

A frame needs, for each of its positions y, the picture position x that moves there: x = y - d(x), solved by fixed-point
iteration. Where skin is stretched to more than twice its length the plain iteration diverges; Aitken's relaxation
(Irons and Tuck 1969), per position, converges. All positions are in frame units; a grid's values are at the centres of
its cells.

Letters used in shapes: R, C rows and columns of a grid; K channels; V vertices.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

_ROUNDS = 4
_RELAXED = (0.25, 1.5)  # minimum and maximum relaxation factor
_TINY = np.float32(1e-9)
_NOTHING = (np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Grid:
    """A rectangle of square cells."""

    x: float
    y: float
    """Its upper left corner."""

    cell: float
    """A cell's edge."""

    rows: int
    columns: int

    @property
    def middles(self) -> np.ndarray:
        """[R, C, 2] float32: x, y of the cell centres."""
        x = self.x + self.cell * (np.arange(self.columns, dtype=np.float32) + 0.5)
        y = self.y + self.cell * (np.arange(self.rows, dtype=np.float32) + 0.5)
        return np.stack(np.meshgrid(x, y), -1).astype(np.float32)

    def part(self, row: int, column: int, rows: int, columns: int) -> "Grid":
        return Grid(self.x + self.cell * column, self.y + self.cell * row, self.cell, rows, columns)

    def inverted(self, moves: np.ndarray, rounds: int = _ROUNDS) -> np.ndarray:
        """[R, C, 2] float32: offset from each cell centre to the position that the displacement field `moves`
        [R, C, 2] maps to it."""
        scale = np.float32(self.cell)
        middle_x, middle_y = _numbers(self.rows, self.columns)
        move_x, move_y = moves[..., 0] / scale, moves[..., 1] / scale
        scaled = cv2.merge([move_x, move_y])  # in the memory layout that OpenCV reads without copying
        x, y = middle_x - move_x, middle_y - move_y

        def missing() -> tuple[np.ndarray, np.ndarray]:
            """[R, C] each: residual between x, y and the source implied by the displacement there."""
            there = cv2.remap(scaled, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            there_x, there_y = cv2.split(there)
            return middle_x - x - there_x, middle_y - y - there_y

        before_x, before_y = missing()
        x += before_x
        y += before_y
        share = np.ones_like(x)
        for _ in range(rounds - 1):
            now_x, now_y = missing()
            # The relaxation factor of each position is learned from the effect of the last update.
            less_x, less_y = before_x - now_x, before_y - now_y
            gained = before_x * less_x + before_y * less_y
            share *= gained / (less_x * less_x + less_y * less_y + _TINY)
            np.clip(share, *_RELAXED, out=share)
            x += share * now_x
            y += share * now_y
            before_x, before_y = now_x, now_y
        return np.asarray(cv2.merge([(x - middle_x) * scale, (y - middle_y) * scale]))

    def sampled(self, values: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Samples [R, C] values of this grid at positions [r, c, 2]: [r, c] float32."""
        at = ((places - [self.x, self.y]) / self.cell - 0.5).astype(np.float32)
        return cv2.remap(values.astype(np.float32), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(16)
def _numbers(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """[rows, columns] float32 each: every cell's column and row."""
    x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    return x, y


@dataclass(frozen=True, eq=False)
class Cover:
    """Which triangle of a mesh covers each cell centre, with barycentric coordinates."""

    covered: np.ndarray
    """[R, C] bool."""

    vertices: np.ndarray
    """[n, 3] int: vertices of the triangle over each covered cell."""

    weights: np.ndarray
    """[n, 3] float32."""

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Interpolates [..., V, m] at the vertices to [..., n, m] at the covered cells."""
        return np.einsum("nt,...ntm->...nm", self.weights, values[..., self.vertices, :], optimize=True)


def cover(grid: Grid, vertices: np.ndarray, triangles: np.ndarray) -> Cover:
    """Rasterises a mesh [V, 3]: where triangles overlap, the one nearest to the viewer is used."""
    at = (vertices[:, :2] - [grid.x, grid.y]) / grid.cell - 0.5  # in cells: integers are centres
    corners = at[triangles]
    first = np.maximum(np.ceil(corners.min(1)).astype(int), 0)
    last = np.minimum(np.floor(corners.max(1)).astype(int), np.array([grid.columns, grid.rows]) - 1)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    number = np.flatnonzero((first <= last).all(1) & (np.abs(area) > 1e-9))
    first, last, area, a, b, c = first[number], last[number], area[number], a[number], b[number], c[number]
    # Tests each cell in a triangle's bounding box, for triangles of similar size at a time.
    classes = np.ceil(np.log2((last - first).max(1) + 1)).astype(int)
    found = []
    for size in np.unique(classes):
        like = np.flatnonzero(classes == size)
        dy, dx = (offsets.ravel() for offsets in np.mgrid[0 : 2**size, 0 : 2**size])
        x, y = first[like, :1] + dx, first[like, 1:] + dy
        ax, ay = x - a[like, :1], y - a[like, 1:]
        ab, ac = (b - a)[like], (c - a)[like]
        second = (ax * ac[:, 1:] - ay * ac[:, :1]) / area[like, None]
        third = (ay * ab[:, :1] - ax * ab[:, 1:]) / area[like, None]
        inside = (np.minimum(second, third) >= -1e-6) & (second + third <= 1 + 1e-6)
        of, place = np.nonzero(inside & (x <= last[like, :1]) & (y <= last[like, 1:]))
        second, third = second[of, place], third[of, place]
        found.append((number[like[of]], y[of, place] * grid.columns + x[of, place], second, third))
    of, cells, second, third = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else _NOTHING
    weights = np.stack([1 - second - third, second, third], 1)
    depth = (weights * vertices[triangles[of], 2]).sum(1)
    order = np.lexsort((depth, cells))
    cells, nearest = np.unique(cells[order], return_index=True)
    chosen = order[nearest]
    covered = np.zeros(grid.rows * grid.columns, bool)
    covered[cells] = True
    return Cover(covered.reshape(grid.rows, grid.columns), triangles[of[chosen]], weights[chosen].astype(np.float32))
