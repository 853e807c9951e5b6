"""Recording: what a file holds after its end, a crash and a full disk; the HTTP side; a live session."""

import asyncio
import errno
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import httpx
import numpy as np
import pytest
from conftest import RunningServer
from lipstream_client import Client
from lipstream_client import Session as ClientSession
from outlet_source import SIZE, Source, watch
from peers import delay, spoken

from streamer.base.errors import RequestError
from streamer.base.metrics import Metrics
from streamer.media.frame_stamp import read
from streamer.outputs import recording
from streamer.outputs.recording import Recording, WholeFile, create, name_of, whole_fragments

RATE = 48_000


def fill(outlet: Any, source: Source, frames: range) -> None:
    """Gives an outlet frames and their sound, as a session does."""
    for k in frames:
        for packet in source.until(k):
            outlet.sound(packet)
        outlet.frame(source.frame(k))


async def frames_written(made: Recording, count: int) -> None:
    async with asyncio.timeout(20):
        while made.to_json()["frames"] < count and made.running:  # noqa: ASYNC110  a thread's counter tells nobody
            await asyncio.sleep(0.005)


class SmallDisk(WholeFile):
    """A file on a disk that holds 100 kB."""

    room = 100_000

    def write(self, data: Any) -> int:
        if self.written + len(data) > self.room:
            super().write(data[: self.room - self.written])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


class TestNames:
    def test_a_name_tells_when_and_of_which_session(self) -> None:
        """The UTC time, the session's first letters, and a number where one of this name exists."""
        assert name_of("aB3_xyz12", 0.0) == "19700101-000000-aB3_xy.mp4"
        assert name_of("aB3_xyz12", 86_399.9, attempt=1) == "19700101-235959-aB3_xy-2.mp4"

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        """Two recordings of one second are two files."""
        with create(tmp_path, "abcdef", 0.0) as one, create(tmp_path, "abcdef", 0.0) as other:
            assert one.name != other.name

    def test_a_full_disk_refuses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Too little room is 507 with the bytes there are; no file is made."""
        monkeypatch.setattr(recording.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_048_576))
        with pytest.raises(RequestError, match="1048576 bytes are free") as refused:
            create(tmp_path, "abcdef", 0.0)
        assert (refused.value.status, refused.value.reason) == (507, "disk_full")
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_went_away_refuses(self, tmp_path: Path) -> None:
        """A disk that was taken out is 500 with a reason, and no path of the server's is told."""
        with pytest.raises(RequestError) as refused:
            create(tmp_path / "gone", "abcdef", 0.0)
        assert (refused.value.status, refused.value.reason) == (500, "recording_failed")
        assert str(tmp_path) not in refused.value.detail


class TestRecording:
    async def test_a_file_that_was_ended(self, tmp_path: Path) -> None:
        """All that came is in the file, in step; its numbers are told; the hook is given its path."""
        finished: list[Path] = []
        metrics = Metrics()
        made = Recording(create(tmp_path, "abcdef", 0.0), SIZE, metrics, finish=finished.append)
        source = Source()
        for k in range(10, 110, 10):
            fill(made, source, range(k, k + 10))
            await frames_written(made, k)
        await made.close()
        await made.close()
        told = made.to_json()
        assert told == {
            "file": "19700101-000000-abcdef.mp4",
            "state": "ended",
            "seconds": 4.0,
            "bytes": made.path.stat().st_size,
            "frames": 100,
            "dropped": 0,
            "signed": True,
            "reason": None,
            "detail": None,
        }
        assert finished == [made.path]
        seen = watch(made.path)
        assert len(seen.frames) == 100
        assert np.allclose(seen.flashes, [0.6, 1.6, 2.6, 3.6], atol=0.001)
        assert np.allclose(seen.beeps, [0.6065, 1.6065, 2.6065, 3.6065], atol=0.004)
        text = metrics.text().decode()
        assert 'lipstream_outlet_frames_total{fate="written",outlet="recording"} 100.0' in text
        assert 'lipstream_recordings_total{outcome="ended"} 1.0' in text

    async def test_a_late_writer_drops_frames_and_counts_them(self, tmp_path: Path) -> None:
        """Nobody waits for a slow disk: it is a second of frames late at most, then the oldest are dropped."""
        writing, free = threading.Event(), threading.Event()

        class SlowDisk(WholeFile):
            def write(self, data: Any) -> int:
                writing.set()
                assert free.wait(20)
                return super().write(data)

        made = Recording(SlowDisk(tmp_path / "slow.mp4", "x+b"), SIZE, Metrics())
        source = Source()
        fill(made, source, range(5))
        assert await asyncio.to_thread(writing.wait, 20)
        fill(made, source, range(5, 205))
        free.set()
        await made.close()
        told = made.to_json()
        assert told["frames"] + told["dropped"] == 205
        assert 25 <= told["frames"] <= 30
        assert told["seconds"] == pytest.approx(8.2)
        seen = watch(made.path)
        assert len(seen.frames) == told["frames"]
        assert seen.frames[-1] == pytest.approx(204 / 25, abs=0.001)

    async def test_a_recording_of_nothing_leaves_nothing(self, tmp_path: Path) -> None:
        """Without a frame there is no file, and none is named."""
        made = Recording(create(tmp_path, "abcdef", 0.0), SIZE, Metrics())
        await made.close()
        assert made.to_json()["file"] is None
        assert not os.listdir(tmp_path)

    async def test_a_hook_that_fails_leaves_the_file(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What cannot be signed is said to be unsigned, and stays."""

        def broken(path: Path) -> None:
            raise ValueError("the key does not fit")

        made = Recording(create(tmp_path, "abcdef", 0.0), SIZE, Metrics(), finish=broken)
        fill(made, Source(), range(5))
        await made.close()
        told = made.to_json()
        assert (told["state"], told["signed"]) == ("ended", False)
        assert "the key does not fit" in told["detail"]
        assert len(watch(made.path).frames) == 5
        assert "could not finish recording" in caplog.text

    async def test_a_full_disk(self, tmp_path: Path) -> None:
        """The recording ends and says why, once; what is left is whole fragments; later frames change nothing."""
        failures: list[tuple[str, str]] = []
        failed = asyncio.Event()

        def note(reason: str, detail: str) -> None:
            failures.append((reason, detail))
            failed.set()

        metrics = Metrics()
        file = SmallDisk(tmp_path / "small.mp4", "x+b")
        made = Recording(file, SIZE, metrics, note)
        source = Source()
        for k in range(0, 1000, 10):
            fill(made, source, range(k, k + 10))
            await frames_written(made, k)
            if not made.running:
                break
        await asyncio.wait_for(failed.wait(), 10)
        fill(made, source, range(1000, 1010))
        await made.close()
        assert failures == [("disk_full", "the disk is full (No space left on device)")]
        told = made.to_json()
        assert (told["state"], told["reason"]) == ("failed", "disk_full")
        assert told["bytes"] == made.path.stat().st_size < 100_000
        with made.path.open("rb", buffering=0) as left:
            assert whole_fragments(left, told["bytes"]) == told["bytes"]
        seen = watch(made.path)
        assert seen.frames[-1] > told["seconds"] - 2.2
        assert len(seen.frames) >= 25
        assert 'lipstream_recordings_total{outcome="disk_full"} 1.0' in metrics.text().decode()

    def test_a_crash_leaves_all_but_the_last_second(self, tmp_path: Path) -> None:
        """A process killed while it records leaves a file that plays, sound and picture, up to the last second."""
        script = (
            "import asyncio, sys\n"
            f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]!r}\n"
            "from pathlib import Path\n"
            "from outlet_source import SIZE, Source\n"
            "from test_recording import fill, frames_written\n"
            "from streamer.base.metrics import Metrics\n"
            "from streamer.outputs.recording import Recording, create\n"
            "async def main():\n"
            "    made = Recording(create(Path(sys.argv[1]), 'abcdef', 0.0), SIZE, Metrics())\n"
            "    source = Source()\n"
            "    for k in range(0, 170, 10):\n"
            "        fill(made, source, range(k, k + 10))\n"
            "        await frames_written(made, k + 10)\n"
            "    print('written', flush=True)\n"
            "    await asyncio.sleep(60)\n"
            "asyncio.run(main())\n"
        )
        clients = Path(__file__).parent.parent / "clients" / "python"
        process = subprocess.Popen(
            [sys.executable, "-c", script.replace("sys.path[:0] = [", f"sys.path[:0] = [{str(clients)!r}, "), tmp_path],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"written\n"
        finally:
            process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
            process.wait(10)
            process.stdout.close()
        (path,) = tmp_path.iterdir()
        seen = watch(path)
        assert seen.frames[-1] >= 6.8 - 1.0 - 0.04
        assert seen.heard_until >= 6.8 - 1.0 - 0.15
        assert np.allclose(seen.flashes, range(6), atol=0.001)
        assert len(seen.beeps) == 6


# A server that records


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(record_dir=tmp_path_factory.mktemp("recordings")) as running:
        yield running


@asynccontextmanager
async def speaking(url: str, speech: np.ndarray, **options: Any) -> AsyncIterator[ClientSession]:
    """A live session, of which frames have come."""
    async with Client(url) as client:
        async with client.session(speech, linger=math.inf, **options) as session:
            await anext(session.frames())
            yield session


def http(server: RunningServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20)


async def recorded(http: httpx.AsyncClient, path: str, seconds: float) -> dict[str, Any]:
    """Waits until a recording is as long."""
    async with asyncio.timeout(20):
        while (told := (await http.get(path)).json())["seconds"] < seconds:
            assert told["state"] == "recording", told
            await asyncio.sleep(0.05)
    return told


@pytest.mark.usefixtures("leaves_nothing", "any_load")
class TestServer:
    async def test_a_session_is_recorded(self, recorder: RunningServer) -> None:
        """POST begins, GET tells, DELETE ends and says where; frame and sound of the file answer the same speech."""
        speech = np.concatenate([np.zeros(RATE // 2, np.float32), spoken(2.0)])
        async with speaking(recorder.url, speech, size=128, stamp=True) as session, http(recorder) as api:
            path = f"/v1/sessions/{session.id}/recording"
            began = await api.post(path)
            assert (began.status_code, began.headers["location"]) == (201, "recording")
            assert began.json()["state"] == "recording"
            twice = await api.post(path)
            assert (twice.status_code, twice.json()["reason"]) == (409, "already_recording")
            told = await recorded(api, path, 2.4)
            assert told["frames"] > 5
            assert told["bytes"] > 0
            ended = (await api.delete(path)).json()
            assert ended["state"] == "ended"
            for gone in (await api.get(path), await api.delete(path)):
                assert (gone.status_code, gone.json()["reason"]) == (404, "not_recorded")
            await anext(session.frames())  # it goes on
        file = recorder.config.record_dir / ended["file"]
        assert file.stat().st_size == ended["bytes"]
        numbers, times = [], []
        with av.open(str(file)) as container:
            for picture in container.decode(video=0):
                if (k := read(picture.to_ndarray(format="gray"))) is not None:
                    numbers.append(k)
                    times.append(float(picture.pts * picture.time_base))
        assert len(numbers) >= 0.9 * ended["frames"]
        # The number in each picture's pixels is the one that its time in the file names.
        assert np.allclose(times, (np.array(numbers) - numbers[0]) / 25 + times[0], atol=0.001)
        # And the sound beside it is the speech that this frame answers, less the codecs' own delay.
        seen = watch(file)
        first = round((numbers[0] / 25 - times[0]) * RATE)
        late, alike = delay(seen.sound, speech[first:])
        assert alike > 0.7
        assert late / RATE < 0.015

    async def test_a_session_that_ends_ends_its_recording(self, recorder: RunningServer) -> None:
        """The file is whole, though nobody said DELETE; and a session that is gone is unknown."""
        async with speaking(recorder.url, spoken(1.0), size=128) as session, http(recorder) as api:
            path = f"/v1/sessions/{session.id}/recording"
            name = (await api.post(path)).json()["file"]
            await recorded(api, path, 0.5)
            await api.delete(f"/v1/sessions/{session.id}")
            for answer in (await api.get(path), await api.post(path), await api.delete(path)):
                assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_session")
        assert watch(recorder.config.record_dir / name).frames[-1] >= 0.4
        assert not recorder.state.recordings

    async def test_a_full_disk_leaves_the_session_alone(
        self, recorder: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Control channel and JSON say that the disk is full; the session goes on and may try again."""
        log = recording.log
        monkeypatch.setattr(SmallDisk, "room", 5_000)  # less than one second, however few frames a busy machine draws
        monkeypatch.setattr(recording, "WholeFile", SmallDisk)
        monkeypatch.setattr(log, "error", log.info)  # expected here
        async with speaking(recorder.url, spoken(1.0), size=256) as session, http(recorder) as api:
            path = f"/v1/sessions/{session.id}/recording"
            async with asyncio.TaskGroup() as group:
                told = group.create_task(session.expect("error", 20))
                await api.post(path)
            assert told.result()["reason"] == "disk_full"
            assert "the disk is full" in told.result()["detail"]
            state = (await api.get(path)).json()
            assert (state["state"], state["reason"]) == ("failed", "disk_full")
            assert not recorder.state.sessions[session.id]._output.outlets
            before = (await session.server_stats())["frames"]["sent"]
            for _ in range(10):
                await anext(session.frames())
            now = await session.server_stats()
            assert now["state"] == "live"
            assert now["frames"]["sent"] > before
            monkeypatch.undo()
            again = await api.post(path)
            assert (again.status_code, again.json()["state"]) == (201, "recording")
            await recorded(api, path, 0.2)

    async def test_without_a_folder_nothing_is_recorded(self, server: RunningServer) -> None:
        """403 where the server has no --record-dir; GET finds nothing."""
        async with speaking(server.url, spoken(0.5), size=128) as session, http(server) as api:
            path = f"/v1/sessions/{session.id}/recording"
            refused = await api.post(path)
            assert (refused.status_code, refused.json()["reason"]) == (403, "recording_off")
            assert "--record-dir" in refused.json()["detail"]
            assert (await api.get(path)).json()["reason"] == "not_recorded"


@pytest.mark.usefixtures("any_load")
def test_record_records_every_session(tmp_path: Path) -> None:
    """With --record each session leaves a file, and one that cannot be recorded is served all the same."""

    async def talk(url: str) -> None:
        async with speaking(url, spoken(0.5), size=128) as session:
            for _ in range(15):
                await anext(session.frames())

    with RunningServer(record_dir=tmp_path / "made", record=True) as running:
        asyncio.run(talk(running.url))
        asyncio.run(talk(running.url))
    files = sorted((tmp_path / "made").iterdir())
    assert len(files) == 2
    assert all(len(watch(file).frames) >= 10 for file in files)
