"""Queues between threads."""

import threading

import pytest

from streamer.channel import Mailbox


def test_newest_wins_and_the_loss_is_counted() -> None:
    """A full mailbox drops its oldest item, returns it and counts it."""
    box: Mailbox[int] = Mailbox(2)
    assert [box.put(i) for i in (1, 2, 3)] == [None, None, 1]
    assert box.dropped == 1
    assert [box.get(), box.get()] == [2, 3]


def test_close_ends_iteration_after_what_waits() -> None:
    """What was put before close is still delivered; then iteration ends, in another thread too."""
    box: Mailbox[int] = Mailbox(8)
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.extend(box))
    reader.start()
    for i in range(5):
        while len(box) >= 8:
            pass
        box.put(i)
    box.close()
    reader.join(5)
    assert not reader.is_alive()
    assert got == [0, 1, 2, 3, 4]
    assert box.put(9) == 9, "a closed mailbox hands the item back"


def test_get_gives_up() -> None:
    """An empty mailbox answers None once the time is over."""
    assert Mailbox().get(timeout=0.0) is None


def test_a_mailbox_holds_something() -> None:
    """A bound below one names its number."""
    with pytest.raises(ValueError, match="0"):
        Mailbox(0)
