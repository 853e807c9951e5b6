"""The six emotions as offsets to the control vector."""

import numpy as np

from streamer.motion.controls import EMOTIONS, controls

_OFFSETS = {
    "neutral": {},
    "happy": {
        "smile": 0.85, "brow_left": 0.30, "brow_right": 0.30, "squint": 0.42, "blush": 0.25, "pitch": 0.03,
    },
    "sad": {
        "smile": -0.65, "brow_left": -0.10, "brow_right": -0.10, "brow_inner": 0.95, "gaze_y": -0.30, "pitch": -0.09,
        "blink_left": 0.20, "blink_right": 0.20, "breath": -0.3,
    },
    "angry": {
        "smile": -0.45, "brow_left": -0.65, "brow_right": -0.65, "brow_inner": -1.0, "squint": 0.30, "pitch": -0.05,
        "press": 0.25,
    },
    "surprised": {
        "smile": 0.05, "brow_left": 1.0, "brow_right": 1.0, "brow_inner": 0.20, "eye_wide": 1.0, "pitch": 0.05,
        "open": 0.22, "round": 0.35, "shrug": 0.15,
    },
    "shy": {
        "smile": 0.30, "brow_left": 0.10, "brow_right": 0.10, "brow_inner": 0.60, "blush": 1.0, "gaze_x": -0.45,
        "gaze_y": -0.40, "pitch": -0.07, "roll": 0.06, "shrug": 0.35, "blink_left": 0.10, "blink_right": 0.10,
    },
}  # fmt: skip


def expression(emotion: str, strength: float = 1.0) -> np.ndarray:
    """[C] float32 to be added to a control vector. Raises ValueError, which lists the emotions, for an unknown one."""
    if emotion not in _OFFSETS:
        raise ValueError(f"there is no emotion {emotion!r}; there are {', '.join(EMOTIONS)}")
    return controls(**_OFFSETS[emotion]) * np.float32(strength)
