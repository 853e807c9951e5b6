"""The live step on the kernels equals the plain one, under Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "kernels_cases" / "live_step.py"


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_live_step_on_kernels() -> None:
    """All cases of the live step pass: the same frames and memories as in plain PyTorch, each slot for itself."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""},
        cwd=CASES.parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0 and "4 passed" in run.stdout, run.stdout[-8000:] + run.stderr[-2000:]
