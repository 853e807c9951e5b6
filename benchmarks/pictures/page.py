"""Writes the figures in docs/pictures/README.md from results/pictures.json: `python -m benchmarks.pictures.page`."""

import json
import sys
from typing import Any

from benchmarks.lib import hardware
from benchmarks.lib.paths import PICTURES, RESULTS

FIGURES = RESULTS / "pictures.json"
PAGE = PICTURES / "README.md"
BEGIN, END = "<!-- figures: written by benchmarks/pictures/page.py -->\n", "<!-- end of figures -->"
_COSTS = "ms a frame"
"""Prefix of figures that are published although they have no target."""


def _published(figure: dict[str, Any]) -> bool:
    return bool(figure["aim"]) or figure["what"].startswith(_COSTS)


def _cell(figure: dict[str, Any] | None) -> str:
    """A table cell: value, number of pictures, target, and whether the target is missed."""
    if figure is None or figure["value"] is None or not _published(figure):
        return ""
    share = figure["aim"].endswith("%")
    value = f"{100 * figure['value']:.0f} %" if share else f"{figure['value']:.3g}"
    missed = ", **missed**" if figure["reached"] is False else ""
    aim = f" ({figure['aim']}{missed})" if figure["aim"] else ""
    return f"{value} of {figure['n']}{aim}"


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each figure, a column for each kind of picture, and the names of failing pictures."""
    kinds = {kind: {one["what"]: one for one in figures} for kind, figures in results["summary"].items()}
    whats = dict.fromkeys(what for figures in kinds.values() for what, one in figures.items() if _published(one))
    lines = [f"| | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    lines += [f"| {what} | {' | '.join(_cell(figures.get(what)) for figures in kinds.values())} |" for what in whats]
    over = f"{results['frames']} frames at {results['size']}²"
    lines += [
        "",
        f"Value of n (aim). Measured {results['measured']} over {over}: {hardware.line(results['hardware'])}.",
    ]
    for kind, figures in kinds.items():
        for what, figure in figures.items():
            if figure["failing"] and figure["aim"].endswith("%"):
                lines.append(f"- Of the {kind}, short of “{what}”: {', '.join(figure['failing'])}.")
    return "\n".join(lines) + "\n"


def filled(page: str, figures: str) -> str:
    """Replaces the figures between the page's markers. Raises ValueError if a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page of {len(page)} characters lacks {BEGIN.strip() if not begin else END!r}")
    return before + begin + figures + end + after


def main() -> int:
    PAGE.write_text(filled(PAGE.read_text(), table(json.loads(FIGURES.read_text()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
