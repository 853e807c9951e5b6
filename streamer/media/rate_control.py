"""Video rate control from receiver reports. Pure; times are seconds on one clock."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class BitrateConfig:
    lowest: int = 80_000
    """Minimum bitrate (bit/s), below which a picture is not worth sending."""
    loss_backs_off: float = 0.05
    """Packet loss fraction above which the cap is reduced, by half the loss fraction."""
    loss_recovers: float = 0.02
    """Packet loss fraction below which the cap grows again."""
    growth: float = 1.08
    """Growth factor per report (about one per second)."""
    full: float = 10.0
    """Seconds for which a path counts as congested after the receiver's estimate has fallen."""


class BitrateRule:
    """The bitrate cap of one receiver, computed from its reports.

    A receiver's estimate (REMB) is limited by what it was sent: it is low while the content needs little, and when
    speech starts it takes seconds to catch up, at 8 % per second. So an estimate counts only if it is below the
    current send rate while the path is congested: estimates fall when packets arrive ever later, and rise slowly when
    nothing is wrong. Loss always counts.
    """

    def __init__(self, ceiling: int, config: BitrateConfig | None = None) -> None:
        self.config = config or BitrateConfig()
        self._ceiling = ceiling
        self._estimated = 0
        self._full_until = float("-inf")
        self.cap = ceiling

    def estimate(self, bitrate: int, sent: float, now: float) -> int:
        """Handles an estimate of `bitrate` bit/s while `sent` bit/s are being sent. Returns the new cap."""
        if bitrate < self._estimated:
            self._full_until = now + self.config.full
        self._estimated = bitrate
        if bitrate < sent and now < self._full_until:
            self._set(bitrate)
        return self.cap

    def report(self, loss: float) -> int:
        """Handles a receiver report with the loss fraction since the last one. Returns the new cap."""
        if loss > self.config.loss_backs_off:
            self._set(self.cap * (1 - 0.5 * loss))
        elif loss < self.config.loss_recovers:
            self._set(self.cap * self.config.growth)
        return self.cap

    def _set(self, bitrate: float) -> None:
        self.cap = int(min(max(bitrate, self.config.lowest), self._ceiling))


@dataclass(frozen=True)
class KeyframeOnlyConfig:
    falls_short: float = 0.6
    """Fraction of the encoded bitrate that the path must carry for all frames to be sent. An encoder that serves only
    this viewer never falls this far behind: see `_REBUILD_RATIO` in video_encoder.py."""
    suffices: float = 0.8
    """Fraction at which all frames are sent again."""
    patience: float = 1.0
    """Seconds for which either condition must hold."""
    window: float = 2.0
    """Window (s) over which the encoded bitrate is measured."""
    key_share: float = 0.5
    """Fraction of the cap that keyframes alone may use."""
    shortest: float = 1.0
    """Minimum interval (s) between keyframes that are sent."""
    first_try: float = 10.0
    """Minimum duration (s) of keyframe-only mode. It doubles each time the path falls short again afterwards, because
    the little that is sent in this mode cannot reveal what the path carries."""
    last_try: float = 320.0


class KeyframeOnlyMode:
    """Decides whether a viewer gets all frames or, if its path carries clearly less, only occasional keyframes.

    At a bitrate that suits the other viewers, a slow path's queues would grow without limit and no frame would arrive
    in time.
    """

    def __init__(self, config: KeyframeOnlyConfig | None = None) -> None:
        self.config = config or KeyframeOnlyConfig()
        self.active = False
        self._coded: deque[tuple[float, int]] = deque()
        self._since: float | None = None  # how long the condition to toggle `active` has held
        self._may_send = float("-inf")
        self._may_ask = float("-inf")
        self._changed = float("-inf")
        self._least = self.config.first_try

    def takes(self, now: float, size: int, keyframe: bool, cap: int) -> bool:
        """Whether to send a frame of `size` bytes, encoded at `now`, over a path that carries `cap` bit/s."""
        config, bits = self.config, 8 * size
        self._coded.append((now, bits))
        while self._coded[0][0] <= now - config.window:
            self._coded.popleft()
        rate = sum(bits for _, bits in self._coded) / config.window
        short = cap < (config.suffices if self.active else config.falls_short) * rate
        if short == self.active:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= config.patience and (short or now - self._changed >= self._least):
            if short:
                again = now - self._changed < self._least
                self._least = min(2 * self._least, config.last_try) if again else config.first_try
            self.active, self._since, self._changed = short, None, now
            self._wait(now, config.shortest)  # lets the path's queues drain first
        if not self.active:
            return True
        if not keyframe or now < self._may_send:
            return False
        self._wait(now, max(config.shortest, bits / (config.key_share * cap)))
        return True

    def may_ask(self, now: float) -> bool:
        """Whether to request a keyframe from the encoder on behalf of this viewer.

        Later than a keyframe may be sent: usually one that was made for others arrives first, so that several viewers
        in this mode share keyframes.
        """
        return not self.active or now >= self._may_ask

    def _wait(self, now: float, seconds: float) -> None:
        self._may_send, self._may_ask = now + seconds, now + 2 * seconds
