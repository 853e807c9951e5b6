"""Prefetches characters at low priority, so that a switch is seen within 200 ms."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from streamer.avatar.characters import Characters
from streamer.avatar.engine import EngineSlot
from streamer.avatar.renderer import RendererBackend
from streamer.base import clock
from streamer.base.errors import RequestError

_COUNT = 9  # the first that every client shows
_DELAY = 3.0  # seconds of the session's life: nobody switches at once, and until then there is enough to do
_SHARE = 0.25  # of a core that preparing takes
_CALM = 0.25  # seconds without a skipped frame after which there is time for it
_PATIENCE = 2.0  # seconds that each character is put off at most


class CharacterPrefetcher:
    """Prepares the first characters of the list at a session's size and background, one after the other.

    Preparing a character may take 200 ms, so none is prepared while frames are skipped for want of time.
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
        """A prepared character has been put on: another is to be prepared in its place."""
        self._used.set()

    async def run(self, slot: EngineSlot) -> None:
        """Until cancelled."""
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
    """Until no frame has been skipped for a while; on a machine that always skips some, not for ever."""
    skipped, patience = -1, clock.now() + _PATIENCE
    while skipped != (skipped := slot.skipped) and clock.now() < patience:  # noqa: ASYNC110  the slot signals nothing
        await asyncio.sleep(_CALM)
