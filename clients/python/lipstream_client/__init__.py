"""A Python client of lipstream: speech goes in, frames and sound of the talking character come out."""

from lipstream_client.bot import Bot
from lipstream_client.client import Client
from lipstream_client.errors import BadSpeech, ControlFailed, LipstreamError, Refused, SessionLost, Unreachable
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
    "Refused",
    "Session",
    "SessionLost",
    "Sound",
    "Stats",
    "Unreachable",
]
