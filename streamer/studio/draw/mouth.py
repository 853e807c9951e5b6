"""The mouth: inner lips whose distance is linear in `open`, teeth, tongue, lips and their lines."""

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.palette import alpha, mix
from streamer.studio.draw.sketch import Linear, Moment
from streamer.studio.draw.skin import ramp, skull_z

MOUTH_Y = 0.405
WIDTH = 0.128  # half, at rest
GAP = 0.225  # inner lips' distance at open = 1
U = -np.cos(np.linspace(0, np.pi, 11))  # from the viewer's left to the right corner, denser at the corners


def inner_lips(now: Moment, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """x [11], y of the upper and of the lower inner lip [11] in rest space, and their distance at the middle."""
    opening = min(1.0, max(0.0, now["open"]))
    wide, rounded, press, smile = now["wide"], now["round"], now["press"], now["smile"]
    gap = opening * GAP * size
    glad, sad = max(0.0, smile), max(0.0, -smile)
    half = WIDTH * size * (1 + 0.30 * wide - 0.50 * rounded - 0.06 * press + 0.16 * glad - 0.10 * sad - 0.10 * opening)
    # An open mouth is an ellipse when rounded, and flatter above than below when spread or smiling.
    power = 2.2 + 1.0 * wide
    q = 0.8 - 0.3 * rounded
    arch = (1 - np.abs(U) ** power) ** q
    bowl = (1 - np.abs(U) ** (2.0 + 0.6 * wide)) ** (q - 0.12 * glad * (1 - rounded))
    rise = 0.26 + 0.05 * rounded - 0.10 * glad
    bend = (0.020 + 0.058 * glad - 0.085 * sad) * (1 - 0.6 * rounded)
    curve = MOUTH_Y - bend * (np.abs(U) ** 2.0) + 0.35 * bend - 0.010 * rounded
    # the dip of the upper lip's middle shows when lips touch
    curve = curve + 0.0035 * np.exp(-((U / 0.22) ** 2)) * (1 - ramp(opening, 0.0, 0.25)) * (1 - rounded)
    return half * U, curve - rise * gap * arch, curve + (1 - rise) * gap * bowl, gap


def _surface(x: np.ndarray, y: np.ndarray, lift: float = 0.0) -> np.ndarray:
    return np.c_[x, y, skull_z(x, y) + lift]


def mouth(a: Anatomy) -> None:
    """Draws the whole mouth."""
    s, skin = a.sketch, a.skin
    size = a.number("mouth_size")
    n = len(U)
    kind = str(a.traits["lips"])
    if a.masculine and kind == "natural":
        strength, upper_full, lower_full = 0.30, 0.013, 0.022
    else:
        strength, upper_full, lower_full = {
            "natural": (0.42, 0.017, 0.027),
            "tinted": (0.72, 0.019, 0.030),
            "full": (0.82, 0.027, 0.041),
        }[kind]
    line = mix(skin.line, (58, 14, 24), 0.55)

    upper_lip = s.blank(2 * n - 2, corners=(0, n - 1))
    lower_lip = s.blank(2 * n - 2, corners=(0, n - 1))
    hole = s.blank(2 * n - 2)
    below = s.blank(5)
    s.paint(below, alpha(skin.shadow, 0.75))
    s.paint(upper_lip, alpha(skin.lip, strength * 0.9))
    s.paint(lower_lip, alpha(skin.lip, strength))
    gloss = s.blank(6)
    s.paint(gloss, alpha(mix(skin.light, (255, 255, 255), 0.5), 0.28 + 0.25 * (kind != "natural")))
    dark = s.paint(
        hole,
        Linear((0, MOUTH_Y - 0.05), (0, MOUTH_Y + 0.16), [(0, (62, 12, 24)), (0.6, (112, 26, 38)), (1, (140, 40, 50))]),
    )
    with s.group(hole) as inside:
        tongue = s.blank(10)
        s.paint(tongue, Linear((0, MOUTH_Y), (0, MOUTH_Y + 0.16), [(0, (240, 128, 132)), (1, (214, 88, 98))]))
        crease = s.blank(2, closed=False)
        s.paint(crease, line=alpha((170, 56, 70), 0.6), width=0.010)
        lower_teeth = s.blank(2 * n)
        lower_ink = s.paint(lower_teeth, (238, 232, 230), alpha((120, 60, 70), 0.35), 0.006)
        upper_teeth = s.blank(2 * n)
        upper_ink = s.paint(upper_teeth, (255, 253, 250), alpha((120, 60, 70), 0.35), 0.006)
    tuck = s.blank(12)
    tuck_ink = s.paint(tuck, (255, 252, 248), alpha(mix(skin.lip, line, 0.35), 0.8), 0.006)
    lower_line = s.blank(2 * n - 2)
    s.paint(lower_line, alpha(line, 0.85))
    upper_line = s.blank(2 * n - 2, corners=(0, n - 1))
    s.paint(upper_line, line)

    def band(x: np.ndarray, top: np.ndarray, bottom: np.ndarray, lift: float) -> np.ndarray:
        return np.r_[_surface(x, top, lift), _surface(x, bottom, lift)[-2:0:-1]]

    def update(now: Moment) -> None:
        x, up, low, gap = inner_lips(now, size)
        opening, rounded, press = gap / (GAP * size), now["round"], now["press"]
        teeth, wide = now["teeth"], now["wide"]
        rest = s.rest
        forward = 0.015 + 0.030 * rounded
        plump = (1 + 0.45 * rounded - 0.55 * press) * size
        bow = 1 - 0.22 * np.exp(-((U / 0.2) ** 2))
        top = up - upper_full * plump * (1 - U**2) ** 0.8 * bow
        bottom = low + lower_full * plump * (1 - np.abs(U) ** 2.5) * (1 + 0.15 * opening)
        rest[upper_lip.points] = band(x, top, up, forward)
        rest[lower_lip.points] = band(x, low, bottom, forward)
        g = 0.42 * x[[3, 4, 5, 6, 7]]
        shine = 0.5 * (low[5] + bottom[5])
        gx = np.array([g[0], g[2], g[4], g[4] * 0.7, 0, g[0] * 0.7])
        gy = shine + np.array([0, -0.005, 0, 0.004, 0.005, 0.004]) * plump
        rest[gloss.points] = _surface(gx - 0.012, gy, forward)
        drop = bottom[5] + 0.026
        rest[below.points] = _surface(
            np.array([-0.05, 0, 0.05, 0.03, -0.03]), np.array([drop, drop + 0.006, drop, drop + 0.016, drop + 0.016])
        )
        is_open = gap > 0.002
        s.show(dark, is_open)
        s.fade(inside, 1.0 if is_open else 0.0)
        if is_open:
            rest[hole.points] = band(x, up, low, 0.005)
            # teeth: the upper row is attached to the lip; for sibilants both rows meet
            meet = min(1.0, teeth)
            height = min(0.30 * gap + 0.012, 0.048 * size) * (1 - 0.80 * rounded * (1 - meet))
            height = height + (0.56 * gap - height) * meet
            edge = up + height * (1 - 0.25 * np.abs(U) ** 3)
            rest[upper_teeth.points] = np.r_[_surface(x, up - 0.01), _surface(x, edge)[::-1]]
            low_height = gap * (0.46 * meet + 0.10 * wide * (1 - meet)) * (1 - rounded * (1 - meet))
            s.show(lower_ink, low_height > 0.004)
            s.show(upper_ink, height > 0.003)
            rest[lower_teeth.points] = np.r_[
                _surface(x, low - low_height * (1 - 0.3 * np.abs(U) ** 3)), _surface(x, low + 0.01)[::-1]
            ]
            # tongue: a bed at the bottom; its tip rises to the upper teeth for th, l, d, n
            lift = now["tongue"]
            half = x[-1] * (0.72 - 0.16 * lift)
            bed = low[5] - (0.34 - 0.2 * rounded) * gap
            tip = bed + (up[5] + 0.55 * height - bed) * lift
            span = np.array([-1, -0.92, -0.62, -0.24, 0.24, 0.62, 0.92, 1, 0.6, -0.6])
            rise = np.array([0.75, 0.40, 0.08, 0.0, 0.0, 0.08, 0.40, 0.75, 1.2, 1.2])
            rest[tongue.points] = _surface(half * span, tip + (low[5] + 0.02 - tip) * rise)
            rest[crease.points] = _surface(np.zeros(2), np.array([tip + 0.25 * (low[5] - tip), low[5]]))
        folded = min(1.0, now["tuck"])
        s.show(tuck_ink, folded > 0.15)
        if folded > 0.15:
            t = np.linspace(-0.62, 0.62, 6)
            tx = x[-1] * t
            ty = np.interp(t, U, up)
            reach = np.maximum(np.interp(t, U, low) - ty, 0.0) * (1 - 0.3 * folded) + 0.020 * folded * size
            rest[tuck.points] = np.r_[
                _surface(tx, ty, forward), _surface(tx, ty + reach * (1 - 0.35 * t**2), forward)[::-1]
            ]
        # lines: the upper one is always visible, the lower one only when the mouth is open
        weight = (0.017 + 0.005 * min(1.0, 4 * opening)) * (1 + 0.15 * press)
        body = 0.45 + 0.55 * (1 - U**2)
        reach = 1.05
        rest[upper_line.points] = band(x * reach, up - weight * body * 0.6, up + weight * body * 0.4, forward)
        thin = 0.011 * min(1.0, 6 * opening) * (1 - np.abs(U) ** 3 * 0.3) * (1 - 0.75 * folded * (np.abs(U) < 0.7))
        rest[lower_line.points] = band(x, low, low + thin, forward)

    s.animate(update)
    p, q = hole.points.start, upper_lip.points.start
    del p
    a.keypoints["lip_top"] = q + n // 2
    a.keypoints["lip_bottom"] = lower_lip.points.start + 2 * n - 2 - n // 2
    a.keypoints["inner_lip_left"] = lower_lip.points.start
    a.keypoints["inner_lip_right"] = lower_lip.points.start + n - 1
    a.keypoints["inner_lip_bottom"] = lower_lip.points.start + n // 2
    a.keypoints["inner_lip_top"] = q + 2 * n - 2 - n // 2
    a.marks["mouth_box"] = (upper_lip.points, lower_lip.points, upper_line.points)
    a.marks["inner_gap"] = lambda: GAP * size
