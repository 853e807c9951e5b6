"""Mattes the person in a photograph: head, hair and shoulders.

    picture, face ─▶ selfie segmentation, wide and close ─▶ the person with this face ─▶ guided filter
                  ─▶ at the edge: alpha from the local foreground and background colours

Letters used in shapes: H, W the picture's edges; h, w those of the working size.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from streamer.base.onnx import load_onnx_session
from streamer.faces.landmarks import WEIGHTS, on_ground
from streamer.studio.face_fit import FaceFit

if TYPE_CHECKING:
    import onnxruntime

_INPUT = 256
_WIDE, _CLOSE = 4.2, 2.4  # edges of the network's crops, in face heights (brows to chin, doubled)
_BELOW = 0.25  # offset of the crop's centre below the face's, relative to that edge
_WORK = 1024  # longest edge at which the matte's edge is refined
_SMOOTH = 1e-4  # regularisation of the guided filter: colour differences above a hundredth separate the matte
_APART = 0.12  # minimum distance (of 1) between foreground and background for their colours to be informative


class Matting:
    """Makes mattes. Thread-safe; takes 0.3 s of one core at 1024 pixels."""

    def __init__(self, session: "onnxruntime.InferenceSession") -> None:
        self._session = session

    @classmethod
    def load(cls, path: Path = WEIGHTS / "selfie_segmentation.onnx", threads: int = 1) -> "Matting":
        """Raises FileNotFoundError, or BadNetwork for weights that are damaged or of a different network."""
        return cls(
            load_onnx_session(path, "weights of MediaPipe's selfie segmentation", ["picture"], ["person"], threads)
        )

    def matte(self, picture: np.ndarray, fit: FaceFit) -> np.ndarray:
        """
        [H, W] uint8: alpha of the person in a picture [H, W, 4] uint8, 0 to 255. A picture that is cut out already
        keeps its own alpha.
        """
        if picture[..., 3].min() < 255:
            return picture[..., 3].copy()
        rgb = on_ground(picture)
        height, width = rgb.shape[:2]
        scale = min(1.0, _WORK / max(height, width))
        small = rgb if scale == 1 else cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        points = fit.points[:, :2].astype(np.float64) * [small.shape[1] / width, small.shape[0] / height]
        coarse = _of_this_face(self._coarse(small, points), points)
        size = float(np.ptp(points, axis=0).max())
        fine = _refined(small.astype(np.float32) / 255, coarse, size)
        if scale < 1:
            fine = cv2.resize(fine, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.clip(fine * 255 + 0.5, 0, 255).astype(np.uint8)

    def _coarse(self, rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
        """[h, w] float32: the network's result for the whole picture, head and shoulders, and the head, merged."""
        height, width = rgb.shape[:2]
        middle, size = (points.min(0) + points.max(0)) / 2, float(np.ptp(points, axis=0).max())
        out = self._seen(rgb, np.array([width / 2, height / 2]), float(max(height, width)))[0]
        for times in (_WIDE, _CLOSE):
            edge = times * size
            if edge >= 0.9 * max(height, width):
                continue
            seen, weight = self._seen(rgb, middle + [0, _BELOW * (edge - size)], edge)
            out += weight * (seen - out)
        return out

    def _seen(self, rgb: np.ndarray, middle: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
        """[h, w] each: the network's result for a square, and its weight, 1 inside and 0 outside."""
        height, width = rgb.shape[:2]
        scale = _INPUT / edge
        matrix = np.array([[scale, 0, _INPUT / 2 - scale * middle[0]], [0, scale, _INPUT / 2 - scale * middle[1]]])
        matrix[:, 2] += 0.5 * scale - 0.5  # OpenCV's pixel centres are at integers
        source, onto = rgb, matrix
        if scale < 0.5:
            factor = int(1 / scale)
            source = cv2.resize(rgb, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
            onto = matrix.copy()
            onto[:, :2] *= [width / source.shape[1], height / source.shape[0]]
        view = cv2.warpAffine(source, onto, (_INPUT, _INPUT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        person = self._session.run(["person"], {"picture": view[None].astype(np.float32) / 255})[0][0, :, :, 0]
        inside = np.zeros((_INPUT, _INPUT), np.float32)
        border = _INPUT // 8
        inside[border:-border, border:-border] = 1
        weight = cv2.blur(inside, (border, border))
        back = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        seen = cv2.warpAffine(person, matrix, (width, height), flags=back, borderMode=cv2.BORDER_REPLICATE)
        return seen, cv2.warpAffine(weight, matrix, (width, height), flags=back)


@cache
def _default() -> Matting:
    return Matting.load()


def matte(picture: np.ndarray, fit: FaceFit) -> np.ndarray:
    """[H, W] uint8: Matting.matte with weights that are loaded once."""
    return _default().matte(picture, fit)


def cut_out(picture: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """
    [H, W, 4] uint8 straight RGBA: a picture [H, W, 4] with a matte [H, W] uint8 as its alpha; at the edge, the
    background's contribution to the colour is removed.
    """
    if matte.shape != picture.shape[:2]:
        raise ValueError(f"a matte of {list(matte.shape)} does not fit a picture of {list(picture.shape[:2])}")
    colours = picture[..., :3].astype(np.float32) / 255
    alpha = matte.astype(np.float32) / 255
    radius = max(2, round(max(matte.shape) / 64))
    front = _spread(colours, (alpha > 0.95).astype(np.float32), radius)
    behind = _spread(colours, (alpha < 0.05).astype(np.float32), radius)
    share = np.maximum(alpha, 0.05)[..., None]
    own = np.clip((colours - (1 - share) * behind) / share, 0, 1)
    # Nearly transparent pixels have little colour of their own: the person's colour beside them is more reliable.
    sure = np.clip((alpha - 0.2) / 0.6, 0, 1)[..., None]
    clean = np.where(alpha[..., None] > 0.98, colours, front + sure * (own - front))
    return np.dstack([np.clip(clean * 255 + 0.5, 0, 255).astype(np.uint8), matte])


def _of_this_face(coarse: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Removes other people: regions not connected to the face. The face's own interior is always kept."""
    hull = cv2.convexHull(points.astype(np.int32))
    face = cv2.fillConvexPoly(np.zeros(coarse.shape, np.uint8), hull, 1)
    out: np.ndarray = np.maximum(coarse, face)
    count, labels = cv2.connectedComponents((out > 0.4).astype(np.uint8))
    if count > 2:
        own = labels == np.bincount(labels[face > 0]).argmax()
        near = cv2.dilate(own.astype(np.uint8), np.ones((15, 15), np.uint8))
        out = out * near
    return out.astype(np.float32)


def _refined(rgb: np.ndarray, coarse: np.ndarray, size: float) -> np.ndarray:
    """[h, w] float32: the matte's edge refined by the picture [h, w, 3] in 0..1; `size` is the face's, in pixels."""
    radius = max(2, round(size / 24))
    guided = np.clip(_guided(rgb, coarse, radius, _SMOOTH), 0, 1)
    band = max(3, round(size / 14))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    inside = cv2.erode((coarse > 0.9).astype(np.uint8), kernel)
    outside = cv2.erode((coarse < 0.1).astype(np.uint8), kernel)
    unclear = (inside == 0) & (outside == 0)
    front = _spread(rgb, inside.astype(np.float32), band)
    behind = _spread(rgb, outside.astype(np.float32), band)
    apart = front - behind
    length = (apart**2).sum(2)
    share = np.clip(((rgb - behind) * apart).sum(2) / np.maximum(length, 1e-4), 0, 1)
    # Pixels far from the line between both colours are not explained by them.
    off = np.sqrt(((rgb - behind - share[..., None] * apart) ** 2).sum(2))
    trusted = np.clip(np.sqrt(length) / _APART - 1, 0, 1) * np.clip(1.5 - off / 0.08, 0, 1)
    # Only where the network is uncertain: a shirt in the wall's colour, well inside the person, is kept.
    hesitates = np.clip(4 * guided * (1 - guided) * 1.5, 0, 1)
    mixed = guided + 0.8 * trusted * hesitates * (share - guided)
    out = np.where(unclear, mixed, inside.astype(np.float32))
    return np.clip((out - 0.04) / 0.92, 0, 1).astype(np.float32)


def _spread(rgb: np.ndarray, known: np.ndarray, radius: int) -> np.ndarray:
    """[h, w, 3]: extends the colours where `known` [h, w] is 1 smoothly to where it is 0."""
    height, width = known.shape
    # Such smooth colours can be computed faster at a fraction of the size.
    factor = min(max(1, radius // 3), 8)
    size = (max(1, width // factor), max(1, height // factor))
    held = cv2.resize(rgb * known[..., None], size, interpolation=cv2.INTER_AREA)
    known = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    radius = max(1, round(radius / factor))
    out, weight = np.zeros_like(held), np.zeros(known.shape, np.float32)
    # Small windows first, so that near colours are not mixed with distant ones.
    for times in (1, 2, 4, 8):
        window = (2 * times * radius + 1,) * 2
        share = cv2.blur(known, window)
        mean = cv2.blur(held, window) / np.maximum(share, 1e-6)[..., None]
        room = (1 - weight) * np.clip(share * 50, 0, 1)
        out += room[..., None] * mean
        weight += room
    if known.any():
        out += (1 - weight)[..., None] * (held.sum((0, 1)) / known.sum())
    return cv2.resize(out, (width, height), interpolation=cv2.INTER_LINEAR)


def _guided(guide: np.ndarray, image: np.ndarray, radius: int, smooth: float) -> np.ndarray:
    """[h, w]: He et al.'s guided filter of an image [h, w], guided by a colour picture [h, w, 3]."""
    window = (2 * radius + 1,) * 2

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, window, borderType=cv2.BORDER_REFLECT)

    colours, level = mean(guide), mean(image)
    covariance = np.stack([mean(guide[..., i] * image) - colours[..., i] * level for i in range(3)], -1)
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    own = {p: mean(guide[..., p[0]] * guide[..., p[1]]) - colours[..., p[0]] * colours[..., p[1]] for p in pairs}
    rr, rg, rb, gg, gb, bb = (own[p] + (smooth if p[0] == p[1] else 0.0) for p in pairs)
    # The inverse of a symmetric 3 × 3 matrix, times the covariance.
    c00, c01, c02 = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c11, c12, c22 = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    whole = rr * c00 + rg * c01 + rb * c02
    x, y, z = (covariance[..., i] for i in range(3))
    slope = np.stack([c00 * x + c01 * y + c02 * z, c01 * x + c11 * y + c12 * z, c02 * x + c12 * y + c22 * z], -1)
    slope /= np.maximum(whole, smooth**3)[..., None]
    offset = level - (slope * colours).sum(2)
    return (mean(slope) * guide).sum(2) + mean(offset)
