"""A character that somebody gives a voice to: takes speech in, has it drawn, and hands picture and sound out.

    Microphone ─chunks▶ Speech ─Step▶ engine ─Frame▶ Broadcast ─Encoded▶ Viewer ─▶ RTP
     or SpeechIn ─────────────────Sound────────────────┘

Everything here runs on the event loop and only moves messages; decoding speech is the one exception (a packet takes a
fraction of a millisecond). Drawing happens in the engine's thread, encoding in the broadcast's own.
"""

import asyncio
import contextlib
import enum
import json
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

import numpy as np

from streamer import __version__
from streamer.audio import Chunk, Finished, Packet, Started
from streamer.audio.framing import Speech
from streamer.audio.vad import Vad, VadEvent
from streamer.avatar.avatar import Avatar
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.engine import Engine, EngineSlot
from streamer.avatar.renderer import Renderer, RendererBackend, display_name, faster_than
from streamer.base import clock
from streamer.base.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from streamer.base.errors import RequestError
from streamer.base.frames import Frame, Sound, Step, Times
from streamer.base.metrics import Metrics
from streamer.base.queues import LatestOnlyLock, Overtaken
from streamer.media.away_card import card, fitted
from streamer.media.frame_stamp import stamp
from streamer.motion.articulation import ArticulationModel
from streamer.motion.idle import IdleMotion
from streamer.motion.plan import MotionCommand
from streamer.provenance.marker import Marker
from streamer.rtc import aiortc_internals
from streamer.rtc.negotiation import Peer
from streamer.session import messages
from streamer.session.bot import GOING_AWAY, Bot, Closed, Pause, UserVad
from streamer.session.fanout import Broadcast, ReceiverFeedback
from streamer.session.limits import Grant, SessionLimits
from streamer.session.microphone import Microphone
from streamer.session.speech_input import SpeechInput
from streamer.session.viewer import NO_LATENCY, Viewer
from streamer.session.viewers import Audience

log = logging.getLogger(__name__)

_ROWS_EVERY = 0.250
_AHEAD = 9  # characters that are made ready to be put on: the first that every client shows
_AHEAD_AFTER = 3.0  # seconds of the session's life: nobody changes at once, and then there is enough to do
_AHEAD_SHARE = 0.25  # of a core that making them takes
_CALM = 0.25  # seconds without a frame left out after which there is time for them
_PATIENCE = 2.0  # seconds that each of them is put off at most
_LOOK_AFTER = 5.0  # seconds between looks at how many frames were left out
_MOST_LEFT_OUT = 0.1  # share of them above which it is said
_NO_PLAYOUT = "'playout' is said of a connection, by the peer at its end"
_BAD_MESSAGES = 100  # after as many the session is closed


class State(enum.Enum):
    NEW = "new"
    CONNECTING = "connecting"
    LIVE = "live"
    CLOSING = "closing"
    CLOSED = "closed"


_MAY_FOLLOW = {
    State.NEW: {State.CONNECTING, State.LIVE, State.CLOSING},
    State.CONNECTING: {State.LIVE, State.CLOSING},
    State.LIVE: {State.CLOSING},
    State.CLOSING: {State.CLOSED},
    State.CLOSED: set(),
}


class VoiceGate:
    """
    Whether the voice moves the mouth and is heard: not while muted or away, nor for the rest of an interrupted
    utterance.
    """

    def __init__(self) -> None:
        self.muted = False
        self.away = False
        self._cut = False
        self._speaking = False

    @property
    def shut(self) -> bool:
        return self.muted or self.away or self._cut

    def interrupt(self) -> None:
        self._cut = self._speaking

    def voice(self, speaking: bool) -> None:
        self._speaking = speaking
        if not speaking:
            self._cut = False


class Voice(Protocol):
    """What moves the avatar's mouth and is heard: a microphone, or speech that a bot sends."""

    @property
    def stats(self) -> Any:
        """A dataclass of counts."""
        ...

    def captured(self, pts: int) -> float:
        """When sample `pts` came to be: seconds on the server's clock."""
        ...

    async def run(self) -> None:
        """Keeps time going, until cancelled."""
        ...


class Outlet(Protocol):
    """Where a session's picture and sound go beside its viewers: a recording, say. Its methods must return at once."""

    def frame(self, frame: Frame) -> None:
        """A drawn frame, whose image must not be changed. Called on the engine's thread."""
        ...

    def sound(self, sound: Sound) -> None:
        """A packet of sound. Called on the event loop."""
        ...

    async def close(self) -> None:
        """The session has ended; idempotent."""
        ...


def _problem(refused: RequestError) -> dict[str, Any]:
    """What is said of it on a channel."""
    return {"type": "error", "reason": refused.reason, "detail": refused.detail}


class Session:
    """Raises nothing after `attach`: what goes wrong closes the session, with a reason. `close` is idempotent."""

    def __init__(
        self,
        *,
        config: SessionLimits,
        entry: CharacterRecord,
        characters: Characters,
        engine: Engine,
        generator: RendererBackend,
        listener: ArticulationModel,
        rig: Renderer,
        background: bool,
        stamped: bool,
        packed: bool,
        metrics: Metrics,
        grant: Grant | None = None,
        may_be_drawn: Callable[["Session", str], None],
        on_closed: Callable[["Session"], None],
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.peer: Peer | None = None
        self.close_reason = ""
        self.grant = grant
        """Of the session token that opened it; None: the server's own token did, or none was wanted."""
        self._config = config
        self._characters = characters
        self._entry = entry
        self._background = background
        self._marker = Marker(rig.size, config.label, config.watermark)
        self._stamped = stamped
        self._packed = packed
        self._metrics = metrics
        self._may_be_drawn = may_be_drawn  # by another renderer; raises `RequestError`
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._born = clock.now()
        self._state = State.NEW
        self._epoch = 0
        self._gate = VoiceGate()
        self._lookahead = listener.lookahead
        self._microphone = Microphone(self._take, self._warn, metrics)
        self._voice: Voice = self._microphone
        self.speech: SpeechInput | None = None
        """A bot's speech, where that is the voice."""
        self._ear: UserVad | None = None
        self._bot: Bot | None = None
        self._attention_asked = False
        self._speech = Speech(listener.lookahead)
        self._rig_size = rig.size
        self._renderer = rig.name
        self._engine = engine
        self._generator = generator
        self._seat: EngineSlot | None = None
        self._avatar = Avatar(listener, rig, IdleMotion(entry.seed or 0), Vad())
        self._broadcast = Broadcast(rig.size, self.id[:6])
        self.reports = ReceiverFeedback(self._broadcast)
        self.audience = Audience(self._broadcast, rig.size, config, metrics)
        self._viewer: Viewer | None = None
        self._outlets: list[Outlet] = []
        self._channel: Any = None
        self._bad_messages = 0
        self._attended = self._born
        self._wearing, self._leaving = LatestOnlyLock(), LatestOnlyLock()
        self._worn = asyncio.Event()  # something that was made ready has been used up
        self._away_picture: str | None = None
        self._card_shown: np.ndarray | None = None  # while away; read by the engine's thread
        self._returned = 0
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
        self._send_event({"type": "state", "state": state.value})

    @property
    def size(self) -> int:
        return self._rig_size

    @property
    def renderer(self) -> str:
        """What draws the character, one of config.RENDERERS."""
        return self._renderer

    @property
    def cost(self) -> float:
        """Seconds of the engine's thread that a frame takes; 0.0 before the renderer's first."""
        seat = self._seat
        return seat.cost if seat is not None and seat.renderer == self._renderer else 0.0

    @property
    def entry(self) -> CharacterRecord:
        return self._entry

    # Life cycle

    def attach(self, peer: Peer, fed: bool = False) -> None:
        """Takes over the answered peer and waits unseen until it connects. Its microphone is the voice, or (`fed`) the
        user's, who is heard by the bot whose speech is the voice.
        """
        self.peer = peer
        self._seat = self._engine.add(self._avatar, self._drawn, self._voiced, self._failed)
        if fed:
            self.use_speech_input()
            self._ear = UserVad()
            self._microphone = Microphone(self._listen, self._warn, self._metrics)
        peer.connection.on("datachannel", self._open_channel)
        peer.connection.on("connectionstatechange", self._connection_changed)
        if peer.video is not None:
            self._viewer = self.reports.viewer = Viewer(peer, self._rig_size, self._metrics, self._packed)
            self._broadcast.join(self._viewer)
        self._set_state(State.CONNECTING)
        self._spawn(self._watch())

    def start_peerless(self) -> None:
        """Lives without a peer: a bot's speech is the voice, and who wants to see it comes as a viewer."""
        self._seat = self._engine.add(self._avatar, self._drawn, self._voiced, self._failed)
        self.use_speech_input()
        self._set_state(State.LIVE)
        self._spawn(self._voice.run())
        self._spawn(self._watch_drawing())
        self._spawn(self._watch_attendance())

    def use_speech_input(self) -> None:
        self._voice = self.speech = SpeechInput(self._lookahead, self._take, self._say, self._told)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
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
            self._spawn(self._voice.run())
            if self._voice is not self._microphone:
                self._spawn(self._microphone.run())
            self._spawn(self._watch_drawing())
            self._spawn(self._make_ahead())
            if self._viewer is not None:
                self._spawn(self._viewer.run())
                self._spawn(self._report(self._viewer))
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
            if (count := aiortc_internals.packets_received(self.peer.connection)) != received:
                received, since = count, now
            if self._state is State.LIVE and now - since > self._config.silence_timeout:
                self.close_soon("peer_gone")
            if now - self._born > self._config.max_session_age:
                self._send_event({"type": "closed", "reason": "too_old"})
                self.close_soon("too_old")

    async def _watch_attendance(self) -> None:
        """Ends what nobody speaks to or looks at any more, and what grew too old."""
        while True:
            await asyncio.sleep(0.5)
            now = clock.now()
            if self._bot is not None or self._outlets or len(self.audience):
                self._attended = now
            if now - self._attended > self._config.unattended_timeout:
                self.close_soon("unattended")
            if now - self._born > self._config.max_session_age:
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
        self._send_event({"type": "closed", "reason": self.close_reason})
        if self._bot is not None:
            self._bot.outbox.close(Closed(GOING_AWAY, self.close_reason, "the session has ended"))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._seat is not None:
            self._seat.close()
        else:
            self._avatar.close()
        await self.audience.close()
        await asyncio.gather(self._broadcast.close(), *(outlet.close() for outlet in self._outlets))
        if self.peer is not None:
            with contextlib.suppress(TimeoutError, Exception):
                await asyncio.wait_for(self.peer.connection.close(), 5.0)
        self._set_state(State.CLOSED)
        self._metrics.closed.labels(self.close_reason).inc()
        self._on_closed(self)

    async def _watch_drawing(self) -> None:
        """Says so where frames are left out for want of time, once each time that it begins."""
        seat = self._seat
        assert seat is not None
        frames = _LOOK_AFTER * FPS
        behind, before = False, seat.frames_skipped
        while True:
            await asyncio.sleep(_LOOK_AFTER)
            now = seat.frames_skipped  # once: the engine's thread counts on
            missed, before = now - before, now
            was, behind = behind, missed > _MOST_LEFT_OUT * frames
            if behind and not was:
                detail = (
                    f"{missed} of {frames:.0f} frames were left out: the {display_name(self._renderer)} takes "
                    f"{1000 * seat.cost:.0f} ms for one, and what else runs here its share of the processor"
                    + faster_than(self._renderer, self._rig_size)
                )
                log.warning("session %s: %s", self.id, detail)
                self._warn("overloaded", detail)

    async def _make_ahead(self) -> None:
        """
        Makes characters ready, softly, and not while frames are left out for want of time: a switch is to be seen
        within 200 ms, and making a character may take that alone.
        """
        await asyncio.sleep(_AHEAD_AFTER)
        while True:
            self._worn.clear()
            for entry in self._characters.all()[:_AHEAD]:
                await self._calm()
                began = clock.now()
                with contextlib.suppress(RequestError):
                    make = partial(self._generator.prepare, entry, self._rig_size, self._background)
                    await self._loop.run_in_executor(None, make)
                await asyncio.sleep((clock.now() - began) * (1 / _AHEAD_SHARE - 1))
            await self._worn.wait()

    async def _calm(self) -> None:
        """Until no frame has been left out for a while; on a machine that always leaves some out, not for ever."""
        assert self._seat is not None
        skipped, patience = -1, clock.now() + _PATIENCE
        while skipped != (skipped := self._seat.skipped) and clock.now() < patience:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(_CALM)

    # Speech in

    def take_packet(self, sequence: int, timestamp: int, payload: bytes, arrival: float) -> None:
        """An Opus packet from the microphone."""
        if self._state in (State.CONNECTING, State.LIVE):
            self._microphone.packet(sequence, timestamp, payload, arrival)

    def _take(self, chunks: list[Chunk], now: float) -> None:
        for chunk in chunks:
            if chunk.payload is not None and not self._gate.shut:
                # The chunk lacks what was concealed of its packet, which is sent whole.
                pts = chunk.end - chunk.duration
                self._send(Sound(pts, chunk.duration, self._epoch, chunk.payload, self._microphone.captured(pts)), now)
            for frame, samples in self._speech.push(chunk.pts, chunk.samples):
                times = Times(captured=self._voice.captured(frame * SAMPLES_PER_FRAME), arrived=now)
                assert self._seat is not None
                self._seat.submit(Step(frame, self._epoch, samples, self._gate.shut, times))

    def _say(self, packet: Packet, now: float) -> None:
        """A packet of the bot's speech."""
        if not self._gate.shut:
            captured = self._voice.captured(packet.pts)
            self._send(Sound(packet.pts, packet.duration, self._epoch, packet.payload, captured), now)

    def _told(self, event: Started | Finished) -> None:
        if self._bot is not None:
            self._bot.event(event)

    def _listen(self, chunks: list[Chunk], now: float) -> None:
        """The user's voice, which the bot hears and the avatar listens to."""
        assert self._ear is not None and self.speech is not None
        bot = self._bot
        for chunk in chunks:
            if bot is not None:
                bot.heard(chunk)
            for event in self._ear.push(chunk):
                if isinstance(event, Pause):
                    self._avatar.nod()
                    continue
                if not self._attention_asked:
                    self._avatar.set_attention("listening" if event.speaking else "idle")
                if bot is not None:
                    bot.user(event, self._microphone.captured(event.pts))
                    if event.speaking and bot.barge_in and self.speech.speaking:
                        self.interrupt("user")

    # The bot

    @property
    def epoch(self) -> int:
        """Interruptions so far."""
        return self._epoch

    @property
    def hears_user(self) -> bool:
        """Whether there is a user whom a bot could hear."""
        return self._ear is not None

    def attach_bot(self) -> Bot:
        """The one bot that gives the session its voice. Raises `RequestError` (409)."""
        if self.speech is None:
            raise RequestError(
                409, "voice_is_microphone", "this session's voice is its peer's microphone: see voice=speech"
            )
        if self._bot is not None:
            raise RequestError(409, "speech_taken", "another speech socket is open on this session: it takes one")
        if self._closing is not None:
            raise RequestError(409, "session_ended", f"this session has ended: {self.close_reason}")
        self._bot = Bot(self, self.speech)
        return self._bot

    def detach_bot(self, bot: Bot) -> None:
        """Its socket is gone: what it has sent is still spoken. Idempotent."""
        if self._bot is bot and self.speech is not None:
            self._bot = None
            self.speech.end()

    def _warn(self, reason: str, detail: str) -> None:
        self._send_event({"type": "warning", "reason": reason, "detail": detail})

    # Picture and sound out

    def _drawn(self, frame: Frame) -> None:
        """On the engine's thread."""
        if frame.epoch < self._epoch:
            return
        if (away := self._card_shown) is not None:
            frame.image = away.copy()
        self._marker.apply(frame.image)
        if self._stamped:
            stamp(frame.image, frame.frame)
        self._broadcast.submit(frame)
        for outlet in self._outlets:
            outlet.frame(frame)

    def _send(self, sound: Sound, now: float) -> None:
        self._broadcast.sound(sound, now)
        for outlet in self._outlets:
            outlet.sound(sound)

    def add_outlet(self, outlet: Outlet) -> None:
        """Gives it all that is drawn and heard from now on; it is closed with the session."""
        self._outlets = [*self._outlets, outlet]  # another list: the engine's thread may be walking through the old one

    def remove_outlet(self, outlet: Outlet) -> None:
        """Gives it nothing any more, and leaves it open. Idempotent."""
        self._outlets = [each for each in self._outlets if each is not outlet]

    # Voice activity and failures, from the engine's thread

    def _voiced(self, events: list[VadEvent]) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._heard, events)

    def _heard(self, events: list[VadEvent]) -> None:
        for event in events:
            self._gate.voice(event.speaking)
            self._send_event({"type": "vad", "speaking": event.speaking, "pts": event.pts})

    def _failed(self, error: Exception) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.close_soon, "generator_failed")

    # Control channel

    def _open_channel(self, channel: Any) -> None:
        if channel.label != "control" or self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._on_message)
        peer = self.peer
        assert peer is not None
        self._send_event(
            {
                "type": "hello",
                "session": self.id,
                "version": __version__,
                "fps": FPS,
                "samples_per_frame": SAMPLES_PER_FRAME,
                "sample_rate": SAMPLE_RATE,
                "lookahead_ms": self._lookahead * 1000 / SAMPLE_RATE,
                "video_rtp_offset": peer.video.timestamp_offset if peer.video else None,
                "audio_rtp_offset": peer.audio.timestamp_offset if peer.audio else None,
                "epoch": self._epoch,
                "renderer": self._renderer,
                "size": self._rig_size,
            }
        )
        self._send_event({"type": "state", "state": self._state.value})

    def tell(self, message: dict[str, Any]) -> None:
        """Says something on the control channel, where one is open."""
        self._send_event(message)

    def _send_event(self, message: dict[str, Any]) -> None:
        channel = self._channel
        if channel is None or self.peer is None or channel.readyState != "open" or channel.bufferedAmount >= 256 * 1024:
            return
        if self.peer.connection.connectionState in ("closed", "failed"):
            return  # aiortc would try, and fail in a task that nobody awaits
        channel.send(json.dumps(message, separators=(",", ":")))

    async def _report(self, viewer: Viewer) -> None:
        while True:
            await asyncio.sleep(_ROWS_EVERY)
            if viewer.rows:
                rows = list(viewer.rows)
                viewer.rows.clear()
                self._send_event({"type": "frames", "rows": rows})

    def _on_message(self, data: str | bytes) -> None:
        try:
            request = messages.parse(data)
        except messages.BadMessage as error:
            self._bad_messages += 1
            self._send_event({"type": "error", "reason": "bad_message", "detail": str(error)})
            if self._bad_messages >= _BAD_MESSAGES:
                self.close_soon("bad_messages")
            return
        if isinstance(request, messages.Playout):
            if self._viewer is not None:
                self._viewer.lip_sync.measured(request.difference_ms / 1000)
        else:
            self._do(request, self._tell_outcome)

    async def steer(self, data: bytes) -> dict[str, Any]:
        """
        Does what a message of the control channel asks for, and returns its answer, which the peer is told too.
        Raises `RequestError`.
        """
        try:
            request = messages.parse(data.decode())
        except (messages.BadMessage, UnicodeDecodeError) as error:
            raise RequestError(422, "bad_message", str(error)) from None
        if isinstance(request, messages.Playout):
            raise RequestError(422, "bad_message", _NO_PLAYOUT)
        if self._state is not State.LIVE:
            raise RequestError(409, "not_live", f"the session is {self._state.value}, not live")
        answered: asyncio.Future[dict[str, Any]] = self._loop.create_future()

        def answer(outcome: dict[str, Any] | RequestError) -> None:
            if not isinstance(outcome, RequestError) and not isinstance(request, messages.Ping):
                self._send_event({**outcome, "remote": True})
            if answered.done():
                return  # whoever asked has gone
            if isinstance(outcome, RequestError):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        self._do(request, answer)
        return await answered

    def _tell_outcome(self, outcome: dict[str, Any] | RequestError) -> None:
        if isinstance(outcome, RequestError):
            self._send_event(_problem(outcome))
        else:
            self._send_event(outcome)

    def handle(self, request: messages.Control, reply: Callable[[dict[str, Any]], None], by: str) -> None:
        """Does what the bot asks, answers it, and tells the peer."""
        if isinstance(request, messages.Playout):
            return reply({"type": "error", "reason": "bad_message", "detail": _NO_PLAYOUT})

        def answer(outcome: dict[str, Any] | RequestError) -> None:
            if isinstance(outcome, RequestError):
                return reply(_problem(outcome))
            if not isinstance(request, messages.Ping):
                self._send_event({**outcome, "remote": True})
            if not isinstance(request, messages.Interrupt):  # of that it has been told, with the segment that it cut
                reply(outcome)

        self._do(request, answer, by)

    def _do(
        self, request: messages.Control, answer: Callable[[dict[str, Any] | RequestError], None], by: str = "client"
    ) -> None:
        """
        Does what the `client` or the `bot` asks, at once but for what takes drawing; `answer` is called once, with what
        came of it.
        """
        match request:
            case messages.Ping(id=number, t=t):
                answer({"type": "pong", "id": number, "t": t, "server": clock.to_ms(clock.now())})
            case messages.Interrupt():
                answer(self._interrupt(by))
            case messages.Mute(muted=muted):
                self._gate.muted = muted
                self._hush_if_shut()
                answer({"type": "muted", "muted": muted})
            case messages.SetEmotion():
                self._avatar.set_emotion(request.name, request.strength)
                answer({"type": "emotion", "name": request.name, "strength": request.strength})
            case MotionCommand():
                self._avatar.move(request)
                answer({"type": "plan", "frame": self._speech.next_frame})
            case messages.Attend(state=state):
                self._attention_asked = True
                self._avatar.set_attention(state)
                answer({"type": "attention", "state": state})
            case messages.Gesture(name=name):
                self._avatar.play_gesture(name)
                answer({"type": "gesture", "name": name, "frame": self._speech.next_frame})
            case messages.SetCharacter():
                self._spawn(self._take_turn(self._wearing, partial(self._wear, request), answer))
            case messages.SetAway(away=True):
                self._spawn(self._take_turn(self._leaving, partial(self._leave, request), answer))
            case messages.SetAway():
                self._return()
                answer({"type": "away", "away": False, "frame": self._speech.next_frame})

    async def _take_turn(
        self,
        turn: LatestOnlyLock,
        make: Callable[[], Coroutine[Any, Any, dict[str, Any]]],
        answer: Callable[[dict[str, Any] | RequestError], None],
    ) -> None:
        outcome: dict[str, Any] | RequestError = RequestError(409, "not_live", "the session ended meanwhile")
        try:
            async with turn:
                outcome = await make()
        except Overtaken:
            outcome = RequestError(409, "overtaken", "a newer message of this kind came before this one's turn")
        except RequestError as refused:
            outcome = refused
        finally:
            answer(outcome)

    def interrupt(self, by: str = "client") -> int:
        """Cuts the utterance short: its sound stops, its mouth closes with the next step. Returns the new epoch.

        `by` the `bot` itself, what it sends next is spoken; by the `client` or by the `user`, who began to speak, what
        the bot still sends of the segment is thrown away.
        """
        self._send_event(self._interrupt(by))
        return self._epoch

    def _interrupt(self, by: str) -> dict[str, Any]:
        """Does so, and returns what the peer is told."""
        heard = self._heard_until(clock.now())
        self._epoch += 1
        self._broadcast.flush_audio(self._epoch)
        told: list[Finished] = []
        if self.speech is None:
            self._gate.interrupt()
        else:
            told = self.speech.clear(heard, discard=by != "bot")
        message = {
            "type": "interrupted",
            "epoch": self._epoch,
            "pts": self._speech.end if self.speech is None else self.speech.decided,
            "frame": self._speech.next_frame,
        }
        if self._bot is not None:
            cut = told[0] if told else None
            self._bot.outbox.text(
                {
                    **message,
                    "by": by,
                    "segment": cut.segment if cut else None,
                    "position_ms": cut.position_ms if cut else 0,
                }
            )
            for finished in told:
                self._bot.event(finished)
        return message

    def _heard_until(self, now: float) -> int:
        """The sample of the line up to which it was heard: by the peer, or, without one, by whoever heard most."""
        viewers = [self._viewer] if self._viewer is not None else self._broadcast.viewers
        if heard := [viewer.heard(now) for viewer in viewers if viewer.audible]:
            return max(heard)
        return self.speech.due(now) if self.speech is not None else 0

    def _hush_if_shut(self) -> None:
        if self._gate.muted or self._gate.away:
            self._broadcast.flush_audio(self._epoch)

    async def _wear(self, wish: messages.SetCharacter) -> dict[str, Any]:
        """Switches the character live; the old one stays until the new one can be drawn. Raises `RequestError`."""
        entry = self._character(wish.id)
        shown = self._background if wish.background is None else wish.background
        self._may_be_drawn(self, self._generator.renderer_name(entry, self._rig_size))
        rig = await self._loop.run_in_executor(None, self._generator.create_renderer, entry, self._rig_size, shown)
        if self._state is not State.LIVE:
            rig.close()
            raise RequestError(409, "not_live", "the session ended meanwhile")
        self._avatar.set_renderer(rig)
        self._entry, self._background, self._renderer = entry, shown, rig.name
        self.log_character("changed")
        self._worn.set()
        if self._gate.away and self._away_picture is None:
            self._spawn(
                self._take_turn(self._leaving, partial(self._leave, messages.SetAway(True, None)), lambda _: None)
            )
        frame = self._speech.next_frame
        return {"type": "character", "id": entry.id, "frame": frame, "renderer": self._renderer}

    def log_character(self, event: str) -> None:
        """One line: whom it shows, what draws it, and whether its user says that the picture may be used."""
        consent = {None: "not said", True: "given", False: "not given"}[self._entry.consent]
        log.info(
            "session %s %s: character %s, drawn by %s at %d pixels, consent %s",
            self.id,
            event,
            self._entry.id,
            self._renderer,
            self._rig_size,
            consent if self._entry.picture is not None else "not needed",
        )

    def _character(self, character_id: str) -> CharacterRecord:
        """One that may be shown here. Raises `RequestError`."""
        if self.grant is not None and self.grant.character not in (None, character_id):
            raise RequestError(403, "token_character", f"this session's token is for {self.grant.character!r} alone")
        return self._characters.get(character_id)

    async def _leave(self, wish: messages.SetAway) -> dict[str, Any]:
        """Shows a picture instead of the character, and lets nothing be heard. Raises `RequestError`."""
        returned = self._returned
        chosen = None if wish.picture is None else self._character(wish.picture)
        while True:
            worn = self._entry
            shown = await self._loop.run_in_executor(None, self._card, worn, chosen, self._background)
            if chosen is not None or worn is self._entry:
                break  # else another was put on meanwhile
        if self._returned != returned:
            raise RequestError(409, "overtaken", "the session was told to come back before the picture was made")
        self._gate.away, self._away_picture, self._card_shown = True, wish.picture, shown
        self._hush_if_shut()
        return {"type": "away", "away": True, "frame": self._speech.next_frame}

    def _return(self) -> None:
        self._returned += 1
        self._gate.away, self._away_picture, self._card_shown = False, None, None

    def _card(self, worn: CharacterRecord, chosen: CharacterRecord | None, background: bool) -> np.ndarray:
        """What is shown of a session whose user is away. Blocking."""
        if chosen is None:
            return card(self._generator.still(worn, self._rig_size, background))
        if chosen.picture is not None:
            return fitted(chosen.picture, self._rig_size)
        return self._generator.still(chosen, self._rig_size, background)

    # What others may know

    def to_json(self) -> dict[str, Any]:
        seat, viewer, broadcast = self._seat, self._viewer, self._broadcast
        return {
            "id": self.id,
            "token": self.grant.id if self.grant else None,
            "state": self._state.value,
            "character": self._entry.id,
            "renderer": self._renderer,
            "size": self._rig_size,
            "background": self._background,
            "codec": viewer.codec if viewer else None,
            "alpha": "packed" if self._packed else "none",
            "age_s": round(clock.now() - self._born, 1),
            "epoch": self._epoch,
            "muted": self._gate.muted,
            "marked": self._config.marked,
            "away": self._gate.away,
            "frames": {
                "sent": viewer.counts.sent if viewer else 0,
                "dropped": viewer.counts.dropped if viewer else 0,
                "skipped": seat.skipped if seat else 0,
                "unheard": seat.unheard if seat else 0,
                "overtaken": broadcast.overtaken,
                "keyframes": broadcast.keyframes,
            },
            "bitrate": {
                "sent": round(viewer.sent_rate(clock.now())) if viewer else 0,
                "cap": viewer.cap if viewer else 0,
            },
            "step_ms": round(seat.cost * 1e3, 2) if seat else None,
            "audio": {
                **asdict(self._microphone.stats),
                "dropped": viewer.counts.sounds_dropped if viewer else 0,
            },
            "voice": "microphone" if self.speech is None else "speech",
            "speech": asdict(self.speech.stats) if self.speech is not None else None,
            "latency_ms": viewer.latency_ms() if viewer else NO_LATENCY,
            "viewers": self.audience.to_json(),
        }
