"""What a session is held to: time limits, viewers, marks, and what its token allows."""

import math
from dataclasses import dataclass

from streamer.base.constants import MAX_VIEWERS


@dataclass(frozen=True, kw_only=True)
class SessionLimits:
    """The limits and marks of every session of a server. Raises ValueError, with the number, for what cannot work."""

    label: bool = True
    """Whether a small label in the picture says that it is synthetic."""
    watermark: bool = True
    """Whether a watermark does, which `lipstream detect` finds."""
    max_viewers: int = MAX_VIEWERS
    """Viewers that a session takes beside the one who speaks."""
    max_session_age: float = 8 * 3600.0
    """Seconds after which a session is closed."""
    connect_timeout: float = 15.0
    """Seconds that a peer has to complete ICE and DTLS."""
    silence_timeout: float = 15.0
    """Seconds without any packet from the peer after which it counts as gone."""
    unattended_timeout: float = 60.0
    """Seconds after which a session without a peer ends when nobody speaks to it, views or records it."""

    def __post_init__(self) -> None:
        for name in ("max_viewers", "max_session_age", "connect_timeout", "silence_timeout", "unattended_timeout"):
            if not 0 < getattr(self, name) < math.inf:  # false for NaN, which no time ever exceeds
                raise ValueError(f"{name} is {getattr(self, name)}: must be positive and finite")

    @property
    def marked(self) -> dict[str, bool]:
        """How a session's pictures are marked, for the API."""
        return {"label": self.label, "watermark": self.watermark}


@dataclass(frozen=True)
class Grant:
    """What a token allows."""

    id: str
    ttl: float
    expires: float
    sessions: int
    """How many sessions it may open."""
    origin: str | None
    """The page's origin that it is bound to; None: any that the server allows."""
    character: str | None
    """The one character that its sessions may show; None: any."""
