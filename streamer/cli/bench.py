"""`lipstream bench`: runs the benchmarks, prints one table, writes JSON results and an HTML report.

Each benchmark runs in its own process, so that benchmarks do not disturb each other and measure the real command.
"""

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.base.resources import PACKAGE

CHECKOUT = PACKAGE.parent
"""Root of the checkout, which contains `benchmarks/`; an installed wheel has none."""
NOT_MEASURED = 3
"""
Exit status of a benchmark that cannot measure anything on this machine; the report shows the reason. Must equal the
number in benchmarks/lib/errors.py, which a wheel does not contain.
"""


NEEDED = ("httpx", "playwright", "psutil")
"""Modules that the benchmarks import and the package does not depend on; the extra `test` installs them."""


@dataclass(frozen=True)
class Benchmark:
    name: str
    module: str
    """Relative to the package `benchmarks`."""

    what: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)
    minutes: float = 1.0
    """Approximate duration of a full run."""

    quick_minutes: float = 1.0
    out_option: str = "--out"
    """Option for the path of the JSON file; empty: a positional argument."""
    data_option: str | None = None
    """Option for the path of the speech set; empty: a positional argument; None: the benchmark needs no set."""
    modules: tuple[str, ...] = ()
    """Modules that it imports in addition to NEEDED."""

    def file(self, checkout: Path) -> Path:
        return checkout.joinpath("benchmarks", *self.module.split(".")).with_suffix(".py")

    def command(self, quick: bool, out: Path, data: Path | None) -> list[str]:
        """The command line of the benchmark. Paths are absolute, because it runs in the checkout."""
        file = str((out / f"{self.name}.json").absolute())
        own = [] if self.data_option is None or data is None else [*filter(None, [self.data_option]), str(data)]
        own += [] if self.out_option else [file]
        options = [*(self.quick if quick else self.full), *([self.out_option, file] if self.out_option else [])]
        return [sys.executable, "-m", f"benchmarks.{self.module}", *own, *options]


ALL = (
    Benchmark(
        "mic_to_photon",
        "latency.mic_to_photon",
        "latency from the microphone to the screen, in a real browser",
        minutes=34,
        quick_minutes=2,
    ),
    Benchmark(
        "two_sessions",
        "latency.mic_to_photon",
        "two users at once",
        ("--sessions", "2", "--echo", "on", "--runs", "1", "--seconds", "60"),
        ("--sessions", "2", "--echo", "on", "--quick"),
        minutes=2,
    ),
    Benchmark("network_faults", "network.jitter_buffer", "loss, jitter, stalls and clock drift, simulated", minutes=5),
    Benchmark(
        "faulty_path", "network.faulty_path", "a bad network between browser and server", minutes=2, quick_minutes=2
    ),
    Benchmark("soak", "latency.soak", "one session for a long time", ("--minutes", "30"), minutes=31, quick_minutes=3),
    Benchmark("outlets", "latency.recording_cost", "the cost of recording and publishing", minutes=4, quick_minutes=2),
    Benchmark("studio", "latency.rig_drawing", "the cost of drawing", quick=("--sizes", "256"), out_option=""),
    Benchmark(
        "articulation",
        "quality.articulation",
        "lip movement against ground truth, on held-out speakers",
        quick=(),
        minutes=10,
        quick_minutes=10,
        data_option="",
        modules=("torch",),
    ),
    Benchmark(
        "quality",
        "quality.neural",
        "neural frames at 512 pixels, on held-out data",
        minutes=25,
        data_option="--set",
        modules=("torch",),
    ),
)


def chosen(only: Sequence[str], data: Path | None, checkout: Path | None = None) -> list[Benchmark]:
    """Selects the named benchmarks, or all that exist and have their data.

    Raises ValueError if a named benchmark is unknown, missing, or lacks its data, and if a module is missing.
    """
    checkout = CHECKOUT if checkout is None else checkout
    known = {benchmark.name: benchmark for benchmark in ALL}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"unknown benchmark {', '.join(unknown)}: choose from {', '.join(known)}")
    if not (checkout / "benchmarks").is_dir():
        raise ValueError(
            "the installed package contains no benchmarks: run this in a checkout, installed with pip install -e ."
        )
    _refuse_without(NEEDED, checkout)
    picked = []
    for benchmark in [known[name] for name in only] or ALL:
        there = benchmark.file(checkout).is_file()
        able = benchmark.data_option is None or data is not None
        if there and able:
            picked.append(benchmark)
        elif only:
            lacks = "needs --data, the folder that `lipstream data` created" if there else f"is not in {checkout}"
            raise ValueError(f"{benchmark.name} {lacks}")
    _refuse_without([name for benchmark in picked for name in benchmark.modules], checkout)
    return picked


def _refuse_without(modules: Sequence[str], checkout: Path) -> None:
    """Raises ValueError if a module is not installed."""
    if absent := [name for name in dict.fromkeys(modules) if importlib.util.find_spec(name) is None]:
        raise ValueError(f"{', '.join(absent)} missing: run pip install -e '.[test]' in {checkout}")


def _run(command: Sequence[str]) -> int:
    """Runs a command in its own process group, so that Ctrl-C ends it and its children without their tracebacks."""
    process = subprocess.Popen(command, cwd=CHECKOUT, process_group=0)
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Ends a process group: SIGTERM first, then SIGKILL."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if every benchmark ran and something was measured, 1 after a failure, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="lipstream bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute each: checks that everything runs")
    parser.add_argument("--only", action="append", default=[], metavar="NAME[,NAME]", help="run only these benchmarks")
    parser.add_argument("--data", type=Path, help="folder of the speech set, for `articulation` and `quality`")
    parser.add_argument("--out", type=Path, default=Path("lipstream-bench"), help="output folder (%(default)s)")
    options = parser.parse_args(arguments)
    data = None if options.data is None else options.data.absolute()
    try:
        benchmarks = chosen([name for part in options.only for name in part.split(",")], data)
    except ValueError as error:
        print(f"lipstream bench: {error}", file=sys.stderr)
        return 2
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    minutes = sum(benchmark.quick_minutes if options.quick else benchmark.minutes for benchmark in benchmarks)
    names = ", ".join(benchmark.name for benchmark in benchmarks)
    print(f"{names}: about {minutes:.0f} minutes. Other load on this machine distorts the numbers.", flush=True)
    failed, unmeasured = [], []
    for benchmark in benchmarks:
        print(f"\n=== {benchmark.name}: {benchmark.what} ({time.strftime('%H:%M')})", flush=True)
        (out / f"{benchmark.name}.json").unlink(missing_ok=True)  # do not report an old result as the new one
        status = _run(benchmark.command(options.quick, out, data))
        if status == NOT_MEASURED:
            unmeasured.append(benchmark.name)
        elif status != 0:
            failed.append(benchmark.name)
    print("\n=== results", flush=True)
    report = _run([sys.executable, "-m", "benchmarks.report", str(out)])
    if unmeasured:
        print(f"lipstream bench: {', '.join(unmeasured)} could not be measured here, see the table", file=sys.stderr)
    if failed:
        print(f"lipstream bench: {', '.join(failed)} failed, see above", file=sys.stderr)
    nothing = len(unmeasured) == len(benchmarks)
    return 1 if failed or report != 0 or nothing else 0
