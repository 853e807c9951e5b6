"""Quality of animated pictures: `python -m benchmarks.pictures --photographs DIR --drawings DIR …`.

Prints a line for each picture and a summary for each kind, and writes JSON with figures and names, but no pictures.
`measures.py` and the README of the benchmarks define the figures.

    python -m benchmarks.pictures --unpack DIR               # fetch the development sets into DIR (needs npm)
    python -m benchmarks.pictures --photographs DIR --docs   # a folder, and the pictures in docs/pictures
    python -m benchmarks.pictures --docs --only composer,toon --no-judge --sheet out.png --strips out2.png --video DIR
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # measure one core; libraries read these variables when they are loaded

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.lib import hardware  # noqa: E402
from benchmarks.lib.paths import RESULTS  # noqa: E402
from benchmarks.pictures import poses, sets, sheet, table  # noqa: E402
from benchmarks.pictures.judge import REQUIREMENTS, Judge, NoJudge  # noqa: E402
from benchmarks.pictures.measure import NoFace, Opener, Row, Subject, measure  # noqa: E402

OUT = RESULTS / "pictures.json"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pictures", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of photographs, like --photographs")
    parser.add_argument("--photographs", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--drawings", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--people", type=Path, action="append", default=[], metavar="DIR", help="rendered people")
    parser.add_argument("--docs", action="store_true", help="include the pictures in docs/pictures")
    parser.add_argument("--only", default="", metavar="A,B", help="only pictures whose names contain one of these")
    parser.add_argument("--size", type=int, default=512, help="edge of the frame in pixels (default: 512)")
    parser.add_argument("--quick", action="store_true", help="40 frames of speech instead of 160: a smoke test")
    parser.add_argument("--no-judge", action="store_true", help="draw sheets, strips and videos, measure nothing")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="save each picture's poses, with mouth and eyes")
    parser.add_argument("--strips", type=Path, metavar="PNG", help="save frames around a plosive and a blink")
    parser.add_argument("--video", type=Path, metavar="DIR", help="save an MP4 of each speaking picture")
    parser.add_argument("--unpack", type=Path, metavar="DIR", help="fetch the development sets into DIR and exit")
    parser.add_argument("--held-out", action="store_true", help="with --unpack: also fetch the held-out photographs")
    parser.add_argument("--out", type=Path, default=None, metavar="JSON", help=f"figures ({OUT.name} to publish them)")
    return parser.parse_args(given)


def chosen(args: argparse.Namespace) -> list[sets.Sample]:
    """The selected pictures. Raises NoSet."""
    folders = (
        *((folder, "photographs") for folder in (*([args.folder] if args.folder else []), *args.photographs)),
        *((folder, "drawings") for folder in args.drawings),
        *((folder, "rendered people") for folder in args.people),
    )
    found = [sample for folder, kind in folders for sample in sets.samples(folder, kind)]
    if args.docs or not folders:
        found += sets.of_docs()
    parts = [part for part in args.only.split(",") if part]
    kept = [sample for sample in found if not parts or any(part in sample.name for part in parts)]
    if not kept:
        raise sets.NoSet(f"none of the {len(found)} pictures has {args.only!r} in its name")
    return sorted(kept, key=lambda sample: (sets.KINDS.index(sample.kind), sample.name))


def unpack(folder: Path, held_out: bool) -> None:
    print(f"{sets.unpack_photographs(folder / 'photographs')} photographs, ", end="", flush=True)
    if held_out:
        print(f"{sets.unpack_photographs(folder / 'held-out', sets.HELD_OUT)} held out, ", end="", flush=True)
    print(f"{sets.draw_drawings(folder / 'drawings')} drawings in {folder}")


def look(samples: Sequence[sets.Sample], opener: Opener, curves: np.ndarray, args: argparse.Namespace) -> None:
    """Draws the requested sheets and videos."""
    sheets, strips = [], []
    for sample in samples:
        try:
            subject: Subject = opener(sample.path, args.size)
        except NoFace as error:
            print(f"{sample.name}: {error}", file=sys.stderr)
            continue
        if args.sheet:
            sheets.append(sheet.rows_of(sample.name, subject))
        if args.strips:
            strips.append(sheet.strips_of(sample.name, subject, curves))
        if args.video:
            args.video.mkdir(parents=True, exist_ok=True)
            spoken, start = poses.with_start(frames=len(curves))
            sheet.video(args.video / f"{sample.name}.mp4", subject, spoken, start=start)
    for images, path in ((sheets, args.sheet), (strips, args.strips)):
        if images and path:
            sheet.save(images, path)


def report(rows: Sequence[Row], frames: int, size: int) -> dict[str, Any]:
    """The figures and names of files, ready for JSON."""
    kinds = [kind for kind in sets.KINDS if any(row.kind == kind for row in rows)]
    return {
        "measured": time.strftime("%Y-%m-%d"),
        "hardware": hardware.describe(),
        "load": hardware.load(),
        "judge": REQUIREMENTS[0],
        "frames": frames,
        "size": size,
        "summary": {
            kind: [figure.as_json() for figure in table.summary([row for row in rows if row.kind == kind])]
            for kind in kinds
        },
        "pictures": [row.as_json() for row in rows],
    }


def run(samples: Sequence[sets.Sample], opener: Opener, args: argparse.Namespace) -> list[Row]:
    """Draws what was requested, then measures and prints each picture. Raises NoJudge."""
    cv2.setNumThreads(1)
    curves = poses.speech(frames=40 if args.quick else poses.SPOKEN)
    if args.sheet or args.strips or args.video:
        look(samples, opener, curves, args)
    if args.no_judge:
        return []
    rows: list[Row] = []
    print(table.head())
    with Judge() as judge:
        for sample in samples:
            rows.append(measure(sample, opener, judge, curves, args.size))
            print(table.line(rows[-1]), flush=True)
    for kind in sets.KINDS:
        if of_kind := [row for row in rows if row.kind == kind]:
            print("\n" + table.text(kind, of_kind))
    if args.out:
        args.out.write_text(json.dumps(report(rows, len(curves), args.size), indent=1, ensure_ascii=False) + "\n")
    return rows


def main(given: Sequence[str] | None = None) -> int:
    args = arguments(given)
    try:
        if args.unpack:
            unpack(args.unpack, args.held_out)
            return 0
        from benchmarks.pictures import rigs

        run(chosen(args), rigs.opener(), args)
    except (sets.NoSet, NoJudge) as error:
        print(f"pictures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.exit(main())
