"""Publishing: targets, back-off, relays that stall, and real receivers that come and go."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import RunningServer, free_port
from hypothesis import given
from hypothesis import strategies as st
from lipstream_client import Client
from outlet_source import SIZE, Source, watch
from peers import spoken

from streamer.base.metrics import Metrics
from streamer.cli import main
from streamer.outputs import publisher
from streamer.outputs.publisher import Backoff, Feed, Lost, Publisher, Relay, parse_target, relay_command


class TestTargets:
    @pytest.mark.parametrize(
        ("text", "shown", "format"),
        [
            ("rtmp://live.example/app/secret", "rtmp://live.example/app/…", "flv"),
            ("rtmps://live.example:443/app/x/secret?backup=1", "rtmps://live.example:443/app/x/…", "flv"),
            ("rtmp://me:secret@live.example/secret", "rtmp://live.example", "flv"),
            ("srt://live.example:9000?passphrase=secret&streamid=secret", "srt://live.example:9000", "mpegts"),
            ("/tmp/show.mp4", "/tmp/show.mp4", "mp4"),
            ("show.MKV", "show.MKV", "matroska"),
            ("show.flv", "show.flv", "flv"),
        ],
    )
    def test_what_can_be_published_to(self, text: str, shown: str, format: str) -> None:
        """The scheme or the suffix names the container; what is shown and logged holds no key."""
        target = parse_target(text)
        assert (target.shown, target.format, target.url) == (shown, format, text)
        assert "secret" not in target.shown

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("http://live.example/app", "unknown scheme 'http'; use rtmp, rtmps, srt"),
            ("ftp://live.example", "'ftp'"),
            ("show.avi", ".mp4, .mkv, .flv"),
            ("", ".mp4"),
            ("rtmp:///app/key", "the host is missing"),
            ("rtmp://live.example:99999/app/key", "ort"),
            ("srt://live.example", "no default port"),
        ],
    )
    def test_what_cannot(self, text: str, says: str) -> None:
        """Anything else is a ValueError that says what is wrong, and does not repeat a key."""
        with pytest.raises(ValueError, match=says) as error:
            parse_target(text)
        assert "key" not in str(error.value)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--publish", "http://live.example/app"], "'http'"),
            (["--publish", "/no/such/folder/show.mp4"], "folder does not exist"),
            (["--publish", "x" * 300 + ".mp4"], "File name too long"),
            (["--publish", "rtmp://[::1/app/key"], "--publish rtmp://…: "),
            (["--publish", "rtmp://live.example/app/k\ney"], "white space or a control character"),
            (["--record"], "--record-dir"),
            (["--record-dir", "/proc/version"], "--record-dir /proc/version"),
        ],
    )
    def test_the_command_refuses_at_start(
        self, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit status 2 and one line with the reason."""
        assert main.main(arguments) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1

    def test_srt_without_anything_that_speaks_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither PyAV nor a program that can: refused at start, with what to install."""
        monkeypatch.setattr(publisher, "_pyav_speaks_srt", lambda: False)
        monkeypatch.setattr(publisher, "_ffmpeg_with_srt", lambda: None)
        with pytest.raises(ValueError, match="apt-get install ffmpeg"):
            relay_command(parse_target("srt://live.example:9000"))

    def test_a_key_is_in_no_argument(self) -> None:
        """The relay's arguments, which other users can read, do not hold the URL."""
        command, environment = relay_command(parse_target("rtmp://live.example/app/secret"))
        assert "secret" not in " ".join(command)
        assert environment == {"LIPSTREAM_RELAY_URL": "rtmp://live.example/app/secret"}


class TestBackoff:
    def test_twice_as_long_each_time(self) -> None:
        """1, 2, 4, 8, 16, 30, 30 seconds, at explicit times; due then and not before."""
        rule, now, waits = Backoff(), 100.0, []
        assert rule.due(now)
        for _ in range(7):
            waits.append(rule.failed(now, 0.0))
            assert not rule.due(now + waits[-1] - 0.01)
            now += waits[-1]
            assert rule.due(now)
        assert waits == [1, 2, 4, 8, 16, 30, 30]

    @given(st.floats(0, 1), st.integers(0, 5000))
    def test_chance_takes_off_up_to_half(self, chance: float, failures: int) -> None:
        """However often it failed, the wait is between half of what it could be and all of it."""
        rule = Backoff()
        for _ in range(failures % 40):
            rule.failed(0.0, 0.0)
        most = min(30.0, 2.0 ** (failures % 40))
        assert most / 2 <= rule.failed(0.0, chance) <= most

    def test_a_connection_that_held_begins_anew(self) -> None:
        """After ten seconds of connection the next failure is the first; after less it is one more."""
        rule = Backoff()
        for _ in range(4):
            rule.failed(0.0, 0.0)
        rule.connected(10.0)
        assert rule.failed(19.9, 0.0) == 16
        rule.connected(40.0)
        assert rule.failed(50.0, 0.0) == 1
        assert rule.failed(51.0, 0.0) == 2


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


class TestRelay:
    def test_a_target_that_takes_nothing_stalls(self) -> None:
        """A write that does not return is seen as a stall, by the clock; ended, it raises Lost and says so."""
        connected = threading.Event()
        link = Relay(program("print('connected', flush=True); import time; time.sleep(60)"), {}, connected.set)
        try:
            assert connected.wait(20)
            lost: list[Exception] = []

            def write() -> None:
                try:
                    while True:
                        link.write(b"x" * 65536)
                except Lost as error:
                    lost.append(error)

            writer = threading.Thread(target=write)
            writer.start()
            while not link.stalls(publisher.clock.now() + 9.0, 8.5):  # as in nine seconds
                assert writer.is_alive()
            assert not link.stalls(publisher.clock.now(), 60.0)
            link.kill()
            writer.join(20)
            assert not writer.is_alive()
            assert isinstance(lost[0], Lost)
            assert lost[0].outcome == "stalled"
        finally:
            link.close()

    def test_a_target_that_never_answers_stalls(self) -> None:
        """One that does not connect is a stall even where nothing is written."""
        link = Relay(program("import time; time.sleep(60)"), {}, lambda: None)
        try:
            assert not link.stalls(publisher.clock.now(), 30.0)
            assert link.stalls(publisher.clock.now() + 31.0, 30.0)
        finally:
            link.kill()
            link.close()

    def test_what_it_said_last_is_the_reason(self) -> None:
        """A relay that ends tells why; before it was connected that is a refusal."""
        link = Relay(program("print('frame=3'); print('No such host')"), {}, lambda: None)
        try:
            with pytest.raises(Lost, match="No such host") as lost:
                while True:
                    link.write(b"x" * 65536)
            assert lost.value.outcome == "refused"
        finally:
            link.close()
            link.close()


class Show:
    """A session that is always on: frames at four times their pace, in a thread, from `with` to `end`."""

    def __init__(self, feed: Feed, size: int = SIZE) -> None:
        self._feed, self._source = feed, Source(size)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.k = 0
        self.slowest = 0.0
        """Seconds of the outlet's slowest call."""

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            for packet in self._source.until(self.k):
                self._feed.sound(packet)
            frame = self._source.frame(self.k)
            began = time.perf_counter()
            self._feed.frame(frame)
            self.slowest = max(self.slowest, time.perf_counter() - began)
            self.k += 1

    async def __aenter__(self) -> "Show":
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)
        await self._feed.close()


@asynccontextmanager
async def running_publisher(url: str, metrics: Metrics, stall: float = 20.0) -> AsyncIterator[Publisher]:
    made = Publisher(parse_target(url), metrics, stall, chance=lambda: 0.0)
    made.start()
    watch_dog = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        await made.close()
        await made.close()
        watch_dog.cancel()
        await asyncio.gather(watch_dog, return_exceptions=True)
        assert not made._thread.is_alive()


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def attempts(metrics: Metrics, outcome: str, count: int = 1) -> None:
    """Waits until so many connections had this outcome."""
    async with asyncio.timeout(20):
        while counted(metrics, "lipstream_publish_attempts_total", outcome=outcome) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # counted in a thread, which tells nobody


async def written(metrics: Metrics, count: int) -> None:
    """Waits until so many more frames were written."""
    labels = {"outlet": "publish", "fate": "written"}
    goal = counted(metrics, "lipstream_outlet_frames_total", **labels) + count
    async with asyncio.timeout(20):
        while counted(metrics, "lipstream_outlet_frames_total", **labels) < goal:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class TestTurns:
    def test_the_session_that_began_first_is_published(self) -> None:
        """Nothing is taken of others until it ends; then it is the turn of the next that began."""
        made, source = Publisher(parse_target("show.mp4"), Metrics()), Source()
        one, other, third = made.feed(SIZE), made.feed(SIZE), made.feed(SIZE)
        for feed in (other, one, third, other):
            feed.frame(source.frame(1))
            feed.sound(source.packet(0))
        assert [len(feed.intake._frames) for feed in (one, other, third)] == [0, 2, 0]
        assert [len(feed.intake._sounds) for feed in (one, other, third)] == [0, 2, 0]
        made.ended(other)
        for feed in (third, one):
            feed.frame(source.frame(2))
        assert [len(feed.intake._frames) for feed in (one, third)] == [1, 0]

    def test_no_key_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """A relay's last words may hold the URL: the log shows what may be shown."""
        url = "rtmp://live.example/app/secret"
        made = Publisher(parse_target(url), Metrics(), chance=lambda: 0.0)
        made._failed(Lost("lost", f"Error closing file {url}: Input/output error"), None)
        assert "Error closing file rtmp://live.example/app/…: Input/output error; retrying in 1.0 s" in caplog.text
        assert "secret" not in caplog.text

    async def test_closing_what_never_began(self) -> None:
        """Safe before `start`, and twice."""
        made = Publisher(parse_target("show.mp4"), Metrics())
        await made.close()
        await made.close()


class TestFiles:
    @pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv"])
    async def test_one_session_after_the_other(self, suffix: str, tmp_path: Path) -> None:
        """The first live session is published until it ends, then the next, to another file; nothing is overwritten."""
        metrics = Metrics()
        async with running_publisher(str(tmp_path / f"show.{suffix}"), metrics) as made:
            async with Show(made.feed(128)) as first:
                await written(metrics, 20)
                async with Show(made.feed(192), 192):
                    await written(metrics, 20)
                    await first.end()
                    await attempts(metrics, "ended")
                    await written(metrics, 20)
            await attempts(metrics, "ended", 2)
            assert counted(metrics, "lipstream_publishing") == 0
        assert sorted(os.listdir(tmp_path)) == [f"show-2.{suffix}", f"show.{suffix}"]
        assert len(watch(tmp_path / f"show.{suffix}").frames) >= 40
        assert len(watch(tmp_path / f"show-2.{suffix}").frames) >= 20

    async def test_a_file_that_cannot_be_written_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What goes wrong is logged and counted, frames go unsent, and the next try succeeds."""
        monkeypatch.setattr(Backoff, "FIRST", 0.05)
        folder = tmp_path / "later"
        metrics = Metrics()
        async with running_publisher(str(folder / "show.mp4"), metrics) as made:
            async with Show(made.feed(128)):
                await attempts(metrics, "lost")
                folder.mkdir()
                await written(metrics, 10)
            await attempts(metrics, "ended")
        assert counted(metrics, "lipstream_outlet_frames_total", outlet="publish", fate="unsent") > 0
        assert len(watch(folder / "show.mp4").frames) >= 10


RECEIVER = """
import sys, av
with av.open(sys.argv[1], format="flv", options={"listen": "1"}) as source, av.open(sys.argv[2], "w") as target:
    streams = {s.index: target.add_stream_from_template(s, opaque=True) for s in source.streams}
    try:
        for n, packet in enumerate(source.demux()):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux_one(packet)
            if n == 100:
                print("receiving", flush=True)
    except OSError:
        pass  # FFmpeg's server answers a client's farewell, and finds the client gone
"""


@contextmanager
def receiving(command: list[str]) -> Iterator[subprocess.Popen]:
    """A receiver in a process of its own; killed at the end where it still runs."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


async def said(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)).decode().strip()


class TestReceivers:
    async def test_an_rtmp_receiver_that_comes_and_goes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody listens: refused. Somebody does: picture and sound arrive, in step. Killed and begun again: back."""
        monkeypatch.setattr(Backoff, "FIRST", 0.1)
        url = f"rtmp://127.0.0.1:{free_port()}/live/secretkey"
        metrics = Metrics()
        async with running_publisher(url, metrics) as made:
            async with Show(made.feed(128)) as show:
                await attempts(metrics, "refused")
                with receiving([sys.executable, "-c", RECEIVER, url, str(tmp_path / "one.mkv")]) as receiver:
                    assert await said(receiver) == "receiving"
                    assert counted(metrics, "lipstream_publishing") == 1
                await attempts(metrics, "lost")
                with receiving([sys.executable, "-c", RECEIVER, url, str(tmp_path / "two.mkv")]) as receiver:
                    assert await said(receiver) == "receiving"
                    await show.end()
                    await attempts(metrics, "ended")
                    assert await asyncio.to_thread(receiver.wait, 10) == 0
            assert counted(metrics, "lipstream_publishing") == 0
        seen = watch(tmp_path / "two.mkv")
        assert len(seen.frames) >= 30
        assert len(seen.flashes) >= 1
        beeps = [beep for beep in seen.beeps if beep > 0.2]
        flashes = [flash for flash in seen.flashes if flash > 0.2]
        assert np.allclose(beeps, flashes[: len(beeps)], atol=0.012)
        assert "Connection refused" in caplog.text
        assert "secretkey" not in caplog.text

    async def test_a_target_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host that takes the connection and says nothing is given up after the time-out; sessions do not notice."""
        monkeypatch.setattr(Backoff, "FIRST", 0.1)
        metrics = Metrics()

        async def listen_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(listen_and_say_nothing, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with running_publisher(f"rtmp://127.0.0.1:{port}/live/key", metrics, stall=2.0) as made:
                async with Show(made.feed(128)) as show:
                    await attempts(metrics, "stalled")
        assert show.slowest < 1.0

    async def test_a_wrong_host(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """A name that is nobody's is tried again and again, with a line in the log each time."""
        monkeypatch.setattr(Backoff, "FIRST", 0.05)
        metrics = Metrics()
        async with running_publisher("rtmp://nobody.invalid/live/key", metrics) as made:
            async with Show(made.feed(128)):
                await attempts(metrics, "refused", 2)
        assert caplog.text.count("publishing to rtmp://nobody.invalid/live/… failed") >= 2

    @pytest.mark.skipif(publisher._ffmpeg_with_srt() is None, reason="no ffmpeg with SRT on this machine")
    async def test_an_srt_receiver(self, tmp_path: Path) -> None:
        """An SRT listener gets picture and sound, in step, in MPEG-TS."""
        port, metrics = free_port(), Metrics()
        ffmpeg = shutil.which("ffmpeg")
        assert ffmpeg
        source = ["-f", "mpegts", "-i", f"srt://127.0.0.1:{port}?mode=listener", "-c", "copy"]
        command = [ffmpeg, "-v", "error", "-y", *source, str(tmp_path / "got.mkv")]
        with receiving(command) as receiver:
            async with running_publisher(f"srt://127.0.0.1:{port}", metrics) as made:
                async with Show(made.feed(128)):
                    await attempts(metrics, "connected")
                    await written(metrics, 100)
                await attempts(metrics, "ended")
            receiver.send_signal(signal.SIGINT)
            await asyncio.to_thread(receiver.wait, 10)
        seen = watch(tmp_path / "got.mkv")
        assert len(seen.frames) >= 50
        beeps = [beep for beep in seen.beeps if beep > 0.2]
        flashes = [flash for flash in seen.flashes if flash > 0.2]
        assert beeps
        assert np.allclose(beeps, flashes[: len(beeps)], atol=0.012)


@pytest.mark.usefixtures("any_load")
def test_a_server_publishes_its_first_session(tmp_path: Path) -> None:
    """`--publish FILE`: what a live session draws and says is in the file, and metrics tell of it."""

    async def talk(url: str) -> str:
        async with Client(url) as client, httpx.AsyncClient(base_url=url, trust_env=False) as http:
            async with client.session(spoken(1.0), linger=60, size=128) as session:
                for _ in range(20):
                    await anext(session.frames())
                return (await http.get("/metrics")).text

    with RunningServer(publish=(str(tmp_path / "show.mp4"),)) as running:
        text = asyncio.run(talk(running.url))
    assert "lipstream_publishing 1.0" in text
    seen = watch(tmp_path / "show.mp4")
    assert len(seen.frames) >= 15
    assert np.abs(seen.sound).max() > 0.02
