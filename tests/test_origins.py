"""Origins are compared by meaning: default ports, letter case, trailing dots and notations of IPv6 do not matter."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import websockets
from conftest import RunningServer

from streamer.server.config import ServerConfig
from streamer.server.origins import is_allowed, is_listed, parse_authority, parse_origin

SAME_HOST = [
    ("https://name.example", "name.example"),
    ("https://name.example", "name.example:443"),
    ("https://name.example:443", "name.example"),
    ("http://name.example", "name.example:80"),
    ("http://name.example:80", "name.example"),
    ("http://name.example:8080", "NAME.example:8080"),
    ("HTTPS://Name.Example", "name.example:443"),
    ("https://name.example.", "name.example"),
    ("https://name.example", "name.example.:443"),
    ("http://[::1]:8080", "[0:0:0:0:0:0:0:1]:8080"),
    ("http://[::1]", "[::1]:80"),
    ("https://[2001:DB8::1]", "[2001:db8:0::1]"),
    ("http://127.0.0.1:8080", "127.0.0.1:8080"),
]

OTHER_HOST = [
    ("https://name.example", "name.example:80"),
    ("http://name.example", "name.example:443"),
    ("https://name.example:444", "name.example"),
    ("https://name.example", "name.example:444"),
    ("https://evil.example", "name.example"),
    ("https://name.example.evil", "name.example"),
    ("https://name.example..", "name.example"),
    ("https://name.example/", "name.example"),
    ("https://user@name.example", "name.example"),
    ("https://name.example:0", "name.example:0"),
    ("https://name.example:99999", "name.example:99999"),
    ("ftp://name.example", "name.example"),
    ("name.example", "name.example"),
    ("https://", ""),
    ("null", "null"),
    ("https://[::1", "[::1"),
    ("https://[1:2]", "[1:2]"),
    ("https://name.example\n", "name.example"),
    ("https://name.example", "name.example\n"),
    ("http://n\u0430me.example", "n\u0430me.example"),
]


@pytest.mark.parametrize(("origin", "host"), SAME_HOST)
def test_same_host_is_recognized(origin: str, host: str) -> None:
    """A page of the server's own host and port may use it, however the two are written."""
    assert is_allowed(origin, host)


@pytest.mark.parametrize(("origin", "host"), OTHER_HOST)
def test_other_host_is_not(origin: str, host: str) -> None:
    """Another port, name or scheme's default is another origin, and what is no origin matches nothing."""
    assert not is_allowed(origin, host)


@pytest.mark.parametrize("written", ["https://Friend.example:443", "https://friend.example", "https://friend.example."])
def test_listed_origins_are_compared_alike(written: str) -> None:
    """--allow-origin takes every notation of an origin, stores what browsers send, and matches every notation."""
    config = ServerConfig(allow_origins=(written,))
    assert config.allow_origins == ("https://friend.example",)
    for sent in ("https://friend.example", "https://FRIEND.example:443"):
        assert is_listed(sent, config.allow_origins)
    for sent in ("http://friend.example", "https://friend.example:80", "null", ""):
        assert not is_listed(sent, config.allow_origins)


def test_origins_are_printed_as_browsers_send_them() -> None:
    """Without a default port, in lower case, IPv6 compressed and in brackets."""
    for text, printed in (
        ("HTTPS://A.Example:443", "https://a.example"),
        ("http://a.example:8080", "http://a.example:8080"),
        ("http://[0:0::1]:80", "http://[::1]"),
    ):
        assert str(parse_origin(text)) == printed
    assert parse_authority("a.example:65536") is None


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    with RunningServer(token="sesame", allow_origins=("https://Friend.example:443",)) as running:
        yield running


async def test_requests_with_default_ports(guarded: RunningServer) -> None:
    """HTTP: a Host header that spells the default port out is no other origin, and CORS answers the origin as sent."""
    async with httpx.AsyncClient(base_url=guarded.url, trust_env=False) as http:
        headers = {"Authorization": "Bearer sesame", "Host": "name.example:443", "Origin": "https://name.example"}
        assert (await http.get("/v1/config", headers=headers)).status_code == 200
        refused = await http.get("/v1/config", headers=headers | {"Origin": "https://name.example:444"})
        assert (refused.status_code, refused.json()["reason"]) == (403, "bad_origin")
        friend = await http.get("/v1/config", headers=headers | {"Origin": "https://friend.example:443"})
        assert friend.headers["access-control-allow-origin"] == "https://friend.example:443"


async def test_tokens_bound_to_an_origin(guarded: RunningServer) -> None:
    """A session token for an origin is good for that origin in every notation, and for no other."""
    async with httpx.AsyncClient(base_url=guarded.url, trust_env=False) as http:
        asked = {"origin": "https://FRIEND.example:443"}
        minted = await http.post("/v1/tokens", json=asked, headers={"Authorization": "Bearer sesame"})
        assert minted.json()["origin"] == "https://friend.example"
        token = {"Authorization": f"Bearer {minted.json()['token']}"}
        for origin, status in (("https://friend.example", 200), ("https://friend.example.:443", 200)):
            answer = await http.get("/v1/config", headers={**token, "Origin": origin})
            assert answer.status_code == status, answer.text
        other = await http.get("/v1/config", headers={**token, "Origin": "http://friend.example"})
        assert (other.status_code, other.json()["reason"]) == (403, "bad_origin")


async def test_sockets_with_default_ports(guarded: RunningServer) -> None:
    """WebSocket: the same comparison; an allowed page gets as far as the missing session, another one to a 403."""

    async def closed_with(origin: str) -> Any:
        url = f"{guarded.url.replace('http', 'ws')}/v1/sessions/none/speech?token=sesame"
        try:
            async with websockets.connect(url, origin=origin, proxy=None) as socket:  # type: ignore[arg-type]
                await socket.recv()
                await socket.wait_closed()
                return socket.close_code
        except websockets.InvalidStatus as refused:
            return refused.response.status_code

    assert await closed_with("https://friend.example:443") == 4404
    assert await closed_with("https://friend.example:444") == 403
