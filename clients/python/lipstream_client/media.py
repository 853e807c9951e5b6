"""What the client asks of WebRTC beyond aiortc: the only module that touches aiortc's internals (pinned to 1.16).

- Speech is pushed to the sender as coded Opus packets.
- Sound and pictures are taken as they arrive, past aiortc's jitter buffers: the audio one would delay by 80 ms and
  ratchet, the video one holds each frame back until the next one begins.
- A connection can be closed at any moment of connecting and leaves no task behind.
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

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.rtp import RtpPacket

from lipstream_client.speech import RATE, Voice

_PATIENCE = 0.300  # seconds a missing packet is waited for; a retransmission takes one round trip
_MOST_WAITING = 1024  # packets behind a gap
_PLI_EVERY = 0.250  # seconds between requests for a key frame


class Connection(RTCPeerConnection):
    """Closed while it connects, it first ends its connecting.

    aiortc lets that run on beside `close`: a handshake that completes there starts senders and receivers that nobody
    stops any more, and the next use of the closed transport is an error in a task that nobody awaits.
    """

    def __init__(self, configuration: RTCConfiguration) -> None:
        super().__init__(configuration)
        self._connecting: set[asyncio.Task] = set()
        self._ends = False

    async def _RTCPeerConnection__connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # aiortc makes one of each call
        if self._ends:
            return
        self._connecting.add(task)
        try:
            await super()._RTCPeerConnection__connect()  # type: ignore[misc]
        finally:
            self._connecting.discard(task)

    async def close(self) -> None:
        self._ends = True
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await super().close()


class VoiceTrack(MediaStreamTrack):
    """A voice as coded packets of Opus: mono, tuned for voice."""

    kind = "audio"

    def __init__(self, voice: Voice, bitrate: int = 48_000) -> None:
        super().__init__()
        self._voice = voice
        self._encoder = av.CodecContext.create("libopus", "w")
        self._encoder.sample_rate = RATE
        self._encoder.layout = "mono"
        self._encoder.format = "flt"
        self._encoder.bit_rate = bitrate
        self._encoder.time_base = Fraction(1, RATE)
        self._encoder.options = {
            "application": "voip",
            "frame_duration": str(1000 * voice.samples_per_packet // RATE),
            "compression_level": "5",
        }

    async def recv(self) -> av.Packet:
        if self.readyState != "live":
            raise MediaStreamError
        while True:
            first, samples = await self._voice.packet()
            frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
            for packet in self._encoder.encode(frame):
                packet.pts, packet.time_base = first, Fraction(1, RATE)
                return packet


@dataclass(frozen=True)
class Coded:
    """One coded picture, whole."""

    timestamp: int
    data: bytes
    keyframe: bool
    received: float
    """When its last packet came (s, monotonic)."""


def begins_keyframe(payload: bytes, data: bytes, vp8: bool) -> bool:
    """Whether a packet, `payload` on the wire and `data` without its descriptor, is the first of a key frame."""
    if vp8:
        return len(payload) > 0 and payload[0] & 0x17 == 0x10 and len(data) > 0 and data[0] & 1 == 0
    return len(data) > 4 and data[:4] == b"\0\0\0\1" and data[4] & 0x1F == 7  # parameter sets come with each IDR


class FrameAssembler:
    """RTP packets, in any order, to whole coded frames in order: each as soon as its last packet is there. Pure.

    A packet that stays missing costs the frames up to the next key frame, which `wants_keyframe` asks for.
    """

    def __init__(self) -> None:
        self.wants_keyframe = False
        self._waiting: dict[int, tuple[RtpPacket, bool]] = {}  # by extended sequence number
        self._next: int | None = None  # the sequence number that the next frame begins with; None: a key frame is due
        self._highest: int | None = None
        self._gap_since: float | None = None

    def add(self, packet: RtpPacket, begins_key: bool, now: float) -> list[Coded]:
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
        """Gives up what is incomplete: nothing comes out before the next key frame."""
        if self._next is not None:
            missing = self._next
            while missing in self._waiting:
                missing += 1
            self._waiting = {n: entry for n, entry in self._waiting.items() if n > missing}
        self._next = self._gap_since = None
        self.wants_keyframe = True

    def _take(self, now: float) -> list[Coded]:
        frames: list[Coded] = []
        if self._next is None:
            start = min((n for n, (_, begins) in self._waiting.items() if begins), default=None)
            floor = start if start is not None else (self._highest or 0) - _MOST_WAITING
            self._waiting = {n: entry for n, entry in self._waiting.items() if n >= floor}
            if start is None:
                self.wants_keyframe = True
                return frames
            self._next = start
        while (frame := self._whole(now)) is not None:
            frames.append(frame)
            if frame.keyframe:
                self.wants_keyframe = False
        return frames

    def _whole(self, now: float) -> Coded | None:
        assert self._next is not None
        number = self._next
        while (entry := self._waiting.get(number)) is not None:
            number += 1
            if entry[0].marker:
                parts = [self._waiting.pop(n) for n in range(self._next, number)]
                self._next = number
                first, begins = parts[0]
                return Coded(first.timestamp, b"".join(p._data for p, _ in parts), begins, now)  # type: ignore[attr-defined]
        return None


def unpacked(image: np.ndarray) -> np.ndarray:
    """RGB [S, 2 S, 3] whose right half is the alpha of the left -> [S, S, 4] uint8 straight RGBA."""
    size = image.shape[0]
    shown = image[:, size:, 1].astype(np.float32)
    # What coding leaves of nothing and of all is taken for it.
    alpha = ((shown - 6) * (255 / 243)).clip(0, 255).round().astype(np.uint8)
    return np.dstack([image[:, :size], alpha])


class VideoTap:
    """Stands in for aiortc's video jitter buffer; decodes in a thread of its own.

    `deliver(timestamp, [S, S, 3] uint8 RGB, received)` is called on the event loop.
    """

    def __init__(self, deliver: Callable[[int, np.ndarray, float], None]) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._assembler = FrameAssembler()
        self._vp8 = False
        self._asked = float("-inf")
        self._work: deque[Coded] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self._failed = False
        self.overflown = 0
        """Coded frames thrown away because decoding did not keep up."""
        self._thread = threading.Thread(target=self._run, name="lipstream-decode", daemon=True)

    def attach(self, transceiver: RTCRtpTransceiver) -> None:
        """Taps the receiver and starts the thread; the codec must be agreed."""
        self._vp8 = transceiver._codecs[0].name == "VP8"
        transceiver.receiver._RTCRtpReceiver__jitter_buffer = self  # type: ignore[attr-defined]
        self._thread.start()

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """aiortc's side: returns whether to ask for a key frame."""
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

    def _submit(self, frames: list[Coded]) -> None:
        with self._ready:
            for frame in frames:
                if len(self._work) >= 50:
                    self.overflown += len(self._work)
                    self._work.clear()
                    self._failed = True
                self._work.append(frame)
            if frames:
                self._ready.notify()

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._work.clear()
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        decoder = av.CodecContext.create("libvpx" if self._vp8 else "h264", "r")
        decoder.thread_count = 1  # more threads would add a frame of delay each
        key_due = False
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._work or self._closed)
                if self._closed:
                    return
                coded = self._work.popleft()
            if key_due and not coded.keyframe:
                continue
            packet = av.Packet(coded.data)
            packet.pts = coded.timestamp
            try:
                images = [f.to_ndarray(format="rgb24") for f in decoder.decode(packet)]
            except av.FFmpegError:
                key_due = self._failed = True
                continue
            key_due = False
            for image in images:  # one: frames are coded without reordering
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._deliver, coded.timestamp, image, coded.received)


class AudioTap:
    """Stands in for aiortc's audio jitter buffer: decodes each packet as it comes (0.1 ms).

    `deliver(timestamp, [n] float32 at 48 kHz, received)` is called on the event loop.
    """

    def __init__(self, deliver: Callable[[int, np.ndarray, float], None]) -> None:
        self._deliver = deliver
        self._decoder = av.CodecContext.create("libopus", "r")
        self._decoder.sample_rate = RATE
        self._decoder.layout = "mono"
        self._decoder.format = "flt"
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
            samples = [_mono(frame) for frame in frames]
            if samples:
                self._deliver(packet.timestamp, np.concatenate(samples), now)
        return False, None


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """A decoded frame to [n] float32."""
    sound = frame.to_ndarray()
    if not frame.format.is_planar:
        sound = sound.reshape(-1, frame.layout.nb_channels).T
    if sound.dtype.kind == "i":
        sound = sound / 32768
    return sound.mean(axis=0).astype(np.float32)


def bind_loopback(connection: RTCPeerConnection, only: bool) -> None:
    """Has ICE bind 127.0.0.1 too, or `only` it: for a server on this machine nothing else is needed."""
    for transport in connection._RTCPeerConnection__iceTransports:  # type: ignore[attr-defined]
        ice = transport._connection
        gather = ice.get_component_candidates

        async def with_loopback(component: int, addresses: list[str], timeout: int = 5, gather=gather):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ASYNC109
            return await gather(component, ["127.0.0.1"] + ([] if only else addresses), timeout)

        ice.get_component_candidates = with_loopback
