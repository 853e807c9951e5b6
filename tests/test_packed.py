"""Alpha packed beside the colour: what comes out of real coders, laid over real grounds, is what was drawn."""

import av
import numpy as np
import pytest

from streamer.avatar.characters import Characters
from streamer.base.image import Yuv
from streamer.media import frame_stamp
from streamer.media.packed_alpha import bled, pack, unpack
from streamer.media.video_encoder import Format, VideoEncoder, ceiling
from streamer.motion.controls import rest

DECODERS = {"H264": "h264", "VP8": "vp8"}
GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "green": (0, 170, 119)}


@pytest.fixture(scope="module")
def cutout() -> np.ndarray:
    """A character on nothing, [256, 256, 4] straight RGBA, with fair hair and a dark coat."""
    rig = Characters().get("40").rig(256, False)
    try:
        return rig.draw(rest()).copy()
    finally:
        rig.close()


def coded(picture: np.ndarray | Yuv, codec: str, size: int = 256, frames: int = 5) -> np.ndarray:
    """What a decoder gives back of the last of a few equal frames, [S, S, 4]."""
    encoder = VideoEncoder(codec, size, packed=True)
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    decoder.thread_type = "NONE"  # type: ignore[union-attr]
    for k in range(frames):
        (frame,) = decoder.decode(encoder.encode(picture, k))  # type: ignore[attr-defined]
    assert (frame.width, frame.height) == (2 * size, size)
    return unpack(frame)


def over(picture: np.ndarray, ground: tuple[int, int, int]) -> np.ndarray:
    """Straight RGBA over one colour, [S, S, 3] float."""
    alpha = picture[..., 3:] / 255
    return picture[..., :3] * alpha + np.array(ground) * (1 - alpha)


def edge(picture: np.ndarray) -> np.ndarray:
    """[S, S] bool: where alpha is neither nought nor full, and two pixels round it."""
    near = (picture[..., 3] > 0) & (picture[..., 3] < 255)
    for axis in (0, 1):
        near = near | np.roll(near, 1, axis) | np.roll(near, -1, axis)
    return near


class TestPacking:
    def test_alpha_comes_back(self, cutout: np.ndarray) -> None:
        """Without a coder between, alpha is right to one level, and the colour as exact as half the resolution."""
        back = unpack(pack(cutout))
        assert np.abs(back[..., 3].astype(int) - cutout[..., 3]).max() <= 1
        solid = cutout[..., 3] == 255
        assert np.abs(back[solid][:, :3].astype(int) - cutout[solid][:, :3]).mean() < 4

    def test_colour_is_kept_where_there_is_one(self, cutout: np.ndarray) -> None:
        """Colour is changed only where it can hardly be seen."""
        seen = cutout[..., 3] >= 16
        assert (np.asarray(bled(cutout))[seen] == cutout[seen][:, :3]).all()

    def test_colour_flows_on_under_what_is_transparent(self) -> None:
        """A red disc on nothing is red all round, near and far, with no black anywhere."""
        y, x = np.mgrid[:64, :64] - 31.5
        disc = np.zeros((64, 64, 4), np.uint8)
        disc[np.hypot(x, y) < 6] = (200, 30, 20, 255)
        filled = np.asarray(bled(disc)).astype(int)
        assert np.abs(filled - (200, 30, 20)).max() <= 3

    def test_two_colours_share_the_ground(self) -> None:
        """What is transparent takes after what is nearer."""
        two = np.zeros((64, 64, 4), np.uint8)
        two[24:40, 8:16] = (250, 0, 0, 255)
        two[24:40, 48:56] = (0, 0, 250, 255)
        filled = np.asarray(bled(two)).astype(int)
        assert filled[32, 4, 0] > 200 > 50 > filled[32, 4, 2]
        assert filled[32, 60, 2] > 200 > 50 > filled[32, 60, 0]

    @pytest.mark.parametrize("level", [0, 255])
    def test_all_or_nothing(self, level: int) -> None:
        """Pictures that are wholly transparent, or wholly opaque, come back so."""
        picture = np.full((64, 64, 4), 90, np.uint8)
        picture[..., 3] = level
        back = unpack(pack(picture))
        assert (back[..., 3] == level).all()
        assert np.abs(back[..., :3].astype(int) - (90 if level else 0)).max() <= 2

    def test_planes_bring_their_alpha(self, cutout: np.ndarray) -> None:
        """Planes from a device are packed as the picture that they were made of; without alpha they are opaque."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(cutout[..., :3]), format="rgb24")
        planes = frame.to_ndarray(format="yuv420p")
        back, whole = unpack(pack(Yuv(planes, cutout[..., 3].copy()))), unpack(pack(Yuv(planes)))
        assert np.abs(back[..., 3].astype(int) - cutout[..., 3]).max() <= 1
        assert (whole[..., 3] == 255).all()
        reference = unpack(pack(cutout))
        solid = (cutout[..., 3] == 255) & ~edge(cutout)
        assert np.abs(back[solid].astype(int) - reference[solid]).mean() < 3

    def test_planes_refuse_an_alpha_of_another_size(self) -> None:
        """The text names both sizes."""
        with pytest.raises(ValueError, match=r"\(8, 8\).*16, 16"):
            Yuv(np.zeros((24, 16), np.uint8), np.zeros((8, 8), np.uint8))

    def test_halves_do_not_touch(self) -> None:
        """A white opaque half beside a black transparent one: the last column of colour, and the first of alpha."""
        picture = np.zeros((64, 64, 4), np.uint8)
        picture[:, 32:] = (255, 40, 40, 255)
        back = unpack(pack(picture))
        assert (back[:, 0, 3] == 0).all() and (back[:, 63, 3] == 255).all()
        assert np.abs(back[:, 63, :3].astype(int) - (255, 40, 40)).max() <= 4


@pytest.mark.parametrize("codec", ["H264", "VP8"])
class TestCoding:
    def test_edges_have_no_fringe(self, cutout: np.ndarray, codec: str) -> None:
        """At the outline, over white, black and green, what was coded is within a few levels of what was drawn, and
        not darker on the whole: colour mixed with the black of nothing would be."""
        back, at = coded(cutout, codec), edge(cutout)
        for ground in GROUNDS.values():
            wanted, found = over(cutout, ground), over(back, ground)
            assert np.abs(found - wanted)[at].mean() < 5
            assert (found - wanted)[at].mean() > -1.5

    def test_bright_edges_keep_their_colour(self, codec: str) -> None:
        """A yellow disc, which has no dark outline: at its rim no channel is dulled by the black of nothing."""
        y, x = np.mgrid[:256, :256] - 127.5
        disc = np.zeros((256, 256, 4), np.uint8)
        disc[..., :3] = (255, 225, 60)
        disc[..., 3] = (255 * np.clip(90 - np.hypot(x, y), 0, 1)).astype(np.uint8)
        disc[disc[..., 3] == 0] = 0
        back, at = coded(disc, codec), edge(disc)
        for ground in GROUNDS.values():
            error = np.abs(over(back, ground) - over(disc, ground))[at]
            assert error.mean() < 3, error.mean(0)

    def test_nothing_stays_nothing(self, cutout: np.ndarray, codec: str) -> None:
        """Far from the character alpha is within what receivers take for none; inside it, for full."""
        alpha, at = coded(cutout, codec)[..., 3], edge(cutout)
        for axis in (0, 1):
            for step in range(1, 6):
                at = at | np.roll(at, step, axis) | np.roll(at, -step, axis)
        assert np.percentile(alpha[(cutout[..., 3] == 0) & ~at], 99.9) <= 6
        assert np.percentile(alpha[(cutout[..., 3] == 255) & ~at], 0.1) >= 249

    def test_the_stamp_is_read_from_the_colour(self, cutout: np.ndarray, codec: str) -> None:
        """The strip is opaque, and its number stands in the left half."""
        picture = cutout.copy()
        frame_stamp.stamp(picture, 70_001)
        back = coded(picture, codec)
        assert frame_stamp.read(back[..., 1]) == 70_001
        assert back[-8:, :, 3].min() > 240


def test_stamped_planes_are_opaque_there() -> None:
    """Planes with alpha get a strip that can be seen."""
    planes = Yuv(np.full((96, 64), 128, np.uint8), np.zeros((64, 64), np.uint8))
    frame_stamp.stamp(planes, 5)
    assert planes.alpha is not None
    assert (planes.alpha[60:] == 255).all() and (planes.alpha[:60] == 0).all()


def test_formats_differ_by_codec_and_alpha() -> None:
    """What can share packets is equal, all else is not; alpha is worth half as much again."""
    assert Format("H264") == Format("H264", False) != Format("H264", True) != Format("VP8", True)
    assert len({str(Format(codec, packed)) for codec in ("H264", "VP8") for packed in (False, True)}) == 4
    assert ceiling(256, packed=True) == pytest.approx(1.5 * ceiling(256), abs=1)
