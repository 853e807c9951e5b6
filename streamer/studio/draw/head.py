"""Face, ears, nose and marks on the skin."""

from typing import Any

import numpy as np

from streamer.studio.draw.anatomy import Anatomy, jaw_line, mirror
from streamer.studio.draw.palette import Color, alpha, mix
from streamer.studio.draw.sketch import EAR, FACE, Linear, Moment, Outline, Radial
from streamer.studio.draw.skin import Points, points3, ramp, skull_z

# Coordinates read as paths: filled lines, not one number a line.
# fmt: off

LINE = 0.0135  # the contour's width
_GRID = 0.06


def ears(a: Anatomy) -> None:
    """Both ears, behind the face."""
    s = a.sketch
    w = a.half_width
    for side, name in ((-1, "left"), (1, "right")):
        if a.is_("ears", "pointed"):
            shape = [(w - 0.06, 0.0, 0.0), (w + 0.06, -0.06, -0.04), (w + 0.30, -0.20, -0.10), (w + 0.30, -0.20, -0.10),
                     (w + 0.16, 0.02, -0.06), (w + 0.07, 0.15, -0.04), (w + 0.01, 0.22, 0.0), (w - 0.06, 0.2, 0.02)]
            inner = [(w + 0.01, 0.02, -0.02), (w + 0.08, -0.02, -0.04), (w + 0.22, -0.14, -0.08),
                     (w + 0.22, -0.14, -0.08), (w + 0.10, 0.05, -0.04), (w + 0.02, 0.13, 0.0)]
        else:
            shape = [(w - 0.06, 0.0, 0.0), (w + 0.03, -0.05, -0.04), (w + 0.09, -0.01, -0.06), (w + 0.085, 0.09, -0.05),
                     (w + 0.045, 0.18, -0.03), (w + 0.005, 0.225, 0.0), (w - 0.06, 0.2, 0.02)]
            inner = [(w + 0.005, 0.02, -0.02), (w + 0.05, 0.01, -0.05), (w + 0.055, 0.08, -0.04),
                (w + 0.02, 0.14, -0.02)]
        shape, inner = ([(x * side, y, z) for x, y, z in part] for part in (shape, inner))
        if not a.is_("hair", "hijab"):
            s.paint(s.outline(shape), a.skin.base, a.line, LINE, EAR)
            s.paint(s.outline(inner), alpha(a.skin.shadow, 0.9))
        a.keypoints[f"ear_{name}"] = s.place([(side * (w + 0.05), 0.08, -0.05)]).start
        a.marks[f"lobe_{name}"] = (side * (w + 0.02), 0.215, 0.0)


def face(a: Anatomy) -> Outline:
    """The face's skin with its soft shading; returns its outline, to which marks on it are clipped."""
    s, skin = a.sketch, a.skin
    right = jaw_line(a)
    top = np.array([(0.0, -0.74, 0.10), (0.28, -0.68, 0.08), (0.44, -0.48, 0.06), (a.half_width + 0.005, -0.2, 0.06)])
    points = np.concatenate([top, right, [(0.0, a.chin_y, 0.345)], mirror3(right[::-1]), mirror3(top[:0:-1])])
    o = s.outline(points)
    follow_jaw(a, o.points, points)
    across, down = np.meshgrid(np.arange(-0.48, 0.49, _GRID), np.arange(-0.60, a.chin_y, _GRID))
    grid = np.c_[across.ravel(), down.ravel(), skull_z(across.ravel(), down.ravel())]
    surface = s.place(grid)  # drawn nowhere: to follow the skin by
    follow_jaw(a, surface, grid)
    a.marks["face_surface"] = (o.start, surface)
    s.paint(o, Linear((-0.2, -0.5), (0.25, 0.6), [(0, skin.light), (0.55, skin.base), (1, skin.base)]), label=FACE)
    with s.group(o):
        # cheek away from the light, and the turn under the jaw
        shade = [(0.50, -0.3), (0.53, 0.1), (0.5, 0.42), (0.2, 0.68), (0.0, 0.7), (-0.25, 0.68), (-0.25, 0.68),
                 (0.0, a.chin_y - 0.018), (0.17, a.chin_y - 0.05), (0.35, 0.38), (0.435, 0.14), (0.45, -0.1)]
        s.paint(s.outline(shade), alpha(skin.shadow, 0.5))
        for side in (-1, 1):
            x, y = side * 0.285, 0.285
            z = 0.40
            blush = s.outline(ring(x, y, 0.15, 0.15, z))
            s.paint(blush, Radial((x, y, z), (x + 0.125, y, z), [(0, alpha(skin.blush, 0.42)), (0.5,
                alpha(skin.blush, 0.22)),
                                                                (1, alpha(skin.blush, 0.0))]))
        with s.group() as flush:
            for side in (-1, 1):
                x, y, z = side * 0.275, 0.275, 0.41
                s.paint(s.outline(ring(x, y, 0.17, 0.17, z)), Radial(
                    (x, y, z), (x + 0.14, y, z), [(0, alpha(skin.blush, 0.75)), (1, alpha(skin.blush, 0.0))]))
                lines = [[(x + d - 0.012, y + 0.022, z), (x + d + 0.012, y - 0.022, z)] for d in (-0.05, 0.0, 0.05)]
                s.paint(s.outline(lines, closed=False), line=alpha(mix(skin.blush, skin.line, 0.45), 0.8), width=0.009)
        s.animate(lambda now: s.fade(flush, now["blush"]))
        _nose(a)
        _marks(a)
        if a.is_("age", "older", "adult"):
            _age(a)
    a.keypoints["chin"] = o.points.start + len(top) + len(right)
    for side, name in ((-1, "left"), (1, "right")):
        k = 4
        index = len(top) + k if side > 0 else len(top) + len(right) + 1 + (len(right) - 1 - k)
        a.keypoints[f"jaw_{name}"] = o.points.start + index
        index = len(top) + 1 if side > 0 else len(top) + 2 * len(right) - 1
        a.keypoints[f"cheek_{name}"] = o.points.start + index
    return o


def follow_jaw(a: Anatomy, placed: slice, points: np.ndarray) -> None:
    """Moves control points [n,3] down with the chin when the mouth opens."""
    drop = 0.050 * ramp(points[:, 1], 0.28, a.chin_y)

    def jaw(now: Moment) -> None:
        moved = points.copy()
        moved[:, 1] += drop * now["open"] * (1 - 0.3 * now["round"])
        a.sketch.rest[placed] = moved

    a.sketch.animate(jaw)


def contour(a: Anatomy, o: Outline) -> None:
    """The face's outline, drawn over the marks on its skin."""
    a.sketch.paint(o, line=a.line, width=LINE, least=0.8)


def mirror3(points: np.ndarray) -> np.ndarray:
    """[n,3] on the other side."""
    return points * np.array([-1.0, 1.0, 1.0])


def ring(x: float, y: float, rx: float, ry: float, z: float, n: int = 8) -> np.ndarray:
    """[n,3] points of an ellipse at depth z."""
    t = np.arange(n) * 2 * np.pi / n
    return np.c_[x + rx * np.cos(t), y + ry * np.sin(t), np.full(n, z)]


def _nose(a: Anatomy) -> None:
    s, skin = a.sketch, a.skin
    y, z = 0.275, 0.52
    kind = a.traits["nose"]
    width = {"dot": 0.02, "soft": 0.032, "button": 0.036, "defined": 0.04, "broad": 0.056}[str(kind)]
    dark = alpha(mix(skin.line, skin.deep, 0.35), 0.9)
    if kind != "dot":
        shadow = [(0.012, y - 0.10, z - 0.09), (0.03, y - 0.04, z - 0.04), (width + 0.012, y + 0.004, z - 0.07),
                  (width * 0.5, y + 0.024, z - 0.05), (0.0, y + 0.020, z - 0.02), (0.006, y - 0.01, z)]
        s.paint(s.outline(shadow), alpha(skin.shadow, 0.75))
    under = [(-width, y + 0.012, z - 0.08), (-width * 0.4, y + 0.026, z - 0.04), (0.004, y + 0.022, z),
             (width * 0.5, y + 0.026, z - 0.04), (width, y + 0.010, z - 0.08)]
    if kind == "dot":
        s.paint(s.outline([(-0.008, y - 0.004, z), (0.010, y + 0.004, z), (-0.002, y + 0.018, z - 0.02)]), dark)
    elif kind == "soft":
        s.paint(s.outline(under[1:4], closed=False), line=dark, width=0.012, least=0.8)
    elif kind == "button":
        s.paint(s.outline(under[1:], closed=False), line=dark, width=0.012, least=0.8)
    else:
        s.paint(s.outline(under, closed=False), line=dark, width=0.012, least=0.8)
        if kind == "defined":
            bridge = [(0.034, 0.10, 0.48), (0.026, 0.18, 0.54), (0.03, y - 0.03, z - 0.02)]
            s.paint(s.outline(bridge, closed=False), line=alpha(skin.deep, 0.55), width=0.011)
        else:
            wings = [[(e * width, y - 0.018, z - 0.09), (e * (width + 0.016), y + 0.002, z - 0.11),
                      (e * (width + 0.004), y + 0.020, z - 0.09)] for e in (-1, 1)]
            s.paint(s.outline(wings, closed=False), line=alpha(dark, 0.8), width=0.010)
    s.paint(s.outline(ring(-0.012, y - 0.022, 0.011, 0.014, z, 6)), alpha(mix(skin.light, (255, 255, 255), 0.5), 0.75))
    a.keypoints["nose_tip"] = s.place([(0.0, y, z)]).start
    a.keypoints["nose_bridge"] = s.place([(0.0, 0.08, 0.50)]).start


def _marks(a: Anatomy) -> None:
    s, skin = a.sketch, a.skin
    kind = a.traits["marks"]
    dark = alpha(mix(skin.line, (40, 15, 15), 0.3), 0.9)
    if kind == "freckles":
        rng = a.rng("freckles")
        dots = []
        for _ in range(26):
            x, y = rng.normal(0, 0.2), rng.normal(0.255, 0.035)
            r = rng.uniform(0.006, 0.0105)
            dots.append(ring(x, y, r, r, 0.44, 5))
        s.paint(s.outline(dots), alpha(skin.deep, 0.6))
    elif kind == "mole under eye":
        s.paint(s.outline(ring(0.285, 0.245, 0.011, 0.011, 0.42, 6)), dark)
    elif kind == "mole by mouth":
        s.paint(s.outline(ring(-0.15, 0.45, 0.011, 0.011, 0.42, 6)), dark)
    elif kind == "scar":
        s.paint(s.outline([(-0.37, 0.17), (-0.30, 0.26), (-0.25, 0.36)], closed=False), line=alpha(skin.deep, 0.85),
        width=0.016)
        ticks = [[(-0.335, 0.255), (-0.285, 0.232)], [(-0.305, 0.315), (-0.255, 0.29)]]
        s.paint(s.outline(ticks, closed=False), line=alpha(skin.deep, 0.7), width=0.010)
    elif kind == "stickers":
        for side, color in ((-1, (255, 205, 92)), (1, (255, 140, 170))):
            points = []
            for k in range(10):
                r = 0.038 if k % 2 == 0 else 0.018
                t = -np.pi / 2 + k * np.pi / 5
                points += [(side * 0.31 + r * np.cos(t), 0.285 + r * np.sin(t), 0.42)] * 2
            s.paint(s.outline(points), color, alpha((255, 255, 255), 0.9), 0.007)
    elif kind == "face paint":
        for side in (-1, 1):
            bars = [[(side * x, y, 0.40) for x, y in ((0.22, yy), (0.37, yy - 0.012), (0.37, yy + 0.012),
            (0.22, yy + 0.018))]
                    for yy in (0.27, 0.315)]
            s.paint(s.outline(bars), alpha(a.accent.base, 0.85))


def _age(a: Anatomy) -> None:
    s, skin = a.sketch, a.skin
    strong = a.is_("age", "older")
    lines = [[(side * 0.105, 0.315), (side * 0.15, 0.36), (side * 0.165, 0.405)] for side in (-1, 1)]
    if strong:
        lines += [[(side * 0.13, 0.235), (side * 0.2, 0.262), (side * 0.28, 0.245)] for side in (-1, 1)]
        lines += [[(side * 0.375, y), (side * 0.42, y + d)] for side in (-1, 1) for y, d in ((0.1, -0.02),
            (0.14, 0.012))]
    depth = 0.6 if strong else 0.32 if a.masculine else 0.16
    s.paint(s.outline(lines, closed=False), line=alpha(skin.deep, depth), width=0.010)


def beard(a: Anatomy) -> None:
    """Facial hair, under the mouth."""
    kind = str(a.traits["beard"])
    if kind == "none":
        return
    s, h = a.sketch, a.hair
    jaw = jaw_line(a)
    c = a.chin_y
    color = mix(h.base, h.shadow, 0.4)

    def draw(paths: list[Points], closed: bool = True, fill: Color | None = None, line: Color | None = None,
            width: float = 0.0) -> None:
        o = s.outline(paths, closed=closed)
        kept = []
        for path in paths:
            p = points3(path)
            kept.append(p[np.r_[True, np.any(p[1:] != p[:-1], axis=1)]])
        follow_jaw(a, o.points, np.concatenate(kept))
        s.paint(o, fill, line, width)

    def patch(right: list[Any], fill: Color, line: bool = False) -> None:
        left = [p for p in mirror(right[::-1]) if p[0] != 0.0]
        draw([right + left], True, fill, h.line if line else None, 0.0115)

    moustache = [(0.0, 0.340), (0.05, 0.328), (0.11, 0.342), (0.165, 0.372), (0.205, 0.378), (0.205, 0.378),
            (0.165, 0.402), (0.10, 0.392), (0.045, 0.374), (0.0, 0.376)]
    cheeks = [(x, y, z + 0.005) for x, y, z in jaw[1:]]
    if kind == "stubble":
        area = [(0.0, 0.345), (0.10, 0.335), (0.19, 0.39), (0.27, 0.38), (0.40, 0.27), (0.47, 0.10, 0.15), *cheeks,
        (0.0, c, 0.35)]
        patch(area, alpha(mix(h.shadow, a.skin.deep, 0.35), 0.26))
    elif kind == "goatee":
        patch([(0.0, 0.465), (0.05, 0.47), (0.115, 0.50), (0.12, 0.55), (0.07, c + 0.03), (0.0, c + 0.065)], color,
        True)
        patch(moustache, color, True)
    elif kind == "moustache":
        patch(moustache, color, True)
    elif kind == "short beard":
        lower = [(x * 1.008, y + 0.006, z) for x, y, z in cheeks]
        patch([(0.0, 0.425), (0.10, 0.42), (0.18, 0.40), (0.28, 0.385), (0.395, 0.28, 0.26), (0.455, 0.12, 0.16),
            *lower, (0.0, c + 0.012, 0.35)], alpha(color, 0.88))
        patch(moustache, color)
    else:
        lower = [(x * 1.05, y + 0.02 + 0.10 * k / len(cheeks), z) for k, (x, y, z) in enumerate(cheeks)]
        area = [(0.0, 0.415), (0.10, 0.41), (0.18, 0.39), (0.27, 0.365), (0.38, 0.28, 0.28), (0.455, 0.06, 0.16),
            (0.49, 0.02, 0.1), *lower, (0.08, c + 0.16, 0.33), (0.0, c + 0.20, 0.34)]
        patch(area, color, True)
        strands = [[(x, 0.52 + 0.1 * abs(x) - 0.5 * x * x, 0.4),
            (x * 0.95, c + 0.10 - 0.6 * x * x, 0.36)] for x in (-0.26, -0.17, -0.08, 0.0, 0.08, 0.17, 0.26)]
        draw(strands, False, None, alpha(h.line, 0.5), 0.009)
        patch(moustache, color, True)
