"""Speech with timed phones, and the set made of it. What needs a Debian package or the aligner skips without it."""

import ctypes.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamer.base.constants import FPS, SAMPLE_RATE
from streamer.media.recordings import BadRecording
from streamer.motion.controls import MOUTH
from streamer.training.data import corpora, dataset
from streamer.training.data.corpora import Clip, Rejected, Utterance, flite_phones
from streamer.training.data.dataset import (
    Task,
    coloured,
    noise,
    opus,
    read_shard,
    room,
    split_of,
    stretch,
    variant,
    warped,
)
from streamer.training.data.phones import INDEX, TimedPhone

needs_espeak = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="libespeak-ng is missing")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is missing")


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def frequency(audio: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return float(spectrum.argmax() * SAMPLE_RATE / len(audio))


def hummed(names: str, seconds: float = 0.15, speaker: str = "someone", language: str = "en") -> Utterance:
    """An utterance of a tone, with phones of equal length."""
    phones = [TimedPhone(n, i * seconds, (i + 1) * seconds) for i, n in enumerate(names.split())]
    audio = tone(150, len(phones) * seconds)
    return Utterance(audio, phones, Clip("festvox-ru", speaker, language, names), 0.0)


# The sound


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_stretching_keeps_the_pitch(factor):
    """A stretched tone is longer and as high as before."""
    longer = stretch(tone(220), factor)
    assert len(longer) == pytest.approx(factor * SAMPLE_RATE, rel=0.01)
    assert frequency(longer[1000:-1000]) == pytest.approx(220, abs=6)
    assert np.abs(longer[2000:-2000]).max() == pytest.approx(0.3, rel=0.15)


def test_a_longer_vocal_tract_is_lower_and_the_phones_keep_to_the_sound():
    """Size lowers the pitch, rate shortens, and phones end with the audio in every case."""
    said = hummed("aa p aa s", 0.25)
    for size, rate in ((1.15, 1.0), (0.9, 1.2), (1.0, 0.8)):
        changed = warped(said, size, rate)
        assert frequency(changed.audio[800:-800]) == pytest.approx(150 / size, rel=0.05)
        assert len(changed.audio) == pytest.approx(len(said.audio) / rate, rel=0.02)
        assert changed.phones[-1].end == pytest.approx(len(changed.audio) / SAMPLE_RATE, abs=1e-3)


def test_opus_comes_back_in_step():
    """What has passed the codec of the live path is neither early nor late by more than half a millisecond."""
    rng = np.random.default_rng(0)
    audio = (noise(SAMPLE_RATE, rng) * 0.05 * (np.sin(np.arange(SAMPLE_RATE) / 900) > 0)).astype(np.float32)
    heard = opus(audio, 32_000)
    assert len(heard) == len(audio)
    size = 1 << 16
    match = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(audio, size)))
    delay = int(match.argmax())
    assert min(delay, size - delay) <= 8


def test_rooms_noise_and_microphones_keep_the_length_and_the_seed():
    """Each change is finite, of the same length, and the same for the same seed."""
    audio = tone(300)
    for change in (room, coloured, lambda a, rng: noise(len(a), rng)):
        first, again = (change(audio, np.random.default_rng(5)) for _ in range(2))
        assert len(first) == len(audio) and np.isfinite(first).all()
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, audio)


def test_resampling_keeps_the_tone():
    """A tone at 22.05 kHz is the same tone at 16 kHz."""
    t = np.arange(22_050) / 22_050
    audio = corpora.resample(np.sin(2 * np.pi * 440 * t).astype(np.float32), 22_050)
    assert len(audio) == pytest.approx(SAMPLE_RATE, abs=40)
    assert frequency(audio) == pytest.approx(440, abs=2)


# The set


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_variant_has_truth_for_every_frame_and_closes_for_p(number):
    """Sound, mouth and prosody of a variant agree, and its p is closed where its phones say."""
    heard, mouth, prosody, phones = variant(hummed("aa p aa s"), number, False, np.random.default_rng(number))
    assert len(mouth) == len(prosody) == len(heard) // 640 + 1
    assert heard.dtype == np.float32 and np.abs(heard).max() <= 1
    (p,) = (phone for phone in phones if phone.phone == "p")
    frames = slice(round(p.start * FPS), round(p.end * FPS) + 1)
    assert mouth[frames, MOUTH.index("open")].min() == 0


def test_held_out_speech_only_passes_the_codec():
    """A held-out speaker is never warped: both variants last as long as the recording and its silences."""
    said = hummed("aa p aa s")
    _, _, _, phones = variant(said, 1, True, np.random.default_rng(1))
    spoken = [p for p in phones if p.phone != "sil"]
    assert spoken[-1].end - spoken[0].start == pytest.approx(0.6)


def test_whole_speakers_and_italian_are_held_out():
    """No sentence of a held-out speaker or in Italian is trained on, and a sentence is always on the same side."""
    for speaker in dataset.HELD_OUT:
        assert split_of(Clip("tuxpaint", speaker, "en", "whatever")) == "test"
    assert split_of(Clip("espeak-ng", "new", "it", "ciao")) == "test"
    sides = {split_of(Clip("flite", who, "en", f"sentence {i}")) for i in range(300) for who in ("a", "b")}
    assert sides == {"train", "val"}
    for i in range(50):
        assert len({split_of(Clip("flite", who, "en", f"sentence {i}")) for who in ("a", "b")}) == 1


def test_nothing_synthesized_is_italian():
    """The languages that synthesizers speak leave Italian out."""
    assert "it" not in dataset._ESPEAK_LANGUAGES


def test_a_shard_gives_back_what_was_put_in(tmp_path, monkeypatch):
    """Arrays and lines of a shard survive the disk, and rejected clips are counted."""
    good, bad = hummed("m aa m"), hummed("t")

    def utterance_of(clip: Clip) -> Utterance:
        if clip.text == "t":
            raise Rejected("a test's own")
        return good

    monkeypatch.setattr(dataset, "utterance_of", utterance_of)
    tasks = [Task(good.clip, 2, 1), Task(bad.clip, 2, 2), Task(good.clip, 1, 3)]
    number, lines, rejected = dataset._build_shard((7, tasks, str(tmp_path)))
    back = list(read_shard(tmp_path / "shard_0007.npz"))
    assert (number, rejected, len(lines), len(back)) == (7, 1, 3, 3)
    assert [line for line, _ in back] == json.loads(json.dumps(lines))
    for line, arrays in back:
        assert line["seconds"] == pytest.approx(len(arrays["audio"]) / SAMPLE_RATE, abs=1e-3)
        assert INDEX["m"] in arrays["phone"] and len(arrays["phone"]) == len(arrays["times"])
        assert line["licence"] == "BSD-like"


# The sources


def test_flite_prints_ends_and_starts_each_sentence_anew():
    """The second sentence's times follow the first's."""
    phones = flite_phones("pau:0.1 ay:0.3 pau:0.5 pau:0.1 b:0.2 pau:0.4")
    assert [p.phone for p in phones] == ["sil", "aa", "ih", "sil", "sil", "b", "sil"]
    assert [round(p.start, 3) for p in phones] == [0, 0.1, 0.22, 0.3, 0.5, 0.6, 0.7]
    assert phones[-1].end == pytest.approx(0.9)


def test_alignments_that_a_wrong_text_would_get_are_rejected():
    """A bad score, phones in a hurry, and loud sound without phones are each refused with their number."""
    audio = tone(150, 2.0)
    fine = [TimedPhone("aa", i * 0.1, (i + 1) * 0.1) for i in range(20)]
    corpora._believe(audio, fine, -10.0)
    with pytest.raises(Rejected, match=r"score -50\.0"):
        corpora._believe(audio, fine, -50.0)
    with pytest.raises(Rejected, match="100%"):
        corpora._believe(audio, [TimedPhone("aa", 0, 0.03)] * 5, -10.0)
    with pytest.raises(Rejected, match="loud sound"):
        corpora._believe(audio, fine[:8], -10.0)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    """Whoever lacks a source learns which package to install."""
    monkeypatch.setitem(
        corpora.SOURCES, "festvox-ru", replace(corpora.SOURCES["festvox-ru"], path=tmp_path / "nowhere")
    )
    with pytest.raises(FileNotFoundError, match="Debian package festvox-ru"):
        corpora.recordings("festvox-ru")
    assert dataset.main([str(tmp_path / "set"), "--limit", "1"]) == 1


def test_every_source_has_a_licence():
    """Nothing of unknown licence is in the list."""
    assert all(source.licence and source.package for source in corpora.SOURCES.values())


@needs_espeak
def test_espeak_says_when_it_says_what():
    """The phones of espeak-ng follow one another to the end of its sound, and vowels are louder than silence."""
    said = corpora.espeak().speak("Bob met the people.", "en-us", 160)
    names = [p.phone for p in said.phones if p.phone != "sil"]
    assert names[:3] == ["b", "aa", "b"] and names.count("p") == 2
    assert all(a.end == pytest.approx(b.start, abs=0.01) for a, b in zip(said.phones, said.phones[1:], strict=False))
    assert said.phones[-1].end == pytest.approx(len(said.audio) / SAMPLE_RATE, abs=0.02)
    vowel = next(p for p in said.phones if p.phone == "iy")
    part = said.audio[int(vowel.start * SAMPLE_RATE) : int(vowel.end * SAMPLE_RATE)]
    assert np.sqrt(np.mean(part**2)) > 0.02


@needs_espeak
def test_espeak_pronounces_other_languages_and_refuses_unknown_voices():
    """Words of a language become phones; a voice that does not exist is named."""
    assert corpora.espeak().words("Guten Morgen", "de")[0][:2] == ["g", "uw"]
    assert [word[0] for word in corpora.espeak().words("бабушка помогла", "ru")] == ["b", "p"]
    with pytest.raises(ValueError, match="nobody"):
        corpora.espeak().speak("hello", "nobody")


@needs_flite
def test_the_aligner_finds_what_flite_said():
    """Forced alignment of flite's voice puts phones within 25 ms of flite's own times, and rejects another text."""
    pytest.importorskip("pocketsphinx")
    text = "please leave a message after the tone and hang up when you are finished"
    said = corpora.flite(text, "slt")
    found, score = corpora.aligner().align(said.audio, corpora.pronounce(text, "en"))
    true = [p.start for p in said.phones if p.phone == "s"]
    told = [p.start for p in found if p.phone == "s"]
    assert len(true) == len(told)
    assert np.median(np.abs(np.subtract(true, told))) < 0.025
    with pytest.raises(Rejected):
        wrong, other = corpora.aligner().align(
            said.audio, corpora.pronounce("bananas grow on trees in the jungle", "en")
        )
        corpora._believe(said.audio, wrong, other)


def test_audio_that_is_none_is_refused(tmp_path):
    """A file of text is no sound."""
    path = Path(tmp_path, "text.ogg")
    path.write_text("not a sound")
    with pytest.raises(BadRecording, match="text.ogg could not be read"):
        corpora.read_audio(path)
