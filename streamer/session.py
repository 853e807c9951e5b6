"""One peer: takes its speech in, sends its character out, and answers its control channel.

Everything here runs on the event loop and only moves messages; decoding speech is the one exception (a packet takes a
fraction of a millisecond). Drawing happens in the engine's thread, encoding in the session's own.
"""

import asyncio
import contextlib
import enum
import json
import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from statistics import quantiles
from typing import Any

import numpy as np

from streamer import __version__, clock, control, tracks
from streamer.characters import Characters, Entry
from streamer.config import AUDIO_CLOCK, FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, ServerConfig
from streamer.encode import TICKS, EncoderThread, VideoEncoder, ceiling
from streamer.features import Listener
from streamer.generator import Engine, Seat
from streamer.generators import Generator
from streamer.ingest import Chunk, Ingest
from streamer.messages import Encoded, Frame, Step, Times
from streamer.metrics import Metrics
from streamer.pacing import BitrateRule, LipSync
from streamer.pipeline import Avatar, Drawable, Speech
from streamer.plan import Move
from streamer.signalling import Peer, Refused
from streamer.stamp import stamp
from streamer.studio.animate import Life
from streamer.vad import Vad, VadEvent

log = logging.getLogger(__name__)

_TICK = 0.010  # seconds between looks at the clock while no packet comes
_ROWS_EVERY = 0.250
_MOST_ROWS = 50
_BAD_MESSAGES = 100  # after as many the session is closed
_AUDIO_WAITING = 64  # packets of sound held back at most; beyond it the oldest is dropped
_VIDEO_WAITING = 8
_QUIET = 10 ** (-60 / 20)
_SILENT_AFTER = 5.0  # seconds below _QUIET after which a microphone is reported as silent


class State(enum.Enum):
    NEW = "new"
    CONNECTING = "connecting"
    LIVE = "live"
    CLOSING = "closing"
    CLOSED = "closed"


_MAY_FOLLOW = {
    State.NEW: {State.CONNECTING, State.CLOSING},
    State.CONNECTING: {State.LIVE, State.CLOSING},
    State.LIVE: {State.CLOSING},
    State.CLOSING: {State.CLOSED},
    State.CLOSED: set(),
}


class Gate:
    """Whether the voice moves the mouth and is heard: not while muted, nor for the rest of an interrupted utterance."""

    def __init__(self) -> None:
        self.muted = False
        self._cut = False
        self._speaking = False

    @property
    def shut(self) -> bool:
        return self.muted or self._cut

    def interrupt(self) -> None:
        self._cut = self._speaking

    def voice(self, speaking: bool) -> None:
        self._speaking = speaking
        if not speaking:
            self._cut = False


class Session:
    """Raises nothing after `start`: what goes wrong closes the session, with a reason. `close` is idempotent."""

    def __init__(
        self,
        *,
        config: ServerConfig,
        entry: Entry,
        characters: Characters,
        engine: Engine,
        generator: Generator,
        listener: Listener,
        rig: Drawable,
        background: bool,
        stamped: bool,
        metrics: Metrics,
        on_closed: Callable[["Session"], None],
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.peer: Peer | None = None
        self.close_reason = ""
        self._config = config
        self._characters = characters
        self._entry = entry
        self._background = background
        self._stamped = stamped
        self._metrics = metrics
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._born = clock.now()
        self._state = State.NEW
        self._epoch = 0
        self._gate = Gate()
        self._lookahead = listener.lookahead
        self._ingest = Ingest()
        self._speech = Speech(listener.lookahead)
        self._lip_sync = LipSync()
        self._bitrate = BitrateRule(ceiling(rig.size))
        self._sizes: deque[tuple[float, int]] = deque(maxlen=2 * FPS)  # when and how many bytes
        self._rig_size = rig.size
        self._engine = engine
        self._generator = generator
        self._seat: Seat | None = None
        self._avatar = Avatar(listener, rig, Life(entry.seed or 0), Vad())
        self._encoder: EncoderThread | None = None
        self._channel: Any = None
        self._audio_out: deque[tuple[float, int, bytes, float, int]] = deque()
        self._audio_ready = asyncio.Event()
        self._video_out: deque[Encoded] = deque()
        self._video_ready = asyncio.Event()
        self._rows: deque[list[float]] = deque(maxlen=_MOST_ROWS)
        self._latencies: deque[float] = deque(maxlen=250)
        self._bad_messages = 0
        self._wish: control.Wear | None = None
        self._dressing = False
        self._sent = 0
        self._audio_dropped = 0
        self._loud_at = self._born
        self._clipped = 0.0
        self._warned: set[str] = set()
        self._tasks: set[asyncio.Task] = set()
        self._closing: asyncio.Task | None = None

    # State

    @property
    def state(self) -> State:
        return self._state

    def _set_state(self, state: State) -> None:
        if state not in _MAY_FOLLOW[self._state]:
            raise RuntimeError(f"session {self.id}: {self._state.value} cannot become {state.value}")
        self._state = state
        self._tell({"type": "state", "state": state.value})

    @property
    def size(self) -> int:
        return self._rig_size

    @property
    def cost(self) -> float:
        """Seconds of the engine's thread that a frame takes; 0.0 before the first."""
        return self._seat.cost if self._seat is not None else 0.0

    @property
    def entry(self) -> Entry:
        return self._entry

    # Life cycle

    def attach(self, peer: Peer) -> None:
        """Takes the answered peer over and waits, in the background, for it to connect."""
        self.peer = peer
        self._encoder = EncoderThread(VideoEncoder(peer.codec, self._rig_size), self._encoded, self.id[:6])
        self._encoder.start()
        self._seat = self._engine.add(self._avatar, self._drawn, self._voice, self._failed)
        peer.connection.on("datachannel", self._open_channel)
        peer.connection.on("connectionstatechange", self._connection_changed)
        self._set_state(State.CONNECTING)
        self._spawn(self._watch())

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("session %s: a task failed", self.id, exc_info=error)
            self.close_soon("internal_error")

    def _connection_changed(self) -> None:
        assert self.peer is not None
        state = self.peer.connection.connectionState
        if state == "connected" and self._state is State.CONNECTING:
            self._set_state(State.LIVE)
            self._spawn(self._tick())
            self._spawn(self._send_audio())
            self._spawn(self._send_video())
            self._spawn(self._report())
        elif state == "failed":
            self.close_soon("connection_failed")
        elif state == "closed":
            self.close_soon("peer_closed")

    async def _watch(self) -> None:
        """Ends what never connects, what fell silent and what grew too old."""
        assert self.peer is not None
        received, since = 0, clock.now()
        while True:
            await asyncio.sleep(0.5)
            now = clock.now()
            if self._state is State.CONNECTING and now - self._born > self._config.connect_timeout:
                self.close_soon("connect_timeout")
            if (count := tracks.packets_received(self.peer.connection)) != received:
                received, since = count, now
            if self._state is State.LIVE and now - since > self._config.silence_timeout:
                self.close_soon("peer_gone")
            if now - self._born > self._config.max_session_age:
                self._tell({"type": "closed", "reason": "too_old"})
                self.close_soon("too_old")

    def close_soon(self, reason: str) -> asyncio.Task:
        """Begins to close; returns the task that does."""
        if self._closing is None:
            self.close_reason = reason
            self._set_state(State.CLOSING)
            self._closing = self._loop.create_task(self._close())
        return self._closing

    async def close(self, reason: str = "closed") -> None:
        await self.close_soon(reason)

    async def _close(self) -> None:
        self._tell({"type": "closed", "reason": self.close_reason})
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._seat is not None:
            self._seat.close()
        else:
            self._avatar.close()
        if self._encoder is not None:
            await self._loop.run_in_executor(None, self._encoder.close)
        if self.peer is not None:
            with contextlib.suppress(TimeoutError, Exception):
                await asyncio.wait_for(self.peer.connection.close(), 5.0)
        self._set_state(State.CLOSED)
        self._metrics.closed.labels(self.close_reason).inc()
        self._on_closed(self)

    # Speech in

    def take_packet(self, sequence: int, timestamp: int, payload: bytes, arrival: float) -> None:
        """An Opus packet from the microphone."""
        if self._state in (State.CONNECTING, State.LIVE):
            self._take(self._ingest.push(sequence, timestamp, payload, arrival), arrival)

    async def _tick(self) -> None:
        """Keeps time going where packets do not come."""
        while True:
            now = clock.now()
            deadline = self._ingest.deadline(now)
            if deadline is not None and deadline <= now:
                self._take(self._ingest.poll(now), now)
                deadline = self._ingest.deadline(now)
            await asyncio.sleep(_TICK if deadline is None else min(max(deadline - now, 0.001), _TICK))

    def _take(self, chunks: list[Chunk], now: float) -> None:
        for chunk in chunks:
            self._meter(chunk, now)
            if chunk.payload is not None and not self._gate.shut:
                self._hold_audio(chunk, now)
            for frame, samples in self._speech.push(chunk.pts, chunk.samples):
                times = Times(captured=self._ingest.captured(frame * SAMPLES_PER_FRAME), arrived=now)
                assert self._seat is not None
                self._seat.submit(Step(frame, self._epoch, samples, self._gate.shut, times))

    def _meter(self, chunk: Chunk, now: float) -> None:
        """Notices a microphone that gives nothing, or too much."""
        if chunk.concealed:
            self._metrics.concealed.inc(len(chunk.samples) / SAMPLE_RATE)
            return
        peak = float(np.max(np.abs(chunk.samples), initial=0.0))
        if peak > _QUIET:
            self._loud_at = now
            self._warned.discard("silent_microphone")
        elif now - self._loud_at > _SILENT_AFTER:
            self._warn(
                "silent_microphone", f"nothing above -60 dB for {_SILENT_AFTER:.0f} s: is the microphone switched on?"
            )
        self._clipped = self._clipped + 1 if peak > 0.999 else max(0, self._clipped - 0.02)
        if self._clipped > 20:
            self._warn("clipping", "the microphone is overdriven: turn its level down")
        elif self._clipped < 1:
            self._warned.discard("clipping")

    def _warn(self, reason: str, detail: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            self._tell({"type": "warning", "reason": reason, "detail": detail})

    # Sound out

    def _hold_audio(self, chunk: Chunk, now: float) -> None:
        assert chunk.payload is not None
        pts = chunk.end - chunk.duration  # where the whole packet begins; the chunk lacks what was concealed of it
        captured = self._ingest.captured(pts)
        send_at = self._lip_sync.send_sound_at(captured, chunk.duration / SAMPLE_RATE, now)
        if len(self._audio_out) >= _AUDIO_WAITING:
            self._audio_out.popleft()
            self._audio_dropped += 1
        self._audio_out.append((send_at, pts, chunk.payload, captured, self._epoch))
        self._audio_ready.set()

    async def _send_audio(self) -> None:
        assert self.peer is not None
        while True:
            while not self._audio_out:
                self._audio_ready.clear()
                await self._audio_ready.wait()
            wait = self._audio_out[0][0] - clock.now()
            if wait > 0.0005:
                await asyncio.sleep(wait)
                continue  # an interruption may have emptied the queue meanwhile
            _, pts, payload, captured, epoch = self._audio_out.popleft()
            if epoch == self._epoch and await self.peer.audio.push(payload, pts * AUDIO_CLOCK // SAMPLE_RATE, captured):
                self._metrics.audio.labels("sent").inc()
            else:
                self._metrics.audio.labels("dropped").inc()

    # Frames out: engine's thread → encoder's thread → event loop

    def _drawn(self, frame: Frame) -> None:
        if frame.epoch < self._epoch:
            return
        if self._stamped:
            stamp(frame.image, frame.frame)
        assert self._encoder is not None
        self._encoder.submit(frame)

    def _encoded(self, coded: Encoded) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone at shutdown
            self._loop.call_soon_threadsafe(self._queue_video, coded)

    def _queue_video(self, coded: Encoded) -> None:
        if len(self._video_out) >= _VIDEO_WAITING:
            self._video_out.clear()  # what is lost breaks the chain of references: start over with a key frame
            self._encoder.request_keyframe()  # type: ignore[union-attr]
            self._metrics.frames.labels("dropped").inc()
            return
        self._video_out.append(coded)
        self._video_ready.set()

    async def _send_video(self) -> None:
        assert self.peer is not None
        while True:
            while not self._video_out:
                self._video_ready.clear()
                await self._video_ready.wait()
            coded = self._video_out.popleft()
            ready = coded.times.encoded
            wait = ready + self._lip_sync.hold_frame(coded.times.captured, ready, 1 / FPS) - clock.now()
            if wait > 0.0005:
                await asyncio.sleep(wait)
            if not await self.peer.video.push(coded.packet, coded.frame * TICKS, coded.times.captured):
                self.on_keyframe_request()  # the receiver lacks this one: what refers to it would be of no use
                continue
            coded.times.sent = clock.now()
            self._sent += 1
            self._sizes.append((coded.times.sent, coded.packet.size))
            latency = coded.times.sent - coded.times.captured
            self._latencies.append(latency)
            self._metrics.frames.labels("sent").inc()
            self._metrics.latency.observe(latency)
            t = coded.times
            moments = (t.captured, t.arrived, t.started, t.drawn, t.encoded, t.sent)
            self._rows.append([coded.frame, coded.epoch, *(clock.to_ms(m) for m in moments)])

    # Voice activity and failures, from the engine's thread

    def _voice(self, events: list[VadEvent]) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._heard, events)

    def _heard(self, events: list[VadEvent]) -> None:
        for event in events:
            self._gate.voice(event.speaking)
            self._tell({"type": "vad", "speaking": event.speaking, "pts": event.pts})

    def _failed(self, error: Exception) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.close_soon, "generator_failed")

    # Control channel

    def _open_channel(self, channel: Any) -> None:
        if channel.label != "control" or self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._on_message)
        assert self.peer is not None
        self._tell(
            {
                "type": "hello",
                "session": self.id,
                "version": __version__,
                "fps": FPS,
                "samples_per_frame": SAMPLES_PER_FRAME,
                "sample_rate": SAMPLE_RATE,
                "lookahead_ms": self._lookahead * 1000 / SAMPLE_RATE,
                "video_rtp_offset": self.peer.video.timestamp_offset,
                "audio_rtp_offset": self.peer.audio.timestamp_offset,
                "epoch": self._epoch,
            }
        )
        self._tell({"type": "state", "state": self._state.value})

    def _tell(self, message: dict[str, Any]) -> None:
        channel = self._channel
        if channel is None or self.peer is None or channel.readyState != "open" or channel.bufferedAmount >= 256 * 1024:
            return
        if self.peer.connection.connectionState in ("closed", "failed"):
            return  # aiortc would try, and fail in a task that nobody awaits
        channel.send(json.dumps(message, separators=(",", ":")))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_ROWS_EVERY)
            if self._rows:
                rows = list(self._rows)
                self._rows.clear()
                self._tell({"type": "frames", "rows": rows})

    def _on_message(self, data: str | bytes) -> None:
        try:
            request = control.parse(data)
        except control.BadMessage as error:
            self._bad_messages += 1
            self._tell({"type": "error", "reason": "bad_message", "detail": str(error)})
            if self._bad_messages >= _BAD_MESSAGES:
                self.close_soon("bad_messages")
            return
        match request:
            case control.Ping(id=number, t=t):
                self._tell({"type": "pong", "id": number, "t": t, "server": clock.to_ms(clock.now())})
            case control.Interrupt():
                self.interrupt()
            case control.Mute(muted=muted):
                self.mute(muted)
            case control.Wear():
                self._wish = request  # newest wins: what was wished for and not yet made is passed over
                if not self._dressing:
                    self._spawn(self._dress())
            case control.Playout(difference_ms=difference):
                self._lip_sync.measured(difference / 1000)
            case control.Feel():
                self._avatar.feel(request.name, request.strength)
                self._tell({"type": "emotion", "name": request.name, "strength": request.strength})
            case Move():
                self._avatar.move(request)
                self._tell({"type": "plan", "frame": self._speech.next_frame})

    def interrupt(self) -> int:
        """Cuts the utterance short: its sound stops, its mouth closes with the next step. Returns the new epoch."""
        self._epoch += 1
        self._audio_out.clear()
        self._gate.interrupt()
        self._tell(
            {"type": "interrupted", "epoch": self._epoch, "pts": self._speech.end, "frame": self._speech.next_frame}
        )
        return self._epoch

    def mute(self, muted: bool) -> None:
        self._gate.muted = muted
        if muted:
            self._audio_out.clear()
        self._tell({"type": "muted", "muted": muted})

    async def _dress(self) -> None:
        """Fulfils wishes for another character, one at a time."""
        self._dressing = True
        try:
            while (wish := self._wish) is not None:
                self._wish = None
                await self.wear(wish.id, wish.background)
        finally:
            self._dressing = False

    async def wear(self, character_id: str, background: bool | None = None) -> None:
        """Switches the character live; the old one stays until the new one can be drawn."""
        try:
            entry = self._characters.get(character_id)
            shown = self._background if background is None else background
            rig = await self._loop.run_in_executor(None, self._generator.rig, entry, self._rig_size, shown)
        except Refused as error:
            self._tell({"type": "error", "reason": error.reason, "detail": error.detail})
            return
        if self._state is not State.LIVE:
            rig.close()
            return
        self._avatar.wear(rig)
        self._entry, self._background = entry, shown
        self._tell({"type": "character", "id": entry.id, "frame": self._speech.next_frame})

    def on_keyframe_request(self) -> None:
        if self._encoder is not None:
            self._encoder.request_keyframe()

    def on_bandwidth(self, bitrate: int) -> None:
        """The receiver's estimate (bit/s) of what the path carries."""
        self._cap(self._bitrate.estimate(bitrate, self._sent_rate()))

    def on_loss(self, share: float) -> None:
        """The share of video packets lost since the last receiver report."""
        self._cap(self._bitrate.report(share))

    def _cap(self, bitrate: int) -> None:
        if self._encoder is not None:
            self._encoder.request_bitrate(bitrate)

    def _sent_rate(self) -> float:
        """bit/s of video over the last seconds."""
        if len(self._sizes) < 2:
            return 0.0
        return 8 * sum(size for _, size in self._sizes) / max(0.5, self._sizes[-1][0] - self._sizes[0][0])

    # What others may know

    def to_json(self) -> dict[str, Any]:
        seat, encoder = self._seat, self._encoder
        percentiles = quantiles(self._latencies, n=20) if len(self._latencies) >= 20 else None
        return {
            "id": self.id,
            "state": self._state.value,
            "character": self._entry.id,
            "size": self._rig_size,
            "codec": self.peer.codec if self.peer else None,
            "age_s": round(clock.now() - self._born, 1),
            "epoch": self._epoch,
            "muted": self._gate.muted,
            "frames": {
                "sent": self._sent,
                "skipped": seat.skipped if seat else 0,
                "unheard": seat.unheard if seat else 0,
                "overtaken": encoder.dropped if encoder else 0,
                "keyframes": encoder.keyframes if encoder else 0,
            },
            "bitrate": {"sent": round(self._sent_rate()), "cap": self._bitrate.cap},
            "step_ms": round(seat.cost * 1e3, 2) if seat else None,
            "audio": {**asdict(self._ingest.stats), "dropped": self._audio_dropped},
            "latency_ms": {
                "server_p50": round(percentiles[9] * 1e3, 1) if percentiles else None,
                "server_p95": round(percentiles[18] * 1e3, 1) if percentiles else None,
            },
        }
