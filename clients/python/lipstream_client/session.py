"""One session: sends speech, receives frames, audio and events."""

import asyncio
import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from aiortc import RTCConfiguration, RTCIceServer, RTCSessionDescription
from aiortc.rtcconfiguration import RTCBundlePolicy

from lipstream_client import media, protocol
from lipstream_client._deprecated import renamed
from lipstream_client.errors import ControlFailed, LipstreamError, SessionLost, Unreachable
from lipstream_client.http import HttpApi, session_id_of
from lipstream_client.queues import DropOldestQueue
from lipstream_client.samples import Samples
from lipstream_client.speech import PacedSpeech
from lipstream_client.stats import ClockSync, Latencies, Stats

_QUICK_PINGS = 8
_PING_EVERY = 0.5
_ANSWER_WITHIN = 10.0  # seconds a control message has to be answered
_EARLY = 100  # frames and sounds kept until the server has said what their timestamps mean


@dataclass(frozen=True)
class Frame:
    """One video frame of the character. `received`: when its last packet arrived (s, `time.monotonic()`)."""

    image: npt.NDArray[np.uint8]
    """[S, S, 3] uint8 RGB; with `alpha`, [S, S, 4] straight RGBA."""
    k: int
    """The frame's number: it belongs to sample 640·k of the microphone at 16 kHz."""
    pts: int
    """640·k"""
    epoch: int
    """The number of interruptions before it."""
    received: float


@dataclass(frozen=True)
class Sound:
    """One packet of the character's voice: the speech that was sent, in sync with the frames."""

    samples: Samples
    """[n] float32 at 48 kHz"""
    pts: int
    """The first sample's number at 16 kHz, on the same timeline as `Frame.pts`."""
    received: float


@dataclass(frozen=True)
class Interrupted:
    """Where an interruption cut: frames from `frame` on and audio from `pts` on belong to the new `epoch`."""

    epoch: int
    pts: int
    frame: int


def _now_ms() -> float:
    return time.monotonic() * 1e3


class Session:
    """Created by `Client.session`; use it as an async context manager.

    Iterations end `linger` seconds of silence after the end of the speech, or when the session is closed here. If the
    server or the network ended the session, they raise `SessionLost`.
    """

    def __init__(
        self,
        api: HttpApi,
        query: dict[str, str],
        speech: PacedSpeech,
        linger: float,
        timeout: float,
        frame_queue: int,
    ) -> None:
        self.id = ""
        self.hello: dict[str, Any] = {}
        """The server's first message: version, look-ahead, timestamp offsets, size."""
        self.renderer = ""
        """What draws the character: "studio_rig", "picture_rig", "still" or "neural"; empty if unknown."""
        self.url = ""
        """The session's own address, for `DELETE`."""
        self._api = api
        self._query = query
        self._speech = speech
        self._linger = linger
        self._timeout = timeout
        self._connection: media.Connection | None = None
        self._channel: Any = None
        self._video: media.VideoTap | None = None
        self._frames: DropOldestQueue[Frame] = DropOldestQueue(frame_queue)
        self._sounds: DropOldestQueue[Sound] = DropOldestQueue(250)
        self._events: DropOldestQueue[dict[str, Any]] = DropOldestQueue(256)
        self._expected: list[tuple[str, dict[str, Any], asyncio.Future[dict[str, Any]]]] = []
        self._pending: tuple[str, asyncio.Future[dict[str, Any]]] | None = None
        self._commanding = asyncio.Lock()
        self._greeted: asyncio.Future[None] | None = None
        self._early: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque(maxlen=_EARLY)
        self._epochs: deque[tuple[int, int]] = deque([(0, 0)], maxlen=64)  # (first frame, epoch)
        self._clock = ClockSync()
        self._latencies = Latencies()
        self._decoded = self._heard = self._missing = 0
        self._newest = -1
        self._newest_pts = 0
        self.malformed = 0
        """Messages and timestamps that violated the protocol and were ignored."""
        self._arrivals: deque[float] = deque(maxlen=250)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False
        self._closing: asyncio.Task[None] | None = None

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
        await self._speech.start()
        config = await self._api.config()
        servers = [RTCIceServer(s["urls"], s.get("username"), s.get("credential")) for s in config["ice_servers"]]
        connection = self._connection = media.Connection(
            RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        audio = connection.addTransceiver(media.SpeechTrack(self._speech), "sendrecv")
        video = connection.addTransceiver("video", "recvonly")
        self._channel = connection.createDataChannel("control")
        self._channel.on("message", self._on_message)
        connection.on("connectionstatechange", self._on_connection)
        media.bind_loopback(connection, only=self._api.loopback)
        self._greeted = asyncio.get_running_loop().create_future()
        await connection.setLocalDescription(await connection.createOffer())
        self.url, answer = await self._api.open_session(self._query, connection.localDescription.sdp)
        self.id = session_id_of(self.url)
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        media.AudioTap(self._on_sound).attach(audio)
        self._video = media.VideoTap(self._on_frame)
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

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
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
        await self._speech.exhausted.wait()
        await asyncio.sleep(self._linger)
        self._end(self._speech.error)

    def _on_connection(self) -> None:
        assert self._connection is not None
        state = self._connection.connectionState
        if state in ("failed", "closed"):
            self._end(SessionLost(f"connection_{state}"))

    def _end(self, error: Exception | None = None) -> None:
        """Ends every iteration and wait; the first call's error counts."""
        if self._ended:
            return
        self._ended = True
        for queue in (self._frames, self._sounds, self._events):
            queue.close(error)
        waits: list[asyncio.Future[Any]] = [future for _, _, future in self._expected]
        waits += [future for future in (self._greeted, self._pending and self._pending[1]) if future]
        for future in waits:
            if not future.done():
                future.set_exception(error or LipstreamError("the session has ended"))
                future.exception()  # marks it as retrieved: nobody may be waiting

    @property
    def ended(self) -> bool:
        return self._ended

    async def close(self) -> None:
        """Ends the session here and on the server; idempotent. Leaves no task, thread or socket behind."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._end()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.url:
            await self._api.close_session(self.url)
        if self._connection is not None:
            await self._connection.close()
        if self._video is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._video.close)
        await self._speech.close()

    # Receiving

    def _on_frame(self, timestamp: int, image: npt.NDArray[np.uint8], received: float) -> None:
        if not self.hello:
            self._early.append((self._on_frame, (timestamp, image, received)))
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
            image = media.unpack_alpha(image)
        self._decoded += 1
        self._arrivals.append(received)
        self._latencies.received(k, received * 1e3)
        self._frames.put(Frame(image, k, 640 * k, epoch, received))

    def _on_sound(self, timestamp: int, samples: Samples, received: float) -> None:
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
        if not message.get("remote"):  # remote: it answers another client's command
            self._answer(kind, message)
        for entry in [e for e in self._expected if e[0] == kind and e[1].items() <= message.items()]:
            self._expected.remove(entry)
            if not entry[2].done():
                entry[2].set_result(message)
        self._events.put(message)
        if kind == "closed":
            self._end(SessionLost(message["reason"]))

    def _answer(self, kind: str | None, result: dict[str, Any] | Exception) -> None:
        """Passes an answer, or an error (`kind` None), to the command that waits for it."""
        if self._pending is None or kind not in (None, self._pending[0]) or self._pending[1].done():
            return
        if isinstance(result, Exception):
            self._pending[1].set_exception(result)
        else:
            self._pending[1].set_result(result)

    def frames(self) -> DropOldestQueue[Frame]:
        """The frames, as an async iterator for one consumer. A slow consumer misses frames and never falls behind."""
        return self._frames

    def audio(self) -> DropOldestQueue[Sound]:
        """The returned audio, as an async iterator for one consumer; at most 5 s are buffered."""
        return self._sounds

    def events(self) -> DropOldestQueue[dict[str, Any]]:
        """The server's messages (vad, warning, state, interrupted ...), as an async iterator for one consumer."""
        return self._events

    async def expect(self, kind: str, timeout: float = 5.0, **fields: object) -> dict[str, Any]:  # noqa: ASYNC109
        """The next message of a type with these fields; iterators get it, too. Raises TimeoutError or SessionLost."""
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

    # Sending

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel is None or self._channel.readyState != "open" or self._connection is None:
            return
        if self._connection.connectionState not in ("closed", "failed"):  # aiortc would fail in a task of its own
            self._channel.send(json.dumps(message, separators=(",", ":")))

    def send_raw(self, data: str | bytes) -> None:
        """Sends raw data on the control channel; for testing servers."""
        self._channel.send(data)

    async def _command(self, message: dict[str, Any], answer: str) -> dict[str, Any]:
        async with self._commanding:  # one at a time: an error does not name the command that it answers
            if self._ended:
                raise LipstreamError("the session has ended")
            future = asyncio.get_running_loop().create_future()
            self._pending = (answer, future)
            try:
                self._send(message)
                return await asyncio.wait_for(future, _ANSWER_WITHIN)
            finally:
                self._pending = None

    async def _frame(self, message: dict[str, Any], answer: str) -> int:
        """Sends a command whose answer names the first frame that it applies to."""
        frame: int = (await self._command(message, answer))["frame"]
        return frame

    async def interrupt(self) -> Interrupted:
        """Cuts the current utterance: its audio stops and the mouth closes until the next utterance."""
        answer = await self._command(protocol.interrupt(), "interrupted")
        return Interrupted(answer["epoch"], answer["pts"], answer["frame"])

    async def mute(self, muted: bool = True) -> None:
        await self._command(protocol.mute(muted), "muted")

    async def set_character(self, character: str, background: bool | None = None) -> int:
        """Switches the character; returns the first frame that may show it."""
        return await self._frame(protocol.character(character, background), "character")

    async def set_emotion(self, emotion: str, strength: float = 1.0) -> None:
        """Changes to an emotion of the server's `config()["emotions"]`, with a strength of 0 to 1."""
        await self._command(protocol.emotion(emotion, strength), "emotion")

    async def move(self, values: Mapping[str, float | None], mode: str = "add", hold: float = 1.0) -> int:
        """Moves head, eyes, brows, body or hands: `config()["plan"]` lists the controls and their ranges.

        "add" adds a value to the control's own motion, "replace" replaces that; None releases the control. A value
        expires after `hold` seconds (at most 10) unless it is sent again. Returns the first frame that may show it.
        """
        return await self._frame(protocol.plan(dict(values), mode, hold), "plan")

    async def set_attention(self, state: str) -> None:
        """What the character does while it does not speak: "idle", "listening" or "thinking"."""
        await self._command(protocol.attention(state), "attention")

    async def gesture(self, name: str) -> int:
        """Plays a gesture of the server's `config()["gestures"]`; returns the first frame that may show it."""
        return await self._frame(protocol.gesture(name), "gesture")

    async def away(self, away: bool = True, picture: str | None = None) -> int:
        """Shows "be right back", or the picture of a character (its id), and mutes the audio; False ends it.

        Returns the first frame that it applies to.
        """
        return await self._frame(protocol.away(away, picture), "away")

    wear = renamed("wear", set_character)
    feel = renamed("feel", set_emotion)
    attend = renamed("attend", set_attention)

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
            packets_sent=self._speech.packets,
            underruns=self._speech.underruns,
            rtt_ms=round(rtt, 3) if rtt is not None else None,
            clock_offset_ms=round(offset, 3) if offset is not None else None,
            latency=self._latencies.by_stage(offset),
        )

    def moments(self) -> npt.NDArray[np.float64]:
        """[N, 8] for the frames of the last minute: k, then when its sample was captured, the audio that it needs had
        arrived, drawing started, and it was drawn, encoded, sent and received; ms of `time.monotonic()`.
        """
        return self._latencies.moments(self._clock.offset or 0.0)

    async def server_stats(self) -> dict[str, Any]:
        """The server's own account of the session."""
        return await self._api.session_state(self.id)
