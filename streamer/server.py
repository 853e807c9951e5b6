"""The HTTP side: signalling in WHIP's shape, characters, the clients' files, health and metrics."""

import asyncio
import contextlib
import hmac
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from streamer import __version__, clock, signalling, tracks
from streamer.admission import AdmissionConfig, admit
from streamer.characters import Characters, checked_traits, portrait
from streamer.config import CLIENTS, DEFAULT_SIZE, FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, SIZES, ServerConfig, is_loopback
from streamer.features import Articulation, Listener
from streamer.generator import Engine
from streamer.generators import Generator, create
from streamer.messages import Step
from streamer.metrics import Metrics
from streamer.pipeline import Avatar
from streamer.plan import RANGES
from streamer.session import Session
from streamer.signalling import MAX_SDP_BYTES, Refused
from streamer.studio.animate import Life
from streamer.studio.character import TRAITS
from streamer.studio.controls import EMOTIONS
from streamer.studio.rig import Rig
from streamer.vad import Vad

log = logging.getLogger(__name__)

_MAX_JSON_BYTES = 64 * 1024
_PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")
_CSP = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; "
    "style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)


@dataclass
class State:
    """What the server holds: one engine, one generator, one listener, the characters and the open sessions."""

    config: ServerConfig
    engine: Engine
    generator: Generator
    listener: Listener
    characters: Characters
    metrics: Metrics
    cost_of: dict[int, float] = field(default_factory=dict)
    """Seconds of the engine's thread that a frame takes, by size: measured at start, then learnt."""
    sessions: dict[str, Session] = field(default_factory=dict)
    opening: int = 0
    ports: tracks.UdpPorts = field(default_factory=tracks.UdpPorts)
    drawing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "draw"))
    ready: bool = False

    def forget(self, session: Session) -> None:
        self.sessions.pop(session.id, None)

    def cost(self, size: int) -> float:
        """Estimated share of the engine's thread that a session of `size` takes."""
        known = [session.cost for session in self.sessions.values() if session.cost and session.size == size]
        return FPS * (max(known) if known else self.cost_of.get(size, 0.0))

    def promised(self) -> float:
        """Share of the engine's thread that is taken, with an estimate for sessions that have drawn nothing yet."""
        fresh = [session.size for session in self.sessions.values() if not session.cost]
        return self.engine.load + sum(map(self.cost, fresh)) + self.opening * self.cost(DEFAULT_SIZE)


def check_onnxruntime() -> None:
    """Refuses to start where onnxruntime and onnxruntime-gpu are both installed: they overwrite one another's files."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    if len(found) > 1:
        raise RuntimeError(
            f"{' and '.join(found)} are both installed and share one module, so that neither is whole. "
            "Uninstall both, then install the one that you want."
        )


def problem(refused: Refused) -> JSONResponse:
    """RFC 9457."""
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after is not None else {}
    return JSONResponse(
        {
            "type": "about:blank",
            "title": HTTPStatus(refused.status).phrase,
            "status": refused.status,
            "detail": refused.detail,
            "reason": refused.reason,
            **refused.more,
        },
        refused.status,
        headers,
        "application/problem+json",
    )


async def read_body(request: Request, most: int) -> bytes:
    """The body, as long as it has at most `most` bytes. Raises `Refused` (413) as soon as it is longer."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise Refused(413, "too_large", f"the body has {declared} bytes: at most {most} are taken")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise Refused(413, "too_large", f"the body has more than the {most} bytes that are taken")
    return bytes(body)


async def read_json(request: Request) -> dict[str, Any]:
    body = await read_body(request, _MAX_JSON_BYTES)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "bad_request", f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(400, "bad_request", f"the body is JSON, but not an object: {repr(value)[:40]}")
    return value


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def asked_size(request: Request, default: int = DEFAULT_SIZE) -> int:
    text = request.query_params.get("size", str(default))
    if not text.isdecimal() or len(text) > 5 or int(text) not in SIZES:
        raise Refused(422, "bad_request", f"size {text[:20]!r} is not one of {', '.join(map(str, SIZES))}")
    return int(text)


def asked_flag(request: Request, name: str, default: bool) -> bool:
    text = request.query_params.get(name, "1" if default else "0")
    if text not in ("0", "1"):
        raise Refused(422, "bad_request", f"{name}={text[:20]!r}: must be 0 or 1")
    return text == "1"


def asked_marks(request: Request) -> list[float] | None:
    """`eyes=x,y,x,y&mouth=x,y` as six numbers, where the face was marked by hand."""
    parts = [request.query_params.get(name) for name in ("eyes", "mouth")]
    if parts == [None, None]:
        return None
    try:
        eyes, mouth = ([float(number) for number in (part or "").split(",")] for part in parts)
    except ValueError:
        eyes = mouth = []
    if (len(eyes), len(mouth)) != (4, 2):
        given = "&".join(f"{name}={part[:40]}" for name, part in zip(("eyes", "mouth"), parts, strict=True) if part)
        raise Refused(422, "bad_marks", f"want eyes=x,y,x,y&mouth=x,y in pixels of the picture, got {given!r}")
    return eyes + mouth


class Guard:
    """Who may ask: the token in constant time, the origin of pages, and on loopback the name that was asked for."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    def check(self, request: Request) -> None:
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

    def _check_token(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            picture = request.method == "GET" and request.url.path.endswith("/picture")
            given = request.query_params.get("token", "") if picture else ""
        assert self._config.token is not None
        if not hmac.compare_digest(given.strip().encode(), self._config.token.encode()):
            raise Refused(401, "unauthorized", "the token is missing or wrong: send Authorization: Bearer TOKEN")


def create_app(
    config: ServerConfig,
    listener: Callable[[], Listener] = Articulation.load,
    generator: Callable[[str], Generator] | None = None,
) -> FastAPI:
    """The application. Nothing is loaded and no thread started until its lifespan begins."""
    generator = generator or partial(create, device=config.device, sessions=config.max_sessions)
    metrics = Metrics()
    guard = Guard(config)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        check_onnxruntime()
        loop = asyncio.get_running_loop()
        loaded, characters, drawing = await asyncio.gather(
            loop.run_in_executor(None, listener),
            loop.run_in_executor(None, Characters, config.max_characters, config.generator == "neural"),
            loop.run_in_executor(None, generator, config.generator),
        )
        engine = Engine(metrics.step.observe)
        state = app.state.lipstream = State(
            config, engine, drawing, loaded, characters, metrics, ports=tracks.UdpPorts(config.udp_ports)
        )
        engine.start()
        # One GIL serves the event loop and the generator: a short interval keeps packets from waiting on a frame.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)
        state.cost_of = await loop.run_in_executor(state.drawing, measure_costs, state)
        state.ready = True
        try:
            yield
        finally:
            state.ready = False
            await asyncio.gather(*(session.close("shutdown") for session in list(state.sessions.values())))
            await loop.run_in_executor(None, engine.close)
            state.drawing.shutdown()
            sys.setswitchinterval(interval)

    app = FastAPI(title="lipstream", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Callable) -> Response:
        origin = request.headers.get("origin")
        preflight = request.method == "OPTIONS" and "access-control-request-method" in request.headers
        try:
            if preflight and origin and guard.allowed(origin, request.headers.get("host", "")):
                response = Response(status_code=204)
            else:
                guard.check(request)
                response = await call_next(request)
        except Refused as refused:
            metrics.refused.labels(refused.reason).inc()
            response = problem(refused)
        if origin in config.allow_origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PATCH, DELETE"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match"
            response.headers["Access-Control-Expose-Headers"] = "Location, ETag, Link, Retry-After"
            response.headers["Vary"] = "Origin"
        response.headers.setdefault("Content-Security-Policy", _CSP)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Permissions-Policy", "microphone=(self)")
        return response

    @app.exception_handler(Refused)
    async def refused_handler(request: Request, refused: Refused) -> Response:
        metrics.refused.labels(refused.reason).inc()
        return problem(refused)

    @app.exception_handler(HTTPException)
    async def http_error_handler(request: Request, error: HTTPException) -> Response:
        reason = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return problem(Refused(error.status_code, reason, f"{request.method} {request.url.path[:80]}: {error.detail}"))

    def state() -> State:
        return app.state.lipstream

    def session_of(session_id: str) -> Session:
        session = state().sessions.get(session_id)
        if session is None:
            raise Refused(404, "unknown_session", f"there is no session {session_id[:40]!r}")
        return session

    async def blocking(function: Callable, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(state().drawing, function, *arguments)

    # Sessions

    @app.post("/v1/sessions", status_code=201)
    async def open_session(request: Request) -> Response:
        held = state()
        if content_type(request) != "application/sdp":
            raise Refused(415, "unsupported_type", f"want application/sdp, got {content_type(request)[:60]!r}")
        size, background = asked_size(request), asked_flag(request, "background", True)
        stamped = asked_flag(request, "stamp", False)
        entry = held.characters.get(request.query_params.get("character", held.characters.default))
        try:
            offer = (await read_body(request, MAX_SDP_BYTES)).decode()
        except UnicodeDecodeError as error:
            raise Refused(400, "malformed_sdp", f"the offer is not UTF-8: {error.reason}") from None
        signalling.parse_offer(offer)  # before anything is reserved
        verdict = admit(
            AdmissionConfig(config.max_sessions), len(held.sessions) + held.opening, held.promised(), held.cost(size)
        )
        if not verdict.admitted:
            raise Refused(503, verdict.reason, verdict.detail, verdict.retry_after)
        held.opening += 1
        session = None
        try:
            rig = await asyncio.get_running_loop().run_in_executor(  # past thumbnails
                None, held.generator.rig, entry, size, background
            )
            session = Session(
                config=config,
                entry=entry,
                characters=held.characters,
                engine=held.engine,
                generator=held.generator,
                listener=held.listener,
                rig=rig,
                background=background,
                stamped=stamped,
                metrics=metrics,
                on_closed=held.forget,
            )
            peer = await signalling.accept(
                offer,
                on_audio=session.take_packet,
                on_keyframe=session.on_keyframe_request,
                on_bitrate=session.on_bandwidth,
                on_loss=session.on_loss,
                addresses=tracks.local_addresses(config.loopback),
                ports=held.ports,
                public_ip=config.public_ip,
            )
            session.attach(peer)
            held.sessions[session.id] = session
        except BaseException:
            if session is not None:
                await session.close("refused")
            raise
        finally:
            held.opening -= 1
        metrics.opened.inc()
        headers = {"Location": f"/v1/sessions/{session.id}", "ETag": peer.etag}
        if links := ice_links(config):
            headers["Link"] = links
        return Response(peer.answer, 201, headers, "application/sdp")

    @app.get("/v1/sessions")
    async def list_sessions() -> dict[str, Any]:
        return {"sessions": list(state().sessions)}

    @app.get("/v1/sessions/{session_id}")
    async def session_state(session_id: str) -> dict[str, Any]:
        return session_of(session_id).to_json()

    @app.patch("/v1/sessions/{session_id}", status_code=204)
    async def trickle(session_id: str, request: Request) -> Response:
        session = session_of(session_id)
        if content_type(request) != "application/trickle-ice-sdpfrag":
            raise Refused(
                415, "unsupported_type", f"want application/trickle-ice-sdpfrag, got {content_type(request)[:60]!r}"
            )
        match = request.headers.get("if-match")
        if match is None:
            raise Refused(428, "precondition_required", "send If-Match with the ETag of the session")
        if session.peer is None or (match != "*" and match != session.peer.etag):
            raise Refused(412, "precondition_failed", "If-Match is not this session's ETag")
        try:
            fragment = (await read_body(request, MAX_SDP_BYTES)).decode()
        except UnicodeDecodeError as error:
            raise Refused(400, "bad_fragment", f"the fragment is not UTF-8: {error.reason}") from None
        await signalling.trickle(session.peer, fragment)
        return Response(status_code=204)

    @app.delete("/v1/sessions/{session_id}")
    async def close_session(session_id: str) -> dict[str, Any]:
        session = session_of(session_id)
        held = state()
        held.sessions.pop(session_id, None)  # a second DELETE finds nothing
        await session.close("deleted")
        return {"id": session_id, "state": session.state.value}

    # Characters

    @app.get("/v1/characters")
    async def list_characters() -> dict[str, Any]:
        return {"characters": [entry.to_json() for entry in state().characters.all()]}

    @app.post("/v1/characters", status_code=201)
    async def add_character(request: Request) -> Response:
        held, kind = state(), content_type(request)
        if kind == "application/json":
            body = await read_json(request)
            name = body.get("name")
            if name is not None and (not isinstance(name, str) or not 0 < len(name) <= 60):
                raise Refused(422, "bad_traits", "'name' must be a text of 1 to 60 characters")
            seed, traits = body.get("seed"), body.get("traits")
            if isinstance(seed, int) and not isinstance(seed, bool) and traits is None:
                entry = held.characters.from_seed(seed)
            elif isinstance(traits, dict) and seed is None:
                entry = held.characters.from_traits(traits, name)
            else:
                raise Refused(422, "bad_traits", "give either 'seed', a whole number, or 'traits', an object")
        elif kind in _PICTURE_TYPES:
            data = await read_body(request, config.max_picture_bytes)
            name = request.query_params.get("name", "")[:60] or None
            entry = await blocking(held.characters.from_picture, data, name, asked_marks(request))
        else:
            raise Refused(
                415, "unsupported_type", f"want application/json or {', '.join(_PICTURE_TYPES)}, got {kind[:60]!r}"
            )
        return JSONResponse(entry.to_json(), 201, {"Location": f"/v1/characters/{entry.id}"})

    @app.post("/v1/characters/preview")
    async def preview(request: Request) -> Response:
        size, body = asked_size(request), await read_json(request)
        traits, emotion = body.get("traits"), body.get("emotion", "neutral")
        if not isinstance(traits, dict):
            raise Refused(422, "bad_traits", "'traits' must be an object")
        if emotion not in EMOTIONS:
            raise Refused(422, "bad_traits", f"emotion {repr(emotion)[:40]} is not one of {', '.join(EMOTIONS)}")
        character = checked_traits(traits)
        png = await blocking(lambda: portrait(Rig(character, size), emotion))
        return Response(png, media_type="image/png")

    @app.get("/v1/characters/{character_id}")
    async def character(character_id: str) -> dict[str, Any]:
        return state().characters.get(character_id).to_json()

    @app.get("/v1/characters/{character_id}/picture")
    async def picture(character_id: str, request: Request) -> Response:
        held = state()
        entry = held.characters.get(character_id)
        size, background = asked_size(request), asked_flag(request, "background", True)
        png = await blocking(held.characters.thumbnail, entry, size, background)
        return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/v1/traits")
    async def traits() -> dict[str, Any]:
        return dict(TRAITS)

    # The rest

    @app.get("/v1/config")
    async def client_config() -> dict[str, Any]:
        held = state()
        return {
            "version": __version__,
            "fps": FPS,
            "sizes": SIZES,
            "default_size": DEFAULT_SIZE,
            "default_character": held.characters.default,
            "lookahead_ms": held.listener.lookahead * 1000 / SAMPLE_RATE,
            "generator": held.generator.name,
            "ice_servers": config.ice_servers,
            "max_picture_bytes": config.max_picture_bytes,
            "emotions": EMOTIONS,
            "plan": RANGES,
            "auth": config.token is not None,
        }

    @app.get("/metrics")
    async def metrics_text() -> Response:
        held = state()
        metrics.load.set(held.engine.load)
        counts: dict[str, int] = {}
        for session in held.sessions.values():
            counts[session.state.value] = counts.get(session.state.value, 0) + 1
        metrics.sessions.clear()
        for name in ("connecting", "live", "closing"):
            metrics.sessions.labels(name).set(counts.get(name, 0))
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        held = state()
        full = len(held.sessions) + held.opening >= config.max_sessions
        body = {"ready": held.ready and not full, "sessions": len(held.sessions), "load": round(held.engine.load, 3)}
        return JSONResponse(body, 200 if body["ready"] else 503)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(CLIENTS / "page" / "index.html", headers={"Cache-Control": "no-cache"})

    for folder in ("element", "page"):
        app.mount(f"/{folder}", StaticFiles(directory=CLIENTS / folder, check_dir=False), name=folder)
    return app


def ice_links(config: ServerConfig) -> str:
    """RFC 9725 section 4.6: the ICE servers as Link headers."""
    links = []
    for server in config.ice_servers:
        urls = server["urls"] if isinstance(server["urls"], list) else [server["urls"]]
        for url in urls:
            link = f'<{url}>; rel="ice-server"'
            if "username" in server:
                link += f'; username="{server["username"]}"; credential="{server["credential"]}"'
                link += '; credential-type="password"'
            links.append(link)
    return ", ".join(links)


def measure_costs(state: State) -> dict[int, float]:
    """Runs a few steps of the default size to learn what a session costs here, in seconds a frame for each size.

    It also warms up what the first session would otherwise wait for.
    """
    rig = state.generator.rig(state.characters.get(state.characters.default), DEFAULT_SIZE, True)
    avatar = Avatar(state.listener, rig, Life(0), Vad())
    seconds = []
    for i in range(6):
        began = clock.now()
        controls, _ = avatar.hear(Step(i, 0, np.zeros(SAMPLES_PER_FRAME, np.float32)))
        avatar.draw(controls, i / FPS)
        seconds.append(clock.now() - began)
    avatar.close()
    typical = sorted(seconds)[len(seconds) // 2]
    if typical > 1 / FPS:
        log.warning(
            "the %s generator takes %.0f ms a frame here, and 25 frames a second leave 40: frames will be dropped. "
            "`lipstream --generator rig` draws sooner",
            state.generator.name,
            1000 * typical,
        )
    return {size: typical * state.generator.relative_cost(size) for size in SIZES}
