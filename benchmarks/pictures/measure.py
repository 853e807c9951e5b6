"""Measures one picture: it speaks and takes poses, and the judge reads every frame.

Letters in shapes: T frames, C controls, S the frame's edge.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.pictures import measures, poses, sets
from benchmarks.pictures.judge import Judge, Reading
from benchmarks.pictures.sets import Sample
from streamer.motion.controls import controls, rest
from streamer.studio.face_fit import FaceFit

OPEN = 0.5
"""Controlled opening from which a mouth counts as open."""
PRESSED = 0.35
"""Value of the control `press` from which a frame belongs to a p, b or m."""
GAZE, TURN = 0.9, 0.2


class NoFace(ValueError):
    """No face was found in the picture, or it cannot be used; the message gives the reason."""


class Subject(Protocol):
    """A picture that can be animated, and its position in the frame."""

    still: np.ndarray
    """[S, S, 4] uint8: the file's own pixels, as the frame shows them."""

    fit: FaceFit
    """Its face, in pixels of the frame."""

    matrix: np.ndarray
    """[2, 3]: maps shares of the picture's width and height to pixels of the frame."""

    enlargement: float
    """Pixels of the frame per pixel of the file."""

    notices: list[str]
    """Codes of the notices that its user sees before a session."""

    seconds: dict[str, float]
    """One-time preparation steps by name, in CPU seconds."""

    def draw(self, vector: np.ndarray, t: float) -> np.ndarray:
        """Draws [C] float32 controls at a time in seconds: [S, S, 4] uint8 straight RGBA."""
        ...


Opener = Callable[[Path, int], Subject]
"""Opens a file for frames of the given edge; raises NoFace."""


@dataclass
class Row:
    """The figures of one picture; NaN if one could not be measured."""

    name: str
    kind: str
    found: bool = False
    reason: str = ""
    style: str = ""
    notices: list[str] = field(default_factory=list)
    enlargement: float = math.nan
    judged: float = 0.0  # share of the speech frames in which the judge found a face
    correlation: float = math.nan  # between controlled opening and displayed gap
    gap_rest: float = math.nan  # of the original picture
    gap_open: float = math.nan  # mean over frames whose controlled opening exceeds OPEN
    gap_pressed: float = math.nan  # mean over the frames of p, b and m
    pressed: list[float] = field(default_factory=list)  # the same for each frame
    lids_rest: float = math.nan
    lids_blink: float = math.nan
    gaze: float = math.nan  # shift of the irises from one side to the other, in eye widths
    yaw: float = math.nan  # turn from one side to the other, as a share of the controlled one
    opening: float = math.nan  # by pixels, in outer-eye distances
    misplaced: float = math.nan  # distance of the mouth from its manual mark, in outer-eye distances
    lids_left: float = math.nan  # by pixels: share of the eye that remains visible in a blink
    rest: float = math.nan  # difference from the file's own pixels, of 255
    leak: float = math.nan  # change outside the face when only the mouth moves, of 255
    sharpness: float = math.nan  # with a slightly turned head, as a share of the one at rest
    ms: float = math.nan  # CPU time per frame
    ms_p95: float = math.nan
    seconds: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The measured fields, rounded."""
        return {key: _rounded(value) for key, value in vars(self).items() if not _unread(value)}


def _unread(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value


def drawn(subject: Subject, vector: np.ndarray, t: float = 0.0) -> np.ndarray:
    """A copy of the frame [S, S, 3], on grey."""
    return measures.over(subject.draw(vector, t)).copy()


def speak(subject: Subject, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws controls [T, C]: frames [T, S, S, 3] and their CPU seconds [T]."""
    frames, took = [], []
    for k, vector in enumerate(curves):
        began = time.process_time()
        frame = subject.draw(vector, k / 25)
        took.append(time.process_time() - began)
        frames.append(measures.over(frame).copy())
    return np.stack(frames), np.array(took)


def measure(sample: Sample, opener: Opener, judge: Judge, curves: np.ndarray, size: int = 512) -> Row:
    """Measures all figures of one picture that speaks `curves` [T, C], at `size` pixels."""
    row = Row(sample.name, sample.kind)
    try:
        subject = opener(sample.path, size)
    except NoFace as error:
        row.reason = str(error)
        return row
    row.found, row.style, row.notices = True, subject.fit.style, subject.notices
    row.enlargement, row.seconds = subject.enlargement, subject.seconds
    for _ in range(5):
        subject.draw(rest(), 0.0)  # compilation and cold caches are not part of a frame's cost
    frames, took = speak(subject, curves)
    row.ms, row.ms_p95 = 1000 * float(took.mean()), 1000 * float(np.percentile(took, 95))
    _judge_speech(row, judge.read(frames), curves)
    _judge_poses(row, subject, judge)
    _compare_pixels(row, subject, curves)
    if (mark := sets.mouths().get(sample.name)) is not None:
        row.misplaced = measures.misplaced(subject.fit, subject.matrix @ (*mark, 1.0))
    return row


def _judge_speech(row: Row, seen: Reading, curves: np.ndarray) -> None:
    asked, pressed = poses.named(curves, "open"), poses.named(curves, "press") > PRESSED
    gap = seen.gap
    row.judged = float(seen.found.mean())
    if not seen.found.any():
        return
    row.correlation = measures.correlation(asked, gap)
    row.gap_open = measures.mean_where(gap, asked > OPEN)
    row.gap_pressed = measures.mean_where(gap, pressed)
    row.pressed = [float(g) for g in gap[pressed] if math.isfinite(g)]


def _judge_poses(row: Row, subject: Subject, judge: Judge) -> None:
    asked = [
        rest(),
        controls(blink_left=1, blink_right=1),
        controls(gaze_x=-GAZE),
        controls(gaze_x=GAZE),
        controls(yaw=-TURN),
        controls(yaw=TURN),
    ]
    seen = judge.read([measures.over(subject.still), *(drawn(subject, vector) for vector in asked)])
    row.gap_rest = float(seen.gap[0])
    lids, gaze = seen.lids.mean(1), seen.gaze[:, 0]
    row.lids_rest, row.lids_blink = float(lids[1]), float(lids[2])
    row.gaze = float(gaze[4] - gaze[3])
    row.yaw = float(seen.yaw[6] - seen.yaw[5]) / (2 * TURN)


def _compare_pixels(row: Row, subject: Subject, curves: np.ndarray) -> None:
    still, at_rest = measures.over(subject.still), drawn(subject, rest())
    size, fit = len(still), subject.fit
    row.rest = measures.difference(still, at_rest)
    # The lips of a picture may be apart at rest, so compare with pressed lips.
    row.opening = measures.opening(drawn(subject, controls(press=0.5)), drawn(subject, controls(open=0.9)), fit)
    row.lids_left = measures.lids_left(at_rest, drawn(subject, controls(blink_left=1, blink_right=1)), fit)
    alone = poses.mouth_only(curves[::5])
    spoken = np.stack([drawn(subject, vector, 5 * k / 25) for k, vector in enumerate(alone)])
    row.leak = measures.leak(at_rest, spoken, measures.outside_face(fit, size))
    turned = np.stack([drawn(subject, vector) for vector in poses.SMALL_TURNS])
    row.sharpness = measures.sharpness(at_rest, turned, measures.inside_face(fit, size))
