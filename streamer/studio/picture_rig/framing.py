"""The square of a picture that is shown, head and shoulders, and the textures that frames are sampled from.

    picture [H, W, 4] ─▶ Framing: position of the square ─▶ image (at a size) ─▶ enlarged (sampled by moving frames)

All geometry in this package is in *frame units*: the square's edge is FRAME of them, whatever size is rendered. Colours
are premultiplied.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.topology import CHIN, FOREHEAD

FRAME = 512
"""Frame units along the square's edge."""

_SHOWN = 2.5  # face heights shown by the square, if the picture extends that far
_LEAST = 1.45  # minimum face heights: a smaller square would extend beyond the picture instead
_FACE_IN_MESH = 0.95  # the mesh ends below the hair line: its height relative to the face's
_BELOW = 0.22  # face heights by which the square's centre is below the face's


@dataclass(frozen=True, eq=False)
class Framing:
    """The square's position in a picture."""

    pixels: np.ndarray
    """[H, W, 4] uint8 premultiplied: the picture."""

    matrix: np.ndarray
    """[2, 3]: from the picture's pixels to frame units."""

    fit: FaceFit
    """The face, in frame units."""

    matte: np.ndarray | None = None
    """[H, W] uint8: alpha of the person in an opaque picture; None if the background is unknown."""

    @property
    def scale(self) -> float:
        """Frame units per pixel of the picture."""
        return float(self.matrix[0, 0])

    def enlargement(self, size: int) -> float:
        """Magnification of a picture pixel in frames of that size, at least 1: how soft the picture becomes."""
        return max(1.0, self.scale * size / FRAME)

    @property
    def opaque(self) -> bool:
        return bool(self.pixels[..., 3].min() == 255)

    def image(self, size: int, plane: np.ndarray | None = None, margin: int = 0) -> np.ndarray:
        """[size, size, 4] uint8 premultiplied: the square at rest. With a `plane` [H, W] uint8 aligned to the picture,
        its square [size, size] instead. `margin` adds that many pixels on each side."""
        source = self.pixels if plane is None else plane
        matrix = self.matrix * (size / FRAME) + np.array([[0, 0, margin]])
        size += 2 * margin
        shrunk = max(1, int(1 / matrix[0, 0] + 1e-6))
        if shrunk > 1:  # averages over a pixel's area to avoid aliasing
            rows, columns = (edge // shrunk * shrunk for edge in source.shape[:2])
            source = cv2.resize(
                source[:rows, :columns], (columns // shrunk, rows // shrunk), interpolation=cv2.INTER_AREA
            )
            matrix = matrix * np.array([shrunk, shrunk, 1.0])
        # OpenCV's pixel centres are at integers, ours at half-integers.
        linear = matrix[:, :2]
        shift = linear @ np.full(2, 0.5) + matrix[:, 2] - 0.5
        beyond = cv2.BORDER_REFLECT_101 if plane is not None or self.opaque else cv2.BORDER_CONSTANT
        out = cv2.warpAffine(
            source, np.column_stack([linear, shift]), (size, size), flags=cv2.INTER_CUBIC, borderMode=beyond
        )
        if plane is None:
            np.minimum(out[..., :3], out[..., 3:], out=out[..., :3])  # cubic interpolation overshoots
        return out


def frame(picture: np.ndarray, fit: FaceFit, matte: np.ndarray | None = None) -> Framing:
    """The square around a face of a picture [H, W, 4] uint8 straight RGBA; `fit` is in the picture's pixels."""
    height, width = picture.shape[:2]
    forehead, chin = fit.points[FOREHEAD, :2], fit.points[CHIN, :2]
    face = float(np.hypot(*(forehead - chin))) / _FACE_IN_MESH
    edge = min(_SHOWN * face, max(min(height, width), _LEAST * face))
    middle = (forehead + chin) / 2 + [0, _BELOW * face]
    half = edge / 2
    x = np.clip(middle[0], min(half, width / 2), max(width - half, width / 2))
    y = np.clip(middle[1], min(half, height / 2), max(height - half, height / 2))
    scale = FRAME / edge
    matrix = np.array([[scale, 0, FRAME / 2 - x * scale], [0, scale, FRAME / 2 - y * scale]])
    return Framing(premultiplied(picture), matrix, fit.moved(matrix), matte)


def premultiplied(picture: np.ndarray) -> np.ndarray:
    """[H, W, 4] uint8 straight RGBA to premultiplied."""
    if picture[..., 3].min() == 255:
        return np.ascontiguousarray(picture)
    out = picture.copy()
    colour = picture[..., :3].astype(np.uint16) * picture[..., 3:]
    out[..., :3] = (colour + 127) // 255
    return out


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[3, 3]: rotates points (x right, y down, z away from the viewer) by the controls' angles (radians)."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y
