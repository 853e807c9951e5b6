"""The benchmarks' arithmetic on data whose truth is known, their front door, and a short run in a real browser."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.audio.opus import OpusEncoder
from streamer.cli import bench

sys.path.insert(0, str(bench.BENCHMARKS))  # the benchmarks are scripts: they import each other by their folder

import alignment  # noqa: E402
import browser as driver  # noqa: E402
import faulty_path  # noqa: E402
import hardware  # noqa: E402
import mic_to_photon  # noqa: E402
import relay  # noqa: E402
import report  # noqa: E402
import soak  # noqa: E402

RNG = np.random.default_rng(7)
OPUS_DELAY = 312  # samples at 48 kHz that libopus' "voip" encoder looks ahead


def voice_like(seconds: float = 8.0) -> alignment.Voice:
    """Syllables of harmonics at changing pitch, with a pause of a second in the middle."""
    sound = np.zeros(int(seconds * 48_000))
    at = 0
    while at < len(sound) - 12_000:
        count = int(RNG.uniform(0.09, 0.22) * 48_000)
        pitch = np.linspace(RNG.uniform(100, 250), RNG.uniform(100, 250), count)
        phase = 2 * np.pi * np.cumsum(pitch) / 48_000
        syllable = sum(np.sin(h * phase + RNG.uniform(0, 6)) / h for h in range(1, 18))
        sound[at : at + count] = (
            (syllable + 0.1 * RNG.standard_normal(count)) * np.hanning(count) * RNG.uniform(0.05, 0.2)
        )
        at += count
    middle = len(sound) // 2
    sound[middle : middle + 48_000] = 0
    return alignment.Voice(sound)


@pytest.fixture(scope="module")
def voice() -> alignment.Voice:
    return voice_like()


def stream_of(voice: alignment.Voice, start: float, seconds: float, rate: int) -> np.ndarray:
    """What a device at `rate` delivers of the loop from voice position `start` (48 kHz) on."""
    loop, _ = voice.at(rate)
    first = round(start * rate / 48_000)
    return loop[(first + np.arange(int(seconds * rate))) % len(loop)]


# Finding sound -----------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="agree"):
        alignment.settle([alignment.Anchor(0, 60_000.0 * i, 20.0) for i in range(6)], voice.period)
    with pytest.raises(ValueError, match="silent"):
        alignment.settle([], voice.period)


# Clocks ------------------------------------------------------------------------------------------------------------


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


# A whole session, made up ------------------------------------------------------------------------------------------


class World:
    """A session whose every moment is known: what the probe and the server would have recorded of it."""

    def __init__(
        self,
        voice: alignment.Voice,
        *,
        latency: float = 63.0,
        processing: int = 720,
        sound_late: float = 25.0,
        slip_at: int | None = None,
        rate: int = 48_000,
        seconds: float = 12.0,
        started: int = 960,
    ) -> None:
        """`processing`: samples that cleaning takes; `started`: voice position of the first packet's beginning."""
        self.voice, self.opened = voice, 2000.0
        blocks = int(seconds * 100)
        n = np.arange(blocks)
        self.callback = self.opened + 10.0 * (n + 1) + (np.where(n >= slip_at, 10.0, 0.0) if slip_at else 0.0)
        self.recording = recording = driver.Recording()
        tapped = 3  # blocks before the tap
        size = rate // 100
        cleaned = np.roll(voice.samples, processing)
        loop, _ = alignment.Voice(cleaned).at(rate)
        for i in range(tapped, blocks):
            late = RNG.uniform(0, 0.3)
            recording.microphone.blocks.append([self.callback[i] + late, self.callback[i] + late + 0.3, size, rate])
            if i % 200 < 100:
                samples = loop[(i * size + np.arange(size)) % len(loop)]
                recording.microphone.chunks.append(((i - tapped) * size, samples))
        looks = self.callback[100::90] + 4.0
        recording.delivered = [[t, size * int(np.sum(self.callback + 0.4 < t))] for t in looks]

        encoder = OpusEncoder()
        self.audio_offset = 2**32 - 7000  # wraps within the run
        packets = int((seconds * 48_000 - started) / 960) - 5
        for i in range(packets):
            first = started + 960 * i
            part = cleaned[(first + np.arange(960)) % voice.period].astype(np.float32)
            stamp = (self.audio_offset + 960 * i) & 0xFFFFFFFF
            recording.packets.append((stamp, self.when(first + 960), encoder.encode(part)))

        offset = 5_000_000.0  # server's clock minus the page's
        recording.pongs = [[t, t + 1.0, t + 0.5 + offset] for t in np.arange(2000, 12_000, 500.0)]
        message = {"audio_rtp_offset": self.audio_offset, "lookahead_ms": 20.0}
        recording.events = [{"type": "hello", "at": 2100.0, "message": message}]
        self.k = np.arange(5, int(packets / 2) - 10)
        self.position = started + 1920.0 * self.k - OPUS_DELAY - processing
        captured = self.when(self.position)
        self.latency = latency + RNG.uniform(-2, 2, len(self.k))
        self.presented = captured + self.latency
        for k, shown, sample in zip(self.k.tolist(), self.presented.tolist(), captured.tolist(), strict=True):
            recording.frames.append([k, shown, shown - 1.0, shown + 12.0, k & 0xFFFFFF, None])
            moments = [sample + 5, shown - 20, shown - 19, shown - 12, shown - 8, shown - 6]
            recording.rows.append([k, 0, *(moment + offset for moment in moments)])

        # Played: the returned sound as it comes out of the jitter buffer, so late that a frame's sample is heard
        # `sound_late` after the frame; in the first second the buffer is still elsewhere.
        heard_after = latency + sound_late
        pulls = np.arange(3000.0, self.callback[-1] - 500, 10.0)
        for i, at in enumerate(pulls):
            begin = (at - heard_after - self.opened) * 48  # voice position heard now, were nothing to slip
            first = round(begin) + processing + OPUS_DELAY
            recording.played.blocks.append([at, at + 0.2, 480, 48_000])
            if i % 200 < 100:
                samples = cleaned[(first - OPUS_DELAY + np.arange(480)) % voice.period]
                recording.played.chunks.append((480 * i, samples))

    def when(self, position: Any) -> np.ndarray:
        """The capture of a voice position."""
        ends = 480.0 * np.arange(1, len(self.callback) + 1)
        return np.interp(position, ends, self.callback - ends / 48) + np.asarray(position) / 48

    def analyse(self, **options: Any) -> dict[str, Any]:
        options = {"begin": self.presented[20], "end": self.presented[-20], "output_delay_ms": 0.0} | options
        return mic_to_photon.analyse(self.recording, self.voice, keep=1.0, every=2.0, **options)


@pytest.mark.parametrize("rate", [48_000, 44_100])
@pytest.mark.parametrize("processing", [0, 720])
def test_latency_is_recovered(voice: alignment.Voice, rate: int, processing: int) -> None:
    """Known latency, with and without cleaning of the voice, is told within 0.5 ms; so are cleaning and stages."""
    world = World(voice, processing=processing, rate=rate)
    numbers = world.analyse()
    assert numbers["total_ms"]["p50"] == pytest.approx(np.median(world.latency[20:-20]), abs=0.5)
    stages = {name: values["p50"] for name, values in numbers["stages_ms"].items()}
    assert stages["processing"] == pytest.approx(processing / 48, abs=0.3)
    assert stages["draw"] == pytest.approx(7, abs=0.6)
    assert sum(stages.values()) == pytest.approx(numbers["total_ms"]["p50"], abs=1.5)
    assert numbers["joined_share"] == 1.0
    assert numbers["ties"]["returned_spread_ms"] < 0.3


def test_a_slipping_microphone_adds_no_latency(voice: alignment.Voice) -> None:
    """A block that the device loses time by moves capture, not latency: before and after it are equal within 1 ms."""
    world = World(voice, slip_at=700)
    early = world.analyse(begin=world.presented[20], end=world.presented[100])
    late = world.analyse(begin=world.presented[200], end=world.presented[-20])
    assert early["total_ms"]["p50"] == pytest.approx(late["total_ms"]["p50"], abs=1.0)
    assert late["ties"]["microphone_slipped_ms"] == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("late", [-30.0, 0.0, 45.0])
def test_skew_is_recovered(voice: alignment.Voice, late: float) -> None:
    """Sound that is heard so much after its frame is reported so, positive when late; the share within ±40 too."""
    skew = World(voice, sound_late=late).analyse()["av_skew_ms"]
    assert skew["p50"] == pytest.approx(late, abs=1.0)
    assert (skew["within_40"] == 1.0) == (abs(late) < 40)


def test_the_output_counts_as_part_of_hearing(voice: alignment.Voice) -> None:
    """The output's delay makes sound later, and both numbers are given."""
    skew = World(voice, sound_late=5.0).analyse(output_delay_ms=30.0)["av_skew_ms"]
    assert skew["p50"] == pytest.approx(35, abs=1.0)
    assert skew["without_output_delay_p50"] == pytest.approx(5, abs=1.0)


def test_later_parts_of_a_session_need_not_its_beginning(voice: alignment.Voice) -> None:
    """What was let go of changes no number, once the time that cleaning takes is known."""
    world = World(voice)
    processing = world.analyse()["ties"]["processing_ms"]
    options = {"begin": float(world.presented[200]), "end": float(world.presented[-20])}
    before = world.analyse(**options)
    world.recording.forget(world.presented[150])
    assert len(world.recording.frames) < len(world.k) - 100
    after = world.analyse(processing_ms=processing, **options)
    assert after["total_ms"]["p50"] == pytest.approx(before["total_ms"]["p50"], abs=0.3)
    assert after["av_skew_ms"]["p50"] == pytest.approx(before["av_skew_ms"]["p50"], abs=0.5)


def test_an_irregular_beginning_is_refused(voice: alignment.Voice) -> None:
    """A microphone whose count of blocks contradicts its sound gives no number."""
    world = World(voice)
    world.recording.delivered = [[t, count + 480 * 66] for t, count in world.recording.delivered]
    with pytest.raises(mic_to_photon.Irregular, match="began irregularly"):
        world.analyse()


def test_onsets_are_found_where_speech_begins(voice: alignment.Voice) -> None:
    """The one pause of a second makes one onset; frames within 400 ms of it count as after silence."""
    (onset,) = mic_to_photon.onsets(voice)
    assert onset == pytest.approx(voice.period / 2 + 48_000, abs=9600)  # a syllable may be cut
    position = np.array([onset - 480.0, onset + 480.0, onset + 450 * 48.0, onset + 480.0 + 3 * voice.period])
    assert mic_to_photon.near_onset(voice, position).tolist() == [False, True, False, True]


# Counting ----------------------------------------------------------------------------------------------------------


def test_frames_are_counted() -> None:
    """Missing frames, a freeze, misread stamps and pixels of another frame each show in their own count."""
    k = np.array([10, 11, 12, 15, 16, 17, 18])
    presented = np.array([0.0, 40, 80, 380, 420, 460, 500])
    counted = mic_to_photon.display_report(k, presented, [10, None, 13, 15, 15, 17, 18])
    assert (counted["expected"], counted["not_seen"], counted["freezes"]) == (9, 2, 1)
    assert (counted["misread"], counted["newer_in_pixels"], counted["older_in_pixels"]) == (1, 1, 1)
    assert counted["longest_gap_ms"] == 300
    assert counted["fps"] == 12.0


def test_an_interruption_ends_with_the_first_frame_of_its_epoch() -> None:
    """Frames of the old epoch that are still under way do not count."""
    recording = driver.Recording()
    recording.frames = [[k, 1000.0 + 40 * k, None, 0, None, None] for k in range(10)]
    recording.rows = [[k, int(k >= 4), *[0.0] * 6] for k in range(10)]
    cut = {"sent": 1100.0, "answered": 1102.0, "epoch": 1, "frame": 4}
    found = mic_to_photon.interruptions([cut], recording)
    assert found is not None and found["longest"] == 60.0
    assert mic_to_photon.interruptions([cut | {"epoch": 2}], recording) is None


def test_the_mouths_lag_is_seen_in_pixels() -> None:
    """A few cells that follow the loudness 60 ms late among hundreds that do not: the lag is told within 10 ms."""
    moments = np.arange(400) / 25
    levels = np.convolve(RNG.random(2000), np.ones(12) / 12, "same")

    def loudness(seconds: np.ndarray) -> np.ndarray:
        return np.interp(seconds, np.arange(2000) / 100, levels)

    pictures = 100 + 5 * RNG.standard_normal((400, 300))
    pictures[:, 40:52] -= 300 * loudness(moments - 0.06)[:, None]
    found = alignment.pixel_lag(pictures, moments, loudness)
    assert found["lag_ms"] == pytest.approx(60, abs=10)
    assert found["correlation"] > 0.6


def test_the_median_is_taken_number_by_number() -> None:
    """What is missing or no number in one of the runs is left out."""
    runs = [
        {"a": {"p": 1}, "b": 2, "c": None, "d": "x"},
        {"a": {"p": 5}, "b": 4, "c": 1, "d": "x"},
        {"a": {"p": 3}, "b": 9},
    ]
    assert mic_to_photon.middle(runs) == {"a": {"p": 3}, "b": 4}


def window(i: int, **changes: Any) -> dict[str, Any]:
    """A minute of a soak."""
    return {
        "at": 60.0 * i,
        "total_ms": {"p50": 60 + 0.3 * (-1) ** i, "p95": 70.0, "p99": 80.0},
        "skew_ms": None,
        "display": {"expected": 1500, "not_seen": 1, "freezes": 0, "misread": 0, "fps": 25.0},
        "memory_mb": {"server": 200.0 + (i % 3) * 0.5, "chromium": 600.0},
        "threads": 20,
    } | changes


def test_a_steady_soak_is_flat_and_a_leak_is_not() -> None:
    """Noise is no growth; 1 MB and 0.2 ms a minute are."""
    steady = soak.summarize([window(i) for i in range(30)])
    assert steady["flat"] == {"latency": True, "memory": True, "threads": True}
    assert steady["not_seen"] == 30
    growing = [
        window(
            i,
            total_ms={"p50": 60 + 0.2 * i, "p95": 70.0, "p99": 80.0},
            memory_mb={"server": 200.0 + i, "chromium": 1.0},
        )
        for i in range(30)
    ]
    grown = soak.summarize([*growing, window(30, threads=21, memory_mb={"server": 230.0, "chromium": 1.0})])
    assert grown["flat"] == {"latency": False, "memory": False, "threads": False}
    assert grown["latency_p50_slope_ms_per_hour"]["slope"] == pytest.approx(12, abs=1)
    assert soak.summarize([window(i) for i in range(5)])["flat"]["latency"] is None  # too short to tell


# A bad network -----------------------------------------------------------------------------------------------------


def through(faults: relay.Faults, count: int = 4000) -> tuple[list[tuple[float, int]], relay.Path]:
    """(when, which) of datagrams, one every 5 ms, that came through."""
    path = relay.Path(faults, 3)
    out = []
    for i in range(count + 400):
        now = i * 0.005
        if i < count:
            path.push(i.to_bytes(4, "big"), now)
        out += [(now, int.from_bytes(data, "big")) for data in path.due(now)]
    return out, path


def test_a_clean_path_changes_nothing() -> None:
    """Every datagram comes through at once and in order."""
    came, path = through(relay.Faults())
    assert came == [(i * 0.005, i) for i in range(4000)]
    assert path.lost == 0


def test_a_path_loses_delays_and_reorders_as_told() -> None:
    """5 % are lost; jitter delays by its mean and keeps the order; reordering lets some be overtaken by 15 to 45 ms."""
    came, path = through(relay.Faults(loss=0.05))
    assert len(came) == 4000 - path.lost and path.lost == pytest.approx(200, abs=50)
    came, _ = through(relay.Faults(jitter=0.02))
    assert [i for _, i in came] == list(range(4000))
    assert np.mean([at - i * 0.005 for at, i in came]) > 0.02
    came, _ = through(relay.Faults(reorder=0.05))
    late = [at - i * 0.005 for at, i in came if at - i * 0.005 > 0.001]
    assert len(late) == pytest.approx(200, abs=50)
    assert 0.014 < min(late) and max(late) < 0.051


def test_a_held_path_lets_all_go_at_once_afterwards() -> None:
    """Nothing passes while it holds; then everything does, in order."""
    faults = relay.Faults(hold=True)
    path = relay.Path(faults, 1)
    for i in range(100):
        path.push(bytes([i]), i * 0.02)
        assert path.due(i * 0.02) == []
    faults.hold = False
    assert path.due(2.0) == [bytes([i]) for i in range(100)]


def test_recovery_is_when_the_next_second_is_back() -> None:
    """Latency that decays from 500 ms to 60 within 0.8 s after the stall is back by then; one that stays never is."""
    t = np.arange(0, 20, 0.04)
    latency = np.where(t < 10, 60.0, 60 + 440 * np.clip(1 - (t - 10) / 0.8, 0, 1))
    assert faulty_path.recovery(t, latency, 10.0, 80.0) == pytest.approx(0.3, abs=0.15)
    assert faulty_path.recovery(t, np.where(t < 10, 60.0, 200.0), 10.0, 80.0) is None


# Table, page and front door ----------------------------------------------------------------------------------------


def results(voice: alignment.Voice) -> report.Results:
    """Of a made-up session, as `mic_to_photon` and `soak` write them."""
    run = World(voice).analyse() | {
        "first_frame_ms": 1234.0,
        "interrupt_ms": {"times": 3, "median": 40.0, "longest": 60.0, "answered_median": 2.0, "all": [40.0]},
        "cpu_percent": {"server": 10.0, "chromium": 20.0},
        "memory_mb": {"server": 100.0, "chromium": 500.0},
        "loadavg": [9.0, 8.0],
    }
    numbers = mic_to_photon.middle([run])
    configuration = {
        "echo_cancellation": True,
        "median": numbers,
        "targets": mic_to_photon.verdicts(numbers, "neural"),
        "runs": [run],
    }
    settings = {"seconds": 10, "runs": 1, "size": 256, "sessions": 1, "fps": 25}
    described = hardware.describe("Chromium <1>")
    windows = [window(i) for i in range(20)]
    cost = {"median_ms": 3.0, "p95_ms": 5.0, "frames_per_second_two_processes": 250.0}
    return {
        "mic_to_photon": {"configurations": [configuration], "settings": settings, "hardware": described},
        "two_sessions": {"configurations": [{"runs": [[run, {"refused": "overloaded: no"}]]}], "hardware": described},
        "soak": {
            "settings": {"minutes": 20},
            "hardware": described,
            "windows": windows,
            "summary": soak.summarize(windows),
        },
        "studio": {"characters": 321, "draw": {"256": cost}, "draw_with_truth": {"256": cost}},
        "faulty_path": {
            "hardware": described,
            "phases": faulty_path.phases_of(np.arange(0, 90, 0.04), np.full(2250, 60.0), [10.0 * i for i in range(10)]),
            "after_stall": {"back_after_s": 0.4, "target_ms": 80.0, "lasting_ms": 0.0},
            "series": {"t": [0.0, 0.1], "total": [60.0, 61.0], "edges": [10.0 * i for i in range(10)]},
        },
    }


def test_the_page_is_complete_in_itself(voice: alignment.Voice, tmp_path: Path) -> None:
    """It loads nothing from anywhere, knows light and dark, holds its own data, and escapes what it is given."""
    found = results(voice)
    for name, one in found.items():
        driver.write_json(tmp_path / f"{name}.json", one)
    assert report.main([str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == page.count("</svg>") >= 6
    assert "Chromium &lt;1&gt;" in page
    embedded = re.search(r'<script type="application/json" id="results">(.*?)</script>', page, re.S)
    assert embedded is not None
    assert json.loads(embedded[1])["mic_to_photon"]["configurations"][0]["median"]["first_frame_ms"] == 1234.0
    assert "321" in page
    assert "machine was busy" in page


def test_the_table_says_what_was_missed(voice: alignment.Voice) -> None:
    """A target that is not met is marked, one that is met is not, and a refused second session is no failure."""
    rows = {row.what: row for row in report.rows_of(results(voice))}
    assert rows["first frame after the click"].met is False
    assert rows["mic-to-photon p50"].met is True
    assert rows["session 2"].met is True
    assert rows["drawing with truth, 256×256"].met is True
    text = report.as_text(list(rows.values()))
    assert "MISS first frame after the click" in text


def test_ticks_are_round_and_inside() -> None:
    """Whatever the range."""
    for low, high in ((0, 170), (-60, 61), (188.3, 212.7), (0, 0.02)):
        values = report.ticks(low, high)
        assert 2 <= len(values) <= 8
        assert all(low - 1e-6 <= value <= high + 1e-6 for value in values)


def test_the_machine_is_described() -> None:
    """The description is JSON and names processor, cores, memory, system, versions."""
    described = json.loads(json.dumps(hardware.describe("Chromium 1")))
    assert described["cpu"] and described["os"] and described["python"]
    assert described["cores"]["usable"] >= 1 and described["ram_gb"] > 0
    assert "numpy" in described["packages"]
    assert described["cpu"] in hardware.line(described)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two benchmarks that take no time: one works, one fails."""
    place = tmp_path / "benchmarks"
    place.mkdir()
    body = "import json, sys; json.dump({'arguments': sys.argv[1:]}, open(sys.argv[sys.argv.index('--out') + 1], 'w'))"
    (place / "soak.py").write_text(body)
    (place / "studio.py").write_text("import sys; sys.exit(not sys.argv[1].endswith('studio.json') or 3)")
    (place / "report.py").write_text("import sys; print('reported', *sys.argv[1:])")
    monkeypatch.setattr(bench, "BENCHMARKS", place)
    return place


def test_the_report_holds_the_generators_goals() -> None:
    """What quality.py measured stands in the report; what it did not measure is neither met nor missed."""
    took = {"mean": 20.0, "p50": 20.0, "p95": 22.0, "p99": 50.0}
    one = {"batch": 1, "dtype": "bf16", "threads": 2, "n": 9, "whole_ms": took}
    lines = report.rows_of({"quality": {"speed": {"configurations": [one]}}})
    met = {row.what: row.met for row in lines}
    assert met["a step of one session, mean (30 % headroom)"] is True
    assert met["a step of one session, p99"] is False
    assert met["autoencoder alone, whole frame"] is None


def test_the_front_door_runs_what_is_there(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """Each benchmark gets its arguments and file; one that fails is named, spoils no other and leaves no old result."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "studio.json").write_text("{}")
    assert bench.main(["--quick", "--out", str(out), "--only", "soak,studio"]) == 1
    assert json.loads((out / "soak.json").read_text())["arguments"] == ["--quick", "--out", str(out / "soak.json")]
    assert not (out / "studio.json").exists()
    said = capfd.readouterr()
    assert "reported" in said.out and "studio failed" in said.err
    assert bench.main(["--out", str(out), "--only", "soak"]) == 0


def test_the_front_door_refuses_what_it_cannot_run(folder: Path, tmp_path: Path) -> None:
    """An unknown name, a missing file, missing data and a missing folder each get a reason."""
    with pytest.raises(ValueError, match="no benchmark is called nonsense"):
        bench.chosen(["nonsense"], None, folder)
    with pytest.raises(ValueError, match="is not at"):
        bench.chosen(["network_faults"], None, folder)
    (folder / "articulation.py").touch()
    with pytest.raises(ValueError, match="--data"):
        bench.chosen(["articulation"], None, folder)
    with pytest.raises(ValueError, match="checkout"):
        bench.chosen([], None, tmp_path / "nowhere")
    assert [benchmark.name for benchmark in bench.chosen([], None, folder)] == ["soak", "studio"]
    assert bench.main(["--only", "nonsense"]) == 2


def test_every_listed_benchmark_takes_its_arguments() -> None:
    """The scripts that are there know the options that the front door gives them."""
    for benchmark in bench.ALL:
        script = bench.BENCHMARKS / benchmark.script
        if script.is_file():
            text = script.read_text()
            for option in (*benchmark.full, *benchmark.quick, benchmark.out_option):
                assert not option.startswith("--") or f'"{option}"' in text, f"{benchmark.script} knows no {option}"


# In a browser ------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_session_is_measured_in_a_real_browser() -> None:
    """Five seconds on the real page: frames are joined, tied to the voice, read from pixels, and of plausible age."""
    (numbers,) = mic_to_photon.run_once(
        seconds=5.0, echo_cancellation=False, size=256, sessions=1, command=None, interrupts=2, generator="rig"
    )
    assert numbers["frames"] > 50  # of 125: other work may share the machine
    assert numbers["joined_share"] > 0.9
    assert numbers["display"]["misread"] == numbers["display"]["older_in_pixels"] == 0
    assert numbers["ties"]["returned_prominence"] > 15
    assert 20 < numbers["total_ms"]["p50"] < 1000  # it cannot be less than look-ahead and a packet
    assert numbers["av_skew_ms"]["frames"] > 50
    assert numbers["interrupt_ms"]["times"] == 2
    assert numbers["first_frame_ms"] > 0
