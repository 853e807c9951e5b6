"""The server's options: one declaration for command line, environment and file."""

import argparse
import os
from pathlib import Path

import pytest

from streamer.cli import main
from streamer.server.options import PREFIX, BadOptions, Reading, ServerOptions, add_arguments, read_options, shown


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No option in the environment, no file in the working directory."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def read(*arguments: str) -> Reading:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read_options(parser.parse_args(arguments))


def test_every_option_can_be_given_in_three_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Command line overrides environment overrides file overrides default, and each value knows its origin."""
    (tmp_path / "lipstream.toml").write_text("max-sessions = 2\nmax_viewers = 3\nport = 81\nlabel = false\n")
    monkeypatch.setenv("LIPSTREAM_MAX_SESSIONS", "4")
    monkeypatch.setenv("LIPSTREAM_PORT", "82")
    reading = read("--port", "83")
    options = reading.options
    assert (options.port, options.max_sessions, options.max_viewers, options.label) == (83, 4, 3, False)
    assert reading.origins == {
        "port": "command line",
        "max_sessions": "LIPSTREAM_MAX_SESSIONS",
        "max_viewers": "lipstream.toml",
        "label": "lipstream.toml",
    }
    assert read("--no-watermark").options.watermark is False


def test_a_file_from_a_windows_editor(tmp_path: Path) -> None:
    """A byte order mark before the first option is no part of it."""
    (tmp_path / "lipstream.toml").write_text("port = 81\n", encoding="utf-8-sig")
    assert read().options.port == 81


def test_defaults_are_the_servers() -> None:
    """Without any option the configuration is the default one."""
    config = read().options.config()
    assert config == type(config)()


def test_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Repeated on the command line, spaced in the environment, arrays in the file."""
    wanted = ("https://a.example", "https://b.example")
    assert read("--allow-origin", wanted[0], "--allow-origin", wanted[1]).options.allow_origin == wanted
    (tmp_path / "o.toml").write_text(f'allow-origin = ["{wanted[0]}", "{wanted[1]}"]')
    assert read("--config", "o.toml").options.allow_origin == wanted
    monkeypatch.setenv("LIPSTREAM_CONFIG", str(tmp_path / "o.toml"))
    assert read().options.config().allow_origins == wanted
    monkeypatch.setenv("LIPSTREAM_ALLOW_ORIGIN", " ".join(wanted[::-1]))
    assert read().options.config().allow_origins == wanted[::-1]


def test_ice_servers() -> None:
    """STUN alone, or TURN with an account, in RTCIceServer's shape."""
    config = read("--ice-server", "stun:a.example", "--ice-server", "turn:b.example:3478,me,secret").options.config()
    assert config.ice_servers == (
        {"urls": ["stun:a.example"]},
        {"urls": ["turn:b.example:3478"], "username": "me", "credential": "secret"},
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "http"], "--port 'http': input should be a valid integer"),
        (["--udp-ports", "5000"], "--udp-ports '5000' is not a range"),
        (["--udp-ports", "5000-"], "--udp-ports '5000-' is not a range"),
        (["--udp-ports", "a-b"], "--udp-ports 'a-b' is not a range"),
        (["--ice-server", "ftp:a.example"], "--ice-server 'ftp:a.example' is not stun:HOST"),
        (["--config", "missing.toml"], "missing.toml cannot be read: No such file"),
        (["--turn-ttl", "soon"], "--turn-ttl 'soon'"),
        (["--max-session-age", "-1"], "max_session_age is -1"),
    ],
)
def test_wrong_options_are_one_sentence(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, the option as it was spelled, its value and the reason."""
    assert main.main(arguments) == 2
    assert main.main(["config", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max-session = 3", "'max-session' is not a server option"),
        ("port = [1]", "--port '[1]' in lipstream.toml: input should be a valid integer"),
        ("port = ", "lipstream.toml is not valid TOML"),
        ("generator = 'fast'", "--generator 'fast' in lipstream.toml: input should be 'auto', 'neural' or 'rig'"),
    ],
)
def test_a_wrong_file_is_named(text: str, says: str, tmp_path: Path) -> None:
    """The file, the option in it and the reason."""
    (tmp_path / "lipstream.toml").write_text(text)
    with pytest.raises(BadOptions) as caught:
        read()
    assert says in str(caught.value)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name; one that is no option is told, since it is probably misspelt."""
    monkeypatch.setenv("LIPSTREAM_PORT", "many")
    with pytest.raises(BadOptions, match="LIPSTREAM_PORT 'many': input should be a valid integer"):
        read()
    monkeypatch.setenv("LIPSTREAM_PORT", "")
    monkeypatch.setenv("LIPSTREAM_MAX_SESSION", "3")
    monkeypatch.setenv("LIPSTREAM_CHROMIUM", "/usr/bin/chromium")
    reading = read()
    assert reading.unknown == ("LIPSTREAM_MAX_SESSION",) and "port" not in reading.origins


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`lipstream config` prints every option with its origin, and no secret."""
    monkeypatch.setenv("LIPSTREAM_TOKEN", "s3cret-token")
    monkeypatch.setenv("LIPSTREAM_PUBLISH", "rtmp://live.example/app/s3cret-key")
    arguments = ["--turn-url", "turn:t.example", "--turn-secret", "s3cret", "--ice-server", "turn:b.example,me,s3cret"]
    assert main.main(["config", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "s3cret" not in printed
    assert 'token = "********"  # LIPSTREAM_TOKEN' in printed
    assert 'publish = ["rtmp://live.example/app/…"]  # LIPSTREAM_PUBLISH' in printed
    assert 'ice-server = ["turn:b.example,me,********"]  # command line' in printed
    assert "max-sessions = 8  # default" in printed
    assert all(name.replace("_", "-") in printed for name in ServerOptions.model_fields)


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    """What `lipstream config` prints is a file of options with the same result."""
    reading = read(
        "--record-dir", 'a "b" \\ c', "--no-label", "--allow-origin", "https://a.example", "--turn-ttl", "60"
    )
    (tmp_path / "again.toml").write_text(shown(reading))
    assert read("--config", "again.toml").options.model_dump() == reading.options.model_dump()


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """With the spelling of earlier versions: switches that are on by default have a negation only."""
    with pytest.raises(SystemExit):
        main.main(["serve", "--help"])
    text = capsys.readouterr().out
    for flag in ("--no-label", "--no-watermark", "--record ", "--allow-origin", "--turn-secret", "--require-consent"):
        assert flag in text
    assert "--label" not in text.replace("--no-label", "") and "SUPPRESS" not in text
