"""Moved to `streamer.embed.local_avatar`; this name works until 0.3 and warns."""

import warnings

from streamer.embed.local_avatar import *  # noqa: F403
from streamer.embed.local_avatar import __all__ as __all__

warnings.warn(
    "streamer.local has moved to streamer.embed.local_avatar; the old name goes with lipstream 0.3",
    DeprecationWarning,
    stacklevel=2,
)
