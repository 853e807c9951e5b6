"""Opens the measured pictures in the picture rig."""

import time
from pathlib import Path

import numpy as np

from benchmarks.pictures.measure import NoFace, Opener
from streamer.faces.alignment import BadFace
from streamer.faces.decode import BadPicture, decode_picture
from streamer.faces.detector import FaceDetector
from streamer.faces.finder import FoundFace, find_face, quarter
from streamer.faces.fitting import prepare
from streamer.faces.landmarks import Landmarker
from streamer.faces.pack import Pack
from streamer.studio.picture_rig.framing import FRAME
from streamer.studio.picture_rig.rig import PictureRig


class RiggedPicture:
    """A picture in the picture rig: a `Subject` of the benchmark."""

    def __init__(self, path: Path, size: int, landmarker: Landmarker, detector: FaceDetector) -> None:
        """Raises NoFace."""
        self.seconds: dict[str, float] = {}
        began = time.process_time()
        try:
            pixels = decode_picture(path.read_bytes(), path.name).pixels
        except BadPicture as error:
            raise NoFace(str(error)) from None
        began = self._took("decode", began)
        try:
            found = _found(pixels, landmarker, detector)
        except BadFace as error:
            raise NoFace(error.reason) from None
        began = self._took("find", began)
        self.notices = [notice.code for notice in found.notices]
        prepared = prepare(Pack(found.picture, found.fit, {}, (), ()))
        self._rig = PictureRig(prepared, size, prepared.framing.opaque)
        self._took("prepare", began)
        framing = prepared.framing
        self.still = straight(framing.image(size))
        matrix = framing.matrix * (size / FRAME)
        self.fit = found.fit.moved(matrix)
        height, width = pixels.shape[:2]
        turned = np.vstack([quarter(found.turns, pixels), [0, 0, 1]])
        self.matrix = matrix @ turned @ np.diag([width, height, 1.0])
        self.enlargement = float(matrix[0, 0])

    def draw(self, vector: np.ndarray, t: float) -> np.ndarray:
        """Draws controls [C]: [S, S, 4]."""
        return self._rig.draw(vector, t)

    def _took(self, what: str, began: float) -> float:
        now = time.process_time()
        self.seconds[what] = now - began
        return now


def _found(pixels: np.ndarray, landmarker: Landmarker, detector: FaceDetector) -> FoundFace:
    """Finds the face, or the largest of several, as a user would choose. Raises BadFace."""
    try:
        return find_face(pixels, landmarker, detector)
    except BadFace as error:
        if error.reason != "several_faces":
            raise
        x, y = error.faces[0].eyes.mean(0)
        return find_face(pixels, landmarker, detector, (float(x), float(y)))


def straight(premultiplied: np.ndarray) -> np.ndarray:
    """Converts [S, S, 4] uint8 from premultiplied to straight alpha."""
    alpha = np.maximum(premultiplied[..., 3:], 1).astype(np.float32)
    colour = np.rint(np.minimum(premultiplied[..., :3] * (255 / alpha), 255)).astype(np.uint8)
    return np.concatenate([colour, premultiplied[..., 3:]], 2)


def opener() -> Opener:
    """A function that opens pictures in the picture rig."""
    landmarker, detector = Landmarker.load(), FaceDetector.load()
    return lambda path, size: RiggedPicture(path, size, landmarker, detector)
