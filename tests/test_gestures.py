"""Gestures: scripts of moves that stay within what a plan may do, are seen, and leave nothing behind."""

import numpy as np
import pytest

from streamer.base.constants import FPS
from streamer.motion.controls import CONTROLS, INDEX, rest
from streamer.motion.gestures import GESTURES, GesturePlayer
from streamer.motion.plan import MAX_HOLD, RANGES, Plan


def played(name: str, frames: range, own: np.ndarray | None = None) -> np.ndarray:
    """[T, C]: the controls of some frames, the gesture asked for before the first."""
    acting, plan = GesturePlayer(), Plan()
    acting.ask(name)
    out = []
    for frame in frames:
        for move in acting.due(frame):
            plan.ask(move)
        out.append(plan.apply(rest() if own is None else own, frame))
    return np.array(out)


@pytest.mark.parametrize("name", GESTURES)
class TestEach:
    def test_is_seen_and_ends_by_itself(self, name: str) -> None:
        """Something moves clearly within half a second; a second after its end all is as before."""
        gesture = GESTURES[name]
        controls = played(name, range(100, 100 + round((gesture.seconds + 1.0) * FPS)))
        assert np.abs(controls[: FPS // 2]).max() > 0.15
        moved = [i for i, name in enumerate(CONTROLS) if not name.startswith("sway")]  # hair swings on
        assert np.abs(controls[-1][moved]).max() < 0.01
        assert 0 < gesture.seconds <= MAX_HOLD

    def test_keeps_to_the_ranges(self, name: str) -> None:
        """No control goes beyond what may be planned; nothing jumps from one frame to the next."""
        controls = played(name, range(75))
        for control, (low, high) in RANGES.items():
            assert low - 1e-6 <= controls[:, INDEX[control]].min() <= controls[:, INDEX[control]].max() <= high + 1e-6
        asked = [i for i, name in enumerate(CONTROLS) if not name.startswith("sway")]  # hair is quick
        assert np.abs(np.diff(controls[:, asked], axis=0)).max() < 0.65

    def test_bears_missing_frames(self, name: str) -> None:
        """Where frames are left out the rest of the script is played all the same, and ends."""
        controls = played(name, range(0, 100, 7))
        assert np.abs(controls[:3]).max() > 0.15
        assert np.abs(controls[-1]).max() < 0.05


def test_hands_are_told_by_the_gesture_alone() -> None:
    """A hand that is up by itself, clenched, opens to wave."""
    own = rest()
    own[[INDEX["right_raise"], INDEX["right_curl"]]] = 1.0
    waving = played("wave", range(40), own)[20]
    assert waving[INDEX["right_curl"]] < 0.05
    assert waving[INDEX["right_raise"]] > 0.95


def test_a_wave_waves() -> None:
    """The hand goes to and fro, more than twice each way."""
    turn = played("wave", range(50))[:, INDEX["right_turn"]]
    ways = np.sign(np.diff(turn)[np.abs(np.diff(turn)) > 0.01])
    assert np.count_nonzero(np.diff(ways)) >= 5


def test_the_newest_takes_over() -> None:
    """Of what is asked at once, or before the one before is over, the last is done; the rest of the script is not."""
    acting = GesturePlayer()
    acting.ask("wave")
    acting.ask("nod")
    assert [move.values for move in acting.due(0)] == [{"pitch": -0.24}]
    acting.ask("shake")
    assert [move.values for move in acting.due(1)] == [{"yaw": -0.3}]
    later = [move.values for frame in range(2, 60) for move in acting.due(frame)]
    assert all(set(values) == {"yaw"} for values in later) and len(later) == 4
