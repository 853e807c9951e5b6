"""From what the decoder paints to what a video coder wants, on the device: opacity, size, YUV 4:2:0.

The same arithmetic as on the CPU (`neural.NeuralRig`, Pillow's resampling, swscale's conversion), to a level or two of
255. Nothing here looks at a number on the host, so that a CUDA graph can hold it.

Letters used in shapes: B pictures, S picture edge.
"""

import torch
from torch import Tensor
from torch.nn import functional

# BT.601, limited range: what 255 of red, green and blue give in brightness, and in the differences of blue and of red.
_BRIGHTNESS = (65.481, 128.553, 24.966)
_BLUE = (-37.797, -74.203, 112.0)
_RED = (112.0, -93.786, -18.214)


def eight_bit(painted: Tensor) -> Tensor:
    """[B, 4, S, S] in -1..1 -> the same, rounded to 0..255, in float32."""
    return painted.float().add(1).mul(127.5).clamp(0, 255).round()


def scaled(pictures: Tensor, size: int) -> Tensor:
    """Premultiplied [B, 4, S, S] in 0..255 at another size, bicubic as Pillow's: [B, 4, size, size]."""
    for shape in ((pictures.shape[2], size), (size, size)):  # across, then down: between them Pillow rounds, too
        pictures = functional.interpolate(pictures, shape, mode="bicubic", align_corners=False, antialias=True)
        pictures = pictures.clamp(0, 255).round()
    return pictures


def shown(pictures: Tensor, opaque: Tensor, backed: Tensor, backdrop: Tensor) -> Tensor:
    """
    What is to be seen of premultiplied pictures [B, 4, S, S] in 0..255: `opaque` [B] bool says that nothing shines
    through, `backed` [B] bool that the backdrop [3, S, 1 or S] is behind; of the rest, which has none, its own colour,
    not premultiplied. Returns [B, 3, S, S] in 0..255.
    """
    colour, alpha = pictures[:, :3], pictures[:, 3:]
    alpha = alpha.masked_fill(opaque.view(-1, 1, 1, 1), 255)
    colour = torch.minimum(colour, alpha)  # more would be brighter than white
    before = colour + (1 - alpha / 255) * backdrop
    straight = colour * 255 / alpha.clamp(min=1)
    return torch.where(backed.view(-1, 1, 1, 1), before, straight).clamp(0, 255).round()


def to_planes(pictures: Tensor) -> Tensor:
    """
    RGB [B, 3, S, S] in 0..255, S divisible by 4, -> planes of YUV 4:2:0, BT.601 in limited range, as `yuv.Yuv` has
    them: [B, 3 S / 2, S] uint8. A place of colour lies amid four pixels, and takes from the 2 x 4 around it, as
    swscale's does.
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
