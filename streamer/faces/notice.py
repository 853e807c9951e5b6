"""What the user should know before a picture talks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Notice:
    """`code` for programs, `text` for people: a whole sentence."""

    code: str
    text: str
