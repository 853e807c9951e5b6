"""Limits of a session: time-outs, viewers, marks, and the grant of its token."""

import math
from dataclasses import dataclass

from streamer.base.constants import MAX_VIEWERS


@dataclass(frozen=True, kw_only=True)
class SessionLimits:
    """The limits and marks of every session of a server. Raises ValueError, with the number, for an invalid value."""

    label: bool = True
    """Whether a small visible label marks the picture as synthetic."""
    watermark: bool = True
    """Whether an invisible watermark does; `lipstream detect` finds it."""
    max_viewers: int = MAX_VIEWERS
    """Maximum number of WHEP viewers, not counting the session's peer."""
    max_session_age: float = 8 * 3600.0
    """Seconds after which a session is closed."""
    connect_timeout: float = 15.0
    """Seconds that a peer has to complete ICE and DTLS."""
    silence_timeout: float = 15.0
    """Seconds without a packet after which a peer is considered gone."""
    unattended_timeout: float = 60.0
    """Seconds after which a session without a peer ends if it has no bot, viewer or recording."""

    def __post_init__(self) -> None:
        for name in ("max_viewers", "max_session_age", "connect_timeout", "silence_timeout", "unattended_timeout"):
            if not 0 < getattr(self, name) < math.inf:  # false for NaN, which no time ever exceeds
                raise ValueError(f"{name} is {getattr(self, name)}: must be positive and finite")

    @property
    def marked(self) -> dict[str, bool]:
        """The marks in the form of the API."""
        return {"label": self.label, "watermark": self.watermark}


@dataclass(frozen=True)
class Grant:
    """The rights of a session token. `ttl` in seconds, `expires` on the monotonic clock."""

    id: str
    ttl: float
    expires: float
    sessions: int
    """How many sessions it may open."""
    origin: str | None
    """The only origin that may use it; None: any that the server allows."""
    character: str | None
    """The only character that its sessions may show; None: any."""
