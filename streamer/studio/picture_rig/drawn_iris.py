"""The movable part of a drawn eye: the iris over its white, or a pupil in its place.

Letters used in shapes: h, w rows and columns of an eye's patch, a pixel of which is a frame unit.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.studio.picture_rig.drawn_patches import disc, filled, peak, without_holes

_OTHER = 45  # minimum difference (levels) of something on the white from the white's colour
_CLEAR = 30  # maximum difference (levels) of the bare white
_SIZE = (0.04, 0.85)  # range of the iris's area relative to the eye's
_STUCK = 0.35  # fraction of the iris within the eye's outline from which it cannot be moved
_ROOM = (0.8, 0.6)  # usable fractions of the white beside and above the iris
_TRAVEL = (0.04, 0.28)  # minimum and maximum displacement relative to the eyeball's width or height


@dataclass(frozen=True, eq=False)
class Iris:
    layer: np.ndarray
    """[h, w, 4] float32: its colours, extrapolated where a lid occludes it, and its coverage, 0..1."""

    own: np.ndarray
    """[h, w] float32, 0..1: where these colours are the picture's own."""

    white: np.ndarray
    """[h, w, 4] float32: the white without the iris, and the eyeball's coverage of a pixel, 0..1."""

    ground: np.ndarray
    """[h, w, 4] float32: what lies beneath the eyeball's blurred edge, and where changes are allowed, 0..1."""

    travel: tuple[float, float, float, float]
    """Displacement (frame units) for a gaze of 1: left, right, up, down."""


def find_iris(
    image: np.ndarray, mask: np.ndarray, pale: np.ndarray, plate: np.ndarray, outline: float, along: np.ndarray,
    soft: float,
) -> Iris | None:  # fmt: skip
    """Finds the iris of an eye `mask` [h, w] uint8 with white `pale` [h, w] bool, in `image` and on the skin `plate`,
    both [h, w, 3] float32; `outline` is 0 if there is none. None if a gaze would move nothing."""
    white = np.median(image[pale], 0)
    away = peak(np.abs(image - white))
    body = cv2.erode(mask, disc(outline + 0.5 if outline else 1 + 0.6 * soft))
    other = without_holes((away > _OTHER) & (body > 0)).astype(np.uint8)
    other = cv2.morphologyEx(other, cv2.MORPH_OPEN, disc(max(1.0, 0.8 * outline)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(other, connectivity=8)
    if count < 2:
        return None
    number = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if not _SIZE[0] < stats[number, cv2.CC_STAT_AREA] / mask.sum() < _SIZE[1]:
        return None
    points = np.argwhere(labels == number)[:, ::-1].astype(np.int32)
    hull = np.zeros_like(mask)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    iris = hull & (body if outline else mask)

    # The eyeball consists of the white and the iris, with blurred edges between and beside them.
    edge, wider = disc(0.6 + 0.5 * soft), disc(1.2 + 0.8 * soft)
    ball = cv2.morphologyEx(pale.astype(np.uint8) | iris, cv2.MORPH_CLOSE, disc(1 + soft)) & mask
    free = cv2.erode(ball, edge)
    spread = cv2.dilate(iris, wider)
    clear = (away < _CLEAR) & (free > 0) & (spread == 0)
    kept = (cv2.erode(iris, edge) > 0) & (free > 0)
    if clear.sum() < 6 or kept.sum() < 3 or ((iris > 0) & (free == 0)).sum() > _STUCK * iris.sum():
        return None
    empty, inner = filled(image, clear), filled(image, kept)

    # Where the lids occlude the iris, it is completed to the circle of which it is a part.
    rows, columns = np.indices(mask.shape)
    (x, y), radius = cv2.minEnclosingCircle(points.astype(np.float32))
    cut = (iris > 0) & (free == 0)
    beyond = _continued(cut, iris > 0) & (np.hypot(columns - x, rows - y) < radius + 0.5)
    own = (spread > 0) & (free > 0) & ~beyond
    shown = cv2.dilate(iris, edge) * (free > 0) | beyond | iris
    colours = np.where(own[..., None], image, inner)
    layer = np.dstack([colours, cv2.GaussianBlur(shown.astype(np.float32), (0, 0), 0.7)])

    # Where the eyeball touches skin, its blurred edge is weighted by the distance from the skin's colour.
    rim = cv2.dilate(ball, edge)
    bare = cv2.erode(cv2.dilate(mask, edge), np.ones((3, 3), np.uint8)) == 0
    skin = (cv2.dilate(bare.astype(np.uint8), disc(1.5 + 1.2 * soft)) > 0) & (outline == 0)
    target = np.where((spread > 0)[..., None], inner, empty)
    way = np.abs(target - plate).sum(2)
    come = np.clip(np.abs(image - plate).sum(2) / np.maximum(way, 30), 0, 1)
    inside = cv2.GaussianBlur(cv2.dilate(free, np.ones((3, 3), np.uint8)).astype(np.float32), (0, 0), 0.6)
    share = np.where(free > 0, 1, np.where(skin, come * rim, inside))
    ground = np.where(skin[..., None], plate, image)
    region = cv2.GaussianBlur(cv2.dilate(rim, disc(1)).astype(np.float32), (0, 0), 0.7)

    travel = _travel(iris > 0, free > 0, points.mean(0), along)
    white, below = np.dstack([empty, share]), np.dstack([ground, region])
    return Iris(layer.astype(np.float32), _soft(own), white.astype(np.float32), below.astype(np.float32), travel)


def _soft(mask: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)


def _continued(cut: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """[h, w] bool: pixels above and below the iris in columns where a lid occludes it."""
    out = np.zeros_like(cut)
    for column in np.flatnonzero(cut.any(0)):
        rows = np.flatnonzero(iris[:, column])
        if cut[rows[0], column]:
            out[: rows[0], column] = True
        if cut[rows[-1], column]:
            out[rows[-1] + 1 :, column] = True
    return out


def _travel(
    iris: np.ndarray, ball: np.ndarray, middle: np.ndarray, along: np.ndarray
) -> tuple[float, float, float, float]:
    rows, columns = np.indices(iris.shape)
    across = (columns - middle[0]) * along[0] + (rows - middle[1]) * along[1]
    upwards = (columns - middle[0]) * along[1] - (rows - middle[1]) * along[0]

    def room(values: np.ndarray, other: np.ndarray, share: float) -> tuple[float, float]:
        """Room before and behind the iris, in its own strip."""
        strip = ball & (np.abs(other) < 0.35 * np.ptp(other[iris]) + 1)
        extent = float(np.ptp(values[ball]))
        before = float(values[iris].min() - values[strip].min()) if strip.any() else 0.0
        behind = float(values[strip].max() - values[iris].max()) if strip.any() else 0.0
        least, most = (limit * extent for limit in _TRAVEL)
        return float(np.clip(share * before, least, most)), float(np.clip(share * behind, least, most))

    left, right = room(across, upwards, _ROOM[0])
    down, up = room(upwards, across, _ROOM[1])
    return left, right, up, down
