"""Ground truth of a picture rig's frame, collected while it is drawn, for training.

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

_FAINT = 2  # maximum change by shading (levels) of a pixel that counts as merely moved


@dataclass(frozen=True, eq=False)
class Explained:
    """A frame with its ground truth. Positions are pixels from the upper left; pixel centres at half-integers."""

    frame: np.ndarray
    """[S, S, 4] uint8 straight RGBA: the result of `draw`."""

    places: np.ndarray
    """[S, S, 2] float32: position in the square at rest from which each pixel of the person comes; outside 0..S where
    the square at rest does not contain it."""

    person: np.ndarray
    """[S, S] uint8: coverage of each pixel by the moving person rather than the static background. 255 everywhere if
    the background is unknown."""

    eyes: np.ndarray
    """[S, S] bool: repainted by a blink or a gaze."""

    shaded: np.ndarray
    """[S, S] bool: lightened, darkened or reddened by an expression, by more than two levels."""

    mouth: np.ndarray
    """[S, S] bool: repainted between the lips or by their shadow."""

    opening: np.ndarray
    """[S, S] float32, 0..1: coverage of each pixel by the mouth opening."""

    vertices: np.ndarray
    """[V, 3] float32: the mesh in the frame; z, also in pixels, increases away from the viewer. Lid edges follow blinks
    if the picture is a photograph."""

    irises: np.ndarray
    """[2, 5, 2] float32: centre and four rim points of the iris, for the eyes on the viewer's left and right."""


@dataclass
class Stages:
    """Intermediate states of a frame."""

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
        Called after warping: `places` [S, S, 2] of the texture, the person's coverage [S, S] and the frame [S, S, 4].
        """
        self.pose, self.controls, self.places = pose, controls, places
        self.person, self.before = person.copy(), frame.copy()

    def looked(self, frame: np.ndarray) -> None:
        """Called after painting the eyes."""
        self.eyes = (frame != self.before).any(-1)
        self.before = frame.copy()

    def shaded(self, frame: np.ndarray) -> None:
        """Called after painting folds, cheeks and blush."""
        self.shade = (cv2.absdiff(frame, self.before) > _FAINT).any(-1)
        self.mouth = np.zeros_like(self.eyes)
        self.before = frame.copy()

    def spoke(self, frame: np.ndarray, opening: Opening | None) -> None:
        """Called after painting the mouth's inside."""
        self.mouth, self.opening = (frame != self.before).any(-1), opening


def explained(prepared: PreparedPicture, frame: np.ndarray, stages: Stages, margin: int) -> Explained:
    """From a frame [S, S, 4] and its stages; the texture has `margin` pixels more than a frame on each side."""
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
    """Displacement of the landmarks [468, 2] by blink and gaze before any other motion, and the irises [2, 5, 2]."""
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
