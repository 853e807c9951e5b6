"""Fixtures: a running server, a real Chromium, and a check that nobody leaves tasks or threads behind."""

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("LIPSTREAM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
SAMPLE = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,OptimizationHints,Translate",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail, rather than skip, browser tests where there is no Chromium",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if CHROMIUM or config.getoption("--require-browser"):
        return
    skip = pytest.mark.skip(reason="no Chromium on this machine (Debian: apt-get install chromium)")
    for item in items:
        if "browser" in item.keywords:
            item.add_marker(skip)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RunningServer:
    """A lipstream server in a thread of this process."""

    def __init__(self, **options: object) -> None:
        import uvicorn

        from streamer.config import ServerConfig
        from streamer.server import create_app

        self.config = ServerConfig(port=free_port(), **options)  # type: ignore[arg-type]
        self.url = self.config.url
        self.app = create_app(self.config)
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, host=self.config.host, port=self.config.port, log_level="error", ws="none")
        )
        self._thread = threading.Thread(target=self._server.run, name="server")

    @property
    def state(self):  # noqa: ANN201
        return self.app.state.lipstream

    def __enter__(self) -> "RunningServer":
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            self._thread.join(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server did not end within 30 s"


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample voice as the 48 kHz WAV that Chromium's fake microphone plays in a loop."""
    import av

    path = tmp_path_factory.mktemp("microphone") / "voice.wav"
    with av.open(str(SAMPLE)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=48_000, layout="mono")
        resampler = av.AudioResampler("s16", "mono", 48_000)
        for frame in source.decode(audio=0):
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path


@pytest.fixture
def browser(microphone: Path) -> Iterator[object]:
    """A Chromium (Playwright's sync API) whose microphone plays the sample voice."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "--require-browser was given, and there is no Chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*CHROMIUM_FLAGS, f"--use-file-for-fake-audio-capture={microphone}"],
        )
        try:
            yield chromium
        finally:
            with contextlib.suppress(Exception):
                chromium.close()
