"""When audio and video leave: pure rules on one clock. Times are seconds on the server's monotonic clock.

A frame leaves as soon as it is coded, for what it answers is already past, and sound is held back to be heard when its
frame is seen. Where the receiver plays sound so late that holding it cannot help, frames wait for it, a little.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class LipSyncConfig:
    playout_difference: float = 0.055
    """Seconds by which sound is heard later than a frame sent with it is seen, until the receiver says what it is:
    the audio's jitter buffer is in it, and the output device."""
    tolerated: float = 0.025
    """Seconds that sound may be heard late before frames are held for it: half of what the aim of 40 ms leaves."""
    longest_sound_hold: float = 0.250
    longest_frame_hold: float = 0.040
    """A frame's age is what this project is about: beyond this, sound may be late."""
    window: int = 50
    """Frames and packets over which their lateness is taken (its median)."""
    slew: float = 0.020
    """Seconds of hold gained or lost in a second, so that playout is not jerked about."""


class LipSync:
    """Decides how long sound, or else frames, wait at the server so that both are perceived together.

    Lateness is the time between a sample's capture and the leaving of the packet, or of the frame, that answers it.
    """

    def __init__(self, config: LipSyncConfig | None = None) -> None:
        self.config = config or LipSyncConfig()
        self.playout_difference = self.config.playout_difference
        self._frames: deque[float] = deque(maxlen=self.config.window)
        self._sounds: deque[float] = deque(maxlen=self.config.window)
        self._sound_hold: float | None = None
        self._frame_hold = 0.0
        self._last_send = float("-inf")

    def measured(self, playout_difference: float) -> None:
        """The receiver says by how much (s) it plays sound later than it shows frames that were sent together."""
        self.playout_difference = min(max(playout_difference, -0.1), 0.5)

    def hold_frame(self, captured: float, now: float, interval: float) -> float:
        """Seconds that a frame, ready at `now`, waits; frames come each `interval` seconds."""
        self._frames.append(now - captured)
        wanted = 0.0
        if self._sounds:
            late = median(self._sounds) + self.playout_difference - median(self._frames)
            wanted = min(max(late - self.config.tolerated, 0.0), self.config.longest_frame_hold)
        self._frame_hold = self._slewed(self._frame_hold, wanted, interval)
        return self._frame_hold

    def send_sound_at(self, captured: float, duration: float, now: float) -> float:
        """When a packet of sound leaves: its first sample was captured at `captured`, it lasts `duration` seconds.

        Never before `now`, never before an earlier packet.
        """
        self._sounds.append(now - captured)
        wanted = 0.0
        if self._frames:
            wanted = captured + median(self._frames) - self.playout_difference - now
            wanted = min(max(wanted, 0.0), self.config.longest_sound_hold)
        if self._sound_hold is None or now > self._last_send + 1.0:
            self._sound_hold = wanted
        else:
            self._sound_hold = self._slewed(self._sound_hold, wanted, duration)
        self._last_send = max(now + self._sound_hold, self._last_send)
        return self._last_send

    def _slewed(self, hold: float, wanted: float, seconds: float) -> float:
        step = self.config.slew * seconds
        return hold + min(max(wanted - hold, -step), step)
