"""Access control for HTTP requests and WebSockets."""

import hmac

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamer.base import clock
from streamer.base.errors import RequestError
from streamer.base.metrics import Metrics
from streamer.server.config import ServerConfig, is_loopback
from streamer.server.origins import is_allowed, parse_authority
from streamer.server.routes.common import problem
from streamer.server.tokens import PREFIX
from streamer.session.limits import Grant


def grant_of(connection: HTTPConnection) -> Grant | None:
    """Grant of the request's session token; None: the request used the main token, or no token is required."""
    return getattr(connection.state, "grant", None)


def allowed(config: ServerConfig, origin: str, host: str) -> bool:
    """Whether pages of `origin` may use this server, addressed as `host`."""
    return is_allowed(origin, host, config.allow_origins)


class Guard:
    """Checks the token (in constant time), the origin of pages, and on loopback the Host header."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    def check(self, connection: HTTPConnection) -> None:
        """Checks a request or WebSocket, and stores its token's grant in its state. Raises `RequestError`."""
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        if self._config.loopback and not self._config.token:
            # Without a token, a remote page whose name resolves to 127.0.0.1 (DNS rebinding) must not get in.
            authority = parse_authority(host)
            if authority is None or not is_loopback(authority[0]):
                raise RequestError(403, "bad_host", f"this server only accepts the host localhost, not {host[:80]!r}")
        if origin is not None and not allowed(self._config, origin, host):
            raise RequestError(
                403, "bad_origin", f"pages of {origin[:80]!r} may not use this server: see --allow-origin"
            )
        if connection.scope["path"].startswith("/v1/"):
            self._check_token(connection, origin)

    def _check_token(self, connection: HTTPConnection, origin: str | None) -> None:
        method = connection.scope.get("method", "GET")  # a WebSocket scope has no method: it begins as a GET
        path = connection.scope["path"]
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            # A page cannot set headers on an <img> or a WebSocket.
            bare = (method == "GET" and path.endswith("/picture")) or connection.scope["type"] == "websocket"
            given = connection.query_params.get("token", "") if bare else ""
        given = given.strip()
        main = self._config.token
        if main is not None and hmac.compare_digest(given.encode(), main.encode()):
            return
        if given.startswith(PREFIX):
            held = connection.app.state.lipstream
            owners = {id: session.grant.id for id, session in held.sessions.items() if session.grant is not None}
            connection.state.grant = held.tokens.authorize(given, method, path, origin, owners, clock.now())
        elif main is not None:
            raise RequestError(401, "unauthorized", "the token is missing or wrong: send Authorization: Bearer TOKEN")


class GuardedSockets:
    """ASGI middleware: guards every WebSocket, and rejects it with an HTTP response before the upgrade."""

    def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics) -> None:
        self._app, self._guard, self._metrics = app, guard, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            try:
                self._guard.check(HTTPConnection(scope))
            except RequestError as refused:
                self._metrics.refused.labels(refused.reason).inc()
                await WebSocket(scope, receive, send).send_denial_response(problem(refused))
                return
        await self._app(scope, receive, send)
