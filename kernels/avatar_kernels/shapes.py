"""Sizes that the kernels are shipped, compiled and measured for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A network's attention, in the letters of the operations' docstrings."""

    name: str
    heads: int
    head: int
    tokens: int
    """Tokens of a latent frame."""
    context: int
    frames: int = 1
    """Latent frames per step."""
    window: int = 5
    """Audio tokens per latent frame."""

    @property
    def width(self) -> int:
        return self.heads * self.head

    @property
    def queries(self) -> int:
        return self.frames * self.tokens

    @property
    def keys(self) -> int:
        """Keys of one reference, a full ring, and the current frames."""
        return (1 + self.context + self.frames) * self.tokens


NANO = Shape("nano", heads=4, head=64, tokens=64, context=0)
LIVE = Shape("live", heads=10, head=64, tokens=256, context=5)
# InfiniteTalk's network: a latent frame of 480p has 1560 tokens; a step has one or three frames.
LARGE_FRAME = Shape("14B-frame", heads=40, head=128, tokens=1560, context=1, window=32)
LARGE = Shape("14B", heads=40, head=128, tokens=1560, context=8, frames=3, window=32)
SHAPES = (NANO, LIVE, LARGE_FRAME, LARGE)
