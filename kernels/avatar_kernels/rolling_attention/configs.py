"""Program sizes of `rolling_attention`, and the number of parts into which the keys are split."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from avatar_kernels.launch import Gpu, power_of_two


class Config(NamedTuple):
    queries: int  # per program: a tile
    keys: int  # per tile, processed at a time
    warps: int
    stages: int  # pipelined tiles of keys and values
    registers: int | None = None  # maximum per thread


def choose(head: int, dtype: torch.dtype, lines: int, tokens: int, gpu: Gpu) -> Config:
    """
    lines: rows x heads; tokens: queries of each. Tiles of 128 queries reuse keys, and their rotation, best; if that
    leaves multiprocessors idle, tiles are smaller. Sizes are the largest that do not spill registers: before sm_90 both
    factors of a product are in registers, so wide heads get smaller tiles or more warps. float32 is multiplied without
    tensor cores, from registers.
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
        # Slightly fewer registers let two programs share a multiprocessor of sm_90 and overlap dots with exponentials.
        most = 128 if gpu.holds_products_in_memory else None
        config = Config(128, 64, 8, 2) if wide else Config(128, 64, 8, 3, most)
    while config.stages > 1 and shared_memory(head, config) > gpu.shared_memory:
        config = config._replace(stages=config.stages - 1)
    return config


def parts(programs: int, tiles: int, multiprocessors: int, most: int) -> int:
    """
    Number of splits of the keys' `tiles`: one if the programs fill the multiprocessors, otherwise as many as fill them
    once, with at least two tiles each, since each split must pay for the combination.
    """
    if programs >= multiprocessors:
        return 1
    return max(1, min(multiprocessors // programs, tiles // 2, most))


def candidates(head: int, dtype: torch.dtype, gpu: Gpu) -> Iterator[Config]:
    """What the benchmark tries when tuning: few enough for minutes."""
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
    """Upper bound of shared memory (bytes) of a 16-bit program: its queries; keys, values and table for each stage."""
    channels = power_of_two(head)
    return 2 * config.queries * channels + config.stages * 8 * config.keys * channels
