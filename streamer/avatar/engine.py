"""The engine: one thread that runs the steps of all sessions on a device, earliest deadline first.

A session that fell behind still processes every step, which is cheap and keeps its state consistent, but only its
newest frame is drawn. Late work is dropped as a whole, never queued.
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

_MOST_WAITING = 50  # steps that may wait in a slot (2 s); beyond that the oldest are dropped unprocessed
_SMOOTHING = 0.05  # weight of a frame in a slot's moving average; the first frames count equally
_MOST_NONFINITE = 25  # consecutive non-finite frames after which the session fails


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
    """Frames processed but not drawn, because a newer one was waiting or because they contained NaN or Inf."""
    unheard: int = 0
    """Steps dropped because more than two seconds of them were waiting."""
    cost: float = 0.0
    """Moving average of the seconds of the engine's thread that a frame takes with the current renderer."""
    renderer: str = ""
    """The renderer of the last frame, one of constants.RENDERERS; empty before the first."""
    drawn: int = 0
    """Frames that this renderer has drawn in a row."""
    nonfinite_frames: int = 0
    """Consecutive frames with NaN or Inf (an ArithmeticError): skipped, since the next one may be finite again."""
    closed: bool = False

    @property
    def frames_skipped(self) -> int:
        """Frames that were never drawn, for any reason."""
        return self.skipped + self.unheard

    def took(self, renderer: str, seconds: float) -> None:
        """Counts a drawn frame. A new renderer starts a new average."""
        if renderer != self.renderer:
            self.renderer, self.drawn, self.cost = renderer, 0, 0.0
        self.drawn += 1
        self.cost += max(_SMOOTHING, 1 / self.drawn) * (seconds - self.cost)

    def submit(self, step: Step) -> None:
        self.engine._submit(self, step)

    def close(self) -> None:
        """Frees the slot; idempotent. The engine's thread closes the avatar after its current step."""
        self.engine._close(self)


class Engine:
    """Runs steps. `start` and `close` are idempotent; `close` is safe before `start`."""

    def __init__(self, on_step: Callable[[float], None] = lambda seconds: None) -> None:
        self._slots: list[EngineSlot] = []
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
        """Adds a session. The callbacks run on the engine's thread."""
        slot = EngineSlot(avatar, on_frame, on_voice, on_failure, self, deque())
        with self._work:
            self._slots.append(slot)
        return slot

    @property
    def load(self) -> float:
        """Share of the thread's time that the sessions need at 25 fps: 1 is all of it."""
        with self._work:
            return sum(slot.cost for slot in self._slots) * FPS

    def _submit(self, slot: EngineSlot, step: Step) -> None:
        with self._work:
            if slot.closed:
                return
            if len(slot.waiting) >= _MOST_WAITING:
                slot.waiting.popleft()
                slot.unheard += 1
            slot.waiting.append(step)
            self._work.notify()

    def _close(self, slot: EngineSlot) -> None:
        with self._work:
            if slot.closed:
                return
            slot.closed = True
            self._slots.remove(slot)
            if self._thread.is_alive() and not self._stopping:
                self._leaving.append(slot)
                self._work.notify()
                return
        slot.avatar.close()

    def _take(self) -> list[tuple[EngineSlot, list[Step]]] | None:
        """Waits for work: the slot whose oldest step arrived first, with all its steps, and the ready slots that can be
        drawn in one batch with it. None: stop.
        """
        with self._work:
            while True:
                for slot in self._leaving:
                    slot.avatar.close()
                self._leaving.clear()
                if self._stopping:
                    return None
                ready = [slot for slot in self._slots if slot.waiting]
                if ready:
                    ready.sort(key=lambda s: s.waiting[0].times.arrived)
                    batch_key = ready[0].avatar.batch_key()
                    chosen = ready[:1]
                    if batch_key is not None:
                        chosen += [slot for slot in ready[1:] if slot.avatar.batch_key() == batch_key][
                            : batch_key[1] - 1
                        ]
                    taken = [(slot, list(slot.waiting)) for slot in chosen]
                    for slot in chosen:
                        slot.waiting.clear()
                    return taken
                self._work.wait()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            self._step(taken)

    def _step(self, taken: list[tuple[EngineSlot, list[Step]]]) -> None:
        """Processes and draws for one batch of slots. One session's failure does not affect the others."""
        started = clock.now()
        heard: list[tuple[EngineSlot, Step, np.ndarray]] = []
        for slot, steps in taken:
            try:
                heard.append((slot, steps[-1], self._hear(slot, steps)))
            except Exception as error:
                self._fail(slot, error)
        for (slot, step, _), image in zip(heard, self._draw(heard), strict=True):
            if isinstance(image, Exception):
                self._fail(slot, image)
                continue
            slot.nonfinite_frames = 0
            step.times.started = started
            step.times.drawn = clock.now()
            seconds = (step.times.drawn - started) / len(heard)
            slot.took(slot.avatar.renderer, seconds)
            self._on_step(seconds)
            try:
                slot.on_frame(Frame(step.frame, step.epoch, image.copy(), step.times))
            except Exception as error:
                self._fail(slot, error)

    def _hear(self, slot: EngineSlot, steps: list[Step]) -> np.ndarray:
        """Processes all steps and returns the controls [C] of the newest, which alone is drawn."""
        events: list[VadEvent] = []
        for step in steps:
            controls, new_events = slot.avatar.hear(step)
            events += new_events
        slot.skipped += len(steps) - 1
        if events:
            slot.on_voice(events)
        return controls

    def _draw(self, heard: list[tuple[EngineSlot, Step, np.ndarray]]) -> list[Picture | Exception]:
        """The image of each, or what went wrong with it."""
        try:
            if len(heard) > 1:
                return render_batch([(slot.avatar, controls, step.frame / FPS) for slot, step, controls in heard])
            return [slot.avatar.draw(controls, step.frame / FPS) for slot, step, controls in heard]
        except Exception as error:
            return [error] * len(heard)

    def _fail(self, slot: EngineSlot, error: Exception) -> None:
        if isinstance(error, ArithmeticError) and slot.nonfinite_frames < _MOST_NONFINITE:
            slot.nonfinite_frames += 1
            slot.skipped += 1
            log.warning("skipped a frame: %s", error)
            return
        log.error("a step failed", exc_info=error)
        slot.on_failure(error)
