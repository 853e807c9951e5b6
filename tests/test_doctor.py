"""`lipstream doctor`: what the machine can do, for people and for bug reports."""

import json
import os
import socket
from pathlib import Path

import pytest

from streamer.cli import doctor, main
from streamer.server.options import PREFIX


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No options, an empty cache, and no program that takes long to say its version."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("streamer.avatar.capacity.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(doctor, "_version_of", lambda path: f"browser at {path}")


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict]:
    """Findings by name, of `lipstream doctor --json`."""
    main.main(["doctor", "--json", "--port", "0", *arguments])
    printed = json.loads(capsys.readouterr().out)
    return {each["name"]: each for each in printed["findings"]}


def test_the_report_covers_the_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions, engines, milliseconds a frame, browsers, ports, addresses, cache and extras; and no secret."""
    monkeypatch.setenv("LIPSTREAM_TOKEN", "s3cret")
    monkeypatch.setenv("LIPSTREAM_MAX_SESSION", "2")
    findings = found(capsys, "--turn-url", "turn:t.example", "--turn-secret", "s3cret")
    assert findings.keys() == {
        "options", "versions", "machine", "files", "cache", "rigs", "engines", "neural generator", "browser", "ports",
        "ICE", "tools", "extras",
    }  # fmt: skip
    assert findings["versions"]["facts"]["libraries"]["aiortc"] and findings["versions"]["status"] == "ok"
    assert findings["machine"]["facts"]["cores"] >= 1
    assert set(findings["rigs"]["facts"]["ms_a_frame"]) == {"studio_rig", "picture_rig", "still"}
    assert isinstance(findings["engines"]["facts"]["cuda"], bool)
    assert findings["neural generator"]["facts"]["holds"] is None, "nothing was measured in this cache"
    assert findings["ICE"]["facts"] == {
        "addresses": findings["ICE"]["facts"]["addresses"],
        "servers": ["turn:t.example"],
    }
    assert findings["options"]["facts"] == {"unknown": ["LIPSTREAM_MAX_SESSION"]}
    assert "s3cret" not in json.dumps(findings)
    assert all(finding["status"] in ("ok", "note") for finding in findings.values()), findings


def _only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Has all other checks find nothing, at once."""
    for name in ("versions", "machine", "files", "cache", "rigs", "engines", "browser", "tools", "extras"):
        if name not in names:
            monkeypatch.setattr(doctor, f"_{name}", lambda name=name: doctor.Finding(name, "ok", "", {}))


def test_problems_are_told_and_end_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port in use and an option that is wrong, each in a line with its reason."""
    _only(monkeypatch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main.main(["doctor", "--port", str(port)]) == 1
    printed = capsys.readouterr().out
    assert f"PROBLEM  TCP 127.0.0.1:{port}: Address already in use" in printed
    assert printed.rstrip().endswith("1 problem: ports")
    assert main.main(["doctor", "--udp-ports", "9"]) == 1
    assert "--udp-ports '9' is not a range" in capsys.readouterr().out


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What a check raises is told under its name, and the others run."""
    _only(monkeypatch)
    monkeypatch.setattr(doctor, "_engines", lambda: 1 / 0)
    findings = found(capsys)
    assert findings["engines"]["status"] == "problem" and "ZeroDivisionError" in findings["engines"]["detail"]
    assert findings["extras"]["status"] == "ok"


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Missing files are a problem; a cache that cannot be written and absent browsers are notes."""
    _only(monkeypatch, "files", "cache", "browser")
    monkeypatch.setattr(doctor, "WEIGHTS", tmp_path)
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = found(capsys)
    assert findings["files"]["status"] == "problem" and "nano.safetensors" in findings["files"]["detail"]
    assert findings["cache"]["status"] == "note" and findings["cache"]["facts"]["writable"] is False
    assert findings["browser"]["status"] == "note"


def test_a_server_for_others_without_a_way_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither public address nor TURN: clients behind another NAT cannot connect, and the note says so."""
    _only(monkeypatch)
    findings = found(capsys, "--host", "0.0.0.0", "--token", "t")
    assert findings["ICE"]["status"] == "note" and "--public-ip" in findings["ICE"]["detail"]
    findings = found(capsys, "--host", "0.0.0.0", "--token", "t", "--public-ip", "203.0.113.7")
    assert findings["ICE"]["status"] == "ok" and findings["ICE"]["facts"]["addresses"] == ["203.0.113.7"]
