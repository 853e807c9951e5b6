"""A bounded queue between a producer on the event loop and one consumer; on overflow the oldest item is dropped."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class DropOldestQueue(Generic[T]):
    """Async iterator over the items put in. When full, it drops its oldest item and counts it in `dropped`.

    `close` ends the iteration after the remaining items; with an error, the error is raised at that point.
    """

    def __init__(self, bound: int) -> None:
        if bound < 1:
            raise ValueError(f"bound is {bound}: a queue holds at least one item")
        self._items: deque[T] = deque()
        self._bound = bound
        self._changed = asyncio.Event()
        self._closed = False
        self._error: Exception | None = None
        self.dropped = 0

    def put(self, item: T) -> None:
        if self._closed:
            return
        if len(self._items) >= self._bound:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._changed.set()

    def close(self, error: Exception | None = None) -> None:
        if not self._closed:
            self._closed, self._error = True, error
            self._changed.set()

    def __aiter__(self) -> "DropOldestQueue[T]":
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()
