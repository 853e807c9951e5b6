"""`python -m streamer` is `lipstream`."""

import sys

from streamer.cli.interrupts import INTERRUPTED, loading


def main() -> int:
    try:
        with loading():
            from streamer.cli.main import main as run
        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
