"""lipstream: a live voice becomes a live talking character. Read `pipeline.py` first."""

import os

__version__ = "0.1.0"

# Unless this is set before its import, onnxruntime (1.32) keeps an id of the machine and events for Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
