"""Moved to `streamer.embed.pipecat`; this name works until 0.3 and warns."""

import warnings

from streamer.embed.pipecat import *  # noqa: F403
from streamer.embed.pipecat import __all__ as __all__

warnings.warn(
    "streamer.adapters.pipecat has moved to streamer.embed.pipecat; the old name goes with lipstream 0.3",
    DeprecationWarning,
    stacklevel=2,
)
