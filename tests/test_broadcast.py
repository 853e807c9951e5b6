"""Fanning out: one encoder a codec, key frames asked for within bounds, and no viewer at another's cost."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from virtual import Path, VirtualLoop

from streamer.base import clock
from streamer.base.constants import FPS
from streamer.base.frames import Encoded, Frame, Sound, Times
from streamer.base.metrics import Metrics
from streamer.media.video_encoder import Format, ceiling
from streamer.session import fanout as module
from streamer.session.fanout import (
    KEYFRAME_INTERVAL,
    SHARED_KEYFRAME_INTERVAL,
    Broadcast,
    KeyframeRule,
    ReceiverFeedback,
)
from streamer.session.viewer import Viewer

SIZE = 256
CONTENT = 600_000
"""bit/s that the drawn pictures need."""
KEY_WEIGHT = 8
"""A key frame in frames of the ordinary kind."""


class Encoder:
    """In the place of the encoder's thread: codes at once, to packets of the size that its bitrate makes."""

    def __init__(self, encoder: Any, deliver: Callable[[Encoded], None], name: str) -> None:
        self.codec = encoder.codec
        self.deliver = deliver
        self.bitrates: list[int] = []
        self.coded: list[Encoded] = []
        self.keyframes = self.dropped = 0
        self.closed = False
        self._keyframe = True

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def request_keyframe(self) -> None:
        self._keyframe = True

    def request_bitrate(self, bitrate: int) -> None:
        self.bitrates.append(bitrate)

    def submit(self, frame: Frame) -> None:
        keyframe, self._keyframe = self._keyframe, False
        self.keyframes += keyframe
        size = round(min(CONTENT, self.bitrates[-1]) / FPS / 8) * (KEY_WEIGHT if keyframe else 1)
        times = Times(captured=frame.times.captured, encoded=clock.now())
        coded = Encoded(frame.frame, frame.epoch, SimpleNamespace(size=size), keyframe, times)  # type: ignore[arg-type]
        self.coded.append(coded)
        self.deliver(coded)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    with VirtualLoop.used(monkeypatch) as loop:
        monkeypatch.setattr(module, "EncoderThread", Encoder)
        monkeypatch.setattr(module, "VideoEncoder", lambda codec, size, packed: SimpleNamespace(codec=codec))
        yield loop


class Stage:
    """A broadcast, its viewers behind paths of their own, and frames 25 times a second."""

    def __init__(self) -> None:
        self.broadcast = Broadcast(SIZE, "test")
        self.paths: list[Path] = []
        self.k = 0
        self._runs: list[asyncio.Task] = []

    def join(self, codec: str | None = "H264", packed: bool = False, **path: Any) -> Path:
        peer = Path(codec, **path)
        viewer = Viewer(peer.peer, SIZE, Metrics(), packed)
        peer.reports = ReceiverFeedback(self.broadcast)
        peer.reports.viewer = peer.viewer = viewer
        self.broadcast.join(viewer)
        self._runs.append(asyncio.get_running_loop().create_task(viewer.run()))
        self.paths.append(peer)
        return peer

    def encoder(self, codec: str = "H264", packed: bool = False) -> Encoder:
        return self.broadcast._channels[Format(codec, packed)].encoder  # type: ignore[return-value]

    async def play(self, seconds: float) -> None:
        for _ in range(round(seconds * FPS)):
            image = np.zeros((SIZE, SIZE, 4), np.uint8)
            self.broadcast.submit(Frame(self.k, 0, image, Times(captured=clock.now() - 0.05)))
            self.k += 1
            await asyncio.sleep(1 / FPS)
            if self.k % FPS == 0:
                for path in self.paths:
                    path.report()

    async def end(self) -> None:
        for run in self._runs:
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)
        await self.broadcast.close()


def played(loop: VirtualLoop, script: Callable[[Stage], Any]) -> Stage:
    async def act() -> Stage:
        stage = Stage()
        try:
            await script(stage)
        finally:
            await stage.end()
        return stage

    return loop.run_until_complete(act())


class TestKeyframeRule:
    def test_at_once_then_bounded(self) -> None:
        """What is asked for comes with the next frame, but not sooner after the last than was allowed."""
        rule = KeyframeRule()
        assert not rule.due(0.0)
        rule.ask(1.0)
        assert rule.due(0.04)
        assert not rule.due(5.0)  # once for what was asked
        rule.ask(1.0)
        assert rule.due(5.04)
        rule.ask(1.0)
        assert not rule.due(6.03)
        assert rule.due(6.05)

    def test_most_urgent_counts(self) -> None:
        """Of two that ask, the one that may come sooner decides."""
        rule = KeyframeRule()
        rule.ask(0.25)
        assert rule.due(0.0)
        rule.ask(1.0)
        assert not rule.due(0.3)
        rule.ask(0.25)
        rule.ask(1.0)
        assert rule.due(0.3)


class TestFanOut:
    def test_one_encoder_a_codec(self, loop: VirtualLoop) -> None:
        """Three viewers in H.264 and one in VP8 are two encoders, whose frames all of their own viewers get."""

        async def script(stage: Stage) -> None:
            for codec in ("H264", "VP8", "H264", "H264"):
                stage.join(codec)
            assert set(stage.broadcast._channels) == {Format("H264"), Format("VP8")}
            await stage.play(2.0)
            assert len(stage.encoder().coded) == 50

        stage = played(loop, script)
        assert [len(path.sent) for path in stage.paths] == [50, 50, 50, 50]
        assert {id(p) for p, *_ in stage.paths[0].sent} == {id(p) for p, *_ in stage.paths[2].sent}
        assert {id(p) for p, *_ in stage.paths[0].sent}.isdisjoint(id(p) for p, *_ in stage.paths[1].sent)

    def test_one_encoder_with_alpha_and_one_without(self, loop: VirtualLoop) -> None:
        """Who wants alpha shares packets with others who do, and with nobody else of the same codec."""

        async def script(stage: Stage) -> None:
            for packed in (False, True, True):
                stage.join("H264", packed)
            assert set(stage.broadcast._channels) == {Format("H264"), Format("H264", True)}
            await stage.play(1.0)
            assert len(stage.encoder(packed=True).coded) == 25

        stage = played(loop, script)
        plain, one, other = ({id(p) for p, *_ in path.sent} for path in stage.paths)
        assert one == other and one.isdisjoint(plain) and len(one) == len(plain) == 25

    def test_late_viewer_begins_with_a_key_frame_at_once(self, loop: VirtualLoop) -> None:
        """Whoever joins gets a key frame as its first frame, the next one that is drawn; the others miss nothing."""

        async def script(stage: Stage) -> None:
            stage.join()
            await stage.play(3.0)
            late = stage.join()
            assert late.sent == []
            await stage.play(1.0)

        stage = played(loop, script)
        first, late = stage.paths
        weights = [packet.size for packet, *_ in first.sent]
        assert len(first.sent) == 100
        assert len(late.sent) == 25
        assert late.sent[0][0] is first.sent[75][0]
        assert [k for k, weight in enumerate(weights) if weight == max(weights)] == [0, 75]

    def test_crowd_joining_shares_key_frames(self, loop: VirtualLoop) -> None:
        """Twenty who join within half a second cost three key frames, not twenty, and wait a quarter second at most."""

        async def script(stage: Stage) -> None:
            stage.join()
            await stage.play(2.0)
            for _ in range(10):
                stage.join()
                stage.join()
                await stage.play(0.05)
            await stage.play(1.0)
            assert stage.encoder().keyframes <= 1 + 4

        stage = played(loop, script)
        for path in stage.paths[1:]:
            assert path.sent[0][1] - path.born <= KEYFRAME_INTERVAL + 2 / FPS

    def test_encoder_ends_with_its_last_viewer(self, loop: VirtualLoop) -> None:
        """A codec's encoder lives while somebody views in it; its key frames still count. Leaving twice is nothing."""

        async def script(stage: Stage) -> None:
            one, other = stage.join("VP8"), stage.join("VP8")
            stage.join("H264")
            encoder = stage.encoder("VP8")
            await stage.play(0.5)
            await stage.broadcast.leave(one.viewer)
            await stage.broadcast.leave(one.viewer)
            assert not encoder.closed
            await stage.broadcast.leave(other.viewer)
            assert encoder.closed
            assert set(stage.broadcast._channels) == {Format("H264")}
            await stage.play(0.5)
            assert stage.broadcast.keyframes == 2

        stage = played(loop, script)
        assert [len(path.sent) for path in stage.paths] == [12, 12, 24]

    def test_listener_gets_sound_and_costs_no_encoder(self, loop: VirtualLoop) -> None:
        """A viewer without video is sent sound, as the others are, until it leaves."""

        async def script(stage: Stage) -> None:
            listener, viewer = stage.join(None), stage.join()
            assert set(stage.broadcast._channels) == {Format("H264")}
            stage.broadcast.sound(Sound(0, 160, 0, b"one", clock.now()), clock.now())
            await asyncio.sleep(0.5)
            await stage.broadcast.leave(listener.viewer)
            stage.broadcast.sound(Sound(160, 160, 0, b"two", clock.now()), clock.now())
            await asyncio.sleep(0.5)
            assert stage.broadcast.viewers == [viewer.viewer]

        listener, viewer = played(loop, script).paths
        assert [data for data, *_ in listener.heard] == [b"one"]
        assert [data for data, *_ in viewer.heard] == [b"one", b"two"]

    def test_hush_reaches_all(self, loop: VirtualLoop) -> None:
        """Sound of an epoch that ended leaves for nobody."""

        async def script(stage: Stage) -> None:
            stage.join(None), stage.join()
            stage.broadcast.flush_audio(1)
            stage.broadcast.sound(Sound(0, 160, 0, b"old", clock.now()), clock.now())
            stage.broadcast.sound(Sound(160, 160, 1, b"new", clock.now()), clock.now())
            await asyncio.sleep(0.5)

        for path in played(loop, script).paths:
            assert [data for data, *_ in path.heard] == [b"new"]


class TestOneViewersTrouble:
    def test_bitrate_follows_the_fastest(self, loop: VirtualLoop) -> None:
        """One viewer's losses and low estimates leave the encoder's rate alone, until it is the only one."""

        async def script(stage: Stage) -> None:
            fast, slow = stage.join(), stage.join()
            await stage.play(3.0)
            for _ in range(30):
                slow.reports.loss(0.5)
                slow.reports.bandwidth(100_000)
            assert slow.viewer.cap <= 100_000
            assert stage.encoder().bitrates[-1] == fast.viewer.cap == ceiling(SIZE)
            await stage.broadcast.leave(fast.viewer)
            assert stage.encoder().bitrates[-1] == slow.viewer.cap

        played(loop, script)

    def test_lossy_viewers_key_frames_are_bounded(self, loop: VirtualLoop) -> None:
        """One that asks for a key frame eight times a second costs the others one a second; alone it gets four."""

        async def asks(stage: Stage) -> int:
            before = stage.encoder().keyframes
            for _ in range(100):
                stage.paths[0].reports.keyframe()
                await stage.play(0.12)
            return stage.encoder().keyframes - before

        async def script(stage: Stage) -> None:
            stage.join()
            await stage.play(1.0)
            assert await asks(stage) == pytest.approx(12 / 0.28, abs=2)  # a quarter second, rounded up to frames
            stage.join()
            await stage.play(1.0)
            assert await asks(stage) == pytest.approx(12 / SHARED_KEYFRAME_INTERVAL, abs=1)

        stage = played(loop, script)
        assert len(stage.paths[1].sent) >= 25 + 300 - 8  # until its first key frame, a quarter second at most

    def test_slow_path_is_not_drowned(self, loop: VirtualLoop) -> None:
        """A viewer whose path carries a quarter of what is sent gets key frames that come through, the other all.

        In the end the slow path loses nothing, though the fast viewer's picture goes on at its full rate.
        """

        async def script(stage: Stage) -> None:
            fast, slow = stage.join(), stage.join(capacity=150_000)
            await stage.play(8.0)
            assert slow.viewer.thinned
            slow.clear()
            sent = len(fast.sent)
            keyframes = stage.encoder().keyframes
            await stage.play(10.0)
            assert len(fast.sent) - sent == 10 * FPS
            assert slow.lost == 0
            assert 2 <= len(slow.sent) <= 10
            assert all(packet.size == KEY_WEIGHT * round(CONTENT / FPS / 8) for packet, *_ in slow.sent)
            assert stage.encoder().keyframes - keyframes <= 10 * 0.6
            assert not fast.viewer.thinned
            assert set(stage.encoder().bitrates) == {fast.viewer.cap} == {ceiling(SIZE)}

        played(loop, script)

    def test_thinned_viewer_begs_in_vain(self, loop: VirtualLoop) -> None:
        """The key frames that a thinned viewer's decoder asks for are not made: its next comes in its time."""

        async def script(stage: Stage) -> None:
            stage.join()
            slow = stage.join(capacity=150_000)
            await stage.play(8.0)
            assert slow.viewer.thinned
            keyframes = stage.encoder().keyframes
            for _ in range(100):
                slow.reports.keyframe()
                await stage.play(0.12)
            assert stage.encoder().keyframes - keyframes <= 12 * 0.6
            assert slow.viewer.thinned

        played(loop, script)

    def test_hopeless_path_is_tried_seldom(self, loop: VirtualLoop) -> None:
        """A path that stays slow is tried with the full rate less and less often, and meanwhile has a picture."""

        async def script(stage: Stage) -> None:
            stage.join()
            slow = stage.join(capacity=150_000)
            tries = []
            for second in range(900):
                before = slow.viewer.thinned
                await stage.play(1.0)
                if before and not slow.viewer.thinned:
                    tries.append(second)
            assert 3 <= len(tries) <= 8
            gaps = np.diff(tries)
            assert gaps[-1] > 2 * gaps[0]
            slow.clear()
            await stage.play(60.0)
            assert slow.viewer.thinned
            assert slow.lost == 0
            assert len(slow.sent) >= 12

        played(loop, script)

    def test_recovered_path_gets_all_again(self, loop: VirtualLoop) -> None:
        """A path that stalls for ten seconds and then carries everything has its viewer at full rate in a minute."""

        async def script(stage: Stage) -> None:
            stage.join()
            slow = stage.join(capacity=20_000)
            await stage.play(10.0)
            assert slow.viewer.thinned
            slow.capacity = 10e6
            await stage.play(60.0)
            assert not slow.viewer.thinned
            sent = len(slow.sent)
            await stage.play(4.0)
            assert len(slow.sent) - sent == 4 * FPS

        played(loop, script)

    def test_viewer_alone_slows_its_encoder_instead(self, loop: VirtualLoop) -> None:
        """Where nobody else needs more, the encoder follows the slow path, which keeps its full frame rate."""

        async def script(stage: Stage) -> None:
            alone = stage.join(capacity=250_000)
            await stage.play(30.0)
            assert not alone.viewer.thinned
            assert stage.encoder().bitrates[-1] < 400_000
            assert len(alone.sent) >= 30 * FPS - 10

        played(loop, script)

    def test_thinned_viewers_share_key_frames(self, loop: VirtualLoop) -> None:
        """Five slow viewers, each of which takes a key frame in three seconds or so, cost little more than one does."""

        async def script(stage: Stage) -> None:
            stage.join()
            for i in range(5):
                stage.join(capacity=150_000)
                await stage.play(0.2 * i)
            await stage.play(20.0)
            before = stage.encoder().keyframes
            for path in stage.paths:
                path.clear()
            await stage.play(20.0)
            assert stage.encoder().keyframes - before <= 14
            for path in stage.paths[1:]:
                assert path.viewer.thinned
                assert len(path.sent) >= 3

        played(loop, script)
