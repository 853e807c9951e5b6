"""The server's options, declared once: command line, `LIPSTREAM_*` environment and TOML file are read from it.

    command line  overrides  environment  overrides  file  overrides  default

An option is spelled `--max-sessions` on the command line, `LIPSTREAM_MAX_SESSIONS` in the environment, and
`max-sessions` in the file. Lists are repeated on the command line, separated by spaces in the environment, and arrays
in the file.
"""

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from streamer.base.constants import DEVICES, GENERATORS, GENERATORS_HELP
from streamer.outputs.publisher import parse_target
from streamer.server.config import ServerConfig
from streamer.server.turn import DEFAULT_TTL, TurnConfig

PREFIX = "LIPSTREAM_"
DEFAULT_FILE = Path("lipstream.toml")
"""Read from the working directory where no other file is named."""

OTHER_VARIABLES = frozenset({"CONFIG", "CHROMIUM", "FIREFOX", "RELAY_URL"})
"""Variables of that prefix that are no options of the server."""

_SPACED = Annotated[tuple[str, ...], NoDecode]
_DEFAULTS = ServerConfig()


class BadOptions(ValueError):
    """Options that cannot be used; the text names each, where it came from, and why."""


def _option(default: Any, description: str, metavar: str | None = None) -> Any:
    return Field(default, description=description, json_schema_extra={"metavar": metavar} if metavar else None)


class ServerOptions(BaseSettings):
    """What can be chosen for `lipstream serve`. Build it with `read_options`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    file_values: ClassVar[Mapping[str, Any]] = {}
    """What the file holds; `read_options` sets it in a subclass of its own."""

    host: str = _option(_DEFAULTS.host, "address to bind; anything but loopback needs a token")
    port: int = _option(_DEFAULTS.port, "TCP port; 0: the system chooses one")
    token: SecretStr | None = _option(None, "bearer token that clients must send; better set LIPSTREAM_TOKEN")
    tls_cert: Path | None = _option(None, "certificate chain (PEM): browsers give a microphone to HTTPS pages only")
    tls_key: Path | None = _option(None, "its private key (PEM)")
    generator: Literal["auto", "neural", "rig"] = _option(GENERATORS[0], GENERATORS_HELP)
    device: Literal["auto", "cpu", "cuda"] = _option(
        DEVICES[0], "where the neural generator draws; auto: cuda if it works"
    )
    udp_ports: str | None = _option(None, "UDP ports for media, for firewalls and containers", "A-B")
    public_ip: str | None = _option(None, "address under which clients reach those ports, behind NAT")
    allow_origin: _SPACED = _option((), "origin of a page that may call the API; can be repeated", "ORIGIN")
    ice_server: _SPACED = _option((), "STUN or TURN server given to clients; can be repeated", "URL[,USER,CREDENTIAL]")
    turn_url: _SPACED = _option(
        (), "TURN server for which clients get expiring credentials (coturn: use-auth-secret); can be repeated",
        "turn:HOST[:PORT][?transport=udp]",
    )  # fmt: skip
    turn_secret: SecretStr | None = _option(None, "its static-auth-secret; better set LIPSTREAM_TURN_SECRET")
    turn_ttl: float = _option(DEFAULT_TTL, "how long those credentials are valid", "SECONDS")
    record_dir: Path | None = _option(None, "folder that sessions may be recorded to", "DIR")
    record: bool = _option(False, "record every session")
    publish: _SPACED = _option(
        (), "publish the first live session: rtmp://, rtmps://, srt://, or a file (.mp4, .mkv, .flv); can be repeated; "
        "better set LIPSTREAM_PUBLISH if the URL contains a key", "URL",
    )  # fmt: skip
    label: bool = _option(True, 'show a small "AI" label in the picture')
    watermark: bool = _option(True, "put an invisible watermark into the picture")
    c2pa_cert: Path | None = _option(None, "certificate chain (PEM) that signs finished recordings")
    c2pa_key: Path | None = _option(None, "its private key (PEM)")
    require_consent: bool = _option(False, "refuse pictures unless their user says that they may be used (consent=1)")
    max_sessions: int = _option(_DEFAULTS.max_sessions, "sessions at once")
    max_viewers: int = _option(_DEFAULTS.max_viewers, "WHEP viewers of one session")
    max_characters: int = _option(_DEFAULTS.max_characters, "built and uploaded characters kept in memory")
    max_session_age: float = _option(_DEFAULTS.max_session_age, "after which a session is closed", "SECONDS")
    connect_timeout: float = _option(_DEFAULTS.connect_timeout, "for a peer to connect", "SECONDS")
    silence_timeout: float = _option(_DEFAULTS.silence_timeout, "without a packet until a peer is gone", "SECONDS")
    unattended_timeout: float = _option(
        _DEFAULTS.unattended_timeout, "until a session ends that nobody speaks to, views or records", "SECONDS"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _option("warning", "what is logged to standard error")

    @field_validator("allow_origin", "ice_server", "turn_url", "publish", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(value.split()) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line before environment before file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, dict(cls.file_values))

    def config(self) -> ServerConfig:
        """The checked configuration. Raises ValueError for what cannot work."""
        turn = None
        secret = self.turn_secret.get_secret_value() if self.turn_secret else ""
        if self.turn_url or secret:
            turn = TurnConfig(self.turn_url, secret, self.turn_ttl)
        same = {
            name: getattr(self, name) for name in type(self).model_fields if name in ServerConfig.__dataclass_fields__
        }
        return ServerConfig(
            **same
            | {
                "token": self.token.get_secret_value() if self.token else None,
                "udp_ports": None if self.udp_ports is None else port_range(self.udp_ports),
                "allow_origins": self.allow_origin,
                "ice_servers": tuple(ice_server(text) for text in self.ice_server),
                "turn": turn,
            }
        )


def port_range(text: str) -> tuple[int, int]:
    """`A-B` as two numbers. Raises ValueError."""
    first, dash, last = text.strip().partition("-")
    if not dash or not first.isdecimal() or not last.isdecimal():
        raise ValueError(f"--udp-ports {text!r} is not a range like 50000-50100")
    return int(first), int(last)


def ice_server(text: str) -> dict[str, Any]:
    """`URL[,USERNAME,CREDENTIAL]` in the shape of RTCIceServer. Raises ValueError."""
    url, *account = text.strip().split(",")
    if url.split(":")[0] not in ("stun", "stuns", "turn", "turns") or len(account) not in (0, 2):
        raise ValueError(f"--ice-server {text!r} is not stun:HOST[:PORT] or turn:HOST[:PORT],USERNAME,CREDENTIAL")
    return {"urls": [url], **dict(zip(("username", "credential"), account, strict=bool(account)))}


def _spelled(name: str) -> str:
    return name.replace("_", "-")


def _flag(name: str, field: FieldInfo) -> str:
    """How an option is written on the command line: a switch that is on by default has only its negation."""
    return f"--no-{_spelled(name)}" if field.default is True else f"--{_spelled(name)}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds an argument for each option; `read_options` takes what was given."""
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"TOML file with options (default: {DEFAULT_FILE})")
    for name, field in ServerOptions.model_fields.items():
        extra = field.json_schema_extra
        kind: dict[str, Any] = {"metavar": extra.get("metavar") if isinstance(extra, dict) else None}
        if field.annotation is bool:
            kind = {"action": "store_false" if field.default is True else "store_true"}
        elif get_origin(field.annotation) is Literal:
            kind["choices"] = get_args(field.annotation)
        elif field.default == ():
            kind["action"] = "append"
        text = (field.description or "").replace("%(default)s", str(field.default)).replace("%", "%%")
        if field.default is True:
            text = f"do not {text}"
        elif field.default not in (None, False, ()) and "default:" not in text:
            text = f"{text} (default: {field.default})"
        parser.add_argument(_flag(name, field), dest=name, default=argparse.SUPPRESS, help=text, **kind)


class Reading:
    """Options with where each came from."""

    def __init__(self, options: ServerOptions, origins: Mapping[str, str], unknown: Sequence[str]) -> None:
        self.options = options
        self.origins = dict(origins)
        """Option name to "command line", the variable's name, or the file's path; without an entry: the default."""
        self.unknown = tuple(unknown)
        """Variables with the prefix that name no option."""


def _from_file(path: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadOptions(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise BadOptions(f"{path} is not valid TOML: {error}") from None
    values = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name not in ServerOptions.model_fields:
            raise BadOptions(f"{path}: {key!r} is no option of the server; `lipstream serve --help` lists them")
        values[name] = value
    return values


def read_options(arguments: argparse.Namespace) -> Reading:
    """Joins command line, environment and file. Raises BadOptions with one sentence for each wrong option."""
    given = {name: value for name, value in vars(arguments).items() if name in ServerOptions.model_fields}
    named = getattr(arguments, "config", None) or os.environ.get(f"{PREFIX}CONFIG")
    path = Path(named) if named else DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    values = {} if path is None else _from_file(path)

    class Here(ServerOptions):
        file_values = values

    environment = EnvSettingsSource(ServerOptions)()
    origins = {
        **dict.fromkeys(values, str(path)),
        **{name: f"{PREFIX}{name.upper()}" for name in environment},
        **dict.fromkeys(given, "command line"),
    }
    known = {name.upper() for name in ServerOptions.model_fields} | OTHER_VARIABLES
    unknown = [each for each in os.environ if each.startswith(PREFIX) and each.removeprefix(PREFIX) not in known]
    try:
        options = Here(**given)
    except ValidationError as error:
        raise BadOptions("; ".join(_sentence(dict(each), origins) for each in error.errors())) from None
    return Reading(options, origins, sorted(unknown))


def _sentence(error: dict[str, Any], origins: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    origin = origins.get(name, "default")
    spelled = origin if origin.startswith(PREFIX) else _flag(name, ServerOptions.model_fields[name])
    where = f" in {origin}" if origin not in ("command line", spelled) else ""
    secret = "token" in name or "secret" in name
    value = "" if secret else f" {str(error['input'])[:60]!r}"
    return f"{spelled}{value}{where}: {error['msg'][0].lower()}{error['msg'][1:]}"


def shown(reading: Reading) -> str:
    """The options as a TOML file with each value's origin as a comment, secrets hidden."""
    lines = []
    for name in ServerOptions.model_fields:
        value = getattr(reading.options, name)
        origin = reading.origins.get(name, "default")
        if isinstance(value, SecretStr):
            value = "********"
        if name == "publish":
            value = tuple(parse_target(each).shown for each in value)
        if name == "ice_server":
            value = tuple(",".join([*each.split(",")[:2], "********"]) if "," in each else each for each in value)
        if value is None:
            lines.append(f"# {_spelled(name)} is not set")
        else:
            lines.append(f"{_spelled(name)} = {_toml(value)}  # {origin}")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
