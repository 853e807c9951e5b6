"""A session's frames and sound into a container, on one timeline: each picture and packet lies where its pts says.

What records and what publishes share this. Sound stays the Opus that came where the container takes it (MP4, Matroska)
and becomes AAC where it does not (FLV, MPEG-TS). Time zero is the first frame.
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
    # A fragment at each key frame, and at the latest each second: what a crash leaves plays up to the last one.
    "mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"},
    "matroska": {"cluster_time_limit": "1000"},
    "flv": {"flvflags": "no_duration_filesize"},
    "mpegts": {},
}

_BUFFER = 2**21
"""Bytes: more than a fragment has at the highest bitrate, so that it is one write, which a crash seldom cuts in two."""

BEHIND = 0.015
"""Seconds after its drawing that a frame is taken. All who want a frame are given it at once, and the live viewers'
encoder is to have the processor to itself then: without this, a recording costs them 3 ms."""

TRAIL = SAMPLE_RATE // 10
"""Samples by which sound may reach an outlet after the frame that it belongs to; then silence stands in its place."""

_SILENCE = tuple(
    (ticks, bytes((toc, 0xFF, 0xFE))) for ticks, toc in ((960, 0xF8), (480, 0xF0), (240, 0xE8), (120, 0xE0))
)
"""Opus packets of silence (CELT, mono; RFC 6716): 48 kHz ticks and payload, the longest first."""


class Sink(Protocol):
    """What a container is written to. `write` takes all of `data` or raises OSError."""

    def write(self, data: bytes) -> int: ...


class Intake:
    """Frames and sound on their way to the thread that writes them. Where that is late, newest wins, and is counted."""

    def __init__(self, frames: int = FPS, sounds: int = 250) -> None:
        self._frames: Mailbox[Frame] = Mailbox(frames)
        self._sounds: Mailbox[Sound] = Mailbox(sounds)

    def frame(self, frame: Frame) -> None:
        self._frames.put(frame)

    def sound(self, sound: Sound) -> None:
        self._sounds.put(sound)

    @property
    def dropped(self) -> int:
        """Frames."""
        return self._frames.dropped

    @property
    def sounds_dropped(self) -> int:
        """Packets."""
        return self._sounds.dropped

    def close(self) -> None:
        """Lets nothing more in; iteration ends when what waits was taken. Idempotent."""
        self._frames.close()
        self._sounds.close()

    def __iter__(self) -> Iterator[tuple[Frame, list[Sound]]]:
        """Each frame, BEHIND its drawing, with the sound that came before it was taken."""
        for frame in self._frames:
            early = frame.times.drawn + BEHIND - clock.now()
            if early > 0:
                time.sleep(min(early, BEHIND))
            yield frame, [sound for _ in range(len(self._sounds)) if (sound := self._sounds.get(0)) is not None]


@dataclass(frozen=True, slots=True)
class Piece:
    """An Opus packet's place in a container: 48 kHz ticks since the first frame."""

    at: int
    duration: int
    payload: bytes


class SoundLine:
    """Decides which packets sound when: in order, none over another, silence where none came.

    Sound waits until a frame reaches it, so that what an interruption cuts off before it was to be heard is left out.
    Each packet keeps its own pts, so that nothing adds up over hours; silence leaves at most 2.5 ms of a gap open.
    """

    def __init__(self, origin: int, waiting: int = 500) -> None:
        """`origin`: the pts of time zero. At most `waiting` packets wait; beyond it the oldest is dropped."""
        self._origin = origin
        self._bound = waiting
        self._waiting: deque[Sound] = deque()
        self._position = 0  # ticks: all before it is told
        self.dropped = 0
        """Packets that overlapped another, that did not fit, or that began before time zero."""

    def push(self, sound: Sound) -> None:
        if len(self._waiting) >= self._bound:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(sound)

    def reach(self, pts: int, epoch: int) -> list[Piece]:
        """What is heard up to the end of the frame at `pts`, which is of `epoch`. Frames come in order."""
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
    """Which frames are key frames: the first, and each that comes `seconds` of frames or more after the last one."""

    def __init__(self, seconds: float) -> None:
        self._frames = round(seconds * FPS)
        self._last: int | None = None

    def due(self, frame: int) -> bool:
        if self._last is not None and frame - self._last < self._frames:
            return False
        self._last = frame
        return True


class Muxer:
    """Encodes and writes one container to a sink. Not thread-safe: the thread that writes owns it.

    Raises what the sink raises (OSError), and av.FFmpegError. Nothing that it does waits for anything but the sink.
    """

    def __init__(self, sink: Sink, format: str, size: int, keyframe_seconds: float) -> None:
        """`format`: of FORMATS; frames are S×S with S = `size`."""
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
        """From the first frame's beginning to the last one's end."""
        return (self._last - self._first + 1) / FPS if self.frames else 0.0

    def sound(self, sound: Sound) -> None:
        """A packet of sound; it is written when a frame reaches it."""
        if self._line is None:
            self._early.append(sound)
        else:
            self._line.push(sound)

    def frame(self, frame: Frame) -> None:
        """Writes a frame and the sound up to its end. One that is not after the last is left out."""
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
        """Writes what is left. Idempotent; after an error it writes nothing and raises nothing."""
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
        """Lets go of the container, and writes nothing more."""
        self._open = False
        self._valve.broken = True
        with contextlib.suppress(av.FFmpegError):  # it remembers that the sink failed, and says so again
            self._container.close()


class _Valve:
    """Passes what FFmpeg writes to a sink, until it fails: from then on nothing, so that a container can be closed."""

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
    """A Matroska element of fewer than 127 bytes (RFC 8794)."""
    return bytes.fromhex(identity) + bytes((0x80 | len(body),)) + body


def _opus_template() -> av.container.InputContainer:
    """A container whose one stream is mono Opus that is played from its first sample on.

    An encoder of PyAV's would announce its own delay, to be skipped; these packets come from another, and the mouth was
    drawn to what a decoder makes of them with nothing skipped.
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
    """Packets as they came."""

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
    """Decodes Opus and codes AAC, each sample where its packet's place says."""

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
