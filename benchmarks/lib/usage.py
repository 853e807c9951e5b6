"""CPU time and memory of processes."""

import time
from dataclasses import dataclass, field

import psutil


@dataclass
class Usage:
    """CPU time and memory of a set of processes between two looks. Shares are of one core."""

    processes: list[psutil.Process]
    began: float = field(default_factory=time.monotonic)
    before: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before = {process.pid: _cpu_seconds(process) for process in self.processes}

    def cpu_percent(self) -> float:
        spent = sum(max(0.0, _cpu_seconds(process) - self.before[process.pid]) for process in self.processes)
        return round(100 * spent / max(1e-9, time.monotonic() - self.began), 1)

    def memory_mb(self) -> float:
        """Memory in use; shared memory counts once (PSS) where the system reports it."""
        return round(sum(map(_memory, self.processes)) / 2**20, 1)


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        return times.user + times.system
    except psutil.Error:
        return 0.0


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return getattr(full, "pss", full.rss)
    except psutil.Error:
        return rss(process)


def rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
