"""Encoding: real frame rate, one packet a frame, bitrate in place."""

import threading

import av
import numpy as np
import pytest

from streamer.base.frames import Encoded, Frame, Times
from streamer.media.video_encoder import TICKS, EncoderThread, VideoEncoder, ceiling


def _noise(rng: np.random.Generator, size: int = 128) -> np.ndarray:
    image = np.full((size, size, 4), 255, np.uint8)
    coarse = rng.integers(0, 255, (size // 8, size // 8, 3), np.uint8)
    image[..., :3] = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return image


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_frames_come_back_one_for_one(codec: str) -> None:
    """Each frame gives one packet with its own pts; only the first is a key frame, and the decoder never waits."""
    rng = np.random.default_rng(1)
    encoder = VideoEncoder(codec, 128)
    decoder = av.CodecContext.create({"H264": "h264", "VP8": "vp8"}[codec], "r")
    decoder.thread_type = "NONE"  # type: ignore[union-attr]
    image = _noise(rng)
    for k in range(10):
        packet = encoder.encode(image, 3 * k)
        assert packet.pts == 3 * k * TICKS
        assert packet.is_keyframe == (k == 0)
        (picture,) = decoder.decode(packet)  # type: ignore[attr-defined]
        error = picture.to_ndarray(format="rgb24").astype(int) - image[..., :3]
        assert np.abs(error).mean() < 12
    assert encoder.keyframes == 1


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_key_frame_comes_when_asked_for(codec: str) -> None:
    """`keyframe=True` makes that frame decodable on its own."""
    encoder = VideoEncoder(codec, 128)
    image = _noise(np.random.default_rng(2))
    packets = [encoder.encode(image, k, keyframe=k == 4) for k in range(8)]
    assert [p.is_keyframe for p in packets] == [k in (0, 4) for k in range(8)]


def _rate(encoder: VideoEncoder, first: int, rng: np.random.Generator) -> float:
    """bit/s over 50 frames of restless content."""
    sizes = [encoder.encode(_noise(rng), k).size for k in range(first, first + 50)]
    return sum(sizes[10:]) * 8 * 25 / 40


def test_h264_follows_its_bitrate_without_a_key_frame() -> None:
    """A lower cap is kept to, a raised one is used, and no key frame marks the change."""
    rng = np.random.default_rng(3)
    encoder = VideoEncoder("H264", 128)
    free = _rate(encoder, 0, rng)
    encoder.set_bitrate(150_000)
    low = _rate(encoder, 50, rng)
    encoder.set_bitrate(10_000_000)
    again = _rate(encoder, 100, rng)
    assert low < 1.3 * 150_000 < free
    assert again > 2 * low
    assert encoder.keyframes == 1


def test_the_cap_is_bounded() -> None:
    """Nonsense from a receiver is clamped to what is useful for the size."""
    encoder = VideoEncoder("H264", 128)
    encoder.set_bitrate(-5)
    assert encoder.bitrate == 60_000
    encoder.set_bitrate(2**60)
    assert encoder.bitrate == ceiling(128)


def test_wrong_frames_and_codecs_are_refused() -> None:
    """Errors name what came and what was due."""
    with pytest.raises(ValueError, match="AV1"):
        VideoEncoder("AV1", 128)
    with pytest.raises(ValueError, match=r"64, 64, 4.*128, 128, 4"):
        VideoEncoder("H264", 128).encode(np.zeros((64, 64, 4), np.uint8), 0)


def test_the_thread_delivers_and_survives_a_bad_frame() -> None:
    """A frame that cannot be encoded is counted, and the next one comes as a key frame."""
    delivered: list[Encoded] = []
    ready = threading.Semaphore(0)

    def deliver(coded: Encoded) -> None:
        delivered.append(coded)
        ready.release()

    thread = EncoderThread(VideoEncoder("H264", 128), deliver, "test")
    thread.close()  # safe before start
    thread = EncoderThread(VideoEncoder("H264", 128), deliver, "test")
    thread.start()
    good = _noise(np.random.default_rng(4))
    thread.submit(Frame(0, 0, good, Times()))
    assert ready.acquire(timeout=5)
    thread.submit(Frame(1, 0, np.zeros((1, 1, 4), np.uint8), Times()))
    while thread.failed == 0:
        pass
    thread.submit(Frame(2, 0, good, Times()))
    assert ready.acquire(timeout=5)
    thread.close()
    thread.close()
    assert [(c.frame, c.keyframe) for c in delivered] == [(0, True), (2, True)]
    assert delivered[0].times.encoded > 0
