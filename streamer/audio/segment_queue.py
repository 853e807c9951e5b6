"""Speech pushed ahead of time, in segments, that is said frame by frame: for the ear at one rate, exact, and for the
network at 16 kHz.

Nothing here knows what time it is: who calls `take` once a frame's time decides. Bounded by who pushes.

Letters used in shapes: n, m samples, c channels.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamer.base.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000

_ROUNDING = SAMPLE_RATE // 500  # 2 ms by which two rates may disagree about a segment's length


def to_mono(pcm: np.ndarray) -> np.ndarray:
    """Speech [n] or [n, c], int16 or floats of ±1, to [n] int16. Raises ValueError for anything else."""
    pcm = np.asarray(pcm)
    if pcm.ndim not in (1, 2) or (pcm.dtype != np.int16 and pcm.dtype.kind != "f"):
        raise ValueError(f"speech of {pcm.dtype} and shape {pcm.shape}: want int16 or floats, [n] or [n, channels]")
    if pcm.ndim == 1 and pcm.dtype == np.int16:
        return pcm
    sound = pcm.astype(np.float32) if pcm.dtype == np.int16 else np.nan_to_num(pcm).astype(np.float32) * 32767
    if sound.ndim == 2:
        sound = sound.mean(axis=1)
    return np.rint(np.clip(sound, -32768, 32767)).astype(np.int16)


class _Converter:
    """One segment's speech from one rate to another; exact where both are the same."""

    def __init__(self, rate: int, wanted: int) -> None:
        import av  # 0.1 s that only an avatar needs

        self._rate = rate
        self._frame = av.AudioFrame
        self._resampler = None if rate == wanted else av.AudioResampler("s16", "mono", wanted)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """[n] int16 -> what is ready, [m] int16."""
        if self._resampler is None or not len(samples):
            return samples
        frame = self._frame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = self._rate
        return self._joined(self._resampler.resample(frame))

    def end(self) -> np.ndarray:
        """The rest."""
        return np.zeros(0, np.int16) if self._resampler is None else self._joined(self._resampler.resample(None))

    @staticmethod
    def _joined(frames: list[Any]) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int16), *(frame.to_ndarray()[0] for frame in frames)])


class _Samples:
    """A queue of int16 samples. Bounded by who fills it."""

    def __init__(self) -> None:
        self._parts: deque[np.ndarray] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, samples: np.ndarray) -> None:
        if len(samples):
            self._parts.append(samples)
            self._count += len(samples)

    def take(self, count: int) -> np.ndarray:
        """The first `count`, or as many as there are."""
        taken = [np.zeros(0, np.int16)]
        while count and self._parts:
            part = self._parts.popleft()
            if len(part) > count:
                self._parts.appendleft(part[count:])
                part = part[:count]
            taken.append(part)
            count -= len(part)
            self._count -= len(part)
        return np.concatenate(taken)


@dataclass
class _Segment:
    number: int
    rate: int
    """Of what is pushed."""
    to_ear: _Converter
    to_network: _Converter
    ear: _Samples = field(default_factory=_Samples)
    network: _Samples = field(default_factory=_Samples)
    ended: bool = False


@dataclass(frozen=True)
class Spoken:
    """A frame's time of speech, or of silence where nothing is to be said."""

    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    """[n] at the rate for the ear: a frame's time, but for the lead at a segment's begin, and less at its end."""
    heard: np.ndarray = field(default_factory=lambda: np.zeros(SAMPLES_PER_FRAME, np.float32))
    """[640] float32 at 16 kHz: the same for the network."""
    segment: int | None = None
    ended: bool = False
    """The segment's last frame."""


class Segments:
    """Speech that waits to be said, in segments, cut into frames' times. Pure: nothing here knows what time it is.

    A segment that has run out before its end pauses: its frames are silent, and it goes on with the next that is whole.
    `lead` seconds of sound are given ahead of their frame, where they are there: for players that must not run dry.
    """

    def __init__(self, rate: int, lead: float = 0.0) -> None:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE or rate % FPS:
            raise ValueError(f"{rate} Hz: want {LOWEST_RATE} to {HIGHEST_RATE} Hz, a multiple of {FPS}")
        self.rate = rate
        self.starved = 0
        """Frames' times for which a segment under way had nothing to say."""
        self.lead = lead
        self._ahead = 0
        """Samples of sound that were given ahead of their frame."""
        self._per_frame = rate // FPS
        self._waiting: deque[_Segment] = deque()
        self._begun = False
        self._next = 0

    @property
    def open(self) -> bool:
        """A segment has been pushed to, and has not ended."""
        return bool(self._waiting) and not self._waiting[-1].ended

    @property
    def buffered(self) -> float:
        """Seconds of speech that wait."""
        return sum(len(segment.ear) for segment in self._waiting) / self.rate

    def push(self, samples: np.ndarray, rate: int) -> int:
        """Adds [n] int16 at `rate` to the open segment, or begins one. Returns its number. Raises ValueError."""
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"speech at {rate} Hz: want {LOWEST_RATE} to {HIGHEST_RATE} Hz")
        if not self.open:
            converters = _Converter(rate, self.rate), _Converter(rate, SAMPLE_RATE)
            self._waiting.append(_Segment(self._next, rate, *converters))
            self._next += 1
        segment = self._waiting[-1]
        if rate != segment.rate:
            raise ValueError(f"a segment of {segment.rate} Hz goes on with {rate} Hz: end it first")
        segment.ear.put(segment.to_ear.push(samples))
        segment.network.put(segment.to_network.push(samples))
        return segment.number

    def end(self) -> int | None:
        """Ends the open segment. Returns its number, None where none is open."""
        if not self.open:
            return None
        segment = self._waiting[-1]
        segment.ear.put(segment.to_ear.end())
        segment.network.put(segment.to_network.end())
        segment.ended = True
        return segment.number

    def take(self) -> Spoken:
        """The next frame's time."""
        segment = self._waiting[0] if self._waiting else None
        if segment is None:
            return Spoken()
        whole = self._ahead + len(segment.ear) >= self._per_frame and len(segment.network) >= SAMPLES_PER_FRAME
        if not whole and not segment.ended:
            self.starved += self._begun
            self._ahead = 0
            return Spoken()
        sound = segment.ear.take(max(self._per_frame + round(self.lead * self.rate) - self._ahead, 0))
        self._ahead = max(self._ahead + len(sound) - self._per_frame, 0)
        heard = np.zeros(SAMPLES_PER_FRAME, np.float32)
        samples = segment.network.take(SAMPLES_PER_FRAME)
        heard[: len(samples)] = samples / np.float32(32768)
        ended = segment.ended and not len(segment.ear) and len(segment.network) <= _ROUNDING
        self._begun = not ended
        if ended:
            self._waiting.popleft()
            self._ahead = 0
        return Spoken(sound, heard, segment.number, ended)

    def clear(self) -> None:
        """Forgets all that was pushed."""
        self._waiting.clear()
        self._begun = False
        self._ahead = 0
