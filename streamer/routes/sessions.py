"""Sessions: made, steered, told of, ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from streamer import signalling, tracks
from streamer.admission import AdmissionConfig, admit
from streamer.characters import Entry
from streamer.control import MAX_BYTES
from streamer.routes.common import asked_alpha, asked_flag, asked_size, read_body, session_of, state_of
from streamer.routes.sdp import answer, check_exchange, read_sdp, take_candidates
from streamer.session import Session
from streamer.signalling import Refused
from streamer.state import State

router = APIRouter()


@dataclass(frozen=True)
class Wish:
    """What a session is asked to be."""

    entry: Entry
    size: int
    background: bool
    stamped: bool
    packed: bool


def asked_session(request: Request) -> Wish:
    """The parameters of a request for a session. Raises `Refused`."""
    held = state_of(request)
    packed = asked_alpha(request)
    return Wish(
        held.characters.get(request.query_params.get("character", held.characters.default)),
        asked_size(request),
        asked_flag(request, "background", not packed),
        asked_flag(request, "stamp", False),
        packed,
    )


@contextlib.asynccontextmanager
async def opening(held: State, wish: Wish) -> AsyncIterator[Session]:
    """A session, admitted and made, for the body to attach to what gives it a voice; then it is open.

    Raises `Refused` (503) where there is no room. What the body raises closes the session.
    """
    verdict = admit(
        AdmissionConfig(held.config.max_sessions),
        len(held.sessions) + held.opening,
        held.promised(),
        held.cost(wish.size),
    )
    if not verdict.admitted:
        raise Refused(503, verdict.reason, verdict.detail, verdict.retry_after)
    held.opening += 1
    session = None
    try:
        rig = await asyncio.get_running_loop().run_in_executor(  # past thumbnails
            None, held.generator.rig, wish.entry, wish.size, wish.background
        )
        session = Session(
            config=held.config,
            entry=wish.entry,
            characters=held.characters,
            engine=held.engine,
            generator=held.generator,
            listener=held.listener,
            rig=rig,
            background=wish.background,
            stamped=wish.stamped,
            packed=wish.packed,
            metrics=held.metrics,
            on_closed=held.forget,
        )
        yield session
        held.sessions[session.id] = session
        await held.opened(session)
    except BaseException:
        if session is not None:
            await session.close("refused")
        raise
    finally:
        held.opening -= 1
    held.metrics.opened.inc()


@router.post("/v1/sessions", status_code=201)
async def open_session(request: Request) -> Response:
    held = state_of(request)
    config = held.config
    check_exchange(request)
    wish = asked_session(request)
    offer = await read_sdp(request)
    signalling.parse_offer(offer)  # before anything is reserved
    async with opening(held, wish) as session:
        peer = await signalling.accept(
            offer,
            on_audio=session.take_packet,
            on_keyframe=session.reports.keyframe,
            on_bitrate=session.reports.bandwidth,
            on_loss=session.reports.loss,
            addresses=tracks.local_addresses(config.loopback),
            ports=held.ports,
            public_ip=config.public_ip,
        )
        session.attach(peer)
    return answer(config, f"/v1/sessions/{session.id}", peer)


@router.get("/v1/sessions")
async def list_sessions(request: Request) -> dict[str, Any]:
    return {"sessions": list(state_of(request).sessions)}


@router.get("/v1/sessions/{session_id}")
async def session_state(session_id: str, request: Request) -> dict[str, Any]:
    return session_of(request, session_id).to_json()


@router.patch("/v1/sessions/{session_id}", status_code=204)
async def trickle(session_id: str, request: Request) -> Response:
    return await take_candidates(request, session_of(request, session_id).peer)


@router.post("/v1/sessions/{session_id}/control")
async def steer(session_id: str, request: Request) -> dict[str, Any]:
    session = session_of(request, session_id)
    return await session.steer(await read_body(request, MAX_BYTES))


@router.delete("/v1/sessions/{session_id}")
async def close_session(session_id: str, request: Request) -> dict[str, Any]:
    return await delete(request, session_of(request, session_id))


async def delete(request: Request, session: Session) -> dict[str, Any]:
    """Ends a session on its client's demand."""
    state_of(request).sessions.pop(session.id, None)  # a second DELETE finds nothing
    await session.close("deleted")
    return {"id": session.id, "state": session.state.value}
