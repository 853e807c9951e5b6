"""Programs in a network namespace of their own, with a fresh home: what they look up, whom they call, what they keep.

In the namespace there is loopback alone, so that nothing gets through; what was tried is read from strace's log.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Runs what follows once loopback is up, which a new namespace's is not (SIOCSIFFLAGS with IFF_UP | IFF_RUNNING).
_BEGIN = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sH14x", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""
_ISOLATED = ("unshare", "-rn", sys.executable, "-c", _BEGIN)
_STRACE = (
    "strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-e", "signal=none", "-o",
)  # fmt: skip
_ADDRESS = re.compile(r'sin_addr=inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")


@dataclass(frozen=True)
class Trace:
    """What a program did."""

    status: int
    output: str
    calls: list[str]
    """System calls that would have left this machine, or asked a name server."""
    files: list[str]
    """Files in its home, relative to it."""


def required(config: pytest.Config) -> None:
    """
    Skips where a program is missing, unless --require-browser is given, and where the system allows no namespace of
    one's own or no tracing, as some containers do.
    """
    if not sys.platform.startswith("linux") or not shutil.which("strace") or not shutil.which("unshare"):
        reason = "needs Linux, unshare and strace (Debian: apt-get install util-linux strace)"
        (pytest.fail if config.getoption("--require-browser", False) else pytest.skip)(reason)
    probe = subprocess.run([*_ISOLATED, *_STRACE, os.devnull, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no network namespace with a traced process is allowed here: {probe.stderr.strip()[-200:]}")


def leaves(line: str) -> bool:
    """Whether a line of strace's log is a call to another machine or to a name server, be it on this one."""
    address, port = _ADDRESS.search(line), _PORT.search(line)
    if address is None:
        return False
    host = address[1] or address[2]
    return not (host.startswith(("127.", "::ffff:127.")) or host == "::1") or (port is not None and port[1] == "53")


def trace(arguments: Sequence[str], folder: Path, timeout: float, **variables: str) -> Trace:
    """
    Runs `python ARGUMENTS` with a fresh home in `folder`, and nothing in its environment that switches reports off
    except `variables`.
    """
    home, log = folder / "home", folder / "strace.log"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")]),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    command = [*_ISOLATED, *_STRACE, str(log), sys.executable, *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        timeout=timeout,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    calls = [line for line in log.read_text(errors="replace").splitlines() if leaves(line)]
    files = sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())
    return Trace(done.returncode, done.stdout, calls, files)
