"""Audio to curves: the interface that the live path is built on."""

import wave
from pathlib import Path

import numpy as np
import pytest

from streamer.base.constants import SAMPLE_RATE
from streamer.base.onnx import BadNetwork
from streamer.motion.articulation import EMBEDDING, PROSODY, WEIGHTS, Articulation, Loudness, feed, log_mel, stepped
from streamer.motion.controls import MOUTH


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


# The network that comes with the package


@pytest.fixture(scope="module")
def network() -> Articulation:
    return Articulation.load()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Ten seconds of a real voice: [n] float32."""
    with wave.open(str(Path(__file__).parent.parent / "clients" / "page" / "sample.wav")) as file:
        assert file.getframerate() == SAMPLE_RATE
        pcm = np.frombuffer(file.readframes(10 * SAMPLE_RATE), np.int16)
    return pcm.astype(np.float32) / 32768


def test_streamed_equals_whole(network, speech):
    """Step by step, the network says what it says of the whole recording, to float32 rounding."""
    streamed, whole = stepped(network, speech), network.whole(speech)
    for part in ("mouth", "prosody", "embedding"):
        np.testing.assert_allclose(getattr(streamed, part), getattr(whole, part), atol=2e-5)


def test_sessions_do_not_hear_each_other(network, speech):
    """Two states stepped in turn give what each gives alone."""
    one, two = feed(speech[:16000], network.lookahead), feed(speech[40000:56000], network.lookahead)
    a, b = network.state(), network.state()
    for k in range(0, 12800, 640):
        first = network.step(a, one[k : k + 640]).mouth
        second = network.step(b, two[k : k + 640]).mouth
    np.testing.assert_array_equal(first, stepped_mouth(network, one[:12800]))
    np.testing.assert_array_equal(second, stepped_mouth(network, two[:12800]))


def stepped_mouth(network: Articulation, fed: np.ndarray) -> np.ndarray:
    """The last frame's mouth of samples that are already fed as steps."""
    state = network.state()
    return [network.step(state, samples).mouth for samples in fed.reshape(-1, 640)][-1]


def test_the_mouth_moves_with_speech_and_rests_in_silence(network, speech):
    """Closed in silence, open and shut again and again while a real voice speaks, always within 0..1."""
    said = network.whole(speech)
    opening = said.mouth[:, MOUTH.index("open")]
    assert said.mouth.min() >= 0 and said.mouth.max() <= 1
    assert opening[25:].max() > 0.5 and np.percentile(opening[25:], 10) < 0.1
    silent = network.whole(np.zeros(2 * SAMPLE_RATE, np.float32))
    assert silent.mouth[:, MOUTH.index("open")].max() < 0.05
    assert np.abs(silent.prosody[10:, PROSODY.index("energy")]).max() < 0.1
    # Faint noise, as of a microphone nobody speaks into, is silence too.
    hiss = np.random.default_rng(0).normal(0, 3e-4, 2 * SAMPLE_RATE).astype(np.float32)
    assert network.whole(hiss).mouth[10:, MOUTH.index("open")].max() < 0.15


@pytest.mark.parametrize("idle", [1.0, 10.0, 60.0])
def test_no_onset_is_cold(network, speech, idle):
    """However long it was quiet, a word's first frames are those that it has after a breath."""
    loud = int(np.flatnonzero(np.abs(speech) > 0.05)[0])
    word = speech[loud - 160 : loud - 160 + 20 * 640]

    def said(pause):
        room = (1e-4 * np.random.default_rng(1).standard_normal(round(pause * SAMPLE_RATE))).astype(np.float32)
        first = (len(word) + len(room)) // 640
        return network.whole(np.concatenate([word, room, word])).mouth[first : first + 10, 0]

    assert said(0.4).max() > 0.3
    np.testing.assert_allclose(said(idle), said(0.4), atol=0.06)


def test_level_matters_little(network, speech):
    """A voice 12 dB quieter moves the mouth in the same way."""
    normal, quiet = network.whole(speech).mouth[:, 0], network.whole(speech / 4).mouth[:, 0]
    assert np.corrcoef(normal, quiet)[0, 1] > 0.9


def test_hostile_samples_give_finite_curves(network):
    """Clipping, a constant, and full-scale noise give curves within their range, and the stream recovers."""
    state = network.state()
    rng = np.random.default_rng(1)
    for samples in (np.ones(640), -np.ones(640), np.sign(rng.normal(size=640)), np.zeros(640)):
        curves = network.step(state, samples.astype(np.float32))
        assert np.isfinite(curves.mouth).all() and curves.mouth.min() >= 0 and curves.mouth.max() <= 1
        assert np.isfinite(curves.embedding).all()


def test_lookahead_is_within_the_budget(network):
    """At most 60 ms are waited for."""
    assert 0 <= network.lookahead <= 960


def test_missing_weights_are_named(tmp_path):
    """A path without weights is in the error."""
    with pytest.raises(FileNotFoundError, match="nowhere.onnx"):
        Articulation.load(tmp_path / "nowhere.onnx")


def test_damaged_weights_are_said(tmp_path):
    """Half of the weights are none, and the error says how many bytes there were."""
    half = tmp_path / "half.onnx"
    half.write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(BadNetwork, match="the 1000 bytes of .*half.onnx are no weights of the articulation network"):
        Articulation.load(half)


def test_another_networks_weights_are_said():
    """The face detector's are not mistaken for its own."""
    with pytest.raises(BadNetwork, match="face.onnx is another network .* takes picture and gives faces"):
        Articulation.load(WEIGHTS.with_name("face.onnx"))
