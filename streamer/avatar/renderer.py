"""What draws a character, by its capabilities: the protocols that the studio's rigs and the neural generator meet."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from streamer.avatar.characters import CharacterRecord
from streamer.base.image import Picture
from streamer.motion.articulation import ArticulationFrame


class Renderer(Protocol):
    """What draws a character for one session: the studio's `Rig`, a picture's, or the neural generator's."""

    name: str
    """One of config.RENDERERS."""

    size: int

    def draw(self, controls: np.ndarray, t: float = 0.0) -> Picture:
        """[C] float32 controls at `t` seconds to a picture of that size, valid until the next call."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ConditionedRenderer(Protocol):
    """A `Renderer` that wants to know more than the controls: what was heard, at every frame, drawn or not."""

    def hear(self, controls: np.ndarray, curves: ArticulationFrame, emotion: np.ndarray) -> None:
        """The frame's controls [C], what the voice says, and the strength of each emotion of controls.EMOTIONS."""
        ...


@runtime_checkable
class BatchRenderer(Protocol):
    """A `Renderer` that is drawn together with others of its kind more cheaply than one by one."""

    batch_key: object
    """Those with the same one can be drawn together."""

    max_batch_size: int
    """How many at once: with more, the first would wait too long for the last."""

    def render_batch(self, all_of_them: Sequence["BatchRenderer"]) -> list[Picture | Exception]:
        """What `draw` would give for each, in their order; one's failure stands in its place."""
        ...


class RendererBackend(Protocol):
    """Makes a `Renderer` of a character for each session that shows it. Its methods may be called from any thread."""

    name: str
    """One of config.GENERATORS."""

    where: str
    """On which device it draws, how, and why there: one line, to be said at start."""

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        """
        Which of config.RENDERERS draws a character at that size, or at the renderer's default size: the `name` of what
        `rig` makes.
        """
        ...

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        """A fresh one for one session, at rest. Blocking: run it off the event loop. Raises `RequestError`."""
        ...

    def prepare(self, entry: CharacterRecord, size: int, background: bool) -> None:
        """Makes ready what takes long in `rig`, so that it is soon there if it is asked for. As `rig` otherwise."""
        ...

    def still(self, entry: CharacterRecord, size: int, background: bool) -> np.ndarray:
        """The character at rest, [S, S, 4] uint8 straight RGBA. Blocking: off the event loop. Raises `RequestError`."""
        ...

    def relative_cost(self, renderer: str, size: int) -> float:
        """What a renderer's frame of that size costs beside one of its default size."""
        ...


_SMALL = 256


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
        return ". `lipstream --generator rig` draws sooner"
    return f". A session of {_SMALL} pixels is drawn sooner" if size > _SMALL else ""
