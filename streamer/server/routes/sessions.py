"""Endpoints for sessions: open, control, query, close."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streamer.avatar.characters import CharacterRecord
from streamer.base import clock
from streamer.base.constants import SIZES
from streamer.base.errors import RequestError
from streamer.rtc.sdp import Role
from streamer.server.routes.common import (
    asked_alpha,
    asked_flag,
    asked_size,
    content_type,
    read_body,
    read_json,
    session_of,
    state_of,
)
from streamer.server.routes.guard import grant_of
from streamer.server.routes.openapi import ALPHA, ANSWERED, BACKGROUND, SESSION_SIZE, TEXT, flag, query, takes
from streamer.server.routes.sdp import CANDIDATES, accept, answer, check_exchange, read_offer, take_candidates
from streamer.server.state import State
from streamer.session.limits import Grant
from streamer.session.messages import MAX_BYTES, TYPES
from streamer.session.session import Session

router = APIRouter()


@dataclass(frozen=True)
class SessionRequest:
    """The requested properties of a session."""

    entry: CharacterRecord
    size: int
    background: bool
    stamped: bool
    grant: Grant | None
    """Grant of the session token of the request, if any."""
    fed: bool = False
    """The voice is a bot's speech; the microphone, if any, is the user's."""
    packed: bool = False
    """The video has alpha beside the colour."""


def asked_session(request: Request) -> SessionRequest:
    """Reads the query parameters of a session request. Raises `RequestError`."""
    packed, entry = asked_alpha(request), _entry(request, request.query_params.get("character"))
    return SessionRequest(
        entry,
        asked_size(request, state_of(request).default_size(entry)),
        asked_flag(request, "background", not packed),
        asked_flag(request, "stamp", False),
        grant_of(request),
        _asked_voice(request),
        packed,
    )


def _entry(request: Request, asked: str | None) -> CharacterRecord:
    """Returns the requested character, or else the default of the token or the server. Raises `RequestError`."""
    held, grant = state_of(request), grant_of(request)
    bound = grant.character if grant is not None else None
    character = bound or held.characters.default if asked is None else asked
    if bound not in (None, character):
        raise RequestError(
            403, "token_character", f"this token is bound to the character {bound!r}, not {character[:40]!r}"
        )
    return held.characters.get(character)


def _asked_voice(request: Request) -> bool:
    text = request.query_params.get("voice", "microphone")
    if text not in ("microphone", "speech"):
        raise RequestError(422, "bad_request", f"voice={text[:20]!r}: must be microphone or speech")
    return text == "speech"


async def session_request_from_json(request: Request) -> SessionRequest:
    """Reads the JSON body that requests a session without a peer. Raises `RequestError`."""
    body = await read_json(request)
    if beside := [str(each["name"]) for each in ASKED if each["name"] in request.query_params]:
        raise RequestError(
            422, "bad_request", f"{', '.join(beside)} in the query: with a JSON body, put all options in the body"
        )
    character = body.get("character")
    if "character" in body and not isinstance(character, str):
        raise RequestError(422, "bad_request", f"'character' is {repr(character)[:40]}: must be a character's id")
    entry = _entry(request, character)
    size = body.get("size", state_of(request).default_size(entry))
    if isinstance(size, bool) or not isinstance(size, int) or size not in SIZES:
        raise RequestError(
            422, "bad_request", f"'size' is {repr(size)[:40]}: must be one of {', '.join(map(str, SIZES))}"
        )
    for name in ("background", "stamp"):
        if not isinstance(body.get(name, True), bool):
            raise RequestError(422, "bad_request", f"{name!r} is {repr(body[name])[:40]}: must be true or false")
    shown, stamped = body.get("background", True), body.get("stamp", False)
    return SessionRequest(entry, size, shown, stamped, grant_of(request), fed=True)


@contextlib.asynccontextmanager
async def opening(held: State, wish: SessionRequest) -> AsyncIterator[Session]:
    """Admits and creates a session, which the body connects to its voice; the session is open after the body.

    Raises `RequestError` (503 without capacity, 403 if the token is used up). If the body raises, the session is closed
    and does not count against the token.
    """
    with held.tokens.opening(wish.grant, clock.now()):
        async with _admitted(held, wish) as session:
            yield session


@contextlib.asynccontextmanager
async def _admitted(held: State, wish: SessionRequest) -> AsyncIterator[Session]:
    reserved = held.generator.renderer_name(wish.entry, wish.size), wish.size
    held.check_room(*reserved)
    held.openings.append(reserved)
    session = None
    try:
        rig = await asyncio.get_running_loop().run_in_executor(  # not in `drawing`: thumbnails may be queued there
            None, held.generator.create_renderer, wish.entry, wish.size, wish.background
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
            grant=wish.grant,
            may_be_drawn=lambda session, renderer: held.check_room(renderer, session.size, instead=session),
            on_closed=held.forget,
        )
        yield session
        held.sessions[session.id] = session
        session.log_character("opened")
        await held.opened(session)
    except BaseException:
        if session is not None:
            await session.close("refused")
        raise
    finally:
        held.openings.remove(reserved)
    held.metrics.opened.inc()


ASKED = (
    query("character", TEXT, "a character's id"),
    SESSION_SIZE,
    BACKGROUND,
    ALPHA,
    flag("stamp", False, "draw the frame number into the picture"),
    query(
        "voice",
        {"enum": ["microphone", "speech"], "default": "microphone"},
        "speech: a bot speaks over the speech socket",
    ),
)
"""OpenAPI description of the input of `asked_session`."""


_ALONE = {
    "type": "object",
    "properties": {
        "character": TEXT,
        "size": SESSION_SIZE["schema"],
        "background": {"type": "boolean", "default": True},
        "stamp": {"type": "boolean", "default": False},
    },
}


_MADE = {"type": "object", "required": ["id", "speech", "whep"]}


@router.post(
    "/v1/sessions",
    **ANSWERED,
    openapi_extra=takes(*ASKED, body={"application/sdp": TEXT, "application/json": _ALONE})
    | {"responses": {"201": {"content": {"application/json": {"schema": _MADE}}}}},
)
async def open_session(request: Request) -> Response:
    held = state_of(request)
    config = held.config
    if content_type(request) == "application/json":
        async with opening(held, await session_request_from_json(request)) as session:
            session.start_peerless()
        path = f"/v1/sessions/{session.id}"  # paths in JSON are relative to the server's base URL
        body = {
            "id": session.id,
            "speech": f"{path}/speech",
            "whep": f"{path}/whep",
            "renderer": session.renderer,
            "size": session.size,
        }
        return JSONResponse(body, 201, {"Location": f"sessions/{session.id}"})
    check_exchange(request)
    wish = asked_session(request)
    offer = await read_offer(request, Role.CONVERSATION)  # before capacity is reserved
    async with opening(held, wish) as session:
        peer = await accept(held, offer, session.reports, session.take_packet)
        session.attach(peer, wish.fed)
    return answer(config, f"sessions/{session.id}", peer)


@router.get("/v1/sessions")
async def list_sessions(request: Request) -> dict[str, Any]:
    return {"sessions": list(state_of(request).sessions)}


@router.get("/v1/sessions/{session_id}")
async def session_state(session_id: str, request: Request) -> dict[str, Any]:
    return session_of(request, session_id).snapshot()


@router.patch("/v1/sessions/{session_id}", status_code=204, openapi_extra=CANDIDATES)
async def trickle(session_id: str, request: Request) -> Response:
    return await take_candidates(request, session_of(request, session_id).peer)


_MESSAGE = {"type": "object", "required": ["type"], "properties": {"type": {"enum": list(TYPES)}}}


@router.post("/v1/sessions/{session_id}/control", openapi_extra=takes(body={"application/json": _MESSAGE}))
async def steer(session_id: str, request: Request) -> dict[str, Any]:
    session = session_of(request, session_id)
    return await session.steer(await read_body(request, MAX_BYTES))


@router.delete("/v1/sessions/{session_id}")
async def close_session(session_id: str, request: Request) -> dict[str, Any]:
    return await delete(request, session_of(request, session_id))


async def delete(request: Request, session: Session) -> dict[str, Any]:
    """Closes a session at its client's request."""
    state_of(request).sessions.pop(session.id, None)  # a second DELETE finds nothing
    await session.close("deleted")
    return {"id": session.id, "state": session.state.value}
