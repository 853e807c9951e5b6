"""Lip sync: decides when audio and video are sent. Pure; times are seconds on the server's monotonic clock.

A frame is sent as soon as it is encoded, because it corresponds to sound that is already past; sound is delayed so that
it is heard when its frame is seen. If the receiver plays sound so late that delaying it cannot help, frames are held
briefly instead.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class LipSyncConfig:
    playout_difference: float = 0.055
    """Assumed delay (s) between seeing a frame and hearing sound sent with it, until the receiver reports the real one.
    Includes the audio jitter buffer and the output device."""
    tolerated: float = 0.025
    """Seconds by which sound may be late before frames are held: half of the margin left by the 40 ms target."""
    longest_sound_hold: float = 0.250
    longest_frame_hold: float = 0.040
    """Longest hold (s) of a frame. Latency has priority: beyond this, sound is allowed to be late."""
    window: int = 50
    """Number of frames and packets over which the median lateness is taken."""
    slew: float = 0.020
    """Largest change of the hold per second, so that playout does not jerk."""


class LipSync:
    """Decides how long sound, or else frames, are held at the server so that both are perceived together.

    Lateness is the time from a sample's capture until the packet or frame that corresponds to it is sent.
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
        """Records the receiver's report: sound is played `playout_difference` seconds after frames sent with it."""
        self.playout_difference = min(max(playout_difference, -0.1), 0.5)

    def hold_frame(self, captured: float, now: float, interval: float) -> float:
        """Seconds to hold a frame that is ready at `now`; frames are `interval` seconds apart."""
        self._frames.append(now - captured)
        wanted = 0.0
        if self._sounds:
            late = median(self._sounds) + self.playout_difference - median(self._frames)
            wanted = min(max(late - self.config.tolerated, 0.0), self.config.longest_frame_hold)
        self._frame_hold = self._slewed(self._frame_hold, wanted, interval)
        return self._frame_hold

    def send_sound_at(self, captured: float, duration: float, now: float) -> float:
        """When to send an audio packet of `duration` seconds whose first sample was captured at `captured`.

        Never before `now`, and never before an earlier packet.
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
