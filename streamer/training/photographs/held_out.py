"""Keeps the pictures on which lipstream is measured out of training.

`measured.json` has fingerprints of them: a hash of the file, and perceptual hashes of the whole picture and of its
aligned face, which survive scaling, compression, changes of brightness, cropping and mirroring.

`python -m streamer.training.photographs.held_out FOLDER…` adds the pictures in folders to the file.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from streamer.faces.alignment import BadFace
from streamer.faces.decode import BadPicture, decode_picture
from streamer.faces.detector import FaceDetector
from streamer.faces.finder import find_faces
from streamer.faces.landmarks import Landmarker
from streamer.faces.pose import face_of
from streamer.studio.face_fit import FaceFit
from streamer.training.photographs.licences import ENDINGS

FILE = Path(__file__).with_name("measured.json")
_WHOLE, _FACE = 8, 14
"""Rows and columns of the lowest frequencies that a perceptual hash compares."""
_EYES_AND_MOUTH = np.array([28 + 34j, 68 + 34j, 48 + 72j])
_WHOLE_ALIKE, _FACE_ALIKE = 5, 24
"""Differing bits, of 63 and 195, up to which two hashes are of the same picture. Scaled, cropped, brightened and
mirrored copies of measured pictures differ in up to 20 bits of the face, different photographs in at least 30."""


def perceptual_hash(picture: np.ndarray, edge: int) -> int:
    """Signs of the lowest edge × edge frequencies but the constant, against their median, of [H, W, 3 or 4] uint8."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY)
    if picture.shape[2] == 4:  # over grey: what a transparent pixel's colour is says nothing
        share = picture[..., 3].astype(np.float32) / 255
        grey = (grey * share + 128 * (1 - share)).astype(np.uint8)
    small = cv2.resize(grey, (4 * edge, 4 * edge), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:edge, :edge].ravel()[1:]
    return int("".join("1" if v else "0" for v in low > np.median(low)), 2)


def face_crop(picture: np.ndarray, fit: FaceFit) -> np.ndarray:
    """[96, 96, n] uint8: the face alone, eyes and mouth always in the same places, whatever surrounds it."""
    face = face_of(fit)
    places = np.array([*face.eyes, face.mouth], np.float64) @ [1, 1j]
    system = np.stack([places, np.ones(3)], 1)
    (turn, shift), *_ = np.linalg.lstsq(system, _EYES_AND_MOUTH, rcond=None)
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    scale = abs(turn)
    if scale < 0.5:  # averages over a pixel's area to avoid aliasing
        picture = cv2.resize(picture, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        matrix[:, :2] /= 2 * scale
    return cv2.warpAffine(picture, matrix, (96, 96), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True)
class Fingerprint:
    sha256: str
    whole: int
    face: int | None

    @staticmethod
    def of(data: bytes, pixels: np.ndarray, fit: FaceFit | None, mirror: bool = False) -> "Fingerprint":
        """Of a file and its pixels [H, W, 4], or of their mirror image."""
        face = None if fit is None else face_crop(pixels, fit)
        flip = slice(None, None, -1 if mirror else 1)
        whole = perceptual_hash(pixels[:, flip], _WHOLE)
        return Fingerprint(
            hashlib.sha256(data).hexdigest(), whole, None if face is None else perceptual_hash(face[:, flip], _FACE)
        )

    def is_of(self, other: "Fingerprint") -> bool:
        """Whether two fingerprints are of the same picture."""
        if self.sha256 == other.sha256 or (self.whole ^ other.whole).bit_count() <= _WHOLE_ALIKE:
            return True
        if self.face is None or other.face is None:
            return False
        return (self.face ^ other.face).bit_count() <= _FACE_ALIKE


@cache
def measured() -> Mapping[str, Fingerprint]:
    """The pictures that are measured or held out, by name."""
    return {
        name: Fingerprint(sha256, int(whole, 16), int(face, 16) if face else None)
        for name, (sha256, whole, face) in json.loads(FILE.read_text()).items()
    }


def measured_as(data: bytes, pixels: np.ndarray, fit: FaceFit | None) -> str | None:
    """The name of the measured or held-out picture that a file with these pixels [H, W, 4] is or is made from."""
    own = [Fingerprint.of(data, pixels, fit, mirror) for mirror in (False, True)]
    return next((name for name, other in measured().items() if any(one.is_of(other) for one in own)), None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m streamer.training.photographs.held_out", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    landmarker, detector = Landmarker.load(), FaceDetector.load()
    known: dict[str, tuple[str, str, str]] = json.loads(FILE.read_text()) if FILE.exists() else {}
    for folder in parser.parse_args(arguments).folders:
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS):
            data = path.read_bytes()
            try:
                pixels = decode_picture(data, path.name).pixels
                candidates = find_faces(pixels, landmarker, detector)
            except (BadPicture, BadFace) as error:
                print(f"{path.name}: {error}")
                continue
            fit = candidates.candidates[0].fit if candidates.candidates and not candidates.turns else None
            one = Fingerprint.of(data, pixels, fit)
            known[path.stem] = one.sha256, f"{one.whole:x}", "" if one.face is None else f"{one.face:x}"
    FILE.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(known.items())) + "\n}\n")
    print(f"{len(known)} pictures are held out")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
