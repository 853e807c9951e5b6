"""Folders: what comes with the program, and where it keeps what it may lose."""

import os
import sys
from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""The weights that come with the package."""


def cache_folder() -> Path:
    """The program's own, among the user's."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "lipstream"


CLIENTS = Path(__file__).resolve().parent.parent.parent / "clients"
"""The web clients' folder: served at `/`."""
