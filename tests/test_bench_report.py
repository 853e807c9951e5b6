"""The report: each result judged by what drew it and what was asked for, and a page that loads nothing."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_sessions import World, soak_window, voice_like

from benchmarks.latency import mic_to_photon, soak
from benchmarks.lib import alignment, hardware, targets
from benchmarks.lib.errors import NOT_MEASURED
from benchmarks.lib.paths import RESULTS
from benchmarks.lib.results import not_measured, write_json
from benchmarks.network import faulty_path
from benchmarks.quality.rows import FORMAT
from benchmarks.report import __main__ as report
from benchmarks.report.page import as_html
from benchmarks.report.rows import Results, Row, as_text, rows_of, summary
from benchmarks.report.svg import ticks


@pytest.fixture(scope="module")
def voice() -> alignment.Voice:
    return voice_like()


def latency_report(run: dict[str, Any], renderer: str = "neural", size: int = 256) -> dict[str, Any]:
    """As `mic_to_photon` writes it, of one run."""
    settings = {"seconds": 10, "runs": 1, "size": size, "sessions": 1, "fps": 25, "generator": "default"}
    numbers = mic_to_photon.middle([run])
    made = {"renderer": renderer, "settings": settings, "hardware": hardware.describe("Chromium <1>")}
    configuration = {
        "echo_cancellation": True,
        "median": numbers,
        "targets": targets.verdicts(numbers, targets.promised(made)),
        "runs": [run],
    }
    return made | {"configurations": [configuration]}


def made_up_run(voice: alignment.Voice, **changes: Any) -> dict[str, Any]:
    return (
        World(voice).analyse()
        | {
            "first_frame_ms": 1234.0,
            "interrupt_ms": {"times": 3, "median": 40.0, "longest": 60.0, "answered_median": 2.0, "all": [40.0]},
            "cpu_percent": {"server": 10.0, "chromium": 20.0},
            "memory_mb": {"server": 100.0, "chromium": 500.0},
            "loadavg": [9.0, 8.0],
        }
        | changes
    )


def results(voice: alignment.Voice) -> Results:
    """Of a made-up session, as the benchmarks write them."""
    run = made_up_run(voice)
    described = hardware.describe("Chromium <1>")
    windows = [soak_window(i) for i in range(20)]
    cost = {"median_ms": 3.0, "p95_ms": 5.0, "frames_per_second_two_processes": 250.0}
    return {
        "mic_to_photon": latency_report(run),
        "two_sessions": {"configurations": [{"runs": [[run, {"refused": "overloaded: no"}]]}], "hardware": described},
        "soak": {
            "settings": {"minutes": 20},
            "hardware": described,
            "windows": windows,
            "summary": soak.summarize(windows),
        },
        "studio": {"characters": 321, "draw": {"256": cost}, "draw_with_truth": {"256": cost}},
        "faulty_path": {
            "settings": {"size": 512},
            "hardware": described,
            "phases": faulty_path.phases_of(np.arange(0, 90, 0.04), np.full(2250, 60.0), [10.0 * i for i in range(10)]),
            "after_stall": {"back_after_s": 0.4, "target_ms": 80.0, "lasting_ms": 0.0},
            "series": {"t": [0.0, 0.1], "total": [60.0, 61.0], "edges": [10.0 * i for i in range(10)]},
        },
    }


@pytest.mark.parametrize(
    ("renderer", "size", "met"),
    [("neural", 256, True), ("studio_rig", 256, False), ("picture_rig", 512, False), ("neural", 1024, None)],
)
def test_latency_is_judged_by_what_drew(voice: alignment.Voice, renderer: str, size: int, met: bool | None) -> None:
    """100 ms meet the neural generator's target and miss a rig's; at a size that nobody promised there is none."""
    total = {"p50": 100.0, "p95": 128.0, "p99": 160.0}
    judged = latency_report(made_up_run(voice, total_ms=total), renderer, size)
    rows = {row.what: row for row in rows_of({"mic_to_photon": judged})}
    for name in ("p50 (median)", "p95 (95th percentile)", "p99 (99th percentile)"):
        assert rows[f"mic-to-photon {name}"].met is met
    limit = targets.RENDERERS[renderer].latency_ms["p50"]
    page = as_html({"mic_to_photon": judged})
    assert (f"50 % by {limit:g}<" in page) == (met is not None)  # the marks of the plot
    assert any(name.startswith("mic-to-photon") for name in judged["configurations"][0]["targets"]) == (met is not None)


def test_published_results_are_judged_by_their_renderer() -> None:
    """The neural generator's run, whose file names no renderer, is judged by its 105 ms and not by the rig's limit."""
    published = json.loads((RESULTS / "mic_to_photon.json").read_text())
    (row,) = (row for row in rows_of({"mic_to_photon": published}) if row.what.startswith("mic-to-photon p50"))
    assert (row.value, row.target, row.met) == ("113.8 ms", "≤ 105 ms", False)
    assert targets.renderer_of(json.loads((RESULTS / "mic_to_photon_rig.json").read_text())) == "studio_rig"
    assert targets.renderer_of({"settings": {"generator": "default"}}) is None


def test_what_could_not_be_measured_is_a_row(
    voice: alignment.Voice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A benchmark without a result has its reason in the table and in the page, and no verdict is made of it."""
    reason = "the microphone began <irregularly>"
    assert not_measured(tmp_path / "faulty_path.json", "faulty_path", reason) == NOT_MEASURED
    latency = latency_report(made_up_run(voice)) | {
        "failed_runs": [{"echo_cancellation": False, "run": 2, "why": "no frame within 20 s"}],
        "pixel_check": {"not_measured": "no pixel moves"},
    }
    write_json(tmp_path / "mic_to_photon.json", latency)
    assert report.main([str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert reason in told.err
    for why in (reason, "no frame within 20 s", "no pixel moves"):
        assert f"not measured: {why}" in told.out
    assert "3 rows not measured" in told.out
    page = (tmp_path / "report.html").read_text()
    assert "the microphone began &lt;irregularly&gt;" in page
    rows = rows_of(report.read(tmp_path))
    assert {row.met for row in rows if not row.measured} == {None}


def test_every_row_has_a_verdict(voice: alignment.Voice) -> None:
    """Met, missed, without a target, or not measured; the last line counts them."""
    rows = rows_of(results(voice))
    assert {row.verdict for row in rows} == {"met", "missed", "no target"}
    lines = as_text(rows).splitlines()
    assert len([line for line in lines if line.startswith(("  met ", "  missed ", "  no target "))]) == len(rows)
    assert lines[-1] == summary(rows) + "."
    assert summary([Row("g", "a", "1", "2", True), Row("g", "b", "", measured=False)]) == (
        "1 of 1 targets met, 1 row not measured"
    )


def test_the_page_is_complete_in_itself(voice: alignment.Voice, tmp_path: Path) -> None:
    """It loads nothing from anywhere, knows light and dark, holds its own data, and escapes what it is given."""
    found = results(voice)
    for name, one in found.items():
        write_json(tmp_path / f"{name}.json", one)
    assert report.main([str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == page.count("</svg>") >= 6
    assert "Chromium &lt;1&gt;" in page
    embedded = re.search(r'<script type="application/json" id="results">(.*?)</script>', page, re.S)
    assert embedded is not None
    assert json.loads(embedded[1])["mic_to_photon"]["configurations"][0]["median"]["first_frame_ms"] == 1234.0
    assert "321" in page
    assert "machine was busy" in page


def test_the_table_says_what_was_missed(voice: alignment.Voice) -> None:
    """A target that is not met is marked, one that is met is not, and a refused second session is no failure."""
    rows = {row.what: row for row in rows_of(results(voice))}
    assert rows["first frame after the click"].met is False
    assert rows["mic-to-photon p50 (median)"].met is True
    assert rows["session 2"].met is True
    assert rows["a frame with ground truth, 256×256"].met is True
    text = as_text(list(rows.values()))
    assert "missed        first frame after the click" in text


def test_ticks_are_round_and_inside() -> None:
    """Whatever the range."""
    for low, high in ((0, 170), (-60, 61), (188.3, 212.7), (0, 0.02)):
        values = ticks(low, high)
        assert 2 <= len(values) <= 8
        assert all(low - 1e-6 <= value <= high + 1e-6 for value in values)


def test_the_machine_is_described() -> None:
    """The description is JSON and names processor, cores, memory, system, versions."""
    described = json.loads(json.dumps(hardware.describe("Chromium 1")))
    assert described["cpu"] and described["os"] and described["python"]
    assert described["cores"]["usable"] >= 1 and described["ram_gb"] > 0
    assert "numpy" in described["packages"]
    assert described["cpu"] in hardware.line(described)


def test_the_report_holds_the_generators_goals() -> None:
    """What quality.py measured stands in the report; what it did not measure is neither met nor missed."""
    made = {"engine": "torch", "precision": "fp32", "references": 1, "n": 9}
    large, small = ({**made, "size": size, "processor_ms": {"p50": 15.0}} for size in (512, 256))
    lines = rows_of({"quality": {"format": FORMAT, "speed": {"configurations": [large, small]}}})
    met = {row.what: row.met for row in lines}
    assert met["processor time of a frame of 512², 1 reference, one thread, median"] is True
    assert met["processor time of a frame of 256², 1 reference, one thread, median"] is False
    assert met["processor time of a frame of 512², 3 references, one thread, median"] is None
    assert met["autoencoder alone, whole frame, one reference"] is None
