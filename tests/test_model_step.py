"""The benchmark of a live step: its arithmetic, what it claims and what not, and a trial without a GPU."""

import json
from dataclasses import replace
from pathlib import Path

import model_step as bench
import pytest
import torch

from streamer.model import fused
from streamer.model.attention import Choice
from streamer.model.config import PRESETS

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
    assert lacking.held is None and "out of memory" in bench.line(lacking, others)


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
    model = bench.copy.deepcopy(exact).bfloat16()
    exact = bench.copy.deepcopy(model).float()

    def forgets(model: fused.Transformer, slots: fused.Slots, count: int) -> torch.Tensor:
        slots.written.zero_()
        return fused.reference_step(model, slots, count)

    def nan(model: fused.Transformer, slots: fused.Slots, count: int) -> torch.Tensor:
        return fused.reference_step(model, slots, count) * torch.nan

    plain, forgot, none = bench.error(model, exact, [fused.reference_step, forgets, nan], "cpu", graph=False)
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
    assert result["hardware"]["cpu"] and "commit" in result["hardware"] and result["quick"]
    assert "PyTorch's operators" in result["choices"][0]
    assert bench.HEADINGS in capsys.readouterr().out


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
