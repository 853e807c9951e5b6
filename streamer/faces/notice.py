"""Notices to the user about a picture, before it is animated."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Notice:
    """`code` is for programs; `text` is a whole sentence for people."""

    code: str
    text: str
