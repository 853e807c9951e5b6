"""Sizes of `qk_norm_rope_cache`'s programs."""

from typing import NamedTuple

from avatar_kernels.launch import power_of_two


class Config(NamedTuple):
    lines: int  # of a program; a line is one head of one token
    warps: int


def choose(head: int) -> Config:
    """A program of 4 warps holds 2048 numbers of q, k and v each: 16 to a thread, which 16-byte loads bring."""
    return Config(2048 // power_of_two(head), 4)
