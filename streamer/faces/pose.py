"""A mean face, used to measure a face's rotation and to reconstruct landmarks from three points.

turned:  landmarks ─▶ rotation that maps the mean face onto them ─▶ yaw, pitch
placed:  eyes and mouth of a drawing, or a user's marks ─▶ the mean face's 468 landmarks there
"""

import math
from functools import cache

import numpy as np

from streamer.faces.detector import Face
from streamer.faces.landmarks import WEIGHTS
from streamer.studio.face_fit import (
    INNER_LIPS,
    LEFT_EYE,
    LEFT_EYE_CORNERS,
    POINTS,
    RIGHT_EYE,
    RIGHT_EYE_CORNERS,
    FaceFit,
)

_STABLE = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 10, 109, 338, 127, 356, 70, 105, 107, 336, 334, 300, 116, 345,
           50, 280, 98, 327)  # fmt: skip
"""Landmarks that hardly move when a face speaks, smiles or blinks."""

_IRIS = 0.2  # radius of an iris, relative to the distance between the eye's corners


@cache
def mean_face() -> np.ndarray:
    """[468, 3] float64, as in FaceFit.points: the eyes' outer corners 1 apart, their midpoint at 0, 0, 0."""
    with np.load(WEIGHTS / "canonical.npz") as stored:
        points = stored["points"].astype(np.float64)
    if points.shape != (POINTS, 3):
        raise ValueError(f"the mean face in canonical.npz has the shape {list(points.shape)}, not [468, 3]")
    return points


def rotation_of(fit: FaceFit) -> np.ndarray:
    """[3, 3]: the least-squares rotation from the mean face to this one."""
    ours, theirs = (points[list(_STABLE)].astype(np.float64) for points in (mean_face(), fit.points))
    left, _, right = np.linalg.svd((theirs - theirs.mean(0)).T @ (ours - ours.mean(0)))
    sign = np.diag([1, 1, np.sign(np.linalg.det(left @ right))])
    return left @ sign @ right


def turned(fit: FaceFit) -> tuple[float, float]:
    """Yaw and pitch in radians; positive: towards the viewer's right, and downwards."""
    ahead = rotation_of(fit) @ np.array([0.0, 0.0, -1.0])
    across = fit.points[RIGHT_EYE_CORNERS[0], :2] - fit.points[LEFT_EYE_CORNERS[0], :2]
    roll = math.atan2(across[1], across[0])
    x = math.cos(roll) * ahead[0] + math.sin(roll) * ahead[1]
    y = -math.sin(roll) * ahead[0] + math.cos(roll) * ahead[1]
    return math.atan2(x, -ahead[2]), math.atan2(y, -ahead[2])


def face_of(fit: FaceFit) -> Face:
    """Its eyes and mouth."""
    mouth = fit.points[list(INNER_LIPS), :2].mean(0)
    return Face(fit.score, fit.lids.mean(1).astype(np.float32), mouth.astype(np.float32))


def placed(face: Face) -> FaceFit:
    """The mean face with its eyes and mouth at those of a drawn or marked face; its lips are closed."""
    mean = mean_face()
    eyes = np.stack([mean[list(eye), :2].mean(0) for eye in (LEFT_EYE, RIGHT_EYE)])
    across, wanted = eyes[1] - eyes[0], (face.eyes[1] - face.eyes[0]).astype(np.float64)
    scale = float(np.hypot(*wanted) / np.hypot(*across))
    angle = math.atan2(wanted[1], wanted[0]) - math.atan2(across[1], across[0])
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = np.empty_like(mean)
    points[:, :2] = (mean[:, :2] - eyes.mean(0)) @ turn.T + face.eyes.mean(0)
    points[:, 2] = mean[:, 2] * scale
    # Points below the eyes follow the mouth, in proportion to their height; beyond the mouth completely.
    mouth = points[list(INNER_LIPS), :2].mean(0)
    down = mouth - face.eyes.mean(0)
    along = (points[:, :2] - face.eyes.mean(0)) @ down / (down @ down)
    follows = np.clip(along, 0, 1) ** 1.5
    points[:, :2] += follows[:, None] * (face.mouth - mouth)
    lids = np.stack([points[list(eye), :2] for eye in (LEFT_EYE, RIGHT_EYE)])
    irises: list[np.ndarray] = []
    for side, corners in enumerate((LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS)):
        radius = _IRIS * float(np.hypot(*(points[corners[1], :2] - points[corners[0], :2])))
        rim = np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]]) * radius
        irises.append(lids[side].mean(0) + rim)
    return FaceFit(points.astype(np.float32), lids.astype(np.float32), np.array(irises, np.float32), face.score)
