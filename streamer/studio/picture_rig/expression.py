"""Maps the project's controls to strengths of facial motion channels. Pure tables and arithmetic.

A channel is one or more of ARKit's units that this rig always moves together.
"""

from collections.abc import Mapping

import numpy as np

from streamer.motion.controls import INDEX
from streamer.studio.picture_rig.curves import smoothstep

CHANNELS: Mapping[str, tuple[str, ...]] = {
    "jaw": ("jawOpen",),
    "upper_up": ("mouthUpperUpLeft", "mouthUpperUpRight"),
    "lower_down": ("mouthLowerDownLeft", "mouthLowerDownRight"),
    "funnel": ("mouthFunnel",),
    "pucker": ("mouthPucker",),
    "stretch": ("mouthStretchLeft", "mouthStretchRight"),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "frown": ("mouthFrownLeft", "mouthFrownRight"),
    "cheeks": ("cheekSquintLeft", "cheekSquintRight"),
    "press": ("mouthPressLeft", "mouthPressRight"),
    "roll_upper": ("mouthRollUpper",),
    "roll_lower": ("mouthRollLower",),
    "squint": ("eyeSquintLeft", "eyeSquintRight"),
    "wide": ("eyeWideLeft", "eyeWideRight"),
    "brow_up_left": ("browOuterUpRight",),  # ARKit's right is the viewer's left
    "brow_up_right": ("browOuterUpLeft",),
    "brow_down_left": ("browDownRight",),
    "brow_down_right": ("browDownLeft",),
    "brow_inner": ("browInnerUp",),
}
"""Each channel and its units."""

OPENING = ("jaw", "upper_up", "lower_down", "funnel")
"""Channels that part the lips; all others keep them together."""

NAMES = tuple(CHANNELS)
JAW, SMILE = NAMES.index("jaw"), NAMES.index("smile")

MOUTH_CONTROLS = [INDEX[name] for name in ("open", "wide", "round", "press", "tuck", "tongue", "teeth")]


def strengths(controls: np.ndarray, mouth_covered: bool = False) -> np.ndarray:
    """[C] controls to [len(CHANNELS)] float32. With `mouth_covered` (a hand, a mask) only the jaw moves, by half."""
    value = {name: float(controls[i]) for name, i in INDEX.items()}
    open_, teeth, round_, press, tuck = (value[name] for name in ("open", "teeth", "round", "press", "tuck"))
    # Lips that are pressed together show no teeth, whatever the other controls say.
    teeth, tuck = (amount * (1 - float(smoothstep((press - 0.15) / 0.25))) for amount in (teeth, tuck))
    smile, frown = max(value["smile"], 0.0), max(-value["smile"], 0.0)
    left, right, inner = value["brow_left"], value["brow_right"], value["brow_inner"]
    lifted = max((left + right) / 2, 0.0)
    of = {
        "jaw": 0.60 * open_,
        "upper_up": 0.15 * open_ + 0.28 * teeth + 0.22 * tuck,
        "lower_down": 0.10 * open_ + 0.38 * teeth,
        "funnel": 0.35 * round_ * min(1.0, 3 * open_),
        "pucker": 0.72 * round_,
        "stretch": 0.42 * value["wide"],
        "smile": 0.28 * value["wide"] + 0.62 * smile,
        "frown": 0.6 * frown,
        "cheeks": 0.4 * smile,
        "press": 0.5 * press,
        "roll_upper": 0.30 * press,
        "roll_lower": 0.35 * press + 0.55 * tuck,
        "squint": 0.6 * value["squint"] + 0.25 * smile,
        "wide": 0.8 * value["eye_wide"],
        "brow_up_left": 0.7 * max(left, 0.0),
        "brow_up_right": 0.7 * max(right, 0.0),
        "brow_down_left": 0.7 * max(-left, 0.0) + 0.5 * max(-inner, 0.0),
        "brow_down_right": 0.7 * max(-right, 0.0) + 0.5 * max(-inner, 0.0),
        "brow_inner": 0.7 * max(inner, 0.0) + 0.6 * lifted + 0.25 * value["eye_wide"],
    }
    if mouth_covered:
        covered = dict.fromkeys(NAMES[: NAMES.index("squint")], 0.0)
        of |= covered | {"jaw": 0.5 * of["jaw"], "cheeks": of["cheeks"]}
    return np.array([of[name] for name in NAMES], np.float32)
