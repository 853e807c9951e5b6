"""One character from several pictures: which is the neutral one, what the others lend it, and all of them aligned.

    pictures with faces ─▶ roles: given, by file name, or by what the face does ─▶ the better where two have one
                        ─▶ aligned to the neutral picture ─▶ Pack

Nothing here is refused because of what a face looks like: whether two pictures show one person cannot be told well
enough (`_SHAPE` has the figures), and drawings of one character differ more than photographs of two people.

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
"""Landmarks that stay where they are while a face speaks, smiles and blinks: eye corners, nose, forehead, temples."""

_KEPT = 0.75  # share of them that an alignment trusts: those that agree best
_NEAR = 0.08  # eye distances by which landmarks of two drawings on one canvas may differ
_LOOK_EDGE = 256  # pixels: pictures are compared at this size
_NAMED = {"mouth_open", "eyes_shut"}  # roles whose absence in a photograph is told from its landmarks with certainty


@dataclass(frozen=True, eq=False)
class Given:
    """A picture as it came: decoded, and its face if one was found."""

    pixels: np.ndarray  # [H, W, 4] uint8, of any size
    fit: FaceFit | None  # in its pixels
    name: str = ""  # of its file
    role: Role | None = None  # where its user said so


@dataclass(frozen=True, eq=False)
class Member:
    """A picture that lends something to the neutral one."""

    pixels: np.ndarray
    """[H, W, 4] uint8: as it lies on the neutral picture; clear where it does not reach."""

    fit: FaceFit
    """In these pixels."""


@dataclass(frozen=True)
class Chosen:
    """What a picture was taken for."""

    role: Role
    name: str
    by: Literal["role", "name", "face"]
    """Who said so: its user, its file's name, or the face in it."""


@dataclass(frozen=True, eq=False)
class Pack:
    """One character's pictures."""

    neutral: np.ndarray  # [H, W, 4] uint8
    fit: FaceFit
    others: dict[Role, Member]
    notices: tuple[Notice, ...]
    chosen: tuple[Chosen, ...]  # the neutral one first

    def to_json(self) -> dict[str, Any]:
        """What a page needs to show what was taken for what."""
        return {
            "size": [self.neutral.shape[1], self.neutral.shape[0]],
            "chosen": [{"role": chosen.role, "name": chosen.name, "by": chosen.by} for chosen in self.chosen],
            "missing": [role for role in ROLES if role != "neutral" and role not in self.others],
            "notices": [{"code": notice.code, "text": notice.text} for notice in self.notices],
        }


@dataclass(frozen=True, eq=False)
class _Seen:
    """A picture with a face, and what that does."""

    pixels: np.ndarray
    fit: FaceFit
    name: str
    role: Role | None
    by: Literal["role", "name", "face"]
    expression: Expression


def make_pack(pictures: Sequence[Given]) -> Pack:
    """One character from 1 to 8 pictures of any sizes and crops. Raises BadPicture."""
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
    """Least smile, median lids and gaze of several pictures of one face: what its rest may be like."""
    lids, x, y = np.median([(one.lids, *one.gaze) for one in seen], axis=0)
    return replace(min(seen, key=smile_of), lids=float(lids), gaze=(float(x), float(y)))


def _the_neutral(seen: Sequence[_Seen]) -> _Seen:
    """The picture that is animated: one that is called so, else the calmest of those that are called nothing."""
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
    """What its user said counts most; then how well it shows the role, how sharp and how little turned it is."""
    turn = abs(one.expression.yaw - neutral.expression.yaw)
    sharp = one.expression.sharpness / max(neutral.expression.sharpness, 1e-6)
    shown = strength(role, one.expression, neutral.expression) * min(1.0, 0.5 + sharp / 2)
    return one.by == "role", shown - 2 * max(0.0, turn - TURN)


def _doubts(one: _Seen, role: Role, neutral: _Seen) -> list[Notice]:
    """What may be wrong with a member."""
    doubts = []
    if reason := _other_person(one, neutral):
        text = f"{one.name} may show somebody else than {neutral.name}: {reason}."
        doubts.append(Notice("other_person", text))
    turn = one.expression.yaw - neutral.expression.yaw
    if abs(turn) > TURN:
        degrees = abs(math.degrees(turn))
        text = f"{one.name} is turned by {degrees:.0f}° against {neutral.name}: what it lends may not fit."
        doubts.append(Notice("turned", text))
    if one.by != "face" and role in _NAMED and one.fit.style == "photo":
        if (shown := strength(role, one.expression, neutral.expression)) < 0.5:
            share = 100 * max(0.0, shown)
            text = f"{one.name} is to show {SAYS[role]}, but hardly does: {share:.0f} % of what is needed."
            doubts.append(Notice("role_not_seen", text))
    return doubts


def similarity_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[2, 3]: shift, turn and scale, without mirroring, that bring points [N, 2] onto others best.

    The quarter that agrees least is left out: a landmark on a drawing may lie on something else.
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
    # As complex numbers a similarity is one multiplication.
    a, b = (source - middle) @ [1, 1j], (target - wanted) @ [1, 1j]
    z = np.vdot(a, b) / max(float(np.vdot(a, a).real), 1e-12)
    turn = np.array([[z.real, -z.imag], [z.imag, z.real]])
    return np.column_stack([turn, wanted - turn @ middle])


def _aligned(one: _Seen, neutral: _Seen) -> Member:
    """The picture as it lies on the neutral one."""
    height, width = neutral.pixels.shape[:2]
    points = list(STABLE)
    matrix = similarity_between(one.fit.points[points, :2], neutral.fit.points[points, :2])
    moved = _moved(one.pixels, matrix, width, height)
    if one.pixels.shape == neutral.pixels.shape:
        # Pictures drawn on one canvas lie on each other already, more exactly than landmarks can say.
        off = np.hypot(*(one.fit.points[points, :2] - neutral.fit.points[points, :2]).T)
        near = float(np.median(off)) <= _NEAR * neutral.fit.eye_distance
        if near and _difference(one.pixels, neutral) <= _difference(moved, neutral):
            return Member(one.pixels, one.fit)
    return Member(moved, one.fit.moved(matrix))


def _moved(pixels: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """[H, W, 4] uint8: clear beyond the picture's edges."""
    image = Image.fromarray(pixels).convert("RGBa")  # premultiplied: what is clear lends its edges no colour
    return np.array(sampled(image, matrix, (width, height)).convert("RGBA"))


def _difference(pixels: np.ndarray, neutral: _Seen) -> float:
    """Mean difference of two pictures of one size round the neutral one's face, 0..255."""
    points = neutral.fit.points[:, :2]
    low, high = points.min(0) - 0.3 * neutral.fit.eye_distance, points.max(0) + 0.3 * neutral.fit.eye_distance
    (x0, y0), (x1, y1) = np.maximum(low, 0).astype(int), high.astype(int) + 1
    views = []
    for picture in (pixels, neutral.pixels):
        view = Image.fromarray(np.ascontiguousarray(picture[y0:y1, x0:x1])).convert("RGBa")
        view.thumbnail((_LOOK_EDGE, _LOOK_EDGE))
        views.append(np.asarray(view, np.float32))
    both = (views[0][..., 3] > 250) == (views[1][..., 3] > 250)  # what one of them does not reach says nothing
    return float(np.abs(views[0] - views[1])[both].mean()) if both.any() else 255.0


_SKIN, _LIGHT, _HAIR, _SHAPE = 16.0, 32.0, 38.0, 0.065
"""Differences from which on two pictures may show two people: of the skin's tint, its lightness and what is above the
forehead, in CIE L*a*b*, and of the face's stable points, in eye distances.

Set so that none of these pairs is suspected: 10 of photographs of one person, years, light and crops apart, and 96 of
one drawn character in other poses. Of pairs of strangers 70 of 105 are seen then, of other characters 84 of 132.
Proportions tell hardly anything: .05 between photographs of one person, and between strangers in the median.
"""


def _other_person(one: _Seen, neutral: _Seen) -> str:
    """Why two pictures may show two people, or nothing."""
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
    """Root mean square distance, in eye distances, of the stable points after the best similarity in space."""
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
