"""Separates a person from a static background: two layers that composite to the picture exactly.

image, matte ─▶ plate: the background, inpainted behind the person
             ─▶ person: premultiplied, so that person + plate × (1 - alpha) is the image
"""

import cv2
import numpy as np

_LEVELS = 5  # of the pyramid that inpaints the background behind the person
_AWAY = 0.012  # fraction of the edge: distance from the person at which the matte's background is trusted
_TOLERATED = 3.0  # of 255: alpha by which a pixel may fall short of its colour


def split(image: np.ndarray, matte: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits an opaque image [S, S, 4] uint8 by its matte [S, S] uint8 into person and plate, [S, S, 4] uint8 each."""
    size = len(image)
    reach = max(3, int(_AWAY * size) | 1)
    near = cv2.dilate(matte, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    plate = _filled(image, near < 8)
    # What the matte misses goes to the person: an outline left behind would show as soon as the head moves.
    edge = (near >= 8) & (matte < 255)
    needed, given = _needed(image[edge], plate[edge]), matte[edge]
    person = image.copy()
    person[..., 3] = matte
    person[edge, 3] = np.where(needed > given + _TOLERATED, np.ceil(needed), given)
    rest = image[..., :3].astype(np.int16) - _dimmed(plate, 255 - person[..., 3])[..., :3]
    person[..., :3] = np.clip(rest, 0, person[..., 3:])
    return person, plate


def _needed(image: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """[n] float32, 0 to 255: the minimum alpha with which a colour over the plate [n, 4] can give the image [n, 4]."""
    shown, behind = image[..., :3].astype(np.float32), plate[..., :3].astype(np.float32)
    darker, lighter = (behind - shown) / np.maximum(behind, 1), (shown - behind) / np.maximum(255 - behind, 1)
    return 255 * np.maximum(darker, lighter).max(-1)


def joined(person: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """[S, S, 4] uint8 opaque: composites a premultiplied person over a plate."""
    return cv2.add(person, _dimmed(plate, 255 - person[..., 3]))


def _dimmed(plate: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A plate [S, S, 4] uint8 times a fraction [S, S] uint8 of 255."""
    return cv2.multiply(plate, cv2.cvtColor(share, cv2.COLOR_GRAY2BGRA), scale=1 / 255)


def _filled(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[S, S, 4] uint8: fills unknown pixels from the nearest colours, more smoothly farther away."""
    weights = [known.astype(np.float32)]
    colours = [image[..., :3].astype(np.float32) * weights[0][..., None]]
    for _ in range(_LEVELS):
        half = (max(1, weights[-1].shape[1] // 2), max(1, weights[-1].shape[0] // 2))
        weights.append(cv2.resize(weights[-1], half, interpolation=cv2.INTER_AREA))
        colours.append(cv2.resize(colours[-1], half, interpolation=cv2.INTER_AREA))
    mean = (colours[-1].sum((0, 1)) + 127e-3) / (weights[-1].sum() + 1e-3)
    fill = np.broadcast_to(mean.astype(np.float32), colours[-1].shape)
    for weight, colour in zip(reversed(weights), reversed(colours), strict=True):
        fill = cv2.resize(fill, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.minimum(4 * weight, 1)[..., None]
        fill = fill + share * (colour / np.maximum(weight, 1e-3)[..., None] - fill)
    out = image.copy()
    out[..., :3] = np.where(known[..., None], image[..., :3], np.clip(fill + 0.5, 0, 255).astype(np.uint8))
    return out
