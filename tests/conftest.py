"""Fixtures: a running server, a real Chromium, and a check that nobody leaves tasks or threads behind."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

# Read when torch is first imported, here and in what tests start. Tiny networks gain nothing from a second thread, and
# threads that wait for one another spin, which beside other work takes many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "clients" / "python"), str(TESTS.parent)]

from firefox import firefox_path  # noqa: E402

from benchmarks.lib.browser import FLAGS, chromium_path  # noqa: E402  benchmarks and tests start the same browser

CHROMIUM = chromium_path()
SAMPLE = TESTS.parent / "clients" / "page" / "sample.wav"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail, rather than skip, browser tests where there is no Chromium or no Firefox",
    )


OFFLINE = {
    "anatomy", "animate", "articulation_training", "bench_alignment", "bench_layout", "bench_network", "bench_report",
    "bench_session", "characters", "clip", "composed", "decode", "device", "device_frame", "device_pipeline",
    "drawn_eyes", "engines", "face", "face_pictures", "finder", "footage", "fused", "graph_files", "graphs", "jitter",
    "kernels", "kernels_ahead", "kernels_benchmark", "kernels_interpreted", "landmarks", "marking", "matte", "model",
    "model_step", "pack", "painter", "people", "people_clips", "people_rendered", "photographs", "picture_layers",
    "picture_rig", "picture_rig_parts", "pictures_benchmark", "portrait", "quality", "render", "slots", "stream",
    "studio_character", "studio_rig", "teacher", "training", "vectors", "weights", "wheel",
}  # fmt: skip
"""Tests that compute much and that no clock waits for: half of the time that all take."""


def _offline(nodeid: str) -> bool:
    return Path(nodeid.split("::")[0]).stem.removeprefix("test_") in OFFLINE


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A run of everything takes two processes, where there are two cores; `-n 0` makes it one."""
    option = config.option
    worker = hasattr(config, "workerinput")
    if getattr(option, "numprocesses", 0) is None and not (worker or option.file_or_dir or option.usepdb):
        option.numprocesses = min(os.cpu_count() or 1, 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Two processes: one for the tests of `OFFLINE`, the other for those that hear, draw and wait in real time."""
    from xdist.scheduler import LoadScopeScheduling

    class Halves(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "offline" if _offline(nodeid) else "live"

    return Halves(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The process of what is offline gives way to the other."""
    if hasattr(item.config, "workerinput") and _offline(item.nodeid) and hasattr(os, "nice") and os.nice(0) < 19:
        os.nice(19)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--require-browser"):
        return
    engines = (("browser", "Chromium", "chromium", CHROMIUM), ("firefox", "Firefox", "firefox-esr", firefox_path()))
    for marker, name, package, path in engines:
        skip = pytest.mark.skip(reason=f"no {name} on this machine (Debian: apt-get install {package})")
        for item in items:
            if path is None and item.get_closest_marker(marker):
                item.add_marker(skip)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RunningServer:
    """
    A lipstream server in a thread of this process; the rig draws, which takes a sixth of the neural one's time, and
    sessions that ask for no size have 256 pixels, which take a fourth of the encoder's.
    """

    running: ClassVar[list["RunningServer"]] = []

    def __init__(self, **options: object) -> None:
        import uvicorn

        from streamer.server.app import create_app
        from streamer.server.config import SOCKETS, ServerConfig

        self.config = ServerConfig(**{"port": free_port(), "generator": "rig", **options})  # type: ignore[arg-type]
        self.url = self.config.url
        self.app = create_app(self.config)
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, host=self.config.host, port=self.config.port, log_level="error", **SOCKETS)
        )
        self._thread = threading.Thread(target=self._run, name="server")
        self.loop: asyncio.AbstractEventLoop | None = None

    def _run(self) -> None:
        async def serve() -> None:
            self.loop = asyncio.get_running_loop()
            await self._server.serve()

        asyncio.run(serve())

    @property
    def state(self):  # noqa: ANN201
        return self.app.state.lipstream

    def call(self, coroutine: Coroutine[Any, Any, Any], timeout: float = 10.0) -> Any:
        """Runs a coroutine on the server's event loop."""
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    async def closed(self, session: Any, timeout: float = 10.0) -> str:  # noqa: ASYNC109
        """Waits until one of its sessions is closed; returns why it was."""
        done = asyncio.run_coroutine_threadsafe(_closed(session), self.loop)  # type: ignore[arg-type]
        return await asyncio.wait_for(asyncio.wrap_future(done), timeout)

    def __enter__(self) -> "RunningServer":
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            self._thread.join(0.02)
        self.state.default_sizes = dict.fromkeys(self.state.default_sizes, 256)
        self.running.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.running.remove(self)
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server did not end within 30 s"


async def _closed(session: Any) -> str:
    while session._closing is None:  # noqa: ASYNC110  a session that begins to close tells nobody
        await asyncio.sleep(0.01)
    await session._closing
    return session.close_reason


async def _tasks() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def _unfinished(tasks: set[asyncio.Task]) -> set[asyncio.Task]:
    """Those that do not end within 3 s."""
    return (await asyncio.wait(tasks, timeout=3))[1] if tasks else set()


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running


@pytest.fixture
def any_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has servers admit sessions however busy other work keeps this machine; their number still counts."""
    from streamer.avatar.admission import admit

    monkeypatch.setattr(
        "streamer.server.state.admit", lambda config, sessions, load, cost: admit(config, sessions, 0, 0)
    )


def _udp_sockets() -> set[Any]:
    import psutil

    return {(c.fd, c.laddr) for c in psutil.Process().net_connections("udp")}


class _Errors(logging.Handler):
    """Keeps what is logged as an error, which is how asyncio tells of a task that failed unseen."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.name == "asyncio" and isinstance(error, ConnectionError):
            return  # aiortc's SCTP sends from tasks that nobody awaits: a timer of it may meet a connection just closed
        self.records.append(record)


_SHARED_THREADS = ("asyncio_", "AnyIO worker", "draw", "read", "ThreadPoolExecutor")
"""Pools, which live as long as their loop."""


@pytest.fixture
async def leaves_nothing() -> AsyncIterator[None]:
    """Fails a test after which a session, task, thread or UDP socket is left, or an error was logged."""
    sockets = _udp_sockets()
    servers = list(RunningServer.running)
    ours, theirs = await _tasks(), {server.url: server.call(_tasks()) for server in servers}
    threads = set(threading.enumerate())
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    try:
        yield
        for server in servers:
            for session in list(server.state.sessions.values()):
                assert session._closing is not None, f"session {session.id} is left in state {session.state.value}"
                await server.closed(session)
            assert not server.state.sessions, "sessions are left"
            assert server.state.opening == 0
            left = server.call(_unfinished(server.call(_tasks()) - theirs[server.url]))
            assert not left, f"tasks are left in the server: {left}"
        left = await _unfinished(await _tasks() - ours)
        assert not left, f"tasks are left: {left}"
        for thread in set(threading.enumerate()) - threads:
            if not thread.name.startswith(_SHARED_THREADS):
                thread.join(3)
                assert not thread.is_alive(), f"thread {thread.name} is left"
        for server in servers:
            server.call(asyncio.sleep(0.01))  # a closed transport's socket goes with the loop's next turn
        await asyncio.sleep(0.01)
        assert not _udp_sockets() - sockets
        assert not errors.records, [record.getMessage() for record in errors.records]
    finally:
        logging.getLogger().removeHandler(errors)


@pytest.fixture
def denormals() -> Iterator[None]:
    """
    For tests of commands that flush denormals to zero, each in what is to be its own process: Hypothesis refuses to
    work in one that does, with a FloatingPointError.
    """
    yield
    import torch

    torch.set_flush_denormal(False)


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


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[object]:
    """A Chromium (Playwright's sync API) whose microphone plays the sample voice."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "--require-browser was given, and there is no Chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"],
        )
        try:
            yield chromium
        finally:
            with contextlib.suppress(Exception):
                chromium.close()
