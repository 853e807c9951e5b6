"""Pictures of one person for tests of uploads: a photograph in the public domain, posed by the rig and painted over."""

import io
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from streamer.faces.reading import PictureReader, Upload
from streamer.motion.controls import controls
from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig import PictureRig, PreparedPicture

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
PORTRAIT = PICTURES / "astronaut.jpg"

POSES = {
    "idle": {},
    "talk": {"open": 0.9},
    "smile": {"smile": 1.0},
    "look": {"gaze_x": 1.0},
}
"""What the face does, by the name of a file that shows it."""

_MASK = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 346, 5,
         117)  # fmt: skip


def png(picture: np.ndarray | Image.Image) -> bytes:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, "PNG")
    return stream.getvalue()


@cache
def portrait() -> tuple[np.ndarray, FaceFit]:
    """[448, 448, 3] uint8 and the face in it."""
    pack = PictureReader().read([Upload(PORTRAIT.read_bytes())])
    return np.ascontiguousarray(pack.neutral[..., :3]), pack.fit


@cache
def poses() -> dict[str, np.ndarray]:
    """[384, 384, 4] uint8 of each of POSES."""
    pixels, fit = portrait()
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    rig = PictureRig(PreparedPicture.build(np.concatenate([pixels, opaque], -1), fit), 384, True)
    try:
        return {name: np.array(rig.draw(controls(**values), 0.0)) for name, values in POSES.items()}
    finally:
        rig.close()


def clip(pictures: list[np.ndarray], seconds: float, rate: int = 10) -> bytes:
    """A WebM that shows each picture [H, W, 3 or 4] for so long."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="webm") as container:
        video = container.add_stream("libvpx", rate=rate, options={"deadline": "realtime", "cpu-used": "8"})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt, video.bit_rate = "yuv420p", 3_000_000
        container.start_encoding()  # a clip of 0 frames has a header, too
        for picture in pictures:
            for _ in range(round(seconds * rate)):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[..., :3]), format="rgb24")
                container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return stream.getvalue()


def side_by_side(count: int) -> np.ndarray:
    """The person as often as that."""
    return np.concatenate([portrait()[0]] * count, 1)


def far_away() -> np.ndarray:
    """The person so small that the face is 20 pixels high."""
    picture = Image.new("RGB", (400, 400), (120, 140, 160))
    picture.paste(Image.fromarray(portrait()[0]).resize((90, 90), Image.Resampling.LANCZOS), (150, 150))
    return np.array(picture)


def masked() -> np.ndarray:
    """With a mask before nose, mouth and chin."""
    pixels, fit = portrait()
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).polygon([tuple(map(float, fit.points[i, :2])) for i in _MASK], fill=(110, 160, 200))
    return _grained(image, pixels)


def in_sunglasses() -> np.ndarray:
    """With nearly black lenses before the eyes."""
    pixels, fit = portrait()
    image = Image.fromarray(pixels)
    pen, size = ImageDraw.Draw(image), fit.eye_distance
    for lids in fit.lids:
        x, y = lids.mean(0) + [0, 0.06 * size]
        pen.rounded_rectangle(
            [x - 0.3 * size, y - 0.22 * size, x + 0.3 * size, y + 0.22 * size], 0.13 * size, (20, 20, 24)
        )
    return _grained(image, pixels)


def asleep() -> np.ndarray:
    """With skin over the eyes, and a line where the lids meet."""
    pixels, fit = portrait()
    image = Image.fromarray(pixels)
    pen, size = ImageDraw.Draw(image), fit.eye_distance
    x, y = (int(v) for v in fit.points[50, :2])
    skin = tuple(int(v) for v in np.median(pixels[y - 4 : y + 4, x - 4 : x + 4].reshape(-1, 3), axis=0))
    for lids in fit.lids:
        x, y = lids.mean(0)
        pen.ellipse([x - 0.2 * size, y - 0.1 * size, x + 0.2 * size, y + 0.1 * size], fill=skin)
        pen.line([tuple(map(float, point)) for point in lids[:9]], fill=(60, 40, 35), width=2)
    return np.array(image)


def cat() -> np.ndarray:
    """A drawn one, from the front."""
    image = Image.new("RGB", (400, 400), (200, 210, 190))
    pen = ImageDraw.Draw(image)
    for left in (90, 310):
        pen.polygon(
            [(left, 160), (200 + 0.5 * (left - 200) * 1.8, 50), (200 + 0.1 * (left - 200), 110)], (150, 110, 70)
        )
    pen.ellipse([80, 90, 320, 320], fill=(160, 120, 80))
    for x in (150, 250):
        pen.ellipse([x - 28, 170, x + 28, 215], fill=(200, 220, 90))
        pen.ellipse([x - 7, 170, x + 7, 215], fill=(10, 10, 10))
    pen.polygon([(188, 240), (212, 240), (200, 256)], fill=(220, 130, 130))
    for x in (170, 200):
        pen.arc([x, 245, x + 30, 280], 0, 180, fill=(40, 30, 20), width=3)
    for side in (-1, 1):
        for slope in (-12, 0, 12):
            pen.line([200 + side * 40, 255, 200 + side * 150, 250 + 2 * slope], fill=(240, 240, 240), width=2)
    return np.array(image)


def _grained(image: Image.Image, before: np.ndarray) -> np.ndarray:
    """What was painted is given a camera's grain and some shading: evenly coloured it would be a drawing."""
    after = np.asarray(image).astype(np.float32)
    painted = (np.abs(after - before).sum(-1, keepdims=True) > 0) & True
    grain = (
        np.random.default_rng(0).normal(0, 6, (*after.shape[:2], 1)) + np.linspace(-14, 14, len(after))[:, None, None]
    )
    return np.where(painted, (after + grain).clip(0, 255), after).astype(np.uint8)
