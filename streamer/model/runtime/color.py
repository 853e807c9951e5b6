"""Converts composed frames to the video encoder's input on the device: opacity, plate, size, YUV 4:2:0.

The same arithmetic as on the CPU (`compose.Composer.finish`, Pillow's resampling, swscale's conversion), within one or
two levels of 255. Nothing here reads a value on the host, so that it can be captured in a CUDA graph.

Letters used in shapes: B pictures, S picture edge.
"""

import torch
from torch import Tensor
from torch.nn import functional

# BT.601, limited range: contribution of 255 in red, green and blue to luma and to both chroma components.
_BRIGHTNESS = (65.481, 128.553, 24.966)
_BLUE = (-37.797, -74.203, 112.0)
_RED = (112.0, -93.786, -18.214)


def eight_bit(painted: Tensor) -> Tensor:
    """[B, 4, S, S] in -1..1 -> the same, rounded to 0..255, in float32."""
    return painted.float().add(1).mul(127.5).clamp(0, 255).round()


def scaled(pictures: Tensor, size: int) -> Tensor:
    """Resizes premultiplied [B, 4, S, S] in 0..255, bicubic like Pillow: [B, 4, size, size]."""
    for shape in ((pictures.shape[2], size), (size, size)):  # across, then down: Pillow rounds in between, too
        pictures = functional.interpolate(pictures, shape, mode="bicubic", align_corners=False, antialias=True)
        pictures = pictures.clamp(0, 255).round()
    return pictures


def over(pictures: Tensor, opaque: Tensor, plates: Tensor) -> Tensor:
    """
    Premultiplied pictures [B, 4, S, S] in 0..255 over plates [B, 4, S, S], premultiplied as well and transparent where
    there is none: premultiplied [B, 4, S, S] in whole levels. `opaque` [B] bool: the picture's alpha is taken for 255.
    """
    alpha = pictures[:, 3:].masked_fill(opaque.view(-1, 1, 1, 1), 255)
    colour = torch.minimum(pictures[:, :3], alpha)  # premultiplied colour must not exceed alpha
    return (torch.cat([colour, alpha], 1) + (1 - alpha / 255) * plates).clamp(0, 255).round()


def straight(pictures: Tensor) -> Tensor:
    """The colour of premultiplied pictures [B, 4, S, S] in 0..255: [B, 3, S, S], black where they are transparent."""
    alpha = pictures[:, 3:]
    return (torch.minimum(pictures[:, :3], alpha) * 255 / alpha.clamp(min=1)).clamp(0, 255).round()


def to_planes(pictures: Tensor) -> Tensor:
    """
    RGB [B, 3, S, S] in 0..255, S divisible by 4, -> YUV 4:2:0 planes, BT.601 limited range, as in `image.Yuv`:
    [B, 3 S / 2, S] uint8. A chroma sample lies amid four pixels and is computed from the 2 x 4 around it, as in
    swscale.
    """
    rows, _, size, _ = pictures.shape
    red, green, blue = pictures.unbind(1)

    def weighed(by: tuple[float, float, float], base: int, r: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return (base + (by[0] * r + by[1] * g + by[2] * b) / 255).round()

    brightness = weighed(_BRIGHTNESS, 16, red, green, blue)
    across = functional.avg_pool2d(pictures, (1, 2))  # [B, 3, S, S / 2]
    padded = torch.cat([across[:, :, :1], across, across[:, :, -1:]], 2)
    outer = padded[:, :, 0:-3:2] + padded[:, :, 3::2]
    inner = padded[:, :, 1:-2:2] + padded[:, :, 2:-1:2]
    around = ((outer + 3 * inner) / 8).unbind(1)  # of [B, S / 2, S / 2]
    colours = (weighed(by, 128, *around).reshape(rows, size // 4, size) for by in (_BLUE, _RED))
    return torch.cat([brightness, *colours], 1).to(torch.uint8)


def with_alpha(planes: Tensor, pictures: Tensor) -> Tensor:
    """Planes [B, 3 S / 2, S] of YUV and the alpha of premultiplied [B, 4, S, S] in 0..255 -> [B, 5 S / 2, S] uint8."""
    return torch.cat([planes, pictures[:, 3].to(torch.uint8)], 1)
