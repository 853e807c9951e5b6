"""Errors that several packages raise or catch."""

from collections.abc import Mapping
from typing import Any


class BadPicture(ValueError):
    """A picture, pack or clip that cannot become a character. The message gives the reason with a number."""

    reason = "bad_picture"
    """Stable machine-readable reason."""


class RequestError(Exception):
    """A request that cannot be fulfilled: HTTP status, stable reason, and a sentence for people."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        retry_after: int | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after
        self.more = dict(more or {})
        """Further members of the problem document, for programs."""


class NotInstalled(RuntimeError):
    """Something that was asked for is not available on this machine. The message says what is missing."""
