"""The command line."""

import pytest

from streamer.cli import main


def test_no_subcommand_serves() -> None:
    """Bare options are serve's options."""
    assert main.build_parser().parse_args(["serve", "--port", "9"]).port == 9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "token"),
        (["--port", "99999"], "99999"),
        (["--tls-cert", "missing.pem", "--tls-key", "missing.key"], "missing.pem could not be read: No such file"),
        (["--tls-cert", "missing.pem"], "go together"),
        (["serve", "--udp-ports", "9-5"], "9-5"),
        (["--public-ip", "home"], "'home'"),
        (["--allow-origin", "https://page.example/"], "'https://page.example/' would match no page"),
        (["--turn-url", "turn:a.example"], "LIPSTREAM_TURN_SECRET"),
        (["--turn-url", "a.example", "--turn-secret", "x"], "'a.example' is not turn:HOST"),
        (["--turn-secret", "x"], "--turn-url"),
        (["--turn-url", "turn:a.example", "--turn-secret", "x", "--turn-ttl", "0"], "0 s"),
    ],
)
def test_what_cannot_be_served_says_why(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 2 and one line with the reason, before anything is loaded."""
    monkeypatch.delenv("LIPSTREAM_TOKEN", raising=False)
    monkeypatch.delenv("LIPSTREAM_TURN_SECRET", raising=False)
    assert main.main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", [["serve"], ["render", "speech.wav", "out.mp4"]], ids=["serve", "render"])
def test_an_unknown_device_is_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse names the devices there are."""
    with pytest.raises(SystemExit):
        main.main([*command, "--device", "tpu"])
    assert "auto" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["5000", "a-b", "5000-", "http://x"])
def test_a_bad_port_range_is_refused(text: str) -> None:
    """argparse's own error for what is no range."""
    with pytest.raises(SystemExit):
        main.main(["serve", "--udp-ports", text])


def test_ice_servers_are_parsed() -> None:
    """STUN alone, or TURN with an account, in RTCIceServer's shape."""
    options = main.build_parser().parse_args(
        ["serve", "--ice-server", "stun:a.example", "--ice-server", "turn:b.example:3478,me,secret"]
    )
    assert options.ice_server == [
        {"urls": ["stun:a.example"]},
        {"urls": ["turn:b.example:3478"], "username": "me", "credential": "secret"},
    ]
    with pytest.raises(SystemExit):
        main.main(["serve", "--ice-server", "ftp:a.example"])


def test_an_unknown_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """`lipstream train` without a known recipe lists those there are."""
    assert main.main(["train", "nothing"]) == 2
    assert "articulation" in capsys.readouterr().err
