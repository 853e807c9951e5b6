"""The command line."""

import pytest

from streamer.cli import main


def test_no_subcommand_serves() -> None:
    """Bare options are serve's options."""
    parser = main.build_parser()
    assert vars(parser.parse_args(["serve", "--port", "9"])) == vars(parser.parse_args(["serve", "--port=9"]))
    assert main.main(["--udp-ports", "9-5"]) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "token"),
        (["--port", "99999"], "99999"),
        (["--tls-cert", "missing.pem", "--tls-key", "missing.key"], "missing.pem is not a file"),
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


def test_an_unknown_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """`lipstream train` without a known recipe lists those there are."""
    assert main.main(["train", "nothing"]) == 2
    assert "articulation" in capsys.readouterr().err
