"""WHEP out (draft-ietf-wish-whep): the viewers of a session."""

from typing import Any

from fastapi import APIRouter, Request, Response

from streamer.rtc.sdp import Role
from streamer.server.routes.common import asked_alpha, session_of, state_of
from streamer.server.routes.openapi import ALPHA, ANSWERED, TEXT, takes
from streamer.server.routes.sdp import (
    CANDIDATES,
    accept,
    answer,
    check_exchange,
    describe,
    discover,
    read_offer,
    take_candidates,
)

router = APIRouter()

_ENDPOINT = "/v1/sessions/{session_id}/whep"
_VIEWER = _ENDPOINT + "/{viewer_id}"


@router.post(_ENDPOINT, **ANSWERED, openapi_extra=takes(ALPHA, body={"application/sdp": TEXT}))
async def view(session_id: str, request: Request) -> Response:
    held = state_of(request)
    config = held.config
    check_exchange(request)
    session, packed = session_of(request, session_id), asked_alpha(request)
    offer = await read_offer(request, Role.VIEWER)
    guest = await session.audience.admit(lambda feedback: accept(held, offer, feedback), packed)
    return answer(config, f"whep/{guest.id}", guest.peer)


@router.options(_ENDPOINT, response_class=Response)
async def options(session_id: str, request: Request) -> Response:
    session_of(request, session_id)
    return describe(state_of(request).config)


@router.head(_ENDPOINT, response_class=Response)
async def head(session_id: str, request: Request) -> Response:
    session_of(request, session_id)
    return discover()


@router.get(_ENDPOINT, status_code=204)
async def get(session_id: str, request: Request) -> Response:
    """204: the draft requires a 2xx, and neither resource has a representation."""
    session_of(request, session_id)
    return Response(status_code=204)


@router.get(_VIEWER, status_code=204)
async def get_viewer(session_id: str, viewer_id: str, request: Request) -> Response:
    session_of(request, session_id).audience.get(viewer_id)
    return Response(status_code=204)


@router.patch(_VIEWER, status_code=204, openapi_extra=CANDIDATES)
async def trickle(session_id: str, viewer_id: str, request: Request) -> Response:
    return await take_candidates(request, session_of(request, session_id).audience.get(viewer_id).peer)


@router.delete(_VIEWER)
async def leave(session_id: str, viewer_id: str, request: Request) -> dict[str, Any]:
    audience = session_of(request, session_id).audience
    await audience.dismiss(audience.get(viewer_id), "deleted")
    return {"id": viewer_id, "state": "closed"}
