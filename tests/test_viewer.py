"""One peer's sender: what leaves when, what is left out, and what it tells of itself."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from virtual import Path, VirtualLoop

from streamer.base import clock
from streamer.base.constants import FPS
from streamer.base.frames import Encoded, Sound, Times
from streamer.base.metrics import Metrics
from streamer.media.video_encoder import TICKS, ceiling
from streamer.session.viewer import Viewer

SIZE = 256


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    with VirtualLoop.used(monkeypatch) as loop:
        yield loop


def coded(k: int, keyframe: bool = False, size: int = 1000, age: float = 0.06, arrived: float = 0.02) -> Encoded:
    now = clock.now()
    times = Times(captured=now - age, arrived=now - arrived, started=now, drawn=now, encoded=now)
    return Encoded(k, 0, SimpleNamespace(size=size), keyframe, times)  # type: ignore[arg-type]


def played(loop: VirtualLoop, script: Callable[[Path, Viewer], Any], codec: str | None = "H264", **path: Any) -> Path:
    """Runs a viewer while the script feeds it."""

    async def act() -> Path:
        peer = Path(codec, **path)
        viewer = Viewer(peer.peer, SIZE, Metrics())
        run = asyncio.get_running_loop().create_task(viewer.run())
        try:
            await script(peer, viewer)
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        return peer

    return loop.run_until_complete(act())


class TestFrames:
    def test_begins_with_a_key_frame(self, loop: VirtualLoop) -> None:
        """What comes before the first key frame is of no use to the peer and does not leave; a key frame is wanted."""

        async def script(peer: Path, viewer: Viewer) -> None:
            assert viewer.wants_keyframe
            for k in range(4):
                viewer.frame(coded(k, keyframe=k == 2))
                await asyncio.sleep(1 / FPS)
                assert viewer.wants_keyframe == (k < 2)
            assert (viewer.counts.sent, viewer.counts.dropped) == (2, 2)

        assert [timestamp for *_, timestamp in played(loop, script).sent] == [2 * TICKS, 3 * TICKS]

    def test_broken_chain_waits_for_a_key_frame(self, loop: VirtualLoop) -> None:
        """After a frame that could not leave, none does up to the next key frame."""

        async def script(peer: Path, viewer: Viewer) -> None:
            for k in range(10):
                peer.video.standing = k != 4
                viewer.frame(coded(k, keyframe=k in (0, 7)))
                await asyncio.sleep(1 / FPS)
            assert viewer.counts.dropped == 3

        assert [stamp // TICKS for *_, stamp in played(loop, script).sent] == [0, 1, 2, 3, 7, 8, 9]

    def test_queue_is_bounded(self, loop: VirtualLoop) -> None:
        """A peer that takes nothing for a while loses what waited, once it is too much, and begins at a key frame."""

        async def script(peer: Path, viewer: Viewer) -> None:
            for k in range(30):  # at one moment: nothing can leave in between
                viewer.frame(coded(k, keyframe=k == 0))
            assert viewer.wants_keyframe
            assert viewer.counts.dropped == 30
            viewer.frame(coded(30, keyframe=True))
            await asyncio.sleep(0.1)
            assert not viewer.wants_keyframe

        assert [stamp // TICKS for *_, stamp in played(loop, script).sent] == [30]

    def test_rows_tell_each_frames_moments(self, loop: VirtualLoop) -> None:
        """A row holds the frame's moments in order, in milliseconds; latencies are taken from capture and arrival."""

        async def script(peer: Path, viewer: Viewer) -> None:
            assert set(viewer.latency_ms().values()) == {None}
            for k in range(50):
                viewer.frame(coded(k, keyframe=k == 0, age=0.060, arrived=0.020))
                await asyncio.sleep(1 / FPS)
            latency = viewer.latency_ms()
            assert latency["server_p50"] == pytest.approx(60, abs=0.2)
            assert latency["answer_p95"] == pytest.approx(20, abs=0.2)
            k, epoch, *moments = viewer.rows[-1]
            assert (k, epoch) == (49, 0)
            assert moments == sorted(moments)
            assert moments[-1] - moments[0] == pytest.approx(60, abs=0.2)

        played(loop, script)

    def test_rate_is_that_of_the_last_seconds(self, loop: VirtualLoop) -> None:
        """The sent rate is right from the first second on, and falls to nought when nothing leaves."""

        async def script(peer: Path, viewer: Viewer) -> None:
            assert viewer.sent_rate(clock.now()) == 0
            for k in range(100):
                viewer.frame(coded(k, keyframe=k == 0, size=2000))
                await asyncio.sleep(1 / FPS)
                if k >= FPS:
                    assert viewer.sent_rate(clock.now()) == pytest.approx(400_000, rel=0.06)
            assert viewer.sent_rate(clock.now() + 3.0) == 0

        played(loop, script)

    def test_low_estimate_counts_only_below_what_is_sent(self, loop: VirtualLoop) -> None:
        """A receiver that was sent little estimates little: that does not lower the cap; less than was sent does."""

        async def script(peer: Path, viewer: Viewer) -> None:
            for k in range(50):
                viewer.frame(coded(k, keyframe=k == 0, size=1000))
                await asyncio.sleep(1 / FPS)
            viewer.estimated(250_000)
            assert viewer.cap == ceiling(SIZE)
            viewer.estimated(150_000)
            assert viewer.cap == 150_000

        played(loop, script)


class TestThinning:
    def test_key_frames_at_a_bounded_rate(self, loop: VirtualLoop) -> None:
        """Where 400 kbit/s are coded and 100 carried, some key frames leave: below the cap, asked for seldom."""

        async def script(peer: Path, viewer: Viewer) -> None:
            asked = 0
            for k in range(20 * FPS):
                keyframe = viewer.wants_keyframe
                asked += keyframe
                viewer.lost(0.5)
                viewer.lost(0.03)
                viewer.frame(coded(k, keyframe=keyframe, size=10_000 if keyframe else 2000))
                await asyncio.sleep(1 / FPS)
                if k == 5 * FPS:
                    assert viewer.thinned
                    peer.clear()
                    asked = 0
            assert viewer.cap == 80_000
            assert len(peer.sent) == asked
            assert 8 * sum(packet.size for packet, *_ in peer.sent) / 15 < viewer.cap
            assert len(peer.sent) >= 3

        played(loop, script)

    def test_others_key_frames_are_taken(self, loop: VirtualLoop) -> None:
        """Key frames that were made for others are sent too, in the place of its own, as far as the path allows."""

        async def script(peer: Path, viewer: Viewer) -> None:
            asked = 0
            for k in range(30 * FPS):
                viewer.lost(0.5)
                asked += viewer.wants_keyframe and k > 10 * FPS
                viewer.frame(coded(k, keyframe=k % 75 == 0, size=10_000 if k % 75 == 0 else 2000))
                await asyncio.sleep(1 / FPS)
                if k == 10 * FPS:
                    peer.clear()
            assert asked == 0
            assert len(peer.sent) == 6

        played(loop, script)


class TestSound:
    def test_own_lip_sync(self, loop: VirtualLoop) -> None:
        """Sound waits for as long as this viewer's frames take, less the time by which its receiver plays it later."""

        def lateness(difference: float) -> float:
            """Of the last packet, from capture to leaving; frames leave 100 ms after it, sound is there after 30."""
            captured: dict[int, float] = {}

            async def script(peer: Path, viewer: Viewer) -> None:
                viewer.lip_sync.measured(difference)
                for i in range(500):
                    now = clock.now()
                    if i % 2 == 0:
                        viewer.frame(coded(i // 2, keyframe=i == 0, age=0.100))
                    captured[960 * i] = now - 0.030
                    viewer.sound(Sound(320 * i, 320, 0, b"s", now - 0.030), now)
                    await asyncio.sleep(0.020)

            _, left, timestamp = played(loop, script).heard[-1]
            return left - captured[timestamp]

        assert lateness(0.0) == pytest.approx(0.100, abs=0.001)
        assert lateness(0.050) == pytest.approx(0.050, abs=0.001)
        assert lateness(0.200) == pytest.approx(0.030, abs=0.001)  # there is nothing to wait for

    def test_viewer_without_sound(self, loop: VirtualLoop) -> None:
        """Sound for a peer that takes none is nothing: not dropped, not waited for by its frames."""

        async def script(peer: Path, viewer: Viewer) -> None:
            for k in range(100):
                now = clock.now()
                viewer.sound(Sound(640 * k, 640, 0, b"s", now - 0.2), now)
                viewer.frame(coded(k, keyframe=k == 0))
                await asyncio.sleep(1 / FPS)
            assert viewer.counts.sounds_dropped == 0
            assert viewer.counts.sent == 100
            assert viewer.latency_ms()["server_p95"] == pytest.approx(60, abs=0.2)

        played(loop, script, audio=False)

    def test_waiting_sound_is_bounded(self, loop: VirtualLoop) -> None:
        """A flood of packets keeps the newest; the rest is counted."""

        async def script(peer: Path, viewer: Viewer) -> None:
            now = clock.now()
            for i in range(100):
                viewer.sound(Sound(160 * i, 160, 0, bytes([i]), now), now)
            await asyncio.sleep(1.0)
            assert viewer.counts.sounds_dropped == 36

        assert [data for data, *_ in played(loop, script).heard] == [bytes([i]) for i in range(36, 100)]

    def test_hush(self, loop: VirtualLoop) -> None:
        """What waits when an epoch ends does not leave any more, though it was to leave later."""

        async def script(peer: Path, viewer: Viewer) -> None:
            viewer.lip_sync.measured(0.0)
            now = clock.now()
            viewer.frame(coded(0, keyframe=True, age=0.2))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            viewer.sound(Sound(0, 160, 0, b"old", now), now)
            viewer.flush_audio(1)
            viewer.sound(Sound(160, 160, 0, b"late", now), now)
            viewer.sound(Sound(320, 160, 1, b"new", now), now)
            await asyncio.sleep(1.0)

        assert [data for data, *_ in played(loop, script).heard] == [b"new"]
