"""Program sizes of `adaln`, and which of them are compiled ahead of time."""

from typing import NamedTuple

from avatar_kernels.launch import power_of_two

MAX_WIDTH = 8192

_ELEMENTS = 2048
"""Elements per program, if a token is narrower."""


class Config(NamedTuple):
    tokens: int  # per program
    width: int  # padded to a power of two
    warps: int


def choose(width: int) -> Config:
    """A program processes whole tokens; wide ones get more warps, so that a thread holds at most 32 elements of one."""
    padded = power_of_two(width)
    tokens = max(_ELEMENTS // padded, 1)
    return Config(tokens, padded, min(max(tokens * padded // 512, 1), 8))
