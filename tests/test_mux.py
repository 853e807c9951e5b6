"""Muxing: sound and picture on one timeline, in each container, with gaps, losses and interruptions."""

import errno
import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outlet_source import PACKET, SIZE, Source, watch

from streamer.base import clock
from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.frames import Sound
from streamer.media.muxer import _SILENCE, BEHIND, FORMATS, TRAIL, Intake, KeyframeInterval, Muxer, Piece, SoundLine


def sound(pts: int, epoch: int = 0, duration: int = PACKET) -> Sound:
    return Sound(pts, duration, epoch, b"\xf8", 0.0)


def speech(pieces: list[Piece]) -> list[int]:
    """Where real packets lie, in samples at 16 kHz."""
    return [piece.at // 3 for piece in pieces if piece.payload == b"\xf8"]


class TestSoundLine:
    def test_sound_waits_for_its_frame(self) -> None:
        """Packets come out when a frame reaches them, each at its own pts."""
        line = SoundLine(640)
        for pts in range(640, 3200, PACKET):
            line.push(sound(pts))
        assert speech(line.reach(640, 0)) == [0, 320]
        assert speech(line.reach(1280, 0)) == [640, 960]
        assert line.dropped == 0

    def test_what_is_before_time_zero_is_left_out(self) -> None:
        """Packets that began before the first frame are not moved, but dropped and counted."""
        line = SoundLine(6400)
        for pts in (5760, 6080, 6400):
            line.push(sound(pts))
        assert speech(line.reach(6400, 0)) == [0]
        assert line.dropped == 2

    def test_a_gap_is_silence(self) -> None:
        """Between two packets the gap is filled to within 2.5 ms, and the second lies where its pts says."""
        line = SoundLine(0)
        line.push(sound(0))
        line.push(sound(1003))
        pieces = line.reach(640, 0)
        assert speech(pieces) == [0, 1003]
        filled = sum(piece.duration for piece in pieces[1:-1])
        assert (1003 - PACKET) * 3 - filled in range(120)

    def test_silence_follows_the_frames(self) -> None:
        """Where no sound comes at all, silence comes as far as sound can no longer be expected."""
        line = SoundLine(0)
        end = max(piece.at + piece.duration for k in range(100) for piece in line.reach(k * SAMPLES_PER_FRAME, 0))
        assert 0 <= (99 * SAMPLES_PER_FRAME - TRAIL) * 3 - end < 120

    def test_overlapping_packets(self) -> None:
        """A packet that begins before the last one's end is dropped and counted."""
        line = SoundLine(0)
        for pts in (0, 160, 320):
            line.push(sound(pts))
        assert speech(line.reach(0, 0)) == [0, 320]
        assert line.dropped == 1

    def test_an_interruption_cuts_what_was_not_yet_heard(self) -> None:
        """Of an earlier epoch, what begins at the first frame of the new one or later is left out."""
        line = SoundLine(0)
        for pts in range(0, 6400, PACKET):
            line.push(sound(pts, epoch=0))
        line.reach(0, 0)
        line.push(sound(3200, epoch=1))
        assert speech(line.reach(2560, 1)) == [pts for pts in range(640, 2560, PACKET)]
        assert speech(line.reach(3200, 1)) == [3200]

    def test_what_waits_is_bounded(self) -> None:
        """Sound that runs far ahead of the frames pushes out the oldest, which is counted."""
        line = SoundLine(0, waiting=10)
        for i in range(15):
            line.push(sound(i * PACKET))
        assert line.dropped == 5
        assert speech(line.reach(5 * PACKET, 0)) == [5 * PACKET, 6 * PACKET]

    @given(st.lists(st.tuples(st.integers(-40, 4000), st.sampled_from([40, 160, 320, 960])), max_size=60))
    def test_packets_never_overlap_and_never_move(self, gaps: list[tuple[int, int]]) -> None:
        """Whatever comes, pieces are in order and apart, and each packet that is told lies at its own pts."""
        line = SoundLine(0)
        given_pts, pts = set(), 0
        for gap, duration in gaps:
            pts = max(0, pts + gap)
            line.push(sound(pts, duration=duration))
            given_pts.add(pts)
            pts += duration
        pieces = [piece for k in range(pts // SAMPLES_PER_FRAME + 1) for piece in line.reach(k * SAMPLES_PER_FRAME, 0)]
        for one, other in zip(pieces, pieces[1:], strict=False):
            assert 0 <= other.at - (one.at + one.duration) < 120
        assert set(speech(pieces)) <= given_pts


@pytest.mark.parametrize("piece", _SILENCE, ids=lambda piece: f"{piece[0]} ticks")
def test_silence_is_silence(piece: tuple[int, bytes]) -> None:
    """The packets that stand for silence decode to zeros of the stated length."""
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    (frame,) = decoder.decode(av.Packet(piece[1]))
    assert frame.samples == piece[0]
    assert not frame.to_ndarray().any()


def test_key_frames_come_by_the_frames_clock() -> None:
    """The first frame and the first one in each second after are key frames, however many are missing."""
    rule = KeyframeInterval(1.0)
    assert [k for k in (7, 8, 31, 32, 33, 90, 91, 114, 115) if rule.due(k)] == [7, 32, 90, 115]


def test_an_intake_drops_the_oldest_and_counts() -> None:
    """What the writer does not take in time is overtaken: frames and packets each within their own bound."""
    intake, source = Intake(frames=3, sounds=4), Source()
    for k in range(10):
        for packet in source.until(k):
            intake.sound(packet)
        intake.frame(source.frame(k))
    intake.close()
    taken = list(intake)
    assert [frame.frame for frame, _ in taken] == [7, 8, 9]
    assert [packet.pts for packet in taken[0][1]] == [16 * PACKET + i * PACKET for i in range(4)]
    assert (intake.dropped, intake.sounds_dropped) == (7, 16)


def test_an_intake_lets_the_live_encoder_go_first() -> None:
    """A frame that was just drawn is taken a little later; one that is late already, at once."""
    intake, source = Intake(), Source()
    fresh, old = source.frame(1), source.frame(2)
    fresh.times.drawn = clock.now()
    intake.frame(fresh)
    intake.frame(old)
    taken = iter(intake)
    next(taken)
    assert clock.now() >= fresh.times.drawn + BEHIND
    assert next(taken)[0] is old


class TestMuxer:
    @pytest.mark.parametrize("format", FORMATS)
    def test_flash_and_beep_together(self, format: str, tmp_path: Path) -> None:
        """In each container beeps begin with their flashes, beyond lost frames and beyond a silence without packets."""
        path, source = tmp_path / "film", Source()
        with path.open("wb", buffering=0) as file:
            muxer = Muxer(file, format, SIZE, 1.0)
            for k in range(140):
                for packet in source.until(k):
                    if not 1.5 <= packet.pts / 16_000 < 3.11:
                        muxer.sound(packet)
                if k >= 20 and k not in range(81, 90):
                    muxer.frame(source.frame(k))
            muxer.close()
            assert (muxer.frames, muxer.seconds) == (111, 4.8)
        seen = watch(path)
        assert len(seen.frames) == 111
        start = seen.frames[0]
        assert np.allclose(np.subtract(seen.flashes, start), [0.2, 1.2, 2.2, 3.2, 4.2], atol=0.002)
        # The codec's own look-ahead, 6.5 ms, is in the packets, live and here.
        assert np.allclose(np.subtract(seen.beeps, start), [0.2065, 3.2065, 4.2065], atol=0.004)
        assert np.allclose(np.subtract(seen.keyframes, start), [0, 1, 2, 3, 4], atol=0.002)
        # Frames left out show as a longer one.
        assert max(np.diff(seen.frames)) == pytest.approx(0.4, abs=0.002)
        assert seen.heard_until - start == pytest.approx(4.8, abs=0.13)

    @pytest.mark.parametrize("format", FORMATS)
    def test_small_gaps_do_not_add_up(self, format: str, tmp_path: Path) -> None:
        """2.4 ms are missing after each packet, and no packet of silence fills them: beeps begin with their flashes."""
        path, source, pts = tmp_path / "film", Source(), 0
        with path.open("wb", buffering=0) as file:
            muxer = Muxer(file, format, SIZE, 1.0)
            for k in range(120):
                while pts < (k + 1) * SAMPLES_PER_FRAME:
                    muxer.sound(source.packet(pts))
                    pts += PACKET + 39
                muxer.frame(source.frame(k))
            muxer.close()
        seen = watch(path)
        assert np.allclose(np.subtract(seen.flashes, seen.frames[0]), [0, 1, 2, 3, 4], atol=0.002)
        beeps = [seen.beeps[i] for i in np.flatnonzero(np.diff(seen.beeps, prepend=-1) > 0.5)]
        assert np.allclose(np.subtract(beeps, seen.frames[0]), [0, 1, 2, 3, 4], atol=0.03)

    def test_mp4_keeps_the_packets(self, tmp_path: Path) -> None:
        """MP4 holds the very Opus packets that came, none decoded and coded again, and none skipped when played."""
        path, source, sent = tmp_path / "film.mp4", Source(), []
        with path.open("wb", buffering=0) as file:
            muxer = Muxer(file, "mp4", SIZE, 1.0)
            for k in range(30):
                for packet in source.until(k):
                    sent.append(packet.payload)
                    muxer.sound(packet)
                muxer.frame(source.frame(k))
            muxer.close()
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            assert stream.codec_context.extradata[:8] == b"OpusHead"
            assert stream.codec_context.extradata[10:12] == b"\0\0"
            assert [bytes(packet) for packet in container.demux(stream) if packet.size] == sent

    def test_a_fragment_is_one_write_each_second(self) -> None:
        """The sink is given whole boxes only, a fragment each second, so that what it has can play."""
        writes: list[tuple[int, bytes]] = []

        class Sink:
            def write(self, data: bytes) -> int:
                writes.append((k, data))
                return len(data)

        muxer, source = Muxer(Sink(), "mp4", 512, 1.0), Source(512)
        for k in range(80):
            for packet in source.until(k):
                muxer.sound(packet)
            muxer.frame(source.frame(k))
        for _, data in writes:
            at = 0
            while at < len(data):
                at += int.from_bytes(data[at : at + 4], "big")
            assert at == len(data)
        assert [k for k, data in writes if data[4:8] == b"moof"] == [25, 50, 75]
        assert len(max((data for _, data in writes), key=len)) > 32_768  # more than FFmpeg's usual buffer
        muxer.close()

    def test_frames_that_are_not_new_are_left_out(self) -> None:
        """A frame that is not after the last one does not break the container."""
        muxer, source = Muxer(io.BytesIO(), "mp4", SIZE, 1.0), Source()
        for k in (3, 4, 4, 2, 5):
            muxer.frame(source.frame(k))
        muxer.close()
        assert muxer.frames == 3

    def test_a_sink_that_fails(self) -> None:
        """What the sink raises comes out as it is; after that closing writes nothing and raises nothing."""

        class Full(io.BytesIO):
            def write(self, data: bytes) -> int:
                if self.tell() > 20_000:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(data)

        sink, source = Full(), Source()
        muxer = Muxer(sink, "mp4", SIZE, 1.0)
        with pytest.raises(OSError, match="No space left") as caught:
            for k in range(500):
                muxer.frame(source.frame(k))
        assert caught.value.errno == errno.ENOSPC
        written = sink.tell()
        muxer.close()
        muxer.close()
        assert sink.tell() == written

    @pytest.mark.parametrize("format", FORMATS)
    def test_nothing_to_write(self, format: str) -> None:
        """A container without a frame can be closed."""
        Muxer(io.BytesIO(), format, SIZE, 1.0).close()
