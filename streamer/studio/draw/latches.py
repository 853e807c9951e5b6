"""What comes out of place and stays so: a lock of hair over the brow, glasses down the nose, a hood."""

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.hair.kit import LOCK, Kit, flowing, ribbon
from streamer.studio.draw.palette import alpha
from streamer.studio.draw.sketch import COVER, Moment, Outline
from streamer.studio.draw.skin import Hanging, Skin, Sliding, body, head, points3, ramp
from streamer.studio.dynamics import LOCK as HAIR
from streamer.studio.dynamics import Part

_NO_LOCK = ("bald", "buzz cut", "hijab", "afro", "coily puffs", "box braids", "locs")
_HOODED = ("hoodie", "cloak")
_LINE = 0.0125
# A lock's spine beside the parting, and where it lies once it has fallen; x is mirrored for the other side.
_TUCKED = points3([(0.07, -0.70), (0.22, -0.66), (0.36, -0.55), (0.45, -0.36)])
_FALLEN = points3([(0.07, -0.70), (0.15, -0.44), (0.19, -0.12), (0.10, 0.20)])
_CORNER = 5  # of a ribbon's points, its tip


def choose(a: Anatomy) -> None:
    """Decides from the traits which latches the character has."""
    lock, glasses, hood = a.rng("latches").random(3)
    present = set()
    if lock < 0.55 and not a.is_("hair", *_NO_LOCK):
        present.add("lock")
    if glasses < 0.7 and not a.is_("eyewear", "none", "eyepatch"):
        present.add("glasses")
    if hood < 0.7 and a.is_("garment", *_HOODED):
        present.add("hood")
    a.sketch.latches.present = frozenset(present)


def _spine(a: Anatomy, fallen: float) -> np.ndarray:
    """[4, 3] of the lock: it swings out and forward on its way down."""
    side = 1.0 if a.rng("lock").random() < 0.5 else -1.0
    spine = _TUCKED + fallen * (_FALLEN - _TUCKED)
    out = 4 * fallen * (1 - fallen) * np.array([0.0, 0.03, 0.07, 0.10])
    spine[:, 0] += out
    spine[:, 2] += 0.03 + 0.5 * np.maximum(out, 0)
    spine[:, 0] *= side
    return spine


def _flock(a: Anatomy, outline: Outline, width: float, left: float, lower: float) -> None:
    """Moves the points of a ribbon along the lock."""
    s = a.sketch
    kept = np.delete(np.arange(2 * len(LOCK)), _CORNER + 1)

    def update(now: Moment) -> None:
        fallen = now.latches.value["lock"]
        if fallen > 0.0:
            s.rest[outline.points] = ribbon(_spine(a, fallen), width, LOCK, left=left)[kept] + (0.0, lower, 0.0)

    s.animate(update)


def _swinging(a: Anatomy) -> Skin:
    if "lock_part" not in a.marks:
        spine = _spine(a, 1.0)
        anchor, tip = (tuple(float(v) for v in spine[k]) for k in (0, -1))
        a.marks["lock_part"] = Part("fallen lock", anchor, tip, HAIR, rigid=True)  # type: ignore[arg-type]
    return Hanging(flowing(), a.marks["lock_part"], gradient=False)


def lock_shadow(a: Anatomy) -> None:
    """The fallen lock's shadow on the face: call it inside the face's group."""
    if "lock" not in a.sketch.latches.present:
        return
    s = a.sketch
    shadow = s.blank(2 * len(LOCK) - 1, corners=(_CORNER,), skin=_swinging(a))
    ink = s.paint(shadow, alpha(a.skin.shadow, 0.9))
    s.animate(lambda now: s.show(ink, now.latches.value["lock"] > 0.3))
    _flock(a, shadow, 0.13, 1.0, 0.045)


def lock(a: Anatomy, k: Kit) -> None:
    """The lock of hair that may fall over the brow; in place it lies in the hair and is not drawn."""
    if "lock" not in a.sketch.latches.present:
        return
    s = a.sketch
    count, skin = 2 * len(LOCK) - 1, _swinging(a)
    shape = s.blank(count, closed=False, corners=(_CORNER,), skin=skin)
    edge = s.blank(count, corners=(_CORNER,), skin=skin)
    inks = [s.paint(shape, k.fill(), k.h.line, _LINE, COVER), s.paint(edge, alpha(k.h.shadow, 0.6))]

    def update(now: Moment) -> None:
        fallen = now.latches.value["lock"]
        for ink in inks:
            s.show(ink, fallen > 0.0)
            s.fade(ink.shape, 6 * fallen)

    s.animate(update)
    _flock(a, shape, 0.13, 1.0, 0.0)
    _flock(a, edge, 0.117, -0.25, 0.0)


def eyewear(a: Anatomy) -> Skin:
    """The skin of glasses: they slip down the nose, and turn about the ears."""
    if "glasses" not in a.sketch.latches.present:
        return head

    def slipped(p: np.ndarray) -> np.ndarray:
        share = 1 - ramp(np.abs(p[:, 0]), 0.40, a.half_width + 0.01)
        return share[:, None] * np.array([0.0, 0.105, 0.03])

    return Sliding(head, "glasses", slipped)


def hood(a: Anatomy) -> Skin | None:
    """The skin of a hood behind the neck that slides off to a side, if it does."""
    if "hood" not in a.sketch.latches.present:
        return None
    side = 1.0 if a.rng("hood").random() < 0.5 else -1.0

    def slid(p: np.ndarray) -> np.ndarray:
        share = 1 - ramp(p[:, 1], 0.74, 1.0)
        return share[:, None] * np.array([0.11 * side, 0.10, 0.0])

    return Sliding(body, "hood", slid)
