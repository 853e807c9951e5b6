"""The benchmark of the CPU's engines, at a small preset."""

import importlib.util
import json
from pathlib import Path

import pytest
from painted_networks import exported_networks

from benchmarks.latency import engines
from streamer.model.runtime.graphs import ADVANCE, PAINT, PATCH

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO has no package for this machine"
)


def test_engines_draw_the_same_frames_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each engine and precision has its row, with each network's time, and all of them draw nearly the same."""
    monkeypatch.setattr(engines, "find", lambda preset: exported_networks()[1])
    out = tmp_path / "engines.json"
    asked = ["--frames", "3", "--threads", "1", "--size", "512", "--references", "2", "--out", str(out)]
    assert engines.main(asked) == 0
    rows = json.loads(out.read_text())["rows"]
    assert rows[0]["engine"].startswith("onnxruntime") and any(row["engine"].startswith("OpenVINO") for row in rows)
    for row in rows:
        assert row["n"] == 3 and 0 < row["wall_ms"]["least"] <= row["wall_ms"]["p50"]
        assert row["networks_ms"].keys() == {ADVANCE, PAINT[1], PATCH}
        assert sum(each["least"] for each in row["networks_ms"].values()) < row["wall_ms"]["p50"]
        assert row["levels_from_onnxruntime"] < (4 if row["precision"] == "bf16" else 0.01)


def test_bad_arguments_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """No number of threads, or none that counts, ends with a reason."""
    for given in (["--threads", "two"], ["--threads", "0"], ["--frames", "1"]):
        with pytest.raises(SystemExit):
            engines.main(given)
        assert "--threads is" in capsys.readouterr().err
