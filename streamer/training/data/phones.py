"""One phone inventory for all languages, with the mouth's target for each phone.

Recordings and synthesizers label speech in their own alphabets: ARPAbet (pocketsphinx, flite), IPA (espeak-ng), and
festvox-ru's. All are mapped to about fifty phones, distinguished as far as they differ in lips, jaw and tongue tip.

Letters used in shapes: M mouth channels (`len(MOUTH)` = 7).
"""

import unicodedata
from dataclasses import dataclass

import numpy as np

from streamer.motion.controls import MOUTH


@dataclass(frozen=True)
class Phone:
    """A phone's mouth target, and its dominance over neighbouring phones."""

    name: str
    target: np.ndarray  # [M] float32, in the order of controls.MOUTH
    jaw: float  # dominance over `open`
    lips: float  # dominance over the other channels
    arpabet: tuple[str, ...]  # the nearest English phones, for alignment by an English acoustic model
    closes: bool = False  # the lips close, whatever the neighbours are
    vowel: bool = False


@dataclass(frozen=True)
class TimedPhone:
    """A phone and its time, in seconds."""

    phone: str
    start: float
    end: float


SILENCE = "sil"

# name: (jaw, lips), nearest ARPAbet, targets
_VOWELS: dict[str, tuple[tuple[float, float], str, dict[str, float]]] = {
    "aa": ((1.2, 0.9), "AA", {"open": 0.90, "wide": 0.10}),
    "ae": ((1.1, 1.0), "AE", {"open": 0.80, "wide": 0.40}),
    "ah": ((1.0, 0.7), "AH", {"open": 0.60, "wide": 0.12}),
    "ax": ((0.6, 0.4), "AH", {"open": 0.40, "wide": 0.15}),
    "eh": ((1.0, 1.0), "EH", {"open": 0.58, "wide": 0.42}),
    "ih": ((0.8, 0.9), "IH", {"open": 0.38, "wide": 0.48}),
    "iy": ((0.9, 1.2), "IY", {"open": 0.27, "wide": 0.80, "teeth": 0.20}),
    "ix": ((0.8, 0.8), "IH", {"open": 0.34, "wide": 0.38}),  # the Russian ы
    "ao": ((1.1, 1.1), "AO", {"open": 0.74, "round": 0.42}),
    "ow": ((1.0, 1.3), "OW", {"open": 0.52, "round": 0.65}),
    "uh": ((0.8, 1.1), "UH", {"open": 0.36, "round": 0.50}),
    "uw": ((1.0, 1.6), "UW", {"open": 0.24, "round": 0.92}),
    "ue": ((1.0, 1.5), "UW", {"open": 0.24, "round": 0.85}),  # the French u
    "oe": ((0.9, 1.2), "ER", {"open": 0.48, "round": 0.60}),  # the French eu
    "er": ((0.9, 0.9), "ER", {"open": 0.38, "round": 0.35}),
}
_CONSONANTS: dict[str, tuple[tuple[float, float], str, dict[str, float]]] = {
    "p": ((5.0, 1.3), "P", {"press": 1.0}),
    "b": ((5.0, 1.3), "B", {"press": 0.9}),
    "m": ((5.0, 1.3), "M", {"press": 0.8}),
    "f": ((3.0, 2.0), "F", {"open": 0.10, "tuck": 1.0}),
    "v": ((2.6, 1.8), "V", {"open": 0.12, "tuck": 0.85}),
    "th": ((1.2, 1.3), "TH", {"open": 0.22, "tongue": 0.95, "teeth": 0.15}),
    "dh": ((1.0, 1.1), "DH", {"open": 0.24, "tongue": 0.85, "teeth": 0.15}),
    "t": ((1.0, 0.7), "T", {"open": 0.18, "wide": 0.20, "tongue": 0.45, "teeth": 0.45}),
    "d": ((0.9, 0.7), "D", {"open": 0.20, "wide": 0.18, "tongue": 0.50, "teeth": 0.35}),
    "n": ((0.8, 0.6), "N", {"open": 0.22, "wide": 0.18, "tongue": 0.55, "teeth": 0.20}),
    "ny": ((0.8, 0.8), "N", {"open": 0.22, "wide": 0.40, "tongue": 0.45, "teeth": 0.20}),
    "l": ((0.8, 0.7), "L", {"open": 0.32, "wide": 0.15, "tongue": 0.80}),
    "ll": ((0.8, 0.7), "L Y", {"open": 0.28, "wide": 0.35, "tongue": 0.60}),
    "r": ((0.8, 1.0), "R", {"open": 0.28, "round": 0.42}),
    "rr": ((0.8, 0.5), "R", {"open": 0.30, "wide": 0.12, "tongue": 0.45, "teeth": 0.15}),  # tapped or trilled
    "s": ((1.6, 1.1), "S", {"open": 0.09, "wide": 0.38, "teeth": 1.0}),
    "z": ((1.5, 1.0), "Z", {"open": 0.10, "wide": 0.36, "teeth": 0.95}),
    "ts": ((1.5, 1.0), "T S", {"open": 0.10, "wide": 0.32, "tongue": 0.2, "teeth": 0.9}),
    "sh": ((1.4, 1.4), "SH", {"open": 0.16, "round": 0.50, "teeth": 0.90}),
    "zh": ((1.3, 1.3), "ZH", {"open": 0.17, "round": 0.50, "teeth": 0.85}),
    "ch": ((1.4, 1.3), "CH", {"open": 0.14, "round": 0.48, "teeth": 0.90}),
    "jh": ((1.3, 1.2), "JH", {"open": 0.15, "round": 0.46, "teeth": 0.85}),
    "k": ((0.5, 0.3), "K", {"open": 0.28, "wide": 0.10}),
    "g": ((0.5, 0.3), "G", {"open": 0.28, "wide": 0.10}),
    "ng": ((0.5, 0.3), "NG", {"open": 0.28, "wide": 0.10}),
    "h": ((0.2, 0.1), "HH", {"open": 0.40}),
    "x": ((0.4, 0.2), "HH", {"open": 0.32}),
    "w": ((1.8, 2.0), "W", {"open": 0.14, "round": 1.0}),
    "y": ((0.9, 1.0), "Y", {"open": 0.25, "wide": 0.65, "teeth": 0.15}),
    "bh": ((2.0, 1.2), "V", {"open": 0.10, "press": 0.15}),  # lips close together, as in the Spanish haber
}


def _inventory() -> dict[str, Phone]:
    phones = {SILENCE: Phone(SILENCE, np.zeros(len(MOUTH), np.float32), 0.7, 0.6, ("SIL",))}
    for group, vowel in ((_VOWELS, True), (_CONSONANTS, False)):
        for name, ((jaw, lips), arpabet, channels) in group.items():
            target = np.array([channels.get(channel, 0.0) for channel in MOUTH], np.float32)
            phones[name] = Phone(name, target, jaw, lips, tuple(arpabet.split()), name in "pbm", vowel)
    return phones


PHONES = _inventory()
NAMES = tuple(PHONES)
INDEX = {name: i for i, name in enumerate(NAMES)}

_ARPABET = {
    "ay": "aa ih", "aw": "aa uh", "ey": "eh ih", "oy": "ao ih", "ow": "ow uh", "hh": "h", "axr": "er", "el": "ax l",
    "em": "m", "en": "n", "dx": "d", "nx": "n", "pau": "sil", "ssil": "sil", "+spn+": "sil", "+nsn+": "sil", "": "sil",
}  # fmt: skip

# Diphthongs glide: their second half is a phone of its own, starting at this fraction of the whole.
GLIDE_FROM = 0.6


def from_arpabet(label: str) -> list[str]:
    """Converts an ARPAbet label, with or without stress and in either case, to one phone or a diphthong's two."""
    name = label.lower().rstrip("0123456789")
    return _known(_ARPABET.get(name, name).split(), label, "ARPAbet")


_FESTVOX_RU = {
    "pau": "sil", "a": "ah", "aa": "aa", "ay": "ax", "ae": "ih", "e": "eh", "ee": "eh", "i": "ih", "ii": "iy",
    "o": "ow", "oo": "ow", "u": "uw", "ur": "uh", "uu": "uw", "y": "ix", "yy": "ix", "j": "y",
    "r": "rr", "rr": "rr", "l": "l", "ll": "l", "nn": "ny", "h": "x", "hh": "x", "c": "ts", "ch": "ch", "sch": "sh",
}  # fmt: skip


def from_festvox_ru(label: str) -> list[str]:
    """Converts a festvox-ru label; a doubled consonant is its palatalised variant."""
    name = _FESTVOX_RU.get(label)
    if name is None:
        name = label[0] if len(label) == 2 and label[0] == label[1] else label
    return _known([name], label, "festvox-ru")


_IPA = {
    "a": "aa", "ɑ": "aa", "ɐ": "ah", "ʌ": "ah", "æ": "ae", "ɒ": "ao", "ɔ": "ao", "o": "ow", "ɤ": "ah", "ə": "ax",
    "ɘ": "ax", "ɚ": "er", "ɜ": "er", "ɝ": "er", "ᵻ": "ih", "e": "eh", "ɛ": "eh", "ε": "eh", "ɪ": "ih", "i": "iy",
    "ɨ": "ix", "ɯ": "ix", "u": "uw", "ʊ": "uh", "ʉ": "ue", "y": "ue", "ʏ": "ue", "ø": "oe", "œ": "oe", "ɵ": "oe",
    "ɞ": "er", "ɶ": "oe", "p": "p", "b": "b", "m": "m", "ɱ": "m", "f": "f", "v": "v", "ʋ": "v", "β": "bh", "ɸ": "f",
    "θ": "th", "ð": "dh", "t": "t", "d": "d", "ʈ": "t", "ɖ": "d", "n": "n", "ɳ": "n", "ɲ": "ny", "ŋ": "ng", "ɴ": "ng",
    "l": "l", "ɫ": "l", "ɭ": "l", "ʎ": "ll", "ɬ": "l", "r": "rr", "ɾ": "rr", "ɽ": "rr", "ɹ": "r", "ɻ": "r", "ʁ": "x",
    "ʀ": "x", "s": "s", "z": "z", "ʃ": "sh", "ʒ": "zh", "ʂ": "sh", "ʐ": "zh", "ɕ": "sh", "ʑ": "zh", "c": "k",
    "ɟ": "g", "k": "k", "ɡ": "g", "g": "g", "q": "k", "x": "x", "χ": "x", "ɣ": "x", "ç": "x", "ʝ": "y", "h": "h",
    "ɦ": "h", "ħ": "h", "ʔ": "", "ʕ": "h", "w": "w", "ʍ": "w", "ɥ": "w", "j": "y", "ɰ": "x",
}  # fmt: skip
_AFFRICATES = {("t", "sh"): "ch", ("d", "zh"): "jh", ("t", "s"): "ts", ("d", "z"): "ts"}


def from_ipa(text: str) -> list[str]:
    """
    Converts espeak-ng's IPA (one phoneme, or a word) to phones. Length, stress, tone and nasality are invisible on the
    mouth and are dropped; t+ʃ and similar become one affricate; unknown letters raise ValueError.
    """
    phones: list[str] = []
    for letter in unicodedata.normalize("NFD", text):
        if letter == "\u0327" and phones and phones[-1] == "k":  # ç, decomposed by the normalisation
            phones[-1] = "x"
        elif unicodedata.category(letter) in ("Mn", "Lm", "Sk", "Nd", "Po", "Pd", "Zs", "Cf", "Pc", "Sm"):
            continue
        elif letter in _IPA:
            if _IPA[letter]:
                phones.append(_IPA[letter])
        else:
            raise ValueError(f"no phone for the IPA letter {letter!r} (U+{ord(letter):04X}) in {text!r}")
    merged: list[str] = []
    for phone in phones:
        if merged and (merged[-1], phone) in _AFFRICATES:
            merged[-1] = _AFFRICATES[merged[-1], phone]
        else:
            merged.append(phone)
    return merged


def _known(names: list[str], label: str, alphabet: str) -> list[str]:
    for name in names:
        if name not in PHONES:
            raise ValueError(f"no phone for the {alphabet} label {label!r}")
    return names


def timed(names: list[str], start: float, end: float) -> list[TimedPhone]:
    """Divides a label's time among its phones: a diphthong's glide takes the last part, others share equally."""
    if not names:
        return []
    if len(names) == 2 and PHONES[names[0]].vowel and PHONES[names[1]].vowel:
        middle = start + GLIDE_FROM * (end - start)
        return [TimedPhone(names[0], start, middle), TimedPhone(names[1], middle, end)]
    edges = np.linspace(start, end, len(names) + 1)
    return [TimedPhone(name, float(a), float(b)) for name, a, b in zip(names, edges, edges[1:], strict=False)]
