"""Cuts cloth: the shapes that garments are made of, in a cloth's tones on the torso."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from streamer.studio.draw.anatomy import Anatomy, mirror
from streamer.studio.draw.body import torso_side
from streamer.studio.draw.palette import Cloth, alpha
from streamer.studio.draw.sketch import Linear, Outline
from streamer.studio.draw.skin import Hanging, Points, Skin, body
from streamer.studio.dynamics import CLOTH, CORD, Material, Part

# Coordinates read as paths: filled lines, not one number a line.
# fmt: off

LINE = 0.0145


def _loose(name: str, top: float, bottom: float, material: Material) -> Hanging:
    """The torso's skin, for cloth that shifts sideways below `top`, and fully at `bottom`."""
    part = Part(name, (0.0, top, 0.1), (0.0, bottom, 0.1), material, 1.0, shear=True, fall=(top, bottom))
    return Hanging(body, part)


@dataclass
class Tailor:
    """Cuts cloth: shapes in a cloth's tones on the torso."""

    a: Anatomy
    skin: Skin = field(default_factory=lambda: _loose("cloth", 1.05, 1.95, CLOTH))
    """Of what is cut next. The whole garment lags behind the torso a little, the lower the more."""

    @contextmanager
    def hanging(self, name: str, top: float, bottom: float, material: Material = CORD) -> Iterator[None]:
        """What is cut inside hangs from height `top` to `bottom` and swings by itself."""
        with self.wearing(_loose(name, top, bottom, material)):
            yield

    @contextmanager
    def wearing(self, skin: Skin | None) -> Iterator[None]:
        """What is cut inside has this skin, if any."""
        before, self.skin = self.skin, skin or self.skin
        yield
        self.skin = before

    def piece(self, points: Points, c: Cloth, fold: float = 1.0, line: bool = True,
            label: str | None = None) -> Outline:
        """A closed piece with its light from above."""
        o = self.a.sketch.outline(points, self.skin)
        ys = [p[1] for p in points]
        top, bottom = min(ys), max(ys)
        fill = Linear((-0.1, top, 0.0), (0.1, bottom, 0.0), [(0, c.light), (0.4, c.base),
            (1, c.shadow if fold else c.base)])
        self.a.sketch.paint(o, fill, c.line if line else None, LINE, label)
        return o

    def both(self, points: Points, c: Cloth, **more) -> None:  # type: ignore[no-untyped-def]
        """The piece on both sides."""
        self.piece(points, c, **more)
        self.piece(mirror(points), c, **more)

    def lines(self, paths: list[Points], color: tuple[int, ...], width: float = 0.011, both: bool = True) -> None:
        """Seams and creases."""
        paths = paths + [mirror(list(p)) for p in paths] if both else paths
        self.a.sketch.paint(self.a.sketch.outline(paths, self.skin, closed=False), line=color, width=width)

    def flat(self, points: Points, color: tuple[int, ...], both: bool = False) -> None:
        """A patch of plain colour."""
        paths = [points, mirror(list(points))] if both else [points]
        self.a.sketch.paint(self.a.sketch.outline(paths, self.skin), color)

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


def mirrored(right: list[Any]) -> list[Any]:
    """A closed contour from its right half; a first or last point on the middle is not doubled."""
    left = mirror(right[::-1])
    if abs(left[0][0]) < 1e-9:
        left = left[1:]
    if left and abs(left[-1][0]) < 1e-9:
        left = left[:-1]
    return right + left
