"""Layers that encoder, painter and training share.

Letters used in shapes: B frames, S picture edge, C channels. Pictures are premultiplied RGBA in -1..1, [B, 4, S, S].
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def to_tensor(pictures: np.ndarray) -> Tensor:
    """[..., S, S, 4] uint8 -> [..., 4, S, S] float32 in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3))).float() / 127.5 - 1


def to_pixels(pictures: Tensor) -> np.ndarray:
    """[..., 4, S, S] in -1..1 -> [..., S, S, 4] uint8."""
    rounded = pictures.float().add(1).mul_(127.5).clamp_(0, 255).round_().to(torch.uint8)
    return np.moveaxis(rounded.cpu().numpy(), -3, -1)


def enlarged(picture: Tensor) -> Tensor:
    """
    Upsamples a picture by cubic interpolation: [B, 4, h, w] -> [B, 4, 2h - 1, 2w - 1]. Most positions move by fractions
    of a pixel, and bilinear sampling between the original pixels would blur edges.
    """
    height, width = picture.shape[2:]
    return functional.interpolate(picture, (2 * height - 1, 2 * width - 1), mode="bicubic", align_corners=True)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Initialised to preserve the signal's variance: most of the network has no normalisation."""
    made = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2)
    nn.init.kaiming_normal_(made.weight, nonlinearity="relu")
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


class Level(nn.Module):
    """SiLU of a GroupNorm, which preserves the relative strength of positions; a norm per position would not."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(channels, 8), channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape."""
        return functional.silu(self.norm(x))


class Residual(nn.Module):
    """x + two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.level = Level(channels)
        self.first, self.second = conv(channels, channels), conv(channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape."""
        return x + self.second(functional.silu(self.first(self.level(x))))


class Descent(nn.Module):
    """Picture to features at strides 2, 4, 8 and 16."""

    def __init__(self, inputs: int, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = conv(inputs, channels[0], 4, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Residual(c) for _ in range(n))) for c, n in zip(channels, blocks, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Sequential(Level(a), conv(a, b, 3, 2)) for a, b in zip(channels, channels[1:], strict=False)
        )

    def forward(self, picture: Tensor) -> list[Tensor]:
        """[B, inputs, S, S] -> [[B, C_i, S / 2^(i+1), S / 2^(i+1)], ...], fine to coarse."""
        x = self.stem(picture)
        features = []
        for i, blocks in enumerate(self.blocks):
            x = blocks(x)
            features.append(x)
            if i < len(self.down):
                x = self.down[i](x)
        return features
