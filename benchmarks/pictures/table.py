"""Figures of many pictures: a line for each, and the summary against what they must reach.

Photographs, drawings and rendered people are summed up apart.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.lib.targets import PICTURES, Target
from benchmarks.pictures.measure import Row

CLOSED = 0.02
"""Shown gap up to which lips count as closed, in outer-eye distances."""
OPENED = 0.10
"""Opening from which on a mouth counts as open."""
PLACED = 0.2
"""Distance from its marked place up to which a drawn mouth is the picture's own, in outer-eye distances."""
BLINKED = 0.6
"""Share of the eye that a blink leaves at most, by pixels: lashes and a line remain."""
NAMED = 12
"""Names of failing pictures that are printed; all of them are in the JSON."""
FOLLOWS = 0.90
"""Correlation of asked opening and shown gap from which on lips follow the voice."""

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
    """One line of a summary. `reached` is None where there is no aim, or nothing to judge it by."""

    what: str
    value: float
    n: int
    aim: str = ""
    reached: bool | None = None
    failing: list[str] = field(default_factory=list)
    """Names of pictures that, taken alone, do not reach the aim."""

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
    """One picture."""
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
    """The lips follow the voice, and open far enough to be seen."""
    return row.correlation >= FOLLOWS and row.gap_open >= OPENED


def opens(row: Row) -> bool:
    """The picture's own mouth opens: where a person marked it, a mouth elsewhere does not count."""
    return row.opening >= OPENED and not row.misplaced > PLACED


def summary(rows: Sequence[Row]) -> list[Figure]:
    """Of one kind of pictures."""
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
    """Of all frames of p, b and m; failing is a picture with more than one such frame in ten."""
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
    """The summary of one kind, as it is printed, with the names of those that fail where an aim is missed."""
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
