"""Training recipes: `lipstream train NAME` runs a complete one."""

import importlib
import sys
from collections.abc import Sequence

from streamer.base.errors import NotInstalled
from streamer.base.extras import import_extra

RECIPES = ("articulation", "face", "tiny", "nano", "live")
"""The last three are presets of the generator."""


def main(arguments: Sequence[str]) -> int:
    """Runs the recipe named by the first argument; the remaining arguments are its options."""
    if not arguments or arguments[0] not in RECIPES:
        print(f"lipstream train: name one of {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    try:
        import_extra("torch", "train", "training")
    except NotInstalled as error:
        print(f"lipstream train: {error}", file=sys.stderr)
        return 1
    name, options = arguments[0], list(arguments[1:])
    if name in ("articulation", "face"):
        return importlib.import_module(f"streamer.training.{name}").main(options)
    return importlib.import_module("streamer.training.preset").main(name, options)
