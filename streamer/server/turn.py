"""Expiring credentials for a TURN server, compatible with coturn's `use-auth-secret`."""

import base64
import hmac
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from streamer.server.checks import check_ice_url, clean_secret

DEFAULT_TTL = 3600.0
MAX_TTL = 7 * 24 * 3600.0

_NAME = re.compile(r"[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class TurnConfig:
    """TURN servers that share a secret with this server. Raises ValueError for invalid values."""

    urls: tuple[str, ...]
    """RFC 7065: `turn:HOST[:PORT][?transport=udp|tcp]`, or `turns:`."""
    secret: str
    """coturn's `static-auth-secret`."""
    ttl: float
    """Validity of credentials in seconds. coturn checks them only when it allocates a relay: existing ones continue."""

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("there is a TURN secret but no TURN server: add --turn-url")
        object.__setattr__(self, "urls", tuple(check_ice_url(url, ("turn", "turns")) for url in self.urls))
        if not self.secret:
            raise ValueError("--turn-url needs the TURN server's secret: --turn-secret or LIPSTREAM_TURN_SECRET")
        object.__setattr__(self, "secret", clean_secret(self.secret, "--turn-secret"))
        if not 1 <= self.ttl <= MAX_TTL:
            raise ValueError(f"TURN credentials valid for {self.ttl:g} s: must be 1 to {MAX_TTL:.0f} s")

    def credentials(self, name: str, now: float) -> tuple[str, str]:
        """User name and password, valid from `now` (s, Unix time) for `ttl` s; the TURN server logs `name`.

        They are `expiry:name` and base64(HMAC-SHA1(secret, user name)).
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"name {name!r}: must consist of letters, digits, '.', '_' or '-'")
        username = f"{math.ceil(now + self.ttl)}:{name}"
        digest = hmac.digest(self.secret.encode(), username.encode(), "sha1")
        return username, base64.b64encode(digest).decode()

    def ice_server(self, name: str, now: float) -> dict[str, Any]:
        """The credentials as an RTCIceServer object."""
        username, credential = self.credentials(name, now)
        return {"urls": list(self.urls), "username": username, "credential": credential}


def ice_links(servers: Iterable[Mapping[str, Any]]) -> str:
    """Formats RTCIceServer objects as one value of a Link header (RFC 9725 section 4.6)."""
    links = []
    for server in servers:
        urls = server["urls"] if isinstance(server["urls"], list) else [server["urls"]]
        for url in urls:
            link = f'<{url}>; rel="ice-server"'
            if "username" in server:
                username, credential = (_quoted(server[name]) for name in ("username", "credential"))
                link += f"; username={username}; credential={credential}"
                link += '; credential-type="password"'
            links.append(link)
    return ", ".join(links)


def _quoted(text: str) -> str:
    """Formats a quoted-string (RFC 9110 section 5.6.4)."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
