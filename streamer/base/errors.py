"""Errors that more than one room raises or catches."""

from collections.abc import Mapping
from typing import Any


class BadPicture(ValueError):
    """A picture, pack or clip that cannot become a character; the text says why, with the number."""

    reason = "bad_picture"
    """The same for programs."""


class RequestError(Exception):
    """A request that cannot be met: an HTTP status, a stable reason and a sentence for a person."""

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
        """What a program needs beside the reason; further members of the problem."""


class NotInstalled(RuntimeError):
    """A generator that this machine lacks; the text says what is missing."""
