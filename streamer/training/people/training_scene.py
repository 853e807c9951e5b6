"""A clip of a rendered person as the scene that the painter trains on, as it gets them of drawn characters.

Letters used in shapes as in `streamer.training.scenes`: T frames, S picture edge, s latent edge, C controls.
"""

import cv2
import numpy as np

from streamer.model.config import STRIDE
from streamer.training.clip import KEYPOINTS, TRACK_UNIT, Clip
from streamer.training.people.parts import PART
from streamer.training.scenes import WEIGHT_STRIDE, Scene

_FACE = [PART[name] for name in ("face", "lips", "mouth", "teeth", "tongue", "eye", "brow", "lash")]
_LIPS = (61, 291, 0, 17, 37, 267, 84, 314, 40, 270, 91, 321)
_EYES = ((33, 133, 159, 145, 160, 144, 158, 153), (362, 263, 386, 374, 385, 380, 387, 373))
_HANDS = [i for i, name in enumerate(KEYPOINTS) if name.startswith("hand_")]
_MOUTH_WEIGHT, _EYE_WEIGHT, _FACE_WEIGHT, _HAND_WEIGHT = 10.0, 9.0, 1.5, 2.5


def _box(points: np.ndarray, share: float) -> np.ndarray:
    """[4]: x0, y0, x1, y1 round points [n, 2], wider by a share of their width."""
    low, high = points.min(0), points.max(0)
    margin = share * (high[0] - low[0])
    return np.concatenate([low - margin, high + margin]).astype(np.float32)


def _weights(points: np.ndarray, parts: np.ndarray, size: int) -> np.ndarray:
    """[S / 4, S / 4] float16: how much a place matters. Parts [h, h] may be larger."""
    edge = size // WEIGHT_STRIDE
    face = cv2.resize(np.isin(parts, _FACE).astype(np.float32), (edge, edge), interpolation=cv2.INTER_AREA)
    weights = 1 + (_FACE_WEIGHT - 1) * face

    def raise_box(box: np.ndarray, value: float) -> None:
        x0, y0, x1, y1 = (np.array([*np.floor(box[:2]), *np.ceil(box[2:])]) / WEIGHT_STRIDE).astype(int)
        region = weights[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)]
        np.maximum(region, value, out=region)

    for side in (_HANDS[:21], _HANDS[21:]):
        hand = points[side]
        if (hand[:, 2] > 0).sum() >= 4:
            raise_box(_box(hand[:, :2], 0.15), _HAND_WEIGHT)
    for eye in _EYES:
        raise_box(_box(points[list(eye), :2], 0.2), _EYE_WEIGHT)
    raise_box(_box(points[list(_LIPS), :2], 0.12), _MOUTH_WEIGHT)
    return weights.astype(np.float16)


def _premultiplied(picture: np.ndarray, matte: np.ndarray, background: np.ndarray, opaque: bool) -> np.ndarray:
    """[S, S, 4] uint8: opaque, or what covers the background alone."""
    if opaque:
        return np.concatenate([picture, np.full_like(matte[..., None], 255)], 2)
    share = matte[..., None].astype(np.float32) / 255
    colour = np.clip(picture - background * (1 - share), 0, 255 * share)
    return np.concatenate([colour.astype(np.uint8), matte[..., None]], 2)


def scene_of(clip: Clip, size: int, rng: np.random.Generator, opaque: float = 0.8, reference: int = 0) -> Scene:
    """
    The clip in pictures `size` wide, with one of its references as the picture, as a camera's file would have it;
    what was heard is of each frame alone. A share `opaque` of the scenes keep their background. Points are followed
    from the first reference only: with another one, none is seen.
    """
    full = clip.frames.shape[1]
    scale = size / full
    solid = bool(rng.random() < opaque)

    def fitted(picture: np.ndarray) -> np.ndarray:
        return picture if size == full else cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)

    background = fitted(clip.background)

    def shown(picture: np.ndarray, matte: np.ndarray) -> np.ndarray:
        return _premultiplied(fitted(picture), fitted(matte), background, solid)

    points = clip.points * np.array([scale, scale, 1], np.float32)
    tracks = clip.tracks.astype(np.float32)
    tracks[..., :2] = (tracks[..., :2] / TRACK_UNIT - 128) * scale
    if reference:
        tracks[..., 2] = 0
    face = np.isin(clip.reference_parts[reference], _FACE).astype(np.float32)
    edge = size // STRIDE
    exposed = clip.grain[reference](clip.references[reference])
    return Scene(
        seed=clip.person,
        picture=shown(exposed, clip.reference_mattes[reference]),
        frames=np.stack([shown(frame, matte) for frame, matte in zip(clip.frames, clip.mattes, strict=True)]),
        weights=np.stack([_weights(p, parts, size) for p, parts in zip(points, clip.parts, strict=True)]),
        face=cv2.resize(face, (edge, edge), interpolation=cv2.INTER_AREA).astype(np.float16),
        controls=clip.controls,
        heard=clip.heard[:, None].astype(np.float32),
        truth=clip.truth.astype(np.float32),
        emotion=clip.emotion.astype(np.float32),
        mouths=np.stack([_box(p[list(_LIPS), :2], 0.12) for p in points]),
        openings=clip.openings,
        points=tracks[0, :, :2],
        followed=tracks[1:],
        style=None,
    )
