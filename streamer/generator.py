"""The engine: one thread that runs the steps of all sessions on a device, earliest deadline first.

A session that fell behind hears every step, which is cheap and keeps its state whole, but only its newest frame is
drawn: late work is dropped whole, never queued.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from streamer import clock
from streamer.config import FPS
from streamer.messages import Frame, Step
from streamer.pipeline import Avatar
from streamer.vad import VadEvent

log = logging.getLogger(__name__)

_MOST_WAITING = 50  # steps a seat may have waiting (2 s); beyond it the oldest are dropped unheard
_SMOOTHING = 0.05


@dataclass
class Seat:
    """One session's place in the engine."""

    avatar: Avatar
    on_frame: Callable[[Frame], None]
    on_voice: Callable[[list[VadEvent]], None]
    on_failure: Callable[[Exception], None]
    engine: "Engine"
    waiting: deque[Step]
    skipped: int = 0
    """Frames heard but not drawn, because a newer one was already waiting."""
    unheard: int = 0
    """Steps dropped because more than two seconds of them were waiting."""
    cost: float = 0.0
    """Seconds of the engine's thread that a frame takes, smoothed."""
    closed: bool = False

    def submit(self, step: Step) -> None:
        self.engine._submit(self, step)

    def close(self) -> None:
        """Gives the place up; idempotent. The avatar is closed by the engine's thread once its step is done."""
        self.engine._close(self)


class Engine:
    """Runs steps. `start` and `close` are idempotent; `close` is safe before `start`."""

    def __init__(self, on_step: Callable[[float], None] = lambda seconds: None) -> None:
        self._seats: list[Seat] = []
        self._leaving: list[Seat] = []
        self._work = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="generator", daemon=True)
        self._on_step = on_step

    def start(self) -> None:
        if not self._thread.is_alive():
            self._thread.start()

    def close(self) -> None:
        with self._work:
            self._stopping = True
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def add(
        self,
        avatar: Avatar,
        on_frame: Callable[[Frame], None],
        on_voice: Callable[[list[VadEvent]], None],
        on_failure: Callable[[Exception], None],
    ) -> Seat:
        """Seats a session. The callbacks are called on the engine's thread."""
        seat = Seat(avatar, on_frame, on_voice, on_failure, self, deque())
        with self._work:
            self._seats.append(seat)
        return seat

    @property
    def load(self) -> float:
        """Share of the thread's time that the seated sessions need at 25 fps: 1 is all of it."""
        with self._work:
            return sum(seat.cost for seat in self._seats) * FPS

    def _submit(self, seat: Seat, step: Step) -> None:
        with self._work:
            if seat.closed:
                return
            if len(seat.waiting) >= _MOST_WAITING:
                seat.waiting.popleft()
                seat.unheard += 1
            seat.waiting.append(step)
            self._work.notify()

    def _close(self, seat: Seat) -> None:
        with self._work:
            if seat.closed:
                return
            seat.closed = True
            self._seats.remove(seat)
            if self._thread.is_alive() and not self._stopping:
                self._leaving.append(seat)
                self._work.notify()
                return
        seat.avatar.close()

    def _take(self) -> tuple[Seat, list[Step]] | None:
        """Waits for work: the seat whose oldest step arrived first, with all its steps. None to end."""
        with self._work:
            while True:
                for seat in self._leaving:
                    seat.avatar.close()
                self._leaving.clear()
                if self._stopping:
                    return None
                ready = [seat for seat in self._seats if seat.waiting]
                if ready:
                    seat = min(ready, key=lambda s: s.waiting[0].times.arrived)
                    steps = list(seat.waiting)
                    seat.waiting.clear()
                    return seat, steps
                self._work.wait()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            seat, steps = taken
            try:
                self._step(seat, steps)
            except Exception as error:  # one session's failure must not reach the others
                log.exception("a step failed")
                seat.on_failure(error)

    def _step(self, seat: Seat, steps: list[Step]) -> None:
        started = clock.now()
        events: list[VadEvent] = []
        for step in steps:
            controls, heard = seat.avatar.hear(step)
            events += heard
        newest = steps[-1]
        seat.skipped += len(steps) - 1
        if events:
            seat.on_voice(events)
        image = seat.avatar.draw(controls, newest.frame / FPS).copy()
        newest.times.started = started
        newest.times.drawn = clock.now()
        seconds = newest.times.drawn - started
        seat.cost = seconds if seat.cost == 0.0 else seat.cost + _SMOOTHING * (seconds - seat.cost)
        self._on_step(seconds)
        seat.on_frame(Frame(newest.frame, newest.epoch, image, newest.times))
