"""What a character wears on head, face, ears and neck: one function each, in the tables at the end.

Each table belongs to a place in the painting order: `HEADWEAR_BEHIND` behind the front hair, `HEADWEAR` over it,
`EYEWEAR` under the fringe, `NECKWEAR` over the clothes.
"""

from collections.abc import Callable

import numpy as np

from streamer.studio.draw import latches
from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.eyes import EYE_X, EYE_Y
from streamer.studio.draw.palette import Cloth, Color, alpha, cloth, hair, mix
from streamer.studio.draw.sketch import COVER, Fill, Linear, Radial
from streamer.studio.draw.skin import Hanging, Points, Skin, body, head, ramp
from streamer.studio.dynamics import CORD, EAR, EARRING, SCARF, Material, Part

# Coordinates read as paths: filled lines, not one number a line.
# fmt: off

LINE = 0.0135
GOLD, SILVER = cloth((222, 180, 92)), cloth((200, 204, 216))


class Bench:
    """Draws pieces in head space, as covers that occlude the face behind them."""

    def __init__(self, a: Anatomy, skin: Skin = head, label: str | None = COVER) -> None:
        self.a, self.skin, self.label = a, skin, label

    def piece(self, points: Points, c: Cloth, top: float | None = None, bottom: float | None = None) -> None:
        """A closed piece, lit from above."""
        ys = [p[1] for p in points]
        z = float(np.mean([p[2] for p in points]))
        fill = Linear((-0.1, min(ys) if top is None else top, z), (0.1, max(ys) if bottom is None else bottom, z),
            [(0, c.light), (0.45, c.base), (1, c.shadow)])
        self.shape(points, fill, c.line, LINE)

    def shape(self, points: Points, fill: Fill | None, line: Color | None = None, width: float = 0.0,
            closed: bool = True, cover: bool = True) -> None:
        s = self.a.sketch
        s.paint(s.outline(points, self.skin, closed), fill, line, width, self.label if cover else None)

    def lines(self, paths: list[Points], color: Color, width: float, cover: bool = False) -> None:
        s = self.a.sketch
        s.paint(s.outline(paths, self.skin, False), None, color, width, self.label if cover else None)


def _hung(name: str, anchor: tuple[float, float, float], tip: tuple[float, float, float], material: Material,
        skin: Skin = head, rigid: bool = False) -> Hanging:
    """A skin that swings about an anchor."""
    weight = float(skin(np.array([anchor]))[0][0])
    return Hanging(skin, Part(name, anchor, tip, material, weight, rigid=rigid))


def oval(x: float, y: float, rx: float, ry: float, z: float, n: int = 10) -> np.ndarray:
    """[n,3] an ellipse."""
    t = np.arange(n) * 2 * np.pi / n
    return np.c_[x + rx * np.cos(t), y + ry * np.sin(t), np.full(n, z)]


def _shell(a: Anatomy) -> Cloth:
    return cloth(mix(a.accent.base, (58, 58, 72), 0.15))


# Head, behind the front hair -----------------------------------------------------------------------------------------


def ears_over(a: Anatomy) -> bool:
    """Whether ears and horns are in front of the hair, because voluminous hair would hide them."""
    return bool(a.marks["hair_top"] > 0.91)


def _ear_label(a: Anatomy) -> str | None:
    return COVER if ears_over(a) else None


def cat_ears(a: Anatomy) -> None:
    b, top = Bench(a, label=_ear_label(a)), min(0.86, a.marks["hair_top"])
    fur = hair(a.hair.base) if not a.is_("hair", "bald", "hijab", "buzz cut") else hair((60, 50, 56))
    c = Cloth(fur.light, fur.base, fur.shadow, fur.deep, fur.line)
    for e in (-1, 1):
        y = -top
        b.skin = _hung("ear", (e * 0.38, y + 0.24, 0.0), (e * 0.44, y - 0.31, 0.0), EAR)
        ear = [(e * 0.16, y + 0.06, -0.02), (e * 0.26, y - 0.16, -0.04), (e * 0.44, y - 0.31, -0.06),
            (e * 0.44, y - 0.31, -0.06), (e * 0.56, y - 0.04, -0.05), (e * 0.58, y + 0.30, -0.02),
            (e * 0.35, y + 0.3, -0.02)]
        b.piece(ear, c, y - 0.3, y + 0.3)
        inner = [(e * 0.27, y + 0.06, -0.02), (e * 0.33, y - 0.09, -0.03), (e * 0.435, y - 0.20, -0.05),
            (e * 0.435, y - 0.20, -0.05), (e * 0.51, y - 0.02, -0.04), (e * 0.52, y + 0.22, -0.02),
            (e * 0.38, y + 0.16, -0.02)]
        b.shape(inner, Linear((e * 0.43, y - 0.2, -0.04), (e * 0.43, y + 0.2, -0.04), [(0, (250, 196, 200)), (1,
            (226, 140, 156))]))
        tuft = [(e * 0.24, y + 0.12, -0.01), (e * 0.31, y - 0.02, -0.02), (e * 0.31, y - 0.02, -0.02),
            (e * 0.32, y + 0.04, -0.02), (e * 0.38, y - 0.06, -0.02), (e * 0.38, y - 0.06, -0.02),
            (e * 0.38, y + 0.12, -0.01)]
        b.shape(tuft, mix(fur.light, (255, 255, 255), 0.45))


def fox_ears(a: Anatomy) -> None:
    b, y = Bench(a, label=_ear_label(a)), -min(0.80, a.marks["hair_top"])
    fur = a.hair if not a.is_("hair", "bald", "hijab", "buzz cut") else hair((214, 126, 60))
    c = Cloth(fur.light, fur.base, fur.shadow, fur.deep, fur.line)
    for e in (-1, 1):
        b.skin = _hung("ear", (e * 0.38, y + 0.26, 0.0), (e * 0.42, y - 0.38, 0.0), EAR)
        ear = [(e * 0.10, y + 0.08, -0.02), (e * 0.22, y - 0.14, -0.05), (e * 0.42, y - 0.38, -0.08),
        (e * 0.42, y - 0.38, -0.08), (e * 0.56, y - 0.10, -0.06), (e * 0.62, y + 0.32, -0.02),
            (e * 0.3, y + 0.3, -0.02)]
        b.piece(ear, c, y - 0.4, y + 0.3)
        tip = [(e * 0.32, y - 0.26, -0.06), (e * 0.42, y - 0.38, -0.08), (e * 0.42, y - 0.38, -0.08),
            (e * 0.485, y - 0.22, -0.07), (e * 0.44, y - 0.25, -0.07), (e * 0.44, y - 0.25, -0.07),
            (e * 0.405, y - 0.19, -0.07), (e * 0.405, y - 0.19, -0.07), (e * 0.36, y - 0.25, -0.07)]
        b.shape(tip, mix(fur.deep, (40, 26, 34), 0.5))
        inner = [(e * 0.24, y + 0.04, -0.02), (e * 0.29, y - 0.12, -0.04), (e * 0.41, y - 0.25, -0.06),
            (e * 0.41, y - 0.25, -0.06), (e * 0.50, y - 0.04, -0.05), (e * 0.53, y + 0.2, -0.02),
            (e * 0.38, y + 0.12, -0.02)]
        b.shape(inner, mix((255, 246, 236), fur.light, 0.25))
        b.lines([[(e * 0.32, y + 0.06, -0.02), (e * 0.38, y - 0.08, -0.03)], [(e * 0.40, y + 0.08, -0.02),
            (e * 0.43, y - 0.08, -0.03)]], alpha(fur.shadow, 0.7), 0.010)


def bunny_ears(a: Anatomy) -> None:
    y = -min(0.86, a.marks["hair_top"]) + 0.02
    skin: Skin = lambda p: (np.zeros(len(p)), 0.9 * ramp(p[:, 1], y, y - 0.6))  # noqa: E731
    b = Bench(a, skin, _ear_label(a))
    c = cloth((248, 242, 240))
    for e in (-1, 1):
        bent = 0.10 if e > 0 else 0.0
        b.skin = _hung("ear", (e * 0.20, y + 0.11, 0.0), (e * 0.23, y - 0.34, 0.0), EAR, skin)
        ear = [(e * 0.10, y + 0.10, 0.0), (e * 0.10, y - 0.12, -0.02), (e * (0.14 + bent * 0.4), y - 0.30, -0.05),
            (e * (0.23 + bent), y - 0.345 + bent, -0.06), (e * (0.31 + bent), y - 0.26 + bent, -0.05),
            (e * 0.33, y - 0.08, -0.02), (e * 0.29, y + 0.12, 0.0)]
        b.piece(ear, c, y - 0.35, y + 0.1)
        inner = [(e * 0.155, y + 0.06, 0.0), (e * 0.155, y - 0.1, -0.02), (e * (0.19 + bent * 0.6), y - 0.235, -0.04),
            (e * (0.235 + bent * 0.9), y - 0.27 + bent, -0.05), (e * (0.27 + bent * 0.8), y - 0.2 + bent * 0.5,
            -0.04), (e * 0.275, y - 0.06, -0.02), (e * 0.245, y + 0.08, 0.0)]
        b.shape(inner, (248, 184, 194))


def horns(a: Anatomy) -> None:
    b, y = Bench(a, label=_ear_label(a)), -min(0.88, a.marks["hair_top"])
    c = cloth((84, 66, 84))
    for e in (-1, 1):
        horn = [(e * 0.26, y + 0.16, 0.05), (e * 0.34, y - 0.04, 0.0), (e * 0.52, y - 0.14, -0.03),
        (e * 0.60, y - 0.32, -0.06), (e * 0.60, y - 0.32, -0.06), (e * 0.70, y - 0.10, -0.05),
            (e * 0.62, y + 0.10, -0.02), (e * 0.48, y + 0.24, 0.0)]
        b.piece(horn, c, y - 0.3, y + 0.2)
        b.lines([[(e * x0, y + y0, 0.0), (e * (x0 + x1) / 2 + e * 0.02, y + (y0 + y1) / 2 + 0.03, 0.02),
            (e * x1, y + y1, 0.0)] for x0, y0, x1, y1 in ((0.33, -0.02, 0.50, 0.17), (0.43, -0.09, 0.60, 0.08),
            (0.53, -0.15, 0.66, -0.02))], alpha(c.line, 0.75), 0.011)
        b.lines([[(e * 0.40, y - 0.02, 0.02), (e * 0.52, y - 0.08, 0.0)]], alpha(c.light, 0.9), 0.022)


def halo_back(a: Anatomy) -> None:
    y = -a.marks["hair_top"] - 0.20
    b = Bench(a, _hung("halo", (0.0, y, 0.0), (0.0, y + 0.7, 0.0), SCARF, rigid=True), None)
    b.shape(oval(0.0, y, 0.40, 0.125, -0.05, 12), None, alpha((255, 236, 160), 0.35), 0.085)
    b.shape(oval(0.0, y, 0.40, 0.125, -0.05, 12), None, (226, 176, 70), 0.052)
    b.shape(oval(0.0, y, 0.40, 0.125, -0.05, 12), None, (255, 238, 168), 0.030)


# Head, over the front hair --------------------------------------------------------------------------------------------


def headphones(a: Anatomy) -> None:
    b, c = Bench(a), _shell(a)
    y, w = a.marks["hair_top"], a.marks["hair_side"]
    arc = [(-w - 0.02, 0.0, -0.02), (-w - 0.02, -0.36, -0.02), (-0.40, -y + 0.08, -0.02), (0.0, -y - 0.065, -0.02),
        (0.40, -y + 0.08, -0.02), (w + 0.02, -0.36, -0.02), (w + 0.02, 0.0, -0.02)]
    b.lines([arc], c.line, 0.105, True)
    b.lines([arc], c.base, 0.080)
    b.lines([[(x, yy - 0.012, z) for x, yy, z in arc[1:-1]]], alpha(c.light, 0.9), 0.022)
    for e in (-1, 1):
        x = e * (w + 0.025)
        b.piece(oval(x - e * 0.055, 0.075, 0.085, 0.185, 0.06), cloth((54, 52, 64)))
        b.piece(oval(x, 0.07, 0.105, 0.205, 0.0), c)
        b.shape(oval(x + e * 0.012, 0.07, 0.062, 0.130, 0.0), c.shadow, c.line, 0.009)
        b.shape(oval(x + e * 0.012, 0.07, 0.026, 0.055, 0.0, 8), Radial((x, 0.07, 0.0), (x, 0.12, 0.0), [(0,
            (255, 255, 255)), (1, mix(a.accent.light, (140, 240, 255), 0.5))]))
        b.lines([[(x - e * 0.05, -0.07, 0.02), (x - e * 0.01, -0.105, 0.01), (x + e * 0.03, -0.10, 0.0)]],
            alpha((255, 255, 255), 0.7), 0.020)
    x = -(w - 0.03)
    boom = [(x, 0.2, 0.06), (x + 0.07, 0.40, 0.16), (x + 0.25, 0.50, 0.32)]
    b.lines([boom], c.line, 0.034, True)
    b.lines([boom], (70, 68, 82), 0.020)
    b.piece(oval(x + 0.27, 0.505, 0.052, 0.036, 0.34, 8), cloth((54, 52, 64)))


def beret(a: Anatomy) -> None:
    b, c = Bench(a), a.accent
    hat = [(-0.57, -0.42, 0.10), (-0.74, -0.56, 0.02), (-0.68, -0.82, 0.0), (-0.34, -1.00, 0.0), (0.12, -1.03, 0.0),
        (0.50, -0.90, 0.0), (0.63, -0.68, 0.02), (0.56, -0.48, 0.08), (0.38, -0.53, 0.22), (0.0, -0.56, 0.32),
        (-0.36, -0.48, 0.24)]
    b.piece(hat, c)
    b.lines([[(-0.57, -0.435, 0.1), (-0.36, -0.50, 0.24), (0.0, -0.58, 0.33), (0.38, -0.55, 0.22),
        (0.56, -0.49, 0.08)]], c.deep, 0.034)
    b.lines([[(-0.52, -0.58, 0.1), (-0.48, -0.78, 0.05), (-0.28, -0.90, 0.05)], [(0.40, -0.62, 0.15),
        (0.44, -0.76, 0.08)]], alpha(c.deep, 0.7), 0.012)
    b.lines([[(-0.02, -1.02, 0.0), (0.01, -1.10, 0.0)]], c.line, 0.045)
    b.lines([[(-0.42, -0.83, 0.1), (-0.2, -0.92, 0.1), (0.0, -0.94, 0.1)]], alpha(c.light, 0.8), 0.045)


def beanie(a: Anatomy) -> None:
    b, c = Bench(a), a.accent
    dome = [(-0.60, -0.36, 0.06), (-0.61, -0.62, 0.02), (-0.42, -0.90, 0.0), (0.0, -1.03, 0.0), (0.42, -0.90, 0.0),
        (0.61, -0.62, 0.02), (0.60, -0.36, 0.06), (0.0, -0.5, 0.34)]
    b.piece(dome, c)
    b.lines([[(x, -0.50 + 0.1 * x * x, 0.3 - 0.4 * x * x), (x * 0.85, -0.78, 0.18),
        (x * 0.4, -1.0, 0.0)] for x in (-0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45)], alpha(c.deep, 0.55), 0.011)
    brim = [(-0.625, -0.30, 0.06), (-0.64, -0.46, 0.06), (-0.60, -0.545, 0.08), (-0.34, -0.63, 0.27),
        (0.0, -0.665, 0.36), (0.34, -0.63, 0.27), (0.60, -0.545, 0.08), (0.64, -0.46, 0.06), (0.625, -0.30, 0.06),
        (0.36, -0.395, 0.28), (0.0, -0.43, 0.38), (-0.36, -0.395, 0.28)]
    b.piece(brim, c)
    b.lines([[(x, -0.605 + 0.30 * x * x, 0.35 - 0.75 * x * x),
        (x * 1.02, -0.445 + 0.30 * x * x, 0.35 - 0.75 * x * x)] for x in np.linspace(-0.54, 0.54, 13)],
        alpha(c.deep, 0.5), 0.010)
    b.skin = _hung("bobble", (0.0, -0.97, 0.0), (0.0, -1.14, 0.0), EARRING, rigid=True)
    b.piece(oval(0.0, -1.06, 0.115, 0.10, -0.02, 9), cloth(mix(c.light, (255, 255, 255), 0.5)))


def cap(a: Anatomy) -> None:
    b, c, k = Bench(a), a.cloth, a.accent
    dome = [(-0.60, -0.34, 0.04), (-0.61, -0.62, 0.02), (-0.42, -0.88, 0.0), (0.0, -0.98, 0.0), (0.42, -0.88, 0.0),
        (0.61, -0.62, 0.02), (0.60, -0.34, 0.04), (0.3, -0.47, 0.25), (0.0, -0.5, 0.34), (-0.3, -0.47, 0.25)]
    b.piece(dome, c)
    front = [(-0.34, -0.47, 0.28), (-0.36, -0.72, 0.16), (-0.24, -0.90, 0.06), (0.0, -0.965, 0.03),
        (0.24, -0.90, 0.06), (0.36, -0.72, 0.16), (0.34, -0.47, 0.28)]
    b.piece(front, k)
    b.lines([[(0.0, -0.96, 0.02), (0.0, -0.8, 0.2), (0.0, -0.5, 0.34)]], alpha(k.deep, 0.5), 0.009)
    star = [(0.0 + np.cos(u) * r * 0.105, -0.70 + np.sin(u) * r * 0.105, 0.30) for q in range(10) for u,
        r in [(-np.pi / 2 + q * np.pi / 5, 1.0 if q % 2 == 0 else 0.45)] for _ in (0, 1)]
    b.shape(star, c.base, None)
    bill = [(-0.52, -0.40, 0.16), (-0.50, -0.36, 0.34), (-0.30, -0.32, 0.60), (0.0, -0.31, 0.70), (0.30, -0.32, 0.60),
        (0.50, -0.36, 0.34), (0.52, -0.40, 0.16), (0.52, -0.40, 0.16), (0.28, -0.49, 0.32), (0.0, -0.53, 0.38),
        (-0.28, -0.49, 0.32), (-0.52, -0.40, 0.16)]
    b.piece(bill, c)
    b.lines([[(-0.44, -0.385, 0.3), (0.0, -0.355, 0.6), (0.44, -0.385, 0.3)]], alpha(c.light, 0.6), 0.010)
    b.piece(oval(0.0, -0.985, 0.045, 0.028, 0.0, 8), c)


def witch_hat(a: Anatomy) -> None:
    b, k = Bench(a), a.accent
    c = cloth(mix(a.cloth.base, (50, 42, 66), 0.6))
    b.skin = _hung("tip", (0.0, -0.60, 0.0), (0.36, -1.16, 0.0), EAR)
    cone = [(-0.50, -0.50, 0.05), (-0.38, -0.78, 0.0), (-0.20, -1.02, 0.0), (0.10, -1.15, -0.02),
        (0.44, -1.13, -0.05), (0.44, -1.13, -0.05), (0.32, -1.04, 0.0), (0.40, -0.80, 0.0), (0.50, -0.50, 0.05),
        (0.0, -0.46, 0.3)]
    b.piece(cone, c)
    b.lines([[(0.10, -1.10, 0.0), (0.16, -1.0, 0.03), (0.30, -1.02, 0.0)], [(-0.2, -0.98, 0.03),
        (-0.08, -0.92, 0.08)]], alpha(c.line, 0.8), 0.012)
    b.skin = head
    band = [(-0.485, -0.55, 0.06), (-0.44, -0.68, 0.04), (0.0, -0.72, 0.25), (0.44, -0.68, 0.04),
        (0.485, -0.55, 0.06), (0.0, -0.55, 0.33)]
    b.piece(band, k)
    brim = [(-0.98, -0.44, -0.02), (-0.98, -0.44, -0.02), (-0.66, -0.58, 0.04), (-0.40, -0.60, 0.16),
        (0.0, -0.60, 0.32), (0.40, -0.60, 0.16), (0.66, -0.58, 0.04), (0.98, -0.44, -0.02), (0.98, -0.44, -0.02),
        (0.60, -0.36, 0.28), (0.0, -0.36, 0.5), (-0.60, -0.36, 0.28)]
    b.piece(brim, c)
    b.lines([[(-0.80, -0.47, 0.02), (-0.4, -0.51, 0.25), (0.0, -0.50, 0.42), (0.4, -0.51, 0.25)]],
        alpha(c.light, 0.5), 0.013)
    buckle = [(-0.07, -0.70, 0.3), (0.07, -0.70, 0.3), (0.07, -0.70, 0.3), (0.075, -0.58, 0.33), (0.075, -0.58, 0.33),
        (-0.075, -0.58, 0.33), (-0.075, -0.58, 0.33), (-0.07, -0.70, 0.3)]
    b.shape(buckle, None, GOLD.line, 0.044)
    b.shape(buckle, None, GOLD.base, 0.028)


def hair_clips(a: Anatomy) -> None:
    b = Bench(a)
    for x0, y0, x1, y1, c in ((0.30, -0.26, 0.42, -0.10, a.accent.base), (0.36, -0.32, 0.47, -0.16, mix(a.accent.base,
            (255, 255, 255), 0.55))):
        z = 0.30
        b.lines([[(x0, y0, z), (x1, y1, z)]], a.accent.line, 0.052, True)
        b.lines([[(x0, y0, z), (x1, y1, z)]], c, 0.032)
        b.lines([[(x0 + 0.01, y0 + 0.004, z), ((x0 + x1) / 2, (y0 + y1) / 2 - 0.006, z)]], alpha((255, 255, 255),
            0.7), 0.009)


def flower(a: Anatomy) -> None:
    b, c = Bench(a), a.accent
    if max(c.base) - min(c.base) < 40:
        c = cloth((240, 120, 150))
    x, y, z = -0.44, -0.38, 0.16
    for u in (2.2, 3.3):
        leaf = [(x + 0.08 * np.cos(u), y - 0.08 * np.sin(u), z), (x + 0.22 * np.cos(u - 0.3),
        y - 0.20 * np.sin(u - 0.3), z), (x + 0.29 * np.cos(u), y - 0.29 * np.sin(u), z), (x + 0.29 * np.cos(u),
            y - 0.29 * np.sin(u), z), (x + 0.20 * np.cos(u + 0.35), y - 0.20 * np.sin(u + 0.35), z)]
        b.piece(leaf, cloth((92, 150, 96)))
    for q in range(5):
        u = q * 2 * np.pi / 5 - 0.3
        px, py = x + 0.105 * np.cos(u), y + 0.105 * np.sin(u)
        t = np.arange(8) * np.pi / 4
        lobe = np.c_[px + 0.088 * np.cos(t) * (1 + 0.18 * np.cos(t - u)),
            py + 0.088 * np.sin(t) * (1 + 0.18 * np.cos(t - u)), np.full(8, z + 0.02)]
        b.shape(lobe, Radial((x, y, z), (x + 0.2, y, z), [(0, c.shadow), (0.45, c.base), (1, c.light)]), c.line, 0.010)
    b.shape(oval(x, y, 0.052, 0.052, z + 0.03, 8), GOLD.base, GOLD.line, 0.009)


def ribbon(a: Anatomy) -> None:
    b, c = Bench(a), a.accent
    x, y, z = 0.30, -a.marks["hair_top"] + 0.13, 0.10
    for e in (-1, 1):
        b.skin = _hung("ribbon", (x, y, z), (x + e * 0.15, y + 0.31, z), CORD)
        b.piece([(x + e * 0.03, y + 0.02, z), (x + e * 0.12, y + 0.12, z), (x + e * 0.19, y + 0.28, z),
        (x + e * 0.19, y + 0.28, z), (x + e * 0.11, y + 0.25, z), (x + e * 0.06, y + 0.31, z),
            (x + e * 0.06, y + 0.31, z)], c)
    b.skin = head
    for e in (-1, 1):
        b.piece([(x, y, z), (x + e * 0.14, y - 0.15, z), (x + e * 0.31, y - 0.19, z), (x + e * 0.33, y - 0.02, z),
        (x + e * 0.29, y + 0.12, z), (x + e * 0.13, y + 0.08, z)], c)
        b.lines([[(x + e * 0.05, y, z), (x + e * 0.15, y - 0.04, z), (x + e * 0.22, y - 0.05, z)],
            [(x + e * 0.05, y + 0.03, z), (x + e * 0.14, y + 0.03, z)]], alpha(c.deep, 0.8), 0.012)
        b.lines([[(x + e * 0.16, y - 0.12, z), (x + e * 0.26, y - 0.15, z)]], alpha(c.light, 0.9), 0.022)
    b.piece(oval(x, y, 0.062, 0.078, z + 0.01, 8), c)


# Face, under the fringe -----------------------------------------------------------------------------------------------


def _frames(a: Anatomy, shape: Callable[[int], list[tuple[float, float]]], color: Color, width: float,
        full: bool = True) -> None:
    b, z = Bench(a, latches.eyewear(a)), 0.45
    for e in (-1, 1):
        lens = [(x, y, z - 0.30 * abs(x) ** 1.7) for x, y in shape(e)]
        b.shape(lens, Linear((e * 0.1, EYE_Y - 0.15, 0.4), (e * 0.35, EYE_Y + 0.17, 0.4), [(0, alpha((255, 255, 255),
            0.22)), (0.42, alpha((255, 255, 255), 0.03)), (0.5, alpha((255, 255, 255), 0.16)), (0.6,
            alpha((255, 255, 255), 0.02)), (1, alpha((255, 255, 255), 0.05))]), cover=False)
        rim = lens if full else lens[: len(lens) // 2 + 1]
        b.shape(rim, None, color, width, full)
        outer = max(lens, key=lambda p: abs(p[0]))
        b.lines([[outer, (e * 0.47, outer[1] - 0.015, 0.2), (e * (a.half_width + 0.015), EYE_Y - 0.06, 0.02)]], color,
            width, True)
    inner = max(abs(min((p for p in shape(1)), key=lambda p: abs(p[0]))[0]), 0.03)
    b.lines([[(-inner, EYE_Y - 0.005, z), (0.0, EYE_Y - 0.035, z + 0.02), (inner, EYE_Y - 0.005, z)]], color, width,
        True)


def round_glasses(a: Anatomy) -> None:
    t = np.arange(14) * 2 * np.pi / 14
    _frames(a, lambda e: [(e * EYE_X + 0.178 * np.cos(u), EYE_Y + 0.012 + 0.178 * np.sin(u)) for u in t],
        mix(GOLD.shadow, (90, 60, 50), 0.35), 0.0165)


def square_glasses(a: Anatomy) -> None:
    corners = [(-0.168, -0.125), (0.0, -0.138), (0.178, -0.128), (0.186, -0.05), (0.170, 0.125), (0.10, 0.150),
    (-0.08, 0.150), (-0.150, 0.120), (-0.172, -0.02)]
    _frames(a, lambda e: [(e * (EYE_X + x), EYE_Y + 0.01 + y) for x, y in corners], (46, 40, 52), 0.026)


def half_rim(a: Anatomy) -> None:
    corners = [(-0.160, 0.01), (-0.168, -0.10), (0.0, -0.122), (0.180, -0.112), (0.182, 0.01), (0.13, 0.125),
    (0.0, 0.145), (-0.12, 0.115)]
    _frames(a, lambda e: [(e * (EYE_X + x), EYE_Y + 0.015 + y) for x, y in corners], mix((96, 100, 120),
        a.accent.deep, 0.3), 0.022, False)


def eyepatch(a: Anatomy) -> None:
    b = Bench(a)
    c = cloth((48, 42, 52))
    strap = [(-0.46, -0.26, 0.16), (-0.1, -0.14, 0.42), (0.12, 0.0, 0.43)]
    b.lines([strap, [(0.36, 0.06, 0.30), (0.47, 0.04, 0.16)]], c.base, 0.022, True)
    patch = [(0.075, -0.02, 0.44), (0.22, -0.06, 0.42), (0.375, -0.01, 0.32), (0.385, 0.12, 0.30), (0.31, 0.24, 0.34),
        (0.21, 0.275, 0.40), (0.11, 0.22, 0.43), (0.07, 0.10, 0.44)]
    b.piece(patch, c)
    b.lines([[(0.11, 0.03, 0.44), (0.22, -0.01, 0.42), (0.34, 0.03, 0.33)], [(0.12, 0.18, 0.43), (0.21, 0.23, 0.40),
        (0.30, 0.20, 0.35)]], alpha(c.light, 0.7), 0.009)


# Neck -----------------------------------------------------------------------------------------------------------------


def scarf(a: Anatomy) -> None:
    hung = _hung("scarf", (0.22, 0.90, 0.14), (0.26, 1.58, 0.14), SCARF, _loose)
    b, c = Bench(a, hung, None), a.accent
    tail = [(0.12, 0.92, 0.15), (0.30, 0.90, 0.13), (0.36, 1.2, 0.13), (0.37, 1.52, 0.13), (0.16, 1.55, 0.14),
        (0.15, 1.2, 0.14)]
    b.piece(tail, c)
    b.lines([[(x, 1.52 + 0.01, 0.14), (x + 0.005, 1.60, 0.14)] for x in (0.18, 0.22, 0.26, 0.30, 0.345)], c.base, 0.022)
    b.lines([[(0.155, y, 0.14), (0.26, y + 0.012, 0.14), (0.362, y, 0.14)] for y in (1.34, 1.40)], c.light, 0.020)
    b.skin = _loose
    back = [(-0.30, 0.70, -0.05), (-0.36, 0.82, 0.0), (-0.34, 0.96, 0.06), (-0.12, 1.05, 0.14), (0.14, 1.04, 0.14),
        (0.34, 0.95, 0.06), (0.37, 0.80, 0.0), (0.30, 0.69, -0.05), (0.16, 0.74, 0.08), (0.0, 0.765, 0.12),
        (-0.16, 0.74, 0.08)]
    b.piece(back, c)
    b.lines([[(-0.33, 0.80, 0.0), (-0.1, 0.90, 0.14), (0.16, 0.89, 0.14), (0.35, 0.79, 0.0)], [(-0.31, 0.92, 0.05),
        (-0.05, 1.0, 0.14), (0.12, 0.98, 0.14)], [(-0.2, 0.77, 0.08), (0.02, 0.83, 0.14), (0.2, 0.80, 0.1)]],
        alpha(c.deep, 0.75), 0.012)
    b.piece([(0.10, 0.86, 0.16), (0.26, 0.83, 0.15), (0.32, 0.91, 0.14), (0.27, 1.0, 0.15), (0.13, 1.0, 0.16),
        (0.08, 0.93, 0.16)], c)


def _loose(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return 0.35 + 0.65 * ramp(p[:, 1], 0.68, 0.95), 0.3 * ramp(p[:, 1], 1.0, 1.6)


def _neck(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ramp(p[:, 1], 0.42, 0.84), np.zeros(len(p))


def choker(a: Anatomy) -> None:
    b = Bench(a, _neck, None)
    w = 0.15 * a.build + 0.012
    line = [(-w, 0.705, 0.0), (0.0, 0.755, 0.14), (w, 0.705, 0.0)]
    c = cloth(mix(a.accent.base, (40, 34, 44), 0.55))
    b.lines([line], c.line, 0.062)
    b.lines([line], c.base, 0.046)
    b.shape(oval(0.0, 0.80, 0.034, 0.036, 0.15, 8), GOLD.base, GOLD.line, 0.009)
    b.lines([[(-0.008, 0.79, 0.15), (0.002, 0.785, 0.15)]], (255, 250, 230), 0.012)


def pendant(a: Anatomy) -> None:
    part = Part("pendant", (0.0, 0.82, 0.1), (0.0, 1.27, 0.1), CORD, 1.0, shear=True, fall=(0.82, 1.24))
    b = Bench(a, Hanging(body, part), None)
    b.lines([[(-0.19, 0.82, 0.02), (-0.13, 0.99, 0.08), (0.0, 1.13, 0.12), (0.13, 0.99, 0.08), (0.19, 0.82, 0.02)]],
        SILVER.deep, 0.013)
    k = a.accent
    gem = [(0.0, 1.12, 0.13), (0.0, 1.12, 0.13), (0.05, 1.18, 0.13), (0.0, 1.27, 0.13), (0.0, 1.27, 0.13),
        (-0.05, 1.18, 0.13)]
    b.shape(gem, Linear((-0.04, 1.12, 0.13), (0.04, 1.27, 0.13), [(0, mix(k.light, (255, 255, 255), 0.5)),
        (0.5, k.base), (1, k.deep)]), k.line, 0.010)


def headset_around_neck(a: Anatomy) -> None:
    b, c = Bench(a, body, None), _shell(a)
    arc = [(-0.30, 1.0, 0.08), (-0.33, 0.84, 0.02), (-0.22, 0.745, 0.0)]
    for e in (-1, 1):
        arm = [(e * abs(x), y, z) for x, y, z in arc]
        b.lines([arm], c.line, 0.085)
        b.lines([arm], c.base, 0.062)
        b.piece(oval(e * 0.27, 1.05, 0.13, 0.12, 0.12, 10), cloth((54, 52, 64)))
        b.piece(oval(e * 0.275, 1.04, 0.105, 0.098, 0.14, 10), c)
        b.shape(oval(e * 0.275, 1.04, 0.055, 0.05, 0.14, 8), c.shadow, c.line, 0.009)


# Ears -----------------------------------------------------------------------------------------------------------------


def earrings(a: Anatomy) -> None:
    """The chosen earrings, on the lobes."""
    kind = a.traits["earrings"]
    if kind == "none" or a.is_("hair", "hijab"):
        return
    skin: Skin = lambda p: (np.zeros(len(p)), 0.8 * ramp(p[:, 1], 0.2, 0.5))  # noqa: E731
    b = Bench(a, skin, None)
    for e, name in ((-1, "left"), (1, "right")):
        x, y, z = a.marks[f"lobe_{name}"]
        if kind != "studs":
            b.skin = _hung("earring", (x, y, z), (x, y + 0.14, z), EARRING, skin, True)
        if kind == "studs":
            b.shape(oval(x, y, 0.026, 0.026, z, 8), a.accent.light, a.accent.line, 0.009)
        elif kind == "hoops":
            b.shape(oval(x + e * 0.005, y + 0.085, 0.062, 0.082, z, 10), None, GOLD.line, 0.026)
            b.shape(oval(x + e * 0.005, y + 0.085, 0.062, 0.082, z, 10), None, GOLD.base, 0.015)
        else:
            b.lines([[(x, y, z), (x, y + 0.07, z)]], GOLD.deep, 0.010)
            drop = [(x, y + 0.06, z), (x, y + 0.06, z), (x + 0.036, y + 0.135, z), (x, y + 0.175, z),
                (x - 0.036, y + 0.135, z)]
            b.shape(drop, Linear((x - 0.03, y + 0.06, z), (x + 0.03, y + 0.17, z), [(0, a.accent.light),
                (1, a.accent.deep)]), a.accent.line, 0.010)


HEADWEAR_BEHIND: dict[str, Callable[[Anatomy], None]] = {
    "cat ears": cat_ears,
    "fox ears": fox_ears,
    "bunny ears": bunny_ears,
    "horns": horns,
    "halo": halo_back,
}
HEADWEAR: dict[str, Callable[[Anatomy], None]] = {
    "headphones": headphones,
    "beret": beret,
    "beanie": beanie,
    "cap": cap,
    "witch hat": witch_hat,
    "hair clips": hair_clips,
    "flower": flower,
    "ribbon": ribbon,
}
EYEWEAR: dict[str, Callable[[Anatomy], None]] = {
    "round glasses": round_glasses,
    "square glasses": square_glasses,
    "half-rim glasses": half_rim,
    "eyepatch": eyepatch,
}
NECKWEAR: dict[str, Callable[[Anatomy], None]] = {
    "scarf": scarf,
    "choker": choker,
    "pendant": pendant,
    "headset around neck": headset_around_neck,
}


def wear(a: Anatomy, table: dict[str, Callable[[Anatomy], None]], trait: str) -> None:
    """Draws the trait's item if this table contains it."""
    if str(a.traits[trait]) in table:
        table[str(a.traits[trait])](a)


__all__ = ["EYEWEAR", "HEADWEAR", "HEADWEAR_BEHIND", "NECKWEAR", "earrings", "ears_over", "wear"]
