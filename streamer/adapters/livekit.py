"""Moved to `streamer.embed.livekit`; this name works until 0.3 and warns."""

import warnings

from streamer.embed.livekit import *  # noqa: F403
from streamer.embed.livekit import __all__ as __all__

warnings.warn(
    "streamer.adapters.livekit has moved to streamer.embed.livekit; the old name goes with lipstream 0.3",
    DeprecationWarning,
    stacklevel=2,
)
