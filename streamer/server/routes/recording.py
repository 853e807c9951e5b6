"""Endpoints for a session's recording: start, query, stop."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streamer.server.routes.common import session_of, state_of

router = APIRouter()


@router.post("/v1/sessions/{session_id}/recording", status_code=201)
async def begin(session_id: str, request: Request) -> Response:
    started = await state_of(request).record(session_of(request, session_id))
    return JSONResponse(started.to_json(), 201, {"Location": "recording"})


@router.get("/v1/sessions/{session_id}/recording")
async def tell(session_id: str, request: Request) -> dict[str, Any]:
    return state_of(request).recording_of(session_of(request, session_id)).to_json()


@router.delete("/v1/sessions/{session_id}/recording")
async def end(session_id: str, request: Request) -> dict[str, Any]:
    held, session = state_of(request), session_of(request, session_id)
    recording = held.recording_of(session)
    del held.recordings[session_id]  # a second DELETE finds nothing
    session.remove_outlet(recording)
    await recording.close()
    return recording.to_json()
