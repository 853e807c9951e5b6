"""`lipstream bench`: runs the benchmarks, prints their table, writes their JSON and one HTML report.

Each benchmark runs in a process of its own, so that none disturbs another and the measured server is the real command.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.base.resources import PACKAGE

BENCHMARKS = PACKAGE.parent / "benchmarks"
"""Where a checkout has its benchmarks; an installed wheel has none."""


@dataclass(frozen=True)
class Benchmark:
    name: str
    script: str
    what: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)
    minutes: float = 1.0
    """About how long it takes in full; `quick` takes about one."""

    out_option: str = "--out"
    """Before the file that the JSON goes to; empty where the file is the script's own argument."""
    data_option: str | None = None
    """Before the speech set, which it needs; empty where that is the script's own argument."""

    def command(self, quick: bool, out: Path, data: Path | None) -> list[str]:
        file = str(out / f"{self.name}.json")
        own = [] if self.data_option is None or data is None else [*filter(None, [self.data_option]), str(data)]
        own += [] if self.out_option else [file]
        options = [*(self.quick if quick else self.full), *([self.out_option, file] if self.out_option else [])]
        return [sys.executable, str(BENCHMARKS / self.script), *own, *options]


ALL = (
    Benchmark("mic_to_photon", "mic_to_photon.py", "microphone to screen, in a real browser", minutes=34),
    Benchmark(
        "two_sessions",
        "mic_to_photon.py",
        "two users at once",
        ("--sessions", "2", "--echo", "on", "--runs", "1", "--seconds", "60"),
        ("--sessions", "2", "--echo", "on", "--quick"),
        minutes=2,
    ),
    Benchmark("network_faults", "network_faults.py", "loss, jitter, stalls, drifting clocks", minutes=5),
    Benchmark("faulty_path", "faulty_path.py", "a bad network between browser and server", minutes=2),
    Benchmark("soak", "soak.py", "half an hour of one session", ("--minutes", "30"), minutes=31),
    Benchmark("outlets", "outlets.py", "what recording and publishing cost the live session", minutes=4),
    Benchmark("studio", "studio.py", "what drawing costs", quick=("--sizes", "256"), out_option=""),
    Benchmark(
        "articulation",
        "articulation.py",
        "lips against truth, on speakers held out",
        quick=(),
        minutes=10,
        data_option="",
    ),
    Benchmark("quality", "quality.py", "the neural generator's frames, held out", minutes=25, data_option="--set"),
)


def chosen(only: Sequence[str], data: Path | None, folder: Path = BENCHMARKS) -> list[Benchmark]:
    """What is to run: all that is there and has what it needs, or what was asked for.

    Raises ValueError for a name that is not known, not there, or lacks its data.
    """
    known = {benchmark.name: benchmark for benchmark in ALL}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(known)}")
    if not folder.is_dir():
        raise ValueError(
            "the benchmarks are not in the installed package: run this in a checkout, installed with pip install -e ."
        )
    picked = []
    for benchmark in [known[name] for name in only] or ALL:
        there = (folder / benchmark.script).is_file()
        able = benchmark.data_option is None or data is not None
        if there and able:
            picked.append(benchmark)
        elif only:
            lacks = "needs --data, the folder that `lipstream data` made" if there else f"is not at {folder}"
            raise ValueError(f"{benchmark.name} {lacks}")
    return picked


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="lipstream bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute each: shows that all runs, proves little")
    parser.add_argument("--only", action="append", default=[], metavar="NAME[,NAME]", help="only these")
    parser.add_argument("--data", type=Path, help="the speech set, for `articulation` and `quality`")
    parser.add_argument("--out", type=Path, default=Path("lipstream-bench"), help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        benchmarks = chosen([name for part in options.only for name in part.split(",")], options.data)
    except ValueError as error:
        print(f"lipstream bench: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    minutes = sum(1.0 if options.quick else benchmark.minutes for benchmark in benchmarks)
    names = ", ".join(benchmark.name for benchmark in benchmarks)
    print(f"{names}: about {minutes:.0f} minutes. Leave the machine alone meanwhile.", flush=True)
    failed = []
    for benchmark in benchmarks:
        print(f"\n=== {benchmark.name}: {benchmark.what} ({time.strftime('%H:%M')})", flush=True)
        out = options.out / f"{benchmark.name}.json"
        out.unlink(missing_ok=True)  # an old result must not pass for this one's
        if subprocess.run(benchmark.command(options.quick, options.out, options.data)).returncode != 0:
            failed.append(benchmark.name)
    print(flush=True)
    report = subprocess.run([sys.executable, str(BENCHMARKS / "report.py"), str(options.out)])
    if failed:
        print(f"lipstream bench: {', '.join(failed)} failed, see above", file=sys.stderr)
    return 1 if failed or report.returncode else 0
