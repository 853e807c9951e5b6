"""Finds all faces of a picture with their landmarks, using MediaPipe's networks.

    picture ─▶ detectors on the whole and on tiles ─▶ mesh, re-cropped until stable ─▶ mean over several crops
            ─▶ iris and lids of each eye

`streamer/weights/mediapipe/README.md` describes the networks. Points are pixels of the picture, from its upper left
corner; left and right are the viewer's.

Letters used in shapes: H, W the picture's edges; N crops.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from streamer.base import resources
from streamer.base.onnx import load_onnx_session
from streamer.faces.detector import Face
from streamer.studio.face_fit import LEFT_EYE_CORNERS, POINTS, RIGHT_EYE_CORNERS, FaceFit

if TYPE_CHECKING:
    import onnxruntime

WEIGHTS = resources.WEIGHTS / "mediapipe"

FOUND = 0.5
"""Minimum mesh score of a face."""

_LIKELY = 0.5  # minimum detector score: people have 0.6 and more; bookshelves that fool the mesh have up to 0.45
_SURE = 0.95  # mesh score from which the detectors' score is ignored
_MOST = 8  # candidates passed to the mesh per level of the pyramid
_OVERLAP = 0.3  # intersection over union from which two boxes belong to one face
_SMALLEST = 240  # minimum edge of a tile: eyes 12 pixels apart are 10 pixels apart in the full-range detector's input
_CERTAIN = 0.9  # detector score that no upside-down face reaches
_TURNED = 0.9  # weight of a score in a rotated picture
_GROUND = 128  # grey level behind cut-outs and beyond the picture

_SHORT = 128  # edge of the short-range detector's input; it finds faces of a fifth of that and more
_FULL = 192
_MESH = 192
_IRIS = 64
_MARGIN = 1.5  # size of the mesh's crop relative to the face's box
_EYE_MARGIN = 2.3  # size of the iris network's crop relative to the distance between the eye's corners
_CROPS = 3  # iterations: the mesh determines the next crop
_LOOKS = ((0, 0, 1), (0.02, 0, 1), (-0.02, 0, 1), (0, 0.02, 1.04), (0, -0.02, 0.96), (0, 0, 0.85), (0, 0, 1.12))
"""Shift, relative to the crop, and size of the crops over which the mesh is averaged."""


@dataclass(frozen=True, eq=False)
class _Crop:
    """A rotated square of the picture."""

    centre: np.ndarray  # [2]: x, y
    edge: float  # pixels of the picture
    angle: float  # radians, positive: the face is tilted clockwise on the screen

    def matrix(self, size: int) -> np.ndarray:
        """[2, 3]: from the picture's pixels to those of a crop of this size."""
        cos, sin = math.cos(self.angle) * size / self.edge, math.sin(self.angle) * size / self.edge
        turn = np.array([[cos, sin], [-sin, cos]])
        return np.column_stack([turn, np.full(2, size / 2) - turn @ self.centre])

    def back(self, points: np.ndarray, size: int) -> np.ndarray:
        """[..., 2]: maps points of the crop to the picture's pixels."""
        matrix = self.matrix(size)
        return (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


class _Pyramid:
    """A mipmap of a picture, built on demand: minified crops are averaged, not aliased."""

    def __init__(self, picture: np.ndarray) -> None:
        """[H, W, 3] uint8."""
        self._levels = [picture]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self._levels[0].shape[1], self._levels[0].shape[0]

    def crop(self, crop: _Crop, size: int, beyond: int = cv2.BORDER_REPLICATE) -> np.ndarray:
        """[size, size, 3] uint8."""
        matrix = crop.matrix(size)
        level = max(0, int(math.log2(max(crop.edge / size, 1))))
        while len(self._levels) <= level:
            last = self._levels[-1]
            if min(last.shape[:2]) < 4:
                break
            half = (last.shape[1] // 2, last.shape[0] // 2)
            self._levels.append(cv2.resize(last, half, interpolation=cv2.INTER_AREA))
        source = self._levels[min(level, len(self._levels) - 1)]
        scale = np.array([self.size[0] / source.shape[1], self.size[1] / source.shape[0]])
        # OpenCV's pixel centres are at integers, ours at half-integers.
        linear = matrix[:, :2] * scale
        shift = linear @ np.full(2, 0.5) + matrix[:, 2] - 0.5
        return cv2.warpAffine(
            source,
            np.column_stack([linear, shift]),
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=beyond,
            borderValue=(_GROUND,) * 3,
        )


def on_ground(picture: np.ndarray) -> np.ndarray:
    """Straight RGBA [H, W, 4] uint8 to [H, W, 3], on grey where transparent."""
    if picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
        raise ValueError(f"a picture must be [H, W, 4] uint8, not {list(picture.shape)} {picture.dtype}")
    if picture[..., 3].min() == 255:
        return np.ascontiguousarray(picture[..., :3])
    alpha = picture[..., 3:].astype(np.uint16)
    return ((picture[..., :3] * alpha + _GROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


def _anchors(size: int, cells: Sequence[tuple[int, int]]) -> np.ndarray:
    """[A, 2]: the centres of a detector's cells in pixels of its input; `cells` gives each layer's edge and its number
    of boxes per cell."""
    layers = []
    for edge, boxes in cells:
        middles = (np.arange(edge) + 0.5) * size / edge
        places = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)
        layers.append(np.repeat(places, boxes, axis=0))
    return np.concatenate(layers)


@dataclass(frozen=True, eq=False)
class _Place:
    """A detection."""

    score: float
    box: np.ndarray  # [4]: x0, y0, x1, y1
    eyes: np.ndarray  # [2, 2]: the centres of the left and the right eye
    mouth: np.ndarray  # [2]

    @property
    def crop(self) -> _Crop:
        across = self.eyes[1] - self.eyes[0]
        edge = _MARGIN * float((self.box[2:] - self.box[:2]).max())
        return _Crop((self.box[:2] + self.box[2:]) / 2, edge, math.atan2(across[1], across[0]))


class _Detector:
    """One of MediaPipe's two detectors: a box and six points per cell."""

    def __init__(self, session: "onnxruntime.InferenceSession", size: int, cells: Sequence[tuple[int, int]]) -> None:
        self._session = session
        self._size = size
        self._anchors = _anchors(size, cells)

    def detect(self, picture: _Pyramid, crops: Sequence[_Crop]) -> list[_Place]:
        """The faces in these crops, in the picture's pixels; may contain duplicates."""
        size = self._size
        places = []
        for crop in crops:
            view = picture.crop(crop, size, cv2.BORDER_CONSTANT)
            given = {"picture": view[None].astype(np.float32) / 127.5 - 1}
            boxes, scores = self._session.run(["boxes", "scores"], given)
            sure = 1 / (1 + np.exp(-np.clip(scores[0, :, 0], -50, 50)))
            for i in np.nonzero(sure >= _LIKELY)[0]:
                middle = boxes[0, i, :2] + self._anchors[i]
                half = boxes[0, i, 2:4] / 2
                corners = np.sort(crop.back(np.stack([middle - half, middle + half]), size), axis=0)
                points = crop.back(boxes[0, i, 4:].reshape(6, 2) + self._anchors[i], size)  # eyes, nose, mouth, ears
                places.append(_Place(float(sure[i]), corners.ravel(), points[:2], points[3]))
        return places


def _shared(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    inside = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    if inside.min() <= 0:
        return 0.0
    area = float(inside.prod())
    return area / float((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - area)


def _distinct(places: Sequence[_Place]) -> list[_Place]:
    """Non-maximum suppression: best first, without those that overlap a better one of the same orientation."""
    kept: list[_Place] = []
    for place in sorted(places, key=lambda p: -p.score):
        roll = place.crop.angle
        if all(_shared(place.box, other.box) < _OVERLAP or math.cos(roll - other.crop.angle) < 0.5 for other in kept):
            kept.append(place)
    return kept


def roll_of(fit: FaceFit) -> float:
    """Radians, positive: tilted clockwise on the screen."""
    across = fit.points[RIGHT_EYE_CORNERS[0], :2] - fit.points[LEFT_EYE_CORNERS[0], :2]
    return math.atan2(across[1], across[0])


def box_of(fit: FaceFit) -> np.ndarray:
    """[4]: x0, y0, x1, y1 of the face's landmarks, from the forehead to the chin."""
    return np.concatenate([fit.points[:, :2].min(0), fit.points[:, :2].max(0)])


class Landmarker:
    """Finds faces and their landmarks. Thread-safe; takes 80 ms of one core per face, more if there is no face."""

    def __init__(self, folder: Path, threads: int) -> None:
        def opened(name: str, what: str, *gives: str) -> "onnxruntime.InferenceSession":
            return load_onnx_session(
                folder / f"{name}.onnx", f"weights of MediaPipe's {what}", ["picture"], gives, threads
            )

        short = opened("face_detection_short_range", "short-range face detector", "boxes", "scores")
        full = opened("face_detection_full_range", "full-range face detector", "boxes", "scores")
        self._short = _Detector(short, _SHORT, ((16, 2), (8, 6)))
        self._full = _Detector(full, _FULL, ((48, 1),))
        self._mesh = opened("face_mesh", "face mesh", "points", "score")
        self._iris = opened("iris", "iris network", "eye", "iris")

    @classmethod
    def load(cls, folder: Path = WEIGHTS, threads: int = 1) -> "Landmarker":
        """Raises FileNotFoundError, or BadNetwork for weights that are damaged or of a different network."""
        return cls(folder, threads)

    def find(self, picture: np.ndarray, least: float = FOUND) -> list[FaceFit]:
        """
        Finds the faces in straight RGBA [H, W, 4] uint8, in any orientation, with at least this score, largest first.
        Smaller faces are searched for only if no larger one is found.
        """
        pyramid = _Pyramid(on_ground(picture))
        for places in self._levels(pyramid):
            found: list[FaceFit] = []
            for place in places:
                sure = (box_of(fit) for fit in found if fit.score >= _SURE)
                if any(_shared(place.box, box) > 0.5 * _OVERLAP for box in sure):
                    continue
                if (fit := self._fit(pyramid, place.crop, least)) is not None:
                    found.append(fit)
            if found:
                return _separate(found)
        return []

    def _levels(self, pyramid: _Pyramid) -> Iterator[list[_Place]]:
        """Detections in the whole picture, then in ever smaller tiles."""
        width, height = pyramid.size
        middle = np.array([width / 2, height / 2])
        edge = float(max(width, height))
        # A face that fills the picture or is cut off at its edge needs some margin around it.
        both = [_Crop(middle, edge, 0.0), _Crop(middle, 1.7 * edge, 0.0)]
        places = self._short.detect(pyramid, both) + self._full.detect(pyramid, both)
        # The detectors recognise a sideways face as such, but report an upside-down one as a poor upright face.
        best = max((place.score for place in places), default=0.0)
        for turn in () if best >= _CERTAIN else (math.pi, math.pi / 2, -math.pi / 2):
            turned = [_Crop(middle, edge, turn)]
            seen = self._short.detect(pyramid, turned) + self._full.detect(pyramid, turned)
            places += [replace(place, score=_TURNED * place.score) for place in seen]
        yield _distinct(places)[:_MOST]
        while (edge := edge / 2) >= _SMALLEST:
            tiles = [_Crop(np.array([x, y]), edge, 0.0) for y in _middles(height, edge) for x in _middles(width, edge)]
            yield _distinct(self._full.detect(pyramid, tiles))[:_MOST]

    def glimpses(self, picture: np.ndarray) -> list[Face]:
        """The detectors' raw results for a whole picture [H, W, 4] uint8, best first."""
        places = next(iter(self._levels(_Pyramid(on_ground(picture)))))
        return [Face(place.score, place.eyes.astype(np.float32), place.mouth.astype(np.float32)) for place in places]

    def look(
        self, picture: np.ndarray, box: Sequence[float], roll: float = 0.0, least: float = FOUND
    ) -> FaceFit | None:
        """The face in a picture [H, W, 4] uint8 that was detected elsewhere in a box x0, y0, x1, y1, with `roll`."""
        x0, y0, x1, y1 = box
        crop = _Crop(np.array([(x0 + x1) / 2, (y0 + y1) / 2]), _MARGIN * max(x1 - x0, y1 - y0, 1.0), roll)
        return self._fit(_Pyramid(on_ground(picture)), crop, least)

    def _fit(self, pyramid: _Pyramid, crop: _Crop, least: float) -> FaceFit | None:
        """The face in a crop, or None if the mesh finds none there."""
        points, score = self._look(pyramid, [crop])
        for _ in range(_CROPS):
            if score < 0.5 * least:
                return None
            crop = _crop_of(points)
            points, score = self._look(pyramid, [crop])
        shifts = ((crop.edge * np.array(shift), size) for *shift, size in _LOOKS)
        looks = [_Crop(crop.centre + shift, crop.edge * size, crop.angle) for shift, size in shifts]
        points, score = self._look(pyramid, looks)
        # Rejects degenerate meshes, which the network returns where there is no face.
        if score < least or not np.isfinite(points).all():
            return None
        lids, irises = zip(*(self._eye(pyramid, points, side) for side in (0, 1)), strict=True)
        return FaceFit(points.astype(np.float32), np.array(lids, np.float32), np.array(irises, np.float32), score)

    def _look(self, pyramid: _Pyramid, crops: Sequence[_Crop]) -> tuple[np.ndarray, float]:
        """[468, 3] and the score: means over the crops."""
        views = np.stack([pyramid.crop(crop, _MESH) for crop in crops])
        points, scores = self._mesh.run(["points", "score"], {"picture": views.astype(np.float32) / 255})
        meshes = points.reshape(-1, POINTS, 3).astype(np.float64)
        placed = [
            np.column_stack([crop.back(mesh[:, :2], _MESH), mesh[:, 2] * crop.edge / _MESH])
            for crop, mesh in zip(crops, meshes, strict=True)
        ]
        return np.mean(placed, axis=0), float(np.mean(1 / (1 + np.exp(-np.clip(scores, -50, 50)))))

    def _eye(self, pyramid: _Pyramid, points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        """[16, 2] of the lids and [5, 2] of the iris. The network was trained on left eyes: the right is mirrored."""
        corners = points[list((LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS)[side]), :2]
        across = (corners[1] - corners[0]) * (1 if side == 0 else -1)
        edge = max(_EYE_MARGIN * float(np.hypot(*across)), 1.0)
        crop = _Crop(corners.mean(0), edge, math.atan2(across[1], across[0]))
        view = pyramid.crop(crop, _IRIS)
        view = view if side == 0 else np.ascontiguousarray(view[:, ::-1])
        eye, iris = self._iris.run(["eye", "iris"], {"picture": view[None].astype(np.float32) / 255})
        both = np.concatenate([eye.reshape(-1, 3)[:16, :2], iris.reshape(-1, 3)[:, :2]]).astype(np.float64)
        if side == 1:
            both[:, 0] = _IRIS - both[:, 0]
        both = crop.back(both, _IRIS)
        return both[:16], both[16:]


def _middles(length: int, edge: float) -> np.ndarray:
    """Centres of tiles that cover the length and overlap by at least a third."""
    if length <= edge:
        return np.array([length / 2])
    count = math.ceil((length - edge) / (edge * 2 / 3)) + 1
    return np.linspace(edge / 2, length - edge / 2, count)


def _crop_of(points: np.ndarray) -> _Crop:
    """The mesh's next crop: the box around its points, upright with respect to the eyes."""
    across = points[RIGHT_EYE_CORNERS[0], :2] - points[LEFT_EYE_CORNERS[0], :2]
    angle = math.atan2(across[1], across[0])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    upright = points[:, :2] @ turn.T
    low, high = upright.min(0), upright.max(0)
    return _Crop((low + high) / 2 @ turn, max(_MARGIN * float((high - low).max()), 8.0), angle)


def _separate(fits: Sequence[FaceFit]) -> list[FaceFit]:
    """Largest first; where several fits converged on one face, only the best of them."""
    kept: list[FaceFit] = []
    for fit in sorted(fits, key=lambda f: -f.score):
        if all(_shared(box_of(fit), box_of(other)) < _OVERLAP for other in kept):
            kept.append(fit)
    return sorted(kept, key=lambda f: -f.eye_distance)
