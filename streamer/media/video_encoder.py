"""Encodes frames as H.264 or VP8: real-time, no B-frames, no denoiser, bitrate changes without a new encoder.

x264's `superfast` encodes a 256×256 frame in under a millisecond, with the deblocking and adaptive quantisation that
`ultrafast` lacks. libvpx's denoiser stays off because it leaves stale macroblocks, which freeze fine mouth motion.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from streamer.base import clock
from streamer.base.constants import FPS, VIDEO_CLOCK
from streamer.base.frames import Encoded, Frame
from streamer.base.image import Picture, Yuv
from streamer.base.queues import Mailbox
from streamer.media.packed_alpha import pack

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, VIDEO_CLOCK)
TICKS = VIDEO_CLOCK // FPS
"""3600: RTP ticks per frame."""

_REBUILD_RATIO = 1.5
"""libvpx cannot change its bitrate in place: it is rebuilt, at the cost of a keyframe, only for changes beyond this."""


@dataclass(frozen=True, slots=True)
class Format:
    """How frames are encoded. Viewers with the same format can share packets."""

    codec: str
    """"H264" or "VP8"."""
    packed: bool = False
    """Double width: colour on the left, alpha on the right (`packed_alpha.py`)."""

    def __str__(self) -> str:
        return f"{self.codec}-packed" if self.packed else self.codec


def ceiling(size: int, packed: bool = False) -> int:
    """
    The highest useful bitrate (bit/s) for S×S pictures at 25 fps; content rarely needs it. Packed alpha adds half,
    because it is flat except at the outline.
    """
    return int(min(8e6, max(600e3, (21.0 if packed else 14.0) * size * size)))


def to_yuv(image: Picture) -> av.VideoFrame:
    """Converts to YUV 4:2:0, BT.601 limited range: planes are copied, RGBA is converted ignoring its alpha."""
    if isinstance(image, Yuv):
        return av.VideoFrame.from_ndarray(image.planes, format="yuv420p")
    return av.VideoFrame.from_ndarray(image, format="rgba").reformat(format="yuv420p")


def to_rgba(image: Picture) -> np.ndarray:
    """Returns RGBA [S, S, 4] uint8: RGBA unchanged, planes converted to opaque RGBA."""
    return to_yuv(image).to_ndarray(format="rgba") if isinstance(image, Yuv) else image


class VideoEncoder:
    """One session's encoder. Not thread-safe: owned by the encoder thread.

    Raises ValueError for a codec other than "H264" or "VP8".
    """

    def __init__(self, codec: str, size: int, packed: bool = False) -> None:
        if codec not in ("H264", "VP8"):
            raise ValueError(f"no encoder for {codec!r}: H264 and VP8 are available")
        self.codec = codec
        self.size = size
        self.packed = packed
        self._ceiling = ceiling(size, packed)
        self._bitrate = self._ceiling
        self._context: VideoCodecContext | None = None
        self.keyframes = 0

    @property
    def bitrate(self) -> int:
        return self._bitrate

    def set_bitrate(self, bitrate: int) -> None:
        """Caps the bitrate (bit/s) from the next frame on, clamped to the useful range for the frame size."""
        bitrate = max(60_000, min(int(bitrate), self._ceiling))
        if self._context is not None and bitrate != self._bitrate:
            if self.codec == "H264":
                self._context.bit_rate = bitrate
            elif not 1 / _REBUILD_RATIO < bitrate / (self._context.bit_rate or 1) < _REBUILD_RATIO:
                self._context = None
        self._bitrate = bitrate

    def encode(self, image: Picture, frame: int, keyframe: bool = False) -> av.Packet:
        """Encodes a picture of the encoder's size into one packet with pts 3600·frame."""
        if isinstance(image, Yuv):
            if image.size != self.size:
                raise ValueError(f"planes of a picture of {image.size} pixels, but the encoder expects {self.size}")
        elif image.shape != (self.size, self.size, 4):
            raise ValueError(f"frame of shape {image.shape}, but the encoder expects ({self.size}, {self.size}, 4)")
        if self._context is None:
            self._context = self._open()
            keyframe = True
        picture = pack(image) if self.packed else to_yuv(image)
        picture.pts = frame * TICKS
        picture.time_base = TIME_BASE
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = self._context.encode(picture)
        if len(packets) != 1:
            raise RuntimeError(f"{self.codec} returned {len(packets)} packets for one frame: it must not delay frames")
        self.keyframes += packets[0].is_keyframe
        return packets[0]

    def _open(self) -> VideoCodecContext:
        context = av.CodecContext.create("libx264" if self.codec == "H264" else "libvpx", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = (2 if self.packed else 1) * self.size, self.size
        context.pix_fmt = "yuv420p"
        context.framerate = Fraction(FPS, 1)
        context.time_base = TIME_BASE
        context.thread_count = 1
        context.gop_size = 1_000_000  # keyframes only when a receiver requests one
        if self.codec == "H264":
            # If opened at its maximum with an equal buffer rate, x264 follows later changes of `bit_rate` in place.
            # The quantiser's lower limit keeps the rate at what the content needs.
            context.bit_rate = self._ceiling
            context.options = {
                "preset": "superfast",
                "tune": "zerolatency",
                "profile": "baseline",
                "maxrate": str(self._ceiling),
                "bufsize": str(self._ceiling // 2),
                "qmin": "18",
                "forced-idr": "1",
            }
            context.open()
            context.bit_rate = self._bitrate
        else:
            context.bit_rate = self._bitrate
            context.qmin, context.qmax = 6, 56
            context.options = {
                "deadline": "realtime",
                "cpu-used": "8",
                "lag-in-frames": "0",
                "noise-sensitivity": "0",
                "static-thresh": "0",
                "maxrate": str(self._bitrate),
                "bufsize": str(self._bitrate),
            }
        return context


class EncoderThread:
    """Encodes one session's frames in its own thread; a waiting frame is dropped when a newer one arrives.

    `deliver` is called on that thread with each encoded frame.
    """

    def __init__(self, encoder: VideoEncoder, deliver: Callable[[Encoded], None], name: str) -> None:
        self._encoder = encoder
        self._deliver = deliver
        self._mailbox: Mailbox[Frame] = Mailbox()
        self._keyframe = False
        self._bitrate = encoder.bitrate
        self._thread = threading.Thread(target=self._run, name=f"encode-{name}", daemon=True)
        self.failed = 0

    def start(self) -> None:
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._mailbox.dropped

    @property
    def codec(self) -> str:
        return self._encoder.codec

    @property
    def bitrate(self) -> int:
        return self._bitrate

    @property
    def keyframes(self) -> int:
        return self._encoder.keyframes

    def submit(self, frame: Frame) -> None:
        self._mailbox.put(frame)

    def request_keyframe(self) -> None:
        self._keyframe = True

    def request_bitrate(self, bitrate: int) -> None:
        self._bitrate = bitrate

    def close(self) -> None:
        """Stops the thread. Idempotent, safe before `start`."""
        self._mailbox.close()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(2.0)

    def _run(self) -> None:
        for frame in self._mailbox:
            keyframe, self._keyframe = self._keyframe, False
            try:
                self._encoder.set_bitrate(self._bitrate)
                packet = self._encoder.encode(frame.image, frame.frame, keyframe)
            except Exception:
                self.failed += 1
                self._keyframe = True
                log.exception("could not encode frame %d", frame.frame)
                continue
            times = replace(frame.times, encoded=clock.now())  # copied: other encoders share the frame
            self._deliver(Encoded(frame.frame, frame.epoch, packet, packet.is_keyframe, times))
