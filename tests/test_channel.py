"""Queues between threads, turns between tasks."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from streamer.base.queues import LatestOnlyLock, Mailbox, Overtaken


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


class TestTurn:
    """One at work, one waiting, the newest."""

    async def test_the_newest_waits_and_the_others_are_told(self) -> None:
        """Of four at once the first and the last are done, in order; the two between are told that they are not."""
        turn, go, done = LatestOnlyLock(), asyncio.Event(), []

        async def work(name: int) -> None:
            async with turn:
                await go.wait()
                done.append(name)

        tasks = []
        for name in range(4):
            tasks.append(asyncio.create_task(work(name)))
            await asyncio.sleep(0)
        go.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert done == [0, 3]
        assert [type(outcome) for outcome in outcomes] == [type(None), Overtaken, Overtaken, type(None)]
        async with turn:  # it is free again
            pass

    async def test_a_failure_hands_on(self) -> None:
        """What fails at work does not keep the next from it."""
        turn = LatestOnlyLock()

        async def fail() -> None:
            async with turn:
                await asyncio.sleep(0)
                raise KeyError("mine")

        async def work() -> str:
            async with turn:
                return "done"

        outcomes = await asyncio.gather(fail(), work(), return_exceptions=True)
        assert isinstance(outcomes[0], KeyError)
        assert outcomes[1] == "done"

    @pytest.mark.parametrize("handed", [False, True])
    async def test_one_who_is_cancelled_keeps_nobody(self, handed: bool) -> None:
        """Cancelled while waiting, or just when its turn has come: the next has it."""
        turn, go = LatestOnlyLock(), asyncio.Event()

        async def work(then: Callable[[], object] = lambda: None) -> str:
            async with turn:
                await go.wait()
            then()
            return "done"

        first = asyncio.create_task(work(lambda: handed and second.cancel()))
        await asyncio.sleep(0)
        second = asyncio.create_task(work())
        await asyncio.sleep(0)
        if not handed:
            second.cancel()
            await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, second, return_exceptions=True)
        assert second.cancelled()
        assert await asyncio.wait_for(work(), 1) == "done"
