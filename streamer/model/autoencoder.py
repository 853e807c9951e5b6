"""The anchored autoencoder: encodes a frame to a small latent, and decodes it using a picture of the character.

The decoder does not have to invent what the picture already shows. At each resolution it predicts where every position
came from (a flow field, refined from coarse to fine), warps the picture's features accordingly, and adds the changes
encoded in the latent. At full resolution it copies the picture's pixels along the flow, interpolating between them, and
paints over them where they do not fit: an open mouth, a closed lid, a raised hand. So outlines, text and cloth stay
nearly as sharp as the picture, and identity cannot drift (InfinityHuman's refiner with its first frame as anchor, at
low cost). The encoder sees the picture too, so that latents encode motion and change, not the character.

The flow also applies to a larger picture: the output is then larger, as sharp as the picture in all that is copied, and
only painted areas have the networks' own resolution.

Each frame is encoded by itself: temporal stride 1, causal, no look-ahead.

When a decoder is traced for compilation, some of its functions use a different formulation, equal up to rounding, for
which OpenVINO has faster code: in the form used for training, the decoder of `nano` takes a quarter longer in bfloat16,
and half as long again in float32.

Letters used in shapes: B frames, S picture edge, s latent edge (S / 16), Z latent channels.
Pictures are premultiplied RGBA in -1..1, [B, 4, S, S].
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamer.model.config import STRIDE, AutoencoderConfig


def to_tensor(pictures: np.ndarray) -> Tensor:
    """[..., S, S, 4] uint8 -> [..., 4, S, S] float32 in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3))).float() / 127.5 - 1


def to_pixels(pictures: Tensor) -> np.ndarray:
    """[..., 4, S, S] in -1..1 -> [..., S, S, 4] uint8."""
    rounded = pictures.float().add(1).mul_(127.5).clamp_(0, 255).round_().to(torch.uint8)
    return np.moveaxis(rounded.cpu().numpy(), -3, -1)


class Anchor(NamedTuple):
    """Computed once from a character's picture and used by the decoder for every frame."""

    picture: Tensor  # [B, 4, 2S - 1, 2S - 1]: `enlarged`; where `times` is more than 1, [B, 4, times S, times S]
    features: tuple[Tensor, ...]  # fine to coarse: [B, C_i, S / 2^(i+1), S / 2^(i+1)], i = 0..3
    times: int = 1  # size of the frames relative to S

    def expand(self, frames: int) -> "Anchor":
        """Repeats each picture for `frames` consecutive frames: [B, ...] -> [B * frames, ...]."""
        return Anchor(
            self.picture.repeat_interleave(frames, 0),
            tuple(f.repeat_interleave(frames, 0) for f in self.features),
            self.times,
        )


def enlarged(picture: Tensor) -> Tensor:
    """
    Upsamples a picture by cubic interpolation: [B, 4, h, w] -> [B, 4, 2h - 1, 2w - 1]. Most positions move by fractions
    of a pixel, and bilinear sampling between the original pixels would blur edges.
    """
    height, width = picture.shape[2:]
    return functional.interpolate(picture, (2 * height - 1, 2 * width - 1), mode="bicubic", align_corners=True)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Initialised to preserve the signal's variance: most of the network has no normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class Level(nn.Module):
    """SiLU of a GroupNorm, which preserves the relative strength of positions; a norm per position would not."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(channels, 8), channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape."""
        if torch.jit.is_tracing():
            factor, summand = _half_norm(self.norm, x)
            half = x * factor + summand
            return half + half * torch.tanh(half)
        return functional.silu(self.norm(x))


def _half_norm(norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and offset, [B, C, 1, 1] each, for [B, C, h, w]: half of a norm's output."""
    groups, eps = norm.num_groups, norm.eps
    mean = x.mean((2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((2, 3), keepdim=True)

    def grouped(each: Tensor) -> Tensor:
        return each.view(len(x), groups, -1, 1)

    def per_channel(each: Tensor) -> Tensor:
        return each.flatten(1)[:, :, None, None]

    whole = grouped(mean).mean(2, keepdim=True)
    spread = (grouped(variance) + (grouped(mean) - whole) ** 2).mean(2, keepdim=True)
    factor = 0.5 * norm.weight.view(1, groups, -1, 1) * torch.rsqrt(spread + eps)
    return per_channel(factor), per_channel(0.5 * norm.bias.view(1, groups, -1, 1) - whole * factor)


class Residual(nn.Module):
    """x + two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.level = Level(channels)
        self.first, self.second = _conv(channels, channels), _conv(channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape."""
        return x + self.second(functional.silu(self.first(self.level(x))))


class Descent(nn.Module):
    """Picture to features at strides 2, 4, 8 and 16."""

    def __init__(self, inputs: int, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = _conv(inputs, channels[0], 4, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Residual(c) for _ in range(n))) for c, n in zip(channels, blocks, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Sequential(Level(a), _conv(a, b, 3, 2)) for a, b in zip(channels, channels[1:], strict=False)
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


class Encoder(nn.Module):
    """Encodes a frame, given the picture, to a latent of the motion and changes between them."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.descent = Descent(8, config.channels, config.encoder_blocks)
        self.latent = nn.Sequential(Level(config.channels[-1]), _conv(config.channels[-1], config.latent, 1))

    def forward(self, frame: Tensor, picture: Tensor) -> Tensor:
        """[B, 4, S, S] each -> [B, Z, s, s]."""
        return self.latent(self.descent(torch.cat([frame, picture], 1))[-1])


@cache  # never evicted: a captured CUDA graph reads these addresses
def _places(height: int, width: int, device: torch.device) -> Tensor:
    """x and y of each position: [2, h, w]."""
    with torch.inference_mode(False):  # also used in training
        x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
        return torch.stack([x, y]).float().to(device)


@cache
def _pace(height: int, width: int, device: torch.device) -> Tensor:
    """
    Distance between positions when the first has -1 and the last 1. Created once: a step captured in a CUDA graph
    cannot copy it from the host.
    """
    with torch.inference_mode(False):
        return torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)], device=device)


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """
    Samples features [B, C, h, w] (or enlarged ones) at the positions to which `flow` [B, 2, h, w] points: x then y, in
    positions of its own resolution; the border is extended. Returns [B, C, h, w].
    """
    height, width = map(int, flow.shape[2:])  # constants in a traced step, too
    at = _places(height, width, features.device) + flow
    eager = not torch.is_grad_enabled() and not torch.jit.is_tracing()  # compiled code has a faster grid_sample
    if eager and features.device.type == "cpu" and features.shape[1] > 4:
        return _fetched(features, at)
    grid = at.permute(0, 2, 3, 1) * _pace(height, width, at.device) - 1
    moved = functional.grid_sample(features.float(), grid, padding_mode="border", align_corners=True)
    return moved.to(features.dtype)


def _fetched(features: Tensor, at: Tensor) -> Tensor:
    """
    `grid_sample` of features [B, C, h, w] at positions [B, 2, h, w], channels last: as a weighted sum of four rows of a
    table, which takes an eighth of the time on a CPU.
    """
    rows, channels, height, width = features.shape
    x, y = at[:, 0].clamp(0, width - 1), at[:, 1].clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right, below = x - left, y - top
    begin = torch.arange(rows).view(-1, 1, 1, 1) * (height * width)
    first = torch.add(left, top, alpha=width).long() + begin[..., 0]
    # A missing neighbour has weight 0, so any position of the same row can stand in for it; not one of another row,
    # whose NaNs would propagate. The same holds where a flow is NaN: the weight is then NaN as well.
    index = torch.stack([first, first + 1, first + width, first + (width + 1)], -1)
    index = torch.minimum(torch.maximum(index, begin), begin + (height * width - 1))
    both = right * below
    weight = torch.stack([1 - right - below + both, right - both, below - both, both], -1)
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)
    found = functional.embedding_bag(
        index.view(-1, 4), table, mode="sum", per_sample_weights=weight.view(-1, 4).to(features.dtype)
    )
    return found.view(rows, height, width, channels).permute(0, 3, 1, 2)


_FLOW_STEP = 0.1
"""Positions that the flow moves for an output of 1: an optimiser step must not displace the picture too far."""


def _finer(x: Tensor, times: int = 2) -> Tensor:
    """Upsamples by `times`, a power of 2, bilinearly by 2 each time: [B, C, h, w] -> [B, C, times h, times w]."""
    while times > 1:
        x, times = _doubled(x), times // 2
    return x


def _doubled(x: Tensor) -> Tensor:
    if not torch.jit.is_tracing():
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    channels = x.shape[1]
    taps = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
    one = torch.einsum("ay, bx -> abyx", taps, taps).view(4, 1, 3, 3)  # the 2x2 positions that each one becomes
    around = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return functional.pixel_shuffle(functional.conv2d(around, one.repeat(channels, 1, 1, 1), groups=channels), 2)


class Stage(nn.Module):
    """One step from coarse to fine: refines the flow, warps the picture's features and merges them."""

    def __init__(self, coarse: int, fine: int, anchored: bool) -> None:
        super().__init__()
        self.narrow = _conv(coarse, fine, 1)
        self.level = Level(fine)
        self.motion = _conv(fine, 3)  # refinement of the flow, and a gate for the warped features
        self.merge = nn.Sequential(Level(2 * fine), _conv(2 * fine, fine, 1))
        self.refine = Residual(fine)
        self.anchored = anchored
        nn.init.zeros_(self.motion.weight)

    def forward(self, x: Tensor, flow: Tensor | None, features: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, coarse, h, w], flow [B, 2, h, w] or None, features [B, fine, 2h, 2w] -> the same at twice the size."""
        x = functional.interpolate(self.narrow(x), scale_factor=2, mode="nearest")
        motion = self.motion(self.level(x))
        # fractions of a pixel matter; two channels are resized faster one at a time
        finer = _FLOW_STEP * motion[:, :2].float().contiguous()
        flow = finer if flow is None else 2 * _finer(flow) + finer
        if self.anchored:
            features = warp(features, flow) * torch.sigmoid(motion[:, 2:])
        return self.refine(self.merge(torch.cat([x, features], 1))), flow


class Decoder(nn.Module):
    """Latent and anchor to picture."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c = config.channels
        self.anchored = config.anchored
        self.enter = _conv(config.latent + c[-1], c[-1])
        self.deep = nn.Sequential(Residual(c[-1]), Residual(c[-1]))
        self.stages = nn.ModuleList(Stage(c[i + 1], c[i], config.anchored) for i in (2, 1, 0))
        self.level = Level(c[0])
        self.paint = _conv(c[0], 5 * 4)  # for each of 2x2 pixels: RGBA, and the weight of the picture
        with torch.no_grad():
            self.paint.weight.mul_(0.1)

    def forward(self, latent: Tensor, anchor: Anchor) -> tuple[Tensor, list[Tensor]]:
        """
        latent [B, Z, s, s], anchor of the same B -> [B, 4, S, S], not clamped, larger if the anchor is, and each
        stage's flow, coarse to fine: [B, 2, S / 8, S / 8] and so on.
        """
        features = anchor.features
        x = self.deep(self.enter(torch.cat([latent, features[-1]], 1)))
        flow: Tensor | None = None
        flows = []
        for stage, fine in zip(self.stages, reversed(features[:-1]), strict=True):
            x, flow = stage(x, flow, fine)
            flows.append(flow)
        said = self.paint(self.level(x)).float().split((16, 4), 1)  # splitting before the shuffle halves the copies
        painted, shows = (_finer(functional.pixel_shuffle(part, 2), anchor.times) for part in said)
        if not self.anchored:
            return painted, flows
        copied = warp(anchor.picture, 2 * anchor.times * _finer(flows[-1], 2 * anchor.times))
        return torch.lerp(painted, copied, torch.sigmoid(shows + 1)), flows


def _mix(matrix: Tensor, latent: Tensor) -> Tensor:
    """matrix [Z, Z] times each position of latent [B, Z, s, s]."""
    return functional.conv2d(latent, matrix[:, :, None, None])


class Autoencoder(nn.Module):
    """Encoder, anchor and decoder. Only the decoder runs for each frame of a live session."""

    mean: Tensor
    whiten: Tensor
    colour: Tensor
    shows: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.pyramid = Descent(4, config.channels, (1, 1, 1, 2))
        self.decoder = Decoder(config)
        # The encoder's output, minus its mean, is whitened: its channels are so correlated that a few directions would
        # dominate the generator's error, and lids and lips are among the small ones. `colour` inverts the whitening.
        self.register_buffer("mean", torch.zeros(config.latent))
        self.register_buffer("whiten", torch.eye(config.latent))
        self.register_buffer("colour", torch.eye(config.latent))
        # How visible an error in each whitened channel is in the picture, mean 1: weights of the generator's loss.
        self.register_buffer("shows", torch.ones(config.latent))

    def encode(self, frame: Tensor, picture: Tensor) -> Tensor:
        """
        Encodes frames relative to pictures, [B, 4, S, S] each -> whitened latents [B, Z, s, s]. Raises ValueError for
        an edge that is not divisible by 16.
        """
        height, width = picture.shape[2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"a picture of {width}x{height} pixels: both edges must be divisible by {STRIDE}")
        return _mix(self.whiten, self.encoder(frame, picture) - self.mean.view(-1, 1, 1))

    def anchor(self, picture: Tensor) -> Anchor:
        """Computes the decoder's anchor of a picture [B, 4, S, S]."""
        return Anchor(enlarged(picture), tuple(self.pyramid(picture)))

    def decode(self, latent: Tensor, anchor: Anchor) -> Tensor:
        """Whitened latent [B, Z, s, s] and anchors of the same B -> [B, 4, times S, times S] in -1..1."""
        return self.decode_with_flows(latent, anchor)[0]

    def decode_with_flows(self, latent: Tensor, anchor: Anchor) -> tuple[Tensor, list[Tensor]]:
        """`decode`, and each stage's flow, which training needs."""
        return self.decoder(_mix(self.colour, latent) + self.mean.view(-1, 1, 1), anchor)
