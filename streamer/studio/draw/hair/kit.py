"""The hairdresser's kit: masses, locks, strands, braids, ringlets, curls, coils and shine.

A style appends to four layers: `back` (behind the body), `behind` (over the clothes, behind the face), `front` (over
the face) and `top` (over everything of the head).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.palette import Color, alpha, mix
from streamer.studio.draw.sketch import COVER, Linear, Stroke
from streamer.studio.draw.skin import Points, Skin, points3, ramp

LINE = 0.0125
Profile = Sequence[float]
# A lock's width from root to tip, as shares of its greatest.
LOCK: Profile = (0.36, 0.84, 1.0, 0.86, 0.52, 0.0)
TAIL: Profile = (0.30, 0.78, 1.0, 0.98, 0.74, 0.0)
WISP: Profile = (1.0, 0.9, 0.72, 0.5, 0.27, 0.0)
RIM: Profile = (0.05, 0.55, 1.0, 0.9, 0.45, 0.0)
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
    """[m,3] a closed band about a spine, as wide as `width` times the profile; one that ends in 0 ends in a point.

    `left` and `right` scale the sides (negative: the band lies beside the spine).
    """
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

    def mass(
        self, layer: list[Stroke], points: Points, shade: float = 0.0, skin: Skin | None = None, casts: bool = False
    ) -> None:
        """A big shape."""
        label = COVER if layer in (self.front, self.top) else None
        layer.append(Stroke([points], self.fill(shade), self.h.line, LINE, True, skin or flowing(), label, casts))

    def lock(
        self,
        layer: list[Stroke],
        spine: Points,
        width: float,
        profile: Profile = LOCK,
        shade: float = 0.0,
        skin: Skin | None = None,
        lit: bool = True,
        casts: bool = True,
    ) -> None:
        """A tapered lock with its shaded edge."""
        label = COVER if layer in (self.front, self.top) else None
        skin = skin or flowing()
        # Open at the root, so that a lock grows out of what it lies on without a line.
        closed = profile[-1] != 0.0
        layer.append(
            Stroke([ribbon(spine, width, profile)], self.fill(shade), self.h.line, LINE, closed, skin, label, casts)
        )
        if lit:
            layer.append(
                Stroke([ribbon(spine, width * 0.9, profile, left=-0.25)], alpha(self.h.shadow, 0.6), skin=skin)
            )

    def strands(
        self,
        layer: list[Stroke],
        paths: list[Points],
        strength: float = 0.55,
        width: float = 0.008,
        skin: Skin | None = None,
    ) -> None:
        """Thin lines that show how the hair runs."""
        layer.append(Stroke(paths, None, alpha(self.h.line, strength), width, False, skin or flowing()))

    def shine(
        self,
        layer: list[Stroke],
        y: float = -0.46,
        width: float = 0.40,
        thick: float = 0.06,
        pieces: int = 7,
        strength: float = 0.6,
    ) -> None:
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

    def crown(
        self, volume: float = 0.0, hairline: Points | None = None, side_y: float = 0.05, casts: bool = True
    ) -> None:
        """The cap over the skull, from temple to temple, down to `hairline` (from the viewer's right to the left)."""
        v = volume
        outer = [
            (-0.545 - v * 0.6, side_y, 0.05),
            (-0.565 - v, -0.16, 0.04),
            (-0.51 - v, -0.48, 0.02),
            (-0.32 - v * 0.6, -0.75 - v * 0.7, 0.02),
            (0.0, -0.85 - v, 0.03),
            (0.32 + v * 0.6, -0.75 - v * 0.7, 0.02),
            (0.51 + v, -0.48, 0.02),
            (0.565 + v, -0.16, 0.04),
            (0.545 + v * 0.6, side_y, 0.05),
        ]
        line = hairline or [
            (0.46, side_y, 0.12),
            (0.45, -0.18, 0.18),
            (0.34, -0.36),
            (0.14, -0.44),
            (-0.14, -0.44),
            (-0.34, -0.36),
            (-0.45, -0.18, 0.18),
            (-0.46, side_y, 0.12),
        ]
        self.mass(self.front, [*outer, outer[-1], *line, line[-1]], casts=casts)
        # the side away from the light, and the light's rim on the other
        away = [*outer[:4:-1], (0.20 + v * 0.5, -0.79 - v * 0.8, 0.04), (0.37 + v * 0.6, -0.62 - v * 0.5, 0.06),
                (0.46 + v * 0.8, -0.40, 0.07), (0.50 + v, -0.14, 0.08), (0.50 + v * 0.6, side_y, 0.08)]  # fmt: skip
        self.front.append(Stroke([away], alpha(self.h.shadow, 0.5), skin=flowing()))
        rim = [(x * 0.945, y * 0.965, z + 0.02) for x, y, z in outer[1:5]]
        self.front.append(Stroke([ribbon(rim, 0.042, RIM)], alpha(self.h.shine, 0.5), skin=flowing()))

    def pair(self, layer: list[Stroke], spine: Points, width: float, **more: Any) -> None:
        """The same lock on both sides."""
        self.lock(layer, spine, width, **more)
        self.lock(layer, [(-p[0], *p[1:]) for p in spine], width, **more)

    def fringe(
        self,
        tips: Sequence[tuple[float, float, float]],
        part: float = 0.0,
        root_y: float = -0.78,
        spread: float = 0.22,
        bow: float = 0.04,
        profile: Profile = LOCK,
    ) -> None:
        """Locks over the forehead from (tip x, tip y, width), in the order of painting, fanned out from `part`."""
        for x, y, width in tips:
            root = part + (x - part) * spread
            middle = part + (x - part) * (0.55 + 0.5 * spread)
            away = bow if x >= part else -bow
            spine = [
                (root, root_y, 0.2),
                (middle + away, root_y * 0.62 + y * 0.38),
                (x + away * 0.8, root_y * 0.25 + y * 0.75 - 0.03),
                (x, y),
            ]
            self.lock(self.front, spine, width, profile)

    def braid(
        self,
        layer: list[Stroke],
        spine: Points,
        width: float,
        links: int,
        skin: Skin | None = None,
        label: str | None = None,
    ) -> None:
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
                leaf = [
                    o + n * side * w * 0.02,
                    o + n * side * w * 0.42 - d * length * 0.02,
                    o + n * side * w * 0.56 + d * length * 0.30,
                    o + n * side * w * 0.30 + d * length * 0.70,
                    o - n * side * w * 0.10 + d * length * 0.86,
                    o - n * side * w * 0.06 + d * length * 0.45,
                ]
                pts = [(float(q[0]), float(q[1]), float(a[2])) for q in leaf]
                layer.append(Stroke([pts], self.fill(0.0), self.h.line, LINE * 0.9, True, skin, label))
                inner = [
                    (float(q[0]), float(q[1]), float(a[2]))
                    for q in (
                        o + n * side * w * 0.10 + d * length * 0.08,
                        o + n * side * w * 0.30 + d * length * 0.18,
                        o + n * side * w * 0.16 + d * length * 0.55,
                    )
                ]
                layer.append(Stroke([inner], None, alpha(self.h.shine, 0.55), width * 0.05, False, skin))
        end, before = p[-1], p[-2]
        d3 = (end - before) / max(1e-6, float(np.hypot(*(end - before)[:2])))
        self.lock(
            layer,
            [tuple(end), tuple(end + d3 * width * 0.7), tuple(end + d3 * width * 1.5)],
            width * 0.62,
            TAIL,
            skin=skin,
            casts=False,
        )
        self.tie(layer, end, width * 0.36, skin)

    def tie(
        self,
        layer: list[Stroke],
        at: Sequence[float],
        size: float,
        skin: Skin | None = None,
        color: Color | None = None,
    ) -> None:
        """A hair tie."""
        k = self.a.accent
        t = np.arange(8) * np.pi / 4
        pts = np.c_[at[0] + size * np.cos(t), at[1] + size * 0.62 * np.sin(t), np.full(8, at[2] + 0.01)]
        layer.append(
            Stroke(
                [pts],
                color or k.base,
                k.line,
                LINE,
                True,
                skin or flowing(),
                COVER if layer in (self.front, self.top) else None,
            )
        )

    def ringlet(
        self, layer: list[Stroke], x: float, y0: float, y1: float, width: float, z: float = 0.0, turns: int = 5
    ) -> None:
        """A drill curl: a tapering stack of tilted turns."""
        skin = flowing(0.5, 1.4, 0.55, 1.1)
        step = (y1 - y0) / turns
        for k in reversed(range(turns)):
            y = y0 + k * step
            w = width * (1.0 - 0.62 * (k / turns) ** 1.3)
            turn = [
                (x - w * 0.52, y + step * 0.02, z),
                (x - w * 0.46, y + step * 0.55, z),
                (x - w * 0.05, y + step * 1.28, z),
                (x + w * 0.40, y + step * 1.02, z),
                (x + w * 0.53, y + step * 0.52, z),
                (x + w * 0.34, y - step * 0.04, z),
                (x - w * 0.1, y - step * 0.14, z),
            ]
            layer.append(Stroke([turn], self.fill(0.12), self.h.line, LINE, True, skin))
            dark = [
                (x - w * 0.10, y + step * 1.22, z),
                (x + w * 0.40, y + step * 0.98, z),
                (x + w * 0.50, y + step * 0.5, z),
                (x + w * 0.30, y + step * 0.72, z),
                (x - w * 0.05, y + step * 0.96, z),
            ]
            layer.append(Stroke([dark], alpha(self.h.shadow, 0.75), skin=skin))
            glint = [
                (x - w * 0.34, y + step * 0.30, z),
                (x - w * 0.12, y + step * 0.58, z),
                (x + w * 0.16, y + step * 0.58, z),
            ]
            layer.append(Stroke([glint], None, alpha(self.h.shine, 0.7), width * 0.055, False, skin))

    def curls(
        self,
        layer: list[Stroke],
        centres: Sequence[tuple[float, float, float]],
        z: float = 0.0,
        shade: float = 0.0,
        skin: Skin | None = None,
        casts: bool = False,
    ) -> None:
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
            dark = np.r_[
                np.c_[x + r * 0.97 * np.cos(v), y + r * 0.97 * np.sin(v)],
                np.c_[x - 0.22 * r + r * 0.86 * np.cos(inner), y - 0.24 * r + r * 0.86 * np.sin(inner)],
            ]
            layer.append(Stroke([np.c_[dark, np.full(12, z)]], alpha(self.h.shadow, 0.65), skin=skin))
            u = np.linspace(0.4, 3.0, 6)
            spiral = np.c_[
                x + hand * r * (0.62 - 0.10 * u) * np.cos(u - 0.4),
                y + r * (0.62 - 0.10 * u) * np.sin(u - 0.4),
                np.full(6, z),
            ]
            layer.append(Stroke([spiral], None, alpha(self.h.line, 0.42), 0.009, False, skin))
            v = np.linspace(3.5, 5.0, 4)
            gleam = np.c_[x + 0.68 * r * np.cos(v), y + 0.68 * r * np.sin(v), np.full(4, z)]
            layer.append(Stroke([gleam], None, alpha(self.h.shine, 0.6), r * 0.16, False, skin))

    def cloud(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        bumps: int,
        depth: float = 0.06,
        z: float = -0.05,
        start: float = 0.0,
    ) -> np.ndarray:
        """[m,3] a round contour of many small bumps: coils."""
        points = []
        for k in range(bumps):
            for f, out in ((0.0, -0.4), (0.3, 1.0), (0.7, 0.9)):
                t = start + 2 * np.pi * (k + f) / bumps
                r = 1 + depth * out * (0.75 + 0.5 * self.rng.random())
                points.append((x + rx * r * np.cos(t), y + ry * r * np.sin(t), z))
        return np.array(points)

    def coils(
        self,
        layer: list[Stroke],
        x: float,
        y: float,
        rx: float,
        ry: float,
        count: int,
        hole: Callable[[float, float], bool] | None = None,
        z: float | None = None,
    ) -> None:
        """The texture of coily hair: short arcs, dark below and light above."""
        dark: list[Points] = []
        light: list[Points] = []
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
        right = [
            (0.0, -0.8, -0.15),
            (0.38, -0.70, -0.15),
            (0.56, -0.35, -0.15),
            (0.58 + w * 0.2, 0.1, -0.18),
            (0.56 + w * 0.5 + wave, 0.1 + (b - 0.1) * 0.35, -0.2),
            (0.56 + w * 0.9 - wave, 0.1 + (b - 0.1) * 0.65, -0.2),
            (0.52 + w + wave, b - 0.04, -0.2),
            (0.52 + w + wave, b - 0.04, -0.2),
            (0.34 + w * 0.5, b - 0.10, -0.2),
            (0.26, b + 0.02, -0.2),
            (0.26, b + 0.02, -0.2),
            (0.1, b - 0.07, -0.2),
        ]
        left = [(-x, y, z) for x, y, z in right[:0:-1]]
        self.mass(self.back, right + left, shade, flowing(0.5, 1.3, 0.9, 0.8))


def symmetric(right: list[Any]) -> list[Any]:
    """A closed contour from its right half, whose first point alone lies on the middle."""
    return right + [(-x, y, z) for x, y, z in right[:0:-1]]


def ring3(x: float, y: float, rx: float, ry: float, z: float, n: int = 10) -> np.ndarray:
    """[n,3] an ellipse."""
    t = np.arange(n) * 2 * np.pi / n
    return np.c_[x + rx * np.cos(t), y + ry * np.sin(t), np.full(n, z)]


def shaved(k: Kit, strength: float = 0.75) -> None:
    """Hair clipped to the scalp: the skin's colour darkened by the hair's, with a sharp hairline."""
    tone = mix(k.a.skin.shadow, k.h.deep, strength * 0.82)
    cap = [
        (-0.505, 0.10, 0.05),
        (-0.525, -0.16, 0.04),
        (-0.475, -0.48, 0.02),
        (-0.29, -0.72, 0.02),
        (0.0, -0.80, 0.02),
        (0.29, -0.72, 0.02),
        (0.475, -0.48, 0.02),
        (0.525, -0.16, 0.04),
        (0.505, 0.10, 0.05),
        (0.505, 0.10, 0.05),
        (0.475, 0.08, 0.12),
        (0.465, -0.12, 0.16),
        (0.455, -0.12, 0.16),
        (0.44, -0.32, 0.2),
        (0.30, -0.44),
        (0.0, -0.475),
        (-0.30, -0.44),
        (-0.44, -0.32, 0.2),
        (-0.455, -0.12, 0.16),
        (-0.475, 0.08, 0.12),
        (-0.475, 0.08, 0.12),
    ]
    k.front.append(
        Stroke(
            [cap],
            Linear(
                (-0.1, -0.8, 0.1),
                (0.1, 0.1, 0.1),
                [(0, mix(tone, k.h.light, 0.3)), (0.5, tone), (1, mix(tone, k.a.skin.base, 0.25))],
            ),
            k.h.line,
            LINE,
            True,
            None,
            COVER,
        )
    )
    dots = []
    for _ in range(90):
        x, y = k.rng.uniform(-0.5, 0.5), k.rng.uniform(-0.76, 0.0)
        if (y > -0.50 and abs(x) < 0.47) or (x / 0.5) ** 2 + ((y + 0.1) / 0.68) ** 2 > 0.95:
            continue
        dots.append([(x, y), (x + 0.004, y - 0.022)])
    k.front.append(Stroke(dots, None, alpha(k.h.line, 0.5), 0.008, False))
