"""What tests of pages share: somebody else's web site, and waiting for what is to come true in a page."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

SLOW = 20_000  # ms: a busy machine may take long, a broken page takes for ever
STREAM = "document.querySelector('lip-stream')"


class Site(ThreadingHTTPServer):
    """A page, and the scripts of a folder if one is set, under two names, which are two origins. (Chromium does not let
    a page that Playwright makes up reach a server on this machine.)"""

    html = ""
    scripts: Path | None = None

    @property
    def allowed(self) -> str:
        return f"http://localhost:{self.server_port}"

    @property
    def unknown(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Visit(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        script = self.server.scripts and self.server.scripts / Path(self.path).name
        status, kind, body = 404, "text/html", b""
        if self.path == "/":
            status, body = 200, self.server.html.encode()
        elif script and script.is_file():
            status, kind, body = 200, "text/javascript", script.read_bytes()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve() -> Iterator[Site]:
    with Site(("127.0.0.1", 0), Visit) as site:
        thread = Thread(target=site.serve_forever, name="site")
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


class Proxy(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a browser that leaves a page reads no more


class Forward(BaseHTTPRequestHandler):
    """
    A reverse proxy that serves a server below a path. As operators configure theirs, it puts the path before a
    `Location` that begins at the root, and leaves relative ones alone.
    """

    protocol_version = "HTTP/1.1"
    upstream = ""
    path_prefix = ""

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.startswith(f"{self.path_prefix}/"):
            return self.answer(404, [], b"")
        headers = {name: value for name, value in self.headers.items() if name not in ("Connection", "Accept-Encoding")}
        address = self.upstream + self.path.removeprefix(self.path_prefix)
        with httpx.Client(trust_env=False, timeout=30) as client:
            got = client.request(self.command, address, headers=headers, content=body)
        kept = [(name, value) for name, value in got.headers.multi_items() if name not in ("content-length", "date")]
        self.answer(got.status_code, [(name, self.rooted(name, value)) for name, value in kept], got.content)

    do_GET = do_POST = do_PATCH = do_DELETE = do_OPTIONS = forward

    def rooted(self, name: str, value: str) -> str:
        return self.path_prefix + value if name == "location" and value.startswith("/") else value

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def proxy(upstream: str, path_prefix: str) -> Iterator[str]:
    """A reverse proxy before a server; the address of the server's start page, without a last slash."""
    handler = type("Handler", (Forward,), {"upstream": upstream.rstrip("/"), "path_prefix": path_prefix})
    with Proxy(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, name="proxy")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{path_prefix}"
        finally:
            server.shutdown()
            thread.join()


def eventually(page: Any, holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether `holds` comes true in time; the page goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        page.evaluate("new Promise(requestAnimationFrame)")
    return held


def until(page: Any, condition: str) -> None:
    """Waits for a condition in the page (Playwright's own wait_for_function needs eval, which the page forbids)."""
    assert eventually(page, lambda: page.evaluate(condition), SLOW / 1000), f"never came true: {condition}"
