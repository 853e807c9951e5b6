"""Curls, coils, braids and locs."""

from collections.abc import Sequence

import numpy as np

from streamer.studio.draw.hair.kit import Kit, flowing, resample, ring3, symmetric
from streamer.studio.draw.palette import alpha
from streamer.studio.draw.sketch import COVER, Radial, Stroke
from streamer.studio.draw.skin import Points

# Coordinates read as paths: filled lines, not one number a line.
# fmt: off


def big_curls(k: Kit) -> None:
    """A mane of loose round curls."""
    k.height, k.side = 0.99, 0.74
    k.length = 0.85
    rng = k.rng
    k.mass(k.back, k.cloud(0.0, -0.06, 0.80, 0.90, 17, 0.06, -0.15), 0.55, flowing(0.5, 1.5, 0.6, 0.6))
    for e in (-1, 1):
        spots = [(e * (0.70 + rng.uniform(-0.03, 0.03)), y,
        0.155 + rng.uniform(-0.015, 0.02)) for y in (0.62, 0.40, 0.16, -0.08, -0.30)]
        k.curls(k.back, spots, -0.12, 0.2)
        k.curls(k.behind, [(e * 0.60, 0.86, 0.14), (e * 0.47, 0.72, 0.12), (e * 0.62, 0.62, 0.14),
            (e * 0.52, 0.48, 0.12), (e * 0.63, 0.36, 0.14)], 0.0, 0.08, flowing(0.5, 1.2, 0.7, 0.7))
    k.mass(k.front, [(-0.56, 0.05, 0.05), (-0.72, -0.2, 0.0), (-0.66, -0.55, 0.0), (-0.4, -0.88, 0.0),
            (0.0, -0.99, 0.0), (0.4, -0.88, 0.0), (0.66, -0.55, 0.0), (0.72, -0.2, 0.0), (0.56, 0.05, 0.05),
                     (0.47, 0.0, 0.14), (0.42, -0.26, 0.2), (0.2, -0.40), (-0.2, -0.40), (-0.42, -0.26, 0.2),
        (-0.47, 0.0, 0.14)], casts=True)
    for e in (-1, 1):
        k.curls(k.front, [(e * 0.60, 0.20, 0.13), (e * 0.54, 0.02, 0.12), (e * 0.66, -0.06, 0.13),
        (e * 0.66, -0.30, 0.14), (e * 0.58, -0.54, 0.14), (e * 0.42, -0.74, 0.14), (e * 0.20, -0.87, 0.135)], 0.05, 0.0)
    k.curls(k.front, [(0.0, -0.90, 0.13), (0.3, -0.60, 0.14), (-0.32, -0.58, 0.14), (0.02, -0.66, 0.14),
            (0.46, -0.38, 0.13), (-0.47, -0.36, 0.13)], 0.22)
    k.curls(k.front, [(0.44, -0.16, 0.10), (-0.44, -0.14, 0.105), (0.32, -0.30, 0.115), (-0.33, -0.28, 0.12),
        (0.17, -0.38, 0.12), (-0.18, -0.36, 0.12), (0.0, -0.34, 0.11)], 0.36, casts=True)


def afro(k: Kit) -> None:
    """A round, soft crown of coils."""
    k.height, k.side = 0.96, 0.8
    k.length = 0.4
    k.mass(k.back, k.cloud(0.0, -0.26, 0.86, 0.80, 26, 0.035, -0.12), 0.35)
    k.coils(k.back, 0.0, -0.2, 0.80, 0.72, 90, lambda x, y: abs(x) < 0.5 and y > -0.5, -0.1)
    line = [(0.49, 0.06, 0.1), (0.475, -0.18, 0.16), (0.38, -0.36), (0.2, -0.46), (0.0, -0.48), (-0.2, -0.46),
        (-0.38, -0.36), (-0.475, -0.18, 0.16), (-0.49, 0.06, 0.1)]
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
    k.coils(k.front, 0.0, -0.40, 0.74, 0.56, 150, lambda x, y: (abs(x) < 0.52 and y > -0.46) or y > 0.0)
    k.front.append(Stroke([ring3(-0.26, -0.72, 0.30, 0.17, 0.15)], Radial((-0.26, -0.72, 0.15), (0.04, -0.72, 0.15),
        [(0, alpha(k.h.shine, 0.45)), (1, alpha(k.h.shine, 0.0))]), skin=flowing()))


def coily_puffs(k: Kit) -> None:
    """Parted in the middle, two coily puffs."""
    k.height, k.side = 0.82, 0.54
    k.length = 0.4
    for e in (-1, 1):
        puff = k.cloud(e * 0.58, -0.70, 0.36, 0.34, 15, 0.05, -0.1)
        k.mass(k.back, puff, 0.1)
        k.coils(k.back, e * 0.58, -0.70, 0.34, 0.32, 55, None, -0.08)
        k.back.append(Stroke([ring3(e * 0.58 - 0.1, -0.86, 0.14, 0.10, -0.06)], Radial((e * 0.58 - 0.1, -0.86, -0.06),
            (e * 0.58 + 0.04, -0.86, -0.06), [(0, alpha(k.h.shine, 0.4)), (1, alpha(k.h.shine, 0.0))])))
    right = [(0.0, -0.80, -0.1), (0.40, -0.68, -0.1), (0.53, -0.34, -0.1), (0.51, 0.05, -0.1), (0.40, 0.25, -0.1)]
    k.mass(k.back, symmetric(right), 0.55)
    line = [(0.495, 0.03, 0.1), (0.475, -0.2, 0.16), (0.36, -0.36), (0.18, -0.455), (0.0, -0.48), (-0.18, -0.455),
        (-0.36, -0.36), (-0.475, -0.2, 0.16), (-0.495, 0.03, 0.1)]
    k.crown(-0.03, line, 0.03)
    for e in (-1, 1):
        k.strands(k.front, [[(e * x, y), (e * (x * 0.85 + 0.06), y - 0.16), (e * 0.45, -0.60, 0.06)] for x,
        y in ((0.06, -0.48), (0.2, -0.44), (0.34, -0.37), (0.45, -0.24))], 0.55)
        k.tie(k.front, (e * 0.46, -0.60, 0.02), 0.105)
        edges = [[(e * 0.20, -0.45), (e * 0.22, -0.405), (e * 0.26, -0.40)]]
        k.strands(k.front, edges, 0.8, 0.011)
    k.strands(k.front, [[(0.0, -0.48), (0.0, -0.68, 0.24), (0.0, -0.81, 0.1)]], 0.9, 0.014)


def box_braids(k: Kit) -> None:
    """Many slim braids, some with beads."""
    k.length = 1.5
    right = [(0.0, -0.84, -0.1), (0.42, -0.74, -0.1), (0.60, -0.36, -0.1), (0.62, 0.2, -0.12), (0.62, 0.9, -0.15),
        (0.4, 1.0, -0.15)]
    k.mass(k.back, symmetric(right), 0.6, flowing(0.5, 1.3, 0.85, 0.7))
    for e in (-1, 1):
        for j, (x, end) in enumerate(((0.64, 1.30), (0.55, 1.42), (0.47, 1.34))):
            layer = k.back if j == 0 else k.behind
            _rope(k, layer, [(e * (x - 0.05), -0.1, 0.0), (e * x, 0.3, 0.02), (e * (x + 0.02), 0.85, 0.03),
                (e * (x - 0.01), end, 0.03)], 0.10)
            _bead(k, layer, (e * (x - 0.008), end - 0.06, 0.03))
    line = [(0.49, 0.04, 0.1), (0.47, -0.2, 0.16), (0.36, -0.40), (0.17, -0.52), (0.0, -0.55), (-0.17, -0.52),
                (-0.36, -0.40), (-0.47, -0.2, 0.16), (-0.49, 0.04, 0.1)]
    k.crown(0.005, line, 0.03)
    scalp = [[(x * 0.25 + 0.08, -0.79, 0.12), (x * 0.72 + 0.03, -0.66, 0.25), (x, y)] for x, y in ((-0.44, -0.26),
        (-0.3, -0.44), (-0.12, -0.52), (0.06, -0.54), (0.22, -0.5), (0.36, -0.4), (0.45, -0.24))]
    k.strands(k.front, scalp, 0.75, 0.012)
    for pts in ([(0.30, -0.50), (0.46, -0.24, 0.18), (0.53, 0.1, 0.1), (0.51, 0.5, 0.1), (0.53, 0.86, 0.1)],
            [(-0.30, -0.50), (-0.46, -0.24, 0.18), (-0.53, 0.1, 0.1), (-0.51, 0.5, 0.1), (-0.53, 0.92, 0.1)],
                    [(0.10, -0.56), (0.30, -0.42), (0.455, -0.08, 0.18), (0.46, 0.3, 0.14), (0.45, 0.66, 0.14)],
            [(0.06, -0.57), (-0.24, -0.46), (-0.43, -0.14, 0.18), (-0.465, 0.24, 0.14), (-0.45, 0.72, 0.14)],
                    [(0.08, -0.60), (-0.14, -0.48), (-0.31, -0.24), (-0.395, 0.08), (-0.41, 0.38, 0.2)]):
        _rope(k, k.front, pts, 0.085)
        _bead(k, k.front, pts[-1])


def locs(k: Kit) -> None:
    """Thick locs to the jaw, falling as they like."""
    k.height, k.side = 0.88, 0.66
    k.length = 0.9
    right = [(0.0, -0.86, -0.1), (0.44, -0.76, -0.1), (0.64, -0.36, -0.1), (0.62, 0.2, -0.1), (0.46, 0.4, -0.1)]
    k.mass(k.back, symmetric(right), 0.6)
    for e in (-1, 1):
        for x, end, out in ((0.42, 0.62, 0.0), (0.60, 0.66, 0.06), (0.52, 0.78, 0.02), (0.66, 0.46, 0.12)):
            _loc(k, k.back, [(e * (x - 0.06), -0.3, -0.08), (e * (x + 0.02), 0.1, -0.08), (e * (x + out), end,
            -0.08)], 0.13)
    k.crown(0.03, [(0.48, 0.0, 0.12), (0.46, -0.24, 0.18), (0.3, -0.44), (0.0, -0.52), (-0.3, -0.44),
                (-0.46, -0.24, 0.18), (-0.48, 0.0, 0.12)], 0.0)
    for pts in ([(0.30, -0.80, 0.1), (0.60, -0.55, 0.05), (0.68, -0.1, 0.04), (0.64, 0.30, 0.04)],
            [(-0.30, -0.80, 0.1), (-0.60, -0.55, 0.05), (-0.68, -0.1, 0.04), (-0.66, 0.34, 0.04)],
                [(0.26, -0.72), (0.50, -0.44, 0.14), (0.57, -0.02, 0.1), (0.55, 0.42, 0.08)], [(-0.26, -0.72),
            (-0.50, -0.44, 0.14), (-0.57, -0.02, 0.1), (-0.54, 0.48, 0.08)],
                [(0.16, -0.76), (0.36, -0.50), (0.46, -0.14, 0.18), (0.44, 0.16, 0.16)], [(-0.12, -0.76),
            (-0.34, -0.50), (-0.45, -0.16, 0.18), (-0.44, 0.10, 0.16)],
                [(0.08, -0.80, 0.2), (0.22, -0.56), (0.30, -0.30), (0.31, -0.10)], [(0.0, -0.80, 0.2), (-0.18, -0.56),
            (-0.28, -0.30), (-0.26, -0.07)], [(0.04, -0.80, 0.2), (0.03, -0.56), (0.10, -0.36), (0.16, -0.18)]):
        _loc(k, k.front, pts, 0.125)


def _loc(k: Kit, layer: list[Stroke], spine: Points, width: float) -> None:
    k.lock(layer, spine, width, (0.8, 1.0, 0.96, 1.0, 0.94, 0.78), 0.0 if layer is not k.back else 0.3)
    p = resample(spine, 9)
    ticks = [[(q[0] - width * 0.36, q[1] - 0.012, q[2]), (q[0], q[1] + 0.014, q[2]), (q[0] + width * 0.36,
        q[1] - 0.006, q[2])] for q in p[1:-1]]
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
    layer.append(Stroke([ring3(x, y - 0.02, 0.042, 0.050, z, 8)], k.a.accent.base, k.a.accent.line, 0.010, True,
        flowing(), label))
