"""Messages between stages. Each carries `epoch` (the number of interruptions so far) and `pts` (16 kHz samples)."""

from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.image import Picture


@dataclass(slots=True)
class Times:
    """Timestamps of one frame: seconds on the server's monotonic clock, 0.0 if not reached yet."""

    captured: float = 0.0
    """Estimated capture time of sample `pts`, from packet timing; excludes the microphone's own delay."""
    arrived: float = 0.0
    """When the last sample that the frame needs, including look-ahead, was available."""
    started: float = 0.0
    """When the generator started the step."""
    drawn: float = 0.0
    """When the picture was complete."""
    encoded: float = 0.0
    sent: float = 0.0
    """When the frame's last packet was handed to the socket."""


@dataclass(slots=True)
class Step:
    """One frame's worth of speech on its way to the generator."""

    frame: int
    """k: the frame corresponds to sample 640·k."""
    epoch: int
    samples: np.ndarray
    """[640] float32: the samples ending at 640·k + look-ahead."""
    muted: bool = False
    """Whether the voice must not move the mouth: the microphone is muted, or this utterance was interrupted."""
    times: Times = field(default_factory=Times)


@dataclass(slots=True)
class Frame:
    """A rendered frame on its way to the encoder."""

    frame: int
    epoch: int
    image: Picture
    """Owned by the frame."""
    times: Times

    @property
    def pts(self) -> int:
        return self.frame * SAMPLES_PER_FRAME


@dataclass(slots=True)
class Encoded:
    """An encoded frame on its way to the network."""

    frame: int
    epoch: int
    packet: "av.Packet[Any]"
    keyframe: bool
    times: Times


@dataclass(slots=True)
class Sound:
    """An outgoing audio packet."""

    pts: int
    """The packet's first sample."""
    duration: int
    """Duration in 16 kHz samples."""
    epoch: int
    payload: bytes
    """One Opus packet."""
    captured: float
    """When sample `pts` was captured: seconds on the server's monotonic clock."""

    @property
    def end(self) -> int:
        return self.pts + self.duration
