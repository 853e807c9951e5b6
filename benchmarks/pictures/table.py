"""Figures of many pictures: a line for each, and a summary with targets.

Photographs, drawings and rendered people are summarised separately.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.lib.targets import PICTURES, Target
from benchmarks.pictures.measure import Row

CLOSED = 0.02
"""Displayed gap up to which lips count as closed, in outer-eye distances."""
OPENED = 0.10
"""Opening from which a mouth counts as open, in outer-eye distances."""
PLACED = 0.2
"""Distance from its mark up to which a mouth is the picture's own, in outer-eye distances."""
BLINKED = 0.6
"""Maximum share of the eye's pixels that may remain in a blink: lashes and a line."""
NAMED = 12
"""Number of failing pictures whose names are printed; the JSON has all of them."""
FOLLOWS = 0.90
"""Correlation of controlled opening and displayed gap from which lips follow the voice."""

_HEADS = (
    ("picture", 34),
    ("corr", 6),
    ("open", 5),
    ("p b m", 6),
    ("lids", 5),
    ("blink", 6),
    ("gaze", 5),
    ("yaw", 5),
    ("mouth", 6),
    ("off", 5),
    ("left", 5),
    ("rest", 6),
    ("leak", 6),
    ("sharp", 6),
    ("×", 5),
    ("ms", 5),
    ("p95", 5),
)


@dataclass(frozen=True)
class Figure:
    """One line of a summary. `reached` is None without a target, or without data."""

    what: str
    value: float
    n: int
    aim: str = ""
    reached: bool | None = None
    failing: list[str] = field(default_factory=list)
    """Names of pictures that miss the target individually."""

    def as_json(self) -> dict[str, Any]:
        value = round(self.value, 4) if math.isfinite(self.value) else None
        return {
            "what": self.what,
            "value": value,
            "n": self.n,
            "aim": self.aim,
            "reached": self.reached,
            "failing": self.failing,
        }


def _number(value: float, places: int) -> str:
    return f"{value:.{places}f}" if math.isfinite(value) else "–"


def head() -> str:
    return " ".join(f"{name:<{width}}" if name == "picture" else f"{name:>{width}}" for name, width in _HEADS)


def line(row: Row) -> str:
    """The line of one picture."""
    name = f"{row.name[:33]:<34}"
    if not row.found:
        return f"{name} not found: {row.reason}"
    cells = [
        _number(row.correlation, 3),
        _number(row.gap_open, 2),
        _number(row.gap_pressed, 3),
        _number(row.lids_rest, 2),
        _number(row.lids_blink, 3),
        _number(row.gaze, 2),
        _number(row.yaw, 2),
        _number(row.opening, 2),
        _number(row.misplaced, 2),
        _number(row.lids_left, 2),
        _number(row.rest, 2),
        _number(row.leak, 3),
        _number(row.sharpness, 3),
        _number(row.enlargement, 1),
        _number(row.ms, 1),
        _number(row.ms_p95, 1),
    ]
    figures = (f"{cell:>{width}}" for cell, (_, width) in zip(cells, _HEADS[1:], strict=True))
    return " ".join([name, *figures, *row.notices])


def follows(row: Row) -> bool:
    """Whether the lips follow the voice and open visibly."""
    return row.correlation >= FOLLOWS and row.gap_open >= OPENED


def opens(row: Row) -> bool:
    """Whether the picture's own mouth opens; a mouth away from its manual mark does not count."""
    return row.opening >= OPENED and not row.misplaced > PLACED


def summary(rows: Sequence[Row]) -> list[Figure]:
    """The summary of one kind of picture."""
    found = [row for row in rows if row.found]
    drawings = bool(rows) and rows[0].kind == "drawings"
    figures = [_share("found", rows, lambda row: row.found, PICTURES["drawings_found" if drawings else "found"])]
    if drawings:
        figures += [
            _share(f"mouth opens by ≥ {OPENED:.2f} eye distances", found, opens, PICTURES["drawings_open"]),
            _figure("distance of the mouth from its mark, median", found, lambda row: row.misplaced, None, np.median),
            _share("blinks", found, lambda row: row.lids_left <= BLINKED, PICTURES["drawings_blink"]),
        ]
    else:
        figures += [
            _share("correlation ≥ .90 and open ≥ .10", found, follows, PICTURES["follows"]),
            _figure("correlation, median", found, lambda row: row.correlation, PICTURES["correlation"], np.median),
            _closures(found),
        ]
    figures += [
        _figure("at rest, difference of 255", found, lambda row: row.rest, PICTURES["rest"]),
        _figure("leak when the mouth moves, of 255", found, lambda row: row.leak, PICTURES["leak"]),
        _figure("sharpness while moving", found, lambda row: row.sharpness, PICTURES["sharpness"]),
        _figure("ms a frame, one core, mean", found, lambda row: row.ms, None),
        _figure("ms a frame, one core, p95 of the slowest", found, lambda row: row.ms_p95, None, np.max),
        _figure("seconds once a picture, mean", found, lambda row: sum(row.seconds.values()), PICTURES["preparation"]),
        _figure("gap when open, mean", found, lambda row: row.gap_open, None),
        _figure("gap of p, b and m, mean", found, lambda row: row.gap_pressed, None),
        _figure("lids in a blink, of those at rest", found, lambda row: row.lids_blink / row.lids_rest, None),
        _figure("gaze, shift in eye widths", found, lambda row: row.gaze, None),
        _figure("yaw shown of asked", found, lambda row: row.yaw, None),
    ]
    return figures


def _share(what: str, rows: Sequence[Row], holds: Callable[[Row], bool], aim: Target) -> Figure:
    failing = [row.name for row in rows if not holds(row)]
    share = 1 - len(failing) / len(rows) if rows else math.nan
    return Figure(what, share, len(rows), aim.text, aim.met(share) if rows else None, failing)


def _closures(rows: Sequence[Row]) -> Figure:
    """Share of closed frames of p, b and m. A picture fails if more than one in ten is open."""
    gaps = [gap for row in rows for gap in row.pressed]
    share = float(np.mean(np.array(gaps) <= CLOSED)) if gaps else math.nan
    failing = [row.name for row in rows if row.pressed and np.mean(np.array(row.pressed) > CLOSED) > 0.1]
    what = f"frames of p, b and m with a gap ≤ {CLOSED:.2f}"
    aim = PICTURES["closures"]
    return Figure(what, share, len(gaps), aim.text, aim.met(share) if gaps else None, failing)


def _figure(
    what: str,
    rows: Sequence[Row],
    value_of: Callable[[Row], float],
    aim: Target | None,
    over: Callable[[Sequence[float]], Any] = np.mean,
) -> Figure:
    read = {row.name: value for row in rows if math.isfinite(value := value_of(row))}
    if not read:
        return Figure(what, math.nan, 0)
    value = float(over(list(read.values())))
    if aim is None:
        return Figure(what, value, len(read))
    failing = [name for name, one in read.items() if not aim.met(one)]
    return Figure(what, value, len(read), aim.text, aim.met(value), failing)


def text(kind: str, rows: Sequence[Row]) -> str:
    """The printed summary of one kind, with the names of failing pictures for each missed target."""
    lines = [f"{kind}: n = {len(rows)}"]
    for figure in summary(rows):
        share = figure.aim.endswith("%")
        value = _number(100 * figure.value, 1) + " %" if share else _number(figure.value, 3)
        mark = {True: "reached", False: "MISSED", None: ""}[figure.reached]
        lines.append(f"  {figure.what:46} {value:>9}  n {figure.n:<5} {figure.aim:9} {mark}".rstrip())
        if figure.reached is False and figure.failing:
            shown = ", ".join(figure.failing[:NAMED])
            rest = len(figure.failing) - NAMED
            lines.append(f"      {shown}{f' and {rest} more' if rest > 0 else ''}")
    return "\n".join(lines)
