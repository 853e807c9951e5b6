"""Recordings in any format that PyAV reads, as blocks of 48 kHz mono float32. Blocking."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
import numpy.typing as npt

from lipstream_client.errors import BadSpeech
from lipstream_client.samples import Downmix, Samples, to_mono

RATE = 48_000
"""Hz of all audio that the client sends and receives; Opus' own rate."""

_GAP = 0.100  # seconds between timestamps that are a gap, not jitter
_LONGEST_GAP = 600.0
_DAMAGED_PACKETS = 50  # skipped before a file is given up


class Resampler:
    """Mono float32 at any rate to 48 kHz, block by block."""

    def __init__(self, rate: int) -> None:
        if not 4_000 <= rate <= 384_000:
            raise BadSpeech(f"speech at {rate} Hz: want 4000 to 384000")
        self.rate = rate
        self._resampler = av.AudioResampler("flt", "mono", RATE)

    def __call__(self, samples: Samples | None) -> Samples:
        """[n] at the source's rate to [m] at 48 kHz; None flushes."""
        if self.rate == RATE:
            return np.zeros(0, np.float32) if samples is None else samples
        frame = None
        if samples is not None:
            if not len(samples):
                return samples
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
            frame.sample_rate = self.rate
        blocks = [resampled.to_ndarray()[0] for resampled in self._resampler.resample(frame)]
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def channels_of(frame: av.AudioFrame) -> npt.NDArray[Any]:
    """A decoded frame's samples, [n, C] signed integers or floats, whatever its format and channel layout."""
    samples: npt.NDArray[Any] = frame.to_ndarray()
    # Packed formats come as one row. PyAV's resampler is not used for this: it refuses layouts without channel names.
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    if samples.dtype.kind == "u":  # 8 bits, unsigned
        return (samples.astype(np.int16) - 128).astype(np.int8)
    return samples


def read_file(path: Path) -> Generator[Samples, None, None]:
    """A recording's first audio stream as [n] float32 blocks. Gaps between its timestamps become silence.

    Its rate and its channels may change on the way. Raises BadSpeech.
    """
    if not path.is_file():
        raise BadSpeech(f"{path} is not a file")
    try:
        # With "file:", a colon in the name does not make its beginning a protocol.
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            if not container.streams.audio:
                raise BadSpeech("it contains no audio")
            yield from _blocks(container, container.streams.audio[0])
    except BadSpeech as error:
        raise BadSpeech(f"{path} could not be read: {error}") from None
    except (av.FFmpegError, ValueError) as error:
        raise BadSpeech(f"{path} could not be read: {getattr(error, 'strerror', None) or error}") from None


def _blocks(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[Samples]:
    downmix = Downmix()
    resample: Resampler | None = None
    end: float | None = None  # where the last frame ended, seconds of the stream's clock
    read = 0
    for frame in _decoded(container, stream):
        if resample is None or resample.rate != frame.sample_rate:
            if resample is not None:
                yield resample(None)
            resample = Resampler(frame.sample_rate)
        if frame.time is not None:
            gap = frame.time - end if end is not None else 0.0
            if gap > _LONGEST_GAP:
                raise BadSpeech(f"its timestamps leap by {gap:.0f} s at {end:.1f} s, at most {_LONGEST_GAP:.0f}")
            if gap > _GAP:
                yield from _silence(resample, round(gap * frame.sample_rate))
            end = frame.time + frame.samples / frame.sample_rate
        read += frame.samples
        yield resample(to_mono(channels_of(frame), downmix))
    if resample is None or read == 0:
        raise BadSpeech("it contains 0 samples of audio")
    yield resample(None)


def _silence(resample: Resampler, samples: int) -> Iterator[Samples]:
    """At the source's rate, in blocks of at most a second."""
    for start in range(0, samples, resample.rate):
        yield resample(np.zeros(min(resample.rate, samples - start), np.float32))


def _decoded(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """Decoded frames; damaged packets are skipped, up to a bound."""
    damaged = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            damaged += 1
            if damaged > _DAMAGED_PACKETS:
                raise
            continue
        for frame in frames:
            assert isinstance(frame, av.AudioFrame)
            yield frame
