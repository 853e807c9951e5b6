"""Points in rest space and their skins: what moves them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.studio.dynamics import Part

Points = Any  # [n, 2] or [n, 3] array or list of tuples in rest space; without z, points lie on the skull's surface
Skin = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # [n,3] -> share of the body's motion [n], sway [n]


def skull_z(x: Any, y: Any) -> Any:
    """Depth of the head's surface at (x, y): flat enough at the sides that a turned face keeps its far eye."""
    return 0.45 * np.maximum(0.0, 1.0 - (x / 0.60) ** 2 - 0.45 * y**2)


def points3(points: Points) -> np.ndarray:
    """[n,3] float64 from points with or without depth (mixed lengths allowed)."""
    if isinstance(points, np.ndarray) and points.shape[1] == 3:
        return points.astype(np.float64)
    rows = []
    for p in points:
        x, y = float(p[0]), float(p[1])
        rows.append((x, y, float(p[2]) if len(p) > 2 else float(skull_z(x, y))))
    return np.array(rows, np.float64).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Hanging:
    """A skin whose points also belong to a loose part."""

    skin: Skin
    part: Part | None
    gradient: bool = True
    """Whether the ends of a gradient move with the part."""

    def __call__(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.skin(p)


@dataclass(frozen=True, eq=False)
class Sliding:
    """A skin whose points shift while a latch is out of place."""

    skin: Skin
    latch: str
    offset: Callable[[np.ndarray], np.ndarray]
    """[n, 3] -> [n, 3]: how far they are off with the latch at 1."""

    def __call__(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.skin(p)


def head(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skin: moves with the head alone."""
    return np.zeros(len(p)), np.zeros(len(p))


def body(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skin: moves with the torso alone."""
    return np.ones(len(p)), np.zeros(len(p))


def ramp(values: Any, start: float, end: float) -> Any:
    """0 before `start`, 1 after `end`, smooth between, for a number or an array; `start` may lie above `end`."""
    t = np.clip((values - start) / (end - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)
