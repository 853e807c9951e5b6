"""The JSON files that benchmarks write, and what they write where nothing could be measured."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.lib import hardware
from benchmarks.lib.errors import NOT_MEASURED


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Writes a report. Raises ValueError for NaN and infinity, which JSON does not have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def failure(benchmark: str, error: Exception) -> int:
    """Prints a failure of the measured program in one line. Returns the exit status of a failure."""
    print(f"{benchmark} failed: {error}", file=sys.stderr)
    return 1


def not_measured(path: Path, benchmark: str, reason: str) -> int:
    """Prints and writes why there is no result. Returns the exit status for that, which is not a failure."""
    print(f"{benchmark} was not measured: {reason}", file=sys.stderr)
    write_json(path, {"benchmark": benchmark, "not_measured": reason, "hardware": hardware.describe()})
    return NOT_MEASURED
