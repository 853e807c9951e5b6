"""A mean face: where the landmarks lie, how 52 expressions move them, and the teeth and the tongue behind the lips.

`streamer/weights/face_rig.md` says where it comes from. Coordinates are MakeHuman's: decimetres of its mean head, x to
the viewer's right, y up, z towards the viewer. "Left" in the name of a unit is the person's own left, as in ARKit: the
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
    """A coloured triangle mesh inside the mouth: what of it is seen from the front. N vertices, T triangles."""

    vertices: np.ndarray
    """[N, 3] float32: with the jaw shut."""

    normals: np.ndarray
    """[N, 3] float32: of length 1, outwards."""

    triangles: np.ndarray
    """[T, 3] int32: vertices, anticlockwise as seen from outside."""

    part: np.ndarray
    """[N] uint8: UPPER_TEETH, LOWER_TEETH or TONGUE; gums belong to their teeth."""

    enamel: np.ndarray
    """[N] float32, 0..1: 1 where it is enamel, 0 where it is gum or tongue."""

    shade: np.ndarray
    """[N] float32, 0..1: how much light its surroundings leave it: less between teeth, at gums' rims and in the
    tongue's furrow. How deep it lies behind the lips is no part of it."""

    colours: np.ndarray
    """[N, 3] uint8: sRGB in full light, `shade` included."""

    jaw: np.ndarray
    """[N, 3] float32: what the unit jawOpen adds to `vertices`."""

    out: np.ndarray
    """[N, 3] float32: what the unit tongueOut adds to them; zero for teeth."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The mean face. Landmarks are MediaPipe's 468, in its order."""

    places: np.ndarray
    """[468, 3] float32: where the landmarks lie on the face at rest, the same left and right."""

    mirror: np.ndarray
    """[468] int32: each landmark's counterpart on the other side; those of the middle are their own."""

    triangles: np.ndarray
    """[852, 3] int32: landmarks, anticlockwise as the viewer sees them; the mouth and the eyes are holes."""

    units: Mapping[str, np.ndarray]
    """ARKit's 52 names -> [468, 3] float32: what the expression, at full strength, adds to `places`."""

    pivot: np.ndarray
    """[3] float32: what the head turns about."""

    teeth: Part
    """Both rows and their gums."""

    tongue: Part


@cache
def load(path: Path = FILE) -> Anatomy:
    """The anatomy in that file, read once. Its arrays are read-only. Raises FileNotFoundError or KeyError."""
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
