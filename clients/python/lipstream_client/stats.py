"""Latency by stage, from the server's timestamps of each frame, its arrival here and the offset of the clocks. Pure.

Times are milliseconds, each of its own machine's monotonic clock.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

STAGES = ("listen", "wait", "draw", "encode", "send", "network")
"""captured → arrived (look-ahead included) → started → drawn → encoded → sent → received."""

_ROWS = 1500  # frames remembered: a minute


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds over `count` frames."""

    p50: float
    p95: float
    p99: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float] | npt.NDArray[np.float64]) -> "Percentiles":
        p50, p95, p99 = np.percentile(np.asarray(values, float), (50, 95, 99))
        return cls(round(float(p50), 2), round(float(p95), 2), round(float(p99), 2), len(values))


@dataclass(frozen=True)
class Stats:
    """One session so far. `latency` has an entry for each of `STAGES`, and `total` from capture to reception; it is
    empty until the first frames were received and the server has reported their timestamps.

    The time of capture is the server's estimate from packet timing: it excludes the microphone's own delay and the Opus
    encoder's (6.5 ms).
    """

    frames: int = 0
    """Decoded."""
    frames_dropped: int = 0
    """Decoded, but replaced by newer ones before `frames()` delivered them."""
    frames_missing: int = 0
    """Frame numbers missing between the first frame and the newest."""
    sounds: int = 0
    """Audio packets received."""
    sounds_dropped: int = 0
    fps: float | None = None
    """Over the last two seconds."""
    packets_sent: int = 0
    underruns: int = 0
    """Packets sent as silence, or partly so, because the speech was late."""
    rtt_ms: float | None = None
    clock_offset_ms: float | None = None
    """The server's clock minus the client's."""
    latency: dict[str, Percentiles] = field(default_factory=dict)


class ClockSync:
    """Offset of the server's clock, from the recent ping with the shortest round trip."""

    def __init__(self, window: int = 40) -> None:
        self._pings: deque[tuple[float, float]] = deque(maxlen=window)  # (round trip, offset)

    def add(self, sent: float, received: float, server: float) -> None:
        """A ping sent at `sent` was answered at `server` (server clock), and the answer arrived at `received`."""
        self._pings.append((received - sent, server - (sent + received) / 2))

    @property
    def rtt(self) -> float | None:
        return min(self._pings)[0] if self._pings else None

    @property
    def offset(self) -> float | None:
        return min(self._pings)[1] if self._pings else None


class Latencies:
    """Joins the server's rows with the arrival times of their frames; keeps the newest 1500."""

    def __init__(self) -> None:
        self._rows: OrderedDict[int, Sequence[float]] = OrderedDict()
        self._received: OrderedDict[int, float] = OrderedDict()

    def row(self, row: Sequence[float]) -> None:
        """[k, epoch, captured, arrived, started, drawn, encoded, sent]"""
        self._rows[int(row[0])] = row[2:]
        if len(self._rows) > _ROWS:
            self._rows.popitem(last=False)

    def received(self, frame: int, time: float) -> None:
        self._received[frame] = time
        if len(self._received) > _ROWS:
            self._received.popitem(last=False)

    def moments(self, offset: float) -> npt.NDArray[np.float64]:
        """[N, 8] for the frames known from both sides: k, then captured, arrived, ... received, on the client's clock.

        `offset`: the server's clock minus the client's.
        """
        joined = [
            (k, *(moment - offset for moment in row), self._received[k])
            for k, row in self._rows.items()
            if k in self._received
        ]
        return np.array(joined, float).reshape(-1, 2 + len(STAGES))

    def by_stage(self, offset: float | None) -> dict[str, Percentiles]:
        """`offset`: the server's clock minus the client's; None, if unknown, gives no latencies."""
        if offset is None:
            return {}
        moments = self.moments(offset)[:, 1:]
        if not len(moments):
            return {}
        stages = {name: Percentiles.of(column) for name, column in zip(STAGES, np.diff(moments).T, strict=True)}
        return {**stages, "total": Percentiles.of(moments[:, -1] - moments[:, 0])}
