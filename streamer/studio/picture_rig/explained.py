"""What is where in a frame of the picture rig: gathered while it is drawn, for those who learn from it.

Letters used in shapes: S the frame's edge; V vertices of the divided mesh, whose first 468 are the landmarks.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from streamer.motion.controls import INDEX
from streamer.studio.face_fit import POINTS
from streamer.studio.picture_rig.eyes import Eyes
from streamer.studio.picture_rig.framing import FRAME
from streamer.studio.picture_rig.motion import Pose
from streamer.studio.picture_rig.mouth import Opening
from streamer.studio.picture_rig.prepared import PreparedPicture
from streamer.studio.picture_rig.topology import EYES, topology

_FAINT = 2  # levels that shading may change of a pixel that counts as moved and nothing else


@dataclass(frozen=True, eq=False)
class Explained:
    """A frame and how it came about. Places are pixels from the upper left corner; pixels' middles lie at halves."""

    frame: np.ndarray
    """[S, S, 4] uint8 straight RGBA: what `draw` gives."""

    places: np.ndarray
    """[S, S, 2] float32: where in the square at rest each pixel of the person comes from; beyond 0..S where the square
    at rest does not show it."""

    person: np.ndarray
    """[S, S] uint8: how much of each pixel is the person, who moves, and not what lies behind, which stays where it is.
    255 everywhere where nothing is known of a background."""

    eyes: np.ndarray
    """[S, S] bool: painted anew by a blink or a gaze."""

    shaded: np.ndarray
    """[S, S] bool: made lighter, darker or redder by what the face does, by more than two levels."""

    mouth: np.ndarray
    """[S, S] bool: painted anew between the lips or as their shadow."""

    opening: np.ndarray
    """[S, S] float32, 0..1: how much of each pixel lies between the lips."""

    vertices: np.ndarray
    """[V, 3] float32: the mesh in the frame; z, in pixels too, grows away from the viewer. The edges of lids follow
    blinks where the picture is a photograph."""

    irises: np.ndarray
    """[2, 5, 2] float32: of the eyes on the viewer's left and right: middle, then four points of the rim."""


@dataclass
class Stages:
    """A frame as it was between the steps of drawing it."""

    pose: Pose = field(init=False)
    controls: np.ndarray = field(init=False)
    places: np.ndarray = field(init=False)
    person: np.ndarray = field(init=False)
    before: np.ndarray = field(init=False)
    eyes: np.ndarray = field(init=False)
    shade: np.ndarray = field(init=False)
    mouth: np.ndarray = field(init=False)
    opening: Opening | None = None

    def moved(
        self, pose: Pose, controls: np.ndarray, places: np.ndarray, person: np.ndarray, frame: np.ndarray
    ) -> None:
        """
        The picture's pixels lie where the pose has them: `places` [S, S, 2] of the texture, the person's share [S, S]
        and the frame [S, S, 4].
        """
        self.pose, self.controls, self.places = pose, controls, places
        self.person, self.before = person.copy(), frame.copy()

    def looked(self, frame: np.ndarray) -> None:
        """The eyes are painted."""
        self.eyes = (frame != self.before).any(-1)
        self.before = frame.copy()

    def shaded(self, frame: np.ndarray) -> None:
        """Folds, cheeks and blush are painted."""
        self.shade = (cv2.absdiff(frame, self.before) > _FAINT).any(-1)
        self.mouth = np.zeros_like(self.eyes)
        self.before = frame.copy()

    def spoke(self, frame: np.ndarray, opening: Opening | None) -> None:
        """The mouth's inside is painted."""
        self.mouth, self.opening = (frame != self.before).any(-1), opening


def explained(prepared: PreparedPicture, frame: np.ndarray, stages: Stages, margin: int) -> Explained:
    """Of a frame [S, S, 4] straight and its stages; the texture has `margin` pixels more than a frame on each side."""
    size = len(frame)
    opening = np.zeros((size, size), np.float32)
    if (of := stages.opening) is not None:
        opening[of.y : of.y + of.share.shape[0], of.x : of.x + of.share.shape[1]] = of.share
    motion, scale = prepared.motion, np.float32(size / FRAME)
    lids, irises = _looking(prepared, stages.controls)
    return Explained(
        frame, stages.places / 2 - np.float32(margin - 0.5),
        stages.person, stages.eyes, stages.shade, stages.mouth, opening,
        motion.vertices(stages.pose, topology().divided(lids)) * scale, motion.carried(stages.pose, irises) * scale,
    )  # fmt: skip


def _looking(prepared: PreparedPicture, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Before anything else moves: by how much blink and gaze move the landmarks [468, 2], and the irises [2, 5, 2]."""
    lids, irises = np.zeros((POINTS, 2)), prepared.framing.fit.irises.astype(np.float64)
    if not isinstance(prepared.eyes, Eyes) or prepared.eyes.covered:
        return lids, irises
    gaze = float(controls[INDEX["gaze_x"]]), float(controls[INDEX["gaze_y"]])
    for side, (eye, (lower, upper)) in enumerate(zip(prepared.eyes.eyes, EYES, strict=True)):
        blink = float(controls[INDEX[("blink_left", "blink_right")[side]]])
        for edge, landmarks in enumerate((upper, lower[1:-1])):
            t, _ = eye.local(prepared.geometry.vertices[list(landmarks), :2])
            top, bottom = eye.edges(t)
            moved = eye.shut(top, bottom, blink, gaze[1])[edge] - (top, bottom)[edge]
            lids[list(landmarks)] = eye.width * moved[:, None] * eye.up
        irises[side] += eye.width * (eye.turned(gaze[0]) * eye.along + eye.raised(gaze[1]) * eye.up)
    return lids, irises
