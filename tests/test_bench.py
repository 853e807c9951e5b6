"""`lipstream bench`, and a short run in a real browser."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.latency import mic_to_photon, soak
from benchmarks.lib.errors import NOT_MEASURED, NothingToMeasure, ServerFailed, Unmeasurable
from benchmarks.lib.server import open_server
from benchmarks.network import faulty_path
from benchmarks.report.rows import TITLES
from streamer.cli import bench


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with benchmarks that take no time: one works, one fails, one cannot measure."""
    place = tmp_path / "checkout"
    body = "import json, sys; json.dump({'arguments': sys.argv[1:]}, open(sys.argv[sys.argv.index('--out') + 1], 'w'))"
    files = {
        "latency/soak": body,
        "latency/rig_drawing": "import sys; sys.exit(not sys.argv[1].endswith('studio.json') or 4)",
        "network/faulty_path": f"{body}; sys.exit({NOT_MEASURED})",
        "report/__main__": "import sys; print('reported', *sys.argv[1:])",
    }
    for name, text in files.items():
        file = place / "benchmarks" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(bench, "CHECKOUT", place)
    return place


def test_each_benchmark_runs_and_a_failure_is_named(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """Each benchmark gets its arguments and file, wherever the command is started; one that fails spoils no other."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "studio.json").write_text("{}")
    assert bench.main(["--quick", "--out", "out", "--only", "soak,studio"]) == 1
    assert json.loads((out / "soak.json").read_text())["arguments"] == ["--quick", "--out", str(out / "soak.json")]
    assert not (out / "studio.json").exists()  # an old result does not pass for a new one
    said = capfd.readouterr()
    assert f"reported {out}" in said.out and "studio failed" in said.err
    assert bench.main(["--out", str(out), "--only", "soak"]) == 0


def test_what_cannot_be_measured_is_no_failure(checkout: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """A benchmark without a result is named and the rest counts; where nothing was measured the status says so."""
    assert bench.main(["--out", str(tmp_path), "--only", "soak,faulty_path"]) == 0
    assert "faulty_path could not be measured here" in capfd.readouterr().err
    assert bench.main(["--out", str(tmp_path), "--only", "faulty_path"]) == 1


def test_wrong_requests_are_refused(checkout: Path, tmp_path: Path) -> None:
    """An unknown name, a missing file, missing data and a missing folder each get a reason."""
    with pytest.raises(ValueError, match="unknown benchmark nonsense"):
        bench.chosen(["nonsense"], None)
    with pytest.raises(ValueError, match="is not in"):
        bench.chosen(["network_faults"], None)
    (checkout / "benchmarks" / "quality").mkdir()
    (checkout / "benchmarks" / "quality" / "articulation.py").touch()
    with pytest.raises(ValueError, match="--data"):
        bench.chosen(["articulation"], None)
    with pytest.raises(ValueError, match="checkout"):
        bench.chosen([], None, tmp_path / "nowhere")
    assert [benchmark.name for benchmark in bench.chosen([], None)] == ["faulty_path", "soak", "studio"]
    assert bench.main(["--only", "nonsense"]) == 2


def test_a_missing_module_is_one_sentence(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """After `pip install -e .` alone the command names what to install, and starts no benchmark."""
    monkeypatch.setattr(bench, "NEEDED", ("sys", "no_such_module"))
    assert bench.main(["--quick", "--out", str(tmp_path / "out")]) == 2
    said = capfd.readouterr()
    assert "lipstream bench: no_such_module missing: run pip install -e '.[test]'" in said.err
    assert not said.out and not (tmp_path / "out").exists()


def test_every_listed_benchmark_takes_its_arguments() -> None:
    """Each module exists, knows the options that the command gives it, and has a title in the report."""
    assert bench.NOT_MEASURED == NOT_MEASURED
    for benchmark in bench.ALL:
        text = benchmark.file(bench.CHECKOUT).read_text()
        for option in (*benchmark.full, *benchmark.quick, benchmark.out_option):
            assert not option.startswith("--") or f'"{option}"' in text, f"{benchmark.module} has no {option}"
        assert benchmark.name in TITLES or benchmark.name == "articulation"


@pytest.mark.parametrize("module", [mic_to_photon, soak, faulty_path])
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ServerFailed("the server ended with status 7: no port"), 1, "failed: the server ended with status 7: no port"),
        (Unmeasurable("there is no sound"), NOT_MEASURED, "was not measured: there is no sound"),
        (NothingToMeasure("there is no Chromium"), NOT_MEASURED, "was not measured: there is no Chromium"),
    ],
)
def test_a_failure_is_told_from_what_cannot_be_measured(
    module: Any,
    error: Exception,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A server that fails is a failure in one line; what this machine cannot measure leaves its reason in the JSON."""

    def raises(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(module, "open_server", raises)
    out = tmp_path / "result.json"
    assert module.main(["--quick", "--out", str(out)]) == status
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1
    assert out.exists() == (status == NOT_MEASURED)


def test_a_server_that_ends_is_named_with_its_last_words() -> None:
    """A command that fails at once gives its status and what it said."""
    command = f"{sys.executable} -c \"import sys; sys.exit('no such weights')\""
    with pytest.raises(ServerFailed, match="status 1: no such weights"), open_server(command):
        pass


@pytest.mark.browser
def test_a_session_is_measured_in_a_real_browser() -> None:
    """Five seconds on the real page: frames are joined, tied to the voice, read from pixels, and of plausible age."""
    with open_server(generator="rig") as server:
        (numbers,) = mic_to_photon.run_once(
            server, seconds=5.0, echo_cancellation=False, size=256, sessions=1, interrupts=2
        )
    assert numbers["frames"] > 50  # of 125: other work may share the machine
    assert numbers["joined_share"] > 0.9
    assert numbers["display"]["misread"] == numbers["display"]["older_in_pixels"] == 0
    assert numbers["ties"]["returned_prominence"] > 15
    assert 20 < numbers["total_ms"]["p50"] < 1000  # it cannot be less than look-ahead and a packet
    assert numbers["av_skew_ms"]["frames"] > 50
    assert numbers["interrupt_ms"]["times"] == 2
    assert numbers["first_frame_ms"] > 0
