"""How much video may be sent, from the receiver's reports. Pure: times are seconds on one clock."""

from collections import deque
from dataclasses import dataclass


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
    full: float = 10.0
    """Seconds for which a path counts as full after the receiver's estimate has fallen."""


class BitrateRule:
    """How much video may be sent, from the receiver's reports.

    A receiver's estimate (REMB) is bounded by what it was sent, so for a sender whose content needs little it says
    little, and once a voice sets in and more is sent it takes seconds to follow, at 8 % a second. So it counts only
    where it is below what is being sent, and while the path is full: an estimate falls when packets come ever later,
    and rises, if slowly, where nothing is wrong. Loss counts always.
    """

    def __init__(self, ceiling: int, config: BitrateConfig | None = None) -> None:
        self.config = config or BitrateConfig()
        self._ceiling = ceiling
        self._estimated = 0
        self._full_until = float("-inf")
        self.cap = ceiling

    def estimate(self, bitrate: int, sent: float, now: float) -> int:
        """The receiver estimates `bitrate` (bit/s) while `sent` bit/s go out. Returns the new cap."""
        if bitrate < self._estimated:
            self._full_until = now + self.config.full
        self._estimated = bitrate
        if bitrate < sent and now < self._full_until:
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


@dataclass(frozen=True)
class KeyframeOnlyConfig:
    falls_short: float = 0.6
    """Share of what is coded that the path must carry for all frames to be sent. An encoder that follows this viewer
    alone never falls so far behind: see `_REBUILD_RATIO` in encode.py."""
    suffices: float = 0.8
    """Share from which all frames are sent again."""
    patience: float = 1.0
    """Seconds for which either must hold."""
    window: float = 2.0
    """Seconds over which what is coded is measured."""
    key_share: float = 0.5
    """Share of the cap that key frames alone may take."""
    shortest: float = 1.0
    """Seconds from one key frame to the next that may be sent."""
    first_try: float = 10.0
    """Seconds for which a path is thinned out at least. Each time that it then falls short again they double, since the
    little that a thinned path is sent cannot tell what it carries."""
    last_try: float = 320.0


class KeyframeOnlyMode:
    """Whether a viewer is sent all frames, or, where its path carries clearly less, only a key frame now and then.

    A rate that others can take would fill a slow path's queues without end, and no frame would come through in time.
    """

    def __init__(self, config: KeyframeOnlyConfig | None = None) -> None:
        self.config = config or KeyframeOnlyConfig()
        self.active = False
        self._coded: deque[tuple[float, int]] = deque()
        self._since: float | None = None  # since when what would change `active` has held
        self._may_send = float("-inf")
        self._may_ask = float("-inf")
        self._changed = float("-inf")
        self._least = self.config.first_try

    def takes(self, now: float, size: int, keyframe: bool, cap: int) -> bool:
        """Whether a frame of `size` bytes, coded at `now`, is to be sent over a path that carries `cap` bit/s."""
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
            self._wait(now, config.shortest)  # what fills the path may drain first
        if not self.active:
            return True
        if not keyframe or now < self._may_send:
            return False
        self._wait(now, max(config.shortest, bits / (config.key_share * cap)))
        return True

    def may_ask(self, now: float) -> bool:
        """Whether a key frame may be asked of the encoder for this viewer's sake.

        Later than one may be sent: key frames that were made for others mostly come first, so that several thinned
        viewers share theirs.
        """
        return not self.active or now >= self._may_ask

    def _wait(self, now: float, seconds: float) -> None:
        self._may_send, self._may_ask = now + seconds, now + 2 * seconds
