"""Handling of Ctrl-C while the `lipstream` command loads. Has few imports, because it must load first."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as in shells."""


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Makes Ctrl-C end the process at once while modules and models load, when no clean-up is needed.

    A KeyboardInterrupt is unsuitable: an extension module turns one raised during its import into another error.
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
