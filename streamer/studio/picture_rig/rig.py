"""A picture that talks: prepared once, then drawn frame by frame by moving its own pixels."""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.studio.controls import INDEX
from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.colours import Colours, read_colours
from streamer.studio.picture_rig.expression import MOUTH_CONTROLS, strengths
from streamer.studio.picture_rig.framing import FRAME, Framing, enlarged, frame
from streamer.studio.picture_rig.geometry import Geometry, fit_geometry
from streamer.studio.picture_rig.motion import Flow, Motion, Pose, prepare_motion
from streamer.studio.picture_rig.mouth import prepare_inside
from streamer.studio.picture_rig.seam import find_seam, smoothstep

_MARGIN = 10  # of a frame's edge is this share of what lies beyond it at hand, for heads that move


@dataclass(frozen=True, eq=False)
class PreparedPicture:
    """All that is computed of a picture once, whatever the size of its frames."""

    framing: Framing
    motion: Motion
    colours: Colours

    @property
    def geometry(self) -> Geometry:
        return self.motion.geometry

    @classmethod
    def build(cls, picture: np.ndarray, fit: FaceFit) -> "PreparedPicture":
        """Of a picture [H, W, 4] uint8 straight RGBA and a face in its pixels. Takes some 0.2 s."""
        framing = frame(picture, fit)
        image = np.ascontiguousarray(framing.image(FRAME)[..., :3])
        drawing = fit.style == "drawing"
        seam = find_seam(image, framing.fit.points, framing.scale, drawing)
        geometry = fit_geometry(seam)
        colours = read_colours(image, framing.fit.points, framing.fit.eye_distance, drawing)
        return cls(framing, prepare_motion(geometry), colours)


class PictureRig:
    """Draws one session's frames of a prepared picture. One thread at a time."""

    def __init__(self, prepared: PreparedPicture, size: int = FRAME, background: bool = True) -> None:
        self.size = size
        self._prepared = prepared
        framing = prepared.framing
        image = framing.image(size)
        self._margin = size // _MARGIN
        self._texture = enlarged(framing.image(size, margin=self._margin))
        self._drawing = framing.fit.style == "drawing"
        self._inside = prepare_inside(
            prepared.geometry, prepared.colours, image, framing.enlargement(size), self._drawing
        )
        places = 2 * np.arange(self._margin, self._margin + size, dtype=np.float32)
        self._still = np.stack(np.meshgrid(places, places), -1)

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        """[C] float32 to [S, S, 4] uint8 straight RGBA."""
        prepared = self._prepared
        ease = 1.0 if np.abs(controls[MOUTH_CONTROLS]).max() < 1e-3 else 0.0
        closing = 1.0 - ease
        lifting = 0.0
        if prepared.geometry.open:
            opened = controls[INDEX["open"]] / 0.45 + 0.6 * controls[INDEX["teeth"]]
            lifting = 0.55 * float(smoothstep(float(opened)))
        fit = prepared.framing.fit
        pose = prepared.motion.pose(strengths(controls, fit.mouth_covered), closing, lifting, controls)
        places = self._places(prepared.motion.flow(pose), pose)
        out = cv2.remap(self._texture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if closing > 0 and not fit.mouth_covered:
            self._inside.paint(out, pose, prepared.geometry, float(controls[INDEX["tongue"]]))
        return out

    def _places(self, flow: Flow, pose: Pose) -> np.ndarray:
        """[S, S, 2] float32: where in the texture each pixel comes from."""
        size, scale = self.size, self.size / FRAME
        places = cv2.resize(flow.whole, (size, size), interpolation=cv2.INTER_LINEAR)
        places *= 2 * scale
        places += self._still
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
        upper, lower = (
            cv2.warpAffine(half, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                           borderMode=cv2.BORDER_REPLICATE)
            for half in (flow.upper, flow.lower)
        )  # fmt: skip
        line = (pose.upper[:, :2] + pose.lower[:, :2]) / 2 * scale - [x0, y0]
        along = line[-1] - line[0]
        down = np.array([-along[1], along[0]])
        below = np.concatenate([[line[0] - 3 * along], line, [line[-1] + 3 * along]])
        below = np.concatenate([below, below[[-1, 0]] + 3 * down])
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [np.round(below * 16 - 8).astype(np.int32)], 1, cv2.LINE_8, 4)
        chosen = np.where(mask[..., None] > 0, lower, upper)
        places[y0:y1, x0:x1] = self._still[y0:y1, x0:x1] + 2 * scale * chosen
        return places

    def close(self) -> None:
        """Nothing is held beyond memory."""
