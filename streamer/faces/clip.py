"""Makes a pack from a few seconds of video: the best frame for each role is kept, the rest discarded.

    bytes ─▶ container by signature ─▶ the first seconds, at most five frames per second, upright, downscaled
          ─▶ follow_face ─▶ choose_frames ─▶ Pack

Input is bounded in seconds, decoded pixels and kept frames, regardless of the file's metadata. The container format is
passed to FFmpeg explicitly: if FFmpeg probed it, it would follow playlists to other files.

Letters used in shapes: H, W a frame's edges.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
from PIL import Image, ImageSequence

from streamer.base.errors import BadPicture
from streamer.faces.alignment import BadFace
from streamer.faces.decode import MAX_PIXELS, MIN_EDGE, brief, decoding, opened, picture_format
from streamer.faces.expression import Expression, axes, expression
from streamer.faces.notice import Notice
from streamer.faces.pack import Given, Pack, calmest, make_pack
from streamer.faces.roles import ROLES, SAYS, TURN, Role, role_by_face, strength, unrest
from streamer.studio.face_fit import FaceFit

MAX_SECONDS = 12.0
"""Anything later is not read."""

RATE = 5.0
"""Maximum number of frames kept per second: 60 of a whole clip, 220 MB."""

MAX_EDGE = 1280
MAX_AREA = 1280 * 720
MAX_DECODED = 1_500_000_000
"""Maximum number of pixels decoded: 12 seconds of 1080p at 60 frames per second, or 6 of 2160p at 30."""

_MAX_GAP = 1.0  # limit (s) of the interval between frames; a timestamp that does not increase counts as the usual step
_USUAL_RATE = 25.0
_LARGE = 1920 * 1088  # pixels: for larger videos, non-reference frames are skipped
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
_QUARTERS = {90: 1, 180: 2, 270: 3}  # np.rot90 turns by PyAV's rotation, anticlockwise
_SHARP = 0.7  # relative to the sharpest tenth of frames: blurrier frames are a last resort


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a clip."""

    time: float  # seconds since its first frame
    pixels: np.ndarray  # [H, W, 4] uint8 RGBA, upright


@dataclass(frozen=True, eq=False)
class Clip:
    """The frames read from a clip."""

    frames: list[Frame]
    notices: tuple[Notice, ...] = ()


def read_clip(data: bytes, name: str = "") -> Clip:
    """Reads the first `MAX_SECONDS` of a WebM, Matroska, MP4, MOV or AVI, or of an animated GIF, PNG, WebP or AVIF.

    The caller limits the number of bytes. Blocking. Raises BadPicture.
    """
    what = name or "the clip"
    if not data:
        raise BadPicture(f"{what} is empty: 0 bytes")
    sampler = _Sampler()
    try:
        if picture_format(data):
            _read_pictures(data, what, sampler)
        else:
            _read_video(data, what, sampler)
    except BadPicture:
        raise
    except Exception as error:  # FFmpeg raises many types; a truncated clip is used up to the error
        if not sampler.frames:
            why = "it ends before the first one" if isinstance(error, EOFError) else f"it is damaged: {brief(error)}"
            raise BadPicture(f"{what} has 0 frames in its {len(data)} bytes: {why}") from None
        text = f"{what} breaks off after {sampler.elapsed:.1f} s: only the part before that is used."
        sampler.notices.append(Notice("clip_damaged", text))
    if not sampler.frames:
        raise BadPicture(f"{what} has 0 frames in its {len(data)} bytes")
    if sampler.cut:
        text = f"Only the first {sampler.elapsed:.0f} s of {what} were read: {sampler.cut}."
        sampler.notices.append(Notice("clip_cut", text))
    return Clip(sampler.frames, tuple(sampler.notices))


class _Sampler:
    """Selects frames that are far enough apart, and stops at the limits."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.notices: list[Notice] = []
        self.elapsed = 0.0
        self.cut = ""  # why reading stopped before the end of the clip
        self._last: float | None = None
        self._decoded = 0

    def wants(self, time: float | None, usual: float, pixels: int) -> bool:
        """Whether to keep a frame of `pixels` pixels at `time`; `usual` is the nominal interval (s)."""
        if self._decoded:
            step = usual if time is None or self._last is None else time - self._last
            self.elapsed += min(step, _MAX_GAP) if step > 0 else usual
        self._last = time
        self._decoded += pixels
        if self.elapsed >= MAX_SECONDS:
            self.cut = f"at most {MAX_SECONDS:.0f} s are used"
        elif self._decoded > MAX_DECODED:
            self.cut = f"its frames have {pixels} pixels each, and at most {MAX_DECODED} pixels are decoded"
        due = not self.frames or self.elapsed >= self.frames[-1].time + 1 / RATE - 1e-3
        return due and not self.cut

    def keep(self, pixels: np.ndarray) -> None:
        self.frames.append(Frame(self.elapsed, pixels))


def _check_size(width: int, height: int, what: str) -> None:
    if width * height > MAX_PIXELS:
        raise BadPicture(f"{what} has frames of {width}×{height}: at most {MAX_PIXELS} pixels are accepted")
    if min(width, height) < MIN_EDGE:
        raise BadPicture(f"{what} has frames of {width}×{height}: at least {MIN_EDGE} pixels per edge are needed")


def _kept_size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MAX_EDGE / max(width, height), math.sqrt(MAX_AREA / (width * height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def is_video(data: bytes) -> bool:
    """Whether the signature is that of a video that `read_clip` can read."""
    return bool(_container(data)) and not picture_format(data)


def _container(data: bytes) -> str:
    """FFmpeg's name of the container, by signature; empty if unknown."""
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    return ""


def _read_video(data: bytes, what: str, sampler: _Sampler) -> None:
    container_format = _container(data)
    if not container_format:
        raise BadPicture(f"{what} is not a WebM, MP4, MOV or AVI video: its {len(data)} bytes start with {data[:8]!r}")
    with av.open(io.BytesIO(data), "r", format=container_format, metadata_errors="replace") as container:
        # FFmpeg presents cover art as a video stream of one frame.
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise BadPicture(f"{what} contains no video, only {kinds}")
        stream = streams[0]
        if stream.codec_context is None:
            raise BadPicture(f"{what} uses a video codec that cannot be decoded here")
        if stream.width and stream.height:
            _check_size(stream.width, stream.height, what)
        stream.codec_context.thread_count = 1  # sessions are rendered at the same time
        if stream.width * stream.height > _LARGE:
            stream.codec_context.skip_frame = "NONREF"
        usual = 1 / _rate(stream.average_rate)
        for frame in container.decode(stream):
            _check_size(frame.width, frame.height, what)
            time = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else None
            if sampler.wants(None if time is None else float(time), usual, frame.width * frame.height):
                if not sampler.frames and (hdr := _HDR.get(int(frame.color_trc))):
                    text = f"{what} is in HDR ({hdr}): its colours come out paler than they are."
                    sampler.notices.append(Notice("clip_hdr", text))
                sampler.keep(_pixels(frame))
            if sampler.cut:
                return


def _rate(declared: Fraction | None) -> float:
    return float(declared) if declared and 1 <= declared <= 240 else _USUAL_RATE


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """[H, W, 4] uint8: upright and downscaled to the kept size."""
    width, height = _kept_size(frame.width, frame.height)
    # Without metadata, HD and above is assumed to be BT.709, as players do.
    unsaid = int(frame.colorspace) in (0, 2)
    options: dict[str, Any] = {"src_colorspace": "ITU709"} if unsaid and frame.height >= 720 else {}
    picture = frame.reformat(width, height, "rgba", interpolation="AREA", **options).to_ndarray()
    turns = _QUARTERS.get(round(frame.rotation) % 360, 0)
    return np.ascontiguousarray(np.rot90(picture, turns))


def _read_pictures(data: bytes, what: str, sampler: _Sampler) -> None:
    time = 0.0
    with decoding(), opened(data, what) as image:
        _check_size(*image.size, what)
        for picture in ImageSequence.Iterator(image):
            picture.load()  # some formats know a frame's duration only afterwards
            if sampler.wants(time, 1 / _USUAL_RATE, picture.width * picture.height):
                kept = picture.convert("RGBA").resize(_kept_size(*picture.size), Image.Resampling.LANCZOS)
                sampler.keep(np.array(kept))
            if sampler.cut:
                return
            time += float(picture.info.get("duration") or 1000 / _USUAL_RATE) / 1000


class FaceFinder(Protocol):
    """Finds faces; for example `streamer.faces.landmarks.Landmarker`."""

    def find(self, picture: np.ndarray) -> list[FaceFit]:
        """All faces of a picture [H, W, 4] uint8, the most relevant first."""

    def look(self, picture: np.ndarray, box: Sequence[float], roll: float = 0.0) -> FaceFit | None:
        """The face in a box x0, y0, x1, y1, tilted by `roll` radians; much faster than `find`."""


def follow_face(frames: Sequence[Frame], finder: FaceFinder) -> list[FaceFit | None]:
    """Tracks one person's face: its fit in each frame, None where it is not visible.

    Each frame is searched near the previous position; the whole frame is searched first and, while the face is lost,
    once per second.
    """
    fits: list[FaceFit | None] = []
    last: FaceFit | None = None
    searched = -math.inf
    for frame in frames:
        fit = None
        if last is not None:
            low, high = last.points[:, :2].min(0), last.points[:, :2].max(0)
            x, y = axes(last)[0]
            fit = finder.look(frame.pixels, (*low.tolist(), *high.tolist()), math.atan2(y, x))
        if fit is None and frame.time >= searched + 1:
            searched = frame.time
            fit = next(iter(finder.find(frame.pixels)), None)
        fits.append(fit)
        last = fit or last
    return fits


def choose_frames(frames: Sequence[Frame], fits: Sequence[FaceFit | None]) -> Pack:
    """Makes a pack of the calmest sharp frame and the best frame for each role; its notices say which.

    `fits` has one entry per frame, None where there is no face. Raises BadPicture.
    """
    seen = [
        (frame, fit, expression(frame.pixels, fit)) for frame, fit in zip(frames, fits, strict=True) if fit is not None
    ]
    if not seen:
        raise BadFace("no_face", f"no face was found in any of the clip's {len(frames)} frames")
    sharp = _SHARP * float(np.quantile([one.sharpness for _, _, one in seen], 0.9))
    expressions = [one for _, _, one in seen]
    rest = calmest(expressions)
    place = min(range(len(seen)), key=lambda i: unrest(expressions[i], rest) + _blur(expressions[i], sharp))
    neutral = expressions[place]
    best: dict[Role, int] = {"neutral": place}
    for role in ROLES[1:]:
        showing = [i for i, one in enumerate(expressions) if i != place and _shows(role, one, neutral)]
        if showing:
            worth = {i: strength(role, expressions[i], neutral) - 4 * _blur(expressions[i], sharp) for i in showing}
            best[role] = max(showing, key=worth.__getitem__)
    pack = make_pack(
        [Given(seen[i][0].pixels, seen[i][1], f"{seen[i][0].time:.1f} s", role) for role, i in best.items()]
    )
    roles = ", ".join(f"{SAYS[role]} at {seen[i][0].time:.1f} s" for role, i in best.items())
    kept = Notice("clip_chosen", f"Taken from the clip: {roles}. Nothing else of its {len(frames)} frames is kept.")
    chosen = tuple(replace(one, by="face") for one in pack.chosen)
    return replace(pack, notices=(kept, *pack.notices), chosen=chosen)


def _shows(role: Role, one: Expression, neutral: Expression) -> bool:
    """Whether a frame suits a role: frames suit one role each, and none if the head is turned away."""
    return role_by_face(one, neutral) == role and abs(one.yaw - neutral.yaw) <= TURN


def _blur(one: Expression, sharp: float) -> float:
    """Blur penalty: 0 if sharp enough, up to 1."""
    return max(0.0, 1 - one.sharpness / max(sharp, 1e-6))
