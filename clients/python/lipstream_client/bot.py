"""A bot at a session's speech socket: its voice goes in as fast as it is made, and what becomes of it comes back."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from lipstream_client import protocol
from lipstream_client.errors import BadSpeech, ControlFailed, LipstreamError, Refused, SessionLost, Unreachable
from lipstream_client.newest import Newest
from lipstream_client.speech import to_mono

_PIECE = 32 * 1024  # bytes of speech in a message
_ANSWER_WITHIN = 10.0


class Bot:
    """Made by `Client.bot`; use it as an async context manager.

    `events()` are the server's messages as they come, `user()` the voice of the user, where `hear` asked for it and the
    session has one. Both end when the socket is closed here, and raise `SessionLost` where the server closed it.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], form: str, rate: int, hear: bool, barge_in: bool, timeout: float
    ) -> None:
        self.hello: dict[str, Any] = {}
        """The server's first message: what it can buffer, whether there is a user."""
        self._url = url
        self._headers = headers
        self._start = protocol.start(form, rate, hear, barge_in)
        self._format = form
        self._timeout = timeout
        self._socket: ClientConnection | None = None
        self._events: Newest[dict[str, Any]] = Newest(256)
        self._user: Newest[np.ndarray] = Newest(500)
        self._ready = asyncio.Event()
        self._ready.set()
        self._greeted = asyncio.Event()
        self._pending: tuple[str, asyncio.Future] | None = None
        self._commanding = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._reading: asyncio.Task | None = None
        self._lost: Exception | None = None
        self.malformed = 0
        """Messages that were not of the protocol, passed over."""

    async def __aenter__(self) -> "Bot":
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _open(self) -> None:
        try:
            self._socket = await connect(
                self._url,
                additional_headers=dict(self._headers),
                proxy=None,
                compression=None,
                open_timeout=self._timeout,
                ping_interval=None,  # a server that does not read for a while, because it has enough, answers none
                max_size=2**20,
            )
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise _refusal(error) or Unreachable(f"{self._url} does not answer: {error}") from None
        self._reading = asyncio.create_task(self._read(), name="lipstream-bot")
        await asyncio.wait(
            [self._reading, waiting := asyncio.create_task(self._greeted.wait())],
            timeout=self._timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()
        if not self._greeted.is_set():
            raise self._lost or Unreachable(f"{self._url} says nothing")
        await self._send(json.dumps(self._start))

    async def close(self) -> None:
        """Leaves the socket; what was sent is still spoken. Idempotent."""
        if self._socket is not None:
            await self._socket.close()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        self._lost = self._lost or error
        self._events.close(error)
        self._user.close(error)
        self._ready.set()
        if self._pending is not None and not self._pending[1].done():
            self._pending[1].set_exception(self._lost or LipstreamError("the socket was closed"))

    # What comes

    async def _read(self) -> None:
        assert self._socket is not None
        told: Exception | None = None
        try:
            async for data in self._socket:
                if isinstance(data, bytes):
                    self._user.put(np.frombuffer(data, "<i2").astype(np.float32) / 32768)
                    continue
                try:
                    message = protocol.read_speech_message(data)
                except protocol.BadMessage:
                    self.malformed += 1
                    continue
                if message is not None:
                    told = self._take(message) or told
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            self._end(_why(code, told) or SessionLost(f"socket_closed_{code}"))
        else:
            self._end(_why(self._socket.close_code or 1000, told))

    def _take(self, message: dict[str, Any]) -> Exception | None:
        kind = message["type"]
        told: Exception | None = None
        match kind:
            case "hello":
                self.hello = message
                self._greeted.set()
            case "full":
                self._ready.clear()
            case "ready":
                self._ready.set()
            case "error":
                told = ControlFailed(message["reason"], message.get("detail", ""))
                self._answer(None, told)
            case "closed":
                told = SessionLost(message["reason"])
        self._answer(kind, message)
        self._events.put(message)
        return told

    def _answer(self, kind: str | None, result: dict[str, Any] | Exception) -> None:
        if self._pending is None or kind not in (None, self._pending[0]) or self._pending[1].done():
            return
        if isinstance(result, Exception):
            self._pending[1].set_exception(result)
        else:
            self._pending[1].set_result(result)

    def events(self) -> Newest[dict[str, Any]]:
        """The server's messages, as an async iterator for one consumer; the newest 256 wait."""
        return self._events

    def user(self) -> Newest[np.ndarray]:
        """The user's voice, [n] float32 at 16 kHz, as an async iterator for one consumer; the newest 5 s wait."""
        return self._user

    # What goes

    async def _send(self, data: str | bytes) -> None:
        assert self._socket is not None
        try:
            await self._socket.send(data)
        except ConnectionClosed:
            if self._reading is not None:
                await asyncio.wait([self._reading])
            raise self._lost or LipstreamError("the socket was closed") from None

    async def say(self, speech: np.ndarray | bytes, *, end: bool = True) -> None:
        """Sends speech: samples [n] at the bot's rate, or PCM16 (or one Opus packet) as bytes. Waits while the server
        is full. With `end` it is a segment, or the end of one; without, more of the segment follows.
        """
        data = speech if isinstance(speech, bytes) else self._pcm(speech)
        async with self._sending:
            if self._format == "opus":
                await self._piece(data)
            else:
                for first in range(0, len(data), _PIECE):
                    await self._piece(data[first : first + _PIECE])
        if end:
            await self.end()

    async def _piece(self, data: bytes) -> None:
        await self._ready.wait()
        await self._send(data)

    def _pcm(self, speech: np.ndarray) -> bytes:
        if self._format != "pcm16":
            raise BadSpeech(f"samples, but the format is {self._format}: give its packets as bytes")
        return (np.clip(to_mono(speech), -1, 1) * 32767).astype("<i2").tobytes()

    async def end(self) -> None:
        """The segment has been sent."""
        await self._send('{"type":"end"}')

    async def _command(self, message: dict[str, Any], answer: str) -> dict[str, Any]:
        async with self._commanding:  # one at a time: an error answer names no command
            if self._lost is not None:
                raise self._lost
            self._pending = (answer, asyncio.get_running_loop().create_future())
            try:
                await self._send(json.dumps(message, separators=(",", ":")))
                return await asyncio.wait_for(self._pending[1], _ANSWER_WITHIN)
            finally:
                self._pending[1].cancel()
                self._pending = None

    async def interrupt(self) -> dict[str, Any]:
        """Clears all that was sent. Returns the answer: the `segment` that it cut, and `position_ms` heard of it."""
        return await self._command(protocol.interrupt(), "interrupted")

    async def set_attention(self, state: str) -> None:
        """What the character does while it does not speak: "idle", "listening" or "thinking"."""
        await self._command(protocol.attention(state), "attention")

    async def set_emotion(self, emotion: str, strength: float = 1.0) -> None:
        await self._command(protocol.emotion(emotion, strength), "emotion")

    async def move(self, values: Mapping[str, float | None], mode: str = "add", hold: float = 1.0) -> int:
        """As `Session.move`."""
        return (await self._command(protocol.plan(dict(values), mode, hold), "plan"))["frame"]

    async def set_character(self, character: str, background: bool | None = None) -> int:
        """Switches the character live; returns the first frame that may show it."""
        return (await self._command(protocol.character(character, background), "character"))["frame"]

    async def mute(self, muted: bool = True) -> None:
        await self._command(protocol.mute(muted), "muted")

    async def send_raw(self, data: str | bytes) -> None:
        """Puts anything on the socket; for tests of servers."""
        await self._send(data)


def _why(code: int, told: Exception | None) -> Exception | None:
    """What a closed socket is to whoever still uses it; None where it was closed as it should be."""
    if code in (1000, 1005) and told is None:
        return None
    if isinstance(told, ControlFailed):
        if 4000 <= code < 5000:
            return Refused(code - 4000, told.reason, told.detail)
        return told
    return told or SessionLost(f"socket_closed_{code}")


def _refusal(error: Exception) -> Refused | None:
    """What the server answered instead of opening a socket."""
    response = getattr(error, "response", None)
    if response is None:
        return None
    try:
        problem = httpx.Response(response.status_code, content=bytes(response.body or b"")).json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    return Refused(response.status_code, problem.get("reason", "unknown"), problem.get("detail", ""))
