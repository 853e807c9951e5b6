"""The server's validated configuration."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamer.base.constants import DEVICES, GENERATORS, MAX_SESSIONS
from streamer.server.checks import (
    clean_host,
    clean_ice_server,
    clean_origin,
    clean_public_ip,
    clean_publish,
    clean_token,
)
from streamer.server.turn import TurnConfig
from streamer.session.limits import SessionLimits

SOCKETS: dict[str, Any] = {
    "ws": "websockets-sansio",
    "ws_max_size": 2**20,
    "ws_per_message_deflate": False,  # speech does not compress
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": None,  # under back-pressure a pong waits in TCP behind the speech, so a late one proves nothing
}
"""uvicorn's WebSocket settings."""


def is_loopback(host: str) -> bool:
    """Whether binding to `host` keeps the server on this machine."""
    host = host.lower().removesuffix(".")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ServerConfig(SessionLimits):
    """The configuration of `lipstream serve`. Raises ValueError, with the number, for an invalid value."""

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    generator: str = GENERATORS[0]
    """How characters are drawn: one of GENERATORS."""
    device: str = DEVICES[0]
    """Where the neural generator draws: one of DEVICES."""
    udp_ports: tuple[int, int] | None = None
    """First and last UDP port for media; None: chosen by the operating system."""
    public_ip: str | None = None
    """Address at which remote peers reach this host's media ports (Docker, NAT)."""
    allow_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API, in addition to the server's own."""
    ice_servers: tuple[dict, ...] = ()
    """STUN and TURN servers sent to clients, as RTCIceServer objects."""
    turn: TurnConfig | None = None
    """TURN servers for which each client gets its own expiring credentials."""
    record_dir: Path | None = None
    """Folder for recordings; None: recording is disabled."""
    record: bool = False
    """Whether to record every session."""
    publish: tuple[str, ...] = ()
    """Where to publish the first live session: RTMP and SRT URLs, files."""
    c2pa_cert: Path | None = None
    """Certificate chain (PEM) for signing finished recordings; None: they are not signed."""
    c2pa_key: Path | None = None
    """The certificate's private key (PEM)."""
    max_sessions: int = MAX_SESSIONS
    require_consent: bool = False
    """Whether to reject pictures unless the user confirms consent."""
    max_picture_bytes: int = 10 * 2**20
    """Per picture; a form may contain eight."""
    max_clip_bytes: int = 64 * 2**20
    max_characters: int = 256
    """Built and uploaded characters kept; overflow policy: evict the least recently used one not shown in a session."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._normalize(
            host=clean_host(self.host),
            token=None if self.token is None else clean_token(self.token),
            allow_origins=tuple(dict.fromkeys(map(clean_origin, self.allow_origins))),
            public_ip=None if self.public_ip is None else clean_public_ip(self.public_ip),
            ice_servers=tuple(map(clean_ice_server, self.ice_servers)),
            publish=tuple(map(clean_publish, self.publish)),
        )
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not between 0 and 65535")
        if not is_loopback(self.host) and not self.token:
            raise ValueError(
                f"refusing to serve on {self.host} without a token: anyone who reaches it could use this machine. "
                "Give --token, or set LIPSTREAM_TOKEN."
            )
        if self.generator not in GENERATORS:
            raise ValueError(f"generator {self.generator!r} is not one of {', '.join(GENERATORS)}")
        if self.device not in DEVICES:
            raise ValueError(f"device {self.device!r} is not one of {', '.join(DEVICES)}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together: only one of the two was given")
        if (self.c2pa_cert is None) != (self.c2pa_key is None):
            raise ValueError("--c2pa-cert and --c2pa-key go together: only one of the two was given")
        if self.udp_ports is not None:
            first, last = self.udp_ports
            if not 1024 <= first <= last <= 65535:
                raise ValueError(f"UDP ports {first}-{last}: must satisfy 1024 <= first <= last <= 65535")
        if self.record and self.record_dir is None:
            raise ValueError("--record needs --record-dir, the folder for the recordings")
        if self.max_sessions <= 0:
            raise ValueError(f"max_sessions is {self.max_sessions}: must be positive")

    def _normalize(self, **values: object) -> None:
        """Replaces fields with their normalized values."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    def ice_servers_for(self, name: str, now: float) -> list[dict]:
        """The ICE servers for one client at `now` (s, Unix time); the TURN server logs the client as `name`."""
        return [*self.ice_servers, *([self.turn.ice_server(name, now)] if self.turn else [])]

    @property
    def url(self) -> str:
        scheme = "https" if self.tls_cert else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"
