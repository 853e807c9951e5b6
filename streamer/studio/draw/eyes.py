"""Eyes and brows: lids that close, layered irises, lashes with thickness."""

from dataclasses import dataclass

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.head import ring
from streamer.studio.draw.palette import Color, alpha, luminance, mix, tone
from streamer.studio.draw.sketch import Linear, Moment, Radial
from streamer.studio.draw.skin import ramp, skull_z

EYE_X, EYE_Y = 0.228, 0.115
U = -np.cos(np.linspace(0, np.pi, 9))  # from the inner (-1) to the outer (1) corner, denser at the corners


@dataclass(frozen=True)
class EyeShape:
    """Half width; heights of the upper and lower lid above the corners' line; corner drops; peak position."""

    width: float
    upper: float
    lower: float
    inner: float
    outer: float
    peak: float
    power: float


SHAPES = {
    "round": EyeShape(0.122, 0.142, 0.078, 0.022, 0.004, 0.00, 2.5),
    "doe": EyeShape(0.130, 0.158, 0.086, 0.022, 0.012, -0.05, 2.7),
    "almond": EyeShape(0.132, 0.122, 0.062, 0.030, -0.014, 0.12, 2.2),
    "cat": EyeShape(0.136, 0.122, 0.060, 0.036, -0.038, 0.28, 2.2),
    "droopy": EyeShape(0.130, 0.128, 0.074, -0.006, 0.036, -0.20, 2.3),
    "sleepy": EyeShape(0.132, 0.092, 0.070, 0.014, 0.012, 0.00, 2.6),
    "narrow": EyeShape(0.124, 0.090, 0.048, 0.022, -0.006, 0.12, 2.1),
    "sharp": EyeShape(0.130, 0.094, 0.046, 0.034, -0.032, 0.30, 2.1),
}


def lids(shape: EyeShape, now: Moment, blink: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Heights [9] of the upper and lower lid at U about EYE_Y (y down), and how open the eye is (0..1.2)."""
    wide, squint, smile = now["eye_wide"], now["squint"], max(0.0, now["smile"])
    base = shape.inner + (shape.outer - shape.inner) * (U + 1) / 2
    # A peak at `peak`: each half is stretched so that the lid is highest there.
    v = np.where(U < shape.peak, (U - shape.peak) / (1 + shape.peak), (U - shape.peak) / (1 - shape.peak))
    arch = (1 - np.abs(v) ** shape.power) ** 0.66
    bowl = 1 - np.abs(U) ** 2.4
    upper = base - shape.upper * (1 + 0.20 * wide - 0.14 * squint) * arch
    # The lids follow the brows: anger presses the inner half down, sorrow lets the outer half hang.
    inner = now["brow_inner"]
    upper = upper + 0.046 * max(0.0, -inner) * ramp(U, 0.7, -0.9) + 0.034 * max(0.0, inner) * ramp(U, -0.5, 1.0)
    lower = base + shape.lower * (1 + 0.08 * wide - 0.55 * squint - 0.12 * smile) * bowl
    upper = np.minimum(upper, lower)
    # Closed, the lids meet low; with raised lower lids (a laugh) they meet in an arc upwards.
    laugh = float(ramp(squint + 0.3 * smile, 0.35, 0.85))
    content = base * 0.6 + shape.lower * 0.80 * bowl
    arc = base * 0.4 + 0.045 - (0.095 * bowl)
    closed = content + (arc - content) * laugh
    openness = 1.0 - blink
    return closed + (upper - closed) * openness, closed + (lower - closed) * openness, openness


def eyes(a: Anatomy) -> None:
    """Both eyes."""
    for side, name in ((-1, "left"), (1, "right")):
        _eye(a, side, name)


def _surface(xy: np.ndarray, lift: float = 0.0) -> np.ndarray:
    return np.c_[xy, skull_z(xy[:, 0], xy[:, 1]) + lift]


def _eye(a: Anatomy, side: int, name: str) -> None:
    s = a.sketch
    shape = SHAPES[str(a.traits["eyes"])]
    size = a.number("eye_size") * (0.94 if a.masculine else 1.0) * (0.92 if a.is_("age", "older") else 1.0)
    iris_color = a.colour("eye_colour")
    if side > 0 and a.traits["eye_colour_right"] != "same":
        iris_color = a.colour("eye_colour_right")
    lash_color = mix(mix(a.hair.line, (38, 20, 30), 0.6), a.skin.line, 0.1)
    cx = side * EYE_X
    width = shape.width * size
    weight = {"none": 0.024, "soft": 0.031, "long": 0.036, "winged": 0.037}[str(a.traits["lashes"])]
    n = len(U)

    opening = s.blank(2 * n - 2, corners=(0, n - 1))
    lash = s.blank(2 * n + 1, corners=(n,))
    lower_lash = s.blank(5, closed=False)
    crease = s.blank(4, closed=False)
    shade = s.blank(2 * n)
    # the upper lid's skin: lit, or painted with long lashes; it is visible when the eye closes
    lid = s.blank(10)
    painted = {"winged": mix(a.skin.lip, a.skin.shadow, 0.3), "long": mix(a.skin.blush, a.skin.light, 0.5)}
    dark_skin = luminance(a.skin.base) < 0.4  # on which a lash alone would be invisible
    lid_color = painted.get(str(a.traits["lashes"]), a.skin.light)
    if dark_skin:
        lid_color = mix(mix(lid_color, a.skin.light, 0.6), (255, 206, 160), 0.22)
    s.paint(lid, alpha(lid_color, 0.6 if dark_skin or a.is_("lashes", "winged") else 0.42))
    white = s.paint(
        opening,
        Linear(
            (cx, EYE_Y - 0.12), (cx, EYE_Y + 0.08), [(0, (226, 220, 232)), (0.5, (252, 250, 252)), (1, (255, 255, 255))]
        ),
    )
    ry0 = min(0.128, (shape.upper + shape.lower) * 0.60) * size
    rx0 = min(0.096 * size, ry0 * 0.86, width * 0.76)
    dark, deep = tone(iris_color, 0.42, -0.02, 1.05), tone(iris_color, 0.24, -0.02, 1.0)
    bright = mix(tone(iris_color, 1.25, 0.03, 1.1), (255, 255, 255), 0.25)
    with s.group(opening) as inside:
        iris = s.blank(10)
        iris_ink = s.paint(
            iris,
            Linear((cx, EYE_Y - ry0), (cx, EYE_Y + ry0), [(0, deep), (0.32, dark), (0.62, iris_color), (1, bright)]),
            deep,
            0.017,
        )
        glow = s.blank(8)
        glow_ink = s.paint(
            glow,
            Radial(
                (cx, EYE_Y + 0.05),
                (cx + 0.06, EYE_Y + 0.05),
                [(0, alpha(mix(bright, (255, 255, 255), 0.45), 0.9)), (1, alpha(bright, 0.0))],
            ),
        )
        pupil = s.blank(8)
        s.paint(pupil, mix(deep, (16, 8, 18), 0.55))
        s.paint(shade, alpha((58, 36, 78), 0.34))
        light = s.blank(8, 7)
        s.paint(light, (255, 255, 255))
    rim = s.blank(6, closed=False)
    rim_ink = s.paint(rim, line=alpha(mix(a.skin.deep, a.skin.line, 0.5), 0.7), width=0.007)
    lower_ink = s.paint(lower_lash, line=alpha(lash_color, 0.75), width=0.010)
    s.paint(lash, lash_color)
    spikes, spikes_ink = None, None
    if a.is_("lashes", "long", "winged"):
        spikes = s.blank(3, 3, 3, corners=(1,))
        spikes_ink = s.paint(spikes, lash_color)
    crease_ink = s.paint(crease, line=alpha(mix(a.skin.line, a.skin.deep, 0.5), 0.6), width=0.010)
    grad_iris, grad_glow = iris_ink.gradient, glow_ink.gradient
    assert grad_iris is not None and grad_glow is not None
    middle = s.place([(cx, EYE_Y)])
    unit_ring = ring(0, 0, 1, 1, 0, 10)[:, :2]
    ring8, ring7 = ring(0, 0, 1, 1, 0, 8)[:, :2], ring(0, 0, 1, 1, 0, 7)[:, :2]
    x_lid = cx + side * width * U
    taper = ramp(U, -1.15, 0.1)

    def update(now: Moment) -> None:
        blink = min(1.0, max(0.0, now[f"blink_{name}"]))
        up, low, openness = lids(shape, now, blink)
        up, low = EYE_Y + up * size, EYE_Y + low * size
        rest = s.rest
        rest[opening.points] = _surface(np.r_[np.c_[x_lid, up], np.c_[x_lid, low][-2:0:-1]])
        is_open = blink < 0.93
        s.show(white, is_open)
        s.fade(inside, 1.0 if is_open else 0.0)
        s.show(lower_ink, blink < 0.7)
        s.show(rim_ink, blink < 0.7)
        # lash: over the lid, thicker outwards, with a wing; on a closed eye it points down
        thick = weight * size * (0.28 + 0.72 * taper) * (0.8 + 0.2 * openness)
        reach = 0.030 if a.is_("lashes", "winged") else 0.018 if not a.masculine else 0.008
        wing_y = (
            up[-1] - reach * (1.0 if a.is_("lashes", "winged") else 0.4) * (openness - 0.35 * blink) + 0.008 * blink
        )
        tip = [(cx + side * (width + reach), wing_y)] * 2
        outer = np.c_[x_lid + side * 0.010 * taper, up - thick]
        rest[lash.points] = _surface(np.r_[np.c_[x_lid, up + 0.004], tip[:1], outer[::-1]], 0.004)
        if spikes is not None and spikes_ink is not None:
            s.show(spikes_ink, blink < 0.75)
            roots, arrows = (-3, -2, -1), []
            for k, (dx, dy) in zip(roots, ((0.020, -0.040), (0.036, -0.030), (0.040, -0.006)), strict=True):
                dy = dy * openness + 0.045 * blink
                x0, y0 = x_lid[k], up[k] - thick[k] * 0.6
                arrows.append(
                    np.array([(x0 - side * 0.014, y0), (x0 + side * dx, y0 + dy), (x0 + side * 0.010, y0 + 0.010)])
                )
            rest[spikes.points] = _surface(np.concatenate(arrows), 0.004)
        rest[rim.points] = _surface(np.c_[x_lid, low][:6], 0.002)
        rest[lower_lash.points] = _surface(np.c_[x_lid, low][4:], 0.002)
        lift = 0.040 * size
        fold = np.interp([-0.45, 0.0, 0.42, 0.78], U, up - thick) - lift * (0.55 + 0.45 * openness) * np.array(
            [0.9, 1.0, 0.95, 0.75]
        )
        rest[crease.points] = _surface(np.c_[cx + side * width * np.array([-0.45, 0.0, 0.45, 0.86]), fold], 0.002)
        s.show(crease_ink, blink < 0.6)
        five = np.array([-1.0, -0.55, 0.0, 0.55, 1.0])
        edge = np.interp(five, U, up)
        above = edge - thick[4] - (0.030 + 0.050 * blink) * size * (1 - 0.55 * five**2)
        five_x = cx + side * width * five
        rest[lid.points] = _surface(np.r_[np.c_[five_x, edge], np.c_[five_x, above][::-1]])
        gx, gy = now["gaze_x"], now["gaze_y"]
        centre = np.array([cx - side * 0.008 + gx * 0.040, EYE_Y - 0.018 * size - gy * 0.034])
        rest[middle] = _surface(centre[None])
        at = side * (centre[0] - cx) / width
        a.shown[f"iris_{name}"] = is_open and bool(np.interp(at, U, up) < centre[1] < np.interp(at, U, low))
        if not is_open:
            return
        fall = 0.036 * size
        rest[shade.points] = _surface(np.r_[np.c_[x_lid, up - 0.02], np.c_[x_lid, up + fall][::-1]])
        small = 1 - 0.16 * now["eye_wide"]
        rx, ry = rx0 * small, ry0 * small
        rest[iris.points] = _surface(centre + unit_ring * (rx, ry))
        rest[pupil.points] = _surface(centre + (0, 0.05 * ry) + ring8 * (rx * 0.44, ry * 0.48), 0.002)
        rest[glow.points] = _surface(centre + (0, 0.55 * ry) + ring8 * (rx * 0.70, ry * 0.36), 0.001)
        rest[grad_iris[1]], rest[grad_iris[1] + 1] = _surface(np.array([centre - (0, ry), centre + (0, ry)]))
        rest[grad_glow[1]], rest[grad_glow[1] + 1] = _surface(
            centre + np.array([(0, 0.62 * ry), (rx * 0.72, 0.62 * ry)])
        )
        spark = centre + (-0.34 * rx - gx * 0.012, -0.42 * ry + gy * 0.010)
        glint = centre + (0.40 * rx, 0.44 * ry)
        rest[light.points] = _surface(
            np.r_[spark + ring8 * (rx * 0.33, ry * 0.30), glint + ring7 * (rx * 0.15, ry * 0.13)], 0.004
        )

    s.animate(update)
    p = opening.points.start
    for key, k in (("inner", 0), ("top", n // 2), ("outer", n - 1), ("bottom", 2 * n - 2 - n // 2)):
        a.keypoints[f"eye_{name}_{key}"] = p + k
    a.keypoints[f"iris_{name}"] = middle.start
    a.marks[f"opening_{name}"] = opening
    a.marks[f"eye_box_{name}"] = (lash.points, opening.points)


# Brows: half length, thickness, arch (middle's rise), outer drop, start's thickness share
BROWS = {
    "soft": (0.118, 0.026, 0.020, 0.020, 0.75),
    "straight": (0.122, 0.028, 0.004, 0.004, 0.9),
    "arched": (0.126, 0.026, 0.040, 0.022, 0.7),
    "thick": (0.130, 0.046, 0.014, 0.012, 0.9),
    "thin": (0.120, 0.017, 0.028, 0.020, 0.8),
    "short": (0.062, 0.036, 0.010, 0.006, 1.0),
}


def brow_outlines(a: Anatomy) -> list[tuple[int, str, Color]]:
    """Prepares both brows; `paint_brows` draws them twice: under the fringe, and faintly over it."""
    s = a.sketch
    shape = SHAPES[str(a.traits["eyes"])]
    length, thickness, arch, drop, head_share = BROWS[str(a.traits["brows"])]
    if a.masculine:
        thickness *= 1.15
    u = np.linspace(-1, 1, 5)
    profile = thickness * np.array([head_share * 0.9, 1.0, 0.92, 0.62, 0.0])
    color = (
        mix(tone(a.hair.base, 0.62), a.skin.line, 0.35)
        if not a.is_("hair_colour", "white", "platinum")
        else mix(a.hair.deep, a.skin.line, 0.3)
    )
    a.marks["brow_color"] = color
    for side, name in ((-1, "left"), (1, "right")):
        o = s.blank(9, corners=(4,))
        cx = side * (EYE_X + 0.004)
        y0 = EYE_Y - (min(shape.upper, 0.125) * a.number("eye_size")) - 0.098

        def update(now: Moment, o=o, cx=cx, y0=y0, side=side, name=name) -> None:  # type: ignore[no-untyped-def]
            lift, inner = now[f"brow_{name}"], now["brow_inner"]
            x = cx + side * length * u - side * 0.016 * max(0.0, -inner) * (1 - u) / 2
            y = y0 - arch * (1 - (u - 0.15) ** 2) + drop * (u + 1) / 2
            y = (
                y
                - 0.050 * lift
                - 0.018 * lift * (1 - u**2)
                - inner * 0.052 * ramp(u, 0.6, -1.0)
                + 0.012 * inner * ramp(u, 0, 1)
            )
            upper, lower = np.c_[x, y - profile / 2], np.c_[x, y + profile / 2]
            s.rest[o.points] = _surface(np.r_[upper, lower[-2::-1]], 0.012)

        s.animate(update)
        a.marks[f"brow_{name}"] = o
        p = o.points.start
        a.keypoints[f"brow_{name}_inner"], a.keypoints[f"brow_{name}_mid"], a.keypoints[f"brow_{name}_outer"] = (
            p,
            p + 2,
            p + 4,
        )
    return []


def paint_brows(a: Anatomy, opacity: float) -> None:
    """Draws the prepared brows."""
    for name in ("left", "right"):
        a.sketch.paint(a.marks[f"brow_{name}"], alpha(a.marks["brow_color"], opacity))
