"""One session: speech goes up, frames, sound and events come down."""

import asyncio
import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from aiortc import RTCConfiguration, RTCIceServer, RTCSessionDescription
from aiortc.rtcconfiguration import RTCBundlePolicy

from lipstream_client import media, protocol
from lipstream_client.errors import ControlFailed, LipstreamError, SessionLost, Unreachable
from lipstream_client.newest import Newest
from lipstream_client.speech import Voice
from lipstream_client.stats import ClockSync, Latencies, Stats

if TYPE_CHECKING:
    from lipstream_client.client import Client

_QUICK_PINGS = 8
_PING_EVERY = 0.5
_ANSWER_WITHIN = 10.0  # seconds a control message has to be answered
_EARLY = 100  # frames and sounds kept until the server has said what their timestamps mean


@dataclass(frozen=True)
class Frame:
    """One picture of the character. `received` (s, `time.monotonic()`): when the last of it came."""

    image: np.ndarray
    """[S, S, 3] uint8 RGB; straight RGBA [S, S, 4] of a session with `alpha`."""
    k: int
    """The frame's number: it answers sample 640·k of the microphone at 16 kHz."""
    pts: int
    """640·k"""
    epoch: int
    """Interruptions before it."""
    received: float


@dataclass(frozen=True)
class Sound:
    """One packet of the character's voice, which is the microphone's, timed to go with the frames."""

    samples: np.ndarray
    """[n] float32 at 48 kHz"""
    pts: int
    """The first sample's number at 16 kHz, on the same timeline as `Frame.pts`."""
    received: float


@dataclass(frozen=True)
class Interrupted:
    """What an interruption cut: frames from `frame` on and sound from `pts` on belong to `epoch`."""

    epoch: int
    pts: int
    frame: int


def _now_ms() -> float:
    return time.monotonic() * 1e3


class Session:
    """Made by `Client.session`; use it as an async context manager.

    Iterations end when the speech has ended and `linger` seconds of silence were sent after it, or when the session is
    closed here; where the server or the network ended it, they raise `SessionLost`.
    """

    def __init__(
        self, client: "Client", query: dict[str, str], voice: Voice, linger: float, timeout: float, frame_queue: int
    ) -> None:
        self.id = ""
        self.hello: dict[str, Any] = {}
        """The server's first message: version, look-ahead, timestamps, size."""
        self.renderer = ""
        """What draws the character: "studio_rig", "picture_rig", "still" or "neural"; empty where nobody says."""
        self._client = client
        self._query = query
        self._voice = voice
        self._linger = linger
        self._timeout = timeout
        self._connection: media.Connection | None = None
        self._channel: Any = None
        self._video: media.VideoTap | None = None
        self._frames: Newest[Frame] = Newest(frame_queue)
        self._sounds: Newest[Sound] = Newest(250)
        self._events: Newest[dict[str, Any]] = Newest(256)
        self._expected: list[tuple[str, dict[str, Any], asyncio.Future]] = []
        self._pending: tuple[str, asyncio.Future] | None = None
        self._commanding = asyncio.Lock()
        self._greeted: asyncio.Future | None = None
        self._early: deque[tuple[Any, tuple]] = deque(maxlen=_EARLY)
        self._epochs: deque[tuple[int, int]] = deque([(0, 0)], maxlen=64)  # (first frame, epoch)
        self._clock = ClockSync()
        self._latencies = Latencies()
        self._decoded = self._heard = self._missing = 0
        self._newest = -1
        self._newest_pts = 0
        self.malformed = 0
        """Messages and timestamps that were not of the protocol, passed over."""
        self._arrivals: deque[float] = deque(maxlen=250)
        self._tasks: set[asyncio.Task] = set()
        self._ended = False
        self._closing: asyncio.Task | None = None

    # Life cycle

    async def __aenter__(self) -> "Session":
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _open(self) -> None:
        await self._voice.start()
        config = await self._client.config()
        servers = [RTCIceServer(s["urls"], s.get("username"), s.get("credential")) for s in config["ice_servers"]]
        connection = self._connection = media.Connection(
            RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        audio = connection.addTransceiver(media.VoiceTrack(self._voice), "sendrecv")
        video = connection.addTransceiver("video", "recvonly")
        self._channel = connection.createDataChannel("control")
        self._channel.on("message", self._on_message)
        connection.on("connectionstatechange", self._on_connection)
        media.bind_loopback(connection, only=self._client.loopback)
        self._greeted = asyncio.get_running_loop().create_future()
        await connection.setLocalDescription(await connection.createOffer())
        location, answer = await self._client._open_session(self._query, connection.localDescription.sdp)
        self.id = location.rpartition("/")[2]
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        media.AudioTap(self._on_sound).attach(audio)
        self._video = media.VideoTap(self._on_picture)
        self._video.attach(video)
        try:
            await asyncio.wait_for(asyncio.shield(self._greeted), self._timeout)
        except TimeoutError:
            raise Unreachable(
                f"media did not connect within {self._timeout:g} s: is UDP blocked between here and the server?"
            ) from None
        except SessionLost as lost:
            raise Unreachable(f"media did not connect ({lost.reason}): is UDP blocked on the way?") from None
        self._spawn(self._ping())
        if not math.isinf(self._linger):
            self._spawn(self._finish())

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ping(self) -> None:
        number = 0
        while True:
            self._send(protocol.ping(number, _now_ms()))
            number += 1
            await asyncio.sleep(0.02 if number < _QUICK_PINGS else _PING_EVERY)

    async def _finish(self) -> None:
        await self._voice.exhausted.wait()
        await asyncio.sleep(self._linger)
        self._end(self._voice.error)

    def _on_connection(self) -> None:
        assert self._connection is not None
        state = self._connection.connectionState
        if state in ("failed", "closed"):
            self._end(SessionLost(f"connection_{state}"))

    def _end(self, error: Exception | None = None) -> None:
        """Ends every iteration and wait; the first call decides why."""
        if self._ended:
            return
        self._ended = True
        for queue in (self._frames, self._sounds, self._events):
            queue.close(error)
        waits = [future for _, _, future in self._expected]
        waits += [future for future in (self._greeted, self._pending and self._pending[1]) if future]
        for future in waits:
            if not future.done():
                future.set_exception(error or LipstreamError("the session has ended"))
                future.exception()  # whoever does not wait is not told

    @property
    def ended(self) -> bool:
        return self._ended

    async def close(self) -> None:
        """Ends the session here and on the server; idempotent. No task, thread or socket is left."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._end()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.id:
            await self._client._close_session(self.id)
        if self._connection is not None:
            await self._connection.close()
        if self._video is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._video.close)
        await self._voice.close()

    # What comes down

    def _on_picture(self, timestamp: int, image: np.ndarray, received: float) -> None:
        if not self.hello:
            self._early.append((self._on_picture, (timestamp, image, received)))
            return
        k = protocol.frame_of(timestamp, self.hello["video_rtp_offset"], max(0, self._newest))
        if k is None:
            self.malformed += 1
            return
        epoch = next(epoch for first, epoch in reversed(self._epochs) if first <= k or epoch == self._epochs[0][1])
        if self._newest >= 0:
            self._missing += max(0, k - self._newest - 1)
        self._newest = max(self._newest, k)
        if self._query.get("alpha") == "packed":
            image = media.unpacked(image)
        self._decoded += 1
        self._arrivals.append(received)
        self._latencies.received(k, received * 1e3)
        self._frames.put(Frame(image, k, 640 * k, epoch, received))

    def _on_sound(self, timestamp: int, samples: np.ndarray, received: float) -> None:
        if not self.hello:
            self._early.append((self._on_sound, (timestamp, samples, received)))
            return
        pts = protocol.sample_of(timestamp, self.hello["audio_rtp_offset"], self._newest_pts)
        if pts is None:
            self.malformed += 1
            return
        self._newest_pts = max(self._newest_pts, pts)
        self._heard += 1
        self._sounds.put(Sound(samples, pts, received))

    def _on_message(self, data: str | bytes) -> None:
        received = _now_ms()
        try:
            message = protocol.read_message(data)
        except protocol.BadMessage:
            self.malformed += 1
            return
        if message is None:
            return
        kind = message["type"]
        if kind == "pong":
            self._clock.add(message["t"], received, message["server"])
            return
        if kind == "frames":
            for row in message["rows"]:
                self._latencies.row(row)
            return
        if kind in ("hello", "character"):
            self.renderer = message.get("renderer", "")
        if kind == "hello":
            self.hello = message
            self._epochs = deque([(0, message["epoch"])], maxlen=64)
            if self._greeted is not None and not self._greeted.done():
                self._greeted.set_result(None)
            for take, arguments in self._early:
                take(*arguments)
            self._early.clear()
        elif kind == "interrupted":
            self._epochs.append((message["frame"], message["epoch"]))
        elif kind == "error":
            self._answer(None, ControlFailed(message["reason"], message.get("detail", "")))
        if not message.get("remote"):  # what somebody else asked for answers nothing of ours
            self._answer(kind, message)
        for entry in [e for e in self._expected if e[0] == kind and e[1].items() <= message.items()]:
            self._expected.remove(entry)
            if not entry[2].done():
                entry[2].set_result(message)
        self._events.put(message)
        if kind == "closed":
            self._end(SessionLost(message["reason"]))

    def _answer(self, kind: str | None, result: dict[str, Any] | Exception) -> None:
        """Hands an answer, or an error (`kind` None), to the command that waits for it."""
        if self._pending is None or kind not in (None, self._pending[0]) or self._pending[1].done():
            return
        if isinstance(result, Exception):
            self._pending[1].set_exception(result)
        else:
            self._pending[1].set_result(result)

    def frames(self) -> Newest[Frame]:
        """The pictures, as an async iterator for one consumer. Who is slow misses frames, and never falls behind."""
        return self._frames

    def audio(self) -> Newest[Sound]:
        """The voice that came back, as an async iterator for one consumer; at most 5 s wait."""
        return self._sounds

    def events(self) -> Newest[dict[str, Any]]:
        """The server's messages (vad, warning, state, interrupted ...), as an async iterator for one consumer."""
        return self._events

    async def expect(self, kind: str, timeout: float = 5.0, **fields: object) -> dict[str, Any]:  # noqa: ASYNC109
        """The next message of a type, with these fields; no iterator misses it. Raises TimeoutError or SessionLost."""
        if self._ended:
            raise LipstreamError("the session has ended")
        entry = (kind, fields, asyncio.get_running_loop().create_future())
        self._expected.append(entry)
        try:
            return await asyncio.wait_for(entry[2], timeout)
        except TimeoutError:
            raise TimeoutError(f"no message {kind!r} {fields or ''} within {timeout:g} s") from None
        finally:
            with contextlib.suppress(ValueError):
                self._expected.remove(entry)

    # What goes up

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel is None or self._channel.readyState != "open" or self._connection is None:
            return
        if self._connection.connectionState not in ("closed", "failed"):  # aiortc would fail in a task of its own
            self._channel.send(json.dumps(message, separators=(",", ":")))

    def send_raw(self, data: str | bytes) -> None:
        """Puts anything on the control channel; for tests of servers."""
        self._channel.send(data)

    async def _command(self, message: dict[str, Any], answer: str) -> dict[str, Any]:
        async with self._commanding:  # one at a time: an error answer names no command
            if self._ended:
                raise LipstreamError("the session has ended")
            future = asyncio.get_running_loop().create_future()
            self._pending = (answer, future)
            try:
                self._send(message)
                return await asyncio.wait_for(future, _ANSWER_WITHIN)
            finally:
                self._pending = None

    async def interrupt(self) -> Interrupted:
        """Cuts the utterance: its sound stops, the mouth closes; the next utterance is spoken again."""
        answer = await self._command(protocol.interrupt(), "interrupted")
        return Interrupted(answer["epoch"], answer["pts"], answer["frame"])

    async def mute(self, muted: bool = True) -> None:
        await self._command(protocol.mute(muted), "muted")

    async def set_character(self, character: str, background: bool | None = None) -> int:
        """Switches the character live; returns the first frame that may show it."""
        return (await self._command(protocol.character(character, background), "character"))["frame"]

    async def set_emotion(self, emotion: str, strength: float = 1.0) -> None:
        """Turns towards an emotion of the server's `config()["emotions"]`, strength 0 to 1."""
        await self._command(protocol.emotion(emotion, strength), "emotion")

    async def move(self, values: Mapping[str, float | None], mode: str = "add", hold: float = 1.0) -> int:
        """Moves head, eyes, brows, body or hands: `config()["plan"]` names the controls and their ranges.

        "add" puts a value on top of what the control does by itself, "replace" in its place; None lets go of it. After
        `hold` seconds (at most 10) a value lapses unless it is asked again. Returns the first frame that may show it.
        """
        return (await self._command(protocol.plan(dict(values), mode, hold), "plan"))["frame"]

    async def set_attention(self, state: str) -> None:
        """What the character does while it does not speak: "idle", "listening" or "thinking"."""
        await self._command(protocol.attention(state), "attention")

    async def gesture(self, name: str) -> int:
        """Makes a gesture of the server's `config()["gestures"]`; returns the first frame that may show it."""
        return (await self._command(protocol.gesture(name), "gesture"))["frame"]

    async def away(self, away: bool = True, picture: str | None = None) -> int:
        """Shows "be right back", or a character's picture by its id, and lets nothing be heard; False: back again.

        Returns the first frame for which it holds.
        """
        return (await self._command(protocol.away(away, picture), "away"))["frame"]

    # Measurement

    def stats(self) -> Stats:
        now = time.monotonic()
        recent = [t for t in self._arrivals if t > now - 2.0]
        span = recent[-1] - recent[0] if len(recent) > 1 else 0.0
        rtt, offset = self._clock.rtt, self._clock.offset
        return Stats(
            frames=self._decoded,
            frames_dropped=self._frames.dropped,
            frames_missing=self._missing,
            sounds=self._heard,
            sounds_dropped=self._sounds.dropped,
            fps=round((len(recent) - 1) / span, 2) if span else None,
            packets_sent=self._voice.packets,
            underruns=self._voice.underruns,
            rtt_ms=round(rtt, 3) if rtt is not None else None,
            clock_offset_ms=round(offset, 3) if offset is not None else None,
            latency=self._latencies.by_stage(offset),
        )

    def moments(self) -> np.ndarray:
        """[N, 8] for the frames of the last minute: k, then when its sample was captured, the audio that it needs
        had arrived, drawing started, it was drawn, encoded, sent, received; milliseconds on `time.monotonic()`.
        """
        return self._latencies.moments(self._clock.offset or 0.0)

    async def server_stats(self) -> dict[str, Any]:
        """The server's own account of the session."""
        return await self._client.session_state(self.id)
