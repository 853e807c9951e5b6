"""The controls of a character as strengths of ARKit's 52 units, calibrated to one face.

`Measures` says what the units do to this face: how far each parts the lips, and how strong a blink shuts the lids. So
`open` is the share of this face's own widest opening, and lips that should touch touch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamer.motion.controls import INDEX, controls
from streamer.studio.picture_rig.expression import CHANNELS, OPENING, strengths
from streamer.training.people.template import Template

UPPER_LIP, LOWER_LIP = 13, 14
"""MediaPipe's landmarks in the middle of the lips' inner edges."""
_UPPER_LIDS = {"Right": (160, 159, 158), "Left": (385, 386, 387)}
_LOWER_LIDS = {"Right": (144, 145, 153), "Left": (380, 374, 373)}
VIEWERS = {"Right": "left", "Left": "right"}
"""ARKit's sides as the viewer sees them."""

LOOK_ASIDE, LOOK_UP = 0.50, 0.36
"""Radians that an eye turns at a gaze of 1."""
_STRONGER = {"smile": 1.12, "frown": 1.15, "brow_inner": 1.15}
"""Channels that on these faces show less than on the mean one."""
_SHUT = 1.04
"""How much further than until they meet lids go: along their whole edge they must, not only in the middle."""


@dataclass(frozen=True)
class Habit:
    """What is peculiar to how one face moves, beside its shape."""

    uneven: Mapping[str, float]
    """Unit -> factor on it: no face moves its two sides alike."""
    rests: Mapping[str, float]
    """Unit -> strength added always: what the face looks like at rest."""


@dataclass(frozen=True)
class Measures:
    gap: float
    """Decimetres between the inner lips at rest."""
    parts: Mapping[str, float]
    """Unit -> decimetres by which it parts the inner lips at strength 1."""
    widest: float
    """Decimetres between the inner lips at `open` 1."""
    shut: Mapping[str, float]
    """Side -> strength of eyeBlink at which that eye's lids meet."""


def measured(template: Template, vertices: np.ndarray) -> Measures:
    """What the units do to this face, in vertices [N, 3] of the template without expression."""

    def at(points: tuple[int, ...], by: Mapping[str, float]) -> float:
        return float(template.landmarks(template.moved(vertices, by))[list(points), 1].mean())

    def between(by: Mapping[str, float]) -> float:
        return at((UPPER_LIP,), by) - at((LOWER_LIP,), by)

    gap = between({})
    parts = {name: between({name: 1.0}) - gap for name in template.units if name.startswith(("mouth", "jaw"))}
    wide = dict(zip(CHANNELS, strengths(controls(open=1.0)), strict=True))
    widest = sum(float(wide[channel]) * parts[unit] for channel, units in CHANNELS.items() for unit in units
                 if unit in parts)  # fmt: skip
    shut = {}
    for side in VIEWERS:
        open_eye = at(_UPPER_LIDS[side], {}) - at(_LOWER_LIDS[side], {})
        blink = {f"eyeBlink{side}": 1.0}
        closes = open_eye - at(_UPPER_LIDS[side], blink) + at(_LOWER_LIDS[side], blink)
        shut[side] = float(np.clip(_SHUT * open_eye / max(closes, 1e-3), 0.4, 1.3))
    return Measures(max(gap, 0.0), parts, max(widest, 0.05), shut)


def units_of(now: np.ndarray, measures: Measures, habit: Habit) -> dict[str, float]:
    """Controls [C] -> strength of each unit that is not at rest."""
    value = {name: float(now[i]) for name, i in INDEX.items()}
    units: dict[str, float] = {}
    for channel, strength in zip(CHANNELS, strengths(now), strict=True):
        for unit in CHANNELS[channel]:
            units[unit] = float(strength) * _STRONGER.get(channel, 1.0)
    for side, viewers in VIEWERS.items():
        blink = min(max(value[f"blink_{viewers}"], 0.0), 1.0)
        awake = 1 - blink
        units[f"eyeBlink{side}"] = blink * measures.shut[side]
        units[f"eyeSquint{side}"] *= 0.25 + 0.75 * awake
        units[f"eyeWide{side}"] *= awake
        units[f"eyeLookUp{side}"] = 0.75 * max(value["gaze_y"], 0.0) * awake
        units[f"eyeLookDown{side}"] = 0.85 * max(-value["gaze_y"], 0.0) * awake
    for unit, strength in habit.rests.items():
        side = unit.removeprefix("eyeWide")
        factor = 1 - value[f"blink_{VIEWERS[side]}"] if side in VIEWERS else 1.0
        units[unit] = units.get(unit, 0.0) + strength * factor
    for unit, factor in habit.uneven.items():
        if unit in units:
            units[unit] *= factor
    _open_lips(units, value["open"] * measures.widest, measures)
    return {unit: strength for unit, strength in units.items() if abs(strength) > 1e-4}


def _open_lips(units: dict[str, float], wanted: float, measures: Measures) -> None:
    """In place: the inner lips `wanted` decimetres apart, by the jaw first and then by all units that part them."""
    opening = [unit for channel in OPENING for unit in CHANNELS[channel]]
    others = sum(s * measures.parts[u] for u, s in units.items() if u in measures.parts and u not in opening)
    # What rolls or presses closed lips moves both alike; they go on touching.
    others = max(others, 0.0)
    wanted = max(wanted - others, 0.0)
    by_lips = sum(units.get(u, 0.0) * measures.parts[u] for u in opening if u != "jawOpen")
    if by_lips > wanted:
        share = wanted / by_lips
        for unit in opening:
            units[unit] = units.get(unit, 0.0) * share
        units["jawOpen"] = 0.0
    else:
        units["jawOpen"] = (wanted - by_lips) / max(measures.parts["jawOpen"], 1e-3)


def eye_turn(now: np.ndarray) -> tuple[float, float]:
    """Radians that the eyes turn to the viewer's right, and up."""
    return LOOK_ASIDE * float(now[INDEX["gaze_x"]]), LOOK_UP * float(now[INDEX["gaze_y"]])
