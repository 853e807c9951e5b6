"""When audio and video leave: pure rules on one clock. Times are seconds on the server's monotonic clock.

A frame leaves as soon as it is drawn, for what it answers is already past. Sound is held back, if at all, so that it is
heard when its frame is seen.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median

from streamer.config import SAMPLES_PER_FRAME


@dataclass(frozen=True)
class LipSyncConfig:
    playout_difference: float = 0.055
    """Seconds between a frame reaching the screen and sound sent with it reaching the ear, as measured in Chromium with
    the video's playout delay at zero: the audio's jitter buffer and the device are in it."""
    longest_hold: float = 0.250
    """Sound is never held back longer than this (s)."""
    window: int = 50
    """Frames over which the video's lateness is taken (its median)."""
    slew: float = 0.020
    """Seconds of hold gained or lost in a second of sound, so that playout is not jerked about."""


class LipSync:
    """Decides how long an audio packet waits at the server, from how late frames leave."""

    def __init__(self, config: LipSyncConfig | None = None) -> None:
        self.config = config or LipSyncConfig()
        self._lateness: deque[float] = deque(maxlen=self.config.window)
        self._hold: float | None = None
        self._last_send = float("-inf")

    def frame_sent(self, captured: float, sent: float) -> None:
        """A frame whose sample was captured at `captured` left at `sent`."""
        self._lateness.append(sent - captured)

    @property
    def lateness(self) -> float | None:
        """Seconds between a sample's capture and its frame's leaving; None before the first frame."""
        return median(self._lateness) if self._lateness else None

    def send_at(self, captured: float, duration: float, now: float) -> float:
        """When a packet of sound leaves: its first sample was captured at `captured`, it lasts `duration` seconds.

        Never before `now`, never before an earlier packet.
        """
        lateness = self.lateness
        wanted = 0.0
        if lateness is not None:
            # Sample and frame should leave `playout_difference` apart; without a hold the sample leaves now.
            wanted = captured + lateness - self.config.playout_difference - now
        wanted = min(max(wanted, 0.0), self.config.longest_hold)
        if self._hold is None or now > self._last_send + 1.0:
            self._hold = wanted
        else:
            step = self.config.slew * duration
            self._hold += min(max(wanted - self._hold, -step), step)
        self._last_send = max(now + self._hold, self._last_send)
        return self._last_send


@dataclass(frozen=True)
class BitrateConfig:
    lowest: int = 80_000
    """bit/s below which a picture is not worth sending."""
    loss_backs_off: float = 0.05
    """Share of packets lost above which the cap falls, by half the share."""
    loss_recovers: float = 0.02
    """Share below which the cap grows again."""
    growth: float = 1.08
    """Factor a report (about a second)."""


class BitrateRule:
    """How much video may be sent, from the receiver's reports.

    A receiver's estimate (REMB) is bounded by what it was sent, so for a sender whose content needs little it says
    little: it counts only where it is below what is being sent. Loss counts always.
    """

    def __init__(self, ceiling: int, config: BitrateConfig | None = None) -> None:
        self.config = config or BitrateConfig()
        self._ceiling = ceiling
        self.cap = ceiling

    def estimate(self, bitrate: int, sent: float) -> int:
        """The receiver estimates `bitrate` (bit/s) while `sent` bit/s go out. Returns the new cap."""
        if bitrate < sent:
            self._set(bitrate)
        return self.cap

    def report(self, loss: float) -> int:
        """A receiver report with a share of packets lost since the last. Returns the new cap."""
        if loss > self.config.loss_backs_off:
            self._set(self.cap * (1 - 0.5 * loss))
        elif loss < self.config.loss_recovers:
            self._set(self.cap * self.config.growth)
        return self.cap

    def _set(self, bitrate: float) -> None:
        self.cap = int(min(max(bitrate, self.config.lowest), self._ceiling))


class FramePacer:
    """Decides which frames a growing stretch of speech makes answerable.

    Frame k needs the samples up to 640·k + look-ahead.
    """

    def __init__(self, lookahead: int) -> None:
        if lookahead < 0:
            raise ValueError(f"look-ahead of {lookahead} samples: must not be negative")
        self.lookahead = lookahead
        self.next_frame = 0

    def due(self, end: int) -> range:
        """The frames that samples up to `end` (16 kHz, exclusive) newly answer, in order."""
        first = self.next_frame
        last = (end - self.lookahead) // SAMPLES_PER_FRAME
        self.next_frame = max(first, last + 1)
        return range(first, self.next_frame)
