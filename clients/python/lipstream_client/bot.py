"""A bot at a session's speech socket: sends its voice as fast as it is synthesized, receives playback events."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from lipstream_client import protocol
from lipstream_client._deprecated import renamed
from lipstream_client.errors import (
    BadSpeech,
    ControlFailed,
    LipstreamError,
    RequestError,
    SessionLost,
    Unreachable,
    request_error,
)
from lipstream_client.queues import DropOldestQueue
from lipstream_client.samples import PcmDecoder, Samples, to_mono, to_pcm, whole_samples

_MESSAGE = 32 * 1024  # bytes of speech in a message; even, so that PCM16 messages hold whole samples
_ANSWER_WITHIN = 10.0


class Bot:
    """Created by `Client.bot`; use it as an async context manager.

    `events()` iterates over the server's messages, `user()` over the user's voice, if `hear` was set and the session
    has a user. Both end when the socket is closed here, and raise `SessionLost` if the server closed it.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], form: str, rate: int, hear: bool, barge_in: bool, timeout: float
    ) -> None:
        self.hello: dict[str, Any] = {}
        """The server's first message: how much it buffers, whether there is a user."""
        self._url = url
        self._headers = headers
        self._start = protocol.start(form, rate, hear, barge_in)
        self._format = form
        self._timeout = timeout
        self._socket: ClientConnection | None = None
        self._events: DropOldestQueue[dict[str, Any]] = DropOldestQueue(256)
        self._user: DropOldestQueue[Samples] = DropOldestQueue(500)
        self._ready = asyncio.Event()
        self._ready.set()
        self._greeted = asyncio.Event()
        self._pending: tuple[str, asyncio.Future[dict[str, Any]]] | None = None
        self._commanding = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._lost: Exception | None = None
        self._half = b""  # of a sample whose second byte the next `say` brings
        self._user_pcm = PcmDecoder()
        self.malformed = 0
        """Messages that violated the protocol and were ignored."""
        self.discarded_bytes = 0
        """Bytes of PCM16 segments that ended in the middle of a sample."""

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
                ping_interval=None,  # a server whose buffer is full does not read for a while, and answers no pings
                max_size=2**20,
            )
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise _request_error(error) or Unreachable(f"{self._url} does not answer: {error}") from None
        self._reading = asyncio.create_task(self._read(), name="lipstream-bot")
        await asyncio.wait(
            [self._reading, waiting := asyncio.create_task(self._greeted.wait())],
            timeout=self._timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()
        if not self._greeted.is_set():
            raise self._lost or Unreachable(f"{self._url} sent no hello within {self._timeout:g} s")
        await self._send(json.dumps(self._start))

    async def close(self) -> None:
        """Closes the socket; speech that was sent is still spoken. Idempotent."""
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

    # Receiving

    async def _read(self) -> None:
        assert self._socket is not None
        reported: Exception | None = None
        try:
            async for data in self._socket:
                if isinstance(data, bytes):
                    self._user.put(self._user_pcm(data))
                    continue
                try:
                    message = protocol.read_speech_message(data)
                except protocol.BadMessage:
                    self.malformed += 1
                    continue
                if message is not None:
                    reported = self._take(message) or reported
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            self._end(_close_error(code, reported) or SessionLost(f"socket_closed_{code}"))
        else:
            self._end(_close_error(self._socket.close_code or 1000, reported))

    def _take(self, message: dict[str, Any]) -> Exception | None:
        kind = message["type"]
        reported: Exception | None = None
        match kind:
            case "hello":
                self.hello = message
                self._greeted.set()
            case "full":
                self._ready.clear()
            case "ready":
                self._ready.set()
            case "error":
                reported = ControlFailed(message["reason"], message.get("detail", ""))
                self._answer(None, reported)
            case "closed":
                reported = SessionLost(message["reason"])
        self._answer(kind, message)
        self._events.put(message)
        return reported

    def _answer(self, kind: str | None, result: dict[str, Any] | Exception) -> None:
        if self._pending is None or kind not in (None, self._pending[0]) or self._pending[1].done():
            return
        if isinstance(result, Exception):
            self._pending[1].set_exception(result)
        else:
            self._pending[1].set_result(result)

    def events(self) -> DropOldestQueue[dict[str, Any]]:
        """The server's messages, as an async iterator for one consumer; the newest 256 wait."""
        return self._events

    def user(self) -> DropOldestQueue[Samples]:
        """The user's voice, [n] float32 at 16 kHz, as an async iterator for one consumer; the newest 5 s wait."""
        return self._user

    # Sending

    async def _send(self, data: str | bytes) -> None:
        assert self._socket is not None
        try:
            await self._socket.send(data)
        except ConnectionClosed:
            if self._reading is not None:
                await asyncio.wait([self._reading])
            raise self._lost or LipstreamError("the socket was closed") from None

    async def say(self, speech: npt.NDArray[Any] | bytes, *, end: bool = True) -> None:
        """Sends speech: samples [n] or [n, channels] at the bot's rate, PCM16 bytes cut anywhere, or one Opus packet.

        Waits while the server's buffer is full. With `end`, the speech ends a segment; without, the segment continues.
        Raises BadSpeech.
        """
        async with self._sending:
            if self._format == "pcm16":
                if not _is_bytes(speech):
                    speech = to_pcm(to_mono(speech))
                    self._discard_half()  # an array begins with a sample
                await self._send_pcm(bytes(speech))
            elif _is_bytes(speech):
                await self._send_speech(bytes(speech))
            else:
                raise BadSpeech(f"samples, but the format is {self._format}: give its packets as bytes")
            if end:
                await self._end_segment()

    async def _send_pcm(self, data: bytes) -> None:
        """Sends whole samples; half a sample waits for the next call. A cancelled call leaves nothing to wait."""
        whole, half = whole_samples(self._half + data)
        self._half = b""
        for first in range(0, len(whole), _MESSAGE):
            await self._send_speech(whole[first : first + _MESSAGE])
        self._half = half

    async def _send_speech(self, data: bytes) -> None:
        await self._ready.wait()
        await self._send(data)

    async def end(self) -> None:
        """Ends the segment. Half a sample that waits for its second byte is discarded and counted."""
        async with self._sending:
            await self._end_segment()

    async def _end_segment(self) -> None:
        self._discard_half()
        await self._send('{"type":"end"}')

    def _discard_half(self) -> None:
        self.discarded_bytes += len(self._half)
        self._half = b""

    async def _command(self, message: dict[str, Any], answer: str) -> dict[str, Any]:
        async with self._commanding:  # one at a time: an error does not name the command that it answers
            if self._lost is not None:
                raise self._lost
            self._pending = (answer, asyncio.get_running_loop().create_future())
            try:
                await self._send(json.dumps(message, separators=(",", ":")))
                return await asyncio.wait_for(self._pending[1], _ANSWER_WITHIN)
            finally:
                self._pending[1].cancel()
                self._pending = None

    async def _frame(self, message: dict[str, Any], answer: str) -> int:
        """Sends a command whose answer names the first frame that it applies to."""
        frame: int = (await self._command(message, answer))["frame"]
        return frame

    async def interrupt(self) -> dict[str, Any]:
        """Discards all speech sent so far. Returns the `segment` that was cut and the `position_ms` reached in it."""
        self._discard_half()
        return await self._command(protocol.interrupt(), "interrupted")

    async def set_attention(self, state: str) -> None:
        """What the character does while it does not speak: "idle", "listening" or "thinking"."""
        await self._command(protocol.attention(state), "attention")

    async def set_emotion(self, emotion: str, strength: float = 1.0) -> None:
        await self._command(protocol.emotion(emotion, strength), "emotion")

    async def move(self, values: Mapping[str, float | None], mode: str = "add", hold: float = 1.0) -> int:
        """Like `Session.move`."""
        return await self._frame(protocol.plan(dict(values), mode, hold), "plan")

    async def set_character(self, character: str, background: bool | None = None) -> int:
        """Switches the character; returns the first frame that may show it."""
        return await self._frame(protocol.character(character, background), "character")

    async def mute(self, muted: bool = True) -> None:
        await self._command(protocol.mute(muted), "muted")

    wear = renamed("wear", set_character)
    feel = renamed("feel", set_emotion)
    attend = renamed("attend", set_attention)

    async def send_raw(self, data: str | bytes) -> None:
        """Sends raw data on the socket; for testing servers."""
        await self._send(data)


def _is_bytes(speech: object) -> TypeGuard[bytes]:
    return isinstance(speech, bytes | bytearray | memoryview)


def _close_error(code: int, reported: Exception | None) -> Exception | None:
    """The error for a closed socket, None for a normal closure. `reported`: the error that the server sent before."""
    if code in (1000, 1005) and reported is None:
        return None
    if isinstance(reported, ControlFailed):
        if 4000 <= code < 5000:
            return RequestError(code - 4000, reported.reason, reported.detail)
        return reported
    return reported or SessionLost(f"socket_closed_{code}")


def _request_error(error: Exception) -> RequestError | None:
    """The error for a server's HTTP response to the handshake, None where there was no response."""
    response = getattr(error, "response", None)
    if response is None:
        return None
    text = bytes(response.body or b"").decode(errors="replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    return request_error(response.status_code, body, text, response.headers.get("Retry-After", ""))
