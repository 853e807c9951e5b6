"""Somebody else's web site, for tests of pages that embed a character."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site(ThreadingHTTPServer):
    """One page, under two names, that is two origins. (Chromium lets no page that Playwright makes up reach a server on
    this machine.)"""

    html = ""

    @property
    def allowed(self) -> str:
        return f"http://localhost:{self.server_port}"

    @property
    def unknown(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Visit(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.server.html.encode() if self.path == "/" else b"")

    def log_message(self, *_: object) -> None:
        pass
