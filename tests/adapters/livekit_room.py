"""A LiveKit room in memory: two participants, byte streams, RPCs, and tracks that are heard and seen.

LiveKit's server is a Go program that no Python package carries. What stands in for it here is only the way between the
participants: the media sources, tracks and streams are livekit's own, and native.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from livekit import rtc


class Reader:
    """What `rtc.ByteStreamReader` gives: chunks, then the end."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.info = SimpleNamespace(stream_id="stream", attributes=attributes)
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if (chunk := await self.queue.get()) is None:
            raise StopAsyncIteration
        return chunk


class Writer:
    """What `rtc.ByteStreamWriter` takes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def write(self, data: bytes) -> None:
        self._reader.queue.put_nowait(bytes(data))

    async def aclose(self) -> None:
        self._reader.queue.put_nowait(None)


@dataclass
class Remote:
    """A participant as the other one knows it."""

    identity: str
    kind: Any = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    state: Any = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE
    track_publications: dict[str, Any] = field(default_factory=dict)


class Publication:
    async def wait_for_subscription(self) -> None:
        pass


class Audience:
    """Hears and sees what is published."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.pictures: list[np.ndarray] = []
        """[S, S, 4] uint8 RGBA."""
        self.times: list[float] = []
        self.sound: list[np.ndarray] = []
        self._changed = asyncio.Event()
        self._streams: list[Any] = []
        self._tasks: list[asyncio.Task] = []

    def set_attention(self, track: Any) -> None:
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            stream: Any = rtc.VideoStream(track, format=rtc.VideoBufferType.RGBA)
            self._tasks.append(asyncio.create_task(self._watch(stream)))
        else:
            stream = rtc.AudioStream(track, sample_rate=self._rate, num_channels=1)
            self._tasks.append(asyncio.create_task(self._listen(stream)))
        self._streams.append(stream)

    async def _watch(self, stream: Any) -> None:
        async for event in stream:
            frame = event.frame
            self.pictures.append(np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 4).copy())
            self.times.append(asyncio.get_running_loop().time())
            self._tell()

    async def _listen(self, stream: Any) -> None:
        async for event in stream:
            self.sound.append(np.frombuffer(event.frame.data, np.int16).copy())
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self._changed.wait()

    def heard(self) -> np.ndarray:
        """[n] int16: everything, without the silence that WebRTC sends where nothing is said."""
        sound = np.concatenate([np.zeros(0, np.int16), *self.sound])
        return sound[sound != 0]

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._streams:
            await asyncio.wait_for(self._streams.pop().aclose(), 5)


class Participant:
    """The part of `rtc.LocalParticipant` that avatars and agents use."""

    def __init__(self, room: "Room", identity: str) -> None:
        self.identity = identity
        self.calls: list[tuple[str, str]] = []
        """RPCs that it performed: method and payload."""
        self._room = room
        self._rpc_handlers: dict[str, Callable[[rtc.RpcInvocationData], Any]] = {}

    def register_rpc_method(self, name: str, handler: Callable[[rtc.RpcInvocationData], Any]) -> None:
        self._rpc_handlers[name] = handler

    async def perform_rpc(self, *, destination_identity: str, method: str, payload: str) -> str:
        other = self._room.other
        assert destination_identity == other.local_participant.identity
        self.calls.append((method, payload))
        await asyncio.sleep(0)
        if method not in other.local_participant._rpc_handlers:
            raise rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, f"nobody answers {method}")
        answer = other.local_participant._rpc_handlers[method](
            rtc.RpcInvocationData(str(len(self.calls)), self.identity, payload, 10.0, method)
        )
        return await answer if asyncio.iscoroutine(answer) else answer

    async def stream_bytes(
        self, *, name: str, topic: str, destination_identities: list[str], attributes: dict[str, str]
    ) -> Writer:
        other = self._room.other
        assert destination_identities == [other.local_participant.identity]
        reader = Reader(attributes)
        other.byte_handlers[topic](reader, self.identity)
        return Writer(reader)

    async def publish_track(self, track: Any, options: rtc.TrackPublishOptions) -> Publication:
        self._room.audience.set_attention(track)
        return Publication()


class Room(rtc.EventEmitter):
    """One participant's end."""

    def __init__(self, identity: str, audience: Audience) -> None:
        super().__init__()
        self.name = "room"
        self.audience = audience
        self.local_participant = Participant(self, identity)
        self.remote_participants: dict[str, Remote] = {}
        self.byte_handlers: dict[str, Callable[[Reader, str], None]] = {}
        self.other: Room

    def isconnected(self) -> bool:
        return True

    def register_byte_stream_handler(self, topic: str, handler: Callable[[Reader, str], None]) -> None:
        self.byte_handlers[topic] = handler


def pair(audience: Audience) -> tuple[Room, Room]:
    """The agent's end and the avatar's."""
    agent, avatar = Room("agent", audience), Room("avatar", audience)
    agent.other, avatar.other = avatar, agent
    agent.remote_participants["avatar"] = Remote("avatar")
    avatar.remote_participants["agent"] = Remote("agent")
    return agent, avatar
