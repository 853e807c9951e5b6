"""Animates a picture: prepared once, then drawn frame by frame by warping its own pixels."""

import math

import cv2
import numpy as np

from streamer.base.image import backdrop, enlarged
from streamer.motion.controls import INDEX, limited
from streamer.studio.face_fit import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from streamer.studio.picture_rig.curves import smoothstep
from streamer.studio.picture_rig.drawn_lids import DrawnEyePainter
from streamer.studio.picture_rig.explained import Explained, Stages, explained
from streamer.studio.picture_rig.expression import MOUTH_CONTROLS, SMILE, strengths
from streamer.studio.picture_rig.eyes import EyePainter, Eyes
from streamer.studio.picture_rig.framing import FRAME
from streamer.studio.picture_rig.layers import joined, split
from streamer.studio.picture_rig.lent import mouth_of
from streamer.studio.picture_rig.motion import Flow, Pose
from streamer.studio.picture_rig.mouth import prepare_inside
from streamer.studio.picture_rig.prepared import PreparedPicture
from streamer.studio.picture_rig.wiped_lids import WipedLids

_EYES = np.array([LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS])
_SPEAKS = 0.01  # value of any mouth control from which the lips leave their pose in the picture
_QUIET, _EASE = 12, 12  # frames of silence until they return to it, and frames that this takes
_CLOSES = 4  # frames that leaving it takes
_LIFTED = 0.55  # fraction of the upper lip's lowering over teeth that is reverted when the mouth opens
_LESS_SMILE = 0.5  # reduction of the smile for lips that are closed over teeth
_REACH = {"yaw": (-0.45, 0.45), "pitch": (-0.35, 0.35), "roll": (-0.4, 0.4)}
"""Maximum rotation of the head in radians."""
_FARTHEST = 0.85  # maximum rotation from frontal in radians, including the picture's own
_MARGIN = 10  # the texture extends beyond the frame by 1/10 of its edge, for head motion


class PictureRig:
    """Draws one session's frames of a prepared picture. One thread at a time."""

    name = "picture_rig"

    def __init__(self, prepared: PreparedPicture, size: int = FRAME, background: bool = True) -> None:
        """
        A cut-out is drawn over a plain backdrop if `background`, otherwise over transparency; then a photograph is cut
        out, too, if a matte of its person is known.
        """
        self.size = size
        self._heard = False
        self._quiet = _QUIET
        self._given = 1.0
        self._behind = None if prepared.framing.opaque or not background else backdrop(size)
        self._prepared = prepared
        framing = prepared.framing
        image = framing.image(size)
        self._margin = size // _MARGIN
        self._plate = None
        shown = framing.image(size, margin=self._margin)
        if framing.matte is not None and framing.opaque:
            matte = framing.image(size, framing.matte, self._margin)
            shown, plate = split(shown, matte)
            inner = slice(self._margin, self._margin + size)
            self._plate = np.ascontiguousarray(plate[inner, inner]) if background else None
        self._opaque = framing.opaque and (background or framing.matte is None)
        self._texture = enlarged(shown)
        self._drawing = framing.fit.style == "drawing"
        self._inside = prepare_inside(
            prepared.geometry,
            prepared.colours,
            image,
            framing.enlargement(size),
            self._drawing,
            mouth_of(prepared.lent),
        )
        shut = prepared.lent.get("eyes_shut")
        self._eyes: EyePainter | DrawnEyePainter | None = None
        self._wiped: WipedLids | None = None
        if isinstance(prepared.eyes, Eyes):
            self._eyes = EyePainter(prepared.eyes, self._texture, self._margin, size, shut)
        elif prepared.eyes is not None:
            self._eyes = DrawnEyePainter(prepared.eyes, self._texture, self._margin, size)
        if self._drawing and shut is not None:
            self._wiped = WipedLids(framing.fit, shown, shut.image(size, self._margin), self._margin, size)
        places = 2 * np.arange(self._margin, self._margin + size, dtype=np.float32)
        self._still = np.stack(np.meshgrid(places, places), -1)

    def hear(self, controls: np.ndarray, curves: object, emotion: np.ndarray) -> None:
        """Takes a frame's controls [C], drawn or not: after silence the mouth returns to the picture's pose."""
        speaks = np.abs(controls[MOUTH_CONTROLS]).max() > _SPEAKS
        self._heard = True
        self._quiet = 0 if speaks else self._quiet + 1
        wanted = float(smoothstep((self._quiet - _QUIET) / _EASE))
        self._given = max(wanted, self._given - 1 / _CLOSES)

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        """[C] float32 to [S, S, 4] uint8 straight RGBA. Controls are clamped to their ranges.

        Raises ArithmeticError if they are not finite: that frame is skipped without affecting the next. Raises
        ValueError if there are not C of them.
        """
        return self._draw(controls)

    def explain(self, controls: np.ndarray) -> Explained:
        """The frame that `draw` gives, with its ground truth."""
        stages = Stages()
        frame = self._draw(controls, stages)
        return explained(self._prepared, frame, stages, self._margin)

    def _draw(self, controls: np.ndarray, stages: Stages | None = None) -> np.ndarray:
        """As `draw`; records intermediate results in `stages`."""
        prepared, fit = self._prepared, self._prepared.framing.fit
        controls = limited(controls)
        value = {name: float(controls[i]) for name, i in INDEX.items()}
        given = self._given if self._heard else float(np.abs(controls[MOUTH_CONTROLS]).max() <= _SPEAKS)
        lifting = 0.0
        if prepared.geometry.open:
            lifting = _LIFTED * float(smoothstep(value["open"] / 0.45 + 0.6 * value["teeth"]))
        covered = fit.mouth_covered
        channels = strengths(controls, covered)
        if self._inside.own_teeth:
            channels[SMILE] -= _LESS_SMILE * (1 - given) * (1 - float(smoothstep(value["open"] / 0.3)))
        pose = prepared.motion.pose(channels, 1 - given, lifting, self._head(controls), covered)
        flow = prepared.motion.flow(pose)
        places = self._places(flow, pose)
        out = cv2.remap(self._texture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        person = out
        if self._plate is not None:
            out = joined(out, self._plate)
        if stages is not None:
            stages.moved(pose, controls, places, person[..., 3], out)
        shifts = prepared.motion.shifts(pose, _EYES)
        blinks, gaze = (value["blink_left"], value["blink_right"]), (value["gaze_x"], value["gaze_y"])
        if self._eyes is not None:
            self._eyes.paint(out, places, shifts, blinks if self._wiped is None else (0.0, 0.0), gaze)
        if self._wiped is not None:
            self._wiped.paint(out, places, shifts, blinks)
        if stages is not None:
            stages.looked(out)
        prepared.shading.paint(out, flow.whole, controls)
        if stages is not None:
            stages.shaded(out)
        if given < 1 and not covered:
            opening = self._inside.paint(out, pose, prepared.geometry, value["tongue"])
            if stages is not None:
                stages.spoke(out, opening)
        return self._finished(out)

    def _head(self, controls: np.ndarray) -> np.ndarray:
        """Controls whose head rotation is limited to what the picture supports."""
        near = controls.copy()
        turned = self._prepared.geometry.yaw
        for name, (low, high) in _REACH.items():
            if name == "yaw":
                low, high = max(low, min(-_FARTHEST - turned, -0.05)), min(high, max(_FARTHEST - turned, 0.05))
            near[INDEX[name]] = _limited(float(controls[INDEX[name]]), low, high)
        return near

    def _finished(self, frame: np.ndarray) -> np.ndarray:
        """A premultiplied frame over its background, or straight."""
        if self._opaque:
            frame[..., 3] = 255
            return frame
        alpha = frame[..., 3]
        rows, columns = np.nonzero((alpha > 0) & (alpha < 255))
        edge, share = frame[rows, columns].astype(np.uint16), alpha[rows, columns, None].astype(np.uint16)
        if self._behind is None:
            frame[rows, columns, :3] = np.minimum((edge[:, :3] * 255 + share // 2) // share, 255)
            return frame
        behind = self._behind[rows, columns, :3].astype(np.uint16)
        frame[rows, columns, :3] = np.minimum(edge[:, :3] + (behind * (255 - share) + 127) // 255, 255)
        cv2.copyTo(self._behind, (alpha == 0).view(np.uint8), frame)
        frame[..., 3] = 255
        return frame

    def _places(self, flow: Flow, pose: Pose) -> np.ndarray:
        """[S, S, 2] float32: source position of each pixel in the texture."""
        size, scale = self.size, self.size / FRAME
        places = cv2.resize(flow.whole * np.float32(2 * scale), (size, size), interpolation=cv2.INTER_LINEAR)
        cv2.add(places, self._still, dst=places)
        mouth = flow.mouth
        x0, y0 = (max(0, int(np.ceil(at * scale))) for at in (mouth.x, mouth.y))
        x1 = min(size, int((mouth.x + mouth.cell * mouth.columns) * scale))
        y1 = min(size, int((mouth.y + mouth.cell * mouth.rows) * scale))
        if x1 - x0 < 2 or y1 - y0 < 2:
            return places
        per_pixel = 1 / (scale * mouth.cell)
        matrix = np.array([
            [per_pixel, 0, ((x0 + 0.5) / scale - mouth.x) / mouth.cell - 0.5],
            [0, per_pixel, ((y0 + 0.5) / scale - mouth.y) / mouth.cell - 0.5],
        ])  # fmt: skip
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        upper, lower = (
            cv2.warpAffine(half, matrix, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for half in (flow.upper * np.float32(2 * scale), flow.lower * np.float32(2 * scale))
        )
        line = (pose.upper[:, :2] + pose.lower[:, :2]) / 2 * scale - [x0, y0]
        along = line[-1] - line[0]
        down = np.array([-along[1], along[0]])
        below = np.concatenate([[line[0] - 3 * along], line, [line[-1] + 3 * along]])
        below = np.concatenate([below, below[[-1, 0]] + 3 * down])
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [np.round(below * 16 - 8).astype(np.int32)], 1, cv2.LINE_8, 4)
        cv2.copyTo(lower, mask, upper)
        np.add(self._still[y0:y1, x0:x1], upper, out=places[y0:y1, x0:x1])
        return places

    def close(self) -> None:
        """Nothing to release but memory."""


def _limited(angle: float, low: float, high: float) -> float:
    """Soft-limits an angle: compressed beyond seven tenths of its limits, never past them."""
    limit = high if angle > 0 else -low
    knee = 0.7 * limit
    beyond = abs(angle) - knee
    if beyond <= 0:
        return angle
    return math.copysign(knee + (limit - knee) * math.tanh(beyond / (limit - knee)), angle)
