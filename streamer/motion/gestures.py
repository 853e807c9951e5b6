"""Named gestures: short scripts of motion commands, played on top of the motion plan.

A gesture's commands work like a user's (`plan.py`): they ease in and expire by themselves. For hands they replace the
idle motion, for everything else they are added to it. Pure: time is counted in frames.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from streamer.base.constants import FPS
from streamer.motion.controls import HANDS
from streamer.motion.plan import MotionCommand

Pose = Mapping[str, float]


@dataclass(frozen=True)
class Gesture:
    """A script: poses by their time in seconds, and the total duration."""

    seconds: float
    poses: Mapping[float, Pose]
    needs: tuple[str, ...]
    """Controls without which it cannot be told what is meant."""

    def moves(self, pose: Pose, at: float) -> list[MotionCommand]:
        """A pose as commands that last until the gesture's end or until another pose overrides them."""
        hands = {name: value for name, value in pose.items() if name in HANDS}
        rest = {name: value for name, value in pose.items() if name not in HANDS}
        asked = ((hands, "replace"), (rest, "add"))
        return [MotionCommand(values, mode, self.seconds - at) for values, mode in asked if values]


def _hand(side: str, **values: float) -> dict[str, float]:
    """A raised hand. Unspecified values are at rest, independent of the hand's previous state."""
    open_hand = {"raise": 1.0, "x": 0.0, "y": 0.0, "turn": 0.0, "curl": 0.0, "point": 0.0}
    return {f"{side}_{name}": value for name, value in (open_hand | values).items()}


def _both(**values: float) -> dict[str, float]:
    return _hand("left", **values) | _hand("right", **values)


def _waved() -> dict[float, Pose]:
    poses: dict[float, Pose] = {0.0: {**_hand("right", x=0.3, y=0.25, turn=0.5), "smile": 0.5, "roll": 0.07}}
    return poses | {0.3 + 0.24 * i: {"right_turn": (-0.3, 0.6)[i % 2]} for i in range(6)}


def _cheered() -> dict[float, Pose]:
    face = {"smile": 0.9, "eye_wide": 0.3, "pitch": 0.08, "brow_left": 0.4, "brow_right": 0.4}
    poses: dict[float, Pose] = {0.0: {**_both(x=0.2, y=0.35, curl=1.0), **face}}
    lifts = ({"left_y": 0.05, "right_y": 0.05, "pitch": 0.02}, {"left_y": 0.35, "right_y": 0.35, "pitch": 0.1})
    return poses | {0.35 + 0.22 * i: lifts[i % 2] for i in range(5)}


GESTURES: Mapping[str, Gesture] = {
    "wave": Gesture(2.0, _waved(), ("right_raise",)),
    "point": Gesture(
        1.8,
        {0.0: {**_hand("right", x=0.1, y=0.25, point=1.0), "brow_left": 0.5, "brow_right": 0.5, "pitch": 0.05}},
        ("right_raise", "right_point"),
    ),
    "cheer": Gesture(1.8, _cheered(), ("left_raise", "right_raise")),
    "shrug": Gesture(
        1.5,
        {
            0.0: {
                **_both(x=0.25, y=0.1, turn=0.8),
                "shrug": 1.0,
                "brow_left": 0.7,
                "brow_right": 0.7,
                "brow_inner": 0.3,
                "smile": -0.3,
                "roll": 0.12,
            }
        },
        ("shrug", "left_raise", "right_raise"),
    ),
    "think": Gesture(
        2.6,
        {
            0.0: {
                **_hand("right", x=-0.5, y=0.2, curl=0.8),
                "gaze_x": -0.6,
                "gaze_y": 0.6,
                "pitch": 0.07,
                "roll": -0.08,
                "brow_left": 0.5,
                "brow_right": -0.2,
            }
        },
        ("right_raise", "gaze_x", "gaze_y"),
    ),
    "nod": Gesture(
        1.2, {0.0: {"pitch": -0.24}, 0.28: {"pitch": 0.06}, 0.52: {"pitch": -0.2}, 0.8: {"pitch": 0.0}}, ("pitch",)
    ),
    "shake": Gesture(
        1.4,
        {0.0: {"yaw": -0.3}, 0.26: {"yaw": 0.3}, 0.54: {"yaw": -0.26}, 0.82: {"yaw": 0.2}, 1.1: {"yaw": 0.0}},
        ("yaw",),
    ),
    "bow": Gesture(
        1.8,
        {0.0: {"pitch": -0.35, "gaze_y": -0.5, "blink_left": 0.8, "blink_right": 0.8, "breath": -0.6, "smile": 0.3}},
        ("pitch",),
    ),
    "wink": Gesture(0.7, {0.0: {"blink_right": 1.0, "smile": 0.6, "roll": 0.08}}, ("blink_right",)),
}


class GesturePlayer:
    """Plays a character's gestures. Only `ask` may be called from other threads."""

    def __init__(self) -> None:
        self._asked: deque[str] = deque(maxlen=1)  # the newest wins
        self._gesture: Gesture | None = None
        self._left: deque[float] = deque()
        self._began = 0

    def ask(self, name: str) -> None:
        """Starts a gesture of GESTURES with the next frame, replacing the current one."""
        self._asked.append(name)

    def due(self, frame: int) -> list[MotionCommand]:
        """Commands to pass to the plan before `frame`. Frame numbers increase, possibly with gaps."""
        while self._asked:
            self._gesture = GESTURES[self._asked.popleft()]
            self._left, self._began = deque(sorted(self._gesture.poses)), frame
        moves: list[MotionCommand] = []
        while self._gesture is not None and self._left and self._left[0] <= (frame - self._began) / FPS:
            at = self._left.popleft()
            moves += self._gesture.moves(self._gesture.poses[at], at)
        return moves
