"""This machine's cores: how many there are to use, and keeping one busy while something is measured."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_LONGEST_LOAD = 30.0  # seconds after which the busy process exits by itself


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_BUSY = """
import os, sys, time
parent, end = os.getppid(), time.monotonic() + float(sys.argv[1])
print(flush=True)
while time.monotonic() < end and os.getppid() == parent:
    pass
"""


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Keeps one core busy from another process, which ends with this one, or by itself after 30 s."""
    command = [sys.executable, "-S", "-c", _BUSY, str(_LONGEST_LOAD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # wait until it runs
            yield
        finally:
            process.kill()
