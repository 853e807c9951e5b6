"""Finds drawn eyes, which on most drawings differ from the mesh's eyes in position and size.

    image ─▶ skin: smooth regions of one colour ─▶ non-skin near the mesh's eye ─▶ DrawnEye, or None
                                               └▶ plate: the skin without the eye

A drawn eye is a patch of non-skin surrounded by skin: a white with a pupil, an iris under lashes, a single dot. A mere
line is a closed eye. In doubtful cases nothing is detected and the eyes are left unchanged.

Letters used in shapes: h, w rows and columns of an eye's patch, a pixel of which is a frame unit.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.colours import Colours, luma
from streamer.studio.picture_rig.drawn_iris import Iris, find_iris
from streamer.studio.picture_rig.drawn_patches import Patch, Regions, disc, divided, filled, find_pair, peak

_WHITE = 0.1  # minimum fraction of light pixels for an eye to have a white
_TABLE = 65  # samples along the eye


@dataclass(frozen=True, eq=False)
class DrawnEye:
    corner: tuple[int, int]
    """x, y of the patch's upper left pixel in frame units."""

    plate: np.ndarray
    """[h, w, 4] float32: the skin without the eye, and how far it may cover the eye, 0..1."""

    origin: np.ndarray
    """[2]: the eye's centre, frame units."""

    along: np.ndarray
    """[2]: unit vector along the eye, to the viewer's right."""

    width: float
    height: float
    upper: np.ndarray
    """[65] float32: height of the upper edge above `origin` along the eye, in frame units; likewise `lower`, and
    `shut`, where both meet."""

    lower: np.ndarray
    shut: np.ndarray
    line: np.ndarray
    """[3] float32: colour of the lid line."""

    thick: float
    """Thickness of the closed lid's line, frame units."""

    below: float
    """Thickness of the outline below the eye, frame units; 0 if there is none."""

    solid: bool
    """An eye without a white: it is squeezed to a line as a whole."""

    iris: Iris | None
    travel: float
    """Displacement (frame units) of a solid eye for a gaze of 1."""


@dataclass(frozen=True, eq=False)
class DrawnEyes:
    eyes: tuple[DrawnEye | None, DrawnEye | None]
    """The viewer's left and right eye; None if closed in the picture."""


def prepare_drawn_eyes(
    image: np.ndarray, landmarks: np.ndarray, fit: FaceFit, colours: Colours, enlargement: float
) -> DrawnEyes | None:
    """Analyses the square at rest [FRAME, FRAME, 3] uint8, with landmarks [468, 3] and fit in frame units and the
    frame units per pixel of the file. None if no pair of eyes is certain."""
    if fit.eyes_covered:
        return None
    regions = divided(image, landmarks, fit, enlargement)
    if regions is None:
        return None
    found = find_pair(regions, fit)
    if found is None or all(patch.shut for patch in found):
        return None
    middles = [patch.middle for patch in found]
    along = fit.lids[1].mean(0) - fit.lids[0].mean(0)
    if not any(patch.shut for patch in found):
        along = middles[1] - middles[0]
    along = along / np.hypot(*along)
    eyes = [None if patch.shut else _measured(regions, patch, along) for patch in found]
    return DrawnEyes((eyes[0], eyes[1]))


def _measured(regions: Regions, patch: Patch, along: np.ndarray) -> DrawnEye:
    unit, soft = regions.unit, regions.soft
    around = 0.05 * unit + 4
    half = patch.size / 2 + around
    low = np.maximum(np.floor(patch.middle - regions.corner - half).astype(int), 0)
    high = np.minimum(np.ceil(patch.middle - regions.corner + half).astype(int), regions.skin.shape[::-1])
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    image = regions.image[window].astype(np.float32)
    mask, skin = patch.mask[window], patch.skin[window]

    whole = mask.astype(np.uint8)
    reach = cv2.dilate(whole, disc(1 + 0.5 * soft))
    others = ~skin & ~mask
    known = skin & (reach == 0)
    if known.sum() < 8:
        known = skin & ~mask
    plate = filled(image, known)
    covered = reach & ~cv2.dilate(others.astype(np.uint8), np.ones((3, 3), np.uint8)) | whole
    covered = cv2.GaussianBlur(covered.astype(np.float32), (0, 0), 0.8)

    eroded = cv2.erode(whole, disc(1 + soft)).astype(bool)
    if eroded.sum() < 6:
        eroded = mask
    light, spread = luma(image), peak(image) + peak(-image)
    dark = float(np.percentile(light[eroded], 6))
    pale = eroded & (light > max(135, dark + 60)) & (spread < 85)
    solid = pale.sum() < _WHITE * eroded.sum()
    darkest = mask & (light <= np.percentile(light[mask], 12))
    line = np.median(image[darkest], 0)
    rim = float(np.median(luma(plate[mask])))
    above = below = 0.0
    drawn = _stroke(regions, line)
    if not solid:
        white = float(np.median(light[pale]))
        bound = min(rim, white)
        above = _outline(light, whole, pale, dark, bound, 1)
        below = _outline(light, whole, pale, dark, bound, -1) if above else 0.0
    shape = whole if solid else _core(whole, unit)
    upper, lower, left, right = _profile(shape, patch.middle - regions.corner - low, along)
    origin = patch.middle + (left + right) / 2 * along
    inset = 0.3 * soft  # the part of the detected area that is its edge's blur
    wide = max(right - left - 2 * inset, 2.0)
    upper, lower = upper - inset, np.minimum(lower + inset, upper - inset)
    tall = float(upper.max() - lower.min())

    if solid:
        thick = float(np.clip(max(0.3 * min(wide, tall), drawn), 0.016 * unit, 0.05 * unit))
        thick = min(thick, 0.8 * tall)
    else:
        thick = max(above, 0.13 * tall) if above else 0.13 * tall
        thick = float(np.clip(max(thick, min(drawn, 0.2 * tall)), 0.016 * unit, 0.05 * unit))
    shut = _shut(upper, lower, wide, tall, thick)
    patch_corner = (int(regions.corner[0] + low[0]), int(regions.corner[1] + low[1]))
    iris = None if solid else find_iris(image, whole, pale, plate, above, along, soft)
    travel = min(0.14 * wide, 0.03 * unit) if solid and patch.size[0] < 1.4 * patch.size[1] else 0.0
    return DrawnEye(
        patch_corner, np.dstack([plate, covered]).astype(np.float32), origin, along, wide, tall,
        upper.astype(np.float32), lower.astype(np.float32), shut.astype(np.float32), line.astype(np.float32),
        thick, min(below, thick), bool(solid), iris, travel,
    )  # fmt: skip


def _stroke(regions: Regions, colour: np.ndarray) -> float:
    """Thickness (frame units) of lines of that colour around the eyes; 0 if there are none."""
    inked = cv2.inRange(regions.image, np.maximum(colour - 40, 0), np.minimum(colour + 40, 255))
    depth = cv2.distanceTransform(inked, cv2.DIST_L2, 5)
    ridge = (depth > 0.9) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    ridge &= depth < 0.04 * regions.unit
    return 2 * float(np.median(depth[ridge])) if ridge.sum() > 0.3 * regions.unit else 0.0


def _core(mask: np.ndarray, unit: float) -> np.ndarray:
    """The patch without lashes."""
    thick = float(cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5).max())
    core = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc(min(0.045 * unit, 0.4 * thick)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    if count < 2:
        return mask
    return (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _profile(mask: np.ndarray, origin: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Heights [65] of the upper and the lower edge above `origin`, and the mask's ends along the eye."""
    edge = 2 * int(np.hypot(*mask.shape) / 2) + 3
    turn = np.array([along, [-along[1], along[0]]])
    shift = (edge - 1) / 2 - turn @ (origin - 0.5)
    upright = cv2.warpAffine(mask * np.float32(255), np.column_stack([turn, shift]), (edge, edge)) > 127
    centre = (edge - 1) / 2
    columns = np.flatnonzero(upright.any(0))
    top = upright[:, columns].argmax(0) - 0.5 - centre
    bottom = edge - 0.5 - upright[::-1, columns].argmax(0) - centre
    places = np.linspace(columns[0], columns[-1], _TABLE)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    kernel /= kernel.sum()

    def table(values: np.ndarray) -> np.ndarray:
        padded = np.pad(np.interp(places, columns, values), 6, "reflect", reflect_type="odd")
        return np.convolve(padded, kernel, "valid")

    return -table(top), -table(bottom), float(columns[0] - 0.5 - centre), float(columns[-1] + 0.5 - centre)


def _outline(light: np.ndarray, mask: np.ndarray, pale: np.ndarray, dark: float, bound: float, side: int) -> float:
    """Thickness (frame units) of the dark line between skin and white, above (side 1) or below the eye; 0 if none."""
    columns = np.flatnonzero(pale.any(0))
    if side < 0:
        light, mask, pale = light[::-1], mask[::-1], pale[::-1]
    limit = (dark + bound) / 2
    runs = []
    for column in columns:
        first, white = int(mask[:, column].argmax()), int(pale[:, column].argmax())
        runs.append(float((light[first:white, column] < limit).sum()))
    if not runs or bound - dark < 30:
        return 0.0
    run = float(np.percentile(runs, 35))
    return run if run >= 1 else 0.0


def _shut(upper: np.ndarray, lower: np.ndarray, wide: float, tall: float, thick: float) -> np.ndarray:
    """[65]: the closed lid's line, which sags between the eye's corners in the lower part of the eye."""
    corners = (upper + lower)[[2, -3]] / 2
    floor = float(lower.min())
    middle = floor + max(0.28 * tall, thick / 2)
    level = float(corners.mean())
    sag = float(np.clip(level - middle, 0.07 * wide, 0.2 * wide))
    middle = min(middle, max(level - sag, floor + thick / 2))
    tilt = float(np.clip((corners[1] - corners[0]) / 2, -0.1 * wide, 0.1 * wide))
    x = np.linspace(-1, 1, len(upper))
    return middle + sag * x**2 + tilt * x
