"""Speech pushed ahead of time, in segments, that is said frame by frame: for the ear at one rate, exact, and for the
network at 16 kHz.

Nothing here knows what time it is: who calls `take` once a frame's time decides. Bounded by who pushes.

Letters used in shapes: n, m samples, c channels.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from streamer.audio.speech_source import RATES, PcmConverter, Samples
from streamer.base.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_ROUNDING = SAMPLE_RATE // 500  # 2 ms by which two rates may disagree about a segment's length


_CANCELLED = 0.1  # power of the mix below this share of the loudest channel's: channels cancel, or one drowns


def to_mono(pcm: np.ndarray) -> np.ndarray:
    """Speech [n] or [n, c], int16 or floats of ±1, to [n] int16. Raises ValueError for anything else.

    Channels are averaged; where that loses what one of them holds (opposite phase, one voice among many channels), the
    loudest is taken. Floats that are no number count as silence.
    """
    pcm = np.asarray(pcm)
    if pcm.ndim not in (1, 2) or (pcm.dtype != np.int16 and pcm.dtype.kind != "f"):
        raise ValueError(f"speech of {pcm.dtype} and shape {pcm.shape}: want int16 or floats, [n] or [n, channels]")
    if pcm.ndim == 1 and pcm.dtype == np.int16:
        return pcm
    if pcm.ndim == 2 and not pcm.shape[1]:
        raise ValueError(f"speech of shape {pcm.shape}: it has no channel")
    if pcm.dtype == np.int16:
        sound = pcm.astype(np.float32)
    else:
        sound = np.where(np.isfinite(pcm), np.clip(pcm, -2, 2), 0).astype(np.float32) * 32767
    if sound.ndim == 2:
        mix: np.ndarray = sound.mean(axis=1)
        if len(sound) and sound.shape[1] > 1:
            powers = np.mean(np.square(sound, dtype=np.float64), axis=0)
            if np.mean(np.square(mix, dtype=np.float64)) < _CANCELLED * powers.max():
                mix = sound[:, int(powers.argmax())]
        sound = mix
    rounded: np.ndarray = np.rint(np.clip(sound, -32768, 32767)).astype(np.int16)
    return rounded


def _to_int16(samples: Samples) -> np.ndarray:
    """[n] float32 of ±1 to [n] int16; exact for what came from int16."""
    rounded: np.ndarray = np.rint(np.clip(samples * 32768, -32768, 32767)).astype(np.int16)
    return rounded


_EAR, _NETWORK = 0, 1  # indices of a segment's rates


@dataclass
class _Segment:
    number: int
    speech: PcmConverter

    @property
    def ended(self) -> bool:
        return self.speech.ended


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
        if not RATES[0] <= rate <= RATES[1] or rate % FPS:
            raise ValueError(f"{rate} Hz: want {RATES[0]} to {RATES[1]} Hz, a multiple of {FPS}")
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
        """Seconds of speech that wait: what saying them takes, at least a frame's time for each segment not begun."""
        times = [segment.speech.count(_EAR) / self.rate for segment in self._waiting]
        return sum(max(time, 1 / FPS) for time in times[self._begun :]) + sum(times[: self._begun])

    def push(self, samples: np.ndarray, rate: int) -> int:
        """Adds [n] int16 at `rate` to the open segment, or begins one. Returns its number. Raises ValueError."""
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"speech at {rate} Hz: want {RATES[0]} to {RATES[1]} Hz")
        if not self.open:
            self._waiting.append(_Segment(self._next, PcmConverter(rate, (self.rate, SAMPLE_RATE))))
            self._next += 1
        segment = self._waiting[-1]
        if rate != segment.speech.rate:
            raise ValueError(f"a segment of {segment.speech.rate} Hz goes on with {rate} Hz: end it first")
        segment.speech.push(samples)
        segment.speech.convert()
        return segment.number

    def end(self) -> int | None:
        """Ends the open segment. Returns its number, None where none is open."""
        if not self.open:
            return None
        segment = self._waiting[-1]
        segment.speech.ended = True
        segment.speech.convert()
        return segment.number

    def take(self) -> Spoken:
        """The next frame's time."""
        segment = self._waiting[0] if self._waiting else None
        if segment is None:
            return Spoken()
        speech = segment.speech
        whole = self._ahead + speech.count(_EAR) >= self._per_frame and speech.count(_NETWORK) >= SAMPLES_PER_FRAME
        if not whole and not segment.ended:
            self.starved += self._begun
            self._ahead = 0
            return Spoken()
        sound = _to_int16(speech.take(_EAR, max(self._per_frame + round(self.lead * self.rate) - self._ahead, 0)))
        self._ahead = max(self._ahead + len(sound) - self._per_frame, 0)
        heard = np.zeros(SAMPLES_PER_FRAME, np.float32)
        samples = speech.take(_NETWORK, SAMPLES_PER_FRAME)
        heard[: len(samples)] = samples
        ended = segment.ended and not speech.count(_EAR) and speech.count(_NETWORK) <= _ROUNDING
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
