"""What a running server holds, shared by its routes."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from streamer.avatar.admission import AdmissionConfig, admit
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.engine import Engine
from streamer.avatar.renderer import RendererBackend
from streamer.base.constants import DEFAULT_SIZES, FPS
from streamer.base.errors import RequestError
from streamer.base.metrics import Metrics
from streamer.motion.articulation import ArticulationModel
from streamer.outputs import recording
from streamer.outputs.publisher import Publisher
from streamer.outputs.recording import Recording
from streamer.rtc import aiortc_internals
from streamer.server.config import ServerConfig
from streamer.server.tokens import Tokens
from streamer.session.session import Session

log = logging.getLogger(__name__)


@dataclass
class State:
    """What the server holds: one engine, one generator, one listener, the characters and the open sessions."""

    config: ServerConfig
    engine: Engine
    generator: RendererBackend
    listener: ArticulationModel
    characters: Characters
    metrics: Metrics
    cost_of: dict[tuple[str, int], float] = field(default_factory=dict)
    """Seconds of the engine's thread that a frame takes, by renderer and size: measured at start, then learnt."""
    default_sizes: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_SIZES))
    """Edge length of a session that asks for none, by the renderer of its first character."""
    tokens: Tokens = field(default_factory=Tokens)
    sessions: dict[str, Session] = field(default_factory=dict)
    openings: list[tuple[str, int]] = field(default_factory=list)
    """Renderer and size of each session that is being made."""
    ports: aiortc_internals.UdpPorts = field(default_factory=aiortc_internals.UdpPorts)
    drawing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "draw"))
    reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "read"))
    """Reads uploads, one at a time: a clip takes seconds, for which no character's picture is to wait."""
    recordings: dict[str, Recording] = field(default_factory=dict)
    """The newest of each session that has one."""
    publishers: list[Publisher] = field(default_factory=list)
    finish_recording: Callable[[Path], None] | None = None
    """Called with the path of each recording that was ended, in a thread: signs it, say."""
    ready: bool = False
    _beginning: set[str] = field(default_factory=set)  # sessions whose recording's file is being made

    async def opened(self, session: Session) -> None:
        """Gives a new session to what publishes, and records it where all are recorded."""
        for publisher in self.publishers:
            session.add_outlet(publisher.feed(session.size))
        if self.config.record:
            try:
                await self.record(session)
            except RequestError as refused:
                log.error("session %s is not recorded: %s", session.id, refused.detail)

    async def record(self, session: Session) -> Recording:
        """Begins to record a session. Raises `RequestError`."""
        folder = self.config.record_dir
        if folder is None:
            raise RequestError(403, "recording_off", "this server records nothing: it was started without --record-dir")
        known = self.recordings.get(session.id)
        if session.id in self._beginning or (known is not None and known.running):
            raise RequestError(409, "already_recording", "the session is being recorded")
        self._beginning.add(session.id)
        try:
            begin = partial(recording.create, folder, session.id, time.time())
            file = await asyncio.get_running_loop().run_in_executor(None, begin)
        finally:
            self._beginning.discard(session.id)
        if session.state.value in ("closing", "closed"):
            recording.discard(file)
            raise RequestError(404, "unknown_session", "the session has ended")

        def failed(reason: str, detail: str) -> None:
            session.remove_outlet(started)
            session.tell({"type": "error", "reason": reason, "detail": f"the recording ended: {detail}"})

        started = Recording(file, session.size, self.metrics, failed, self.finish_recording)
        session.add_outlet(started)
        self.recordings[session.id] = started
        return started

    def recording_of(self, session: Session) -> Recording:
        """Raises `RequestError` (404)."""
        known = self.recordings.get(session.id)
        if known is None:
            raise RequestError(404, "not_recorded", "the session is not being recorded")
        return known

    def forget(self, session: Session) -> None:
        self.sessions.pop(session.id, None)
        self.recordings.pop(session.id, None)

    @property
    def opening(self) -> int:
        """Sessions that are being made."""
        return len(self.openings)

    def default_size(self, entry: CharacterRecord) -> int:
        """Edge length of a session that begins with this character and asks for none."""
        return self.default_sizes[self.generator.renderer_name(entry)]

    def cost(self, renderer: str, size: int) -> float:
        """Estimated share of the engine's thread that a session takes which a renderer draws at `size`."""
        known = [
            session.cost
            for session in self.sessions.values()
            if session.cost and (session.renderer, session.size) == (renderer, size)
        ]
        return FPS * (max(known) if known else self.cost_of.get((renderer, size), 0.0))

    def promised(self) -> float:
        """
        Share of the engine's thread that is taken, with an estimate for sessions that their renderer has drawn no
        frame of yet.
        """
        fresh = [(session.renderer, session.size) for session in self.sessions.values() if not session.cost]
        return self.engine.load + sum(self.cost(*each) for each in [*fresh, *self.openings])

    def check_room(self, renderer: str, size: int, instead: Session | None = None) -> None:
        """
        Raises `RequestError` (503) where the engine has no time for one more session that `renderer` draws at `size`,
        or for this one `instead` of the open one that it is.
        """
        count, taken = len(self.sessions) + self.opening, self.promised()
        if instead is not None:
            if instead.renderer == renderer:
                return  # characters of one renderer cost alike
            own = FPS * instead.cost or self.cost(instead.renderer, instead.size)
            count, taken = count - 1, max(0.0, taken - own)
        verdict = admit(AdmissionConfig(self.config.max_sessions), count, taken, self.cost(renderer, size))
        if not verdict.admitted:
            raise RequestError(503, verdict.reason, verdict.detail, verdict.retry_after)
