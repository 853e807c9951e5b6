"""The kernels' cases pass under Triton's interpreter, in processes of their own: what a kernel is, is decided once."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest
from avatar_kernels import OPS

CASES = Path(__file__).parent / "kernels_cases"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[ElementTree.Element, str]:
    """The report of all cases, and what pytest printed. The longest operation runs beside the others."""
    folder = tmp_path_factory.mktemp("kernels")

    def run(number: int, ops: list[str]) -> tuple[ElementTree.Element, str]:
        report = folder / f"{number}.xml"
        files = [str(CASES / f"{op}.py") for op in ops]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files],
            env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""},
            cwd=CASES.parent.parent,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert report.exists(), run.stdout + run.stderr
        return ElementTree.parse(report).getroot(), run.stdout

    longest = "rolling_attention"
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(run, range(2), ([longest], [op for op in OPS if op != longest])))
    whole = ElementTree.Element("testsuites")
    whole.extend(report for report, _ in parts)
    return whole, "\n".join(printed for _, printed in parts)


@pytest.mark.parametrize("op", OPS)
def test_cases_of(op: str, outcome: tuple[ElementTree.Element, str]) -> None:
    """Each kernel equals its float64 reference on every case: dtypes, odd shapes, positions, poisoned outputs."""
    report, printed = outcome
    cases = [case for case in report.iter("testcase") if case.get("classname", "").endswith(f".{op}")]
    wrong = [case.get("name") for case in cases if len(case)]  # a failure, an error or a skip has a child
    assert not wrong, f"{wrong}\n{printed[-8000:]}"
    assert len(cases) >= 10, f"{len(cases)} cases ran\n{printed[-8000:]}"
