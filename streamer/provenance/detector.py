"""`lipstream detect`: whether a video carries the watermark of `streamer/provenance/marker.py`.

    frame ─grey, 128×128▶ local differences, normalised and clipped ─mean over frames▶ 64×64 ─signs▶ score

The score is the projection of the evidence onto the mark's signs, in standard deviations of the projections onto random
signs. For signs independent of the video, the probability of a score of z or more is at most exp(-z²/2), whatever the
video shows (Hoeffding's inequality). So scaling and compression weaken the evidence but cannot create a mark. A video
that was cropped, rotated or embedded in a larger one is not aligned with the cells; `--crop` says where it lies.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from streamer.provenance.marker import CELLS, signs

THRESHOLD = 5.5
"""Scores at or above this mean that a video is marked; the false positive rate is at most 2.7e-7."""

_FINE = 2  # samples per cell and axis: an outline then spoils a quarter of a cell, not all of it
_FLOOR = 1.0  # levels²: minimum local variance, from compression and rounding
_MOST = 0.8  # limit of a single frame's contribution to a cell
_BLACK = 22  # luma up to which nothing is marked: around a cut-out there are only compression artefacts
_AROUND = [(y, x) for y in (0, _FINE, 2 * _FINE) for x in (0, _FINE, 2 * _FINE) if (y, x) != (_FINE, _FINE)]


def chance(score: float) -> float:
    """Upper bound of the probability that an unmarked video reaches this score."""
    return math.exp(-0.5 * score * score) if score > 0 else 1.0


class Detector:
    """Accumulates evidence frame by frame."""

    def __init__(self) -> None:
        self.frames = 0
        self._sum = np.zeros((CELLS, CELLS))

    def add(self, grey: np.ndarray) -> None:
        """Adds a frame's luma [H, W], uint8, of any size."""
        edge = CELLS * _FINE
        small = Image.fromarray(grey).convert("F").resize((edge, edge), Image.Resampling.BOX)
        x = np.asarray(small, np.float32)
        padded = np.pad(x, _FINE, mode="reflect")
        around = [padded[dy : dy + edge, dx : dx + edge] for dy, dx in _AROUND]
        mean = sum(around) / len(around)
        variance = sum((each - mean) ** 2 for each in around) / len(around)
        say = np.clip((x - mean) / (variance + _FLOOR), -_MOST, _MOST) * (x > _BLACK)
        self._sum += say.reshape(CELLS, _FINE, CELLS, _FINE).mean((1, 3))
        self.frames += 1

    @property
    def evidence(self) -> np.ndarray:
        """[64, 64], of length 1; all zero if nothing was visible."""
        length = float(np.sqrt(np.sum(self._sum**2)))
        return self._sum / length if length > 0 else self._sum

    @property
    def score(self) -> float:
        """The projection of the evidence onto the mark's signs."""
        return float(np.sum(self.evidence * signs()))

    @property
    def marked(self) -> bool:
        return self.score >= THRESHOLD


class BadVideo(ValueError):
    """A file without readable pictures; the message says why."""


@dataclass(frozen=True)
class Crop:
    """A session's picture within a larger one: its upper left corner and size in pixels."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Parses "X,Y,WIDTH,HEIGHT"."""
        try:
            x, y, width, height = (int(number) for number in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,WIDTH,HEIGHT in pixels") from None
        if x < 0 or y < 0 or width < CELLS or height < CELLS:
            raise argparse.ArgumentTypeError(f"{text!r}: X and Y must be 0 or more, WIDTH and HEIGHT at least {CELLS}")
        return cls(x, y, width, height)


def pictures(path: Path, start: float = 0.0, seconds: float = 10.0) -> Iterator[np.ndarray]:
    """Luma [H, W] uint8 of each frame of a video, for `seconds` from `start`. Raises BadVideo."""
    if not path.is_file():
        raise BadVideo(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise BadVideo(f"{path} is empty: 0 bytes")
    found = 0
    try:
        # An open file and no name: in names FFmpeg looks for protocols (`a:b`).
        with path.open("rb") as file, av.open(file, "r", metadata_errors="replace") as container:
            if not container.streams.video:
                kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
                raise BadVideo(f"{path} contains no video, only {kinds}")
            stream = container.streams.video[0]
            first: Fraction | None = None
            for frame in _decoded(container, stream):
                time = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else Fraction(0)
                first = time if first is None else first
                if time - first >= start + seconds:
                    break
                if time - first >= start:
                    found += 1
                    yield frame.to_ndarray(format="gray")
    except (av.FFmpegError, OSError) as error:
        raise BadVideo(f"{path} could not be read: {error.strerror or error}") from None
    if not found:
        raise BadVideo(f"{path} contains no picture in the {seconds:g} s from {start:g} s on")


def _decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decodes all frames; up to 50 damaged packets are skipped."""
    broken = 0
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            broken += 1
            if broken > 50:
                raise


def detect(path: Path, start: float = 0.0, seconds: float = 10.0, crop: Crop | None = None) -> Detector:
    """Analyses a video file. Raises BadVideo."""
    detector = Detector()
    for grey in pictures(path, start, seconds):
        if crop is not None:
            height, width = grey.shape
            if crop.x + crop.width > width or crop.y + crop.height > height:
                end = f"{crop.x + crop.width},{crop.y + crop.height}"
                raise BadVideo(f"the crop ends at {end}, beyond the {width}×{height} pixels of {path}")
            grey = np.ascontiguousarray(grey[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width])
        detector.add(grey)
    return detector


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lipstream detect",
        description="Checks whether a video carries lipstream's watermark.",
        epilog="Exit status: 0 marked, 1 not marked, 2 the file could not be analysed.",
    )
    parser.add_argument("video", type=Path, help="a video in any format that PyAV can read")
    parser.add_argument("--start", type=_seconds, default=0.0, metavar="S", help="start time (default: 0)")
    parser.add_argument("--seconds", type=_seconds, default=10.0, metavar="S", help="duration (default: 10)")
    parser.add_argument("--crop", type=Crop.parse, metavar="X,Y,W,H", help="the picture's place in a larger video")
    options = parser.parse_args(arguments)
    try:
        found = detect(options.video, options.start, options.seconds, options.crop)
    except BadVideo as error:
        print(f"lipstream detect: {error}", file=sys.stderr)
        return 2
    print(
        f"{'marked' if found.marked else 'not marked'}: score {found.score:.1f} over {found.frames} frames, threshold "
        f"{THRESHOLD:g}; at most 1 in {1 / chance(max(found.score, THRESHOLD)):.1g} unmarked videos reaches "
        f"{'this score' if found.marked else 'the threshold'}"
    )
    return 0 if found.marked else 1
