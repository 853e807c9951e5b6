"""One conversation: takes speech in, has the engine draw it, and sends video and audio out.

    VoiceInput ─Step▶ Engine ─Frame▶ MediaOutput ─▶ Broadcast ─Encoded▶ Viewer ─▶ RTP
         └──────────────────Sound──────────▲

    data channel, HTTP, bot ─request▶ CommandDispatcher ─▶ VoiceInput, Avatar, ShownCharacter, AwayScreen

Everything here runs on the event loop and only moves messages, except for decoding speech (a fraction of a millisecond
per packet). Drawing happens on the engine's thread, encoding on the broadcast's threads.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from streamer.audio.vad import Vad, VadEvent
from streamer.avatar.avatar import Avatar
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.engine import Engine, EngineSlot
from streamer.avatar.renderer import Renderer, RendererBackend
from streamer.base import clock
from streamer.base.errors import RequestError
from streamer.base.metrics import Metrics
from streamer.motion.articulation import ArticulationModel
from streamer.motion.idle import IdleMotion
from streamer.provenance.marker import Marker
from streamer.rtc import aiortc_internals
from streamer.rtc.negotiation import Peer
from streamer.session import messages
from streamer.session.away_screen import AwayScreen
from streamer.session.bot import GOING_AWAY, Bot, Closed
from streamer.session.commands import CommandDispatcher
from streamer.session.control_channel import ControlChannel
from streamer.session.fanout import Broadcast, ReceiverFeedback
from streamer.session.lifecycle import State
from streamer.session.limits import Grant, SessionLimits
from streamer.session.media_output import MediaOutput
from streamer.session.overload import watch_load
from streamer.session.ports import Message, Outlet
from streamer.session.prefetch import CharacterPrefetcher
from streamer.session.shown_character import ShownCharacter
from streamer.session.snapshot import greeting, snapshot
from streamer.session.speech_input import SpeechInput
from streamer.session.viewer import Viewer
from streamer.session.viewers import Audience
from streamer.session.voice_input import VoiceInput
from streamer.session.watchdog import Watchdog, watch, watch_attendance

log = logging.getLogger(__name__)


class Session:
    """Raises nothing after `attach`: a failure closes the session, with a reason. `close` is idempotent."""

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
        """`may_be_drawn(session, renderer)` raises `RequestError` if there is no engine time for that renderer."""
        self.id = secrets.token_urlsafe(12)
        self.peer: Peer | None = None
        self.close_reason = ""
        self.grant = grant
        """Grant of the session token that opened it; None: opened with the main token, or without a token."""
        self._limits = config
        self._packed = packed
        self._metrics = metrics
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._born = clock.now()
        self._state = State.NEW
        self._watchdog = Watchdog(
            self._born,
            connect_timeout=config.connect_timeout,
            silence_timeout=config.silence_timeout,
            max_age=config.max_session_age,
        )
        self._lookahead = listener.lookahead
        self._engine = engine
        self._slot: EngineSlot | None = None
        self._tasks: set[asyncio.Task] = set()
        self._closing: asyncio.Task | None = None
        self._avatar = Avatar(listener, rig, IdleMotion(entry.seed or 0), Vad())
        self._broadcast = Broadcast(rig.size, self.id[:6])
        self._output = MediaOutput(self._broadcast, Marker(rig.size, config.label, config.watermark), stamped)
        self._control = ControlChannel()
        self._voice = VoiceInput(self._lookahead, self._avatar, self._output, self._control, metrics)
        self._character = ShownCharacter(
            entry,
            rig,
            background,
            avatar=self._avatar,
            characters=characters,
            generator=generator,
            grant=grant,
            check_room=lambda renderer: may_be_drawn(self, renderer),
        )
        self._prefetcher = CharacterPrefetcher(characters, generator, rig.size, lambda: self._character.background)
        self._commands = CommandDispatcher(
            self.id,
            avatar=self._avatar,
            voice=self._voice,
            character=self._character,
            away=AwayScreen(self._character, self._voice, self._output),
            prefetcher=self._prefetcher,
            control=self._control,
            state=lambda: self._state,
            spawn=self._spawn,
        )
        self.reports = ReceiverFeedback(self._broadcast)
        self.audience = Audience(self._broadcast, rig.size, config, metrics)

    # State

    @property
    def state(self) -> State:
        return self._state

    def _set_state(self, state: State) -> None:
        if not self._state.may_become(state):
            raise RuntimeError(f"session {self.id}: {self._state.value} cannot become {state.value}")
        self._state = state
        self._control.send({"type": "state", "state": state.value})

    @property
    def size(self) -> int:
        return self._character.size

    @property
    def entry(self) -> CharacterRecord:
        return self._character.entry

    @property
    def renderer(self) -> str:
        """Name of the renderer, one of constants.RENDERERS."""
        return self._character.renderer

    @property
    def cost(self) -> float:
        """Engine seconds per frame; 0.0 before the current renderer's first frame."""
        slot = self._slot
        return slot.cost if slot is not None and slot.renderer == self.renderer else 0.0

    @property
    def epoch(self) -> int:
        """Number of interruptions so far."""
        return self._output.epoch

    @property
    def speech(self) -> SpeechInput | None:
        """The bot's speech, if that is the voice."""
        return self._voice.speech

    @property
    def hears_user(self) -> bool:
        """Whether the session has a user's microphone for a bot to hear."""
        return self._voice.hears_user

    def snapshot(self) -> dict[str, Any]:
        return snapshot(
            session_id=self.id,
            state=self._state.value,
            born=self._born,
            packed=self._packed,
            limits=self._limits,
            grant=self.grant,
            character=self._character,
            voice=self._voice,
            output=self._output,
            broadcast=self._broadcast,
            audience=self.audience,
            slot=self._slot,
        )

    def log_character(self, event: str) -> None:
        """Logs the character and its renderer."""
        self._character.log(self.id, event)

    # Start

    def attach(self, peer: Peer, fed: bool = False) -> None:
        """Takes over an answered peer, and goes live when it connects. The peer's microphone is the voice, or, with
        `fed`, a user's microphone for the bot whose speech is the voice.
        """
        self.peer = peer
        self._take_slot()
        if fed:
            self._voice.use_speech(with_user=True)
        peer.connection.on("datachannel", self._on_channel)
        peer.connection.on("connectionstatechange", self._on_connection_state)
        if peer.video is not None:
            viewer = self._output.peer_viewer = self.reports.viewer = Viewer(
                peer, self.size, self._metrics, self._packed
            )
            self._broadcast.join(viewer)
        self._set_state(State.CONNECTING)
        self._spawn(self._watch(peer))

    def start_peerless(self) -> None:
        """Goes live without a peer: a bot's speech is the voice, and clients watch as viewers."""
        self._take_slot()
        self._voice.use_speech(with_user=False)
        self._set_state(State.LIVE)
        self._run_voice()
        self._spawn(self._watch_attendance())

    def _take_slot(self) -> None:
        self._slot = self._engine.add(self._avatar, self._output.frame, self._on_vad, self._on_failure)
        self._voice.submit = self._slot.submit

    def _run_voice(self) -> None:
        assert self._slot is not None
        for source in self._voice.sources:
            self._spawn(source.run())
        self._spawn(watch_load(self._slot, self.id, self.size, lambda: self.renderer, self._control.warn))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("session %s: a task failed", self.id, exc_info=error)
            self.close_soon("internal_error")

    # Events

    def _on_connection_state(self) -> None:
        assert self.peer is not None
        state = self.peer.connection.connectionState
        if state == "connected" and self._state is State.CONNECTING:
            assert self._slot is not None
            self._set_state(State.LIVE)
            self._run_voice()
            self._spawn(self._prefetcher.run(self._slot))
            if (viewer := self._output.peer_viewer) is not None:
                self._spawn(viewer.run())
                self._spawn(self._control.report_frames(viewer))
        elif state == "failed":
            self.close_soon("connection_failed")
        elif state == "closed":
            self.close_soon("peer_closed")

    def _on_channel(self, channel: Any) -> None:
        assert self.peer is not None
        self._control.open(
            channel,
            self.peer.connection,
            self._greeting,
            self._on_request,
            lambda: self.close_soon("bad_messages"),
        )

    def _greeting(self) -> list[Message]:
        assert self.peer is not None
        hello = greeting(self.id, self.peer, self._lookahead, self.epoch, self._character)
        return [hello, {"type": "state", "state": self._state.value}]

    def _on_request(self, request: messages.Control, answer: Callable[[Message | RequestError], None]) -> None:
        """A request on the data channel, the only source of `playout`."""
        if not isinstance(request, messages.Playout):
            self._commands.execute(request, answer)
        elif self._output.peer_viewer is not None:
            self._output.peer_viewer.lip_sync.measured(request.difference_ms / 1000)

    def take_packet(self, sequence: int, timestamp: int, payload: bytes, arrival: float) -> None:
        """Takes an Opus packet from the microphone."""
        if self._state in (State.CONNECTING, State.LIVE):
            self._voice.microphone.packet(sequence, timestamp, payload, arrival)

    def _on_vad(self, events: list[VadEvent]) -> None:
        """Called on the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._voice.on_vad, events)

    def _on_failure(self, error: Exception) -> None:
        """Called on the engine's thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.close_soon, "generator_failed")

    # Commands

    async def steer(self, data: bytes) -> Message:
        """
        Executes a control-channel message and returns its reply, which is also sent to the peer. Raises `RequestError`.
        """
        return await self._commands.execute_http(data)

    def handle(self, request: messages.Control, reply: Callable[[Message], None], by: str) -> None:
        """Executes the bot's request, replies to it, and reports it to the peer."""
        self._commands.execute_bot(request, reply, by)

    def interrupt(self, by: str = "client") -> int:
        """Interrupts the utterance (see `VoiceInput.interrupt`) and notifies the peer. Returns the new epoch."""
        self._control.send(self._voice.interrupt(by))
        return self.epoch

    def tell(self, message: Message) -> None:
        """Sends a message on the control channel, if one is open."""
        self._control.send(message)

    def attach_bot(self) -> Bot:
        """Attaches the bot whose speech is the voice; one at a time. Raises `RequestError` (409)."""
        if self.speech is None:
            raise RequestError(
                409, "voice_is_microphone", "this session's voice is its peer's microphone: see voice=speech"
            )
        if self._voice.bot is not None:
            raise RequestError(409, "speech_taken", "this session already has a speech socket open: it accepts one")
        if self._closing is not None:
            raise RequestError(409, "session_ended", f"this session has ended: {self.close_reason}")
        self._voice.bot = Bot(self, self.speech)
        return self._voice.bot

    def detach_bot(self, bot: Bot) -> None:
        """Detaches a bot whose socket has closed; its queued speech is still spoken. Idempotent."""
        if self._voice.bot is bot and self.speech is not None:
            self._voice.bot = None
            self.speech.end()

    def add_outlet(self, outlet: Outlet) -> None:
        """Feeds video and audio to the outlet from now on, and closes it with the session."""
        self._output.add_outlet(outlet)

    def remove_outlet(self, outlet: Outlet) -> None:
        """Stops feeding the outlet, without closing it. Idempotent."""
        self._output.remove_outlet(outlet)

    # End

    async def _watch(self, peer: Peer) -> None:
        """Closes a session that never connects, falls silent or gets too old."""
        verdict = await watch(
            self._watchdog,
            lambda: self._state is State.LIVE,
            lambda: aiortc_internals.packets_received(peer.connection),
        )
        if verdict == "too_old":
            self._control.send({"type": "closed", "reason": verdict})
        self.close_soon(verdict)

    async def _watch_attendance(self) -> None:
        """Closes a session that is unattended or too old."""

        def attended() -> bool:
            return self._voice.bot is not None or bool(self._output.outlets) or len(self.audience) > 0

        limits = self._limits
        self.close_soon(await watch_attendance(attended, self._born, limits.unattended_timeout, limits.max_session_age))

    def close_soon(self, reason: str) -> asyncio.Task:
        """Starts closing; returns the task that does."""
        if self._closing is None:
            self.close_reason = reason
            self._set_state(State.CLOSING)
            self._closing = self._loop.create_task(self._close())
        return self._closing

    async def close(self, reason: str = "closed") -> None:
        await self.close_soon(reason)

    async def _close(self) -> None:
        self._control.send({"type": "closed", "reason": self.close_reason})
        if (bot := self._voice.bot) is not None:
            bot.outbox.close(Closed(GOING_AWAY, self.close_reason, "the session has ended"))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._slot is not None:
            self._slot.close()
        else:
            self._avatar.close()
        await self.audience.close()
        await self._output.close()
        if self.peer is not None:
            with contextlib.suppress(TimeoutError, Exception):
                await asyncio.wait_for(self.peer.connection.close(), 5.0)
        self._set_state(State.CLOSED)
        self._metrics.closed.labels(self.close_reason).inc()
        self._on_closed(self)
