"""The protocols of what draws a character. The rigs and the neural generator implement them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from streamer.avatar.characters import CharacterRecord
from streamer.base.image import Picture
from streamer.motion.articulation import ArticulationFrame
from streamer.motion.controls import CONTROLS, HANDS


class Renderer(Protocol):
    """Draws one character for one session: a studio rig, a picture rig, or the neural generator."""

    name: str
    """One of constants.RENDERERS."""

    size: int

    def draw(self, controls: np.ndarray, t: float = 0.0) -> Picture:
        """Draws [C] float32 controls at `t` seconds. The picture is valid until the next call."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ConditionedRenderer(Protocol):
    """A `Renderer` with a memory: it needs each frame's controls and emotion, whether the frame is drawn or not.

    The neural generator needs the articulation too. The studio rig moves its loose parts and fades marks of emotion.
    """

    def hear(self, controls: np.ndarray, curves: ArticulationFrame, emotion: np.ndarray) -> None:
        """Takes a frame's controls [C], articulation, and the strength [E] of each of controls.EMOTIONS."""
        ...


@runtime_checkable
class BatchRenderer(Protocol):
    """A `Renderer` that supports batched rendering."""

    batch_key: object
    """Renderers with equal keys can share a batch."""

    max_batch_size: int
    """Sessions in a batch at most: in a larger one the first would wait too long for the last."""

    def render_batch(self, renderers: Sequence["BatchRenderer"]) -> list[Picture | Exception]:
        """What `draw` would return for each, in order; an exception in the place of one that failed."""
        ...


class RendererBackend(Protocol):
    """Creates a `Renderer` for each session that shows a character. Thread-safe."""

    name: str
    """One of constants.GENERATORS."""

    where: str
    """Which device it draws on, how, and why: one line, printed at start."""

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        """The `name` of the renderer that `create_renderer` makes for this size, or for the renderer's default size."""
        ...

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        """A new renderer for one session, at rest. Blocking: run it off the event loop. Raises `RequestError`."""
        ...

    def prepare(self, entry: CharacterRecord, size: int, background: bool) -> None:
        """Does the slow part of `create_renderer` in advance. Blocking. Raises `RequestError`."""
        ...

    def still(self, entry: CharacterRecord, size: int, background: bool) -> np.ndarray:
        """The character at rest, [S, S, 4] uint8 straight RGBA. Blocking: off the event loop. Raises `RequestError`."""
        ...

    def relative_cost(self, renderer: str, size: int) -> float:
        """The cost of a renderer's frame of this size, relative to one of its default size."""
        ...


_UNDRAWN: Mapping[str, frozenset[str]] = {
    "picture_rig": frozenset((*HANDS, "sway_x", "sway_y")),
    "still": frozenset(CONTROLS) - {"open", "yaw", "pitch", "roll", "breath"},
    "neural": frozenset(HANDS),
}
"""Controls that change nothing in what a renderer draws."""


def draws(renderer: str, controls: Collection[str]) -> bool:
    """Whether one of constants.RENDERERS shows all of these controls."""
    return _UNDRAWN.get(renderer, frozenset()).isdisjoint(controls)


_SMALL = 256


def display_name(renderer: str) -> str:
    """The name of one of constants.RENDERERS, as shown to people."""
    return {"still": "picture that moves as a whole", "neural": "neural generator"}.get(
        renderer, renderer.replace("_", " ")
    )


def faster_than(renderer: str, size: int) -> str:
    """Completes a warning that a renderer is too slow at a size: names what is faster, or nothing if nothing is."""
    if renderer == "neural":
        return ". `lipstream --generator rig` is faster"
    return f". A session of {_SMALL}×{_SMALL} pixels is faster" if size > _SMALL else ""
