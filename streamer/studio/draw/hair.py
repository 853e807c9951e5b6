"""Hair: a kit of masses, locks, strands and shine, and one function a style, in STYLES.

A style appends to four layers: `back` (behind the body), `behind` (over the clothes, behind the face), `front` (over the
face) and `top` (over everything of the head).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.palette import Color, alpha, mix
from streamer.studio.draw.sketch import COVER, Linear, Points, Radial, Skin, Stroke, points3, ramp

LINE = 0.0125
Profile = Sequence[float]
# A lock's width from root to tip, as shares of its greatest.
LOCK: Profile = (0.36, 0.84, 1.0, 0.86, 0.52, 0.0)
TAIL: Profile = (0.30, 0.78, 1.0, 0.98, 0.74, 0.0)
WISP: Profile = (1.0, 0.9, 0.72, 0.5, 0.27, 0.0)
SPIKE: Profile = (1.0, 1.0, 0.9, 0.68, 0.4, 0.0)
PANEL: Profile = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


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
        self.height, self.side = 0.85, 0.575  # of the silhouette at the crown and beside the eyes, for what sits on it
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
        # Open at the root, so that a lock grows out of what it lies on without a line.
        closed = profile[-1] != 0.0
        layer.append(Stroke([ribbon(spine, width, profile)], self.fill(shade), self.h.line, LINE, closed, skin, label, casts))
        if lit:
            layer.append(Stroke([ribbon(spine, width * 0.9, profile, left=-0.25)], alpha(self.h.shadow, 0.6), skin=skin))

    def strands(self, layer: list[Stroke], paths: list[Points], strength: float = 0.55, width: float = 0.008, skin: Skin | None = None) -> None:
        """Thin lines that show how the hair runs."""
        layer.append(Stroke(paths, None, alpha(self.h.line, strength), width, False, skin or flowing()))

    def shine(self, layer: list[Stroke], y: float = -0.46, width: float = 0.40, thick: float = 0.06, pieces: int = 7, strength: float = 0.6) -> None:
        """The band of light about the crown: slender flakes along the strands, touching, of uneven length."""
        n = 2 * pieces + 3
        edges = np.linspace(-width, width, n + 1) * (1 + 0.03 * np.sin(np.arange(n + 1) * 2.4))
        paths = []
        for k, (u, v) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            if k % 5 == 3:
                continue
            m = (u + v) / 2
            size = thick * (1.15 - 0.75 * (abs(m) / width) ** 2) * (0.72 + 0.36 * np.sin(k * 2.1) ** 2)
            fan = 0.45 * m  # strands run outwards as they fall

            def at(x: float, dy: float, fan: float = fan) -> tuple[float, float, float]:
                x = x + fan * dy
                return (x, y + 0.17 * (x / 0.5) ** 2 + dy, 0.40 * max(0.0, 1 - (x / 0.62) ** 2) + 0.06)

            top, bottom = at(m, -0.85 * size), at(m, size)
            paths.append([top, top, at(v, -0.05 * size), bottom, bottom, at(u, 0.05 * size)])
        layer.append(Stroke(paths, alpha(self.h.shine, strength), skin=flowing()))

    def crown(self, volume: float = 0.0, hairline: Points | None = None, side_y: float = 0.05, casts: bool = True) -> None:
        """The cap over the skull, from temple to temple, down to `hairline` (from the viewer's right to the left)."""
        v = volume
        outer = [(-0.545 - v * 0.6, side_y, 0.05), (-0.565 - v, -0.16, 0.04), (-0.51 - v, -0.48, 0.02), (-0.32 - v * 0.6, -0.75 - v * 0.7, 0.02),
                 (0.0, -0.85 - v, 0.03), (0.32 + v * 0.6, -0.75 - v * 0.7, 0.02), (0.51 + v, -0.48, 0.02), (0.565 + v, -0.16, 0.04),
                 (0.545 + v * 0.6, side_y, 0.05)]
        line = hairline or [(0.46, side_y, 0.12), (0.45, -0.18, 0.18), (0.34, -0.36), (0.14, -0.44), (-0.14, -0.44),
                            (-0.34, -0.36), (-0.45, -0.18, 0.18), (-0.46, side_y, 0.12)]
        self.mass(self.front, [*outer, outer[-1], *line, line[-1]], casts=casts)

    def pair(self, layer: list[Stroke], spine: Points, width: float, **more: Any) -> None:
        """The same lock on both sides."""
        self.lock(layer, spine, width, **more)
        self.lock(layer, [(-p[0], *p[1:]) for p in spine], width, **more)

    def fringe(self, tips: Sequence[tuple[float, float, float]], part: float = 0.0, root_y: float = -0.78,
               spread: float = 0.22, bow: float = 0.04, profile: Profile = LOCK) -> None:
        """Locks over the forehead from (tip x, tip y, width), painted in order; they fan out from the parting `part`."""
        for x, y, width in tips:
            root = part + (x - part) * spread
            middle = part + (x - part) * (0.55 + 0.5 * spread)
            away = bow if x >= part else -bow
            spine = [(root, root_y, 0.2), (middle + away, root_y * 0.62 + y * 0.38), (x + away * 0.8, root_y * 0.25 + y * 0.75 - 0.03),
                     (x, y)]
            self.lock(self.front, spine, width, profile)

    def braid(self, layer: list[Stroke], spine: Points, width: float, links: int, skin: Skin | None = None, label: str | None = None) -> None:
        """Plaited hair: overlapping leaves, left and right by turns, and a tuft below its tie."""
        skin = skin or flowing()
        p = resample(spine, links + 1)
        for k in range(links):
            a, b = p[k], p[min(k + 1, links)]
            d = (b - a)[:2] / max(1e-6, float(np.hypot(*(b - a)[:2])))
            n = np.array([-d[1], d[0]])
            w = width * (1 - 0.35 * k / links)
            length = float(np.hypot(*(b - a)[:2])) * 1.75
            for side in (1, -1):
                o = a[:2] + d * length * (0.0 if side > 0 else 0.28)
                leaf = [o + n * side * w * 0.02, o + n * side * w * 0.42 - d * length * 0.02, o + n * side * w * 0.56 + d * length * 0.30,
                        o + n * side * w * 0.30 + d * length * 0.70, o - n * side * w * 0.10 + d * length * 0.86,
                        o - n * side * w * 0.06 + d * length * 0.45]
                pts = [(float(q[0]), float(q[1]), float(a[2])) for q in leaf]
                layer.append(Stroke([pts], self.fill(0.0), self.h.line, LINE * 0.9, True, skin, label))
                inner = [(float(q[0]), float(q[1]), float(a[2])) for q in (
                    o + n * side * w * 0.10 + d * length * 0.08, o + n * side * w * 0.30 + d * length * 0.18, o + n * side * w * 0.16 + d * length * 0.55)]
                layer.append(Stroke([inner], None, alpha(self.h.shine, 0.55), width * 0.05, False, skin))
        end, before = p[-1], p[-2]
        d3 = (end - before) / max(1e-6, float(np.hypot(*(end - before)[:2])))
        self.lock(layer, [tuple(end), tuple(end + d3 * width * 0.7), tuple(end + d3 * width * 1.5)], width * 0.62, TAIL, skin=skin, casts=False)
        self.tie(layer, end, width * 0.36, skin)

    def tie(self, layer: list[Stroke], at: Sequence[float], size: float, skin: Skin | None = None, color: Color | None = None) -> None:
        """A hair tie."""
        k = self.a.accent
        t = np.arange(8) * np.pi / 4
        pts = np.c_[at[0] + size * np.cos(t), at[1] + size * 0.62 * np.sin(t), np.full(8, at[2] + 0.01)]
        layer.append(Stroke([pts], color or k.base, k.line, LINE, True, skin or flowing(), COVER if layer in (self.front, self.top) else None))

    def ringlet(self, layer: list[Stroke], x: float, y0: float, y1: float, width: float, z: float = 0.0, turns: int = 5) -> None:
        """A drill curl: a tapering stack of tilted turns."""
        skin = flowing(0.5, 1.4, 0.55, 1.1)
        step = (y1 - y0) / turns
        for k in reversed(range(turns)):
            y = y0 + k * step
            w = width * (1.0 - 0.62 * (k / turns) ** 1.3)
            turn = [(x - w * 0.52, y + step * 0.02, z), (x - w * 0.46, y + step * 0.55, z), (x - w * 0.05, y + step * 1.28, z),
                    (x + w * 0.40, y + step * 1.02, z), (x + w * 0.53, y + step * 0.52, z), (x + w * 0.34, y - step * 0.04, z),
                    (x - w * 0.1, y - step * 0.14, z)]
            layer.append(Stroke([turn], self.fill(0.12), self.h.line, LINE, True, skin))
            dark = [(x - w * 0.10, y + step * 1.22, z), (x + w * 0.40, y + step * 0.98, z), (x + w * 0.50, y + step * 0.5, z),
                    (x + w * 0.30, y + step * 0.72, z), (x - w * 0.05, y + step * 0.96, z)]
            layer.append(Stroke([dark], alpha(self.h.shadow, 0.75), skin=skin))
            glint = [(x - w * 0.34, y + step * 0.30, z), (x - w * 0.12, y + step * 0.58, z), (x + w * 0.16, y + step * 0.58, z)]
            layer.append(Stroke([glint], None, alpha(self.h.shine, 0.7), width * 0.055, False, skin))

    def curls(self, layer: list[Stroke], centres: Sequence[tuple[float, float, float]], z: float = 0.0, shade: float = 0.0,
              skin: Skin | None = None, casts: bool = False) -> None:
        """Round curls (x, y, radius), each with its spiral, painted in order."""
        skin = skin or flowing()
        label = COVER if layer in (self.front, self.top) else None
        for k, (x, y, r) in enumerate(centres):
            t = np.arange(9) * 2 * np.pi / 9 + k
            wob = 1 + 0.10 * np.cos(3 * t + k)
            pts = np.c_[x + r * wob * np.cos(t), y + r * wob * np.sin(t), np.full(9, z)]
            layer.append(Stroke([pts], self.fill(shade), self.h.line, LINE, True, skin, label, casts))
            hand = 1 if x >= 0 else -1
            v = np.linspace(-0.3, 2.2, 6)
            inner = v[::-1]
            dark = np.r_[np.c_[x + r * 0.97 * np.cos(v), y + r * 0.97 * np.sin(v)], np.c_[x - 0.22 * r + r * 0.86 * np.cos(inner), y - 0.24 * r + r * 0.86 * np.sin(inner)]]
            layer.append(Stroke([np.c_[dark, np.full(12, z)]], alpha(self.h.shadow, 0.65), skin=skin))
            u = np.linspace(0.4, 3.0, 6)
            spiral = np.c_[x + hand * r * (0.62 - 0.10 * u) * np.cos(u - 0.4), y + r * (0.62 - 0.10 * u) * np.sin(u - 0.4), np.full(6, z)]
            layer.append(Stroke([spiral], None, alpha(self.h.line, 0.42), 0.009, False, skin))
            v = np.linspace(3.5, 5.0, 4)
            gleam = np.c_[x + 0.68 * r * np.cos(v), y + 0.68 * r * np.sin(v), np.full(4, z)]
            layer.append(Stroke([gleam], None, alpha(self.h.shine, 0.6), r * 0.16, False, skin))

    def cloud(self, x: float, y: float, rx: float, ry: float, bumps: int, depth: float = 0.06, z: float = -0.05, start: float = 0.0) -> np.ndarray:
        """[m,3] a round contour of many small bumps: coils."""
        points = []
        for k in range(bumps):
            for f, out in ((0.0, -0.4), (0.3, 1.0), (0.7, 0.9)):
                t = start + 2 * np.pi * (k + f) / bumps
                r = 1 + depth * out * (0.75 + 0.5 * self.rng.random())
                points.append((x + rx * r * np.cos(t), y + ry * r * np.sin(t), z))
        return np.array(points)

    def coils(self, layer: list[Stroke], x: float, y: float, rx: float, ry: float, count: int, hole: Callable[[float, float], bool] | None = None,
              z: float | None = None) -> None:
        """The texture of coily hair: short arcs, dark below and light above."""
        dark, light = [], []
        for _ in range(count):
            t, r = self.rng.uniform(0, 2 * np.pi), np.sqrt(self.rng.uniform(0.02, 0.86))
            cx, cy = x + rx * r * np.cos(t), y + ry * r * np.sin(t)
            if hole is not None and hole(cx, cy):
                continue
            s = self.rng.uniform(0.028, 0.045)
            zz = z if z is not None else 0.35 * max(0.0, 1 - r**2)
            turn = self.rng.uniform(-0.6, 0.6)
            arc = [(cx + s * np.cos(v + turn), cy + s * np.sin(v + turn), zz) for v in (0.3, 1.2, 2.1, 3.0)]
            (dark if self.rng.random() < 0.65 or cy > y else light).append(arc)
        for paths, color in ((dark, alpha(self.h.line, 0.55)), (light, alpha(self.h.shine, 0.5))):
            if paths:
                layer.append(Stroke(paths, None, color, 0.011, False, flowing()))

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


def hime_cut(k: Kit) -> None:
    """Long, straight, cut with a ruler: fringe, cheeks, ends."""
    k.length = 1.5
    edge = [(0.62, 0.9, -0.2), (0.645, 1.35, -0.2), (0.66, 1.58, -0.2), (0.66, 1.58, -0.2)]
    right = [(0.0, -0.86, -0.12), (0.36, -0.77, -0.12), (0.58, -0.42, -0.12), (0.61, 0.1, -0.15), *edge]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5, flowing(0.5, 1.3, 0.9, 0.7))
    k.strands(k.back, [[(x * 0.95, 0.3, -0.15), (x, 0.9, -0.2), (x * 1.03, 1.5, -0.2)] for x in (-0.54, -0.4, -0.3, 0.3, 0.4, 0.54)], 0.5)
    for e in (-1, 1):
        k.lock(k.behind, [(e * 0.50, 0.2, 0.0), (e * 0.515, 0.7, 0.02), (e * 0.525, 1.05, 0.02), (e * 0.53, 1.42, 0.02)], 0.20, PANEL, shade=0.1)
        k.strands(k.behind, [[(e * 0.47, 0.4, 0.0), (e * 0.48, 0.9, 0.02), (e * 0.49, 1.4, 0.02)], [(e * 0.55, 0.4, 0.0), (e * 0.565, 1.4, 0.02)]], 0.4)
    k.crown(0.01)
    for e in (-1, 1):
        panel = [(e * 0.33, -0.45, 0.26), (e * 0.545, -0.36, 0.10), (e * 0.575, 0.05, 0.06), (e * 0.575, 0.40, 0.06), (e * 0.575, 0.40, 0.06),
                 (e * 0.40, 0.435, 0.18), (e * 0.40, 0.435, 0.18), (e * 0.385, 0.1, 0.22), (e * 0.375, -0.1, 0.25)]
        k.mass(k.front, panel, casts=True)
        k.strands(k.front, [[(e * x, -0.3, 0.18), (e * (x + 0.02), 0.05, 0.15), (e * (x + 0.02), 0.38, 0.14)] for x in (0.45, 0.51)], 0.4)
    edges = np.linspace(-0.415, 0.415, 6)
    for u, v in zip(edges[:-1], edges[1:], strict=True):
        m = 0.012 * (abs(u + v) > 0.5)
        k.front.append(Stroke([[(u * 0.5, -0.7), (u * 0.9, -0.4), (u + 0.004, -0.02 + m), (u + 0.004, -0.02 + m), ((u + v) / 2, 0.005 + m),
                                (v - 0.004, -0.02 + m), (v - 0.004, -0.02 + m), (v * 0.9, -0.4), (v * 0.5, -0.7)]], k.fill(), k.h.line, LINE, False,
                              flowing(), COVER, True))
    k.strands(k.front, [[(x * 0.8, -0.5), (x, -0.2), (x, -0.03)] for x in (-0.3, -0.2, -0.03, 0.1, 0.28)], 0.3)
    k.shine(k.front, -0.47, 0.44, 0.075, 9)


def long_waves(k: Kit) -> None:
    """Deep waves over the shoulders, parted at the side."""
    k.height, k.side = 0.895, 0.61
    k.length = 1.35
    right = [(0.05, -0.92, -0.12), (0.40, -0.82, -0.12), (0.63, -0.48, -0.12), (0.64, -0.1, -0.15), (0.74, 0.22, -0.18), (0.66, 0.5, -0.2),
             (0.80, 0.82, -0.2), (0.70, 1.08, -0.2), (0.80, 1.32, -0.2), (0.62, 1.50, -0.2), (0.62, 1.50, -0.2), (0.4, 1.36, -0.2), (0.2, 1.42, -0.2)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.45, flowing(0.5, 1.3, 0.85, 0.9))
    for e in (-1, 1):
        wave = [(e * 0.50, 0.0, 0.05), (e * 0.56, 0.3, 0.05), (e * 0.48, 0.62, 0.05), (e * 0.60, 0.92, 0.05), (e * 0.48, 1.2, 0.05), (e * 0.54, 1.44, 0.05)]
        k.lock(k.behind, wave, 0.30, (0.6, 0.9, 1.0, 1.0, 0.8, 0.5, 0.0))
        inner = [(e * 0.46, 0.1, 0.08), (e * 0.46, 0.42, 0.08), (e * 0.38, 0.72, 0.08), (e * 0.46, 0.98, 0.08), (e * 0.38, 1.18, 0.08)]
        k.lock(k.behind, inner, 0.17, (0.6, 0.9, 1.0, 0.9, 0.6, 0.0))
    hairline = [(0.47, 0.02, 0.12), (0.46, -0.2, 0.18), (0.36, -0.42), (0.22, -0.56), (0.16, -0.70), (0.16, -0.70), (0.0, -0.52), (-0.25, -0.36),
                (-0.45, -0.14, 0.18), (-0.47, 0.02, 0.12)]
    k.crown(0.045, hairline)
    k.lock(k.front, [(0.16, -0.78), (-0.12, -0.58), (-0.38, -0.28), (-0.50, 0.06, 0.16), (-0.46, 0.34, 0.14), (-0.53, 0.56, 0.1)], 0.30,
           (0.5, 1.0, 0.95, 0.72, 0.5, 0.3, 0.0))
    k.lock(k.front, [(0.14, -0.74), (-0.06, -0.50), (-0.24, -0.26), (-0.37, -0.05), (-0.43, 0.08)], 0.20)
    k.lock(k.front, [(0.17, -0.76), (0.33, -0.56), (0.46, -0.24, 0.2), (0.51, 0.08, 0.12), (0.48, 0.32, 0.1), (0.55, 0.50, 0.1)], 0.23,
           (0.5, 1.0, 0.9, 0.72, 0.5, 0.3, 0.0))
    k.strands(k.front, [[(0.12, -0.80, 0.2), (-0.2, -0.70, 0.15), (-0.46, -0.38, 0.1)], [(0.14, -0.82, 0.15), (-0.2, -0.80, 0.1), (-0.5, -0.5, 0.05)],
                        [(0.2, -0.80, 0.15), (0.40, -0.60, 0.1), (0.53, -0.25, 0.06)]], 0.5)
    k.shine(k.front, -0.60, 0.44, 0.06, 7)


def long_straight(k: Kit) -> None:
    """Centre parting, two smooth curtains."""
    k.length = 1.5
    k.long_back(0.06, 1.6, 0.5)
    for e in (-1, 1):
        k.lock(k.behind, [(e * 0.50, 0.0, 0.05), (e * 0.54, 0.45, 0.05), (e * 0.50, 0.95, 0.06), (e * 0.47, 1.60, 0.06)], 0.26, (0.8, 1.0, 1.0, 0.9, 0.6, 0.0))
        k.strands(k.behind, [[(e * 0.50, 0.3, 0.05), (e * 0.51, 0.8, 0.05), (e * 0.47, 1.4, 0.05)]], 0.45)
    hairline = [(0.48, 0.04, 0.12), (0.465, -0.18, 0.18), (0.34, -0.42), (0.12, -0.62), (0.0, -0.74), (0.0, -0.74), (-0.12, -0.62), (-0.34, -0.42),
                (-0.465, -0.18, 0.18), (-0.48, 0.04, 0.12)]
    k.crown(0.0, hairline)
    for e in (-1, 1):
        k.lock(k.front, [(e * 0.01, -0.80), (e * 0.22, -0.58), (e * 0.43, -0.22), (e * 0.51, 0.18, 0.12), (e * 0.505, 0.52, 0.1), (e * 0.49, 0.80, 0.1)], 0.20,
               (0.4, 1.0, 1.0, 0.85, 0.6, 0.35, 0.0))
        k.lock(k.front, [(e * 0.01, -0.76), (e * 0.16, -0.50), (e * 0.31, -0.20), (e * 0.40, 0.08)], 0.13, WISP)
        k.strands(k.front, [[(e * 0.02, -0.84, 0.15), (e * 0.3, -0.72, 0.12), (e * 0.53, -0.25, 0.08)], [(e * 0.02, -0.82, 0.2), (e * 0.26, -0.62, 0.2), (e * 0.48, -0.2, 0.14)]], 0.4)
    k.shine(k.front, -0.64, 0.42, 0.055, 8)


def wavy_bob(k: Kit) -> None:
    """To the chin, tousled, a wispy fringe to one side."""
    k.height, k.side = 0.895, 0.61
    k.length = 0.6
    right = [(0.0, -0.88, -0.1), (0.42, -0.78, -0.1), (0.65, -0.42, -0.1), (0.69, -0.08, -0.1), (0.75, 0.16, -0.1), (0.70, 0.36, -0.1), (0.75, 0.54, -0.1),
             (0.66, 0.69, -0.1), (0.66, 0.69, -0.1), (0.60, 0.60, -0.1), (0.46, 0.73, -0.1), (0.46, 0.73, -0.1), (0.40, 0.62, -0.12), (0.2, 0.66, -0.15)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.42, flowing(0.6, 1.6, 0.4, 0.9))
    k.crown(0.045)
    for e, lift in ((-1, 0.0), (1, 0.02)):
        k.lock(k.front, [(e * 0.36, -0.62), (e * 0.55, -0.3, 0.12), (e * 0.61, 0.05, 0.08), (e * 0.55, 0.32, 0.08), (e * 0.60, 0.50, 0.06), (e * 0.47, 0.66 + lift, 0.08)], 0.27,
               (0.5, 1.0, 1.0, 0.85, 0.55, 0.0))
        k.lock(k.front, [(e * 0.40, -0.50), (e * 0.49, -0.1, 0.16), (e * 0.47, 0.18, 0.14), (e * 0.42, 0.46, 0.14)], 0.14, WISP)
    k.fringe([(0.40, 0.02, 0.17), (0.30, -0.04, 0.17), (-0.42, 0.10, 0.18), (-0.33, 0.05, 0.19), (0.16, -0.09, 0.17), (-0.20, 0.03, 0.19), (-0.04, 0.0, 0.18)],
             0.16, -0.78, 0.24, -0.05)
    k.strands(k.front, [[(0.12, -0.84, 0.15), (-0.2, -0.74, 0.14), (-0.48, -0.4, 0.1)], [(0.16, -0.84, 0.12), (0.38, -0.66, 0.1), (0.55, -0.3, 0.06)]], 0.5)
    k.shine(k.front, -0.50, 0.46, 0.07, 7)


def sleek_bob(k: Kit) -> None:
    """Glossy, longer in front, a full round fringe."""
    k.height, k.side = 0.885, 0.6
    k.length = 0.7
    right = [(0.0, -0.88, -0.1), (0.40, -0.78, -0.1), (0.62, -0.42, -0.1), (0.655, 0.0, -0.1), (0.66, 0.3, -0.1), (0.60, 0.46, -0.1), (0.60, 0.46, -0.1),
             (0.36, 0.40, -0.12), (0.2, 0.38, -0.15)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5, flowing(0.6, 1.6, 0.3, 0.6))
    k.crown(0.035)
    for e in (-1, 1):
        side = [(e * 0.28, -0.60, 0.26), (e * 0.54, -0.40, 0.10), (e * 0.625, 0.0, 0.05), (e * 0.65, 0.34, 0.05), (e * 0.53, 0.69, 0.1), (e * 0.53, 0.69, 0.1),
                (e * 0.47, 0.46, 0.14), (e * 0.455, 0.2, 0.16), (e * 0.41, -0.06, 0.22)]
        k.mass(k.front, side, casts=True)
        k.strands(k.front, [[(e * 0.48, -0.2, 0.16), (e * 0.55, 0.15, 0.12), (e * 0.545, 0.55, 0.1)], [(e * 0.54, -0.2, 0.12), (e * 0.60, 0.15, 0.08), (e * 0.59, 0.45, 0.08)]], 0.4)
    fringe = [(-0.24, -0.74), (-0.40, -0.36), (-0.44, -0.02, 0.2), (-0.44, -0.02, 0.2), (-0.3, -0.055), (-0.12, -0.075), (0.04, -0.075), (0.22, -0.06), (0.44, -0.02, 0.2),
              (0.44, -0.02, 0.2), (0.40, -0.36), (0.24, -0.74)]
    k.front.append(Stroke([fringe], k.fill(), k.h.line, LINE, False, flowing(), COVER, True))
    k.strands(k.front, [[(x * 0.4, -0.74), (x * 0.85, -0.4), (x, -0.09)] for x in (-0.34, -0.25, -0.14, -0.03, 0.1, 0.2, 0.31)], 0.42)
    notch = [[(x - 0.02, -0.05), (x, -0.16), (x, -0.16), (x + 0.006, -0.05)] for x in (-0.2, 0.02, 0.26)]
    k.front.append(Stroke(notch, alpha(k.h.deep, 0.7), skin=flowing()))
    k.shine(k.front, -0.44, 0.50, 0.10, 5, 0.55)


def pixie(k: Kit) -> None:
    """Cropped, feathered forward, ears free."""
    k.length = 0.2
    right = [(0.0, -0.84, -0.1), (0.42, -0.72, -0.1), (0.60, -0.34, -0.1), (0.60, 0.0, -0.1), (0.55, 0.22, -0.1), (0.47, 0.34, -0.1), (0.47, 0.34, -0.1),
             (0.36, 0.34, -0.12), (0.30, 0.46, -0.15), (0.30, 0.46, -0.15), (0.15, 0.4, -0.15)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5, flowing())
    k.crown(0.02, [(0.485, 0.02, 0.1), (0.47, -0.2, 0.18), (0.34, -0.40), (0.1, -0.5), (-0.2, -0.46), (-0.4, -0.3), (-0.475, -0.1, 0.15), (-0.485, 0.02, 0.1)], 0.02)
    k.lock(k.front, [(0.42, -0.5), (0.50, -0.22, 0.14), (0.515, 0.0, 0.1), (0.49, 0.17, 0.1)], 0.12, WISP)
    k.lock(k.front, [(-0.42, -0.5), (-0.51, -0.2, 0.14), (-0.53, 0.04, 0.1), (-0.48, 0.24, 0.1)], 0.15, WISP)
    for tip, y, w, root in ((0.46, -0.10, 0.15, 0.34), (0.34, -0.20, 0.16, 0.33), (-0.49, 0.07, 0.20, 0.28), (0.20, -0.24, 0.15, 0.34), (-0.38, 0.06, 0.22, 0.30),
                            (-0.22, -0.02, 0.21, 0.32), (-0.03, -0.12, 0.18, 0.34)):
        k.lock(k.front, [(root, -0.70), (root * 0.55 + tip * 0.45, -0.53), (tip + 0.10, -0.26), (tip, y)], w)
    k.lock(k.front, [(0.1, -0.80, 0.1), (0.26, -0.90, 0.05), (0.44, -0.86, 0.0), (0.56, -0.72, 0.0)], 0.13, WISP, casts=False)
    k.lock(k.front, [(-0.1, -0.82, 0.1), (-0.30, -0.84, 0.05), (-0.50, -0.70, 0.0), (-0.62, -0.48, 0.0)], 0.14, WISP, casts=False)
    k.shine(k.front, -0.52, 0.42, 0.055, 6)


def twin_tails(k: Kit) -> None:
    """Two high, swinging tails."""
    k.length = 1.45
    right = [(0.0, -0.86, -0.1), (0.40, -0.76, -0.1), (0.575, -0.38, -0.1), (0.57, 0.0, -0.1), (0.50, 0.25, -0.1), (0.3, 0.36, -0.1)]
    swing = flowing(0.9, 2.2, 0.5, 1.7)
    for e in (-1, 1):
        tail = [(e * 0.52, -0.50, -0.1), (e * 0.84, -0.44, -0.12), (e * 0.98, 0.05, -0.12), (e * 0.90, 0.62, -0.12), (e * 0.98, 1.08, -0.12), (e * 0.86, 1.42, -0.12)]
        k.lock(k.back, tail, 0.42, (0.35, 0.85, 1.0, 0.95, 0.75, 0.45, 0.0), 0.12, swing)
        k.lock(k.back, [(e * 0.56, -0.46, -0.1), (e * 0.76, -0.2, -0.1), (e * 0.79, 0.3, -0.1), (e * 0.74, 0.72, -0.1), (e * 0.78, 1.05, -0.1)], 0.22, TAIL, 0.05, swing)
        k.strands(k.back, [[(e * 0.62, -0.46, -0.1), (e * 0.88, -0.2, -0.1), (e * 0.96, 0.3, -0.1), (e * 0.90, 0.8, -0.1)]], 0.5, skin=swing)
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    k.crown(0.015)
    for e in (-1, 1):
        k.lock(k.front, [(e * 0.38, -0.55), (e * 0.52, -0.2, 0.14), (e * 0.545, 0.15, 0.1), (e * 0.50, 0.42, 0.1), (e * 0.53, 0.62, 0.1)], 0.15, WISP)
        k.tie(k.front, (e * 0.53, -0.53, -0.02), 0.085)
    k.fringe([(0.42, 0.02, 0.19), (-0.42, 0.02, 0.19), (0.29, -0.02, 0.19), (-0.29, -0.02, 0.19), (0.14, -0.06, 0.18), (-0.15, -0.05, 0.18), (0.0, -0.01, 0.17)], 0.0, -0.78, 0.24)
    k.strands(k.front, [[(0.0, -0.85, 0.1), (0.0, -0.74, 0.2), (0.0, -0.64, 0.25)]]
              + [[(e * 0.05, -0.80, 0.1), (e * 0.28, -0.72, 0.1), (e * 0.50, -0.53, 0.02)] for e in (-1, 1)]
              + [[(e * 0.2, -0.80, 0.08), (e * 0.38, -0.70, 0.06), (e * 0.50, -0.55, 0.02)] for e in (-1, 1)], 0.5)
    k.shine(k.front, -0.44, 0.42, 0.06, 7)


def high_ponytail(k: Kit) -> None:
    """Swept up tight, a tail that swings behind one shoulder."""
    k.height, k.side = 0.83, 0.55
    k.length = 1.2
    swing = flowing(0.9, 2.2, 0.4, 1.6)
    k.lock(k.back, [(0.08, -0.86, -0.2), (0.48, -0.97, -0.2), (0.82, -0.62, -0.2), (0.82, 0.0, -0.2), (0.90, 0.55, -0.2), (0.72, 1.05, -0.2)], 0.44,
           (0.4, 0.85, 1.0, 1.0, 0.8, 0.5, 0.0), 0.15, swing)
    k.lock(k.back, [(0.10, -0.88, -0.18), (0.44, -0.92, -0.18), (0.68, -0.55, -0.18), (0.68, 0.0, -0.18), (0.72, 0.5, -0.18)], 0.20, TAIL, 0.05, swing)
    k.strands(k.back, [[(0.2, -0.93, -0.18), (0.62, -0.86, -0.18), (0.82, -0.4, -0.18), (0.83, 0.2, -0.18)]], 0.5, skin=swing)
    right = [(0.0, -0.82, -0.1), (0.40, -0.70, -0.1), (0.545, -0.35, -0.1), (0.53, 0.0, -0.1), (0.40, 0.3, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    line = [(0.49, 0.0, 0.1), (0.46, -0.22, 0.18), (0.36, -0.40), (0.16, -0.53), (-0.10, -0.54), (-0.34, -0.42), (-0.46, -0.22, 0.18), (-0.49, 0.0, 0.1)]
    k.crown(-0.02, line, 0.0)
    k.top.append(Stroke([[(0.0, -0.78, 0.0), (0.06, -0.92, -0.02), (0.18, -0.95, -0.02), (0.22, -0.84, 0.0), (0.12, -0.77, 0.02)]], k.a.accent.base, k.a.accent.line, LINE, True, flowing(), COVER))
    k.strands(k.front, [[(x, y), (x * 0.75, -0.62), (x * 0.2 + 0.08, -0.84, 0.1)] for x, y in ((-0.44, -0.22), (-0.34, -0.40), (-0.18, -0.5), (0.0, -0.53), (0.2, -0.5), (0.36, -0.38), (0.45, -0.2))], 0.5)
    k.lock(k.front, [(-0.05, -0.56), (-0.30, -0.40), (-0.46, -0.12, 0.18), (-0.47, 0.15, 0.15), (-0.51, 0.36, 0.12)], 0.14, WISP)
    k.lock(k.front, [(0.02, -0.57), (0.26, -0.42), (0.43, -0.16, 0.18), (0.47, 0.06, 0.15), (0.50, 0.24, 0.12)], 0.12, WISP)
    k.lock(k.front, [(0.0, -0.56), (-0.14, -0.40), (-0.25, -0.22), (-0.27, -0.06)], 0.10, WISP)
    k.shine(k.front, -0.62, 0.36, 0.05, 5)


def side_braid(k: Kit) -> None:
    """Loosely gathered into a braid over one shoulder."""
    k.length = 1.5
    right = [(0.0, -0.86, -0.1), (0.42, -0.76, -0.1), (0.62, -0.38, -0.1), (0.63, 0.05, -0.1), (0.60, 0.4, -0.1), (0.56, 0.72, -0.12), (0.3, 0.80, -0.12), (0.0, 0.7, -0.12)]
    left = [(-0.3, 0.62, -0.12), (-0.52, 0.45, -0.1), (-0.60, 0.05, -0.1), (-0.61, -0.38, -0.1), (-0.42, -0.76, -0.1)]
    k.mass(k.back, right + left, 0.5, flowing(0.6, 1.3, 0.6, 0.5))
    k.crown(0.025, [(0.48, 0.02, 0.12), (0.46, -0.2, 0.18), (0.30, -0.44), (0.0, -0.60), (-0.17, -0.72), (-0.17, -0.72), (-0.26, -0.52), (-0.42, -0.26), (-0.475, 0.02, 0.12)])
    k.lock(k.behind, [(0.50, 0.15, 0.02), (0.56, 0.42, 0.04), (0.50, 0.68, 0.08)], 0.26, (1.0, 1.0, 0.95, 0.9, 0.85, 0.8))
    k.braid(k.behind, [(0.50, 0.62, 0.10), (0.47, 0.88, 0.12), (0.38, 1.12, 0.14), (0.36, 1.36, 0.14)], 0.24, 6, flowing(0.45, 1.0, 0.9, 0.6))
    k.lock(k.front, [(-0.17, -0.78), (0.12, -0.58), (0.38, -0.28), (0.48, 0.05, 0.16), (0.475, 0.34, 0.14)], 0.26, (0.5, 1.0, 0.95, 0.75, 0.45, 0.0))
    k.lock(k.front, [(-0.16, -0.74), (0.06, -0.48), (0.22, -0.22), (0.34, -0.02)], 0.16)
    k.lock(k.front, [(-0.18, -0.76), (-0.33, -0.55), (-0.47, -0.2, 0.18), (-0.50, 0.14, 0.12), (-0.46, 0.44, 0.12)], 0.19, (0.5, 1.0, 0.9, 0.7, 0.4, 0.0))
    k.strands(k.front, [[(-0.14, -0.82, 0.15), (0.2, -0.72, 0.15), (0.48, -0.34, 0.1)], [(-0.15, -0.84, 0.1), (0.24, -0.80, 0.08), (0.54, -0.4, 0.05)], [(-0.2, -0.82, 0.1), (-0.42, -0.6, 0.1), (-0.54, -0.2, 0.06)]], 0.5)
    k.shine(k.front, -0.64, 0.42, 0.055, 7)


def twin_buns(k: Kit) -> None:
    """Two round buns, a parted fringe, loose wisps."""
    k.length = 0.5
    right = [(0.0, -0.84, -0.1), (0.40, -0.74, -0.1), (0.565, -0.36, -0.1), (0.55, 0.05, -0.1), (0.46, 0.32, -0.1), (0.2, 0.4, -0.1)]
    for e in (-1, 1):
        bun = ring3(e * 0.44, -0.84, 0.235, 0.215, -0.1)
        k.back.append(Stroke([bun], k.fill(0.05, -1.1), k.h.line, LINE))
        k.back.append(Stroke([[(e * 0.27, -0.86, -0.1), (e * 0.36, -1.0, -0.1), (e * 0.54, -0.98, -0.1), (e * 0.62, -0.82, -0.1), (e * 0.5, -0.72, -0.1), (e * 0.40, -0.78, -0.1), (e * 0.44, -0.88, -0.1)],
                              [(e * 0.32, -0.74, -0.1), (e * 0.34, -0.9, -0.1), (e * 0.46, -0.95, -0.1)]], None, alpha(k.h.line, 0.55), 0.010, False))
        k.back.append(Stroke([[(e * 0.44 - 0.13, -0.94, -0.1), (e * 0.44 - 0.04, -1.0, -0.1), (e * 0.44 + 0.07, -0.985, -0.1)]], None, alpha(k.h.shine, 0.7), 0.032, False))
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    k.crown(0.0, [(0.485, 0.02, 0.1), (0.46, -0.2, 0.18), (0.32, -0.42), (0.1, -0.62), (0.0, -0.72), (0.0, -0.72), (-0.1, -0.62), (-0.32, -0.42), (-0.46, -0.2, 0.18), (-0.485, 0.02, 0.1)])
    for e in (-1, 1):
        k.tie(k.front, (e * 0.405, -0.655, 0.0), 0.10)
        k.lock(k.front, [(e * 0.40, -0.5), (e * 0.51, -0.15, 0.14), (e * 0.52, 0.18, 0.1), (e * 0.46, 0.44, 0.1), (e * 0.50, 0.60, 0.1)], 0.12, WISP)
        k.lock(k.front, [(e * 0.02, -0.74), (e * 0.22, -0.52), (e * 0.38, -0.24), (e * 0.44, 0.02)], 0.19)
        k.lock(k.front, [(e * 0.02, -0.72), (e * 0.15, -0.48), (e * 0.25, -0.26), (e * 0.27, -0.04)], 0.17)
    k.lock(k.front, [(0.0, -0.72), (-0.05, -0.48), (-0.02, -0.28), (0.05, -0.10)], 0.13)
    k.strands(k.front, [[(e * 0.02, -0.80, 0.12), (e * 0.2, -0.77, 0.1), (e * 0.37, -0.68, 0.05)] for e in (-1, 1)] + [[(e * 0.52, -0.3, 0.08), (e * 0.48, -0.5, 0.08), (e * 0.42, -0.62, 0.04)] for e in (-1, 1)], 0.5)
    k.shine(k.front, -0.62, 0.38, 0.05, 6)


def drill_curls(k: Kit) -> None:
    """An heiress's ringlets."""
    k.height, k.side = 0.885, 0.6
    k.length = 1.2
    right = [(0.0, -0.88, -0.1), (0.42, -0.78, -0.1), (0.61, -0.40, -0.1), (0.62, 0.05, -0.1), (0.56, 0.4, -0.1), (0.3, 0.5, -0.1)]
    for e in (-1, 1):
        k.ringlet(k.back, e * 0.80, 0.02, 0.95, 0.34, -0.15, 5)
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    for e in (-1, 1):
        k.ringlet(k.behind, e * 0.60, 0.02, 1.28, 0.36, 0.02, 6)
    k.crown(0.035)
    k.pair(k.front, [(0.34, -0.64), (0.53, -0.36, 0.12), (0.60, 0.0, 0.06), (0.575, 0.2, 0.06)], 0.26, profile=(0.6, 1.0, 1.0, 0.9, 0.7, 0.0))
    k.fringe([(0.44, 0.10, 0.17), (-0.44, 0.10, 0.17), (0.33, 0.0, 0.19), (-0.33, 0.0, 0.19), (-0.19, -0.05, 0.19), (0.20, -0.05, 0.19), (0.03, -0.03, 0.18)], 0.06, -0.78, 0.24, 0.05)
    for e in (-1, 1):
        k.lock(k.front, [(e * 0.40, -0.4), (e * 0.47, -0.05, 0.16), (e * 0.45, 0.22, 0.15), (e * 0.50, 0.42, 0.14)], 0.09, WISP)
    k.strands(k.front, [[(0.05, -0.86, 0.1), (e * 0.34, -0.74, 0.08), (e * 0.56, -0.36, 0.04)] for e in (-1, 1)], 0.5)
    k.shine(k.front, -0.50, 0.46, 0.075, 9)


def big_curls(k: Kit) -> None:
    """A mane of loose round curls."""
    k.height, k.side = 0.99, 0.74
    k.length = 0.85
    rng = k.rng
    k.mass(k.back, k.cloud(0.0, -0.06, 0.80, 0.90, 17, 0.06, -0.15), 0.55, flowing(0.5, 1.5, 0.6, 0.6))
    for e in (-1, 1):
        spots = [(e * (0.70 + rng.uniform(-0.03, 0.03)), y, 0.155 + rng.uniform(-0.015, 0.02)) for y in (0.62, 0.40, 0.16, -0.08, -0.30)]
        k.curls(k.back, spots, -0.12, 0.2)
        k.curls(k.behind, [(e * 0.60, 0.86, 0.14), (e * 0.47, 0.72, 0.12), (e * 0.62, 0.62, 0.14), (e * 0.52, 0.48, 0.12), (e * 0.63, 0.36, 0.14)], 0.0, 0.08, flowing(0.5, 1.2, 0.7, 0.7))
    k.mass(k.front, [(-0.56, 0.05, 0.05), (-0.72, -0.2, 0.0), (-0.66, -0.55, 0.0), (-0.4, -0.88, 0.0), (0.0, -0.99, 0.0), (0.4, -0.88, 0.0), (0.66, -0.55, 0.0), (0.72, -0.2, 0.0), (0.56, 0.05, 0.05),
                     (0.47, 0.0, 0.14), (0.42, -0.26, 0.2), (0.2, -0.40), (-0.2, -0.40), (-0.42, -0.26, 0.2), (-0.47, 0.0, 0.14)], casts=True)
    for e in (-1, 1):
        k.curls(k.front, [(e * 0.60, 0.20, 0.13), (e * 0.54, 0.02, 0.12), (e * 0.66, -0.06, 0.13), (e * 0.66, -0.30, 0.14), (e * 0.58, -0.54, 0.14), (e * 0.42, -0.74, 0.14), (e * 0.20, -0.87, 0.135)], 0.05, 0.0)
    k.curls(k.front, [(0.0, -0.90, 0.13), (0.3, -0.60, 0.14), (-0.32, -0.58, 0.14), (0.02, -0.66, 0.14), (0.46, -0.38, 0.13), (-0.47, -0.36, 0.13)], 0.22)
    k.curls(k.front, [(0.44, -0.16, 0.10), (-0.44, -0.14, 0.105), (0.32, -0.30, 0.115), (-0.33, -0.28, 0.12), (0.17, -0.38, 0.12), (-0.18, -0.36, 0.12), (0.0, -0.34, 0.11)], 0.36, casts=True)


def afro(k: Kit) -> None:
    """A round, soft crown of coils."""
    k.height, k.side = 0.96, 0.8
    k.length = 0.4
    k.mass(k.back, k.cloud(0.0, -0.26, 0.86, 0.80, 26, 0.035, -0.12), 0.35)
    k.coils(k.back, 0.0, -0.2, 0.80, 0.72, 90, lambda x, y: abs(x) < 0.5 and y > -0.5, -0.1)
    line = [(0.49, 0.06, 0.1), (0.475, -0.18, 0.16), (0.38, -0.36), (0.2, -0.46), (0.0, -0.48), (-0.2, -0.46), (-0.38, -0.36), (-0.475, -0.18, 0.16), (-0.49, 0.06, 0.1)]
    t = np.linspace(np.pi * 1.02, np.pi * 1.98, 15)
    outer = []
    for u in range(2 * len(t) - 1):
        a = t[0] + (t[-1] - t[0]) * u / (2 * len(t) - 2)
        r = 1.0 if u % 2 else 0.955
        outer.append((0.80 * r * np.cos(a), -0.16 + 0.80 * r * np.sin(a), 0.02))
    edge = []
    for (x0, y0, *_), (x1, y1, *_) in zip(line[:-1], line[1:], strict=True):
        edge += [(x0, y0), ((x0 + x1) / 2, (y0 + y1) / 2 + 0.025)]
    k.mass(k.front, [(-0.60, 0.10, 0.04), *outer, (0.60, 0.10, 0.04), *edge, line[-1]], casts=True)
    k.coils(k.front, 0.0, -0.40, 0.74, 0.56, 150, lambda x, y: (abs(x) < 0.46 and y > -0.44 - 0.0 * x) or y > 0.0)
    k.front.append(Stroke([ring3(-0.26, -0.72, 0.30, 0.17, 0.15)], Radial((-0.26, -0.72, 0.15), (0.04, -0.72, 0.15), [(0, alpha(k.h.shine, 0.45)), (1, alpha(k.h.shine, 0.0))]), skin=flowing()))


def coily_puffs(k: Kit) -> None:
    """Parted in the middle, two coily puffs."""
    k.height, k.side = 0.82, 0.54
    k.length = 0.4
    for e in (-1, 1):
        puff = k.cloud(e * 0.58, -0.70, 0.36, 0.34, 15, 0.05, -0.1)
        k.mass(k.back, puff, 0.1)
        k.coils(k.back, e * 0.58, -0.70, 0.34, 0.32, 55, None, -0.08)
        k.back.append(Stroke([ring3(e * 0.58 - 0.1, -0.86, 0.14, 0.10, -0.06)], Radial((e * 0.58 - 0.1, -0.86, -0.06), (e * 0.58 + 0.04, -0.86, -0.06), [(0, alpha(k.h.shine, 0.4)), (1, alpha(k.h.shine, 0.0))])))
    right = [(0.0, -0.80, -0.1), (0.40, -0.68, -0.1), (0.53, -0.34, -0.1), (0.51, 0.05, -0.1), (0.40, 0.25, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.55)
    line = [(0.495, 0.03, 0.1), (0.475, -0.2, 0.16), (0.36, -0.40), (0.16, -0.53), (0.0, -0.56), (-0.16, -0.53), (-0.36, -0.40), (-0.475, -0.2, 0.16), (-0.495, 0.03, 0.1)]
    k.crown(-0.03, line, 0.03)
    for e in (-1, 1):
        k.strands(k.front, [[(e * x, y), (e * (x * 0.85 + 0.06), y - 0.16), (e * 0.45, -0.60, 0.06)] for x, y in ((0.06, -0.56), (0.2, -0.50), (0.34, -0.42), (0.45, -0.26))], 0.55)
        k.tie(k.front, (e * 0.46, -0.60, 0.02), 0.105)
        edges = [[(e * 0.465, -0.14), (e * 0.435, -0.17), (e * 0.432, -0.11), (e * 0.452, -0.07)], [(e * 0.24, -0.49), (e * 0.26, -0.445), (e * 0.30, -0.44)]]
        k.strands(k.front, edges, 0.8, 0.011)
    k.strands(k.front, [[(0.0, -0.57), (0.0, -0.70, 0.2), (0.0, -0.81, 0.1)]], 0.9, 0.014)


def box_braids(k: Kit) -> None:
    """Many slim braids, some with beads."""
    k.length = 1.5
    right = [(0.0, -0.84, -0.1), (0.42, -0.74, -0.1), (0.60, -0.36, -0.1), (0.62, 0.2, -0.12), (0.62, 0.9, -0.15), (0.4, 1.0, -0.15)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.6, flowing(0.5, 1.3, 0.85, 0.7))
    for e in (-1, 1):
        for j, (x, end) in enumerate(((0.64, 1.30), (0.55, 1.42), (0.47, 1.34))):
            layer = k.back if j == 0 else k.behind
            _rope(k, layer, [(e * (x - 0.05), -0.1, 0.0), (e * x, 0.3, 0.02), (e * (x + 0.02), 0.85, 0.03), (e * (x - 0.01), end, 0.03)], 0.10)
            _bead(k, layer, (e * (x - 0.008), end - 0.06, 0.03))
    line = [(0.49, 0.04, 0.1), (0.47, -0.2, 0.16), (0.36, -0.40), (0.17, -0.52), (0.0, -0.55), (-0.17, -0.52), (-0.36, -0.40), (-0.47, -0.2, 0.16), (-0.49, 0.04, 0.1)]
    k.crown(0.005, line, 0.03)
    scalp = [[(x * 0.25 + 0.1, -0.83, 0.1), (x * 0.72 + 0.03, -0.66, 0.25), (x, y)] for x, y in ((-0.44, -0.26), (-0.3, -0.44), (-0.12, -0.52), (0.06, -0.54), (0.22, -0.5), (0.36, -0.4), (0.45, -0.24))]
    k.strands(k.front, scalp, 0.75, 0.012)
    for x0, pts in ((0.30, [(0.30, -0.50), (0.46, -0.24, 0.18), (0.53, 0.1, 0.1), (0.51, 0.5, 0.1), (0.53, 0.86, 0.1)]), (-0.30, [(-0.30, -0.50), (-0.46, -0.24, 0.18), (-0.53, 0.1, 0.1), (-0.51, 0.5, 0.1), (-0.53, 0.92, 0.1)]),
                    (0.12, [(0.10, -0.56), (0.30, -0.42), (0.455, -0.08, 0.18), (0.46, 0.3, 0.14), (0.45, 0.66, 0.14)]), (-0.1, [(0.06, -0.57), (-0.24, -0.46), (-0.43, -0.14, 0.18), (-0.465, 0.24, 0.14), (-0.45, 0.72, 0.14)]),
                    (-0.2, [(0.08, -0.60), (-0.14, -0.48), (-0.31, -0.24), (-0.395, 0.08), (-0.41, 0.38, 0.2)])):
        del x0
        _rope(k, k.front, pts, 0.085)
        _bead(k, k.front, pts[-1])


def locs(k: Kit) -> None:
    """Thick locs to the jaw, falling as they like."""
    k.height, k.side = 0.88, 0.66
    k.length = 0.9
    right = [(0.0, -0.86, -0.1), (0.44, -0.76, -0.1), (0.64, -0.36, -0.1), (0.62, 0.2, -0.1), (0.46, 0.4, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.6)
    for e in (-1, 1):
        for x, end, out in ((0.42, 0.62, 0.0), (0.60, 0.66, 0.06), (0.52, 0.78, 0.02), (0.66, 0.46, 0.12)):
            _loc(k, k.back, [(e * (x - 0.06), -0.3, -0.08), (e * (x + 0.02), 0.1, -0.08), (e * (x + out), end, -0.08)], 0.13)
    k.crown(0.03, [(0.48, 0.0, 0.12), (0.46, -0.24, 0.18), (0.3, -0.44), (0.0, -0.52), (-0.3, -0.44), (-0.46, -0.24, 0.18), (-0.48, 0.0, 0.12)], 0.0)
    for pts in ([(0.30, -0.80, 0.1), (0.60, -0.55, 0.05), (0.68, -0.1, 0.04), (0.64, 0.30, 0.04)], [(-0.30, -0.80, 0.1), (-0.60, -0.55, 0.05), (-0.68, -0.1, 0.04), (-0.66, 0.34, 0.04)],
                [(0.26, -0.72), (0.50, -0.44, 0.14), (0.57, -0.02, 0.1), (0.55, 0.42, 0.08)], [(-0.26, -0.72), (-0.50, -0.44, 0.14), (-0.57, -0.02, 0.1), (-0.54, 0.48, 0.08)],
                [(0.16, -0.76), (0.36, -0.50), (0.46, -0.14, 0.18), (0.44, 0.16, 0.16)], [(-0.12, -0.76), (-0.34, -0.50), (-0.45, -0.16, 0.18), (-0.44, 0.10, 0.16)],
                [(0.08, -0.80, 0.2), (0.22, -0.56), (0.30, -0.30), (0.31, -0.10)], [(0.0, -0.80, 0.2), (-0.18, -0.56), (-0.28, -0.30), (-0.26, -0.07)], [(0.04, -0.80, 0.2), (0.03, -0.56), (0.10, -0.36), (0.16, -0.18)]):
        _loc(k, k.front, pts, 0.125)


def messy(k: Kit) -> None:
    """Medium, uncombed, friendly."""
    k.length = 0.35
    right = [(0.0, -0.85, -0.1), (0.42, -0.72, -0.1), (0.60, -0.3, -0.1), (0.62, 0.05, -0.1), (0.70, 0.24, -0.1), (0.70, 0.24, -0.1),
             (0.58, 0.24, -0.1), (0.59, 0.40, -0.1), (0.59, 0.40, -0.1), (0.43, 0.36, -0.1), (0.36, 0.52, -0.1), (0.36, 0.52, -0.1), (0.2, 0.42, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    k.crown(-0.005)
    # tufts lie over each other from the temples up to the whorl, each bent the way it grows
    tufts = ((-0.53, -0.02, -0.11, 0.17, 0.18), (0.53, 0.0, 0.17, 0.20, 0.22), (-0.55, -0.20, -0.20, 0.14, 0.26), (0.55, -0.18, 0.13, 0.08, 0.22), (-0.54, -0.40, -0.13, 0.02, 0.24),
             (0.54, -0.40, 0.24, 0.03, 0.29), (-0.44, -0.60, -0.24, -0.07, 0.29), (0.46, -0.60, 0.13, -0.08, 0.25), (-0.26, -0.76, -0.13, -0.10, 0.27), (0.32, -0.74, 0.24, -0.10, 0.29),
             (-0.06, -0.82, -0.15, -0.13, 0.24), (0.14, -0.80, 0.17, -0.19, 0.27))
    for x, y, dx, dy, w in tufts:
        n = (dy, -dx)
        e = 1 if x < 0 else -1
        k.lock(k.front, [(x - dx * 1.2, y - dy * 1.2, 0.10), (x - dx * 0.3 + e * n[0] * 0.12, y - dy * 0.3 + e * n[1] * 0.12, 0.05), (x + dx * 0.5 + e * n[0] * 0.18, y + dy * 0.5 + e * n[1] * 0.18, 0.0),
                         (x + dx, y + dy + 0.02, 0.0)], w, (0.7, 1.0, 0.95, 0.74, 0.42, 0.0), casts=False)
    for e in (-1, 1):
        k.lock(k.front, [(e * 0.42, -0.5), (e * 0.53, -0.2, 0.12), (e * 0.55, 0.06, 0.08), (e * 0.50, 0.28, 0.08)], 0.16, WISP)
    k.fringe([(0.45, 0.07, 0.17), (-0.47, 0.09, 0.17), (0.36, -0.02, 0.18), (-0.36, 0.03, 0.18), (0.20, -0.05, 0.18), (-0.21, -0.03, 0.19), (-0.03, -0.09, 0.18)], 0.08, -0.78, 0.24, -0.05)
    k.lock(k.front, [(0.05, -0.70), (0.12, -0.45), (0.08, -0.25), (0.12, -0.12)], 0.12, WISP)
    k.strands(k.front, [[(0.06, -0.82, 0.12), (-0.2, -0.74, 0.14), (-0.42, -0.52, 0.12)], [(0.1, -0.82, 0.12), (0.3, -0.72, 0.12), (0.48, -0.46, 0.08)]], 0.45)
    k.shine(k.front, -0.50, 0.42, 0.055, 7)


def spiky(k: Kit) -> None:
    """A hero's: big spikes, up and out."""
    k.length = 0.2
    right = [(0.0, -0.8, -0.1), (0.5, -0.6, -0.1), (0.64, -0.1, -0.1), (0.76, 0.18, -0.1), (0.76, 0.18, -0.1), (0.58, 0.16, -0.1), (0.62, 0.38, -0.1), (0.62, 0.38, -0.1),
             (0.44, 0.28, -0.1), (0.36, 0.44, -0.1), (0.36, 0.44, -0.1), (0.2, 0.36, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    k.crown(-0.02, None, 0.0)
    for tip, base, w in (((-0.86, -0.20), (-0.40, -0.22), 0.30), ((0.88, -0.14), (0.40, -0.18), 0.30), ((-0.88, -0.54), (-0.36, -0.44), 0.34), ((0.90, -0.50), (0.36, -0.42), 0.34),
                         ((-0.70, -0.90), (-0.26, -0.58), 0.36), ((0.74, -0.86), (0.28, -0.56), 0.36), ((-0.34, -1.10), (-0.12, -0.62), 0.36), ((0.42, -1.08), (0.16, -0.62), 0.36), ((0.04, -1.16), (0.02, -0.6), 0.34)):
        mid = ((tip[0] + base[0]) / 2 * 1.02, (tip[1] + base[1]) / 2 - 0.04)
        k.lock(k.front, [(*base, 0.08), (*mid, 0.04), (*tip, 0.0)], w, SPIKE, casts=False)
    k.pair(k.front, [(0.42, -0.45), (0.52, -0.15, 0.12), (0.54, 0.08, 0.08), (0.47, 0.26, 0.1)], 0.17, profile=WISP)
    for tip, y, w in ((0.44, -0.02, 0.19), (-0.45, 0.02, 0.19), (0.30, -0.12, 0.20), (-0.30, 0.0, 0.20), (0.13, -0.03, 0.20), (-0.12, -0.10, 0.20)):
        k.lock(k.front, [(tip * 0.35, -0.68), (tip * 0.8, -0.44), (tip * 1.08, -0.24), (tip * 0.92, y)], w, (0.9, 1.0, 0.95, 0.78, 0.45, 0.0))
    k.shine(k.front, -0.54, 0.40, 0.06, 6)


def side_swept(k: Kit) -> None:
    """Neat, parted, one big wave across."""
    k.height, k.side = 0.87, 0.57
    k.length = 0.2
    right = [(0.0, -0.84, -0.1), (0.42, -0.72, -0.1), (0.565, -0.34, -0.1), (0.555, 0.0, -0.1), (0.50, 0.2, -0.1), (0.36, 0.34, -0.1), (0.15, 0.36, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    k.crown(0.01, [(0.50, 0.06, 0.1), (0.475, -0.16, 0.16), (0.44, -0.36, 0.2), (0.33, -0.52), (0.27, -0.64), (0.27, -0.64), (0.0, -0.52), (-0.3, -0.40), (-0.46, -0.2, 0.18), (-0.50, 0.06, 0.1)], 0.06)
    side = [(0.33, -0.56), (0.48, -0.46, 0.14), (0.545, -0.2, 0.08), (0.53, 0.05, 0.08), (0.50, 0.13, 0.1), (0.47, 0.0, 0.14), (0.455, -0.2, 0.18), (0.40, -0.40)]
    k.mass(k.front, side, 0.25)
    for spine, w in (([(0.28, -0.72), (0.0, -0.76), (-0.36, -0.62), (-0.53, -0.32, 0.1), (-0.54, -0.02, 0.08)], 0.28), ([(0.29, -0.70), (0.04, -0.62), (-0.26, -0.48), (-0.46, -0.22, 0.18), (-0.51, 0.04, 0.1)], 0.28),
                     ([(0.30, -0.68), (0.10, -0.54), (-0.14, -0.38), (-0.34, -0.24), (-0.44, -0.04)], 0.24), ([(0.31, -0.66), (0.20, -0.52), (0.02, -0.37), (-0.18, -0.27), (-0.30, -0.13)], 0.18)):
        k.lock(k.front, spine, w, (0.5, 1.0, 1.0, 0.85, 0.55, 0.0))
    k.lock(k.front, [(0.30, -0.72, 0.15), (0.14, -0.84, 0.08), (-0.10, -0.90, 0.04), (-0.36, -0.84, 0.0), (-0.52, -0.70, 0.0)], 0.15, casts=False)
    k.lock(k.front, [(0.31, -0.70, 0.2), (0.12, -0.78, 0.14), (-0.16, -0.79, 0.1), (-0.45, -0.60, 0.06), (-0.62, -0.36, 0.02)], 0.15, casts=False)
    k.strands(k.front, [[(0.26, -0.74, 0.2), (-0.05, -0.72, 0.2), (-0.40, -0.50, 0.15)], [(0.36, -0.60), (0.48, -0.36, 0.12), (0.51, -0.1, 0.1)]], 0.5)
    k.shine(k.front, -0.58, 0.38, 0.055, 5)


def undercut(k: Kit) -> None:
    """Shaved sides, a heavy lock over one eye."""
    k.height, k.side = 0.97, 0.53
    k.length = 0.5
    _shaved(k)
    k.mass(k.front, [(-0.44, -0.38, 0.14), (-0.56, -0.56, 0.05), (-0.44, -0.84, 0.0), (-0.1, -0.98, 0.0), (0.28, -0.92, 0.0), (0.48, -0.72, 0.02), (0.47, -0.50, 0.1), (0.36, -0.50), (0.2, -0.54), (-0.1, -0.48), (-0.3, -0.40)], casts=True)
    for spine, w in (([(0.34, -0.72), (0.0, -0.78), (-0.34, -0.66), (-0.56, -0.34, 0.1), (-0.55, 0.02, 0.1), (-0.47, 0.24, 0.14)], 0.27), ([(0.36, -0.68), (0.06, -0.62), (-0.24, -0.44), (-0.42, -0.12, 0.2), (-0.40, 0.18, 0.22)], 0.26),
                     ([(0.38, -0.66), (0.16, -0.54), (-0.06, -0.36), (-0.24, -0.14), (-0.27, 0.06)], 0.22), ([(0.40, -0.64), (0.26, -0.50), (0.08, -0.36), (-0.05, -0.20)], 0.15)):
        k.lock(k.front, spine, w, (0.6, 1.0, 1.0, 0.85, 0.5, 0.0))
    k.lock(k.front, [(0.44, -0.66, 0.1), (0.34, -0.92, 0.02), (0.10, -1.04, 0.0), (-0.16, -1.02, 0.0)], 0.16, casts=False)
    k.lock(k.front, [(0.44, -0.60, 0.1), (0.52, -0.76, 0.02), (0.48, -0.90, 0.0)], 0.14, WISP, casts=False)
    k.strands(k.front, [[(0.36, -0.72, 0.15), (-0.05, -0.84, 0.12), (-0.40, -0.68, 0.1)]], 0.5)
    k.shine(k.front, -0.62, 0.40, 0.06, 5)


def slick_back(k: Kit) -> None:
    """Combed back, a high forehead, a gleam."""
    k.height, k.side = 0.88, 0.58
    k.length = 0.2
    right = [(0.0, -0.86, -0.1), (0.40, -0.76, -0.1), (0.55, -0.36, -0.1), (0.54, 0.0, -0.1), (0.50, 0.3, -0.1), (0.46, 0.44, -0.1), (0.46, 0.44, -0.1), (0.3, 0.4, -0.1), (0.1, 0.42, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    line = [(0.495, 0.10, 0.1), (0.475, -0.1, 0.16), (0.465, -0.30, 0.17), (0.36, -0.46), (0.22, -0.53), (0.10, -0.52), (0.0, -0.485), (-0.10, -0.52), (-0.22, -0.53), (-0.36, -0.46), (-0.465, -0.30, 0.17), (-0.475, -0.1, 0.16), (-0.495, 0.10, 0.1)]
    k.crown(0.03, line, 0.1, casts=False)
    k.strands(k.front, [[(x, y), (x * 0.92, -0.66, 0.24), (x * 0.8, -0.83, 0.10)] for x, y in ((-0.4, -0.43), (-0.26, -0.52), (-0.14, -0.54), (0.0, -0.49), (0.12, -0.53), (0.25, -0.53), (0.38, -0.45))]
              + [[(e * 0.49, -0.05, 0.12), (e * 0.54, -0.25, 0.06), (e * 0.56, -0.45, 0.0)] for e in (-1, 1)], 0.55)
    k.shine(k.front, -0.72, 0.34, 0.06, 6, 0.65)
    k.lock(k.front, [(0.1, -0.58), (0.18, -0.46), (0.20, -0.32), (0.13, -0.22)], 0.06, WISP)


def curtains(k: Kit) -> None:
    """Middle parting, two soft arcs to the cheekbones."""
    k.height, k.side = 0.88, 0.6
    k.length = 0.35
    right = [(0.0, -0.86, -0.1), (0.42, -0.75, -0.1), (0.595, -0.36, -0.1), (0.60, 0.05, -0.1), (0.55, 0.30, -0.1), (0.44, 0.44, -0.1), (0.2, 0.44, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.5)
    k.crown(0.03, [(0.485, 0.05, 0.1), (0.465, -0.2, 0.18), (0.32, -0.44), (0.1, -0.58), (0.02, -0.70), (0.02, -0.70), (-0.08, -0.58), (-0.32, -0.44), (-0.465, -0.2, 0.18), (-0.485, 0.05, 0.1)])
    for e in (-1, 1):
        k.lock(k.front, [(0.02 + e * 0.03, -0.80), (e * 0.30, -0.66), (e * 0.52, -0.34, 0.12), (e * 0.56, 0.02, 0.08), (e * 0.51, 0.28, 0.08)], 0.25, (0.5, 1.0, 1.0, 0.8, 0.5, 0.0))
        k.lock(k.front, [(0.02 + e * 0.01, -0.78), (e * 0.17, -0.62), (e * 0.36, -0.34), (e * 0.44, -0.06), (e * 0.49, 0.14, 0.14)], 0.22, (0.4, 1.0, 1.0, 0.75, 0.4, 0.0))
        k.lock(k.front, [(0.02, -0.74), (e * 0.09, -0.56), (e * 0.22, -0.34), (e * 0.35, -0.15)], 0.13, WISP)
        k.strands(k.front, [[(0.02 + e * 0.02, -0.86, 0.1), (e * 0.3, -0.78, 0.08), (e * 0.55, -0.40, 0.04)]], 0.5)
    k.shine(k.front, -0.64, 0.42, 0.055, 7)


def wolf_cut(k: Kit) -> None:
    """Shaggy layers, choppy fringe, thin ends on the shoulders."""
    k.height, k.side = 0.9, 0.625
    k.length = 1.0
    for e in (-1, 1):
        for x, y, w in ((0.62, 0.98, 0.2), (0.48, 1.10, 0.22), (0.34, 1.06, 0.2), (0.75, 0.76, 0.2)):
            k.lock(k.back, [(e * 0.36, 0.0, -0.1), (e * (x - 0.12), 0.45, -0.12), (e * (x - 0.07), 0.75, -0.12), (e * x, y, -0.12)], w, LOCK, 0.4, flowing(0.5, 1.2, 0.7, 1.0))
    right = [(0.0, -0.88, -0.1), (0.44, -0.78, -0.1), (0.66, -0.42, -0.1), (0.67, -0.05, -0.1), (0.78, 0.18, -0.1), (0.78, 0.18, -0.1), (0.62, 0.20, -0.1), (0.72, 0.46, -0.1), (0.72, 0.46, -0.1), (0.5, 0.5, -0.1), (0.2, 0.6, -0.1)]
    k.mass(k.back, right + [(-x, y, z) for x, y, z in right[:0:-1]], 0.42)
    k.crown(0.05)
    for e in (-1, 1):
        k.lock(k.front, [(e * 0.38, -0.66), (e * 0.60, -0.34, 0.08), (e * 0.65, -0.02, 0.04), (e * 0.76, 0.14, 0.0)], 0.24, LOCK, casts=False)
        k.lock(k.front, [(e * 0.40, -0.55), (e * 0.55, -0.2, 0.1), (e * 0.57, 0.12, 0.06), (e * 0.66, 0.40, 0.04)], 0.20, LOCK)
        k.lock(k.front, [(e * 0.42, -0.45), (e * 0.49, -0.08, 0.15), (e * 0.48, 0.2, 0.14), (e * 0.44, 0.46, 0.14)], 0.12, WISP)
        k.lock(k.front, [(e * 0.1, -0.88, 0.05), (e * 0.3, -0.93, 0.02), (e * 0.50, -0.84, 0.0), (e * 0.62, -0.66, 0.0)], 0.14, WISP, casts=False)
    k.fringe([(0.42, 0.10, 0.14), (-0.42, 0.08, 0.14), (0.33, 0.02, 0.15), (-0.32, 0.04, 0.15), (0.22, 0.05, 0.14), (-0.22, 0.02, 0.14), (0.11, -0.01, 0.14), (-0.11, 0.04, 0.14), (0.0, 0.0, 0.14)], 0.0, -0.78, 0.24, 0.02)
    k.strands(k.front, [[(0.0, -0.88, 0.1), (e * 0.3, -0.78, 0.1), (e * 0.56, -0.42, 0.06)] for e in (-1, 1)], 0.5)
    k.shine(k.front, -0.50, 0.46, 0.065, 9)


def man_bun(k: Kit) -> None:
    """Drawn up into a knot, short sides."""
    k.height, k.side = 0.86, 0.52
    k.length = 0.2
    k.back.append(Stroke([ring3(0.0, -0.99, 0.21, 0.17, -0.15)], k.fill(0.0, -1.2), k.h.line, LINE))
    k.back.append(Stroke([[(-0.14, -0.94, -0.15), (-0.02, -1.08, -0.15), (0.14, -1.0, -0.15)], [(-0.1, -0.9, -0.15), (0.04, -1.0, -0.15), (0.17, -0.94, -0.15)]], None, alpha(k.h.line, 0.55), 0.010, False))
    k.back.append(Stroke([[(-0.12, -1.06, -0.15), (-0.03, -1.11, -0.15), (0.06, -1.10, -0.15)]], None, alpha(k.h.shine, 0.7), 0.03, False))
    _shaved(k)
    line = [(0.47, -0.28, 0.16), (0.36, -0.45), (0.16, -0.53), (0.0, -0.54), (-0.16, -0.53), (-0.36, -0.45), (-0.47, -0.28, 0.16)]
    k.mass(k.front, [(-0.52, -0.40, 0.06), (-0.40, -0.66, 0.02), (-0.18, -0.82, 0.0), (0.0, -0.86, 0.0), (0.18, -0.82, 0.0), (0.40, -0.66, 0.02), (0.52, -0.40, 0.06), (0.47, -0.28, 0.16), *line], casts=True)
    k.strands(k.front, [[(x, y), (x * 0.7, -0.68, 0.22), (x * 0.18, -0.86, 0.05)] for x, y in ((-0.44, -0.32), (-0.33, -0.46), (-0.18, -0.52), (-0.04, -0.54), (0.1, -0.53), (0.25, -0.5), (0.38, -0.43), (0.46, -0.3))], 0.6)
    k.tie(k.front, (0.0, -0.855, 0.0), 0.11)
    k.shine(k.front, -0.64, 0.34, 0.045, 5)


def buzz_cut(k: Kit) -> None:
    """Clipped close."""
    k.height, k.side = 0.8, 0.52
    k.length = 0.2
    _shaved(k, 0.85)


def bald(k: Kit) -> None:
    """None: a gleam on the scalp instead."""
    k.height, k.side = 0.76, 0.5
    skin = k.a.skin
    k.front.append(Stroke([ring3(-0.17, -0.58, 0.17, 0.11, 0.25)], Radial((-0.17, -0.58, 0.25), (0.0, -0.58, 0.25), [(0, alpha(mix(skin.light, (255, 255, 255), 0.6), 0.8)), (1, alpha(skin.light, 0.0))])))


def hijab(k: Kit) -> None:
    """A soft scarf about the head and the shoulders, in the accent's colour."""
    k.height, k.side = 0.9, 0.62
    c = k.a.accent
    rest = flowing(0.5, 0.95, 1.0, 0.2)

    def cloth_fill(top: float, bottom: float, dark: float = 0.0) -> Linear:
        return Linear((-0.1, top, 0.1), (0.1, bottom, 0.1), [(0, mix(c.light, c.deep, dark)), (0.45, mix(c.base, c.deep, dark)), (1, mix(c.shadow, c.deep, dark))])

    back = [(0.0, -0.90, -0.1), (0.40, -0.80, -0.1), (0.61, -0.40, -0.1), (0.62, 0.1, -0.1), (0.60, 0.5, -0.05), (0.68, 0.85, -0.05), (0.72, 1.05, 0.0), (0.3, 1.1, 0.0)]
    k.back.append(Stroke([back + [(-x, y, z) for x, y, z in back[:0:-1]]], cloth_fill(-0.9, 1.1, 0.35), c.line, LINE, True, rest))
    drape = [(0.50, 0.30, 0.0), (0.58, 0.62, 0.0), (0.70, 0.90, 0.0), (0.66, 1.12, 0.05), (0.42, 1.30, 0.1), (0.05, 1.38, 0.1), (-0.34, 1.28, 0.1), (-0.64, 1.10, 0.05), (-0.70, 0.90, 0.0),
             (-0.58, 0.62, 0.0), (-0.50, 0.30, 0.0), (-0.3, 0.5, 0.1), (0.0, 0.56, 0.15), (0.3, 0.5, 0.1)]
    k.behind.append(Stroke([drape], cloth_fill(0.4, 1.35), c.line, LINE, True, rest))
    k.behind.append(Stroke([[(-0.46, 0.52, 0.05), (-0.1, 0.86, 0.12), (0.34, 1.0, 0.1), (0.62, 0.98, 0.03)], [(-0.30, 0.60, 0.1), (0.02, 0.80, 0.14), (0.4, 0.86, 0.1)], [(0.48, 0.5, 0.05), (0.2, 0.80, 0.14), (-0.25, 1.06, 0.1), (-0.55, 1.1, 0.05)]],
                           None, alpha(c.line, 0.6), 0.011, False, rest))
    ring = []
    inner = [(0.455, 0.02, 0.16), (0.44, -0.22, 0.2), (0.32, -0.42), (0.12, -0.50), (-0.12, -0.50), (-0.32, -0.42), (-0.44, -0.22, 0.2), (-0.455, 0.02, 0.16), (-0.44, 0.26, 0.14), (-0.34, 0.44, 0.18), (-0.2, 0.585, 0.28), (-0.2, 0.585, 0.28)]
    outer = [(-0.35, 0.72, 0.1), (-0.56, 0.48, 0.02), (-0.61, 0.1, 0.0), (-0.60, -0.34, 0.0), (-0.44, -0.74, 0.0), (-0.16, -0.90, 0.0), (0.16, -0.90, 0.0), (0.44, -0.74, 0.0), (0.60, -0.34, 0.0), (0.61, 0.1, 0.0), (0.56, 0.48, 0.02), (0.35, 0.72, 0.1), (0.0, 0.80, 0.2), (0.0, 0.80, 0.2)]
    ring = [*outer, (0.2, 0.585, 0.28), (0.34, 0.44, 0.18), (0.44, 0.26, 0.14), *inner]
    k.front.append(Stroke([ring], cloth_fill(-0.9, 0.8), c.line, LINE, True, flowing(0.55, 1.0, 0.8, 0.1), COVER, True))
    k.front.append(Stroke([[(-0.30, -0.46), (-0.48, -0.26, 0.14), (-0.54, 0.1, 0.08), (-0.48, 0.42, 0.08)], [(0.36, -0.42), (0.5, -0.2, 0.14), (0.55, 0.14, 0.08), (0.46, 0.5, 0.1)], [(0.0, -0.52), (0.30, -0.58), (0.50, -0.38, 0.1)],
                           [(-0.1, -0.86, 0.1), (-0.4, -0.68, 0.08), (-0.55, -0.3, 0.03)]], None, alpha(c.line, 0.5), 0.010, False))
    k.front.append(Stroke([[(-0.36, -0.62, 0.2), (-0.14, -0.76, 0.2), (0.1, -0.78, 0.2), (0.1, -0.78, 0.2), (-0.12, -0.70, 0.2)]], alpha((255, 255, 255), 0.35)))


def ring3(x: float, y: float, rx: float, ry: float, z: float, n: int = 10) -> np.ndarray:
    """[n,3] an ellipse."""
    t = np.arange(n) * 2 * np.pi / n
    return np.c_[x + rx * np.cos(t), y + ry * np.sin(t), np.full(n, z)]


def _shaved(k: Kit, strength: float = 0.75) -> None:
    """Hair clipped to the scalp: the skin's colour darkened by the hair's, with a sharp hairline."""
    tone = mix(k.a.skin.shadow, k.h.deep, strength * 0.82)
    cap = [(-0.505, 0.10, 0.05), (-0.525, -0.16, 0.04), (-0.475, -0.48, 0.02), (-0.29, -0.72, 0.02), (0.0, -0.80, 0.02), (0.29, -0.72, 0.02), (0.475, -0.48, 0.02), (0.525, -0.16, 0.04), (0.505, 0.10, 0.05), (0.505, 0.10, 0.05),
           (0.475, 0.08, 0.12), (0.465, -0.12, 0.16), (0.455, -0.12, 0.16), (0.44, -0.32, 0.2), (0.30, -0.44), (0.0, -0.475), (-0.30, -0.44), (-0.44, -0.32, 0.2), (-0.455, -0.12, 0.16), (-0.475, 0.08, 0.12), (-0.475, 0.08, 0.12)]
    k.front.append(Stroke([cap], Linear((-0.1, -0.8, 0.1), (0.1, 0.1, 0.1), [(0, mix(tone, k.h.light, 0.3)), (0.5, tone), (1, mix(tone, k.a.skin.base, 0.25))]), k.h.line, LINE, True, None, COVER))
    dots = []
    for _ in range(90):
        x, y = k.rng.uniform(-0.5, 0.5), k.rng.uniform(-0.76, 0.0)
        if (y > -0.50 and abs(x) < 0.47) or (x / 0.5) ** 2 + ((y + 0.1) / 0.68) ** 2 > 0.95:
            continue
        dots.append([(x, y), (x + 0.004, y - 0.022)])
    k.front.append(Stroke(dots, None, alpha(k.h.line, 0.5), 0.008, False))


def _loc(k: Kit, layer: list[Stroke], spine: Points, width: float) -> None:
    k.lock(layer, spine, width, (0.8, 1.0, 0.96, 1.0, 0.94, 0.78), 0.0 if layer is not k.back else 0.3)
    p = resample(spine, 9)
    ticks = [[(q[0] - width * 0.36, q[1] - 0.012, q[2]), (q[0], q[1] + 0.014, q[2]), (q[0] + width * 0.36, q[1] - 0.006, q[2])] for q in p[1:-1]]
    layer.append(Stroke(ticks, None, alpha(k.h.line, 0.5), 0.009, False, flowing()))
    gleam = [[(q[0] - width * 0.22, q[1] - 0.03, q[2]), (q[0] - width * 0.16, q[1] + 0.01, q[2])] for q in p[2:6]]
    layer.append(Stroke(gleam, None, alpha(k.h.shine, 0.5), 0.014, False, flowing()))


def _rope(k: Kit, layer: list[Stroke], spine: Points, width: float) -> None:
    """A slim braid, as a band with crossing ticks."""
    k.lock(layer, spine, width, (0.9, 1.0, 1.0, 0.95, 0.9, 0.75), 0.0 if layer is not k.back else 0.3, lit=False)
    p = resample(spine, 14)
    left = [[(q[0] - width * 0.44, q[1] - 0.022, q[2]), (q[0] + width * 0.08, q[1] + 0.018, q[2])] for q in p[1:-1:1]]
    right = [[(q[0] + width * 0.44, q[1] + 0.006, q[2]), (q[0] - width * 0.02, q[1] + 0.040, q[2])] for q in p[1:-1:1]]
    layer.append(Stroke(left + right, None, alpha(k.h.line, 0.75), 0.009, False, flowing()))
    gleam = [[(q[0] - width * 0.22, q[1] - 0.022, q[2]), (q[0] - width * 0.02, q[1] - 0.004, q[2])] for q in p[2:-2:2]]
    layer.append(Stroke(gleam, None, alpha(k.h.shine, 0.5), 0.013, False, flowing()))


def _bead(k: Kit, layer: list[Stroke], at: Sequence[float]) -> None:
    x, y, z = at[0], at[1], at[2] if len(at) > 2 else 0.3
    label = COVER if layer is k.front else None
    layer.append(Stroke([ring3(x, y - 0.02, 0.042, 0.050, z, 8)], k.a.accent.base, k.a.accent.line, 0.010, True, flowing(), label))


STYLES: dict[str, Callable[[Kit], None]] = {
    "hime cut": hime_cut,
    "long waves": long_waves,
    "long straight": long_straight,
    "wavy bob": wavy_bob,
    "sleek bob": sleek_bob,
    "pixie": pixie,
    "twin tails": twin_tails,
    "high ponytail": high_ponytail,
    "side braid": side_braid,
    "twin buns": twin_buns,
    "drill curls": drill_curls,
    "big curls": big_curls,
    "afro": afro,
    "coily puffs": coily_puffs,
    "box braids": box_braids,
    "locs": locs,
    "messy": messy,
    "spiky": spiky,
    "side swept": side_swept,
    "undercut": undercut,
    "slick back": slick_back,
    "curtains": curtains,
    "wolf cut": wolf_cut,
    "man bun": man_bun,
    "buzz cut": buzz_cut,
    "bald": bald,
    "hijab": hijab,
}


HATS = ("beret", "beanie", "cap", "witch hat")


def dress(a: Anatomy) -> Kit:
    """Plans the character's hair."""
    kit = Kit(a)
    STYLES[str(a.traits["hair"])](kit)
    if a.is_("headwear", *HATS):
        for stroke in (*kit.back, *kit.behind, *kit.front, *kit.top):
            stroke.paths = [_pressed(points3(path)) for path in stroke.paths]
    a.marks["hair_top"], a.marks["hair_side"] = kit.height, kit.side
    return kit


def _pressed(p: np.ndarray) -> np.ndarray:
    """What a hat does to hair: nothing of the upper head stands off the skull."""
    q = p.copy()
    high = q[:, 1] < -0.32
    q[high, 1] = np.maximum(q[high, 1], -0.84)
    most = 0.585 * np.sqrt(np.maximum(0.0, 1 - np.clip((-0.32 - q[:, 1]) / 0.56, 0, 1) ** 2))
    q[high, 0] = np.clip(q[high, 0], -most[high], most[high])
    return q
