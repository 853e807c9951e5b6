"""Marks of a strong emotion, as comics have them: tears, a vein, hearts in the eyes, a drop of sweat, sparkles.

No control tells them: which one a character shows for which emotion follows from its traits.
"""

from collections.abc import Callable

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.eyes import EYE_X, EYE_Y, SHAPES
from streamer.studio.draw.head import ring
from streamer.studio.draw.palette import Color, alpha
from streamer.studio.draw.sketch import Linear, Moment, Outline
from streamer.studio.draw.skin import skull_z

# What a character may show for an emotion; of equal probability.
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "happy": ("sparkles", "sparkles", "hearts", None),
    "sad": ("tears", "tears", "tears", None),
    "angry": ("vein", "vein", "vein", None),
    "surprised": ("sweat", "sparkles", None),
    "shy": ("sweat", "hearts", None),
}
_WATER: Color = (150, 208, 255)
_WATER_LINE: Color = (74, 140, 210)
_WHITE: Color = (255, 255, 255)
# A drop that hangs from its tip at 0: [n, 2], a unit wide and some 1.7 units tall.
_DROP = np.array([(0, 0), (0.20, 0.50), (0.46, 0.98), (0.42, 1.40), (0, 1.62), (-0.42, 1.40), (-0.46, 0.98),
                  (-0.20, 0.50)])  # fmt: skip
_HEART = np.array([(0, -0.48), (0.32, -0.86), (0.82, -0.74), (0.94, -0.22), (0.55, 0.36), (0, 0.92), (-0.55, 0.36),
                   (-0.94, -0.22), (-0.82, -0.74), (-0.32, -0.86)])  # fmt: skip


def choose(a: Anatomy) -> None:
    """Decides from the traits which mark the character shows for which emotion."""
    rng = a.rng("emotion marks")
    chosen = {emotion: options[int(rng.integers(len(options)))] for emotion, options in _CHOICES.items()}
    a.sketch.feelings.of = {emotion: mark for emotion, mark in chosen.items() if mark is not None}


def _on_face(xy: np.ndarray, lift: float = 0.012) -> np.ndarray:
    return np.c_[xy, skull_z(xy[:, 0], xy[:, 1]) + lift]


class _Mark:
    """A group of shapes that fades, and is left out while it is absent."""

    def __init__(self, a: Anatomy, name: str) -> None:
        self.a, self.s, self.name = a, a.sketch, name

    def draw(self, paint: Callable[[], Callable[[Moment, float], None] | None], clip: Outline | None = None) -> None:
        """`paint` adds the shapes, and returns what moves them, given the moment and how far they are there, 0..1."""
        s = self.s
        with s.group(clip) as group:
            first = len(s.inks)  # after the clip, which stays
            move = paint()
        inks = s.inks[first:]

        def update(now: Moment) -> None:
            there = now.feelings.value[self.name]
            for ink in inks:
                s.show(ink, there > 0.0)
            if there > 0.0:
                s.fade(group, there)
                if move is not None:
                    move(now, there)

        s.animate(update)


def over_face(a: Anatomy) -> None:
    """Marks on the face, under glasses and hair."""
    marks = set(a.sketch.feelings.of.values())
    if "hearts" in marks:
        for side, name in ((-1, "left"), (1, "right")):
            _hearts(a, side, name)
    if "tears" in marks:
        _tears(a)


def over_hair(a: Anatomy) -> None:
    """Marks over everything of the head."""
    marks = set(a.sketch.feelings.of.values())
    if "vein" in marks:
        _vein(a)
    if "sweat" in marks:
        _sweat(a)
    if "sparkles" in marks:
        _sparkles(a)


def _hearts(a: Anatomy, side: int, name: str) -> None:
    s, size = a.sketch, a.number("eye_size")
    opening, centre = a.marks[f"opening_{name}"], a.keypoints[f"iris_{name}"]
    shape = SHAPES[str(a.traits["eyes"])]
    reach = min(0.098, 0.62 * (shape.upper + shape.lower), 0.80 * shape.width) * size

    def paint() -> Callable[[Moment, float], None]:
        s.paint(opening, (255, 246, 249))
        heart, glint, shade = s.blank(len(_HEART), corners=(0, 5)), s.blank(7), s.blank(len(_HEART), corners=(0, 5))
        s.paint(shade, (196, 36, 88))
        s.paint(heart, (255, 92, 138))
        s.paint(glint, alpha(_WHITE, 0.9))

        def move(now: Moment, there: float) -> None:
            middle = s.rest[centre, :2]
            r = reach * (0.4 + 0.6 * there) * (1 + 0.06 * np.sin(2 * np.pi * 1.4 * now.feelings.clock))
            s.rest[shade.points] = _on_face(middle + 1.14 * r * _HEART, 0.006)
            s.rest[heart.points] = _on_face(middle + 0.98 * r * _HEART, 0.006)
            s.rest[glint.points] = _on_face(middle + ring(-0.42 * r, -0.42 * r, 0.20 * r, 0.17 * r, 0, 7)[:, :2], 0.008)

        return move

    _Mark(a, "hearts").draw(paint, opening)


def _tears(a: Anatomy) -> None:
    s, size = a.sketch, a.number("eye_size")
    shape = SHAPES[str(a.traits["eyes"])]
    lid = EYE_Y + (shape.lower + shape.outer * 0.5) * size

    def paint() -> Callable[[Moment, float], None]:
        moved = []
        for side in (-1, 1):
            x = side * (EYE_X + 0.015)
            w = 0.72 * shape.width * size
            pool = np.array([(-1, -0.030), (-0.5, -0.012), (0, -0.006), (0.5, -0.012), (1, -0.030), (0.55, 0.016),
                             (0, 0.026), (-0.55, 0.016)]) * (w, 1.0) + (x, lid)  # fmt: skip
            s.paint(s.outline(_on_face(pool)), alpha(_WATER, 0.85), alpha(_WATER_LINE, 0.8), 0.007)
            end = side * 0.275
            y = np.linspace(lid + 0.012, 0.50, 5)
            middle = x + (end - x) * np.linspace(0, 1, 5) ** 1.5
            half = np.array([0.026, 0.020, 0.019, 0.020, 0.024])
            band = np.r_[np.c_[middle - half, y], np.c_[middle + half, y][::-1]]
            s.paint(s.outline(_on_face(band)), Linear((x, lid, 0.42), (end, 0.50, 0.35), [
                (0, alpha(_WATER, 0.75)), (0.7, alpha(_WATER, 0.55)), (1, alpha(_WATER, 0.15))]))  # fmt: skip
            drop, glint = s.blank(len(_DROP), corners=(0,)), s.blank(6)
            s.paint(drop, alpha(_WATER, 0.95), alpha(_WATER_LINE, 0.9), 0.008)
            s.paint(glint, alpha(_WHITE, 0.95))
            moved.append((x, end, 0.0 if side < 0 else 0.45, drop, glint))

        def move(now: Moment, there: float) -> None:
            for x, end, ahead, drop, glint in moved:
                fallen = (0.55 * now.feelings.clock + ahead) % 1.0
                at = np.array([x + (end - x) * fallen**1.5, lid - 0.01 + (0.47 - lid) * fallen**1.6])
                wide = 0.058 * min(1.0, 0.3 + 4 * fallen, 6 * (1 - fallen))
                s.rest[drop.points] = _on_face(at + wide * _DROP, 0.014)
                shine = ring(-0.14 * wide, 0.95 * wide, 0.12 * wide, 0.2 * wide, 0, 6)[:, :2]
                s.rest[glint.points] = _on_face(at + shine, 0.016)

        return move

    _Mark(a, "tears").draw(paint)


def _vein(a: Anatomy) -> None:
    s = a.sketch
    side = 1 if a.rng("vein").random() < 0.5 else -1
    x, y, z = side * 0.36, -0.43, 0.30
    bend = np.array([(0.028, 0.145), (0.036, 0.075), (0.075, 0.036), (0.145, 0.028)])
    arms = [bend * (u, v) for u in (-1, 1) for v in (-1, 1)]

    def paint() -> Callable[[Moment, float], None]:
        shapes = [s.blank(4, 4, 4, 4, closed=False) for _ in range(2)]
        s.paint(shapes[0], line=_WHITE, width=0.070)
        s.paint(shapes[1], line=(222, 38, 52), width=0.038, least=1.0)

        def move(now: Moment, there: float) -> None:
            size = (0.5 + 0.5 * there) * (1 + 0.09 * np.sin(2 * np.pi * 1.8 * now.feelings.clock))
            turn = 0.22 * side
            rows = np.concatenate(arms) @ np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]) * size
            for shape in shapes:
                s.rest[shape.points] = np.c_[rows + (x, y), np.full(len(rows), z)]

        return move

    _Mark(a, "vein").draw(paint)


def _sweat(a: Anatomy) -> None:
    s = a.sketch
    side = 1 if a.rng("sweat").random() < 0.5 else -1
    x, z = side * 0.43, 0.22

    def paint() -> Callable[[Moment, float], None]:
        drop, glint = s.blank(len(_DROP), corners=(0,)), s.blank(7)
        ink = s.paint(drop, Linear((x, -0.3, z), (x, 0.0, z), [(0, (226, 243, 255)), (1, _WATER)]), _WATER_LINE, 0.014)
        s.paint(glint, alpha(_WHITE, 0.95))
        assert ink.gradient is not None
        first = ink.gradient[1]

        def move(now: Moment, there: float) -> None:
            slid = 1 - np.exp(-1.6 * now.feelings.clock)
            at = np.array([x + side * 0.03 * slid, -0.36 + 0.14 * slid + 0.012 * np.sin(5 * now.feelings.clock)])
            wide = 0.135 * (0.5 + 0.5 * there)
            s.rest[drop.points] = np.c_[at + wide * _DROP, np.full(len(_DROP), z)]
            s.rest[glint.points] = ring(at[0] - 0.2 * wide, at[1] + 1.0 * wide, 0.09 * wide, 0.22 * wide, z, 7)
            s.rest[first : first + 2] = np.c_[np.stack([at, at + (0, 1.6 * wide)]), [z, z]]

        return move

    _Mark(a, "sweat").draw(paint)


def _sparkles(a: Anatomy) -> None:
    s, rng = a.sketch, a.rng("sparkles")
    places = ((-0.80, -0.58, 0.15), (0.84, -0.44, 0.13), (-0.86, 0.02, 0.10), (0.80, 0.16, 0.11), (0.60, -0.86, 0.09))
    ahead = rng.uniform(0, 1, len(places))
    t = np.arange(8) * np.pi / 4
    star = np.c_[np.sin(t), -np.cos(t)] * np.where(np.arange(8) % 2 == 0, 1.0, 0.24)[:, None]

    def paint() -> Callable[[Moment, float], None]:
        shapes = []
        for _ in places:
            outer, core = (s.blank(8, corners=(0, 2, 4, 6)) for _ in range(2))
            s.paint(outer, (255, 226, 120), (236, 168, 52), 0.012)
            s.paint(core, (255, 252, 226))
            shapes.append((outer, core))

        def move(now: Moment, there: float) -> None:
            for (x, y, size), phase, (outer, core) in zip(places, ahead, shapes, strict=True):
                r = size * there * (0.30 + 0.70 * np.sin(np.pi * (0.7 * now.feelings.clock + phase)) ** 2)
                s.rest[outer.points] = np.c_[star * r + (x, y), np.full(8, 0.1)]
                s.rest[core.points] = np.c_[star * 0.55 * r + (x, y), np.full(8, 0.1)]

        return move

    _Mark(a, "sparkles").draw(paint)
