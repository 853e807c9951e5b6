"""Endpoints for characters: list, build, upload, pictures."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streamer.avatar.characters import CharacterRecord, checked_traits, png, portrait
from streamer.base.errors import RequestError
from streamer.faces.pack import MAX_PICTURES
from streamer.faces.preview import face_preview
from streamer.faces.reading import Upload
from streamer.faces.roles import ROLES
from streamer.motion.controls import EMOTIONS
from streamer.server.config import ServerConfig
from streamer.server.routes.common import (
    asked_flag,
    asked_size,
    content_type,
    drawn,
    flag_in,
    marks_in,
    place_in,
    read_body,
    read_json,
    state_of,
    taken,
)
from streamer.server.routes.form import Form, FormLimits, read_form
from streamer.server.routes.openapi import BACKGROUND, BYTES, SIZE, TEXT, Schema, flag, gives, query, takes
from streamer.studio.character import TRAITS
from streamer.studio.rig import Rig

router = APIRouter()

_PICTURE_TYPES = tuple(f"image/{kind}" for kind in ("png", "jpeg", "webp", "avif", "heic", "heif", "gif"))
_CLIP_TYPES = tuple(f"video/{kind}" for kind in ("webm", "mp4", "quicktime", "x-matroska"))
_FORM = "multipart/form-data"
_OPTIONS = ("name", "at", "eyes", "mouth", "own_mouth", "face", "consent")
"""Options for pictures, as query parameters or form fields."""


@router.get("/v1/characters")
async def list_characters(request: Request) -> dict[str, Any]:
    return {"characters": [entry.to_json() for entry in state_of(request).characters.all()]}


_BUILT = {
    "type": "object",
    "description": "a seed or traits, not both",
    "properties": {
        "seed": {"type": ["integer", "null"]},
        "traits": {"type": ["object", "null"]},
        "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 60},
    },
}

_PICTURES: Schema = {
    "type": "object",
    "description": f"1 to {MAX_PICTURES} pictures of one character, or a clip; fields may replace the query parameters",
    "properties": {
        "picture": {
            "type": "array",
            "items": BYTES,
            "description": "its role is derived from the file name or the facial expression",
        },
        **{role: {"type": "array", "items": BYTES} for role in ROLES},
        "clip": {**BYTES, "description": "a video, of which the best frames are kept"},
    },
}


@router.post(
    "/v1/characters",
    status_code=201,
    openapi_extra=takes(
        query("name", TEXT, "name of the character"),
        query("at", TEXT, "x,y in pixels of the (first) picture: selects one of several faces"),
        query("eyes", TEXT, "x,y,x,y in pixels of the picture: the eyes, if the user marked the face"),
        query("mouth", TEXT, "x,y in pixels of the picture: the mouth, if the user marked the face"),
        flag("consent", False, "the user may use the picture, and the person in it agrees"),
        body={"application/json": _BUILT, **dict.fromkeys((*_PICTURE_TYPES, *_CLIP_TYPES), BYTES), _FORM: _PICTURES},
    ),
)
async def add_character(request: Request) -> Response:
    held, kind = state_of(request), content_type(request)
    if kind == "application/json":
        body = await read_json(request)
        name = body.get("name")
        if name is not None and (not isinstance(name, str) or not 0 < len(name) <= 60):
            raise RequestError(422, "bad_traits", "'name' must be a string of 1 to 60 characters")
        seed, traits = body.get("seed"), body.get("traits")
        if isinstance(seed, int) and not isinstance(seed, bool) and traits is None:
            entry = held.characters.from_seed(seed)
        elif isinstance(traits, dict) and seed is None:
            entry = held.characters.from_traits(traits, name)
        else:
            raise RequestError(422, "bad_traits", "send either 'seed', an integer, or 'traits', an object")
    elif kind in _PICTURE_TYPES or kind in _CLIP_TYPES or kind == _FORM:
        entry = await _uploaded(request, kind)
    else:
        known = ", ".join(("application/json", *_PICTURE_TYPES, *_CLIP_TYPES, _FORM))
        raise RequestError(415, "unsupported_type", f"expected one of {known}, got {kind[:60]!r}")
    return JSONResponse(entry.to_json(), 201, {"Location": f"characters/{entry.id}"})


async def _uploaded(request: Request, kind: str) -> CharacterRecord:
    """Creates a character from a body of pictures or a clip. Raises `RequestError`."""
    held = state_of(request)
    config, known = held.config, held.characters
    asked: Mapping[str, str] = request.query_params
    if kind != _FORM or "consent" in asked:
        _check_consent(asked, config)  # before the body is read
    if kind == _FORM:
        form = await read_form(request, _limits(config))
        asked = {**asked, **form.fields}
        clip, uploads = _sorted(form)
    elif kind in _CLIP_TYPES:
        clip, uploads = Upload(await read_body(request, config.max_clip_bytes)), []
    else:
        clip, uploads = None, [Upload(await read_body(request, config.max_picture_bytes))]
    consent = _check_consent(asked, config)
    name, own_mouth = asked.get("name", "")[:60] or None, flag_in(asked, "own_mouth", False)
    if clip is not None:
        return await taken(request, known.from_clip, clip.data, name, own_mouth, consent, clip.name)
    marks, at, faced = marks_in(asked), place_in(asked), flag_in(asked, "face", True)
    if len(uploads) > 1 and not faced:
        raise RequestError(422, "bad_request", f"face=0 needs exactly 1 picture, got {len(uploads)}")
    return await taken(request, known.from_pictures, uploads, name, marks, at, own_mouth, faced, consent)


def _check_consent(asked: Mapping[str, str], config: ServerConfig) -> bool | None:
    """Whether the user gave consent for the pictures; None: not stated. Raises `RequestError` (403) if required."""
    consent = flag_in(asked, "consent", False) if "consent" in asked else None
    if config.require_consent and not consent:
        raise RequestError(
            403, "consent_required", "this server requires consent=1: confirm that you may use the picture"
        )
    return consent


def _limits(config: ServerConfig) -> FormLimits:
    files = dict.fromkeys(("picture", *ROLES), config.max_picture_bytes) | {"clip": config.max_clip_bytes}
    most = max(MAX_PICTURES * config.max_picture_bytes, config.max_clip_bytes)
    return FormLimits(files, frozenset(_OPTIONS), MAX_PICTURES, most)


def _sorted(form: Form) -> tuple[Upload | None, list[Upload]]:
    """Returns the form's clip or its pictures. Raises `RequestError` if it contains neither or both."""
    clips = [Upload(file.data, file.name) for file in form.files if file.field == "clip"]
    uploads = [
        Upload(file.data, file.name, file.field if file.field in ROLES else None)  # type: ignore[arg-type]
        for file in form.files
        if file.field != "clip"
    ]
    if len(clips) > 1 or (clips and uploads) or not form.files:
        raise RequestError(
            422,
            "bad_request",
            f"the form has {len(uploads)} pictures and {len(clips)} clips: send 1 to {MAX_PICTURES} pictures or 1 clip",
        )
    return (clips[0] if clips else None), uploads


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
        raise RequestError(422, "bad_traits", "'traits' must be an object")
    if emotion not in EMOTIONS:
        raise RequestError(422, "bad_traits", f"emotion {repr(emotion)[:40]} is not one of {', '.join(EMOTIONS)}")
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


@router.get(
    "/v1/characters/{character_id}/pack/{role}",
    response_class=Response,
    responses=gives(200, "image/png", BYTES),
    openapi_extra=takes(SIZE),
)
async def member(character_id: str, role: str, request: Request) -> Response:
    """The face in the picture that was chosen for a role."""
    entry, size = state_of(request).characters.get(character_id), asked_size(request)
    pixels, fit = entry.member(role)
    data = await drawn(request, lambda: png(face_preview(pixels, fit, size)))
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/v1/traits")
async def traits() -> dict[str, Any]:
    return dict(TRAITS)
