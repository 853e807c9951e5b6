"""Parses and validates the messages of the data channel and of a bot's speech socket.

Pure. `clients/PROTOCOL.md` describes them; `clients/vectors/` is normative.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamer.motion.controls import ATTENTIONS, EMOTIONS
from streamer.motion.gestures import GESTURES
from streamer.motion.plan import BadPlan, MotionCommand

MAX_BYTES = 16 * 1024
TYPES = ("ping", "playout", "interrupt", "mute", "character", "emotion", "plan", "gesture", "away", "attention")
_HUGE = sys.float_info.max


class BadMessage(ValueError):
    """An invalid message; the exception text gives the reason."""


class Unreadable(BadMessage):
    """The data is not a JSON object."""


@dataclass(frozen=True)
class Ping:
    id: int
    t: float


@dataclass(frozen=True)
class Interrupt:
    pass


@dataclass(frozen=True)
class Mute:
    muted: bool


@dataclass(frozen=True)
class SetCharacter:
    id: str
    background: bool | None


@dataclass(frozen=True)
class SetEmotion:
    name: str
    strength: float


@dataclass(frozen=True)
class Playout:
    difference_ms: float


@dataclass(frozen=True)
class Attend:
    state: str


@dataclass(frozen=True)
class Start:
    """The encoding of the speech that follows; `format` and `rate` are validated elsewhere."""

    format: str
    rate: int
    hear: bool
    barge_in: bool


@dataclass(frozen=True)
class End:
    """The end of a segment of speech."""


@dataclass(frozen=True)
class Gesture:
    name: str


@dataclass(frozen=True)
class SetAway:
    away: bool
    picture: str | None
    """Id of the character whose picture is shown; None: the current one, dimmed."""


Control = Playout | Ping | Interrupt | Mute | SetCharacter | SetEmotion | MotionCommand | Gesture | SetAway | Attend


def _number(message: dict[str, Any], name: str) -> float:
    value = message.get(name)
    # math.isfinite raises OverflowError for an int that is too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_HUGE < value < _HUGE:
        raise BadMessage(f"{name!r} must be a finite number, not {_shown(value)}")
    return value


def _flag(message: dict[str, Any], name: str) -> bool:
    value = message.get(name)
    if not isinstance(value, bool):
        raise BadMessage(f"{name!r} must be true or false, not {_shown(value)}")
    return value


def _text(message: dict[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise BadMessage(f"{name!r} must be a string of 1 to 200 characters, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return repr(value)[:60]


def _read(data: str | bytes) -> dict[str, Any]:
    """Decodes a message to its JSON object. Raises Unreadable."""
    if isinstance(data, bytes):
        raise Unreadable(f"{len(data)} bytes of binary data instead of JSON text")
    if len(data.encode()) > MAX_BYTES:
        raise Unreadable(f"{len(data.encode())} bytes: the maximum for a message is {MAX_BYTES}")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise Unreadable(f"a message is a JSON object, not {_shown(message)}")
    return message


def parse(data: str | bytes) -> Control:
    """Parses a message of the data channel. Raises BadMessage."""
    return _control(_read(data), TYPES)


def parse_speech(data: str) -> Control | Start | End:
    """Parses a message of the speech socket. Raises BadMessage."""
    message = _read(data)
    match message.get("type"):
        case "start":
            rate = message.get("rate", 48_000)
            if isinstance(rate, bool) or not isinstance(rate, int):
                raise BadMessage(f"'rate' must be a whole number of Hz, not {_shown(rate)}")
            flags = {name: _flag(message, name) if name in message else False for name in ("hear", "barge_in")}
            return Start(_text(message, "format"), rate, **flags)
        case "end":
            return End()
        case _:
            return _control(message, ("start", "end", *TYPES))


def _control(message: dict[str, Any], types: Sequence[str]) -> Control:
    match message.get("type"):
        case "ping":
            number = message.get("id")
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**53:
                raise BadMessage(f"'id' must be a whole number from 0 to 2^53 - 1, not {_shown(number)}")
            return Ping(number, _number(message, "t"))
        case "interrupt":
            return Interrupt()
        case "playout":
            difference = _number(message, "difference_ms")
            if not -1000 <= difference <= 5000:
                raise BadMessage(f"'difference_ms' is {difference}: must be between -1000 and 5000")
            return Playout(difference)
        case "mute":
            return Mute(_flag(message, "muted"))
        case "character":
            return SetCharacter(_text(message, "id"), _flag(message, "background") if "background" in message else None)
        case "emotion":
            name, strength = _text(message, "name"), _number(message, "strength") if "strength" in message else 1.0
            if name not in EMOTIONS:
                raise BadMessage(f"emotion {name!r} is not one of {', '.join(EMOTIONS)}")
            if not 0 <= strength <= 1:
                raise BadMessage(f"'strength' is {strength}: must be between 0 and 1")
            return SetEmotion(name, float(strength))
        case "plan":
            try:
                return MotionCommand(message.get("values"), message.get("mode", "add"), message.get("hold", 1.0))  # type: ignore[arg-type]
            except BadPlan as error:
                raise BadMessage(str(error)) from None
        case "attention":
            state = _text(message, "state")
            if state not in ATTENTIONS:
                raise BadMessage(f"attention {state[:60]!r} is not one of {', '.join(ATTENTIONS)}")
            return Attend(state)
        case "gesture":
            name = _text(message, "name")
            if name not in GESTURES:
                raise BadMessage(f"gesture {_shown(name)} is not one of {', '.join(GESTURES)}")
            return Gesture(name)
        case "away":
            away, picture = _flag(message, "away"), _text(message, "picture") if "picture" in message else None
            if picture is not None and not away:
                raise BadMessage("'picture' is only allowed with 'away' true")
            return SetAway(away, picture)
        case other:
            raise BadMessage(f"type {_shown(other)} is not one of {', '.join(types)}")
