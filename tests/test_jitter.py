"""The jitter buffer's rules, in virtual time: order, losses, stalls, drift, restarts, bounds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.jitter_buffer import GRAIN, TICKS, JitterBuffer, JitterConfig, Span, WindowedMinimum

PACKET = 0.020
LENGTH = 960
START = 100.0  # when the first packet arrives by the clean path


@dataclass(frozen=True)
class Out:
    """A span and when it came."""

    span: Span
    at: float

    @property
    def added(self) -> float:
        """Seconds later than the clean path of 20 ms packets would have had it, in the sender's time."""
        return self.at - (START - PACKET + (self.span.start + self.span.length) / TICKS)


class Driver:
    """Pushes packets and polls at the deadlines, as the server does, by a clock of its own."""

    def __init__(self, buffer: JitterBuffer | None = None, sequence: int = 0, timestamp: int = 0) -> None:
        self.buffer = buffer or JitterBuffer()
        self.sequence, self.timestamp = sequence, timestamp
        self.out: list[Out] = []

    def until(self, now: float) -> None:
        while (due := self.buffer.deadline()) is not None and due < now:
            self.out += [Out(span, due) for span in self.buffer.poll(due)]

    def packet(self, index: int, at: float, duration: int = LENGTH) -> list[Span]:
        self.until(at)
        sequence = (self.sequence + index) & 0xFFFF
        timestamp = (self.timestamp + index * LENGTH) & 0xFFFFFFFF
        spans = self.buffer.push(sequence, timestamp, duration, b"x", at)
        self.out += [Out(span, at) for span in spans]
        return spans

    def arrivals(self, arrivals: Iterable[tuple[float, int]]) -> "Driver":
        for at, index in sorted(arrivals):
            self.packet(index, at)
        return self

    def between(self, begin: float, end: float) -> list[Out]:
        return [out for out in self.out if begin <= out.at < end]


def clean(indices: Iterable[int], interval: float = PACKET) -> Iterator[tuple[float, int]]:
    for index in indices:
        yield START + index * interval, index


def packets(out: Iterable[Out]) -> list[int]:
    """Which packets came out."""
    return [o.span.packet.start // LENGTH for o in out if o.span.packet is not None]


def gaps(out: Iterable[Out]) -> list[Out]:
    return [o for o in out if o.span.packet is None]


def assert_contiguous(out: Iterable[Out]) -> None:
    """Each span starts where the last ended, the first at 0, in whole grains; time never runs back."""
    position, time = 0, 0.0
    for o in out:
        assert o.span.start == position
        assert o.span.length > 0 and o.span.length % GRAIN == 0
        assert o.at >= time
        position += o.span.length
        time = o.at


def test_packets_in_order_pass_at_once() -> None:
    """Each packet of a clean path comes out of the call that brought it in, alone."""
    driver = Driver()
    for at, index in clean(range(200)):
        (span,) = driver.packet(index, at)
        assert span.packet is not None and span.start == index * LENGTH
    assert_contiguous(driver.out)
    assert driver.buffer.lost == driver.buffer.late == 0


def test_a_gap_waits_a_packet_and_a_little_and_is_then_given_up() -> None:
    """A lost packet is concealed 20 to 30 ms after it was due, its successor with it, and the third is on time."""
    driver = Driver().arrivals((at, i) for at, i in clean(range(100)) if i != 50)
    (gap,) = gaps(driver.out)
    assert gap.span.start == 50 * LENGTH and gap.span.length == LENGTH
    assert 0.020 <= gap.added <= 0.030
    assert gap.span.following is not None and gap.span.following.start == 51 * LENGTH
    assert packets(driver.out) == [i for i in range(100) if i != 50]
    assert all(out.added < 1e-6 for out in driver.out[52:])
    assert driver.buffer.lost == 1


def test_an_overtaken_packet_is_put_in_order() -> None:
    """A packet that two others overtook is waited for where the wait allows it, and all come out in order."""
    arrivals = [(at + (0.042 if i == 20 else 0.0), i) for at, i in clean(range(40))]
    driver = Driver(JitterBuffer(JitterConfig(min_wait=0.045))).arrivals(arrivals)
    assert packets(driver.out) == list(range(40))
    assert driver.buffer.late == driver.buffer.lost == 0


def test_late_and_duplicate_packets_are_dropped_and_counted() -> None:
    """A packet after its concealment is late; a second copy of any packet is a duplicate; neither comes out."""
    arrivals = list(clean(range(60)))
    arrivals[30] = (arrivals[30][0] + 0.150, 30)
    arrivals += [(START + 10 * PACKET + 0.001, 10), (START + 45 * PACKET + 0.3, 45)]
    driver = Driver().arrivals(arrivals)
    assert packets(driver.out) == [i for i in range(60) if i != 30]
    assert (driver.buffer.late, driver.buffer.duplicate, driver.buffer.lost) == (1, 2, 0)
    assert_contiguous(driver.out)


def test_one_per_cent_of_loss_leaves_no_latency() -> None:
    """After a minute with 1 % of loss packets pass as fast as at the start: nothing ratchets."""
    rng = np.random.default_rng(1)
    lost = set(np.flatnonzero(rng.random(3000) < 0.01).tolist()) - {0, 2999}
    assert len(lost) > 15
    driver = Driver().arrivals((at, i) for at, i in clean(range(3000)) if i not in lost)
    real = [out.added for out in driver.out if out.span.packet is not None]
    assert np.median(real[-500:]) == pytest.approx(np.median(real[:500]), abs=1e-6)
    assert max(real) < 0.030 and np.percentile(real, 98) < 1e-6
    assert driver.buffer.waiting == 0 and driver.buffer.lost == len(lost)


@pytest.mark.parametrize("delivered", [True, False], ids=["backlog in a burst", "backlog lost"])
def test_a_stall_is_bridged_and_leaves_no_latency(delivered: bool) -> None:
    """During 2 s without packets concealment flows at real-time rate; right after, packets pass at once again."""
    begin, end = START + 5, START + 7
    arrivals = []
    for at, i in clean(range(500)):
        if begin <= at < end:
            if not delivered:
                continue
            at = end + 1e-4 * (at - begin) / PACKET
        arrivals.append((at, i))
    driver = Driver().arrivals(arrivals)
    assert_contiguous(driver.out)
    during = gaps(driver.between(begin, end))
    assert 95 <= len(during) <= 101
    assert all(b.at - a.at == pytest.approx(PACKET, abs=1e-6) for a, b in zip(during, during[1:], strict=False))
    assert max(out.added for out in driver.out) < 0.030
    after = driver.between(end + 0.05, START + 20)
    assert len(after) > 140 and all(out.added < 1e-6 for out in after)
    assert driver.buffer.waiting == 0
    assert driver.buffer.late == (98 if delivered else 0) or abs(driver.buffer.late - 98) <= 2 * delivered


def test_a_backlog_that_drains_slowly_does_not_become_latency() -> None:
    """A stall's backlog delivered at twice the speed over 2 s is dropped as it comes, and the end of it is on time."""
    begin, end = START + 5, START + 7
    arrivals = [(at if not begin <= at < end + 2 else end + (at - begin) / 2, i) for at, i in clean(range(700))]
    driver = Driver().arrivals(arrivals)
    assert_contiguous(driver.out)
    assert all(out.added <= driver.buffer.config.max_wait + 0.010 for out in driver.out)
    assert all(out.added < 1e-6 for out in driver.between(end + 2.1, START + 20))
    assert driver.buffer.restarts == 0


def test_time_goes_on_without_packets() -> None:
    """An hour after the last packet, polls have given out an hour of gaps, at its rate."""
    driver = Driver().arrivals(clean(range(10)))
    driver.until(START + 3600)
    assert_contiguous(driver.out)
    total = sum(out.span.length for out in driver.out) / TICKS
    assert total == pytest.approx(3600, abs=0.1)


def test_before_the_first_packet_there_is_nothing() -> None:
    """Without a packet there is no deadline and polls give nothing."""
    buffer = JitterBuffer()
    assert buffer.deadline() is None and buffer.poll(1e9) == [] and buffer.reference is None


@pytest.mark.parametrize("ppm", [500, -500])
def test_clock_drift_makes_neither_latency_nor_glitches(ppm: int) -> None:
    """In an hour with the sender's clock off by 500 ppm every packet passes at once and nothing is concealed."""
    buffer = JitterBuffer()
    interval = PACKET / (1 + ppm * 1e-6)
    for index in range(180_000):
        spans = buffer.push(index & 0xFFFF, index * LENGTH & 0xFFFFFFFF, LENGTH, b"x", START + index * interval)
        assert len(spans) == 1 and spans[0].packet is not None
        due = buffer.deadline()
        # The poll would come between 20 and 30 ms after the next packet is expected: never before it.
        assert due is not None and 0.020 < due - (START + (index + 1) * interval) < 0.030


def test_the_wait_follows_the_jitter_up_and_down() -> None:
    """The wait grows with jitter, at most to its bound, and two seconds after the path is clean it is small again."""
    rng = np.random.default_rng(2)
    delays = np.zeros(600)
    delays[200:400] = rng.uniform(0, 0.060, 200)
    driver = Driver()
    waits = []
    for index in range(600):
        driver.packet(index, START + max(index * PACKET + delays[index], 0))
        waits.append(driver.buffer.wait)
    config = driver.buffer.config
    assert max(waits[:200]) < config.min_wait + 0.001
    assert 0.060 < max(waits[200:400]) <= config.max_wait
    assert waits[400 + int(config.jitter_window / PACKET) + 2] < config.min_wait + 0.001
    # Once it has adapted, hardly anything is given up.
    assert len(gaps(driver.between(START + 5, START + 8))) <= 3


def test_the_wait_is_bounded_on_the_worst_path() -> None:
    """No gap waits longer than `max_wait`, however jittery the path."""
    rng = np.random.default_rng(3)
    delays = rng.exponential(0.1, 2000)
    driver = Driver().arrivals((at + delay, i) for (at, i), delay in zip(clean(range(2000)), delays, strict=True))
    assert_contiguous(driver.out)
    config = driver.buffer.config
    assert driver.buffer.wait <= config.max_wait
    assert len(gaps(driver.out)) > 100
    # Relative to the fastest of the last seconds, which itself was a little late.
    assert max(out.added for out in driver.out) < config.max_wait + 0.040


@pytest.mark.parametrize("step", [0.015, 0.060, 0.120, 0.240])
def test_a_longer_path_is_followed(step: float) -> None:
    """After the path's delay grew for good, at most half a second is concealed and then packets pass at once."""
    driver = Driver().arrivals((at + step * (i >= 250), i) for at, i in clean(range(750)))
    assert_contiguous(driver.out)
    assert len(packets(driver.between(START + 5.5 + step, START + 20))) >= 474
    assert gaps(driver.between(START + 5.5 + step, START + 15)) == []
    assert driver.buffer.wait < driver.buffer.config.min_wait + 0.001  # the path is clean again
    assert driver.buffer.restarts == 0


@pytest.mark.parametrize("step", [0.015, 0.060, 0.240])
def test_a_shorter_path_is_followed(step: float) -> None:
    """After the path's delay shrank nothing is lost, and the next gap's deadline counts from the new delay."""
    last = START + 249 * PACKET + step  # of the slow packets; the order stays
    arrivals = [(at + step if i < 250 else max(at, last), i) for at, i in clean(range(400)) if i != 300]
    driver = Driver().arrivals(arrivals)
    assert_contiguous(driver.out)
    assert packets(driver.out) == [i for i in range(400) if i != 300]
    (gap,) = gaps(driver.out)
    assert 0.020 <= gap.added <= 0.030


def test_timestamps_that_stood_still_are_moved_not_delayed() -> None:
    """A sender silent for 10 s whose timestamps did not count them is heard again 0.2 s after it goes on."""
    driver = Driver().arrivals(clean(range(100)))
    resume = START + 12
    driver.arrivals((resume + k * PACKET, 100 + k) for k in range(200))
    assert_contiguous(driver.out)
    first = next(out for out in driver.out if out.at >= resume and out.span.packet is not None)
    assert first.at - resume <= 0.25
    assert driver.buffer.restarts == 1
    later = driver.between(resume + 0.3, resume + 10)
    assert gaps(later) == [] and all(out.added < 0.005 for out in later)


@pytest.mark.parametrize("announced", [True, False], ids=["new SSRC said", "unannounced"])
@pytest.mark.parametrize("timestamp", [5_000_000, 4_000_000_000])
def test_a_restarted_sender_continues_the_timeline(timestamp: int, announced: bool) -> None:
    """New random sequence numbers and timestamps find their place by the clock: contiguous, soon, without latency."""
    driver = Driver(sequence=40_000, timestamp=77).arrivals(clean(range(100)))
    again = START + 100 * PACKET + 0.1
    driver.sequence, driver.timestamp = 123, timestamp
    if announced:
        driver.buffer.restart()
    driver.arrivals((again + k * PACKET, k) for k in range(100))
    assert_contiguous(driver.out)
    first = next(out for out in driver.out if out.at >= again and out.span.packet is not None)
    assert first.at - again <= (0.0 if announced or timestamp == 5_000_000 else 0.25)
    later = driver.between(first.at + 0.05, again + 10)
    assert len(later) > 80 and gaps(later) == [] and all(out.added < 0.005 for out in later)
    assert driver.buffer.lost == 0


def test_sequence_numbers_and_timestamps_wrap() -> None:
    """Across both wraps, with losses and an overtaken packet at them, all comes out in order."""
    driver = Driver(sequence=65_530, timestamp=2**32 - 5 * LENGTH)
    arrivals = [(at + (0.021 if i == 5 else 0), i) for at, i in clean(range(40)) if i not in (7, 20)]
    driver.arrivals(arrivals)
    assert packets(driver.out) == [i for i in range(40) if i not in (7, 20)]
    assert driver.buffer.lost == 2
    assert_contiguous(driver.out)


def test_sequence_numbers_wrap_many_times() -> None:
    """140 000 packets, two wraps, count no loss and no restart."""
    buffer = JitterBuffer()
    for index in range(140_000):
        buffer.push(index & 0xFFFF, index * LENGTH & 0xFFFFFFFF, LENGTH, b"x", START + index * PACKET)
    assert (buffer.lost, buffer.late, buffer.duplicate, buffer.restarts) == (0, 0, 0, 0)


def test_silence_that_the_sender_skips_is_not_loss() -> None:
    """Discontinuous transmission: one packet every 400 ms, consecutive numbers; it passes at once, nothing is lost."""
    buffer = JitterBuffer()
    out: list[Out] = []
    for k in range(50):
        at = START + k * 0.4
        while (due := buffer.deadline()) is not None and due < at:
            out += [Out(span, due) for span in buffer.poll(due)]
        spans = buffer.push(k, k * 20 * LENGTH, LENGTH, b"x", at)
        assert spans and spans[-1].packet is not None
        out += [Out(span, at) for span in spans]
    assert_contiguous(out)
    assert buffer.lost == buffer.late == 0
    assert max(o.added for o in out) < 0.030


@pytest.mark.parametrize("milliseconds", [2.5, 5, 10, 40, 60, 120])
def test_packets_of_any_duration(milliseconds: float) -> None:
    """Streams of any packet duration are contiguous, also with losses, and pass at once."""
    length = int(milliseconds * 48)
    buffer = JitterBuffer()
    out: list[Out] = []
    for index in range(200):
        at = START + index * length / TICKS
        while (due := buffer.deadline()) is not None and due < at:
            out += [Out(span, due) for span in buffer.poll(due)]
        if index % 17 == 5:
            continue
        out += [Out(span, at) for span in buffer.push(index, index * length, length, b"x", at)]
    out += [Out(span, at + 0.03) for span in buffer.poll(at + 0.03)]
    out += [Out(span, at + 0.04) for span in buffer.poll(at + 0.04)]
    assert_contiguous(out)
    assert len([o for o in out if o.span.packet is not None]) == 200 - 12
    assert buffer.late == 0 and buffer.lost == 12


def test_a_packet_half_concealed_gives_its_other_half() -> None:
    """Where a gap ended in the middle of a packet, only the packet's remainder comes out."""
    driver = Driver().arrivals(clean(range(10)))
    driver.until(START + 10 * PACKET + 0.030)  # packet 10 is concealed, 20 ms
    spans = driver.buffer.push(10, 10 * LENGTH, 3 * LENGTH, b"60 ms", START + 10 * PACKET + 0.031)
    (span,) = spans
    assert (span.start, span.length) == (11 * LENGTH, 2 * LENGTH)
    assert span.packet is not None and span.packet.end == span.start + span.length


def test_a_full_buffer_gives_the_gap_up_and_counts_it() -> None:
    """More packets than the capacity behind one gap: the gap is concealed at once and all packets come out."""
    config = JitterConfig(capacity=4)
    buffer = JitterBuffer(config)
    buffer.push(0, 0, LENGTH, b"x", START)
    out = []
    for index in range(2, 8):  # all at once, packet 1 missing
        assert buffer.waiting <= config.capacity
        out += buffer.push(index, LENGTH + (index - 1) * 120, 120, b"x", START + 0.001)
    assert buffer.overflow == 1
    assert [span.packet.sequence & 0xFFFF for span in out if span.packet is not None][-1] == 7


def test_a_caller_that_was_held_up_loses_no_packets() -> None:
    """80 ms without calls, then polls and the four unread packets at once: all four come out, nothing is concealed."""
    driver = Driver().arrivals(clean(range(50)))
    late = START + 53 * PACKET + 0.005
    buffer = driver.buffer
    out = buffer.poll(late)
    for k in range(50, 54):
        out += buffer.push(k, k * LENGTH, LENGTH, b"x", late + 0.0002 * (k - 49))
        out += buffer.poll(late + 0.0002 * (k - 49) + 0.0001)
    assert [span.packet.start // LENGTH for span in out if span.packet is not None] == [50, 51, 52, 53]
    assert all(span.packet is not None for span in out)
    # And where there was nothing unread, the grace is short.
    buffer.poll(late + 2)
    due = buffer.deadline()
    assert due is not None and due <= late + 2 + buffer.config.grace
    assert len(buffer.poll(due)) >= 95


def test_a_suspended_machine_catches_up_a_bounded_time() -> None:
    """After an hour without calls at most `max_catch_up` is concealed, and packets pass at once again."""
    driver = Driver().arrivals(clean(range(50)))
    woke = START + 3600
    buffer = driver.buffer
    spans = buffer.poll(woke) + buffer.poll(woke + 0.005)
    assert sum(span.length for span in spans) / TICKS <= buffer.config.max_catch_up + 0.1
    out = []
    for k in range(100):
        out.append(buffer.push(50 + k & 0xFFFF, (180_000 + k) * LENGTH, LENGTH, b"x", woke + 0.02 + k * PACKET))
    assert all(len(spans) == 1 and spans[0].packet is not None for spans in out[5:])


def test_padding_has_no_place_on_the_timeline() -> None:
    """Empty payloads take sequence numbers and nothing else: no loss, no gap, no output."""
    buffer = JitterBuffer()
    out = []
    for k in range(20):
        out += buffer.push(2 * k, k * LENGTH, LENGTH, b"x", START + k * PACKET)
        assert buffer.push(2 * k + 1, k * LENGTH, LENGTH, b"", START + k * PACKET + 0.001) == []
    assert len(out) == 20 and all(span.packet is not None for span in out)
    assert buffer.lost == 0


@settings(max_examples=150, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.integers(-3, 400),  # packet index
            st.floats(0, 1.5, allow_nan=False),  # seconds since the last event
            st.sampled_from([120, 960, 960, 960, 2880]),  # duration
        ),
        max_size=120,
    ),
    step=st.sampled_from([0.0, 0.001, 0.05]),
)
def test_any_order_loss_and_timing_gives_one_contiguous_timeline(
    events: list[tuple[int, float, int]], step: float
) -> None:
    """Whatever arrives whenever: no overlap, no gap, no packet twice, bounded memory, every packet accounted for."""
    driver = Driver(JitterBuffer(JitterConfig(capacity=8)), sequence=65_400, timestamp=2**32 - 100 * LENGTH)
    now = START
    for index, passed, duration in events:
        now += passed * step
        driver.packet(index, now, duration)
        assert driver.buffer.waiting <= driver.buffer.config.capacity + 1
    driver.until(now + 1)
    assert_contiguous(driver.out)
    given_out = [out.span.packet.sequence for out in driver.out if out.span.packet is not None]
    assert len(given_out) == len(set(given_out))
    buffer = driver.buffer
    assert buffer.received == len(events) == len(given_out) + buffer.late + buffer.duplicate + buffer.waiting


@settings(max_examples=50, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.floats(0, 3), st.sampled_from([120, 960, 5760])
        ),
        max_size=40,
    )
)
def test_garbage_headers_are_survived(events: list[tuple[int, int, float, int]]) -> None:
    """Random sequence numbers and timestamps give a contiguous timeline, at real-time rate."""
    driver = Driver()
    now = START
    for k, (sequence, timestamp, passed, duration) in enumerate(events):
        now += passed * (k > 0)
        driver.until(now)
        driver.out += [Out(span, now) for span in driver.buffer.push(sequence, timestamp, duration, b"x", now)]
    driver.until(now + 1)
    assert_contiguous(driver.out)
    total = sum(out.span.length for out in driver.out) / TICKS
    assert total <= now - START + 1 + driver.buffer.config.jump + 0.2 * (len(events) + 1)
    if events:
        assert total >= now - START - 0.5


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), loss=st.floats(0, 0.3), jitter=st.floats(0, 0.05))
def test_after_any_trouble_a_clean_path_is_clean_at_once(seed: int, loss: float, jitter: float) -> None:
    """10 s of losses and jitter, then a clean path: within 1 s every packet passes at once."""
    rng = np.random.default_rng(seed)
    lost = rng.random(500) < loss
    delays = rng.exponential(jitter, 500) if jitter else np.zeros(500)
    trouble = [(START + i * PACKET + delays[i], i) for i in range(1, 500) if not lost[i]]
    driver = Driver().arrivals([(START, 0), *trouble, *clean(range(500, 600))])
    assert_contiguous(driver.out)
    after = driver.between(START + 11, START + 20)
    assert len(after) >= 49 and gaps(after) == [] and all(out.added < 1e-6 for out in after)


def test_the_windowed_minimum_forgets_and_stays_small() -> None:
    """The minimum is that of the last seconds, kept in eight slots, and stays when nothing is added."""
    minimum = WindowedMinimum(4.0)
    minimum.add(0.0, -5.0)
    for k in range(1, 1000):
        minimum.add(k * 0.01, 1.0)
        assert len(minimum._buckets) <= 8
        assert minimum.value == (-5.0 if k < 400 else 1.0)
    minimum.shift(2.0)
    assert minimum.value == 3.0
    minimum.add(100.0, 7.0)
    assert minimum.value == 7.0


@pytest.mark.parametrize(
    "config", [{"min_wait": 0.2}, {"min_wait": 0.0}, {"capacity": 0}, {"quantile": 0.0}, {"settle": -1.0}]
)
def test_impossible_configurations_are_refused(config: dict[str, float]) -> None:
    """Values out of range are refused with the number."""
    with pytest.raises(ValueError, match=r"\d"):
        JitterConfig(**config)  # type: ignore[arg-type]
