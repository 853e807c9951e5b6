"""lipstream: a live voice becomes a live talking character. `docs/architecture.md` shows the way in."""

import os

__version__ = "0.2.0"

# Unless this is set before its import, onnxruntime (1.32) keeps an id of the machine and events for Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
