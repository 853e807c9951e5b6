"""The first stage: a microphone's Opus packets become chunks of speech on one timeline.

`Ingest` joins the jitter buffer, which decides what comes when, with the decoder, which makes sound of it. Time is an
argument; a packet costs about 0.1 ms, so it runs where the packets arrive.
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

    With `payload` (the packet as it came, to be forwarded), `duration` is what the packet spans, in samples; both end
    together, and the chunk is shorter where the packet's beginning had been concealed already. Without, the samples
    were extrapolated (`concealed`) or brought back by FEC (not `concealed`), and `duration` is theirs.
    """

    pts: int
    samples: NDArray[np.float32]  # [n] at 16 kHz
    concealed: bool
    arrived: float  # when the packet arrived, or when its absence was decided
    payload: bytes | None
    duration: int

    @property
    def end(self) -> int:
        return self.pts + len(self.samples)


@dataclass(frozen=True, slots=True)
class IngestStats:
    """Counts since the start; `jitter_ms` and `wait_ms` are as of now."""

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
    """When tick 0 was captured, on the server's clock: follows the least transit time, smoothly.

    A packet cannot arrive before it was captured, so the estimate falls readily. It rises slowly, only as clocks drift
    apart: a path that got longer must show as latency and not as sound captured later.
    """

    FALL = 0.1  # seconds a second
    RISE = 0.001  # twice the worst drift between two crystals
    START = 1.0  # seconds in which the estimate still jumps down

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
    """Packets in, chunks out. Call `push` for every packet, and `poll` at `deadline` when none came before."""

    def __init__(self, config: JitterConfig | None = None) -> None:
        self._jitter = JitterBuffer(config)
        self._decoder = OpusDecoder()
        self._clock = CaptureClock()
        self._duration = 960  # ticks of the last packet that could be read
        self._pts = 0
        self._concealed = 0
        self._recovered = 0
        self._malformed = 0

    @property
    def pts(self) -> int:
        """The sample with which the next chunk begins."""
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
        """Takes one RTP packet (48 kHz timestamp) and returns what is ready. Never raises on what a sender can send."""
        duration = packet_duration(payload)
        if duration is not None:
            self._duration = duration
        spans = self._jitter.push(sequence, timestamp, self._duration, payload, now)
        return self._chunks(spans, now)

    def poll(self, now: float) -> list[Chunk]:
        """What is due without a packet: concealment, then silence, at real-time rate."""
        return self._chunks(self._jitter.poll(now), now)

    def deadline(self, now: float) -> float | None:
        """When to call `poll` if no packet comes before (never before `now`); None before the first packet."""
        deadline = self._jitter.deadline()
        return None if deadline is None else max(now, deadline)

    def restart(self) -> None:
        """Says that the next packet comes from another source (a new SSRC), whose numbers begin anew. `pts` goes on."""
        self._jitter.restart()

    def captured(self, pts: int) -> float:
        """Estimates when sample `pts` was captured, on the clock of `now`, by the fastest packets' way here.

        The path's own least delay and the sender's (encoder look-ahead, 6.5 ms in libopus) cannot be seen from here
        and are not in it.
        """
        if self._clock.origin is None:
            raise ValueError("no packet has arrived yet, so nothing was captured")
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
                # A packet whose beginning was concealed gives its end.
                return Chunk(pts, samples[len(samples) - count :], False, packet.arrived, packet.payload, duration)
            self._malformed += 1
        following = span.following.payload if span.following is not None else None
        samples, recovered = self._decoder.conceal(count, following)
        if recovered:
            self._recovered += 1
        else:
            self._concealed += count
        return Chunk(pts, samples, not recovered, now, None, count)
