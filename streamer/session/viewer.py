"""Sends a session's video and audio to one peer: timing, bitrate and overflow."""

import asyncio
from collections import deque
from dataclasses import dataclass
from statistics import quantiles

from streamer.base import clock
from streamer.base.constants import AUDIO_CLOCK, FPS, SAMPLE_RATE
from streamer.base.frames import Encoded, Sound
from streamer.base.metrics import Metrics
from streamer.media.av_sync import LipSync
from streamer.media.rate_control import BitrateRule, KeyframeOnlyMode
from streamer.media.video_encoder import TICKS, Format, ceiling
from streamer.rtc.negotiation import Peer

_SOUNDS_WAITING = 64  # audio packets held back at most; overflow policy: drop the oldest
_FRAMES_WAITING = 8  # overflow policy: drop all, up to the next keyframe
_MOST_ROWS = 50
_PLAYED = 128  # audio packets whose send time is remembered
_RATE_WINDOW = 2.0  # seconds over which the sent bitrate is measured


NO_LATENCY: dict[str, float | None] = dict.fromkeys(("server_p50", "server_p95", "answer_p50", "answer_p95"))


@dataclass
class Counts:
    sent: int = 0
    """Frames."""
    dropped: int = 0
    """Frames not sent because the peer or its path was too slow."""
    thinned: int = 0
    """Frames omitted on purpose: the path carries clearly less than the other viewers' bitrate."""
    sounds_dropped: int = 0
    """Packets."""


class Viewer:
    """Sends encoded frames and audio to one peer on schedule. Lives on the event loop; `run` sends until it ends.

    A lost frame breaks the reference chain: nothing is sent until the next keyframe, which `wants_keyframe` requests. A
    path that carries clearly less than the encoder's bitrate gets keyframes only (see `KeyframeOnlyMode`).
    """

    def __init__(self, peer: Peer, size: int, metrics: Metrics, packed: bool = False) -> None:
        """`packed`: send alpha beside the colour, in a picture of twice the width."""
        self.peer = peer
        self.format = Format(peer.codec, packed) if peer.codec is not None else None
        """None if the peer receives audio only."""
        self.lip_sync = LipSync()
        self.counts = Counts()
        self.rows: deque[list[float]] = deque(maxlen=_MOST_ROWS)
        """Timing of the newest frames: k, epoch, captured, arrived, started, drawn, encoded, sent (ms)."""
        self._broken = True  # the receiver lacks the reference frames
        self._thinning = KeyframeOnlyMode()
        self._newest = float("-inf")  # when the newest frame was encoded
        self._video = peer.video
        self._audio = peer.audio
        self._metrics = metrics
        self._bitrate = BitrateRule(ceiling(size, packed))
        self._epoch = 0
        self._frames: deque[Encoded] = deque()
        self._frames_ready = asyncio.Event()
        self._sounds: deque[tuple[float, Sound]] = deque()
        self._sounds_ready = asyncio.Event()
        self._played: deque[tuple[float, int, int]] = deque(maxlen=_PLAYED)  # send time, pts, duration
        self._sizes: deque[tuple[float, int]] = deque(maxlen=round(2 * _RATE_WINDOW * FPS))  # send time, bytes
        self._began: float | None = None
        self._latencies: deque[tuple[float, float]] = deque(maxlen=250)  # since capture, since arrival

    # In

    def frame(self, coded: Encoded) -> None:
        """Queues an encoded frame."""
        self._newest = coded.times.encoded
        if not self._thinning.takes(self._newest, coded.packet.size, coded.keyframe, self.cap):
            self._broken = True
            self.counts.thinned += 1
            return
        if self._broken and not coded.keyframe:
            self.counts.dropped += 1
            return
        self._broken = False
        if len(self._frames) >= _FRAMES_WAITING:
            self.counts.dropped += len(self._frames) + 1
            self._frames.clear()
            self._broken = True
            self._metrics.frames.labels("dropped").inc()
            return
        self._frames.append(coded)
        self._frames_ready.set()

    def sound(self, sound: Sound, now: float) -> None:
        """Queues an audio packet, to be played together with its frame."""
        if self._audio is None:
            return
        send_at = self.lip_sync.send_sound_at(sound.captured, sound.duration / SAMPLE_RATE, now)
        if len(self._sounds) >= _SOUNDS_WAITING:
            self._sounds.popleft()
            self.counts.sounds_dropped += 1
        self._sounds.append((send_at, sound))
        self._sounds_ready.set()

    def flush_audio(self, epoch: int) -> None:
        """Drops queued audio, and all further audio of epochs before this one."""
        self._epoch = epoch
        self._sounds.clear()

    def estimated(self, bitrate: int) -> None:
        """Takes the receiver's bandwidth estimate (bit/s)."""
        now = clock.now()
        self._bitrate.estimate(bitrate, self.sent_rate(now), now)

    def lost(self, share: float) -> None:
        """Takes the share of video packets lost since the last receiver report."""
        self._bitrate.report(share)

    # State

    @property
    def codec(self) -> str | None:
        """H264 or VP8; None if the peer receives audio only."""
        return self.format.codec if self.format is not None else None

    @property
    def audible(self) -> bool:
        """Whether the peer receives audio."""
        return self._audio is not None

    def heard(self, now: float) -> int:
        """The sample up to which this peer has heard the audio by `now`; 0 if none. Derived from the send times and the
        receiver's playout difference; the network delay is unknown and not subtracted.
        """
        at = now - max(self.lip_sync.playout_difference, 0.0)
        for left, pts, duration in reversed(self._played):
            if left <= at:
                return pts + min(duration, round((at - left) * SAMPLE_RATE))
        return 0

    @property
    def cap(self) -> int:
        """Maximum video bitrate for this peer (bit/s)."""
        return self._bitrate.cap

    @property
    def thinned(self) -> bool:
        """Whether it receives keyframes only, as many as its path carries."""
        return self._thinning.active

    @property
    def wants_keyframe(self) -> bool:
        """Whether it needs a keyframe now."""
        return self._broken and self._thinning.may_ask(self._newest)

    def sent_rate(self, now: float) -> float:
        """Video bitrate sent over the last seconds (bit/s)."""
        if self._began is None:
            return 0.0
        start = max(now - _RATE_WINDOW, self._began)
        return 8 * sum(size for sent, size in self._sizes if sent >= start) / max(0.5, now - start)

    def latency_ms(self) -> dict[str, float | None]:
        """Latency of the last ten seconds' frames until they were sent: `server` from their capture, `answer` from the
        arrival of the last sample that they needed."""
        out: dict[str, float | None] = {}
        for name, values in zip(("server", "answer"), zip(*self._latencies, strict=True), strict=False):
            cuts = quantiles(values, n=20) if len(values) >= 20 else None
            out[f"{name}_p50"] = round(cuts[9] * 1e3, 1) if cuts else None
            out[f"{name}_p95"] = round(cuts[18] * 1e3, 1) if cuts else None
        return out or NO_LATENCY

    # Out

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_frames())
            group.create_task(self._send_sounds())

    async def _send_sounds(self) -> None:
        if self._audio is None:
            return
        while True:
            while not self._sounds:
                self._sounds_ready.clear()
                await self._sounds_ready.wait()
            wait = self._sounds[0][0] - clock.now()
            if wait > 0.0005:
                await asyncio.sleep(wait)
                continue  # an interruption may have emptied the queue meanwhile
            _, sound = self._sounds.popleft()
            timestamp = sound.pts * AUDIO_CLOCK // SAMPLE_RATE
            sent = sound.epoch >= self._epoch and await self._audio.push(sound.payload, timestamp, sound.captured)
            if sent:
                self._played.append((clock.now(), sound.pts, sound.duration))
            self._metrics.audio.labels("sent" if sent else "dropped").inc()

    async def _send_frames(self) -> None:
        if self._video is None:
            return
        while True:
            while not self._frames:
                self._frames_ready.clear()
                await self._frames_ready.wait()
            coded = self._frames.popleft()
            ready = coded.times.encoded
            wait = ready + self.lip_sync.hold_frame(coded.times.captured, ready, 1 / FPS) - clock.now()
            if wait > 0.0005:
                await asyncio.sleep(wait)
            if not await self._video.push(coded.packet, coded.frame * TICKS, coded.times.captured):
                self._broken = True  # the receiver lacks this one
                self.counts.dropped += 1
                continue
            self._note(coded, clock.now())

    def _note(self, coded: Encoded, sent: float) -> None:
        t = coded.times
        self.counts.sent += 1
        if self._began is None:
            self._began = sent
        self._sizes.append((sent, coded.packet.size))
        self._latencies.append((sent - t.captured, sent - t.arrived))
        self._metrics.frames.labels("sent").inc()
        moments = (t.captured, t.arrived, t.started, t.drawn, t.encoded, sent)
        self._metrics.observe_frame(moments)
        self.rows.append([coded.frame, coded.epoch, *(clock.to_ms(m) for m in moments)])
