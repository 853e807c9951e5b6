"""Aligns a picture's face, detected or marked, with the position of the studio characters' faces.

    picture ─▶ the_face (or marked) ─▶ placement: translation, rotation, scale ─▶ aligned, face_mask

The picture is never warped. Where the frame extends beyond it, a cut-out stays transparent, and an opaque picture is
continued in its own colours.

Letters used in shapes: H, W the picture's edges; S the frame's.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from streamer.base.errors import BadPicture
from streamer.faces.detector import FOUND, Face, FaceDetector, inverse, sampled, similarity
from streamer.model.config import STRIDE

PLACES = np.array([[0.4164, 0.4538], [0.5836, 0.4538], [0.5, 0.5722]], np.float32)
"""[3, 2]: positions of the studio characters' left eye, right eye and mouth, as fractions of the frame's edge."""

SCALES = (0.87, 1.15)
"""Range of the face's scale relative to theirs, used to show more of a picture or to leave less empty."""

MIN_EYES = 12.0
"""Minimum distance (pixels) between the eyes: a smaller face would be enlarged more than 3.5 times at 256 pixels."""

_WEIGHTS = np.array([1, 1, 2], np.float32)[:, None] / 4  # the mouth moves most, so it counts as much as both eyes
_UPRIGHT = math.radians(8)  # smaller tilts are kept, so that vertical lines of the background stay vertical
_BESIDE = (1 / 32, 1 / 12, 1 / 5)  # blur beside and above a picture, as fractions of the frame
_BELOW = (1 / 128, 1 / 48)  # blur below it, smaller because clothes continue there
_BYSTANDER = 0.4  # faces smaller than this fraction of another's size are ignored
_LIKELY = 0.7  # faces scoring below this fraction of the best score are ignored
_SURE = 0.6  # minimum score of a face in a rotated picture to conclude that the picture is rotated
_FLAT = 6  # grey levels: less contrast than this shows nothing
_TURNS = {1: "on its side: rotate it by 90° to the left", 2: "upside down: rotate it by 180°",
          3: "on its side: rotate it by 90° to the right"}  # fmt: skip


class BadFace(BadPicture):
    """A picture without exactly one usable face. `reason` is for programs; `faces` lists the candidates."""

    def __init__(self, reason: str, detail: str, faces: Sequence[Face] = ()) -> None:
        super().__init__(detail)
        self.reason = reason
        self.faces = list(faces)


def the_face(picture: np.ndarray, detector: FaceDetector) -> Face:
    """Finds the one face in a picture [H, W, 4] uint8. Raises BadFace with all candidates."""
    check_colours(picture)
    maybe = detector.detect(picture, 0.5 * FOUND)
    faces = [face for face in maybe if face.score >= FOUND]
    if not faces:
        for turns, says in _TURNS.items():
            turned = detector.detect(np.ascontiguousarray(np.rot90(picture, turns)), _SURE)
            if turned and turned[0].eye_distance >= MIN_EYES:
                raise BadFace("sideways", f"the picture seems to be {says} (confidence {turned[0].score:.0%})")
        best = f"best candidate {maybe[0].score:.0%}" if maybe else "no candidates"
        raise BadFace("no_face", f"no face was found in the picture ({best}): mark its eyes and mouth", maybe)
    faces = [face for face in faces if face.score >= _LIKELY * faces[0].score]
    faces = [face for face in faces if not any(_is_bystander(face, other) for other in faces)]
    if len(faces) > 1:
        raise BadFace("several_faces", f"{len(faces)} faces were found: mark the one to use", faces)
    _check_size(faces[0], "the face is too small: its eyes are", "small_face")
    return faces[0]


def _is_bystander(face: Face, other: Face) -> bool:
    return face.eye_distance < _BYSTANDER * other.eye_distance and other.score > 0.8 * face.score


def check_colours(picture: np.ndarray) -> None:
    """Raises BadFace (`one_colour`) if a picture [H, W, 4] uint8 has no visible content."""
    seen = picture[picture[..., 3] > 32]
    if not len(seen):
        raise BadFace("one_colour", f"the picture shows nothing: its {picture[..., 0].size} pixels are transparent")
    spread = int(np.ptp(np.percentile(seen[:, :3], (1, 99), axis=0), axis=0).max())
    if spread < _FLAT:
        colour = "#" + "".join(f"{int(v):02x}" for v in np.median(seen[:, :3], axis=0))
        raise BadFace("one_colour", f"the picture is all one colour ({colour}, within {spread} of 255 levels)")


def _check_size(face: Face, says: str, reason: str) -> None:
    if face.eye_distance < MIN_EYES:
        raise BadFace(reason, f"{says} {face.eye_distance:.1f} pixels apart, {MIN_EYES:.0f} are needed", [face])


def marked(points: Sequence[float], width: int, height: int) -> Face:
    """A face from marks in a picture: x, y of one eye, of the other eye, and of the mouth, in pixels.

    Raises BadFace (`bad_marks`) for marks outside the picture or with impossible proportions.
    """
    if len(points) != 6 or not all(math.isfinite(v) for v in points):
        raise BadFace("bad_marks", f"the marks are x, y of two eyes and of the mouth: 6 numbers, not {len(points)}")
    marks = np.array(points, np.float32).reshape(3, 2)
    for name, (x, y) in zip(("first eye", "second eye", "mouth"), marks, strict=True):
        if not (0 <= x <= width and 0 <= y <= height):
            raise BadFace("bad_marks", f"the {name} at {x:.0f}, {y:.0f} is not inside the {width}×{height} picture")
    eyes = marks[np.argsort(marks[:2, 0])]
    face = Face(1.0, eyes, marks[2])
    _check_size(face, "the marked eyes are", "bad_marks")
    across = (eyes[1] - eyes[0]) / face.eye_distance
    down = (face.mouth - eyes.mean(0)) / face.eye_distance
    below, beside = float(across[0] * down[1] - across[1] * down[0]), float(across @ down)
    if not 0.3 <= below <= 2.2:
        raise BadFace(
            "bad_marks", f"the mouth is {below:.2f} eye distances below the eyes: it must be between 0.30 and 2.20"
        )
    if abs(beside) > 0.6:
        raise BadFace("bad_marks", f"the mouth is {abs(beside):.2f} eye distances off the middle: at most 0.60")
    if abs(face.roll) > math.radians(50):
        raise BadFace("bad_marks", f"the face is tilted by {abs(math.degrees(face.roll)):.0f}°, more than 50°")
    return face


def placement(picture: np.ndarray, face: Face, size: int) -> np.ndarray:
    """[2, 3]: the similarity that maps a picture's face to `PLACES` in the frame."""
    centre = (_WEIGHTS * face.points).sum(0)
    target = size * (_WEIGHTS * PLACES).sum(0)
    spots, wanted = ((_WEIGHTS**0.5 * (points - middle)) for points, middle in
                     ((face.points, centre), (size * PLACES, target)))  # fmt: skip
    angle = -face.roll if abs(face.roll) > _UPRIGHT else 0.0
    turned = spots @ similarity(angle, 1.0, (0, 0), (0, 0))[:, :2].T
    scale = float((turned * wanted).sum() / (spots**2).sum())  # least squares
    if scale <= 0:
        raise ValueError(f"no upright face: eyes at {face.eyes.tolist()}, mouth at {face.mouth.tolist()}")
    matrix = similarity(angle, scale, centre, target)
    return similarity(angle, scale * _zoom(picture, matrix, target, size), centre, target)


def _zoom(picture: np.ndarray, matrix: np.ndarray, target: np.ndarray, size: int) -> float:
    """The magnification about `target`, within SCALES: opaque pictures should fill the frame, others fit into it."""
    height, width = picture.shape[:2]
    least, most = SCALES
    if picture[..., 3].min() == 255:
        back = inverse(matrix)
        source = back[:, :2] @ target + back[:, 2]
        corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - target
        steps = corners @ back[:, :2].T  # from the face to the frame's corners, in the picture's pixels
        room = np.where(steps > 0, np.array([width, height]) - source, -source)
        return float(np.clip((steps / room).max(), 1.0, most))
    rows, columns = (np.nonzero((picture[..., 3] > 8).any(axis))[0] for axis in (1, 0))
    x, y = (columns[0], columns[-1] + 1), (rows[0], rows[-1] + 1)
    corners = np.array([[i, j] for i in x for j in y]) @ matrix[:, :2].T + matrix[:, 2] - target
    (left, top), (right, bottom) = -corners.min(0), corners.max(0)
    above = min(target[0] / left, target[1] / top, (size - target[0]) / right)
    whole = min(above, (size - target[1]) / bottom)
    return float(min(whole, most)) if whole > 1 else float(np.clip(above, least, 1.0))


def placed(picture: np.ndarray, face: Face, size: int) -> Face:
    """The face's position in the aligned picture."""
    return face.moved(placement(picture, face, size))


def aligned(picture: np.ndarray, face: Face, size: int) -> np.ndarray:
    """Aligns straight RGBA [H, W, 4] uint8 to [S, S, 4] with its face at `PLACES`."""
    matrix = placement(picture, face, size)
    cut_out = picture[..., 3].min() < 255
    premultiplied = Image.fromarray(picture).convert("RGBa")
    inside = sampled(premultiplied, matrix, (size, size))
    pixels = np.asarray(inside).copy()
    columns, rows, beside, below = _beyond(picture, matrix, size)
    if cut_out:
        # A bust cut off at the picture's lower edge is continued downwards; the sides stay transparent.
        if (picture[-1, :, 3] > 128).mean() > 0.05:
            on = (below > 0) & (beside == 0)
            pixels[on] = _nearest(premultiplied, matrix, columns, rows)[on]
        return np.asarray(Image.fromarray(pixels, "RGBa").convert("RGBA"))
    beyond = (beside > 0) | (below > 0)
    if beyond.any():
        pixels = np.where(beyond[..., None], _nearest(premultiplied, matrix, columns, rows), pixels)
        pixels = _softened(_softened(pixels, beside, _BESIDE), below, _BELOW)
    pixels[..., 3] = 255
    return pixels


def _beyond(
    picture: np.ndarray, matrix: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Column and row [S, S] of the picture's pixel nearest to each frame pixel, and its distance in frame pixels: to
    the sides and above, and below."""
    height, width = picture.shape[:2]
    back = inverse(matrix)
    at = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1) @ back[:, :2].T + back[:, 2]
    columns, rows = np.clip(at[..., 0], 0, width), np.clip(at[..., 1], 0, height)
    scale = math.sqrt(np.linalg.det(matrix[:, :2]))
    beside = scale * (np.abs(at[..., 0] - columns) + np.maximum(-at[..., 1], 0))
    return columns, rows, beside, scale * np.maximum(at[..., 1] - height, 0)


def _nearest(image: Image.Image, matrix: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[S, S, 4] uint8: the colours at these positions, averaged over the area of one frame pixel."""
    factor = max(1, int(1 / math.sqrt(np.linalg.det(matrix[:, :2]))))
    pixels = np.asarray(image.reduce(factor))
    y = np.clip((rows / factor).astype(int), 0, pixels.shape[0] - 1)
    x = np.clip((columns / factor).astype(int), 0, pixels.shape[1] - 1)
    return pixels[y, x]


def _softened(pixels: np.ndarray, beyond: np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """[S, S, 4] uint8: blurred by `radii` (fractions of the frame), more strongly farther beyond the picture."""
    out = pixels.astype(np.float32)
    for share in radii:
        radius = share * len(pixels)
        channels = (Image.fromarray(np.ascontiguousarray(pixels[..., i])) for i in range(4))
        soft = np.stack([np.asarray(c.filter(ImageFilter.GaussianBlur(radius)), np.float32) for c in channels], -1)
        out += np.clip(beyond / (1.5 * radius), 0, 1)[..., None] * (soft - out)
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def face_mask(face: Face, size: int) -> np.ndarray:
    """[S / 16, S / 16] float32: the fraction of each latent cell covered by the face, an ellipse from brows to chin.

    Its proportions are fitted to the studio's exact masks: the mean error is 0.02 per cell.
    """
    across, down = (face.eyes[1] - face.eyes[0]), face.mouth - face.eyes.mean(0)
    middle = face.eyes.mean(0) + 0.2 * down
    x, y = np.moveaxis(np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1) - middle, -1, 0)
    cos, sin = math.cos(face.roll), math.sin(face.roll)
    wide, high = 0.95 * float(np.hypot(*across)), 1.4 * float(np.hypot(*down))
    covered = ((cos * x + sin * y) / wide) ** 2 + ((cos * y - sin * x) / high) ** 2 <= 1
    cells = size // STRIDE
    return covered.reshape(cells, STRIDE, cells, STRIDE).mean((1, 3), dtype=np.float32)


def to_json(error: BadFace) -> dict[str, Any]:
    """The candidate faces, for a client that asks its user to choose."""
    return {"faces": [face.to_json() for face in error.faces]}
