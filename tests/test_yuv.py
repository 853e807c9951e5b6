"""Frames as planes: held to what swscale and Pillow make of the same pictures, and taken by encoder and stamp."""

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from streamer.base.alpha import premultiplied, straighten
from streamer.base.constants import SIZES
from streamer.base.image import Yuv
from streamer.media.frame_stamp import read, stamp
from streamer.media.video_encoder import VideoEncoder, to_rgba, to_yuv
from streamer.model.runtime.color import eight_bit, over, scaled, straight, to_planes


def _noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 4)).astype(np.uint8)


def _smooth(size: int) -> np.ndarray:
    """A picture of soft edges whose alpha goes from 0 to 255, straight."""
    coarse = Image.fromarray(_noise(8)).resize((size, size), Image.Resampling.BICUBIC)
    picture = np.array(coarse)
    picture[..., 3] = np.linspace(0, 255, size)[None].round()
    return picture


def _tensor(picture: np.ndarray) -> Tensor:
    """[S, S, C] -> [1, C, S, S] in 0..255."""
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]


def _planes(picture: np.ndarray) -> np.ndarray:
    return to_planes(_tensor(picture[..., :3]))[0].numpy()


def _apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("size", [64, 128, 192])
def test_planes_are_swscales(size: int) -> None:
    """Pixels without any order, and the corners of the colour cube, come out within one level of swscale's."""
    corners = np.array([[r, g, b, 255] for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    for picture in (
        _noise(size),
        _smooth(size),
        np.tile(corners, (size, size // 8, 1)),
        corners[_noise(size)[..., 0] % 8],
    ):
        assert _apart(_planes(picture), to_yuv(picture).to_ndarray()) <= 1


def test_a_batch_is_its_pictures() -> None:
    """Each picture of several is converted as if it were alone."""
    several = torch.cat([_tensor(_noise(64, seed)[..., :3]) for seed in range(3)])
    for planes, picture in zip(to_planes(several), several, strict=True):
        assert torch.equal(planes, to_planes(picture[None])[0])


@pytest.mark.parametrize(("opaque", "plated"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("size", [64, 96])
def test_what_is_shown_is_what_pillow_shows(opaque: bool, plated: bool, size: int) -> None:
    """Opaque, over a plate, or without one, at its own size or another: as Pillow composites and scales it."""
    frame, plate = premultiplied(_smooth(64)), premultiplied(_smooth(64)[::-1])
    frame = np.ascontiguousarray(frame[:, ::-1])
    behind = _tensor(plate if plated else np.zeros_like(plate)).to(torch.uint8)
    pictures = over(_tensor(frame), torch.tensor([opaque]), behind)
    if size != 64:
        pictures = scaled(pictures, size)
    found = torch.cat([straight(pictures), pictures[:, 3:]], 1)[0].permute(1, 2, 0).numpy()
    if opaque:
        frame[..., 3] = 255
    else:
        straighten(frame)
    straighten(plate)
    image = Image.fromarray(frame)
    if plated and not opaque:
        image = Image.alpha_composite(Image.fromarray(plate), image)
    wanted = np.asarray(image if size == 64 else image.resize((size, size), Image.Resampling.BICUBIC))
    assert _apart(found[..., 3], wanted[..., 3]) <= 2
    # Colour is divided by alpha, and what was rounded with it.
    there = wanted[..., 3] >= 128
    assert there.any() and _apart(found[there][..., :3], wanted[there][..., :3]) <= (2 if opaque else 5)
    assert not found[..., :3][found[..., 3] == 0].any()


def test_eight_bits_as_on_the_cpu() -> None:
    """-1..1 becomes 0..255, and what lies beyond is cut off."""
    painted = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0], dtype=torch.float16).view(1, 1, 1, 6)
    assert eight_bit(painted).flatten().tolist() == [0, 0, 128, 191, 255, 255]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frame", [0, 2**24 - 1])
def test_a_stamp_in_planes_reads_back(size: int, frame: int) -> None:
    """In every size the number is read from the brightness, the strip is grey, and the rest is left alone."""
    planes = Yuv(np.random.default_rng(0).integers(0, 256, (3 * size // 2, size)).astype(np.uint8))
    stamped = planes.copy()
    stamp(stamped, frame)
    height = 2 * (size // 32)
    assert read(stamped.brightness) == frame
    assert (stamped.colour[:, (size - height) // 2 :] == 128).all()
    assert (stamped.brightness[:-height] == planes.brightness[:-height]).all()
    assert (stamped.colour[:, : (size - height) // 2] == planes.colour[:, : (size - height) // 2]).all()
    rgba = np.zeros((size, size, 4), np.uint8)
    stamp(rgba, frame)
    assert _apart(stamped.brightness[-height:], to_yuv(rgba).to_ndarray()[size - height : size]) == 0


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_an_encoder_takes_planes(codec: str) -> None:
    """The same picture as RGBA and as planes gives the same packet."""
    picture = _smooth(128)
    as_planes, as_rgba = VideoEncoder(codec, 128), VideoEncoder(codec, 128)
    planes = Yuv(to_yuv(picture).to_ndarray())
    for frame in range(3):
        assert bytes(as_planes.encode(planes, frame)) == bytes(as_rgba.encode(picture, frame))


def test_there_and_back() -> None:
    """Planes become opaque RGBA, near the picture where colour changes slowly."""
    picture = np.array(Image.fromarray(_noise(4)).resize((128, 128), Image.Resampling.BICUBIC))
    back = to_rgba(Yuv(to_yuv(picture).to_ndarray()))
    assert back.shape == (128, 128, 4) and (back[..., 3] == 255).all()
    assert np.abs(back[..., :3].astype(int) - picture[..., :3]).mean() < 3
    assert to_rgba(picture) is picture


def test_wrong_planes_are_refused() -> None:
    """Shapes that no picture has, and a picture of another size than the encoder's, with the numbers."""
    for shape, dtype in (((96, 96), np.uint8), ((99, 66), np.uint8), ((96, 64), np.float32)):
        with pytest.raises(ValueError, match=str(shape[0])):
            Yuv(np.zeros(shape, dtype))
    with pytest.raises(ValueError, match="64 pixels, but the encoder expects 128"):
        VideoEncoder("H264", 128).encode(Yuv(np.zeros((96, 64), np.uint8)), 0)
    assert isinstance(to_yuv(Yuv(np.zeros((96, 64), np.uint8))), av.VideoFrame)
