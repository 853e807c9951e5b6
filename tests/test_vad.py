"""Voice activity on real speech, noise and silence, and its state machine."""

import wave
from pathlib import Path

import numpy as np
import pytest

import streamer.audio.vad as vad_module
from streamer.audio.vad import SileroDetector, Vad, VadConfig, VadEvent, WebrtcDetector
from streamer.base.constants import SAMPLE_RATE

SAMPLE = Path(__file__).parent.parent / "clients" / "page" / "sample.wav"
MS = SAMPLE_RATE // 1000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """[n] the sample voice, from just before its first sound."""
    with wave.open(str(SAMPLE)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    return sound[max(0, onset(sound) - 4 * SAMPLE_RATE // 10) :]


def onset(sound: np.ndarray) -> int:
    """The first sample of the first 10 ms that are louder than -40 dBFS."""
    blocks = sound[: len(sound) // 160 * 160].reshape(-1, 160)
    return int(np.flatnonzero(np.sqrt(np.mean(blocks**2, axis=1)) > 0.01)[0]) * 160


def feed(vad: Vad, sound: np.ndarray, piece: int = 320, pts: int = 0) -> list[tuple[VadEvent, int]]:
    """Events with the number of the last sample pushed when each came."""
    events = []
    for at in range(0, len(sound), piece):
        part = sound[at : at + piece]
        events += [(event, pts + at + len(part)) for event in vad.push(part, pts + at)]
    return events


@pytest.mark.parametrize("shift_ms", [0, 7, 13, 19, 26, 31])
def test_speech_is_noticed_within_64_ms_of_its_onset(speech: np.ndarray, shift_ms: int) -> None:
    """Wherever the onset falls in a window, the event comes at most 64 ms after it and names it to within a window."""
    sound = speech[shift_ms * MS :]
    event, pushed = feed(Vad(), sound, piece=80)[0]
    assert event.speaking
    assert pushed - onset(sound) <= 64 * MS
    assert abs(event.pts - onset(sound)) <= 40 * MS


def test_the_end_is_noticed_after_the_hang_over_and_names_the_last_speech(speech: np.ndarray) -> None:
    """Speech cut off into silence ends 300 to 500 ms later, and the event points back to the cut."""
    said = speech[: 2 * SAMPLE_RATE]
    sound = np.concatenate([said, np.zeros(SAMPLE_RATE, np.float32)])
    events = feed(Vad(), sound)
    assert [event.speaking for event, _ in events] == [True, False]
    event, pushed = events[1]
    assert 300 * MS <= pushed - len(said) <= 500 * MS
    assert abs(event.pts - len(said)) <= 100 * MS


def test_pauses_within_a_phrase_do_not_end_speech(speech: np.ndarray) -> None:
    """150 ms of silence in the middle of speech bring no event."""
    begin = onset(speech)
    word = speech[begin : begin + SAMPLE_RATE // 2]
    pause = np.zeros(150 * MS, np.float32)
    events = feed(Vad(), np.concatenate([word, pause, word, pause, word]))
    assert [event.speaking for event, _ in events] == [True]


@pytest.mark.parametrize("level", [0.0, 0.001, 0.01, 0.1])
def test_noise_and_silence_are_not_speech(level: float) -> None:
    """Ten seconds of white noise at any level, and of digital silence, bring no event."""
    noise = np.random.default_rng(0).normal(0, 1, 10 * SAMPLE_RATE).astype(np.float32) * np.float32(level)
    assert feed(Vad(), noise) == []


def test_the_size_of_the_pieces_does_not_matter(speech: np.ndarray) -> None:
    """Any cutting of the same sound brings the same events."""
    sound = speech[: 6 * SAMPLE_RATE]
    expected = [event for event, _ in feed(Vad(), sound, piece=len(sound))]
    assert expected
    for piece in (40, 320, 511, 513, 1920):
        assert [event for event, _ in feed(Vad(), sound, piece)] == expected


def test_streams_share_the_network_and_not_their_state(speech: np.ndarray) -> None:
    """Two streams pushed in turn give what each gives alone, from one loaded network."""
    quiet = np.zeros(2 * SAMPLE_RATE, np.float32)
    loud = speech[: 2 * SAMPLE_RATE]
    first, second = Vad(detector=SileroDetector()), Vad(detector=SileroDetector())
    events: list[list[VadEvent]] = [[], []]
    for at in range(0, len(loud), 320):
        events[0] += first.push(loud[at : at + 320], at)
        events[1] += second.push(quiet[at : at + 320], at)
    assert events[0] == [event for event, _ in feed(Vad(), loud)]
    assert events[1] == []
    assert vad_module.silero_session() is vad_module.silero_session()


def test_a_jump_in_time_starts_the_window_anew(speech: np.ndarray) -> None:
    """After a gap in pts no window mixes sound from both sides, and the events carry the new pts."""
    vad = Vad()
    assert vad.push(np.zeros(500, np.float32), 0) == []
    events = feed(vad, speech[:SAMPLE_RATE], pts=1_000_000)
    assert events and events[0][0].pts >= 1_000_000
    assert (events[0][0].pts - 1_000_000) % SileroDetector.window == 0


def test_webrtcvad_takes_over_where_silero_cannot_be_loaded(
    speech: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken weights are said in the log, and speech is still noticed in time while silence is not speech."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    monkeypatch.setattr(vad_module, "WEIGHTS", broken)
    vad_module.silero_session.cache_clear()
    try:
        vad = Vad()
        assert isinstance(vad._detector, WebrtcDetector)
        assert "webrtcvad" in caplog.text
        event, pushed = feed(vad, speech, piece=80)[0]
        assert event.speaking and pushed - onset(speech) <= 64 * MS
        assert feed(Vad(), np.zeros(SAMPLE_RATE, np.float32)) == []
    finally:
        vad_module.silero_session.cache_clear()


class Scripted:
    """A detector that says what it was told."""

    window = 320

    def __init__(self, probabilities: list[float]) -> None:
        self._left = list(probabilities)

    def __call__(self, samples: np.ndarray) -> float:
        return self._left.pop(0)

    def reset(self) -> None:
        pass


def scripted(probabilities: list[float], **config: float) -> list[VadEvent]:
    vad = Vad(VadConfig(**config), Scripted(probabilities))
    return [event for event, _ in feed(vad, np.zeros(320 * len(probabilities), np.float32))]


def test_min_speech_ignores_what_is_shorter() -> None:
    """With 60 ms of minimum, 40 ms of speech bring nothing and 60 ms bring its first sample."""
    assert scripted([0, 0.9, 0.9, 0, 0], min_speech_ms=60) == []
    assert scripted([0, 0.9, 0.9, 0.9, 0], min_speech_ms=60) == [VadEvent(True, 320)]


def test_between_the_thresholds_the_state_stays() -> None:
    """A probability between both thresholds neither starts nor ends speech."""
    assert scripted([0.4] * 50) == []
    assert scripted([0.9, 0.9] + [0.4] * 50) == [VadEvent(True, 0)]
    assert scripted([0.9, 0.9] + [0.1] * 50, hang_over_ms=100) == [VadEvent(True, 0), VadEvent(False, 640)]


@pytest.mark.parametrize(
    "config", [{"start_threshold": 0.2}, {"start_threshold": 1.0}, {"end_threshold": 0.0}, {"hang_over_ms": -1}]
)
def test_impossible_configurations_are_refused(config: dict[str, float]) -> None:
    """Thresholds out of order and negative times are refused with the numbers."""
    with pytest.raises(ValueError, match=r"\d"):
        VadConfig(**config)
