"""The phone inventory and its mappings."""

import numpy as np
import pytest

from streamer.motion.controls import MOUTH
from streamer.training.data.phones import PHONES, from_arpabet, from_festvox_ru, from_ipa, timed


def channel(phone: str, name: str) -> float:
    return float(PHONES[phone].target[MOUTH.index(name)])


def test_targets_are_within_the_controls_range():
    """Every target lies in 0..1 and every phone has some say."""
    for phone in PHONES.values():
        assert phone.target.shape == (len(MOUTH),)
        assert np.all((phone.target >= 0) & (phone.target <= 1)), phone.name
        assert phone.jaw > 0 and phone.lips > 0


def test_visible_classes():
    """Only p, b, m close; f and v tuck; th and l raise the tongue; s shows the teeth; aa opens widest; w rounds."""
    assert {name for name, phone in PHONES.items() if phone.closes} == {"p", "b", "m"}
    assert all(channel(p, "open") == 0 and channel(p, "press") > 0.5 for p in "pbm")
    assert {p for p in PHONES if channel(p, "tuck") > 0.5} == {"f", "v"}
    assert min(channel("th", "tongue"), channel("l", "tongue"), channel("s", "teeth"), channel("w", "round")) > 0.7
    assert max(PHONES, key=lambda p: channel(p, "open")) == "aa"


@pytest.mark.parametrize(
    ("label", "phones"),
    [("AY1", ["aa", "ih"]), ("hh", ["h"]), ("SIL", ["sil"]), ("pau", ["sil"]), ("B", ["b"]), ("ER0", ["er"])],
)
def test_arpabet(label, phones):
    """ARPAbet is read with stress, in either case, diphthongs in two."""
    assert from_arpabet(label) == phones


@pytest.mark.parametrize(
    ("ipa", "phones"),
    [
        ("həlˈəʊ", ["h", "ax", "l", "ax", "uh"]),
        ("tʃ", ["ch"]),
        ("ç", ["x"]),
        ("ɑ̃", ["aa"]),
        ("bˈuːŋ", ["b", "uw", "ng"]),
        ("pʲ", ["p"]),
        ("ʔ", []),
        ("t͡s", ["ts"]),
    ],
)
def test_ipa(ipa, phones):
    """IPA loses length, stress and nasality, and affricates become one."""
    assert from_ipa(ipa) == phones


def test_festvox_ru():
    """Doubled consonants are the palatalised ones; vowels keep their own names."""
    assert [from_festvox_ru(label)[0] for label in ("pp", "vv", "nn", "aa", "sch", "c", "pau")] == [
        "p", "v", "ny", "aa", "sh", "ts", "sil"
    ]  # fmt: skip


@pytest.mark.parametrize("mapping", [from_arpabet, from_festvox_ru, from_ipa])
def test_unknown_labels_are_named(mapping):
    """A label of no known alphabet is refused by name."""
    with pytest.raises(ValueError, match="漢"):
        mapping("漢")


def test_timed_parts_fill_the_label():
    """The phones of one label follow each other without gap from its start to its end."""
    parts = timed(from_arpabet("ay"), 1.0, 1.2)
    assert [p.phone for p in parts] == ["aa", "ih"]
    assert parts[0].start == 1.0 and parts[0].end == parts[1].start and parts[1].end == 1.2
    assert timed([], 0, 1) == []
