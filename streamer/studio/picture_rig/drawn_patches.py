"""Locates a drawing's eyes: patches of non-skin near the mesh's eyes, surrounded by skin.

    image ─▶ regions of one colour, skin among them ─▶ non-skin components ─▶ the pair most like two eyes

The mesh's eyes differ from drawn ones in position and size, so they only say where to search. Connections between an
eye and hair or lines are cut, thin ones first.

Letters used in shapes: h, w rows and columns of the neighbourhood of both eyes, a pixel of which is a frame unit.
"""

from dataclasses import dataclass, replace
from itertools import product

import cv2
import numpy as np

from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.colours import luma

_EDGE = (6, 9, 16)  # edge threshold (levels within three pixels): above the picture's typical value; minimum; maximum
_SAME = (12, 30)  # maximum difference (levels) of a small or a large region from the surrounding skin's colour
_LARGE = 0.05  # squared eye distances
_OTHER = 22  # minimum difference (levels) of non-skin
_AROUND = (1.0, 0.7)  # search range (eye distances) beside and above the midpoint between the eyes
_NEAR = 0.2  # maximum distance (eye distances) of a patch from the mesh's eye
_WIDE, _HIGH = (0.045, 0.72), (0.03, 0.72)  # range of an eye's width and height (eye distances)
_LINE = 0.36  # thickness relative to length up to which a patch is a line: a closed eye
_BULGE = (0.22, 1.8)  # except patches thicker than this whose maximum thickness is this multiple of the typical one
_PATCH = 0.35  # eye distances: a dark patch higher than this that contains something is fur around an eye
_RING, _BARE = 0.55, 0.35  # minimum fraction of the eye's surroundings that is skin or hair, or skin alone
_CUTS = (
    0.0,
    0.008,
    0.015,
    0.025,
    0.04,
    0.06,
    0.085,
)  # eye distances: thickness of lines to cut where they connect eyes to hair
_TRIED = 3  # components tried for each cut
_GIVEN_BACK = 0.02  # eye distances of lashes that are restored to such an eye
_CUT_COST, _SHUT_COST = 0.02, 0.12
_SURE, _DOUBTFUL = 0.12, 0.75  # cost of a pair below which the search ends, and from which it is rejected
_BRIDGE = 0.14  # eye distances above and below the midpoint between the eyes where glasses have their bridge


@dataclass(frozen=True, eq=False)
class Regions:
    """The neighbourhood of both eyes, segmented by colour."""

    image: np.ndarray
    corner: np.ndarray
    labels: np.ndarray
    """[h, w] int32: labels of smooth regions; 0 for edges."""

    areas: np.ndarray
    skin: np.ndarray
    """[h, w] bool."""

    beyond: np.ndarray
    """[h, w] bool: non-skin that extends beyond the image, like hair."""

    unit: float
    """The eye distance."""

    soft: float
    """Width of the picture's edges in frame units."""

    def window(self, rows: slice, columns: slice) -> "Regions":
        image, labels, skin, beyond = (
            plane[rows, columns] for plane in (self.image, self.labels, self.skin, self.beyond)
        )
        corner = self.corner + [columns.start, rows.start]
        return replace(self, image=image, labels=labels, skin=skin, beyond=beyond, corner=corner)


@dataclass(frozen=True, eq=False)
class Patch:
    """A non-skin patch at one eye."""

    mask: np.ndarray
    """[h, w] bool, in the regions' image."""

    skin: np.ndarray
    """[h, w] bool: its surroundings."""

    middle: np.ndarray
    """[2], frame units."""

    size: np.ndarray
    """[2]: width and height of its bounding box, frame units."""

    shut: bool
    cost: float
    """Cost of matching it to the mesh's eye."""


def divided(image: np.ndarray, landmarks: np.ndarray, fit: FaceFit, enlargement: float) -> Regions | None:
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
    steps = peak(cv2.morphologyEx(calm, cv2.MORPH_GRADIENT, square))
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
    away = peak(cv2.absdiff(calm, _background(part, labels == main))).ravel()
    flat = labels.ravel()
    distance = np.bincount(flat, away, len(areas)) / np.maximum(np.bincount(flat, minlength=len(areas)), 1)
    like = distance < np.where(areas < _LARGE * unit**2, *_SAME)
    like[0] = False
    plate = _background(part, like[labels])
    small = areas < (0.03 * unit) ** 2  # and edges
    tight = like[labels] | small[labels] & (peak(cv2.absdiff(part, plate)) < _OTHER)
    # Between two colours of an eye an edge may pass through the skin's colour.
    other = cv2.morphologyEx((~tight).astype(np.uint8), cv2.MORPH_CLOSE, square) > 0
    tight = like[labels] | ~other
    outer = np.zeros(len(areas), bool)
    outer[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    beyond = (outer & ~like & (areas > 0))[labels]
    return Regions(part, low, labels, areas, tight, beyond, unit, max(1.0, enlargement))


def peak(image: np.ndarray) -> np.ndarray:
    """[h, w, 3] to [h, w]: the largest channel."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def _background(image: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """[h, w, 3] uint8: the skin extrapolated beneath everything else, without its details."""
    size = ((skin.shape[1] + 3) // 4, (skin.shape[0] + 3) // 4)
    weight = cv2.resize(skin.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    bare = cv2.resize(cv2.copyTo(image, skin.view(np.uint8)), size, interpolation=cv2.INTER_AREA)
    known = weight > 0.3
    small = filled(bare / np.maximum(weight, 0.01)[..., None], known)
    small = np.clip(small, 0, 255).astype(np.float32)
    return cv2.resize(small, skin.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[h, w, n] float32 values with everything that is not `known` [h, w] inpainted smoothly."""
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


def find_pair(regions: Regions, fit: FaceFit) -> tuple[Patch, Patch] | None:
    """The two patches that are most likely the eyes of one face."""
    near = (fit.lids.mean(1) + fit.irises[:, 0]) / 2
    sides: tuple[list[Patch], list[Patch]] = ([], [])
    best, found = _DOUBTFUL, None
    depth = cv2.distanceTransform((~regions.skin & ~regions.beyond).astype(np.uint8), cv2.DIST_L2, 5)
    for i, cut in enumerate(_CUTS):
        whole = _opened(depth, cut * regions.unit)
        pieces = cv2.connectedComponentsWithStats(whole, connectivity=8)
        for patches, at in zip(sides, near - regions.corner, strict=True):
            for number, cost in _near(pieces, at, regions.unit)[:_TRIED]:
                patch = _grown(regions, pieces, number, cut, at, cost + _CUT_COST * i)
                if patch is not None:
                    patches.append(patch)
        for left, right in product(*sides):
            cost = left.cost + right.cost + _unlike(left, right, near, regions.unit)
            if cost < best:
                best, found = cost, (left, right)
        if best < _SURE:
            break
    if found is None:
        return None
    left, right = _least_cut(sides[0], found[0]), _least_cut(sides[1], found[1])
    if _tied(regions, left, right):
        return None
    if left.shut != right.shut and np.abs(np.log(left.size / right.size)).max() < 0.3:
        return replace(left, shut=False), replace(right, shut=False)
    return left, right


def _least_cut(patches: list[Patch], chosen: Patch) -> Patch:
    """The same eye with as many of its lashes as an eye can have."""
    best = chosen
    for patch in patches:
        overlap = (patch.mask & chosen.mask).sum() > 0.8 * chosen.mask.sum()
        if overlap and patch.cost < best.cost - 0.01 and (patch.size < 1.7 * chosen.size).all():
            best = patch
    return best


def _tied(regions: Regions, left: Patch, right: Patch) -> bool:
    """Whether something connects the two: glasses."""
    high = (left.middle[1] + right.middle[1]) / 2 - regions.corner[1]
    rows = slice(max(int(high - _BRIDGE * regions.unit), 0), int(high + _BRIDGE * regions.unit) + 1)
    columns = slice(int(left.middle[0] - regions.corner[0]), int(right.middle[0] - regions.corner[0]))
    between = (~regions.skin[rows, columns] & ~regions.beyond[rows, columns]).astype(np.uint8)
    _, labels = cv2.connectedComponents(between, connectivity=8)
    ends = [set(labels[patch.mask[rows, columns]]) - {0} for patch in (left, right)]
    return bool(ends[0] & ends[1])


def _unlike(left: Patch, right: Patch, near: np.ndarray, unit: float) -> float:
    """Dissimilarity of two patches as eyes of one face."""
    mesh, apart = near[1] - near[0], right.middle - left.middle
    off = apart - mesh
    if apart @ mesh <= 0 or not 0.25 * unit < float(np.hypot(*apart)) < 1.3 * unit or (left.mask & right.mask).any():
        return np.inf
    across = abs(float(off[0] * mesh[1] - off[1] * mesh[0])) / float(np.hypot(*mesh)) / unit
    wide, high = np.abs(np.log(left.size / right.size))
    if left.shut != right.shut:  # winking
        return 1.2 * across + 0.5 * wide + 0.1
    return 2 * across + 0.5 * wide + 0.5 * high


def disc(radius: float) -> np.ndarray:
    edge = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))


def _opened(depth: np.ndarray, radius: float) -> np.ndarray:
    """[h, w] uint8: morphological opening of an area with distance transform `depth` [h, w] by a disc of `radius`."""
    if radius < 1:
        return (depth > 0).astype(np.uint8)
    away = cv2.distanceTransform((depth <= radius).astype(np.uint8), cv2.DIST_L2, 5)
    return ((away < radius) & (depth > 0)).astype(np.uint8)


def _near(pieces: tuple, at: np.ndarray, unit: float) -> list[tuple[int, float]]:
    """OpenCV component numbers that may be the eye at `at`, with their cost; best first."""
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
    # Brows are above the mesh's eye: distances upwards are penalised.
    away[:, 1] *= np.where(away[:, 1] < 0, 1.6, 1.0)
    cost = np.hypot(*away.T) / unit - 0.5 * np.minimum(np.sqrt(area) / unit, 0.3)
    order = np.argsort(cost)
    return [(int(i), float(cost[i])) for i in order if allowed[i]]


def without_holes(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2)
    return (padded != 2)[1:-1, 1:-1]


def _grown(regions: Regions, pieces: tuple, number: int, cut: float, at: np.ndarray, cost: float) -> Patch | None:
    """The patch of a component that was left after cutting lines thinner than `cut`."""
    back = min(1.5 * cut, _GIVEN_BACK) * regions.unit
    around = int(max(back, 0.05 * regions.unit)) + 8
    x, y, wide, high = (int(value) for value in pieces[2][number, :4])
    x0, y0 = max(x - around, 0), max(y - around, 0)
    part = regions.window(slice(y0, y + high + around), slice(x0, x + wide + around))
    mask = pieces[1][y0 : y + high + around, x0 : x + wide + around] == number
    if cut:  # restore what the cut removed from its own edge
        mask = cv2.dilate(mask.astype(np.uint8), disc(back)).astype(bool) & ~part.skin & ~part.beyond
    mask, skin = without_holes(mask), part.skin
    inner = _in_fur(part, mask, at - [x0, y0])
    if inner is not None:
        mask, skin = inner
    return _patch(regions, part, mask, skin, cost)


def _in_fur(regions: Regions, mask: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """For a dark patch of fur: the eye in it, and the patch as its skin."""
    rows = np.flatnonzero(mask.any(1))
    if rows[-1] - rows[0] < _PATCH * regions.unit:
        return None
    counts = np.bincount(regions.labels[mask], minlength=len(regions.areas))
    counts[0] = 0
    main = int(counts.argmax())
    ground = regions.labels == main
    inner = cv2.erode(mask.astype(np.uint8), disc(3 + regions.soft))
    rim = (inner > 0) & (cv2.erode(inner, disc(2)) == 0)
    darker = luma(np.median(regions.image[ground], 0)) < luma(np.median(regions.image[regions.skin], 0)) - 10
    if counts[main] < 0.4 * mask.sum() or not darker or (ground & rim).sum() < 0.7 * rim.sum():
        return None
    pieces = cv2.connectedComponentsWithStats((inner & ~ground).astype(np.uint8), connectivity=8)
    within = _near(pieces, at, regions.unit)
    return (without_holes(pieces[1] == within[0][0]), ground) if within else None


def _patch(regions: Regions, part: Regions, mask: np.ndarray, skin: np.ndarray, cost: float) -> Patch | None:
    """Measures a patch; None if it cannot be an eye. `mask` and `skin` are those of a part of the regions."""
    unit, soft = regions.unit, regions.soft
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    size = np.array([columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], float)
    if not (_WIDE[0] < size[0] / unit < _WIDE[1] and _HIGH[0] < size[1] / unit < _HIGH[1]):
        return None
    whole = mask.astype(np.uint8)
    near = cv2.dilate(whole, disc(2))
    ring = (cv2.dilate(near, disc(0.04 * unit)) > 0) & (near == 0)
    share = float((skin | part.beyond)[ring].mean())
    if share < _RING or float(skin[ring].mean()) < _BARE:
        return None
    depth = cv2.distanceTransform(whole, cv2.DIST_L2, 5)
    thick = 2 * float(depth.max()) - 0.8 * soft
    long = float(np.hypot(*(size - 0.8 * soft)))
    shut = thick < _LINE * long
    if shut and thick > _BULGE[0] * long:
        ridge = depth[(depth > 1.5) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))]
        shut = thick < _BULGE[1] * (2 * float(np.median(ridge)) - 0.8 * soft)
    middle = part.corner + [(columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2]
    at = part.corner - regions.corner
    window = np.s_[at[1] : at[1] + mask.shape[0], at[0] : at[0] + mask.shape[1]]
    every, bare = np.zeros_like(regions.skin), np.zeros_like(regions.skin)
    every[window], bare[window] = mask, skin
    return Patch(every, bare, middle, size, shut, cost + 0.6 * (1 - share) + (_SHUT_COST if shut else 0))
