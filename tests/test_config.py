"""Options: what cannot work is refused, with the reason and the number."""

from pathlib import Path

import pytest

from streamer.server.config import ServerConfig, is_loopback


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
        ({"allow_origins": ("https://a.example", "https://A.example")}, "https://A.example"),
        ({"device": "tpu"}, "'tpu' is not one of auto, cpu, cuda"),
        ({"connect_timeout": -1.0}, "-1"),
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
