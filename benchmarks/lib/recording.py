"""What the probe saw on one page, as it was drained from it."""

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Stream:
    """A tapped track: blocks [n, 4] (callback ms, read ms, samples, rate) and the samples that were kept."""

    blocks: list[list[float]] = field(default_factory=list)
    chunks: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def add(self, drained: dict[str, Any]) -> None:
        self.blocks += drained["blocks"]
        self.chunks += [(at, np.frombuffer(base64.b64decode(pcm), "<i2") / 32767) for at, pcm in drained["samples"]]

    forgotten: int = 0
    """Samples of the blocks that are no longer here."""

    @property
    def rate(self) -> int:
        return int(self.blocks[-1][3])

    def ends(self) -> np.ndarray:
        """[n]: samples delivered up to each block's end, since the tap began."""
        return self.forgotten + np.cumsum([block[2] for block in self.blocks])

    def forget(self, before: float) -> None:
        """Lets go of what was delivered earlier (ms, page's clock)."""
        gone = sum(1 for block in self.blocks if block[0] < before)
        self.forgotten += int(sum(block[2] for block in self.blocks[:gone]))
        del self.blocks[:gone]
        self.chunks = [chunk for chunk in self.chunks if chunk[0] >= self.forgotten]


@dataclass
class Recording:
    """All that the probe saw on one page."""

    frames: list[list[Any]] = field(default_factory=list)
    """(k, presented, received, expected on the display, number read from the stamp, pixels)"""
    rows: list[list[float]] = field(default_factory=list)
    pongs: list[list[float]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    delivered: list[list[float]] = field(default_factory=list)
    packets: list[tuple[int, float, bytes]] = field(default_factory=list)
    """(RTP timestamp, read ms, Opus)"""
    marks: dict[str, Any] = field(default_factory=dict)
    microphone: Stream = field(default_factory=Stream)
    played: Stream = field(default_factory=Stream)
    now: float = 0.0

    def add(self, drained: dict[str, Any]) -> None:
        for name in ("frames", "rows", "pongs", "events", "delivered"):
            getattr(self, name).extend(drained[name])
        self.packets += [(int(stamp), at, base64.b64decode(data)) for stamp, at, data in drained["packets"]]
        self.marks.update(drained["marks"])
        self.now = drained["now"]
        for name in ("microphone", "played"):
            if name in drained:
                getattr(self, name).add(drained[name])

    def forget(self, before: float) -> None:
        """Lets go of what is older, for runs of hours; what ties the clocks stays."""
        self.frames = [frame for frame in self.frames if frame[1] >= before]
        oldest = self.frames[0][0] if self.frames else 0
        self.rows = [row for row in self.rows if row[0] >= oldest]
        self.packets = [packet for packet in self.packets if packet[1] >= before]
        self.pongs = sorted(self.pongs, key=lambda pong: pong[1] - pong[0])[:50]
        self.delivered = self.delivered[:100]
        self.microphone.forget(before)
        self.played.forget(before)

    def event(self, kind: str) -> dict[str, Any] | None:
        return next((event for event in self.events if event["type"] == kind), None)
