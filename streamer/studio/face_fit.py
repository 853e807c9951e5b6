"""A fitted face: what the picture rig needs to know about a picture. `streamer/faces` produces it.

Letters used in shapes: H, W the picture's edges.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

POINTS = 468
"""Landmarks of a face, in the order of MediaPipe's face mesh."""

LEFT_EYE_CORNERS = (33, 133)
"""Outer and inner corner of the eye on the viewer's left, in that order."""

RIGHT_EYE_CORNERS = (263, 362)

LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)
"""Landmarks on the edges of the lids: lower edge from corner to corner, then upper edge without the corners."""

RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)

INNER_LIPS = (13, 14)
"""Midpoints of the inner edges of the upper and the lower lip."""

Style = Literal["photo", "drawing"]


@dataclass(frozen=True, eq=False)
class FaceFit:
    """One face in a picture. Left and right are the viewer's; x, y are pixels from the picture's upper left."""

    points: np.ndarray
    """[468, 3] float32: x, y and depth in the same unit; smaller depth is nearer to the camera."""

    lids: np.ndarray
    """[2, 16, 2] float32: lid edges of the left and the right eye, in the order of LEFT_EYE and RIGHT_EYE."""

    irises: np.ndarray
    """[2, 5, 2] float32: centre and four rim points of the iris, for the left and the right eye."""

    score: float = 1.0
    """Confidence, 0..1; 1 for a user's marks."""

    style: Style = "photo"

    eyes_covered: bool = False
    """Eyes covered by sunglasses or hair, or drawn as lines: the lids are not moved."""

    mouth_covered: bool = False
    """Mouth covered by a mask, a hand or a microphone: the lower face moves, the lips do not part."""

    @property
    def eye_distance(self) -> float:
        """Pixels between the outer corners of the eyes."""
        across = self.points[LEFT_EYE_CORNERS[0], :2] - self.points[RIGHT_EYE_CORNERS[0], :2]
        return float(np.hypot(*across))

    @property
    def lip_gap(self) -> float:
        """Distance between the inner lips, relative to `eye_distance`."""
        gap = self.points[INNER_LIPS[0], :2] - self.points[INNER_LIPS[1], :2]
        return float(np.hypot(*gap)) / max(self.eye_distance, 1e-6)

    def moved(self, matrix: np.ndarray) -> "FaceFit":
        """The face after a similarity [2, 3] of the picture."""
        linear, shift = matrix[:, :2], matrix[:, 2]
        scale = float(np.sqrt(abs(np.linalg.det(linear))))
        points = np.empty_like(self.points)
        points[:, :2] = self.points[:, :2] @ linear.T + shift
        points[:, 2] = self.points[:, 2] * scale
        lids = (self.lids @ linear.T + shift).astype(np.float32)
        irises = (self.irises @ linear.T + shift).astype(np.float32)
        return replace(self, points=points, lids=lids, irises=irises)
