"""Measures a fitted face: lips, teeth, lids, smile, gaze, as numbers independent of its size and tilt.

Lengths are relative to the distance between the eyes' outer corners and measured along the face's own axes, so that a
tilted head gives the same numbers as an upright one. Left and right are the viewer's.

Letters used in shapes: H, W the picture's edges; N points.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from streamer.faces.detector import sampled, similarity
from streamer.studio.face_fit import INNER_LIPS, LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS, FaceFit

INNER_LIP_EDGE = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
"""Landmarks around the mouth opening, in order."""

LIP_CORNERS = (61, 291)
NOSE_TIP = 1
CHEEKS = (234, 454)
FOREHEAD, CHIN = 10, 152

_LOWER, _UPPER = slice(2, 7), slice(10, 15)  # of lids [16, 2]: the middle five points of each edge
_CLOSED = 0.02  # eye distances between the inner lips: a smaller gap is within the landmarks' error
_PATCH = 64  # pixels: the common size at which sharpness is measured
_PATCH_SPAN = 2.2  # eye distances across the patch
_CHEEK_SPOTS = (50, 280, 205, 425, 117, 346)  # landmarks on skin that is seldom covered by beard or hair


@dataclass(frozen=True)
class Expression:
    """Measurements of one face in one picture."""

    gap: float
    """Distance between the inner lips."""

    teeth: float
    """0..1: fraction of the mouth opening that is bright and nearly colourless; 0 if the lips touch."""

    lids: float
    """Opening of the more open eye relative to its width: 0.2–0.4 in most open eyes, below 0.1 in shut ones."""

    mouth_width: float
    corners: float
    """Height of the mouth's corners above the line between the lips."""

    gaze: tuple[float, float]
    """x, y of the irises relative to the middle between the eye's corners, mean of both eyes, in eye widths."""

    yaw: float
    """Yaw in radians, positive: towards the viewer's right."""

    pitch: float
    """Pitch in radians, positive: downwards, relative to an upright face of typical depth."""

    sharpness: float
    """High-frequency detail relative to contrast, at a common size: for comparing frames of a clip."""


def axes(fit: FaceFit) -> np.ndarray:
    """[2, 2]: unit vectors to the face's right and down, from its eyes."""
    across = fit.points[RIGHT_EYE_CORNERS[0], :2] - fit.points[LEFT_EYE_CORNERS[0], :2]
    x = across / max(float(np.hypot(*across)), 1e-6)
    return np.array([x, [-x[1], x[0]]])


def expression(pixels: np.ndarray, fit: FaceFit) -> Expression:
    """Measures the face `fit` in a picture [H, W, 4] uint8 RGBA."""
    frame, size = axes(fit), max(fit.eye_distance, 1e-6)
    lips = fit.points[list(INNER_LIPS), :2]
    corners = fit.points[list(LIP_CORNERS), :2]
    return Expression(
        gap=fit.lip_gap,
        teeth=_teeth(pixels, fit),
        lids=max(_opening(edge) for edge in fit.lids),
        mouth_width=float(np.hypot(*(corners[1] - corners[0]))) / size,
        corners=float((lips.mean(0) - corners.mean(0)) @ frame[1]) / size,
        gaze=_gaze(fit, frame),
        yaw=_turn(fit.points[CHEEKS[1]] - fit.points[CHEEKS[0]], frame[0]),
        pitch=_turn(fit.points[CHIN] - fit.points[FOREHEAD], frame[1]),
        sharpness=_sharpness(pixels, fit),
    )


def _opening(edge: np.ndarray) -> float:
    """Opening of one eye's lids [16, 2], relative to its width."""
    across = edge[8] - edge[0]
    width = max(float(np.hypot(*across)), 1e-6)
    gap = edge[_LOWER].mean(0) - edge[_UPPER].mean(0)
    return abs(float(across[0] * gap[1] - across[1] * gap[0])) / width**2


def _gaze(fit: FaceFit, frame: np.ndarray) -> tuple[float, float]:
    offsets = []
    for side, (outer, inner) in enumerate((LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS)):
        ends = fit.points[[outer, inner], :2]
        width = max(float(np.hypot(*(ends[1] - ends[0]))), 1e-6)
        offsets.append(frame @ (fit.irises[side, 0] - ends.mean(0)) / width)
    x, y = np.mean(offsets, axis=0)
    return float(x), float(y)


def _turn(across: np.ndarray, axis: np.ndarray) -> float:
    """Angle (radians) at which a line [3] that is frontal in a frontal face recedes from the camera."""
    return math.atan2(float(across[2]), max(float(across[:2] @ axis), 1e-6))


def skin(pixels: np.ndarray, fit: FaceFit) -> np.ndarray:
    """[3] float: sRGB of the skin, the median of spots on both cheeks."""
    radius = 0.04 * fit.eye_distance
    spots = [median_colour(pixels, fit.points[spot, :2], radius) for spot in _CHEEK_SPOTS]
    seen = [spot for spot in spots if spot is not None]
    return np.median(seen, 0) if seen else np.full(3, 128.0)


def median_colour(pixels: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray | None:
    """[3] float: of a square of this radius around x, y in a picture [H, W, 4]; None outside or where transparent."""
    x, y = (int(v) for v in centre)
    reach = max(1, round(radius))
    part = pixels[max(0, y - reach) : max(0, y + reach + 1), max(0, x - reach) : max(0, x + reach + 1)]
    seen = part[part[..., 3] > 128][:, :3]
    return np.median(seen, 0) if len(seen) else None


def _teeth(pixels: np.ndarray, fit: FaceFit) -> float:
    if fit.lip_gap < _CLOSED:
        return 0.0
    polygon = fit.points[list(INNER_LIP_EDGE), :2]
    (x0, y0), (x1, y1) = np.floor(polygon.min(0)).astype(int), np.ceil(polygon.max(0)).astype(int) + 1
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(pixels.shape[1], x1), min(pixels.shape[0], y1)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return 0.0
    mask = Image.new("1", (int(x1 - x0), int(y1 - y0)))
    ImageDraw.Draw(mask).polygon([(float(x - x0), float(y - y0)) for x, y in polygon], fill=1)
    inside = pixels[y0:y1, x0:x1, :3][np.asarray(mask)].astype(np.float32)
    if not len(inside):
        return 0.0
    light, tint = inside.max(-1), np.ptp(inside, axis=-1)
    # Teeth are as light as skin with less than half its chroma; lips and tongue have more, the cavity is darker.
    own = skin(pixels, fit)
    bright = (light > 0.6 * own.max()) & (tint < 0.35 * light)
    return float(bright.mean())


def _sharpness(pixels: np.ndarray, fit: FaceFit) -> float:
    if fit.eye_distance < 1:
        return 0.0
    middle = fit.points[NOSE_TIP, :2]
    x = axes(fit)[0]
    scale = _PATCH / (_PATCH_SPAN * fit.eye_distance)
    matrix = similarity(-math.atan2(x[1], x[0]), scale, middle, (_PATCH / 2, _PATCH / 2))
    face = np.asarray(sampled(Image.fromarray(pixels).convert("L"), matrix, (_PATCH, _PATCH)), np.float32)
    fine = face[1:-1, 1:-1] - (face[:-2, 1:-1] + face[2:, 1:-1] + face[1:-1, :-2] + face[1:-1, 2:]) / 4
    return float(fine.std() / max(float(face.std()), 1.0))
