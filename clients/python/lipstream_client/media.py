"""What the client needs of WebRTC beyond aiortc: the only module that touches aiortc's internals (pinned to 1.16).

- Speech goes to the sender as encoded Opus packets.
- Audio and video are taken as they arrive, without aiortc's jitter buffers: the audio buffer would add a delay of
  80 ms that only grows, the video buffer holds each frame until the next one begins.
- A connection can be closed at any moment while it connects, and leaves no task behind.
- ICE also binds to loopback, which aioice leaves out, so that a server on this machine is reached without a network.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.rtp import RtpPacket

from lipstream_client.recording import RATE, channels_of
from lipstream_client.samples import Downmix, Samples, to_mono
from lipstream_client.speech import PacedSpeech

Image = npt.NDArray[np.uint8]

_PATIENCE = 0.300  # seconds a missing packet is waited for; a retransmission takes one round trip
_MOST_WAITING = 1024  # packets behind a gap
_PLI_EVERY = 0.250  # seconds between requests for a key frame


class Connection(RTCPeerConnection):
    """A connection whose `close` first cancels an unfinished connect.

    aiortc lets it go on during `close`: a handshake that completes then starts senders and receivers that are never
    stopped, and the next use of the closed transport raises in a task that is never awaited.
    """

    def __init__(self, configuration: RTCConfiguration) -> None:
        super().__init__(configuration)
        self._connecting: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def _RTCPeerConnection__connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # aiortc runs each call as a task
        if self._closing:
            return
        self._connecting.add(task)
        try:
            await super()._RTCPeerConnection__connect()  # type: ignore[misc]
        finally:
            self._connecting.discard(task)

    async def close(self) -> None:
        self._closing = True
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await super().close()


class SpeechTrack(MediaStreamTrack):
    """Speech as encoded Opus packets: mono, in Opus' mode for voice."""

    kind = "audio"

    def __init__(self, speech: PacedSpeech, bitrate: int = 48_000) -> None:
        super().__init__()
        self._speech = speech
        self._encoder = av.CodecContext.create("libopus", "w")
        self._encoder.sample_rate = RATE
        self._encoder.layout = "mono"
        self._encoder.format = "flt"
        self._encoder.bit_rate = bitrate
        self._encoder.time_base = Fraction(1, RATE)
        self._encoder.options = {
            "application": "voip",
            "frame_duration": str(1000 * speech.samples_per_packet // RATE),
            "compression_level": "5",
        }

    async def recv(self) -> "av.Packet[Any]":
        if self.readyState != "live":
            raise MediaStreamError
        while True:
            first, samples = await self._speech.packet()
            frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
            for packet in self._encoder.encode(frame):
                packet.pts, packet.time_base = first, Fraction(1, RATE)
                return packet


@dataclass(frozen=True)
class EncodedFrame:
    """One complete encoded video frame."""

    timestamp: int
    data: bytes
    keyframe: bool
    received: float
    """When its last packet arrived (s, `time.monotonic()`)."""


def begins_keyframe(payload: bytes, data: bytes, vp8: bool) -> bool:
    """Whether a packet is the first of a key frame: `payload` is the RTP payload, `data` that without descriptor."""
    if vp8:
        return len(payload) > 0 and payload[0] & 0x17 == 0x10 and len(data) > 0 and data[0] & 1 == 0
    return len(data) > 4 and data[:4] == b"\0\0\0\1" and data[4] & 0x1F == 7  # parameter sets come with each IDR


class FrameAssembler:
    """RTP packets in any order to complete encoded frames in order, each as soon as its last packet is there. Pure.

    A packet that stays missing costs the frames up to the next key frame; `wants_keyframe` is then set.
    """

    def __init__(self) -> None:
        self.wants_keyframe = False
        self._waiting: dict[int, tuple[RtpPacket, bool]] = {}  # by extended sequence number
        self._next: int | None = None  # the sequence number that the next frame begins with; None: a key frame is due
        self._highest: int | None = None
        self._gap_since: float | None = None

    def add(self, packet: RtpPacket, begins_key: bool, now: float) -> list[EncodedFrame]:
        if self._highest is None:
            self._highest = packet.sequence_number
        number = self._highest + (packet.sequence_number - self._highest + 0x8000) % 0x1_0000 - 0x8000
        self._highest = max(self._highest, number)
        if self._next is not None and number < self._next:
            return []
        self._waiting[number] = (packet, begins_key)
        frames = self._take(now)
        if self._next is not None and self._highest >= self._next + len(self._waiting):  # something is missing
            self._gap_since = now if self._gap_since is None or frames else self._gap_since
            if now - self._gap_since > _PATIENCE or len(self._waiting) > _MOST_WAITING:
                self.lose()
                frames += self._take(now)
        else:
            self._gap_since = None
        return frames

    def lose(self) -> None:
        """Discards incomplete frames: no frame comes out before the next key frame."""
        if self._next is not None:
            missing = self._next
            while missing in self._waiting:
                missing += 1
            self._waiting = {n: entry for n, entry in self._waiting.items() if n > missing}
        self._next = self._gap_since = None
        self.wants_keyframe = True

    def _take(self, now: float) -> list[EncodedFrame]:
        frames: list[EncodedFrame] = []
        if self._next is None:
            start = min((n for n, (_, begins) in self._waiting.items() if begins), default=None)
            floor = start if start is not None else (self._highest or 0) - _MOST_WAITING
            self._waiting = {n: entry for n, entry in self._waiting.items() if n >= floor}
            if start is None:
                self.wants_keyframe = True
                return frames
            self._next = start
        while (frame := self._complete_frame(now)) is not None:
            frames.append(frame)
            if frame.keyframe:
                self.wants_keyframe = False
        return frames

    def _complete_frame(self, now: float) -> EncodedFrame | None:
        assert self._next is not None
        number = self._next
        while (entry := self._waiting.get(number)) is not None:
            number += 1
            if entry[0].marker:
                parts = [self._waiting.pop(n) for n in range(self._next, number)]
                self._next = number
                first, begins = parts[0]
                return EncodedFrame(first.timestamp, b"".join(p._data for p, _ in parts), begins, now)  # type: ignore[attr-defined]
        return None


def unpack_alpha(image: Image) -> Image:
    """RGB [S, 2 S, 3] whose right half is the alpha of the left -> [S, S, 4] uint8 straight RGBA."""
    size = image.shape[0]
    coded = image[:, size:, 1].astype(np.float32)
    # Compression noise near 0 and near 255 is rounded to fully transparent and fully opaque.
    alpha = ((coded - 6) * (255 / 243)).clip(0, 255).round().astype(np.uint8)
    return np.dstack([image[:, :size], alpha])


class VideoTap:
    """Replaces aiortc's video jitter buffer; decodes in a thread of its own.

    `deliver(timestamp, [S, S, 3] uint8 RGB, received)` is called on the event loop.
    """

    def __init__(self, deliver: Callable[[int, Image, float], None]) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._assembler = FrameAssembler()
        self._vp8 = False
        self._asked = float("-inf")
        self._encoded: deque[EncodedFrame] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self._failed = False
        self.overflowed = 0
        """EncodedFrame frames thrown away because decoding did not keep up."""
        self._thread = threading.Thread(target=self._run, name="lipstream-decode", daemon=True)

    def attach(self, transceiver: RTCRtpTransceiver) -> None:
        """Takes over the receiver's packets and starts the thread; the codec must have been negotiated."""
        self._vp8 = transceiver._codecs[0].name == "VP8"
        transceiver.receiver._RTCRtpReceiver__jitter_buffer = self  # type: ignore[attr-defined]
        self._thread.start()

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Called by aiortc with each packet; returns whether to request a key frame."""
        now = time.monotonic()
        if packet.payload:
            if self._failed:
                self._failed = False
                self._assembler.lose()
            begins = begins_keyframe(packet.payload, packet._data, self._vp8)  # type: ignore[attr-defined]
            self._submit(self._assembler.add(packet, begins, now))
        if self._assembler.wants_keyframe and now - self._asked > _PLI_EVERY:
            self._asked = now
            return True, None
        return False, None

    def _submit(self, frames: list[EncodedFrame]) -> None:
        with self._ready:
            for frame in frames:
                if len(self._encoded) >= 50:
                    self.overflowed += len(self._encoded)
                    self._encoded.clear()
                    self._failed = True
                self._encoded.append(frame)
            if frames:
                self._ready.notify()

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._encoded.clear()
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        decoder = av.CodecContext.create("libvpx" if self._vp8 else "h264", "r")
        decoder.thread_count = 1  # more threads would add a frame of delay each
        needs_keyframe = False
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._encoded or self._closed)
                if self._closed:
                    return
                coded = self._encoded.popleft()
            if needs_keyframe and not coded.keyframe:
                continue
            packet = av.Packet(coded.data)
            packet.pts = coded.timestamp
            try:
                images: list[Any] = [f.to_ndarray(format="rgb24") for f in decoder.decode(packet)]
            except av.FFmpegError:
                needs_keyframe = self._failed = True
                continue
            needs_keyframe = False
            for image in images:  # one: the server encodes without reordering
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._deliver, coded.timestamp, image, coded.received)


class AudioTap:
    """Replaces aiortc's audio jitter buffer: decodes each packet as it arrives (0.1 ms).

    `deliver(timestamp, [n] float32 at 48 kHz, received)` is called on the event loop.
    """

    def __init__(self, deliver: Callable[[int, Samples, float], None]) -> None:
        self._deliver = deliver
        self._decoder = av.CodecContext.create("libopus", "r")
        self._decoder.sample_rate = RATE
        self._decoder.layout = "mono"
        self._decoder.format = "flt"
        self._downmix = Downmix()
        self.malformed = 0

    def attach(self, transceiver: RTCRtpTransceiver) -> None:
        transceiver.receiver._RTCRtpReceiver__jitter_buffer = self  # type: ignore[attr-defined]

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        now = time.monotonic()
        if packet.payload:
            try:
                frames = self._decoder.decode(av.Packet(packet.payload))
            except av.FFmpegError:
                self.malformed += 1
                return False, None
            samples = [to_mono(channels_of(frame), self._downmix) for frame in frames]
            if samples:
                self._deliver(packet.timestamp, np.concatenate(samples), now)
        return False, None


def bind_loopback(connection: RTCPeerConnection, only: bool) -> None:
    """Makes ICE bind 127.0.0.1 as well, or `only` that, which suffices for a server on this machine."""
    for transport in connection._RTCPeerConnection__iceTransports:  # type: ignore[attr-defined]
        ice = transport._connection
        gather = ice.get_component_candidates

        async def with_loopback(component: int, addresses: list[str], timeout: int = 5, gather=gather):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ASYNC109
            return await gather(component, ["127.0.0.1"] + ([] if only else addresses), timeout)

        ice.get_component_candidates = with_loopback
