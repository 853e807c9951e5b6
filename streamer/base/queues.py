"""Queues between stages: each has a bound, a named overflow policy and a counter."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Overtaken(Exception):
    """The waiting operation was cancelled because a newer one arrived."""


class LatestOnlyLock:
    """A lock with one holder and one waiter: a newer arrival replaces the waiter, which raises `Overtaken`.

    An asynchronous context manager, for requests that supersede each other, where only the newest matters.
    """

    def __init__(self) -> None:
        self._busy = False
        self._waiting: asyncio.Future[None] | None = None

    async def __aenter__(self) -> None:
        if not self._busy:
            self._busy = True
            return
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Overtaken())
        mine = self._waiting = asyncio.get_running_loop().create_future()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.exception() is None:
                self._hand_on()  # cancelled after the lock was already handed to us
            raise

    async def __aexit__(self, *_: object) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        self._busy = waiting is not None and not waiting.done()
        if self._busy:
            assert waiting is not None
            waiting.set_result(None)


class Mailbox(Generic[T]):
    """A bounded queue between threads. Overflow policy: newest wins; the oldest item is dropped and counted.

    Suits live video, where a superseded frame is worthless. `close()` ends iteration.
    """

    def __init__(self, bound: int = 1) -> None:
        if bound < 1:
            raise ValueError(f"bound is {bound}: a mailbox holds at least one item")
        self._items: deque[T] = deque()
        self._bound = bound
        self._ready = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, item: T) -> T | None:
        """Adds an item. Returns the item it displaced, or `item` itself if the mailbox is closed."""
        with self._ready:
            if self._closed:
                return item
            displaced = None
            if len(self._items) >= self._bound:
                displaced = self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._ready.notify()
            return displaced

    def get(self, timeout: float | None = None) -> T | None:
        """Returns the oldest item; None once closed and empty, or after `timeout` seconds."""
        with self._ready:
            self._ready.wait_for(lambda: self._items or self._closed, timeout)
            return self._items.popleft() if self._items else None

    def close(self) -> None:
        """Rejects further items; queued ones can still be taken."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        while (item := self.get()) is not None:
            yield item
