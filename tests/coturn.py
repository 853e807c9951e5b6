"""A coturn of one's own on this machine's loopback, for tests that force media through a relay."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

TURNSERVER = shutil.which("turnserver")


def _answers(address: tuple[str, int]) -> bool:
    """Whether a STUN server answers a binding request there within a tenth of a second."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        probe.connect(address)
        probe.send(bytes.fromhex("000100002112a442") + bytes(12))
        with contextlib.suppress(OSError):
            return probe.recv(1500)[:2] == b"\x01\x01"
    return False


@contextlib.contextmanager
def relay(secret: str, folder: Path) -> Iterator[str]:
    """Runs one; gives its `turn:` URL. It takes credentials made with `secret`, and relays to loopback alone."""
    assert TURNSERVER
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "coturn.log"
    options = {
        "listening-ip": "127.0.0.1",
        "relay-ip": "127.0.0.1",
        "listening-port": port,
        "use-auth-secret": None,
        "static-auth-secret": secret,
        "realm": "lipstream.test",
        "allow-loopback-peers": None,
        "no-tls": None,
        "no-dtls": None,
        "no-tcp": None,
        "no-cli": None,
        "userdb": folder / "users.db",
        "pidfile": folder / "pid",
        "log-file": "stdout",
    }
    arguments = [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()]
    with log.open("wb") as out:
        process = subprocess.Popen([TURNSERVER, "-n", *arguments], stdout=out, stderr=subprocess.STDOUT, cwd=folder)
    try:
        deadline = time.monotonic() + 20
        while not _answers(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"coturn did not start:\n{log.read_text()}")
        yield f"turn:127.0.0.1:{port}?transport=udp"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
