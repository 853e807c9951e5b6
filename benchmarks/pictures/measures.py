"""The figures, as pure functions of pixels and curves, without drawing or judging.

Letters in shapes: T frames, S the frame's edge. Pictures are uint8 RGB unless stated otherwise. A face in a frame is a
`FaceFit` in pixels of that frame.
"""

import cv2
import numpy as np

from streamer.studio.face_fit import FaceFit

CHIN, FOREHEAD = 152, 10
NOSE_BASE = 2
MOUTH_CORNERS = (61, 291)
NEW = 40.0
"""Distance of two colours, of 255, from which a row of the open mouth does not match one of the closed mouth."""
LIKE_SKIN = 16.0
"""Distance from the most common colour, of 255, up to which a row counts as skin."""
UNLIKE = 32.0
"""Distance from the skin colour, of 255, from which a pixel of an eye does not count as skin."""
_CHEEK = (0.38, 0.55)  # outer-eye distances below the eye
_EYE = 0.32  # outer-eye distances: half the edge of the square in which an eye is searched
_BREAK = 3  # rows in an opening that may match the closed mouth: the edge of a tooth, an outline


def over(frame: np.ndarray, ground: tuple[int, int, int] = (128, 128, 128)) -> np.ndarray:
    """Composites [H, W, 4] with straight alpha, or [H, W, 3], onto one colour: [H, W, 3]."""
    if frame.shape[2] == 3 or frame[..., 3].min() == 255:
        return np.ascontiguousarray(frame[..., :3])
    alpha = frame[..., 3:].astype(np.uint16)
    below = np.array(ground, np.uint16) * (255 - alpha)
    return ((frame[..., :3] * alpha + below + 127) // 255).astype(np.uint8)


def correlation(asked: np.ndarray, shown: np.ndarray) -> float:
    """Pearson's correlation over the frames [T] with a reading; 0 if either side is constant."""
    seen = np.isfinite(shown)
    a, b = asked[seen].astype(float), shown[seen].astype(float)
    if len(a) < 3 or a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def mean_where(values: np.ndarray, chosen: np.ndarray) -> float:
    """Mean over the chosen frames that have a value; NaN if there are none."""
    kept = values[chosen & np.isfinite(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def difference(one: np.ndarray, other: np.ndarray, region: np.ndarray | None = None) -> float:
    """Mean absolute difference, of 255, over the pixels of `region` [S, S] bool, or over all."""
    apart = np.abs(one.astype(np.int16) - other.astype(np.int16)).mean(2)
    if region is not None:
        apart = apart[region]
    return float(apart.mean()) if apart.size else 0.0


def outside_face(fit: FaceFit, size: int) -> np.ndarray:
    """[S, S] bool: pixels that must not change when only the mouth moves.

    This excludes the face (the hull of its landmarks, enlarged by a tenth of its height) and the neck (below the chin,
    as wide as the face). Hair is included, because the mouth does not move it.
    """
    inside = np.zeros((size, size), np.uint8)
    points = fit.points[:, :2]
    hull = cv2.convexHull(points.astype(np.float32)).astype(np.int32)
    cv2.fillConvexPoly(inside, hull, 1)
    height = float(np.hypot(*(points[FOREHEAD] - points[CHIN])))
    reach = max(1, round(0.1 * height))
    face = cv2.dilate(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    down = (points[CHIN] - points[FOREHEAD]) / max(height, 1e-6)
    across = np.array([-down[1], down[0]])
    y, x = np.mgrid[0:size, 0:size] + 0.5
    along = (x - points[CHIN, 0]) * down[0] + (y - points[CHIN, 1]) * down[1]
    aside = (x - points[CHIN, 0]) * across[0] + (y - points[CHIN, 1]) * across[1]
    reached = points @ across - points[CHIN] @ across
    neck = (along > -0.12 * height) & (aside > reached.min()) & (aside < reached.max())
    return np.asarray((face == 0) & ~neck)


def leak(rest: np.ndarray, frames: np.ndarray, region: np.ndarray) -> float:
    """Mean difference, of 255, between frames [T, S, S, 3] with a moving mouth and the rest [S, S, 3] in a region."""
    return float(np.mean([difference(rest, frame, region) for frame in frames])) if len(frames) else 0.0


def inside_face(fit: FaceFit, size: int) -> np.ndarray:
    """[S, S] bool: the hull of the landmarks, eroded by an eighth of the face's height.

    With this margin, the region contains only face even when the head turns slightly.
    """
    points = fit.points[:, :2]
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(points.astype(np.float32)).astype(np.int32), 1)
    reach = max(1, round(float(np.hypot(*(points[FOREHEAD] - points[CHIN]))) / 8))
    return cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))) > 0


def gradient_energy(frame: np.ndarray, region: np.ndarray) -> float:
    """Mean squared luma difference of neighbouring pixels over a region [S, S] bool."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    right, below = np.diff(luma, axis=1)[:-1], np.diff(luma, axis=0)[:, :-1]
    chosen = region[:-1, :-1]
    return float((right[chosen] ** 2 + below[chosen] ** 2).mean()) if chosen.any() else 0.0


def sharpness(still: np.ndarray, moved: np.ndarray, region: np.ndarray) -> float:
    """Root of the gradient energy of frames [T, S, S, 3] with a slightly turned head, relative to the still frame.

    Turns of some hundredths of a radian move the head by fractions of a pixel up to a few pixels, so any loss comes
    from resampling. Pass turns to both sides, because one stretches what the other compresses.
    """
    own = gradient_energy(still, region)
    if own < 1e-6:
        return float("nan")
    return float(np.sqrt(np.mean([gradient_energy(frame, region) for frame in moved]) / own))


def inserted_rows(closed: np.ndarray, opened: np.ndarray) -> int:
    """Height of the largest piece that was inserted into the column of colours [n, 3] to give the second [m, 3].

    The columns are aligned with insertions, free at both ends, so the result does not depend on how far the halves
    moved apart or whether they have the same colour. Additional rows of the most common colour count as stretched skin.
    """
    n, m = len(closed), len(opened)
    apart = np.sqrt(((opened[:, None].astype(np.float32) - closed[None].astype(np.float32)) ** 2).sum(2) / 3)
    # Score of a match: NEW minus the distance; rows without a match score 0.
    gain = NEW - apart
    best = np.zeros((m + 1, n + 1), np.float32)
    for i in range(1, m + 1):
        take = np.maximum(best[i - 1, :-1] + gain[i - 1], best[i - 1, 1:])
        best[i, 1:] = np.maximum.accumulate(np.maximum(take, 0))
    partner = np.zeros(m, bool)
    i, j = m, n
    while i > 0 and j > 0:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            partner[i - 1] = True
            i, j = i - 1, j - 1
    skin = np.median(closed.astype(np.float32), 0)
    partner |= np.sqrt(((opened.astype(np.float32) - skin) ** 2).sum(1) / 3) < LIKE_SKIN
    inside = np.flatnonzero(partner)
    if not len(inside):
        return 0
    longest = height = last = 0
    for row in range(inside[0], inside[-1] + 1):
        if partner[row]:
            last += 1
            if last > _BREAK:
                height = 0
        else:
            height, last = height + 1, 0
        longest = max(longest, height)
    return longest


def opening(closed: np.ndarray, opened: np.ndarray, fit: FaceFit) -> float:
    """How far a mouth has opened between two frames, in outer-eye distances, from the pixels between the lips.

    It needs no landmarks of the open mouth, so it works for drawings: columns through the middle of the mouth, from the
    base of the nose to below the chin, are aligned with those of the closed mouth.
    """
    points = fit.points[:, :2].astype(float)
    eyes = max(fit.eye_distance, 1e-6)
    down = points[CHIN] - points[FOREHEAD]
    down /= max(float(np.hypot(*down)), 1e-6)
    across = np.array([down[1], -down[0]])
    centre = points[list(MOUTH_CORNERS)].mean(0)
    wide = float(np.hypot(*(points[MOUTH_CORNERS[0]] - points[MOUTH_CORNERS[1]])))
    above = 0.8 * abs(float((centre - points[NOSE_BASE]) @ down))
    below = abs(float((points[CHIN] - centre) @ down)) + 0.3 * eyes
    rows = np.arange(-above, below)
    heights = []
    for shift in np.linspace(-0.15, 0.15, 7) * wide:
        places = centre + across * shift + rows[:, None] * down
        x, y = (places[:, i].astype(np.float32)[:, None] - 0.5 for i in (0, 1))
        before, after = (
            cv2.remap(frame, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
            for frame in (closed, opened)
        )
        heights.append(inserted_rows(before, after))
    return float(np.median(heights)) / eyes


def misplaced(fit: FaceFit, mark: np.ndarray) -> float:
    """Distance of the middle of the mouth's corners from a point [2], in outer-eye distances."""
    centre = fit.points[list(MOUTH_CORNERS), :2].mean(0)
    return float(np.hypot(*(centre - mark))) / max(fit.eye_distance, 1e-6)


def eye_area(frame: np.ndarray, fit: FaceFit, side: int) -> float:
    """Area of an eye, in squared outer-eye distances: the connected pixels at the lids that are not skin.

    The skin colour is the median of patches below the eye, farther below it, and between both eyes. A drawn eye may be
    several times as large as its fitted lids; the white of the eye counts, too.
    """
    eyes = max(fit.eye_distance, 1e-6)
    lids = fit.lids[side]
    centre, (low, high) = lids.mean(0), (lids.min(0), lids.max(0))
    down = (fit.points[CHIN, :2] - fit.points[FOREHEAD, :2]).astype(float)
    down /= max(float(np.hypot(*down)), 1e-6)
    places = [centre + share * eyes * down for share in _CHEEK] + [fit.lids.reshape(-1, 2).mean(0)]
    colours = [colour for at in places if (colour := _median(frame, at, 0.04 * eyes)) is not None]
    left, top = (max(0, int(v)) for v in np.floor(centre - _EYE * eyes))
    part = frame[top : int(centre[1] + _EYE * eyes) + 1, left : int(centre[0] + _EYE * eyes) + 1]
    if not colours or min(part.shape[:2]) < 3:
        return 0.0
    skin = np.median(colours, 0)
    unlike = (np.sqrt(((part.astype(np.float32) - skin) ** 2).sum(2) / 3) > UNLIKE).astype(np.uint8)
    y, x = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]] + 0.5
    radius = np.maximum((high - low) / 2, 2.0)
    inner = np.hypot((x - centre[0]) / radius[0], (y - centre[1]) / radius[1]) <= 1
    _, labels = cv2.connectedComponents(unlike, connectivity=8)
    own = np.setdiff1d(np.unique(labels[inner]), [0])
    return float(np.isin(labels, own).sum()) / eyes**2


def _median(frame: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray | None:
    """Median colour [3] of a square in a frame; None if it lies outside."""
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(centre - radius), *np.ceil(centre + radius + 1)))
    patch = frame[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)].reshape(-1, 3)
    return np.median(patch, 0) if len(patch) else None


def lids_left(rest: np.ndarray, blink: np.ndarray, fit: FaceFit) -> float:
    """Share of the eyes that remains visible in a blink; 1 if nothing closes."""
    shares = []
    for side in (0, 1):
        open_eye = eye_area(rest, fit, side)
        shares.append(eye_area(blink, fit, side) / open_eye if open_eye > 0.001 else 1.0)
    return float(np.mean(shares))
