"""Endpoint that mints session tokens; requires the main token."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streamer.base import clock
from streamer.base.errors import RequestError
from streamer.server.routes.common import read_json, state_of
from streamer.server.routes.guard import allowed
from streamer.server.routes.openapi import takes
from streamer.server.tokens import DEFAULT_TTL, MAX_SESSIONS, MAX_TTL

router = APIRouter()


_ASKED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "ttl_s": {"type": "number", "minimum": 1, "maximum": MAX_TTL, "default": DEFAULT_TTL},
        "sessions": {"type": "integer", "minimum": 1, "maximum": MAX_SESSIONS, "default": 1},
        "origin": {"type": ["string", "null"], "description": "scheme://host[:port]"},
        "character": {"type": ["string", "null"], "description": "a character id"},
    },
}


@router.post("/v1/tokens", status_code=201, openapi_extra=takes(body={"application/json": _ASKED}))
async def mint_token(request: Request) -> Response:
    """Mints a session token. The guard rejects requests that use a session token themselves.

    A server without a main token also mints, so that clients behave as they will in production: it validates the
    session tokens that it receives.
    """
    held = state_of(request)
    text, grant = held.tokens.mint(await read_json(request), clock.now())
    if grant.origin is not None and not allowed(held.config, grant.origin, request.headers.get("host", "")):
        raise RequestError(422, "bad_origin", f"pages of {grant.origin!r} may not use this server: see --allow-origin")
    if grant.character is not None:
        held.characters.get(grant.character)
    return JSONResponse(
        {
            "token": text,
            "id": grant.id,
            "ttl_s": grant.ttl,
            "sessions": grant.sessions,
            "origin": grant.origin,
            "character": grant.character,
        },
        201,
        {"Cache-Control": "no-store"},
    )
