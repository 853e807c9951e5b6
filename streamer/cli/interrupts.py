"""What Ctrl-C does while the `lipstream` command loads. Imports next to nothing, to be at hand before all else."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

INTERRUPTED = 130
"""The exit status of what Ctrl-C ended: 128 + SIGINT, as in shells."""


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Ctrl-C ends the process at once while modules and models load, when there is nothing to tidy up.

    A KeyboardInterrupt would not do: extension modules turn one that is raised within their import into other errors.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
