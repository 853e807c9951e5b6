"""The rig's controls: one float32 vector per frame describes a character's entire pose.

Letters used in shapes: T frames, C controls (`len(CONTROLS)`).

The articulation network predicts the first group from audio, `idle` adds the rest, the illustrator draws it, and the
neural generator is conditioned on it. Right and left are the viewer's.
"""

from collections.abc import Mapping

import numpy as np

MOUTH = (
    "open",  # 0..1: distance between the inner lips, as a share of the character's own maximum; linear; 0 = lips touch
    "wide",  # 0..1: corners drawn apart (ee)
    "round",  # 0..1: corners drawn together, lips forward (oo, w)
    "press",  # 0..1: closed lips pressed together (p, b, m)
    "tuck",  # 0..1: lower lip under the upper teeth (f, v)
    "tongue",  # 0..1: tip of the tongue raised and visible between or behind the teeth (th, l, d, n)
    "teeth",  # 0..1: teeth close together and shown (s, z, sh, ch)
)
EXPRESSION = (
    "smile",  # -1..1: mouth corners down to up
    "brow_left",  # -1..1: lowered to raised
    "brow_right",
    "brow_inner",  # -1..1: inner ends pulled together and down (anger) to raised (sadness)
    "eye_wide",  # 0..1: lids opened beyond rest
    "squint",  # 0..1: lower lids raised (a real smile, suspicion)
    "blush",  # 0..1
)
HEAD = (
    "yaw",  # radians, positive: the face turns to the viewer's right; drawn well within ±0.5
    "pitch",  # radians, positive: the face turns up; ±0.35
    "roll",  # radians, positive: clockwise on the screen; ±0.35
)
EYES = (
    "gaze_x",  # -1..1, positive: to the viewer's right
    "gaze_y",  # -1..1, positive: up
    "blink_left",  # 0..1: open to closed
    "blink_right",
)
BODY = (
    "breath",  # -1..1: chest and shoulders fall to rise
    "shrug",  # 0..1: shoulders raised
    "lean",  # -1..1: torso leans to the viewer's left to right
    "sway_x",  # -1..1: lag of hair and loose cloth behind the head's motion, sideways
    "sway_y",  # -1..1: the same, up and down
)
_HAND = (
    "raise",  # 0..1: out of sight to held up beside the chest or chin
    "x",  # -1..1: towards the body's middle (negative) or outwards (positive), in head heights
    "y",  # -1..1: up is positive, in head heights
    "turn",  # radians: rotation of the hand in the picture, positive outwards
    "curl",  # 0..1: open hand to fist
    "point",  # 0..1: index finger stretched while the others curl
)
HANDS = tuple(f"{side}_{name}" for side in ("left", "right") for name in _HAND)

CONTROLS = MOUTH + EXPRESSION + HEAD + EYES + BODY + HANDS
INDEX: Mapping[str, int] = {name: i for i, name in enumerate(CONTROLS)}

EMOTIONS = ("neutral", "happy", "sad", "angry", "surprised", "shy")

ATTENTIONS = ("idle", "listening", "thinking")
"""What a character does while it does not speak: nothing, listen to the viewer, or think of an answer."""

# Ranges that render well; values beyond are clamped.
_LIMITS = {"yaw": 0.55, "pitch": 0.40, "roll": 0.45, "left_turn": 1.6, "right_turn": 1.6}
_SIGNED = {"smile", *HEAD, "gaze_x", "gaze_y", "breath", "lean", "sway_x", "sway_y"}
_SIGNED |= {name for name in CONTROLS if name.startswith("brow_") or name.endswith("_turn")}
_SIGNED |= {f"{side}_{axis}" for side in ("left", "right") for axis in "xy"}

HIGHEST = np.array([_LIMITS.get(name, 1.0) for name in CONTROLS], np.float32)
"""[C]: upper limits of the controls' ranges; `LOWEST` holds the lower limits."""
LOWEST = np.array([-high if name in _SIGNED else 0.0 for name, high in zip(CONTROLS, HIGHEST, strict=True)], np.float32)


def limited(controls: np.ndarray) -> np.ndarray:
    """[C] float32 clamped to LOWEST..HIGHEST. Raises ValueError for another shape, ArithmeticError for NaN or Inf."""
    controls = np.asarray(controls, np.float32)
    if controls.shape != (len(CONTROLS),):
        raise ValueError(f"the control vector has shape {controls.shape}, not ({len(CONTROLS)},)")
    if not np.isfinite(controls).all():
        bad = [name for name, v in zip(CONTROLS, controls, strict=True) if not np.isfinite(v)]
        raise ArithmeticError(f"{len(bad)} of {len(CONTROLS)} controls are not finite: {', '.join(bad)}")
    limited: np.ndarray = np.clip(controls, LOWEST, HIGHEST)
    return limited


def rest() -> np.ndarray:
    """The neutral pose: [C] float32, all zero."""
    return np.zeros(len(CONTROLS), np.float32)


def controls(**values: float) -> np.ndarray:
    """[C] float32 from named values; the others are at rest. Raises KeyError with the name if it does not exist."""
    vector = rest()
    for name, value in values.items():
        vector[INDEX[name]] = value
    return vector
