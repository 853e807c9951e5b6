"""What draws the pictures that are measured."""

import time
from pathlib import Path

import cv2
import numpy as np
from streamer.faces.decode import BadPicture, decode_picture
from streamer.faces.landmarks import Landmarker
from streamer.studio.picture_rig import PictureRig, PreparedPicture

from .measure import NoFace, Opener


class RiggedPicture:
    """A picture in the picture rig, as the benchmark sees it."""

    def __init__(self, path: Path, size: int, landmarker: Landmarker) -> None:
        """Raises NoFace."""
        self.seconds: dict[str, float] = {}
        began = time.process_time()
        try:
            pixels = decode_picture(path.read_bytes(), path.name).pixels
        except BadPicture as error:
            raise NoFace(str(error)) from None
        began = self._took("decode", began)
        faces = landmarker.find(pixels)
        if not faces:
            raise NoFace("no_face")
        began = self._took("find", began)
        prepared = PreparedPicture.build(pixels, faces[0])
        self._rig = PictureRig(prepared, size, True)
        self._took("prepare", began)
        matrix = prepared.matrix(size)  # [2, 3]: from the file's pixels to the frame's
        self.still = _framed(pixels, matrix, size)
        self.fit = faces[0].moved(matrix)
        self.enlargement = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))

    def draw(self, vector: np.ndarray, t: float) -> np.ndarray:
        """[C] to [S, S, 4]."""
        return self._rig.draw(vector, t)

    def _took(self, what: str, began: float) -> float:
        now = time.process_time()
        self.seconds[what] = now - began
        return now


def _framed(pixels: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    return cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def opener() -> Opener:
    """Opens pictures in the picture rig."""
    landmarker = Landmarker.load()
    return lambda path, size: RiggedPicture(path, size, landmarker)
