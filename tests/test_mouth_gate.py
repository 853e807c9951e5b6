"""What is no speech does not hold the mouth open; what is loses nothing by it."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from peers import Slate

from streamer.audio.framing import steps_of
from streamer.audio.vad import Vad
from streamer.avatar.avatar import Avatar
from streamer.base.constants import SAMPLE_RATE
from streamer.motion.articulation import Articulation, ArticulationFrame
from streamer.motion.controls import INDEX
from streamer.motion.idle import IdleMotion
from streamer.motion.mouth_gate import MouthGate, gated, silent_curves

OPEN = 0.1


@pytest.fixture(scope="module")
def listener() -> Articulation:
    return Articulation.load()


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """[n] float32 at 16 kHz: the page's own sample."""
    with wave.open(str(Path("clients/page/sample.wav"))) as file:
        assert file.getnchannels() == 1
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        times = np.arange(0, len(samples), file.getframerate() / SAMPLE_RATE)
    return np.interp(times, np.arange(len(samples)), samples).astype(np.float32)[: 12 * SAMPLE_RATE]


def seconds(count: float) -> np.ndarray:
    return np.arange(round(count * SAMPLE_RATE)) / SAMPLE_RATE


def faded(sound: np.ndarray) -> np.ndarray:
    sound = (0.3 * sound / np.abs(sound).max()).astype(np.float32)
    sound[:320] *= np.linspace(0, 1, 320, dtype=np.float32)
    sound[-320:] *= np.linspace(1, 0, 320, dtype=np.float32)
    return sound


def chord() -> np.ndarray:
    t = seconds(10)
    return faded(sum(np.sin(2 * np.pi * pitch * k * t) / k for pitch in (220, 277.2, 329.6, 440) for k in range(1, 6)))


def siren(period: float = 2.0) -> np.ndarray:
    t = seconds(10)
    return faded(np.sin(2 * np.pi * np.cumsum(1000 - 500 * np.cos(2 * np.pi * t / period)) / SAMPLE_RATE))


def music() -> np.ndarray:
    """Chords of 0.45 s with gaps between them."""
    t, roots = seconds(0.45), (220, 196, 174.6, 196)
    played = [faded(sum(np.sin(2 * np.pi * root * k * t) / k for k in (1, 1.26, 1.5, 2, 3))) for root in roots]
    return np.concatenate([np.concatenate([each, np.zeros(800, np.float32)]) for each in played * 5])


def alarm() -> np.ndarray:
    beep = faded(np.sin(2 * np.pi * 880 * seconds(0.3)))
    return np.concatenate([np.concatenate([beep, np.zeros(11_200, np.float32)])] * 15)


def opening(listener: Articulation, sound: np.ndarray, vad: bool = True, trust: bool = False) -> np.ndarray:
    """[T]: how far the mouth opens at each frame."""
    avatar = Avatar(listener, Slate(128, []), IdleMotion(0), Vad() if vad else None)
    if trust:
        avatar.trust_voice()
    return np.array([avatar.hear(step)[0][INDEX["open"]] for step in steps_of(sound, listener.lookahead)])


@pytest.mark.parametrize(
    "sound", [chord, siren, lambda: siren(0.25), music, alarm], ids=["chord", "siren", "yelp", "music", "alarm"]
)
def test_what_is_no_speech_closes_the_mouth(listener: Articulation, sound: Callable[[], np.ndarray]) -> None:
    """It may open for a moment, then the mouth is at rest; without voice activity it goes on."""
    moved, free = opening(listener, sound()), opening(listener, sound(), vad=False)
    half = len(moved) // 2
    assert (free[half:] > OPEN).mean() > 0.3
    assert (moved[half:] > OPEN).mean() == 0
    assert (moved > OPEN).mean() < 0.2


def test_speech_loses_nothing(listener: Articulation, voice: np.ndarray) -> None:
    """Every frame of speech opens the mouth as it would without a gate, the first one after silence included."""
    for gap in (0.0, 0.3, 2.0):
        sound = np.concatenate([np.zeros(round(gap * SAMPLE_RATE), np.float32), voice])
        moved, free = opening(listener, sound), opening(listener, sound, vad=False)
        assert (free > OPEN).mean() > 0.5
        assert (moved == free).mean() > 0.99


def test_speech_in_music_opens_the_mouth_again(listener: Articulation, voice: np.ndarray) -> None:
    """Where music has shut the gate, speech over it moves the mouth within 80 ms, and most of its frames whole."""
    spoken = voice[: 5 * SAMPLE_RATE]
    played = np.tile(chord(), 1)
    played *= 0.25 * np.sqrt(np.mean(spoken**2) / np.mean(played**2))
    mixed = played.copy()
    mixed[-len(spoken) :] += spoken
    moved, free = opening(listener, mixed), opening(listener, mixed, vad=False)
    begin = (len(mixed) - len(spoken)) // 640
    assert (moved[begin - 25 : begin] > OPEN).mean() == 0
    speaking = np.flatnonzero(opening(listener, spoken, vad=False) > OPEN)
    talks = begin + speaking[speaking < len(moved) - begin]
    assert (moved[talks] > 0.95 * free[talks]).mean() > 0.95
    assert np.flatnonzero(moved[talks] > 0.95 * free[talks])[0] <= 2


def test_a_bots_speech_is_trusted(listener: Articulation) -> None:
    """What a bot sends is its voice, singing and humming too: nothing of it is held back."""
    hummed = chord()[: 4 * SAMPLE_RATE]
    assert np.array_equal(opening(listener, hummed, trust=True), opening(listener, hummed, vad=False))


class TestGate:
    def test_a_held_note_after_speech_is_given_time(self) -> None:
        """Sound without evidence is trusted for 1 s, and for 2 s where speech went before."""

        def held(first: float) -> int:
            gate = MouthGate()
            gate.step(first, 0.5)
            return next(frame for frame in range(1, 200) if gate.step(0.0, 0.5) < 1)

        assert held(0.0) == pytest.approx(25, abs=2) and held(0.9) == pytest.approx(50, abs=2)

    def test_a_little_evidence_keeps_it_open(self) -> None:
        """A whisper, whose probability now and then passes 0.15, is never shut out."""
        gate = MouthGate()
        assert all(gate.step(0.2 if frame % 20 == 0 else 0.02, 0.5) == 1 for frame in range(500))

    def test_comes_in_at_once_and_goes_out_softly(self) -> None:
        """No step out is larger than an eighth; the way in takes a frame."""
        gate = MouthGate()
        gains = np.array([gate.step(0.0, 0.5) for _ in range(60)])
        assert gains[-1] == 0 and np.diff(gains).min() > -0.14
        assert gate.step(0.6, 0.5) == 1

    def test_silence_opens_it_again(self) -> None:
        """After two seconds of it the next sound is trusted once more; beeps with gaps between them are not."""
        gate = MouthGate()
        for _ in range(60):
            gate.step(0.0, 0.5)
        for _ in range(25):
            assert gate.step(0.0, 0.0) == 0
        for _ in range(30):
            gate.step(0.0, 0.0)
        assert gate.step(0.0, 0.5) == 1
        gate.reset()
        assert gate.gain == 1 and gate.step(0.0, 0.5) == 1

    def test_rest_is_what_silence_gives(self, listener: Articulation) -> None:
        """Shut, all three parts are those of silence; half shut, half way; open, the very curves."""
        rest = silent_curves(listener)
        assert rest.mouth[0] < 0.05 and silent_curves(listener) is rest
        state = listener.state()
        for part in chord()[: 640 * 20].reshape(-1, 640):
            curves = listener.step(state, part)
        assert gated(curves, rest, 1.0) is curves
        shut, half = gated(curves, rest, 0.0), gated(curves, rest, 0.5)
        for name in ("mouth", "prosody", "embedding"):
            still, moved = getattr(rest, name), getattr(curves, name)
            np.testing.assert_allclose(getattr(shut, name), still, atol=1e-6)
            np.testing.assert_allclose(getattr(half, name), (still + moved) / 2, atol=1e-5)
            assert getattr(half, name).dtype == np.float32
        assert isinstance(shut, ArticulationFrame)
