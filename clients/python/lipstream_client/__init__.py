"""Python client for lipstream: sends speech, receives the frames and audio of the talking character."""

import warnings
from typing import Any

from lipstream_client.bot import Bot
from lipstream_client.client import Client
from lipstream_client.errors import BadSpeech, ControlFailed, LipstreamError, RequestError, SessionLost, Unreachable
from lipstream_client.session import Frame, Interrupted, Session, Sound
from lipstream_client.stats import Percentiles, Stats

__all__ = [
    "BadSpeech",
    "Bot",
    "Client",
    "ControlFailed",
    "Frame",
    "Interrupted",
    "LipstreamError",
    "Percentiles",
    "RequestError",
    "Session",
    "SessionLost",
    "Sound",
    "Stats",
    "Unreachable",
]


def __getattr__(name: str) -> Any:
    if name == "Refused":
        warnings.warn("lipstream_client.Refused is now RequestError", DeprecationWarning, stacklevel=2)
        return RequestError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
