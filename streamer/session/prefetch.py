"""Prefetches characters at low priority, so that a switch takes effect within 200 ms."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from streamer.avatar.characters import Characters
from streamer.avatar.engine import EngineSlot
from streamer.avatar.renderer import RendererBackend
from streamer.base import clock
from streamer.base.errors import RequestError

_COUNT = 9  # as many as every client lists first
_DELAY = 3.0  # seconds after the session's start, which is busy enough; users do not switch that early
_SHARE = 0.25  # maximum share of a core for preparing
_CALM = 0.25  # seconds without a skipped frame before preparing
_PATIENCE = 2.0  # seconds that a character is deferred at most


class CharacterPrefetcher:
    """Prepares the first characters of the list at a session's size and background, one after the other.

    Preparing a character may take 200 ms, so none is prepared while the engine skips frames.
    """

    def __init__(
        self, characters: Characters, generator: RendererBackend, size: int, background: Callable[[], bool]
    ) -> None:
        self._characters = characters
        self._generator = generator
        self._size = size
        self._background = background
        self._used = asyncio.Event()

    def used(self) -> None:
        """A prepared character is now in use: prepare it again for the next switch."""
        self._used.set()

    async def run(self, slot: EngineSlot) -> None:
        """Runs until cancelled."""
        await asyncio.sleep(_DELAY)
        loop = asyncio.get_running_loop()
        while True:
            self._used.clear()
            for entry in self._characters.all()[:_COUNT]:
                await _calm(slot)
                began = clock.now()
                with contextlib.suppress(RequestError):
                    prepare = partial(self._generator.prepare, entry, self._size, self._background())
                    await loop.run_in_executor(None, prepare)
                await asyncio.sleep((clock.now() - began) * (1 / _SHARE - 1))
            await self._used.wait()


async def _calm(slot: EngineSlot) -> None:
    """Waits until no frame has been skipped for `_CALM` seconds, or for `_PATIENCE` seconds at most."""
    skipped, patience = -1, clock.now() + _PATIENCE
    while skipped != (skipped := slot.skipped) and clock.now() < patience:  # noqa: ASYNC110  the slot signals nothing
        await asyncio.sleep(_CALM)
