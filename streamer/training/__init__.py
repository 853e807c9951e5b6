"""Recipes: `lipstream train NAME` is a whole one in one command."""

import importlib
import sys
from collections.abc import Sequence

RECIPES = {"articulation": "streamer.training.articulation", "face": "streamer.training.face"}


def main(arguments: Sequence[str]) -> int:
    """Runs the recipe that the first argument names, with the rest as its options."""
    if not arguments or arguments[0] not in RECIPES:
        print(f"lipstream train: name one of {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    return importlib.import_module(RECIPES[arguments[0]]).main(list(arguments[1:]))
