"""Where speech comes from, and its cutting into packets at real time."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np

from lipstream_client.errors import BadSpeech
from lipstream_client.newest import Newest

RATE = 48_000
"""Hz of everything in here; Opus' own."""

Source = str | Path | np.ndarray | AsyncIterator[np.ndarray]

_AHEAD = RATE  # samples read ahead of what is sent


def to_mono(samples: np.ndarray) -> np.ndarray:
    """[n] or [n, channels], integers or floats, to [n] float32 within ±1. Raises BadSpeech."""
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2):
        raise BadSpeech(f"speech of shape {samples.shape}: want [n] or [n, channels]")
    if samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    elif samples.dtype.kind != "f":
        raise BadSpeech(f"speech of type {samples.dtype}: want signed integers or floats")
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    if not np.isfinite(mono).all():
        raise BadSpeech("speech with infinite or undefined samples")
    return mono.astype(np.float32)


class _Resampler:
    """Mono float32 at any rate to 48 kHz, block by block."""

    def __init__(self, rate: int) -> None:
        if not 4_000 <= rate <= 384_000:
            raise BadSpeech(f"speech at {rate} Hz: want 4000 to 384000")
        self._rate = rate
        self._resampler = av.AudioResampler("flt", "mono", RATE)

    def __call__(self, samples: np.ndarray | None) -> np.ndarray:
        """[n] at the source's rate to [m] at 48 kHz; None: what is left inside."""
        if self._rate == RATE:
            return np.zeros(0, np.float32) if samples is None else samples
        frame = None
        if samples is not None:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
            frame.sample_rate = self._rate
        return _joined(self._resampler.resample(frame))


def _joined(frames: list[av.AudioFrame]) -> np.ndarray:
    return np.concatenate([f.to_ndarray()[0] for f in frames]) if frames else np.zeros(0, np.float32)


def read_file(path: Path) -> Iterator[np.ndarray]:
    """A recording in any format that PyAV reads, as [n] float32 blocks. Raises BadSpeech. Blocking."""
    if not path.is_file():
        raise BadSpeech(f"{path} is not a file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise BadSpeech(f"{path} holds no sound")
            resampler = av.AudioResampler("flt", "mono", RATE)
            read = 0
            for frame in container.decode(container.streams.audio[0]):
                read += frame.samples
                yield _joined(resampler.resample(frame))
            if read == 0:
                raise BadSpeech(f"{path} holds 0 samples of sound")
            yield _joined(resampler.resample(None))
    except av.FFmpegError as error:
        raise BadSpeech(f"{path} could not be read: {error.strerror or error}") from None


async def _from_file(path: Path) -> AsyncIterator[np.ndarray]:
    blocks = read_file(path)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "lipstream-speech") as pool:
        while (block := await loop.run_in_executor(pool, next, blocks, None)) is not None:
            yield block
        await loop.run_in_executor(pool, blocks.close)  # type: ignore[attr-defined]


async def _from_array(samples: np.ndarray, rate: int) -> AsyncIterator[np.ndarray]:
    resample = _Resampler(rate)
    mono = to_mono(samples)
    for start in range(0, len(mono), rate):
        yield resample(mono[start : start + rate])
    yield resample(None)


async def _from_iterator(blocks: AsyncIterator[np.ndarray], rate: int) -> AsyncIterator[np.ndarray]:
    resample = _Resampler(rate)
    async for block in blocks:
        yield resample(to_mono(block))
    yield resample(None)


async def _from_microphone() -> AsyncIterator[np.ndarray]:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise BadSpeech(f"the microphone needs the extra `lipstream-client[microphone]`: {error}") from None
    loop = asyncio.get_running_loop()
    blocks: Newest[np.ndarray] = Newest(50)

    def deliver(data: np.ndarray, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(blocks.put, data[:, 0].copy())

    try:
        device = sounddevice.InputStream(RATE, blocksize=RATE // 100, channels=1, dtype="float32", callback=deliver)
    except sounddevice.PortAudioError as error:
        raise BadSpeech(f"the microphone could not be opened: {error}") from None
    with device:
        async for block in blocks:
            yield block


class Voice:
    """Speech as packets of `duration` seconds, each ready when a microphone would have captured its last sample.

    A recording or an iterator is sent by our own clock, which counts from the first packet and therefore never drifts;
    what is not there in time goes out as silence and is counted. A microphone is its own clock.
    """

    def __init__(self, source: Source | None, rate: int = RATE, duration: float = 0.020) -> None:
        if duration not in (0.010, 0.020):
            raise ValueError(f"packets of {duration * 1000:g} ms: want 10 or 20")
        self.samples_per_packet = round(RATE * duration)
        self.packets = 0
        self.underruns = 0
        self.exhausted = asyncio.Event()
        """Set once the last sample of a source that ends was sent."""
        self._live = isinstance(source, str) and source == "microphone"
        self._blocks: AsyncIterator[np.ndarray] | None
        if source is None:
            self._blocks = None
        elif self._live:
            self._blocks = _from_microphone()
        elif isinstance(source, str | Path):
            self._blocks = _from_file(Path(source))
        elif isinstance(source, np.ndarray):
            self._blocks = _from_array(source, rate)
        elif hasattr(source, "__aiter__"):
            self._blocks = _from_iterator(source, rate)
        else:
            raise BadSpeech(f"speech of type {type(source).__name__}: want a path, an array or an async iterator")
        self._at_hand = isinstance(source, str | Path | np.ndarray) and not self._live
        self._queue: deque[np.ndarray] = deque()
        self._queued = 0
        self._changed = asyncio.Event()
        self._ended = source is None
        self._error: Exception | None = None
        self._started: float | None = None
        self._feeding: asyncio.Task | None = None

    async def start(self) -> None:
        """Begins to read. Raises BadSpeech where a file or an array turns out unusable at its beginning."""
        if self._blocks is not None:
            self._feeding = asyncio.create_task(self._feed(), name="lipstream-speech")
            while self._at_hand and not self._queued and not self._ended:
                await self._wait()
            if self._error is not None and not self._queued:
                raise self._error

    async def close(self) -> None:
        """Idempotent; safe before `start`."""
        if self._feeding is not None:
            self._feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._feeding
        if self._blocks is not None:
            await self._blocks.aclose()  # type: ignore[attr-defined]

    async def _feed(self) -> None:
        assert self._blocks is not None
        try:
            async for block in self._blocks:
                if not len(block):
                    continue
                self._queue.append(block)
                self._queued += len(block)
                self._changed.set()
                while self._queued >= _AHEAD:
                    if self._live:
                        self._queued -= len(self._queue.popleft())
                    else:
                        await self._wait()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    @property
    def error(self) -> Exception | None:
        """Why the source ended before its time."""
        return self._error

    async def packet(self) -> tuple[int, np.ndarray]:
        """The next packet, once it is due: (its first sample's number at 48 kHz, [n] float32)."""
        count = self.samples_per_packet
        if self._live:
            while self._queued < count and not self._ended:
                await self._wait()
        now = time.monotonic()
        if self._started is None:
            self._started = now
        due = self._started + (self.packets + 1) * count / RATE
        if due > now and not (self._live and not self._ended):
            await asyncio.sleep(due - now)
        samples = np.zeros(count, np.float32)
        filled = 0
        while filled < count and self._queue:
            block = self._queue[0]
            part = block[: count - filled]
            samples[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) == len(block):
                self._queue.popleft()
            else:
                self._queue[0] = block[len(part) :]
        self._queued -= filled
        self._changed.set()
        if self._ended and not self._queue:
            if self._blocks is not None:
                self.exhausted.set()
        elif filled < count:
            self.underruns += 1
        first = self.packets * count
        self.packets += 1
        return first, samples
