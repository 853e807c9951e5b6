"""A microphone over RTP: turns Opus packets into chunks of speech, and keeps time while no packets arrive."""

import asyncio
from collections.abc import Callable

import numpy as np

from streamer.audio import Chunk, Ingest, IngestStats
from streamer.base import clock
from streamer.base.constants import SAMPLE_RATE
from streamer.base.metrics import Metrics

_TICK = 0.010  # seconds between polls while no packet arrives
_QUIET = 10 ** (-60 / 20)
_SILENT_AFTER = 5.0  # seconds below _QUIET after which a microphone is reported as silent


class Meter:
    """Detects a silent or clipping microphone. Calls `warn(reason, detail)` once each time that this begins."""

    def __init__(self, warn: Callable[[str, str], None], now: float) -> None:
        self._warn = warn
        self._warned: set[str] = set()
        self._loud_at = now
        self._clipped = 0.0

    def take(self, samples: np.ndarray, now: float) -> None:
        """Takes speech [n] float32 that arrived at `now`."""
        peak = float(np.max(np.abs(samples), initial=0.0))
        if peak > _QUIET:
            self._loud_at = now
            self._warned.discard("silent_microphone")
        elif now - self._loud_at > _SILENT_AFTER:
            self._warn_once(
                "silent_microphone", f"no audio above -60 dB for {_SILENT_AFTER:.0f} s: is the microphone switched on?"
            )
        self._clipped = self._clipped + 1 if peak > 0.999 else max(0, self._clipped - 0.02)
        if self._clipped > 20:
            self._warn_once("clipping", "the microphone is clipping: reduce its input level")
        elif self._clipped < 1:
            self._warned.discard("clipping")

    def _warn_once(self, reason: str, detail: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            self._warn(reason, detail)


class Microphone:
    """Calls `take(chunks, now)` when packets arrive, and when the clock requires concealment of missing ones."""

    def __init__(
        self,
        take: Callable[[list[Chunk], float], None],
        warn: Callable[[str, str], None],
        metrics: Metrics,
    ) -> None:
        self._take = take
        self._metrics = metrics
        self._ingest = Ingest()
        self._meter = Meter(warn, clock.now())

    @property
    def stats(self) -> IngestStats:
        return self._ingest.stats

    def captured(self, pts: int) -> float:
        """Estimated capture time of sample `pts`: seconds on the server's clock."""
        return self._ingest.captured(pts)

    def packet(self, sequence: int, timestamp: int, payload: bytes, arrival: float) -> None:
        """Takes an Opus packet with its RTP sequence number and 48 kHz timestamp."""
        self._hand_on(self._ingest.push(sequence, timestamp, payload, arrival), arrival)

    async def run(self) -> None:
        """Advances the timeline while packets are missing, until cancelled."""
        while True:
            now = clock.now()
            deadline = self._ingest.deadline(now)
            if deadline is not None and deadline <= now:
                self._hand_on(self._ingest.poll(now), now)
                deadline = self._ingest.deadline(now)
            await asyncio.sleep(_TICK if deadline is None else min(max(deadline - now, 0.001), _TICK))

    def _hand_on(self, chunks: list[Chunk], now: float) -> None:
        for chunk in chunks:
            if chunk.concealed:
                self._metrics.concealed.inc(len(chunk.samples) / SAMPLE_RATE)
            else:
                self._meter.take(chunk.samples, now)
        self._take(chunks, now)
