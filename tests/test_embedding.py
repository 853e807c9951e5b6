"""A character on somebody else's page: tokens minted for it, and what the server tells its browser."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from peers import SDP, bare_peer, located, offer_of
from sites import STREAM, Site, eventually, serve, until
from starlette.websockets import WebSocket

from streamer.base import clock
from streamer.server.app import create_app
from streamer.server.config import ServerConfig
from streamer.server.routes import guard as guard_module
from streamer.server.tokens import Tokens
from streamer.session.messages import parse

ELEMENT = Path(__file__).parent.parent / "clients" / "element"
MAIN = {"Authorization": "Bearer correct horse"}
HOST = {"Host": "lipstream.example"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture(scope="module")
def guarded(server: Any, site: Site) -> Iterator[Any]:
    """A server with a token that pages of one other origin may use."""
    with type(server)(token="correct horse", allow_origins=(site.allowed,)) as running:
        yield running


@pytest.fixture
async def http(guarded: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=guarded.url, trust_env=False) as client:
        yield client


async def mint(http: httpx.AsyncClient, **asked: Any) -> dict[str, str]:
    """A new session token, as the header that it is sent in."""
    answer = await http.post("/v1/tokens", json=asked, headers=MAIN)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


@asynccontextmanager
async def asked(http: httpx.AsyncClient, headers: dict[str, str], **query: str) -> AsyncIterator[httpx.Response]:
    """The answer to an offer that came with a token; a session is deleted at the end."""
    peer = bare_peer()
    answer = None
    try:
        answer = await http.post("/v1/sessions", params=query, content=await offer_of(peer), headers={**SDP, **headers})
        yield answer
    finally:
        await peer.close()
        if answer is not None and answer.status_code == 201:
            await http.delete(located(answer), headers=MAIN)


def reason(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["reason"]


@pytest.mark.usefixtures("leaves_nothing")
class TestTokens:
    async def test_minting_wants_the_main_token(self, http: httpx.AsyncClient) -> None:
        """Without it, and with a session token, nothing is minted; an answer is not kept by caches."""
        assert reason(await http.post("/v1/tokens", json={})) == (401, "unauthorized")
        assert reason(await http.post("/v1/tokens", json={}, headers=await mint(http))) == (403, "token_scope")
        minted = await http.post("/v1/tokens", json={"ttl_s": 60, "sessions": 2, "character": "3"}, headers=MAIN)
        assert minted.headers["cache-control"] == "no-store"
        body = minted.json()
        assert body.pop("token").startswith("lst1.") and body.pop("id")
        assert body == {"ttl_s": 60, "sessions": 2, "character": "3", "origin": None}

    async def test_what_is_not_minted(self, http: httpx.AsyncClient) -> None:
        """A token that could never be used is refused when it is asked for."""
        for asked_for, refusal in (
            ({"ttl_s": 1e9}, (422, "bad_token_request")),
            ({"origin": "https://stranger.example"}, (422, "bad_origin")),
            ({"character": "nobody"}, (404, "unknown_character")),
            ([], (400, "bad_request")),
        ):
            assert reason(await http.post("/v1/tokens", json=asked_for, headers=MAIN)) == refusal

    async def test_one_session(self, http: httpx.AsyncClient, guarded: Any) -> None:
        """A token opens its session, uses it, and opens no other; a session says which token opened it."""
        token, other = await mint(http), await mint(http)
        async with asked(http, token) as answer:
            assert answer.status_code == 201
            location = located(answer)
            known = (await http.get(location, headers=token)).json()
            assert known["token"] == guarded.state.sessions[known["id"]].grant.id
            assert reason(await http.patch(location, content="x", headers={**token, **FRAGMENT})) == (
                400,
                "bad_fragment",
            )
            for method in ("GET", "PATCH", "DELETE"):
                assert reason(await http.request(method, location, headers=other)) == (404, "unknown_session")
            assert reason(await http.get("/v1/sessions", headers=token)) == (403, "token_scope")
            async with asked(http, token) as second:
                assert reason(second) == (403, "token_used")
            assert (await http.delete(location, headers=token)).status_code == 200
            assert reason(await http.delete(location, headers=token)) == (404, "unknown_session")

    async def test_a_refused_offer_costs_nothing(
        self, http: httpx.AsyncClient, guarded: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a bad offer, and after a full server, the token still opens its session."""
        token = await mint(http)
        assert reason(await http.post("/v1/sessions", content="nonsense", headers={**SDP, **token})) == (
            400,
            "malformed_sdp",
        )
        with monkeypatch.context() as patch:
            patch.setattr(
                "streamer.server.state.admit",
                lambda *_: SimpleNamespace(admitted=False, reason="overloaded", detail="busy", retry_after=1),
            )
            async with asked(http, token) as refused:
                assert reason(refused) == (503, "overloaded")
        async with asked(http, token) as answer:
            assert answer.status_code == 201

    async def test_one_character(self, http: httpx.AsyncClient, guarded: Any) -> None:
        """A token for a character shows that one, asked for by name or not, and no other, from the start or later."""
        token = await mint(http, character="3")
        async with asked(http, token, character="2") as refused:
            assert reason(refused) == (403, "token_character")
        async with asked(http, token) as answer:
            [session] = guarded.state.sessions.values()
            assert session.entry.id == "3"

            async def answer_to(message: dict[str, Any]) -> Any:
                outcome = asyncio.get_running_loop().create_future()
                session._commands.execute(parse(json.dumps(message)), outcome.set_result)
                return await outcome

            for message in ({"type": "character", "id": "2"}, {"type": "away", "away": True, "picture": "2"}):
                refused = guarded.call(answer_to(message))
                assert (refused.status, refused.reason) == (403, "token_character")
                assert refused.detail == "this session's token only allows '3'"
            assert session.entry.id == "3"
            assert answer.status_code == 201

    async def test_a_page_of_another_origin(self, http: httpx.AsyncClient, site: Site, guarded: Any) -> None:
        """A token that is bound to one page's origin is nothing in another's, be that the server's own."""
        token = await mint(http, origin=site.allowed)
        for origin in ({"Origin": guarded.url}, {}):
            async with asked(http, token | origin) as refused:
                assert reason(refused) == (403, "token_origin")
        async with asked(http, token | {"Origin": site.allowed}) as answer:
            assert answer.status_code == 201

    async def test_time(self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """After its time a token opens nothing, but ends the session that it opened."""
        token, unused = await mint(http, sessions=2), await mint(http)
        async with asked(http, token) as answer:
            monkeypatch.setattr(guard_module, "clock", SimpleNamespace(now=lambda: clock.now() + 301))
            for late in (token, unused):
                async with asked(http, late) as refused:
                    assert reason(refused) == (401, "token_expired")
                    assert refused.headers["www-authenticate"] == "Bearer"
            assert reason(await http.get("/v1/config", headers=unused)) == (401, "token_expired")
            assert (await http.delete(located(answer), headers=token)).status_code == 200

    async def test_a_picture_takes_it_in_its_address(self, http: httpx.AsyncClient) -> None:
        """As an <img> cannot send headers; nothing else does."""
        text = (await mint(http))["Authorization"].partition(" ")[2]
        picture = await http.get("/v1/characters/1/picture", params={"token": text, "size": 128})
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
        assert reason(await http.get("/v1/config", params={"token": text})) == (401, "unauthorized")

    async def test_a_server_without_a_token(self, server: Any) -> None:
        """It mints for anybody, as it serves anybody; and what it minted holds only for what it says."""
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as open_http:
            token = await mint(open_http)
            assert (await open_http.get("/v1/config", headers=token)).status_code == 200
            assert reason(await open_http.get("/v1/sessions", headers=token)) == (403, "token_scope")
            forged = {"Authorization": token["Authorization"] + "0"}
            assert reason(await open_http.get("/v1/config", headers=forged)) == (401, "bad_token")


@pytest.mark.usefixtures("leaves_nothing")
class TestCors:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/sessions"),
            ("PATCH", "/v1/sessions/x"),
            ("DELETE", "/v1/sessions/x"),
            ("GET", "/v1/config"),
            ("POST", "/v1/sessions/x/whep"),
        ],
    )
    async def test_preflight(self, http: httpx.AsyncClient, site: Site, method: str, path: str) -> None:
        """Whatever a page needs, its browser is told beforehand that it may, with the token, and for how long."""
        names = "authorization,content-type,if-match"
        ask = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": names}
        answer = await http.options(path, headers={"Origin": site.allowed, **ask})
        assert answer.status_code == 204
        allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
        assert set(names.split(",")) <= set(allowed)
        assert method in answer.headers["access-control-allow-methods"].split(", ")
        assert int(answer.headers["access-control-max-age"]) > 0
        assert reason(await http.options(path, headers={"Origin": site.unknown, **ask})) == (403, "bad_origin")

    async def test_every_answer_can_be_read(
        self, http: httpx.AsyncClient, site: Site, guarded: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Refusals of the guard, of a route, of the router and a failure of the server's own carry CORS headers."""

        def fails() -> None:
            raise RuntimeError("on purpose")

        monkeypatch.setattr(guarded.state.characters, "all", fails)
        monkeypatch.setattr("streamer.server.app.log.exception", lambda *_: None)
        page = {"Origin": site.allowed}
        answers = [
            await http.get("/v1/config", headers=page),
            await http.get("/v1/sessions/x", headers=page | MAIN),
            await http.get("/v1/nothing", headers=page | MAIN),
            await http.get("/v1/characters", headers=page | MAIN),
            await http.get("/element/lip-stream.js", headers=page),
        ]
        assert [answer.status_code for answer in answers] == [401, 404, 404, 500, 200]
        assert reason(answers[3]) == (500, "internal_error")
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == site.allowed
            assert "Origin" in answer.headers["vary"]
            exposed = answer.headers["access-control-expose-headers"].split(", ")
            assert {"Location", "ETag", "Link", "Retry-After"} <= set(exposed)

    async def test_caches_keep_origins_apart(self, http: httpx.AsyncClient) -> None:
        """What is asked for without an origin is not given, out of a cache, to a page that needs the headers."""
        answer = await http.get("/element/lip-stream.js")
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-origin" not in answer.headers


class Door:
    """An application with a WebSocket of its own, asked for it as ASGI servers do."""

    def __init__(self) -> None:
        self.app = create_app(ServerConfig(token="correct horse", allow_origins=("https://friend.example",)))
        self.state = self.app.state.lipstream = SimpleNamespace(tokens=Tokens(), sessions={})

        @self.app.websocket("/v1/sessions/{session_id}/speech")
        async def speech(socket: WebSocket, session_id: str) -> None:
            await socket.accept()
            await socket.close()

        self.app.router.routes.insert(0, self.app.router.routes.pop())  # before the server's own

    async def knock(self, session: str, headers: dict[str, str], query: str = "") -> tuple[int, str]:
        """The status and reason of the refusal; (101, "") where there is a socket."""
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "websocket",
            "path": f"/v1/sessions/{session}/speech",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in (HOST | headers).items()],
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        if sent[0]["type"] == "websocket.accept":
            return 101, ""
        assert sent[0]["type"] == "websocket.http.response.start"
        return sent[0]["status"], json.loads(sent[1]["body"])["reason"]


class TestSockets:
    """A WebSocket is judged before it is one: what is refused gets an HTTP answer, with the reason."""

    @pytest.mark.parametrize(
        ("headers", "query", "answer"),
        [
            ({}, "", (401, "unauthorized")),
            ({"Authorization": "Bearer wrong"}, "", (401, "unauthorized")),
            ({}, "token=wrong", (401, "unauthorized")),
            (MAIN | {"Origin": "https://evil.example"}, "", (403, "bad_origin")),
            ({"Origin": "https://evil.example"}, "token=correct%20horse", (403, "bad_origin")),
            (MAIN | {"Origin": "null"}, "", (403, "bad_origin")),
            ({"Authorization": "Bearer lst1.x.y"}, "", (401, "bad_token")),
            (MAIN, "", (101, "")),
            (MAIN | {"Origin": "https://friend.example"}, "", (101, "")),
            ({"Origin": "http://lipstream.example"}, "token=correct%20horse", (101, "")),
        ],
        ids=str,
    )
    async def test_token_and_origin(self, headers: dict[str, str], query: str, answer: tuple[int, str]) -> None:
        """The token comes in a header, or, where a browser sends none of the page's, in the address; origins are those
        of HTTP requests."""
        assert await Door().knock("a", headers, query) == answer

    async def test_session_token(self) -> None:
        """A session token opens the socket of its own session alone."""
        door = Door()
        text, grant = door.state.tokens.mint({}, clock.now())
        door.state.sessions["mine"] = SimpleNamespace(grant=grant)
        assert await door.knock("mine", {}, f"token={text}") == (101, "")
        assert await door.knock("other", {}, f"token={text}") == (404, "unknown_session")


def minted(server: Any, **asked: Any) -> str:
    return httpx.post(f"{server.url}/v1/tokens", json=asked, headers=MAIN, timeout=10).json()["token"]


def embed(site: Site, server: Any, token: str, script: str = "") -> None:
    """The site's page from now on: the element, of the other server, with a token that the site's backend got."""
    site.html = f"""<!doctype html><title>A bot's site</title>
        <script type="module" src="{server.url}/element/lip-stream.js"></script>
        <lip-stream token="{token}" character="2"></lip-stream>
        <script>
          globalThis.errors = [];
          {STREAM}.addEventListener("error", ({{ detail }}) => errors.push(detail));
          {script}
        </script>"""


@pytest.mark.browser
class TestInABrowser:
    @pytest.fixture
    def page(self, browser: Any) -> Iterator[Any]:
        page = browser.new_page()
        yield page
        page.close()

    def visit(self, page: Any, address: str) -> None:
        page.goto(address)
        until(page, "!!customElements.get('lip-stream')")

    def test_frames_on_a_page_of_another_origin(self, page: Any, guarded: Any, site: Site) -> None:
        """With a token for its origin the page gets frames and the character's picture, and ends what it began; with
        the same token it gets no second session, and is told why."""
        embed(site, guarded, minted(guarded, origin=site.allowed, character="2"))
        self.visit(page, site.allowed)
        until(page, f"{STREAM}.shadowRoot.querySelector('img').naturalWidth > 0")
        assert page.evaluate(f"{STREAM}.start()") is True
        until(page, f"{STREAM}.stats().frames > 5")
        page.evaluate(f"{STREAM}.stop()")
        assert eventually(page, lambda: not guarded.state.sessions)
        assert page.evaluate(f"{STREAM}.start()") is False
        [error] = page.evaluate("errors.map(({ reason, message, fatal }) => ({ reason, message, fatal }))")
        assert (error["reason"], error["fatal"]) == ("token_used", True)
        assert "1 of 1" in error["message"]

    def test_a_token_is_renewed(self, page: Any, guarded: Any, site: Site) -> None:
        """Where the page can get another token, a used one is no end: the element asks for it, and goes on."""
        first, second = (minted(guarded, origin=site.allowed) for _ in range(2))
        embed(site, guarded, first, f"{STREAM}.renewToken = async () => {json.dumps(second)};")
        self.visit(page, site.allowed)
        for token in (first, second):
            assert page.evaluate(f"{STREAM}.start()") is True
            assert page.evaluate(f"{STREAM}.token") == token
            page.evaluate(f"{STREAM}.stop()")
            assert eventually(page, lambda: not guarded.state.sessions)
        assert page.evaluate("errors") == []

    def test_a_token_of_another_page(self, page: Any, guarded: Any, site: Site) -> None:
        """A token that was taken from its page opens nothing elsewhere, though the server allows that origin too."""
        embed(site, guarded, minted(guarded, origin=guarded.url))
        self.visit(page, site.allowed)
        assert page.evaluate(f"{STREAM}.start()") is False
        assert page.evaluate("errors.map(({ reason }) => reason)") == ["token_origin"]

    def test_an_origin_that_is_not_listed(
        self, page: Any, guarded: Any, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page with its own copy of the element, of an origin that the server was not told of, gets nothing with a
        good token, and the user is told whose fault that is."""
        monkeypatch.setattr(site, "scripts", ELEMENT)
        site.html = f"""<!doctype html><title>Not listed</title>
            <lip-stream src="{guarded.url}" token="{minted(guarded)}"></lip-stream>
            <script>
              globalThis.errors = [];
              {STREAM}.addEventListener("error", ({{ detail }}) => errors.push(detail));
            </script>
            <script type="module" src="lip-stream.js"></script>"""
        self.visit(page, site.unknown)
        assert page.evaluate(f"{STREAM}.start()") is False
        [error] = page.evaluate("errors.map(({ reason, message }) => ({ reason, message }))")
        assert error["reason"] == "bad_origin"
        assert f"--allow-origin {site.unknown}" in error["message"]
        assert not guarded.state.sessions

    def test_no_server(self, page: Any, guarded: Any, site: Site) -> None:
        """Where nothing answers, that is the reason, and not the origin."""
        embed(site, guarded, "x", f"{STREAM}.src = 'http://127.0.0.1:9';")
        self.visit(page, site.allowed)
        assert page.evaluate(f"{STREAM}.start()") is False
        assert page.evaluate("errors.map(({ reason }) => reason)") == ["server_unreachable"]
