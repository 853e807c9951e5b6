"""The shipped kernels compile for sm_80 and sm_90 without a GPU, spill nothing, and use the tensor cores."""

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def _compile(out: Path, *options: str, timeout: float) -> list[dict]:
    """Rows of the table, made by the command in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "avatar_kernels.ahead", "--json", str(out), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(out.read_text())


def _check(rows: list[dict]) -> None:
    for row in rows:
        name = f"{row['op']} {row['case']} sm_{row['arch']}"
        assert 0 < row["registers"] <= 255, name
        assert row["spilled"] == 0, f"{name} spills"
        assert row["shared_memory"] <= {80: 163, 90: 227}[row["arch"]] * 1024, name
        if row["tensor_cores_wanted"]:
            assert row["tensor_core_instructions"] > 0, f"{name} has no tensor-core instruction"


def test_shipped_configurations_compile(tmp_path: Path) -> None:
    """Every operation, at most 24 configurations: machine code for both architectures, no spilled register."""
    from avatar_kernels import OPS

    def compiled(arch: int) -> list[dict]:
        return _compile(tmp_path / f"{arch}.json", "--arch", str(arch), timeout=400)

    with ThreadPoolExecutor() as pool:  # one process for each architecture
        rows = [row for part in pool.map(compiled, (80, 90)) for row in part]
    _check(rows)
    assert len(rows) <= 24
    for arch in (80, 90):
        assert {row["op"] for row in rows if row["arch"] == arch} == set(OPS)
    assert any("fp8" in row["case"] for row in rows if row["arch"] == 90)
    dots = [row for row in rows if row["tensor_cores_wanted"]]
    assert {row["op"] for row in dots if row["arch"] == 90} == {"rolling_attention", "face_audio_attention"}


@pytest.mark.slow
def test_all_shipped_configurations_compile(tmp_path: Path) -> None:
    """So does every configuration that the presets and the 14B network take, at each batch."""
    _check(_compile(tmp_path / "table.json", "--all", timeout=1800))


def test_refuses_under_the_interpreter() -> None:
    """The interpreter's kernels cannot be compiled, and the command says so."""
    run = subprocess.run(
        [sys.executable, "-m", "avatar_kernels.ahead"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert "unset TRITON_INTERPRET" in run.stderr
