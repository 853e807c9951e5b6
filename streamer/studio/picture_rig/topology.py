"""Topology of the landmarks: MediaPipe's face mesh, subdivided once, with the eyes filled and the mouth open.

Letters used in shapes: V vertices of the divided mesh (the 468 landmarks first, then the middles of their edges); T its
triangles.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from streamer.studio.face_fit import POINTS
from streamer.studio.picture_rig import anatomy

FOREHEAD, CHIN = 10, 152
LEFT_RIM, RIGHT_RIM = 234, 454
"""Lateral ends of the face beside the ears, the viewer's left and right."""

LEFT_CORNER, RIGHT_CORNER = 78, 308
"""Inner corners of the mouth, the viewer's left and right."""

UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
"""The upper lip's inner edge from the viewer's left to right; its ends are the corners."""

LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

EYES = (
    ((33, 7, 163, 144, 145, 153, 154, 155, 133), (33, 246, 161, 160, 159, 158, 157, 173, 133)),
    ((362, 382, 381, 380, 374, 373, 390, 249, 263), (362, 398, 384, 385, 386, 387, 388, 466, 263)),
)
"""For the viewer's left and right eye: the edges of the lower and the upper lid, each from left to right."""

STABLE = (
    33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 10, 109, 338, 234, 454, 127, 356, 70, 63, 105, 66, 107,
    336, 296, 334, 293, 300, 50, 280, 116, 345, 9, 151, 67, 297,
)  # fmt: skip
"""Landmarks that expressions hardly move."""

SKIN = (50, 280, 101, 330, 205, 425)
"""Cheeks."""

LOWER_LIP_SKIN = (17, 16, 15, 85, 315, 84, 314)
"""On the lower lip's red."""


@dataclass(frozen=True, eq=False)
class Topology:
    triangles: np.ndarray
    """[T, 3] int32."""

    edges: np.ndarray
    """[V - 468, 2]: the landmarks whose midpoint each additional vertex is."""

    upper: np.ndarray
    """[21] vertices of the upper lip's inner edge, corners included."""

    lower: np.ndarray
    """[21], of the lower lip's."""

    def divided(self, landmarks: np.ndarray) -> np.ndarray:
        """Interpolates [..., 468, n] at the landmarks to [..., V, n] at the vertices."""
        middles = (landmarks[..., self.edges[:, 0], :] + landmarks[..., self.edges[:, 1], :]) / 2
        return np.concatenate([landmarks, middles], -2)


@cache
def topology() -> Topology:
    whole = np.concatenate([anatomy.load().triangles, _eye_strips()])
    sides = np.sort(np.concatenate([whole[:, [0, 1]], whole[:, [1, 2]], whole[:, [2, 0]]]), 1)
    edges, numbers = np.unique(sides, axis=0, return_inverse=True)
    ab, bc, ca = (POINTS + numbers.reshape(3, -1)).astype(np.int32)
    a, b, c = whole.T
    triangles = np.concatenate(
        [np.stack(corners, 1) for corners in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
    )
    middle = {(int(i), int(j)): POINTS + k for k, (i, j) in enumerate(edges)}

    def chain(landmarks: tuple[int, ...]) -> np.ndarray:
        vertices = [landmarks[0]]
        for i, j in zip(landmarks, landmarks[1:], strict=False):
            vertices += [middle[min(i, j), max(i, j)], j]
        return np.array(vertices)

    return Topology(triangles.astype(np.int32), edges, chain(UPPER_LIP), chain(LOWER_LIP))


def _eye_strips() -> np.ndarray:
    """[30, 3]: triangles between the lids' edges."""
    found = []
    for lower, upper in EYES:
        for i in range(len(lower) - 1):
            for corners in ((lower[i], lower[i + 1], upper[i + 1]), (lower[i], upper[i + 1], upper[i])):
                if len(set(corners)) == 3:
                    found.append(corners)
    return np.array(found, np.int32)
