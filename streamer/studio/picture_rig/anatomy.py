"""The mean face: landmark positions, their displacement by 52 expressions, and the teeth and tongue behind the lips.

`streamer/weights/face_rig.md` describes its origin. Coordinates are MakeHuman's: decimetres of its mean head, x to the
viewer's right, y up, z towards the viewer. "Left" in the name of a unit is the person's own left, as in ARKit: the
viewer's right, where x is positive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from streamer.base import resources
from streamer.studio.face_fit import POINTS

FILE = resources.WEIGHTS / "face_rig.npz"

UPPER_TEETH, LOWER_TEETH, TONGUE = range(3)


@dataclass(frozen=True, eq=False)
class Part:
    """A coloured triangle mesh inside the mouth, as visible from the front. N vertices, T triangles."""

    vertices: np.ndarray
    """[N, 3] float32: with the jaw closed."""

    normals: np.ndarray
    """[N, 3] float32: unit normals, outwards."""

    triangles: np.ndarray
    """[T, 3] int32: vertices, anticlockwise as seen from outside."""

    part: np.ndarray
    """[N] uint8: UPPER_TEETH, LOWER_TEETH or TONGUE; gums belong to their teeth."""

    enamel: np.ndarray
    """[N] float32, 0..1: 1 for enamel, 0 for gum or tongue."""

    shade: np.ndarray
    """[N] float32, 0..1: ambient occlusion: less light between teeth, at the gums' rims and in the tongue's furrow.
    Excludes the darkening with depth behind the lips."""

    colours: np.ndarray
    """[N, 3] uint8: sRGB in full light, `shade` included."""

    jaw: np.ndarray
    """[N, 3] float32: displacement of `vertices` by the unit jawOpen."""

    out: np.ndarray
    """[N, 3] float32: displacement by the unit tongueOut; zero for teeth."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The mean face. Landmarks are MediaPipe's 468, in its order."""

    places: np.ndarray
    """[468, 3] float32: landmark positions of the face at rest, mirror-symmetric."""

    mirror: np.ndarray
    """[468] int32: each landmark's mirror image; landmarks on the midline are their own."""

    triangles: np.ndarray
    """[852, 3] int32: landmarks, anticlockwise as the viewer sees them; the mouth and the eyes are holes."""

    units: Mapping[str, np.ndarray]
    """ARKit's 52 names -> [468, 3] float32: displacement of `places` by the expression at full strength."""

    pivot: np.ndarray
    """[3] float32: pivot of the head."""

    teeth: Part
    """Both rows and their gums."""

    tongue: Part


@cache
def load(path: Path = FILE) -> Anatomy:
    """Loads the anatomy, once. Its arrays are read-only. Raises FileNotFoundError or KeyError."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    names = [str(name) for name in arrays["unit_names"]]
    units = _read_only(arrays["units"], np.float32).reshape(len(names), POINTS, 3)
    return Anatomy(
        places=_read_only(arrays["places"], np.float32),
        mirror=_read_only(arrays["mirror"], np.int32),
        triangles=_read_only(arrays["triangles"], np.int32),
        units=dict(zip(names, units, strict=True)),
        pivot=_read_only(arrays["pivot"], np.float32),
        teeth=_part(arrays, "teeth"),
        tongue=_part(arrays, "tongue"),
    )


def _part(arrays: Mapping[str, np.ndarray], name: str) -> Part:
    stored = {field: arrays[f"{name}_{field}"] for field in Part.__dataclass_fields__}
    normals = stored["normals"].astype(np.float32)  # int8, 127 for 1
    stored["normals"] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    kinds = {"triangles": np.int32, "part": np.uint8, "colours": np.uint8}
    scaled = {"enamel", "shade"}  # uint8, 255 for 1
    return Part(
        **{
            field: _read_only(array / np.float32(255) if field in scaled else array, kinds.get(field, np.float32))
            for field, array in stored.items()
        }
    )


def _read_only(array: np.ndarray, kind: type) -> np.ndarray:
    array = array.astype(kind)
    array.setflags(write=False)
    return array
