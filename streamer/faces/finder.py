"""Finds the one face of a picture: detects, rotates upright, chooses among several, or uses a user's marks.

    picture ─▶ Landmarker ─▶ (if uncertain) FaceDetector ─▶ rotated upright ─▶ the face to use ─▶ notices

The landmarker handles people, photographed or drawn realistically; the project's own detector handles drawings. An
uncertain mesh is used if the detector finds the same eyes and mouth; otherwise a mean face is fitted to the detector's
points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from streamer.faces.alignment import MIN_EYES, BadFace, check_colours
from streamer.faces.detector import FOUND, Face, FaceDetector
from streamer.faces.kinds import described, drawing_score
from streamer.faces.landmarks import Landmarker, on_ground, roll_of
from streamer.faces.notice import Notice
from streamer.faces.pose import face_of, placed, turned
from streamer.studio.face_fit import FaceFit

MOST_YAW = math.radians(50)
"""Maximum yaw: beyond it a face is in profile, with one eye and half of the mouth hidden. The mesh underestimates yaw:
it measures 50° to 60° for a profile."""

_SURE = 0.9  # mesh score from which no second opinion is needed
_FAIR = 0.5  # mesh score that is accepted even if the detector finds nothing
_DOUBTFUL = 0.2  # mesh score that is accepted if the detector finds the same face
_WEAK = (0.35, 0.5)  # scores of the project's detector and of MediaPipe's, accepted if both find the same eyes
_SAME_EYES = 0.5  # distances between the eyes
_AGREED = (0.25, 0.35)  # maximum distance of a mesh's eyes and mouth from the detector's points, in eye distances
_MARKED = (0.3, 0.4)  # the same for a user's marks
_LIKELY = 0.7  # faces scoring below this fraction of the best score are ignored
_BYSTANDER = 0.4  # faces smaller than this fraction of another's size are ignored
_TURNED = 0.75  # weight of the detector's score in a rotated picture


@dataclass(frozen=True, eq=False)
class Candidate:
    """A candidate face."""

    fit: FaceFit
    meshed: bool = True  # its landmarks were detected; otherwise a mean face was fitted to eyes and mouth


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces found in a picture."""

    picture: np.ndarray
    """[H, W, 4] uint8: the picture, rotated by quarter turns so that its first face is upright."""

    turns: int
    """Anticlockwise quarter turns applied to `picture`: 0 to 3."""

    candidates: list[Candidate]
    """In pixels of `picture`, largest first."""

    def as_given(self) -> list[Face]:
        """Their eyes and mouths in pixels of the original picture."""
        matrix = quarter((-self.turns) % 4, self.picture)
        return [face_of(one.fit).moved(matrix) for one in self.candidates]


@dataclass(frozen=True, eq=False)
class FoundFace:
    """The one face to use."""

    picture: np.ndarray  # [H, W, 4] uint8, rotated like Faces.picture
    turns: int
    fit: FaceFit  # in pixels of `picture`
    notices: list[Notice]


def find_faces(picture: np.ndarray, landmarker: Landmarker, detector: FaceDetector) -> Faces:
    """Finds all candidate faces in a picture [H, W, 4] uint8, rotating it if they lie sideways or upside down."""
    fits = [fit for fit in landmarker.find(picture, _DOUBTFUL) if not _misread(picture, fit)]
    if any(fit.score >= _SURE for fit in fits):
        return _upright(picture, [Candidate(fit) for fit in fits if fit.score >= _FAIR])
    drawn = _drawn(picture, landmarker, detector)
    found = [_second_opinion(picture, face, fits, landmarker) for face in drawn]
    middles = [face_of(one.fit) for one in found]
    found += [Candidate(f) for f in fits if f.score >= _FAIR and not any(_same(face_of(f), m) for m in middles)]
    if found:
        return _upright(picture, found)
    small = _reduced(picture)
    for turns in (1, 2, 3):
        if not detector.detect(np.ascontiguousarray(np.rot90(small, turns)), _TURNED):
            continue
        view = np.ascontiguousarray(np.rot90(picture, turns))
        drawn = [face for face in detector.detect(view, _TURNED) if face.eye_distance >= MIN_EYES]
        found = [_second_opinion(view, face, [], landmarker) for face in drawn]
        if found:
            return Faces(view, turns, _largest_first(found))
    return Faces(picture, 0, [])


def find_face(
    picture: np.ndarray,
    landmarker: Landmarker,
    detector: FaceDetector,
    at: tuple[float, float] | None = None,
) -> FoundFace:
    """
    Finds the one face in a picture [H, W, 4] uint8, or among several the one nearest to `at`: x, y in the original
    picture.

    Raises BadFace, with all candidates: `one_colour`, `no_face`, `several_faces`, `small_face`, `from_the_side`.
    """
    check_colours(picture)
    faces = find_faces(picture, landmarker, detector)
    if not faces.candidates:
        raise BadFace("no_face", "no face was found in the picture (in 4 orientations): mark its eyes and mouth")
    chosen = _chosen(faces, at)
    _check(face_of(chosen.fit), [faces.as_given()[faces.candidates.index(chosen)]])
    yaw, _ = turned(chosen.fit)
    if chosen.meshed and abs(yaw) > MOST_YAW:
        raise BadFace(
            "from_the_side",
            f"the face is in profile (turned by {abs(math.degrees(yaw)):.0f}°, at most "
            f"{math.degrees(MOST_YAW):.0f}° are supported): use a picture taken from the front",
        )
    fit, notices = described(faces.picture, chosen.fit, chosen.meshed)
    return FoundFace(faces.picture, faces.turns, fit, notices)


def marked_face(picture: np.ndarray, face: Face, landmarker: Landmarker) -> FoundFace:
    """
    The face that a user marked (`streamer.faces.alignment.marked`) in a picture [H, W, 4] uint8: the mesh detected at
    the marks if there is one, otherwise a mean face fitted to them.
    """
    fit = landmarker.look(picture, face.box, face.roll, _FAIR)
    meshed = fit is not None and _agrees(fit, face, _MARKED)
    fit, notices = described(picture, fit if fit is not None and meshed else placed(face), meshed)
    return FoundFace(picture, 0, fit, notices)


def quarter(turns: int, picture: np.ndarray) -> np.ndarray:
    """[2, 3]: maps points of a picture [H, W, ...] as `turns` anticlockwise quarter turns do, like np.rot90."""
    height, width = picture.shape[:2]
    return np.array(
        [
            [[1, 0, 0], [0, 1, 0]],
            [[0, 1, 0], [-1, 0, width]],
            [[-1, 0, width], [0, -1, height]],
            [[0, -1, height], [1, 0, 0]],
        ][turns % 4],
        np.float64,
    )


def _upright(picture: np.ndarray, found: Sequence[Candidate]) -> Faces:
    """Rotates by quarter turns so that the largest face is upright; the others may not be."""
    found = _largest_first(found)
    turns = round(roll_of(found[0].fit) / (math.pi / 2)) % 4
    if turns == 0:
        return Faces(picture, 0, found)
    matrix = quarter(turns, picture)
    moved = [Candidate(one.fit.moved(matrix), one.meshed) for one in found]
    return Faces(np.ascontiguousarray(np.rot90(picture, turns)), turns, moved)


def _largest_first(found: Sequence[Candidate]) -> list[Candidate]:
    return sorted(found, key=lambda one: -face_of(one.fit).eye_distance)


def _drawn(picture: np.ndarray, landmarker: Landmarker, detector: FaceDetector) -> list[Face]:
    """The project's detector's faces, including weak ones where MediaPipe's detectors find the same eyes."""
    faces = detector.detect(picture, _WEAK[0])
    if not faces or faces[0].score >= FOUND:
        return [face for face in faces if face.score >= FOUND]
    glimpses = [face for face in landmarker.glimpses(picture) if face.score >= _WEAK[1]]
    return [
        face
        for face in faces
        if any(np.hypot(*(other.eyes - face.eyes).T).max() < _SAME_EYES * face.eye_distance for other in glimpses)
    ]


def _reduced(picture: np.ndarray) -> np.ndarray:
    """A copy whose longest edge is at most 512: large faces are still found, much faster."""
    scale = 512 / max(picture.shape[:2])
    return picture if scale >= 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _misread(picture: np.ndarray, fit: FaceFit) -> bool:
    """Whether a sideways mesh lies on a drawing, such as an animal's snout, which the detector handles better."""
    return abs(roll_of(fit)) > math.pi / 4 and drawing_score(on_ground(picture), fit) > 0.5


def _second_opinion(picture: np.ndarray, face: Face, fits: Sequence[FaceFit], landmarker: Landmarker) -> Candidate:
    """The detector's face, with a mesh that agrees with it or with a mean face."""
    for fit in fits:
        if _agrees(fit, face, _AGREED):
            return Candidate(fit)
    again = landmarker.look(picture, face.box, face.roll, _DOUBTFUL)
    if again is not None and _agrees(again, face, _AGREED):
        return Candidate(again)
    return Candidate(placed(face), meshed=False)


def _agrees(fit: FaceFit, face: Face, within: tuple[float, float]) -> bool:
    """Whether eyes and mouth of both lie within `within` eye distances of each other."""
    seen, size = face_of(fit), max(face.eye_distance, 1e-6)
    eyes = np.hypot(*(seen.eyes - face.eyes).T).max() / size
    mouth = np.hypot(*(seen.mouth - face.mouth)) / size
    return bool(eyes <= within[0] and mouth <= within[1])


def _same(first: Face, second: Face) -> bool:
    apart = float(np.hypot(*(first.middle - second.middle)))
    return apart < 0.9 * max(first.eye_distance, second.eye_distance)


def _chosen(faces: Faces, at: tuple[float, float] | None) -> Candidate:
    candidates, given = faces.candidates, faces.as_given()
    if at is not None:
        distances = [float(np.hypot(*(face.middle - np.array(at)))) for face in given]
        return candidates[int(np.argmin(distances))]
    enough = [i for i, face in enumerate(given) if face.eye_distance > MIN_EYES] or list(range(len(given)))
    surest = max(given[i].score for i in enough)
    likely = [i for i in enough if given[i].score >= _LIKELY * surest]
    largest = max(given[i].eye_distance for i in likely)
    kept = [i for i in likely if given[i].eye_distance >= _BYSTANDER * largest]
    if len(kept) > 1:
        raise BadFace("several_faces", f"{len(kept)} faces were found: mark the one to use", [given[i] for i in kept])
    return candidates[kept[0]]


def _check(face: Face, given: Sequence[Face]) -> None:
    if face.eye_distance <= MIN_EYES:
        raise BadFace(
            "small_face",
            f"the face is too small: its eyes are {face.eye_distance:.1f} pixels apart, "
            f"more than {MIN_EYES:.0f} are needed",
            given,
        )
