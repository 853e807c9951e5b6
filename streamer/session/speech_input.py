"""Feeds a bot's speech into a session: delivers the output of `SpeechQueue` when it is due."""

import asyncio
import contextlib
from collections.abc import Callable

from streamer.audio import (
    Chunk,
    Finished,
    Packet,
    SpeechFormat,
    SpeechQueue,
    SpeechQueueConfig,
    SpeechQueueStats,
    Started,
)
from streamer.base import clock


class SpeechInput:
    """Delivers chunks for the mouth (`take(chunks, now)`), audio packets for listeners (`send(packet, now)`) and events
    (`tell(event)`) once `run` has started. Lives on the event loop.
    """

    def __init__(
        self,
        lookahead: int,
        take: Callable[[list[Chunk], float], None],
        send: Callable[[Packet, float], None],
        tell: Callable[[Started | Finished], None],
        config: SpeechQueueConfig | None = None,
    ) -> None:
        self._queue = SpeechQueue(lookahead, clock.now(), config)
        self._take, self._send, self._tell = take, send, tell
        self._running = False
        self._woken = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def stats(self) -> SpeechQueueStats:
        return self._queue.stats

    @property
    def config(self) -> SpeechQueueConfig:
        return self._queue.config

    @property
    def speaking(self) -> bool:
        """Whether a segment has begun and not ended."""
        return self._queue.speaking

    @property
    def decided(self) -> int:
        """The sample up to which the timeline is fixed; speech pushed now comes after it."""
        return self._queue.decided

    @property
    def buffered(self) -> float:
        """Seconds of speech queued."""
        return self._queue.buffered

    @property
    def full(self) -> bool:
        """The sender should pause until `ready`."""
        return self._queue.full

    @property
    def ready(self) -> bool:
        return self._queue.ready

    def captured(self, pts: int) -> float:
        """When the frame that answers sample `pts` is due: seconds on the server's clock."""
        return self._queue.captured(pts)

    def due(self, now: float) -> int:
        """The sample that is due at `now`."""
        return self._queue.due(now)

    def start(self, form: SpeechFormat) -> None:
        """Sets the format of the speech that follows."""
        self._queue.start(form)
        self._wake()

    def push(self, data: bytes) -> None:
        """Adds a piece of speech. Raises BadSpeech."""
        self._queue.push(data)
        self._wake()

    def end(self) -> None:
        """Ends the open segment."""
        self._queue.end()
        self._wake()

    def clear(self, heard: int, discard: bool) -> list[Finished]:
        """Discards the queued speech; see `SpeechQueue.clear`."""
        told = self._queue.clear(heard, discard)
        self._wake()
        return told

    async def room(self) -> None:
        """Waits until `push` accepts a piece."""
        while not self._queue.accepts:
            self._room.clear()
            await self._room.wait()

    def _wake(self) -> None:
        """Delivers what is already due, and reschedules `run`."""
        self._advance()
        self._woken.set()

    def _advance(self) -> None:
        if self._running:
            now = clock.now()
            out = self._queue.poll(now)
            for packet in out.packets:
                self._send(packet, now)
            if out.chunks:
                self._take(out.chunks, now)
            for event in out.events:
                self._tell(event)
        if self._queue.accepts:
            self._room.set()

    async def run(self) -> None:
        """Advances the timeline until cancelled."""
        self._queue.begin(clock.now())
        self._running = True
        try:
            while True:
                self._advance()
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(self._queue.deadline() - clock.now(), 0.0)):
                        await self._woken.wait()
        finally:
            self._running = False
