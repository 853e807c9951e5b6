"""The data channel `control`: JSON messages to and from the session's peer."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from streamer.base.errors import RequestError
from streamer.session import messages
from streamer.session.ports import Message
from streamer.session.viewer import Viewer

_ROWS_EVERY = 0.250  # seconds
_MOST_BUFFERED = 256 * 1024  # bytes queued in the channel; overflow policy: drop the new message
_BAD_MESSAGES = 100  # this many close the session

Answer = Callable[[Message | RequestError], None]


def problem(refused: RequestError) -> Message:
    """Converts an error to a message."""
    return {"type": "error", "reason": refused.reason, "detail": refused.detail}


class ControlChannel:
    """Sends while a channel is open, otherwise drops. `open` is idempotent: the first channel counts."""

    def __init__(self) -> None:
        self._channel: Any = None
        self._connection: Any = None
        self._bad_messages = 0

    def open(
        self,
        channel: Any,
        connection: Any,
        greeting: Callable[[], list[Message]],
        on_request: Callable[[messages.Control, Answer], None],
        on_too_many_bad: Callable[[], object],
    ) -> None:
        """Takes over an aiortc data channel of a connection: sends `greeting`, then passes requests to `on_request`."""
        if channel.label != "control" or self._channel is not None:
            return
        self._channel, self._connection = channel, connection

        @channel.on("message")
        def received(data: str | bytes) -> None:
            try:
                request = messages.parse(data)
            except messages.BadMessage as error:
                self._bad_messages += 1
                self.send({"type": "error", "reason": "bad_message", "detail": str(error)})
                if self._bad_messages >= _BAD_MESSAGES:
                    on_too_many_bad()
                return
            on_request(request, self.answer)

        for message in greeting():
            self.send(message)

    def send(self, message: Message) -> None:
        channel = self._channel
        if channel is None or channel.readyState != "open" or channel.bufferedAmount >= _MOST_BUFFERED:
            return
        if self._connection.connectionState in ("closed", "failed"):
            return  # aiortc would fail in a task that is never awaited
        channel.send(json.dumps(message, separators=(",", ":")))

    def answer(self, outcome: Message | RequestError) -> None:
        """Sends the outcome of a request of the peer."""
        self.send(problem(outcome) if isinstance(outcome, RequestError) else outcome)

    def warn(self, reason: str, detail: str) -> None:
        self.send({"type": "warning", "reason": reason, "detail": detail})

    async def report_frames(self, viewer: Viewer) -> None:
        """Sends the timing rows of the viewer's frames, until cancelled."""
        while True:
            await asyncio.sleep(_ROWS_EVERY)
            if viewer.rows:
                rows = list(viewer.rows)
                viewer.rows.clear()
                self.send({"type": "frames", "rows": rows})
