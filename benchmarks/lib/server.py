"""The measured server: the real command in a process of its own."""

import contextlib
import json
import mimetypes
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from benchmarks.lib.errors import NothingToMeasure, ServerFailed
from benchmarks.lib.paths import ROOT

_START_S = 300.0  # the first start on a machine measures what can draw there


@dataclass
class ServerProcess:
    url: str
    process: psutil.Process

    def threads(self) -> int:
        return self.process.num_threads()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def open_server(command: str | None = None, generator: str | None = None) -> Iterator[ServerProcess]:
    """`lipstream serve` on a free port, ready. `command`: what to run instead of `lipstream`.

    Raises ServerFailed where it does not start, or ends while it is measured.
    """
    port = free_port()
    start = shlex.split(command) if command else [sys.executable, "-m", "streamer"]
    options = ["--generator", generator] if generator else []
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*start, "serve", "--port", str(port), *options], stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, log)
            try:
                yield ServerProcess(url, psutil.Process(process.pid))
            except Exception:
                if process.poll() is not None:
                    raise ServerFailed(_last_words(process, log)) from None
                raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while not _ready(url):
        if process.poll() is not None:
            raise ServerFailed(_last_words(process, log))
        if time.monotonic() > deadline:
            raise ServerFailed(f"the server was not ready within {_START_S:g} s")
        time.sleep(0.1)


def _last_words(process: subprocess.Popen, log: IO[bytes]) -> str:
    log.seek(0)
    said = log.read().decode(errors="replace").strip().splitlines()
    return f"the server ended with status {process.returncode}: {said[-1][:500] if said else 'it said nothing'}"


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def upload(url: str, picture: Path) -> str:
    """The id of the character that a server makes of a picture. Raises NothingToMeasure where it refuses."""
    kind = mimetypes.guess_type(picture.name)[0] or "image/png"
    asked = urllib.request.Request(
        f"{url}/v1/characters?consent=1", picture.read_bytes(), {"Content-Type": kind}, method="POST"
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return str(json.load(answer)["id"])
    except urllib.error.HTTPError as refused:
        raise NothingToMeasure(f"{picture}: {json.load(refused)['detail']}") from None
