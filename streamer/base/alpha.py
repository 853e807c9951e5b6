"""Straight and premultiplied RGBA: drawing and blending use premultiplied; PNG and browsers expect straight."""

import numpy as np


def premultiplied(picture: np.ndarray) -> np.ndarray:
    """Converts straight RGBA [..., 4] uint8 to a premultiplied copy."""
    out = picture.copy()
    alpha = picture[..., 3:]
    if alpha.min() < 255:
        out[..., :3] = (picture[..., :3].astype(np.uint16) * alpha + 127) // 255
    return out


def straighten(picture: np.ndarray) -> None:
    """Converts premultiplied RGBA [..., 4] uint8 to straight, in place. Where alpha is 0, colour must be 0 too."""
    alpha = picture[..., 3]
    partial = (alpha > 0) & (alpha < 255)
    color = picture[partial].astype(np.uint16)
    picture[partial, :3] = np.minimum(255, (color[:, :3] * 255 + color[:, 3:] // 2) // color[:, 3:])
