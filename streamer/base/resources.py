"""Paths: files shipped with the package (checkout or wheel), and the cache folder."""

import os
import sys
from importlib.resources import files
from pathlib import Path

PACKAGE = Path(str(files("streamer")))
"""The `streamer` package, in a checkout or in site-packages."""

WEIGHTS = PACKAGE / "weights"
"""The weights shipped with the package."""


def cache_folder() -> Path:
    """The program's folder in the user's cache directory. Its contents may be deleted at any time."""
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
    The folder of the web clients, containing `page`, `element` and `obs`: `streamer/clients/` in a wheel (see
    setup.py), `clients/` in a checkout.
    """
    inside = PACKAGE / "clients"
    return inside if inside.is_dir() else PACKAGE.parent / "clients"
