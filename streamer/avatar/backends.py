"""Creates the renderer backend for a server, a render or a runtime; "auto" chooses one for each character."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from streamer.avatar import capacity
from streamer.avatar.characters import CharacterRecord
from streamer.avatar.renderer import Renderer, RendererBackend
from streamer.avatar.rig_backend import RigBackend
from streamer.base.constants import DEVICES, GENERATORS, MAX_SESSIONS
from streamer.base.errors import NotInstalled


class AutoBackend:
    """Chooses a backend for each character.

    The neural generator draws studio characters if it is available and fast enough at the session's size. The rigs draw
    everything else.
    """

    name = "auto"

    def __init__(
        self,
        where: str,
        neural: RendererBackend | None = None,
        keeps_up: Callable[[float], bool] = lambda relative: True,
    ) -> None:
        """`keeps_up(relative)`: whether the neural generator is fast enough at that multiple of its default cost."""
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
    """Loads a backend of constants.GENERATORS on one of constants.DEVICES, for up to `sessions` concurrent sessions.

    Blocking. On a machine's first start, "auto" measures for up to a minute, and announces it through `tell`. Raises
    NotInstalled, or ValueError for an unknown name or device.
    """
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is not one of {', '.join(DEVICES)}")
    match name:
        case "auto":
            return _chosen(device, sessions, tell)
        case "rig":
            return RigBackend()
        case "neural":
            from streamer.avatar.neural import NeuralBackend  # imports torch, which the rigs do not need

            return NeuralBackend.load(device=device, sessions=sessions)
        case _:
            raise ValueError(f"generator {name!r} is not one of {', '.join(GENERATORS)}")


def _chosen(device: str, sessions: int, tell: Callable[[str], None]) -> AutoBackend:
    """Chooses by measurements on this machine. Raises NotInstalled if `device` is "cuda" and CUDA does not work."""
    if device == "cuda":
        neural = create("neural", device, sessions)
        return AutoBackend(f"{_BOTH_DRAW}: {neural.where}; {_OVERRIDE}", neural)
    try:
        given = capacity.circumstances(device)
        path = capacity.memory(given)
        measured = capacity.known_or_measured(given, path, tell)
        if not measured.holds():
            return AutoBackend(f"{_RIGS_DRAW}: the neural generator takes {measured}; {_again(path)}")
        neural = create("neural", measured.device, sessions)
    except (capacity.NotMeasured, FileNotFoundError) as error:
        return AutoBackend(f"{_RIGS_DRAW}: {error}; {_OVERRIDE}")
    except NotInstalled as error:
        if device == "auto" and measured.device == "cuda":  # CUDA worked when it was measured
            return _chosen("cpu", sessions, tell)
        return AutoBackend(f"{_RIGS_DRAW}: {error}; {_OVERRIDE}")
    return AutoBackend(f"{_BOTH_DRAW}: {neural.where}; {measured}; {_again(path)}", neural, measured.holds)


_RIGS_DRAW = "the rigs draw all characters"
_BOTH_DRAW = "the neural generator draws studio characters, the rigs draw uploaded pictures"
_OVERRIDE = "to override, pass --generator neural or --generator rig"


def _again(path: Path) -> str:
    """How to override the choice, and how to measure again."""
    kept = path.is_file()
    return f"{_OVERRIDE}; " + (f"to measure again, delete {path}" if kept else "the next start measures again")
