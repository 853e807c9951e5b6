"""The first stage: turns a microphone's Opus packets into chunks of speech on one timeline.

`Ingest` combines the jitter buffer, which orders packets, with the decoder. Time is an argument; a packet costs about
0.1 ms, so it runs on the event loop.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.audio.jitter_buffer import TICKS, JitterBuffer, JitterConfig, Span
from streamer.audio.opus import OpusDecoder, packet_duration
from streamer.base.constants import SAMPLE_RATE

_TICKS_PER_SAMPLE = TICKS // SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Chunk:
    """Speech from sample `pts` on. Chunks follow each other without gap or overlap.

    With `payload` (the original packet, to be forwarded), `duration` is the packet's length in samples. Chunk and
    packet end together; the chunk is shorter if the packet's beginning was already concealed. Without `payload`, the
    samples were extrapolated (`concealed`) or recovered by FEC (not `concealed`), and `duration` is their number.
    """

    pts: int
    samples: NDArray[np.float32]  # [n] at 16 kHz
    concealed: bool
    arrived: float  # arrival of the packet, or when it was declared lost
    payload: bytes | None
    duration: int

    @property
    def end(self) -> int:
        return self.pts + len(self.samples)


@dataclass(frozen=True, slots=True)
class IngestStats:
    """Counts since the start; `jitter_ms` and `wait_ms` are current values."""

    received: int
    lost: int
    late: int
    duplicate: int
    concealed_samples: int
    fec_recovered: int  # packets
    malformed: int
    overflow: int
    restarts: int
    jitter_ms: float
    wait_ms: float


class CaptureClock:
    """Estimates when tick 0 was captured, on the server's clock, by smoothly tracking the minimum transit time.

    A packet cannot arrive before it was captured, so the estimate falls quickly. It rises only as fast as clocks drift
    apart, because a longer network path must show up as latency and not as later capture.
    """

    FALL = 0.1  # seconds per second
    RISE = 0.001  # twice the worst drift between two crystals
    START = 1.0  # seconds during which the estimate may jump down

    def __init__(self) -> None:
        self.origin: float | None = None
        self._first = 0.0
        self._updated = 0.0

    def update(self, reference: float, now: float) -> None:
        if self.origin is None:
            self.origin = reference
            self._first = now
        passed = max(0.0, now - self._updated)
        error = reference - self.origin
        if error < 0 and now - self._first < self.START:
            self.origin = reference
        else:
            self.origin += min(max(error, -self.FALL * passed), self.RISE * passed)
        self._updated = now


class Ingest:
    """Packets in, chunks out. Call `push` for every packet, and `poll` at `deadline` if none arrives before."""

    def __init__(self, config: JitterConfig | None = None) -> None:
        self._jitter = JitterBuffer(config)
        self._decoder = OpusDecoder()
        self._clock = CaptureClock()
        self._duration = 960  # ticks of the last valid packet
        self._pts = 0
        self._concealed = 0
        self._recovered = 0
        self._malformed = 0

    @property
    def pts(self) -> int:
        """The first sample of the next chunk."""
        return self._pts

    @property
    def stats(self) -> IngestStats:
        jitter = self._jitter
        return IngestStats(
            received=jitter.received,
            lost=jitter.lost,
            late=jitter.late,
            duplicate=jitter.duplicate,
            concealed_samples=self._concealed,
            fec_recovered=self._recovered,
            malformed=self._malformed,
            overflow=jitter.overflow,
            restarts=jitter.restarts,
            jitter_ms=jitter.jitter * 1000,
            wait_ms=jitter.wait * 1000,
        )

    def push(self, sequence: int, timestamp: int, payload: bytes, now: float) -> list[Chunk]:
        """Takes one RTP packet (48 kHz timestamp) and returns the chunks that are ready. Never raises on any input."""
        duration = packet_duration(payload)
        if duration is not None:
            self._duration = duration
        spans = self._jitter.push(sequence, timestamp, self._duration, payload, now)
        return self._chunks(spans, now)

    def poll(self, now: float) -> list[Chunk]:
        """Returns what is due without a packet: concealment, then silence, at real-time rate."""
        return self._chunks(self._jitter.poll(now), now)

    def deadline(self, now: float) -> float | None:
        """When to call `poll` if no packet arrives before (never before `now`); None before the first packet."""
        deadline = self._jitter.deadline()
        return None if deadline is None else max(now, deadline)

    def restart(self) -> None:
        """Call it if the next packet is from a new source (SSRC) with new numbering. `pts` continues."""
        self._jitter.restart()

    def captured(self, pts: int) -> float:
        """Estimates when sample `pts` was captured, on the clock of `now`, from the fastest packets.

        The path's minimum delay and the sender's delay (encoder look-ahead, 6.5 ms in libopus) cannot be measured here
        and are not included. Raises ValueError before the first packet.
        """
        if self._clock.origin is None:
            raise ValueError("no packet has arrived yet, so the capture time is unknown")
        return self._clock.origin + pts / SAMPLE_RATE

    def _chunks(self, spans: list[Span], now: float) -> list[Chunk]:
        reference = self._jitter.reference
        if reference is not None:
            self._clock.update(reference, now)
        return [self._chunk(span, now) for span in spans]

    def _chunk(self, span: Span, now: float) -> Chunk:
        count = span.length // _TICKS_PER_SAMPLE
        pts, self._pts = self._pts, self._pts + count
        packet = span.packet
        if packet is not None:
            samples = self._decoder.decode(packet.payload)
            if samples is not None and len(samples) >= count:
                duration = packet.duration // _TICKS_PER_SAMPLE
                # If the packet's beginning was concealed, use only its end.
                return Chunk(pts, samples[len(samples) - count :], False, packet.arrived, packet.payload, duration)
            self._malformed += 1
        following = span.following.payload if span.following is not None else None
        samples, recovered = self._decoder.conceal(count, following)
        if recovered:
            self._recovered += 1
        else:
            self._concealed += count
        return Chunk(pts, samples, not recovered, now, None, count)
