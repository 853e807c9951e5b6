"""Streaming parser for uploaded forms (multipart/form-data, RFC 7578): bounded, in memory only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from streamer.base.errors import RequestError

_MAX_TEXT = 400
"""Maximum bytes of a field that is not a file."""

_MAX_PARTS = 32
_MAX_NAME = 80
_OVERHEAD = 64 * 1024  # bytes allowed for boundaries, headers and text fields


@dataclass(frozen=True)
class FormFile:
    """An uploaded file: its form field, name and contents."""

    field: str
    name: str
    data: bytes


@dataclass
class Form:
    """A form's files, in order, and its other fields."""

    files: list[FormFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FormLimits:
    """Limits on the contents of a form."""

    files: Mapping[str, int]
    """Field name of a file → its maximum bytes."""
    fields: frozenset[str]
    """Names of the other fields."""
    max_files: int
    max_bytes: int
    """For all files together."""


async def read_form(request: Request, limits: FormLimits) -> Form:
    """
    Reads a request's form. Raises `RequestError`: 413 as soon as a limit is exceeded, 422 for an unknown or repeated
    field, 400 for a malformed form.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise RequestError(400, "bad_request", f"the form's boundary has {len(boundary)} characters: must be 1 to 70")
    declared = request.headers.get("content-length", "")
    most = limits.max_bytes + _OVERHEAD
    if declared.isdecimal() and int(declared) > most:
        raise RequestError(413, "too_large", f"the form has {declared} bytes: the maximum is {most}")
    reader = _FormReader(boundary, limits)
    read = 0
    async for piece in request.stream():
        read += len(piece)
        if read > most:
            raise RequestError(413, "too_large", f"the form has more than the maximum of {most} bytes")
        try:
            reader.feed(piece)
        except FormParserError as error:
            raise RequestError(400, "bad_request", f"the form is malformed: {str(error)[:200]}") from None
    if not reader.ended:
        raise RequestError(400, "bad_request", f"the form is truncated after {read} bytes")
    return reader.form


class _FormReader:
    """Builds a form from the parser's callbacks."""

    def __init__(self, boundary: bytes, limits: FormLimits) -> None:
        self.form = Form()
        self.ended = False
        self._limits = limits
        self._parts = 0
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._field = self._name = ""
        self._most = 0
        self._data = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, piece: bytes) -> None:
        self._parser.write(piece)

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise RequestError(422, "bad_request", f"the form has more than the maximum of {_MAX_PARTS} parts")
        self._disposition = b""
        self._data = bytearray()

    def _on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise RequestError(400, "bad_request", f"part {self._parts} of the form has no name")
        self._field = _text(options[b"name"])
        self._name = _text(options.get(b"filename", b"")).replace("\\", "/").rsplit("/", 1)[-1][-_MAX_NAME:]
        limits = self._limits
        if self._field in limits.files:
            if len(self.form.files) >= limits.max_files:
                raise RequestError(
                    422, "bad_request", f"the form has more than the maximum of {limits.max_files} files"
                )
            self._most = limits.files[self._field]
        elif self._field not in limits.fields:
            known = ", ".join(sorted({*limits.files, *limits.fields}))
            raise RequestError(422, "bad_request", f"the form's field {self._field[:40]!r} is not one of {known}")
        elif self._field in self.form.fields:
            raise RequestError(422, "bad_request", f"the form has the field {self._field!r} more than once")
        else:
            self._most = _MAX_TEXT

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]
        if len(self._data) > self._most:
            what = self._name or f"the form's field {self._field!r}"
            raise RequestError(413, "too_large", f"{what} has more than the maximum of {self._most} bytes")

    def _on_part_end(self) -> None:
        if self._field in self._limits.files:
            self.form.files.append(FormFile(self._field, self._name, bytes(self._data)))
        else:
            self.form.fields[self._field] = _text(bytes(self._data))
        self._data = bytearray()

    def _on_end(self) -> None:
        self.ended = True


def _text(value: bytes) -> str:
    return "".join(one for one in value.decode("utf-8", "replace") if one.isprintable())
