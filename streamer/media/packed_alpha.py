"""Alpha for video codecs without an alpha channel: a double-width picture, colour on the left, alpha on the right.

The colour is straight, not premultiplied, and extends beneath transparent areas: codecs subsample chroma and blur
edges, and this way the outline of a character blends hair with hair colour, not with black. Alpha is limited-range
luma: 16 is transparent, 235 opaque.

Letters used in shapes: S picture edge.
"""

import av
import numpy as np
from PIL import Image

from streamer.base.image import Picture, Yuv

_FAINT = 16
"""Below this alpha, straight colour is too coarsely quantised to use; the surrounding colour replaces it."""
_COARSEST = 4

_LUMA = np.array([16 + (219 * alpha + 127) // 255 for alpha in range(256)], np.uint8)
_FULL = np.array([min(max((255 * (luma - 16) + 109) // 219, 0), 255) for luma in range(256)], np.uint8)


def bled(picture: np.ndarray) -> Image.Image:
    """
    Converts straight RGBA [S, S, 4] uint8 to RGB, filling transparent areas with the colour of their surroundings,
    ever coarser with distance. Black if the whole picture is transparent.
    """
    image = Image.fromarray(picture)
    colour = image.convert("RGB")
    faint = picture[..., 3] < _FAINT
    if faint.any():
        coarse = _filled(np.asarray(image.convert("RGBa").reduce(4)))
        _overlay(colour, coarse, faint)
    return colour


def _filled(premultiplied: np.ndarray) -> Image.Image:
    """[s, s, 4] to RGB without holes: low-alpha areas are filled from the half-size picture, recursively."""
    alpha = premultiplied[..., 3:].astype(np.uint16)
    known = alpha[..., 0] >= _FAINT
    straight = np.minimum(255, premultiplied[..., :3] * np.uint16(255) // np.maximum(alpha, 1)).astype(np.uint8)
    # Known pixels get full weight in the next level, however few they are, so that their colour spreads far.
    solid = np.concatenate([straight, np.full_like(straight[..., :1], 255)], -1) * known[..., None]
    size = len(premultiplied)
    image = Image.fromarray(np.ascontiguousarray(solid[..., :3]))
    if size > _COARSEST and not known.all():
        halved = Image.frombuffer("RGBa", (size, size), solid.tobytes()).reduce(2)
        _overlay(image, _filled(np.asarray(halved)), ~known)
    elif known.any() and not known.all():
        image.paste(tuple(int(level) for level in straight[known].mean(0)), mask=_mask(~known))
    return image


def _overlay(image: Image.Image, coarse: Image.Image, where: np.ndarray) -> None:
    """Pastes an enlarged coarser version of the picture where `where` [S, S] bool is set."""
    image.paste(coarse.resize(image.size, Image.Resampling.BILINEAR), mask=_mask(where))


def _mask(where: np.ndarray) -> Image.Image:
    return Image.fromarray(where.view(np.uint8) * np.uint8(255))


def pack(picture: Picture) -> av.VideoFrame:
    """Packs a picture of edge S into a YUV 4:2:0 frame of 2S×S (BT.601, limited range): colour left, alpha right."""
    if isinstance(picture, Yuv):
        alpha = picture.alpha
        planes = picture.planes
        if alpha is not None:
            rgb = av.VideoFrame.from_ndarray(planes, format="yuv420p").to_ndarray(format="rgb24")
            planes = _planes(bled(np.concatenate([rgb, alpha[..., None]], -1)))
    else:
        alpha = picture[..., 3]
        planes = _planes(bled(picture))
    size = planes.shape[1]
    half = size // 2
    wide = np.full((3 * half, 2 * size), 128, np.uint8)
    wide[:size, :size] = planes[:size]
    wide[:size, size:] = _LUMA[255] if alpha is None else _LUMA[alpha]
    # Then the two chroma planes, each S / 2 rows of S; in memory a row of 2S holds two of their rows.
    colours = wide[size:].reshape(2, half, size)
    colours[:, :, :half] = planes[size:].reshape(2, half, half)
    return av.VideoFrame.from_ndarray(wide, format="yuv420p")


def _planes(rgb: Image.Image) -> np.ndarray:
    """RGB of S×S to planes [3 S / 2, S], BT.601 limited range."""
    return av.VideoFrame.from_ndarray(np.asarray(rgb), format="rgb24").to_ndarray(format="yuv420p")


def unpack(frame: av.VideoFrame) -> np.ndarray:
    """The inverse of `pack`: straight RGBA [S, S, 4] uint8, keeping the colour beneath transparent areas."""
    size = frame.height
    rgb = frame.to_ndarray(format="rgb24")[:, :size]
    luma = frame.to_ndarray(format="yuv420p")[:size, size:]
    return np.concatenate([rgb, _FULL[luma][..., None]], -1)
