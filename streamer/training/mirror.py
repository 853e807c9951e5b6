"""Mirror images: of controls, and of a face found in a picture.

Letters used in shapes: C controls.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from streamer.motion.controls import CONTROLS, INDEX
from streamer.studio.face_fit import FaceFit

_WEIGHTS = Path(__file__).parents[1] / "weights"
_SIGNED = ("yaw", "roll", "gaze_x", "lean", "sway_x")
"""Controls that point to one side. Hands do not: their x and turn count from the body outwards."""


def _other_side(name: str) -> str:
    first, last = name.split("_")[0], name.split("_")[-1]
    if first in ("left", "right"):
        return ("right" if first == "left" else "left") + name[len(first) :]
    if last in ("left", "right"):
        return name[: -len(last)] + ("right" if last == "left" else "left")
    return name


_SWAPPED = np.array([INDEX[_other_side(name)] for name in CONTROLS])
_SIGNS = np.array([-1 if name in _SIGNED else 1 for name in CONTROLS], np.float32)


def mirrored_controls(controls: np.ndarray) -> np.ndarray:
    """Controls [..., C] with which the mirrored character shows the mirror image."""
    return np.asarray(controls[..., _SWAPPED] * _SIGNS, controls.dtype)


@cache
def mirrored_landmarks() -> np.ndarray:
    """[468] int: for each landmark the one on the other side of the face."""
    with np.load(_WEIGHTS / "face_landmark_map.npz") as measured:
        return measured["mirror"].astype(int)


def mirrored_fit(fit: FaceFit, width: int) -> FaceFit:
    """The face as it lies in the mirror image of its picture, which is `width` pixels wide."""
    flip, across = np.array([-1, 1], np.float32), np.array([width, 0], np.float32)
    points = fit.points[mirrored_landmarks()].copy()
    points[:, 0] = width - points[:, 0]
    irises = fit.irises[::-1] * flip + across
    # Rim points are to the right of the centre, above, to the left, below.
    return replace(fit, points=points, lids=fit.lids[::-1] * flip + across, irises=irises[:, [0, 3, 2, 1, 4]])
