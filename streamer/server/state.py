"""The state of a running server, shared by its routes."""

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
    """One engine, one generator, one articulation model, the characters and the open sessions."""

    config: ServerConfig
    engine: Engine
    generator: RendererBackend
    listener: ArticulationModel
    characters: Characters
    metrics: Metrics
    cost_of: dict[tuple[str, int], float] = field(default_factory=dict)
    """Engine seconds per frame, by (renderer, size), measured at start; live sessions' own costs take precedence."""
    default_sizes: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_SIZES))
    """Default edge length of a session, by the renderer of its first character."""
    tokens: Tokens = field(default_factory=Tokens)
    sessions: dict[str, Session] = field(default_factory=dict)
    openings: list[tuple[str, int]] = field(default_factory=list)
    """Renderer and size of each session being opened."""
    ports: aiortc_internals.UdpPorts = field(default_factory=aiortc_internals.UdpPorts)
    drawing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "draw"))
    reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "read"))
    """Decodes uploads, one at a time. Separate from `drawing`: a clip takes seconds, and must not delay thumbnails."""
    recordings: dict[str, Recording] = field(default_factory=dict)
    """Session id → its newest recording."""
    publishers: list[Publisher] = field(default_factory=list)
    finish_recording: Callable[[Path], None] | None = None
    """Called in a thread with the path of each finished recording, for example to sign it."""
    ready: bool = False
    _beginning: set[str] = field(default_factory=set)  # ids of sessions whose recording file is being created

    async def opened(self, session: Session) -> None:
        """Connects a new session to the publishers, and records it if every session is recorded."""
        for publisher in self.publishers:
            session.add_outlet(publisher.feed(session.size))
        if self.config.record:
            try:
                await self.record(session)
            except RequestError as refused:
                log.error("session %s is not recorded: %s", session.id, refused.detail)

    async def record(self, session: Session) -> Recording:
        """Starts recording a session. Raises `RequestError` (403, 404, 409, 500, 507)."""
        folder = self.config.record_dir
        if folder is None:
            raise RequestError(
                403, "recording_off", "recording is disabled: the server was started without --record-dir"
            )
        known = self.recordings.get(session.id)
        if session.id in self._beginning or (known is not None and known.running):
            raise RequestError(409, "already_recording", "the session is already being recorded")
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
        """Number of sessions being opened."""
        return len(self.openings)

    def default_size(self, entry: CharacterRecord) -> int:
        """Default edge length of a session that starts with this character."""
        return self.default_sizes[self.generator.renderer_name(entry)]

    def cost(self, renderer: str, size: int) -> float:
        """Estimated share of the engine's thread for a session that `renderer` draws at `size`."""
        known = [
            session.cost
            for session in self.sessions.values()
            if session.cost and (session.renderer, session.size) == (renderer, size)
        ]
        return FPS * (max(known) if known else self.cost_of.get((renderer, size), 0.0))

    def promised(self) -> float:
        """
        Share of the engine's thread in use, plus an estimate for sessions without a frame from their current renderer.
        """
        fresh = [(session.renderer, session.size) for session in self.sessions.values() if not session.cost]
        return self.engine.load + sum(self.cost(*each) for each in [*fresh, *self.openings])

    def check_room(self, renderer: str, size: int, instead: Session | None = None) -> None:
        """
        Raises `RequestError` (503) if the engine lacks time for another session drawn by `renderer` at `size`, or, with
        `instead`, for switching that open session to `renderer`.
        """
        count, taken = len(self.sessions) + self.opening, self.promised()
        if instead is not None:
            if instead.renderer == renderer:
                return  # all characters of a renderer cost the same
            own = FPS * instead.cost or self.cost(instead.renderer, instead.size)
            count, taken = count - 1, max(0.0, taken - own)
        verdict = admit(AdmissionConfig(self.config.max_sessions), count, taken, self.cost(renderer, size))
        if not verdict.admitted:
            raise RequestError(503, verdict.reason, verdict.detail, verdict.retry_after)
