"""From a recording to numbers: a session whose every moment is known is measured as it was."""

import numpy as np
import pytest
from made_up_sessions import RNG, World, soak_window, voice_like

from benchmarks.latency import mic_to_photon, soak
from benchmarks.lib import alignment, session_analysis
from benchmarks.lib.errors import Irregular
from benchmarks.lib.recording import Recording
from benchmarks.lib.ties import common_phase


@pytest.fixture(scope="module")
def voice() -> alignment.Voice:
    return voice_like()


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
    """With processing, a microphone whose count of samples contradicts its sound gives no number."""
    world = World(voice)
    world.recording.delivered = [[t, count + 480 * 66] for t, count in world.recording.delivered]
    with pytest.raises(Irregular, match="began irregularly"):
        world.analyse()


@pytest.mark.parametrize("blocks", [-3, 2, 66])
def test_without_processing_an_irregular_beginning_changes_nothing(voice: alignment.Voice, blocks: int) -> None:
    """Without echo cancellation the delay of processing is 0, whatever the microphone lost as it began."""
    world = World(voice, processing=0)
    steady = world.analyse(echo_cancellation=False)
    world.recording.delivered = [[t, count + 480 * blocks] for t, count in world.recording.delivered]
    lossy = world.analyse(echo_cancellation=False)
    assert lossy["total_ms"] == steady["total_ms"]
    assert lossy["total_ms"]["p50"] == pytest.approx(np.median(world.latency[20:-20]), abs=0.5)
    assert lossy["ties"]["processing_ms"] == 0


def test_a_microphone_that_loses_blocks_all_the_time_is_still_tied(voice: alignment.Voice) -> None:
    """Sound that is lost between any two pieces that are found makes latency at most a block and a half too long."""
    world = World(voice, processing=0)
    stream = world.recording.microphone
    lost = list(range(150, len(stream.blocks), 60))
    stream.chunks = [
        (at - 480 * sum(number < at // 480 for number in lost), samples)
        for at, samples in stream.chunks
        if at // 480 not in lost
    ]
    stream.blocks = [block for number, block in enumerate(stream.blocks) if number not in lost]
    numbers = world.analyse(echo_cancellation=False)
    assert numbers["ties"]["processing_ms"] == 0
    assert numbers["ties"]["microphone_lost_ms"] == pytest.approx(10 * len(lost), abs=60)
    assert -1 < numbers["total_ms"]["p50"] - np.median(world.latency[20:-20]) < 15


def test_processing_where_none_should_be_is_refused(voice: alignment.Voice) -> None:
    """Sound that does not begin where a block does was processed, though echo cancellation is off."""
    with pytest.raises(Irregular, match="beside the microphone's blocks"):
        World(voice, processing=100).analyse(echo_cancellation=False)


def test_pieces_found_in_a_wrong_place_do_not_move_the_microphone(voice: alignment.Voice) -> None:
    """Silence sounds alike everywhere: what is found at another phase of a block than the rest is left out."""
    block = 480.0
    assert common_phase(np.array([720.0, 5 * block + 721, 106.0, 9 * block + 719, 300.0]), block) % block == (
        pytest.approx(240, abs=1)
    )
    world = World(voice)
    steady, stream = world.analyse(), world.recording.microphone
    at, samples = stream.chunks[0]
    for number, (at, samples) in enumerate(stream.chunks[:100]):  # the first second is from 3.3 ms and 0.4 s elsewhere
        stream.chunks[number] = (at, np.roll(voice.samples, -(at + 1440 + 19_358))[: len(samples)])
    moved = world.analyse(processing_ms=steady["ties"]["processing_ms"])
    assert moved["total_ms"]["p50"] == pytest.approx(steady["total_ms"]["p50"], abs=0.3)


def test_onsets_are_found_where_speech_begins(voice: alignment.Voice) -> None:
    """The one pause of a second makes one onset; frames within 400 ms of it count as after silence."""
    (onset,) = session_analysis.onsets(voice)
    assert onset == pytest.approx(voice.period / 2 + 48_000, abs=9600)  # a syllable may be cut
    position = np.array([onset - 480.0, onset + 480.0, onset + 450 * 48.0, onset + 480.0 + 3 * voice.period])
    assert session_analysis.near_onset(voice, position).tolist() == [False, True, False, True]


def test_frames_are_counted() -> None:
    """Missing frames, a freeze, misread stamps and pixels of another frame each show in their own count."""
    k = np.array([10, 11, 12, 15, 16, 17, 18])
    presented = np.array([0.0, 40, 80, 380, 420, 460, 500])
    counted = session_analysis.display_report(k, presented, [10, None, 13, 15, 15, 17, 18])
    assert (counted["expected"], counted["not_seen"], counted["freezes"]) == (9, 2, 1)
    assert (counted["misread"], counted["newer_in_pixels"], counted["older_in_pixels"]) == (1, 1, 1)
    assert counted["longest_gap_ms"] == 300
    assert counted["fps"] == 12.0


def test_an_interruption_ends_with_the_first_frame_of_its_epoch() -> None:
    """Frames of the old epoch that are still under way do not count."""
    recording = Recording()
    recording.frames = [[k, 1000.0 + 40 * k, None, 0, None, None] for k in range(10)]
    recording.rows = [[k, int(k >= 4), *[0.0] * 6] for k in range(10)]
    cut = {"sent": 1100.0, "answered": 1102.0, "epoch": 1, "frame": 4}
    found = session_analysis.interruptions([cut], recording)
    assert found is not None and found["longest"] == 60.0
    assert session_analysis.interruptions([cut | {"epoch": 2}], recording) is None


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


def test_a_steady_soak_is_flat_and_a_leak_is_not() -> None:
    """Noise is no growth; 1 MB and 0.2 ms a minute are."""
    steady = soak.summarize([soak_window(i) for i in range(30)])
    assert steady["flat"] == {"latency": True, "memory": True, "threads": True}
    assert steady["not_seen"] == 30
    growing = [
        soak_window(
            i,
            total_ms={"p50": 60 + 0.2 * i, "p95": 70.0, "p99": 80.0},
            memory_mb={"server": 200.0 + i, "chromium": 1.0},
        )
        for i in range(30)
    ]
    grown = soak.summarize([*growing, soak_window(30, threads=21, memory_mb={"server": 230.0, "chromium": 1.0})])
    assert grown["flat"] == {"latency": False, "memory": False, "threads": False}
    assert grown["latency_p50_slope_ms_per_hour"]["slope"] == pytest.approx(12, abs=1)
    assert soak.summarize([soak_window(i) for i in range(5)])["flat"]["latency"] is None  # too short to tell
