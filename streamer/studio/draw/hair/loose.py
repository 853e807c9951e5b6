"""Finds the loose parts of a hair style: which strokes swing together, about which root, and what lies on them.

A style names no parts. Strokes that share a skin are one part, on each side of the head; lines, shades and ornaments
belong to the part that they are drawn on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from streamer.studio.draw.sketch import Linear, Stroke
from streamer.studio.draw.skin import Hanging, Skin, points3
from streamer.studio.dynamics import LOCK, MASS, TAIL, TUFT, Material, Part

_HANGS = 0.45  # height (down is positive) that a broad mass must reach to swing
_ROOT = -0.35  # height at which hair begins to sway
_BROAD = 0.75
_SHORT = 0.22  # what is shorter than this is stiff
_SWEEP = 0.5  # length of a lock in front of the face up to which it swings freely
_LONG = 1.1  # a tail has two segments from this length on


def loosen(layers: Sequence[list[Stroke]]) -> None:
    """Gives the strokes of a kit's four layers, back to front, their parts."""
    for number, layer in enumerate(layers):
        bases: list[tuple[np.ndarray, Part | None]] = []
        for group in _groups(layer):
            part = _part(group, number >= 2)
            for stroke in group:
                stroke.parts = [part] * len(stroke.paths)
        for stroke in layer:
            if stroke.skin is None:
                continue
            if not stroke.parts:
                stroke.parts = [_under(points3(path), bases) for path in stroke.paths]
            else:
                bases += [(points3(path)[:, :2], stroke.parts[0]) for path in stroke.paths]
            stroke.skin = Hanging(stroke.skin, None, gradient=False)


def _groups(layer: list[Stroke]) -> Iterator[list[Stroke]]:
    """Strokes with a body of their own, by skin and side."""
    found: dict[tuple[int, int], list[Stroke]] = {}
    sided: dict[int, set[int]] = {}
    solid = [s for s in layer if s.skin is not None and s.line is not None and isinstance(s.fill, Linear)]
    for stroke in solid:
        sided.setdefault(id(stroke.skin), set()).add(_side(stroke))
    for stroke in solid:
        both = len(sided[id(stroke.skin)] - {0}) == 2
        found.setdefault((id(stroke.skin), _side(stroke) if both else 0), []).append(stroke)
    yield from found.values()


def _side(stroke: Stroke) -> int:
    middle = float(points3(stroke.paths[0])[:, 0].mean())
    return 0 if abs(middle) < 0.15 else 1 if middle > 0 else -1


def _part(group: list[Stroke], front: bool) -> Part | None:
    skin = group[0].skin
    assert skin is not None
    every = np.concatenate([points3(path) for stroke in group for path in stroke.paths])
    low, wide = float(every[:, 1].max()), float(np.ptp(every[:, 0]))
    first = points3(group[0].paths[0])
    root = (first[0] + first[-1]) / 2
    if wide > _BROAD or np.allclose(root[:2], first[0, :2]):
        if low < _HANGS:
            return None
        x = float(every[:, 0].mean())
        return _made("mass", np.array([x, _ROOT, 0.0]), np.array([x, low, 0.0]), MASS, skin, shear=True)
    if len(group) > 1 and root[1] > every[:, 1].min() + 0.3 * np.ptp(every[:, 1]):  # painted from its tip upwards
        highest = every[every[:, 1] < np.quantile(every[:, 1], 0.1) + 1e-6]
        root = highest.mean(0)
    tip = every[np.hypot(*(every - root)[:, :2].T).argmax()]
    length = float(np.hypot(*(tip - root)[:2]))
    if length < _SHORT:
        return None
    if tip[1] - root[1] < 0.4 * length:
        return _made("tuft", root, tip, TUFT, skin)
    # In front of the face a long lock must not sweep across the eyes.
    material = replace(LOCK, limit=LOCK.limit * min(1.0, _SWEEP / length)) if front else LOCK
    if length > _LONG and not front:
        return _made("tail", root, tip, TAIL, skin, segments=2)
    return _made("lock", root, tip, material, skin)


def _made(
    name: str, root: np.ndarray, tip: np.ndarray, material: Material, skin: Skin, segments: int = 1, shear: bool = False
) -> Part:
    weight = float(skin(root[None])[0][0])
    x, y, z = (float(v) for v in root)
    return Part(name, (x, y, z), tuple(float(v) for v in tip), material, weight, segments, shear)  # type: ignore[arg-type]


def _under(path: np.ndarray, bases: list[tuple[np.ndarray, Part | None]]) -> Part | None:
    """The part of the last body that the middle of a path lies on."""
    middle = path[len(path) // 2, :2] if len(path) < 5 else path[:, :2].mean(0)
    for outline, part in reversed(bases):
        if _inside(middle, outline):
            return part
    return None


def _inside(point: np.ndarray, outline: np.ndarray) -> bool:
    x, y = point
    ax, ay = outline.T
    bx, by = np.roll(outline, -1, 0).T
    crossing = (ay > y) != (by > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = ax + (y - ay) / (by - ay) * (bx - ax)
    return bool((crossing & (x < at)).sum() % 2)
