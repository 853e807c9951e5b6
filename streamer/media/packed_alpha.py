"""Transparency for video coders that know none: a picture twice as wide, colour at the left, alpha at the right.

The colour is straight, not premultiplied, and flows on under what is transparent: a coder halves the resolution of
colour and blurs edges, and at the edge of a character it then mixes hair with more hair, not with black. Alpha is
brightness of limited range, 16 where nothing is to be seen and 235 where all is.

Letters used in shapes: S picture edge.
"""

import av
import numpy as np
from PIL import Image

from streamer.base.image import Picture, Yuv

_FAINT = 16
"""Straight colour of alpha below it is coarse, divided out of few levels: what surrounds it takes its place."""
_COARSEST = 4

_LUMA = np.array([16 + (219 * alpha + 127) // 255 for alpha in range(256)], np.uint8)
_FULL = np.array([min(max((255 * (luma - 16) + 109) // 219, 0), 255) for luma in range(256)], np.uint8)


def bled(picture: np.ndarray) -> Image.Image:
    """
    Straight RGBA [S, S, 4] uint8 -> RGB: the same colour where there is one, and where there is none or hardly one,
    that of what is near, ever coarser with the distance. Black where the whole picture is transparent.
    """
    image = Image.fromarray(picture)
    colour = image.convert("RGB")
    faint = picture[..., 3] < _FAINT
    if faint.any():
        coarse = _filled(np.asarray(image.convert("RGBa").reduce(4)))
        _overlay(colour, coarse, faint)
    return colour


def _filled(premultiplied: np.ndarray) -> Image.Image:
    """[s, s, 4] -> RGB without holes: where alpha is low, from half the size, and that again from half of its own."""
    alpha = premultiplied[..., 3:].astype(np.uint16)
    known = alpha[..., 0] >= _FAINT
    straight = np.minimum(255, premultiplied[..., :3] * np.uint16(255) // np.maximum(alpha, 1)).astype(np.uint8)
    # What is known counts fully in the next level, however little of it there is: it is to reach far.
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
    """Puts a coarser picture of the same, enlarged, where [S, S] bool says so."""
    image.paste(coarse.resize(image.size, Image.Resampling.BILINEAR), mask=_mask(where))


def _mask(where: np.ndarray) -> Image.Image:
    return Image.fromarray(where.view(np.uint8) * np.uint8(255))


def pack(picture: Picture) -> av.VideoFrame:
    """A picture of edge S to YUV 4:2:0 of 2 S x S, BT.601 limited range: colour left, alpha right."""
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
    # Both planes of colour follow, each of S / 2 rows of S; in memory a row of 2 S holds two of theirs.
    colours = wide[size:].reshape(2, half, size)
    colours[:, :, :half] = planes[size:].reshape(2, half, half)
    return av.VideoFrame.from_ndarray(wide, format="yuv420p")


def _planes(rgb: Image.Image) -> np.ndarray:
    """RGB of S x S -> planes [3 S / 2, S], BT.601 limited range."""
    return av.VideoFrame.from_ndarray(np.asarray(rgb), format="rgb24").to_ndarray(format="yuv420p")


def unpack(frame: av.VideoFrame) -> np.ndarray:
    """What `pack` packed, [S, S, 4] uint8 straight RGBA, its colour as it is, also under what is transparent."""
    size = frame.height
    rgb = frame.to_ndarray(format="rgb24")[:, :size]
    luma = frame.to_ndarray(format="yuv420p")[:size, size:]
    return np.concatenate([rgb, _FULL[luma][..., None]], -1)
