"""Session tokens: short-lived, minted for a page by a bot's backend, with no more rights than the page needs.

A token contains its own grant, signed with a random key that the server generates at start, so that the server only
stores how many sessions each token has opened. All times are seconds of one monotonic clock, so that a wall clock
adjustment neither extends nor expires a token.
"""

import base64
import contextlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from streamer.base.errors import RequestError
from streamer.server.origins import is_listed, parse_origin
from streamer.session.limits import Grant

PREFIX = "lst1."
"""Prefix of every session token."""

DEFAULT_TTL, MAX_TTL = 300.0, 3600.0
MAX_SESSIONS = 100
MAX_USED = 65_536
"""Maximum number of used tokens tracked. Overflow policy: drop expired ones; without any, opening fails (503)."""

_MAX_CHARACTER = 100
_OPENS = ("/v1/sessions", "/v1/whip")
_READS = re.compile(r"/v1/(config|traits|whip|characters|characters/[^/]+|characters/[^/]+/picture)")
_USES = re.compile(
    r"/v1/(whip/(?P<source>[^/]+)|sessions/(?P<session>[^/]+)(?P<part>/(whep|speech|control)(/[^/]+)?)?)"
)
_READING = ("GET", "HEAD", "OPTIONS")


class Tokens:
    """Mints and verifies session tokens. Raises `RequestError` for requests that they do not allow."""

    def __init__(self, key: bytes | None = None, most_used: int = MAX_USED) -> None:
        self._key = key or secrets.token_bytes(32)
        self._most_used = most_used
        self._used: dict[str, tuple[int, float]] = {}
        """Token id → (sessions opened, expiry)."""

    def mint(self, asked: Mapping[str, Any], now: float) -> tuple[str, Grant]:
        """Mints a token from the members of `POST /v1/tokens`. Rejects unknown members: otherwise a misspelled
        restriction would be ignored silently."""
        if unknown := sorted(set(asked) - {"ttl_s", "origin", "character", "sessions"}):
            raise RequestError(
                422, "bad_token_request", f"{repr(unknown[0])[:40]} is not one of ttl_s, origin, character, sessions"
            )
        ttl, sessions = asked.get("ttl_s", DEFAULT_TTL), asked.get("sessions", 1)
        origin, character = asked.get("origin"), asked.get("character")
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 1 <= ttl <= MAX_TTL:
            raise RequestError(
                422, "bad_token_request", f"ttl_s {repr(ttl)[:40]}: must be a number from 1 to {MAX_TTL:.0f}"
            )
        if isinstance(sessions, bool) or not isinstance(sessions, int) or not 1 <= sessions <= MAX_SESSIONS:
            raise RequestError(
                422,
                "bad_token_request",
                f"sessions {repr(sessions)[:40]}: must be an integer from 1 to {MAX_SESSIONS}",
            )
        if origin is not None:
            parsed = parse_origin(origin) if isinstance(origin, str) else None
            if parsed is None:
                raise RequestError(
                    422,
                    "bad_token_request",
                    f"origin {repr(origin)[:80]}: must be scheme://host[:port], as browsers send it",
                )
            origin = str(parsed)
        if character is not None and not (isinstance(character, str) and 0 < len(character) <= _MAX_CHARACTER):
            raise RequestError(422, "bad_token_request", f"character {repr(character)[:40]}: must be a character id")
        grant = Grant(secrets.token_hex(8), float(ttl), now + ttl, sessions, origin, character)
        body = base64.urlsafe_b64encode(json.dumps(asdict(grant)).encode()).decode().rstrip("=")
        return f"{PREFIX}{body}.{self._sign(body)}", grant

    def authorize(
        self, token: str, method: str, path: str, origin: str | None, owners: Mapping[str, str], now: float
    ) -> Grant:
        """Returns the grant of `token` if it allows this request.

        `owners` maps live sessions to the ids of the tokens that opened them. An expired token opens no session, but
        remains valid for the sessions that it opened, and for read-only requests, until they end. A browser omits
        `origin` only on read-only requests, whose response it then hides from pages of other origins (images can be
        shown, but their pixels not read).
        """
        grant = self._read(token)
        bound = grant.origin is not None and not is_listed(origin or "", [grant.origin])
        if bound and not (origin is None and method in _READING):
            asked_from = "without an origin" if origin is None else f"by {origin[:80]!r}"
            raise RequestError(
                403, "token_origin", f"this token is bound to pages of {grant.origin!r}, but was used {asked_from}"
            )
        opens = method == "POST" and path in _OPENS
        if now >= grant.expires and (opens or grant.id not in owners.values()):
            raise RequestError(
                401,
                "token_expired",
                f"this token expired {now - grant.expires:.0f} s ago; it was valid for {grant.ttl:.0f} s",
            )
        if opens:
            self._check_unused(grant)
        elif match := _USES.fullmatch(path):
            if match["part"] is None and method not in ("GET", "PATCH", "DELETE"):
                raise self._beyond(method, path)
            session = match["source"] or match["session"]
            if owners.get(session) != grant.id:  # the same for existing sessions, so that ids cannot be probed
                raise RequestError(404, "unknown_session", f"this token has no session {session[:40]!r}")
        elif method not in _READING or not _READS.fullmatch(path):
            raise self._beyond(method, path)
        return grant

    @contextlib.contextmanager
    def opening(self, grant: Grant | None, now: float) -> Iterator[None]:
        """Counts one session against `grant`, and undoes that if the body raises."""
        if grant is None:
            yield
            return
        self._check_unused(grant)
        if grant.id not in self._used and len(self._used) >= self._most_used:
            self._used = {id: used for id, used in self._used.items() if used[1] > now}
            if len(self._used) >= self._most_used:
                wait = min(expires for _, expires in self._used.values()) - now
                raise RequestError(
                    503,
                    "too_many_tokens",
                    f"{len(self._used)} used tokens have not expired yet: the server cannot track more",
                    retry_after=int(wait) + 1,
                )
        self._used[grant.id] = self._opened(grant) + 1, grant.expires
        try:
            yield
        except BaseException:
            if (opened := self._opened(grant) - 1) > 0:
                self._used[grant.id] = opened, grant.expires
            else:
                self._used.pop(grant.id, None)  # it may have expired and been dropped meanwhile
            raise

    def _opened(self, grant: Grant) -> int:
        return self._used.get(grant.id, (0, 0.0))[0]

    def _check_unused(self, grant: Grant) -> None:
        if self._opened(grant) >= grant.sessions:
            raise RequestError(
                403, "token_used", f"this token has opened {self._opened(grant)} of {grant.sessions} sessions already"
            )

    def _read(self, token: str) -> Grant:
        body, dot, mark = token.removeprefix(PREFIX).partition(".")
        try:
            genuine = hmac.compare_digest(self._sign(body).encode(), mark.encode())
        except UnicodeEncodeError:  # a lone surrogate
            genuine = False
        if not dot or not token.startswith(PREFIX) or not genuine:
            raise RequestError(401, "bad_token", "this server did not mint this token, or was restarted since")
        return Grant(**json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))

    def _sign(self, body: str) -> str:
        return hmac.digest(self._key, body.encode(), "sha256").hex()

    @staticmethod
    def _beyond(method: str, path: str) -> RequestError:
        return RequestError(403, "token_scope", f"a session token does not allow {method[:10]} {path[:80]}")
