"""Origins of web pages (RFC 6454), normalized before comparison: default port, letter case and address notation.

Pure functions.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass

DEFAULT_PORTS = {"http": 80, "https": 443}

_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a page. The host is in lower case and without brackets or a trailing dot."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """The form that browsers send: without the scheme's default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}")


def parse_origin(text: str) -> Origin | None:
    """Parses `scheme://host[:port]`, http or https; None for anything else (`null`, a path, an invalid port)."""
    scheme, separator, authority = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        return None
    parsed = parse_authority(authority)
    if parsed is None:
        return None
    host, port = parsed
    return Origin(scheme, host, DEFAULT_PORTS[scheme] if port is None else port)


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """Host and port (None: not given) of a Host header; None if it is invalid."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port <= 65535:
        return None
    host = _normal_host(match["host"])
    return None if host is None else (host, port)


def _normal_host(host: str) -> str | None:
    if host.startswith("["):
        try:
            return ipaddress.IPv6Address(host[1:-1]).compressed
        except ValueError:
            return None
    host = host.lower().removesuffix(".")  # `name.` is the same name, fully qualified
    return host if _NAME.fullmatch(host) else None


def same_host(origin: Origin, host: str) -> bool:
    """Whether a request with the Host header `host` went to the server that served the pages of `origin`.

    A Host header without a port means the scheme's default port. The scheme comes from the origin, because a server
    behind a TLS-terminating proxy does not see it.
    """
    parsed = parse_authority(host)
    if parsed is None:
        return False
    name, port = parsed
    return (name, port or DEFAULT_PORTS[origin.scheme]) == (origin.host, origin.port)


def is_allowed(text: str, host: str, listed: Collection[str] = ()) -> bool:
    """Whether a page with the Origin header `text` may use the server that it addressed as `host`.

    `listed`: further origins that may.
    """
    origin = parse_origin(text)
    return origin is not None and (same_host(origin, host) or is_listed(text, listed))


def is_listed(text: str, listed: Collection[str]) -> bool:
    """Whether an Origin header names one of the `listed` origins."""
    origin = parse_origin(text)
    return origin is not None and any(origin == parse_origin(each) for each in listed)
