"""The kernels' benchmark verifies before it times, claims nothing for what is wrong, and refuses where nothing runs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "kernels.py"
NEEDS_TRITON = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script as a module, under a name of its own."""
    spec = importlib.util.spec_from_file_location("benchmark_of_kernels", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _run(*arguments: str, interpret: bool) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpret else "0", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_refuses_without_a_gpu() -> None:
    """Without a GPU it says so, and which of its parts need none; it times nothing."""
    run = _run(interpret=False)
    assert run.returncode == 2
    assert "times are taken on a CUDA GPU only" in run.stderr and "--compile" in run.stderr
    assert "µs" not in run.stdout


@NEEDS_TRITON
def test_times_nothing_under_the_interpreter() -> None:
    """The interpreter's times would say nothing, so none are taken, GPU or not."""
    run = _run(interpret=True)
    assert run.returncode == 2
    assert "TRITON_INTERPRET is set" in run.stderr


@NEEDS_TRITON
def test_verifies_on_the_cpu() -> None:
    """Its verification runs under the interpreter, over every operation, and finds all right."""
    run = _run("--verify", interpret=True)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert all(line.startswith("right ") for line in lines)
    assert {line.split()[1] for line in lines} == {
        "rolling_attention",
        "qk_norm_rope_cache",
        "face_audio_attention",
        "adaln",
    }


@NEEDS_TRITON
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")
def test_verifies_on_the_gpu() -> None:
    """On a GPU the compiled kernels are right, at odd sizes and at the presets'."""
    run = _run("--verify", interpret=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_claims_nothing_for_what_is_wrong(bench: ModuleType) -> None:
    """Where the check failed no speed-up is reported, whatever was timed; NaN fails, too; a wrong rival is left out."""
    ceiling = {"bytes": 4e12, "flops": 8e14}
    good = bench.Timing("op", "live", 4, "full", 10**6, 10**9, error=0.5, ours=10.0, rivals={"a": 30.0, "b": 20.0})
    assert good.speed_up == 2.0
    assert "| 2.00 |" in bench.line(good, ceiling)
    for error in (1.01, float("inf"), float("nan")):
        bad = bench.replace(good, error=error)
        assert bad.speed_up is None
        assert "2.00" not in bench.line(bad, ceiling)
        assert "check failed" in bench.line(bench.replace(bad, ours=None), ceiling)
    alone = bench.replace(good, rivals={}, wrong={"a": 7.0})
    assert alone.speed_up is None
    assert "a is wrong" in bench.line(alone, ceiling)


@pytest.mark.parametrize("rings", ["full", "mixed"])
def test_rivals_compute_the_same(bench: ModuleType, rings: str) -> None:
    """What the kernel is compared with gives the reference's result, from the same ring: the comparison is fair."""
    torch.manual_seed(0)
    given = bench.attention_inputs(bench.SMALL, 5, rings, torch.float32, "cpu")
    truth = bench.Truth(given)
    assert truth.error(bench.sdpa_masked(given, bench.side_by_side)) < 1
    plain = truth.error(bench.sdpa(given, bench.side_by_side))
    assert plain < 1 if rings == "full" else plain > 1
    norm, face, change = (
        make(bench.SMALL, 3, torch.float32, "cpu")
        for make in (bench.norm_inputs, bench.face_inputs, bench.adaln_inputs)
    )
    ring = tuple(part.clone() for part in norm["ring"])
    wanted = bench.qk_norm_rope_cache_reference(**norm, precision=torch.float64)
    found = bench.norm_unfused(**(norm | {"ring": ring}))
    assert max(bench.excess(a, b) for a, b in zip((*found, *ring), (*wanted, *norm["ring"]), strict=True)) < 1
    assert bench.excess(bench.face_unfused(**face), bench.face_audio_attention_reference(**face)) < 1
    pairs = zip(bench.adaln_unfused(**change), bench.adaln_reference(**change), strict=True)
    assert max(bench.excess(ours, truth) for ours, truth in pairs) < 1


def test_the_face_covers_a_fifth(bench: ModuleType) -> None:
    """The mask that `face_audio_attention` is timed with covers about the area that is claimed."""
    for shape in bench.SHAPES:
        faces = bench.face_inputs(bench.replace(shape, heads=1, head=32), 1, torch.float32, "cpu")["faces"]
        assert 0.15 <= float(faces.mean()) <= 0.25, shape.name


def test_inputs_exceed_the_cache(bench: ModuleType) -> None:
    """Sets of inputs are many enough to leave nothing of the next in the cache, and bounded in number."""
    for size in (10**3, 10**6, 10**8, 10**10):
        assert 2 <= bench.sets_of(size) <= bench.MOST_SETS
        assert bench.sets_of(size) * size >= min(bench.BEYOND_CACHE, bench.MOST_SETS * size)
