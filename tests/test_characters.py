"""The store of characters is bounded, in number and in bytes, whatever is uploaded."""

import numpy as np
import pytest

from streamer.avatar import characters
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.base.errors import RequestError


def entry(name: str, edge: int) -> CharacterRecord:
    return CharacterRecord(name, name, picture=np.zeros((edge, edge, 4), np.uint8))


def test_pictures_are_forgotten_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uploaded pictures take too much memory the least recently used goes, however few they are."""
    monkeypatch.setattr(characters, "_MOST_BYTES", 3 * 100 * 100 * 4)
    known = Characters()
    for name in ("a", "b", "c"):
        known._add(entry(name, 100))
    known.get("a")
    known._add(entry("d", 100))
    assert {each.id for each in known.all() if not each.built_in} == {"a", "c", "d"}
    with pytest.raises(RequestError, match="no character 'b'"):
        known.get("b")


def test_one_picture_is_kept_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture larger than the bound displaces all others and is there itself."""
    monkeypatch.setattr(characters, "_MOST_BYTES", 1000)
    known = Characters()
    known._add(entry("a", 10))
    known._add(entry("b", 100))
    assert {each.id for each in known.all() if not each.built_in} == {"b"}
