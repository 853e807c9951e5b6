"""Where a frame's pixels lie in another frame of the same picture: both are known to copy from the picture at rest.

Letters used in shapes: S the frame's edge; n points.
"""

import cv2
import numpy as np

from streamer.training.pictures import BACKGROUND, EYES, MOUTH, Shown

_ROUNDS = 14
_FOUND = 0.35
"""Pixels by which the inverse may miss."""
_ALIKE = 6
"""Levels by which repainted eyes may differ and still show the same."""
_FLAT, _DENSE = 0.12, 5.0
"""Areas of the picture at rest that a pixel shows: a pixel that shows less is a smear, one that shows more a fold."""


def _sampled(values: np.ndarray, at: np.ndarray, method: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Values [S, S, ...] at pixel positions [h, w, 2] (centres at half-integers)."""
    places = (at - 0.5).astype(np.float32)
    return cv2.remap(values, places, None, method, borderMode=cv2.BORDER_REPLICATE)


def found_in(shown: Shown, at_rest: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Where points [h, w, 2] of the picture at rest lie in a frame, and [h, w] bool whether they are copied there.
    `moves` [h, w]: the point is the person's, not the static background's.
    """
    at = at_rest - _sampled(shown.flow, at_rest)
    for _ in range(_ROUNDS):
        at += 0.8 * (at_rest - at - _sampled(shown.flow, at))
    missed = np.abs(at + _sampled(shown.flow, at) - at_rest).max(-1)
    inside = ((at >= 0) & (at <= len(shown.flow))).all(-1)
    same = (_sampled(shown.parts, at, cv2.INTER_NEAREST) != BACKGROUND) == moves
    copied = _sampled(shown.copied.view(np.uint8), at, cv2.INTER_NEAREST) > 0
    return at, (missed < _FOUND) & inside & same & copied


def flow_between(shown: Shown, other: Shown, step: int) -> tuple[np.ndarray, np.ndarray]:
    """
    For every `step`th pixel of a frame [S / step, S / step]: the offset [..., 2] to its place in another frame, and
    whether it is seen there. What the rig repaints is seen nowhere else, but for eyes that look alike.
    """
    own = np.arange(0, len(shown.flow), step, dtype=np.float32) + 0.5
    at = np.stack(np.meshgrid(own, own), -1)
    parts, copied = shown.parts[::step, ::step], shown.copied[::step, ::step]
    there, seen = found_in(other, at + shown.flow[::step, ::step], parts != BACKGROUND)
    eyes = (parts == EYES) & (_sampled(other.parts, there, cv2.INTER_NEAREST) == EYES)
    if eyes.any():
        now, then = shown.frame[::step, ::step, :3], _sampled(other.frame, there)[..., :3]
        eyes &= cv2.absdiff(np.ascontiguousarray(now), np.ascontiguousarray(then)).max(-1) <= _ALIKE
    return there - at, (seen & copied) | eyes


def torn(shown: Shown) -> float:
    """
    The share of the person's copied pixels that are smeared or folded, mouth and outline apart: there the rig tears
    the picture.
    """
    x, y = np.meshgrid(*(np.arange(edge, dtype=np.float32) for edge in shown.flow.shape[1::-1]))
    there_x, there_y = x + shown.flow[..., 0], y + shown.flow[..., 1]
    (xy, xx), (yy, yx) = np.gradient(there_x), np.gradient(there_y)
    area = xx * yy - xy * yx
    person = (shown.matte > 250) & (shown.parts != BACKGROUND)
    reach = max(3, len(person) // 64)
    apart = ~person | (shown.parts == MOUTH) | (shown.parts == EYES)
    inner = cv2.dilate(apart.view(np.uint8), np.ones((reach, reach), np.uint8)) == 0
    if not inner.any():
        return 0.0
    return float(((area < _FLAT) | (area > _DENSE))[inner].mean())
