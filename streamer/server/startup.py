"""Checks that `lipstream serve` runs before it loads anything. Each raises ValueError with a one-sentence reason."""

import contextlib
import errno
import logging
import os
import socket
import ssl
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from streamer.base.pem import read_pair
from streamer.outputs.publisher import parse_target, relay_command
from streamer.rtc.aiortc_internals import local_addresses
from streamer.server.config import ServerConfig

log = logging.getLogger(__name__)


def check_onnxruntime() -> None:
    """Raises RuntimeError if both onnxruntime and onnxruntime-gpu are installed, which overwrite each other's files."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    if len(found) > 1:
        raise RuntimeError(
            f"{' and '.join(found)} are both installed and overwrite each other's files. "
            "Uninstall both, then install the one that you want."
        )


def check_machine(config: ServerConfig) -> str | None:
    """
    Checks that this machine provides everything that `config` needs. Raises ValueError with one sentence. Returns a
    warning for the operator, if any.
    """
    warning = None
    if config.tls_cert is not None and config.tls_key is not None:
        warning = check_tls(config.tls_cert, config.tls_key)
    check_outlets(config)
    if config.c2pa_cert is not None and config.c2pa_key is not None:
        from streamer.provenance import content_credentials

        content_credentials.load(config.c2pa_cert, config.c2pa_key)  # fail now, not when a recording ends
    check_address(config.host, config.port)
    if config.udp_ports is not None:
        check_udp_ports(config.udp_ports, local_addresses(config.loopback), config.max_sessions)
    return warning


def check_outlets(config: ServerConfig) -> None:
    """Raises ValueError if a recording folder or publishing target is unusable."""
    if config.record_dir is not None:
        _check_folder(config.record_dir)
    for text in config.publish:
        target = parse_target(text)
        if target.file:
            _check_file(Path(target.url))
        else:
            relay_command(target)


def _check_file(path: Path) -> None:
    try:
        folder = path.resolve().parent
        if not folder.is_dir():
            raise ValueError(f"--publish {path}: its folder does not exist")
        if path.is_dir():
            raise ValueError(f"--publish {path}: it is a folder, not a file")
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # raises for an invalid file name
    except OSError as error:
        raise ValueError(f"--publish {str(path)[:200]}: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--publish {path}: its folder cannot be written to")


def _check_folder(folder: Path) -> None:
    """Creates the recording folder if missing, and verifies that it is writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"--record-dir {folder}: it is a file, not a folder") from None
    except OSError as error:
        raise ValueError(f"--record-dir {folder}: {error.strerror}") from None
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--record-dir {folder}: it cannot be written to: {error.strerror}") from None


def check_tls(cert: Path, key: Path) -> str | None:
    """Raises ValueError if TLS cannot use the certificate and key. Returns a warning for the operator, if any."""
    pair = read_pair(cert, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise ValueError(f"{cert} and {key} cannot be used for TLS: {why}") from None
    own, now = pair.certificates[0], datetime.now(UTC)
    if own.not_valid_after_utc < now:
        return f"{cert} expired on {own.not_valid_after_utc:%Y-%m-%d}: browsers will reject it"
    if own.not_valid_before_utc > now:
        return f"{cert} is not valid before {own.not_valid_before_utc:%Y-%m-%d}: browsers will reject it"
    return None


def _no_password() -> bytes:
    raise ValueError("the key is protected by a password")  # otherwise OpenSSL prompts on the terminal


def check_address(host: str, port: int) -> None:
    """Raises ValueError if a server cannot listen there; binds to the address for a moment."""
    try:
        bind_for_a_moment(host, port)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"--host {host}: the address cannot be resolved ({why})") from None
    except OSError as error:
        raise ValueError(_cannot_listen(host, port, error)) from None


def bind_for_a_moment(host: str, port: int) -> None:
    """
    Binds to all TCP addresses of `host`, as a server would, and lets go of them. Raises OSError where that fails,
    gaierror or UnicodeError where the name cannot be resolved.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found:
        try:
            probe = socket.socket(family, kind, protocol)
        except OSError:  # for example, no IPv6: the server will not listen on it either
            continue
        with probe:
            if os.name == "posix":  # as asyncio does: reuse the port of a server that has just stopped
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is in use by another program: stop it, or choose another port with --port"
        case errno.EADDRNOTAVAIL:
            return f"--host {host} is not an address of this machine"
        case errno.EACCES | errno.EPERM:
            return f"port {port} of {host} is not permitted for this user ({error.strerror}): use a port from 1024 on"
    return f"cannot listen on {host}, port {port}: {error.strerror or error}"


def check_udp_ports(ports: tuple[int, int], addresses: list[str], wanted: int) -> None:
    """
    Raises ValueError if no port of the range is free on any of this host's addresses. Logs a warning if fewer are free
    than `wanted`, the number of sessions: each peer needs one port.
    """
    first, last = ports
    free, reason = 0, ""
    for port in range(first, last + 1):
        bound = False
        for address in addresses:
            try:
                with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind((address, port))
                    bound = True
            except OSError as error:
                reason = error.strerror or str(error)
        free += bound
        if free >= wanted:
            return
    if not free and addresses:
        raise ValueError(f"--udp-ports {first}-{last}: none of the {last - first + 1} ports is free: {reason}")
    log.warning(
        "--udp-ports %d-%d: %d of %d ports are free, too few for %d sessions: each peer needs one",
        first, last, free, last - first + 1, wanted,
    )  # fmt: skip
