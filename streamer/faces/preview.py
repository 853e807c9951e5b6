"""Previews of a pack's pictures: the face, small.

Letters used in shapes: H, W the picture's edges; S the preview's.
"""

import numpy as np
from PIL import Image

from streamer.faces.detector import sampled
from streamer.faces.pose import face_of
from streamer.studio.face_fit import FaceFit

_EDGE = 3.4  # edge of a preview, in eye distances
_DOWN = 0.1  # offset of its centre below the face's, in edges: a chin extends farther than a forehead


def face_preview(pixels: np.ndarray, fit: FaceFit, size: int) -> np.ndarray:
    """[S, S, 4] uint8: the face in a picture [H, W, 4] uint8, not rotated, with a margin."""
    face = face_of(fit)
    scale = size / (_EDGE * max(face.eye_distance, 1.0))
    x, y = face.middle + [0, _DOWN * face.eye_distance]
    matrix = np.array([[scale, 0, size / 2 - scale * x], [0, scale, size / 2 - scale * y]])
    picture = Image.fromarray(pixels).convert("RGBa")  # premultiplied, so that transparent pixels do not tint the edges
    return np.array(sampled(picture, matrix, (size, size)).convert("RGBA"))
