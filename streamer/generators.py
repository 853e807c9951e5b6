"""What draws the characters of a server or a rendering: one renderer for all of them, or one chosen for each."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from streamer.characters import Entry
from streamer.config import DEFAULT_SIZES, DEVICES, GENERATORS, MAX_SESSIONS
from streamer.pipeline import Drawable
from streamer.studio.controls import rest

_MOST_SPARE = 18
"""Rigs that wait to be worn, 2 to 14 MB each by their size; beyond it the one that has waited longest is given up."""

_SMALL = 256


class NotInstalled(RuntimeError):
    """A generator that this machine lacks; the text says what is missing."""


class Generator(Protocol):
    """Makes a `Drawable` of a character for each session that shows it. Its methods may be called from any thread."""

    name: str
    """One of config.GENERATORS."""

    where: str
    """On which device it draws, how, and why there: one line, to be said at start."""

    def renderer(self, entry: Entry, size: int | None = None) -> str:
        """
        Which of config.RENDERERS draws a character at that size, or at the renderer's default size: the `name` of what
        `rig` makes.
        """
        ...

    def rig(self, entry: Entry, size: int, background: bool) -> Drawable:
        """A fresh one for one session, at rest. Blocking: run it off the event loop. Raises `Refused`."""
        ...

    def prepare(self, entry: Entry, size: int, background: bool) -> None:
        """Makes ready what takes long in `rig`, so that it is soon there if it is asked for. As `rig` otherwise."""
        ...

    def still(self, entry: Entry, size: int, background: bool) -> np.ndarray:
        """The character at rest, [S, S, 4] uint8 straight RGBA. Blocking: off the event loop. Raises `Refused`."""
        ...

    def relative_cost(self, renderer: str, size: int) -> float:
        """What a renderer's frame of that size costs beside one of its default size."""
        ...


class RigGenerator:
    """The studio's own illustrator, driven by the controls, and for an uploaded picture the rig that moves it."""

    name = "rig"
    where = "the rigs draw on the CPU, which is all they need"

    def __init__(self) -> None:
        self._spare: OrderedDict[tuple[str, int, bool], Drawable] = OrderedDict()
        self._lock = threading.Lock()

    def renderer(self, entry: Entry, size: int | None = None) -> str:
        return entry.rig_name

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

    def relative_cost(self, renderer: str, size: int) -> float:
        edge = size / DEFAULT_SIZES[renderer]
        if renderer == "studio_rig":
            return max(0.7, 0.34 + 0.66 * edge)  # outlines; below 192 pixels they are drawn twice as large
        return 0.15 + 0.85 * edge**2  # pixels, and what is to be done whatever the size


class AutoGenerator:
    """
    Chooses for each character: the neural generator for those of the studio, where there is one and it keeps up at the
    session's size, and the rigs for all else.
    """

    name = "auto"

    def __init__(
        self, where: str, neural: Generator | None = None, keeps_up: Callable[[float], bool] = lambda relative: True
    ) -> None:
        """`keeps_up`: whether the neural generator does with frames that cost so many times as much as its default."""
        self.where = where
        self._rigs, self._neural, self._keeps_up = RigGenerator(), neural, keeps_up

    def _of(self, entry: Entry, size: int | None = None) -> Generator:
        neural = self._neural
        if neural is None or entry.character is None:
            return self._rigs
        return neural if size is None or self._keeps_up(neural.relative_cost("neural", size)) else self._rigs

    def renderer(self, entry: Entry, size: int | None = None) -> str:
        return self._of(entry, size).renderer(entry, size)

    def rig(self, entry: Entry, size: int, background: bool) -> Drawable:
        return self._of(entry, size).rig(entry, size, background)

    def prepare(self, entry: Entry, size: int, background: bool) -> None:
        self._of(entry, size).prepare(entry, size, background)

    def still(self, entry: Entry, size: int, background: bool) -> np.ndarray:
        return self._of(entry, size).still(entry, size, background)

    def relative_cost(self, renderer: str, size: int) -> float:
        by = self._neural if self._neural is not None and renderer == "neural" else self._rigs
        return by.relative_cost(renderer, size)


def in_words(renderer: str) -> str:
    """The name of one of config.RENDERERS for people."""
    return {"still": "picture that moves as a whole", "neural": "neural generator"}.get(
        renderer, renderer.replace("_", " ")
    )


def faster_than(renderer: str, size: int) -> str:
    """
    The end of a sentence that says that one of config.RENDERERS is too slow at a size: what draws sooner. Empty where
    nothing does.
    """
    if renderer == "neural":
        return f". `lipstream --generator {RigGenerator.name}` draws sooner"
    return f". A session of {_SMALL} pixels is drawn sooner" if size > _SMALL else ""


def create(
    name: str,
    device: str = DEVICES[0],
    sessions: int = MAX_SESSIONS,
    tell: Callable[[str], None] = lambda text: None,
) -> Generator:
    """
    The generator of a name, loaded, on one of config.DEVICES, for as many sessions at once. Blocking; for "auto" the
    first time on a machine takes up to a minute, which is told in a sentence. Raises NotInstalled, or ValueError for a
    name that is none.
    """
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is none of {', '.join(DEVICES)}")
    match name:
        case "auto":
            return _chosen(device, sessions, tell)
        case "rig":
            return RigGenerator()
        case "neural":
            from streamer.neural import NeuralGenerator  # loads torch, which the rig does without

            return NeuralGenerator.load(device=device, sessions=sessions)
        case _:
            raise ValueError(f"generator {name!r} is none of {', '.join(GENERATORS)}")


def _chosen(device: str, sessions: int, tell: Callable[[str], None]) -> AutoGenerator:
    """By what was measured on this machine. Raises NotInstalled where `device` insists on CUDA, which fails."""
    from streamer import capacity  # which needs what this module defines

    if device == "cuda":
        insisted = create("neural", device, sessions)
        return AutoGenerator(f"{_BOTH_DRAW}: {insisted.where}; {_INSIST}", insisted)
    try:
        given = capacity.circumstances(device)
        path = capacity.memory(given)
        measured = capacity.known_or_measured(given, path, tell)
        if not measured.holds():
            return AutoGenerator(f"{_RIGS_DRAW}: the neural generator takes {measured}; {_again(path)}")
        neural = create("neural", measured.device, sessions)
    except (capacity.NotMeasured, FileNotFoundError) as error:
        return AutoGenerator(f"{_RIGS_DRAW}: {error}; {_INSIST}")
    except NotInstalled as error:
        if device == "auto" and measured.device == "cuda":  # which worked when it was measured
            return _chosen("cpu", sessions, tell)
        return AutoGenerator(f"{_RIGS_DRAW}: {error}; {_INSIST}")
    return AutoGenerator(f"{_BOTH_DRAW}: {neural.where}; {measured}; {_again(path)}", neural, measured.holds)


_RIGS_DRAW = "the rigs draw all characters"
_BOTH_DRAW = "the neural generator draws the studio's characters, the rig pictures"
_INSIST = "--generator neural or rig insists"


def _again(path: Path) -> str:
    """How to insist, and how to have it measured again."""
    kept = path.is_file()
    return f"{_INSIST}; " + (f"to measure again, delete {path}" if kept else "the next start measures again")
