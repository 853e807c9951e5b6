"""What draws the characters of a server or a rendering: chosen once, by name."""

import threading
from collections import OrderedDict
from typing import Protocol

import numpy as np

from streamer.characters import Entry
from streamer.config import DEFAULT_SIZE, DEVICES, GENERATORS, MAX_SESSIONS
from streamer.pipeline import Drawable
from streamer.studio.controls import rest

_MOST_SPARE = 18
"""Rigs that wait to be worn, 2 to 14 MB each by their size; beyond it the one that has waited longest is given up."""


class NotInstalled(RuntimeError):
    """A generator that this machine lacks; the text says what is missing."""


class Generator(Protocol):
    """Makes a `Drawable` of a character for each session that shows it. Its methods may be called from any thread."""

    name: str
    """One of config.GENERATORS."""

    where: str
    """On which device it draws, how, and why there: one line, to be said at start."""

    def rig(self, entry: Entry, size: int, background: bool) -> Drawable:
        """A fresh one for one session, at rest. Blocking: run it off the event loop. Raises `Refused`."""
        ...

    def prepare(self, entry: Entry, size: int, background: bool) -> None:
        """Makes ready what takes long in `rig`, so that it is soon there if it is asked for. As `rig` otherwise."""
        ...

    def still(self, entry: Entry, size: int, background: bool) -> np.ndarray:
        """The character at rest, [S, S, 4] uint8 straight RGBA. Blocking: off the event loop. Raises `Refused`."""
        ...

    def relative_cost(self, size: int) -> float:
        """What a frame of that size costs beside one of the default size."""
        ...


class RigGenerator:
    """The studio's own illustrator, driven by the controls; it moves an uploaded picture as a whole."""

    name = "rig"
    where = "the rig draws on the CPU, which is all it needs"

    def __init__(self) -> None:
        self._spare: OrderedDict[tuple[str, int, bool], Drawable] = OrderedDict()
        self._lock = threading.Lock()

    def rig(self, entry: Entry, size: int, background: bool) -> Drawable:
        with self._lock:
            spare = self._spare.pop((entry.id, size, background), None)
        return spare or entry.rig(size, background)

    def prepare(self, entry: Entry, size: int, background: bool) -> None:
        key = entry.id, size, background
        with self._lock:
            if key in self._spare:
                self._spare.move_to_end(key)
                return
        made: Drawable = entry.rig(size, background)
        with self._lock:
            displaced = [self._spare.pop(key)] if key in self._spare else []
            self._spare[key] = made
            while len(self._spare) > _MOST_SPARE:
                displaced.append(self._spare.popitem(last=False)[1])
        for drawable in displaced:
            drawable.close()

    def still(self, entry: Entry, size: int, background: bool) -> np.ndarray:
        rig = entry.rig(size, background)
        try:
            return rig.draw(rest()).copy()
        finally:
            rig.close()

    def relative_cost(self, size: int) -> float:
        return max(0.5, (size / DEFAULT_SIZE) ** 2)  # pixels, and what is to be done whatever the size


def faster_than(name: str) -> str:
    """The end of a sentence that says that a generator is too slow: which one is faster. Empty where none is."""
    return "" if name == RigGenerator.name else f". `lipstream --generator {RigGenerator.name}` draws sooner"


def create(name: str, device: str = DEVICES[0], sessions: int = MAX_SESSIONS) -> Generator:
    """
    The generator of a name, loaded, on one of config.DEVICES, for as many sessions at once. Blocking. Raises
    NotInstalled, or ValueError for a name that is none.
    """
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is none of {', '.join(DEVICES)}")
    match name:
        case "rig":
            return RigGenerator()
        case "neural":
            from streamer.neural import NeuralGenerator  # loads torch, which the rig does without

            return NeuralGenerator.load(device=device, sessions=sessions)
        case _:
            raise ValueError(f"generator {name!r} is none of {', '.join(GENERATORS)}")
