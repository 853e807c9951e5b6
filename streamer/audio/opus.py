"""Opus packets to 16 kHz mono speech, with the codec's own loss concealment and forward error correction.

FFmpeg's decoders offer neither, so libopus is called directly. The PyAV wheel contains it on every platform; otherwise
a system libopus is used. Without either, PyAV decodes, lost packets are filled by repeating the last pitch period, and
a warning is logged.
"""

import ctypes
import ctypes.util
import importlib
import logging
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.base.constants import SAMPLE_RATE

logger = logging.getLogger(__name__)

Samples = NDArray[np.float32]

MAX_SAMPLES = SAMPLE_RATE * 120 // 1000
"""The longest packet: 120 ms."""

FRAME = SAMPLE_RATE * 25 // 10_000
"""The shortest frame, 2.5 ms: the codec conceals multiples of it."""

FADE_START, FADE_END = SAMPLE_RATE * 60 // 1000, SAMPLE_RATE * 100 // 1000
"""Extrapolated audio keeps its level for 60 ms and is silent after 100 ms: a held vowel is worse than a pause."""

FADE_IN = SAMPLE_RATE * 5 // 1000
"""After silence, audio fades in over 5 ms to avoid a click."""

_PLC_END = SAMPLE_RATE * 200 // 1000  # beyond this the output is silent, so the decoder is not called

_APPLICATION_VOIP = 2048
_SET_BITRATE, _SET_COMPLEXITY, _SET_FEC, _SET_LOSS, _SET_DTX = 4002, 4010, 4012, 4014, 4016


class OpusError(RuntimeError):
    """libopus could not create or run a codec; the message has its reason."""


def packet_duration(payload: bytes, rate: int = 48_000) -> int | None:
    """Samples at `rate` that a packet holds, by its first byte or two (RFC 6716, section 3.1); None if malformed."""
    if not payload:
        return None
    toc = payload[0]
    config = toc >> 3
    if config < 12:  # SILK
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:  # hybrid
        frame = (480, 960)[config & 1]
    else:  # CELT
        frame = 120 << (config & 3)
    code = toc & 3
    if code == 3:
        if len(payload) < 2:
            return None
        count = payload[1] & 0x3F
    else:
        count = 1 if code == 0 else 2
    total = frame * count
    if not 0 < total <= 5760:
        return None
    return total * rate // 48_000


def _library_paths() -> list[str]:
    """Candidate paths of libopus, best first."""
    paths: list[str] = []
    try:
        # Loading PyAV first also loads what its copy of libopus needs.
        packages = Path(importlib.import_module("av").__file__ or "").parent.parent
    except ImportError:
        pass
    else:
        for folder, pattern in (
            ("av.libs", "libopus[-.]*"),  # Linux
            ("av/.dylibs", "libopus[-.]*"),  # macOS
            ("av.libs", "*opus*.dll"),  # Windows
        ):
            paths += (str(path) for path in sorted(packages.joinpath(folder).glob(pattern)))
    system = ctypes.util.find_library("opus") if not paths else None
    return paths + ([system] if system else [])


@lru_cache(maxsize=1)
def libopus() -> ctypes.CDLL | None:
    """The library with its signatures declared, or None if it is not found."""
    for path in _library_paths():
        try:
            library = ctypes.CDLL(path)
            _declare(library)
        except (OSError, AttributeError) as error:
            logger.debug("libopus at %s is unusable: %s", path, error)
            continue
        logger.debug("%s from %s", library.opus_get_version_string().decode(), path)
        return library
    return None


def _declare(library: ctypes.CDLL) -> None:
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    floats, result = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int)
    int32, data = ctypes.c_int32, ctypes.c_char_p
    for name, returns, arguments in (
        ("opus_get_version_string", ctypes.c_char_p, []),
        ("opus_strerror", ctypes.c_char_p, [integer]),
        ("opus_decoder_create", pointer, [int32, integer, result]),
        ("opus_decoder_destroy", None, [pointer]),
        ("opus_decode_float", integer, [pointer, data, int32, floats, integer, integer]),
        ("opus_encoder_create", pointer, [int32, integer, integer, result]),
        ("opus_encoder_destroy", None, [pointer]),
        ("opus_encode_float", int32, [pointer, floats, integer, pointer, int32]),
        # Variadic: only the fixed arguments are declared, which Apple's ARM calling convention needs.
        ("opus_encoder_ctl", integer, [pointer, integer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = returns, arguments
    if hasattr(library, "opus_packet_has_lbrr"):  # libopus 1.5 and later
        library.opus_packet_has_lbrr.restype = integer
        library.opus_packet_has_lbrr.argtypes = [data, int32]


def _check(library: ctypes.CDLL, code: int, what: str) -> None:
    if code < 0:
        raise OpusError(f"libopus cannot {what}: {library.opus_strerror(code).decode()} ({code})")


class _Codec(Protocol):
    """A decoder with loss concealment."""

    def decode(self, payload: bytes) -> Samples | None:
        """[n] of one packet, or None if it is malformed."""

    def recover(self, following: bytes, count: int) -> Samples | None:
        """[count] lost samples from the packet after them, or None if it does not carry them."""

    def extrapolate(self, count: int) -> Samples:
        """[count] plausible samples after the last ones; `count` is a multiple of FRAME, at most MAX_SAMPLES."""


class _LibopusCodec:
    """libopus' decoder: its own concealment, and FEC (LBRR) where the sender adds it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        code = ctypes.c_int()
        self._state = library.opus_decoder_create(SAMPLE_RATE, 1, ctypes.byref(code))
        _check(library, code.value, "make a decoder")
        weakref.finalize(self, library.opus_decoder_destroy, self._state)
        self._buffer = np.zeros(MAX_SAMPLES, np.float32)
        self._pointer = self._buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self._tells_fec = hasattr(library, "opus_packet_has_lbrr")

    def _run(self, payload: bytes | None, count: int, fec: int) -> Samples | None:
        size = len(payload) if payload else 0
        got = self._library.opus_decode_float(self._state, payload, size, self._pointer, count, fec)
        return self._buffer[:got].copy() if got > 0 else None

    def decode(self, payload: bytes) -> Samples | None:
        return self._run(payload, MAX_SAMPLES, 0)

    def recover(self, following: bytes, count: int) -> Samples | None:
        if self._tells_fec and self._library.opus_packet_has_lbrr(following, len(following)) == 1:
            return self._run(following, count, 1)
        return None

    def extrapolate(self, count: int) -> Samples:
        samples = self._run(None, count, 0)
        return samples if samples is not None else np.zeros(count, np.float32)


class _PyavCodec:
    """FFmpeg's decoder, for where libopus cannot be reached: no FEC; losses repeat the last pitch period."""

    _TAPS = 63

    def __init__(self) -> None:
        import av

        self._av = av
        self._decoder: Any = av.CodecContext.create("opus", "r")
        self._decoder.sample_rate = 48_000
        self._decoder.layout = "mono"
        reach = np.arange(self._TAPS) - self._TAPS // 2
        # Passes 7.2 kHz; then every third sample suffices.
        low_pass = np.sinc(reach * 14_400 / 48_000) * np.hamming(self._TAPS)
        self._low_pass = low_pass / low_pass.sum()
        self._tail = np.zeros(self._TAPS - 1)  # of the 48 kHz input
        self._history = np.zeros(SAMPLE_RATE * 60 // 1000, np.float32)

    def decode(self, payload: bytes) -> Samples | None:
        count = packet_duration(payload, SAMPLE_RATE)
        if count is None:
            return None
        try:
            frames = self._decoder.decode(self._av.Packet(payload))
        except (self._av.FFmpegError, ValueError):
            return None
        wide = np.zeros(3 * count)
        at = 0
        for frame in frames:
            sound = frame.to_ndarray()
            if not frame.format.is_planar:
                sound = sound.reshape(-1, frame.layout.nb_channels).T
            part = sound.mean(axis=0)[: len(wide) - at]
            wide[at : at + len(part)] = part if sound.dtype.kind == "f" else part / 32768
            at += len(part)
        joined = np.concatenate([self._tail, wide])
        self._tail = joined[-(self._TAPS - 1) :]
        return self._remember(np.convolve(joined, self._low_pass, "valid")[::3].astype(np.float32))

    def recover(self, following: bytes, count: int) -> Samples | None:
        return None

    def extrapolate(self, count: int) -> Samples:
        return self._remember(repeat_pitch(self._history, count))

    def _remember(self, samples: Samples) -> Samples:
        self._history = np.concatenate([self._history, samples])[-len(self._history) :]
        return samples


def repeat_pitch(history: Samples, count: int) -> Samples:
    """[count] samples that go on after `history` [n], n at least 30 ms, by repeating its last pitch period."""
    shortest, longest, window = SAMPLE_RATE // 400, SAMPLE_RATE * 15 // 1000, SAMPLE_RATE * 10 // 1000
    recent = history[-window:].astype(np.float64)
    best, period = -np.inf, shortest
    for lag in range(shortest, longest + 1):
        before = history[-window - lag : -lag].astype(np.float64)
        likeness = float(recent @ before) / (float(np.sqrt((before @ before) * (recent @ recent))) + 1e-9)
        if likeness > best + 1e-3:  # of equals the shortest
            best, period = likeness, lag
    cycle = history[-period:].copy()
    # The period's end leads into its own beginning over a quarter of it, or each repetition would click;
    blend = max(1, period // 4)
    weight = np.linspace(0, 1, blend, dtype=np.float32)
    cycle[-blend:] = cycle[-blend:] * (1 - weight) + history[-period - blend : -period] * weight
    repeated: Samples = np.resize(cycle, count)
    # and the first one begins where the history ended.
    blend = min(blend, count)
    repeated[:blend] += (history[-1] - history[-period - 1]) * np.linspace(1, 0, blend, dtype=np.float32)
    return repeated


class OpusDecoder:
    """One stream's decoder. Give it each packet or gap once, in order.

    `malformed` counts packets that could not be decoded, `recovered` samples that FEC brought back.
    """

    def __init__(self) -> None:
        library = libopus()
        if library is None:
            logger.warning(
                "libopus was not found: losses are filled by repeating the last pitch period, and FEC is not used"
            )
        self._codec: _Codec = _LibopusCodec(library) if library is not None else _PyavCodec()
        self._extrapolated = 0  # samples since the last real one
        self.malformed = 0
        self.recovered = 0

    def decode(self, payload: bytes) -> Samples | None:
        """[n] float32 at 16 kHz of one packet of any duration, mono or stereo; None (and counted) if malformed."""
        samples = self._codec.decode(payload)
        if samples is None:
            self.malformed += 1
            return None
        return self._real(samples)

    def conceal(self, count: int, following: bytes | None = None) -> tuple[Samples, bool]:
        """[count] float32 in place of a lost packet, and whether FEC in the packet after it brought them back.

        Otherwise the codec extrapolates, and fades to silence from 60 to 100 ms. `count` must be a multiple of FRAME.
        """
        if count % FRAME or not 0 < count <= MAX_SAMPLES:
            raise ValueError(f"can conceal multiples of {FRAME} samples up to {MAX_SAMPLES}, not {count}")
        if following is not None:
            recovered = self._codec.recover(following, count)
            if recovered is not None and len(recovered) == count:
                self.recovered += count
                return self._real(recovered), True
        since, self._extrapolated = self._extrapolated, self._extrapolated + count
        if since >= _PLC_END:
            return np.zeros(count, np.float32), False
        return np.clip(self._codec.extrapolate(count), -1, 1) * _fade(since, count), False

    def _real(self, samples: Samples) -> Samples:
        """Brings real sound up from the level that the extrapolated one had faded to."""
        samples = np.clip(samples, -1, 1)
        if self._extrapolated > FADE_START:
            level = float(_fade(self._extrapolated, 1)[0])
            length = min(FADE_IN, len(samples))
            samples[:length] *= np.linspace(level, 1, length, dtype=np.float32)
        self._extrapolated = 0
        return samples


def _fade(since: int, count: int) -> Samples:
    """[count] the gain of extrapolated samples, the first of which is the `since`-th in a row."""
    position = np.arange(since, since + count, dtype=np.float32)
    gain: Samples = np.clip((FADE_END - position) / (FADE_END - FADE_START), 0, 1, dtype=np.float32)
    return gain


class OpusEncoder:
    """Speech to Opus packets of 20 ms ("voip": tuned for voice), with FEC for a path that loses `loss` per cent."""

    def __init__(
        self, rate: int = 48_000, *, channels: int = 1, bitrate: int = 32_000, loss: int = 10, dtx: bool = False
    ) -> None:
        library = libopus()
        if library is None:
            raise OpusError("libopus was found neither in the PyAV wheel nor on the system")
        self._library = library
        self.frame = rate // 50
        self.channels = channels
        code = ctypes.c_int()
        self._state = library.opus_encoder_create(rate, channels, _APPLICATION_VOIP, ctypes.byref(code))
        _check(library, code.value, f"make an encoder at {rate} Hz with {channels} channels")
        weakref.finalize(self, library.opus_encoder_destroy, self._state)
        for request, value in (
            (_SET_BITRATE, bitrate),
            (_SET_COMPLEXITY, 5),
            (_SET_FEC, int(loss > 0)),
            (_SET_LOSS, loss),
            (_SET_DTX, int(dtx)),
        ):
            code.value = library.opus_encoder_ctl(self._state, request, ctypes.c_int(value))
            _check(library, code.value, f"set {request} to {value}")
        self._packet = ctypes.create_string_buffer(1500)

    def encode(self, samples: Samples) -> bytes:
        """One packet from 10, 20, 40 or 60 ms of sound: [n] float32, or [n, channels] interleaved."""
        sound = np.ascontiguousarray(samples, np.float32)
        pointer = sound.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        count = sound.size // self.channels
        size = self._library.opus_encode_float(self._state, pointer, count, self._packet, len(self._packet))
        _check(self._library, size, f"encode {count} samples")
        return self._packet.raw[:size]
