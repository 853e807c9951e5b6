"""The rig: draws a character from a control vector, frame by frame, with exact ground truth.

Letters used in shapes: S picture size, C controls, K key points.
"""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamer.base.alpha import straighten
from streamer.base.constants import FPS
from streamer.motion.controls import INDEX, limited
from streamer.motion.emotions import expression
from streamer.studio.character import Character
from streamer.studio.draw.background import background as paint_background
from streamer.studio.draw.occlusion import Occlusion
from streamer.studio.draw.portrait import portrait
from streamer.studio.dynamics import LATCHES

__all__ = ["BODY_KEYPOINTS", "FACE_KEYPOINTS", "HAND_KEYPOINTS", "KEYPOINTS", "Rig", "Truth", "expression"]

SIZES = (32, 2048)
FINE_BELOW = 192  # smaller pictures are drawn at twice the size and averaged, so that thin lines stay even

_SIDES = ("left", "right")  # the viewer's
FINGERS = ("thumb", "index", "middle", "ring", "little")
FACE_KEYPOINTS = (
    *(f"brow_{side}_{part}" for side in _SIDES for part in ("outer", "mid", "inner")),
    *(f"eye_{side}_{part}" for side in _SIDES for part in ("outer", "top", "inner", "bottom")),
    *(f"iris_{side}" for side in _SIDES),
    "nose_bridge", "nose_tip",
    "inner_lip_left", "inner_lip_right", "inner_lip_top", "inner_lip_bottom", "lip_top", "lip_bottom",
    "cheek_left", "jaw_left", "chin", "jaw_right", "cheek_right",
    "ear_left", "ear_right",
)  # fmt: skip
BODY_KEYPOINTS = ("neck", "shoulder_left", "shoulder_right")
HAND_KEYPOINTS = tuple(
    f"hand_{side}_{part}"
    for side in _SIDES
    for part in ("wrist", *(f"{finger}_{joint}" for finger in FINGERS for joint in range(1, 5)))
)
KEYPOINTS = (*FACE_KEYPOINTS, *BODY_KEYPOINTS, *HAND_KEYPOINTS)

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


@dataclass(frozen=True)
class Truth:
    """Exact positions of a frame's parts."""

    face_mask: np.ndarray  # [S,S] bool: the face's skin and features where unoccluded
    mouth_box: Box  # including lips and lines
    eye_boxes: tuple[Box, Box]  # including lashes; the viewer's left eye first
    hand_boxes: tuple[Box | None, Box | None]  # palm and fingers, the viewer's left first; None if not in the picture
    keypoints: np.ndarray  # [K,3] float32: x, y in pixels and 1 if visible, else 0 (KEYPOINTS names them)
    inner_lip: float  # distance between the midpoints of the inner lips in pixels
    inner_lip_share: float  # the same relative to this character's widest opening, without foreshortening


class Rig:
    """Draws one character. Not thread-safe; any number of rigs may exist."""

    name = "studio_rig"

    def __init__(self, character: Character, size: int = 256, background: bool = True) -> None:
        if not SIZES[0] <= size <= SIZES[1]:
            raise ValueError(f"a picture's size is between {SIZES[0]} and {SIZES[1]} pixels, not {size}")
        self.character, self.size = character, size
        self._lock, self._closed = threading.Lock(), False
        self._factor = 2 if size < FINE_BELOW else 1
        drawn = size * self._factor
        self._anatomy = portrait(character, drawn, straight=not background and self._factor == 1)
        self._sketch = self._anatomy.sketch
        self._background = paint_background(self._anatomy, drawn) if background else None
        self._occlusion: Occlusion | None = None
        self._averaged = np.zeros((size, size, 4), np.uint8)
        keypoints = self._anatomy.keypoints
        self._keypoints = np.array([keypoints[name] for name in KEYPOINTS])
        self._kind = np.array(
            [name.split("_")[0] if name.split("_")[0] in ("ear", "hand") else "face" for name in KEYPOINTS]
        )

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        """Draws `controls` [C] with the loose parts where they are now: [S,S,4] uint8 straight RGBA.

        Time passes in `advance` alone: `t` is accepted, as by all renderers, and changes nothing. The next call
        overwrites the buffer: copy it to keep it. Controls are clamped to their ranges.
        """
        controls = _checked(controls)
        with self._lock:
            self._check_open()
            return self._draw(controls)

    def advance(self, controls: np.ndarray, dt: float = 1 / FPS) -> None:
        """Lets `dt` seconds pass, at whose end the controls are these [C]; moves loose parts, draws nothing.

        Call it for every frame, also for one that is not drawn. The first call sets where the head is; before it, and
        while nothing moves, the character is at rest. Raises ValueError as `draw` does, and for a `dt` that is not
        above 0 and at most 1.
        """
        controls = _checked(controls)
        if not (math.isfinite(dt) and 0 < dt <= 1):
            raise ValueError(f"time advances by more than 0 and at most 1 second, not {dt}")
        with self._lock:
            self._check_open()
            self._sketch.advance(controls, dt)

    def set_emotion(self, emotion: np.ndarray) -> None:
        """Sets the strengths [E] of controls.EMOTIONS. A strong one fades in the character's mark for it, if it has
        one, while time advances. Raises ValueError for another shape, NaN or infinity.
        """
        with self._lock:
            self._check_open()
            self._sketch.feelings.feel(emotion)

    def hear(self, controls: np.ndarray, curves: object, emotion: np.ndarray) -> None:
        """A frame of a live session, drawn or not: its controls [C] and the strengths [E] of its emotion."""
        self.set_emotion(emotion)
        self.advance(controls)

    @property
    def latches(self) -> Mapping[str, float]:
        """What may come out of place on this character, by name, from 0 (in place) to 1."""
        latches = self._sketch.latches
        return {name: latches.value[name] for name in LATCHES if name in latches.present}

    @property
    def marks(self) -> Mapping[str, float]:
        """Marks of emotion by name, from 0 (absent) to 1."""
        return dict(self._sketch.feelings.value)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"the rig of {self.character.name} is closed")

    def _draw(self, controls: np.ndarray) -> np.ndarray:
        sketch = self._sketch
        sketch.move(controls)
        self._opening = float(np.clip(controls[INDEX["open"]], 0.0, 1.0))
        if self._background is not None:
            np.copyto(sketch.canvas.pixels, self._background)
        sketch.draw(clear=self._background is None)
        if self._factor == 1:
            return sketch.canvas.pixels
        np.copyto(self._averaged, _halve(sketch.canvas.pixels))
        if self._background is None:
            straighten(self._averaged)
        return self._averaged

    def draw_with_truth(self, controls: np.ndarray, t: float = 0.0) -> tuple[np.ndarray, Truth]:
        """The picture as from `draw`, with its ground truth."""
        image = self.draw(controls, t)
        with self._lock:
            self._check_open()
            labels = self._sketch.draw_labels()
        if self._factor == 2:
            labels = _halve(labels)
        front = labels[..., :3] >= 128  # red: face or ear; blue: ear or cover; green: hand
        face_mask = front[..., 0] & ~front[..., 1] & ~front[..., 2]
        keypoints = self._locate(front)
        boxes = [self._box(*self._anatomy.marks[name]) for name in ("mouth_box", "eye_box_left", "eye_box_right")]
        left, right = (self._hand_box(side) for side in _SIDES)
        top, bottom = KEYPOINTS.index("inner_lip_top"), KEYPOINTS.index("inner_lip_bottom")
        inner_lip = float(np.hypot(*(keypoints[bottom, :2] - keypoints[top, :2])))
        eyes, hands = (boxes[1], boxes[2]), (left, right)
        truth = Truth(face_mask, boxes[0], eyes, hands, keypoints, inner_lip, self._opening)
        return image, truth

    def points(self) -> np.ndarray:
        """
        All control points of the last picture: [N, 3] float32, x, y in pixels and 1 if their shape is painted, else 0.
        The n-th is the same point of the character in every picture.
        """
        with self._lock:
            sketch = self._sketch
            painted = np.zeros(len(sketch.x), bool)
            for ink in sketch.inks:
                painted[ink.outline.points] |= ink.visible
            return np.stack([sketch.x / self._factor, sketch.y / self._factor, painted], -1).astype(np.float32)

    def tracked(self) -> np.ndarray:
        """Points all over the character in the last picture: [Q, 3] float32, x, y in pixels and 1 if seen, else 0.

        The n-th is the same point of the character in every picture of this rig. Denser than `points`, and what hides
        a point is known from the drawing, not guessed. Raises RuntimeError before the first picture.
        """
        with self._lock:
            self._check_open()
            if not self._sketch.x.any():
                raise RuntimeError(f"the rig of {self.character.name} has drawn no picture yet")
            if self._occlusion is None:
                self._occlusion = Occlusion(self._sketch, dict([self._anatomy.marks["face_surface"]]))
            points = self._occlusion.points()
            points[:, :2] /= self._factor
            return points

    def _locate(self, front: np.ndarray) -> np.ndarray:
        """Key points [K,3] from the moved control points, and whether their part is in front at their pixel."""
        x = self._sketch.x[self._keypoints] / self._factor
        y = self._sketch.y[self._keypoints] / self._factor
        shown = self._shown()
        column, row = np.floor(x).astype(int), np.floor(y).astype(int)
        inside = (column >= 0) & (column < self.size) & (row >= 0) & (row < self.size) & shown
        red, green, blue = front[row.clip(0, self.size - 1), column.clip(0, self.size - 1)].T
        free = np.select(
            [self._kind == "face", self._kind == "ear", self._kind == "hand"],
            [~green & ~blue, red & blue & ~green, green],
            ~green & ~blue,
        )
        lowered = (self._kind == "hand") & ~shown  # a lowered hand has no position, not its last one
        x[lowered] = y[lowered] = 0.0
        return np.stack([x, y, inside & free], -1).astype(np.float32)

    def _shown(self) -> np.ndarray:
        """[K] whether the part is drawn at all: lowered hands and the irises of closed eyes are not."""
        shown = np.ones(len(KEYPOINTS), bool)
        for prefix, visible in self._anatomy.shown.items():
            if not visible:
                shown[[name.startswith(prefix) for name in KEYPOINTS]] = False
        return shown

    def _hand_box(self, side: str) -> Box | None:
        if not self._anatomy.shown.get(f"hand_{side}"):
            return None
        box = self._box(*self._anatomy.marks[f"hand_box_{side}"])
        inside = box[0] < self.size and box[1] < self.size and box[2] > 0 and box[3] > 0
        return box if inside else None

    def _box(self, *parts: slice) -> Box:
        x = np.concatenate([self._sketch.x[p] for p in parts]) / self._factor
        y = np.concatenate([self._sketch.y[p] for p in parts]) / self._factor
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def close(self) -> None:
        """Frees the rasteriser's memory. Idempotent; if another thread is drawing, its frame is finished first."""
        with self._lock:
            self._closed = True
            self._sketch.close()
            if self._occlusion is not None:
                self._occlusion.close()

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _checked(controls: np.ndarray) -> np.ndarray:
    """[C] float32 clamped to its ranges. Raises ValueError for another shape, NaN or infinity."""
    try:
        return limited(controls)
    except ArithmeticError as error:
        raise ValueError(str(error)) from None


def _halve(pixels: np.ndarray) -> np.ndarray:
    """[2S,2S,4] uint8 to [S,S,4] uint8, the mean of four."""
    rows = pixels[0::2].astype(np.uint16) + pixels[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)
