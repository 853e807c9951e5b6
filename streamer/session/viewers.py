"""The WHEP viewers of a session: admission, time-outs, removal."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from streamer.base import clock
from streamer.base.errors import RequestError
from streamer.base.metrics import Metrics
from streamer.rtc import aiortc_internals
from streamer.rtc.negotiation import Peer
from streamer.session.fanout import Broadcast, ReceiverFeedback
from streamer.session.limits import SessionLimits
from streamer.session.viewer import Viewer
from streamer.session.watchdog import Watchdog, watch

log = logging.getLogger(__name__)

_WORDS = {"connect_timeout": "did not connect in time", "peer_gone": "fell silent"}
_RETRY_AFTER = 10  # seconds before a rejected viewer may try again


class ViewerSession:
    """One viewer's peer, the `Viewer` that sends to it, and their tasks."""

    def __init__(self, peer: Peer, viewer: Viewer) -> None:
        self.id = secrets.token_urlsafe(12)
        self.peer = peer
        self.viewer = viewer
        self.born = clock.now()
        self.live = False
        self.tasks: set[asyncio.Task] = set()

    def to_json(self) -> dict[str, Any]:
        viewer, now = self.viewer, clock.now()
        return {
            "id": self.id,
            "state": "live" if self.live else "connecting",
            "codec": viewer.codec,
            "alpha": "packed" if viewer.format is not None and viewer.format.packed else "none",
            "audio": self.peer.audio is not None,
            "age_s": round(now - self.born, 1),
            "frames": {
                "sent": viewer.counts.sent,
                "dropped": viewer.counts.dropped,
                "thinned": viewer.counts.thinned,
            },
            "bitrate": {"sent": round(viewer.sent_rate(now)), "cap": viewer.cap},
            "thinned": viewer.thinned,
            "latency_ms": viewer.latency_ms(),
        }


class Audience:
    """A session's viewers, at most `config.max_viewers`; overflow policy: reject. A failure removes only that viewer.

    Lives on the event loop. `close` is idempotent.
    """

    def __init__(self, broadcast: Broadcast, size: int, config: SessionLimits, metrics: Metrics) -> None:
        self._broadcast = broadcast
        self._size = size
        self._config = config
        self._metrics = metrics
        self._guests: dict[str, ViewerSession] = {}
        self._leaving: set[asyncio.Task] = set()
        self._opening = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._guests)

    def get(self, guest_id: str) -> ViewerSession:
        """Raises `RequestError` (404)."""
        guest = self._guests.get(guest_id)
        if guest is None:
            raise RequestError(404, "unknown_viewer", f"this session has no viewer {guest_id[:40]!r}")
        return guest

    async def admit(self, answer: Callable[[ReceiverFeedback], Awaitable[Peer]], packed: bool = False) -> ViewerSession:
        """Admits the peer that `answer` creates. It receives video and audio once it is connected.

        Raises `RequestError`: 503 if the session has its maximum of viewers, 409 if it is ending.
        """
        self._check_open()
        if len(self._guests) + self._opening >= self._config.max_viewers:
            raise RequestError(
                503,
                "too_many_viewers",
                f"{self._config.max_viewers} of {self._config.max_viewers} viewers of this session are connected",
                _RETRY_AFTER,
            )
        self._opening += 1
        try:
            reports = ReceiverFeedback(self._broadcast)
            peer = await answer(reports)
            try:
                self._check_open()
            except RequestError:
                await _hang_up(peer)
                raise
            reports.viewer = Viewer(peer, self._size, self._metrics, packed)
            guest = ViewerSession(peer, reports.viewer)
            self._guests[guest.id] = guest
        finally:
            self._opening -= 1
        peer.connection.on("connectionstatechange", lambda: self._changed(guest))
        self._spawn(guest, self._watch(guest))
        return guest

    def _check_open(self) -> None:
        if self._closed:
            raise RequestError(409, "session_ended", "the session is ending and can no longer be viewed")

    def dismiss(self, guest: ViewerSession, reason: str) -> asyncio.Task[None]:
        """Starts removing a viewer; returns the task that does. Its place is free at once."""
        if self._guests.pop(guest.id, None) is not None:
            log.info("viewer %s: %s", guest.id, reason)
        task = asyncio.get_running_loop().create_task(self._see_out(guest))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def close(self) -> None:
        """Removes all viewers and admits no more."""
        self._closed = True
        for guest in list(self._guests.values()):
            self.dismiss(guest, "the session ended")
        await asyncio.gather(*self._leaving)

    def to_json(self) -> list[dict[str, Any]]:
        return [guest.to_json() for guest in self._guests.values()]

    def _spawn(self, guest: ViewerSession, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        guest.tasks.add(task)
        task.add_done_callback(lambda task: self._ended(guest, task))

    def _ended(self, guest: ViewerSession, task: asyncio.Task) -> None:
        guest.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("viewer %s: a task failed", guest.id, exc_info=error)
            self.dismiss(guest, "internal error")

    def _changed(self, guest: ViewerSession) -> None:
        state = guest.peer.connection.connectionState
        if guest.id not in self._guests:
            return
        if state == "connected" and not guest.live:
            guest.live = True
            self._broadcast.join(guest.viewer)
            self._spawn(guest, guest.viewer.run())
        elif state in ("failed", "closed"):
            self.dismiss(guest, f"connection {state}")

    async def _watch(self, guest: ViewerSession) -> None:
        """Removes a viewer that never connects or falls silent."""
        dog = Watchdog(
            guest.born,
            connect_timeout=self._config.connect_timeout,
            silence_timeout=self._config.silence_timeout,
        )
        verdict = await watch(dog, lambda: guest.live, lambda: aiortc_internals.packets_received(guest.peer.connection))
        self.dismiss(guest, _WORDS[verdict])

    async def _see_out(self, guest: ViewerSession) -> None:
        for task in list(guest.tasks):
            task.cancel()
        await asyncio.gather(*guest.tasks, return_exceptions=True)
        await self._broadcast.leave(guest.viewer)
        await _hang_up(guest.peer)


async def _hang_up(peer: Peer) -> None:
    with contextlib.suppress(TimeoutError, Exception):
        await asyncio.wait_for(peer.connection.close(), 5.0)
