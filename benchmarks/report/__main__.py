"""All results as a table on the terminal and as one HTML page with plots.

python -m benchmarks.report benchmarks/results --out report.html
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.page import as_html
from benchmarks.report.rows import Results, as_text, busy, rows_of


def read(folder: Path) -> Results:
    """All results in a folder, by benchmark."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The benchmarks' results as a table and as one HTML page.")
    parser.add_argument("folder", type=Path, help="the folder with the JSON")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in that folder)")
    options = parser.parse_args(arguments)
    results = read(options.folder)
    if not results:
        print(f"report: no results in {options.folder}", file=sys.stderr)
        return 1
    out = options.out or options.folder / "report.html"
    print(as_text(rows_of(results)))
    if note := busy(results):
        print(f"\n{note}")
    out.write_text(as_html(results), encoding="utf-8")
    print(f"\nreport: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
