"""Conversions of samples: PCM bytes, integers and floats in any number of channels, to float32 mono. Pure."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lipstream_client.errors import BadSpeech

Samples = npt.NDArray[np.float32]

MAX_CHANNELS = 64
_CANCELLED = 0.1  # power of the mix below this share of the loudest channel's: the channels cancel, or one is drowned
_RESTORED = 0.2
_LOUDER = 4.0  # power by which another channel must exceed the chosen one to replace it
_MEMORY = 48_000  # samples after which older power counts half


class PcmDecoder:
    """PCM16 little-endian mono, cut anywhere into pieces, to float32. Half a sample waits for its other half."""

    def __init__(self) -> None:
        self.pending = b""
        """The first byte of an incomplete sample, or nothing."""

    def __call__(self, data: bytes) -> Samples:
        whole, self.pending = whole_samples(self.pending + data)
        return np.frombuffer(whole, "<i2").astype(np.float32) / np.float32(32768)


def whole_samples(data: bytes) -> tuple[bytes, bytes]:
    """PCM16 bytes, split into whole samples and what is left of an incomplete one (0 or 1 byte)."""
    end = len(data) // 2 * 2
    return data[:end], data[end:]


def to_pcm(samples: Samples) -> bytes:
    """[n] float32, clipped to ±1, to PCM16 little-endian."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


class Downmix:
    """[n, C] blocks of one recording to [n]: the mean of the channels.

    Where the mean is much quieter than the loudest channel, because channels of opposite phase cancel or because one
    of many carries the voice, that channel is used instead. The decision follows the power of the last second.
    """

    def __init__(self) -> None:
        self._powers = np.zeros(0)  # [C]
        self._mixed = 0.0
        self._channel: int | None = None

    def __call__(self, block: Samples) -> Samples:
        channels = block.shape[1]
        if channels == 1:
            return block[:, 0]
        if len(self._powers) != channels:
            self._powers, self._mixed, self._channel = np.zeros(channels), 0.0, None
        mix: Samples = block.mean(axis=1, dtype=np.float64).astype(np.float32)
        decay = 0.5 ** (len(block) / _MEMORY)
        self._powers = self._powers * decay + (block.astype(np.float64) ** 2).sum(axis=0)
        self._mixed = self._mixed * decay + float((mix.astype(np.float64) ** 2).sum())
        loudest = int(self._powers.argmax())
        threshold = _CANCELLED if self._channel is None else _RESTORED
        if self._mixed >= threshold * self._powers[loudest]:
            self._channel = None
        elif self._channel is None or self._powers[loudest] > _LOUDER * self._powers[self._channel]:
            self._channel = loudest
        return mix if self._channel is None else block[:, self._channel]


def to_float(samples: npt.ArrayLike) -> Samples:
    """[n] or [n, C], signed integers or floats, to [n, C] float32, integers scaled to ±1. Raises BadSpeech."""
    given: npt.NDArray[Any] = np.asarray(samples)
    if given.ndim not in (1, 2):
        raise BadSpeech(f"speech of shape {given.shape}: want [n] or [n, channels]")
    if given.ndim == 2 and not 1 <= given.shape[1] <= MAX_CHANNELS:
        hint = "; is it [channels, n]?" if given.shape[0] <= MAX_CHANNELS < given.shape[1] else ""
        raise BadSpeech(f"speech of shape {given.shape}: {given.shape[1]} channels, want 1 to {MAX_CHANNELS}{hint}")
    if given.dtype.kind == "i":
        given = given / -float(np.iinfo(given.dtype).min)
    elif given.dtype.kind != "f":
        raise BadSpeech(f"speech of type {given.dtype}: want signed integers or floats")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        floats = given.astype(np.float32).reshape(len(given), -1 if given.ndim == 2 and len(given) else 1)
    finite: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(floats), axis=1)
    if not finite.all():
        count, first = len(finite) - int(finite.sum()), int(finite.argmin())
        raise BadSpeech(f"speech with NaN or infinite values in {count} of {len(finite)} samples, first in {first}")
    return floats


def to_mono(samples: npt.ArrayLike, downmix: Downmix | None = None) -> Samples:
    """[n] or [n, channels], signed integers or floats, to [n] float32. Raises BadSpeech.

    `downmix` carries the choice of channels from block to block of one recording.
    """
    return (downmix or Downmix())(to_float(samples))
