"""What `lipstream serve` checks before it loads anything. Each raises ValueError, one sentence with the reason."""

import errno
import os
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from streamer.base.pem import read_pair


def check_tls(cert: Path, key: Path) -> str | None:
    """A certificate and key that TLS can use. Returns what its operator ought to know, if anything."""
    pair = read_pair(cert, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise ValueError(f"{cert} and {key} cannot be used for TLS: {why}") from None
    own, now = pair.certificates[0], datetime.now(UTC)
    if own.not_valid_after_utc < now:
        return f"{cert} expired on {own.not_valid_after_utc:%Y-%m-%d}: browsers will refuse it"
    if own.not_valid_before_utc > now:
        return f"{cert} is valid only from {own.not_valid_before_utc:%Y-%m-%d} on: browsers will refuse it"
    return None


def _no_password() -> bytes:
    raise ValueError("the key is locked with a password")  # else OpenSSL asks the terminal


def check_address(host: str, port: int) -> None:
    """Whether a server can listen there: binds to it for a moment."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"--host {host}: there is no such address ({why})") from None
    for family, kind, protocol, _, address in found:
        try:
            probe = socket.socket(family, kind, protocol)
        except OSError:  # the system lacks IPv6, say, and so does what listens
            continue
        with probe:
            if os.name == "posix":  # as asyncio does: a port that a closed server just left is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise ValueError(_cannot_listen(host, port, error)) from None


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is in use by another program: end that, or choose another with --port"
        case errno.EADDRNOTAVAIL:
            return f"--host {host} is not an address of this machine"
        case errno.EACCES | errno.EPERM:
            return f"port {port} of {host} is not allowed to this user ({error.strerror}): ports from 1024 on are"
    return f"cannot listen on {host}, port {port}: {error.strerror or error}"
