"""Options: what cannot work is refused at start, with the reason and the number; what is clear is tidied."""

import math
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.server.config import ServerConfig, is_loopback
from streamer.server.startup import check_machine, check_udp_ports
from streamer.server.turn import TurnConfig, ice_links


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70_000}, "70000"),
        ({"host": "0.0.0.0"}, "token"),
        ({"host": "::"}, "token"),
        ({"host": "lipstream.example"}, "token"),
        ({"tls_cert": Path("a.pem")}, "go together"),
        ({"udp_ports": (5000, 4000)}, "5000-4000"),
        ({"udp_ports": (80, 90)}, "80-90"),
        ({"public_ip": "here"}, "'here'"),
        ({"max_sessions": 0}, "max_sessions is 0"),
        ({"allow_origins": ("*",)}, "--allow-origin '.'"),
        ({"allow_origins": ("https://a.example", "https://a.example/page")}, "https://a.example/page"),
        ({"allow_origins": ("https://b\u00fccher.example",)}, "xn--"),
        ({"token": " \n"}, "the token is blank"),
        ({"token": "ses\u00e4me"}, "character 4 of 6 of the token"),
        ({"token": "open\nsesame"}, "character 5 of 11 of the token"),
        ({"token": "a\udce9"}, "character 2 of 2 of the token"),
        ({"host": " "}, "--host ' '"),
        ({"public_ip": "0.0.0.0"}, "not an address that a remote peer"),
        ({"public_ip": "fe80::1%eth0"}, "not an address that a remote peer"),
        ({"publish": ("rtmp://a.example/live/se cret",)}, "--publish: character 25 of 29"),
        ({"publish": ("",)}, "--publish is blank"),
        ({"ice_servers": ({"urls": "stun:"},)}, "ICE server: 'stun:' is not stun:HOST"),
        ({"ice_servers": ({"urls": ["stun:a.example:99999"]},)}, "stun:a.example:99999"),
        ({"ice_servers": ({"urls": ["turn:a.example"]},)}, "TURN needs both a user name"),
        ({"ice_servers": ({"urls": ["turn:a.example"], "username": "a"},)}, "TURN needs both"),
        ({"ice_servers": ({"urls": ["turn:a.example"], "username": "\u00e4", "credential": "b"},)}, "printable ASCII"),
        ({"ice_servers": ({"urls": ["turn:a.example"], "username": "a\nb", "credential": "b"},)}, "printable ASCII"),
        ({"ice_servers": ({"url": "stun:a.example"},)}, "'url' is not one of"),
        ({"ice_servers": ({"urls": []},)}, "'urls' is"),
        ({"device": "tpu"}, "'tpu' is not one of auto, cpu, cuda"),
        ({"connect_timeout": -1.0}, "-1"),
        ({"silence_timeout": math.nan}, "silence_timeout is nan"),
        ({"max_session_age": math.inf}, "max_session_age is inf"),
    ],
)
def test_bad_options_say_what_is_wrong(options: dict, message: str) -> None:
    """Each impossible option raises ValueError with its value."""
    with pytest.raises(ValueError, match=message):
        ServerConfig(**options)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback_is_told_from_the_rest(host: str, loopback: bool) -> None:
    """Only addresses that stay on this machine count."""
    assert is_loopback(host) is loopback


def test_a_token_opens_other_addresses() -> None:
    """With a token any address may be bound, and the URL is printable."""
    assert ServerConfig(host="0.0.0.0", token="x").url == "http://0.0.0.0:8080"
    assert ServerConfig(host="::1").url == "http://[::1]:8080"


def test_white_space_around_options_is_dropped() -> None:
    """What a file or a shell adds at the end of a secret, an address or a URL is no part of it."""
    config = ServerConfig(
        host=" 0.0.0.0 ",
        token="sesame\n",
        public_ip=" 203.0.113.7\n",
        allow_origins=("https://a.example\n", "https://A.example:443"),
        publish=(" rtmp://a.example/live/key\n",),
        ice_servers=({"urls": " stun:a.example ", "username": None},),
        turn=TurnConfig((" turn:a.example\n",), "secret\r\n", 60.0),
    )
    assert (config.host, config.token, config.public_ip) == ("0.0.0.0", "sesame", "203.0.113.7")
    assert config.allow_origins == ("https://a.example",)
    assert config.publish == ("rtmp://a.example/live/key",)
    assert config.ice_servers == ({"urls": ["stun:a.example"]},)
    assert config.turn is not None
    assert (config.turn.urls, config.turn.secret) == (("turn:a.example",), "secret")
    assert ServerConfig(host="[::1]").url == "http://[::1]:8080"


@pytest.mark.parametrize("secret", [" ", "a\x00b", "a\nb", "a\udce9"])
def test_impossible_turn_secrets(secret: str) -> None:
    """A secret that no TURN server's configuration could hold is refused, and not shown."""
    with pytest.raises(ValueError, match="--turn-secret") as caught:
        TurnConfig(("turn:a.example",), secret, 60.0)
    assert repr(secret) not in str(caught.value)


def test_credentials_are_quoted_in_links() -> None:
    """Quotes and backslashes of a user name end no quoted-string of the Link header."""
    server = {"urls": ["turn:a.example"], "username": 'a"b', "credential": "c\\d"}
    assert 'username="a\\"b"; credential="c\\\\d"' in ice_links([server])


def _record_to_a_file(folder: Path) -> dict:
    (folder / "file").touch()
    return {"record_dir": folder / "file"}


def _record_below_a_file(folder: Path) -> dict:
    (folder / "file").touch()
    return {"record_dir": folder / "file" / "folder"}


def _publish_to_a_folder(folder: Path) -> dict:
    (folder / "a.mp4").mkdir()
    return {"publish": (str(folder / "a.mp4"),)}


def _tls(cert: str, key: str) -> Callable[[Path], dict]:
    def options(folder: Path) -> dict:
        for name, text in (("cert.pem", cert), ("key.pem", key)):
            (folder / name).write_text(text)
        return {"tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}

    return options


def _tls_missing(folder: Path) -> dict:
    return {"tls_cert": folder / "none.pem", "tls_key": folder / "none.pem"}


def _tls_folder(folder: Path) -> dict:
    return {"tls_cert": folder, "tls_key": folder}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (_record_to_a_file, "--record-dir .*file: it is a file, not a folder"),
        (_record_below_a_file, "--record-dir .*: Not a directory"),
        (lambda folder: {"record_dir": Path("/proc/none")}, "--record-dir /proc/none: No such file"),
        (lambda folder: {"record_dir": Path("/proc")}, "--record-dir /proc: it cannot be written to"),
        (_publish_to_a_folder, "--publish .*a.mp4: it is a folder"),
        (lambda folder: {"publish": (str(folder / "none" / "a.mp4"),)}, "its folder does not exist"),
        (_tls_missing, "none.pem is not a file"),
        (_tls_folder, "is a folder, not a file"),
        (_tls("", ""), "cert.pem is empty: 0 bytes"),
        (_tls("words", "words"), "cert.pem holds no certificate in PEM"),
        (lambda folder: {"host": "192.0.2.1", "token": "x"}, "192.0.2.1 is not an address of this machine"),
        (lambda folder: {"host": "no-such-name.invalid", "token": "x"}, "--host no-such-name.invalid: "),
    ],
)
def test_what_this_machine_lacks_is_said_at_start(
    options: Callable[[Path], dict], message: str, tmp_path: Path
) -> None:
    """Folders, files, addresses: one sentence that names the option or the file, and the reason."""
    with pytest.raises(ValueError, match=message):
        check_machine(ServerConfig(**options(tmp_path)))


def test_ports_that_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    """A taken TCP port, or a range of UDP ports without a free one, is refused; one with too few is warned of."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 is in use"):
            check_machine(ServerConfig(port=port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--udp-ports {port}-{port}: none of the 1 ports is free"):
            check_udp_ports((port, port), ["127.0.0.1"], 8)
        check_udp_ports((port - 1, port), ["127.0.0.1"], 8)
    assert f"--udp-ports {port - 1}-{port}: 1 of 2 ports are free, too few for 8 sessions" in caplog.text
