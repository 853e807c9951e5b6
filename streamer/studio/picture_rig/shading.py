"""Shading by expressions: smile folds, frown lines, blush.

Small corrections, as soft maps that are fixed to the face at rest and move with it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.motion.controls import INDEX
from streamer.studio.picture_rig.field import Grid
from streamer.studio.picture_rig.framing import FRAME

_FOLDS = ((129, 203, 206, 216), (358, 423, 426, 436))
"""From the wings of the nose around the corners of the mouth."""
_APPLES = (50, 280)
_FURROW = ((107, 9, 55), (336, 9, 285))
_LEAST = 0.008  # minimum change that is painted
_FOLD, _APPLE, _FURROWED, _BLUSH = -0.11, 0.05, -0.08, np.array([0.04, -0.13, -0.10])
"""Relative change of brightness by each map at full strength; a blush changes red, green and blue."""


@dataclass(frozen=True, eq=False)
class Shading:
    grid: Grid
    maps: np.ndarray
    """[4, r, c] float32, 0..1: folds of a smile, apples of the cheeks, furrow between the brows, blush."""

    drawing: bool
    opaque: bool
    """Whether the picture is opaque."""

    def amounts(self, controls: np.ndarray) -> np.ndarray:
        """[4, 3]: change of red, green and blue by each map in a frame."""
        smile, inner = (float(controls[INDEX[name]]) for name in ("smile", "brow_inner"))
        blush = float(np.clip(controls[INDEX["blush"]], 0, 1))
        folds = 0.0 if self.drawing else max(smile, 0.0)
        furrow = 0.0 if self.drawing else max(-inner, 0.0)
        rows = [
            _FOLD * folds * np.ones(3),
            _APPLE * folds * np.ones(3),
            _FURROWED * furrow * np.ones(3),
            _BLUSH * blush,
        ]
        return np.stack(rows).astype(np.float32)

    def paint(self, frame: np.ndarray, whole: np.ndarray, controls: np.ndarray) -> None:
        """
        Paints into a frame [S, S, 4] uint8; `whole` [CELLS, CELLS, 2] is the displacement in frame units to the source
        positions (motion.Flow.whole).
        """
        amounts = self.amounts(controls)
        if np.abs(amounts).max() < _LEAST:
            return
        change = np.tensordot(amounts.T, self.maps, 1)  # [3, r, c], on the picture at rest
        cells, size = len(whole), len(frame)
        edge = FRAME / cells
        scale = size / FRAME
        x0, y0 = (int(max(0, at - _AROUND)) for at in (self.grid.x, self.grid.y))
        x1 = int(min(FRAME, self.grid.x + self.grid.columns * self.grid.cell + _AROUND))
        y1 = int(min(FRAME, self.grid.y + self.grid.rows * self.grid.cell + _AROUND))
        rows, columns = (slice(int(a / edge), int(np.ceil(b / edge))) for a, b in ((y0, y1), (x0, x1)))
        size_there = rows.stop - rows.start, columns.stop - columns.start
        there = Grid(0, 0, edge, cells, cells).part(rows.start, columns.start, *size_there)
        middles = there.middles + whole[rows, columns]
        at = ((middles - [self.grid.x, self.grid.y]) / self.grid.cell - 0.5).astype(np.float32)
        change = cv2.merge([*change, np.zeros_like(change[0])])
        gains = (_UNIT * (1 + cv2.remap(change, at, None, cv2.INTER_LINEAR)) + 0.5).astype(np.uint8)
        top, left = round(rows.start * edge * scale), round(columns.start * edge * scale)
        bottom, right = round(rows.stop * edge * scale), round(columns.stop * edge * scale)
        region = frame[top:bottom, left:right]
        gains = cv2.resize(gains, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        cv2.multiply(region, gains, dst=region, scale=1 / _UNIT)
        if not self.opaque:
            np.minimum(region[..., :3], region[..., 3:], out=region[..., :3])


_UNIT = 160  # byte value of no change; eighths of a brightness level are invisible
_AROUND = 24  # frame units around the face that head motion may cover


def prepare_shading(landmarks: np.ndarray, drawing: bool, opaque: bool) -> Shading:
    """From landmarks [468, 3] in frame units."""
    points = landmarks[:, :2]
    unit = float(np.hypot(*(points[33] - points[263])))
    low, high = points.min(0), points.max(0)
    cell = FRAME / 128
    columns, rows = (int(np.ceil(span / cell)) for span in high - low)
    grid = Grid(float(low[0]), float(low[1]), cell, max(rows, 2), max(columns, 2))

    def line(chains: tuple[tuple[int, ...], ...], wide: float) -> np.ndarray:
        drawn = np.zeros((grid.rows, grid.columns), np.uint8)
        for chain in chains:
            at = (points[list(chain)] - low) / cell - 0.5
            cv2.polylines(drawn, [np.round(at * 16).astype(np.int32)], False, 255, max(1, round(wide * unit / cell)),
                          cv2.LINE_AA, 4)  # fmt: skip
        soft = cv2.GaussianBlur(drawn.astype(np.float32), (0, 0), max(0.6, wide * unit / cell))
        return soft / max(float(soft.max()), 1e-3)

    def spots(places: np.ndarray, wide: float, high: float) -> np.ndarray:
        away = (grid.middles[None] - places[:, None, None]) / unit
        return np.exp(-((away[..., 0] / wide) ** 2) - (away[..., 1] / high) ** 2).max(0)

    apples = points[list(_APPLES)]
    blush = apples + 0.06 * unit * np.array([[-1, 1], [1, 1]])
    maps = [line(_FOLDS, 0.035), spots(apples, 0.16, 0.12), line(_FURROW, 0.025), spots(blush, 0.2, 0.14)]
    return Shading(grid, np.stack(maps).astype(np.float32), drawing, opaque)
