"""Folders: what comes with the program, from a checkout or a wheel, and where it keeps what it may lose."""

import os
import sys
from importlib.resources import files
from pathlib import Path

PACKAGE = Path(str(files("streamer")))
"""The `streamer` package: of a checkout, or in site-packages."""

WEIGHTS = PACKAGE / "weights"
"""The weights that come with the package."""


def cache_folder() -> Path:
    """The program's folder among the user's caches: what is in it may be deleted at any time."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "lipstream"


def clients() -> Path:
    """
    The folder of the web clients, with `page`, `element` and `obs` in it: `streamer/clients/` of a wheel (see
    setup.py), `clients/` of a checkout.
    """
    inside = PACKAGE / "clients"
    return inside if inside.is_dir() else PACKAGE.parent / "clients"
