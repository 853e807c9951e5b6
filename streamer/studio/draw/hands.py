"""Arms and hands: an open palm towards the viewer whose fingers curl, and a sleeve that comes up with it.

A hand is built in its own plane (unit: head heights, wrist at 0, fingers up, thumb inwards), then placed on the torso.
"""

from dataclasses import dataclass

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.palette import Cloth, alpha, luminance, mix
from streamer.studio.draw.sketch import HAND, Ink, Linear, Moment, Outline
from streamer.studio.draw.skin import ramp

FINGERS = ("thumb", "index", "middle", "ring", "little")
SCALE = 1.08  # of a hand relative to the plane's unit
LINE = 0.0125


@dataclass(frozen=True)
class Finger:
    """Root, direction (radians from upwards, positive inwards), three bones' lengths, thickness."""

    root: tuple[float, float]
    angle: float
    bones: tuple[float, float, float]
    thick: float


# Inwards (towards the thumb) is positive x.
HAND_BONES = {
    "thumb": Finger((0.062, -0.060), 0.86, (0.075, 0.072, 0.050), 0.056),
    "index": Finger((0.066, -0.205), 0.16, (0.088, 0.062, 0.046), 0.047),
    "middle": Finger((0.020, -0.218), 0.03, (0.098, 0.068, 0.048), 0.048),
    "ring": Finger((-0.026, -0.210), -0.09, (0.090, 0.064, 0.046), 0.046),
    "little": Finger((-0.068, -0.186), -0.24, (0.068, 0.048, 0.040), 0.040),
}
PALM = [(0.040, 0.03), (0.058, -0.03), (0.086, -0.085), (0.091, -0.15), (0.090, -0.205), (0.045, -0.232), (0.0, -0.236),
        (-0.045, -0.226), (-0.090, -0.195), (-0.088, -0.12), (-0.066, -0.03), (-0.045, 0.03)]  # fmt: skip


def bend(finger: str, curl: float, point: float) -> np.ndarray:
    """[4,2] a finger's joints from root to tip for `curl` 0..1; bending towards the viewer shortens it."""
    f = HAND_BONES[finger]
    if finger == "index":
        curl = curl * (1 - point)
    elif finger != "thumb":
        curl = max(curl, point)
    else:
        curl = max(curl, 0.75 * point)
    joints = [np.array(f.root)]
    if finger == "thumb":
        # the thumb folds across the palm, in the picture's plane
        angle = f.angle - 0.75 * curl
        for k, bone in enumerate(f.bones):
            angle -= (0.10 + 0.62 * curl) * (k > 0)
            joints.append(joints[-1] + bone * (1 - 0.12 * curl) * np.array([np.sin(angle), -np.cos(angle)]))
        return np.array(joints)
    direction = np.array([np.sin(f.angle * (1 - curl)), -np.cos(f.angle * (1 - curl))])
    pitch = 0.0
    for bone, most in zip(f.bones, (1.25, 1.75, 1.0), strict=True):
        pitch += curl * most
        joints.append(joints[-1] + direction * bone * np.cos(pitch))
    return np.array(joints)


def _capsule(joints: np.ndarray, thick: float, tip: float) -> np.ndarray:
    """[9,2] a finger's contour, open at its root: down one side, round the tip, back."""
    tangent = np.gradient(joints, axis=0)
    length = np.hypot(*tangent.T)
    tangent = tangent / np.maximum(length, 1e-6)[:, None]
    # a folded finger's tangent turns back; its contour must not
    tangent = np.where((tangent @ tangent[0] < 0)[:, None], -tangent, tangent)
    normal = np.c_[-tangent[:, 1], tangent[:, 0]]
    half = thick / 2 * np.array([1.0, 1.0, 0.94, 0.80])[:, None]
    far = joints[np.argmax(joints @ tangent[0])]
    end = far + tangent[0] * tip
    a, b = joints + normal * half, joints - normal * half
    a[3], b[3] = far + normal[3] * half[3] * 0.92, far - normal[3] * half[3] * 0.92
    return np.concatenate([a, [end + normal[3] * half[3] * 0.1], b[::-1]])


def hands(a: Anatomy, sleeve: Cloth | None, cuff: Cloth | None) -> None:
    """Both arms, over everything. Without a sleeve the forearm is bare."""
    for side, name in ((-1, "left"), (1, "right")):
        _hand(a, side, name, sleeve, cuff)


def _hand(a: Anatomy, side: int, name: str, sleeve: Cloth | None, cuff: Cloth | None) -> None:
    s, skin = a.sketch, a.skin
    # palms are lighter than the back of the hand, especially for dark skin
    fair = 0.34 * max(0.0, 1 - luminance(skin.base) / 0.62)
    palm_base, palm_light = mix(skin.base, (232, 172, 134), fair), mix(skin.light, (240, 186, 150), fair)
    inks: list[Ink] = []
    size = SCALE * (1.06 if a.masculine else 0.96)

    def on_torso(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(p), 0.999), np.zeros(len(p))

    def blank(n: int, closed: bool = True) -> Outline:
        return s.blank(n, closed=closed, skin=on_torso)

    def gradient(light: tuple[int, ...], base: tuple[int, ...], dark: tuple[int, ...]) -> Linear:
        return Linear((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), [(0, light), (0.5, base), (1, dark)])

    arm = blank(8, closed=False)
    tone = sleeve
    if tone is None:
        inks.append(s.paint(arm, gradient(skin.base, skin.base, skin.shadow), a.line, LINE, HAND))
    else:
        inks.append(s.paint(arm, gradient(tone.light, tone.base, tone.shadow), tone.line, LINE, HAND))
    fold = blank(3, closed=False)
    inks.append(s.paint(fold, line=alpha(tone.deep if tone else skin.shadow, 0.8), width=0.011))
    wrist = blank(6)
    inks.append(s.paint(wrist, palm_base if tone else skin.base, a.line if tone else None, LINE, HAND))
    wrist_shade = blank(4)
    inks.append(s.paint(wrist_shade, alpha(skin.shadow, 0.9 if tone else 0.0)))
    band = None
    if cuff is not None:
        band = blank(8)
        inks.append(s.paint(band, gradient(cuff.light, cuff.base, cuff.shadow), cuff.line, LINE, HAND))
    palm = blank(len(PALM), closed=False)
    inks.append(s.paint(palm, palm_base, a.line, LINE, HAND))
    mound = blank(6)
    inks.append(s.paint(mound, alpha(skin.shadow, 0.45)))
    crease = [blank(3, closed=False), blank(3, closed=False)]
    inks += [s.paint(c, line=alpha(skin.deep, 0.55), width=0.009) for c in crease]
    order = ("little", "ring", "middle", "index", "thumb")
    fingers = {}
    for finger in order:
        fingers[finger] = blank(9, closed=False)
        inks.append(s.paint(fingers[finger], gradient(palm_light, palm_base, palm_base), a.line, LINE, HAND))
    ticks = s.blank(2, 2, 2, 2, closed=False, skin=on_torso)
    inks.append(s.paint(ticks, line=alpha(skin.deep, 0.5), width=0.009))
    start = s.place(np.zeros((21, 3)), on_torso).start
    parts = ("wrist", *(f"{finger}_{joint}" for finger in FINGERS for joint in range(1, 5)))
    for k, part in enumerate(parts):
        a.keypoints[f"hand_{name}_{part}"] = start + k
    a.marks[f"hand_box_{name}"] = (palm.points, *(outline.points for outline in fingers.values()))
    for ink in inks:
        s.show(ink, False)

    def update(now: Moment) -> None:
        up = now[f"{name}_raise"]
        visible = up > 0.02
        a.shown[f"hand_{name}"] = visible
        for ink in inks:
            s.show(ink, visible)
        if not visible:
            return
        curl = min(1.0, max(0.0, now[f"{name}_curl"]))
        point = min(1.0, max(0.0, now[f"{name}_point"]))
        up = float(ramp(up, -0.15, 1.0))
        head_height = 1.35
        x = side * (0.60 + 0.06 * (1 - up) + now[f"{name}_x"] * head_height * 0.45)
        y = 1.02 + (1 - up) * 1.15 - now[f"{name}_y"] * head_height * 0.45
        turn = side * (now[f"{name}_turn"] + 0.10)
        cos, sin = np.cos(turn), np.sin(turn)

        def place(xy: np.ndarray, z: float = 0.45) -> np.ndarray:
            """From the hand's plane (x inwards) to rest space."""
            u, v = -side * xy[:, 0] * size, xy[:, 1] * size
            return np.c_[x + u * cos - v * sin, y + u * sin + v * cos, np.full(len(xy), z)]

        rest = s.rest
        rest[palm.points] = place(np.array(PALM))
        joints = {finger: bend(finger, curl, point) for finger in FINGERS}
        for finger in FINGERS:
            f = HAND_BONES[finger]
            rest[fingers[finger].points] = place(_capsule(joints[finger], f.thick, f.thick * 0.42))
        rest[start : start + 21] = place(np.concatenate([[[0.0, 0.0]], *(joints[finger] for finger in FINGERS)]))
        rest[mound.points] = place(
            np.array([(0.045, 0.0), (0.07, -0.06), (0.062, -0.12), (0.03, -0.13), (0.018, -0.08), (0.028, -0.02)])
        )
        rest[crease[0].points] = place(np.array([(0.022, -0.015), (0.012, -0.09), (0.060, -0.155)]))
        rest[crease[1].points] = place(np.array([(-0.075, -0.145), (-0.02, -0.165), (0.045, -0.19)]))
        marks = []
        for finger in ("index", "middle", "ring", "little"):
            j, t = joints[finger], HAND_BONES[finger].thick * 0.26
            marks += [j[1] + (-t, 0.004), j[1] + (t, 0.004)]
        rest[ticks.points] = place(np.array(marks))
        # forearm: from the wrist down and outwards to the elbow, out of the frame
        w = place(np.array([(0.0, 0.06)]))[0]
        elbow = np.array([side * (0.82 + 0.1 * up), 2.05])
        down = elbow - w[:2]
        down = down / np.hypot(*down)
        out = np.array([-down[1], down[0]]) * side * -1
        z = 0.40
        loose = 0.02 if sleeve is None else 0.055
        narrow, broad = 0.060 * size + (loose if sleeve is not None else 0.0), 0.13 * size + loose

        def along(t: float, width: float) -> np.ndarray:
            return w[:2] + (elbow - w[:2]) * t + out * width

        begin = 0.06
        xy = np.array(
            [
                along(1.0, broad),
                along(0.55, broad * 1.02),
                along(0.25, broad * 0.9),
                along(begin, narrow),
                along(begin, -narrow),
                along(0.25, -broad * 0.86),
                along(0.55, -broad),
                along(1.0, -broad),
            ]
        )
        rest[arm.points] = np.c_[xy, np.full(8, z)]
        xy = np.array([along(0.16, narrow * 0.6), along(0.20, narrow * 0.1), along(0.18, -narrow * 0.4)])
        rest[fold.points] = np.c_[xy, np.full(3, z)]
        base = place(np.array([(0.042, 0.0), (-0.046, 0.0)]))[:, :2]
        inner, outer_ = base[0], base[1]
        xy = np.array(
            [
                inner,
                outer_,
                along(begin * 0.5, -side * 0),
                along(begin, 0.05 * size),
                along(begin + 0.05, 0.0),
                along(begin, -0.05 * size),
            ]
        )
        tail = np.array([along(begin + 0.04, 0.052 * size), along(begin + 0.04, -0.052 * size)])
        hull = np.array([inner, outer_, *tail])
        centre = hull.mean(0)
        order_ = np.argsort(np.arctan2(*(hull - centre).T))
        ring_ = hull[order_]
        rest[wrist.points] = np.c_[np.concatenate([ring_, ring_[:2]]), np.full(6, z)]
        rest[wrist_shade.points] = np.c_[
            np.array(
                [
                    along(begin - 0.03, 0.05 * size),
                    along(begin - 0.03, -0.05 * size),
                    along(begin + 0.02, -0.055 * size),
                    along(begin + 0.02, 0.055 * size),
                ]
            ),
            np.full(4, z),
        ]
        if band is not None:
            n2 = narrow * 1.06
            xy = np.array(
                [
                    along(begin - 0.005, n2),
                    along(begin - 0.018, 0.0),
                    along(begin - 0.005, -n2),
                    along(begin + 0.03, -n2 * 1.04),
                    along(begin + 0.062, -n2),
                    along(begin + 0.05, 0.0),
                    along(begin + 0.062, n2),
                    along(begin + 0.03, n2 * 1.04),
                ]
            )
            rest[band.points] = np.c_[xy, np.full(8, z)]
        for ink in inks:
            if ink.gradient is None:
                continue
            i = ink.gradient[1]
            if ink.outline is arm or (band is not None and ink.outline is band):
                xy = np.array([along(0.3, narrow * 1.6), along(0.3, -narrow * 1.6)])
                rest[i : i + 2] = np.c_[xy[:: 1 if side < 0 else -1], [z, z]]
            else:
                rest[i : i + 2] = place(np.array([(0.02, -0.42), (0.0, -0.12)]))

    s.animate(update)
