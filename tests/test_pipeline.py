"""The pipeline without a network: speech is cut into steps, and an avatar hears and draws them."""

import numpy as np
import pytest

from streamer.audio.framing import Speech, steps_of
from streamer.avatar.avatar import Avatar
from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.frames import Step
from streamer.motion.articulation import Loudness
from streamer.motion.controls import INDEX
from streamer.motion.idle import IdleMotion


class Slate:
    """A rig that records what it was asked to draw."""

    name = "studio_rig"

    def __init__(self, size: int = 128) -> None:
        self.size = size
        self.drawn: list[tuple[np.ndarray, float]] = []
        self.closed = 0

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        self.drawn.append((controls.copy(), t))
        return np.zeros((self.size, self.size, 4), np.uint8)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("lookahead", [0, 320, 640, 800, 960, 1500])
@pytest.mark.parametrize("block", [1, 160, 320, 641, 5000])
def test_steps_hold_the_promised_samples(lookahead: int, block: int) -> None:
    """However speech arrives, step k holds the samples from 640·(k-1) + look-ahead, with silence before sample 0."""
    recording = np.arange(1, 6001, dtype=np.float32)
    speech, steps = Speech(lookahead), []
    for start in range(0, len(recording), block):
        steps += speech.push(start, recording[start : start + block])
    assert [k for k, _ in steps] == list(range((len(recording) - lookahead) // SAMPLES_PER_FRAME + 1))
    for k, samples in steps:
        first = SAMPLES_PER_FRAME * (k - 1) + lookahead
        expected = [recording[i] if 0 <= i else 0.0 for i in range(first, first + SAMPLES_PER_FRAME)]
        np.testing.assert_array_equal(samples, expected)


def test_a_gap_in_speech_is_refused() -> None:
    """Ingest never leaves a gap, so one is an error that names both samples."""
    speech = Speech(0)
    speech.push(0, np.zeros(100, np.float32))
    with pytest.raises(ValueError, match=r"160.*100"):
        speech.push(160, np.zeros(10, np.float32))


@pytest.mark.parametrize("samples", [640, 641, 1280, 16_000, 16_001])
def test_a_recording_is_answered_to_its_end(samples: int) -> None:
    """A recording of n samples gives ceil(n / 640) steps, numbered in order."""
    steps = list(steps_of(np.zeros(samples, np.float32), 640))
    assert [step.frame for step in steps] == list(range(-(-samples // 640)))


def _voice(seconds: float) -> np.ndarray:
    t = np.arange(int(16_000 * seconds)) / 16_000
    return (0.3 * np.sin(2 * np.pi * 200 * t) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))).astype(np.float32)


def _openings(avatar: Avatar, steps: list[Step]) -> list[float]:
    return [float(avatar.hear(step)[0][INDEX["open"]]) for step in steps]


def test_the_mouth_moves_with_the_voice_and_rests_without() -> None:
    """Speech opens the mouth; silence before it leaves it closed."""
    avatar = Avatar(Loudness(), Slate(), IdleMotion(3))
    recording = np.concatenate([np.zeros(16_000, np.float32), _voice(2.0)])
    openings = _openings(avatar, list(steps_of(recording, Loudness().lookahead)))
    assert max(openings[:20]) < 0.05
    assert max(openings[30:]) > 0.3


def test_a_muted_step_closes_the_mouth() -> None:
    """While muted the voice is not seen; a new epoch finds the mouth at rest with its first step."""
    avatar = Avatar(Loudness(), Slate(), IdleMotion(3))
    steps = list(steps_of(_voice(2.0), Loudness().lookahead))
    for step in steps[25:]:
        step.muted, step.epoch = True, 1
    openings = _openings(avatar, steps)
    assert max(openings[10:25]) > 0.3
    assert openings[26] < 0.1, "one step after the interruption"
    assert max(openings[27:]) < 0.05


def test_a_new_rig_is_worn_with_the_next_picture() -> None:
    """Switching closes the rig worn before exactly once, and a rig that never came to be worn too."""
    first, passed_over, second = Slate(), Slate(), Slate()
    avatar = Avatar(Loudness(), first, IdleMotion(0))
    controls = np.zeros(len(INDEX), np.float32)
    avatar.draw(controls, 0.0)
    avatar.set_renderer(passed_over)
    avatar.set_renderer(second)
    assert (first.closed, passed_over.closed) == (0, 1)
    avatar.draw(controls, 0.04)
    assert (first.closed, len(second.drawn)) == (1, 1)
    with pytest.raises(ValueError, match=r"256.*128"):
        avatar.set_renderer(Slate(256))
    avatar.close()
    assert second.closed == 1


class Listening(Slate):
    """A rig that wants to know what was heard."""

    name = "neural"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[np.ndarray] = []

    def hear(self, controls: np.ndarray, curves: object, emotion: np.ndarray) -> None:
        self.heard.append(controls)


def test_a_rig_of_another_kind_takes_over_between_any_two_steps() -> None:
    """
    One that listens hears every frame that it draws, whether it came before the frame was heard or after; every frame
    is drawn, by the old rig or by the new one, and each rig that was worn is closed once.
    """
    plain, listening, last = Slate(), Listening(), Slate()
    avatar = Avatar(Loudness(), plain, IdleMotion(0))
    steps = list(steps_of(_voice(0.4), Loudness().lookahead))

    def frame(step: Step, before: object = None, between: object = None) -> str:
        if before is not None:
            avatar.set_renderer(before)  # type: ignore[arg-type]
        controls, _ = avatar.hear(step)
        if between is not None:
            avatar.set_renderer(between)  # type: ignore[arg-type]
        avatar.draw(controls, step.frame / 25)
        return avatar.renderer

    seen = [frame(steps[0]), frame(steps[1], between=listening), frame(steps[2]), frame(steps[3], before=last)]
    assert seen == ["studio_rig", "neural", "neural", "studio_rig"]
    assert [len(rig.drawn) for rig in (plain, listening, last)] == [1, 2, 1]
    assert len(listening.heard) == 2
    assert all((heard == drawn).all() for heard, (drawn, _) in zip(listening.heard, listening.drawn, strict=True))
    again = Listening()
    assert frame(steps[4], before=again) == "neural" and len(again.heard) == len(again.drawn) == 1
    assert [rig.closed for rig in (plain, listening, last, again)] == [1, 1, 1, 0]


@pytest.mark.parametrize("lookahead", [0, 1, 320, 639, 640, 1280])
def test_blocks_make_the_same_steps(lookahead: int) -> None:
    """However a recording is cut, its steps are those of the whole, and there is one for each frame that begins."""
    rng = np.random.default_rng(lookahead)
    for length in (1, 639, 640, 641, 1280, 6400, 16_001):
        recording = rng.random(length, np.float32)
        whole = list(steps_of(recording, lookahead))
        assert [step.frame for step in whole] == list(range(-(-length // 640)))
        cut = list(steps_of(np.split(recording, np.sort(rng.integers(0, length + 1, 9))), lookahead))
        assert [step.frame for step in cut] == [step.frame for step in whole]
        for a, b in zip(whole, cut, strict=True):
            assert np.array_equal(a.samples, b.samples) and a.samples.shape == (640,)
