"""Speech queued ahead of time in segments, and taken frame by frame: for listeners at a given rate, sample-exact, and
for the network at 16 kHz.

Pure: the caller of `take`, once per frame, determines the time. The caller of `push` must bound the queue.

Letters used in shapes: n, m samples, c channels.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from streamer.audio.speech_source import RATES, PcmConverter, Samples
from streamer.base.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_ROUNDING = SAMPLE_RATE // 500  # 2 ms: maximum difference of a segment's length at two rates


_CANCELLED = 0.1  # a mix with less than this share of the loudest channel's power has lost that channel


def to_mono(pcm: np.ndarray) -> np.ndarray:
    """Speech [n] or [n, c], int16 or floats of ±1, to [n] int16. Raises ValueError for anything else.

    Averages the channels, or takes the loudest if averaging would lose it (opposite phase, one voice among many
    channels). NaN and infinite values become silence.
    """
    pcm = np.asarray(pcm)
    if pcm.ndim not in (1, 2) or (pcm.dtype != np.int16 and pcm.dtype.kind != "f"):
        raise ValueError(f"speech of {pcm.dtype} and shape {pcm.shape}: must be int16 or float, [n] or [n, channels]")
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
    """[n] float32 of ±1 to [n] int16; lossless for samples that were int16."""
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
    """One frame of speech, or of silence if none is queued."""

    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    """[n] int16 for listeners: one frame long, plus the lead at a segment's start, and shorter at its end."""
    heard: np.ndarray = field(default_factory=lambda: np.zeros(SAMPLES_PER_FRAME, np.float32))
    """[640] float32 at 16 kHz: the same frame for the network."""
    segment: int | None = None
    ended: bool = False
    """Whether this is the segment's last frame."""


class Segments:
    """Queue of speech segments, cut into frames. Pure.

    A segment that underruns before its end pauses: its frames are silent until a whole frame is queued. Up to `lead`
    seconds of audio are returned ahead of their frame, for players that must not underrun.
    """

    def __init__(self, rate: int, lead: float = 0.0) -> None:
        if not RATES[0] <= rate <= RATES[1] or rate % FPS:
            raise ValueError(f"{rate} Hz: must be a multiple of {FPS} from {RATES[0]} to {RATES[1]} Hz")
        self.rate = rate
        self.starved = 0
        """Number of frames for which a started segment had underrun."""
        self.lead = lead
        self._ahead = 0
        """Samples of audio already returned ahead of their frame."""
        self._per_frame = rate // FPS
        self._waiting: deque[_Segment] = deque()
        self._begun = False
        self._next = 0

    @property
    def open(self) -> bool:
        """Whether a segment has been started and not ended by `end`."""
        return bool(self._waiting) and not self._waiting[-1].ended

    @property
    def buffered(self) -> float:
        """Seconds of speech queued; a segment not yet begun counts as at least one frame."""
        times = [segment.speech.count(_EAR) / self.rate for segment in self._waiting]
        return sum(max(time, 1 / FPS) for time in times[self._begun :]) + sum(times[: self._begun])

    def push(self, samples: np.ndarray, rate: int) -> int:
        """Adds [n] int16 at `rate` to the open segment, or begins one. Returns its number. Raises ValueError."""
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"speech at {rate} Hz: must be {RATES[0]} to {RATES[1]} Hz")
        if not self.open:
            self._waiting.append(_Segment(self._next, PcmConverter(rate, (self.rate, SAMPLE_RATE))))
            self._next += 1
        segment = self._waiting[-1]
        if rate != segment.speech.rate:
            raise ValueError(f"the open segment is at {segment.speech.rate} Hz, not {rate} Hz: end it first")
        segment.speech.push(samples)
        segment.speech.convert()
        return segment.number

    def end(self) -> int | None:
        """Ends the open segment. Returns its number, or None if none is open."""
        if not self.open:
            return None
        segment = self._waiting[-1]
        segment.speech.ended = True
        segment.speech.convert()
        return segment.number

    def take(self) -> Spoken:
        """Returns the next frame."""
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
        """Discards everything queued."""
        self._waiting.clear()
        self._begun = False
        self._ahead = 0
