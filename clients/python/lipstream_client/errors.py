"""What can go wrong, one class each; all are `LipstreamError`."""

from collections.abc import Mapping, Sequence
from typing import Any


class LipstreamError(Exception):
    """Base of all that this package raises on purpose."""


class Unreachable(LipstreamError):
    """No answer from the server, or media did not connect."""


class Refused(LipstreamError):
    """The server said no: an HTTP status, a stable reason, a sentence, and when to come back (seconds), if ever.

    `faces`: those of a picture that could be meant, as the protocol has them.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        retry_after: float | None = None,
        faces: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(f"{status} {reason}: {detail}")
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after
        self.faces = list(faces)


class SessionLost(LipstreamError):
    """The session ended, and not by this client; `reason` is the server's or the connection's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the session ended: {reason}")
        self.reason = reason


class ControlFailed(LipstreamError):
    """The server answered a control message with an error."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BadSpeech(LipstreamError, ValueError):
    """Speech that cannot be sent: no such file, no sound in it, samples of a wrong shape."""
