"""Session tokens: what they allow, to whom, how often and how long. The clock is an argument."""

import hmac
import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.base.errors import RequestError
from streamer.server import tokens as tokens_module
from streamer.server.tokens import DEFAULT_TTL, MAX_SESSIONS, MAX_TTL, PREFIX, Grant, Tokens

PAGE = "https://bot.example"


def refusal(do: Any, *arguments: Any, **named: Any) -> tuple[int, str, str]:
    with pytest.raises(RequestError) as caught:
        do(*arguments, **named)
    return caught.value.status, caught.value.reason, caught.value.detail


class Desk:
    """Tokens with a clock that stands still, and the sessions that are open."""

    def __init__(self, **options: Any) -> None:
        self.tokens = Tokens(**options)
        self.now = 1000.0
        self.owners: dict[str, str] = {}

    def mint(self, **asked: Any) -> str:
        return self.tokens.mint(asked, self.now)[0]

    def ask(self, token: str, request: str, origin: str | None = None) -> Grant:
        method, path = request.split(" ", 1)
        return self.tokens.authorize(token, method, path, origin, self.owners, self.now)

    def open(self, token: str, name: str, origin: str | None = None) -> None:
        grant = self.ask(token, "POST /v1/sessions", origin)
        with self.tokens.opening(grant, self.now):
            self.owners[name] = grant.id


class TestMinting:
    def test_what_is_not_asked_for_is_little(self) -> None:
        """Of itself a token opens one session within five minutes, for a page of any origin."""
        text, grant = Tokens().mint({}, 50.0)
        assert text.startswith(PREFIX)
        assert (grant.ttl, grant.expires, grant.sessions) == (DEFAULT_TTL, 50.0 + DEFAULT_TTL, 1)
        assert (grant.origin, grant.character) == (None, None)

    def test_a_token_says_what_it_was_minted_for(self) -> None:
        """What was asked for comes back when the token is shown; no two tokens are alike."""
        desk = Desk()
        asked = {"ttl_s": 7.5, "origin": PAGE, "character": "42", "sessions": 3}
        grant = desk.ask(desk.mint(**asked), "POST /v1/sessions", PAGE)
        assert (grant.ttl, grant.expires, grant.sessions) == (7.5, 1007.5, 3)
        assert (grant.origin, grant.character) == (PAGE, "42")
        assert len({desk.mint(**asked) for _ in range(50)}) == 50

    @pytest.mark.parametrize(
        "asked",
        [
            {"ttl_s": 0},
            {"ttl_s": -1},
            {"ttl_s": MAX_TTL + 1},
            {"ttl_s": math.nan},
            {"ttl_s": math.inf},
            {"ttl_s": "300"},
            {"ttl_s": True},
            {"ttl_s": None},
            {"sessions": 0},
            {"sessions": 1.0},
            {"sessions": True},
            {"sessions": MAX_SESSIONS + 1},
            {"origin": ""},
            {"origin": "null"},
            {"origin": "*"},
            {"origin": "bot.example"},
            {"origin": "https://bot.example/"},
            {"origin": "https://bot.example\n"},
            {"origin": "https://bot.example:0"},
            {"origin": ["https://bot.example"]},
            {"character": ""},
            {"character": 7},
            {"character": "x" * 101},
            {"orgin": PAGE},
            {"token": "main"},
        ],
        ids=str,
    )
    def test_what_cannot_be_minted(self, asked: dict[str, Any]) -> None:
        """Out of bounds, of the wrong kind or unknown: 422 that names the member."""
        status, reason, detail = refusal(Tokens().mint, asked, 0.0)
        assert (status, reason) == (422, "bad_token_request")
        assert next(iter(asked)) in detail

    @pytest.mark.parametrize("origin", ["http://localhost:3000", "http://[::1]:81", "https://a-b.example"])
    def test_origins(self, origin: str) -> None:
        """Origins are taken as browsers write them."""
        assert Tokens().mint({"origin": origin}, 0.0)[1].origin == origin


class TestScope:
    @pytest.mark.parametrize(
        "request_",
        [
            "POST /v1/sessions",
            "POST /v1/whip",
            "GET /v1/config",
            "GET /v1/traits",
            "GET /v1/characters",
            "GET /v1/characters/3",
            "GET /v1/characters/3/picture",
            "GET /v1/sessions/mine",
            "PATCH /v1/sessions/mine",
            "DELETE /v1/sessions/mine",
            "POST /v1/sessions/mine/whep",
            "PATCH /v1/sessions/mine/whep/viewer",
            "DELETE /v1/sessions/mine/whep/viewer",
            "GET /v1/sessions/mine/speech",
            "OPTIONS /v1/sessions/mine/whep",
            "OPTIONS /v1/whip",
            "PATCH /v1/whip/mine",
            "POST /v1/sessions/mine/control",
            "DELETE /v1/whip/mine",
        ],
    )
    def test_allowed(self, request_: str) -> None:
        """A page may open its session, use it, and read what it shows."""
        desk = Desk()
        token = desk.mint(sessions=2)
        desk.open(token, "mine")
        assert desk.ask(token, request_).sessions == 2

    @pytest.mark.parametrize(
        "request_",
        [
            "POST /v1/tokens",
            "GET /v1/sessions",
            "DELETE /v1/sessions",
            "GET /v1/sessions/",
            "POST /v1/sessions/mine",
            "PUT /v1/sessions/mine",
            "POST /v1/sessions/mine/publish",
            "POST /v1/sessions/mine/recording",
            "POST /v1/whip/mine",
            "GET /v1/whip/mine/more",
            "GET /v1/sessions/mine/whep/viewer/more",
            "POST /v1/characters",
            "POST /v1/characters/preview",
            "DELETE /v1/characters/3",
            "POST /v1/config",
            "GET /v1/config/",
            "GET /v1/config/more",
            "GET /v1/characters/3/picture/more",
            "GET /v1/",
            "GET /v2/config",
            "GET /metrics",
        ],
    )
    def test_beyond(self, request_: str) -> None:
        """Whatever else there is, now or later, a session token does not open; the refusal says what was asked."""
        desk = Desk()
        token = desk.mint(sessions=2)
        desk.open(token, "mine")
        status, reason, detail = refusal(desk.ask, token, request_)
        assert (status, reason) == (403, "token_scope")
        assert request_ in detail

    @pytest.mark.parametrize("part", ["", "/whep", "/whep/viewer", "/speech"])
    def test_sessions_of_others(self, part: str) -> None:
        """A session that another token opened, that the main one opened, and none at all are the same: unknown."""
        desk = Desk()
        token = desk.mint()
        desk.open(token, "mine")
        desk.open(desk.mint(), "theirs")
        answers = {refusal(desk.ask, token, f"GET /v1/sessions/{name}{part}")[:2] for name in ("theirs", "bots", "x")}
        assert answers == {(404, "unknown_session")}

    def test_an_ended_session_is_unknown(self) -> None:
        """As with the main token: a second DELETE is 404."""
        desk = Desk()
        token = desk.mint()
        desk.open(token, "mine")
        del desk.owners["mine"]
        assert refusal(desk.ask, token, "DELETE /v1/sessions/mine")[:2] == (404, "unknown_session")


class TestOrigin:
    def test_bound(self) -> None:
        """A bound token serves pages of its origin alone; a browser that reads without saying its origin is let be."""
        desk = Desk()
        token = desk.mint(origin=PAGE)
        desk.open(token, "mine", PAGE)
        for request in ("GET /v1/config", "DELETE /v1/sessions/mine"):
            assert desk.ask(token, request, PAGE)
            for other in ("https://evil.example", "http://bot.example", PAGE + ":444", "null", ""):
                status, reason, detail = refusal(desk.ask, token, request, other)
                assert (status, reason) == (403, "token_origin")
                assert repr(PAGE) in detail and repr(other) in detail
        assert desk.ask(token, "GET /v1/characters/1/picture", None)  # an <img>
        assert refusal(desk.ask, token, "DELETE /v1/sessions/mine", None)[:2] == (403, "token_origin")
        assert refusal(desk.ask, desk.mint(origin=PAGE), "POST /v1/sessions", None)[:2] == (403, "token_origin")

    def test_unbound(self) -> None:
        """One that is not bound serves any page, and programs."""
        desk = Desk()
        for origin in (None, PAGE, "https://other.example"):
            assert desk.ask(desk.mint(), "POST /v1/sessions", origin)


class TestTime:
    def test_expiry(self) -> None:
        """Until its last moment it is good, then 401 with how late it came and how long it was good for."""
        desk = Desk()
        token = desk.mint(ttl_s=60)
        desk.now += 59.999
        assert desk.ask(token, "POST /v1/sessions")
        desk.now = 1060.0
        for request in ("POST /v1/sessions", "GET /v1/config", "GET /v1/sessions/any"):
            assert refusal(desk.ask, token, request)[:2] == (401, "token_expired")
        desk.now += 12
        assert refusal(desk.ask, token, "GET /v1/config")[2] == "this token expired 12 s ago; it was valid for 60 s"

    def test_a_session_outlives_its_token(self) -> None:
        """The session that a token opened, and what is read beside it, is served until it ends; nothing new opens."""
        desk = Desk()
        token = desk.mint(ttl_s=60, sessions=2)
        desk.open(token, "mine")
        desk.now += 3600
        for request in ("GET /v1/sessions/mine", "DELETE /v1/sessions/mine", "GET /v1/characters/1/picture"):
            assert desk.ask(token, request)
        assert refusal(desk.ask, token, "POST /v1/sessions")[:2] == (401, "token_expired")
        assert refusal(desk.ask, token, "GET /v1/sessions")[:2] == (403, "token_scope")
        del desk.owners["mine"]
        assert refusal(desk.ask, token, "GET /v1/characters/1/picture")[:2] == (401, "token_expired")


class TestForgery:
    @given(data=st.data())
    def test_any_change_is_seen(self, data: st.DataObject) -> None:
        """A token with any character changed, added or taken away is none."""
        desk = Desk(key=b"k")
        token = desk.mint(origin=PAGE)
        at = data.draw(st.integers(0, len(token) - 1))
        new = data.draw(st.text(st.characters(max_codepoint=300), max_size=2).filter(lambda s: s != token[at]))
        forged = token[:at] + new + token[at + 1 :]
        if forged == token:
            return
        assert refusal(desk.ask, forged, "POST /v1/sessions", PAGE)[:2] == (401, "bad_token")

    @given(st.text())
    def test_anything_else_is_refused(self, text: str) -> None:
        """No text that was not minted is taken, and none is an error of another kind."""
        assert refusal(Desk().ask, PREFIX + text, "GET /v1/config")[:2] == (401, "bad_token")
        assert refusal(Desk().ask, text, "GET /v1/config")[:2] == (401, "bad_token")

    def test_another_key(self) -> None:
        """A token of another server, or of this one before it was restarted, is refused, though it says the same."""
        body = {"id": "a", "ttl": 1e9, "expires": 1e9, "sessions": 100, "origin": None, "character": None}
        text = urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")
        for forged in (
            Tokens().mint({}, 1000.0)[0],
            f"{PREFIX}{text}.{hmac.digest(b'', text.encode(), 'sha256').hex()}",
            f"{PREFIX}{text}.",
            PREFIX + text,
        ):
            assert refusal(Desk().ask, forged, "POST /v1/sessions")[:2] == (401, "bad_token")

    def test_raised_limits(self) -> None:
        """A body that was rewritten to allow more does not fit its signature."""
        desk = Desk()
        body, mark = desk.mint().removeprefix(PREFIX).split(".")
        more = json.loads(urlsafe_b64decode(body + "==")) | {"sessions": 100}
        forged = urlsafe_b64encode(json.dumps(more).encode()).decode().rstrip("=")
        assert refusal(desk.ask, f"{PREFIX}{forged}.{mark}", "POST /v1/sessions")[:2] == (401, "bad_token")

    def test_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A signature is compared by hmac.compare_digest, whole, however unlike it is."""
        compared = []
        genuine = hmac.compare_digest
        monkeypatch.setattr(
            tokens_module.hmac, "compare_digest", lambda a, b: compared.append((len(a), b)) or genuine(a, b)
        )
        desk = Desk()
        token = desk.mint()
        head, _, mark = token.rpartition(".")
        for given_mark in ("", "0", mark):
            with pytest.raises(RequestError) if given_mark != mark else monkeypatch.context():
                desk.ask(f"{head}.{given_mark}", "GET /v1/config")
        assert compared == [(64, b""), (64, b"0"), (64, mark.encode())]


class TestReplay:
    def test_used_up(self) -> None:
        """It opens as many sessions as it says, and the next is 403 with both numbers, even where one has ended."""
        desk = Desk()
        token = desk.mint(sessions=2)
        desk.open(token, "a")
        desk.open(token, "b")
        desk.owners.clear()
        status, reason, detail = refusal(desk.open, token, "c")
        assert (status, reason) == (403, "token_used")
        assert "2 of 2" in detail
        assert desk.ask(token, "GET /v1/config")  # what it may read it may read
        desk.open(desk.mint(), "d")  # another is not concerned

    def test_a_refused_session_does_not_count(self) -> None:
        """A full server, or a bad offer, leaves the token as it was."""
        desk = Desk()
        token = desk.mint()
        for _ in range(3):
            grant = desk.ask(token, "POST /v1/sessions")
            with pytest.raises(RequestError, match="full"), desk.tokens.opening(grant, desk.now):
                raise RequestError(503, "too_many_sessions", "full")
        desk.open(token, "a")
        assert refusal(desk.open, token, "b")[:2] == (403, "token_used")

    def test_two_at_the_same_moment(self) -> None:
        """While one session is being opened, the token that opens it is used: the second gets nothing."""
        desk = Desk()
        grant = desk.ask(desk.mint(), "POST /v1/sessions")
        with desk.tokens.opening(grant, desk.now):
            assert refusal(desk.tokens.opening(grant, desk.now).__enter__)[:2] == (403, "token_used")
        assert refusal(desk.tokens.opening(grant, desk.now).__enter__)[:2] == (403, "token_used")

    def test_memory_is_bounded_and_forgets_only_the_expired(self) -> None:
        """Where no more used tokens can be remembered, opening is 503 until one expires; none opens twice meanwhile."""
        desk = Desk(most_used=3)
        tokens = [desk.mint(ttl_s=ttl) for ttl in (300, 10, 200)]
        for i, token in enumerate(tokens):
            desk.open(token, str(i))
        fourth = desk.mint()
        with pytest.raises(RequestError) as caught:
            desk.open(fourth, "3")
        assert (caught.value.status, caught.value.reason) == (503, "too_many_tokens")
        assert caught.value.retry_after == 11
        assert "3 used" in caught.value.detail
        desk.now += 10
        desk.open(fourth, "3")
        for token, reason in zip(tokens, ("token_used", "token_expired", "token_used"), strict=True):
            assert refusal(desk.open, token, "again")[1] == reason

    def test_a_token_in_memory_opens_its_further_sessions(self) -> None:
        """A full memory does not stop a token that is remembered already."""
        desk = Desk(most_used=1)
        token = desk.mint(sessions=2)
        desk.open(token, "a")
        desk.open(token, "b")

    def test_without_a_token(self) -> None:
        """With the main token nothing is counted."""
        desk = Desk(most_used=0)
        with desk.tokens.opening(None, desk.now):
            pass
