"""The benchmark of the CPU's engines, at the tiny preset."""

import importlib.util
from pathlib import Path

import pytest
from random_networks import random_networks

from benchmarks.latency import engines
from streamer.model.config import PRESETS
from streamer.model.runtime import openvino_cpu

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO has no package for this machine"
)


def test_engines_draw_the_same_frames_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each engine has its row, PyTorch is what the others are measured by, and all of them draw nearly the same."""
    monkeypatch.setattr(openvino_cpu, "cache_folder", lambda: tmp_path)
    rows = engines.measure(random_networks(PRESETS["tiny"]), 3, (1,))
    mine = [row for row in rows if row["engine"] == "PyTorch"]
    assert [row["dtype"] for row in mine] == list(engines.DTYPES) and len(rows) > len(mine)
    assert all(row["of_pytorch"] == {"wall": 1.0, "processor": 1.0} for row in mine)
    assert all(0 < row["wall_ms"]["least"] <= row["wall_ms"]["p50"] and row["n"] == 3 for row in rows)
    assert mine[0]["levels_from_pytorch_float32"] == 0 and max(r["levels_from_pytorch_float32"] for r in rows) < 4


def test_bad_arguments_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """No number of threads, or none that counts, ends with a reason."""
    for given in (["--threads", "two"], ["--threads", "0"], ["--frames", "1"]):
        with pytest.raises(SystemExit):
            engines.main(given)
        assert "--threads is" in capsys.readouterr().err
