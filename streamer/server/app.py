"""The FastAPI application: start-up, shutdown, and the headers of every response. `routes/` has the endpoints."""

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from streamer import __version__
from streamer.avatar.backends import create
from streamer.avatar.capacity import COMFORTABLE, frame_costs
from streamer.avatar.characters import Characters
from streamer.avatar.engine import Engine
from streamer.avatar.renderer import RendererBackend, display_name, faster_than
from streamer.base import resources
from streamer.base.constants import DEFAULT_SIZES, FPS
from streamer.base.errors import RequestError
from streamer.base.metrics import Metrics
from streamer.motion.articulation import Articulation, ArticulationModel
from streamer.outputs.publisher import Publisher, parse_target
from streamer.provenance import content_credentials
from streamer.rtc import aiortc_internals
from streamer.server.config import ServerConfig
from streamer.server.origins import is_listed
from streamer.server.routes import characters, recording, sessions, speech, status, tokens, whep, whip
from streamer.server.routes.common import problem
from streamer.server.routes.guard import Guard, GuardedSockets, allowed
from streamer.server.routes.openapi import REFUSALS, describe
from streamer.server.startup import check_onnxruntime, check_outlets
from streamer.server.state import State

log = logging.getLogger(__name__)

_CSP = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; "
    "style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)


class RevalidatedFiles(StaticFiles):
    """
    Static files that browsers may cache but must revalidate: modules import each other, and after an upgrade a cached
    module must not be combined with new ones.
    """

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(
    config: ServerConfig,
    listener: Callable[[], ArticulationModel] = Articulation.load,
    generator: Callable[[str], RendererBackend] | None = None,
) -> FastAPI:
    """Creates the application. It loads nothing and starts no thread until its lifespan begins."""
    generator = generator or partial(create, device=config.device, sessions=config.max_sessions)
    metrics = Metrics()
    guard = Guard(config)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        check_onnxruntime()
        check_outlets(config)
        loop = asyncio.get_running_loop()
        loaded, known, drawing = await asyncio.gather(
            loop.run_in_executor(None, listener),
            loop.run_in_executor(None, Characters, config.max_characters, config.generator == "neural"),
            loop.run_in_executor(None, generator, config.generator),
        )
        engine = Engine(metrics.step.observe)
        state = app.state.lipstream = State(
            config, engine, drawing, loaded, known, metrics, ports=aiortc_internals.UdpPorts(config.udp_ports)
        )
        if config.c2pa_cert is not None and config.c2pa_key is not None:
            state.finish_recording = partial(content_credentials.sign, cert=config.c2pa_cert, key=config.c2pa_key)
        state.publishers = [Publisher(parse_target(text), metrics) for text in config.publish]
        for publisher in state.publishers:
            publisher.start()
        watches = [loop.create_task(publisher.run()) for publisher in state.publishers]
        engine.start()
        # The event loop and the generator share the GIL: a short interval keeps packets from waiting for a frame.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)
        state.cost_of = await loop.run_in_executor(state.drawing, measure_costs, state)
        # Freeze start-up objects: a full GC pass over them pauses every session for 0.2 s.
        gc.collect()
        gc.freeze()
        state.ready = True
        try:
            yield
        finally:
            state.ready = False
            await asyncio.gather(*(session.close("shutdown") for session in list(state.sessions.values())))
            await asyncio.gather(*(publisher.close() for publisher in state.publishers))
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await loop.run_in_executor(None, engine.close)
            state.drawing.shutdown()
            state.reading.shutdown()
            sys.setswitchinterval(interval)
            gc.unfreeze()

    app = FastAPI(
        title="lipstream", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )

    @app.middleware("http")
    async def guarded(request: Request, call_next: Callable) -> Response:
        origin = request.headers.get("origin")
        preflight = request.method == "OPTIONS" and "access-control-request-method" in request.headers
        try:
            if preflight and origin and allowed(config, origin, request.headers.get("host", "")):
                response = Response(status_code=204)
            else:
                guard.check(request)
                response = await call_next(request)
        except RequestError as refused:
            metrics.refused.labels(refused.reason).inc()
            response = problem(refused)
        except Exception:
            log.exception("%s %s failed", request.method, request.scope["path"])
            response = problem(RequestError(500, "internal_error", "internal error: the server log has the details"))
        if config.allow_origins:
            response.headers.add_vary_header("Origin")
        if origin is not None and is_listed(origin, config.allow_origins):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PATCH, DELETE"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match"
            response.headers["Access-Control-Expose-Headers"] = "Location, ETag, Link, Retry-After"
            if preflight:
                response.headers["Access-Control-Max-Age"] = "7200"  # the maximum that browsers honour
        response.headers.setdefault("Content-Security-Policy", _CSP)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Permissions-Policy", "microphone=(self), camera=(self)")
        return response

    app.add_middleware(GuardedSockets, guard=guard, metrics=metrics)

    @app.exception_handler(RequestError)
    async def refused_handler(request: Request, refused: RequestError) -> Response:
        metrics.refused.labels(refused.reason).inc()
        return problem(refused)

    @app.exception_handler(HTTPException)
    async def http_error_handler(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404 and (target := without_slash(request)) is not None:
            return RedirectResponse(target, 308)
        reason = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        response = problem(
            RequestError(error.status_code, reason, f"{request.method} {request.scope['path'][:80]}: {error.detail}")
        )
        response.headers.update(error.headers or {})
        if error.status_code == 405 and (methods := methods_for(request)):
            response.headers["Allow"] = ", ".join(sorted(methods))
        return response

    topics = (sessions, whip, whep, speech, recording, characters, tokens, status)
    for topic in topics:
        app.include_router(topic.router, responses=REFUSALS)

    def methods_for(request: Request) -> set[str]:
        """The methods of all routes of a path; Starlette itself lists only those of the first."""
        routes = [route for topic in topics for route in topic.router.routes if isinstance(route, Route)]
        return {m for route in routes if route.matches(request.scope)[0] is not Match.NONE for m in route.methods or ()}

    def without_slash(request: Request) -> str | None:
        """
        For a path that matches a route except for a trailing slash: that route, relative to the request. Starlette's
        own redirect is absolute, and a client behind a proxy may be unable to reach that address.
        """
        path = request.scope["path"]
        if not path.endswith("/") or path.endswith("//") or path == "/":
            return None
        root = request.scope.get("app_root_path", request.scope.get("root_path", ""))  # a mount changes the latter
        scope = {**request.scope, "path": path[:-1], "root_path": root}
        routes = [route for routed in (app, *(topic.router for topic in topics)) for route in routed.routes]
        if not any(isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE for route in routes):
            return None
        query = f"?{request.url.query}" if request.url.query else ""
        return f"../{quote(path[:-1].rpartition('/')[2])}{query}"

    describe(app)

    clients = resources.clients()

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(clients / "page" / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/obs", include_in_schema=False)
    async def obs() -> Response:
        return FileResponse(clients / "obs" / "index.html", headers={"Cache-Control": "no-cache"})

    for folder in ("element", "page", "obs"):
        app.mount(f"/{folder}", RevalidatedFiles(directory=clients / folder), name=folder)
    return app


def measure_costs(state: State) -> dict[tuple[str, int], float]:
    """Seconds per frame on this machine for each (renderer, size). Logs a warning if a renderer is too slow."""
    costs = frame_costs(state.generator, state.listener, state.characters)
    for renderer in dict.fromkeys(renderer for renderer, _ in costs):
        size = DEFAULT_SIZES[renderer]
        typical = costs[renderer, size]
        if typical > COMFORTABLE / FPS:
            log.warning(
                "the %s takes %.0f ms for a frame of %d pixels on this machine; the budget is %.0f ms at %d fps: %s%s",
                display_name(renderer),
                1000 * typical,
                size,
                1000 / FPS,
                FPS,
                "frames will be skipped" if typical > 1 / FPS else "frames may be skipped while a browser runs",
                faster_than(renderer, size),
            )
    return costs
