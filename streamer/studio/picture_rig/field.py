"""How every place of a picture moves: grids of what each channel and the head's turning do there, and their inverse.

    vertices' channels ─▶ Grid (once a picture) ─▶ displacement (a frame) ─▶ inverted: where a frame's place comes from

A frame asks, for each of its places, which place of the picture lands there: x = y - d(x), found by iteration, since d
changes less than places do. All positions are frame units; a grid's values lie in the middles of its cells.

Letters used in shapes: R, C rows and columns of a grid; K channels; V vertices.
"""

from dataclasses import dataclass

import cv2
import numpy as np

_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class Grid:
    """A rectangle divided into square cells."""

    x: float
    y: float
    """Its upper left corner."""

    cell: float
    """A cell's edge."""

    rows: int
    columns: int

    @property
    def middles(self) -> np.ndarray:
        """[R, C, 2] float32: x, y of the cells' middles."""
        x = self.x + self.cell * (np.arange(self.columns, dtype=np.float32) + 0.5)
        y = self.y + self.cell * (np.arange(self.rows, dtype=np.float32) + 0.5)
        return np.stack(np.meshgrid(x, y), -1).astype(np.float32)

    def part(self, row: int, column: int, rows: int, columns: int) -> "Grid":
        return Grid(self.x + self.cell * column, self.y + self.cell * row, self.cell, rows, columns)

    def inverted(self, moves: np.ndarray, rounds: int = _ROUNDS) -> np.ndarray:
        """[R, C, 2] float32: what has to be added to each middle to get to the place that `moves` [R, C, 2] bring
        there."""
        scaled = moves * np.float32(1 / self.cell)
        middles = np.stack(np.meshgrid(np.arange(self.columns), np.arange(self.rows)), -1).astype(np.float32)
        back = -scaled
        for _ in range(rounds):
            back = -cv2.remap(scaled, middles + back, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return back * np.float32(self.cell)

    def sampled(self, values: np.ndarray, places: np.ndarray) -> np.ndarray:
        """[R, C] values of this grid at places [r, c, 2]: [r, c] float32."""
        at = ((places - [self.x, self.y]) / self.cell - 0.5).astype(np.float32)
        return cv2.remap(values.astype(np.float32), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True, eq=False)
class Cover:
    """Which triangle of a mesh lies over each cell's middle, and where in it."""

    covered: np.ndarray
    """[R, C] bool."""

    vertices: np.ndarray
    """[n, 3] int: of the triangle over each covered cell."""

    weights: np.ndarray
    """[n, 3] float32."""

    def spread(self, values: np.ndarray) -> np.ndarray:
        """[..., V, m] at the vertices to [..., n, m] at the covered cells."""
        return np.einsum("nt,...ntm->...nm", self.weights, values[..., self.vertices, :], optimize=True)


def cover(grid: Grid, vertices: np.ndarray, triangles: np.ndarray) -> Cover:
    """Of a mesh [V, 3]: where triangles overlap, the one nearest to the viewer counts."""
    at = (vertices[:, :2] - [grid.x, grid.y]) / grid.cell - 0.5  # in cells: whole numbers are middles
    corners = at[triangles]
    first = np.maximum(np.ceil(corners.min(1)).astype(int), 0)
    last = np.minimum(np.floor(corners.max(1)).astype(int), np.array([grid.columns, grid.rows]) - 1)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    number = np.flatnonzero((first <= last).all(1) & (np.abs(area) > 1e-9))
    first, last, area, a, b, c = first[number], last[number], area[number], a[number], b[number], c[number]
    # Every cell that a triangle's box reaches is asked whether it lies inside: [n, cells].
    wide, high = (last - first).max(0) + 1
    dy, dx = (offsets.ravel() for offsets in np.mgrid[0:high, 0:wide])
    x, y = first[:, :1] + dx, first[:, 1:] + dy
    ax, ay = x - a[:, :1], y - a[:, 1:]
    second = (ax * (c - a)[:, 1:] - ay * (c - a)[:, :1]) / area[:, None]
    third = (ay * (b - a)[:, :1] - ax * (b - a)[:, 1:]) / area[:, None]
    weights = np.stack([1 - second - third, second, third], -1)
    inside = (weights.min(-1) >= -1e-6) & (x <= last[:, :1]) & (y <= last[:, 1:])
    of, place = np.nonzero(inside)
    weights = weights[of, place]
    cells = y[of, place] * grid.columns + x[of, place]
    depth = (weights * vertices[triangles[number[of]], 2]).sum(1)
    order = np.lexsort((depth, cells))
    cells, nearest = np.unique(cells[order], return_index=True)
    chosen = order[nearest]
    covered = np.zeros(grid.rows * grid.columns, bool)
    covered[cells] = True
    return Cover(
        covered.reshape(grid.rows, grid.columns), triangles[number[of[chosen]]], weights[chosen].astype(np.float32)
    )
