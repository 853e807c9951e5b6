"""Finds a face's eyes and mouth in a picture with a small convolutional network.

    picture ─▶ image pyramid ─▶ network ─▶ peaks ─▶ one per face ─▶ the network again, on each face upright

On a grid of every fourth pixel, the network marks the middles of faces whose eyes are `TRAINED` pixels apart and
predicts the offsets to their eyes and mouth. `streamer/training/face.py` trains it on the studio's ground truth.

Letters used in shapes: H, W a picture's edges; N windows; h, w cells of the grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from streamer.base import resources
from streamer.base.onnx import load_onnx_session

if TYPE_CHECKING:
    import onnxruntime

WEIGHTS = resources.WEIGHTS / "face.onnx"

CELL = 4
"""Pixels between the centres of the network's cells."""

TRAINED = (6.5, 26.0)
"""Distance (pixels) between the eyes of the faces that the network was trained on."""

FOUND = 0.5
"""Minimum score of a detected face."""

_EDGES = (64, 128, 256, 512)  # longer edge of each level: any face has a known size on at least two of them
_COARSE = 0.25  # minimum score for the second look
_MOST = 24  # maximum number of faces for the second look
_MARGIN = 32  # padding (pixels) around each level, so that a face at the picture's edge is seen whole
_STRIDE = 16  # the network's coarsest stride: edges are multiples of it
_WINDOW = 96  # edge of the second look's windows
_CLOSE = (13.0, 18.0)  # distances (pixels) between the eyes in these windows
_EMPTY = 200  # grey level behind a cut-out


@dataclass(frozen=True, eq=False)
class Face:
    """One face in a picture. Points are x, y in pixels; left and right are the viewer's."""

    score: float  # 0..1; 1 where a person marked it
    eyes: np.ndarray  # [2, 2] float32: centre of the left eye, of the right eye
    mouth: np.ndarray  # [2] float32: centre of the mouth

    @property
    def points(self) -> np.ndarray:
        """[3, 2] float32: left eye, right eye, mouth."""
        return np.concatenate([self.eyes, self.mouth[None]])

    @property
    def middle(self) -> np.ndarray:
        """[2]: the point between the eyes' midpoint and the mouth."""
        return (self.eyes.mean(0) + self.mouth) / 2

    @property
    def eye_distance(self) -> float:
        return float(np.hypot(*(self.eyes[1] - self.eyes[0])))

    @property
    def roll(self) -> float:
        """Radians, positive: tilted clockwise on the screen."""
        across = self.eyes[1] - self.eyes[0]
        down = self.mouth - self.eyes.mean(0)
        return math.atan2(across[1] - down[0], across[0] + down[1])

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounding box x0, y0, x1, y1 from brows to chin and cheek to cheek, by typical proportions."""
        across, height = self.eyes[1] - self.eyes[0], self.mouth - self.eyes.mean(0)
        top, bottom = self.eyes.mean(0) - 0.9 * height, self.mouth + 0.75 * height
        corners = np.array([edge + side * across for edge in (top, bottom) for side in (-0.98, 0.98)])
        (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
        return float(x0), float(y0), float(x1), float(y1)

    def moved(self, matrix: np.ndarray) -> "Face":
        """The face after an affine transformation [2, 3] of the picture."""
        points = (self.points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return Face(self.score, points[:2], points[2])

    def to_json(self) -> dict[str, Any]:
        return {
            "score": round(self.score, 3),
            "eyes": [[round(float(v), 1) for v in eye] for eye in self.eyes],
            "mouth": [round(float(v), 1) for v in self.mouth],
            "box": [round(v, 1) for v in self.box],
        }


def similarity(angle: float, scale: float, source: ArrayLike, target: ArrayLike) -> np.ndarray:
    """[2, 3]: rotates by `angle` (clockwise on the screen) and scales about `source`, and moves it to `target`."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([turn, np.asarray(target) - turn @ np.asarray(source)])


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse of an affine transformation [2, 3]."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def sampled(image: Image.Image, matrix: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Transforms an image by a matrix [2, 3] from its pixels to the result's; 0 beyond its edges.

    Pixel centres are at half-integers, as in PIL. An image that shrinks much is averaged first.
    """
    shrink = 1 / math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrink >= 2:
        factor = int(shrink)
        image = image.reduce(factor)
        matrix = np.column_stack([matrix[:, :2] * factor, matrix[:, 2]])
    back = inverse(matrix)
    return image.transform(size, Image.Transform.AFFINE, tuple(back.ravel()), Image.Resampling.BILINEAR)


def opaque(picture: np.ndarray) -> Image.Image:
    """Straight RGBA [H, W, 4] uint8 as RGB, on grey where transparent."""
    image = Image.fromarray(picture)
    ground = Image.new("RGBA", image.size, (_EMPTY, _EMPTY, _EMPTY, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def to_input(pixels: np.ndarray) -> np.ndarray:
    """[..., H, W, 3] uint8 -> [..., 3, H, W] float32 in -1..1."""
    return np.moveaxis(pixels, -1, -3).astype(np.float32) / 127.5 - 1


class FaceDetector:
    """Finds faces. Thread-safe; a picture takes some tens of milliseconds of one core."""

    def __init__(self, session: "onnxruntime.InferenceSession") -> None:
        self._session = session

    @classmethod
    def load(cls, path: Path = WEIGHTS, threads: int = 1) -> "FaceDetector":
        """Raises FileNotFoundError, or BadNetwork for weights that are damaged or of a different network."""
        return cls(load_onnx_session(path, "weights of the face detector", ["picture"], ["faces"], threads))

    def _run(self, pictures: np.ndarray) -> np.ndarray:
        """[N, 3, H, W] -> [N, 7, h, w]: score; x, y in pixels from the cell's centre to left eye, right eye, mouth."""
        return self._session.run(["faces"], {"picture": pictures})[0]

    def detect(self, picture: np.ndarray, least: float = FOUND) -> list[Face]:
        """Finds upright faces scoring at least `least` in straight RGBA [H, W, 4] uint8, best first."""
        if picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
            raise ValueError(f"a picture must be [H, W, 4] uint8, not {list(picture.shape)} {picture.dtype}")
        image = opaque(picture)
        seen = [face for edge in self._levels(image) for face in self._look(image, edge)]
        likely = distinct(seen)[:_MOST]
        close = distinct([again for face in likely if (again := self._look_closely(image, face)) is not None])
        return [face for face in close if face.score >= least]

    @staticmethod
    def _levels(image: Image.Image) -> list[int]:
        longest = max(image.size)
        return [edge for edge in _EDGES if edge <= 1.5 * longest]

    def _look(self, image: Image.Image, edge: int) -> list[Face]:
        """The faces at one level of the pyramid, in the picture's pixels."""
        scale = edge / max(image.size)
        width, height = (max(1, round(v * scale)) for v in image.size)
        kind = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        level = np.asarray(image.resize((width, height), kind))
        below, right = (-(length + 2 * _MARGIN) % _STRIDE + _MARGIN for length in (height, width))
        padded = np.pad(level, ((_MARGIN, below), (_MARGIN, right), (0, 0)), constant_values=_EMPTY)
        faces = peaks(self._run(to_input(padded)[None])[0])
        back = np.array([[image.width / width, 0, 0], [0, image.height / height, 0]])
        back[:, 2] = -_MARGIN * back[[0, 1], [0, 1]]
        return [face.moved(back) for face in faces]

    def _look_closely(self, image: Image.Image, face: Face) -> Face | None:
        """The face averaged over windows that show it upright; None if most of them show no face."""
        clear = image.convert("RGBA")  # alpha is 0 beyond the picture
        middle = (_WINDOW / 2, _WINDOW / 2)
        maps = [similarity(-face.roll, apart / face.eye_distance, face.middle, middle) for apart in _CLOSE]
        views = [opaque(np.asarray(sampled(clear, matrix, (_WINDOW, _WINDOW)))) for matrix in maps]
        windows = np.stack([np.asarray(view) for view in views])
        both = np.concatenate([windows, windows[:, :, ::-1]])
        seen = []
        for i, grid in enumerate(self._run(to_input(both))):
            apart = _CLOSE[i % len(_CLOSE)]
            found = [one for one in peaks(grid) if np.hypot(*(one.middle - middle)) < 0.6 * apart]
            if found:
                one = max(found, key=lambda f: f.score)
                one = one if i < len(_CLOSE) else mirrored(one, _WINDOW)
                seen.append(one.moved(inverse(maps[i % len(_CLOSE)])))
        if len(seen) <= len(_CLOSE):
            return None
        points = np.mean([one.points for one in seen], axis=0)
        score = sum(one.score for one in seen) / len(both)
        return Face(math.sqrt(score * face.score), points[:2], points[2])


def mirrored(face: Face, width: float) -> Face:
    """The face in the mirrored picture."""
    points = np.array([width, 0], np.float32) + np.array([-1, 1], np.float32) * face.points[[1, 0, 2]]
    return Face(face.score, points[:2], points[2])


def peaks(grid: np.ndarray, least: float = _COARSE) -> list[Face]:
    """Converts network output [7, h, w] to faces in input pixels: cells that exceed all eight neighbours."""
    score = grid[0]
    around = np.pad(score, 1, constant_values=-1.0)
    h, w = score.shape
    highest = np.max([around[y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=0)
    faces = []
    for row, column in zip(*np.nonzero((score >= highest) & (score >= least)), strict=True):
        middle = CELL * np.array([column + 0.5, row + 0.5], np.float32)
        points = middle + grid[1:, row, column].reshape(3, 2)
        face = Face(float(score[row, column]), points[:2], points[2])
        if plausible(face):
            faces.append(face)
    return faces


def plausible(face: Face) -> bool:
    """Whether eyes and mouth can belong to one upright face: the mouth below the eyes, neither too near nor too far."""
    size = face.eye_distance
    if size < 2:
        return False
    height = float(np.hypot(*(face.mouth - face.eyes.mean(0))))
    return 0.25 < height / size < 2.5 and abs(face.roll) < math.radians(50)


def distinct(faces: Sequence[Face]) -> list[Face]:
    """Non-maximum suppression: best first, without faces that overlap a better one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        apart = (np.hypot(*(face.middle - other.middle)) / max(face.eye_distance, other.eye_distance) for other in kept)
        if all(distance > 0.9 for distance in apart):
            kept.append(face)
    return kept
