"""The stamp strip."""

import numpy as np
import pytest

from streamer.base.constants import SIZES
from streamer.media.frame_stamp import checksum, read, stamp
from streamer.media.video_encoder import VideoEncoder, to_yuv


def _image(size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (size, size, 4), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frame", [0, 1, 255, 256, 65_535, 2**24 - 1])
def test_a_stamp_reads_back_in_every_size(size: int, frame: int) -> None:
    """What is written into a picture is read from its luma."""
    image = _image(size)
    stamp(image, frame)
    luma = to_yuv(image).to_ndarray()[:size]
    assert read(luma) == frame


def test_a_picture_without_a_stamp_reads_as_none() -> None:
    """Checksums catch what is no stamp."""
    image = _image(256)
    assert read(image[..., 0]) is None
    stamp(image, 1000)
    image[-1 - 256 // 32 :, :8, :3] = 255 - image[-1 - 256 // 32 :, :8, :3]
    assert read(image[..., 0]) is None, "one bit flipped"


def test_frame_numbers_wrap_at_24_bits() -> None:
    """The strip carries k modulo 2^24."""
    image = _image(128)
    stamp(image, 2**24 + 5)
    assert read(image[..., 0]) == 5


def test_the_stamp_survives_the_encoder() -> None:
    """After H.264 at the lowest bitrate every stamp still reads."""
    import av

    encoder = VideoEncoder("H264", 128)
    decoder = av.CodecContext.create("h264", "r")
    seen = []
    for k in range(20):
        encoder.set_bitrate(80_000)
        image = np.full((128, 128, 4), 128, np.uint8)
        stamp(image, k)
        for picture in decoder.decode(encoder.encode(image, k)):
            seen.append(read(picture.to_ndarray()[:128]))
    for picture in decoder.decode(None):
        seen.append(read(picture.to_ndarray()[:128]))
    assert seen == list(range(20))


def test_checksum_is_a_byte() -> None:
    """The protocol's formula, at a value worked out by hand."""
    assert checksum(0x010203) == (3 + 3 * 2 + 7 * 1 + 90) & 255
