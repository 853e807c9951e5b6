"""Media forced through a real coturn, with the credentials that the server hands out."""

import asyncio
import re
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from aioice.stun import TransactionFailed
from aioice.turn import create_turn_endpoint
from coturn import TURNSERVER, relay
from lipstream_client import Client
from peers import SDP, bare_peer, located, offer_of
from sites import STREAM, Site, serve, until

from streamer.server.turn import TurnConfig

SECRET = "north wind"

FORCE_RELAY = """
    const Genuine = RTCPeerConnection;
    globalThis.RTCPeerConnection = class extends Genuine {
      constructor(configuration) { super({ ...configuration, iceTransportPolicy: "relay" }); }
    };
"""
GATHER = """
    async (server) => {
      const pc = new RTCPeerConnection({ iceServers: [server] });
      const candidates = new Set(), errors = new Set();
      pc.onicecandidate = ({ candidate }) => candidate?.candidate && candidates.add(candidate.type);
      pc.onicecandidateerror = ({ errorCode }) => errors.add(errorCode);
      const over = new Promise((resolve) => (pc.onicegatheringstatechange = () =>
        pc.iceGatheringState === "complete" && resolve()));
      pc.createDataChannel("any");
      await pc.setLocalDescription();
      await over; // in 10 s at most: the browser itself sees to that
      pc.close();
      return [[...candidates], [...errors]];
    }
"""
SELECTED = f"""
    {STREAM}.getStats().then((report) => {{
      const all = [...report.values()];
      const pair = report.get(all.find(({{ type }}) => type === "transport").selectedCandidatePairId);
      const gathered = all.filter(({{ type }}) => type === "local-candidate");
      const kinds = [...new Set(gathered.map(({{ candidateType }}) => candidateType))];
      return [report.get(pair.localCandidateId), report.get(pair.remoteCandidateId), kinds];
    }})
"""


@pytest.fixture(scope="module")
def turn_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if TURNSERVER is None:
        if request.config.getoption("--require-browser"):
            pytest.fail("--require-browser was given, and there is no coturn")
        pytest.skip("no coturn on this machine (Debian: apt-get install coturn)")
    with relay(SECRET, tmp_path_factory.mktemp("coturn")) as url:
        yield url


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture(scope="module")
def relaying(server: Any, turn_url: str, site: Site) -> Iterator[Any]:
    """A server that hands out credentials for that coturn, to a site with nothing but the element, too."""
    with type(server)(turn=TurnConfig((turn_url,), SECRET, 600), allow_origins=(site.allowed,)) as running:
        site.html = f"""<!doctype html><title>Behind a firewall</title>
            <script type="module" src="{running.url}/element/lip-stream.js"></script>
            <lip-stream character="2" size="128"></lip-stream>"""
        yield running


async def allocate(url: str, username: str, credential: str) -> tuple[str, int]:
    """Has coturn make a relay, and gives it back; its address. Raises TransactionFailed where coturn refuses."""
    host, port = url.removeprefix("turn:").partition("?")[0].split(":")
    transport, _ = await create_turn_endpoint(
        asyncio.DatagramProtocol, server_addr=(host, int(port)), username=username, password=credential
    )
    address = transport.get_extra_info("sockname")
    await transport._TurnTransport__inner_protocol.delete()
    return address


async def handed_out(server: Any) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        [given] = (await http.get("/v1/config")).json()["ice_servers"]
        return given


class TestCredentials:
    async def test_coturn_takes_what_the_configuration_says(self, relaying: Any, turn_url: str) -> None:
        """Each client is told of credentials of its own, with which coturn makes a relay."""
        first, second = await handed_out(relaying), await handed_out(relaying)
        assert first["username"] != second["username"]
        for given in (first, second):
            assert given["urls"] == [turn_url]
            assert (await allocate(turn_url, given["username"], given["credential"]))[0] == "127.0.0.1"

    async def test_coturn_takes_what_a_session_is_linked_to(self, relaying: Any, turn_url: str) -> None:
        """The Link headers of a session's answer hold credentials too, which name the session."""
        peer = bare_peer()
        try:
            async with httpx.AsyncClient(base_url=relaying.url, trust_env=False) as http:
                answer = await http.post("/v1/sessions", content=await offer_of(peer), headers=SDP)
                await http.delete(located(answer))
        finally:
            await peer.close()
        found = re.fullmatch(
            r'<(turn:.+?)>; rel="ice-server"; username="(.+?)"; credential="(.+?)"; credential-type="password"',
            answer.headers["link"],
        )
        assert found, answer.headers["link"]
        assert found[1] == turn_url
        assert found[2].partition(":")[2] == located(answer).rpartition("/")[2]
        assert await allocate(turn_url, found[2], found[3])

    async def test_a_client_asks_again_in_time(self, relaying: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The Python client keeps the configuration for half of the credentials' time, and then gets new ones."""
        async with Client(relaying.url) as client:
            first = await client.config()
            assert await client.config() is first
            later = SimpleNamespace(monotonic=lambda: time.monotonic() + 300)
            monkeypatch.setattr("lipstream_client.http.time", later)
            assert (await client.config())["ice_servers"] != first["ice_servers"]

    async def test_coturn_refuses_the_rest(self, turn_url: str) -> None:
        """Credentials whose time is over, of another secret, or with another time written into them: 401."""
        turn = TurnConfig((turn_url,), SECRET, 60)
        expired = turn.credentials("ada", time.time() - 70)
        forged = TurnConfig((turn_url,), "south wind", 60).credentials("ada", time.time())
        prolonged = (turn.credentials("ada", time.time() + 1e6)[0], expired[1])
        for username, credential in (expired, forged, prolonged):
            with pytest.raises(TransactionFailed) as caught:
                await allocate(turn_url, username, credential)
            assert caught.value.response.attributes["ERROR-CODE"][0] == 401


def selected(session: Any) -> list[tuple[str, int]]:
    """Where the server sends a session's media."""
    [transport] = session.peer.connection._RTCPeerConnection__iceTransports
    return [pair.remote_addr for pair in transport._connection._nominated.values()]


@pytest.fixture
def page(browser: Any, relaying: Any, site: Site) -> Iterator[Any]:
    """The element in a browser that lets it use nothing but relays."""
    page = browser.new_page()
    page.add_init_script(FORCE_RELAY)
    page.goto(site.allowed)
    until(page, "!!customElements.get('lip-stream')")
    yield page
    page.close()


@pytest.mark.browser
class TestMedia:
    def test_a_session_through_the_relay(self, page: Any, relaying: Any) -> None:
        """Where only a relay may be used, voice and picture go through coturn: both ends say so."""
        assert page.evaluate(f"{STREAM}.start()") is True
        until(page, f"{STREAM}.stats().frames >= 5")
        local, remote, gathered = page.evaluate(SELECTED)
        assert (local["candidateType"], gathered) == ("relay", ["relay"])
        assert remote["candidateType"] in ("host", "prflx")
        [session] = relaying.state.sessions.values()
        assert selected(session) == [(local["address"], local["port"])]
        page.evaluate(f"{STREAM}.stop()")

    def test_the_element_asks_again_in_time(self, page: Any) -> None:
        """So does the web component, for whose next connection the old ones would be too old."""
        config = f"{STREAM}.config().then(({{ ice_servers }}) => ice_servers[0].username)"
        assert (first := page.evaluate(config)) == page.evaluate(config)
        page.evaluate("() => { const now = Date.now; Date.now = () => now() + 300_000; }")
        assert page.evaluate(config) != first

    def test_candidates(self, page: Any, relaying: Any, turn_url: str) -> None:
        """With the server's credentials the browser gets a relayed candidate and nothing else; with those of another
        secret, or expired ones, it gets none, and coturn's 401."""
        given = page.evaluate(f"{STREAM}.config().then(({{ ice_servers }}) => ice_servers[0])")
        assert page.evaluate(GATHER, given) == [["relay"], []]
        forged = TurnConfig((turn_url,), "south wind", 600).ice_server("ada", time.time())
        expired = TurnConfig((turn_url,), SECRET, 600).ice_server("ada", time.time() - 3600)
        for wrong in (forged, expired):
            assert page.evaluate(GATHER, wrong) == [[], [401]]
