"""Key points of a face as a map that is easy to learn from: one soft picture for each of eight features.

Lines and dots are drawn where the key points are, so that layouts of few points (the drawn studio's) and of many (a
face mesh) give alike maps. What no feature covers is background; it needs no channel of its own.

Letters used in shapes: K key points, E edge of the map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CHANNELS = ("brows", "eyes", "irises", "nose", "lips", "contour", "ears", "shoulders")
SIGMA = 0.04
"""Of the soft lines' profile, in widths of the picture: about two thirds of a cell of a map of 16 × 16."""

Paths = Mapping[str, Sequence[Sequence[str]]]
"""Channel -> paths along key points, by name. A path of one point is a dot; one that ends where it began is closed."""

DRAWN: Paths = {
    "brows": [[f"brow_{side}_{part}" for part in ("outer", "mid", "inner")] for side in ("left", "right")],
    "eyes": [
        [f"eye_{side}_{part}" for part in ("outer", "top", "inner", "bottom", "outer")] for side in ("left", "right")
    ],
    "irises": [["iris_left"], ["iris_right"]],
    "nose": [["nose_bridge", "nose_tip"]],
    "lips": [
        ["inner_lip_left", "lip_top", "inner_lip_right", "lip_bottom", "inner_lip_left"],
        ["inner_lip_left", "inner_lip_top", "inner_lip_right", "inner_lip_bottom", "inner_lip_left"],
    ],
    "contour": [["cheek_left", "jaw_left", "chin", "jaw_right", "cheek_right"]],
    "ears": [["ear_left"], ["ear_right"]],
    "shoulders": [["shoulder_left", "neck", "shoulder_right"]],
}
"""Paths of the drawn studio's key points (studio.rig.KEYPOINTS)."""


def _mesh(*landmarks: int) -> list[str]:
    return [f"landmark_{i}" for i in landmarks]


LANDMARKS: Paths = {
    "brows": [_mesh(70, 63, 105, 66, 107), _mesh(300, 293, 334, 296, 336)],
    "eyes": [
        _mesh(33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 33),
        _mesh(263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263),
    ],
    "irises": [_mesh(468), _mesh(473)],
    "nose": [_mesh(6, 197, 195, 5, 4)],
    "lips": [
        _mesh(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 61),
        _mesh(78, 80, 13, 310, 308, 318, 14, 88, 78),
    ],
    "contour": [
        _mesh(93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323),
    ],
    "ears": [_mesh(127), _mesh(356)],
    "shoulders": [["shoulder_left", "neck", "shoulder_right"]],
}  # fmt: skip
"""Paths of MediaPipe's 468 landmarks and the irises' ten, `landmark_0` to `landmark_477`, and the body's points."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the paths run in one order of key points."""

    keypoints: int
    dots: tuple[np.ndarray, ...]
    """For each channel: [n] key points."""
    lines: tuple[np.ndarray, ...]
    """For each channel: [m, 2] key points at the ends of lines."""


def layout(names: Sequence[str], paths: Paths) -> Layout:
    """The layout of key points in the order of `names`. Raises ValueError for a point that is not among them."""
    index = {name: k for k, name in enumerate(names)}
    missing = {name for channel in CHANNELS for path in paths[channel] for name in path} - index.keys()
    if missing:
        raise ValueError(f"{len(missing)} points of the paths are not among the {len(index)} key points: "
                         f"{', '.join(sorted(missing)[:5])}")  # fmt: skip
    dots, lines = [], []
    for channel in CHANNELS:
        found = [[index[name] for name in path] for path in paths[channel]]
        dots.append(np.array(sorted({k for path in found for k in path})))
        ends = [pair for path in found for pair in zip(path[:-1], path[1:], strict=True)]
        lines.append(np.array(ends, int).reshape(-1, 2))
    return Layout(len(index), tuple(dots), tuple(lines))


def pose_map(points: np.ndarray, where: Layout, size: float, edge: int = 16, sigma: float = SIGMA) -> np.ndarray:
    """
    Key points [K, 3] (x, y in pixels of a picture `size` wide, and more than 0 if visible) to [8, E, E] float32, 0..1,
    in the order of CHANNELS: 1 on a line through visible points or on a visible point, and falling off as a Gaussian.
    Invisible points leave nothing. Raises ValueError for points of another layout or that are not finite.
    """
    if points.shape != (where.keypoints, 3):
        raise ValueError(f"the layout has {where.keypoints} key points of 3 numbers, not {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"{int((~np.isfinite(points)).any(1).sum())} of {len(points)} key points are not finite")
    if edge < 1 or not sigma > 0 or not size > 0:
        raise ValueError(f"a map needs an edge, a sigma and a size above 0, not {edge}, {sigma:g} and {size:g}")
    at, visible = points[:, :2].astype(np.float64) / size, points[:, 2] > 0
    middles = (np.arange(edge) + 0.5) / edge
    cells = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 1, 2)
    channels = np.zeros((len(CHANNELS), edge * edge), np.float32)
    for k, (dots, lines) in enumerate(zip(where.dots, where.lines, strict=True)):
        dots, lines = dots[visible[dots]], lines[visible[lines].all(1)]
        start = np.concatenate([at[dots], at[lines[:, 0]]])
        if not len(start):
            continue
        along = np.concatenate([np.zeros((len(dots), 2)), at[lines[:, 1]] - at[lines[:, 0]]])
        share = ((cells - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
        nearest = start + np.clip(share, 0, 1)[..., None] * along
        apart = ((cells - nearest) ** 2).sum(-1).min(1)
        channels[k] = np.exp(-apart / (2 * sigma**2))
    return channels.reshape(len(CHANNELS), edge, edge)
