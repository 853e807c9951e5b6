"""Descriptions for /openapi.json, as routes parse requests themselves: parameters, bodies, responses, errors."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from streamer.base.constants import SIZES, THUMBNAIL_SIZE

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
BYTES: Schema = {"type": "string", "format": "binary"}

_PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "reason"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "a sentence with numbers, for people"},
        "reason": {"type": "string", "description": "stable, for programs"},
    },
}


def _refusal(description: str) -> dict[str, Any]:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    after = {"description": "seconds; on 503", "schema": {"type": "integer"}}
    return {
        "description": description,
        "headers": {"Retry-After": after},
        "content": {"application/problem+json": problem},
    }


REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": _refusal("The request is invalid or cannot be fulfilled"),
    "5XX": _refusal("The server cannot fulfil the request, temporarily or at all"),
}
"""For `responses` of `include_router`: the error responses of every route."""


def query(name: str, schema: Schema, description: str = "") -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def header(name: str, description: str) -> Schema:
    return {"name": name, "in": "header", "required": True, "schema": TEXT, "description": description}


def flag(name: str, default: bool, description: str) -> Schema:
    return query(name, {"type": "integer", "enum": [0, 1], "default": int(default)}, description)


SIZE = query("size", {"type": "integer", "enum": list(SIZES), "default": THUMBNAIL_SIZE}, "edge in pixels")
SESSION_SIZE = query(
    "size", {"type": "integer", "enum": list(SIZES)}, "edge in pixels; the default depends on the character's renderer"
)
ALPHA = query("alpha", {"enum": ["none", "packed"], "default": "none"}, "packed: alpha beside the colour")
BACKGROUND = flag("background", True, "with the painted background")


def takes(*parameters: Schema, body: Mapping[str, Schema] | None = None) -> dict[str, Any]:
    """Returns `openapi_extra` for a route: its query and header parameters, and its body by media type."""
    extra: dict[str, Any] = {"parameters": list(parameters)} if parameters else {}
    if body is not None:
        extra["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": schema} for kind, schema in body.items()},
        }
    return extra


def gives(status: int, kind: str, schema: Schema = TEXT, *headers: str) -> dict[int | str, dict[str, Any]]:
    """Returns `responses` for a route that builds its own response; use with `response_class=Response`."""
    return {
        status: {
            "content": {kind: {"schema": schema}},
            "headers": {name: {"schema": TEXT} for name in headers},
        }
    }


ANSWERED: dict[str, Any] = {
    "response_class": Response,
    "responses": gives(201, "application/sdp", TEXT, "Location", "ETag", "Link"),
    "status_code": 201,
}
"""Arguments of a route that accepts an SDP offer."""


def describe(app: FastAPI) -> None:
    """Adds problem documents and the token to the application's OpenAPI description."""

    def text() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                routes=app.routes,
                servers=[{"url": "."}],  # relative to this document, whatever path prefix a proxy adds
            )
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = _PROBLEM
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}, {}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = text  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema
