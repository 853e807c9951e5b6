"""Helpers shared by the routes: server state, bounded reading of bodies, parameters, problem responses."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection

from streamer.base.constants import SIZES, THUMBNAIL_SIZE
from streamer.base.errors import RequestError
from streamer.server.state import State
from streamer.session.session import Session

T = TypeVar("T")

_MAX_JSON_BYTES = 64 * 1024


def state_of(request: HTTPConnection) -> State:
    return request.app.state.lipstream


def session_of(request: HTTPConnection, session_id: str) -> Session:
    """Raises `RequestError` (404)."""
    session = state_of(request).sessions.get(session_id)
    if session is None:
        raise RequestError(404, "unknown_session", f"there is no session {session_id[:40]!r}")
    return session


async def drawn(request: Request, function: Callable[..., T], *arguments: Any) -> T:
    """Runs `function`, which draws and therefore takes long, in the drawing thread."""
    return await asyncio.get_running_loop().run_in_executor(state_of(request).drawing, function, *arguments)


async def taken(request: Request, function: Callable[..., T], *arguments: Any) -> T:
    """Runs `function`, which decodes an upload, in the reading thread."""
    return await asyncio.get_running_loop().run_in_executor(state_of(request).reading, function, *arguments)


def problem(refused: RequestError) -> JSONResponse:
    """Formats an error as a problem document (RFC 9457)."""
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after is not None else {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
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
    """Reads a body of at most `most` bytes. Raises `RequestError` (413) as soon as it is longer."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise RequestError(413, "too_large", f"the body has {declared} bytes: the maximum is {most}")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise RequestError(413, "too_large", f"the body has more than the maximum of {most} bytes")
    return bytes(body)


async def read_json(request: Request) -> dict[str, Any]:
    body = await read_body(request, _MAX_JSON_BYTES)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "bad_request", f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "bad_request", f"the body is JSON, but not an object: {repr(value)[:40]}")
    return value


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def asked_size(request: Request, default: int = THUMBNAIL_SIZE) -> int:
    text = request.query_params.get("size", str(default))
    if not text.isdecimal() or len(text) > 5 or int(text) not in SIZES:
        raise RequestError(422, "bad_request", f"size {text[:20]!r} is not one of {', '.join(map(str, SIZES))}")
    return int(text)


def asked_flag(request: Request, name: str, default: bool) -> bool:
    return flag_in(request.query_params, name, default)


def flag_in(asked: Mapping[str, str], name: str, default: bool) -> bool:
    text = asked.get(name, "1" if default else "0")
    if text not in ("0", "1"):
        raise RequestError(422, "bad_request", f"{name}={text[:20]!r}: must be 0 or 1")
    return text == "1"


def asked_alpha(request: Request) -> bool:
    """Whether the request has `alpha=packed` (alpha beside the colour). Raises `RequestError`."""
    text = request.query_params.get("alpha", "none")
    if text not in ("none", "packed"):
        raise RequestError(422, "bad_request", f"alpha={text[:20]!r}: must be none or packed")
    return text == "packed"


def marks_in(asked: Mapping[str, str]) -> list[float] | None:
    """Parses `eyes=x,y,x,y&mouth=x,y` into six numbers; None if the face was not marked. Raises `RequestError`."""
    parts = [asked.get(name) for name in ("eyes", "mouth")]
    if parts == [None, None]:
        return None
    eyes, mouth = (_numbers(part or "") for part in parts)
    if (len(eyes), len(mouth)) != (4, 2):
        given = "&".join(f"{name}={part[:40]}" for name, part in zip(("eyes", "mouth"), parts, strict=True) if part)
        raise RequestError(422, "bad_marks", f"expected eyes=x,y,x,y&mouth=x,y in pixels of the picture, got {given!r}")
    return eyes + mouth


def place_in(asked: Mapping[str, str]) -> tuple[float, float] | None:
    """Parses `at=x,y`, which selects one of several faces; None if absent. Raises `RequestError`."""
    text = asked.get("at")
    if text is None:
        return None
    numbers = _numbers(text)
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise RequestError(422, "bad_marks", f"expected at=x,y in pixels of the picture, got {text[:40]!r}")
    return numbers[0], numbers[1]


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        return []
