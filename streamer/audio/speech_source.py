"""Speech as it is sent, in any pieces: formats, and the sources that convert a segment of it.

A source holds one segment. It converts late, when a piece is asked for, so a segment that waits costs its bytes alone.
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
"""Least and greatest rate (Hz) of PCM."""

UNIT = SAMPLE_RATE // 50
"""Samples of a packet that is coded here: 20 ms."""

MAX_MESSAGE = 256 * 1024
"""Bytes of speech in one piece."""

WIDE = AUDIO_CLOCK // SAMPLE_RATE
"""Samples for the ear to one for the network."""

SEAM = SAMPLE_RATE // 200
"""5 ms: how long sound takes to come up, and to go where it was cut off."""


class BadSpeech(ValueError):
    """Speech, or a format, that cannot be used: a stable reason and a sentence with numbers."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class SpeechFormat:
    """`pcm16`: little-endian, mono, at `rate`. `opus`: one packet a piece, of any duration. Raises BadSpeech."""

    kind: str = "pcm16"
    rate: int = 24_000

    def __post_init__(self) -> None:
        if self.kind not in FORMATS:
            raise BadSpeech("unknown_format", f"format {self.kind!r:.60} is none of {', '.join(FORMATS)}")
        whole = isinstance(self.rate, int) and not isinstance(self.rate, bool)
        if not whole or not RATES[0] <= self.rate <= RATES[1]:
            raise BadSpeech("bad_rate", f"rate {self.rate!r:.40} is no whole number from {RATES[0]} to {RATES[1]} Hz")


class _Fifo:
    """A queue of float32 samples. Bounded by who fills it."""

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
        """The first `count`, or as many as there are."""
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
    """One stream of mono float32 from one rate to another; exact where both are the same."""

    def __init__(self, rate: int, wanted: int) -> None:
        import av  # 0.1 s that only who speaks needs

        self._rate = rate
        self._frame = av.AudioFrame
        self._resampler = None if rate == wanted else av.AudioResampler("flt", "mono", wanted)

    def push(self, samples: Samples) -> Samples:
        """[n] -> what is ready, [m]."""
        if self._resampler is None:
            return samples
        frame = self._frame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = self._rate
        return self._joined(self._resampler.resample(frame))

    def end(self) -> Samples:
        """The rest. Call it after `push`."""
        return np.zeros(0, np.float32) if self._resampler is None else self._joined(self._resampler.resample(None))

    @staticmethod
    def _joined(frames: list[Any]) -> Samples:
        return np.concatenate([np.zeros(0, np.float32), *(frame.to_ndarray()[0] for frame in frames)])


class PcmConverter:
    """A segment of 16-bit mono PCM at one rate, converted to others."""

    def __init__(self, rate: int, rates: Sequence[int], grain: int = 0) -> None:
        """`grain`: samples that are converted at once, so that the result does not depend on how the input is cut; 0:
        whatever there is."""
        self.rate = rate
        self.ended = False
        self._rates = rates
        self._grain = 2 * grain
        self._raw = bytearray()
        self._resamplers: list[_Resampler] = []  # made for the first sample: they cost more than a short segment
        self._ready = [_Fifo() for _ in rates]

    @property
    def pending(self) -> bool:
        """Whether there is something to convert or to take."""
        return bool(self._raw) or any(len(each) for each in self._ready)

    def push(self, samples: NDArray[np.int16]) -> None:
        """[n]"""
        self._raw += samples.astype("<i2", copy=False).tobytes()

    def convert(self, counts: Sequence[float] | None = None) -> list[int]:
        """Converts until there are `counts` samples at each rate, or as many as can be. Returns how many are ready."""
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
        """Samples that are ready at a rate."""
        return len(self._ready[index])

    def take(self, index: int, count: int) -> Samples:
        """The first `count` samples at a rate, or as many as are ready."""
        return self._ready[index].take(count)


@dataclass(slots=True)
class Piece:
    """What a segment gives at once: the same stretch of sound for the network and for the ear."""

    samples: Samples  # [n] at 16 kHz
    sound: Samples | bytes  # [3 n] at 48 kHz, or a packet as it came
    own: int  # of the n samples, those that are the segment's; the others are padding


class PcmSource:
    """A segment of PCM at one rate, in pieces of 20 ms. `seconds` wait in it."""

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
        """Bytes that are no whole sample yet."""
        return self._decoder.loose

    def push(self, data: bytes) -> float:
        """Adds a piece. Returns the seconds that it adds."""
        samples = self._decoder.push(data)[:, 0]
        self._converter.push(samples)
        seconds = len(samples) / self._rate
        self.seconds += seconds
        return seconds

    def take(self) -> Piece | None:
        """The next piece, as soon as it is whole or the segment has ended."""
        wanted = UNIT, UNIT * WIDE
        have = self._converter.convert(wanted)
        if min(have[0] - wanted[0], have[1] - wanted[1]) < 0:
            # Of a few samples the resamplers may give none: these still take their piece of the line.
            if not self.ended or not (max(have) or self.seconds):
                return None
        samples, sound = (filled(self._converter.take(i, count), count) for i, count in enumerate(wanted))
        own = min(have[0] if max(have) else round(self.seconds * SAMPLE_RATE), UNIT)
        self.seconds = max(self.seconds - own / SAMPLE_RATE, 0.0)
        if self.ended and not self._converter.pending:
            self.seconds = 0.0
        return Piece(samples, sound, own)


class OpusSource:
    """A segment of Opus packets, which go to the ear as they came."""

    loose = 0
    """Bytes that are no whole sample yet: packets have none."""

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
    """About how long a piece lasts (seconds). Raises BadSpeech for one that cannot be taken."""
    if len(data) > MAX_MESSAGE:
        raise BadSpeech("too_large", f"{len(data)} bytes in one piece: at most {MAX_MESSAGE}")
    if form.kind == "pcm16":
        return len(data) / 2 / form.rate
    duration = packet_duration(data, SAMPLE_RATE)
    if duration is None:
        raise BadSpeech("bad_packet", f"{len(data)} bytes that are no Opus packet")
    return duration / SAMPLE_RATE


def filled(samples: Samples, count: int) -> Samples:
    """[count]: the samples, and after them the last one's value, gone within 5 ms."""
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
    """[count], with zeros where a packet could not be decoded."""
    out = np.zeros(count, np.float32)
    if samples is not None:
        out[: min(count, len(samples))] = samples[:count]
    return out


def rise(count: int) -> Samples:
    """[count] from nearly 0 to 1."""
    risen: Samples = np.sin(np.linspace(0, np.pi / 2, count + 1, dtype=np.float32)[1:]) ** 2
    return risen


def seam(samples: Samples, before: float, scale: int) -> Samples:
    """The samples, coming up from the value `before` of what stopped there. `scale`: samples to one at 16 kHz."""
    risen = rise(SEAM * scale)[: len(samples)]
    out = samples.copy()
    out[: len(risen)] = out[: len(risen)] * risen + before * (1 - risen)
    return out
