"""A bot's speech on its way into a session: what `SpeechQueue` says is due, handed on when it is."""

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
    """Hands on chunks for the mouth (`take(chunks, now)`), packets for the ear (`send(packet, now)`) and events
    (`tell(event)`), from when `run` begins. Lives on the event loop.
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
        """Whether a segment has begun and is not over."""
        return self._queue.speaking

    @property
    def decided(self) -> int:
        """The sample up to which sound has been given out; what is sent now comes after it."""
        return self._queue.decided

    @property
    def buffered(self) -> float:
        """Seconds of speech that wait."""
        return self._queue.buffered

    @property
    def full(self) -> bool:
        """The sender should pause; at `ready` it may go on."""
        return self._queue.full

    @property
    def ready(self) -> bool:
        return self._queue.ready

    def captured(self, pts: int) -> float:
        """When the frame that answers sample `pts` is due: seconds on the server's clock."""
        return self._queue.captured(pts)

    def due(self, now: float) -> int:
        """The sample whose moment `now` is."""
        return self._queue.due(now)

    def start(self, form: SpeechFormat) -> None:
        """What comes from now on is of this format."""
        self._queue.start(form)
        self._wake()

    def push(self, data: bytes) -> None:
        """A piece of speech. Raises BadSpeech."""
        self._queue.push(data)
        self._wake()

    def end(self) -> None:
        """The segment has been sent."""
        self._queue.end()
        self._wake()

    def clear(self, heard: int, discard: bool) -> list[Finished]:
        """Throws away all that waits; see `SpeechQueue.clear`."""
        told = self._queue.clear(heard, discard)
        self._wake()
        return told

    async def room(self) -> None:
        """Returns as soon as `push` takes a piece."""
        while not self._queue.accepts:
            self._room.clear()
            await self._room.wait()

    def _wake(self) -> None:
        """What was sent may be due at once."""
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
        """Keeps time going, until cancelled."""
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
