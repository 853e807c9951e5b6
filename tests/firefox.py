"""A Firefox for tests, driven over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/).

Playwright drives a Firefox of its own build alone; this drives the one that the system has.
"""

import base64
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from websockets.sync.client import connect

PREFERENCES: dict[str, bool | int | str] = {
    # A microphone that hums, and nobody to ask whether it may be used.
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    # Server and browser are one machine, which may have no other interface and no mDNS.
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    # JSON is a page like any other, rather than a viewer with a policy of its own.
    "devtools.jsonview.enabled": False,
    # Nothing is asked of other hosts. Firefox itself sets more of these while it is remotely controlled.
    "app.normandy.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
}

TIMEOUT = 60.0  # seconds for any one answer: a busy machine may take long


def firefox_path() -> str | None:
    return os.environ.get("LIPSTREAM_FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """A headless Firefox with a profile of its own, which is deleted with it."""

    def __init__(self, path: str) -> None:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="firefox", ignore_cleanup_errors=True))
            lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
            Path(folder, "user.js").write_text("\n".join(lines) + "\n")
            self._process = stack.enter_context(
                subprocess.Popen(
                    [path, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port=0"],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                    env={**os.environ, "HOME": folder, "MOZ_CRASHREPORTER_DISABLE": "1"}, start_new_session=True,
                )
            )  # fmt: skip
            addresses: queue.Queue[str] = queue.Queue()
            self._said: list[str] = []
            reader = threading.Thread(target=self._read, args=(self._process.stderr, addresses), name="firefox")
            reader.start()
            stack.callback(reader.join, 20)
            stack.callback(self._kill)
            try:
                address = addresses.get(timeout=TIMEOUT)
            except queue.Empty:
                raise RuntimeError(f"Firefox did not come up within {TIMEOUT:g} s: {self._said[-5:]}") from None
            self._socket = stack.enter_context(
                connect(f"{address}/session", max_size=None, compression=None, ping_interval=None)
            )
            self._last = 0
            self._pages: dict[str, Page] = {}
            self.version: str = self.send("session.new", capabilities={})["capabilities"]["browserVersion"]
            self.send("session.subscribe", events=["log.entryAdded"])
            self._stack = stack.pop_all()

    def _read(self, stream: IO[str], addresses: "queue.Queue[str]") -> None:
        for line in stream:
            self._said.append(line.strip())
            if "WebDriver BiDi listening on " in line:
                addresses.put(line.rpartition(" ")[2].strip())

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result. Raises RuntimeError with the browser's reason."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        deadline = time.monotonic() + TIMEOUT
        while True:
            message = json.loads(self._socket.recv(timeout=max(0.0, deadline - time.monotonic())))
            if message.get("method") == "log.entryAdded":
                self._hear(message["params"])
            elif message.get("id") == self._last:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
                return message["result"]

    def _hear(self, entry: dict[str, Any]) -> None:
        page = self._pages.get(entry["source"].get("context"))
        if page is not None and entry["level"] in ("warn", "error"):
            page.complaints.append(f"{entry['level']}: {entry['text']}")

    def new_page(self, width: int = 1280, height: int = 800) -> "Page":
        context = self.send("browsingContext.create", type="tab")["context"]
        self.send("browsingContext.setViewport", context=context, viewport={"width": width, "height": height})
        page = self._pages[context] = Page(self, context)
        return page

    def close(self) -> None:
        with self._stack:
            self.send("browser.close")
            self._process.wait(20)

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


class Page:
    """A tab, with as much of Playwright's page as the tests need. `complaints`: warnings and errors of its console."""

    def __init__(self, browser: Firefox, context: str) -> None:
        self._browser = browser
        self._context = context
        self.complaints: list[str] = []

    def goto(self, url: str) -> None:
        """Loads the page and all that it names."""
        self._browser.send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression, or the promise that it gives, comes to, as JSON. Raises where it throws."""
        answer = self._browser.send(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await ({expression})) ?? null))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['text']}")
        return json.loads(answer["result"]["value"])

    def click(self, selector: str) -> None:
        """A real click, as by a mouse, on the middle of the one visible element of this selector."""
        nodes = self._browser.send(
            "browsingContext.locateNodes", context=self._context, locator={"type": "css", "value": selector}
        )["nodes"]
        [node] = nodes
        self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{ block: 'center' }})")
        middle = {"type": "element", "element": {"sharedId": node["sharedId"]}}
        actions = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": middle},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        self._browser.send("input.performActions", context=self._context, actions=[mouse])

    def screenshot(self) -> bytes:
        """What the tab shows, as a PNG."""
        shot = self._browser.send("browsingContext.captureScreenshot", context=self._context)
        return base64.b64decode(shot["data"])

    def inner_text(self, selector: str) -> str:
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def close(self) -> None:
        self._browser.send("browsingContext.close", context=self._context)
