"""What tests of pages share: somebody else's web site, and waiting for what is to come true in a page."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

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


def eventually(page: Any, holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether `holds` comes true in time; the page goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        page.evaluate("new Promise(requestAnimationFrame)")
    return held


def until(page: Any, condition: str) -> None:
    """Waits for a condition in the page (Playwright's own wait_for_function needs eval, which the page forbids)."""
    assert eventually(page, lambda: page.evaluate(condition), SLOW / 1000), f"never came true: {condition}"
