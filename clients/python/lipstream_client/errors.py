"""The errors that this package raises; all are `LipstreamError`."""

from collections.abc import Mapping, Sequence
from typing import Any


class LipstreamError(Exception):
    """Base of all errors that this package raises on purpose."""


class Unreachable(LipstreamError):
    """The server did not answer, or media did not connect."""


class RequestError(LipstreamError):
    """The server refused a request.

    `status` is the HTTP status, `reason` a stable identifier, `detail` a sentence, `retry_after` the seconds after
    which a retry may succeed (None: the server gave none). `faces` lists the candidate faces of an ambiguous picture,
    in the form that the protocol gives.
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
    """The session ended, and this client did not end it; `reason` comes from the server or the connection."""

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
    """Speech that cannot be sent: a missing file, a file without audio, samples of the wrong shape or type."""


def request_error(status: int, body: object, text: str, retry_after: str = "") -> RequestError:
    """The error for a refused request. `body`: its parsed JSON, if it has any; `text`: what the response contains."""
    problem = body if isinstance(body, Mapping) else {}
    faces = problem.get("faces")
    return RequestError(
        status,
        str(problem.get("reason", "unknown")),
        str(problem.get("detail", text[:200])),
        float(retry_after) if retry_after.isdecimal() else None,
        faces if isinstance(faces, list) else [],
    )
