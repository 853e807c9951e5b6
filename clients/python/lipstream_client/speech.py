"""Where speech comes from, and its packets at real time."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lipstream_client.errors import BadSpeech
from lipstream_client.queues import DropOldestQueue
from lipstream_client.recording import RATE, Resampler, read_file
from lipstream_client.samples import Downmix, PcmDecoder, Samples, to_mono

__all__ = ["RATE", "PacedSpeech", "SpeechSource", "read_file", "to_mono"]

SpeechSource = str | Path | npt.NDArray[Any] | AsyncIterator[npt.NDArray[Any]] | AsyncIterator[bytes]
"""A recording's path or "microphone", an array, or an iterator over arrays or over PCM16 bytes."""

_AHEAD = RATE  # samples read ahead of what is sent


async def _from_file(path: Path) -> AsyncGenerator[Samples, None]:
    loop = asyncio.get_running_loop()
    with contextlib.closing(read_file(path)) as blocks, ThreadPoolExecutor(1, "lipstream-speech") as pool:
        while (block := await loop.run_in_executor(pool, next, blocks, None)) is not None:
            yield block


async def _from_array(samples: npt.NDArray[Any], rate: int) -> AsyncGenerator[Samples, None]:
    resample = Resampler(rate)
    mono = to_mono(samples)
    if not len(mono):
        raise BadSpeech(f"speech of shape {samples.shape} contains 0 samples")
    for start in range(0, len(mono), rate):
        yield resample(mono[start : start + rate])
    yield resample(None)


async def _from_iterator(blocks: AsyncIterator[Any], rate: int) -> AsyncGenerator[Samples, None]:
    resample = Resampler(rate)
    downmix, decode = Downmix(), PcmDecoder()
    async for block in blocks:
        if isinstance(block, bytes | bytearray | memoryview):
            yield resample(decode(bytes(block)))
        else:
            yield resample(to_mono(block, downmix))
    yield resample(None)


async def _from_microphone() -> AsyncGenerator[Samples, None]:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise BadSpeech(f"the microphone needs the extra `lipstream-client[microphone]`: {error}") from None
    loop = asyncio.get_running_loop()
    blocks: DropOldestQueue[Samples] = DropOldestQueue(50)

    def deliver(data: Samples, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(blocks.put, data[:, 0].copy())

    try:
        device = sounddevice.InputStream(RATE, blocksize=RATE // 100, channels=1, dtype="float32", callback=deliver)
    except sounddevice.PortAudioError as error:
        raise BadSpeech(f"the microphone could not be opened: {error}") from None
    with device:
        async for block in blocks:
            yield block


class PacedSpeech:
    """Speech as packets of `duration` seconds, each ready when a microphone would have captured its last sample.

    Files, arrays and iterators are paced by a clock that counts from the first packet, so that the pace cannot drift;
    samples that are not there in time are replaced by silence and counted. A microphone paces itself.
    """

    def __init__(self, source: SpeechSource | None, rate: int = RATE, duration: float = 0.020) -> None:
        if duration not in (0.010, 0.020):
            raise ValueError(f"packets of {duration * 1000:g} ms: want 10 or 20")
        self.samples_per_packet = round(RATE * duration)
        self.packets = 0
        self.underruns = 0
        self.exhausted = asyncio.Event()
        """Set once the last sample of a finite source was sent."""
        self._live = isinstance(source, str) and source == "microphone"
        self._blocks: AsyncGenerator[Samples, None] | None
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
        self._queue: deque[Samples] = deque()
        self._queued = 0
        self._changed = asyncio.Event()
        self._ended = source is None
        self._error: Exception | None = None
        self._started: float | None = None
        self._feeding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts reading. Raises BadSpeech for a file or an array that is unusable from its beginning."""
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
            await self._blocks.aclose()

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
        """Why the source ended early."""
        return self._error

    async def packet(self) -> tuple[int, Samples]:
        """Waits until the next packet is due: (its first sample's number at 48 kHz, [n] float32)."""
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
