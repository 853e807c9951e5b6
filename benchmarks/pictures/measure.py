"""One picture, measured: it is made to speak and to strike poses, and the judge looks at every frame.

Letters used in shapes: T frames, C controls, S the frame's edge.
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
"""Asked opening from which on a mouth counts as open."""
PRESSED = 0.35
"""Control `press` from which on a frame is one of p, b and m."""
GAZE, TURN = 0.9, 0.2


class NoFace(ValueError):
    """A picture in which no face was found, or whose face cannot be used; the text is the reason."""


class Subject(Protocol):
    """A picture that can be drawn, and its place in the frame."""

    still: np.ndarray
    """[S, S, 4] uint8: the file's own pixels where the frame shows them."""

    fit: FaceFit
    """Its face; points are pixels of the frame."""

    matrix: np.ndarray
    """[2, 3]: from shares of the picture's width and height to pixels of the frame."""

    enlargement: float
    """Pixels of the frame per pixel of the file."""

    notices: list[str]
    """Codes of the notices that its user sees before it talks."""

    seconds: dict[str, float]
    """What was done once for the picture: its name and the seconds of one core that it took."""

    def draw(self, vector: np.ndarray, t: float) -> np.ndarray:
        """[C] float32 and a time in seconds to [S, S, 4] uint8 straight RGBA."""
        ...


Opener = Callable[[Path, int], Subject]
"""A file and the frame's edge to what draws it; raises NoFace."""


@dataclass
class Row:
    """The figures of one picture; NaN where one could not be read."""

    name: str
    kind: str
    found: bool = False
    reason: str = ""
    style: str = ""
    notices: list[str] = field(default_factory=list)
    enlargement: float = math.nan
    judged: float = 0.0  # share of the speech's frames in which the judge found a face
    correlation: float = math.nan  # of asked opening and shown gap
    gap_rest: float = math.nan  # of the picture as it is given
    gap_open: float = math.nan  # mean where more than OPEN is asked
    gap_pressed: float = math.nan  # mean over the frames of p, b and m
    pressed: list[float] = field(default_factory=list)  # the same, frame by frame
    lids_rest: float = math.nan
    lids_blink: float = math.nan
    gaze: float = math.nan  # shown shift of the irises between both sides, in widths of an eye
    yaw: float = math.nan  # shown turn between both sides, as a share of the asked one
    opening: float = math.nan  # by pixels, in outer-eye distances
    misplaced: float = math.nan  # distance of the mouth from where a person marked it, in outer-eye distances
    lids_left: float = math.nan  # by pixels: share of the eye that a blink leaves
    rest: float = math.nan  # difference to the file's own pixels, of 255
    leak: float = math.nan  # of 255, when only the mouth moves
    sharpness: float = math.nan  # of a slightly turned head, as a share of the still one's
    ms: float = math.nan  # a frame, of one core
    ms_p95: float = math.nan
    seconds: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The fields without what could not be read, rounded."""
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
    """[S, S, 3] a frame of one's own, on grey."""
    return measures.over(subject.draw(vector, t)).copy()


def speak(subject: Subject, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T, C] to frames [T, S, S, 3] and the seconds of one core [T] that each took."""
    frames, took = [], []
    for k, vector in enumerate(curves):
        began = time.process_time()
        frame = subject.draw(vector, k / 25)
        took.append(time.process_time() - began)
        frames.append(measures.over(frame).copy())
    return np.stack(frames), np.array(took)


def measure(sample: Sample, opener: Opener, judge: Judge, curves: np.ndarray, size: int = 512) -> Row:
    """All figures of one picture, which speaks `curves` [T, C] in frames of `size`."""
    row = Row(sample.name, sample.kind)
    try:
        subject = opener(sample.path, size)
    except NoFace as error:
        row.reason = str(error)
        return row
    row.found, row.style, row.notices = True, subject.fit.style, subject.notices
    row.enlargement, row.seconds = subject.enlargement, subject.seconds
    for _ in range(5):
        subject.draw(rest(), 0.0)  # compilation and caches of the first use are not part of a frame's cost
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
    # At rest the picture's lips may be apart, as they were given: shut they are where they are pressed.
    row.opening = measures.opening(drawn(subject, controls(press=0.5)), drawn(subject, controls(open=0.9)), fit)
    row.lids_left = measures.lids_left(at_rest, drawn(subject, controls(blink_left=1, blink_right=1)), fit)
    alone = poses.mouth_only(curves[::5])
    spoken = np.stack([drawn(subject, vector, 5 * k / 25) for k, vector in enumerate(alone)])
    row.leak = measures.leak(at_rest, spoken, measures.outside_face(fit, size))
    turned = np.stack([drawn(subject, vector) for vector in poses.SMALL_TURNS])
    row.sharpness = measures.sharpness(at_rest, turned, measures.inside_face(fit, size))
