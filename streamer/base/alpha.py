"""Straight and premultiplied RGBA: drawing and mixing want the one, PNG and compositing in a browser the other."""

import numpy as np


def premultiplied(picture: np.ndarray) -> np.ndarray:
    """Straight RGBA [..., 4] uint8 to premultiplied; a copy."""
    out = picture.copy()
    alpha = picture[..., 3:]
    if alpha.min() < 255:
        out[..., :3] = (picture[..., :3].astype(np.uint16) * alpha + 127) // 255
    return out


def straighten(picture: np.ndarray) -> None:
    """Premultiplied RGBA [..., 4] uint8 to straight, in place: where alpha is 0, colour is too."""
    alpha = picture[..., 3]
    partial = (alpha > 0) & (alpha < 255)
    color = picture[partial].astype(np.uint16)
    picture[partial, :3] = np.minimum(255, (color[:, :3] * 255 + color[:, 3:] // 2) // color[:, 3:])
