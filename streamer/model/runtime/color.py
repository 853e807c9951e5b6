"""Converts the decoder's output to the video encoder's input on the device: opacity, size, YUV 4:2:0.

The same arithmetic as on the CPU (`neural.NeuralRig`, Pillow's resampling, swscale's conversion), within one or two
levels of 255. Nothing here reads a value on the host, so that it can be captured in a CUDA graph.

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


def shown(pictures: Tensor, opaque: Tensor, backed: Tensor, backdrop: Tensor) -> Tensor:
    """
    The visible colour of premultiplied pictures [B, 4, S, S] in 0..255. `opaque` [B] bool: alpha is ignored; `backed`
    [B] bool: composited over the backdrop [3, S, 1 or S]; otherwise the picture's own straight colour. Returns
    [B, 3, S, S] in 0..255.
    """
    colour, alpha = pictures[:, :3], pictures[:, 3:]
    alpha = alpha.masked_fill(opaque.view(-1, 1, 1, 1), 255)
    colour = torch.minimum(colour, alpha)  # premultiplied colour must not exceed alpha
    before = colour + (1 - alpha / 255) * backdrop
    straight = colour * 255 / alpha.clamp(min=1)
    return torch.where(backed.view(-1, 1, 1, 1), before, straight).clamp(0, 255).round()


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
