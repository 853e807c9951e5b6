"""The controls that all pictures are measured with: a passage of speech, and single poses."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.lib.paths import SPEECH
from streamer.audio.framing import steps_of
from streamer.avatar.avatar import Avatar
from streamer.base.constants import FPS, SAMPLE_RATE
from streamer.media.recordings import read_recording
from streamer.motion.articulation import Articulation
from streamer.motion.controls import INDEX, MOUTH, controls, rest
from streamer.motion.idle import IdleMotion

SPOKEN = 160
"""Frames of speech per picture."""

_TURN = math.radians(12)
POSES: Mapping[str, np.ndarray] = {
    "rest": rest(),
    "p b m": controls(press=0.9),
    "open": controls(open=0.85),
    "ee": controls(open=0.28, wide=0.8, teeth=0.35),
    "oo": controls(open=0.25, round=0.9),
    "oh": controls(open=0.55, round=0.5),
    "teeth": controls(open=0.12, teeth=0.9, wide=0.3),
    "smile": controls(smile=0.9, squint=0.3),
    "blink": controls(blink_left=1, blink_right=1),
    "half": controls(blink_left=0.5, blink_right=0.5),
    "aside": controls(gaze_x=0.9),
    "down": controls(gaze_x=-0.5, gaze_y=-0.8),
    "yaw -": controls(yaw=-_TURN),
    "yaw +": controls(yaw=_TURN, open=0.3),
    "pitch +": controls(pitch=math.radians(10)),
    "pitch -": controls(pitch=-math.radians(10)),
    "roll": controls(roll=0.15, brow_left=0.8, brow_right=0.8),
}

SMALL_TURNS: tuple[np.ndarray, ...] = tuple(
    controls(**{axis: sign * angle})
    for axis in ("yaw", "pitch", "roll")
    for angle in (0.013, 0.031, 0.047)
    for sign in (-1, 1)
)
"""Head motions from fractions of a pixel to a few pixels, in pairs to both sides."""


class _NullRenderer:
    """A renderer that draws nothing: only the controls are needed."""

    size = 512

    def draw(self, controls: np.ndarray, t: float = 0.0) -> None:
        return None

    def close(self) -> None:
        return None


def speech(path: Path = SPEECH, frames: int = SPOKEN) -> np.ndarray:
    """[T, C] the controls of a live session for a recording, including gestures and blinks."""
    return with_start(path, frames)[0]


def with_start(path: Path = SPEECH, frames: int = SPOKEN) -> tuple[np.ndarray, float]:
    """`speech`, and its start in the recording in seconds: the part with the most p, b and m."""
    samples = read_recording(path, SAMPLE_RATE)
    listener = Articulation.load()
    avatar = Avatar(listener, _NullRenderer(), IdleMotion(0))  # type: ignore[arg-type]  # nothing is drawn
    heard = np.array([avatar.hear(step)[0].copy() for step in steps_of(samples, listener.lookahead)])
    if len(heard) <= frames:
        return heard, 0.0
    closures = np.convolve(heard[:, INDEX["press"]] > 0.35, np.ones(frames), "valid")
    begin = int(closures.argmax())
    return heard[begin : begin + frames], begin / FPS


def mouth_only(curves: np.ndarray) -> np.ndarray:
    """[T, C] with everything except the mouth at rest."""
    alone = np.zeros_like(curves)
    alone[:, : len(MOUTH)] = curves[:, : len(MOUTH)]
    return alone


def named(curves: np.ndarray, name: str) -> np.ndarray:
    """[T] values of one control."""
    return np.asarray(curves[:, INDEX[name]])
