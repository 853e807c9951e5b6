"""One character from several pictures: selects the neutral one, assigns roles to the others, and aligns them all.

    pictures with faces ─▶ roles: given, by file name, or by expression ─▶ the better of two with one role
                        ─▶ aligned to the neutral picture ─▶ Pack

No picture is rejected for what the face looks like: whether two pictures show the same person cannot be determined
reliably (see `_SHAPE`), and drawings of one character differ more than photographs of two people.

Letters used in shapes: H, W the edges of the neutral picture; N points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from PIL import Image

from streamer.base.errors import BadPicture
from streamer.faces.alignment import BadFace
from streamer.faces.detector import sampled
from streamer.faces.expression import Expression, axes, expression, median_colour, skin
from streamer.faces.notice import Notice
from streamer.faces.roles import ROLES, SAYS, TURN, Role, role_by_face, role_by_name, smile_of, strength, unrest
from streamer.studio.face_fit import FaceFit

MAX_PICTURES = 8

STABLE = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 98, 327, 10, 109, 338, 127, 356, 116, 345)
"""Landmarks that stay in place while a face speaks, smiles and blinks: eye corners, nose, forehead, temples."""

_KEPT = 0.75  # fraction of them that an alignment uses: those that agree best
_NEAR = 0.08  # maximum distance (eye distances) between landmarks of two drawings made on one canvas
_LOOK_EDGE = 256  # pixels: pictures are compared at this size
_NAMED = {"mouth_open", "eyes_shut"}  # roles that a photograph's landmarks can rule out with certainty


@dataclass(frozen=True, eq=False)
class Given:
    """An uploaded picture: decoded, with its face if one was found."""

    pixels: np.ndarray  # [H, W, 4] uint8, of any size
    fit: FaceFit | None  # in its pixels
    name: str = ""  # file name
    role: Role | None = None  # as assigned by the user


@dataclass(frozen=True, eq=False)
class Member:
    """A picture whose parts are used in addition to the neutral one's."""

    pixels: np.ndarray
    """[H, W, 4] uint8: aligned to the neutral picture; transparent where it does not reach."""

    fit: FaceFit
    """In these pixels."""


@dataclass(frozen=True)
class Chosen:
    """A picture's role."""

    role: Role
    name: str
    by: Literal["role", "name", "face"]
    """What determined the role: the user, the file name, or the face."""


@dataclass(frozen=True, eq=False)
class Pack:
    """One character's pictures."""

    neutral: np.ndarray  # [H, W, 4] uint8
    fit: FaceFit
    others: dict[Role, Member]
    notices: tuple[Notice, ...]
    chosen: tuple[Chosen, ...]  # the neutral one first

    def to_json(self) -> dict[str, Any]:
        """The assignment of pictures to roles, for display."""
        return {
            "size": [self.neutral.shape[1], self.neutral.shape[0]],
            "chosen": [{"role": chosen.role, "name": chosen.name, "by": chosen.by} for chosen in self.chosen],
            "missing": [role for role in ROLES if role != "neutral" and role not in self.others],
            "notices": [{"code": notice.code, "text": notice.text} for notice in self.notices],
        }


@dataclass(frozen=True, eq=False)
class _Seen:
    """A picture with a face and its expression."""

    pixels: np.ndarray
    fit: FaceFit
    name: str
    role: Role | None
    by: Literal["role", "name", "face"]
    expression: Expression


def make_pack(pictures: Sequence[Given]) -> Pack:
    """Makes one character from 1 to 8 pictures of any size and crop. Raises BadPicture."""
    if not 1 <= len(pictures) <= MAX_PICTURES:
        raise BadPicture(f"a pack has 1 to {MAX_PICTURES} pictures, not {len(pictures)}")
    notices: list[Notice] = []
    seen = []
    for number, given in enumerate(pictures, 1):
        name = given.name or f"picture {number}"
        if given.fit is None:
            notices.append(Notice("no_face", f"No face was found in {name}: it is not used."))
            continue
        role, by = given.role, "role"
        if role is None:
            role, by = role_by_name(given.name), "name"
        seen.append(_Seen(given.pixels, given.fit, name, role, by if role else "face",  # type: ignore[arg-type]
                          expression(given.pixels, given.fit)))  # fmt: skip
    if not seen:
        raise BadFace("no_face", f"no face was found in any of the {len(pictures)} pictures")
    neutral = _the_neutral(seen)
    others = _others([one for one in seen if one is not neutral], neutral, notices)
    if neutral.role not in (None, "neutral"):
        notices.append(Notice("no_neutral", f"No picture is the neutral one: {neutral.name} is taken for it."))
    members = {}
    for role, one in others.items():
        members[role] = _aligned(one, neutral)
        notices += _doubts(one, role, neutral)
    by = "face" if neutral.role != "neutral" else neutral.by
    chosen = [Chosen("neutral", neutral.name, by)]
    chosen += [Chosen(role, one.name, one.by) for role, one in others.items()]
    return Pack(neutral.pixels, neutral.fit, members, tuple(notices), tuple(chosen))


def calmest(seen: Sequence[Expression]) -> Expression:
    """The expected rest of a face from several pictures of it: least smile, median lids and gaze."""
    lids, x, y = np.median([(one.lids, *one.gaze) for one in seen], axis=0)
    return replace(min(seen, key=smile_of), lids=float(lids), gaze=(float(x), float(y)))


def _the_neutral(seen: Sequence[_Seen]) -> _Seen:
    """The picture to animate: one that is named neutral, otherwise the calmest one without a named role."""
    rest = calmest([one.expression for one in seen])
    for by in ("role", "name"):
        if named := [one for one in seen if one.role == "neutral" and one.by == by]:
            break
    else:
        named = [one for one in seen if one.role is None]
    return min(named or seen, key=lambda one: unrest(one.expression, rest))


def _others(seen: Sequence[_Seen], neutral: _Seen, notices: list[Notice]) -> dict[Role, _Seen]:
    """The best picture for each role, in the order of `ROLES`."""
    candidates: dict[Role, list[_Seen]] = {}
    for one in seen:
        role = one.role or role_by_face(one.expression, neutral.expression)
        if role is None:
            text = f"{one.name} shows nothing that {neutral.name} does not: it is not used."
            notices.append(Notice("no_role", text))
        elif role == "neutral":
            text = f"{one.name} and {neutral.name} are both neutral: {neutral.name} is used, which is calmer."
            notices.append(Notice("same_role", text))
        else:
            candidates.setdefault(role, []).append(one)
    best = {}
    for role in ROLES:
        if role not in candidates:
            continue
        *rest, best[role] = sorted(candidates[role], key=partial(_worth, role, neutral))
        for one in rest:
            kept = best[role].name
            text = f"{one.name} and {kept} are both for {SAYS[role]}: {kept} is used, which shows more of it."
            notices.append(Notice("same_role", text))
    return best


def _worth(role: Role, neutral: _Seen, one: _Seen) -> tuple[bool, float]:
    """Sort key: roles assigned by the user first; then expression strength, sharpness and little rotation."""
    turn = abs(one.expression.yaw - neutral.expression.yaw)
    sharp = one.expression.sharpness / max(neutral.expression.sharpness, 1e-6)
    shown = strength(role, one.expression, neutral.expression) * min(1.0, 0.5 + sharp / 2)
    return one.by == "role", shown - 2 * max(0.0, turn - TURN)


def _doubts(one: _Seen, role: Role, neutral: _Seen) -> list[Notice]:
    """Possible problems of a member."""
    doubts = []
    if reason := _other_person(one, neutral):
        text = f"{one.name} may show somebody else than {neutral.name}: {reason}."
        doubts.append(Notice("other_person", text))
    turn = one.expression.yaw - neutral.expression.yaw
    if abs(turn) > TURN:
        degrees = abs(math.degrees(turn))
        text = f"{one.name} is turned by {degrees:.0f}° against {neutral.name}: its parts may not fit."
        doubts.append(Notice("turned", text))
    if one.by != "face" and role in _NAMED and one.fit.style == "photo":
        if (shown := strength(role, one.expression, neutral.expression)) < 0.5:
            share = 100 * max(0.0, shown)
            text = f"{one.name} is to show {SAYS[role]}, but hardly does: {share:.0f} % of what is needed."
            doubts.append(Notice("role_not_seen", text))
    return doubts


def similarity_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[2, 3]: the similarity without reflection that fits points [N, 2] best onto others.

    The quarter of the points that fits worst is ignored: landmarks on drawings may be misplaced.
    """
    kept = np.arange(len(source))
    for _ in range(3):
        matrix = _least_squares(source[kept], target[kept])
        off = np.hypot(*(source @ matrix[:, :2].T + matrix[:, 2] - target).T)
        kept = np.argsort(off, kind="stable")[: max(2, round(_KEPT * len(source)))]
    return _least_squares(source[kept], target[kept])


def _least_squares(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    source, target = source.astype(np.float64), target.astype(np.float64)
    middle, wanted = source.mean(0), target.mean(0)
    # In complex numbers, a similarity is one multiplication.
    a, b = (source - middle) @ [1, 1j], (target - wanted) @ [1, 1j]
    z = np.vdot(a, b) / max(float(np.vdot(a, a).real), 1e-12)
    turn = np.array([[z.real, -z.imag], [z.imag, z.real]])
    return np.column_stack([turn, wanted - turn @ middle])


def _aligned(one: _Seen, neutral: _Seen) -> Member:
    """Aligns the picture to the neutral one."""
    height, width = neutral.pixels.shape[:2]
    points = list(STABLE)
    matrix = similarity_between(one.fit.points[points, :2], neutral.fit.points[points, :2])
    moved = _moved(one.pixels, matrix, width, height)
    if one.pixels.shape == neutral.pixels.shape:
        # Pictures drawn on one canvas are aligned already, more exactly than landmarks can be.
        off = np.hypot(*(one.fit.points[points, :2] - neutral.fit.points[points, :2]).T)
        near = float(np.median(off)) <= _NEAR * neutral.fit.eye_distance
        if near and _difference(one.pixels, neutral) <= _difference(moved, neutral):
            return Member(one.pixels, one.fit)
    return Member(moved, one.fit.moved(matrix))


def _moved(pixels: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """[H, W, 4] uint8: transparent beyond the picture's edges."""
    image = Image.fromarray(pixels).convert("RGBa")  # premultiplied, so that transparent pixels do not tint the edges
    return np.array(sampled(image, matrix, (width, height)).convert("RGBA"))


def _difference(pixels: np.ndarray, neutral: _Seen) -> float:
    """Mean difference (0..255) of two pictures of one size around the neutral one's face."""
    points = neutral.fit.points[:, :2]
    low, high = points.min(0) - 0.3 * neutral.fit.eye_distance, points.max(0) + 0.3 * neutral.fit.eye_distance
    (x0, y0), (x1, y1) = np.maximum(low, 0).astype(int), high.astype(int) + 1
    views = []
    for picture in (pixels, neutral.pixels):
        view = Image.fromarray(np.ascontiguousarray(picture[y0:y1, x0:x1])).convert("RGBa")
        view.thumbnail((_LOOK_EDGE, _LOOK_EDGE))
        views.append(np.asarray(view, np.float32))
    both = (views[0][..., 3] > 250) == (views[1][..., 3] > 250)  # ignores areas that only one of them covers
    return float(np.abs(views[0] - views[1])[both].mean()) if both.any() else 255.0


_SKIN, _LIGHT, _HAIR, _SHAPE = 16.0, 32.0, 38.0, 0.065
"""Thresholds above which two pictures may show two people: differences in skin tint, in skin lightness and in the area
above the forehead (CIE L*a*b*), and of the face's stable points (eye distances).

Set so that none of these pairs is flagged: 10 of photographs of one person, years, light and crops apart, and 96 of one
drawn character in other poses. Of pairs of strangers 70 of 105 are then flagged, of other characters 84 of 132.
Proportions are a weak cue: .05 between photographs of one person, and the same between strangers in the median.
"""


def _other_person(one: _Seen, neutral: _Seen) -> str:
    """Why two pictures may show two people; empty if there is no indication."""
    first, second = (_lab(skin(seen.pixels, seen.fit)) for seen in (neutral, one))
    if (tint := float(np.hypot(*(first - second)[1:]))) > _SKIN:
        return f"the skin's colour differs by {tint:.0f} (up to {_SKIN:.0f} is one person in other light)"
    if (light := abs(float(first[0] - second[0]))) > _LIGHT:
        return f"the skin's lightness differs by {light:.0f} (up to {_LIGHT:.0f} is one person in other light)"
    hair = [median_colour(seen.pixels, *_above(seen.fit)) for seen in (neutral, one)]
    if hair[0] is not None and hair[1] is not None:
        if (differs := float(np.linalg.norm(_lab(hair[0]) - _lab(hair[1])))) > _HAIR:
            return f"the colour above the forehead differs by {differs:.0f} (up to {_HAIR:.0f} is one person)"
    if (
        "drawing" not in (one.fit.style, neutral.fit.style)
        and (shape := _shape_difference(one.fit, neutral.fit)) > _SHAPE
    ):
        return f"the faces' proportions differ by {shape:.3f} eye distances (up to {_SHAPE} is one person)"
    return ""


def _above(fit: FaceFit) -> tuple[np.ndarray, float]:
    """A spot above the forehead, and its radius in pixels."""
    return fit.points[10, :2] - 0.25 * fit.eye_distance * axes(fit)[1], 0.06 * fit.eye_distance


def _shape_difference(one: FaceFit, other: FaceFit) -> float:
    """Root mean square distance (eye distances) of the stable points after the best 3D similarity."""
    source, target = (fit.points[list(STABLE)].astype(np.float64) for fit in (one, other))
    source, target = source - source.mean(0), target - target.mean(0)
    left, values, right = np.linalg.svd(target.T @ source)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    scale = float((values * signs).sum() / max(float((source**2).sum()), 1e-12))
    off = target - scale * source @ (left @ np.diag(signs) @ right).T
    return float(np.sqrt((off**2).sum(-1).mean())) / max(other.eye_distance, 1e-6)


def _lab(colour: np.ndarray) -> np.ndarray:
    """[3]: CIE L*a*b* of an sRGB colour of 0..255."""
    share = np.asarray(colour, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728]]) @ linear  # over D65
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])
