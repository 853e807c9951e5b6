"""The controls as rotations of the bones: head, torso, arms and every finger.

A bone's rotation is about where it begins in the body at rest, in the body's axes, and carries all bones that hang on
it. Letters used in shapes: B bones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from streamer.motion.controls import INDEX
from streamer.training.people.template import Template

_NECK = {"neck01": 0.15, "neck02": 0.20, "neck03": 0.25, "head": 0.40}
_HEAD_HEIGHT = 2.33  # decimetres
SIDES = {"L": 1.0, "R": -1.0}
"""The person's own sides and where they lie: L at x > 0, the viewer's right."""
FINGERS = range(1, 6)
_CURL = {1: 70.0, 2: 85.0, 3: 55.0}
_THUMB_CURL = {1: 22.0, 2: 34.0, 3: 42.0}


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    """[3, 3]: a rotation by radians about an axis of any length."""
    return Rotation.from_rotvec(np.asarray(axis, float) / np.linalg.norm(axis) * angle).as_matrix()


def head_turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[3, 3] in the controls' senses: to the viewer's right, up, clockwise."""
    return Rotation.from_euler("yxz", [yaw, -pitch, -roll]).as_matrix()


def between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """[3, 3]: the shortest rotation that turns one direction into another."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis = np.cross(a, b)
    size = np.linalg.norm(axis)
    if size < 1e-9:
        return np.eye(3) if a @ b > 0 else about(np.cross(a, [0.3, 0.9, 0.1]), np.pi)
    return about(axis, float(np.arctan2(size, a @ b)))


@dataclass(frozen=True)
class Manner:
    """How somebody carries themselves: what the controls leave open."""

    arms_out: float = 0.12
    """How far hanging arms stand off, as a slope."""
    shoulders: float = 0.0
    """Radians by which shoulders are raised always."""
    palm: float = 0.0
    """Radians by which a raised palm is turned away from the viewer, inwards."""
    spread: float = 0.0
    """Radians between stretched fingers."""
    reach: float = 2.3
    """Decimetres that raised hands are in front of the body."""
    curls: Mapping[int, float] = field(default_factory=dict)
    """Finger -> factor on its curl."""


class Skeleton:
    """The bones of one body."""

    def __init__(self, template: Template, joints: np.ndarray) -> None:
        self._template, self.joints = template, joints.astype(float)
        self._hands = {side: self._hand_axes(side) for side in SIDES}

    def joint(self, name: str) -> np.ndarray:
        return self.joints[self._template.bone[name]]

    def _hand_axes(self, side: str) -> np.ndarray:
        """[3, 3], rows: along the fingers, out of the palm, and across towards the thumb."""
        wrist = self.joint(f"wrist.{side}")
        along = self.joint(f"finger3-1.{side}") - wrist
        across = self.joint(f"finger2-1.{side}") - self.joint(f"finger5-1.{side}")
        along /= np.linalg.norm(along)
        across -= along * (across @ along)
        across /= np.linalg.norm(across)
        palm = np.cross(along, across) * SIDES[side]
        return np.stack([along, palm, across])

    def matrices(self, rotations: Mapping[str, np.ndarray]) -> np.ndarray:
        """[B, 3, 4]: what takes points at rest to where each bone has them. Rotations [3, 3] by the bone's name."""
        template = self._template
        turned = {template.bone[name]: rotation for name, rotation in rotations.items()}
        out = np.zeros((len(template.bones), 3, 4))
        identity = np.eye(3, 4)
        for bone in template.order:
            parent = template.parents[bone]
            above = out[parent] if parent >= 0 else identity
            rotation = turned.get(bone)
            if rotation is None:
                out[bone] = above
                continue
            joint = self.joints[bone]
            out[bone, :, :3] = above[:, :3] @ rotation
            out[bone, :, 3] = above[:, :3] @ (joint - rotation @ joint) + above[:, 3]
        return out

    def rotations(self, now: np.ndarray, manner: Manner) -> dict[str, np.ndarray]:
        """Controls [C] -> rotation of each bone that turns."""
        value = {name: float(now[i]) for name, i in INDEX.items()}
        turned = {
            bone: head_turn(share * value["yaw"], share * value["pitch"], share * value["roll"])
            for bone, share in _NECK.items()
        }
        lean, breath, shrug = value["lean"], value["breath"], value["shrug"]
        turned["spine02"] = head_turn(0.04 * lean, 0.0, 0.05 * lean)
        turned["spine01"] = head_turn(0.03 * lean, 0.012 * breath, 0.03 * lean)
        for side, x in SIDES.items():
            lift = manner.shoulders + 0.025 * breath + 0.16 * shrug
            turned[f"clavicle.{side}"] = about(np.array([0, 0, 1.0]), x * lift)
            viewers = "right" if x > 0 else "left"
            hand = {name.removeprefix(f"{viewers}_"): v for name, v in value.items() if name.startswith(f"{viewers}_")}
            turned |= self._arm(side, hand, manner)
        return turned

    def _arm(self, side: str, hand: Mapping[str, float], manner: Manner) -> dict[str, np.ndarray]:
        x = SIDES[side]
        shoulder, elbow, wrist = (self.joint(f"{bone}.{side}") for bone in ("upperarm01", "lowerarm01", "wrist"))
        upper, lower = np.linalg.norm(elbow - shoulder), np.linalg.norm(wrist - elbow)
        raised = min(max(hand["raise"], 0.0), 1.0)
        smooth = raised * raised * (3 - 2 * raised)
        hanging_upper = np.array([x * manner.arms_out, -1.0, 0.02])
        hanging_lower = np.array([x * (0.4 * manner.arms_out - 0.02), -1.0, 0.32])
        rest_upper, rest_lower = elbow - shoulder, wrist - elbow
        if raised < 1e-3:
            at_shoulder = between(rest_upper, hanging_upper)
            at_elbow = at_shoulder.T @ between(at_shoulder @ rest_lower, hanging_lower)
            turned = {f"upperarm01.{side}": at_shoulder, f"lowerarm01.{side}": at_elbow}
            return turned | self._fingers(side, 0.22, 0.0, manner)
        hanging = shoulder + hanging_upper / np.linalg.norm(hanging_upper) * upper
        hanging = hanging + hanging_lower / np.linalg.norm(hanging_lower) * lower
        chin = self.joint("jaw")[1] - 0.7
        held = np.array([x * 1.6, chin - 0.9, manner.reach])
        steps: list[float] = [smooth, raised, smooth**0.5]
        target = hanging + (held - hanging) * np.array(steps)
        target = target + np.array([x * hand["x"], hand["y"], 0.0]) * _HEAD_HEIGHT * smooth
        direction = target - shoulder
        distance = float(np.clip(np.linalg.norm(direction), 0.35 * (upper + lower), 0.985 * (upper + lower)))
        direction = direction / np.linalg.norm(direction)
        cosine = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
        pole = np.array([0.55 * x, -1.0, -0.35])
        pole -= direction * (pole @ direction)
        pole /= np.linalg.norm(pole)
        bent = direction * cosine + pole * max(1 - float(cosine) ** 2, 0.0) ** 0.5
        at_shoulder = between(rest_upper, bent)
        new_elbow, new_wrist = shoulder + bent * upper, shoulder + direction * distance
        at_elbow = at_shoulder.T @ between(at_shoulder @ rest_lower, new_wrist - new_elbow)
        return self._hand(side, hand, manner, smooth, at_shoulder, at_elbow, rest_lower)

    def _hand(
        self,
        side: str,
        hand: Mapping[str, float],
        manner: Manner,
        raised: float,
        at_shoulder: np.ndarray,
        at_elbow: np.ndarray,
        forearm: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Turns the palm to the viewer; the forearm takes most of the twist, the wrist what bends."""
        x = SIDES[side]
        tilt = hand["turn"] + 0.12
        along = np.array([x * np.sin(tilt), np.cos(tilt), 0.12])
        along /= np.linalg.norm(along)
        palm = np.array([-x * np.sin(manner.palm), 0.0, np.cos(manner.palm)])
        palm -= along * (palm @ along)
        palm /= np.linalg.norm(palm)
        wanted = np.stack([along, palm, np.cross(palm, along) * x])
        arm = at_shoulder @ at_elbow
        local = Rotation.from_matrix(arm.T @ wanted.T @ self._hands[side]).as_rotvec()
        local = Rotation.from_rotvec(local * min(1.6 * raised, 1.0))
        axis = forearm / np.linalg.norm(forearm)
        quaternion = local.as_quat()
        twist = 2 * float(np.arctan2(quaternion[:3] @ axis, quaternion[3]))
        twist = (twist + np.pi) % (2 * np.pi) - np.pi
        bend = about(axis, -twist) @ local.as_matrix()
        turned = {
            f"upperarm01.{side}": at_shoulder,
            f"lowerarm01.{side}": at_elbow @ about(axis, 0.3 * twist),
            f"lowerarm02.{side}": about(axis, 0.45 * twist),
            f"wrist.{side}": about(axis, 0.25 * twist) @ bend,
        }
        curl, point = float(np.clip(hand["curl"], 0, 1)), float(np.clip(hand["point"], 0, 1))
        return turned | self._fingers(side, curl, point, manner)

    def _fingers(self, side: str, curl: float, point: float, manner: Manner) -> dict[str, np.ndarray]:
        _, palm, _ = self._hands[side]
        turned = {}
        for finger in FINGERS:
            bend = curl * manner.curls.get(finger, 1.0)
            if finger == 2:
                bend *= 1 - point
            elif finger > 2:
                bend = max(bend, 0.92 * point)
            bend = min(bend, 1.0)
            spread = manner.spread * (1 - bend) * {2: 1.0, 3: 0.2, 4: -0.6, 5: -1.4}.get(finger, 0.0)
            for joint in (1, 2, 3):
                name = f"finger{finger}-{joint}.{side}"
                following = f"finger{finger}-{joint + 1}.{side}"
                before = f"finger{finger}-{joint - 1}.{side}"
                start = self.joint(name)
                along = self.joint(following) - start if joint < 3 else start - self.joint(before)
                degrees = (_THUMB_CURL if finger == 1 else _CURL)[joint]
                turn = about(np.cross(along, palm), np.radians(degrees) * bend)
                if joint == 1 and spread:
                    turn = about(palm, SIDES[side] * spread) @ turn
                turned[name] = turn
        return turned
