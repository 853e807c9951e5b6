"""lipstream: a live voice becomes a live talking character. `docs/architecture.md` shows the way in."""

from streamer.base.telemetry import opt_out

__version__ = "0.2.0"

opt_out()  # before any of the libraries is imported: they look when they are
