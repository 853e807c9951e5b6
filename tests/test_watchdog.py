"""When a peer is given up, with time as an argument."""

import math

import pytest

from streamer.session import watchdog
from streamer.session.watchdog import Watchdog, watch_attendance


def dog(max_age: float = math.inf) -> Watchdog:
    return Watchdog(100.0, connect_timeout=15.0, silence_timeout=10.0, max_age=max_age)


def test_what_never_connects() -> None:
    """It has 15 s, however much it sends."""
    judge = dog()
    assert all(judge.verdict(100.0 + t, False, t) is None for t in range(16))
    assert judge.verdict(115.1, False, 99) == "connect_timeout"


def test_what_falls_silent() -> None:
    """10 s without a packet end it; one that comes begins them anew."""
    judge = dog()
    assert judge.verdict(105.0, True, 7) is None
    assert judge.verdict(115.0, True, 7) is None
    assert judge.verdict(115.0, True, 8) is None
    assert judge.verdict(125.0, True, 8) is None
    assert judge.verdict(125.1, True, 8) == "peer_gone"


def test_silence_counts_once_it_is_live() -> None:
    """Before, only the time to connect does."""
    judge = dog()
    assert judge.verdict(114.0, False, 0) is None
    assert judge.verdict(114.5, True, 0) == "peer_gone"


def test_what_grew_too_old() -> None:
    """Its age ends it, however lively it is."""
    judge = dog(max_age=60.0)
    assert all(judge.verdict(100.0 + t, True, t) is None for t in range(61))
    assert judge.verdict(160.1, True, 99) == "too_old"


@pytest.mark.parametrize(("max_age", "verdict"), [(math.inf, "unattended"), (0.02, "too_old")])
async def test_attendance(monkeypatch: pytest.MonkeyPatch, max_age: float, verdict: str) -> None:
    """As long as somebody attends it lives, and then for a while."""
    monkeypatch.setattr(watchdog, "_INTERVAL", 0.001)
    looks = iter([True] * 20)
    began = watchdog.clock.now()
    assert await watch_attendance(lambda: next(looks, False), began, 0.05, max_age) == verdict
    assert verdict == "too_old" or (next(looks, None) is None and watchdog.clock.now() - began > 0.05)
