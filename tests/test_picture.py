"""Uploaded pictures: decoded safely, refused with a reason, moved as a whole."""

import io

import numpy as np
import pytest
from PIL import Image

from streamer.studio.controls import controls
from streamer.studio.picture import BadPicture, PictureRig, open_picture


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size it has no pixels for."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


PORTRAIT = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"not a picture at all", "20 bytes"),
        (_bytes(PORTRAIT)[:2000], "truncated"),
        (_bytes(PORTRAIT, "JPEG")[:2000], "truncated"),
        (_png_header(30_000, 30_000), "900000000 pixels"),
        (_png_header(5000, 5000), "5000×5000"),
        (_bytes(PORTRAIT.resize((1, 1))), "1×1"),
        (_bytes(PORTRAIT.resize((640, 20))), "640×20"),
        (_bytes(PORTRAIT.convert("CMYK"), "JPEG"), "CMYK"),
        (_bytes(PORTRAIT, "PNG", save_all=True, append_images=[PORTRAIT.rotate(9)]), "animated"),
        (_bytes(PORTRAIT, "GIF"), "no PNG"),
    ],
    ids=["empty", "text", "cut-png", "cut-jpeg", "bomb", "large", "1x1", "thin", "cmyk", "animated", "gif"],
)
def test_what_is_no_portrait_is_refused(data: bytes, says: str) -> None:
    """Each kind of bad picture gets a reason with its number."""
    with pytest.raises(BadPicture, match=says):
        open_picture(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_good_pictures_open(kind: str) -> None:
    """The three formats decode to RGBA of their own shape."""
    picture = open_picture(_bytes(PORTRAIT, kind))
    assert picture.shape == (300, 200, 4)
    assert (picture[..., 3] == 255).all()


def test_large_pictures_are_kept_small() -> None:
    """No more is kept than the largest session shows."""
    assert max(open_picture(_bytes(PORTRAIT.resize((3000, 2000)))).shape[:2]) == 1024


def test_alpha_is_kept() -> None:
    """A cut-out stays one: transparent where no background is asked for."""
    cut_out = np.zeros((200, 200, 4), np.uint8)
    cut_out[60:200, 50:150] = (200, 80, 60, 255)
    picture = open_picture(_bytes(Image.fromarray(cut_out)))
    rig = PictureRig(picture, 128, background=False)
    image = rig.draw(controls())
    assert image[0, 0, 3] == 0
    assert image[100, 64, 3] == 255
    assert PictureRig(picture, 128).draw(controls())[0, 0, 3] == 255


def test_the_picture_moves_with_the_voice() -> None:
    """An opening mouth stretches the picture; at rest it holds still; no border shows at the extremes."""
    picture = open_picture(_bytes(PORTRAIT))
    rig = PictureRig(picture, 128)
    rest = rig.draw(controls()).astype(int)
    assert (rig.draw(controls()) == rest).all()
    assert np.abs(rig.draw(controls(open=1.0)) - rest).mean() > 3
    for pose in ({"yaw": 0.5, "roll": 0.3}, {"yaw": -0.5, "roll": -0.3}, {"pitch": 0.3}, {"pitch": -0.3, "open": 1.0}):
        moved = rig.draw(controls(**pose))
        assert (moved[..., 3] == 255).all()
