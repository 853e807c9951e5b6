"""The user's motion plan: head, eyes, brows, body and hands, added to the idle motion or replacing it.

Pure: time is counted in frames. Commands ease in and out within about 0.2 s and expire by themselves, so that nothing
jumps and a lost connection freezes no pose. The mouth follows the voice and cannot be planned.

Letters used in shapes: C controls.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from streamer.base.constants import FPS
from streamer.motion.controls import BODY, EXPRESSION, EYES, HANDS, HEAD, INDEX, MOUTH

PLANNED = EXPRESSION + HEAD + EYES + BODY + HANDS

_REACH = {"yaw": 0.5, "pitch": 0.35, "roll": 0.35, "left_turn": 1.6, "right_turn": 1.6}  # radians; the others reach 1
_ONE_SIDED = {"eye_wide", "squint", "blush", "blink_left", "blink_right", "shrug"}
_ONE_SIDED |= {name for name in HANDS if name.endswith(("_raise", "_curl", "_point"))}

RANGES: Mapping[str, tuple[float, float]] = {
    name: (0.0 if name in _ONE_SIDED else -_REACH.get(name, 1.0), _REACH.get(name, 1.0)) for name in PLANNED
}
"""Range that a control may be planned within."""

MODES = ("add", "replace")
MAX_HOLD = 10.0
_MOST_WAITING = 64  # commands between two frames; beyond it the oldest is dropped
_MOST_FRAMES = 2 * FPS  # limit of the pause between two frames: by then everything is at rest

_SPEED = 30.0  # rad/s: critically damped, 98 % after 0.2 s
_SETTLED = 1e-4
# Hair lags behind the head as in `idle.IdleMotion`: speed (rad/s), damping, amplitude of the lag.
_SWAY = {"sway_x": (8.5, 0.28, 6.0), "sway_y": (10.5, 0.30, 5.0)}
_SUBSTEPS = 4
_HEAD = [INDEX[name] for name in ("yaw", "pitch", "roll", "lean")]


class BadPlan(ValueError):
    """A motion command that no plan can hold. The message names the control, the number and the range."""


def _is_number(value: object) -> bool:
    """Whether it is an ordinary number: neither NaN nor a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


@dataclass(frozen=True)
class MotionCommand:
    """One command: a value for each named control, or None to release it. Raises BadPlan."""

    values: Mapping[str, float | None]
    mode: str = "add"
    """`add`: the value is added to the idle motion. `replace`: it replaces the idle motion."""
    hold: float = 1.0
    """Seconds after which these values expire unless renewed."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise BadPlan(f"'mode' is {repr(self.mode)[:60]}: must be {' or '.join(MODES)}")
        if not _is_number(self.hold) or not 0 < self.hold <= MAX_HOLD:
            raise BadPlan(
                f"'hold' is {repr(self.hold)[:60]}: must be a number of seconds above 0, at most {MAX_HOLD:g}"
            )
        if not isinstance(self.values, Mapping) or not self.values:
            raise BadPlan(f"'values' must be an object with at least one control, not {repr(self.values)[:60]}")
        for name, value in self.values.items():
            if name in MOUTH:
                raise BadPlan(f"{name!r} cannot be planned: the mouth follows the voice")
            if name not in RANGES:
                raise BadPlan(f"{repr(name)[:60]} is none of the {len(RANGES)} controls that can be planned")
            if value is None:
                continue
            low, high = RANGES[name]
            if not _is_number(value) or not low <= value <= high:
                raise BadPlan(f"{name!r} is {repr(value)[:60]}: must be a number from {low:g} to {high:g}, or null")


@dataclass
class _Ease:
    """Moves to its target without overshoot, exact for any time step."""

    at: float = 0.0
    velocity: float = 0.0

    def step(self, target: float, seconds: float) -> float:
        gap = self.at - target
        change = (self.velocity + _SPEED * gap) * seconds
        decay = math.exp(-_SPEED * seconds)
        self.at = target + (gap + change) * decay
        self.velocity = (self.velocity - _SPEED * change) * decay
        return self.at

    @property
    def spent(self) -> bool:
        return abs(self.at) < _SETTLED and abs(self.velocity) < _SETTLED * _SPEED


@dataclass
class _Held:
    """One planned control: control = (1 - share)·own + share·value + offset."""

    offset: _Ease = field(default_factory=_Ease)
    share: _Ease = field(default_factory=_Ease)
    value: _Ease = field(default_factory=_Ease)
    wanted: float | None = None
    mode: str = "add"
    until: int = 0
    """The first frame after it has expired."""

    def ask(self, value: float | None, mode: str, until: int) -> None:
        self.wanted, self.mode, self.until = value, mode, until
        if value is not None and mode == "replace" and self.share.spent:
            self.value = _Ease(value)  # not visible yet, so it needs no easing

    def step(self, own: float, frame: int, seconds: float) -> float:
        if frame >= self.until:
            self.wanted = None
        added = self.wanted is not None and self.mode == "add"
        replaced = self.wanted is not None and self.mode == "replace"
        offset = self.offset.step(self.wanted if added else 0.0, seconds)  # type: ignore[arg-type]
        share = self.share.step(float(replaced), seconds)
        value = self.value.step(self.wanted if replaced else self.value.at, seconds)  # type: ignore[arg-type]
        return own + share * (value - own) + offset

    @property
    def over(self) -> bool:
        return self.wanted is None and self.offset.spent and self.share.spent


@dataclass
class _Hair:
    """The hair's lag behind the planned part of the head's motion, as in `IdleMotion`."""

    speed: float
    damping: float
    gain: float
    at: float = 0.0
    velocity: float = 0.0

    def step(self, head: float, frames: int) -> float:
        dt = 1 / FPS / _SUBSTEPS
        for _ in range(frames * _SUBSTEPS):
            pull = self.speed**2 * (head - self.at) - 2 * self.damping * self.speed * self.velocity
            self.velocity += pull * dt
            self.at += self.velocity * dt
        return self.gain * (self.at - head)

    def spent(self, head: float) -> bool:
        return max(abs(head), abs(self.at), abs(self.velocity)) < _SETTLED


class Plan:
    """A user's motion commands, applied frame by frame. Only `ask` may be called from other threads."""

    def __init__(self) -> None:
        self._asked: deque[MotionCommand] = deque(maxlen=_MOST_WAITING)
        self._held: dict[str, _Held] = {}
        self._hair = {name: _Hair(*constants) for name, constants in _SWAY.items()}
        self._swinging = False
        self._frame = -1

    def ask(self, move: MotionCommand) -> None:
        """Takes effect with the next frame. A control keeps its previous command unless this one names it."""
        self._asked.append(move)

    def apply(self, controls: np.ndarray, frame: int) -> np.ndarray:
        """Applies the plan to controls [C] float32 of `frame`. Frame numbers increase, possibly with gaps."""
        if frame <= self._frame:
            raise ValueError(f"frame {frame} comes after frame {self._frame}: a plan goes forward only")
        frames = min(frame - self._frame, _MOST_FRAMES) if self._frame >= 0 else 1
        self._frame = frame
        while self._asked:
            self._take(self._asked.popleft())
        if not self._held and not self._swinging:
            return controls
        out = controls.copy()
        self._step([name for name in self._held if name not in _SWAY], out, frames)
        self._swing(out, controls, frames)
        self._step([name for name in self._held if name in _SWAY], out, frames)
        return out

    def _take(self, move: MotionCommand) -> None:
        until = self._frame + math.ceil(move.hold * FPS)
        for name, value in move.values.items():
            if value is not None or name in self._held:
                self._held.setdefault(name, _Held()).ask(value, move.mode, until)

    def _step(self, names: list[str], out: np.ndarray, frames: int) -> None:
        """Updates the planned controls in out [C]."""
        for name in names:
            held, (low, high) = self._held[name], RANGES[name]
            own = float(out[INDEX[name]])
            # The idle motion may exceed the range: the plan must not push it further.
            out[INDEX[name]] = min(max(held.step(own, self._frame, frames / FPS), min(low, own)), max(high, own))
            if held.over:
                del self._held[name]

    def _swing(self, out: np.ndarray, own: np.ndarray, frames: int) -> None:
        """Adds to the sway in out [C] the hair's response to the planned head motion: out minus own [C]."""
        yaw, pitch, roll, lean = (float(out[i] - own[i]) for i in _HEAD)
        head = {"sway_x": yaw + 0.7 * roll + 0.15 * lean, "sway_y": pitch}
        for name, hair in self._hair.items():
            sway = float(own[INDEX[name]]) + hair.step(head[name], frames)
            out[INDEX[name]] = min(max(sway, -1.0), 1.0)
        self._swinging = not all(hair.spent(head[name]) for name, hair in self._hair.items())
