"""Pacing: when frames and sound leave."""

import pytest

from streamer.audio.framing import FramePacer
from streamer.media.av_sync import LipSync, LipSyncConfig
from streamer.media.rate_control import BitrateRule, KeyframeOnlyMode


@pytest.mark.parametrize("lookahead", [0, 320, 640, 960])
def test_a_frame_is_due_once_its_sample_and_look_ahead_are_in(lookahead: int) -> None:
    """Frame k becomes due with sample 640·k + look-ahead, and not one sample earlier."""
    pacer = FramePacer(lookahead)
    assert list(pacer.due(lookahead - 1)) == []
    assert list(pacer.due(lookahead)) == [0]
    assert list(pacer.due(lookahead + 639)) == []
    assert list(pacer.due(lookahead + 640)) == [1]


def test_every_frame_is_due_exactly_once() -> None:
    """However speech is cut, frames come in order, without a gap or a repeat."""
    pacer, frames = FramePacer(640), []
    for end in (100, 160, 4000, 4001, 10_000, 10_000, 64_000):
        frames += pacer.due(end)
    assert frames == list(range(100))


def test_negative_look_ahead_is_refused() -> None:
    """A look-ahead below zero names its number."""
    with pytest.raises(ValueError, match="-1"):
        FramePacer(-1)


def _run(sync: LipSync, sound: float, frame: float, seconds: float, start: float = 100.0) -> tuple[float, float]:
    """Sound ready `sound` s and frames `frame` s after capture. Returns their lateness on leaving, at the end."""
    left_sound = left_frame = 0.0
    for i in range(round(seconds * 50)):
        captured = start + i * 0.02
        left_sound = sync.send_sound_at(captured, 0.02, captured + sound) - captured
        if i % 2 == 0:
            left_frame = frame + sync.hold_frame(captured, captured + frame, 0.04)
    return left_sound, left_frame


def test_nothing_waits_where_both_meet() -> None:
    """Sound that is heard within the tolerated lateness of its frame leaves at once, and so does the frame."""
    sync = LipSync(LipSyncConfig(playout_difference=0.040, tolerated=0.025))
    assert _run(sync, sound=0.020, frame=0.060, seconds=10) == pytest.approx((0.020, 0.060), abs=1e-9)
    assert _run(sync, sound=0.040, frame=0.060, seconds=10, start=200) == pytest.approx((0.040, 0.060), abs=1e-9)


def test_sound_waits_for_late_frames() -> None:
    """In the steady state sound leaves `playout_difference` before its frame."""
    sync = LipSync(LipSyncConfig(playout_difference=0.055))
    sound, frame = _run(sync, sound=0.025, frame=0.120, seconds=20)
    assert frame == pytest.approx(0.120)
    assert sound == pytest.approx(0.120 - 0.055, abs=1e-6)


def test_frames_wait_for_sound_that_is_played_late() -> None:
    """Beyond the tolerated lateness frames are held by the rest of it, and never longer than the bound."""
    sync = LipSync(LipSyncConfig(playout_difference=0.090, tolerated=0.025, longest_frame_hold=0.040))
    sound, frame = _run(sync, sound=0.020, frame=0.060, seconds=20)
    assert (sound, frame) == pytest.approx((0.020, 0.020 + 0.090 - 0.025), abs=1e-6)
    sync.measured(0.300)
    assert _run(sync, 0.020, 0.060, 20, start=200)[1] == pytest.approx(0.100, abs=1e-6)


def test_a_receivers_measure_is_followed_gently() -> None:
    """A new playout difference moves frames by no more than the slew; nonsense is clamped."""
    sync = LipSync(LipSyncConfig(playout_difference=0.050, slew=0.020))
    _run(sync, sound=0.020, frame=0.060, seconds=5)
    sync.measured(0.100)
    lateness = [_run(sync, 0.020, 0.060, 0.04, start=200 + i * 0.04)[1] for i in range(100)]
    steps = [b - a for a, b in zip(lateness, lateness[1:], strict=False)]
    assert 0 < max(steps) <= 0.020 * 0.04 + 1e-9
    sync.measured(1e9)
    assert sync.playout_difference == 0.5


def test_sound_keeps_its_order_and_its_bound() -> None:
    """Packets never leave before an earlier one, and the hold is bounded however late frames are."""
    sync = LipSync(LipSyncConfig(longest_sound_hold=0.25, slew=10.0))
    last = 0.0
    for i in range(200):
        now = 100 + i * 0.02
        sync.hold_frame(now - (3.0 if i < 100 else 0.01), now, 0.04)
        send = sync.send_sound_at(now - 0.02, 0.02, now)
        assert last <= send <= max(last, now + 0.25 + 1e-9)
        last = send
    assert send == now, "frames are early again, so the hold is gone"


def test_an_estimate_above_what_is_sent_says_nothing() -> None:
    """A receiver that was sent little can only estimate little: such an estimate leaves the cap alone."""
    rule = BitrateRule(1_000_000)
    assert rule.estimate(60_000, sent=40_000, now=0.0) == 1_000_000
    assert rule.estimate(50_000, sent=40_000, now=1.0) == 1_000_000
    assert rule.estimate(45_000, sent=50_000, now=2.0) == rule.config.lowest


def test_an_estimate_that_only_rises_says_nothing() -> None:
    """
    What is sent grows faster than an estimate may where a voice sets in: seen on a path that carried everything. One
    that falls says that the path is full, and so do the next ones, rising again, for a while.
    """
    rule = BitrateRule(1_000_000)
    for second in range(30):
        assert rule.estimate(round(85_000 * 1.08**second), sent=1e6, now=float(second)) == 1_000_000
    assert rule.estimate(500_000, sent=600_000, now=30.0) == 500_000
    assert rule.estimate(540_000, sent=600_000, now=31.0) == 540_000
    assert rule.estimate(560_000, sent=600_000, now=30.0 + rule.config.full) == 540_000


def test_loss_lowers_the_cap_and_its_absence_restores_it() -> None:
    """Heavy loss backs off, none grows back to the ceiling, and neither bound is passed."""
    rule = BitrateRule(1_000_000)
    for _ in range(100):
        rule.report(0.5)
    assert rule.cap == rule.config.lowest
    for _ in range(100):
        rule.report(0.0)
    assert rule.cap == 1_000_000
    assert rule.report(0.03) == 1_000_000, "a little loss is neither"


def _thinned(thinning: KeyframeOnlyMode, seconds: float, start: float, bitrate: int, cap: int) -> int:
    """Ordinary frames that leave of `bitrate` bit/s for some seconds."""
    sent = 0
    for i in range(round(25 * seconds)):
        sent += thinning.takes(start + i / 25, bitrate // 200, False, cap)
    return sent


def test_a_path_that_nearly_carries_all_gets_all() -> None:
    """Down to 60 % of what is coded every frame is sent, and for a second also below; a key frame is no rate."""
    thinning = KeyframeOnlyMode()
    assert _thinned(thinning, 10, 0.0, 400_000, 250_000) == 250
    assert _thinned(thinning, 0.9, 10.0, 400_000, 100_000) == 22
    assert _thinned(thinning, 10, 10.9, 400_000, 280_000) == 250
    assert thinning.takes(21.0, 15_000, True, 280_000)
    assert _thinned(thinning, 10, 21.0, 400_000, 280_000) == 250
    assert not thinning.active


def test_a_path_that_falls_short_is_thinned_until_it_suffices() -> None:
    """Below 60 % for a second ordinary frames are left out; from 80 % on, and ten seconds later, they are sent."""
    thinning = KeyframeOnlyMode()
    assert _thinned(thinning, 20, 0.0, 400_000, 200_000) < 75
    assert thinning.active
    assert _thinned(thinning, 10, 20.0, 400_000, 300_000) == 0  # between the two limits nothing changes
    assert _thinned(thinning, 10, 30.0, 400_000, 350_000) >= 200
    assert not thinning.active


def test_a_path_that_falls_short_again_is_tried_later_and_later() -> None:
    """Each try that fails soon doubles the time to the next, up to a bound; one that lasts long forgets that."""
    thinning, now, waits = KeyframeOnlyMode(), 0.0, []
    for _ in range(9):
        while not thinning.active:
            thinning.takes(now, 2000, False, 100_000)
            now += 0.04
        began = now
        while thinning.active:
            thinning.takes(now, 2000, False, 1_000_000)
            now += 0.04
        waits.append(now - began)
    assert waits == pytest.approx([10, 20, 40, 80, 160, 320, 320, 320, 320], abs=0.1)
    _thinned(thinning, 400, now, 400_000, 400_000)
    _thinned(thinning, 3, now + 400, 400_000, 100_000)
    assert thinning.active
    assert _thinned(thinning, 13, now + 403, 400_000, 400_000) > 0


def test_a_thinned_path_takes_no_more_key_frames_than_it_carries() -> None:
    """Of two key frames a second that others caused, those leave that half of the path's rate has room for."""
    thinning = KeyframeOnlyMode()
    _thinned(thinning, 8, 0.0, 400_000, 100_000)
    taken = [now for now in (8.0 + i / 2 for i in range(60)) if thinning.takes(now, 12_500, True, 100_000)]
    assert thinning.active
    gaps = {round(after - before, 3) for before, after in zip(taken, taken[1:], strict=False)}
    assert gaps == {2.0}  # 100 kbit in half of 100 kbit/s
