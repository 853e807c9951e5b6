"""Clothes: one function a garment, in GARMENTS. `back` parts lie behind the neck, the rest over the body."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamer.studio.draw.anatomy import Anatomy, mirror
from streamer.studio.draw.body import torso_side
from streamer.studio.draw.palette import Cloth, alpha
from streamer.studio.draw.sketch import COVER, Linear, Outline, Points, body

LINE = 0.0145


@dataclass
class Tailor:
    """Cuts cloth: shapes in a cloth's tones on the torso."""

    a: Anatomy

    def piece(self, points: Points, c: Cloth, fold: float = 1.0, line: bool = True, label: str | None = None) -> Outline:
        """A closed piece with its light from above."""
        o = self.a.sketch.outline(points, body)
        ys = [p[1] for p in points]
        top, bottom = min(ys), max(ys)
        fill = Linear((-0.1, top, 0.0), (0.1, bottom, 0.0), [(0, c.light), (0.4, c.base), (1, c.shadow if fold else c.base)])
        self.a.sketch.paint(o, fill, c.line if line else None, LINE, label)
        return o

    def both(self, points: Points, c: Cloth, **more) -> None:  # type: ignore[no-untyped-def]
        """The piece on both sides."""
        self.piece(points, c, **more)
        self.piece(mirror(points), c, **more)

    def lines(self, paths: list[Points], color: tuple[int, ...], width: float = 0.011, both: bool = True) -> None:
        """Seams and creases."""
        paths = paths + [mirror(list(p)) for p in paths] if both else paths
        self.a.sketch.paint(self.a.sketch.outline(paths, body, closed=False), line=color, width=width)

    def flat(self, points: Points, color: tuple[int, ...], both: bool = False) -> None:
        """A patch of plain colour."""
        paths = [points, mirror(list(points))] if both else [points]
        self.a.sketch.paint(self.a.sketch.outline(paths, body), color)

    def torso(self, c: Cloth, neckline: Points, looseness: float = 0.03) -> Outline:
        """The garment's body: shoulders down to the frame, open at `neckline` (the viewer's right half, from the
        shoulder down to the middle)."""
        side = torso_side(self.a, looseness)
        right = [*list(neckline)[::-1], *side[1:]]
        left = mirror(right[::-1])
        if abs(right[0][0]) < 1e-6:
            left = left[:-1]
        return self.piece(right + left, c)

    def folds(self, c: Cloth, arm: float = 0.0) -> None:
        """Where the arms meet the torso, and creases at the armpits."""
        w = torso_side(self.a)[4][0] - 0.055 + arm
        shade = [(w - 0.20, 1.26, 0.0), (w - 0.17, 1.42, 0.0), (w - 0.15, 1.70, 0.0), (w - 0.10, 1.95, 0.0),
                 (w - 0.22, 1.95, 0.0), (w - 0.22, 1.6, 0.0)]
        self.flat(shade, alpha(c.deep, 0.45), both=True)
        self.lines([[(w - 0.20, 1.24, 0.0), (w - 0.165, 1.45, 0.0), (w - 0.14, 1.95, 0.0)]], c.line, 0.012)
        self.lines([[(w - 0.19, 1.27, 0.0), (w - 0.27, 1.32, 0.0), (w - 0.34, 1.33, 0.0)],
                    [(w - 0.04, 1.10, 0.0), (w - 0.07, 1.17, 0.0)]], alpha(c.deep, 0.8))


def hoodie_back(t: Tailor) -> None:
    right = [(0.0, 0.62, -0.2), (0.24, 0.66, -0.15), (0.40, 0.80, -0.1), (0.42, 0.95, 0.0), (0.2, 1.02, 0.0)]
    t.piece(right + mirror(right[:0:-1]), t.a.cloth)
    inner = [(0.0, 0.69, -0.2), (0.2, 0.72, -0.15), (0.31, 0.84, -0.1), (0.2, 1.0, 0.0)]
    t.flat(inner + mirror(inner[:0:-1]), t.a.cloth.deep)


def hoodie(t: Tailor) -> None:
    c, k = t.a.cloth, t.a.accent
    t.torso(c, [(0.21, 0.83, 0.0), (0.14, 0.93, 0.05), (0.0, 1.0, 0.1)], 0.05)
    t.folds(c, 0.05)
    hood = [(0.22, 0.79, 0.0), (0.34, 0.80, 0.0), (0.42, 0.90, 0.0), (0.36, 1.02, 0.05), (0.18, 1.11, 0.1), (0.0, 1.13, 0.1),
            (0.0, 1.13, 0.1), (0.0, 1.0, 0.1), (0.0, 1.0, 0.1), (0.13, 0.96, 0.08), (0.20, 0.87, 0.0)]
    t.both(hood, c)
    t.lines([[(0.13, 1.01, 0.1), (0.145, 1.15, 0.1), (0.13, 1.38, 0.1)]], k.line, 0.034)
    t.lines([[(0.13, 1.01, 0.1), (0.145, 1.15, 0.1), (0.13, 1.38, 0.1)]], k.base, 0.022)
    t.lines([[(0.13, 1.38, 0.1), (0.13, 1.42, 0.1)]], k.deep, 0.030)


@dataclass(frozen=True)
class Garment:
    """What lies over the body, what lies behind the neck, and the sleeve: its cloth and its cuff."""

    front: Callable[[Tailor], None]
    back: Callable[[Tailor], None] | None = None
    sleeve: str = "cloth"  # "cloth", "accent" or "skin"
    cuff: str = "cloth"  # "cloth", "accent" or "none"

    def sleeve_and_cuff(self, a: Anatomy) -> tuple[Cloth | None, Cloth | None]:
        """The cloth of the forearm and of its cuff; None where there is none."""
        cloths: dict[str, Cloth | None] = {"cloth": a.cloth, "accent": a.accent}
        return cloths.get(self.sleeve), cloths.get(self.cuff)


GARMENTS: dict[str, Garment] = {
    "hoodie": Garment(hoodie, hoodie_back),
}


def garment(a: Anatomy) -> Garment:
    """The character's garment."""
    return GARMENTS.get(str(a.traits["garment"]), GARMENTS["hoodie"])
