"""What is to be seen of a picture of a pack: its face, small.

Letters used in shapes: H, W the picture's edges; S the preview's.
"""

import numpy as np
from PIL import Image

from streamer.faces.detector import sampled
from streamer.faces.pose import face_of
from streamer.studio.face_fit import FaceFit

_EDGE = 3.4  # distances between the eyes that a preview shows
_DOWN = 0.1  # of them that its middle lies below the face's: a chin reaches farther than a forehead


def face_preview(pixels: np.ndarray, fit: FaceFit, size: int) -> np.ndarray:
    """[S, S, 4] uint8: the face in a picture [H, W, 4] uint8, upright as the picture is, with a little around it."""
    face = face_of(fit)
    scale = size / (_EDGE * max(face.eye_distance, 1.0))
    x, y = face.middle + [0, _DOWN * face.eye_distance]
    matrix = np.array([[scale, 0, size / 2 - scale * x], [0, scale, size / 2 - scale * y]])
    picture = Image.fromarray(pixels).convert("RGBa")  # premultiplied: what is clear lends its edges no colour
    return np.array(sampled(picture, matrix, (size, size)).convert("RGBA"))
