"""The jitter buffer: RTP packets in, one timeline without gaps or overlaps out. Pure.

A packet that arrives in order passes at once. Only a missing packet makes others wait, and that wait has a deadline:

    due = reference + end of the missing media + wait

`reference` is the minimum of (arrival - end of media) over the last seconds: the arrival of an undelayed packet. A
windowed minimum follows clock drift and a path that got shorter or longer, which a fixed reference does not. `wait` is
`min_wait` plus what nearly all recent packets came late by, at most `max_wait`. At the deadline the gap is given out to
be concealed, whether or not anything follows it, so that time goes on when packets stop. Packets for time already
concealed are dropped; hence nothing can pile up, and after a stall the newest packet is at once the next one.

Time is an argument everywhere (seconds, monotonic); there is no clock, no thread and no I/O in here.
"""

import bisect
from collections import deque
from dataclasses import dataclass

TICKS = 48_000
"""RTP clock of Opus (Hz). The timeline counts ticks from the start of the first packet."""

GRAIN = 120
"""2.5 ms in ticks, Opus' shortest frame: gaps are multiples of it; a packet off by less counts as in place."""

# RFC 3550, appendix A.1: a sequence number further off than these belongs to a sender that started anew.
MAX_DROPOUT = 3000
MAX_MISORDER = 1000
_SEEN = 1024  # sequence numbers remembered to tell a duplicate from a late packet; more than MAX_MISORDER


@dataclass(frozen=True)
class JitterConfig:
    """Seconds, except `capacity` (packets) and `quantile` (share)."""

    min_wait: float = 0.024  # one usual packet and a little: its successor, which may carry its FEC, arrives meanwhile
    max_wait: float = 0.100
    quantile: float = 0.98  # of recent lateness; only gaps pay for the wait, so it covers nearly all packets
    jitter_window: float = 2.0  # window of lateness; the wait shrinks this fast when jitter ends
    reference_window: float = 4.0  # of the minimum: 500 ppm of drift move it by 2 ms in this time
    settle: float = 0.2  # packets equally late for this long mean that the path got longer
    max_pause: float = 0.25  # up to this, a longer path is followed by one pause, beyond it by re-anchoring
    jump: float = 1.0  # a packet this much too early means that the sender restarted
    max_catch_up: float = 2.0  # maximum concealed after a late call
    blocked: float = 0.010  # a caller this late was itself held up: packets may lie unread in the socket,
    grace: float = 0.005  # so they get this long to be pushed before anything is concealed
    capacity: int = 32  # packets waiting behind a gap; overflow policy: the gap is concealed at once

    def __post_init__(self) -> None:
        if not 0 < self.min_wait <= self.max_wait:
            raise ValueError(f"need 0 < min_wait <= max_wait, got {self.min_wait} and {self.max_wait}")
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile must lie in (0, 1], got {self.quantile}")
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1 packet, got {self.capacity}")
        for name in ("jitter_window", "reference_window", "settle", "max_pause", "jump", "max_catch_up", "grace"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(slots=True)
class Packet:
    """An RTP packet in its place on the timeline."""

    sequence: int  # extended beyond 16 bits
    start: int  # ticks
    duration: int  # ticks
    payload: bytes
    arrived: float

    @property
    def end(self) -> int:
        return self.start + self.duration


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of the timeline, `length` ticks from `start`. Without a packet it is a gap to conceal; with one, the
    packet's last `length` ticks are meant (its beginning was concealed already where `length` is less than it has).
    `following` is the packet directly after a gap, if it is there: it may carry the gap's FEC."""

    start: int
    length: int
    packet: Packet | None
    following: Packet | None = None


class WindowedMinimum:
    """The least of the values of about the last `window` seconds, in `buckets` slots: bounded, O(1) per value.

    Time passes only with `add`: without new values the last minimum stays.
    """

    def __init__(self, window: float, buckets: int = 8) -> None:
        self._width = window / buckets
        self._buckets: deque[list[float]] = deque(maxlen=buckets)  # [index of the slot, its minimum]

    @property
    def value(self) -> float:
        return min(least for _, least in self._buckets)

    def add(self, now: float, value: float) -> None:
        index = now // self._width
        if self._buckets and index <= self._buckets[-1][0]:
            self._buckets[-1][1] = min(self._buckets[-1][1], value)
            return
        self._buckets.append([index, value])
        while self._buckets[0][0] <= index - (self._buckets.maxlen or 0):
            self._buckets.popleft()

    def reset(self, now: float, value: float) -> None:
        self._buckets.clear()
        self.add(now, value)

    def shift(self, by: float) -> None:
        for bucket in self._buckets:
            bucket[1] += by


@dataclass(slots=True)
class _Settling:
    """A run of packets that all came late."""

    since: float
    least: float
    most: float
    count: int = 1


class JitterBuffer:
    """Orders packets by time and says at which time what is missing is to be concealed.

    `push` and `poll` return spans that follow each other without gap or overlap, from tick 0 for ever. `deadline` says
    when `poll` has something to give if no packet comes before.
    """

    def __init__(self, config: JitterConfig | None = None) -> None:
        self.config = config or JitterConfig()
        self.received = 0
        self.duplicate = 0
        self.late = 0  # arrived after their time had been concealed, dropped
        self.overflow = 0  # times that the buffer was full and a gap was given up early
        self.restarts = 0  # times that a sender's timestamps were given a new place
        self.jitter = 0.0  # seconds, RFC 3550's interarrival jitter
        self.wait = self.config.min_wait  # seconds that a gap waits now
        self._expected = 0  # packets that the sequence numbers promise
        self._unique = 0  # packets that came, duplicates aside
        self._seen = [-1] * _SEEN
        self._highest = 0  # extended sequence number
        self._timestamp = 0  # of the last packet, extended beyond 32 bits
        self._shift = 0  # timestamp + shift = tick on the timeline
        self._next = 0  # tick where the next span begins
        self._released = -1  # sequence number of the last packet given out
        self._step = 960  # ticks of the last packet: what a missing one is taken to have
        self._buffer: list[Packet] = []  # waiting behind a gap, by start
        self._started = False
        self._restarting = False  # the next packet needs a new place,
        self._new_run = False  # and its sequence number has nothing to do with those before
        self._minimum = WindowedMinimum(self.config.reference_window)
        self._lateness: deque[tuple[float, float]] = deque(maxlen=200)  # (arrival, seconds late)
        self._transit = 0.0
        self._settling: _Settling | None = None
        self._called = 0.0
        self._hold: float | None = None

    @property
    def lost(self) -> int:
        """Packets that the sequence numbers promise and that did not come (yet)."""
        return max(0, self._expected - self._unique)

    @property
    def waiting(self) -> int:
        """Packets currently held behind a gap."""
        return len(self._buffer)

    @property
    def reference(self) -> float | None:
        """When, by the undelayed path, tick 0 would have arrived; None before the first packet."""
        return self._minimum.value if self._started else None

    def restart(self) -> None:
        """The next packet is from a sender that counts anew (a new SSRC)."""
        self._restarting = self._new_run = self._started

    def deadline(self) -> float | None:
        """When to poll if no packet comes; None before the first packet."""
        if not self._started:
            return None
        due = self._due()
        return due if self._hold is None else max(due, self._hold)

    def poll(self, now: float) -> list[Span]:
        """Returns the spans that are due."""
        if not self._started:
            return []
        self._skip_ahead(now)
        return self._advance(now)

    def push(self, sequence: int, timestamp: int, duration: int, payload: bytes, now: float) -> list[Span]:
        """Takes one packet (`duration` in ticks) and returns the spans that it, or the time, made ready."""
        self.received += 1
        extended = self._track(sequence & 0xFFFF)
        if extended is None:
            self.duplicate += 1
            return self.poll(now)
        if not payload:  # padding: it has a sequence number and no media
            return self.poll(now)
        if not self._started:
            self._started = True
            self._called = now
            self._timestamp = timestamp
            self._shift = -timestamp
            self._released = extended - 1
            self._minimum.add(now, now - duration / TICKS)
            self._transit = now - duration / TICKS
        self._skip_ahead(now)
        self._timestamp += (timestamp - self._timestamp + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000
        packet = Packet(extended, self._timestamp + self._shift, duration, payload, now)
        self._place(packet, now)
        if packet.end - self._next < GRAIN:
            self.late += 1
        else:
            bisect.insort(self._buffer, packet, key=lambda other: other.start)
        return self._advance(now)

    def _track(self, sequence: int) -> int | None:
        """The extended sequence number, counted; None for one that was there before."""
        delta = (sequence - self._highest + 0x8000) % 0x1_0000 - 0x8000
        if not self._expected or self._new_run or not -MAX_MISORDER <= delta <= MAX_DROPOUT:
            self._new_run = False
            # A new run. It leaves a number free, so that it never passes for the old run's continuation, and keeps the
            # low 16 bits.
            self._highest += (sequence - self._highest - 2) % 0x1_0000 + 2
            extended = self._highest
            self._expected += 1
        else:
            extended = self._highest + delta
            if delta > 0:
                self._expected += delta
                self._highest = extended
        if self._seen[extended % _SEEN] == extended:
            return None
        self._seen[extended % _SEEN] = extended
        self._unique += 1
        return extended

    def _place(self, packet: Packet, now: float) -> None:
        """Judges how late the packet is; follows the path and the sender where they changed."""
        cfg = self.config
        transit = now - packet.end / TICKS
        self.jitter += (abs(transit - self._transit) - self.jitter) / 16
        self._transit = transit
        lateness = transit - self._minimum.value
        if self._restarting or lateness < -cfg.jump:
            self._anchor(packet, now)
            transit = self._transit
            lateness = transit - self._minimum.value
        if lateness <= self.wait:
            self._minimum.add(now, transit)
            self._settling = None
        elif self._settled(now, transit):
            assert self._settling is not None
            least = self._settling.least
            self._settling = None
            if least - self._minimum.value <= cfg.max_pause:
                self._minimum.reset(now, least)
            else:
                self._anchor(packet, now)
            lateness = self._transit - self._minimum.value
        # What no allowed wait could have saved (a stall's backlog) does not make the wait longer.
        if lateness <= cfg.max_wait:
            self._lateness.append((now, max(0.0, lateness)))
        while self._lateness and self._lateness[0][0] < now - cfg.jitter_window:
            self._lateness.popleft()
        ordered = sorted(late for _, late in self._lateness)
        late = ordered[int(cfg.quantile * (len(ordered) - 1))] if ordered else 0.0
        self.wait = min(cfg.max_wait, cfg.min_wait + late)

    def _settled(self, now: float, transit: float) -> bool:
        """True when packets have been late for a while and by the same: not a backlog that drains, but a longer path
        (or a sender whose timestamps stood still while it was silent)."""
        run = self._settling
        if run is None or max(run.most, transit) - min(run.least, transit) > self.config.max_wait:
            self._settling = _Settling(now, transit, transit)
            return False
        run.least = min(run.least, transit)
        run.most = max(run.most, transit)
        run.count += 1
        return now - run.since >= self.config.settle and run.count >= 3

    def _anchor(self, packet: Packet, now: float) -> None:
        """Gives the sender's timestamps a new place: where the server's clock says that this packet belongs, as one
        that met no delay. The timeline itself goes on; what lies between is a gap like any other."""
        end = int((now - self._minimum.value) * TICKS)
        start = max(self._next, end - packet.duration)
        start -= (start - self._next) % GRAIN  # gaps are whole grains
        self._shift += start - packet.start
        packet.start = start
        self._transit = now - packet.end / TICKS
        self._released = packet.sequence - 1  # nothing can come any more between the old place and the new
        self._restarting = False
        self.restarts += 1

    def _gap(self) -> int:
        """Ticks of the next gap: as long as a packet, or up to the packet that is there."""
        if not self._buffer:
            return self._step
        return min(self._step, (self._buffer[0].start - self._next) // GRAIN * GRAIN)

    def _due(self) -> float:
        return self._minimum.value + (self._next + self._gap()) / TICKS + self.wait

    def _skip_ahead(self, now: float) -> None:
        """After a caller's long absence (a suspended machine) the reference moves, not the timeline."""
        overdue = now - self._due()
        if overdue > self.config.max_catch_up:
            self._minimum.shift(overdue - self.config.max_catch_up)

    def _advance(self, now: float) -> list[Span]:
        """All spans that can or must be given out at `now`."""
        spans: list[Span] = []
        while True:
            if self._buffer:
                head = self._buffer[0]
                if head.start - self._next < GRAIN:
                    del self._buffer[0]
                    if head.end - self._next < GRAIN:
                        self.late += 1
                    else:
                        spans.append(self._release(head))
                    continue
                if head.sequence == self._released + 1:  # nothing was lost: the sender was silent (DTX)
                    spans.append(self._conceal())
                    continue
                if len(self._buffer) > self.config.capacity:
                    self.overflow += head.start - self._next <= self._step  # once per gap
                    spans.append(self._conceal())
                    continue
            due = self._due()
            if now < due:
                self._hold = None  # nothing is overdue any more
                break
            if self._spared(now, due):
                break
            spans.append(self._conceal())
        self._called = now
        return spans

    def _spared(self, now: float, due: float) -> bool:
        """True while a caller that was held up may still have packets to push."""
        if self._hold is not None:
            return now < self._hold
        if now - max(due, self._called) > self.config.blocked:
            self._hold = now + self.config.grace
            return True
        return False

    def _release(self, packet: Packet) -> Span:
        # A few ticks of misalignment are no gap; a packet that begins before `next` gives only its remainder.
        skip = (self._next - packet.start) // GRAIN * GRAIN if packet.start < self._next else 0
        span = Span(self._next, packet.duration - skip, packet)
        self._next += span.length
        self._released = packet.sequence
        self._step = packet.duration
        return span

    def _conceal(self) -> Span:
        length = self._gap()
        follows = self._buffer and self._buffer[0].start - self._next - length < GRAIN
        span = Span(self._next, length, None, self._buffer[0] if follows else None)
        self._next += length
        return span
