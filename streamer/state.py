"""What a running server holds, shared by its routes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from streamer import tracks
from streamer.characters import Characters
from streamer.config import DEFAULT_SIZE, FPS, ServerConfig
from streamer.features import Listener
from streamer.generator import Engine
from streamer.generators import Generator
from streamer.metrics import Metrics
from streamer.session import Session
from streamer.tokens import Tokens


@dataclass
class State:
    """What the server holds: one engine, one generator, one listener, the characters and the open sessions."""

    config: ServerConfig
    engine: Engine
    generator: Generator
    listener: Listener
    characters: Characters
    metrics: Metrics
    cost_of: dict[int, float] = field(default_factory=dict)
    """Seconds of the engine's thread that a frame takes, by size: measured at start, then learnt."""
    tokens: Tokens = field(default_factory=Tokens)
    sessions: dict[str, Session] = field(default_factory=dict)
    opening: int = 0
    ports: tracks.UdpPorts = field(default_factory=tracks.UdpPorts)
    drawing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "draw"))
    ready: bool = False

    def forget(self, session: Session) -> None:
        self.sessions.pop(session.id, None)

    def cost(self, size: int) -> float:
        """Estimated share of the engine's thread that a session of `size` takes."""
        known = [session.cost for session in self.sessions.values() if session.cost and session.size == size]
        return FPS * (max(known) if known else self.cost_of.get(size, 0.0))

    def promised(self) -> float:
        """Share of the engine's thread that is taken, with an estimate for sessions that have drawn nothing yet."""
        fresh = [session.size for session in self.sessions.values() if not session.cost]
        return self.engine.load + sum(map(self.cost, fresh)) + self.opening * self.cost(DEFAULT_SIZE)
