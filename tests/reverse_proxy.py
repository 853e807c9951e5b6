"""A real reverse proxy, nginx, before a server, configured as docs/operators.md tells operators to."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PATH = "/avatar"
GUIDE = Path(__file__).parent.parent / "docs" / "operators.md"

_CONFIGURATION = """
daemon off;
{user}
pid {folder}/pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    types {{ text/html html; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {location}
        location / {{ return 418; }}
    }}
}}
"""


def required(config: pytest.Config) -> None:
    """Skips where there is no nginx, unless --require-browser is given."""
    if NGINX is None:
        reason = "no nginx on this machine (Debian: apt-get install nginx-light)"
        (pytest.fail if config.getoption("--require-browser") else pytest.skip)(reason)


def documented(upstream: str) -> str:
    """The `location` block of the guide, for a server at `upstream` (http://HOST:PORT)."""
    block = re.search(r"^```nginx\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert block, f"{GUIDE.name} shows no nginx configuration"
    assert f"location {PATH}/ {{" in block[1]
    assert "http://127.0.0.1:8080/;" in block[1]
    return block[1].replace("http://127.0.0.1:8080/;", f"{upstream}/;")


@contextlib.contextmanager
def proxied(upstream: str, folder: Path) -> Iterator[str]:
    """Runs nginx; gives the address that the server has behind it. All outside of its path is answered with 418."""
    assert NGINX
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = "user root;" if os.getuid() == 0 else ""  # its workers are to reach the folder
    file = folder / "nginx.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, port=port, location=documented(upstream), user=user))
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(file), "-e", str(folder / "error.log")])
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start:\n{(folder / 'error.log').read_text()}")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}{PATH}"
    finally:
        process.terminate()
        process.wait(10)
