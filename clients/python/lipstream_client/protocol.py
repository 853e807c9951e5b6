"""The messages of the control channel and the speech socket, and RTP timestamps as frame and sample numbers. Pure.

`clients/PROTOCOL.md` describes them, `clients/vectors/` defines them.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

_HUGE = sys.float_info.max


class BadMessage(ValueError):
    """A message that violates the protocol; the text gives the reason."""


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _u32(value: object) -> bool:
    return _count(value) and value < 2**32  # type: ignore[operator]


def _positive(value: object) -> bool:
    return _number(value) and value > 0  # type: ignore[operator]


def _number(value: object) -> bool:
    # An int may be too large for a float; math.isfinite would raise OverflowError.
    return isinstance(value, int | float) and not isinstance(value, bool) and -_HUGE < value < _HUGE


def _share(value: object) -> bool:
    return _number(value) and 0 <= value <= 1  # type: ignore[operator]


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _any_text(value: object) -> bool:
    return isinstance(value, str)


def _rows(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 8 and _count(row[0]) and _count(row[1]) and all(map(_number, row[2:]))
        for row in value
    )


def _plan_values(value: object) -> bool:
    """The server defines the controls and their ranges."""
    return isinstance(value, Mapping) and len(value) > 0 and all(v is None or _number(v) for v in value.values())


_Check = Callable[[object], bool]

_FIELDS: dict[str, dict[str, _Check]] = {
    "hello": {
        "session": _text,
        "version": _any_text,
        "fps": _positive,
        "samples_per_frame": _positive,
        "sample_rate": _positive,
        "lookahead_ms": _number,
        "video_rtp_offset": _u32,
        "audio_rtp_offset": _u32,
        "epoch": _count,
    },
    "pong": {"id": _count, "t": _number, "server": _number},
    "interrupted": {"epoch": _count, "pts": _count, "frame": _count},
    "muted": {"muted": _flag},
    "character": {"id": _text, "frame": _count},
    "emotion": {"name": _text, "strength": _share},
    "plan": {"frame": _count},
    "attention": {"state": _text},
    "gesture": {"name": _text, "frame": _count},
    "away": {"away": _flag, "frame": _count},
    "state": {"state": _text},
    "vad": {"speaking": _flag, "pts": _number},
    "frames": {"rows": _rows},
    "warning": {"reason": _text},
    "error": {"reason": _text},
    "closed": {"reason": _text},
}

_OPTIONAL: dict[str, _Check] = {"detail": _any_text}
_OPTIONAL_OF: dict[str, dict[str, _Check]] = {
    "hello": {"renderer": _text, "size": _positive},
    "character": {"renderer": _text},
}

_BUFFERED: dict[str, _Check] = {"buffered_ms": _count}
_USER: dict[str, _Check] = {"pts": _count, "at": _positive}
_SPEECH_FIELDS: dict[str, dict[str, _Check]] = {
    **{
        name: _FIELDS[name]
        for name in ("pong", "muted", "character", "emotion", "plan", "attention", "error", "closed")
    },
    "hello": {
        "session": _text,
        "version": _any_text,
        "epoch": _count,
        "capacity_ms": _count,
        "max_bytes": _count,
        "user": _flag,
    },
    "interrupted": {
        **_FIELDS["interrupted"],
        "by": _text,
        "segment": lambda v: v is None or _count(v),
        "position_ms": _count,
    },
    "speech_started": {"segment": _count, "pts": _count},
    "speech_finished": {"segment": _count, "position_ms": _count, "interrupted": _flag},
    "buffer": _BUFFERED,
    "full": _BUFFERED,
    "ready": _BUFFERED,
    "user_audio": {"pts": _count},
    "user_speech_started": _USER,
    "user_speech_ended": _USER,
}


def read_speech_message(data: str | bytes) -> dict[str, Any] | None:
    """Like `read_message`, for a message of the speech socket."""
    return read_message(data, _SPEECH_FIELDS)


def read_message(data: str | bytes, types: Mapping[str, dict[str, _Check]] = _FIELDS) -> dict[str, Any] | None:
    """Parses a message from the server; None for an unknown type, which is to be ignored. Raises BadMessage."""
    if isinstance(data, bytes):
        raise BadMessage(f"{len(data)} bytes of binary data where JSON text is expected")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadMessage(f"a message is an object with a type, not {data[:60]!r}")
    fields = types.get(message["type"])
    if fields is None:
        return None
    for name, check in fields.items():
        if name not in message:
            raise BadMessage(f"{message['type']}: {name!r} is missing")
        if not check(message[name]):
            raise BadMessage(f"{message['type']}: {name!r} is {str(message[name])[:60]!r}")
    for name, check in (_OPTIONAL | _OPTIONAL_OF.get(message["type"], {})).items():
        if name in message and not check(message[name]):
            raise BadMessage(f"{message['type']}: {name!r} is {str(message[name])[:60]!r}")
    return message


def _checked(kind: str, message: dict[str, Any], checks: dict[str, _Check]) -> dict[str, Any]:
    for name, check in checks.items():
        if not check(message[name]):
            raise ValueError(f"{kind}: {name!r} cannot be {message[name]!r}")
    return {"type": kind, **message}


def ping(number: int, t: float) -> dict[str, Any]:
    """`t`: the client's clock in milliseconds; the answer returns it."""
    return _checked("ping", {"id": number, "t": t}, {"id": _count, "t": _number})


def playout(difference_ms: float) -> dict[str, Any]:
    """How much later audio is played than the video frame of the same time is shown."""
    return _checked("playout", {"difference_ms": difference_ms}, {"difference_ms": _number})


def interrupt() -> dict[str, Any]:
    return {"type": "interrupt"}


def mute(muted: bool) -> dict[str, Any]:
    return _checked("mute", {"muted": muted}, {"muted": _flag})


def character(character_id: str, background: bool | None = None) -> dict[str, Any]:
    if background is None:
        return _checked("character", {"id": character_id}, {"id": _text})
    return _checked("character", {"id": character_id, "background": background}, {"id": _text, "background": _flag})


def emotion(name: str, strength: float = 1) -> dict[str, Any]:
    return _checked("emotion", {"name": name, "strength": strength}, {"name": _text, "strength": _share})


def plan(values: Mapping[str, float | None], mode: str = "add", hold: float = 1) -> dict[str, Any]:
    """`values`: controls to their values, None releases one; `mode`: "add" or "replace"; `hold`: seconds to expiry."""
    return _checked(
        "plan",
        {"mode": mode, "hold": hold, "values": values},
        {
            "mode": lambda v: v in ("add", "replace"),
            "hold": lambda v: _number(v) and 0 < v <= 10,  # type: ignore[operator]
            "values": _plan_values,
        },
    )


def attention(state: str) -> dict[str, Any]:
    """What the character does while it does not speak: "idle", "listening" or "thinking"."""
    return _checked("attention", {"state": state}, {"state": lambda v: v in ("idle", "listening", "thinking")})


def start(form: str, rate: int, hear: bool = False, barge_in: bool = False) -> dict[str, Any]:
    """The format of the speech that follows; `hear`: send the user's voice; `barge_in`: the user may interrupt."""
    return _checked(
        "start",
        {"format": form, "rate": rate, "hear": hear, "barge_in": barge_in},
        {"format": _text, "rate": _count, "hear": _flag, "barge_in": _flag},
    )


def gesture(name: str) -> dict[str, Any]:
    return _checked("gesture", {"name": name}, {"name": _text})


def away(away: bool, picture: str | None = None) -> dict[str, Any]:
    """`picture`: the id of a character whose picture is shown while away."""
    if picture is None:
        return _checked("away", {"away": away}, {"away": _flag})
    checks = {"away": lambda v: v is True, "picture": _text}  # a picture only goes with away=True
    return _checked("away", {"away": away, "picture": picture}, checks)


def unit_of(timestamp: int, offset: int, ticks: int, near: int) -> int | None:
    """The number of the unit (of `ticks` RTP ticks each) at a 32-bit timestamp: the candidate nearest to `near`.

    None for a timestamp between units. Unit 0 has the timestamp `offset`.
    """
    delta = (timestamp - offset - near * ticks + 2**31) % 2**32 - 2**31
    unit, rest = divmod(near * ticks + delta, ticks)
    return unit if rest == 0 and unit >= 0 else None


def frame_of(timestamp: int, offset: int, near: int) -> int | None:
    """The frame number of a video RTP timestamp; `near`: a frame number known to be close, such as the previous one."""
    return unit_of(timestamp, offset, 3600, near)


def sample_of(timestamp: int, offset: int, near: int) -> int | None:
    """The sample number at 16 kHz of an audio RTP timestamp."""
    return unit_of(timestamp, offset, 3, near)
