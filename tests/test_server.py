"""The HTTP side of a running server: WHIP's rules, who may come in, how many, characters, health and metrics."""

import asyncio
import hmac
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import RunningServer
from lipstream_client import Client, RequestError
from peers import SDP, bare_peer, located, offer_of
from PIL import Image

from streamer.server.config import ServerConfig
from streamer.server.routes import guard as guard_module
from streamer.server.routes.guard import allowed
from streamer.server.turn import ice_links

FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.fixture
async def http(server: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        yield client


@asynccontextmanager
async def opened(http: httpx.AsyncClient, **query: str) -> AsyncIterator[tuple[httpx.Response, str]]:
    """A session that was answered and does not connect; deleted at the end. Gives the answer and the offer."""
    peer = bare_peer()
    location = None
    try:
        offer = await offer_of(peer)
        answer = await http.post("/v1/sessions", params=query, content=offer, headers=SDP)
        location = located(answer) if answer.status_code == 201 else None
        yield answer, offer
    finally:
        await peer.close()
        if location is not None:
            await http.delete(location)


def reason(answer: httpx.Response) -> tuple[int, str]:
    """Status and reason of a refusal, whose shape is checked too."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return answer.status_code, body["reason"]


class TestSessions:
    async def test_offer_is_answered(self, http: httpx.AsyncClient) -> None:
        """An offer gets 201, where the session lies, its tag, and an answer with candidates."""
        async with opened(http) as (answer, _):
            assert answer.status_code == 201
            assert answer.headers["content-type"].startswith("application/sdp")
            assert answer.headers["location"].startswith("sessions/")
            assert answer.headers["etag"].startswith('"')
            assert answer.text.startswith("v=0")
            assert "a=candidate:" in answer.text
            assert "127.0.0.1" in answer.text
            state = (await http.get(located(answer))).json()
            assert state["state"] == "connecting"
            assert state["id"] in (await http.get("/v1/sessions")).json()["sessions"]

    async def test_trickled_candidates(self, http: httpx.AsyncClient) -> None:
        """PATCH wants the tag (428, 412), the type (415), a fragment (400) of this offer (422); then it is 204."""
        async with opened(http) as (answer, offer):
            location, tag = located(answer), answer.headers["etag"]
            named = {
                line.partition(":")[0]: line for line in offer.splitlines() if line.startswith(("a=ice-", "a=mid"))
            }
            candidate = "a=candidate:1 1 udp 2130706431 127.0.0.1 50001 typ host"
            body = "\r\n".join(
                [named["a=ice-ufrag"], named["a=ice-pwd"], "m=audio 9 RTP/AVP 0", "a=mid:0", candidate, ""]
            )

            async def patch(content: str | bytes, **headers: str) -> httpx.Response:
                return await http.patch(location, content=content, headers={**FRAGMENT, **headers})

            assert reason(await patch(body)) == (428, "precondition_required")
            assert reason(await patch(body, **{"If-Match": '"other"'})) == (412, "precondition_failed")
            wrong = {"Content-Type": "text/plain", "If-Match": tag}
            assert reason(await patch(body, **wrong)) == (415, "unsupported_type")
            match = {"If-Match": tag}
            assert reason(await patch("nonsense", **match)) == (400, "bad_fragment")
            assert reason(await patch(b"\xff\xfe", **match)) == (400, "bad_fragment")
            assert reason(await patch("a" * 70_000, **match)) == (413, "too_large")
            restart = body.replace(named["a=ice-ufrag"], "a=ice-ufrag:other")
            assert reason(await patch(restart, **match)) == (422, "ice_restart")
            good = await patch(body, **match)
            assert (good.status_code, good.content) == (204, b"")
            assert (await patch(body + "a=end-of-candidates\r\n", **{"If-Match": "*"})).status_code == 204

    async def test_delete_twice(self, http: httpx.AsyncClient) -> None:
        """The first DELETE ends the session, the second finds nothing, like every request after it."""
        async with opened(http) as (answer, _):
            location = located(answer)
            assert (await http.delete(location)).status_code == 200
            assert reason(await http.delete(location)) == (404, "unknown_session")
            assert reason(await http.get(location)) == (404, "unknown_session")
            patched = await http.patch(location, headers={**FRAGMENT, "If-Match": "*"})
            assert reason(patched) == (404, "unknown_session")

    @pytest.mark.parametrize(
        ("query", "refusal"),
        [
            ({"size": "100"}, (422, "bad_request")),
            ({"size": "-1"}, (422, "bad_request")),
            ({"size": "٣"}, (422, "bad_request")),
            ({"background": "yes"}, (422, "bad_request")),
            ({"stamp": "2"}, (422, "bad_request")),
            ({"character": "nobody"}, (404, "unknown_character")),
            ({"character": "99999999999"}, (404, "unknown_character")),
            ({"character": "٣"}, (404, "unknown_character")),
            ({"character": ""}, (404, "unknown_character")),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    async def test_bad_parameters(
        self, http: httpx.AsyncClient, query: dict[str, str], refusal: tuple[int, str]
    ) -> None:
        """A parameter that cannot be met is refused by name, before anything is opened."""
        async with opened(http, **query) as (answer, _):
            assert reason(answer) == refusal

    async def test_ice_servers_are_linked(self) -> None:
        """ICE servers become Link headers as RFC 9725 has them."""
        turn = {"urls": ["turn:example.org"], "username": "u", "credential": "c"}
        config = ServerConfig(ice_servers=({"urls": ["stun:example.org"]}, turn))
        assert ice_links(config.ice_servers_for("ada", 0)) == (
            '<stun:example.org>; rel="ice-server", '
            '<turn:example.org>; rel="ice-server"; username="u"; credential="c"; credential-type="password"'
        )


class TestAdmission:
    @pytest.mark.usefixtures("any_load")
    async def test_full_server_refuses(self, server: Any, http: httpx.AsyncClient) -> None:
        """Over the most sessions, 503 with a reason and a time to come back; after a DELETE there is room again."""
        object.__setattr__(server.config, "max_sessions", 2)
        try:
            async with opened(http) as (first, _), opened(http) as (second, _):
                assert [first.status_code, second.status_code] == [201, 201]
                async with opened(http) as (third, _):
                    assert reason(third) == (503, "too_many_sessions")
                    assert int(third.headers["retry-after"]) > 0
                ready = await http.get("/readyz")
                assert (ready.status_code, ready.json()["ready"]) == (503, False)
                await http.delete(located(first))
                async with opened(http) as (fourth, _):
                    assert fourth.status_code == 201
        finally:
            object.__setattr__(server.config, "max_sessions", 8)

    @pytest.mark.usefixtures("any_load")
    async def test_sessions_being_opened_count(self, server: Any, http: httpx.AsyncClient) -> None:
        """Offers that come at the same moment cannot slip in together beyond the limit."""
        object.__setattr__(server.config, "max_sessions", 2)
        peers = [bare_peer() for _ in range(5)]
        try:
            offers = [await offer_of(peer) for peer in peers]
            answers = await asyncio.gather(*(http.post("/v1/sessions", content=o, headers=SDP) for o in offers))
            assert sorted(answer.status_code for answer in answers) == [201, 201, 503, 503, 503]
            for answer in answers:
                if answer.status_code == 201:
                    await http.delete(located(answer))
        finally:
            object.__setattr__(server.config, "max_sessions", 8)
            for peer in peers:
                await peer.close()

    async def test_loaded_server_refuses(
        self, server: Any, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where one more session could not keep its frame rate, it is refused; the first is always taken."""
        monkeypatch.setattr(server.state, "cost_of", dict.fromkeys(server.state.cost_of, 0.036))
        async with opened(http) as (first, _):
            assert first.status_code == 201
            async with opened(http) as (second, _):
                assert reason(second) == (503, "overloaded")
                assert int(second.headers["retry-after"]) > 0

    async def test_client_sees_the_refusal(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The Python client raises `RequestError` with status, reason and the time to wait."""
        object.__setattr__(server.config, "max_sessions", 1)
        try:
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http, opened(http):
                async with Client(server.url) as client:
                    with pytest.raises(RequestError) as caught:
                        async with client.session():
                            pass
            assert (caught.value.status, caught.value.reason) == (503, "too_many_sessions")
            assert caught.value.retry_after > 0
        finally:
            object.__setattr__(server.config, "max_sessions", 8)


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    """A server with a token that lets one other origin in."""
    with RunningServer(token="sesame", allow_origins=("https://friend.example",)) as running:
        yield running


class TestGuard:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer wrong!"},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer sesame2"},
            {"Authorization": "Basic sesame"},
            {"Authorization": b"Bearer s\xe9same"},
            {"Authorization": "sesame"},
        ],
        ids=str,
    )
    async def test_wrong_token(self, guarded: RunningServer, headers: dict[str, Any]) -> None:
        """Without the token, or with another, every /v1 request is 401; pictures take no other token either."""
        async with httpx.AsyncClient(base_url=guarded.url, trust_env=False, headers=headers) as http:
            for method, path in (
                ("GET", "/v1/config"),
                ("POST", "/v1/sessions"),
                ("DELETE", "/v1/sessions/x"),
                ("GET", "/v1/characters/1/picture?token=wrong"),
                ("GET", "/v1/config?token=sesame"),
                ("POST", "/v1/characters/preview?token=sesame"),
            ):
                assert reason(await http.request(method, path)) == (401, "unauthorized")

    async def test_right_token(self, guarded: RunningServer) -> None:
        """With the token the API answers; a picture takes it in its address, as an <img> cannot send headers."""
        async with Client(guarded.url, token="sesame") as client:
            assert (await client.config())["auth"] is True
        async with httpx.AsyncClient(base_url=guarded.url, trust_env=False) as http:
            picture = await http.get("/v1/characters/1/picture?token=sesame&size=128")
            assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/")).status_code == 200

    async def test_token_is_compared_in_constant_time(
        self, guarded: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each comparison of a token goes through hmac.compare_digest, however unlike the two are."""
        compared = []

        class Spy:
            @staticmethod
            def compare_digest(given: bytes, token: bytes) -> bool:
                compared.append((given, token))
                return hmac.compare_digest(given, token)

        monkeypatch.setattr(guard_module, "hmac", Spy)
        async with httpx.AsyncClient(base_url=guarded.url, trust_env=False) as http:
            for given in ("s", "x" * 1000, "sesame"):
                await http.get("/v1/config", headers={"Authorization": f"Bearer {given}"})
        assert compared == [(b"s", b"sesame"), (b"x" * 1000, b"sesame"), (b"sesame", b"sesame")]

    async def test_foreign_name_for_loopback(self, http: httpx.AsyncClient) -> None:
        """Without a token, a page that resolves its own name to 127.0.0.1 gets nothing (DNS rebinding)."""
        for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""):
            assert reason(await http.get("/v1/config", headers={"Host": host})) == (403, "bad_host")
        for host in ("localhost", "127.0.0.1:1", "[::1]:80"):
            assert (await http.get("/v1/config", headers={"Host": host})).status_code == 200

    async def test_foreign_origin(self, server: Any, http: httpx.AsyncClient) -> None:
        """Pages of other origins are refused, whatever they ask; the server's own are not."""
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            for path in ("/v1/config", "/metrics", "/"):
                refused = await http.get(path, headers={"Origin": origin})
                assert reason(refused) == (403, "bad_origin")
                assert "access-control-allow-origin" not in refused.headers
        assert (await http.get("/v1/config", headers={"Origin": server.url})).status_code == 200

    async def test_allowed_origin(self, guarded: RunningServer) -> None:
        """An allowed origin may ask and read, after a preflight that needs no token; another may not."""
        friend = {"Origin": "https://friend.example"}
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        async with httpx.AsyncClient(base_url=guarded.url, trust_env=False) as http:
            preflight = await http.options("/v1/sessions", headers={**friend, **ask})
            assert preflight.status_code == 204
            assert preflight.headers["access-control-allow-origin"] == friend["Origin"]
            assert "Authorization" in preflight.headers["access-control-allow-headers"]
            answer = await http.get("/v1/config", headers={**friend, "Authorization": "Bearer sesame"})
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == friend["Origin"]
            assert "Location" in answer.headers["access-control-expose-headers"]
            denied = await http.get("/v1/config", headers=friend)
            assert denied.status_code == 401
            assert denied.headers["access-control-allow-origin"] == friend["Origin"]  # so that the page can read why
            stranger = await http.options("/v1/sessions", headers={"Origin": "https://evil.example", **ask})
            assert reason(stranger) == (403, "bad_origin")

    def test_origin_is_taken_whole(self) -> None:
        """An origin is allowed by its whole address: another port or a longer name is another origin."""
        config = ServerConfig(allow_origins=("https://friend.example",))
        assert allowed(config, "https://friend.example", "127.0.0.1:8080")
        for origin in ("http://friend.example", "https://friend.example:444", "https://friend.example.evil", ""):
            assert not allowed(config, origin, "127.0.0.1:8080")


class TestCharacters:
    async def test_listed_characters(self, server: Any) -> None:
        """At least twelve are listed, each with a name, traits and a picture that is not another's."""
        async with Client(server.url) as client:
            characters = await client.characters()
            assert len({c["id"] for c in characters}) >= 12
            assert {c["kind"] for c in characters if c["seed"] is not None} == {"studio"}
            pictures = [await client.picture(c["id"], size=128) for c in characters[:3]]
            assert len(set(pictures)) == 3
            image = Image.open(io.BytesIO(pictures[0]))
            assert (image.format, image.size) == ("PNG", (128, 128))
            assert await client.character(characters[0]["id"]) == characters[0]

    async def test_transparent_picture(self, server: Any) -> None:
        """Without background the corners of a picture are clear; with it nothing is."""
        async with Client(server.url) as client:
            clear = np.asarray(Image.open(io.BytesIO(await client.picture("1", 128, background=False))))
            full = np.asarray(Image.open(io.BytesIO(await client.picture("1", 128))))
        assert clear[0, 0, 3] == 0
        assert full.shape[2] == 3 or full[..., 3].min() == 255

    async def test_built_character(self, server: Any) -> None:
        """A character can be built from a seed, and again from its traits; the same traits are the same character."""
        async with Client(server.url) as client:
            seeded = await client.build(seed=4711)
            assert (seeded["id"], seeded["seed"], seeded["kind"]) == ("4711", 4711, "studio")
            built = await client.build(seeded["traits"], name="Ada")
            assert (built["name"], built["traits"]) == ("Ada", seeded["traits"])
            assert (await client.build(seeded["traits"], name="Ada"))["id"] == built["id"]
            assert await client.character(built["id"]) == built
            assert (await client.preview(seeded["traits"], "happy", 128)).startswith(b"\x89PNG")
            assert await client.traits()

    async def test_uploaded_character(self, server: Any) -> None:
        """A picture becomes a character of its own, under the same id when it is uploaded again."""
        stream = io.BytesIO()
        image = Image.new("RGB", (200, 240), (200, 60, 20))
        image.paste((20, 60, 200), (0, 0, 200, 60))
        image.save(stream, "WEBP")
        async with Client(server.url) as client:
            uploaded = await client.upload(stream.getvalue(), name="Red")
            assert (uploaded["kind"], uploaded["name"], uploaded["traits"]) == ("picture", "Red", None)
            assert (await client.upload(stream.getvalue()))["id"] == uploaded["id"]
            shown = np.asarray(Image.open(io.BytesIO(await client.picture(uploaded["id"], 128))).convert("RGB"))
            assert np.abs(shown[64, 64].astype(int) - (200, 60, 20)).max() < 10


class TestHealth:
    async def test_health(self, http: httpx.AsyncClient) -> None:
        """/healthz and /readyz answer 200 on a server that takes sessions."""
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)

    async def test_metrics(self, http: httpx.AsyncClient) -> None:
        """/metrics counts sessions by state, and refusals and ends by reason."""

        async def metric(line: str) -> float:
            text = (await http.get("/metrics")).text
            found = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line + " ")]
            return float(found[0]) if found else 0.0

        refused, closed = (
            'lipstream_refused_total{reason="no_audio"}',
            'lipstream_sessions_closed_total{reason="deleted"}',
        )
        before = await metric(refused), await metric(closed), await metric("lipstream_sessions_opened_total")
        await http.post("/v1/sessions", content="v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", headers=SDP)
        async with opened(http):
            assert await metric('lipstream_sessions{state="connecting"}') == 1
        after = await metric(refused), await metric(closed), await metric("lipstream_sessions_opened_total")
        assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
        assert await metric('lipstream_sessions{state="connecting"}') == 0

    async def test_unknown_paths(self, http: httpx.AsyncClient) -> None:
        """What does not exist is a problem with a reason too."""
        assert reason(await http.get("/v1/nothing")) == (404, "not_found")
        assert reason(await http.put("/v1/config")) == (405, "method_not_allowed")
        assert reason(await http.get("/page/../../pyproject.toml")) == (404, "not_found")
