"""A session's conditions, as every runtime takes them; numpy only, so that no runtime needs another one's library.

Letters used in shapes: C controls, Q outputs of the articulation network, S picture edge.
"""

from dataclasses import dataclass, field

import numpy as np

from streamer.model.config import HEARD
from streamer.motion.controls import CONTROLS, EMOTIONS, MOUTH


class NotFinite(ArithmeticError):
    """A session's state contained NaN or Inf; it was reset."""


class Full(RuntimeError):
    """No slot is free."""


@dataclass(frozen=True)
class FrameConditions:
    """The conditions of one frame."""

    controls: np.ndarray  # [C] float32: the motion plan; its mouth controls are ignored
    heard: np.ndarray  # [Q] float32: the articulation network's mouth, prosody and embedding
    emotion: np.ndarray  # [len(EMOTIONS)] float32: strength of each


def silence() -> FrameConditions:
    """Conditions of silence and rest."""
    return FrameConditions(
        np.zeros(len(CONTROLS), np.float32), np.zeros(HEARD, np.float32), np.zeros(len(EMOTIONS), np.float32)
    )


@dataclass(kw_only=True, eq=False)
class Hearing:
    """One session's recent conditions, from which its next frame is generated."""

    plans: list[np.ndarray] = field(default_factory=list)
    heard: list[np.ndarray] = field(default_factory=list)
    emotion: np.ndarray = field(default_factory=lambda: np.zeros(len(EMOTIONS), np.float32))

    def hear(self, cue: FrameConditions, window: int) -> None:
        """Adds the next frame's conditions and keeps the last `window`. Raises NotFinite, ValueError."""
        wanted = (len(CONTROLS),), (HEARD,), (len(EMOTIONS),)
        if (shapes := (cue.controls.shape, cue.heard.shape, cue.emotion.shape)) != wanted:
            raise ValueError(f"conditions of shapes {shapes}: want {wanted}")
        if not (np.isfinite(cue.controls).all() and np.isfinite(cue.heard).all() and np.isfinite(cue.emotion).all()):
            raise NotFinite("a frame's conditions contain NaN or Inf and are ignored")
        plan = cue.controls[len(MOUTH) :]
        self.plans = [*(self.plans or [plan]), plan][-2:]
        self.heard = [*(self.heard or [cue.heard] * (window - 1)), cue.heard][-window:]
        self.emotion = cue.emotion


def blocks(size: int, rng: np.random.Generator) -> np.ndarray:
    """An opaque picture [size, size, 4] uint8 with edges that make any motion visible."""
    colours = rng.integers(0, 256, (size // 8, size // 8, 4))
    colours[..., 3] = 255
    return np.kron(colours, np.ones((8, 8, 1))).astype(np.uint8)


def random_conditions(rng: np.random.Generator) -> FrameConditions:
    """Conditions of small random values."""
    return FrameConditions(
        *(0.3 * rng.standard_normal(n).astype(np.float32) for n in (len(CONTROLS), HEARD, len(EMOTIONS)))
    )
