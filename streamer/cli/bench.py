"""`lipstream bench`: runs the benchmarks, prints one table, writes their JSON and one HTML report.

Each benchmark runs in a process of its own, so that none disturbs another and the measured server is the real command.
"""

import argparse
import contextlib
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
"""Where a checkout has its benchmarks; an installed wheel has none."""
NOT_MEASURED = 3
"""
Exit status of a benchmark that ran and could measure nothing on this machine: the report shows the reason. The same
number as in benchmarks/lib/errors.py, which a wheel does not contain.
"""


@dataclass(frozen=True)
class Benchmark:
    name: str
    module: str
    """Below the package `benchmarks`."""

    what: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)
    minutes: float = 1.0
    """About how long it takes in full."""

    quick_minutes: float = 1.0
    out_option: str = "--out"
    """Before the path of the JSON; empty where the path is the module's own argument."""
    data_option: str | None = None
    """Before the path of the speech set, if it needs one; empty where that is the module's own argument."""

    def file(self, checkout: Path) -> Path:
        return checkout.joinpath("benchmarks", *self.module.split(".")).with_suffix(".py")

    def command(self, quick: bool, out: Path, data: Path | None) -> list[str]:
        """Paths are made absolute: the command runs in the checkout."""
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
        "lips against ground truth, on speakers held out of training",
        quick=(),
        minutes=10,
        quick_minutes=10,
        data_option="",
    ),
    Benchmark("quality", "quality.neural", "frames of the neural generator, held out", minutes=25, data_option="--set"),
)


def chosen(only: Sequence[str], data: Path | None, checkout: Path | None = None) -> list[Benchmark]:
    """The benchmarks that are asked for, or all that exist and have the data that they need.

    Raises ValueError for a name that is unknown or missing, or that lacks its data.
    """
    checkout = CHECKOUT if checkout is None else checkout
    known = {benchmark.name: benchmark for benchmark in ALL}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(known)}")
    if not (checkout / "benchmarks").is_dir():
        raise ValueError(
            "the benchmarks are not in the installed package: run this in a checkout, installed with pip install -e ."
        )
    picked = []
    for benchmark in [known[name] for name in only] or ALL:
        there = benchmark.file(checkout).is_file()
        able = benchmark.data_option is None or data is not None
        if there and able:
            picked.append(benchmark)
        elif only:
            lacks = "needs --data, the folder that `lipstream data` made" if there else f"is not in {checkout}"
            raise ValueError(f"{benchmark.name} {lacks}")
    return picked


def _run(command: Sequence[str]) -> int:
    """A process and whatever it starts, in a group of its own: Ctrl-C ends them here, and without their tracebacks."""
    process = subprocess.Popen(command, cwd=CHECKOUT, process_group=0)
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Ends a group of processes, gently at first."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if every benchmark ran and something was measured, 1 after a failure, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="lipstream bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute each: shows that all runs, proves little")
    parser.add_argument("--only", action="append", default=[], metavar="NAME[,NAME]", help="only these")
    parser.add_argument("--data", type=Path, help="the speech set, for `articulation` and `quality`")
    parser.add_argument("--out", type=Path, default=Path("lipstream-bench"), help="folder (default: %(default)s)")
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
    print(f"{names}: about {minutes:.0f} minutes. Other work on this machine spoils the numbers.", flush=True)
    failed, unmeasured = [], []
    for benchmark in benchmarks:
        print(f"\n=== {benchmark.name}: {benchmark.what} ({time.strftime('%H:%M')})", flush=True)
        (out / f"{benchmark.name}.json").unlink(missing_ok=True)  # an old result must not pass for this one's
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
