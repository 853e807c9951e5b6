"""Muxes a session's frames and sound into a container on one timeline: everything is placed at its pts.

Shared by recordings and publishers. Opus packets are copied if the container supports Opus (MP4, Matroska), and
transcoded to AAC otherwise (FLV, MPEG-TS). Time zero is the first frame.
"""

import contextlib
import io
import struct
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np

from streamer.base import clock
from streamer.base.constants import AUDIO_CLOCK, FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from streamer.base.frames import Frame, Sound
from streamer.base.queues import Mailbox
from streamer.media.video_encoder import TICKS, TIME_BASE, VideoEncoder

FORMATS = ("mp4", "matroska", "flv", "mpegts")

_OPUS_FORMATS = ("mp4", "matroska")
_SOUND_BASE = Fraction(1, AUDIO_CLOCK)
_RATIO = AUDIO_CLOCK // SAMPLE_RATE
_AAC_BITRATE = 96_000

_OPTIONS = {
    # A fragment per keyframe, and at least one per second: after a crash the file plays up to its last fragment.
    "mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"},
    "matroska": {"cluster_time_limit": "1000"},
    "flv": {"flvflags": "no_duration_filesize"},
    "mpegts": {},
}

_BUFFER = 2**21
"""Write buffer (bytes), larger than a fragment at the highest bitrate: each fragment is a single write, so that a crash
rarely truncates one."""

BEHIND = 0.015
"""Seconds after rendering at which a frame is taken. All consumers receive a frame at the same moment, and the live
viewers' encoder should have the CPU to itself first: without this delay, a recording adds 3 ms to their latency."""

TRAIL = SAMPLE_RATE // 10
"""Samples by which sound may arrive later than the frame it belongs to; after that, silence takes its place."""

_SILENCE = tuple(
    (ticks, bytes((toc, 0xFF, 0xFE))) for ticks, toc in ((960, 0xF8), (480, 0xF0), (240, 0xE8), (120, 0xE0))
)
"""Opus packets of silence (CELT, mono; RFC 6716): duration in 48 kHz ticks and payload, longest first."""


class Sink(Protocol):
    """The destination of a container. `write` writes all of `data` or raises OSError."""

    def write(self, data: bytes) -> int: ...


class Intake:
    """Queues frames and sound for the writer thread. Overflow policy: newest wins; drops are counted."""

    def __init__(self, frames: int = FPS, sounds: int = 250) -> None:
        self._frames: Mailbox[Frame] = Mailbox(frames)
        self._sounds: Mailbox[Sound] = Mailbox(sounds)

    def frame(self, frame: Frame) -> None:
        self._frames.put(frame)

    def sound(self, sound: Sound) -> None:
        self._sounds.put(sound)

    @property
    def dropped(self) -> int:
        """Number of dropped frames."""
        return self._frames.dropped

    @property
    def sounds_dropped(self) -> int:
        """Number of dropped sound packets."""
        return self._sounds.dropped

    def close(self) -> None:
        """Rejects further input; iteration ends once the queue is empty. Idempotent."""
        self._frames.close()
        self._sounds.close()

    def __iter__(self) -> Iterator[tuple[Frame, list[Sound]]]:
        """Yields each frame, BEHIND seconds after it was rendered, with the sound that arrived before it was taken."""
        for frame in self._frames:
            early = frame.times.drawn + BEHIND - clock.now()
            if early > 0:
                time.sleep(min(early, BEHIND))
            yield frame, [sound for _ in range(len(self._sounds)) if (sound := self._sounds.get(0)) is not None]


@dataclass(frozen=True, slots=True)
class Piece:
    """An Opus packet with its place in the container: 48 kHz ticks since the first frame."""

    at: int
    duration: int
    payload: bytes


class SoundLine:
    """Schedules audio packets: in order, without overlap, with silence in the gaps.

    Sound waits until a frame reaches its time, so that sound cut off by an interruption is not written. Each packet
    keeps its own pts, so that no drift accumulates over hours; silence fills a gap to within 2.5 ms.
    """

    def __init__(self, origin: int, waiting: int = 500) -> None:
        """`origin`: pts of time zero. At most `waiting` packets are queued; beyond that the oldest is dropped."""
        self._origin = origin
        self._bound = waiting
        self._waiting: deque[Sound] = deque()
        self._position = 0  # ticks: everything before it has been written
        self.dropped = 0
        """Packets dropped because they overlapped another, exceeded the queue, or started before time zero."""

    def push(self, sound: Sound) -> None:
        if len(self._waiting) >= self._bound:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(sound)

    def reach(self, pts: int, epoch: int) -> list[Piece]:
        """The audio up to the end of the frame at `pts` of `epoch`. Frames must come in order."""
        kept = [sound for sound in self._waiting if sound.epoch >= epoch or sound.pts < pts]
        self._waiting = deque(kept)
        pieces: list[Piece] = []
        while self._waiting and self._waiting[0].pts < pts + SAMPLES_PER_FRAME:
            sound = self._waiting.popleft()
            at = (sound.pts - self._origin) * _RATIO
            if at < self._position:
                self.dropped += 1
                continue
            pieces += self._silence(at)
            pieces.append(Piece(at, sound.duration * _RATIO, sound.payload))
            self._position = at + sound.duration * _RATIO
        return pieces + self._silence((pts - TRAIL - self._origin) * _RATIO)

    def _silence(self, until: int) -> list[Piece]:
        pieces = []
        for ticks, payload in _SILENCE:
            while until - self._position >= ticks:
                pieces.append(Piece(self._position, ticks, payload))
                self._position += ticks
        return pieces


class KeyframeInterval:
    """Chooses keyframes: the first frame, and each frame at least `seconds` after the last keyframe."""

    def __init__(self, seconds: float) -> None:
        self._frames = round(seconds * FPS)
        self._last: int | None = None

    def due(self, frame: int) -> bool:
        if self._last is not None and frame - self._last < self._frames:
            return False
        self._last = frame
        return True


class Muxer:
    """Encodes and writes one container to a sink. Not thread-safe: owned by the writer thread.

    Raises the sink's errors (OSError) and av.FFmpegError. Blocks only on the sink.
    """

    def __init__(self, sink: Sink, format: str, size: int, keyframe_seconds: float) -> None:
        """`format` is one of FORMATS; frames are S×S with S = `size`."""
        self._encoder = VideoEncoder("H264", size)
        self._keyframes = KeyframeInterval(keyframe_seconds)
        self._valve = _Valve(sink)
        self._container = av.open(
            self._valve,
            "w",
            format=format,
            options={**_OPTIONS[format], "flush_packets": "1"},
            buffer_size=_BUFFER,
        )
        self._video: Any = self._container.add_mux_stream(
            "h264", rate=FPS, width=size, height=size, time_base=TIME_BASE
        )
        self._sound: _OpusStream | _AacStream
        self._sound = (_OpusStream if format in _OPUS_FORMATS else _AacStream)(self._container)
        self._line: SoundLine | None = None
        self._early: deque[Sound] = deque(maxlen=500)
        self._first = self._last = -1
        self._open = True
        self.frames = 0

    @property
    def seconds(self) -> float:
        """Duration from the start of the first frame to the end of the last."""
        return (self._last - self._first + 1) / FPS if self.frames else 0.0

    def sound(self, sound: Sound) -> None:
        """Queues an audio packet; it is written when a frame reaches its time."""
        if self._line is None:
            self._early.append(sound)
        else:
            self._line.push(sound)

    def frame(self, frame: Frame) -> None:
        """Writes a frame and the sound up to its end. Ignores a frame that is not after the last one."""
        if self._line is None:
            self._first = frame.frame
            self._line = SoundLine(frame.pts)
            for sound in self._early:
                self._line.push(sound)
            self._early.clear()
        elif frame.frame <= self._last:
            return
        packet = self._encoder.encode(frame.image, frame.frame, self._keyframes.due(frame.frame))
        packet.stream, packet.time_base = self._video, TIME_BASE
        packet.pts = packet.dts = (frame.frame - self._first) * TICKS
        packet.duration = TICKS
        self._container.mux_one(packet)
        for piece in self._line.reach(frame.pts, frame.epoch):
            for coded in self._sound.packets(piece):
                self._container.mux_one(coded)
        self._last = frame.frame
        self.frames += 1

    def close(self) -> None:
        """Writes what is buffered. Idempotent; after an error it writes and raises nothing."""
        if not self._open:
            return
        self._open = False
        if self._valve.broken or not self.frames:
            self.abandon()
            return
        for packet in self._sound.rest():
            self._container.mux_one(packet)
        self._container.close()

    def abandon(self) -> None:
        """Releases the container without writing anything more."""
        self._open = False
        self._valve.broken = True
        with contextlib.suppress(av.FFmpegError):  # FFmpeg repeats the sink's earlier error on close
            self._container.close()


class _Valve:
    """Forwards FFmpeg's writes to a sink until one fails, then discards them, so that the container can be closed."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.broken = False
        self.name = "session"
        if getattr(sink, "seekable", lambda: False)():
            self.seek, self.tell = sink.seek, sink.tell  # type: ignore[attr-defined]

    def write(self, data: bytes) -> int:
        if self.broken:
            return len(data)
        try:
            return self._sink.write(data)
        except BaseException:
            self.broken = True
            raise


def _element(identity: str, body: bytes) -> bytes:
    """A Matroska element shorter than 127 bytes (RFC 8794)."""
    return bytes.fromhex(identity) + bytes((0x80 | len(body),)) + body


def _opus_template() -> av.container.InputContainer:
    """A container with a single mono Opus stream that has no pre-skip.

    An encoder of PyAV's would announce its own delay as pre-skip. These packets come from a different encoder, and the
    mouth was animated to their decoded audio with nothing skipped.
    """
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, AUDIO_CLOCK, 0, 0)  # RFC 7845, section 5.1
    form = _element("E1", _element("B5", struct.pack(">f", AUDIO_CLOCK)) + _element("9F", b"\x01"))
    fields = (("D7", b"\x01"), ("73C5", b"\x01"), ("83", b"\x02"), ("86", b"A_OPUS"), ("63A2", head))
    track = _element("AE", b"".join(_element(*field) for field in fields) + form)
    cluster = _element("E7", b"\x00") + _element("A3", b"\x81\x00\x00\x80" + _SILENCE[0][1])
    segment = bytes.fromhex("18538067" + "01FFFFFFFFFFFFFF")  # of unknown length
    file = _element("1A45DFA3", _element("4282", b"matroska")) + segment
    file += _element("1654AE6B", track) + _element("1F43B675", cluster)
    return av.open(io.BytesIO(file), "r", format="matroska")


class _OpusStream:
    """Copies Opus packets unchanged."""

    def __init__(self, container: av.container.OutputContainer) -> None:
        with _opus_template() as template:
            self._stream = container.add_stream_from_template(template.streams.audio[0])
        self._stream.time_base = _SOUND_BASE

    def packets(self, piece: Piece) -> list[av.Packet]:
        packet = av.Packet(piece.payload)
        packet.stream, packet.time_base = self._stream, _SOUND_BASE
        packet.pts = packet.dts = piece.at
        packet.duration = piece.duration
        packet.is_keyframe = True
        return [packet]

    def rest(self) -> list[av.Packet]:
        return []


class _AacStream:
    """Transcodes Opus to AAC, placing each sample at its packet's time."""

    def __init__(self, container: av.container.OutputContainer) -> None:
        self._stream: Any = container.add_stream("aac", rate=AUDIO_CLOCK, layout="mono")
        self._stream.bit_rate = _AAC_BITRATE
        self._decoder: Any = av.CodecContext.create("libopus", "r")
        self._decoder.sample_rate = AUDIO_CLOCK
        self._decoder.layout = "mono"
        self._position = 0

    def packets(self, piece: Piece) -> list[av.Packet]:
        try:
            decoded = [frame.to_ndarray().ravel() for frame in self._decoder.decode(av.Packet(piece.payload))]
        except av.FFmpegError:
            decoded = []
        sound = np.concatenate([np.zeros(0, np.int16), *decoded])[: piece.duration]
        return self._encode(np.concatenate([np.zeros(max(0, piece.at - self._position), np.int16), sound]))

    def _encode(self, sound: np.ndarray) -> list[av.Packet]:
        """[n] int16."""
        if not len(sound):
            return []
        block = (sound[None] / np.float32(32768)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_CLOCK, self._position, _SOUND_BASE
        self._position += len(sound)
        return self._stream.encode(frame)

    def rest(self) -> list[av.Packet]:
        return self._stream.encode(None)
