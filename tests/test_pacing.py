"""Pacing: when frames and sound leave."""

import pytest

from streamer.pacing import BitrateRule, FramePacer, LipSync, LipSyncConfig


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


def test_sound_leaves_at_once_when_frames_are_early() -> None:
    """Where frames leave less than the playout difference after capture, sound is not held."""
    sync = LipSync()
    for i in range(60):
        sync.frame_sent(i * 0.04, i * 0.04 + 0.050)
    assert sync.send_at(captured=10.0, duration=0.02, now=10.025) == 10.025


def test_sound_waits_for_late_frames() -> None:
    """In the steady state a sample leaves `playout_difference` before its frame."""
    sync = LipSync(LipSyncConfig(playout_difference=0.055))
    for i in range(60):
        sync.frame_sent(i * 0.04, i * 0.04 + 0.120)
    send = 0.0
    for i in range(400):  # 8 s: the slew has long caught up
        captured = 100 + i * 0.02
        send = sync.send_at(captured, 0.02, now=captured + 0.025)
    assert send - captured == pytest.approx(0.120 - 0.055, abs=1e-9)


def test_sound_keeps_its_order_and_its_bound() -> None:
    """Packets never leave before an earlier one, and the hold is bounded however late frames are."""
    sync = LipSync(LipSyncConfig(longest_hold=0.25, slew=10.0))
    for i in range(60):
        sync.frame_sent(i * 0.04, i * 0.04 + 3.0)
    last = 0.0
    for i in range(100):
        now = 100 + i * 0.02
        send = sync.send_at(now - 0.02, 0.02, now)
        assert last <= send <= now + 0.25 + 1e-9
        last = send
    for i in range(60):
        sync.frame_sent(i * 0.04, i * 0.04 + 0.01)
    for i in range(100, 140):
        now = 100 + i * 0.02
        send = sync.send_at(now - 0.02, 0.02, now)
        assert last <= send
        last = send
    assert send == now, "frames are early again, so the hold is gone"


def test_an_estimate_above_what_is_sent_says_nothing() -> None:
    """A receiver that was sent little can only estimate little: such an estimate leaves the cap alone."""
    rule = BitrateRule(1_000_000)
    assert rule.estimate(50_000, sent=40_000) == 1_000_000
    assert rule.estimate(300_000, sent=400_000) == 300_000


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
