"""Server status for clients, load balancers and Prometheus."""

import secrets
import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streamer import __version__
from streamer.base.constants import FPS, RENDERERS, SAMPLE_RATE, SIZES
from streamer.faces.pack import MAX_PICTURES
from streamer.motion.controls import EMOTIONS
from streamer.motion.gestures import GESTURES
from streamer.motion.plan import RANGES
from streamer.server.routes.common import state_of
from streamer.server.routes.openapi import gives

router = APIRouter()


@router.get("/v1/config")
async def client_config(request: Request) -> dict[str, Any]:
    held = state_of(request)
    return {
        "version": __version__,
        "fps": FPS,
        "sizes": SIZES,
        "default_size": held.default_size(held.characters.get(held.characters.default)),
        "default_character": held.characters.default,
        "lookahead_ms": held.listener.lookahead * 1000 / SAMPLE_RATE,
        "generator": held.generator.name,
        "renderers": {
            name: {"default_size": size, "frame_ms": round(1000 * held.cost_of[name, size], 2)}
            for name, size in held.default_sizes.items()
            if (name, size) in held.cost_of
        },
        "require_consent": held.config.require_consent,
        "ice_servers": held.config.ice_servers_for(secrets.token_hex(8), time.time()),
        "ice_ttl_s": held.config.turn.ttl if held.config.turn else None,
        "max_picture_bytes": held.config.max_picture_bytes,
        "max_pictures": MAX_PICTURES,
        "max_clip_bytes": held.config.max_clip_bytes,
        "marked": held.config.marked,
        "emotions": EMOTIONS,
        "plan": RANGES,
        "gestures": {name: gesture.seconds for name, gesture in GESTURES.items()},
        "auth": held.config.token is not None,
    }


@router.get("/metrics", response_class=Response, responses=gives(200, "text/plain"))
async def metrics_text(request: Request) -> Response:
    held = state_of(request)
    metrics = held.metrics
    metrics.load.set(held.engine.load)
    counts: dict[str, int] = {}
    for session in held.sessions.values():
        counts[session.state.value] = counts.get(session.state.value, 0) + 1
    metrics.sessions.clear()
    for name in ("connecting", "live", "closing"):
        metrics.sessions.labels(name).set(counts.get(name, 0))
    drawn_by = [session.renderer for session in held.sessions.values()]
    for name in RENDERERS:
        metrics.renderers.labels(name).set(drawn_by.count(name))
    return Response(metrics.text(), media_type="text/plain; version=0.0.4")


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "The server does not accept sessions at the moment"}})
async def readyz(request: Request) -> Response:
    held = state_of(request)
    full = len(held.sessions) + held.opening >= held.config.max_sessions
    body = {"ready": held.ready and not full, "sessions": len(held.sessions), "load": round(held.engine.load, 3)}
    return JSONResponse(body, 200 if body["ready"] else 503)
