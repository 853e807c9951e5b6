"""The kernels' benchmark verifies before it times, claims nothing for what is wrong, and refuses where nothing runs."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from avatar_kernels.rolling_attention import rolling_attention
from avatar_kernels.rolling_attention.reference import rolling_attention_reference
from avatar_kernels.shapes import LIVE, NANO, SHAPES, Shape

from benchmarks.kernels import baselines, inputs, timing, triton_kernels, verification
from benchmarks.lib.paths import ROOT

NEEDS_TRITON = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def _run(*arguments: str, interpret: bool) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpret else "0", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels.triton_kernels", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
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


def test_claims_nothing_for_what_is_wrong() -> None:
    """Where the check failed no speed-up is reported, whatever was timed; NaN fails, too; a wrong rival is left out."""
    ceiling = {"bytes": 4e12, "flops": 8e14}
    good = timing.Timing("op", "live", 4, "full", 10**6, 10**9, error=0.5, ours=10.0, rivals={"a": 30.0, "b": 20.0})
    assert good.speed_up == 2.0
    assert "| 2.00 |" in triton_kernels.line(good, ceiling)
    for error in (1.01, float("inf"), float("nan")):
        bad = replace(good, error=error)
        assert bad.speed_up is None
        assert "2.00" not in triton_kernels.line(bad, ceiling)
        assert "check failed" in triton_kernels.line(replace(bad, ours=None), ceiling)
    alone = replace(good, rivals={}, wrong={"a": 7.0})
    assert alone.speed_up is None
    assert "a is wrong" in triton_kernels.line(alone, ceiling)
    for error in (0.5, None):
        broken = replace(good, error=error, ours=None, failed={"ours": "no | luck"})
        assert not broken.right and broken.speed_up is None and "failed: no" in triton_kernels.line(broken, ceiling)
    assert "a failed (no luck)" in triton_kernels.line(replace(good, failed={"a": "no luck"}), {})


@pytest.mark.parametrize(("context", "rings"), [(3, "full"), (3, "mixed"), (0, "full")])
def test_rivals_compute_the_same(context: int, rings: str) -> None:
    """What the kernel is compared with gives the reference's result, from the same ring: the comparison is fair."""
    torch.manual_seed(0)
    shape = replace(inputs.SMALL, context=context)
    given = inputs.attention_inputs(shape, 5, rings, torch.float32, "cpu")
    truth = verification.Truth(given)
    assert truth.error(baselines.sdpa_masked(given, baselines.side_by_side)) < 1
    plain = truth.error(baselines.sdpa(given, baselines.side_by_side))
    assert plain < 1 if rings == "full" else plain > 1
    for _, unfused, reference, make in verification.FUSED.values():
        given = make(shape, 3, torch.float32, "cpu")
        assert verification.worst(verification.results(unfused, given), verification.truth_of(reference, given)) < 1


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_inputs_of_every_shape_are_taken(shape: Shape) -> None:
    """What is measured passes the operations' own checks at every shipped shape, and the rivals take it: no memory."""
    for rings in ("full", "mixed"):
        given = inputs.attention_inputs(shape, 2, rings, torch.bfloat16, "meta")
        with pytest.raises(RuntimeError, match="runs anywhere"):  # a refusal of the inputs is a ValueError
            rolling_attention(**given)
        for rival in (baselines.sdpa, baselines.sdpa_masked):
            assert rival(given, baselines.side_by_side).shape == given["q"].shape
    for ours, unfused, _, make in verification.FUSED.values():
        given = make(shape, 2, torch.bfloat16, "meta")
        with pytest.raises(RuntimeError, match="runs anywhere"):
            ours(**given)
        verification.results(unfused, given)


def test_a_forgotten_tile_of_thousands_of_keys_is_seen() -> None:
    """Among 18 432 keys, bfloat16 attention that forgets 64 is wrong, and what only rounds as a kernel does is not."""
    torch.manual_seed(0)
    shape = Shape("long", heads=2, head=128, tokens=512, context=34)
    given = inputs.attention_inputs(shape, 1, "full", torch.bfloat16, "cpu")
    truth = verification.Truth(given)
    q, keys, values = baselines.side_by_side(given | {"table": given["table"].half()})
    scores = q.float() @ keys.float().mT * shape.head**-0.5

    def error(scores: torch.Tensor) -> float:
        seen = scores.softmax(-1).bfloat16().float() @ values.float()
        return truth.error(seen.bfloat16().transpose(1, 2))

    assert keys.shape[2] == 18432 and error(scores) < 0.8
    for first in (0, 9216, 18432 - 64):
        forgetful = scores.clone()
        forgetful[..., first : first + 64] = -torch.inf
        assert error(forgetful) > 2


def _as(reference: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that is right: the reference, rounded to what it was given."""

    def op(**given: Any) -> Any:
        dtype = next(part for part in given.values() if isinstance(part, torch.Tensor)).dtype
        found = reference(**given, precision=torch.float64)
        return found.to(dtype) if isinstance(found, torch.Tensor) else tuple(part.to(dtype) for part in found)

    return op


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, Any]]]:
    """A run of the timing over small rows of all operations, with references for kernels and 5 µs for all times."""
    operations = {op: (_as(parts[2]), *parts[1:]) for op, parts in timing.FUSED.items()}
    monkeypatch.setattr(timing, "FUSED", operations)
    monkeypatch.setattr(timing, "rolling_attention", _as(rolling_attention_reference))
    monkeypatch.setattr(timing, "microseconds", lambda calls: 5.0 if [call() for call in calls] else 0.0)
    monkeypatch.setattr(timing, "MOST_SETS", 2)
    monkeypatch.setattr(triton_kernels, "describe", lambda device: {})
    monkeypatch.setattr(triton_kernels, "ceilings", lambda: {"bytes": 4e12, "flops": 8e14})
    monkeypatch.setattr(timing, "flex", lambda given, lay, *_: baselines.sdpa_masked(given, lay))
    monkeypatch.setattr(triton_kernels, "checks", lambda *_: iter([("a check", lambda: 0.5), ("another", lambda: 0.7)]))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)

    def run(out: Path, seconds: float = 1e9) -> tuple[int, dict[str, Any]]:
        cases = [timing.Case("rolling_attention", inputs.SMALL, 2, rings) for rings in ("full", "mixed")]
        cases += [timing.Case(op, inputs.SMALL, 2) for op in operations]
        code = triton_kernels.run_timing(Namespace(out=out, seconds=seconds, tune=False), cases, "cpu")
        return code, json.loads(out.read_text())

    return run


def test_times_every_row(on_cpu: Callable[..., Any], tmp_path: Path) -> None:
    """Each operation is verified, and timed beside rivals that are right, all of which is written down."""
    code, result = on_cpu(tmp_path / "result.json")
    assert code == 0 and result["verified"] is True and result["not_reached"] == []
    assert len(result["timings"]) == 5
    for row in result["timings"]:
        assert row["right"] and row["speed_up"] == 1 and not row["failed"] and not row["wrong"], row
        assert row["bytes"] > 0 and row["rotated"] > 0
    assert set(result["timings"][0]["rivals"]) == {"SDPA", "SDPA, masked", "FlexAttention"}
    assert set(result["timings"][1]["rivals"]) == {"SDPA, masked", "FlexAttention"}


def test_a_failure_stays_in_its_row(
    on_cpu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A rival that fails leaves its reason and no more; ours that fails is wrong; either way the run goes on."""

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such | thing\nat all")

    reason = "RuntimeError: no such / thing"
    monkeypatch.setattr(timing, "flex", fails)
    code, result = on_cpu(tmp_path / "result.json")
    assert code == 0
    for row in result["timings"][:2]:
        assert row["failed"] == {"FlexAttention": reason} and row["speed_up"] == 1
    monkeypatch.setattr(triton_kernels, "checks", lambda *_: iter([("a check", fails), ("another", lambda: 0.7)]))
    monkeypatch.setitem(timing.FUSED, "qk_norm_rope_cache", (fails, *timing.FUSED["qk_norm_rope_cache"][1:]))
    code, result = on_cpu(tmp_path / "result.json")
    assert code == 1 and result["verified"] is False
    assert [check["failed"] for check in result["checks"]] == [reason, ""]
    rows = {row["op"]: row for row in result["timings"]}
    assert rows["adaln"]["right"] and rows["adaln"]["speed_up"] == 1
    wrong = rows["qk_norm_rope_cache"]
    assert not wrong["right"] and wrong["speed_up"] is None and wrong["failed"] == {"ours": reason}
    assert wrong["rivals"]


def test_what_is_left_in_the_ring_is_checked(
    on_cpu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kernel that returns what it should, and forgets to write it down, is wrong."""
    ours, *others = timing.FUSED["qk_norm_rope_cache"]

    def forgets(**given: Any) -> Any:
        return ours(**(given | {"ring": tuple(part.clone() for part in given["ring"])}))

    monkeypatch.setitem(timing.FUSED, "qk_norm_rope_cache", (forgets, *others))
    code, result = on_cpu(tmp_path / "result.json")
    row = next(row for row in result["timings"] if row["op"] == "qk_norm_rope_cache")
    assert code == 1 and not row["right"] and row["error"] > 1 and row["ours"] is None


def test_rows_are_kept_as_they_come(
    on_cpu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever ends a run, the rows before are in the file; when the seconds are over, no new one is begun."""
    out = tmp_path / "result.json"
    code, result = on_cpu(out, seconds=-1)
    assert code == 0 and not result["timings"] and result["verified"] is None and "over" in result["stopped"]
    assert len(result["not_reached"]) == 5 and "rolling_attention, small x2, full" in result["not_reached"]
    times = itertools.count()

    def ends(calls: Any) -> float:
        if next(times) == 6:
            raise KeyboardInterrupt
        return 5.0

    monkeypatch.setattr(timing, "microseconds", ends)
    with pytest.raises(KeyboardInterrupt):
        on_cpu(out)
    result = json.loads(out.read_text())
    assert len(result["timings"]) == 1 and len(result["not_reached"]) == 4


def test_what_matters_most_comes_first() -> None:
    """`live` at the batches of a busy server leads, 14B closes from its smallest; tuning takes full rings alone."""
    cases = triton_kernels.planned(SHAPES, triton_kernels.BATCHES, False, "cpu")
    order = list(dict.fromkeys((case.shape.name, case.batch) for case in cases))
    assert order[:3] == [("live", 4), ("live", 16), ("nano", 1)]
    assert order[6:] == [
        *(("live", 1), ("live", 64)),
        *(("14B-frame", 1), ("14B", 1), ("14B-frame", 4), ("14B", 4)),
    ]
    assert {(case.op, case.rings) for case in cases if case.shape is NANO} == {
        ("rolling_attention", "full"),
        *((op, "-") for op in timing.FUSED),
    }
    tuned = triton_kernels.planned([LIVE], triton_kernels.TUNED, True, "cpu")
    assert {(case.op, case.rings) for case in tuned} == {("rolling_attention", "full")}
    assert len(set(map(str, tuned))) == len(tuned) <= 40


def test_the_face_covers_a_fifth() -> None:
    """The mask that `face_audio_attention` is timed with covers about the area that is claimed."""
    for shape in SHAPES:
        faces = inputs.face_inputs(replace(shape, heads=1, head=32), 1, torch.float32, "cpu")["faces"]
        assert 0.15 <= float(faces.mean()) <= 0.25, shape.name


def test_inputs_exceed_the_cache() -> None:
    """Sets of inputs are many enough to leave nothing of the next in the cache, and bounded in number."""
    for size, cache in itertools.product((10**3, 10**6, 10**8, 10**10), (6 * 2**20, 50 * 2**20)):
        assert 2 <= timing.sets_of(size, cache) <= timing.MOST_SETS
        assert timing.sets_of(size, cache) * size >= min(timing.CACHES * cache, timing.MOST_SETS * size)
