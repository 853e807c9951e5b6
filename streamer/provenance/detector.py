"""`lipstream detect`: whether a video carries the watermark of `streamer/provenance/marker.py`.

    frame ─grey, 128×128▶ differences from the surroundings, weighed and clipped ─mean over frames▶ 64×64 ─signs▶ score

The score is how far the evidence lies along the mark's signs, in standard deviations of what other signs would give. Of
signs that know nothing of the video, the share that scores z or more is at most exp(-z²/2), whatever the video shows
(Hoeffding's inequality): so scaling and coding cost evidence, but make no mark out of none. A video that was cropped,
rotated or laid into a larger one does not match the cells until `--crop` says where it lies.
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
"""Scores from here on say that a video is marked: by chance at most 2.7 of ten million do."""

_FINE = 2  # looked at twice as finely as the cells lie: an outline then spoils a quarter of a cell, not all of it
_FLOOR = 1.0  # levels²: the variance that surroundings have at least, from coding and rounding
_MOST = 0.8  # a single frame's say about a place
_BLACK = 22  # levels up to which nothing is marked: around a character alone there is only what coding left behind
_AROUND = [(y, x) for y in (0, _FINE, 2 * _FINE) for x in (0, _FINE, 2 * _FINE) if (y, x) != (_FINE, _FINE)]


def chance(score: float) -> float:
    """The largest share of unmarked videos that may score as much."""
    return math.exp(-0.5 * score * score) if score > 0 else 1.0


class Detector:
    """Gathers evidence frame by frame."""

    def __init__(self) -> None:
        self.frames = 0
        self._sum = np.zeros((CELLS, CELLS))

    def add(self, grey: np.ndarray) -> None:
        """A frame's brightness [H, W], uint8, of any size."""
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
        """[64, 64], of length 1; noughts where nothing was to be seen."""
        length = float(np.sqrt(np.sum(self._sum**2)))
        return self._sum / length if length > 0 else self._sum

    @property
    def score(self) -> float:
        """The evidence along the mark's signs."""
        return float(np.sum(self.evidence * signs()))

    @property
    def marked(self) -> bool:
        return self.score >= THRESHOLD


class BadVideo(ValueError):
    """A file without pictures to look at; the text says why."""


@dataclass(frozen=True)
class Crop:
    """Where a session's picture lies in a larger one: its upper left corner and its size in pixels."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """From "X,Y,WIDTH,HEIGHT"."""
        try:
            x, y, width, height = (int(number) for number in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,WIDTH,HEIGHT in pixels") from None
        if x < 0 or y < 0 or width < CELLS or height < CELLS:
            raise argparse.ArgumentTypeError(f"{text!r}: want no corner outside, and at least {CELLS} pixels each way")
        return cls(x, y, width, height)


def pictures(path: Path, start: float = 0.0, seconds: float = 10.0) -> Iterator[np.ndarray]:
    """Brightness [H, W] uint8 of each frame of a video's `seconds` from `start` on. Raises BadVideo."""
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
                raise BadVideo(f"{path} holds no video, only {kinds}")
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
        raise BadVideo(f"{path} holds no picture in the {seconds:g} s from {start:g} s on")


def _decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Frames; a damaged packet in the middle is skipped, not the end of the file."""
    broken = 0
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            broken += 1
            if broken > 50:
                raise


def detect(path: Path, start: float = 0.0, seconds: float = 10.0, crop: Crop | None = None) -> Detector:
    """What a video file shows. Raises BadVideo."""
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
        description="Says whether a video carries lipstream's watermark.",
        epilog="Exit status: 0 marked, 1 not marked, 2 the file could not be looked at.",
    )
    parser.add_argument("video", type=Path, help="a video, in any format that PyAV reads")
    parser.add_argument("--start", type=_seconds, default=0.0, metavar="S", help="from there on (default: 0)")
    parser.add_argument("--seconds", type=_seconds, default=10.0, metavar="S", help="how much (default: 10)")
    parser.add_argument("--crop", type=Crop.parse, metavar="X,Y,W,H", help="where the picture lies in a larger one")
    options = parser.parse_args(arguments)
    try:
        found = detect(options.video, options.start, options.seconds, options.crop)
    except BadVideo as error:
        print(f"lipstream detect: {error}", file=sys.stderr)
        return 2
    print(
        f"{'marked' if found.marked else 'not marked'}: score {found.score:.1f} over {found.frames} frames, threshold "
        f"{THRESHOLD:g}; of unmarked videos at most 1 in {1 / chance(max(found.score, THRESHOLD)):.1g} scores "
        f"{'as much' if found.marked else 'that threshold'}"
    )
    return 0 if found.marked else 1
