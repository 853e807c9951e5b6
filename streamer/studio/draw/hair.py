"""Hair: a kit of masses, locks, strands and shine, and one function a style, in STYLES.

A style appends to four layers: `back` (behind the body), `behind` (over the clothes, behind the face), `front` (over the
face) and `top` (over everything of the head).
"""

from collections.abc import Callable, Sequence

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.palette import Color, alpha, mix
from streamer.studio.draw.sketch import COVER, Linear, Points, Skin, Stroke, points3, ramp

LINE = 0.0125
Profile = Sequence[float]
LOCK: Profile = (0.55, 0.95, 1.0, 0.86, 0.58, 0.0)  # a lock's width from root to tip
TAIL: Profile = (0.35, 0.85, 1.0, 0.95, 0.72, 0.0)
STRAP: Profile = (1.0, 1.0, 1.0, 1.0, 0.95, 0.85)


def flowing(start: float = 0.45, end: float = 1.25, most: float = 0.85, swing: float = 1.0) -> Skin:
    """Skin of hair: the head's above `start`, more and more the body's below, and it sways the lower it hangs."""

    def skin(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return most * ramp(p[:, 1], start, end), swing * ramp(p[:, 1], -0.35, 1.1)

    return skin


def resample(spine: Points, n: int) -> np.ndarray:
    """[n,3] along a smooth curve through the spine's points."""
    p = points3(spine)
    if len(p) == 2:
        p = np.array([p[0], (p[0] + p[1]) / 2, p[1]])
    q = np.concatenate([p[:1] * 2 - p[1:2], p, p[-1:] * 2 - p[-2:-1]])
    t = np.linspace(0, len(p) - 1, n)
    i = np.minimum(t.astype(int), len(p) - 2)
    f = (t - i)[:, None]
    a, b, c, d = q[i], q[i + 1], q[i + 2], q[i + 3]
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


def ribbon(spine: Points, width: float, profile: Profile = LOCK, left: float = 1.0, right: float = 1.0) -> np.ndarray:
    """[m,3] a closed band about a spine, half as wide on each side as `width` times the profile; a profile that ends in 0
    ends in a point. `left` and `right` scale the sides (negative: the band lies beside the spine)."""
    n = len(profile)
    p = resample(spine, n)
    tangent = np.gradient(p[:, :2], axis=0)
    normal = np.c_[tangent[:, 1], -tangent[:, 0]] / np.maximum(np.hypot(*tangent.T), 1e-6)[:, None]
    half = 0.5 * width * np.asarray(profile)[:, None]
    a, b = p.copy(), p.copy()
    a[:, :2] += normal * half * left
    b[:, :2] -= normal * half * right
    if profile[-1] == 0.0:
        return np.concatenate([a[:-1], p[-1:], p[-1:], b[-2::-1]])
    return np.concatenate([a, b[::-1]])


class Kit:
    """A hairdresser's kit: describes strokes in the hair's tones."""

    def __init__(self, a: Anatomy) -> None:
        self.a, self.h, self.t = a, a.hair, a.tips
        self.rng = a.rng("hair")
        self.back: list[Stroke] = []
        self.behind: list[Stroke] = []
        self.front: list[Stroke] = []
        self.top: list[Stroke] = []
        self.length = 0.6  # where the tips' colour is full

    def fill(self, shade: float = 0.0, top: float = -0.85) -> Linear:
        """The hair's light: bright crown, base, shade below, tips' colour at the ends. `shade` 0..1 darkens all."""
        h, t, end = self.h, self.t, max(self.length, 0.1)

        def dim(c: Color) -> Color:
            return mix(c, h.deep, shade)

        tips = t is not h
        stops = [(0.0, dim(h.light)), (0.30, dim(h.base)), (0.62, dim(mix(h.base, h.shadow, 0.35)))]
        if tips:
            stops += [(0.74, dim(mix(h.base, t.base, 0.35))), (1.0, dim(t.base))]
        else:
            stops += [(1.0, dim(mix(h.base, h.shadow, 0.75)))]
        return Linear((-0.05, top, 0.1), (0.05, end, 0.1), stops)

    def mass(self, layer: list[Stroke], points: Points, shade: float = 0.0, skin: Skin | None = None, casts: bool = False) -> None:
        """A big shape."""
        label = COVER if layer in (self.front, self.top) else None
        layer.append(Stroke([points], self.fill(shade), self.h.line, LINE, True, skin or flowing(), label, casts))

    def lock(self, layer: list[Stroke], spine: Points, width: float, profile: Profile = LOCK, shade: float = 0.0,
             skin: Skin | None = None, lit: bool = True, casts: bool = True) -> None:
        """A tapered lock with its shaded edge."""
        label = COVER if layer in (self.front, self.top) else None
        skin = skin or flowing()
        layer.append(Stroke([ribbon(spine, width, profile)], self.fill(shade), self.h.line, LINE, True, skin, label, casts))
        if lit:
            layer.append(Stroke([ribbon(spine, width * 0.9, profile, left=-0.25)], alpha(self.h.shadow, 0.6), skin=skin))

    def strands(self, layer: list[Stroke], paths: list[Points], strength: float = 0.55, width: float = 0.008, skin: Skin | None = None) -> None:
        """Thin lines that show how the hair runs."""
        layer.append(Stroke(paths, None, alpha(self.h.line, strength), width, False, skin or flowing()))

    def shine(self, layer: list[Stroke], y: float = -0.46, width: float = 0.40, thick: float = 0.06, pieces: int = 7, strength: float = 0.6) -> None:
        """The band of light about the crown: pointed flakes along an arc."""
        edges = np.linspace(-width, width, pieces + 1)
        paths = []
        for k, (u, v) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            m, gap = (u + v) / 2, (v - u) * 0.10
            size = thick * (1 - 0.55 * (abs(m) / width) ** 2) * (1.0 if k % 2 else 0.7)
            droop = 0.30 * (m / 0.5) ** 2 * 0.5

            def at(x: float, dy: float) -> tuple[float, float, float]:
                yy = y + 0.15 * (x / 0.5) ** 2 + dy
                return (x, yy, 0.40 * max(0.0, 1 - (x / 0.62) ** 2) + 0.06)

            del droop
            paths.append([at(u + gap, 0), at(u + gap, 0), at(m, -size * 0.45), at(v - gap, 0), at(v - gap, 0),
                          at(m + gap, size), at(m + gap, size)])
        layer.append(Stroke(paths, alpha(self.h.shine, strength), skin=flowing()))

    def crown(self, volume: float = 0.0, hairline: Points | None = None, side_y: float = 0.12, casts: bool = True) -> None:
        """The cap over the skull, from temple to temple, down to `hairline` (from the viewer's right to the left)."""
        v = volume
        outer = [(-0.545 - v * 0.6, side_y, 0.05), (-0.565 - v, -0.16, 0.04), (-0.51 - v, -0.48, 0.02), (-0.32 - v * 0.6, -0.75 - v * 0.7, 0.02),
                 (0.0, -0.85 - v, 0.03), (0.32 + v * 0.6, -0.75 - v * 0.7, 0.02), (0.51 + v, -0.48, 0.02), (0.565 + v, -0.16, 0.04),
                 (0.545 + v * 0.6, side_y, 0.05)]
        line = hairline or [(0.46, side_y, 0.12), (0.45, -0.18, 0.18), (0.34, -0.36), (0.14, -0.44), (-0.14, -0.44),
                            (-0.34, -0.36), (-0.45, -0.18, 0.18), (-0.46, side_y, 0.12)]
        self.mass(self.front, [*outer, outer[-1], *line, line[-1]], casts=casts)

    def long_back(self, width: float, bottom: float, shade: float = 0.55, wave: float = 0.0) -> None:
        """A curtain of hair behind the body."""
        w, b = width, bottom
        right = [(0.0, -0.8, -0.15), (0.38, -0.70, -0.15), (0.56, -0.35, -0.15), (0.58 + w * 0.2, 0.1, -0.18),
                 (0.56 + w * 0.5 + wave, 0.1 + (b - 0.1) * 0.35, -0.2), (0.56 + w * 0.9 - wave, 0.1 + (b - 0.1) * 0.65, -0.2),
                 (0.52 + w + wave, b - 0.04, -0.2), (0.52 + w + wave, b - 0.04, -0.2), (0.34 + w * 0.5, b - 0.10, -0.2), (0.26, b + 0.02, -0.2), (0.26, b + 0.02, -0.2),
                 (0.1, b - 0.07, -0.2)]
        left = [(-x, y, z) for x, y, z in right[:0:-1]]
        self.mass(self.back, right + left, shade, flowing(0.5, 1.3, 0.9, 0.8))


# Styles ---------------------------------------------------------------------------------------------------------------


def messy(k: Kit) -> None:
    k.length = 0.3
    right = [(0.0, -0.8, -0.1), (0.42, -0.68, -0.1), (0.60, -0.3, -0.1), (0.61, 0.05, -0.1), (0.68, 0.22, -0.1), (0.68, 0.22, -0.1),
             (0.56, 0.22, -0.1), (0.58, 0.36, -0.1), (0.58, 0.36, -0.1), (0.42, 0.34, -0.1), (0.36, 0.48, -0.1), (0.36, 0.48, -0.1), (0.2, 0.4, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    outer = [(-0.545, 0.16, 0.05), (-0.62, 0.10, 0.04), (-0.62, 0.10, 0.04), (-0.58, -0.06, 0.04), (-0.67, -0.16, 0.02), (-0.67, -0.16, 0.02),
             (-0.575, -0.34, 0.02), (-0.62, -0.50, 0.0), (-0.62, -0.50, 0.0), (-0.47, -0.60, 0.02), (-0.43, -0.78, 0.0), (-0.43, -0.78, 0.0),
             (-0.24, -0.80, 0.02), (-0.10, -0.96, 0.0), (-0.10, -0.96, 0.0), (0.06, -0.85, 0.02), (0.26, -0.94, 0.0), (0.26, -0.94, 0.0),
             (0.30, -0.79, 0.02), (0.50, -0.76, 0.0), (0.50, -0.76, 0.0), (0.49, -0.60, 0.02), (0.66, -0.50, 0.0), (0.66, -0.50, 0.0), (0.575, -0.34, 0.02),
             (0.68, -0.14, 0.02), (0.68, -0.14, 0.02), (0.58, -0.05, 0.04), (0.61, 0.12, 0.04), (0.61, 0.12, 0.04), (0.54, 0.14, 0.05)]
    line = [(0.47, 0.1, 0.12), (0.45, -0.18, 0.18), (0.3, -0.36), (0.0, -0.42), (-0.3, -0.36), (-0.45, -0.18, 0.18), (-0.47, 0.1, 0.12)]
    k.mass(k.front, outer + line, casts=True)
    for x, tip, y, w in ((-0.38, -0.46, 0.06, 0.17), (0.40, 0.49, 0.08, 0.16), (-0.24, -0.33, -0.02, 0.17), (0.28, 0.36, -0.03, 0.17), (0.13, 0.22, -0.06, 0.17),
                         (-0.10, -0.16, 0.0, 0.18), (0.02, 0.02, -0.08, 0.15)):
        k.lock(k.front, [(x * 0.75, -0.52), (x, -0.3), (tip * 1.02, -0.14), (tip - 0.02, y)], w)
    k.shine(k.front)
    k.strands(k.front, [[(x * 0.4, -0.80, 0.1), (x * 0.8, -0.62), (x, -0.46)] for x in (-0.36, -0.2, -0.05, 0.12, 0.28, 0.4)], 0.35)


STYLES: dict[str, Callable[[Kit], None]] = {
    "messy": messy,
}


def dress(a: Anatomy) -> Kit:
    """Plans the character's hair."""
    kit = Kit(a)
    STYLES.get(str(a.traits["hair"]), messy)(kit)
    return kit
