"""Program sizes of `face_audio_attention`."""

from typing import NamedTuple

import torch

from avatar_kernels.launch import power_of_two


class Config(NamedTuple):
    tokens: int  # per program: a tile, which is skipped if it contains no face
    keys: int  # of a window, processed at a time
    warps: int
    stages: int


def choose(head: int, window: int, dtype: torch.dtype) -> Config:
    """
    Small tiles skip more: tokens are in raster order, so 16 of them are one row of a latent frame of `live`, and two of
    `nano`. There is little to compute, so a warp or two per tile suffice; a tensor core needs at least 16 keys.
    """
    keys = min(max(power_of_two(window), 16), 32 if dtype == torch.float32 else 64)
    return Config(16, keys, 2 if head > 64 or keys > 16 else 1, 2)
