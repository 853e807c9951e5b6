"""The seam of the lips: moves the mesh's inner lips to where they meet in the picture.

A closed mouth has a single line, found as the darkest path between the corners, and is cut slightly below it, so that
the dark line moves with the upper lip. An open mouth is cut inside its lips, so that no teeth stick to them.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.studio.picture_rig.curves import smoothstep
from streamer.studio.picture_rig.topology import LEFT_CORNER, LOWER_LIP, RIGHT_CORNER, UPPER_LIP

_OPEN = {"photo": 0.13, "drawing": 0.25}  # gap (mouth widths) from which the mouth is open whatever it shows
_PARTED = 0.05  # gap from which it is open if it shows something brighter than the skin, or only darkness
_BRIGHTER, _DARKER = 1.08, 0.3
_WIDER, _GAPING = 0.09, 0.6  # or, if it is wider than this, something this dark
_BLURRED = (2.5, 0.075)  # frame units per file pixel, and gap, from which the mouth is open
_REACH = 0.16  # search range for the seam above and below the mesh's line, in mouth widths
_STEP = 0.008
_ALONG = 97  # samples along the mouth
_BELOW = 0.012  # mouth widths from the seam down to the cut
_INSIDE = (0.034, 0.026)  # mouth widths by which an open mouth's upper and lower lips are moved outwards
_COARSE = 45  # width of a mouth in file pixels below which its line is assumed to be simple


@dataclass(frozen=True)
class Seam:
    landmarks: np.ndarray
    """[468, 3] float64, frame units: with the inner lips moved."""

    open: bool
    """Whether the picture shows an open mouth."""

    gap: float
    """Distance of the mesh's original inner lips, in mouth widths."""


def find_seam(image: np.ndarray, landmarks: np.ndarray, enlargement: float, drawing: bool) -> Seam:
    """
    `image` [FRAME, FRAME, 3] uint8; `landmarks` [468, 3] in frame units; `enlargement`: frame units per file pixel.
    """
    moved = landmarks.astype(np.float64).copy()
    left, right = moved[LEFT_CORNER, :2], moved[RIGHT_CORNER, :2]
    width = float(np.hypot(*(right - left)))
    along = (right - left) / width
    down = np.array([-along[1], along[0]])
    axes = np.stack([along, down], 1) / width
    upper, lower = ((moved[list(lip), :2] - left) @ axes for lip in (UPPER_LIP, LOWER_LIP))
    gap = float((lower[1:-1, 1] - upper[1:-1, 1]).max())

    t = np.linspace(0.02, 0.98, _ALONG)
    top, bottom = (np.interp(t, lip[:, 0], lip[:, 1]) for lip in (upper, lower))
    middle = (top + bottom) / 2
    across = np.arange(-_REACH, _REACH + 1e-4, _STEP)
    at = left + t[:, None, None] * width * along + (middle[:, None] + across)[:, :, None] * width * down
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), max(0.6, 0.01 * width))
    light = cv2.remap(grey, *(np.ascontiguousarray(at[..., i] - 0.5, np.float32) for i in (0, 1)), cv2.INTER_LINEAR)

    shows = _is_open(light, across, middle, top, bottom, gap, drawing)
    # At low resolution a narrow opening shows neither teeth nor darkness.
    shows |= not drawing and enlargement > _BLURRED[0] and gap > _BLURRED[1]
    if shows:
        for lip, sign, share in ((UPPER_LIP, -1, _INSIDE[0]), (LOWER_LIP, 1, _INSIDE[1])):
            place = np.arange(1, len(lip) - 1) / (len(lip) - 1)
            out = share * width * smoothstep(np.minimum(place, 1 - place) * 4 + 0.15)
            moved[list(lip[1:-1]), :2] += sign * out[:, None] * down
        return Seam(moved, True, gap)

    line = middle + across[_darkest_path(light, across)]
    line = _smooth_line(t, line, degree=3 if width / enlargement < _COARSE else 5)
    for lip, places in ((UPPER_LIP, upper), (LOWER_LIP, lower)):
        x = places[1:-1, 0]
        y = np.interp(x, t, line) + _BELOW * smoothstep(np.minimum(x, 1 - x) * 5)
        moved[list(lip[1:-1]), :2] = left + width * (x[:, None] * along + y[:, None] * down)
    for i, j in zip(UPPER_LIP[1:-1], LOWER_LIP[1:-1], strict=True):
        moved[[i, j]] = (moved[i] + moved[j]) / 2
    return Seam(moved, False, gap)


def _is_open(
    light: np.ndarray,
    across: np.ndarray,
    middle: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    gap: float,
    drawing: bool,
) -> bool:
    if gap > _OPEN["drawing" if drawing else "photo"]:
        return True
    if drawing or gap <= _PARTED:
        return False
    at = across[None] + middle[:, None]
    inside = (at > top[:, None]) & (at < bottom[:, None])
    centre = slice(_ALONG // 4, _ALONG * 3 // 4)
    inside = inside[centre]
    if not inside.any(1).all():
        return False
    seen = light[centre]
    around = np.median(seen[:, np.abs(across) > 0.1].mean(1))
    brightest = np.median(np.where(inside, seen, -1.0).max(1))
    darkest = np.median(np.where(inside, seen, np.inf).min(1))
    typical = np.median((seen * inside).sum(1) / inside.sum(1))
    if gap > _WIDER and darkest < _GAPING * around:
        return True
    return bool(brightest > _BRIGHTER * around or typical < _DARKER * around)


def _darkest_path(light: np.ndarray, across: np.ndarray) -> np.ndarray:
    """[A]: for each sample along the mouth, the index of the darkest path without jumps."""
    cost = light / (light.std() + 3) + 0.5 * (across[None] / 0.09) ** 2
    steps = (-2, -1, 0, 1, 2)
    total, came = cost[0], []
    for row in cost[1:]:
        options = np.stack([np.roll(total, k) + 0.25 * abs(k) for k in steps])
        options[0, -2:] = options[1, -1:] = options[3, :1] = options[4, :2] = np.inf
        best = options.argmin(0)
        came.append(best)
        total = options.min(0) + row
    place = int(total.argmin())
    path = [place]
    for best in reversed(came):
        place = int(np.clip(place - steps[best[place]], 0, len(across) - 1))
        path.append(place)
    return np.array(path[::-1])


def _smooth_line(t: np.ndarray, line: np.ndarray, degree: int) -> np.ndarray:
    """A robust polynomial fit: outliers have little weight."""
    weights = np.ones_like(t)
    for _ in range(4):
        fitted = np.polyval(np.polyfit(t, line, degree, w=weights), t)
        weights = 1 / (1 + (np.abs(fitted - line) / 0.012) ** 2)
    return fitted
