"""Files that the program reads at run time, where a checkout and an installed wheel have them, and its cache folder."""

import os
import sys
from importlib.resources import files
from pathlib import Path


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


def package() -> Path:
    """The folder of the `streamer` package: `streamer/` of a checkout, or of site-packages."""
    return Path(str(files("streamer")))


def clients() -> Path:
    """
    The folder of the web clients, with `page`, `element` and `obs` in it: `streamer/clients/` of a wheel (see
    setup.py), `clients/` of a checkout.
    """
    inside = package() / "clients"
    return inside if inside.is_dir() else package().parent / "clients"
