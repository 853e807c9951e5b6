"""Pictures without a face to move: they move as a whole."""

import io

import numpy as np
from PIL import Image

from streamer.faces.decode import decode_picture
from streamer.motion.controls import controls
from streamer.studio.still_rig import StillRig


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


PORTRAIT = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8))


def test_alpha_is_kept() -> None:
    """A cut-out stays one: transparent where no background is asked for."""
    cut_out = np.zeros((200, 200, 4), np.uint8)
    cut_out[60:200, 50:150] = (200, 80, 60, 255)
    picture = decode_picture(_bytes(Image.fromarray(cut_out))).pixels
    rig = StillRig(picture, 128, background=False)
    image = rig.draw(controls())
    assert image[0, 0, 3] == 0
    assert image[100, 64, 3] == 255
    assert StillRig(picture, 128).draw(controls())[0, 0, 3] == 255


def test_the_picture_moves_with_the_voice() -> None:
    """An opening mouth stretches the picture; at rest it holds still; no border shows at the extremes."""
    picture = decode_picture(_bytes(PORTRAIT)).pixels
    rig = StillRig(picture, 128)
    rest = rig.draw(controls()).astype(int)
    assert (rig.draw(controls()) == rest).all()
    assert np.abs(rig.draw(controls(open=1.0)) - rest).mean() > 3
    for pose in ({"yaw": 0.5, "roll": 0.3}, {"yaw": -0.5, "roll": -0.3}, {"pitch": 0.3}, {"pitch": -0.3, "open": 1.0}):
        moved = rig.draw(controls(**pose))
        assert (moved[..., 3] == 255).all()
