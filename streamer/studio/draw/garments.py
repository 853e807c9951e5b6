"""Clothes: one function per garment, in GARMENTS. `back` parts are behind the neck, the rest over the body."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamer.studio.draw.anatomy import Anatomy, mirror
from streamer.studio.draw.body import torso_side
from streamer.studio.draw.palette import Cloth, alpha, cloth, mix
from streamer.studio.draw.tailor import Tailor, mirrored

# Coordinates read as paths: filled lines, not one number a line.
# fmt: off

def hoodie_back(t: Tailor) -> None:
    right = [(0.0, 0.62, -0.2), (0.24, 0.66, -0.15), (0.40, 0.80, -0.1), (0.42, 0.95, 0.0), (0.2, 1.02, 0.0)]
    t.piece(right + mirror(right[:0:-1]), t.a.cloth)
    inner = [(0.0, 0.69, -0.2), (0.2, 0.72, -0.15), (0.31, 0.84, -0.1), (0.2, 1.0, 0.0)]
    t.flat(inner + mirror(inner[:0:-1]), t.a.cloth.deep)


def hoodie(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    t.torso(c, [(0.21, 0.83, 0.0), (0.14, 0.93, 0.05), (0.0, 1.0, 0.1)], 0.05)
    t.folds(c, 0.05)
    hood = [(0.22, 0.79, 0.0), (0.34, 0.80, 0.0), (0.42, 0.90, 0.0), (0.36, 1.02, 0.05), (0.18, 1.11, 0.1),
        (0.0, 1.13, 0.1),
            (0.0, 1.13, 0.1), (0.0, 1.0, 0.1), (0.0, 1.0, 0.1), (0.13, 0.96, 0.08), (0.20, 0.87, 0.0)]
    t.both(hood, c)
    t.lines([[(0.30, 0.86, 0.0), (0.26, 0.99, 0.05), (0.12, 1.06, 0.1)]], alpha(c.deep, 0.7))
    with t.hanging("cord", 1.01, 1.42):
        t.lines([[(0.13, 1.01, 0.1), (0.145, 1.15, 0.1), (0.13, 1.38, 0.1)]], k.line, 0.034)
        t.lines([[(0.13, 1.01, 0.1), (0.145, 1.15, 0.1), (0.13, 1.38, 0.1)]], k.base, 0.022)
        t.lines([[(0.13, 1.38, 0.1), (0.13, 1.42, 0.1)]], k.deep, 0.030)
    t.lines([[(0.30, 1.63, 0.1), (0.36, 1.50, 0.1), (0.10, 1.46, 0.1), (0.0, 1.46, 0.1)]], alpha(c.line, 0.7))


def _collar_back(t: Tailor, c: Cloth, top: float = 0.70, wide: float = 0.235) -> None:
    right = [(0.0, top, -0.15), (wide * 0.7, top + 0.012, -0.1), (wide, top + 0.08, 0.0), (wide + 0.03, 0.90, 0.0),
    (0.1, 0.94, 0.0), (0.0, 0.94, 0.0)]
    t.piece(mirrored(right), c)
    inner = [(0.0, top + 0.045, -0.15), (wide * 0.66, top + 0.055, -0.1), (wide * 0.86, top + 0.13, 0.0),
        (0.1, 0.94, 0.0), (0.0, 0.94, 0.0)]
    t.flat(mirrored(inner), c.deep)


def _shirt_collar(t: Tailor, c: Cloth, spread: float = 0.0) -> None:
    flap = [(0.168, 0.745, 0.05), (0.225, 0.765, 0.0), (0.262, 0.86, 0.03), (0.255 + spread, 0.955, 0.07),
    (0.255 + spread, 0.955, 0.07), (0.13 + spread, 1.045, 0.1),
            (0.13 + spread, 1.045, 0.1), (0.045, 0.955, 0.12), (0.0, 0.915, 0.12), (0.0, 0.915, 0.12),
        (0.09, 0.87, 0.1)]
    t.both(flap, c)
    t.lines([[(0.215, 0.80, 0.02), (0.235 + spread, 0.94, 0.07), (0.135 + spread, 1.015, 0.1)]], alpha(c.deep, 0.5),
        0.008)


def _tie(t: Tailor, c: Cloth, end: float = 1.75) -> None:
    blade = [(-0.04, 1.0, 0.12), (0.04, 1.0, 0.12), (0.075, 1.35, 0.12), (0.10, end, 0.12), (-0.10, end, 0.12),
    (-0.075, 1.35, 0.12)]
    with t.hanging("tie", 1.0, end):
        t.piece(blade, c)
        for y in (1.12, 1.27, 1.42, 1.57):
            t.flat([(-0.052 - (y - 1.12) * 0.09, y + 0.035, 0.12), (0.055 + (y - 1.12) * 0.07, y - 0.05, 0.12),
            (0.06 + (y - 1.12) * 0.07, y - 0.015, 0.12), (-0.058 - (y - 1.12) * 0.09, y + 0.07, 0.12)],
                alpha(c.light, 0.55))
    t.piece([(-0.07, 0.915, 0.13), (0.07, 0.915, 0.13), (0.07, 0.915, 0.13), (0.046, 1.01, 0.13), (0.0, 1.025, 0.13),
            (-0.046, 1.01, 0.13), (-0.07, 0.915, 0.13), (-0.07, 0.915, 0.13)], c)


def shirt_back(t: Tailor) -> None:
    _collar_back(t, t.a.cloth)


def shirt_and_tie(t: Tailor) -> None:
    c = t.a.cloth
    t.torso(c, [(0.205, 0.82, 0.0), (0.12, 0.90, 0.05), (0.0, 0.94, 0.1)], 0.015)
    t.folds(c, 0.01)
    t.lines([[(0.055, 1.05, 0.1), (0.06, 1.95, 0.1)]], alpha(c.deep, 0.5), both=False)
    pocket = [(0.24, 1.26, 0.08), (0.42, 1.26, 0.08), (0.42, 1.26, 0.08), (0.415, 1.44, 0.08), (0.33, 1.475, 0.08),
        (0.245, 1.44, 0.08), (0.24, 1.26, 0.08)]
    t.lines([pocket, [(0.24, 1.295, 0.08), (0.42, 1.295, 0.08)]], alpha(c.line, 0.55), both=False)
    _tie(t, t.a.accent)
    _shirt_collar(t, c, 0.01)


_WHITE = cloth((246, 243, 240))


def _undershirt(t: Tailor, c: Cloth, tie: Cloth | None) -> None:
    t.piece(mirrored([(0.0, 0.93, 0.1), (0.12, 0.88, 0.05), (0.24, 0.84, 0.0), (0.36, 1.0, 0.05), (0.30, 1.7, 0.1),
    (0.0, 1.7, 0.1)]), c, line=False)
    if tie is not None:
        _tie(t, tie)
    _shirt_collar(t, c)


def _coat(t: Tailor, c: Cloth, v: float, looseness: float, lapel: float) -> None:
    """Two fronts that meet at height `v`, with notched lapels."""
    side = torso_side(t.a, looseness)
    front = [(0.215, 0.80, 0.02), *side[1:], (0.015, 1.95, 0.1), (0.015, v + 0.06, 0.12), (0.06, v - 0.10, 0.12),
        (0.17, 1.05, 0.08), (0.19, 0.92, 0.05)]
    t.both(front, c)
    t.folds(c, looseness)
    flap = [(0.20, 0.775, 0.02), (0.30, 0.835, 0.0), (0.33 + lapel, 0.945, 0.03), (0.33 + lapel, 0.945, 0.03),
        (0.27 + lapel, 0.99, 0.05), (0.27 + lapel, 0.99, 0.05),
            (0.36 + lapel, 1.02, 0.05), (0.36 + lapel, 1.02, 0.05), (0.25 + lapel * 0.6, 1.22, 0.08), (0.03, v, 0.12),
        (0.03, v, 0.12), (0.13, 1.12, 0.09), (0.185, 0.93, 0.05)]
    t.both(flap, c)
    t.lines([[(0.20, 0.80, 0.02), (0.27 + lapel * 0.5, 0.92, 0.04), (0.27 + lapel, 0.99, 0.05)]], alpha(c.line, 0.6),
        0.009)


def _button(t: Tailor, x: float, y: float, r: float, fill: tuple[int, ...], line: tuple[int, ...]) -> None:
    k = np.arange(8) * np.pi / 4
    o = t.a.sketch.outline(np.c_[x + r * np.cos(k), y + r * np.sin(k), np.full(8, 0.12)], t.skin)
    t.a.sketch.paint(o, fill, line, 0.010)


def blazer_back(t: Tailor) -> None:
    _collar_back(t, t.a.cloth, 0.71, 0.25)


def blazer(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    _undershirt(t, _WHITE, k)
    _coat(t, c, 1.43, 0.035, 0.02)
    _button(t, 0.045, 1.52, 0.028, k.light, c.line)
    t.lines([[(0.33, 1.36, 0.08), (0.47, 1.345, 0.06)]], c.line, 0.012, both=False)
    t.flat([(0.35, 1.34, 0.08), (0.38, 1.285, 0.08), (0.41, 1.33, 0.08), (0.44, 1.29, 0.08), (0.455, 1.335, 0.07)],
        k.light)


def sailor_back(t: Tailor) -> None:
    c = t.a.accent
    t.piece(mirrored([(0.0, 0.74, -0.15), (0.18, 0.75, -0.1), (0.34, 0.84, 0.0), (0.42, 0.96, 0.0), (0.1, 1.0, 0.0),
        (0.0, 1.0, 0.0)]), c)


def sailor(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    t.torso(c, [(0.23, 0.86, 0.0), (0.15, 1.05, 0.06), (0.0, 1.24, 0.12)], 0.02)
    t.folds(c, 0.02)
    t.flat(mirrored([(0.0, 1.10, 0.1), (0.11, 1.10, 0.1), (0.0, 1.26, 0.12)]), c.light)
    t.lines([[(-0.10, 1.115, 0.1), (0.0, 1.125, 0.12), (0.10, 1.115, 0.1)]], k.base, 0.020, both=False)
    collar = [(0.205, 0.80, 0.0), (0.33, 0.865, 0.0), (0.50, 0.955, 0.0), (0.545, 1.10, 0.02), (0.40, 1.18, 0.06),
        (0.20, 1.25, 0.1), (0.025, 1.31, 0.13), (0.025, 1.31, 0.13),
              (0.10, 1.13, 0.1), (0.175, 0.97, 0.05)]
    t.both(collar, k)
    stripe = [(0.262, 0.885, 0.0), (0.46, 0.985, 0.0), (0.495, 1.075, 0.02), (0.37, 1.135, 0.06), (0.19, 1.195, 0.1),
        (0.075, 1.235, 0.12)]
    t.lines([stripe], mix(k.light, (255, 255, 255), 0.85), 0.014)
    red = cloth((205, 58, 70)) if not (k.base[0] > 150 and k.base[1] < 110) else cloth((44, 58, 99))
    with t.hanging("scarf", 1.27, 1.63):
        t.both([(0.0, 1.29, 0.14), (0.10, 1.27, 0.13), (0.20, 1.40, 0.12), (0.16, 1.63, 0.12), (0.16, 1.63, 0.12),
            (0.07, 1.52, 0.13)], red)
    t.piece([(-0.055, 1.255, 0.15), (0.055, 1.255, 0.15), (0.062, 1.345, 0.15), (0.0, 1.365, 0.15),
        (-0.062, 1.345, 0.15)], red)


def turtleneck(t: Tailor) -> None:
    c = t.a.cloth
    t.torso(c, [(0.21, 0.80, 0.0), (0.12, 0.86, 0.05), (0.0, 0.885, 0.1)], 0.03)
    t.folds(c, 0.02)
    n = 0.175 if t.a.build < 1.1 else 0.215
    roll = [(0.0, 0.715, 0.14), (n * 0.6, 0.70, 0.1), (n + 0.012, 0.665, 0.0), (n + 0.035, 0.72, 0.0),
        (n + 0.045, 0.80, 0.0), (n + 0.055, 0.85, 0.0), (n * 0.6, 0.905, 0.1), (0.0, 0.92, 0.14)]
    t.piece(mirrored(roll), c)
    t.lines([[(x, 0.725 - 0.25 * x * x, 0.12),
        (x * 1.1, 0.90 - 0.6 * x * x, 0.12)] for x in (0.03, 0.075, 0.115, 0.15)], alpha(c.deep, 0.6), 0.009)
    for y in (1.20, 1.36, 1.52):
        t.lines([[(0.0, y + 0.02, 0.1), (0.2, y, 0.1), (0.40, y + 0.01, 0.08)]], alpha(c.deep, 0.28), 0.020)


def kimono_back(t: Tailor) -> None:
    _collar_back(t, t.a.accent, 0.735, 0.25)


def kimono(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    t.piece(mirrored([(0.0, 1.0, 0.1), (0.12, 0.92, 0.06), (0.24, 0.86, 0.0), (0.30, 1.2, 0.1), (0.0, 1.5, 0.1)]),
        _WHITE, line=False)
    side = torso_side(t.a, 0.06)
    right = [(0.225, 0.83, 0.0), *side[1:], (0.0, 1.95, 0.1), (0.0, 1.34, 0.1), (0.16, 1.08, 0.07)]
    t.piece(right, c)
    left = [(-x, y, z) for x, y, z in right[:-3]] + [(0.24, 1.95, 0.1), (0.20, 1.50, 0.1), (-0.02, 1.26, 0.1),
        (-0.16, 1.06, 0.07)]
    t.piece(left, c)
    rng = t.a.rng("kimono")
    for _ in range(13):
        e = 1 if rng.random() < 0.5 else -1
        x, y, r = e * rng.uniform(0.28, side[4][0] - 0.10), rng.uniform(1.12, 1.6), rng.uniform(0.030, 0.05)
        for q in range(5):
            u = q * 2 * np.pi / 5 + x
            cx, cy = x + r * 0.8 * np.cos(u), y + r * 0.8 * np.sin(u)
            p = np.arange(6) * np.pi / 3
            t.flat(np.c_[cx + r * 0.55 * np.cos(p), cy + r * 0.55 * np.sin(p), np.full(6, 0.03)], alpha(k.light, 0.8))
        p = np.arange(6) * np.pi / 3
        t.flat(np.c_[x + r * 0.32 * np.cos(p), y + r * 0.32 * np.sin(p), np.full(6, 0.03)], mix(k.base,
            (236, 180, 60), 0.6))
    t.folds(c, 0.05)
    band = [(0.205, 0.775, 0.0), (0.275, 0.80, 0.0), (0.255, 1.0, 0.05), (0.06, 1.34, 0.12), (-0.05, 1.47, 0.12),
        (-0.05, 1.38, 0.12), (0.12, 1.10, 0.08), (0.19, 0.95, 0.03)]
    t.piece(band, k)
    other = [(-x, y, z) for x, y, z in band[:4]] + [(0.20, 1.66, 0.12), (0.10, 1.66, 0.12), (-0.12, 1.13, 0.08),
        (-0.19, 0.95, 0.03)]
    t.piece(other, k)
    obi = [(-0.50, 1.56, 0.08), (0.0, 1.585, 0.12), (0.50, 1.56, 0.08), (0.52, 1.95, 0.08), (-0.52, 1.95, 0.08)]
    t.piece(obi, k)


def t_shirt(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    side = torso_side(t.a, 0.03)
    w = side[4][0]
    right = [(0.0, 1.02, 0.1), (0.14, 0.965, 0.06), (0.22, 0.84, 0.0), *side[1:4], (w + 0.005, 1.22, 0.0),
        (w + 0.045, 1.40, 0.0), (w + 0.045, 1.40, 0.0), (w - 0.06, 1.425, 0.05),
             (w - 0.20, 1.40, 0.05), (w - 0.20, 1.40, 0.05), (w - 0.225, 1.30, 0.05), (w - 0.20, 1.95, 0.05),
        (0.0, 1.95, 0.1)]
    t.piece(mirrored(right), c)
    t.lines([[(w - 0.225, 1.27, 0.05), (w - 0.20, 1.40, 0.05)], [(w - 0.19, 1.27, 0.0), (w - 0.27, 1.32, 0.0),
        (w - 0.34, 1.33, 0.0)]], c.line, 0.012)
    t.lines([[(w + 0.025, 1.365, 0.0), (w - 0.07, 1.39, 0.05), (w - 0.20, 1.365, 0.05)]], k.base, 0.022)
    neck = [(0.0, 1.015, 0.1), (0.145, 0.96, 0.06), (0.222, 0.84, 0.0)]
    t.lines([neck], k.line, 0.050)
    t.lines([neck], k.base, 0.032)
    t.lines([[(w - 0.16, 1.45, 0.0), (w - 0.15, 1.95, 0.0)]], alpha(t.a.line, 0.8), 0.011)
    print_ = t.a.rng("print").integers(4)
    if print_ == 0:
        star = [(np.cos(u) * r * 0.17, 1.36 + np.sin(u) * r * 0.17, 0.12) for q in range(10) for u,
        r in [(-np.pi / 2 + q * np.pi / 5, 1.0 if q % 2 == 0 else 0.45)] for _ in (0, 1)]
        t.flat(star, k.base)
    elif print_ == 1:
        t.flat([(0.0, 1.30, 0.12), (0.0, 1.30, 0.12), (0.075, 1.235, 0.12), (0.155, 1.28, 0.12), (0.13, 1.39, 0.12),
        (0.0, 1.50, 0.12), (0.0, 1.50, 0.12), (-0.13, 1.39, 0.12), (-0.155, 1.28, 0.12), (-0.075, 1.235, 0.12)], k.base)
    elif print_ == 2:
        bolt = [(0.05, 1.20, 0.12), (-0.10, 1.39, 0.12), (-0.01, 1.39, 0.12), (-0.06, 1.56, 0.12), (0.10, 1.33, 0.12),
        (0.01, 1.33, 0.12)]
        t.flat([q for q in bolt for _ in (0, 1)], k.base)
    else:
        for y, r in ((1.24, 0.26), (1.32, 0.30), (1.40, 0.30)):
            t.lines([[(-r, y, 0.1), (0.0, y + 0.012, 0.12), (r, y, 0.1)]], k.base, 0.038, both=False)


def sundress(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    w = torso_side(t.a)[4][0]
    t.lines([[(w - 0.20, 1.25, 0.0), (w - 0.165, 1.45, 0.0), (w - 0.14, 1.95, 0.0)]], alpha(t.a.line, 0.85), 0.012)
    right = [(0.0, 1.30, 0.12), (0.0, 1.30, 0.12), (0.12, 1.215, 0.12), (0.28, 1.20, 0.08), (0.40, 1.27, 0.05),
        (w - 0.185, 1.36, 0.0), (w - 0.185, 1.36, 0.0), (w - 0.175, 1.55, 0.0), (w - 0.16, 1.95, 0.0), (0.0, 1.95, 0.1)]
    t.piece(mirrored(right), c)
    t.both([(0.235, 0.88, 0.0), (0.285, 0.90, 0.0), (0.315, 1.06, 0.05), (0.30, 1.225, 0.08), (0.245, 1.225, 0.08),
        (0.265, 1.06, 0.05)], c)
    frill = []
    for j, x in enumerate(np.linspace(-0.40, 0.40, 15)):
        frill.append((x, 1.205 + 0.10 * max(0.0, 1 - abs(x) / 0.12) + 0.28 * max(0.0,
        abs(x) - 0.26) + (0.028 if j % 2 else -0.012), 0.11))
    t.lines([frill], k.line, 0.050, both=False)
    t.lines([frill], k.light, 0.034, both=False)
    t.lines([[(0.10, 1.34, 0.12), (0.13, 1.50, 0.12), (0.12, 1.95, 0.12)], [(0.28, 1.30, 0.1), (0.30, 1.5, 0.1)]],
        alpha(c.deep, 0.55))
    t.both([(0.0, 1.325, 0.14), (0.06, 1.27, 0.14), (0.12, 1.29, 0.14), (0.11, 1.37, 0.14), (0.05, 1.37, 0.14)], k)
    _button(t, 0.0, 1.325, 0.026, k.base, k.line)


def cloak_back(t: Tailor) -> None:
    c = t.a.cloth
    t.piece(mirrored([(0.0, 0.60, -0.25), (0.22, 0.58, -0.2), (0.40, 0.50, -0.15), (0.40, 0.50, -0.15),
        (0.44, 0.75, -0.1), (0.46, 0.98, 0.0), (0.0, 1.0, 0.0)]), c)
    t.flat(mirrored([(0.0, 0.64, -0.25), (0.21, 0.62, -0.2), (0.365, 0.57, -0.15), (0.39, 0.76, -0.1),
        (0.40, 0.96, 0.0), (0.0, 0.98, 0.0)]), mix(c.deep, c.line, 0.3))


def cloak(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    gold = cloth((216, 172, 84))
    steel = cloth(mix((150, 158, 178), k.base, 0.25))
    t.piece(mirrored([(0.0, 0.93, 0.1), (0.10, 0.88, 0.06), (0.21, 0.83, 0.0), (0.45, 1.0, 0.0), (0.50, 1.95, 0.05),
        (0.0, 1.95, 0.1)]), cloth(mix(k.base, (60, 56, 70), 0.5)))
    plate = [(0.0, 1.10, 0.13), (0.16, 1.05, 0.1), (0.34, 1.10, 0.06), (0.42, 1.26, 0.05), (0.34, 1.45, 0.08),
        (0.16, 1.56, 0.12), (0.0, 1.60, 0.14), (0.0, 1.60, 0.14)]
    t.piece(mirrored(plate), steel)
    t.lines([[(0.0, 1.13, 0.13), (0.15, 1.085, 0.1), (0.315, 1.13, 0.06), (0.385, 1.26, 0.05), (0.315, 1.425, 0.08),
        (0.15, 1.53, 0.12), (0.0, 1.565, 0.14)]], gold.base, 0.020)
    t.lines([[(0.0, 1.16, 0.14), (0.0, 1.54, 0.14)]], alpha(steel.deep, 0.8), 0.012, both=False)
    t.flat([(-0.26, 1.17, 0.08), (-0.16, 1.13, 0.1), (-0.18, 1.34, 0.1), (-0.27, 1.38, 0.08)], alpha((255, 255, 255),
        0.4))
    w = torso_side(t.a, 0.08)
    cape = [(0.21, 0.80, 0.0), *w[1:], (w[-1][0] - 0.30, 1.95, 0.05), (w[-1][0] - 0.36, 1.45, 0.05),
        (0.42, 1.18, 0.07), (0.19, 1.06, 0.1), (0.02, 1.02, 0.12), (0.10, 0.93, 0.1)]
    t.both(cape, c)
    hem = [(0.0, 1.02, 0.12), (0.19, 1.065, 0.1), (0.42, 1.185, 0.07), (w[-1][0] - 0.355, 1.45, 0.05),
        (w[-1][0] - 0.295, 1.95, 0.05)]
    t.lines([hem], gold.line, 0.034)
    t.lines([hem], gold.base, 0.020)
    t.lines([[(0.40, 1.0, 0.0), (0.52, 1.2, 0.03), (0.58, 1.6, 0.03)], [(0.60, 1.08, 0.0), (0.68, 1.35, 0.0),
        (0.71, 1.9, 0.0)]], alpha(c.deep, 0.8), 0.013)
    _button(t, 0.0, 1.01, 0.072, gold.base, gold.line)
    _button(t, 0.0, 1.01, 0.044, k.base, gold.deep)
    t.flat([(-0.024, 0.99, 0.15), (-0.004, 0.978, 0.15), (0.004, 0.996, 0.15), (-0.016, 1.008, 0.15)],
        alpha((255, 255, 255), 0.8))


def lab_coat_back(t: Tailor) -> None:
    _collar_back(t, _WHITE, 0.71, 0.25)


def lab_coat(t: Tailor) -> None:
    c, k = _WHITE, t.a.cloth
    _undershirt(t, k, t.a.accent)
    _coat(t, c, 1.60, 0.05, 0.03)
    t.piece([(0.36, 1.40, 0.08), (0.56, 1.39, 0.05), (0.56, 1.39, 0.05), (0.565, 1.63, 0.05), (0.36, 1.64, 0.08),
        (0.36, 1.64, 0.08), (0.36, 1.40, 0.08)], c)
    t.lines([[(0.44, 1.33, 0.07), (0.44, 1.46, 0.07)]], t.a.accent.base, 0.030, both=False)
    t.lines([[(0.49, 1.345, 0.07), (0.49, 1.46, 0.07)]], (60, 64, 84), 0.024, both=False)
    badge = [(-0.50, 1.38, 0.07), (-0.34, 1.38, 0.08), (-0.34, 1.38, 0.08), (-0.34, 1.59, 0.08), (-0.34, 1.59, 0.08),
        (-0.50, 1.59, 0.07), (-0.50, 1.59, 0.07), (-0.50, 1.38, 0.07)]
    with t.hanging("badge", 1.34, 1.59):
        t.piece(badge, cloth((252, 252, 252)))
        t.flat([(-0.48, 1.40, 0.08), (-0.36, 1.40, 0.08), (-0.36, 1.435, 0.08), (-0.48, 1.435, 0.08)], t.a.accent.base)
        t.flat([(-0.475, 1.45, 0.08), (-0.42, 1.45, 0.08), (-0.42, 1.52, 0.08), (-0.475, 1.52, 0.08)], t.a.skin.base)
        t.lines([[(-0.405, 1.47, 0.08), (-0.36, 1.47, 0.08)], [(-0.405, 1.50, 0.08), (-0.37, 1.50, 0.08)]],
            (150, 152, 164), 0.010, both=False)


def track_jacket(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    t.torso(c, [(0.21, 0.82, 0.0), (0.12, 0.90, 0.05), (0.0, 0.93, 0.1)], 0.045)
    t.folds(c, 0.045)
    w = torso_side(t.a, 0.045)
    for d in (0.0, 0.062):
        t.lines([[(0.34 + d * 0.3, 0.875 - d * 0.55 + 0.028, 0.0), (w[3][0] - 0.12 + d, 1.0 - d * 0.35, 0.0),
        (w[4][0] - 0.085 + d, 1.22, 0.0), (w[5][0] - 0.085 + d, 1.5, 0.0), (w[6][0] - 0.09 + d, 1.95, 0.0)]], k.light,
            0.034)
    t.flat(mirrored([(0.0, 1.26, 0.12), (0.3, 1.22, 0.08), (0.46, 1.17, 0.05), (0.455, 1.30, 0.05),
            (0.3, 1.35, 0.08), (0.0, 1.39, 0.12)]), k.base)
    stand = [(0.0, 0.83, 0.14), (0.10, 0.79, 0.1), (0.20, 0.70, 0.0), (0.255, 0.72, 0.0), (0.275, 0.83, 0.0),
        (0.20, 0.93, 0.08), (0.08, 1.0, 0.12), (0.0, 1.02, 0.14)]
    t.both([*stand, stand[-1]], c)
    t.lines([[(0.04, 0.815, 0.13), (0.13, 0.77, 0.08), (0.235, 0.715, 0.0)]], k.light, 0.024)
    t.lines([[(0.0, 0.84, 0.14), (0.0, 1.95, 0.13)]], c.line, 0.030, both=False)
    t.lines([[(0.0, 0.84, 0.14), (0.0, 1.95, 0.13)]], (214, 216, 224), 0.016, both=False)
    t.piece([(-0.020, 1.06, 0.15), (0.020, 1.06, 0.15), (0.024, 1.14, 0.15), (-0.024, 1.14, 0.15)],
        cloth((206, 208, 218)))


def track_back(t: Tailor) -> None:
    _collar_back(t, t.a.cloth, 0.66, 0.245)


def cardigan(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    t.piece(mirrored([(0.0, 0.99, 0.1), (0.13, 0.94, 0.06), (0.22, 0.85, 0.0), (0.40, 1.0, 0.05), (0.35, 1.95, 0.1),
        (0.0, 1.95, 0.1)]), k)
    t.lines([[(0.0, 1.0, 0.1), (0.135, 0.95, 0.06), (0.215, 0.86, 0.0)]], k.deep, 0.024)
    side = torso_side(t.a, 0.06)
    front = [(0.225, 0.82, 0.0), *side[1:], (0.03, 1.95, 0.1), (0.035, 1.52, 0.12), (0.14, 1.28, 0.1),
        (0.21, 1.02, 0.05)]
    t.both(front, c)
    t.folds(c, 0.06)
    rib = [(0.235, 0.82, 0.0), (0.225, 1.03, 0.05), (0.155, 1.28, 0.1), (0.06, 1.52, 0.12), (0.055, 1.95, 0.12)]
    t.lines([rib], c.line, 0.078)
    t.lines([rib], c.shadow, 0.054)
    for y in (1.60,):
        _button(t, 0.058, y, 0.026, k.light, c.line)
    for x in (0.36, 0.47, 0.58):
        t.lines([[(x, 1.05 + 0.2 * (x - 0.36), 0.05), (x + 0.015, 1.22, 0.05), (x - 0.005, 1.38, 0.05),
        (x + 0.02, 1.62, 0.05)]], alpha(c.deep, 0.35), 0.018)


def overalls(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    t.torso(k, [(0.22, 0.84, 0.0), (0.14, 0.96, 0.06), (0.0, 1.01, 0.1)], 0.03)
    for y in (1.06, 1.16, 1.26, 1.36, 1.46, 1.56):
        t.lines([[(0.0, y + 0.012, 0.1), (0.3, y, 0.08), (0.62, y - 0.01, 0.0)]], alpha(k.deep, 0.4), 0.022)
    t.folds(k, 0.02)
    neck = [(0.0, 1.01, 0.1), (0.14, 0.955, 0.06), (0.222, 0.84, 0.0)]
    t.lines([neck], k.line, 0.044)
    t.lines([neck], k.light, 0.028)
    bib = [(0.0, 1.29, 0.13), (0.30, 1.28, 0.1), (0.30, 1.28, 0.1), (0.33, 1.50, 0.1), (0.46, 1.64, 0.06),
        (0.50, 1.95, 0.05), (0.0, 1.95, 0.1)]
    t.both([(0.30, 0.885, 0.0), (0.385, 0.915, 0.0), (0.335, 1.10, 0.06), (0.295, 1.33, 0.1), (0.215, 1.33, 0.1),
        (0.255, 1.10, 0.06)], c)
    t.piece(mirrored(bib), c)
    t.lines([[(0.0, 1.32, 0.13), (0.272, 1.312, 0.1), (0.30, 1.50, 0.1), (0.42, 1.64, 0.06)]], alpha(c.light, 0.9),
        0.008)
    for e in (-1, 1):
        _button(t, e * 0.25, 1.335, 0.034, (222, 186, 96), c.line)
    pocket = [(-0.15, 1.42, 0.13), (0.15, 1.42, 0.13), (0.15, 1.42, 0.13), (0.15, 1.63, 0.13), (0.0, 1.67, 0.13),
            (-0.15, 1.63, 0.13), (-0.15, 1.42, 0.13), (-0.15, 1.42, 0.13)]
    t.piece(pocket, c)


def leather_jacket(t: Tailor) -> None:
    c = cloth(mix(t.a.cloth.base, (44, 40, 48), 0.72))
    k = t.a.accent
    t.piece(mirrored([(0.0, 1.0, 0.1), (0.13, 0.95, 0.06), (0.22, 0.85, 0.0), (0.40, 1.0, 0.05), (0.35, 1.95, 0.1),
        (0.0, 1.95, 0.1)]), k)
    t.lines([[(0.0, 1.0, 0.1), (0.135, 0.955, 0.06), (0.215, 0.86, 0.0)]], k.deep, 0.024)
    side = torso_side(t.a, 0.04)
    front = [(0.215, 0.80, 0.02), *side[1:], (0.07, 1.95, 0.1), (0.09, 1.60, 0.12), (0.19, 1.20, 0.08),
        (0.215, 0.98, 0.05)]
    t.both(front, c)
    t.folds(c, 0.04)
    t.lines([[(0.085, 1.95, 0.12), (0.10, 1.60, 0.12), (0.20, 1.20, 0.09)]], (190, 194, 206), 0.014)
    lapel = [(0.20, 0.76, 0.02), (0.31, 0.81, 0.0), (0.42, 0.93, 0.02), (0.42, 0.93, 0.02), (0.33, 0.985, 0.05),
        (0.33, 0.985, 0.05), (0.49, 1.06, 0.04), (0.49, 1.06, 0.04), (0.34, 1.30, 0.08), (0.12, 1.56, 0.12),
        (0.12, 1.56, 0.12), (0.19, 1.18, 0.09), (0.20, 0.92, 0.05)]
    t.both(lapel, c)
    t.lines([[(0.235, 0.83, 0.02), (0.36, 0.925, 0.03), (0.31, 0.96, 0.05)], [(0.30, 1.0, 0.05), (0.44, 1.07, 0.05),
        (0.32, 1.26, 0.08), (0.17, 1.44, 0.11)]], alpha(c.light, 0.75), 0.010)
    for e in (-1, 1):
        _button(t, e * 0.375, 0.92, 0.016, (214, 216, 226), c.line)
        _button(t, e * 0.44, 1.065, 0.016, (214, 216, 226), c.line)
    t.lines([[(0.30, 1.46, 0.08), (0.46, 1.40, 0.06)]], (190, 194, 206), 0.012)
    w = side[3][0]
    t.lines([[(w - 0.20, 1.0, 0.0), (w - 0.08, 1.05, 0.0), (w - 0.01, 1.18, 0.0)]], alpha(c.light, 0.6), 0.026)


@dataclass(frozen=True)
class Garment:
    """The part over the body, the part behind the neck, and the sleeve: its cloth and its cuff."""

    front: Callable[[Tailor], None]
    back: Callable[[Tailor], None] | None = None
    sleeve: str = "cloth"  # "cloth", "accent", "white", "leather" or "skin"
    cuff: str = "cloth"  # "cloth", "accent" or "none"

    def sleeve_and_cuff(self, a: Anatomy) -> tuple[Cloth | None, Cloth | None]:
        """The cloth of the forearm and of its cuff; None for bare skin."""
        cloths: dict[str, Cloth | None] = {
            "cloth": a.cloth,
            "accent": a.accent,
            "white": _WHITE,
            "leather": cloth(mix(a.cloth.base, (44, 40, 48), 0.72)),
        }
        return cloths.get(self.sleeve), cloths.get(self.cuff)


GARMENTS: dict[str, Garment] = {
    "hoodie": Garment(hoodie, hoodie_back),
    "shirt and tie": Garment(shirt_and_tie, shirt_back),
    "blazer": Garment(blazer, blazer_back, cuff="white"),
    "sailor": Garment(sailor, sailor_back, cuff="accent"),
    "turtleneck": Garment(turtleneck),
    "kimono": Garment(kimono, kimono_back, cuff="accent"),
    "t-shirt": Garment(t_shirt, sleeve="skin", cuff="none"),
    "sundress": Garment(sundress, sleeve="skin", cuff="none"),
    "cloak": Garment(cloak, cloak_back, sleeve="accent", cuff="cloth"),
    "lab coat": Garment(lab_coat, lab_coat_back, sleeve="white", cuff="white"),
    "track jacket": Garment(track_jacket, track_back, cuff="accent"),
    "cardigan": Garment(cardigan),
    "overalls": Garment(overalls, sleeve="accent", cuff="accent"),
    "leather jacket": Garment(leather_jacket, sleeve="leather", cuff="leather"),
}


def garment(a: Anatomy) -> Garment:
    """The character's garment."""
    return GARMENTS[str(a.traits["garment"])]
