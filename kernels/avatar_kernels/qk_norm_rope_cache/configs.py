"""Program sizes of `qk_norm_rope_cache`."""

from typing import NamedTuple

from avatar_kernels.launch import power_of_two


class Config(NamedTuple):
    lines: int  # per program; a line is one head of one token
    warps: int


def choose(head: int) -> Config:
    """A program of 4 warps holds 2048 elements each of q, k and v: 16 per thread, loaded 16 bytes at a time."""
    return Config(2048 // power_of_two(head), 4)
