"""Time that passes only when nothing is left to do, and a path between a viewer's sender and its receiver."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from streamer.base import clock
from streamer.base.frames import Encoded
from streamer.rtc.negotiation import Peer
from streamer.rtc.sdp import Role
from streamer.session.fanout import ReceiverFeedback
from streamer.session.viewer import Viewer


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose waits take no time: its clock, and the server's with it, jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 1000.0
        select = self._selector.select  # type: ignore[attr-defined]

        def skip(timeout: float | None) -> Any:
            events = select(0)
            if not events and timeout is None and not self._thread_work():
                raise RuntimeError("everybody waits for somebody else")
            if events or timeout is None:
                return events or select(0.01)
            self._virtual += timeout
            return events

        self._selector.select = skip  # type: ignore[attr-defined]

    def _thread_work(self) -> bool:
        """Whether an executor may still call back."""
        return self._default_executor is not None  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._virtual

    @classmethod
    @contextlib.contextmanager
    def used(cls, monkeypatch: pytest.MonkeyPatch) -> Iterator["VirtualLoop"]:
        loop = cls()
        monkeypatch.setattr(clock, "now", loop.time)
        try:
            yield loop
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


class _Sender:
    """Takes what is pushed, as a connection does."""

    def __init__(self, into: Any) -> None:
        self._into = into
        self.standing = True

    async def push(self, data: Any, timestamp: int, captured: float) -> bool:
        if self.standing:
            self._into(data, timestamp)
        return self.standing


class Path:
    """A peer behind a path of `capacity` bit/s that queues half a second's worth and loses the rest."""

    def __init__(self, codec: str | None, capacity: float = 100e6, audio: bool = True) -> None:
        self.capacity = capacity
        self.sent: list[tuple[Any, float, int]] = []
        self.heard: list[tuple[bytes, float, int]] = []
        self.coded: list[Encoded] = []
        self.lost = 0
        self.born = clock.now()
        self.viewer: Viewer
        self.reports: ReceiverFeedback
        self.video = _Sender(self._frame) if codec else None
        self.audio = _Sender(self._sound) if audio else None
        self.peer = Peer(Role.VIEWER, None, self.audio, self.video, codec, "", "", "")  # type: ignore[arg-type]
        self._drained = clock.now()  # until when what was sent keeps the path busy
        self._since: list[int] = [0, 0]  # bits sent and lost since the last report
        self._broken = False

    def _frame(self, packet: Any, timestamp: int) -> None:
        now = clock.now()
        self.sent.append((packet, now, timestamp))
        bits = 8 * packet.size
        queued = max(self._drained, now) + bits / self.capacity
        self._since[0] += bits
        if queued - now > 0.5 and self._drained > now:
            self._since[1] += bits
            self.lost += 1
            self._broken = True
        else:
            self._drained = queued

    def _sound(self, payload: bytes, timestamp: int) -> None:
        self.heard.append((payload, clock.now(), timestamp))

    def report(self) -> None:
        """What a receiver says once a second."""
        sent, lost = self._since
        self._since = [0, 0]
        self.reports.loss(lost / sent if sent else 0.0)
        if self._broken:
            self._broken = False
            self.reports.keyframe()

    def clear(self) -> None:
        self.sent.clear()
        self.lost = 0
