"""Decodes uploaded pictures to upright sRGB pixels, or rejects them with a one-sentence reason.

    bytes ─▶ format by signature ─▶ size, frames ─▶ decoded (JPEG downscaled) ─▶ kept size ─▶ sRGB ─▶ upright

The size is checked in the header before any pixel is decoded. One picture is decoded at a time, so that concurrent
uploads need the memory of one. Animated pictures are rejected: only the user knows which frame to use, and the first
is often empty.

HEIC is read by pi-heif (extra `heic`). Its wheels contain libheif and libde265, both LGPL-3.0 and linked as shared
libraries, and no encoder; pillow-heif's wheels also contain x265, which is GPL, and are not used for that reason.

Letters used in shapes: H, W the picture's edges.
"""

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    features,
)
from PIL import __version__ as pillow_version

from streamer.base.errors import BadPicture

MAX_PIXELS = 25_000_000
"""Cameras sold as 24 megapixels produce up to 24.5 million pixels."""

MIN_EDGE = 64
KEPT_EDGE = 2048
MAX_ASPECT = 16
"""A narrower picture would be kept with fewer than `MIN_EDGE` pixels across, or nearly so."""

MAX_SCANS = 50
"""Limit for progressive JPEGs. Encoders write about ten scans; each costs a pass over the picture and few bytes."""

FORMATS = "PNG, JPEG, WebP, AVIF, HEIC or GIF"
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".heic", ".heif", ".gif"}
"""File name extensions by format."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")  # neither stuffing nor restart: within a scan, its end
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_LEVELS = np.arange(0, 256, 51, dtype=np.uint8)
_SAME = 2  # grey levels by which a profile may differ from sRGB and still be treated as sRGB

_one_at_a_time = threading.Lock()


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded picture."""

    pixels: np.ndarray
    """[H, W, 4] uint8: straight sRGB with alpha, upright, at most `KEPT_EDGE` per edge."""

    scale: float
    """Scale of `pixels` relative to the file: 1 or less."""

    notes: tuple[str, ...] = ()
    """Sentences on information that was lost or assumed."""


def decode_picture(data: bytes, name: str = "") -> Decoded:
    """Decodes a still picture; `name` identifies it in errors. Blocking. Raises BadPicture."""
    what = name or "the picture"
    if not data:
        raise BadPicture(f"{what} is empty: 0 bytes")
    try:
        with decoding():
            return _decoded(data, what)
    except BadPicture:
        raise
    except Exception as error:  # decoders raise many types: struct.error, SyntaxError, KeyError, MemoryError
        raise BadPicture(f"{what} is truncated or damaged: {brief(error)} ({len(data)} bytes)") from None


@contextmanager
def decoding() -> Iterator[None]:
    """Serialises decoding and silences Pillow's warnings about damage that it works around."""
    # Warning filters are global to the process: the lock keeps threads from restoring each other's.
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def picture_format(data: bytes) -> str:
    """The format by signature: PNG, JPEG, WEBP, GIF, AVIF, HEIF, or empty if unknown."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        listed = data[16 : min(int.from_bytes(data[:4], "big"), 256)]
        brands = {brand} | {listed[i : i + 4] for i in range(0, len(listed), 4)}
        if brands & {b"avif", b"avis"}:  # before HEIF: either may have the brand mif1
            return "AVIF"
        if brand in _HEIF_BRANDS:
            return "HEIF"
    return ""


def _decoded(data: bytes, what: str) -> Decoded:
    kind = picture_format(data)
    image = opened(data, what)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadPicture(f"{what} is {width}×{height}: at most {MAX_PIXELS} pixels are accepted")
    if min(width, height) < MIN_EDGE:
        raise BadPicture(f"{what} is {width}×{height}: at least {MIN_EDGE} pixels per edge are needed")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadPicture(f"{what} is {width}×{height}: one edge may be at most {MAX_ASPECT} times the other")
    # Further pictures in a JPEG are depth or gain maps, in a HEIC bursts: the first is the photograph.
    if kind not in ("JPEG", "HEIF") and (count := getattr(image, "n_frames", 1)) > 1:
        raise BadPicture(f"{what} is animated ({count} frames): upload a still picture, or upload it as a clip")
    if kind == "JPEG" and (scans := _scans(data)) > MAX_SCANS:
        raise BadPicture(f"{what} is a JPEG of {scans} scans: at most {MAX_SCANS} are accepted")

    scale = min(1.0, KEPT_EDGE / max(width, height))
    kept = (max(1, round(width * scale)), max(1, round(height * scale)))
    image.draft(None, kept)  # decodes a JPEG at a half, a quarter or an eighth if that is large enough
    image.load()
    if width * height < image.width * image.height:
        raise BadPicture(f"{what} declares {width}×{height} but is {image.width}×{image.height}")
    turn = _UPRIGHT.get(_orientation(image))  # read after the pixels: in a PNG it may follow them
    pixels, notes = _srgb(_scaled(_interpolable(image), kept), image.info.get("icc_profile"))
    if turn is not None:
        pixels = pixels.transpose(turn)
    return Decoded(np.array(pixels), scale, notes)


def opened(data: bytes, what: str) -> ImageFile.ImageFile:
    """Opens a picture, reading only its header. Raises BadPicture, or the format reader's own errors."""
    stream, kind = io.BytesIO(data), picture_format(data)
    try:
        if kind == "PNG":
            return PngImagePlugin.PngImageFile(stream)
        if kind == "JPEG":
            return JpegImagePlugin.JpegImageFile(stream)  # not Image.open, which splits an MPF into several pictures
        if kind == "WEBP":
            return WebPImagePlugin.WebPImageFile(stream)
        if kind == "GIF":
            return GifImagePlugin.GifImageFile(stream)
        if kind == "AVIF":
            if not features.check("avif"):
                raise BadPicture(f"{what} is AVIF, which Pillow {pillow_version} cannot read: save it as JPEG")
            return AvifImagePlugin.AvifImageFile(stream)
        if kind == "HEIF":
            return _heif(stream, what)
    except Image.DecompressionBombError as error:
        pixels = next(iter(re.findall(r"\d+", str(error))), "too many")
        raise BadPicture(f"{what} has {pixels} pixels: at most {MAX_PIXELS} are accepted") from None
    raise BadPicture(f"{what} is not a {FORMATS} picture: its {len(data)} bytes start with {data[:8]!r}")


def _heif(stream: io.BytesIO, what: str) -> ImageFile.ImageFile:
    try:
        from pi_heif import HeifImageFile
    except ImportError:
        raise BadPicture(
            f"{what} is HEIC, as iPhones store photographs: save it as JPEG, or install lipstream[heic] on the server"
        ) from None
    return HeifImageFile(stream)


def _scans(data: bytes) -> int:
    """Number of scans of a JPEG, up to the end of its first picture."""
    count, at = 0, 2
    while found := _MARKER.search(data, at):
        at, marker = found.end(), found[1][0]
        if marker == _END:
            break
        count += marker == _SCAN
        if marker != _START:  # of an embedded picture, which has no length
            at += int.from_bytes(data[at : at + 2], "big")
    return count


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1..8. Cameras store rotated pixels and record the orientation; browsers apply it."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF is ignored: the pixels are still valid
        return 1


def _interpolable(image: Image.Image) -> Image.Image:
    """Converts to a mode whose pixels can be averaged: L, LA, RGB, RGBA or CMYK; 16 bits are reduced to 8."""
    clear = image.info.get("transparency")
    if image.mode.startswith("I"):  # Pillow's own conversion clips at 255, which turns everything white
        values = np.asarray(image)
        grey = (np.clip(values / 65535, 0, 1) * 255).astype(np.uint8)
        if not isinstance(clear, int):
            return Image.fromarray(grey)
        alpha = np.where(values == clear, 0, 255).astype(np.uint8)
        return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))
    if clear is not None or image.mode in ("PA", "La", "RGBa"):
        return image.convert("RGBA")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    """Converts to sRGB RGBA by the picture's own profile, with notes on problems."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert(image.mode[:-1]) if alpha is not None else image
    notes: tuple[str, ...] = ()
    converted = None
    if profile:
        try:
            converted = _converted(colours, profile)
        except (OSError, ValueError, TypeError, ImportError, ImageCms.PyCMSError) as error:
            notes = (f"its colour profile ({len(profile)} bytes) could not be used: {brief(error)}",)
    if converted is None and image.mode == "CMYK":
        notes = (*notes, "its colours are CMYK, made for print, without a usable profile: they may look off")
    pixels = (converted or colours.convert("RGB")).convert("RGBA")
    if alpha is not None:
        pixels.putalpha(alpha)
    return pixels, notes


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts to sRGB RGB. Raises one of several errors if the profile is broken or for another colour space."""
    theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = theirs.profile.xcolor_space.strip()
    if space != _SPACES[image.mode]:
        raise ValueError(f"it is for {space} but the picture is {_SPACES[image.mode]}")
    transform = ImageCms.buildTransform(theirs, ImageCms.createProfile("sRGB"), image.mode, "RGB")
    if image.mode == "RGB":
        cube = Image.fromarray(np.stack(np.meshgrid(*[_LEVELS] * 3), -1).reshape(1, -1, 3))
        if np.abs(np.asarray(transform.apply(cube), int) - np.asarray(cube, int)).max() <= _SAME:
            return image  # equivalent to sRGB: the pixels stay unchanged
    converted = transform.apply(image)
    assert converted is not None
    return converted


def brief(error: Exception) -> str:
    """The error's text on one line, or its type's name."""
    return " ".join(str(error).split())[:200] or type(error).__name__
