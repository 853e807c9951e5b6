"""What a server's options need of this machine, checked before anything is loaded: one sentence for what is missing."""

import contextlib
import logging
import os
import socket
import ssl
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from streamer.base.pem import load_key_pair
from streamer.outputs.publisher import parse_target, relay_command
from streamer.rtc.aiortc_internals import local_addresses
from streamer.server.config import ServerConfig

log = logging.getLogger(__name__)


def check_onnxruntime() -> None:
    """Raises RuntimeError where onnxruntime and onnxruntime-gpu are both installed: they share their files."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    if len(found) > 1:
        raise RuntimeError(
            f"{' and '.join(found)} are both installed and share one module, so that neither is whole. "
            "Uninstall both, then install the one that you want."
        )


def check_machine(config: ServerConfig) -> None:
    """Checks all that `config` needs of this machine. Raises ValueError with one sentence."""
    check_outlets(config)
    if config.tls_cert is not None and config.tls_key is not None:
        check_tls(config.tls_cert, config.tls_key)
    if config.c2pa_cert is not None and config.c2pa_key is not None:
        from streamer.provenance import content_credentials

        content_credentials.load(config.c2pa_cert, config.c2pa_key)  # now, rather than when a recording ends
    check_port(config.host, config.port)
    if config.udp_ports is not None:
        check_udp_ports(config.udp_ports, local_addresses(config.loopback), config.max_sessions)


def check_outlets(config: ServerConfig) -> None:
    """Raises ValueError for a place to record to, or to publish to, that cannot be used."""
    if config.record_dir is not None:
        _check_folder(config.record_dir)
    for text in config.publish:
        target = parse_target(text)
        if not target.file:
            relay_command(target)
            continue
        path = Path(target.url).resolve()
        if not path.parent.is_dir():
            raise ValueError(f"--publish {target.url}: its folder does not exist")
        if path.is_dir():
            raise ValueError(f"--publish {target.url}: it is a folder, not a file")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ValueError(f"--publish {target.url}: its folder cannot be written to")


def _check_folder(folder: Path) -> None:
    """Makes the folder for recordings where it is missing, and a file in it to see that this works."""
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


def check_tls(cert: Path, key: Path) -> None:
    """Raises ValueError for files that TLS cannot be served with."""
    load_key_pair(cert, key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ValueError(f"TLS cannot be served with {cert} and {key}: {reason}") from None


def check_port(host: str, port: int) -> None:
    """Raises ValueError where `port` cannot be listened on; 0, which the system chooses, only needs the address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ValueError(f"--host {host}: {error.strerror or error}") from None
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":  # as asyncio listens: a port is free although closed connections linger there
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise ValueError(f"cannot listen on {host}, port {port}: {error.strerror}") from None


def check_udp_ports(ports: tuple[int, int], addresses: list[str], wanted: int) -> None:
    """
    Raises ValueError where no port of the range is free on any of this host's addresses, and warns where fewer are
    than `wanted` sessions need: each peer takes one.
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
        "--udp-ports %d-%d: %d of %d ports are free, too few for %d sessions: each peer takes one",
        first, last, free, last - first + 1, wanted,
    )  # fmt: skip
