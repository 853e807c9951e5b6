"""Draws the pictures of a training scene with their truth: reference pictures, then frames of a rig that remembers.

Letters used in shapes: T drawn frames, N frames of the passage, R references, S picture edge, s latent edge (S / 16),
C controls, K key points, P followed points, Q tracked points, L latches.
"""

from dataclasses import dataclass

import numpy as np

from streamer.base.alpha import premultiplied
from streamer.model.config import STRIDE
from streamer.motion.controls import INDEX, controls, rest
from streamer.studio.character import Character
from streamer.studio.dynamics import LATCHES
from streamer.studio.rig import KEYPOINTS, Rig, Truth

WEIGHT_STRIDE = 4
BOXES = ("mouth", "eye_left", "eye_right", "hand_left", "hand_right")
"""Boxes of a picture, in order: x0, y0, x1, y1 in pixels; all 0 for a hand that is not in the picture."""

ROLES = ("neutral", "eyes_shut", "mouth_open", "teeth", "hands", "turned")
"""What a reference picture is for; the first of a scene is always neutral."""

_MOUTH, _EYES, _FACE, _HANDS = 10.0, 9.0, 1.5, 2.5
_HAND_POINTS = np.array([i for i, name in enumerate(KEYPOINTS) if name.startswith("hand_")])
_POINTS = 400
_ALIKE = 30.0
"""Mean colour difference, of 255, up to which a point counts as visible in another frame."""
# A pose in which nothing is folded away, from which the tracked points are chosen.
_OPEN = controls(open=0.5, teeth=0.2, left_raise=1.0, right_raise=1.0)


@dataclass(frozen=True)
class Passage:
    """What a character does, and which frames of it are drawn."""

    controls: np.ndarray  # [N, C]: of all frames, from the first on which loose parts depend
    emotion: np.ndarray  # [N, E]
    drawn: np.ndarray  # [T]: indices of the frames that are drawn


def reference_pose(role: str, rng: np.random.Generator) -> np.ndarray:
    """[C] float32: a pose for one of ROLES, never quite the same except the neutral one."""
    pose = rest()
    if role == "neutral":
        return pose
    for name, spread in (("yaw", 0.05), ("pitch", 0.03), ("roll", 0.03), ("gaze_x", 0.12), ("gaze_y", 0.08),
                         ("smile", 0.12)):  # fmt: skip
        pose[INDEX[name]] = spread * rng.normal()
    if role == "eyes_shut":
        pose[[INDEX["blink_left"], INDEX["blink_right"]]] = 1.0
    elif role == "mouth_open":
        pose[INDEX["open"]] = rng.uniform(0.6, 1.0)
        pose[INDEX["wide"]], pose[INDEX["round"]] = rng.uniform(0, 0.5, 2) * (rng.random(2) < 0.5)
    elif role == "teeth":
        pose[INDEX["smile"]] = rng.uniform(0.5, 1.0)
        pose[INDEX["open"]], pose[INDEX["teeth"]] = rng.uniform(0.18, 0.4), rng.uniform(0.5, 1.0)
        pose[INDEX["wide"]] = rng.uniform(0.2, 0.6)
    elif role == "hands":
        for side in ("left", "right"):
            pose[INDEX[f"{side}_raise"]] = rng.uniform(0.85, 1.0)
            pose[INDEX[f"{side}_turn"]], pose[INDEX[f"{side}_curl"]] = 0.1 * rng.normal(), rng.uniform(0, 0.12)
            pose[INDEX[f"{side}_x"]], pose[INDEX[f"{side}_y"]] = rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.3)
    elif role == "turned":
        pose[INDEX["yaw"]] = rng.choice((-1, 1)) * rng.uniform(0.22, 0.5)
        pose[INDEX["pitch"]], pose[INDEX["roll"]] = 0.10 * rng.normal(), 0.10 * rng.normal()
    return pose


def choose_roles(most: int, hands: bool, rng: np.random.Generator) -> tuple[str, ...]:
    """The neutral role and up to `most` - 1 others, each number equally likely; hands mostly where they are needed."""
    weight = np.array([1.0, 1.0, 1.0, 2.0 if hands else 0.5, 0.7])
    others = rng.choice(ROLES[1:], min(int(rng.integers(most)), len(weight)), replace=False, p=weight / weight.sum())
    return ROLES[0], *(str(role) for role in others)


def _boxes(truth: Truth) -> np.ndarray:
    """[5, 4] float32 in the order of BOXES."""
    hands = (box or (0.0, 0.0, 0.0, 0.0) for box in truth.hand_boxes)
    return np.array([truth.mouth_box, *truth.eye_boxes, *hands], np.float32)


def _weights(truth: Truth, size: int) -> np.ndarray:
    """[S / 4, S / 4] float16."""
    edge = size // WEIGHT_STRIDE
    face = truth.face_mask.reshape(edge, WEIGHT_STRIDE, edge, WEIGHT_STRIDE).mean((1, 3))
    weights = 1 + (_FACE - 1) * face

    def raise_box(box: tuple[float, float, float, float], value: float, margin: float) -> None:
        x0, y0 = (int(max(v - margin, 0)) // WEIGHT_STRIDE for v in box[:2])
        x1, y1 = (-int(-(v + margin) // WEIGHT_STRIDE) for v in box[2:])
        region = weights[y0:y1, x0:x1]
        np.maximum(region, value, out=region)

    margin = 0.012 * size
    hands = truth.keypoints[_HAND_POINTS]
    hands = hands[hands[:, 2] > 0, :2]
    if len(hands):
        raise_box((*hands.min(0), *hands.max(0)), _HANDS, 2 * margin)
    for box in truth.eye_boxes:
        raise_box(box, _EYES, margin)
    raise_box(truth.mouth_box, _MOUTH, margin)
    return weights.astype(np.float16)


def _face(truth: Truth, size: int) -> np.ndarray:
    edge = size // STRIDE
    return truth.face_mask.reshape(edge, STRIDE, edge, STRIDE).mean((1, 3)).astype(np.float16)


def _patches(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Colours [P, 9, 3] of a premultiplied picture [S, S, 4] at and around points [P, 2]."""
    edge = len(picture) - 2
    x, y = np.floor(points).astype(int).clip(1, edge).T
    return np.stack([picture[y + j, x + i, :3] for j in (-1, 0, 1) for i in (-1, 0, 1)], 1).astype(np.int16)


def follow(picture: np.ndarray, points: np.ndarray, frame: np.ndarray, now: np.ndarray) -> np.ndarray:
    """[P, 3]: positions `now` [P, 2] in a frame of points [P, 2] of the picture, and 1 if it looks the same there."""
    inside = ((now >= 0) & (now < len(frame))).all(1)
    alike = np.abs(_patches(picture, points) - _patches(frame, now)).mean((1, 2)) < _ALIKE
    return np.concatenate([now, (inside & alike)[:, None]], 1).astype(np.float32)


def draw(
    seed: int,
    size: int,
    passage: Passage,
    roles: tuple[str, ...],
    tracked: int,
    background: bool,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Renders the character of `seed`: a Scene's arrays. `tracked`: how many of the rig's points are kept; 0 draws
    faster.
    """
    poses = np.stack([reference_pose(role, rng) for role in roles])
    with Rig(Character.from_seed(seed), size, background) as rig:
        if tracked:
            rig.draw(_OPEN)
            rig.tracked()
        pictures, truths, places = [], [], []
        for pose in poses:
            image, truth = rig.draw_with_truth(pose)
            pictures.append(premultiplied(image))
            truths.append(truth)
            places.append(rig.tracked() if tracked else np.zeros((0, 3), np.float32))
            if len(pictures) == 1:
                points = rig.points()
        seen = np.flatnonzero(np.stack(places)[..., 2].any(0))
        kept = rng.choice(seen, tracked, replace=len(seen) < tracked) if tracked else seen
        chosen = rng.choice(np.flatnonzero(points[:, 2]), _POINTS)
        points = points[chosen, :2]
        parts: dict[str, list] = {
            name: []
            for name in ("frames", "followed", "weights", "mouths", "openings", "keypoints", "boxes", "latches",
                         "frame_points")
        }  # fmt: skip
        drawn = set(passage.drawn.tolist())
        for k, row in enumerate(passage.controls):
            rig.set_emotion(passage.emotion[k])
            rig.advance(row)
            if k not in drawn:
                continue
            image, truth = rig.draw_with_truth(row)
            frame = premultiplied(image)
            parts["frames"].append(frame)
            parts["followed"].append(follow(pictures[0], points, frame, rig.points()[chosen, :2]))
            parts["weights"].append(_weights(truth, size))
            parts["mouths"].append(np.array(truth.mouth_box, np.float32))
            parts["openings"].append(np.float32(truth.inner_lip_share))
            parts["keypoints"].append(truth.keypoints)
            parts["boxes"].append(_boxes(truth))
            parts["latches"].append(np.array([rig.latches.get(name, 0.0) for name in LATCHES], np.float32))
            parts["frame_points"].append(rig.tracked()[kept] if tracked else places[0])
    return {
        "picture": pictures[0],
        "face": _face(truths[0], size),
        "points": points,
        "references": np.stack(pictures),
        "reference_controls": poses,
        "reference_points": np.stack(places)[:, kept],
        "reference_keypoints": np.stack([truth.keypoints for truth in truths]),
        "reference_boxes": np.stack([_boxes(truth) for truth in truths]),
        **{name: np.stack(rows) for name, rows in parts.items()},
    }
