"""The server's options, declared once for the command line, the `LIPSTREAM_*` environment and the TOML file.

    command line  overrides  environment  overrides  file  overrides  default

An option is spelled `--max-sessions` on the command line, `LIPSTREAM_MAX_SESSIONS` in the environment, and
`max-sessions` in the file. A list is a repeated option on the command line, a space-separated value in the
environment, and an array in the file.
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
"""Read from the working directory unless another file is given."""

OTHER_VARIABLES = frozenset({"CONFIG", "CHROMIUM", "FIREFOX", "RELAY_URL"})
"""Variables with the prefix that are not server options."""

_SPACED = Annotated[tuple[str, ...], NoDecode]
_DEFAULTS = ServerConfig()


class BadOptions(ValueError):
    """Invalid options; the message names each one, its origin and the reason."""


def _option(default: Any, description: str, metavar: str | None = None) -> Any:
    return Field(default, description=description, json_schema_extra={"metavar": metavar} if metavar else None)


class ServerOptions(BaseSettings):
    """The options of `lipstream serve`. Create it with `read_options`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    file_values: ClassVar[Mapping[str, Any]] = {}
    """The contents of the file; `read_options` sets this in a subclass."""

    host: str = _option(_DEFAULTS.host, "address to bind to; any address except loopback needs a token")
    port: int = _option(_DEFAULTS.port, "TCP port; 0: chosen by the operating system")
    token: SecretStr | None = _option(None, "bearer token that clients must send; prefer LIPSTREAM_TOKEN")
    tls_cert: Path | None = _option(
        None, "certificate chain (PEM); without HTTPS, browsers allow a microphone only on localhost"
    )
    tls_key: Path | None = _option(None, "private key of the certificate (PEM)")
    generator: Literal["auto", "neural", "rig"] = _option(GENERATORS[0], GENERATORS_HELP)
    device: Literal["auto", "cpu", "cuda"] = _option(
        DEVICES[0], "device of the neural generator; auto: cuda if available"
    )
    udp_ports: str | None = _option(None, "range of UDP ports for media, for firewalls and containers", "A-B")
    public_ip: str | None = _option(None, "public address of the media ports, for servers behind NAT")
    allow_origin: _SPACED = _option((), "another origin whose pages may call the API; can be repeated", "ORIGIN")
    ice_server: _SPACED = _option((), "STUN or TURN server for clients; can be repeated", "URL[,USER,CREDENTIAL]")
    turn_url: _SPACED = _option(
        (), "TURN server with expiring credentials for each client (coturn: use-auth-secret); can be repeated",
        "turn:HOST[:PORT][?transport=udp]",
    )  # fmt: skip
    turn_secret: SecretStr | None = _option(None, "static-auth-secret of the TURN server; prefer LIPSTREAM_TURN_SECRET")
    turn_ttl: float = _option(DEFAULT_TTL, "how long TURN credentials are valid", "SECONDS")
    record_dir: Path | None = _option(None, "folder for recordings; without it, recording is disabled", "DIR")
    record: bool = _option(False, "record every session")
    publish: _SPACED = _option(
        (), "publish the first live session: rtmp://, rtmps://, srt://, or a file (.mp4, .mkv, .flv); can be repeated; "
        "prefer LIPSTREAM_PUBLISH if the URL contains a key", "URL",
    )  # fmt: skip
    label: bool = _option(True, 'show a small "AI" label in the picture')
    watermark: bool = _option(True, "embed an invisible watermark in the picture")
    c2pa_cert: Path | None = _option(None, "certificate chain (PEM) for signing finished recordings")
    c2pa_key: Path | None = _option(None, "private key of the certificate (PEM)")
    require_consent: bool = _option(False, "reject pictures unless the user confirms consent (consent=1)")
    max_sessions: int = _option(_DEFAULTS.max_sessions, "maximum number of concurrent sessions")
    max_viewers: int = _option(_DEFAULTS.max_viewers, "maximum number of WHEP viewers per session")
    max_characters: int = _option(_DEFAULTS.max_characters, "maximum number of built and uploaded characters kept")
    max_session_age: float = _option(_DEFAULTS.max_session_age, "maximum duration of a session", "SECONDS")
    connect_timeout: float = _option(_DEFAULTS.connect_timeout, "time limit for a peer to connect", "SECONDS")
    silence_timeout: float = _option(
        _DEFAULTS.silence_timeout, "close a peer after this long without a packet", "SECONDS"
    )
    unattended_timeout: float = _option(
        _DEFAULTS.unattended_timeout,
        "close a peerless session after this long without bot, viewer or recording",
        "SECONDS",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _option(
        "warning", "minimum level of messages logged to standard error"
    )

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
        """Returns the validated configuration. Raises ValueError for an invalid value."""
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
    """Parses `A-B` into two numbers. Raises ValueError."""
    first, dash, last = text.strip().partition("-")
    if not dash or not first.isdecimal() or not last.isdecimal():
        raise ValueError(f"--udp-ports {text!r} is not a range like 50000-50100")
    return int(first), int(last)


def ice_server(text: str) -> dict[str, Any]:
    """Parses `URL[,USERNAME,CREDENTIAL]` into an RTCIceServer object. Raises ValueError."""
    url, *account = text.strip().split(",")
    if url.split(":")[0] not in ("stun", "stuns", "turn", "turns") or len(account) not in (0, 2):
        raise ValueError(f"--ice-server {text!r} is not stun:HOST[:PORT] or turn:HOST[:PORT],USERNAME,CREDENTIAL")
    return {"urls": [url], **dict(zip(("username", "credential"), account, strict=bool(account)))}


def _spelled(name: str) -> str:
    return name.replace("_", "-")


def _flag(name: str, field: FieldInfo) -> str:
    """Command-line spelling of an option. A switch that is on by default exists only in its negated form."""
    return f"--no-{_spelled(name)}" if field.default is True else f"--{_spelled(name)}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds an argument for each option; pass the parsed result to `read_options`."""
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
    """Options and the origin of each."""

    def __init__(self, options: ServerOptions, origins: Mapping[str, str], unknown: Sequence[str]) -> None:
        self.options = options
        self.origins = dict(origins)
        """Option name → "command line", the variable's name or the file's path; no entry: the default."""
        self.unknown = tuple(unknown)
        """Variables with the prefix that match no option."""


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
            raise BadOptions(f"{path}: {key!r} is not a server option; `lipstream serve --help` lists them")
        values[name] = value
    return values


def read_options(arguments: argparse.Namespace) -> Reading:
    """Merges command line, environment and file. Raises BadOptions with one sentence for each invalid option."""
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
    """Formats the options as TOML, with each value's origin as a comment and secrets masked."""
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
