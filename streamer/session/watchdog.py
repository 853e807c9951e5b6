"""Time-outs: a peer that never connects or falls silent, and a session that is too old or unattended."""

import asyncio
import math
from collections.abc import Callable

from streamer.base import clock

_INTERVAL = 0.5  # seconds between checks


class Watchdog:
    """Applies the time-outs to one peer. Pure: time (seconds, monotonic) and the packet count are arguments."""

    def __init__(
        self, born: float, *, connect_timeout: float, silence_timeout: float, max_age: float = math.inf
    ) -> None:
        self.born = born
        self._connect_timeout = connect_timeout
        self._silence_timeout = silence_timeout
        self._max_age = max_age
        self._received = 0
        self._alive_at = born

    def verdict(self, now: float, live: bool, received: int) -> str | None:
        """The time-out that has expired: `connect_timeout`, `peer_gone` or `too_old`; None: none has.

        `received` is the number of packets received from the peer, or another sign of life: any change counts.
        """
        if received != self._received:
            self._received, self._alive_at = received, now
        if not live and now - self.born > self._connect_timeout:
            return "connect_timeout"
        if live and now - self._alive_at > self._silence_timeout:
            return "peer_gone"
        if now - self.born > self._max_age:
            return "too_old"
        return None


async def watch(dog: Watchdog, live: Callable[[], bool], received: Callable[[], int]) -> str:
    """Returns the verdict as soon as there is one."""
    while True:
        await asyncio.sleep(_INTERVAL)
        if (verdict := dog.verdict(clock.now(), live(), received())) is not None:
            return verdict


async def watch_attendance(attended: Callable[[], bool], born: float, unattended_timeout: float, max_age: float) -> str:
    """Returns `unattended` once `attended` was false for `unattended_timeout` seconds, or `too_old`."""
    looked = 0

    def looks() -> int:  # a check that succeeds counts as a packet
        nonlocal looked
        looked += attended()
        return looked

    dog = Watchdog(born, connect_timeout=math.inf, silence_timeout=unattended_timeout, max_age=max_age)
    verdict = await watch(dog, lambda: True, looks)
    return "unattended" if verdict == "peer_gone" else verdict
