"""Speech with timed phones: aligned real recordings, and synthesizers, which report their timing.

All sources are Debian packages (SOURCES lists package and licence of each). Real recordings come with their text; the
text's phonemes, from CMU's dictionary or espeak-ng, are aligned to the audio by pocketsphinx's English acoustic model,
phones of other languages through their nearest English ones; utterances with a poor alignment score are rejected.
festvox-ru has its own labels, which also serve to measure the aligner.

Needs the packages listed in SOURCES and the `train` extra; nothing here runs in a live session.
"""

import ctypes
import ctypes.util
import functools
import gzip
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from streamer.base.constants import SAMPLE_RATE
from streamer.media.recordings import BadRecording, read_recording
from streamer.training.data.coarticulation import levels
from streamer.training.data.phones import PHONES, SILENCE, TimedPhone, from_arpabet, from_festvox_ru, from_ipa, timed


@dataclass(frozen=True)
class Source:
    """A Debian package that contains speech or a synthesizer."""

    package: str
    licence: str
    path: Path


_SOUNDS = Path("/usr/share/asterisk/sounds")
_FESTVOX_RU = Path("/usr/share/festival/voices/russian/msu_ru_nsh_clunits")
_FILLETS = Path("/usr/share/games/fillets-ng")
_STAMPS = Path("/usr/share/tuxpaint/stamps")

SOURCES = {
    "asterisk-en": Source("asterisk-core-sounds-en-g722", "CC-BY-SA-3.0", _SOUNDS / "en_US_f_Allison"),
    "asterisk-es": Source("asterisk-core-sounds-es-g722", "CC-BY-SA-3.0", _SOUNDS / "es_MX_f_Allison"),
    "asterisk-fr": Source("asterisk-core-sounds-fr-g722", "CC-BY-SA-3.0", _SOUNDS / "fr_CA_f_June"),
    "asterisk-ru": Source("asterisk-core-sounds-ru-g722", "CC-BY-3.0", _SOUNDS / "ru_RU_f_IvrvoiceRU"),
    "asterisk-it": Source("asterisk-core-sounds-it-g722", "CC-BY-SA-3.0", _SOUNDS / "it_IT_m_Carlo"),
    "festvox-ru": Source("festvox-ru", "BSD-like", _FESTVOX_RU),
    "fillets-cs": Source("fillets-ng-data-cs", "GPL-2+", _FILLETS / "sound"),
    "tuxpaint": Source("tuxpaint-stamps-default", "GPL-2", _STAMPS),
    "espeak-ng": Source("espeak-ng", "GPL-3+ program; its output is its user's", Path("/usr/bin/espeak-ng")),
    "flite": Source("flite", "BSD-like (CMU)", Path("/usr/bin/flite")),
}


@dataclass(frozen=True)
class Clip:
    """One utterance, recorded or to be synthesized, and its text."""

    source: str
    speaker: str
    language: str
    text: str
    path: Path | None = None  # None: to be synthesized
    settings: tuple[tuple[str, str], ...] = ()  # the synthesizer's


@dataclass(frozen=True)
class Utterance:
    """Speech at 16 kHz with the times of its phones."""

    audio: np.ndarray  # [n] float32
    phones: list[TimedPhone]
    clip: Clip
    score: float  # of the alignment, mean log likelihood per frame; 0 if the times are known

    @property
    def licence(self) -> str:
        return SOURCES[self.clip.source].licence


class Rejected(ValueError):
    """A recording that does not match its text, or not clearly enough to be used."""


def read_audio(path: Path) -> np.ndarray:
    """Any file that PyAV reads (and bare G.722), mixed to one channel at 16 kHz: [n] float32. Raises BadRecording."""
    return read_recording(path, SAMPLE_RATE, "g722" if path.suffix == ".g722" else None)


def resample(audio: np.ndarray, rate: int, to: int = SAMPLE_RATE) -> np.ndarray:
    """[n] at `rate` -> [n * to / rate] at `to`, both float32."""
    if rate == to:
        return audio
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None], np.float32), "flt", "mono")
    frame.sample_rate = rate
    return np.concatenate([out.to_ndarray()[0] for out in [*resampler.resample(frame), *resampler.resample(None)]])


# Available recordings -------------------------------------------------------------------------------------------------


def recordings(source: str) -> list[Clip]:
    """The recordings of one source with their texts. Raises FileNotFoundError, which names the missing package."""
    where = SOURCES[source]
    if not where.path.exists():
        raise FileNotFoundError(f"{where.path} does not exist: install the Debian package {where.package}")
    if source.startswith("asterisk-"):
        return _asterisk(source)
    if source == "festvox-ru":
        return _festvox_ru()
    if source.startswith("fillets-"):
        return _fillets(source)
    if source == "tuxpaint":
        return _tuxpaint()
    raise ValueError(f"{source!r} is a synthesizer and has no recordings")


def _asterisk(source: str) -> list[Clip]:
    language = source.removeprefix("asterisk-")
    folder = SOURCES[source].path
    listing = next(Path("/usr/share/doc").glob(f"asterisk-core-sounds-{language}*/core-sounds-{language}.txt.gz"), None)
    if listing is None:
        raise FileNotFoundError(f"no texts: install the Debian package asterisk-core-sounds-{language}")
    clips = []
    for line in gzip.decompress(listing.read_bytes()).decode("utf-8-sig").splitlines():
        name, colon, text = line.partition(":")
        path = folder / f"{name.strip()}.g722"
        # Tones and other non-speech are described in brackets.
        text = re.sub(r"\(.*?\)|\[.*?\]|\.\.\.", " ", text).strip()
        if colon and text and not name.startswith(";") and path.exists():
            clips.append(Clip(source, folder.name, language, text, path))
    return clips


def _festvox_ru() -> list[Clip]:
    clips = []
    for line in (_FESTVOX_RU / "etc/txt.done.data").read_text("utf-8").splitlines():
        match = re.match(r'\(\s*(\S+)\s+"(.*)"\s*\)', line)
        if match and (_FESTVOX_RU / "lab" / f"{match[1]}.lab").exists():
            path = _FESTVOX_RU / "wav" / f"{match[1]}.wav"
            clips.append(Clip("festvox-ru", "ru_RU_m_nsh", "ru", match[2].replace("+", ""), path))
    return clips


_DIALOG = re.compile(r'dialogId\("([^"]+)".*?\)\s*\ndialogStr\("((?:[^"\\]|\\.)*)"\)')


def _fillets(source: str) -> list[Clip]:
    language = source.removeprefix("fillets-")
    clips = []
    if not (_FILLETS / "script").exists():
        raise FileNotFoundError(f"no texts in {_FILLETS / 'script'}: install the Debian package fillets-ng-data")
    for script in sorted(_FILLETS.glob(f"script/*/dialogs_{language}.lua")):
        for name, text in _DIALOG.findall(script.read_text("utf-8")):
            path = _FILLETS / "sound" / script.parent.name / language / f"{name}.ogg"
            if path.exists():
                # The small fish is m (malá), the big one v (velká); all others speak in disguise.
                role = {"m": "small", "v": "big"}.get(name.split("-")[1] if "-" in name else "", "others")
                clips.append(Clip(source, f"fillets_{language}_{role}", language, text, path))
    return clips


def _tuxpaint() -> list[Clip]:
    clips = []
    for path in sorted(_STAMPS.rglob("*_desc_??.ogg")):
        stem, language = path.name.removesuffix(".ogg").rsplit("_desc_", 1)
        texts = path.with_name(f"{stem}.txt")
        if texts.exists():
            for line in texts.read_text("utf-8", errors="replace").splitlines():
                if line.startswith(f"{language}.utf8="):
                    clips.append(Clip("tuxpaint", f"tuxpaint_{language}", language, line.partition("=")[2], path))
    return clips


# espeak-ng -----------------------------------------------------------------------------------------------------------

_EVENT_END, _EVENT_PHONEME = 0, 7
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS
_PHONEME_EVENTS_IPA = 1 | 2
_UTF8 = 1
_PARAMETER = {"rate": 1, "pitch": 3, "range": 4}


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """libespeak-ng, which keeps its state in globals: one object per process, not thread-safe."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise FileNotFoundError("libespeak-ng was not found: install the Debian package espeak-ng")
        self._library = ctypes.CDLL(name)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_IPA)
        if self.rate <= 0:
            raise RuntimeError(f"espeak_Initialize failed with {self.rate}")
        self._pieces: list[np.ndarray] = []
        self._events: list[tuple[float, str]] = []
        self._callback = _Callback(self._heard)  # keeps a reference, or ctypes would free the library's callback
        self._library.espeak_SetSynthCallback(self._callback)

    def _heard(self, samples, count: int, events) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                ipa = bytes(events[i].id.string).decode("utf-8", "ignore")
                self._events.append((events[i].audio_position / 1000, ipa))
            i += 1
        return 0

    def _choose(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")

    def words(self, text: str, language: str) -> list[list[str]]:
        """The phones of each word of `text`."""
        self._choose(language)
        buffer = ctypes.create_string_buffer(text.encode() + b"\0")
        pointer = ctypes.c_void_p(ctypes.addressof(buffer))
        words = []
        while pointer.value:
            spoken = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, 2)
            # A foreign word is marked by its language in brackets.
            for word in re.sub(r"\(.*?\)", " ", (spoken or b"").decode("utf-8", "ignore")).split():
                phones = from_ipa(word)
                if phones:
                    words.append(phones)
        return words

    def speak(self, text: str, voice: str, rate: int = 170, pitch: int = 50, range_: int = 50) -> Utterance:
        """`text` by `voice` (a language, or language+variant) at `rate` words per minute; pitch and range 0..100."""
        self._pieces, self._events = [], []
        self._choose(voice)
        for name, value in (("rate", rate), ("pitch", pitch), ("range", range_)):
            self._library.espeak_SetParameter(_PARAMETER[name], value, 0)
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, len(data), 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._pieces:
            raise Rejected(f"espeak-ng says nothing for {text!r}")
        audio = np.concatenate(self._pieces).astype(np.float32) / 32768
        length = len(audio) / self.rate
        phones: list[TimedPhone] = []
        following = [*(time for time, _ in self._events[1:]), length]
        for (start, ipa), end in zip(self._events, following, strict=True):
            # An event in brackets only marks a change of language.
            names = [] if ipa.startswith("(") else from_ipa(ipa) if ipa.strip() else [SILENCE]
            if end - start > 0.002:
                phones += timed(names, start, end)
        clip = Clip("espeak-ng", f"espeak_{voice}", voice.split("+")[0], text)
        return Utterance(resample(audio, self.rate), phones, clip, 0.0)


@functools.cache
def espeak() -> Espeak:
    """This process's espeak-ng."""
    return Espeak()


def flite(text: str, voice: str, stretch: float = 1.0, pitch: float | None = None) -> Utterance:
    """`text` by one of flite's voices, `stretch` times slower, at a mean `pitch` in Hz."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.wav")
        command = ["flite", "-voice", voice, "-psdur", "--setf", f"duration_stretch={stretch:.3f}"]
        if pitch is not None:
            command += ["--setf", f"int_f0_target_mean={pitch:.1f}"]
        try:
            done = subprocess.run([*command, "-t", text, str(out)], capture_output=True, text=True, timeout=60)
        except FileNotFoundError as error:
            raise FileNotFoundError("flite was not found: install the Debian package flite") from error
        if done.returncode != 0 or not out.exists():
            raise Rejected(f"flite failed with {done.returncode}: {done.stderr[-200:]}")
        audio = read_audio(out)
    return Utterance(audio, flite_phones(done.stdout), Clip("flite", f"flite_{voice}", "en", text), 0.0)


def flite_phones(printed: str) -> list[TimedPhone]:
    """Parses the output of `flite -psdur`: each phone with its end time; a new sentence starts again at 0."""
    phones: list[TimedPhone] = []
    base = start = 0.0
    for name, after in re.findall(r"(\S+?):([\d.]+)", printed):
        if base + float(after) < start - 1e-6:
            base = start
        phones += timed(from_arpabet(name), start, base + float(after))
        start = base + float(after)
    return phones


# Alignment -----------------------------------------------------------------------------------------------------------

# Alignments above these thresholds are accepted. Of wrong transcripts 3 in 4 score below WORST_SCORE, of right ones
# 1 in 4; a wrong one also rushes through its phones or leaves loud audio without phones.
WORST_SCORE = -33.0
MOST_HURRIED = 0.30
LEAST_COVERED = 0.80

_CENTRE = 0.01  # pocketsphinx dates a frame by the start of its 25.6 ms window


class Aligner:
    """pocketsphinx with its English acoustic model, for the phones of any language."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder  # only training needs it

        # Foreign phones match their English substitutes poorly: narrow beams would lose the right path (and so would
        # the word lattice search).
        self._decoder = Decoder(lm=None, loglevel="FATAL", beam=1e-80, pbeam=1e-80, wbeam=1e-50, bestpath=False)
        self._known: set[str] = set()

    def align(self, audio: np.ndarray, words: list[list[list[str]]]) -> tuple[list[TimedPhone], float]:
        """
        `words`: for each word its pronunciations, each a list of phones. Returns the phones' times and the mean score
        per frame. Raises Rejected if nothing fits.
        """
        if not words:
            raise Rejected("no words to align")
        decoder = self._decoder
        names = []
        for pronunciations in words:
            # A word is named by its phones ("=" keeps it apart from English words); alternatives get a numeric suffix.
            name = "=" + "|".join("_".join(phones) for phones in pronunciations)
            if name not in self._known:
                for i, phones in enumerate(pronunciations):
                    arpabet = " ".join(" ".join(PHONES[p].arpabet) for p in phones)
                    decoder.add_word(name if i == 0 else f"{name}({i + 1})", arpabet, True)
                self._known.add(name)
            names.append(name)
        pcm = (np.clip(audio, -1, 1) * 32767).astype(np.int16).tobytes()
        try:
            decoder.set_align_text(" ".join(names))
            self._decode(pcm)
            decoder.set_alignment()
            self._decode(pcm)
            alignment = decoder.get_alignment()
        except RuntimeError as error:
            raise Rejected(f"no alignment: {error}") from error
        if alignment is None:
            raise Rejected("no alignment")
        timed_phones: list[TimedPhone] = []
        total = frames = 0
        for word in alignment:
            pieces = list(word)
            if word.name.startswith(("<", "[", "+")):
                phones = [SILENCE]
            else:
                base, _, number = word.name.partition("(")
                phones = base[1:].split("|")[int(number[:-1]) - 1 if number else 0].split("_")
                total += sum(piece.score for piece in pieces)
                frames += sum(piece.duration for piece in pieces)
            i = 0
            if len(pieces) != sum(len(PHONES[p].arpabet) for p in phones):
                raise Rejected(f"{len(pieces)} pieces aligned for the phones {phones}")
            for phone in phones:
                own = pieces[i : i + len(PHONES[phone].arpabet)]
                i += len(own)
                start, end = own[0].start / 100, (own[-1].start + own[-1].duration) / 100
                timed_phones.append(TimedPhone(phone, start, end))
        if frames == 0:
            raise Rejected("an alignment without speech")
        return timed_phones, total / frames

    def _decode(self, pcm: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()


@functools.cache
def aligner() -> Aligner:
    """This process's aligner."""
    return Aligner()


@functools.cache
def _cmudict() -> dict[str, list[list[str]]]:
    """CMU's dictionary as shipped with pocketsphinx: word -> its pronunciations in phones, diphthongs as two."""
    from pocketsphinx import get_model_path

    words: dict[str, list[list[str]]] = {}
    for line in Path(get_model_path("en-us"), "cmudict-en-us.dict").read_text().splitlines():
        name, *labels = line.split()
        phones = [phone for label in labels for phone in from_arpabet(label)]
        words.setdefault(name.partition("(")[0], []).append(phones)
    return words


def pronounce(text: str, language: str) -> list[list[list[str]]]:
    """For each word of `text` its possible pronunciations."""
    if language != "en":
        return [[word] for word in espeak().words(text, language)]
    dictionary = _cmudict()
    words = []
    for token in re.findall(r"[a-z']+|\d+|[*#]", text.lower().replace("’", "'")):
        if token in dictionary:
            words.append(dictionary[token])
        else:
            words += [[word] for word in espeak().words(token, "en-us")]
    return words


def align(clip: Clip) -> Utterance:
    """A recording with the times of its phones. Raises Rejected."""
    if clip.path is None:
        raise ValueError("only a recording can be aligned")
    audio = read_audio(clip.path)
    if len(audio) < SAMPLE_RATE // 2:
        raise Rejected(f"{len(audio) / SAMPLE_RATE:.2f} s is too short")
    level = float(np.sqrt(np.mean(audio**2)))
    if level < 1e-3:
        raise Rejected(f"level {level:.5f} is silence")
    padded = np.concatenate([np.zeros(1600, np.float32), audio, np.zeros(1600, np.float32)])
    padded += np.random.default_rng(0).normal(0, 1e-4, len(padded)).astype(np.float32)
    phones, score = aligner().align(padded, pronounce(clip.text, clip.language))
    length, shift = len(audio) / SAMPLE_RATE, 0.1 - _CENTRE
    phones = [
        replace(p, start=min(max(p.start - shift, 0), length), end=min(max(p.end - shift, 0), length)) for p in phones
    ]
    _believe(audio, phones, score)
    return Utterance(audio, phones, clip, score)


def _believe(audio: np.ndarray, phones: list[TimedPhone], score: float) -> None:
    """Raises Rejected for an alignment that a wrong text could also have produced."""
    if score < WORST_SCORE:
        raise Rejected(f"score {score:.1f} is below {WORST_SCORE}")
    spoken = [p for p in phones if p.phone != SILENCE]
    hurried = float(np.mean([p.end - p.start <= 0.031 for p in spoken]))
    if hurried > MOST_HURRIED:
        raise Rejected(f"{hurried:.0%} of the phones last 30 ms, more than {MOST_HURRIED:.0%}")
    decibels = levels(audio)
    loud = np.flatnonzero(decibels > np.percentile(decibels, 95) - 20) / 100
    covered = np.zeros(len(loud), bool)
    for p in spoken:
        covered |= (loud >= p.start - 0.05) & (loud <= p.end + 0.05)
    if covered.mean() < LEAST_COVERED:
        raise Rejected(f"{covered.mean():.0%} of the loud sound has phones, less than {LEAST_COVERED:.0%}")


def labelled(clip: Clip) -> Utterance:
    """A recording of festvox-ru with its own labels."""
    if clip.path is None:
        raise ValueError("only a recording has labels")
    phones: list[TimedPhone] = []
    start = 0.0
    body = (clip.path.parent.parent / "lab" / f"{clip.path.stem}.lab").read_text().partition("#\n")[2]
    for line in body.splitlines():
        end, _, label = line.split()
        phones += timed(from_festvox_ru(label), start, float(end))
        start = float(end)
    return Utterance(read_audio(clip.path), phones, clip, 0.0)


def utterances(clips: list[Clip]) -> Iterator[Utterance]:
    """The clips with their phones, without those rejected."""
    for clip in clips:
        try:
            yield labelled(clip) if clip.source == "festvox-ru" else align(clip)
        except (Rejected, BadRecording):
            continue
