"""What a drawn character remembers: pendulums for its loose parts, latches, and marks of emotion that fade.

Nothing here draws. `Rig.advance` steps this state by the controls of a frame, whether the frame is drawn or not, and a
frame shows the state as it is. At rest the state is zero and a picture is the same as without it.

A pendulum is driven by the acceleration of its own anchor. Between two frames the anchor's speed is taken as constant,
so that the acceleration is a kick at each frame and the free motion between kicks is exact and stable for any step.

Letters used in shapes: K parts, P points that belong to a part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from streamer.motion.controls import EMOTIONS, INDEX

STRONG = 0.6
"""An emotion's strength from which its mark shows."""
_FADE = 0.35  # seconds that a mark takes to appear and to vanish
_DETUNE = 0.08  # parts of a character differ in frequency by up to this share, so that they do not swing in one phase
_MOST = 4.0  # a state's bound, in units of its drawn limit


@dataclass(frozen=True)
class Material:
    """How a kind of part swings. Its frequency follows from its length: omega = sqrt(stiffness / length)."""

    stiffness: float  # face widths / s²
    damping: float  # 1 is critical
    gain: float  # exaggeration of the anchor's acceleration
    limit: float  # radians: the largest drawn angle of a segment
    bounce: float = 0.3  # up and down: share of the gain
    gravity: float = 0.0  # share of the head's tilt that the part does not follow: 1 hangs straight down


EARRING = Material(26.0, 0.07, 3.0, 0.75, 0.1, 0.9)
EAR = Material(46.0, 0.12, 4.5, 0.26, 0.3)
TUFT = Material(40.0, 0.16, 3.6, 0.12, 0.25)
LOCK = Material(38.0, 0.13, 3.6, 0.21, 0.25, 0.1)
TAIL = Material(44.0, 0.11, 1.7, 0.34, 0.25, 0.25)
MASS = Material(40.0, 0.15, 4.4, 0.13, 0.25, 0.1)
SCARF = Material(11.0, 0.18, 5.0, 0.26, 0.3)
CLOTH = Material(22.0, 0.2, 7.0, 0.045, 0.2)
CORD = Material(26.0, 0.12, 8.0, 0.26, 0.2)


@dataclass(frozen=True, eq=False)
class Part:
    """A loose part in rest space, from where it is fixed to its tip."""

    name: str
    anchor: tuple[float, float, float]
    tip: tuple[float, float, float]
    material: Material
    weight: float = 0.0
    """Share of the torso's motion at the anchor; the rest is the head's."""
    segments: int = 1
    """1, or 2 for a tail, whose lower half lags behind its upper one."""
    shear: bool = False
    """A broad mass, whose points shift sideways instead of turning about the anchor: as much as the skin sways."""
    fall: tuple[float, float] | None = None
    """For a mass: heights between which it begins to shift and shifts fully, in place of the skin's sway."""
    rigid: bool = False
    """Turns as a whole instead of bending."""

    @property
    def length(self) -> float:
        """Face widths."""
        return math.dist(self.anchor[:2], self.tip[:2])

    @property
    def omega(self) -> float:
        """rad/s of a single segment, before detuning."""
        return math.sqrt(self.material.stiffness / self.length)

    def along(self, p: np.ndarray) -> np.ndarray:
        """[n]: how far along the part points [n, 3] lie, 0 at the anchor and 1 at the tip."""
        axis = np.subtract(self.tip, self.anchor)[:2]
        share: np.ndarray = ((p[:, :2] - self.anchor[:2]) @ axis) / (axis @ axis)
        return share


def _ramp(values: np.ndarray, start: float, end: float) -> np.ndarray:
    t = np.clip((values - start) / (end - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)


class Pendulums:
    """The state of a character's parts. Rows of the state: first segment, second segment, up and down."""

    def __init__(self, parts: Sequence[Part], rng: np.random.Generator) -> None:
        self.parts = tuple(parts)
        count = len(parts)
        column = [np.array([getattr(part.material, name) for part in parts], float) for name in
                  ("damping", "gain", "limit", "bounce", "gravity")]  # fmt: skip
        damping, self._gain, self._limit, self._bounce, gravity = column
        length = np.array([part.length for part in parts])
        self._two = np.array([part.segments == 2 for part in parts], bool)
        self._lengths = np.stack([np.where(self._two, length / 2, length), length / 2])
        omega = np.array([part.omega for part in parts]) * rng.uniform(1 - _DETUNE, 1 + _DETUNE, count)
        self.omega = np.stack([omega, 1.35 * omega, 1.6 * omega])
        """[3, K] rad/s."""
        self._damping = np.stack([damping, damping, 1.6 * damping])
        self._hang = gravity * (1 - np.array([part.weight for part in parts]))
        # Parts that stand up bend to the other side than those that hang.
        self._sense = np.array([1.0 if part.tip[1] >= part.anchor[1] else -1.0 for part in parts])
        spread = np.stack([self._limit * self._lengths[0], self._limit * self._lengths[1], 0.05 + 0 * length])
        self._bound = _MOST * spread
        self._spread_y = spread[2]
        self._at, self._velocity = np.zeros((3, count)), np.zeros((3, count))
        self._roll = 0.0
        self._driven: np.ndarray | None = None  # [3, K]: what drives each row, a frame ago
        self._speed = np.zeros((3, count))
        self._decay: tuple[float, tuple[np.ndarray, ...]] = (0.0, ())

    def _free(self, dt: float) -> tuple[np.ndarray, ...]:
        """Coefficients [3, K] of free motion during `dt` seconds: position and speed from position and speed."""
        if self._decay[0] != dt:
            omega, damping = self.omega, self._damping
            ringing = omega * np.sqrt(1 - damping**2)
            left = np.exp(-damping * omega * dt)
            sin, cos = left * np.sin(ringing * dt), left * np.cos(ringing * dt)
            share = damping * omega / ringing * sin
            self._decay = dt, (cos + share, sin / ringing, -(omega**2) / ringing * sin, cos - share)
        return self._decay[1]

    def step(self, x: np.ndarray, y: np.ndarray, roll: float, dt: float) -> None:
        """Moves all parts by `dt` seconds, during which their anchors have come to x [K], y [K] in face widths."""
        gain = self._gain
        driven = np.stack([gain * x, gain * x + self._at[0], gain * self._bounce * y])
        if self._driven is None:  # the first pose is where the parts hang, not where they were flung to
            self._driven = driven
        self._roll = roll
        a, b, c, d = self._free(dt)
        for row in (0, 1, 2):
            if row == 1:  # the second segment hangs on the first one's tip, which has just moved
                driven[1] = gain * x + self._at[0]
            speed = (driven[row] - self._driven[row]) / dt
            at, velocity = self._at[row], self._velocity[row] - (speed - self._speed[row])
            self._speed[row] = speed
            most = self._bound[row]
            moved, faster = a[row] * at + b[row] * velocity, c[row] * at + d[row] * velocity
            self._at[row] = np.clip(moved, -most, most)
            self._velocity[row] = np.clip(faster, -most * self.omega[row], most * self.omega[row])
        self._driven = driven

    @property
    def still(self) -> bool:
        """Whether nothing is displaced."""
        return self._roll == 0.0 and not self._at.any()

    @property
    def energy(self) -> np.ndarray:
        """[K]: kinetic and potential energy of the first segment for a unit of mass."""
        energy: np.ndarray = 0.5 * (self._velocity[0] ** 2 + (self.omega[0] * self._at[0]) ** 2)
        return energy

    def pose(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Angles of the first and the second segment in radians, and the shift up or down: [K] each, bounded."""
        angles = self._at[:2] / self._lengths + self._hang * self._roll
        angles = self._limit * np.tanh(angles / self._limit)
        return (
            self._sense * angles[0],
            self._sense * angles[1],
            self._spread_y * np.tanh(self._at[2] / self._spread_y),
        )


class Loose:
    """The control points that belong to parts, and where they are displaced to."""

    def __init__(self, parts: Sequence[Part], index: np.ndarray, part: np.ndarray, rest: np.ndarray, sway: np.ndarray):
        """Points `index` [P] of the sketch belong to parts `part` [P]; rest [P, 3], sway [P] as skins give it."""
        self.index, self.part = index, part
        self._share, self._second = np.zeros(len(index)), np.zeros(len(index))
        for k, each in enumerate(parts):
            mine = part == k
            along = each.along(rest[mine])
            if each.fall is not None:
                self._share[mine] = _ramp(rest[mine, 1], *each.fall)
            elif each.shear:
                self._share[mine] = sway[mine]
            elif each.rigid:
                self._share[mine] = 1.0
            elif each.segments == 2:
                self._share[mine] = _ramp(along, 0.0, 0.45)
                self._second[mine] = _ramp(along, 0.35, 0.75)
            else:
                self._share[mine] = _ramp(along, 0.02, 0.95)
        anchor = np.array([each.anchor[:2] for each in parts], float).reshape(-1, 2)
        tip = np.array([each.tip[:2] for each in parts], float).reshape(-1, 2)
        self._anchor, self._joint = anchor[part], ((anchor + tip) / 2)[part]
        self._arm = self._joint - self._anchor
        self._across = np.array([0.0 if each.shear else 1.0 for each in parts])[part]

    def displaced(self, rest: np.ndarray, pendulums: Pendulums) -> np.ndarray:
        """rest [N, 3] with the parts' points where they swing."""
        moved = rest.copy()
        first, second, shift = pendulums.pose()
        own = rest[self.index, :2]
        x, y = self._turned(first[self.part] * self._share, own - self._anchor)
        if self._second.any():
            arm_x, arm_y = self._turned(first[self.part], self._arm)
            low_x, low_y = self._turned(second[self.part], own - self._joint)
            x += self._second * (arm_x + low_x - x)
            y += self._second * (arm_y + low_y - y)
        moved[self.index, 0] += x
        moved[self.index, 1] += y + shift[self.part] * self._share
        return moved

    def _turned(self, angle: np.ndarray, arm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far the ends of arms [P, 2] move when they turn by an angle [P]: exactly 0 for 0."""
        sin, less = np.sin(angle), np.cos(angle) - 1.0
        return sin * arm[:, 1] + less * arm[:, 0] * self._across, less * arm[:, 1] - sin * arm[:, 0] * self._across


# Latches --------------------------------------------------------------------------------------------------------------

LATCHES = ("lock", "glasses", "hood")
_SHAKES = 0.8  # rad/s of a head's turn, from which it shakes hair loose
_LOOSENED = 0.7  # radians beyond that, within about a second, at which a lock falls
_NODS, _SLIPS = 0.7, 2.2  # rad/s downward from which glasses slip; how far they do for a radian
_LEANS, _SLIDES = 0.8, 0.55  # the same of the torso's lean and a hood
_TOSS = 1.6  # rad/s of an upward flick that puts everything back
_EASE = 9.0  # rad/s


@dataclass
class Latches:
    """States that outlast any window: each stays where it is until the head is tossed back."""

    present: frozenset[str] = frozenset()
    """Those of LATCHES that the character has."""
    value: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LATCHES, 0.0))
    """0 in place, to 1 fallen, slipped or slid, as shown."""
    _target: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LATCHES, 0.0))
    _velocity: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LATCHES, 0.0))
    _before: np.ndarray | None = None
    _shaken: float = 0.0

    def step(self, controls: np.ndarray, dt: float) -> None:
        """One frame with controls [C]."""
        if not self.present:
            return
        pose = controls[_LATCHED].astype(float)
        rate = (pose - (pose if self._before is None else self._before)) / dt
        self._before = pose
        yaw, pitch, lean, shrug = (float(v) for v in rate)
        self._shaken = self._shaken * math.exp(-dt / 0.9) + max(abs(yaw) - _SHAKES, 0.0) * dt
        target = self._target
        if self._shaken > _LOOSENED:
            target["lock"] = 1.0
        if pose[1] < 0:  # not on the way back from a toss
            target["glasses"] = min(target["glasses"] + _SLIPS * max(-pitch - _NODS, 0.0) * dt, 1.0)
        slid = max(abs(lean) - _LEANS, 0.0) + max(shrug - _LEANS, 0.0)
        target["hood"] = min(target["hood"] + _SLIDES * slid * dt, 1.0)
        if pitch > _TOSS / 2 and pitch + 0.4 * abs(yaw) > _TOSS and pose[1] > 0.02:
            self._shaken = 0.0
            for name in LATCHES:
                target[name] = 0.0
        for name in self.present:
            self._follow(name, dt)

    def _follow(self, name: str, dt: float) -> None:
        gap, damping = self.value[name] - self._target[name], 0.65
        ringing, left = _EASE * math.sqrt(1 - damping**2), math.exp(-damping * _EASE * dt)
        sin, cos = left * math.sin(ringing * dt), left * math.cos(ringing * dt)
        share, velocity = damping * _EASE / ringing * sin, self._velocity[name]
        at = (cos + share) * gap + sin / ringing * velocity
        self._velocity[name] = -(_EASE**2) / ringing * sin * gap + (cos - share) * velocity
        if abs(at) < 1e-4 and abs(self._velocity[name]) < 1e-3:
            at = self._velocity[name] = 0.0
        self.value[name] = min(max(self._target[name] + at, -0.1), 1.15)


_LATCHED = [INDEX[name] for name in ("yaw", "pitch", "lean", "shrug")]


# Marks of emotion -----------------------------------------------------------------------------------------------------

MARKS = ("tears", "vein", "hearts", "sweat", "sparkles")


@dataclass
class Feelings:
    """Marks that a strong emotion adds to the picture: which, depends on the character."""

    of: dict[str, str] = field(default_factory=dict)
    """Emotion -> mark, for those that the character shows."""
    value: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MARKS, 0.0))
    """0 absent, to 1 fully there."""
    clock: float = 0.0
    """Seconds since the marks began to move; their own motion follows it."""
    _wanted: str | None = None

    def feel(self, emotion: np.ndarray) -> None:
        """Strengths [E] of EMOTIONS. Raises ValueError for another shape, NaN or infinity."""
        emotion = np.asarray(emotion, np.float32)
        if emotion.shape != (len(EMOTIONS),) or not np.isfinite(emotion).all():
            raise ValueError(f"an emotion is {len(EMOTIONS)} finite strengths, not {emotion!r}")
        strongest = int(emotion.argmax())
        self._wanted = self.of.get(EMOTIONS[strongest]) if emotion[strongest] >= STRONG else None

    def step(self, dt: float) -> None:
        """Fades all marks towards what is felt."""
        for name, value in self.value.items():
            gap = float(name == self._wanted) - value
            self.value[name] = value + min(max(gap, -dt / _FADE), dt / _FADE)
        self.clock = self.clock + dt if any(self.value.values()) else 0.0
