"""Warns when the engine skips frames of a session because the machine is too slow."""

import asyncio
import logging
from collections.abc import Callable

from streamer.avatar.engine import EngineSlot
from streamer.avatar.renderer import display_name, faster_than
from streamer.base.constants import FPS

log = logging.getLogger(__name__)

_INTERVAL = 5.0  # seconds between checks of the skipped frames
_MAX_SKIPPED = 0.1  # share of skipped frames above which to warn


async def watch_load(
    slot: EngineSlot, session_id: str, size: int, renderer: Callable[[], str], warn: Callable[[str, str], None]
) -> None:
    """Calls `warn(reason, detail)` and logs each time that an overload begins. Runs until cancelled."""
    frames = _INTERVAL * FPS
    behind, before = False, slot.frames_skipped
    while True:
        await asyncio.sleep(_INTERVAL)
        now = slot.frames_skipped  # read once: the engine's thread increments it
        skipped, before = now - before, now
        was, behind = behind, skipped > _MAX_SKIPPED * frames
        if behind and not was:
            detail = (
                f"{skipped} of {frames:.0f} frames were skipped: the {display_name(renderer())} takes "
                f"{1000 * slot.cost:.0f} ms for a frame, and other programs use the processor too"
                + faster_than(renderer(), size)
            )
            log.warning("session %s: %s", session_id, detail)
            warn("overloaded", detail)
