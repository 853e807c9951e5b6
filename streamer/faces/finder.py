"""The one face of a picture: found, turned upright, chosen among several, or placed where a person marked it.

    picture ─▶ Landmarker ─▶ (drawings) FaceDetector ─▶ turned upright ─▶ the one that is meant ─▶ notices

The landmarker knows people, photographed or drawn well. Where it is not sure, the project's own detector, which knows
drawings, says where eyes and mouth are; a mesh that agrees with it is taken, otherwise a mean face is laid on its points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from streamer.faces.kinds import Notice, described
from streamer.faces.landmarks import WEIGHTS, Landmarker, box_of, roll_of
from streamer.faces.pose import yaw_of
from streamer.model.face import FOUND, Face, FaceDetector
from streamer.model.picture import MIN_EYES, BadFace, check_colours
from streamer.studio.face_fit import INNER_LIPS, LEFT_EYE, LEFT_EYE_CORNERS, POINTS, RIGHT_EYE, RIGHT_EYE_CORNERS, FaceFit

MOST_YAW = math.radians(60)
"""A face turned farther is seen from the side: one eye and half of the mouth are hidden."""

_SURE = 0.9  # of the mesh's score: no second opinion is asked for
_DOUBTFUL = 0.2  # and from here on a mesh counts if the project's detector sees the same face
_AGREED = (0.25, 0.35)  # distances between the eyes: how far the mesh's eyes and mouth may lie off the detector's
_MARKED = (0.45, 0.5)  # and off what a person marked, who means less exactly
_LIKELY = 0.7  # of the surest face's score: beside a sure one, a doubtful one is none
_BYSTANDER = 0.4  # of another face's size: smaller ones beside it are passed over
_TURNED = 0.6  # of the detector's score: a drawing that it sees in a turned picture lies on its side
_IRIS = 0.2  # radius of an iris, as a share of the distance between the eye's corners
_TILT = math.radians(50)


@dataclass(frozen=True, eq=False)
class Faces:
    """What was found in a picture."""

    picture: np.ndarray
    """[H, W, 4] uint8: the picture, turned by quarters so that its first face is upright."""

    turns: int
    """Quarters of a turn to the left (anticlockwise) that `picture` was given, 0 to 3."""

    fits: list[FaceFit]
    """In pixels of `picture`, the largest first."""


@dataclass(frozen=True, eq=False)
class FoundFace:
    """The one face that is meant."""

    picture: np.ndarray  # [H, W, 4] uint8, turned as Faces.picture
    turns: int
    fit: FaceFit  # in pixels of `picture`
    notices: list[Notice]


def find_faces(picture: np.ndarray, landmarker: Landmarker, detector: FaceDetector) -> Faces:
    """All faces of a picture [H, W, 4] uint8, those that lie on their side or head turned with it; none is no error."""
    fits = landmarker.find(picture, _DOUBTFUL)
    sure = [fit for fit in fits if fit.score >= _SURE]
    if sure:
        return _upright(picture, [fit for fit in fits if fit.score >= _LIKELY])
    for turns in range(4):
        turned = _turned(picture, turns)
        drawn = detector.detect(turned, FOUND if turns == 0 else _TURNED)
        near = [_turned_fit(fit, picture, turns) for fit in fits]
        found = [_with_mesh(turned, face, near, landmarker) for face in drawn]
        if turns == 0:
            # A face that the mesh alone is fairly sure of.
            alone = [f for f in fits if f.score >= 0.5 and not any(_overlap(f, other) for other in found)]
            found = found + alone if found else alone
        if found:
            return _upright(turned, found, turns)
    return Faces(picture, 0, [])
