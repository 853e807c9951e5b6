"""Formats of incoming speech, and the sources that convert a segment of it.

A source holds one segment. It converts only when a piece is taken, so a queued segment costs no more than its bytes.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.audio.opus import OpusDecoder, packet_duration
from streamer.audio.pcm import PcmDecoder
from streamer.base.constants import AUDIO_CLOCK, SAMPLE_RATE

Samples = NDArray[np.float32]

FORMATS = ("pcm16", "opus")
RATES = (8_000, 48_000)
"""Minimum and maximum rate (Hz) of PCM."""

UNIT = SAMPLE_RATE // 50
"""Samples of a packet encoded here: 20 ms."""

MAX_MESSAGE = 256 * 1024
"""Maximum bytes of a piece of speech."""

WIDE = AUDIO_CLOCK // SAMPLE_RATE
"""Ratio of the listeners' sample rate to the network's."""

SEAM = SAMPLE_RATE // 200
"""5 ms: duration of a fade-in, and of a fade-out where audio was cut off."""


class BadSpeech(ValueError):
    """Invalid speech or format, with a stable reason and a sentence with numbers."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class SpeechFormat:
    """`pcm16`: little-endian, mono, at `rate`. `opus`: one packet per piece, of any duration. Raises BadSpeech."""

    kind: str = "pcm16"
    rate: int = 24_000

    def __post_init__(self) -> None:
        if self.kind not in FORMATS:
            raise BadSpeech("unknown_format", f"format {self.kind!r:.60} is not one of {', '.join(FORMATS)}")
        whole = isinstance(self.rate, int) and not isinstance(self.rate, bool)
        if not whole or not RATES[0] <= self.rate <= RATES[1]:
            raise BadSpeech("bad_rate", f"rate {self.rate!r:.40} is not an integer from {RATES[0]} to {RATES[1]} Hz")


class _Fifo:
    """A queue of float32 samples, bounded by its user."""

    def __init__(self) -> None:
        self._parts: deque[Samples] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, samples: Samples) -> None:
        if len(samples):
            self._parts.append(samples)
            self._count += len(samples)

    def take(self, count: int) -> Samples:
        """Removes and returns up to `count` samples."""
        taken = [np.zeros(0, np.float32)]
        while count and self._parts:
            part = self._parts.popleft()
            if len(part) > count:
                self._parts.appendleft(part[count:])
                part = part[:count]
            taken.append(part)
            count -= len(part)
            self._count -= len(part)
        return np.concatenate(taken)


class _Resampler:
    """Resamples a mono float32 stream; lossless if both rates are equal."""

    def __init__(self, rate: int, wanted: int) -> None:
        import av  # imported late: it takes 0.1 s

        self._rate = rate
        self._frame = av.AudioFrame
        self._resampler = None if rate == wanted else av.AudioResampler("flt", "mono", wanted)

    def push(self, samples: Samples) -> Samples:
        """[n] -> the samples that are ready, [m]."""
        if self._resampler is None:
            return samples
        frame = self._frame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = self._rate
        return self._joined(self._resampler.resample(frame))

    def end(self) -> Samples:
        """Flushes the remaining samples. Call it after the last `push`."""
        return np.zeros(0, np.float32) if self._resampler is None else self._joined(self._resampler.resample(None))

    @staticmethod
    def _joined(frames: list[Any]) -> Samples:
        return np.concatenate([np.zeros(0, np.float32), *(frame.to_ndarray()[0] for frame in frames)])


class PcmConverter:
    """A segment of 16-bit mono PCM at one rate, converted to others."""

    def __init__(self, rate: int, rates: Sequence[int], grain: int = 0) -> None:
        """`grain`: samples per conversion, so that the result does not depend on how the input is split; 0: whatever
        is available."""
        self.rate = rate
        self.ended = False
        self._rates = rates
        self._grain = 2 * grain
        self._raw = bytearray()
        self._resamplers: list[
            _Resampler
        ] = []  # created at the first sample, because they cost more than a short segment
        self._ready = [_Fifo() for _ in rates]

    @property
    def pending(self) -> bool:
        """Whether there is something to convert or to take."""
        return bool(self._raw) or any(len(each) for each in self._ready)

    def push(self, samples: NDArray[np.int16]) -> None:
        """[n]"""
        self._raw += samples.astype("<i2", copy=False).tobytes()

    def convert(self, counts: Sequence[float] | None = None) -> list[int]:
        """Converts until `counts` samples are ready at each rate, or all (None). Returns how many are ready."""
        wanted = counts or [math.inf] * len(self._rates)
        while any(len(each) < count for each, count in zip(self._ready, wanted, strict=True)):
            if self._raw and (self.ended or len(self._raw) >= self._grain):
                size = self._grain or len(self._raw)
                samples = np.frombuffer(bytes(self._raw[:size]), "<i2").astype(np.float32) / np.float32(32768)
                del self._raw[:size]
                self._resamplers = self._resamplers or [_Resampler(self.rate, rate) for rate in self._rates]
                for ready, resampler in zip(self._ready, self._resamplers, strict=True):
                    ready.put(resampler.push(samples))
            elif self.ended and self._resamplers:
                for ready, resampler in zip(self._ready, self._resamplers, strict=True):
                    ready.put(resampler.end())
                self._resamplers = []
            else:
                break
        return [len(each) for each in self._ready]

    def count(self, index: int) -> int:
        """Samples ready at a rate."""
        return len(self._ready[index])

    def take(self, index: int, count: int) -> Samples:
        """The first `count` samples at a rate, or as many as are ready."""
        return self._ready[index].take(count)


@dataclass(slots=True)
class Piece:
    """One piece of a segment: the same audio for the network and for listeners."""

    samples: Samples  # [n] at 16 kHz
    sound: Samples | bytes  # [3 n] at 48 kHz, or the original Opus packet
    own: int  # how many of the n samples belong to the segment; the rest is padding


class PcmSource:
    """A segment of PCM at one rate, taken in pieces of 20 ms. `seconds`: speech queued in it."""

    def __init__(self, rate: int) -> None:
        self.seconds = 0.0
        self._rate = rate
        self._decoder = PcmDecoder()
        self._converter = PcmConverter(rate, (SAMPLE_RATE, AUDIO_CLOCK), rate // 50)

    @property
    def ended(self) -> bool:
        return self._converter.ended

    @ended.setter
    def ended(self, ended: bool) -> None:
        self._converter.ended = ended

    @property
    def loose(self) -> int:
        """Bytes of an incomplete sample."""
        return self._decoder.loose

    def push(self, data: bytes) -> float:
        """Adds a piece. Returns its duration in seconds."""
        samples = self._decoder.push(data)[:, 0]
        self._converter.push(samples)
        seconds = len(samples) / self._rate
        self.seconds += seconds
        return seconds

    def take(self) -> Piece | None:
        """Returns the next piece if it is complete or the segment has ended, else None."""
        wanted = UNIT, UNIT * WIDE
        have = self._converter.convert(wanted)
        if min(have[0] - wanted[0], have[1] - wanted[1]) < 0:
            # The resamplers may return nothing for a few samples, which still occupy a piece of the timeline.
            if not self.ended or not (max(have) or self.seconds):
                return None
        samples, sound = (filled(self._converter.take(i, count), count) for i, count in enumerate(wanted))
        own = min(have[0] if max(have) else round(self.seconds * SAMPLE_RATE), UNIT)
        self.seconds = max(self.seconds - own / SAMPLE_RATE, 0.0)
        if self.ended and not self._converter.pending:
            self.seconds = 0.0
        return Piece(samples, sound, own)


class OpusSource:
    """A segment of Opus packets, which are forwarded to listeners unchanged."""

    loose = 0
    """Bytes of an incomplete sample: always 0 for packets."""

    def __init__(self, decoder: OpusDecoder) -> None:
        self.seconds = 0.0
        self.ended = False
        self._packets: deque[bytes] = deque()
        self._decoder = decoder

    def push(self, data: bytes) -> float:
        self._packets.append(data)
        seconds = (packet_duration(data, SAMPLE_RATE) or 0) / SAMPLE_RATE
        self.seconds += seconds
        return seconds

    def take(self) -> Piece | None:
        if not self._packets:
            return None
        payload = self._packets.popleft()
        count = packet_duration(payload, SAMPLE_RATE) or 0
        samples = self._decoder.decode(payload)
        self.seconds = self.seconds - count / SAMPLE_RATE if self._packets else 0.0
        return Piece(fitted(samples, count), payload, count)


def check_piece(data: bytes, form: SpeechFormat) -> float:
    """Approximate duration of a piece in seconds. Raises BadSpeech if it is invalid."""
    if len(data) > MAX_MESSAGE:
        raise BadSpeech("too_large", f"{len(data)} bytes in one piece: the maximum is {MAX_MESSAGE}")
    if form.kind == "pcm16":
        return len(data) / 2 / form.rate
    duration = packet_duration(data, SAMPLE_RATE)
    if duration is None:
        raise BadSpeech("bad_packet", f"{len(data)} bytes that are not a valid Opus packet")
    return duration / SAMPLE_RATE


def filled(samples: Samples, count: int) -> Samples:
    """Pads to [count], fading out from the last sample within 5 ms."""
    if len(samples) == count:
        return samples.copy()
    out = np.zeros(count, np.float32)
    out[: len(samples)] = samples
    if len(samples):
        fall = 1 - rise(SEAM * count // UNIT)
        tail = out[len(samples) :][: len(fall)]
        tail += samples[-1] * fall[: len(tail)]
    return out


def fitted(samples: Samples | None, count: int) -> Samples:
    """Pads or cuts to [count]; zeros if the packet could not be decoded."""
    out = np.zeros(count, np.float32)
    if samples is not None:
        out[: min(count, len(samples))] = samples[:count]
    return out


def rise(count: int) -> Samples:
    """[count] fade-in gains from nearly 0 to 1."""
    risen: Samples = np.sin(np.linspace(0, np.pi / 2, count + 1, dtype=np.float32)[1:]) ** 2
    return risen


def seam(samples: Samples, before: float, scale: int) -> Samples:
    """Cross-fades from the constant `before`, the previous last sample. `scale`: sample rate relative to 16 kHz."""
    risen = rise(SEAM * scale)[: len(samples)]
    out = samples.copy()
    out[: len(risen)] = out[: len(risen)] * risen + before * (1 - risen)
    return out
