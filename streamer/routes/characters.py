"""Characters: listed, built, uploaded, pictured."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streamer.characters import checked_traits, portrait
from streamer.routes.common import (
    asked_flag,
    asked_marks,
    asked_size,
    content_type,
    drawn,
    read_body,
    read_json,
    state_of,
)
from streamer.routes.openapi import BACKGROUND, BYTES, SIZE, TEXT, flag, gives, query, takes
from streamer.signalling import Refused
from streamer.studio.character import TRAITS
from streamer.studio.controls import EMOTIONS
from streamer.studio.rig import Rig

router = APIRouter()

_PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")


@router.get("/v1/characters")
async def list_characters(request: Request) -> dict[str, Any]:
    return {"characters": [entry.to_json() for entry in state_of(request).characters.all()]}


_BUILT = {
    "type": "object",
    "description": "either a seed or traits",
    "properties": {
        "seed": {"type": ["integer", "null"]},
        "traits": {"type": ["object", "null"]},
        "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 60},
    },
}


@router.post(
    "/v1/characters",
    status_code=201,
    openapi_extra=takes(
        query("name", TEXT, "of a picture"),
        query("eyes", TEXT, "x,y,x,y in pixels of a picture whose face was marked"),
        query("mouth", TEXT, "x,y"),
        flag("consent", False, "its user may use the picture, and whoever is in it agrees"),
        body={"application/json": _BUILT, **dict.fromkeys(_PICTURE_TYPES, BYTES)},
    ),
)
async def add_character(request: Request) -> Response:
    held, kind = state_of(request), content_type(request)
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
        consent = asked_flag(request, "consent", False) if "consent" in request.query_params else None
        if held.config.require_consent and not consent:
            raise Refused(403, "consent_required", "this server takes no picture without consent=1: may you use it?")
        data = await read_body(request, held.config.max_picture_bytes)
        name = request.query_params.get("name", "")[:60] or None
        flags = asked_flag(request, "own_mouth", False), asked_flag(request, "face", True)
        entry = await drawn(request, held.characters.from_picture, data, name, asked_marks(request), *flags, consent)
    else:
        raise Refused(
            415, "unsupported_type", f"want application/json or {', '.join(_PICTURE_TYPES)}, got {kind[:60]!r}"
        )
    return JSONResponse(entry.to_json(), 201, {"Location": f"/v1/characters/{entry.id}"})


_LOOK = {
    "type": "object",
    "required": ["traits"],
    "properties": {"traits": {"type": "object"}, "emotion": {"enum": list(EMOTIONS)}},
}


@router.post(
    "/v1/characters/preview",
    response_class=Response,
    responses=gives(200, "image/png", BYTES),
    openapi_extra=takes(SIZE, body={"application/json": _LOOK}),
)
async def preview(request: Request) -> Response:
    size, body = asked_size(request), await read_json(request)
    traits, emotion = body.get("traits"), body.get("emotion", "neutral")
    if not isinstance(traits, dict):
        raise Refused(422, "bad_traits", "'traits' must be an object")
    if emotion not in EMOTIONS:
        raise Refused(422, "bad_traits", f"emotion {repr(emotion)[:40]} is not one of {', '.join(EMOTIONS)}")
    character = checked_traits(traits)
    png = await drawn(request, lambda: portrait(Rig(character, size), emotion))
    return Response(png, media_type="image/png")


@router.get("/v1/characters/{character_id}")
async def character(character_id: str, request: Request) -> dict[str, Any]:
    return state_of(request).characters.get(character_id).to_json()


@router.get(
    "/v1/characters/{character_id}/picture",
    response_class=Response,
    responses=gives(200, "image/png", BYTES),
    openapi_extra=takes(SIZE, BACKGROUND),
)
async def picture(character_id: str, request: Request) -> Response:
    held = state_of(request)
    entry = held.characters.get(character_id)
    size, background = asked_size(request), asked_flag(request, "background", True)
    png = await drawn(request, held.characters.thumbnail, entry, size, background)
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/v1/traits")
async def traits() -> dict[str, Any]:
    return dict(TRAITS)
