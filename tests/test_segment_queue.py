"""Speech pushed ahead: cut into frames' times, exact for the ear, aligned for the network."""

import numpy as np
import pytest

from streamer.audio.segment_queue import Segments, Spoken, to_mono


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, count).astype(np.int16)


def tone(seconds: float, rate: int, hertz: float = 220.0) -> np.ndarray:
    return np.rint(12000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def all_of(segments: Segments, most: int = 1000) -> list[Spoken]:
    """Everything until a segment has ended."""
    taken = []
    for _ in range(most):
        taken.append(segments.take())
        if taken[-1].ended:
            return taken
    raise AssertionError(f"no segment ended in {most} frames")


def test_silence_where_nothing_was_pushed() -> None:
    segments = Segments(24_000)
    spoken = segments.take()
    assert len(spoken.sound) == 0 and not spoken.heard.any() and spoken.heard.shape == (640,)
    assert spoken.segment is None and not spoken.ended and segments.starved == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("piece", [97, 960, 5000])
def test_what_is_pushed_is_said_exactly(rate: int, piece: int) -> None:
    """At the ear's own rate no sample is changed, lost or added, however the speech is cut."""
    segments, speech = Segments(rate), noise(rate + 123)
    for first in range(0, len(speech), piece):
        segments.push(speech[first : first + piece], rate)
    segments.end()
    taken = all_of(segments)
    assert np.array_equal(np.concatenate([spoken.sound for spoken in taken]), speech)
    assert {len(spoken.sound) for spoken in taken[:-1]} == {rate // 25}
    assert [spoken.ended for spoken in taken] == [False] * (len(taken) - 1) + [True]
    assert segments.take().segment is None


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 48_000])
def test_the_network_hears_the_same_time_as_the_ear(rate: int) -> None:
    """Speech at 16 kHz lies within half a millisecond of the speech for the ear, frame by frame."""
    segments = Segments(rate)
    segments.push(tone(1.0, rate), rate)
    segments.end()
    heard = np.concatenate([spoken.heard for spoken in all_of(segments)])[:16_000]
    wanted = tone(1.0, 16_000).astype(np.float32) / 32768
    middle = slice(1600, 14_400)
    lags = {lag: float(np.dot(heard[middle], np.roll(wanted, lag)[middle])) for lag in range(-40, 41)}
    assert abs(max(lags, key=lambda lag: lags[lag])) <= 8
    assert np.abs(heard[middle] - wanted[middle]).max() < 0.02


def test_speech_at_another_rate_keeps_its_length_and_pitch() -> None:
    segments = Segments(48_000)
    segments.push(tone(0.5, 22_050), 22_050)
    segments.end()
    sound = np.concatenate([spoken.sound for spoken in all_of(segments)])
    assert abs(len(sound) - 24_000) <= 48
    middle = slice(2400, 21_600)
    assert np.abs(sound[middle].astype(float) - tone(0.5, 48_000)[: len(sound)][middle]).max() < 600


def test_a_segment_whose_speech_comes_too_slowly_pauses_and_loses_nothing() -> None:
    segments, speech = Segments(16_000), noise(640 * 3)
    segments.push(speech[:1000], 16_000)
    first, pause = segments.take(), segments.take()
    assert np.array_equal(first.sound, speech[:640]) and len(pause.sound) == 0 and segments.starved == 1
    segments.push(speech[1000:], 16_000)
    segments.end()
    rest = all_of(segments)
    assert np.array_equal(np.concatenate([spoken.sound for spoken in rest]), speech[640:])
    assert segments.starved == 1


def test_waiting_for_the_first_frame_is_no_pause() -> None:
    segments = Segments(16_000)
    segments.push(noise(100), 16_000)
    assert segments.take().segment is None and segments.starved == 0


def test_segments_follow_each_other_and_never_mix() -> None:
    """Each frame's time belongs to one segment; the second begins with a frame of its own."""
    segments, one, two = Segments(16_000), noise(700, 1), noise(700, 2)
    assert segments.push(one, 16_000) == 0 and segments.end() == 0
    assert segments.push(two, 16_000) == 1 and segments.end() == 1
    assert segments.end() is None
    said = {0: all_of(segments), 1: all_of(segments)}
    for number, speech in ((0, one), (1, two)):
        assert {spoken.segment for spoken in said[number]} == {number}
        assert np.array_equal(np.concatenate([spoken.sound for spoken in said[number]]), speech)


def test_an_end_after_the_last_sound_was_said_ends_all_the_same() -> None:
    segments = Segments(16_000)
    segments.push(noise(640), 16_000)
    assert not segments.take().ended
    segments.end()
    last = segments.take()
    assert last.ended and last.segment == 0 and len(last.sound) == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 48_000])
@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 40])
def test_short_segments_end_once_each(rate: int, count: int) -> None:
    """However short: one frame's time, which is their last, and then the next one's."""
    segments = Segments(24_000)
    for _ in range(3):
        segments.push(noise(count), rate)
        segments.end()
    taken = [segments.take() for _ in range(5)]
    assert [spoken.segment for spoken in taken] == [0, 1, 2, None, None]
    assert [spoken.ended for spoken in taken] == [True, True, True, False, False]


def test_clear_forgets_everything_and_what_comes_next_is_another_segment() -> None:
    segments = Segments(16_000)
    segments.push(noise(5000), 16_000)
    segments.take()
    segments.clear()
    assert segments.buffered == 0 and not segments.open and segments.end() is None
    assert segments.take().segment is None and segments.starved == 0
    assert segments.push(noise(640, 3), 16_000) == 1
    assert np.array_equal(segments.take().sound, noise(640, 3))


def test_buffered_counts_seconds() -> None:
    segments = Segments(24_000)
    segments.push(noise(8_000), 16_000)
    segments.end()
    assert segments.buffered == pytest.approx(0.5, abs=0.002)
    segments.take()
    assert segments.buffered == pytest.approx(0.46, abs=0.002)


def test_short_segments_count_as_the_time_that_they_take() -> None:
    """Each takes a frame's time, however short; one under way counts what is left of it."""
    segments = Segments(24_000)
    for _ in range(50):
        segments.push(noise(8), 24_000)
        segments.end()
    assert segments.buffered == pytest.approx(2.0)
    segments.push(noise(1200), 24_000)
    for _ in range(51):
        segments.take()
    assert segments.buffered == pytest.approx(0.01) and segments.open


@pytest.mark.parametrize("count", [100, 640, 1000, 1400, 6400])
def test_a_lead_gives_sound_ahead_and_nothing_else_changes(count: int) -> None:
    """The network hears the same frames, the ear the same sound; only its begin comes in a larger piece."""
    plain, ahead = Segments(16_000), Segments(16_000, lead=0.04)
    for segments in (plain, ahead):
        segments.push(noise(count), 16_000)
        segments.end()
    plainly, early = all_of(plain), all_of(ahead)
    assert len(early[0].sound) == min(1280, count)
    assert all(len(spoken.sound) <= 640 for spoken in early[1:])
    for taken in (plainly, early):
        assert np.array_equal(np.concatenate([spoken.sound for spoken in taken]), noise(count))
    assert np.array_equal(np.stack([s.heard for s in plainly]), np.stack([s.heard for s in early]))


def test_a_lead_is_made_up_for_as_speech_comes() -> None:
    """Speech that comes frame by frame has none to give ahead, until more is there; a pause uses it up."""
    segments = Segments(16_000, lead=0.04)
    given = []
    for pieces in (1, 1, 3, 0, 0, 0, 2):
        segments.push(noise(640 * pieces), 16_000)
        given.append(len(segments.take().sound))
    assert given == [640, 640, 1280, 640, 0, 0, 1280]
    assert segments.starved == 1


def test_bad_rates_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match="7999 Hz"):
        Segments(7_999)
    with pytest.raises(ValueError, match="24001 Hz"):
        Segments(24_001)
    segments = Segments(24_000)
    with pytest.raises(ValueError, match="96000 Hz"):
        segments.push(noise(10), 96_000)
    segments.push(noise(10), 24_000)
    with pytest.raises(ValueError, match="at 24000 Hz, not 16000 Hz"):
        segments.push(noise(10), 16_000)


def test_to_mono_takes_what_frameworks_give() -> None:
    """int16 as it is; channels averaged; floats scaled, clipped, and never a NaN."""
    pcm = noise(50)
    assert np.array_equal(to_mono(pcm), pcm)
    assert np.array_equal(to_mono(np.stack([pcm, pcm], axis=1)), pcm)
    assert to_mono(np.array([0.0, 1.0, -1.0, 3.0, np.nan], np.float32)).tolist() == [0, 32767, -32767, 32767, 0]
    endless = np.array([[np.inf, -np.inf], [np.nan, 1e38], [-1e300, -1e300], [0.5, np.nan]])
    assert to_mono(endless).tolist() == [0, 32767, -32768, 8192]
    halves = np.array([np.inf, np.nan, -np.inf, 6e4, 0.5], np.float16)
    assert to_mono(halves).tolist() == [0, 0, 0, 32767, 16384]
    for wrong in (np.zeros((2, 2, 2), np.int16), np.zeros(5, np.int32), np.array("x")):
        with pytest.raises(ValueError, match=r"must be int16 or float"):
            to_mono(wrong)
