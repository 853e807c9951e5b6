"""What draws the characters of a server or a rendering: one renderer for all of them, or one chosen for each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from streamer.avatar.characters import CharacterRecord
from streamer.avatar.renderer import Renderer, RendererBackend
from streamer.avatar.rig_backend import RigBackend
from streamer.base.constants import DEVICES, GENERATORS, MAX_SESSIONS
from streamer.base.errors import NotInstalled


class AutoBackend:
    """
    Chooses for each character: the neural generator for those of the studio, where there is one and it keeps up at the
    session's size, and the rigs for all else.
    """

    name = "auto"

    def __init__(
        self,
        where: str,
        neural: RendererBackend | None = None,
        keeps_up: Callable[[float], bool] = lambda relative: True,
    ) -> None:
        """`keeps_up`: whether the neural generator does with frames that cost so many times as much as its default."""
        self.where = where
        self._rigs, self._neural, self._keeps_up = RigBackend(), neural, keeps_up

    def _of(self, entry: CharacterRecord, size: int | None = None) -> RendererBackend:
        neural = self._neural
        if neural is None or entry.character is None:
            return self._rigs
        return neural if size is None or self._keeps_up(neural.relative_cost("neural", size)) else self._rigs

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return self._of(entry, size).renderer_name(entry, size)

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        return self._of(entry, size).create_renderer(entry, size, background)

    def prepare(self, entry: CharacterRecord, size: int, background: bool) -> None:
        self._of(entry, size).prepare(entry, size, background)

    def still(self, entry: CharacterRecord, size: int, background: bool) -> np.ndarray:
        return self._of(entry, size).still(entry, size, background)

    def relative_cost(self, renderer: str, size: int) -> float:
        by = self._neural if self._neural is not None and renderer == "neural" else self._rigs
        return by.relative_cost(renderer, size)


def create(
    name: str,
    device: str = DEVICES[0],
    sessions: int = MAX_SESSIONS,
    tell: Callable[[str], None] = lambda text: None,
) -> RendererBackend:
    """
    The generator of a name, loaded, on one of constants.DEVICES, for as many sessions at once. Blocking; for "auto" the
    first time on a machine takes up to a minute, which is told in a sentence. Raises NotInstalled, or ValueError for a
    name that is none.
    """
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is none of {', '.join(DEVICES)}")
    match name:
        case "auto":
            return _chosen(device, sessions, tell)
        case "rig":
            return RigBackend()
        case "neural":
            from streamer.avatar.neural import NeuralBackend  # loads torch, which the rig does without

            return NeuralBackend.load(device=device, sessions=sessions)
        case _:
            raise ValueError(f"generator {name!r} is none of {', '.join(GENERATORS)}")


def _chosen(device: str, sessions: int, tell: Callable[[str], None]) -> AutoBackend:
    """By what was measured on this machine. Raises NotInstalled where `device` insists on CUDA, which fails."""
    from streamer.avatar import capacity  # which needs what this module defines

    if device == "cuda":
        insisted = create("neural", device, sessions)
        return AutoBackend(f"{_BOTH_DRAW}: {insisted.where}; {_INSIST}", insisted)
    try:
        given = capacity.circumstances(device)
        path = capacity.memory(given)
        measured = capacity.known_or_measured(given, path, tell)
        if not measured.holds():
            return AutoBackend(f"{_RIGS_DRAW}: the neural generator takes {measured}; {_again(path)}")
        neural = create("neural", measured.device, sessions)
    except (capacity.NotMeasured, FileNotFoundError) as error:
        return AutoBackend(f"{_RIGS_DRAW}: {error}; {_INSIST}")
    except NotInstalled as error:
        if device == "auto" and measured.device == "cuda":  # which worked when it was measured
            return _chosen("cpu", sessions, tell)
        return AutoBackend(f"{_RIGS_DRAW}: {error}; {_INSIST}")
    return AutoBackend(f"{_BOTH_DRAW}: {neural.where}; {measured}; {_again(path)}", neural, measured.holds)


_RIGS_DRAW = "the rigs draw all characters"
_BOTH_DRAW = "the neural generator draws the studio's characters, the rig pictures"
_INSIST = "--generator neural or rig insists"


def _again(path: Path) -> str:
    """How to insist, and how to have it measured again."""
    kept = path.is_file()
    return f"{_INSIST}; " + (f"to measure again, delete {path}" if kept else "the next start measures again")
