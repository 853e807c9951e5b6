"""WHIP in (RFC 9725): a session whose voice comes from a WHIP client and which is viewed over WHEP."""

from typing import Any

from fastapi import APIRouter, Request, Response

from streamer.base.errors import RequestError
from streamer.rtc.sdp import Role
from streamer.server.routes.common import session_of, state_of
from streamer.server.routes.openapi import ANSWERED, TEXT, takes
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
from streamer.server.routes.sessions import ASKED, asked_session, delete, opening
from streamer.session.session import Session

router = APIRouter()

WHEP_RELATION = "urn:x-lipstream:whep"
"""Link relation from a session to its WHEP endpoint."""


def _source_of(request: Request, session_id: str) -> Session:
    """Raises `RequestError` (404)."""
    session = session_of(request, session_id)
    if session.peer is None or session.peer.role is not Role.SOURCE:
        raise RequestError(404, "unknown_session", f"session {session_id[:40]!r} was not opened over WHIP")
    return session


@router.post("/v1/whip", **ANSWERED, openapi_extra=takes(*ASKED, body={"application/sdp": TEXT}))
async def open_source(request: Request) -> Response:
    held = state_of(request)
    config = held.config
    check_exchange(request)
    wish = asked_session(request)
    offer = await read_offer(request, Role.SOURCE)  # before capacity is reserved
    async with opening(held, wish) as session:
        peer = await accept(held, offer, on_audio=session.take_packet)
        session.attach(peer, wish.fed)
    link = f'<sessions/{session.id}/whep>; rel="{WHEP_RELATION}"'
    return answer(config, f"whip/{session.id}", peer, [link])


@router.options("/v1/whip", response_class=Response)
async def options(request: Request) -> Response:
    return describe(state_of(request).config)


@router.head("/v1/whip", response_class=Response)
async def head() -> Response:
    return discover()


@router.get("/v1/whip", status_code=204)
async def get() -> Response:
    """204: the RFC requires a 2xx, and neither resource has a representation."""
    return Response(status_code=204)


@router.get("/v1/whip/{session_id}", status_code=204)
async def get_source(session_id: str, request: Request) -> Response:
    _source_of(request, session_id)
    return Response(status_code=204)


@router.patch("/v1/whip/{session_id}", status_code=204, openapi_extra=CANDIDATES)
async def trickle(session_id: str, request: Request) -> Response:
    return await take_candidates(request, _source_of(request, session_id).peer)


@router.delete("/v1/whip/{session_id}")
async def close_source(session_id: str, request: Request) -> dict[str, Any]:
    return await delete(request, _source_of(request, session_id))
