"""What travels between stages. Every message carries `epoch` (interruptions so far) and `pts` (16 kHz samples)."""

from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.image import Picture


@dataclass(slots=True)
class Times:
    """When things happened to one frame: seconds on the server's monotonic clock, 0.0 where not yet."""

    captured: float = 0.0
    """Estimate of when sample `pts` was captured (packet timing; the microphone's own delay is not in it)."""
    arrived: float = 0.0
    """The last sample that the frame needs, look-ahead included, was at hand."""
    started: float = 0.0
    """The generator took the step up."""
    drawn: float = 0.0
    """The picture was complete."""
    encoded: float = 0.0
    sent: float = 0.0
    """The frame's last packet was handed to the socket."""


@dataclass(slots=True)
class Step:
    """A frame's worth of speech on its way to the generator."""

    frame: int
    """k: the frame answers sample 640·k."""
    epoch: int
    samples: np.ndarray
    """[640] float32: the samples that end at 640·k + look-ahead."""
    muted: bool = False
    """The voice is not to move the mouth: the microphone is muted, or this utterance was interrupted."""
    times: Times = field(default_factory=Times)


@dataclass(slots=True)
class Frame:
    """A drawn frame on its way to the encoder."""

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
    """A coded frame on its way to the network."""

    frame: int
    epoch: int
    packet: "av.Packet[Any]"
    keyframe: bool
    times: Times


@dataclass(slots=True)
class Sound:
    """A packet of sound on its way out."""

    pts: int
    """The sample with which the packet begins."""
    duration: int
    """Samples at 16 kHz that it spans."""
    epoch: int
    payload: bytes
    """One Opus packet."""
    captured: float
    """When sample `pts` was captured: seconds on the server's monotonic clock."""

    @property
    def end(self) -> int:
        return self.pts + self.duration
