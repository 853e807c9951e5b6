"""The benchmark of a live step: its arithmetic, what it claims and what not, and a trial without a GPU."""

import copy
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kernels import model_step as bench
from streamer.model.attention import Choice
from streamer.model.config import PRESETS
from streamer.model.runtime import cuda_step
from streamer.model.runtime.cuda import CudaFrameRenderer

TINY = PRESETS["tiny"]
GOOD = bench.Row("live", 16, "whole", "kernels", True, error=1.1, ms=4.0, p95=4.4)
PLAIN = bench.Row("live", 16, "whole", "plain", False, error=1.0, ms=10.0, p95=11.0)


def test_sessions_held() -> None:
    """Steps one after the other must fit into a frame's 40 ms: one that does not holds nobody."""
    assert [bench.held(16, ms) for ms in (4.0, 13.0, 39.9, 40.0, 40.1)] == [160, 48, 16, 16, 0]


def test_claims_nothing_for_what_is_wrong() -> None:
    """A speed-up is against the same stage, plain and eager; none where a check failed or nothing was timed."""
    others = [replace(PLAIN, batch=4, ms=1.0), replace(PLAIN, captured=True, ms=2.0), PLAIN]
    assert bench.speed_up(GOOD, [*others, GOOD]) == 2.5
    assert "| 2.50 |" in bench.line(GOOD, [*others, GOOD])
    for error in (2.01, float("inf"), float("nan")):
        bad = replace(GOOD, error=error)
        assert not bad.right and bench.speed_up(bad, others) is None
        assert "check failed" in bench.line(bad, others) and "4.00" not in bench.line(bad, others)
        assert bench.speed_up(GOOD, [replace(PLAIN, error=error)]) is None
    assert bench.speed_up(GOOD, []) is None
    lacking = replace(GOOD, ms=None, p95=None, note="out of memory")
    assert lacking.right and lacking.held is None and "out of memory" in bench.line(lacking, others)
    failed = replace(GOOD, ms=None, p95=None, error=None, failed="no luck")
    assert not failed.right and bench.speed_up(failed, others) is None
    assert "failed: no luck" in bench.line(failed, others)


def test_what_is_wrong_is_not_timed() -> None:
    """A way whose frames are wrong is not even run."""

    def never() -> torch.Tensor:
        raise AssertionError("it was run")

    row = bench.timed(bench.Row("tiny", 1, "transformer", "kernels", False, error=3.0), never, "cpu", 1)
    assert row.ms is None


@torch.no_grad()
def test_the_check_sees_a_wrong_step() -> None:
    """The plain step passes its own check in half precision; one that forgets, or leaves NaN, does not."""
    torch.manual_seed(0)
    exact = bench.transformer(TINY)
    model = copy.deepcopy(exact).bfloat16()
    exact = copy.deepcopy(model).float()

    def forgets(model: cuda_step.Transformer, slots: cuda_step.Slots, count: int) -> torch.Tensor:
        slots.written.zero_()
        return cuda_step.reference_step(model, slots, count)

    def nan(model: cuda_step.Transformer, slots: cuda_step.Slots, count: int) -> torch.Tensor:
        return cuda_step.reference_step(model, slots, count) * torch.nan

    plain, forgot, none = bench.error(model, exact, [cuda_step.reference_step, forgets, nan], "cpu", graph=False)
    assert plain == 1 and forgot > 2 and none == float("inf")


def test_a_trial_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU it runs the plain step through every stage, says which attention it took, and writes it all down."""
    out = tmp_path / "result.json"
    assert bench.main(["--device", "cpu", "--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert {(row["batch"], row["stage"], row["how"]) for row in result["rows"]} == {
        (batch, stage, "-" if stage == "decoder" else "plain") for batch in (1, 2) for stage in bench.STAGES
    }
    assert all(row["ms"] > 0 and row["held"] >= 0 and not row["captured"] for row in result["rows"])
    assert result["not_reached"] == [] and result["stopped"] is None
    assert result["hardware"]["cpu"] and "commit" in result["hardware"] and result["quick"]
    assert "PyTorch's operators" in result["choices"][0]
    assert bench.HEADINGS in capsys.readouterr().out


QUICK = ["--device", "cpu", "--quick", "--batches", "1", "--out"]


def test_a_failure_stays_in_its_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stage that fails leaves its reason, and no time; one without memory is not wrong; the others are measured."""

    def fails(trouble: Exception) -> Any:
        raise trouble

    out = tmp_path / "result.json"
    monkeypatch.setattr(bench, "served", lambda *_: fails(RuntimeError("no | capture\nhere")))
    assert bench.main([*QUICK, str(out)]) == 1
    first, *others = json.loads(out.read_text())["rows"]
    assert first["failed"] == "RuntimeError: no / capture" and not first["right"] and first["ms"] is None
    assert len(others) == 3 and all(row["ms"] for row in others)
    monkeypatch.setattr(bench, "served", lambda *_: fails(torch.OutOfMemoryError("too much")))
    assert bench.main([*QUICK, str(out)]) == 0
    assert json.loads(out.read_text())["rows"][0]["note"] == "out of memory"
    monkeypatch.setattr(bench, "error", lambda *_: fails(RuntimeError("not compiled")))
    assert bench.main([*QUICK, str(out)]) == 1
    rows = {row["stage"]: row for row in json.loads(out.read_text())["rows"]}
    for stage in ("whole", "transformer"):
        assert rows[stage]["failed"] == "RuntimeError: not compiled" and rows[stage]["speed_up"] is None
    assert rows["decoder"]["ms"]


def test_rows_are_kept_as_they_come(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever ends a run, the rows before are in the file; when the seconds are over, no new one is begun."""
    out = tmp_path / "result.json"
    assert bench.main([*QUICK, str(out), "--seconds", "-1"]) == 0
    result = json.loads(out.read_text())
    assert not result["rows"] and len(result["not_reached"]) == 4 and "over" in result["stopped"]
    times = iter([[1.0], [1.0]])

    def ends(*_: object) -> list[float]:
        if (found := next(times, None)) is None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(bench, "milliseconds", ends)
    with pytest.raises(KeyboardInterrupt):
        bench.main([*QUICK, str(out)])
    result = json.loads(out.read_text())
    assert [row["stage"] for row in result["rows"]] == ["served", "whole"]
    assert result["not_reached"] == ["tiny x1 transformer, plain, eager", "tiny x1 decoder, eager"]


def test_what_matters_most_comes_first() -> None:
    """`live` at the batches of a busy server leads; speed-ups have what they are against before them."""
    plan = bench.planned(["nano", "live"], bench.BATCHES, {"nano": True, "live": True}, gpu=True)
    order = list(dict.fromkeys((row.preset, row.batch) for row in plan))
    assert order[:3] == [("live", 4), ("live", 16), ("nano", 1)]
    assert order[6:] == [("live", 1), ("live", 64), ("nano", 256), ("live", 256)]
    assert [str(row) for row in plan[:3]] == [
        "live x4 served, kernels, graph",
        "live x4 whole, plain, eager",
        "live x4 whole, kernels, graph",
    ]
    assert len(set(plan)) == len(plan) == 10 * 11
    assert {row.how for row in bench.planned(["nano"], [1], {"nano": False}, gpu=True)} == {"plain", "-"}
    assert [bench.repeats(batch) for batch in (1, 16, 64, 256)] == [60, 60, 15, 10]


def test_draws_in_what_the_server_draws_in() -> None:
    """On CUDA numbers are of the server's kind, unless another is asked for."""
    server = inspect.signature(CudaFrameRenderer).parameters["dtype"].default
    assert bench.DTYPES[bench.SERVED] is server


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_takes_the_device_by_its_index(device: str, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current device is set by a number: PyTorch takes no "cuda" there."""
    taken: list[object] = []

    def enough(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(bench, "choose", enough)
    with pytest.raises(InterruptedError):
        bench.main(["--device", device])
    assert taken == [index]


@torch.inference_mode()
def test_a_wrong_graph_of_the_decoder_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a graph of the decoder makes is held against the decoder: a level or two may differ, no more."""
    sessions = bench.Sessions(bench.Ready(TINY, torch.float32, "cpu"), 2)
    row = bench.Row("tiny", 2, "decoder", "-", True)
    for more, right in ((0, True), (2, True), (3, False)):
        monkeypatch.setattr(bench, "captured", lambda call, more=more: lambda: call().clamp(max=250) + more)
        monkeypatch.setattr(bench, "eight_bit", lambda painted: painted.new_full((2, 4), 100, dtype=torch.uint8))
        found = sessions.row(row)
        assert found.error == more and found.right == right and (found.ms is not None) == right


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu"])
def test_refuses_without_a_gpu(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a GPU it says that it needs one, and what can be tried; it prints no number."""
    with pytest.raises(SystemExit) as ended:
        bench.main(["--device", device])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "needs a CUDA GPU, and there is none here" in said.err and "--device cpu --quick" in said.err
    assert not said.out


def test_a_batch_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    """A batch without sessions is refused."""
    with pytest.raises(SystemExit):
        bench.main(["--device", "cpu", "--batches", "0"])
    assert "one session at least, got 0" in capsys.readouterr().err


def test_times_nothing_under_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Triton's interpreter would run the kernels on a CPU, nothing is timed."""
    monkeypatch.setattr(bench, "choose", lambda *shape: Choice(True, "by the kernels"))
    with pytest.raises(SystemExit):
        bench.main(["--device", "cpu", "--quick"])
    assert "the interpreter's times say nothing" in capsys.readouterr().err
