"""The engine: one thread that runs the steps of all sessions on a device, earliest deadline first.

A session that fell behind hears every step, which is cheap and keeps its state whole, but only its newest frame is
drawn: late work is dropped whole, never queued.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamer.audio.vad import VadEvent
from streamer.avatar.avatar import Avatar, render_batch
from streamer.base import clock
from streamer.base.constants import FPS
from streamer.base.frames import Frame, Step
from streamer.base.image import Picture

log = logging.getLogger(__name__)

_MOST_WAITING = 50  # steps a seat may have waiting (2 s); beyond it the oldest are dropped unheard
_SMOOTHING = 0.05  # a frame's weight in a seat's cost; its first frames count as much as one another
_MOST_SPOILT = 25  # frames in a row that hold no numbers, after which a session is given up


@dataclass
class EngineSlot:
    """One session's place in the engine."""

    avatar: Avatar
    on_frame: Callable[[Frame], None]
    on_voice: Callable[[list[VadEvent]], None]
    on_failure: Callable[[Exception], None]
    engine: "Engine"
    waiting: deque[Step]
    skipped: int = 0
    """Frames heard but not drawn, because a newer one was already waiting, or which held no numbers."""
    unheard: int = 0
    """Steps dropped because more than two seconds of them were waiting."""
    cost: float = 0.0
    """Seconds of the engine's thread that a frame takes, smoothed; of the renderer that drew the last one."""
    renderer: str = ""
    """What drew the last frame, one of config.RENDERERS; empty before the first."""
    drawn: int = 0
    """Frames that it has drawn without a break."""
    nonfinite_frames: int = 0
    """Frames in a row that held no numbers (an ArithmeticError): left out, since the next may be whole again."""
    closed: bool = False

    @property
    def frames_skipped(self) -> int:
        """Frames that were never drawn, for whichever reason."""
        return self.skipped + self.unheard

    def took(self, renderer: str, seconds: float) -> None:
        """Counts a drawn frame. What another renderer took says nothing of what this one takes."""
        if renderer != self.renderer:
            self.renderer, self.drawn, self.cost = renderer, 0, 0.0
        self.drawn += 1
        self.cost += max(_SMOOTHING, 1 / self.drawn) * (seconds - self.cost)

    def submit(self, step: Step) -> None:
        self.engine._submit(self, step)

    def close(self) -> None:
        """Gives the place up; idempotent. The avatar is closed by the engine's thread once its step is done."""
        self.engine._close(self)


class Engine:
    """Runs steps. `start` and `close` are idempotent; `close` is safe before `start`."""

    def __init__(self, on_step: Callable[[float], None] = lambda seconds: None) -> None:
        self._seats: list[EngineSlot] = []
        self._leaving: list[EngineSlot] = []
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
    ) -> EngineSlot:
        """Seats a session. The callbacks are called on the engine's thread."""
        seat = EngineSlot(avatar, on_frame, on_voice, on_failure, self, deque())
        with self._work:
            self._seats.append(seat)
        return seat

    @property
    def load(self) -> float:
        """Share of the thread's time that the seated sessions need at 25 fps: 1 is all of it."""
        with self._work:
            return sum(seat.cost for seat in self._seats) * FPS

    def _submit(self, seat: EngineSlot, step: Step) -> None:
        with self._work:
            if seat.closed:
                return
            if len(seat.waiting) >= _MOST_WAITING:
                seat.waiting.popleft()
                seat.unheard += 1
            seat.waiting.append(step)
            self._work.notify()

    def _close(self, seat: EngineSlot) -> None:
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

    def _take(self) -> list[tuple[EngineSlot, list[Step]]] | None:
        """Waits for work: the seat whose oldest step arrived first, with all its steps, and those ready seats that can
        be drawn together with it. None to end.
        """
        with self._work:
            while True:
                for seat in self._leaving:
                    seat.avatar.close()
                self._leaving.clear()
                if self._stopping:
                    return None
                ready = [seat for seat in self._seats if seat.waiting]
                if ready:
                    ready.sort(key=lambda s: s.waiting[0].times.arrived)
                    batch_key = ready[0].avatar.batch_key()
                    chosen = ready[:1]
                    if batch_key is not None:
                        chosen += [seat for seat in ready[1:] if seat.avatar.batch_key() == batch_key][
                            : batch_key[1] - 1
                        ]
                    taken = [(seat, list(seat.waiting)) for seat in chosen]
                    for seat in chosen:
                        seat.waiting.clear()
                    return taken
                self._work.wait()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            self._step(taken)

    def _step(self, taken: list[tuple[EngineSlot, list[Step]]]) -> None:
        """Hears and draws for some seats at once. One session's failure does not reach the others."""
        started = clock.now()
        heard: list[tuple[EngineSlot, Step, np.ndarray]] = []
        for seat, steps in taken:
            try:
                heard.append((seat, steps[-1], self._hear(seat, steps)))
            except Exception as error:
                self._fail(seat, error)
        for (seat, step, _), image in zip(heard, self._draw(heard), strict=True):
            if isinstance(image, Exception):
                self._fail(seat, image)
                continue
            seat.nonfinite_frames = 0
            step.times.started = started
            step.times.drawn = clock.now()
            seconds = (step.times.drawn - started) / len(heard)
            seat.took(seat.avatar.renderer, seconds)
            self._on_step(seconds)
            try:
                seat.on_frame(Frame(step.frame, step.epoch, image.copy(), step.times))
            except Exception as error:
                self._fail(seat, error)

    def _hear(self, seat: EngineSlot, steps: list[Step]) -> np.ndarray:
        """The controls [C] of the newest step; the older ones are heard, but not drawn."""
        events: list[VadEvent] = []
        for step in steps:
            controls, told = seat.avatar.hear(step)
            events += told
        seat.skipped += len(steps) - 1
        if events:
            seat.on_voice(events)
        return controls

    def _draw(self, heard: list[tuple[EngineSlot, Step, np.ndarray]]) -> list[Picture | Exception]:
        """The image of each, or what went wrong with it."""
        try:
            if len(heard) > 1:
                return render_batch([(seat.avatar, controls, step.frame / FPS) for seat, step, controls in heard])
            return [seat.avatar.draw(controls, step.frame / FPS) for seat, step, controls in heard]
        except Exception as error:
            return [error] * len(heard)

    def _fail(self, seat: EngineSlot, error: Exception) -> None:
        if isinstance(error, ArithmeticError) and seat.nonfinite_frames < _MOST_SPOILT:
            seat.nonfinite_frames += 1
            seat.skipped += 1
            log.warning("a frame is left out: %s", error)
            return
        log.error("a step failed", exc_info=error)
        seat.on_failure(error)
