"""The quality benchmark's arithmetic on series of lip openings and on pictures. Pure.

Letters in shapes: T frames, S picture edge, D size of a descriptor.
"""

from collections.abc import Sequence

import numpy as np

from streamer.base.constants import FPS
from streamer.motion.controls import MOUTH

OPEN, PRESS = MOUTH.index("open"), MOUTH.index("press")
PEAK = 60.0
"""Decibels assigned to a region without any error, so that means stay finite."""

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
"""Series [T] of each clip: the read values and their reference."""


def pcc(pairs: Pairs) -> float:
    """Pearson's correlation over all clips together; 0 if one side is constant."""
    read, true = (np.concatenate(side).astype(np.float64) for side in zip(*pairs, strict=True))
    read, true = read - read.mean(), true - true.mean()
    spread = np.sqrt((read @ read) * (true @ true))
    return float(read @ true / spread) if spread > 0 else 0.0


def lag_ms(pairs: Pairs, reach: int = 6, finer: int = 16) -> float:
    """Delay of the first series in ms: the peak of the clips' summed cross-correlation within `reach` frames.

    The correlation is interpolated band-limited between frames before a parabola is fitted to its peak. A parabola over
    whole frames would be off by milliseconds.
    """
    length = 2 * max(len(read) for read, _ in pairs)
    spectrum = np.zeros(length // 2 + 1, np.complex128)
    for read, true in pairs:
        from_end = np.minimum(np.arange(len(read)), np.arange(len(read))[::-1])
        ends = np.minimum((from_end + 1) / 8, 1.0)  # fade the clip's ends, so that the cuts do not look like motion
        x, y = (np.fft.rfft((side - side.mean()) * ends, length) for side in (read, true))
        spectrum += x * y.conj()
    fine = np.fft.irfft(spectrum, length * finer)
    at = np.arange(-reach * finer, reach * finer + 1)
    scores = fine[at]
    best = int(np.clip(scores.argmax(), 1, len(at) - 2))
    before, top, after = scores[best - 1 : best + 2]
    bend = before - 2 * top + after
    shift = float(np.clip(0.5 * (before - after) / bend, -1, 1)) if bend < 0 else 0.0
    return float(1000 / FPS / finer * (at[best] + shift))


def closures(truth: np.ndarray) -> list[int]:
    """The middle frames of the p, b and m in a clip's truth [T, M]: runs of pressed and touching lips.

    Lips are also closed in a pause, but not pressed.
    """
    pressed = (truth[:, PRESS] >= 0.5).astype(np.int8)
    edges = np.diff(np.concatenate([[0], pressed, [0]]))
    runs = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    return [int((first + end - 1) // 2) for first, end in runs if truth[first:end, OPEN].min() <= 0.01]


def shut_below(reads: Sequence[np.ndarray]) -> float:
    """The opening up to which a mouth counts as closed: a tenth of its maximum, as in quality/articulation.py."""
    return 0.1 * min(1.0, float(np.percentile(np.concatenate(reads), 99.5)))


def closures_held(read: np.ndarray, truth: np.ndarray, shut: float) -> tuple[int, int]:
    """The number of a clip's closures that are read as closed within one frame, and the number of closures."""
    at = closures(truth)
    return sum(bool(read[max(k - 1, 0) : k + 2].min() <= shut) for k in at), len(at)


def first_crossing(series: np.ndarray, level: float, start: int = 0) -> float | None:
    """The fractional frame at which a series [T] rises through `level` at or after `start`; None if it does not."""
    above = np.flatnonzero(series[start:] >= level)
    if not len(above):
        return None
    k = start + int(above[0])
    if k == start:
        return float(k)
    return k - float((series[k] - level) / (series[k] - series[k - 1]))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB of two pictures of equal shape with values up to 255, at most PEAK."""
    error = float(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2))
    return PEAK if error <= 255**2 / 10 ** (PEAK / 10) else float(10 * np.log10(255**2 / error))


def gradient_energy(picture: np.ndarray, where: np.ndarray | None = None) -> float:
    """
    Mean squared luma difference of neighbouring pixels: the sharpness of a picture [H, W, 3+], or of its part `where`
    [H, W] bool, of which at least one pixel of a pair must be.
    """
    grey = picture[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    down, across = np.diff(grey, axis=0) ** 2, np.diff(grey, axis=1) ** 2
    if where is None:
        return float(np.mean(down) + np.mean(across))
    pairs = where[1:] | where[:-1], where[:, 1:] | where[:, :-1]
    if not where.any():
        return 0.0
    return float(down[pairs[0]].mean() + across[pairs[1]].mean())


_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(1)  # D65, the white point of sRGB


def _linear(steps: np.ndarray) -> np.ndarray:
    share = steps / 255.0
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear(np.arange(256.0)).astype(np.float32)


def lab(picture: np.ndarray) -> np.ndarray:
    """sRGB [..., 3] uint8 -> CIE L*a*b* [..., 3] float32 under D65."""
    xyz = _LINEAR[picture] @ (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def slope_per_minute(values: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of a series [T] per minute, and its standard error.

    The error is computed from means of 5 s blocks, because errors of neighbouring frames are not independent.
    """
    block = (np.asarray(seconds) // 5).astype(int)
    names = np.unique(block)
    if len(names) < 4:
        raise ValueError(f"a slope needs at least 20 s, got {len(names)} blocks of 5 s")
    t = np.array([np.mean(seconds[block == name]) for name in names]) / 60
    y = np.array([np.mean(values[block == name]) for name in names])
    t0 = t - t.mean()
    slope = float(t0 @ y / (t0 @ t0))
    left = y - y.mean() - slope * t0
    return slope, float(np.sqrt(left @ left / (len(y) - 2) / (t0 @ t0)))


def freezes(changes: np.ndarray, still: float = 1.0, longest: float = 0.5) -> int:
    """Number of times a video stands still for more than `longest` seconds.

    changes [T - 1]: the largest change of any pixel from frame to frame; up to `still` levels count as rounding.
    """
    run = count = 0
    for change in [*changes, np.inf]:
        if change <= still:
            run += 1
        else:
            count += run / FPS > longest
            run = 0
    return count


def blink_moments(closed: np.ndarray, shut: float = 0.5, apart: int = 3) -> list[int]:
    """Frames at which the lids [T], 0 open to 1 closed, close after having been open (below half of `shut`)."""
    found: list[int] = []
    ready = True
    for k, value in enumerate(closed):
        if ready and value >= shut and (not found or k - found[-1] >= apart):
            found.append(k)
            ready = False
        elif value < 0.5 * shut:
            ready = True
    return found


def matched(found: Sequence[int], true: Sequence[int], within: int = 2) -> int:
    """Number of `true` moments with a found moment within `within` frames; each found moment is used once."""
    left = sorted(found)
    hits = 0
    for moment in sorted(true):
        near = [f for f in left if abs(f - moment) <= within]
        if near:
            left.remove(min(near, key=lambda f: abs(f - moment)))
            hits += 1
    return hits


def descriptor(picture: np.ndarray) -> np.ndarray:
    """A descriptor that distinguishes characters and is insensitive to motion: [S, S, 3] uint8 -> [D] float32.

    It consists of colour histograms of four regions (hair, face, its sides, clothes) and an 8 x 8 thumbnail, with
    comparable norms.
    """
    size = picture.shape[0]
    colour = lab(picture)
    edges = [
        np.array([0, 20, 35, 50, 65, 80, 101]),
        np.array([-129, -8, 8, 24, 128]),
        np.array([-129, -12, 8, 28, 128]),
    ]
    level = [np.digitize(colour[..., i], edge[1:-1]) for i, edge in enumerate(edges)]
    bins = (level[0] * 4 + level[1]) * 4 + level[2]  # [S, S] in 0..95
    parts = []
    for y0, y1, x0, x1 in ((0, 0.36, 0.2, 0.8), (0.36, 0.66, 0.3, 0.7), (0.3, 0.7, 0, 1), (0.66, 1, 0, 1)):
        region = bins[int(y0 * size) : int(y1 * size), int(x0 * size) : int(x1 * size)]
        shares = np.bincount(region.ravel(), minlength=96) / region.size
        parts.append(np.sqrt(shares))  # Hellinger distance: small areas count, too
    cell = size // 8
    grid = colour[: 8 * cell, : 8 * cell].reshape(8, cell, 8, cell, 3).mean((1, 3)).ravel() / 100
    parts.append(grid / np.sqrt(grid.size) * 4)
    return np.concatenate(parts).astype(np.float32)


def nearest(queries: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The index of the nearest of `known` [K, D] for each of the queries [N, D]."""
    squares = (queries**2).sum(1)[:, None] + (known**2).sum(1) - 2 * queries @ known.T
    return squares.argmin(1)


def settled(mask: np.ndarray, margin: int = 3) -> np.ndarray:
    """mask [S, S] bool, eroded by `margin` pixels."""
    out = mask.copy()
    for _ in range(margin):
        inner = out.copy()
        inner[1:] &= out[:-1]
        inner[:-1] &= out[1:]
        inner[:, 1:] &= out[:, :-1]
        inner[:, :-1] &= out[:, 1:]
        out = inner
    return out
