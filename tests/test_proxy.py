"""Behind a real reverse proxy that serves lipstream below a path: nothing that it hands out leads out of that path."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
import websockets
from conftest import RunningServer
from lipstream_client import Client
from peers import SDP, bare_peer, located, offer_of, spoken
from reverse_proxy import PATH, proxied, required
from sites import STREAM, until

from benchmarks.lib.whip_peer import Microphone, Player

FRAGMENT = "application/trickle-ice-sdpfrag"


@pytest.fixture(scope="module")
def below(server: RunningServer, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The address of the server below a path."""
    required(request.config)
    with proxied(server.url, tmp_path_factory.mktemp("nginx")) as url:
        yield url


class Addresses(HTMLParser):
    """The files that a page names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and value and not value.startswith(("#", "http", "data:")):
                self.found.append(value)


@pytest.mark.parametrize("page", ["/", "/obs", "/obs/"])
def test_pages_and_their_files(below: str, page: str) -> None:
    """Each page, and each file that it or a module of it names, comes from below the path."""
    with httpx.Client(trust_env=False, follow_redirects=True) as http:
        answer = http.get(below + page)
        assert answer.status_code == 200
        assert "text/html" in answer.headers["content-type"]
        waiting = [urljoin(str(answer.url), name) for name in Addresses(answer.text).found]
        assert any(name.endswith(".js") for name in waiting)
        seen = set()
        while waiting:
            url = waiting.pop()
            if url in seen:
                continue
            seen.add(url)
            assert f"{PATH}/" in url
            file = http.get(url)
            assert file.status_code == 200, url
            if url.endswith(".js"):
                waiting += [urljoin(url, name) for name in re.findall(r'(?:from|import) "(\.[^"]+)"', file.text)]


@pytest.mark.usefixtures("leaves_nothing", "any_load")
async def test_whip_and_whep(below: str, server: RunningServer) -> None:
    """WHIP and WHEP: what Location and Link name is below the path, and trickling and ending reach it there."""
    async with Microphone(below, spoken(1.0), size=128) as microphone, httpx.AsyncClient(trust_env=False) as http:
        assert microphone.location == f"{below}/v1/whip/{microphone.id}"
        session = server.state.sessions[microphone.id]
        async with Player(below, microphone.id) as player:
            await player.until(frames=3, seconds=0.1)
            assert player.location is not None
            assert player.location.startswith(f"{below}/v1/sessions/{microphone.id}/whep/")
            assert (await http.get(player.location)).status_code == 204
        assert session.snapshot()["viewers"] == []
    assert await server.closed(session) == "deleted"


@pytest.mark.usefixtures("leaves_nothing", "any_load")
async def test_every_address_of_an_answer(below: str, server: RunningServer) -> None:
    """PATCH and DELETE of a Location, the link to WHEP, the addresses in JSON and the speech socket all work."""
    peer = bare_peer()
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            for path in ("/v1/sessions", "/v1/whip", "/v1/whip/"):
                made = await http.post(below + path, content=await offer_of(peer), headers=SDP, follow_redirects=True)
                assert made.status_code == 201, made.text
                headers = {"Content-Type": FRAGMENT, "If-Match": made.headers["etag"]}
                credentials = re.search(r"a=ice-ufrag:.*", peer.localDescription.sdp)
                assert credentials
                patched = await http.patch(located(made), content=credentials[0], headers=headers)
                assert patched.status_code == 204, patched.text
                if "whip" in path:
                    link = re.search(r'<([^>]*)>; rel="urn:x-lipstream:whep"', made.headers["link"])
                    assert link
                    assert (await http.head(urljoin(str(made.url), link[1]))).status_code == 200
                assert (await http.delete(located(made))).status_code == 200
        finally:
            await peer.close()
        alone = await http.post(f"{below}/v1/sessions", json={"size": 128})
        told = alone.json()
        assert (await http.head(below + told["whep"])).status_code == 200
        socket = (below + told["speech"]).replace("http", "ws", 1)
        async with websockets.connect(socket, proxy=None) as bot:
            await bot.send(json.dumps({"type": "nonsense"}))
            assert json.loads(await bot.recv())["type"] in ("hello", "error", "state")
        assert (await http.delete(located(alone))).status_code == 200
        built = await http.post(f"{below}/v1/characters", json={"seed": 5})
        shown = (await http.get(located(built))).json()
        assert shown["seed"] == 5
        assert (await http.get(below + shown["picture"])).headers["content-type"] == "image/png"


async def test_openapi_names_the_path(below: str) -> None:
    """The server of the OpenAPI text is beside the text."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = await http.get(f"{below}/openapi.json")
    assert [urljoin(str(text.url), each["url"]) for each in text.json()["servers"]] == [f"{below}/"]


async def test_redirects_stay_below(below: str) -> None:
    """A slash too many leads to the route without it, with its query, and is kept a POST; elsewhere it is a 404."""
    async with httpx.AsyncClient(trust_env=False) as http:
        for path, target in (("/obs/?session=3", "/obs?session=3"), ("/v1/whip/?size=128", "/v1/whip?size=128")):
            answer = await http.get(below + path)
            assert answer.status_code == 308
            assert located(answer) == below + target
        assert (await http.get(f"{below}/v1/nothing/")).status_code == 404
        assert (await http.get(f"{below}//evil.example/")).status_code == 404


@pytest.fixture(scope="module")
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, RunningServer]]:
    """A server with a token, and its address behind nginx."""
    required(request.config)
    with RunningServer(token="sesame") as running:
        with proxied(running.url, tmp_path_factory.mktemp("nginx")) as url:
            yield url, running


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("lipstream.example", "https://lipstream.example", 200),  # the proxy ends TLS: the server sees HTTP
        ("lipstream.example", "http://lipstream.example", 200),
        ("lipstream.example:443", "https://lipstream.example", 200),
        ("lipstream.example:8443", "https://lipstream.example:8443", 200),
        ("lipstream.example", "https://evil.example", 403),
        ("lipstream.example:8443", "https://lipstream.example", 403),
    ],
)
async def test_origins_through_the_proxy(named: tuple[str, RunningServer], host: str, origin: str, status: int) -> None:
    """Pages of the name under which the proxy was asked may use the API without --allow-origin; others may not, and no
    forwarding header makes a difference."""
    headers = {"Authorization": "Bearer sesame", "Host": host, "Origin": origin}
    async with httpx.AsyncClient(trust_env=False) as http:
        for forwarded in ({}, {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}):
            answer = await http.get(f"{named[0]}/v1/config", headers={**headers, **forwarded})
            assert answer.status_code == status, answer.text


@pytest.mark.usefixtures("leaves_nothing", "any_load")
async def test_python_client(below: str) -> None:
    """The Python client, given the address below the path, sees frames and ends its session."""
    async with Client(below) as client:
        async with client.session(spoken(1.0), size=128) as session:
            async for frame in session.frames():
                if frame.pts > 0:
                    break
            assert session.id in await client.sessions()
        assert session.id not in await client.sessions()


@pytest.mark.browser
def test_page_in_a_browser(below: str, browser: Any, server: RunningServer) -> None:
    """Chromium on the page below the path: the button brings a live picture, and leaving ends the session there."""
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(f"{below}/")
        page.wait_for_selector("#start:not([disabled])")
        page.click("#start")
        until(page, f"{STREAM}.state === 'live'")
        assert server.state.sessions
        page.click("#stop")
        until(page, f"{STREAM}.state !== 'live'")
    finally:
        page.close()
    outside = [url for url in asked if url.startswith("http") and f"{PATH}/" not in url]
    assert not outside, outside
    assert [url for url in asked if "/v1/sessions" in url]
