"""A picture becomes a character: its face, found or marked, comes to lie where the studio's characters have theirs.

    picture ─▶ the_face (or marked) ─▶ placement: shift, turn, scale ─▶ aligned, face_mask

A picture is never warped. Where the frame reaches beyond it, a cut-out stays transparent, and another goes on in its
own colours.

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
"""[3, 2]: where the studio's characters have left eye, right eye and mouth, in shares of the frame's edge."""

SCALES = (0.87, 1.15)
"""How much smaller or larger than theirs a face may be, where that shows more of a picture or leaves less empty."""

MIN_EYES = 12.0
"""Pixels between the eyes below which a face is too small: at 256 pixels it would be enlarged more than 3.5 times."""

_WEIGHTS = np.array([1, 1, 2], np.float32)[:, None] / 4  # the mouth, which moves most, counts as much as both eyes
_UPRIGHT = math.radians(8)  # what leans less stays as it is: a background's upright lines are worth more
_BESIDE = (1 / 32, 1 / 12, 1 / 5)  # blur of what lies beside or above a picture, in shares of the frame
_BELOW = (1 / 128, 1 / 48)  # and below it: clothes go on
_BYSTANDER = 0.4  # of another face's size: smaller ones beside it are passed over
_LIKELY = 0.7  # of the likeliest face's score: beside a sure one, a doubtful one is none
_SURE = 0.6  # score from which on a face in a turned picture says that it lies on its side
_FLAT = 6  # grey levels: nothing can be made out in what varies less
_TURNS = {1: "on its side: turn it by 90° to the left", 2: "on its head: turn it by 180°",
          3: "on its side: turn it by 90° to the right"}  # fmt: skip


class BadFace(BadPicture):
    """A picture without one face that can be animated; `reason` for programs, `faces` that could be meant."""

    def __init__(self, reason: str, detail: str, faces: Sequence[Face] = ()) -> None:
        super().__init__(detail)
        self.reason = reason
        self.faces = list(faces)


def the_face(picture: np.ndarray, detector: FaceDetector) -> Face:
    """The one face in a picture [H, W, 4] uint8. Raises BadFace, with all that might be one."""
    check_colours(picture)
    maybe = detector.detect(picture, 0.5 * FOUND)
    faces = [face for face in maybe if face.score >= FOUND]
    if not faces:
        for turns, says in _TURNS.items():
            turned = detector.detect(np.ascontiguousarray(np.rot90(picture, turns)), _SURE)
            if turned and turned[0].eye_distance >= MIN_EYES:
                raise BadFace("sideways", f"the picture seems to be {says} (sure by {turned[0].score:.0%})")
        best = f"the likeliest place by {maybe[0].score:.0%}" if maybe else "not even doubtfully"
        raise BadFace("no_face", f"no face was found in the picture ({best}): mark its eyes and mouth", maybe)
    faces = [face for face in faces if face.score >= _LIKELY * faces[0].score]
    faces = [face for face in faces if not any(_is_bystander(face, other) for other in faces)]
    if len(faces) > 1:
        raise BadFace("several_faces", f"{len(faces)} faces were found: mark the one that is meant", faces)
    _check_size(faces[0], "the face is too small: its eyes are", "small_face")
    return faces[0]


def _is_bystander(face: Face, other: Face) -> bool:
    return face.eye_distance < _BYSTANDER * other.eye_distance and other.score > 0.8 * face.score


def check_colours(picture: np.ndarray) -> None:
    """Raises BadFace (`one_colour`) where nothing can be made out in a picture [H, W, 4] uint8."""
    seen = picture[picture[..., 3] > 32]
    if not len(seen):
        raise BadFace("one_colour", f"the picture shows nothing: its {picture[..., 0].size} pixels are clear")
    spread = int(np.ptp(np.percentile(seen[:, :3], (1, 99), axis=0), axis=0).max())
    if spread < _FLAT:
        colour = "#" + "".join(f"{int(v):02x}" for v in np.median(seen[:, :3], axis=0))
        raise BadFace("one_colour", f"the picture is all one colour ({colour}, within {spread} of 255 levels)")


def _check_size(face: Face, says: str, reason: str) -> None:
    if face.eye_distance < MIN_EYES:
        raise BadFace(reason, f"{says} {face.eye_distance:.1f} pixels apart, {MIN_EYES:.0f} are needed", [face])


def marked(points: Sequence[float], width: int, height: int) -> Face:
    """The face that a person marked in a picture: x, y of one eye, of the other, and of the mouth, in pixels.

    Raises BadFace (`bad_marks`) for what lies outside of the picture or cannot be a face's.
    """
    if len(points) != 6 or not all(math.isfinite(v) for v in points):
        raise BadFace("bad_marks", f"the marks are x, y of two eyes and of the mouth: 6 numbers, not {len(points)}")
    marks = np.array(points, np.float32).reshape(3, 2)
    for name, (x, y) in zip(("first eye", "second eye", "mouth"), marks, strict=True):
        if not (0 <= x <= width and 0 <= y <= height):
            raise BadFace("bad_marks", f"the {name} at {x:.0f}, {y:.0f} is not inside of the {width}×{height} picture")
    eyes = marks[np.argsort(marks[:2, 0])]
    face = Face(1.0, eyes, marks[2])
    _check_size(face, "the marked eyes are", "bad_marks")
    across = (eyes[1] - eyes[0]) / face.eye_distance
    down = (face.mouth - eyes.mean(0)) / face.eye_distance
    below, beside = float(across[0] * down[1] - across[1] * down[0]), float(across @ down)
    if not 0.3 <= below <= 2.2:
        raise BadFace(
            "bad_marks", f"the mouth is {below:.2f} eye distances below the eyes: between 0.30 and 2.20 are a face's"
        )
    if abs(beside) > 0.6:
        raise BadFace("bad_marks", f"the mouth is {abs(beside):.2f} eye distances off the middle: at most 0.60")
    if abs(face.roll) > math.radians(50):
        raise BadFace("bad_marks", f"the face is tilted by {abs(math.degrees(face.roll)):.0f}°: at most 50° are taken")
    return face


def placement(picture: np.ndarray, face: Face, size: int) -> np.ndarray:
    """[2, 3]: the shift, turn and scale that bring a picture's face to the frame's `PLACES`."""
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
    """By how much to enlarge about `target`, within SCALES: an opaque picture should fill the frame, others fit in."""
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
    """The face as it lies in the aligned picture."""
    return face.moved(placement(picture, face, size))


def aligned(picture: np.ndarray, face: Face, size: int) -> np.ndarray:
    """[H, W, 4] uint8 straight RGBA to [S, S, 4]: the picture with its face at the frame's `PLACES`."""
    matrix = placement(picture, face, size)
    cut_out = picture[..., 3].min() < 255
    premultiplied = Image.fromarray(picture).convert("RGBa")
    inside = sampled(premultiplied, matrix, (size, size))
    pixels = np.asarray(inside).copy()
    columns, rows, beside, below = _beyond(picture, matrix, size)
    if cut_out:
        # A bust that the picture's lower edge cuts off goes on downwards; beside it stays nothing.
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
    """Column and row [S, S] of the picture's nearest pixel to each of the frame's, and how far that is off in pixels of
    the frame: to the sides and above, and below."""
    height, width = picture.shape[:2]
    back = inverse(matrix)
    at = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1) @ back[:, :2].T + back[:, 2]
    columns, rows = np.clip(at[..., 0], 0, width), np.clip(at[..., 1], 0, height)
    scale = math.sqrt(np.linalg.det(matrix[:, :2]))
    beside = scale * (np.abs(at[..., 0] - columns) + np.maximum(-at[..., 1], 0))
    return columns, rows, beside, scale * np.maximum(at[..., 1] - height, 0)


def _nearest(image: Image.Image, matrix: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[S, S, 4] uint8: the colours at these places, averaged over what one of the frame's pixels covers."""
    factor = max(1, int(1 / math.sqrt(np.linalg.det(matrix[:, :2]))))
    pixels = np.asarray(image.reduce(factor))
    y = np.clip((rows / factor).astype(int), 0, pixels.shape[0] - 1)
    x = np.clip((columns / factor).astype(int), 0, pixels.shape[1] - 1)
    return pixels[y, x]


def _softened(pixels: np.ndarray, beyond: np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """[S, S, 4] uint8: blurred by `radii` in shares of the frame, the more the farther a pixel lies beyond."""
    out = pixels.astype(np.float32)
    for share in radii:
        radius = share * len(pixels)
        channels = (Image.fromarray(np.ascontiguousarray(pixels[..., i])) for i in range(4))
        soft = np.stack([np.asarray(c.filter(ImageFilter.GaussianBlur(radius)), np.float32) for c in channels], -1)
        out += np.clip(beyond / (1.5 * radius), 0, 1)[..., None] * (soft - out)
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def face_mask(face: Face, size: int) -> np.ndarray:
    """[S / 16, S / 16] float32: the share of each latent's place that the face covers, an ellipse from brows to chin.

    Its proportions are those that fit the studio's own masks best: there it is off by 0.02 a place in the mean.
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
    """What a client needs to ask its user: the faces that could be meant."""
    return {"faces": [face.to_json() for face in error.faces]}
