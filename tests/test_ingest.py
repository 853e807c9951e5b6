"""Packets to chunks: one timeline of sound, the payload beside it, counters, and when it was captured."""

import time
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio import Chunk, Ingest, OpusDecoder, OpusEncoder
from streamer.audio.rtp_input import CaptureClock
from streamer.base.constants import SAMPLE_RATE

SAMPLE = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"
PACKET = 0.020
SAMPLES = 320
START = 50.0


@pytest.fixture(scope="module")
def packets() -> list[bytes]:
    """Eight seconds of real speech as Opus packets of 20 ms."""
    with wave.open(str(SAMPLE)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    encoder = OpusEncoder(SAMPLE_RATE)
    return [encoder.encode(part) for part in sound[: 8 * SAMPLE_RATE].reshape(-1, SAMPLES)]


def arrivals(packets: list[bytes], lost: Iterable[int] = ()) -> list[tuple[float, int, bytes]]:
    """By the clean path: (when, index, payload)."""
    return [(START + k * PACKET, k, packet) for k, packet in enumerate(packets) if k not in set(lost)]


def receive(ingest: Ingest, coming: Iterable[tuple[float, int, bytes]], sequence: int = 0) -> list[Chunk]:
    """Pushes all and polls at the deadlines between."""
    chunks: list[Chunk] = []
    for at, index, payload in sorted(coming):
        chunks += poll_until(ingest, at)
        chunks += ingest.push((sequence + index) & 0xFFFF, (index * 960 + 1_000_000) & 0xFFFFFFFF, payload, at)
    return chunks


def poll_until(ingest: Ingest, now: float) -> list[Chunk]:
    chunks = []
    while (due := ingest.deadline(0.0)) is not None and due < now:
        chunks += ingest.poll(due)
    return chunks


def assert_contiguous(chunks: list[Chunk]) -> None:
    position = 0
    for chunk in chunks:
        assert chunk.pts == position and len(chunk.samples) > 0
        assert chunk.samples.dtype == np.float32 and np.all(np.isfinite(chunk.samples))
        position = chunk.end


def test_a_clean_path_gives_the_decoders_own_samples_and_the_payloads(packets: list[bytes]) -> None:
    """Each packet comes out of its own push, bit for bit as decoded, with its payload and its arrival time."""
    ingest, decoder = Ingest(), OpusDecoder()
    for at, index, payload in arrivals(packets):
        (chunk,) = ingest.push(index, index * 960, payload, at)
        expected = decoder.decode(payload)
        assert expected is not None
        np.testing.assert_array_equal(chunk.samples, expected)
        assert (chunk.pts, chunk.concealed, chunk.arrived) == (index * SAMPLES, False, at)
        assert (chunk.payload, chunk.duration) == (payload, SAMPLES)
    stats = ingest.stats
    assert (stats.received, stats.lost, stats.concealed_samples) == (len(packets), 0, 0)


def test_losses_are_filled_by_fec_or_concealment_and_counted(packets: list[bytes]) -> None:
    """Lost packets leave chunks without payload: recovered ones are not `concealed`, and the counters add up."""
    lost = [20, 50, 51, 52, 100, 150, 151]
    chunks = receive(Ingest(), arrivals(packets, lost))
    ingest = Ingest()
    chunks = receive(ingest, arrivals(packets, lost))
    assert_contiguous(chunks)
    without = [chunk.pts // SAMPLES for chunk in chunks if chunk.payload is None]
    assert without == lost
    stats = ingest.stats
    concealed = [chunk for chunk in chunks if chunk.concealed]
    assert stats.lost == len(lost)
    assert stats.concealed_samples == sum(len(chunk.samples) for chunk in concealed)
    assert stats.fec_recovered == len(lost) - len(concealed)
    assert {50, 51, 150} <= {chunk.pts // SAMPLES for chunk in concealed}  # no packet came directly after these
    assert stats.fec_recovered >= 2


def test_fec_makes_the_sound_better_than_the_loss(packets: list[bytes]) -> None:
    """With every tenth packet lost, what comes out is closer to the unharmed sound than with silence in the gaps."""
    clean = np.concatenate([chunk.samples for chunk in receive(Ingest(), arrivals(packets))])
    lost = list(range(15, len(packets) - 1, 10))
    heard = np.concatenate([chunk.samples for chunk in receive(Ingest(), arrivals(packets, lost))])[: len(clean)]
    where = np.concatenate([np.arange(k * SAMPLES, (k + 1) * SAMPLES) for k in lost])
    error = np.mean((heard[where] - clean[where]) ** 2) / np.mean(clean[where] ** 2)
    assert error < 0.4  # 1 with silence
    assert np.corrcoef(heard[where], clean[where])[0, 1] > 0.8


def test_a_dead_network_becomes_silence_at_real_time_rate(packets: list[bytes]) -> None:
    """After the last packet sound fades within 100 ms and silence goes on, 16 000 samples a second."""
    ingest = Ingest()
    receive(ingest, arrivals(packets[:100]))
    chunks = poll_until(ingest, START + 2 + 10)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert len(samples) == pytest.approx(10 * SAMPLE_RATE, abs=SAMPLE_RATE // 10)
    assert np.all(samples[SAMPLE_RATE // 10 :] == 0)
    assert all(chunk.concealed and chunk.payload is None for chunk in chunks)
    assert ingest.stats.lost == 0


def test_after_a_stall_the_sound_is_that_of_now(packets: list[bytes]) -> None:
    """2 s of packets arriving in one burst are dropped but for the newest, and then each passes at once."""
    coming = [(at if not 2 <= at - START < 4 else START + 4 + k * 1e-6, k, p) for at, k, p in arrivals(packets)]
    ingest = Ingest()
    chunks = receive(ingest, coming)
    assert_contiguous(chunks)
    for chunk in chunks:
        if chunk.arrived > START + 4.05:
            assert chunk.payload is not None
            assert chunk.arrived == pytest.approx(START + chunk.pts / SAMPLE_RATE)
    assert 95 <= ingest.stats.late <= 100


def test_malformed_packets_are_concealed_and_counted(packets: list[bytes]) -> None:
    """Garbage in a packet's place costs its 20 ms and nothing else."""
    broken = {30: b"\xff", 31: b"\xff\x00", 60: bytes([packets[60][0] | 3]), 90: b"\x03\x3f" + b"\x00" * 5}
    ingest = Ingest()
    chunks = receive(ingest, [(at, k, broken.get(k, payload)) for at, k, payload in arrivals(packets)])
    assert_contiguous(chunks)
    assert ingest.stats.malformed == len(broken)
    assert [chunk.pts // SAMPLES for chunk in chunks if chunk.concealed] == sorted(broken)
    assert ingest.pts == len(packets) * SAMPLES
    assert all(chunk.payload is None for chunk in chunks if chunk.concealed)


def test_another_source_continues_the_timeline(packets: list[bytes]) -> None:
    """After `restart` the new sender's first packet is heard in its own push, and pts goes on without a gap."""
    ingest = Ingest()
    chunks = receive(ingest, arrivals(packets[:100]))
    ingest.restart()
    at = START + 100 * PACKET + 0.5
    chunks += poll_until(ingest, at)
    chunks += ingest.push(7, 123_456, packets[0], at)
    assert chunks[-1].payload == packets[0]
    assert_contiguous(chunks)
    assert ingest.stats.restarts == 1
    assert at - PACKET == pytest.approx(ingest.captured(chunks[-1].pts), abs=0.003)


def test_a_late_half_is_used(packets: list[bytes]) -> None:
    """A 60 ms packet whose first 20 ms were concealed gives its last 40 ms; its payload ends with the chunk."""
    tone = 0.3 * np.sin(2 * np.pi * 440 / SAMPLE_RATE * np.arange(3 * SAMPLES))
    long = OpusEncoder(SAMPLE_RATE).encode((tone * np.linspace(0, 1, len(tone))).astype(np.float32))
    ingest, decoder = Ingest(), OpusDecoder()
    chunks = receive(ingest, arrivals(packets[:10]))
    at = START + 10 * PACKET + 0.030
    chunks += poll_until(ingest, at)
    (chunk,) = ingest.push(10, 10 * 960 + 1_000_000, long, at)
    assert (chunk.pts, len(chunk.samples), chunk.duration) == (11 * SAMPLES, 2 * SAMPLES, 3 * SAMPLES)
    assert chunk.payload == long
    assert_contiguous([*chunks, chunk])
    for packet in packets[:10]:
        decoder.decode(packet)
    decoder.conceal(SAMPLES)
    whole = decoder.decode(long)
    assert whole is not None
    np.testing.assert_array_equal(chunk.samples, whole[SAMPLES:])


def test_before_the_first_packet() -> None:
    """Without a packet nothing is due, nothing comes, and asking for a capture time says why there is none."""
    ingest = Ingest()
    assert ingest.deadline(1.0) is None and ingest.poll(1.0) == []
    with pytest.raises(ValueError, match="no packet"):
        ingest.captured(0)


def test_the_deadline_is_never_in_the_past(packets: list[bytes]) -> None:
    """A caller may sleep until the deadline without checking it."""
    ingest = Ingest()
    receive(ingest, arrivals(packets[:3]))
    assert ingest.deadline(START + 1000) == START + 1000
    due = ingest.deadline(START)
    assert due is not None and START + 3 * PACKET < due < START + 3 * PACKET + 0.030


def test_capture_time_ignores_jitter(packets: list[bytes]) -> None:
    """With 20 ms of jitter the capture time of all sound is within 3 ms of the truth, and runs evenly."""
    rng = np.random.default_rng(4)
    ingest = Ingest()
    delays = rng.exponential(0.02, len(packets))
    queued = np.maximum.accumulate(START + PACKET * np.arange(len(packets)) + delays)  # a queue keeps the order
    coming = [(float(at), k, payload) for at, (_, k, payload) in zip(queued, arrivals(packets), strict=True)]
    previous = None
    for chunk in receive_with_clock(ingest, coming):
        captured = ingest.captured(chunk.pts)
        truth = START - PACKET + chunk.pts / SAMPLE_RATE
        if chunk.pts > SAMPLE_RATE:
            assert captured == pytest.approx(truth, abs=0.003)
            assert previous is None or abs(captured - previous - len(chunk.samples) / SAMPLE_RATE) < 0.002
            previous = captured


def receive_with_clock(ingest: Ingest, coming: Iterable[tuple[float, int, bytes]]) -> Iterable[Chunk]:
    """Chunks one by one, so that the ingest stands as it did when each came."""
    for item in sorted(coming):
        yield from poll_until(ingest, item[0])
        at, index, payload = item
        yield from ingest.push(index & 0xFFFF, (index * 960 + 1_000_000) & 0xFFFFFFFF, payload, at)


@pytest.mark.parametrize("ppm", [500, -500])
def test_the_capture_clock_tracks_drift(ppm: int) -> None:
    """In an hour of 500 ppm of drift the capture clock stays within 3 ms of the truth, without a jump."""
    clock = CaptureClock()
    rng = np.random.default_rng(5)
    noise = 0.0005 * rng.random(36_000)
    largest = 0.0
    previous = None
    for k in range(36_000):
        now = 10 + k * 0.1
        truth = 10 + ppm * 1e-6 * (now - 10)  # the origin moves as the clocks drift apart
        clock.update(truth + noise[k], now)
        assert clock.origin is not None
        if previous is not None:
            largest = max(largest, abs(clock.origin - previous))
        previous = clock.origin
        assert clock.origin == pytest.approx(truth, abs=0.003)
    assert largest < 0.001


def test_the_capture_clock_does_not_take_a_longer_path_for_later_speech() -> None:
    """After 100 ms more of delay the clock moves 1 ms a second: it shows as latency."""
    clock = CaptureClock()
    for k in range(100):
        clock.update(5.0, k * 0.1)
    for k in range(100, 200):
        clock.update(5.1, k * 0.1)
    assert clock.origin is not None and 5.009 < clock.origin < 5.011
    for k in range(200, 300):
        clock.update(5.0, k * 0.1)
    assert clock.origin == pytest.approx(5.0)


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 60), st.floats(0, 0.06), st.one_of(st.none(), st.binary(max_size=20))), max_size=60
    )
)
def test_any_stream_gives_contiguous_finite_sound(
    packets: list[bytes], events: list[tuple[int, float, bytes | None]]
) -> None:
    """Any order, any loss, any bytes: never an exception, no gap, no overlap, no sample beyond full scale."""
    ingest = Ingest()
    chunks: list[Chunk] = []
    now = START
    for index, passed, garbage in events:
        now += passed
        chunks += poll_until(ingest, now)
        payload = packets[index] if garbage is None else garbage
        chunks += ingest.push(65_500 + index & 0xFFFF, 2**32 - 9600 + index * 960 & 0xFFFFFFFF, payload, now)
    chunks += poll_until(ingest, now + 0.5)
    assert_contiguous(chunks)
    assert all(np.abs(chunk.samples).max() <= 1 for chunk in chunks)
    assert ingest.pts == (chunks[-1].end if chunks else 0)
    assert ingest.stats.received == len(events)


def test_a_packet_costs_little(packets: list[bytes]) -> None:
    """The median push takes well under 1 ms, so it may run on the event loop (the benchmark gives the exact cost)."""
    ingest = Ingest()
    costs = []
    for at, index, payload in arrivals(packets):
        began = time.perf_counter()
        ingest.push(index, index * 960, payload, at)
        costs.append(time.perf_counter() - began)
    assert np.median(costs) < 0.0006
