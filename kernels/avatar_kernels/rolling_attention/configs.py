"""Sizes of `rolling_attention`'s programs, and into how many parts the keys are split."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from avatar_kernels.launch import Gpu, power_of_two


class Config(NamedTuple):
    queries: int  # of a program's tile
    keys: int  # of a tile, taken at a time
    warps: int
    stages: int  # tiles of keys and values that are under way
    registers: int | None = None  # of a thread, at most


def choose(head: int, dtype: torch.dtype, lines: int, tokens: int, gpu: Gpu) -> Config:
    """
    lines: rows x heads; tokens: queries of each. Tiles of 128 queries reuse keys, and their rotation, best; where they
    would leave multiprocessors idle, tiles are smaller. Sizes are the largest that do not spill registers: before
    sm_90, both factors of a product lie in registers, so wide heads get smaller tiles or more warps. float32 is
    multiplied without tensor cores, out of registers.
    """
    wide = power_of_two(head) > 64
    if dtype == torch.float32:
        config = Config(16, 16, 4, 1) if wide else Config(32, 16, 4, 1)
    elif tokens <= 16:
        config = Config(16, 32, 4, 2)
    elif tokens <= 32:
        config = Config(32, 32, 4, 2)
    elif tokens <= 64 or lines * -(-tokens // 128) < gpu.multiprocessors or (wide and not gpu.holds_products_in_memory):
        config = Config(64, 64, 8, 2) if wide else Config(64, 64, 4, 3)
    else:
        # A few registers less let two programs share a multiprocessor of sm_90, one's dots with the other's exponents.
        most = 128 if gpu.holds_products_in_memory else None
        config = Config(128, 64, 8, 2) if wide else Config(128, 64, 8, 3, most)
    while config.stages > 1 and shared_memory(head, config) > gpu.shared_memory:
        config = config._replace(stages=config.stages - 1)
    return config


def parts(programs: int, tiles: int, multiprocessors: int, most: int) -> int:
    """
    Splits of the keys' `tiles`: one where the programs fill the multiprocessors, else as many as fill them once, with
    two tiles or more for each, since what a part saves has to pay for the combination.
    """
    if programs >= multiprocessors:
        return 1
    return max(1, min(multiprocessors // programs, tiles // 2, most))


def candidates(head: int, dtype: torch.dtype, gpu: Gpu) -> Iterator[Config]:
    """What the benchmark tries when it is told to tune: few enough for minutes."""
    if dtype == torch.float32:
        yield from (Config(queries, 16, warps, 1) for queries in (16, 32) for warps in (4, 8))
        return
    for queries, keys, warps in ((64, 32, 4), (64, 64, 4), (64, 128, 4), (128, 64, 4), (128, 64, 8), (256, 64, 8)):
        for stages in (2, 3):
            for registers in (None, 128) if (queries, warps) == (128, 8) else (None,):
                config = Config(queries, keys, warps, stages, registers)
                if shared_memory(head, config) <= gpu.shared_memory:
                    yield config


def shared_memory(head: int, config: Config) -> int:
    """At most so many bytes a program of 16-bit numbers shares: its queries; keys, values and table for each stage."""
    channels = power_of_two(head)
    return 2 * config.queries * channels + config.stages * 8 * config.keys * channels
