"""The motion that surrounds speech: blinks, gaze, head, brows, breath, hair, hands and emotion.

A stream: `IdleMotion` turns each frame's mouth and prosody into all controls, live or offline alike.
"""

import numpy as np

from streamer.base.constants import FPS
from streamer.motion.controls import ATTENTIONS, CONTROLS, EMOTIONS, INDEX, MOUTH

_DT = 1 / FPS
_SUBSTEPS = 4

# Control offsets of an emotion at full strength.
_FEELINGS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {"smile": 0.75, "brow_left": 0.22, "brow_right": 0.22, "squint": 0.30, "blush": 0.18, "pitch": 0.03,
              "roll": 0.03},
    "sad": {"smile": -0.65, "brow_inner": 0.80, "brow_left": -0.12, "brow_right": -0.12, "pitch": -0.10, "squint": 0.10,
            "gaze_y": -0.22, "roll": -0.04, "lean": -0.10},
    "angry": {"smile": -0.45, "brow_left": -0.75, "brow_right": -0.75, "brow_inner": -0.85, "squint": 0.28,
              "pitch": -0.05},
    "surprised": {"brow_left": 0.90, "brow_right": 0.90, "brow_inner": 0.15, "eye_wide": 0.85, "pitch": 0.06,
                  "smile": 0.05, "shrug": 0.15},
    "shy": {"smile": 0.32, "blush": 0.85, "brow_inner": 0.40, "brow_left": 0.08, "brow_right": 0.08, "pitch": -0.08,
            "roll": 0.08, "gaze_x": 0.22, "gaze_y": -0.20, "shrug": 0.28, "lean": 0.10},
}  # fmt: skip
# Liveliness of each emotion's motion, relative to neutral.
_TEMPER = {"neutral": 1.0, "happy": 1.25, "sad": 0.6, "angry": 1.15, "surprised": 1.1, "shy": 0.85}

# Control offsets of listening and thinking at full strength, while the character does not speak.
_LISTENS = {"brow_left": 0.20, "brow_right": 0.20, "eye_wide": 0.10, "smile": 0.12, "pitch": 0.02}
_THINKS = {"brow_inner": 0.22, "smile": -0.16, "squint": 0.12}
_HOLDS_STILL = 0.85  # fraction of the idle head motion that a listener suppresses
_NOD = 0.40  # seconds per nod

_BLINK = (0.5, 1.0, 0.95, 0.6, 0.28, 0.08)  # lid closure, frame by frame
_SLOW_BLINK = (0.3, 0.7, 0.95, 1.0, 1.0, 0.9, 0.65, 0.4, 0.2, 0.07)
_SIGNED = frozenset(
    ("smile", "brow_left", "brow_right", "brow_inner", "gaze_x", "gaze_y", "breath", "lean", "sway_x", "sway_y")
)
_REACH = {"yaw": 0.5, "pitch": 0.35, "roll": 0.35}


class _Spring:
    """Follows a target smoothly: `speed` in rad/s; `damping` 1 gives no overshoot, less gives some."""

    def __init__(self, speed: float, damping: float = 1.0) -> None:
        self.speed, self.damping = speed, damping
        self.at = self.velocity = 0.0

    def follow(self, target: float) -> float:
        dt = _DT / _SUBSTEPS
        for _ in range(_SUBSTEPS):
            pull = self.speed**2 * (target - self.at) - 2 * self.damping * self.speed * self.velocity
            self.velocity += pull * dt
            self.at += self.velocity * dt
        return self.at


class _Hand:
    """One hand: out of sight, or raised for a while in a gesture that follows the voice's beat."""

    def __init__(self) -> None:
        self.left = 0.0  # remaining seconds of the gesture
        self.goal: dict[str, float] = {}
        self.springs = {name: _Spring(7.5, 0.85) for name in ("raise", "x", "y", "turn", "curl", "point")}
        self.beat = _Spring(16.0, 0.6)

    def begin(self, seconds: float, goal: dict[str, float]) -> None:
        self.left, self.goal = seconds, goal

    def step(self, beat: float) -> dict[str, float]:
        self.left = max(self.left - _DT, 0.0)
        raised = self.left > 0
        bob = self.beat.follow(beat if raised else 0.0)
        out = {}
        for name, spring in self.springs.items():
            # It keeps its sideways position while sinking, so that it leaves the way it came.
            goal = self.goal.get(name, 0.0) if raised or name != "raise" else 0.0
            out[name] = spring.follow(goal)
        visible = min(max(out["raise"], 0.0), 1.0)
        out["y"] += 0.16 * bob * visible
        out["turn"] += 0.12 * bob * visible
        return out


class IdleMotion:
    """
    Computes all controls of a frame from mouth and prosody: adds blinks, gaze, head, brows, breath, hair, hands and
    emotion. A stream: equal seeds and inputs give equal controls. Silence needs no special treatment: the character
    breathes, looks around and listens.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 0x11FE])
        self._time = 0.0
        self._talk = 0.0  # speaking activity, 0..1
        self._was_talking = False
        self._drift = [(self._rng.uniform(0.06, 0.42), self._rng.uniform(0, 2 * np.pi)) for _ in range(9)]
        self._blink: list[float] = []
        self._until_blink = self._rng.uniform(0.6, 2.5)
        self._until_gaze = self._rng.uniform(0.5, 1.5)
        self._until_pose = 0.0
        self._until_gesture = self._rng.uniform(2.0, 5.0)
        self._gaze = (0.0, 0.0)
        self._pose = (0.0, 0.0, 0.0, 0.0)
        self._beat_before = (0.0, 0.0)
        self._breath = self._rng.uniform(0, 2 * np.pi)
        self._feeling, self._strength = "neutral", 0.0
        self._offsets = {name: _Spring(5.5) for feeling in _FEELINGS.values() for name in feeling}
        self._temper = _Spring(4.0)
        self._temper.at = 1.0
        self._yaw, self._pitch, self._roll, self._lean = _Spring(3.2), _Spring(3.6), _Spring(2.8), _Spring(1.8)
        self._nod, self._tilt = _Spring(13.0, 0.8), _Spring(6.0)
        self._brow, self._smile = _Spring(11.0), _Spring(3.0)
        self._eyes = _Spring(42.0), _Spring(42.0)
        self._hair = _Spring(8.5, 0.28), _Spring(10.5, 0.3)
        self._hands = {"left": _Hand(), "right": _Hand()}
        # A separate generator, so that characters whose attention is never set move as without this feature.
        self._whim = np.random.default_rng([seed, 0xA77E])
        self._attention = "idle"
        self._listens, self._thinks = _Spring(6.0), _Spring(6.0)
        self._until_nod = self._whim.uniform(1.5, 4.0)
        self._rest_of_nods = 0.0  # seconds
        self._nod_depth = 0.0
        self._until_pondering = 0.0
        self._aside = (0.0, 0.0, 1.0)
        self._ponders = _Spring(30.0), _Spring(30.0)
        self._cocked = _Spring(3.5)

    def emotion(self, name: str, strength: float) -> None:
        """Blends to an emotion of controls.EMOTIONS within about half a second; 0 is neutral, 1 full strength."""
        if name not in _FEELINGS:
            raise ValueError(f"no emotion {name!r}; there are {', '.join(EMOTIONS)}")
        if not 0 <= strength <= 1:
            raise ValueError(f"an emotion's strength is from 0 to 1, got {strength}")
        self._feeling, self._strength = name, strength

    def set_attention(self, state: str) -> None:
        """Blends to one of controls.ATTENTIONS, which shows while the character does not speak."""
        if state not in ATTENTIONS:
            raise ValueError(f"no attention {state!r}; there are {', '.join(ATTENTIONS)}")
        if state == "thinking" and self._attention != "thinking":
            self._ponder()
        self._attention = state

    def nod(self) -> None:
        """Signals that the viewer has paused: a listener may nod now."""
        if self._attention == "listening" and self._whim.random() < 0.75:
            self._until_nod = min(self._until_nod, self._whim.uniform(0.0, 0.2))

    def step(self, mouth: np.ndarray, prosody: np.ndarray) -> np.ndarray:
        """mouth [M], prosody [P] -> controls [C] float32 of the next frame."""
        energy, _, beat, nod, brow = (float(x) for x in prosody)
        self._time += _DT
        self._talk += (energy - self._talk) * (0.25 if energy > self._talk else 0.035)
        talk = min(self._talk * 1.8, 1.0)
        stressed = (
            self._beat_before[1] >= 0.45
            and self._beat_before[1] > self._beat_before[0]
            and (self._beat_before[1] >= beat)
        )
        self._beat_before = (self._beat_before[1], beat)
        felt = {name: spring.follow(self._strength * _FEELINGS[self._feeling].get(name, 0.0))
                for name, spring in self._offsets.items()}  # fmt: skip
        temper = self._temper.follow(1 + self._strength * (_TEMPER[self._feeling] - 1))
        silent = 1 - talk
        listens = max(self._listens.follow(silent * (self._attention == "listening")), 0.0)
        thinks = max(self._thinks.follow(silent * (self._attention == "thinking")), 0.0)

        out = dict.fromkeys(INDEX, 0.0)
        out.update(felt)
        self._move_head(out, talk, nod, stressed, temper, 1 - _HOLDS_STILL * listens)
        if listens > 1e-3 or thinks > 1e-3:
            self._attend(out, listens, thinks)
        self._look(out, talk, listens, thinks)
        self._blinks(out, talk, thinks)
        self._wear_face(out, talk, brow, beat)
        self._breathe(out, talk)
        self._gesture(out, talk, beat, stressed, temper)
        self._swing(out)
        for name, value in zip(MOUTH, mouth, strict=True):
            out[name] = float(value)
        # Rounded or pressed lips reduce a smile, a tucked lip most of all.
        held = max(out["round"], 0.5 * out["press"], out["tuck"])
        out["smile"] *= 1 - 0.55 * min(held, 1.0)
        for name, value in out.items():
            low = -_REACH.get(name, 1.0) if name in _SIGNED or name in _REACH else 0.0
            if not name.endswith(("_x", "_y", "_turn")) or name in _SIGNED:
                out[name] = min(max(value, low), _REACH.get(name, 1.0))
        return np.array([out[name] for name in CONTROLS], np.float32)

    def _wander(self, i: int) -> float:
        """Slow, smooth and never repeating: three sines of unrelated periods, within ±1."""
        return sum(float(np.sin(2 * np.pi * f * self._time + p)) for f, p in self._drift[3 * i : 3 * i + 3]) / 3

    def _move_head(
        self, out: dict[str, float], talk: float, nod: float, stressed: bool, temper: float, own: float
    ) -> None:
        """`own`: fraction of the idle motion, 1 unless it holds still."""
        rng = self._rng
        self._until_pose -= _DT
        if self._until_pose <= 0:
            self._until_pose = rng.gamma(4.0, 0.9 if talk < 0.3 else 0.45)
            reach = (0.7 + 0.7 * talk) * temper
            self._pose = (
                float(np.clip(rng.normal(0, 0.10), -0.22, 0.22)) * reach,
                float(np.clip(rng.normal(0, 0.040), -0.09, 0.09)) * reach,
                float(np.clip(rng.normal(0, 0.050), -0.12, 0.12)) * reach,
                float(np.clip(rng.normal(0, 0.25), -0.5, 0.5)) * reach,
            )
        yaw, pitch, roll, lean = self._pose
        if stressed:
            self._nod.velocity -= 0.55 * temper * rng.uniform(0.5, 1.1)
            self._tilt.velocity += rng.normal(0, 0.10) * temper
        glance = self._gaze[0]
        out["yaw"] += self._yaw.follow(own * (yaw + 0.10 * glance + 0.035 * self._wander(0)))
        out["pitch"] += self._pitch.follow(own * (pitch + 0.05 * self._gaze[1] + 0.018 * self._wander(1)))
        out["pitch"] += self._nod.follow(0.075 * nod * min(1.2 * talk, 1.0) * temper)
        out["roll"] += self._roll.follow(own * (roll + 0.022 * self._wander(2))) + self._tilt.follow(0.0)
        out["lean"] += self._lean.follow(own * lean + 0.8 * out["yaw"])

    def _attend(self, out: dict[str, float], listens: float, thinks: float) -> None:
        """A listener looks at the viewer and nods now and then; a thinker looks away with the head tilted."""
        for name, value in _LISTENS.items():
            out[name] += listens * value
        for name, value in _THINKS.items():
            out[name] += thinks * value
        self._until_nod -= _DT
        if self._until_nod <= 0 and listens > 0.5:
            self._until_nod = 1.6 + self._whim.gamma(3.0, 1.3)
            self._rest_of_nods = _NOD * (1 + int(self._whim.random() < 0.55) + int(self._whim.random() < 0.2))
            self._nod_depth = float(self._whim.uniform(0.09, 0.15))
        if self._rest_of_nods > 0:
            self._rest_of_nods -= _DT
            dip = np.sin(np.pi * max(self._rest_of_nods, 0.0) / _NOD) ** 2
            out["pitch"] -= listens * self._nod_depth * dip
        self._until_pondering -= _DT
        if self._until_pondering <= 0 and thinks > 0.2:
            self._ponder()
        side = self._cocked.follow(self._aside[2])
        out["yaw"] += thinks * 0.10 * side
        out["roll"] -= thinks * 0.13 * side
        out["pitch"] += thinks * 0.07
        out["brow_left" if side < 0 else "brow_right"] += thinks * 0.40 * abs(side)

    def _ponder(self) -> None:
        """Looks up and aside, mostly where it looked before."""
        whim = self._whim
        side = self._aside[2] if whim.random() < 0.75 else -self._aside[2]
        if self._attention != "thinking":
            side = float(whim.choice((-1.0, 1.0)))
        self._aside = (float(side * whim.uniform(0.35, 0.7)), float(whim.uniform(0.65, 0.95)), side)
        self._until_pondering = 0.5 + whim.gamma(3.0, 0.45)

    def _look(self, out: dict[str, float], talk: float, listens: float, thinks: float) -> None:
        rng = self._rng
        self._until_gaze -= _DT
        if self._until_gaze <= 0:
            away = abs(self._gaze[0]) > 0.2 or abs(self._gaze[1]) > 0.2
            if not away and rng.random() < (0.22 if talk > 0.3 else 0.34):
                side = rng.choice((-1.0, 1.0))
                self._gaze = (float(side * rng.uniform(0.3, 0.65)), float(rng.normal(0.05, 0.22)))
                self._until_gaze = rng.gamma(3.0, 0.22 if talk > 0.3 else 0.40)
                if rng.random() < 0.45:  # the lids often go along with a large jump
                    self._until_blink = min(self._until_blink, _DT)
            else:
                self._gaze = (float(rng.normal(0, 0.05)), float(rng.normal(0, 0.03)))
                self._until_gaze = rng.gamma(3.0, 0.45)
        stays = 1 - 0.9 * listens
        x, y = (spring.follow(stays * at) for spring, at in zip(self._eyes, self._gaze, strict=True))
        if thinks > 1e-3:
            aside = [spring.follow(at) for spring, at in zip(self._ponders, self._aside, strict=False)]
            x, y = ((1 - thinks) * own + thinks * at for own, at in zip((x, y), aside, strict=True))
        # The eyes stay on their target while the head moves.
        out["gaze_x"] += x - 0.9 * out["yaw"]
        out["gaze_y"] += y - 0.9 * out["pitch"]

    def _blinks(self, out: dict[str, float], talk: float, thinks: float) -> None:
        rng = self._rng
        self._until_blink -= _DT * (1 - 0.45 * thinks)
        talking = talk > 0.35
        if self._was_talking and not talking and rng.random() < 0.5:  # at the end of a phrase
            self._until_blink = min(self._until_blink, float(rng.uniform(0.05, 0.4)))
        self._was_talking = talking
        if self._until_blink <= 0 and not self._blink:
            self._blink = list(_BLINK if thinks < 0.5 else _SLOW_BLINK)
            self._until_blink = 0.35 if rng.random() < 0.08 else 0.9 + rng.gamma(2.2, 0.85 if talking else 1.1)
        lids = self._blink.pop(0) if self._blink else 0.0
        out["blink_left"] = out["blink_right"] = lids
        if lids > 0.3:  # closed lids neither squint nor widen
            out["squint"] *= 1 - lids
            out["eye_wide"] *= 1 - lids

    def _wear_face(self, out: dict[str, float], talk: float, brow: float, beat: float) -> None:
        raised = self._brow.follow(talk * (0.38 * max(brow, 0.0) - 0.15 * max(-brow, 0.0) + 0.22 * beat))
        calm = 0.05 * self._wander(1)
        out["brow_left"] += raised + calm
        out["brow_right"] += 0.9 * raised - calm
        out["smile"] += self._smile.follow(0.14 + 0.10 * self._wander(0) + 0.06 * talk)
        out["squint"] += 0.25 * max(out["smile"], 0.0) ** 2
        out["eye_wide"] += 0.15 * max(raised, 0.0)

    def _breathe(self, out: dict[str, float], talk: float) -> None:
        self._breath += 2 * np.pi * _DT * (0.24 + 0.04 * self._wander(2) - 0.05 * talk)
        # Inhaling is faster than exhaling.
        out["breath"] += 0.7 * np.sin(self._breath + 0.35 * np.sin(self._breath))

    def _gesture(self, out: dict[str, float], talk: float, beat: float, stressed: bool, temper: float) -> None:
        rng = self._rng
        self._until_gesture -= _DT * temper
        if self._until_gesture <= 0 and stressed and talk > 0.5:
            self._until_gesture = 5.0 + rng.gamma(2.0, 2.2)
            sides = ("left", "right") if rng.random() < 0.25 else (str(rng.choice(("left", "right"))),)
            pointing = len(sides) == 1 and rng.random() < 0.25
            goal = {
                "raise": float(rng.uniform(0.5, 0.9)),
                "x": float(rng.uniform(-0.22, 0.12)),
                "y": float(rng.uniform(-0.3, 0.05)),
                "turn": float(rng.uniform(-0.3, 0.35)),
                "curl": 0.8 if pointing else float(rng.uniform(0.12, 0.45)),
                "point": 1.0 if pointing else 0.0,
            }
            seconds = float(rng.uniform(1.0, 2.4))
            for side in sides:
                self._hands[side].begin(seconds, goal)
        for side, hand in self._hands.items():
            for name, value in hand.step(beat).items():
                out[f"{side}_{name}"] = value

    def _swing(self, out: dict[str, float]) -> None:
        """Hair lags behind the head and overshoots."""
        x = out["yaw"] + 0.7 * out["roll"] + 0.15 * out["lean"]
        y = out["pitch"] + 0.06 * out["breath"]
        sideways, upright = self._hair
        out["sway_x"] = 6.0 * (sideways.follow(x) - x)
        out["sway_y"] = 5.0 * (upright.follow(y) - y)
