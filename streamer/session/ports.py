"""Interfaces between a session and its voice, its outlets and its bot."""

from collections.abc import Callable
from typing import Any, Protocol

from streamer.base.frames import Frame, Sound
from streamer.session import messages

Message = dict[str, Any]
"""A protocol message before JSON encoding."""


class Voice(Protocol):
    """The source of the avatar's voice: a microphone or a bot's speech."""

    @property
    def stats(self) -> Any:
        """A dataclass of counts."""
        ...

    def captured(self, pts: int) -> float:
        """When sample `pts` was captured: seconds on the server's clock."""
        ...

    async def run(self) -> None:
        """Advances the timeline until cancelled."""
        ...


class Outlet(Protocol):
    """A destination of video and audio besides the viewers, such as a recording. Its methods never block."""

    def frame(self, frame: Frame) -> None:
        """Takes a drawn frame; must not modify its image. Called on the engine's thread."""
        ...

    def sound(self, sound: Sound) -> None:
        """Takes an audio packet. Called on the event loop."""
        ...

    async def close(self) -> None:
        """Called when the session has ended; idempotent."""
        ...


class BotSession(Protocol):
    """The part of a session that its bot uses."""

    id: str

    @property
    def epoch(self) -> int:
        """Number of interruptions so far."""
        ...

    @property
    def hears_user(self) -> bool:
        """Whether the session has a user's microphone."""
        ...

    def interrupt(self, by: str) -> int:
        """Cuts the utterance short. Returns the new epoch."""
        ...

    def handle(self, request: messages.Control, reply: Callable[[Message], None], by: str) -> None:
        """Executes the bot's request, replies to it, and reports it to the peer."""
        ...
