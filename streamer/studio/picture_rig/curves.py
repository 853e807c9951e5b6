"""Easing curves shared by the rig's modules."""

import numpy as np


def smoothstep(x: np.ndarray | float) -> np.ndarray:
    """0 below 0, 1 above 1, smooth in between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)
