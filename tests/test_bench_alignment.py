"""The benchmarks' search for sound and their clocks, on data whose truth is known."""

import numpy as np
import pytest
from made_up_sessions import RNG, stream_of, voice_like

from benchmarks.lib import alignment
from benchmarks.lib.errors import Unmeasurable


@pytest.fixture(scope="module")
def voice() -> alignment.Voice:
    return voice_like()


@pytest.mark.parametrize("rate", [48_000, 44_100, 16_000])
def test_a_piece_is_found_to_a_fraction_of_a_sample(voice: alignment.Voice, rate: int) -> None:
    """Half a second in noise is located within 0.1 ms at every rate, across the loop's seam too."""
    for start in (48_000.0, 2.0 * 48_000, 7.8 * 48_000):
        piece = stream_of(voice, start, 0.5, rate)
        piece = piece + 0.02 * RNG.standard_normal(len(piece))
        for near in (None, (start + 15_000) % voice.period):
            found = voice.locate(piece, rate, near)
            assert abs((found.position - start + 1000) % voice.period - 1000) < 4.8
            assert found.certain
    assert not voice.locate(RNG.standard_normal(rate // 2), rate).certain


def test_a_pitch_period_does_not_pass_for_the_place(voice: alignment.Voice) -> None:
    """A voice whose partials were levelled and whose noise was removed is still found where it is."""
    piece = stream_of(voice, 96_000, 1.0, 48_000)
    spectrum = np.fft.rfft(piece)
    spectrum *= 1 / np.sqrt(np.abs(spectrum) + 1e-3)
    found = voice.locate(np.fft.irfft(spectrum, len(piece)), 48_000)
    assert abs(found.position - 96_000) < 24


def test_steps_are_kept_and_wrong_finds_left_out(voice: alignment.Voice) -> None:
    """A stream that loses 20 ms after its half keeps both offsets; one piece found elsewhere changes nothing."""
    found = [alignment.Anchor(48_000.0 * i, 500.0 if i < 6 else 1460.0, 30.0) for i in range(12)]
    found[3] = alignment.Anchor(3 * 48_000.0, 300_000.0, 15.0)
    offset = alignment.settle(found, voice.period)
    assert offset(np.array([0.0])) == pytest.approx(500)
    assert offset(np.array([48_000.0 * 11])) == pytest.approx(1460)
    assert alignment.spread_ms(found, voice.period) == pytest.approx(20)
    with pytest.raises(Unmeasurable, match="agree"):
        alignment.settle([alignment.Anchor(0, 60_000.0 * i, 20.0) for i in range(6)], voice.period)
    with pytest.raises(Unmeasurable, match="silent"):
        alignment.settle([], voice.period)


def test_capture_is_told_despite_late_callbacks_and_slips() -> None:
    """Callbacks up to 30 ms late and a device that slips by a block: every sample's capture within 1 ms."""
    n = np.arange(3000)
    ends = 480.0 * (n + 1)
    truth = 1000 + 10.0 * (n + 1) + np.where(n >= 1700, 10.0, 0.0)
    late = np.where(RNG.random(len(n)) < 0.3, RNG.uniform(0, 30, len(n)), RNG.uniform(0, 0.2, len(n)))
    device = alignment.DeviceClock(truth + late, ends)
    middles = ends[100:-100:7] - 240
    error = device.when(middles) - (np.interp(middles, ends, truth - ends / 48) + middles / 48)
    calm = np.abs(ends[100:-100:7] - 480 * 1700) > 30 * 480
    assert np.abs(error[calm]).max() < 1.0
    assert error.max() < 1.0  # never later than it was
    assert device.slipped_ms == pytest.approx(10, abs=0.3)


def test_each_latency_loses_its_own_loops() -> None:
    """Of latencies known modulo 31 s some lie a loop off: all come out alike, a little negative ones stay so."""
    loop = 31_000.0
    known = np.array([120.0, 120.0 - loop, 90.0 + 2 * loop, -3.0, 7000.0])
    assert (known - loop * alignment.turns(known, round(loop * alignment.PER_MS))).tolist() == [120, 120, 90, -3, 7000]


def test_blocks_before_the_tap_are_counted() -> None:
    """However the looks fall between blocks, the blocks that were missed are counted exactly."""
    times = 500 + 10.0 * np.arange(400)
    ends = 441.0 * np.arange(1, 401)
    looks = np.sort(RNG.uniform(600, 4000, 25))
    had = np.searchsorted(times + 0.3, looks)
    delivered = np.stack([looks, 441.0 * (had + 17)], 1)
    assert alignment.blocks_missed(delivered, times, ends) == 17


def test_the_fastest_ping_tells_the_offset() -> None:
    """Server minus page is right to half the shortest round trip, however slow other pings are."""
    sent = np.arange(50) * 100.0
    there, back = RNG.uniform(0.3, 20, 50), RNG.uniform(0.3, 20, 50)
    offset, rtt = alignment.clock_offset(np.stack([sent, sent + there + back, sent + there + 77_000], 1))
    assert abs(offset - 77_000) <= rtt / 2
    assert rtt == pytest.approx((there + back).min())


@pytest.mark.parametrize("drift", [0.0, 3.0, -40.0])
def test_a_slope_comes_with_its_uncertainty(drift: float) -> None:
    """A drift (ms an hour) in noise that resembles itself lies within twice the interval, which is not wide."""
    hours = np.arange(2000) / 2000
    noise = np.convolve(RNG.standard_normal(2000 + 19), np.ones(20) / 20, "valid") * 3
    rise, error = alignment.slope(hours, 60 + drift * hours + noise)
    assert abs(rise - drift) < 2 * error
    assert error < 2


def test_too_short_a_series_has_no_slope() -> None:
    """A handful of values is refused with their number."""
    with pytest.raises(ValueError, match="5 values"):
        alignment.slope(np.arange(5), np.arange(5))
