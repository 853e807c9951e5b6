"""A picture's file as a portrait that the picture rig can move.

Letters used in shapes: H, W the picture's edges.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from streamer.faces.alignment import BadFace
from streamer.faces.decode import BadPicture, decode_picture
from streamer.faces.detector import FaceDetector
from streamer.faces.finder import FoundFace, find_face
from streamer.faces.landmarks import Landmarker
from streamer.faces.matte import matte as estimated_matte
from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.framing import frame
from streamer.training.photographs.held_out import measured_as
from streamer.training.photographs.licences import Source

FIRST_PORTRAIT = 1_000_000
"""Numbers of portraits begin here: rendered people and drawn characters have smaller ones."""
_MOST_ENLARGED = 2.0
"""A smaller face would be a blur that is learned."""


class Refused(ValueError):
    """A picture that is not trained on; the message gives the reason."""


@dataclass(frozen=True, eq=False)
class Portrait:
    person: int
    pixels: np.ndarray
    """[H, W, 4] uint8 straight RGBA"""
    matte: np.ndarray | None
    """[H, W] uint8: coverage by the person; None for drawings, which move as a whole."""
    fit: FaceFit


class Opener:
    """Opens portraits. `size` is the edge of the clips' pictures."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._landmarker, self._detector = Landmarker.load(), FaceDetector.load()

    def open(self, folder: Path, source: Source) -> Portrait:
        """Raises Refused."""
        data = (folder / source.file).read_bytes()
        try:
            pixels = decode_picture(data, source.file).pixels
            found = self._found(pixels)
        except (BadPicture, BadFace) as error:
            raise Refused(str(error)) from None
        pixels, fit = found.picture, found.fit
        if name := measured_as(data, pixels, fit):
            raise Refused(f"it is the measured picture {name}, which is held out")
        if fit.mouth_covered or fit.eyes_covered:
            raise Refused(f"its {'mouth is' if fit.mouth_covered else 'eyes are'} covered")
        enlarged = frame(pixels, fit).enlargement(self._size)
        if enlarged > _MOST_ENLARGED:
            raise Refused(f"its face would be enlarged {enlarged:.1f} times, more than {_MOST_ENLARGED:g}")
        return Portrait(_person(data, source), pixels, self._matte(folder, source, found), fit)

    def _found(self, pixels: np.ndarray) -> FoundFace:
        try:
            return find_face(pixels, self._landmarker, self._detector)
        except BadFace as error:
            if error.reason != "several_faces":
                raise
            x, y = error.faces[0].eyes.mean(0)
            return find_face(pixels, self._landmarker, self._detector, (float(x), float(y)))

    def _matte(self, folder: Path, source: Source, found: FoundFace) -> np.ndarray | None:
        if not source.matte:
            return estimated_matte(found.picture, found.fit) if found.fit.style == "photo" else None
        matte = cv2.imread(str(folder / source.matte), cv2.IMREAD_GRAYSCALE)
        if matte is None or found.turns or matte.shape != found.picture.shape[:2]:
            raise Refused(f"its matte {source.matte} is not a picture of the same size")
        return matte


def _person(data: bytes, source: Source) -> int:
    """A number for whom the picture shows; the same for the same file. Stills keep their people's numbers."""
    if source.matte and (rendered := re.fullmatch(r"person_(\d{4,6})\.png", source.file)):
        return int(rendered[1])
    return FIRST_PORTRAIT + int(hashlib.sha256(data).hexdigest()[:7], 16)
