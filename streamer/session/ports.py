"""What a session needs of others: a voice, outlets, and what a bot at its speech socket needs of the session."""

from collections.abc import Callable
from typing import Any, Protocol

from streamer.base.frames import Frame, Sound
from streamer.session import messages

Message = dict[str, Any]
"""A message of the protocol, before it is JSON."""


class Voice(Protocol):
    """What moves the avatar's mouth and is heard: a microphone, or speech that a bot sends."""

    @property
    def stats(self) -> Any:
        """A dataclass of counts."""
        ...

    def captured(self, pts: int) -> float:
        """When sample `pts` was captured: seconds on the server's clock."""
        ...

    async def run(self) -> None:
        """Keeps time going, until cancelled."""
        ...


class Outlet(Protocol):
    """Where a session's picture and sound go beside its viewers, such as a recording. Its methods return at once."""

    def frame(self, frame: Frame) -> None:
        """A drawn frame, whose image must not be changed. Called on the engine's thread."""
        ...

    def sound(self, sound: Sound) -> None:
        """A packet of sound. Called on the event loop."""
        ...

    async def close(self) -> None:
        """The session has ended; idempotent."""
        ...


class BotSession(Protocol):
    """What a bot needs of its session."""

    id: str

    @property
    def epoch(self) -> int:
        """Interruptions so far."""
        ...

    @property
    def hears_user(self) -> bool:
        """Whether there is a user whom the bot could hear."""
        ...

    def interrupt(self, by: str) -> int:
        """Cuts the utterance short. Returns the new epoch."""
        ...

    def handle(self, request: messages.Control, reply: Callable[[Message], None], by: str) -> None:
        """Executes the bot's request, replies to it, and reports it to the peer."""
        ...
