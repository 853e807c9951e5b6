"""Audio to curves: the interface that the live path is built on."""

import numpy as np
import pytest

from streamer.config import SAMPLE_RATE
from streamer.features import EMBEDDING, PROSODY, Loudness, log_mel, stepped
from streamer.studio.controls import MOUTH


def bursts(seconds: float = 3.0) -> np.ndarray:
    """A buzz of 120 Hz, half a second on and half a second off."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = np.sign(np.sin(2 * np.pi * 120 * t)) * 0.1
    return (buzz * ((t % 1.0) >= 0.5)).astype(np.float32)


def test_loudness_opens_in_sound_and_closes_in_silence():
    """The mouth is open during a burst and closed between bursts."""
    opening = stepped(Loudness(), bursts()).mouth[:, MOUTH.index("open")]
    t = np.arange(len(opening)) / 25 % 1.0
    assert opening[(t > 0.6) & (t < 0.9)].min() > 0.3
    assert opening[(t > 0.1) & (t < 0.4)].max() < 0.05


def test_loudness_answers_the_right_frame():
    """With its look-ahead the mouth starts to open within one frame of the sound's onset."""
    opening = stepped(Loudness(), bursts()).mouth[:, 0]
    assert abs(int(np.argmax(opening > 0.2)) - 12.5) <= 1


def test_shapes_and_reset():
    """Curves have the documented shapes, and a reset state answers as a new one."""
    loudness, audio = Loudness(), bursts(1.0)[-640:]
    state = loudness.state()
    first = loudness.step(state, audio)
    loudness.step(state, audio)
    state.reset()
    again = loudness.step(state, audio)
    assert first.mouth.shape == (len(MOUTH),)
    assert first.prosody.shape == (len(PROSODY),)
    assert first.embedding.shape == (EMBEDDING,)
    for part in ("mouth", "prosody", "embedding"):
        np.testing.assert_array_equal(getattr(first, part), getattr(again, part))


def test_a_step_of_another_length_is_refused_with_its_shape():
    """A chunk that is not 640 samples is named in the error."""
    with pytest.raises(ValueError, match=r"640 samples.*\(320,\)"):
        Loudness().step(Loudness().state(), np.zeros(320, np.float32))


def test_log_mel_bands_follow_frequency():
    """A higher tone excites a higher band, and silence none."""
    t = np.arange(4000) / SAMPLE_RATE
    peaks = [log_mel(np.sin(2 * np.pi * f * t).astype(np.float32)).mean(0).argmax() for f in (200, 800, 2400, 6000)]
    assert peaks == sorted(set(peaks))
    assert log_mel(np.zeros(4000, np.float32)).max() < -3.9
