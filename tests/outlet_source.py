"""What the tests of recording and publishing share: a session's frames and sound, and what a player makes of a file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from streamer.audio.opus import OpusEncoder
from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.frames import Frame, Sound, Times

SIZE = 128
RATE = 48_000
PACKET = 320  # samples at 16 kHz: 20 ms


class Source:
    """Flashes and beeps at each whole second of pts, for 0.1 s: a dark picture and a tone of 440 Hz."""

    def __init__(self, size: int = SIZE) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(120, 255, (size // 8, size // 8, 3), np.uint8)
        self._bright = np.full((size, size, 4), 255, np.uint8)
        self._bright[..., :3] = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
        self._encoder = OpusEncoder(loss=0)
        self._next = 0

    def frame(self, k: int, epoch: int = 0) -> Frame:
        flash = k % 25 < 3
        image = self._bright // 8 if flash else np.roll(self._bright, k, 1)
        return Frame(k, epoch, image, Times())

    def packet(self, pts: int, epoch: int = 0) -> Sound:
        t = (np.arange(RATE // 50) + 3 * pts) / RATE
        tone = np.where(t % 1 < 0.1 - 1e-9, 0.5 * np.sin(2 * np.pi * 440 * t), 0).astype(np.float32)
        return Sound(pts, PACKET, epoch, self._encoder.encode(tone), 0.0)

    def until(self, k: int) -> Iterator[Sound]:
        """The packets that come before frame `k` is drawn, from where the last call ended."""
        while self._next < (k + 1) * SAMPLES_PER_FRAME:
            yield self.packet(self._next)
            self._next += PACKET


@dataclass
class Watched:
    """What a player makes of a file: seconds."""

    frames: list[float] = field(default_factory=list)
    keyframes: list[float] = field(default_factory=list)
    flashes: list[float] = field(default_factory=list)
    beeps: list[float] = field(default_factory=list)
    heard_until: float = 0.0
    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """At 48 kHz, from time zero of the file."""


def watch(path: Path | str) -> Watched:
    """Plays a file from end to end. Raises av.FFmpegError where a decoder finds fault with it."""
    seen = Watched()
    dark = False
    pieces: list[tuple[int, np.ndarray]] = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", RATE)
        for packet in container.demux():
            for decoded in packet.decode():
                at = float(decoded.pts * decoded.time_base)
                if isinstance(decoded, av.VideoFrame):
                    seen.frames.append(at)
                    if decoded.key_frame:
                        seen.keyframes.append(at)
                    now_dark = decoded.to_ndarray(format="gray").mean() < 60
                    if now_dark and not dark:
                        seen.flashes.append(at)
                    dark = now_dark
                else:
                    pieces += [(round(at * RATE), part.to_ndarray()[0]) for part in resampler.resample(decoded)]
    if pieces:
        seen.sound = np.zeros(max(at + len(part) for at, part in pieces), np.float32)
        for at, part in pieces:
            seen.sound[max(at, 0) : at + len(part)] = part[max(-at, 0) :]
    seen.heard_until = len(seen.sound) / RATE
    loud = np.flatnonzero(np.abs(seen.sound) > 0.1)
    starts = loud[np.flatnonzero(np.diff(loud, prepend=-RATE) > RATE // 4)]
    seen.beeps = [float(start / RATE) for start in starts]
    return seen
