"""`python -m benchmarks.quality`: measures the neural generator's frames."""

import sys

from benchmarks.quality.neural import main

if __name__ == "__main__":
    sys.exit(main())
