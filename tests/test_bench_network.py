"""The relay's bad networks, and when latency is back after a stall."""

import numpy as np
import pytest

from benchmarks.network import faulty_path, relay


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
