"""What draws the pictures that are measured."""

import time
from pathlib import Path

import numpy as np
from streamer.faces.decode import BadPicture, decode_picture

from streamer.faces.landmarks import Landmarker
from streamer.studio.picture_rig.framing import FRAME
from streamer.studio.picture_rig.rig import PictureRig, PreparedPicture

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
        self._rig = PictureRig(prepared, size, False)
        self._took("prepare", began)
        framing = prepared.framing
        self.still = straight(framing.image(size))
        matrix = framing.matrix * (size / FRAME)
        self.fit = faces[0].moved(matrix)
        height, width = pixels.shape[:2]
        self.matrix = matrix * np.array([width, height, 1.0])
        self.enlargement = float(matrix[0, 0])

    def draw(self, vector: np.ndarray, t: float) -> np.ndarray:
        """[C] to [S, S, 4]."""
        return self._rig.draw(vector, t)

    def _took(self, what: str, began: float) -> float:
        now = time.process_time()
        self.seconds[what] = now - began
        return now


def straight(premultiplied: np.ndarray) -> np.ndarray:
    """[S, S, 4] uint8 with premultiplied to one with straight alpha."""
    alpha = np.maximum(premultiplied[..., 3:], 1).astype(np.float32)
    colour = np.rint(np.minimum(premultiplied[..., :3] * (255 / alpha), 255)).astype(np.uint8)
    return np.concatenate([colour, premultiplied[..., 3:]], 2)


def opener() -> Opener:
    """Opens pictures in the picture rig."""
    landmarker = Landmarker.load()
    return lambda path, size: RiggedPicture(path, size, landmarker)
