"""Who may ask."""

import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamer.config import ServerConfig, is_loopback
from streamer.metrics import Metrics
from streamer.routes.common import problem
from streamer.signalling import Refused


class Guard:
    """Who may ask: the token in constant time, the origin of pages, and on loopback the name that was asked for."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    def check(self, request: HTTPConnection) -> None:
        if self._config.loopback and not self._config.token:
            # Without a token, a page elsewhere that resolves its own name to 127.0.0.1 must not get in.
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
            if not is_loopback(host):
                raise Refused(403, "bad_host", f"this server answers to localhost, not to {host[:80]!r}")
        origin = request.headers.get("origin")
        if origin is not None and not self.allowed(origin, request.headers.get("host", "")):
            raise Refused(403, "bad_origin", f"pages of {origin[:80]!r} may not use this server: see --allow-origin")
        if request.url.path.startswith("/v1/") and self._config.token:
            self._check_token(request)

    def allowed(self, origin: str, host: str) -> bool:
        return urlsplit(origin).netloc == host or origin in self._config.allow_origins

    def _check_token(self, request: HTTPConnection) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            # Where a browser sends no header of the page's: an <img>, a WebSocket.
            picture = request.scope.get("method") == "GET" and request.url.path.endswith("/picture")
            bare = picture or request.scope["type"] == "websocket"
            given = request.query_params.get("token", "") if bare else ""
        assert self._config.token is not None
        if not hmac.compare_digest(given.strip().encode(), self._config.token.encode()):
            raise Refused(401, "unauthorized", "the token is missing or wrong: send Authorization: Bearer TOKEN")


class GuardedSockets:
    """ASGI middleware: the guard before every WebSocket. What it refuses is answered as HTTP, before the upgrade."""

    def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics) -> None:
        self._app, self._guard, self._metrics = app, guard, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            try:
                self._guard.check(HTTPConnection(scope))
            except Refused as refused:
                self._metrics.refused.labels(refused.reason).inc()
                await WebSocket(scope, receive, send).send_denial_response(problem(refused))
                return
        await self._app(scope, receive, send)
