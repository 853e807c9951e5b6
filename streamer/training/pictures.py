"""Ground truth of an animated picture: a frame in any pose, and the source of everything in it.

    PreparedPicture ─▶ Teacher: the picture at rest ─▶ show(controls): frame, flow, copied pixels, parts, key points

Copied pixels can be obtained from the picture at rest by the flow alone; everything else must be synthesized: the
mouth's inside, closed lids, what was behind the head.

Letters used in shapes: S the frame's edge; C controls.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.motion.controls import controls, rest
from streamer.studio.face_fit import POINTS
from streamer.studio.picture_rig import PictureRig, PreparedPicture
from streamer.studio.picture_rig.explained import Explained
from streamer.studio.picture_rig.field import Grid, cover
from streamer.studio.picture_rig.layers import split
from streamer.studio.picture_rig.topology import topology

BACKGROUND, PERSON, FACE, EYES, MOUTH = range(5)
"""Parts: the static background; hair, neck and body; the face's skin and features; repainted lids and irises; the
mouth's inside."""

_HALF = 128
_SPEAKING = controls(open=1.0)
_FRAMES_TO_SPEAK = 8  # at least as many as the rig takes to leave the picture's own mouth


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame. Positions are pixels from the upper left corner; pixel centres are at half-integers."""

    frame: np.ndarray
    """[S, S, 4] uint8 straight RGBA."""

    flow: np.ndarray
    """[S, S, 2] float32: offset from a pixel to its source in the picture at rest."""

    copied: np.ndarray
    """[S, S] bool: the pixel is a copy of its source in the picture at rest. False if it was repainted or shaded, mixes
    person and background, comes from beyond the picture's border, or was occluded there by the person."""

    parts: np.ndarray
    """[S, S] uint8: the part that covers most of each pixel."""

    matte: np.ndarray
    """[S, S] uint8: coverage by the person rather than the background; 255 where the background is unknown."""

    opening: np.ndarray
    """[S, S] float32, 0..1: coverage by the opening between the lips, whose inside is repainted."""

    vertices: np.ndarray
    """[V, 3] float32: the subdivided mesh in the frame, as in `Explained`."""

    keypoints: np.ndarray
    """[478, 3] float32: MediaPipe's 468 landmarks, then the left and the right iris (the viewer's): centre and four rim
    points. x, y; and depth in pixels, which increases away from the viewer and is 0 for irises. Lids and irises follow
    blinks and gazes in photographs; in drawings, whose eyes the mesh does not fit, they only follow the head."""


class Teacher:
    """Renders one picture in any pose. Not thread-safe."""

    def __init__(self, prepared: PreparedPicture, size: int = 512, background: bool = True) -> None:
        self.size = size
        self.prepared = prepared
        self._rig = PictureRig(prepared, size, background)
        at_rest = self._rig.explain(rest())
        self.picture = at_rest.frame
        """[S, S, 4] uint8 straight RGBA: the picture at rest, into which `Shown.flow` points."""
        self._behind = at_rest.person == 0
        places = np.arange(size, dtype=np.float32) + 0.5
        self._own = np.stack(np.meshgrid(places, places), -1)

    def background(self) -> np.ndarray | None:
        """[S, S, 3] uint8: what a photograph shows behind its person, partly made up; None if that is not known."""
        framing, margin = self.prepared.framing, self.size // 10
        if framing.matte is None or not framing.opaque:
            return None
        matte = framing.image(self.size, framing.matte, margin)
        _, plate = split(framing.image(self.size, margin=margin), matte)
        inner = slice(margin, margin + self.size)
        return np.ascontiguousarray(plate[inner, inner, :3])

    def speak(self) -> None:
        """From now on the lips follow the controls even where these are at rest: they close over the picture's own."""
        for _ in range(_FRAMES_TO_SPEAK):
            self._rig.hear(_SPEAKING, None, np.zeros(0))

    def show(self, controls: np.ndarray) -> Shown:
        """The frame for controls [C], as from PictureRig.draw. Raises ArithmeticError if they are not finite."""
        told = self._rig.explain(controls)
        still = told.person == 0
        flow = np.where(still[..., None], np.float32(0), told.places - self._own)
        source = self._own + flow
        within = ((source >= 0.5) & (source <= self.size - 0.5)).all(-1)
        whole = np.where(still, self._behind, told.person == 255)
        parts = self._parts(told)
        copied = whole & within & ~(told.eyes | told.shaded | told.mouth)
        if told.opening.any():  # otherwise a visible mouth is the picture's own
            copied &= parts != MOUTH
        irises = np.pad(told.irises.reshape(-1, 2), ((0, 0), (0, 1)))
        keypoints = np.concatenate([told.vertices[:POINTS], irises])
        return Shown(told.frame, flow, copied, parts, told.person, told.opening, told.vertices, keypoints)

    def _parts(self, told: Explained) -> np.ndarray:
        parts = np.where(told.person < _HALF, BACKGROUND, PERSON).astype(np.uint8)
        mesh = topology()
        face = cover(Grid(0, 0, 1.0, self.size, self.size), told.vertices, mesh.triangles).covered
        lips = np.concatenate([told.vertices[mesh.upper, :2], told.vertices[mesh.lower[::-1], :2]])
        hole = np.zeros(parts.shape, np.uint8)
        cv2.fillPoly(hole, [np.round(16 * lips - 8).astype(np.int32)], 1, cv2.LINE_8, 4)
        parts[face] = FACE
        parts[told.eyes] = EYES
        # The mesh has a hole where the picture itself shows the mouth's inside.
        parts[(told.opening > 0.5) | (hole > 0) & ~face] = MOUTH
        return parts


def warped(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Warps a picture [S, S, n] uint8 by a flow [S, S, 2], sampled bilinearly."""
    x, y = np.meshgrid(*(np.arange(edge, dtype=np.float32) for edge in flow.shape[1::-1]))
    places = x + flow[..., 0], y + flow[..., 1]
    return cv2.remap(picture, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
