"""Turns uploaded files into one character's pictures: decodes them, finds their faces and assigns roles.

files ─▶ decode ─▶ the right face in each ─▶ Pack (a single picture is a pack of one)
a clip ─▶ frames ─▶ faces ─▶ Pack of the best frames
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamer.base.errors import BadPicture
from streamer.faces.alignment import BadFace, marked
from streamer.faces.clip import choose_frames, follow_face, read_clip
from streamer.faces.decode import decode_picture
from streamer.faces.detector import Face, FaceDetector
from streamer.faces.finder import FoundFace, find_face, marked_face
from streamer.faces.kinds import described
from streamer.faces.landmarks import Landmarker
from streamer.faces.notice import Notice
from streamer.faces.pack import MAX_PICTURES, Given, Pack, make_pack
from streamer.faces.roles import Role


@dataclass(frozen=True)
class Upload:
    """An uploaded file."""

    data: bytes
    name: str = ""
    role: Role | None = None


class PictureReader:
    """Reads uploads. Thread-safe; loads its networks on first use. Raises FileNotFoundError if they are missing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._landmarker: Landmarker | None = None
        self._detector: FaceDetector | None = None

    def _networks(self) -> tuple[Landmarker, FaceDetector]:
        with self._lock:
            if self._landmarker is None or self._detector is None:
                self._landmarker, self._detector = Landmarker.load(), FaceDetector.load()
            return self._landmarker, self._detector

    def read(
        self,
        uploads: Sequence[Upload],
        marks: Sequence[float] | None = None,
        at: tuple[float, float] | None = None,
    ) -> Pack:
        """Makes one character from 1 to 8 pictures. In the first, the user may have marked eyes and mouth (`marks`: six
        numbers) or one of several faces (`at`); both in pixels of the file.

        Raises BadPicture and BadFace; the faces in the latter are in the file's pixels.
        """
        if not 1 <= len(uploads) <= MAX_PICTURES:
            raise BadPicture(f"a pack has 1 to {MAX_PICTURES} pictures, not {len(uploads)}")
        found = [
            self._read(upload, marks if first else None, at if first else None, alone=len(uploads) == 1)
            for first, upload in zip([True] + [False] * MAX_PICTURES, uploads, strict=False)
        ]
        pack = make_pack([given for given, _ in found])
        # Expression notices apply to the animated picture only: other pictures may be meant to have shut eyes.
        own = next(notices for given, notices in found if given.pixels is pack.neutral)
        return replace(pack, notices=(*own, *pack.notices))

    def read_clip(self, data: bytes, name: str = "") -> Pack:
        """Makes a pack of a clip's best frames. Raises BadPicture."""
        landmarker, _ = self._networks()
        clip = read_clip(data, name)
        pack = choose_frames(clip.frames, follow_face(clip.frames, landmarker))
        fit, own = described(pack.neutral, pack.fit)
        return replace(pack, fit=fit, notices=(*clip.notices, *own, *pack.notices))

    def _read(
        self, upload: Upload, marks: Sequence[float] | None, at: tuple[float, float] | None, alone: bool
    ) -> tuple[Given, list[Notice]]:
        decoded = decode_picture(upload.data, upload.name)
        pixels, scale = decoded.pixels, decoded.scale
        landmarker, detector = self._networks()
        notices = [Notice("picture", note) for note in decoded.notes]
        try:
            if marks is not None:
                height, width = (round(edge / scale) for edge in pixels.shape[:2])
                face = marked_face(pixels, marked(marks, width, height).moved(enlarged(scale)), landmarker)
            else:
                face = _meant(
                    pixels, landmarker, detector, None if at is None else (at[0] * scale, at[1] * scale), alone
                )
        except BadFace as error:
            if not alone and error.reason == "no_face":
                return Given(pixels, None, upload.name, upload.role), notices
            back = enlarged(1 / scale)
            raise BadFace(error.reason, str(error), [each.moved(back) for each in error.faces]) from None
        return Given(face.picture, face.fit, upload.name, upload.role), notices + face.notices


def _meant(
    pixels: np.ndarray,
    landmarker: Landmarker,
    detector: FaceDetector,
    at: tuple[float, float] | None,
    alone: bool,
) -> FoundFace:
    """The face to use; in packs of several pictures, the largest if there is more than one."""
    try:
        return find_face(pixels, landmarker, detector, at)
    except BadFace as error:
        if alone or error.reason != "several_faces":
            raise
        largest: Face = max(error.faces, key=lambda face: face.eye_distance)
        middle = largest.middle
        return find_face(pixels, landmarker, detector, (float(middle[0]), float(middle[1])))


def enlarged(scale: float) -> np.ndarray:
    """[2, 3]: the matrix of a scaling."""
    return np.array([[scale, 0, 0], [0, scale, 0]])
