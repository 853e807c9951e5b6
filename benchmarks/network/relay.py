"""A UDP relay on loopback that loses, delays, reorders and holds datagrams: a bad network between two local programs.

A process of its own, so that neither end's load delays it. It prints its two ports as JSON, then takes orders, one JSON
object a line: {"loss": 0.05, "jitter": 0.02, "reorder": 0.05, "hold": false, "server": 40000, "browser": 50000}.
What is not named stays. Datagrams to port `a` go on to the server, datagrams to `b` to the browser, both ways alike:

    browser ──▶ a │ relay │ ──▶ server          browser ◀── │ relay │ b ◀── server
"""

import heapq
import itertools
import json
import os
import random
import select
import socket
import sys
import time
from dataclasses import dataclass

MOST_HELD = 4096  # datagrams; beyond it the newest are lost, as in any queue


@dataclass
class Faults:
    """What the path does to each datagram. Shares, seconds."""

    loss: float = 0.0
    jitter: float = 0.0
    """Mean of an exponential delay; order is kept."""
    reorder: float = 0.0
    """Share that takes 15 to 45 ms longer and is overtaken."""
    hold: bool = False
    """Nothing passes; what came meanwhile goes on in one burst when it ends."""


class Path:
    """One direction. Pure: datagrams and moments in, datagrams and moments out."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults = faults
        self.lost = 0
        self.passed = 0
        self._random = random.Random(seed)
        self._held: list[bytes] = []
        self._queue: list[tuple[float, int, bytes]] = []
        self._order = itertools.count()
        self._last = 0.0

    def push(self, data: bytes, now: float) -> None:
        faults = self.faults
        if self._random.random() < faults.loss or len(self._held) + len(self._queue) >= MOST_HELD:
            self.lost += 1
            return
        if faults.hold:
            self._held.append(data)
            return
        at = now + (self._random.expovariate(1 / faults.jitter) if faults.jitter else 0.0)
        if self._random.random() < faults.reorder:
            at += self._random.uniform(0.015, 0.045)
        else:
            at = self._last = max(at, self._last)
        heapq.heappush(self._queue, (at, next(self._order), data))

    def due(self, now: float) -> list[bytes]:
        if not self.faults.hold and self._held:
            for data in self._held:
                heapq.heappush(self._queue, (now, next(self._order), data))
            self._held.clear()
        out = []
        while self._queue and self._queue[0][0] <= now:
            out.append(heapq.heappop(self._queue)[2])
        self.passed += len(out)
        return out

    def next_due(self) -> float | None:
        return self._queue[0][0] if self._queue else None


def main() -> int:
    faults = Faults()
    a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for one in (a, b):
        one.bind(("127.0.0.1", 0))
        one.setblocking(False)
    # Each direction: where it comes in, where it leaves, whom it goes to.
    up, down = Path(faults, 1), Path(faults, 2)
    ports: dict[str, int] = {}
    print(json.dumps({"a": a.getsockname()[1], "b": b.getsockname()[1]}), flush=True)
    orders = b""
    ways = ((a, b, up, "server"), (b, a, down, "browser"))
    while True:
        moments = [moment for path in (up, down) if (moment := path.next_due()) is not None]
        wait = max(0.0, min(moments) - time.monotonic()) if moments else 0.05
        watched: list[socket.socket | int] = [a, b, 0]
        ready, _, _ = select.select(watched, [], [], wait)
        if 0 in ready:  # standard input, read without a buffer that select could not see into
            read = os.read(0, 65536)
            if not read:
                return 0
            *lines, orders = (orders + read).split(b"\n")
            for order in map(json.loads, lines):
                ports.update({name: int(order[name]) for name in ("server", "browser") if name in order})
                for name in ("loss", "jitter", "reorder", "hold"):
                    setattr(faults, name, order.get(name, getattr(faults, name)))
        for come, leave, path, whom in ways:
            if come in ready:
                for _ in range(64):
                    try:
                        data, (_, port) = come.recvfrom(65536)
                    except (BlockingIOError, ConnectionError):
                        break
                    if whom == "server":
                        ports["browser"] = port  # the sender on this side is the browser
                    path.push(data, time.monotonic())
            for data in path.due(time.monotonic()):
                if whom in ports:
                    try:
                        leave.sendto(data, ("127.0.0.1", ports[whom]))
                    except OSError:
                        path.lost += 1


if __name__ == "__main__":
    sys.exit(main())
