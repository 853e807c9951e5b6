"""Eyes as drawn: found round the mesh's, which lie beside them and have the wrong size on most drawings.

    image ─▶ skin: smooth regions of one colour ─▶ what is not skin near the mesh's eye ─▶ DrawnEye, or None
                                               └▶ plate: the skin without the eye

A drawn eye is a patch of what is not skin with skin all round it: a white with a pupil, an iris under lashes, a single
dot. One that is a mere line is shut already. Where anything is doubtful nothing is found and the eyes stay as they are.

Letters used in shapes: h, w rows and columns of an eye's patch, a pixel of which is a frame unit.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.colours import Colours, luma

_EDGE = (6, 9, 16)  # levels within three pixels from which on there is an edge: above a picture's usual; least, most
_SAME = 16  # levels up to which a region has the colour of the skin round it
_OTHER = 22  # levels from which on a pixel is no skin
_AROUND = (1.0, 0.7)  # eye distances beside and above the middle between the eyes that are searched
_NEAR = 0.2  # eye distances up to which what is no skin may lie beside the mesh's eye
_WIDE, _HIGH = (0.045, 0.72), (0.03, 0.72)  # eye distances: how wide and how high an eye may be
_LINE = 0.36  # of its length that a patch is thick up to which it is a line: a shut eye
_BULGE = (0.22, 1.8)  # but not one thicker than this that somewhere is so many times as thick as mostly
_PATCH = 0.35  # eye distances: a dark patch higher than this with something in it is fur round an eye
_RING = 0.55  # share of the eye's surroundings that has to be skin
_WHITE = 0.1  # share of an eye that has to be light for it to have a white
_CUTS = (
    0.0,
    0.012,
    0.02,
    0.03,
    0.045,
)  # eye distances: thickness of lines that are cut off where they tie eyes to hair
_TRIED = 3  # pieces that are tried each time
_CUT_COST, _SHUT_COST, _DOUBTFUL = 0.04, 0.12, 0.9
_TABLE = 65  # places along the eye


@dataclass(frozen=True, eq=False)
class Iris:
    """What a gaze moves over the white."""

    layer: np.ndarray
    """[h, w, 4] float32: its colours, carried on beyond what a lid cuts off, and how much it covers, 0..1."""

    white: np.ndarray
    """[h, w, 4] float32: the white without it, and how much of a pixel belongs to the eyeball, 0..1."""

    travel: tuple[float, float, float, float]
    """Frame units that a gaze of 1 moves it: left, right, up, down."""


@dataclass(frozen=True, eq=False)
class DrawnEye:
    corner: tuple[int, int]
    """x, y of the patch's upper left pixel in frame units."""

    plate: np.ndarray
    """[h, w, 4] float32: the skin without the eye, and where the eye has to be covered by it, 0..1."""

    origin: np.ndarray
    """[2]: the eye's middle, frame units."""

    along: np.ndarray
    """[2]: of length 1, to the eye's viewer's right."""

    width: float
    height: float
    upper: np.ndarray
    """[65] float32: the upper edge's height over `origin` at places along the width, frame units upwards; `lower` and
    `shut`, where both meet, likewise."""

    lower: np.ndarray
    shut: np.ndarray
    line: np.ndarray
    """[3] float32: colour of the lid's line."""

    thick: float
    """The shut lid's line, frame units."""

    below: float
    """The outline below the eye, frame units; 0 where it has none."""

    outlined: bool
    solid: bool
    """Without a white: the eye is squeezed to a line as a whole."""

    iris: Iris | None
    travel: float
    """Frame units that a solid eye moves with a gaze of 1."""


@dataclass(frozen=True, eq=False)
class DrawnEyes:
    eyes: tuple[DrawnEye | None, DrawnEye | None]
    """The viewer's left and right; None is shut in the picture."""


@dataclass(frozen=True, eq=False)
class _Regions:
    """The neighbourhood of both eyes, divided where its colours change."""

    image: np.ndarray
    corner: np.ndarray
    labels: np.ndarray
    """[h, w] int32: smooth regions; 0 are edges."""

    areas: np.ndarray
    skin: np.ndarray
    """[h, w] bool."""

    unit: float
    """The eye distance."""

    soft: float
    """Frame units over which the picture's edges are spread."""


def prepare_drawn_eyes(
    image: np.ndarray, landmarks: np.ndarray, fit: FaceFit, colours: Colours, enlargement: float
) -> DrawnEyes | None:
    """From the square at rest [FRAME, FRAME, 3] uint8, landmarks [468, 3] and fit in frame units; how many frame units a
    pixel of the file is. None where no pair of eyes is sure."""
    if fit.eyes_covered:
        return None
    regions = _divided(image, landmarks, fit, enlargement)
    if regions is None:
        return None
    found = _pair(regions, fit)
    if found is None or all(patch.shut for patch in found):
        return None
    middles = [patch.middle for patch in found]
    along = fit.lids[1].mean(0) - fit.lids[0].mean(0)
    if not any(patch.shut for patch in found):
        along = middles[1] - middles[0]
    along = along / np.hypot(*along)
    eyes = [None if patch.shut else _measured(regions, patch, along) for patch in found]
    return DrawnEyes((eyes[0], eyes[1]))


def _divided(image: np.ndarray, landmarks: np.ndarray, fit: FaceFit, enlargement: float) -> _Regions | None:
    unit = fit.eye_distance
    middle = fit.lids.mean((0, 1))
    reach = np.array(_AROUND) * unit
    low = np.maximum(np.floor(middle - reach).astype(int), 0)
    high = np.minimum(np.ceil(middle + reach).astype(int), image.shape[1::-1])
    if (high - low).min() < 16:
        return None
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0], :3])
    calm = cv2.GaussianBlur(part, (0, 0), 0.6)
    square = np.ones((3, 3), np.uint8)
    steps = (cv2.dilate(calm, square) - cv2.erode(calm, square)).max(2)
    inside = np.zeros(steps.shape, np.uint8)
    hull = cv2.convexHull((landmarks[:, :2] - low).astype(np.float32))
    cv2.fillConvexPoly(inside, np.round(hull).astype(np.int32), 1)
    if not inside.any():
        return None
    edge = np.clip(_EDGE[0] + 3 * np.median(steps[inside > 0]), _EDGE[1], _EDGE[2])
    smooth = (steps < edge).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(smooth, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    counts = np.bincount(labels[inside > 0], minlength=len(areas))
    counts[0] = 0
    main = int(counts.argmax())
    if counts[main] < 0.1 * unit**2:
        return None
    regions = _Regions(part, low, labels, areas, labels == main, unit, max(1.0, enlargement))
    plate = filled(part.astype(np.float32), regions.skin)
    away = np.abs(calm - plate).max(2).ravel()
    flat = labels.ravel()
    distance = np.bincount(flat, away, len(areas)) / np.maximum(np.bincount(flat, minlength=len(areas)), 1)
    like = distance < _SAME
    like[0] = False
    plate = filled(part.astype(np.float32), like[labels])
    small = areas < (0.03 * unit) ** 2  # and edges
    tight = like[labels] | small[labels] & (np.abs(part - plate).max(2) < _OTHER)
    return _Regions(part, low, labels, areas, tight, unit, max(1.0, enlargement))


def filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[h, w, n] float32 values with what is not `known` [h, w] filled smoothly from all round it."""
    weight = known.astype(np.float32)
    levels = [(values * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        total, weight = levels[-1]
        size = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        levels.append((cv2.resize(total, size, interpolation=cv2.INTER_AREA),
                       cv2.resize(weight, size, interpolation=cv2.INTER_AREA)))  # fmt: skip
    total, weight = levels[-1]
    out = total / np.maximum(weight, 1e-6)[..., None]
    if weight.max() > 0:
        out[weight < 1e-6] = total.sum((0, 1)) / weight.sum()
    for total, weight in reversed(levels[:-1]):
        out = cv2.resize(out, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.minimum(weight, 1)[..., None]
        out = total / np.maximum(weight, 1e-6)[..., None] * share + out * (1 - share)
    missing = ~known
    soft = cv2.GaussianBlur(out, (0, 0), max(1.0, 0.03 * min(known.shape)))
    ease = cv2.GaussianBlur(missing.astype(np.float32), (0, 0), 2.0)[..., None] * missing[..., None]
    return out + (soft - out) * ease


@dataclass(frozen=True, eq=False)
class _Patch:
    """What is not skin at one eye."""

    mask: np.ndarray
    """[h, w] bool, of the regions' image."""

    skin: np.ndarray
    """[h, w] bool: what lies round it."""

    middle: np.ndarray
    """[2], frame units."""

    size: np.ndarray
    """[2]: width and height of its box, frame units."""

    shut: bool
    cost: float
    """How badly it fits the mesh's eye."""


def _pair(regions: _Regions, fit: FaceFit) -> tuple[_Patch, _Patch] | None:
    """The two patches that are most likely the eyes of one face."""
    near = (fit.lids.mean(1) + fit.irises[:, 0]) / 2
    sides: tuple[list[_Patch], list[_Patch]] = ([], [])
    for i, cut in enumerate(_CUTS):
        whole = (~regions.skin).astype(np.uint8)
        if cut:
            whole = cv2.morphologyEx(whole, cv2.MORPH_OPEN, _disc(cut * regions.unit))
        pieces = cv2.connectedComponentsWithStats(whole, connectivity=8)
        for patches, at in zip(sides, near - regions.corner, strict=True):
            for number, cost in _near(pieces, at, regions.unit)[:_TRIED]:
                patch = _grown(regions, pieces[1] == number, cut, at, cost + _CUT_COST * i)
                if patch is not None:
                    patches.append(patch)
    best, found = _DOUBTFUL, None
    for left in sides[0]:
        for right in sides[1]:
            cost = left.cost + right.cost + _unlike(left, right, near, regions.unit)
            if cost < best:
                best, found = cost, (left, right)
    if (
        found is not None
        and found[0].shut != found[1].shut
        and np.abs(np.log(found[0].size / found[1].size)).max() < 0.3
    ):
        return replace(found[0], shut=False), replace(found[1], shut=False)
    return found


def _unlike(left: _Patch, right: _Patch, near: np.ndarray, unit: float) -> float:
    """How little two patches look like the eyes of one face."""
    mesh, apart = near[1] - near[0], right.middle - left.middle
    off = apart - mesh
    if apart @ mesh <= 0 or not 0.25 * unit < float(np.hypot(*apart)) < 1.3 * unit or (left.mask & right.mask).any():
        return np.inf
    across = abs(float(off[0] * mesh[1] - off[1] * mesh[0])) / float(np.hypot(*mesh)) / unit
    wide, high = np.abs(np.log(left.size / right.size))
    if left.shut != right.shut:  # one that winks
        return 1.2 * across + 0.5 * wide + 0.3
    return 2 * across + 0.5 * wide + 0.5 * high


def _disc(radius: float) -> np.ndarray:
    edge = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))


def _near(pieces: tuple, at: np.ndarray, unit: float) -> list[tuple[int, float]]:
    """Numbers of OpenCV's connected components that may be the eye at `at`, and how badly each fits; best first."""
    _, labels, stats, centres = pieces
    rows, columns = labels.shape
    low, size, area = stats[:, :2], stats[:, 2:4], stats[:, 4]
    share = size / unit
    allowed = (low > 0).all(1) & (low + size < [columns, rows]).all(1)
    allowed &= (share[:, 0] > _WIDE[0]) & (share[:, 0] < _WIDE[1]) & (share[:, 1] > _HIGH[0]) & (share[:, 1] < _HIGH[1])
    beyond = np.maximum(np.maximum(low - at, at - low - size), 0)
    away = centres - at
    allowed &= np.hypot(*beyond.T) < _NEAR * unit
    allowed[0] = False
    # Brows lie above the mesh's eye: what is above counts as farther away.
    away[:, 1] *= np.where(away[:, 1] < 0, 1.6, 1.0)
    cost = np.hypot(*away.T) / unit - 0.5 * np.minimum(np.sqrt(area) / unit, 0.3)
    order = np.argsort(cost)
    return [(int(i), float(cost[i])) for i in order if allowed[i]]


def _without_holes(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2)
    return (padded != 2)[1:-1, 1:-1]


def _grown(regions: _Regions, mask: np.ndarray, cut: float, at: np.ndarray, cost: float) -> _Patch | None:
    """The patch of a piece that was left when lines thinner than `cut` had been cut off."""
    skin = regions.skin
    if cut:  # give back what the cutting took from its own edge
        mask = cv2.dilate(mask.astype(np.uint8), _disc(1.5 * cut * regions.unit)).astype(bool) & ~skin
    mask = _without_holes(mask)
    inner = _in_fur(regions, mask, at)
    if inner is not None:
        mask, skin = inner
    return _patch(regions, mask, skin, cost)


def _in_fur(regions: _Regions, mask: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Of a dark patch of fur: the eye in it, and the patch, which is its skin."""
    rows = np.flatnonzero(mask.any(1))
    if rows[-1] - rows[0] < _PATCH * regions.unit:
        return None
    counts = np.bincount(regions.labels[mask], minlength=len(regions.areas))
    counts[0] = 0
    main = int(counts.argmax())
    ground = regions.labels == main
    inner = cv2.erode(mask.astype(np.uint8), _disc(3 + regions.soft))
    rim = (inner > 0) & (cv2.erode(inner, _disc(2)) == 0)
    darker = luma(np.median(regions.image[ground], 0)) < luma(np.median(regions.image[regions.skin], 0)) - 10
    if counts[main] < 0.4 * mask.sum() or not darker or (ground & rim).sum() < 0.7 * rim.sum():
        return None
    pieces = cv2.connectedComponentsWithStats((inner & ~ground).astype(np.uint8), connectivity=8)
    within = _near(pieces, at, regions.unit)
    return (_without_holes(pieces[1] == within[0][0]), ground) if within else None


def _patch(regions: _Regions, mask: np.ndarray, skin: np.ndarray, cost: float) -> _Patch | None:
    """Its measures, if it can be an eye."""
    unit, soft = regions.unit, regions.soft
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    size = np.array([columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], float)
    if not (_WIDE[0] < size[0] / unit < _WIDE[1] and _HIGH[0] < size[1] / unit < _HIGH[1]):
        return None
    around = int(0.05 * unit) + 6
    window = np.s_[max(rows[0] - around, 0) : rows[-1] + around, max(columns[0] - around, 0) : columns[-1] + around]
    whole = mask[window].astype(np.uint8)
    near = cv2.dilate(whole, _disc(2))
    ring = (cv2.dilate(near, _disc(0.04 * unit)) > 0) & (near == 0)
    share = float(skin[window][ring].mean())
    if share < _RING:
        return None
    depth = cv2.distanceTransform(whole, cv2.DIST_L2, 5)
    thick = 2 * float(depth.max()) - 0.8 * soft
    long = float(np.hypot(*(size - 0.8 * soft)))
    shut = thick < _LINE * long
    if shut and thick > _BULGE[0] * long:
        ridge = depth[(depth > 1.5) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))]
        shut = thick < _BULGE[1] * (2 * float(np.median(ridge)) - 0.8 * soft)
    middle = regions.corner + [(columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2]
    return _Patch(mask, skin, middle, size, shut, cost + 0.6 * (1 - share) + (_SHUT_COST if shut else 0))


def _measured(regions: _Regions, patch: _Patch, along: np.ndarray) -> DrawnEye:
    unit, soft = regions.unit, regions.soft
    around = 0.1 * unit + 4
    half = patch.size / 2 + around
    low = np.maximum(np.floor(patch.middle - regions.corner - half).astype(int), 0)
    high = np.minimum(np.ceil(patch.middle - regions.corner + half).astype(int), regions.skin.shape[::-1])
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    image = regions.image[window].astype(np.float32)
    mask, skin = patch.mask[window], patch.skin[window]

    whole = mask.astype(np.uint8)
    reach = cv2.dilate(whole, _disc(1 + 0.5 * soft))
    others = ~skin & ~mask & (reach == 0)
    known = skin & (reach == 0)
    if known.sum() < 8:
        known = skin & ~mask
    plate = filled(image, known)
    covered = reach & ~cv2.dilate(others.astype(np.uint8), np.ones((3, 3), np.uint8)) | whole
    covered = cv2.GaussianBlur(covered.astype(np.float32), (0, 0), 0.8)

    origin = patch.middle
    core = _core(whole, unit)
    upper, lower, left, right = _profile(core, origin - regions.corner - low, along)
    origin = origin + (left + right) / 2 * along
    inset = 0.3 * soft  # of what was found, this much is the blur of its edge
    wide = max(right - left - 2 * inset, 2.0)
    upper, lower = upper - inset, np.minimum(lower + inset, upper - inset)
    tall = float(upper.max() - lower.min())

    eroded = cv2.erode(whole, _disc(1 + soft)).astype(bool)
    if eroded.sum() < 6:
        eroded = mask
    light, spread = luma(image), np.ptp(image, 2)
    dark = float(np.percentile(light[eroded], 6))
    pale = eroded & (light > max(135, dark + 60)) & (spread < 85)
    solid = pale.sum() < _WHITE * eroded.sum()
    darkest = eroded & (light <= np.percentile(light[eroded], 12))
    line = np.median(image[darkest], 0)
    rim = float(np.median(luma(plate[mask])))
    above = below = 0.0
    drawn = _stroke(regions, line)
    if not solid:
        white = float(np.median(light[pale]))
        bound = min(rim, white)
        above = _outline(light, whole, pale, dark, bound, 1)
        below = _outline(light, whole, pale, dark, bound, -1) if above else 0.0
    outlined = max(above, below) > 0
    if solid:
        thick = float(np.clip(max(0.3 * min(wide, tall), drawn), 0.016 * unit, 0.05 * unit))
        thick = min(thick, 0.8 * tall)
    else:
        thick = max(above, 0.13 * tall) if above else 0.13 * tall
        thick = float(np.clip(max(thick, min(drawn, 0.2 * tall)), 0.016 * unit, 0.05 * unit))
    shut = _shut(upper, lower, wide, tall, thick)
    patch_corner = (int(regions.corner[0] + low[0]), int(regions.corner[1] + low[1]))
    iris = None if solid else _iris(image, whole, pale, plate, outlined, above, along, soft)
    travel = min(0.14 * wide, 0.03 * unit) if solid and wide < 1.4 * tall else 0.0
    return DrawnEye(
        patch_corner, np.dstack([plate, covered]).astype(np.float32), origin, along, wide, tall,
        upper.astype(np.float32), lower.astype(np.float32), shut.astype(np.float32), line.astype(np.float32),
        thick, min(below, thick), outlined, bool(solid), iris, travel,
    )  # fmt: skip


def _stroke(regions: _Regions, colour: np.ndarray) -> float:
    """Frame units: how thick lines of that colour are round the eyes; 0 where there are none."""
    inked = (np.abs(regions.image.astype(np.int16) - colour).max(2) < 40).astype(np.uint8)
    depth = cv2.distanceTransform(inked, cv2.DIST_L2, 5)
    ridge = (depth > 0.9) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    ridge &= depth < 0.04 * regions.unit
    return 2 * float(np.median(depth[ridge])) if ridge.sum() > 0.3 * regions.unit else 0.0


def _core(mask: np.ndarray, unit: float) -> np.ndarray:
    """The patch without lashes."""
    thick = float(cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5).max())
    core = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(min(0.03 * unit, 0.35 * thick)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    if count < 2:
        return mask
    return (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _profile(mask: np.ndarray, origin: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Heights [65] of the upper and the lower edge over `origin`, and the mask's ends along the eye."""
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
    """Frame units of the dark line between skin and white, above (side 1) or below the eye; 0 where there is none."""
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
    """[65]: the shut lid's line: it hangs between the eye's corners, in the lower part of the eye."""
    corners = (upper + lower)[[2, -3]] / 2
    floor = float(lower.min())
    middle = floor + max(0.28 * tall, thick / 2)
    level = float(corners.mean())
    sag = float(np.clip(level - middle, 0.07 * wide, 0.2 * wide))
    middle = min(middle, max(level - sag, floor + thick / 2))
    tilt = float(np.clip((corners[1] - corners[0]) / 2, -0.1 * wide, 0.1 * wide))
    x = np.linspace(-1, 1, len(upper))
    return middle + sag * x**2 + tilt * x


def _iris(
    image: np.ndarray, mask: np.ndarray, pale: np.ndarray, plate: np.ndarray, outlined: bool, above: float,
    along: np.ndarray, soft: float,
) -> Iris | None:  # fmt: skip
    """What lies on the white, with the white filled in below it; None where a gaze would move nothing."""
    white = np.median(image[pale], 0)
    away = np.abs(image - white).max(2)
    body = cv2.erode(mask, _disc(max(0.5 * soft, above))) if outlined else mask
    other = ((away > 45) & (body > 0)).astype(np.uint8)
    if not outlined:
        other &= cv2.erode(mask, _disc(1 + 0.6 * soft))
    other = cv2.morphologyEx(other, cv2.MORPH_OPEN, _disc(max(1.0, 0.8 * above)))
    count, labels, stats, centres = cv2.connectedComponentsWithStats(other, connectivity=8)
    if count < 2:
        return None
    number = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if not 0.04 < stats[number, cv2.CC_STAT_AREA] / mask.sum() < 0.85:
        return None
    points = np.argwhere(labels == number)[:, ::-1].astype(np.int32)
    hull = np.zeros_like(mask)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    iris = hull & mask
    ball = cv2.morphologyEx(pale.astype(np.uint8) | iris, cv2.MORPH_CLOSE, _disc(2 + soft)) & mask

    spread = cv2.dilate(iris, _disc(0.8 + 0.5 * soft))
    clear = pale & (spread == 0)
    if clear.sum() < 6:
        return None
    empty = filled(image, clear)
    # Beyond what the lids cut off, the iris goes on as the circle of which it is a part.
    (x, y), radius = cv2.minEnclosingCircle(points.astype(np.float32))
    rows, columns = np.indices(mask.shape)
    circle = np.hypot(columns - x, rows - y) < radius
    kept = cv2.erode(iris, _disc(1 + 0.5 * soft)).astype(bool)
    if not kept.any():
        kept = iris.astype(bool)
    beyond = circle & ~cv2.erode(ball, _disc(1 + 0.5 * soft)).astype(bool)
    colours = np.where(spread[..., None] > 0, image, 0)
    colours[beyond] = filled(image, kept)[beyond]
    shown = (iris > 0) | beyond
    shown = cv2.dilate(shown.astype(np.uint8), _disc(0.5 + 0.4 * soft))
    layer = np.dstack([np.where((spread > 0)[..., None] | beyond[..., None], colours, filled(image, kept)),
                       cv2.GaussianBlur(shown.astype(np.float32), (0, 0), 0.7)])  # fmt: skip

    if outlined:
        share = cv2.GaussianBlur(ball.astype(np.float32), (0, 0), 0.7)
    else:  # how far each pixel of the blurred edge has come from the skin to the eye
        inner = cv2.erode(mask, _disc(1 + 0.6 * soft)).astype(bool)
        target = filled(image, inner)
        way = np.abs(target - plate).sum(2)
        share = np.where(inner, 1, np.clip(np.abs(image - plate).sum(2) / np.maximum(way, 30), 0, 1)) * (mask > 0)
    inside = ball > 0
    middle = centres[number]
    across = (columns - middle[0]) * along[0] + (rows - middle[1]) * along[1]
    upwards = (columns - middle[0]) * along[1] - (rows - middle[1]) * along[0]
    taken = iris > 0

    def room(values: np.ndarray, other: np.ndarray) -> tuple[float, float]:
        """Before and behind the iris, in the strip that it lies in."""
        strip = inside & (np.abs(other) < 0.35 * np.ptp(other[taken]) + 1)
        low = float(values[taken].min() - values[strip].min())
        high = float(values[strip].max() - values[taken].max())
        extent = float(np.ptp(values[inside]))
        least, most = 0.04 * extent, 0.28 * extent
        return float(np.clip(0.8 * low, least, most)), float(np.clip(0.8 * high, least, most))

    left, right = room(across, upwards)
    down, up = room(upwards, across)
    return Iris(
        layer.astype(np.float32),
        np.dstack([empty, share]).astype(np.float32),
        (left, right, min(up, 0.7 * max(left, right) + up * 0.3), down),
    )
