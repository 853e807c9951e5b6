"""Sizes of `rolling_attention`'s programs, and into how many parts the keys are split."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from avatar_kernels.launch import power_of_two


class Config(NamedTuple):
    queries: int  # of a program's tile
    keys: int  # of a tile, taken at a time
    warps: int
    stages: int  # tiles of keys and values that are under way


def choose(head: int, dtype: torch.dtype, programs_of_one: int, tokens: int, multiprocessors: int) -> Config:
    """
    programs_of_one: rows x heads; tokens: queries of each. Tiles of 128 queries reuse keys, and their rotation, best;
    where they leave multiprocessors idle, tiles are smaller. float32 is multiplied without tensor cores, out of
    registers, so its tiles are small.
    """
    wide = power_of_two(head) > 64
    if dtype == torch.float32:
        return Config(16, 16, 4, 1) if wide else Config(32, 16, 4, 1)
    if tokens > 64 and programs_of_one * -(-tokens // 128) >= multiprocessors:
        return Config(128, 64, 8, 2) if wide else Config(128, 64, 4, 3)
    if tokens > 32:
        return Config(64, 64, 4, 2) if wide else Config(64, 64, 4, 3)
    return Config(32 if tokens > 16 else 16, 64, 4, 2)


def parts(programs: int, tiles: int, multiprocessors: int, most: int) -> int:
    """
    Splits of the keys' `tiles`: one where the programs fill the multiprocessors, else as many as fill them once, with
    two tiles or more for each, since what a part saves has to pay for the combination.
    """
    if programs >= multiprocessors:
        return 1
    return max(1, min(multiprocessors // programs, tiles // 2, most))


def candidates(head: int, dtype: torch.dtype) -> Iterator[Config]:
    """What the benchmark tries when it is told to tune."""
    if dtype == torch.float32:
        for queries in (16, 32):
            for warps in (4, 8):
                yield Config(queries, 16, warps, 1)
        return
    for queries in (32, 64, 128):
        for keys in (32, 64, 128):
            for warps in (4, 8):
                for stages in (2, 3, 4):
                    if shared_memory(head, Config(queries, keys, warps, stages)) <= 160 * 1024:
                        yield Config(queries, keys, warps, stages)


def shared_memory(head: int, config: Config) -> int:
    """About how many bytes of shared memory a program of 16-bit numbers takes: queries, and keys and values by stage."""
    channels = power_of_two(head)
    turns = config.keys * channels * 4
    return 2 * config.queries * channels + config.stages * (4 * config.keys * channels + turns)
