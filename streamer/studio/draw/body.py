"""Neck and shoulders: the body under the clothes."""

import numpy as np

from streamer.studio.draw.anatomy import Anatomy, mirror
from streamer.studio.draw.palette import alpha
from streamer.studio.draw.sketch import Linear
from streamer.studio.draw.skin import body, ramp

LINE = 0.0135


def neck_skin(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skin weights: the head's motion at the jaw, the torso's at the collar."""
    return ramp(p[:, 1], 0.42, 0.84), np.zeros(len(p))


def shoulder_x(a: Anatomy) -> float:
    """Half the width of the shoulders."""
    return 0.70 * a.build


def torso_side(a: Anatomy, looseness: float = 0.0) -> list[tuple[float, ...]]:
    """The torso's contour on the viewer's right, from the base of the neck down; `looseness` widens it."""
    w = shoulder_x(a) + looseness
    return [(0.20, 0.795 - looseness * 0.3, 0.0), (0.33, 0.885 - looseness * 0.6, 0.0),
            (w - 0.14, 0.965 - looseness * 0.8, 0.0), (w - 0.01, 1.06, 0.0), (w + 0.055, 1.22, 0.0),
            (w + 0.09, 1.5, 0.0), (w + 0.11, 1.95, 0.0)]  # fmt: skip


def neck_width(a: Anatomy) -> float:
    """Half the neck's width."""
    return {0.92: 0.142, 1.0: 0.160, 1.13: 0.195}[a.build] * (1.06 if a.masculine else 1.0)


def neck_and_shoulders(a: Anatomy) -> None:
    """Bare skin from the jaw to the chest."""
    s, skin = a.sketch, a.skin
    n = neck_width(a)
    side = [(n, 0.36, 0.0), (n - 0.008, 0.56, 0.0), (n + 0.004, 0.70, 0.0), (n + 0.06, 0.80, 0.0), *torso_side(a)[1:]]
    outline = s.outline(side + mirror(side[::-1]), neck_skin)
    s.paint(outline, Linear((0, 0.7), (0, 1.4), [(0, skin.base), (1, skin.base)]), a.line, LINE)
    with s.group(outline):
        # the chin's shadow on the neck
        c = a.chin_y
        shadow = [
            (-0.30, 0.3, 0.0),
            (0.30, 0.3, 0.0),
            (0.26, c + 0.06, 0.0),
            (0.13, c + 0.17, 0.1),
            (0.02, c + 0.205, 0.1),
            (-0.10, c + 0.14, 0.1),
            (-0.26, c + 0.04, 0.0),
        ]
        s.paint(
            s.outline(shadow, lambda p: (ramp(p[:, 1], 0.5, 1.1) * 0.8, np.zeros(len(p)))), alpha(skin.shadow, 0.95)
        )
        deep = [(-0.3, 0.3, 0.0), (0.3, 0.3, 0.0), (0.2, c + 0.02, 0.0), (0.0, c + 0.07, 0.1), (-0.2, c + 0.02, 0.0)]
        s.paint(s.outline(deep), alpha(skin.deep, 0.35))
        bones = [[(e * 0.045, 0.93, 0.1), (e * 0.16, 0.925, 0.08), (e * 0.36, 0.94, 0.05)] for e in (-1, 1)]
        bones += [[(e * 0.052, 0.80, 0.1), (e * 0.026, 0.90, 0.12)] for e in (-1, 1)]
        s.paint(s.outline(bones, body, closed=False), line=alpha(skin.deep, 0.55), width=0.011)
    for name, e in (("left", -1), ("right", 1)):
        a.keypoints[f"shoulder_{name}"] = s.place([(e * shoulder_x(a), 1.04, 0.0)], body).start
    a.keypoints["neck"] = s.place([(0.0, 0.84, 0.05)], body).start
