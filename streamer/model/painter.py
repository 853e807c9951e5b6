"""The painter: a latent and pictures of a character to a frame of any size.

    latent, pose ─┐
    references ───┴▶ Painter: flow and share of each reference, rough paint, features ─▶ compose ─▶ frame
                              features, composed crop ─▶ Patch: the crop in detail ──────────────▶ frame

Pixels are copied, not generated: the network computes where every place of the frame comes from in each reference
picture (a flow, refined from coarse to fine), how much of each reference shows there, and paints only what none of them
has. All of this is computed at an eighth of 512 pixels (`nano`); pixels themselves are copied at the size of the
output, outside the network where it runs on a CPU. The face is then repaired by a second network in a patch of twice
the networks' resolution, which sees the pixels that were copied there (InfinityHuman's refiner, for one step and a part
of the frame).

References are pictures of one character: the neutral one, and any that show what it lacks (shut eyes, an open mouth,
teeth, hands). They are blended by place, so that a person's own teeth and lids are copied and not invented.

Letters used in shapes: B frames, R references, S edge of the networks' pictures (256), s latent edge (S / 16), Z latent
channels, h = S / 4 edge of the flow, C channels, O edge of the output.
Pictures are premultiplied RGBA in -1..1.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamer.model.config import CELL, POSE, AutoencoderConfig
from streamer.model.layers import Descent, conv

_STEP = 0.25
"""Places that a flow moves for an output of 1."""

_MOST = 6.0
"""Bound of the logit of the paint's share: a share of nothing would never learn again."""

_NO_SHARE = -1e4
"""Logit of a missing reference: its softmax is 0, also of what is interpolated."""


class References(NamedTuple):
    """Computed once from a character's pictures."""

    deep: Tensor  # [B, R, C16, s, s]
    middle: Tensor  # [B, R, C8, 2s, 2s]
    fine: Tensor  # [B, R, C4, 4s, 4s]

    def expand(self, frames: int) -> "References":
        """Repeats the references for `frames` consecutive frames: [B, ...] -> [B * frames, ...]."""
        return References(*(level.repeat_interleave(frames, 0) for level in self))


class Painted(NamedTuple):
    """What the coarse network says of a frame."""

    flow: Tensor  # [B, R, 2, h, h]: x and y from a place to its source in each reference, in places
    shares: Tensor  # [B, R, 2h, 2h]: share of each reference, sum 1
    paint: Tensor  # [B, 4, 2h, 2h], not clamped
    painted: Tensor  # [B, 1, 2h, 2h]: share of the paint
    features: Tensor  # [B, C4, h, h]
    flows: tuple[Tensor, ...]  # those of the stages before, coarse to fine


def sample(pictures: Tensor, at: Tensor) -> Tensor:
    """
    Samples pictures [B, C, h, w] bilinearly at places `at` [B, 2, y, x], in fractions of their edges (pixel centres are
    at half-integers); the border is extended. Returns [B, C, y, x].
    """
    grid = at.float().permute(0, 2, 3, 1) * 2 - 1
    found = functional.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)
    return found.to(pictures.dtype)


def places(height: int, width: int, like: Tensor) -> Tensor:
    """x and y of each pixel's centre in fractions of the edges: [2, h, w]."""
    x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) / width
    y = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) / height
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def finer(x: Tensor, times: int = 2) -> Tensor:
    """Bilinear upsampling: [B, C, h, w] -> [B, C, times h, times w]."""
    return functional.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


class Block(nn.Module):
    """
    x + two 3x3 convolutions. Nothing is normalised: an engine then joins the activation and the sum to the
    convolutions, which takes a third less time.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = conv(channels, channels), conv(channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape."""
        return x + self.second(functional.silu(self.first(x)))


class Match(nn.Module):
    """Compares the frame's features with a reference's, at the places where the flow expects them."""

    def __init__(self, channels: int, hidden: int, shares: int) -> None:
        super().__init__()
        self.both = conv(2 * channels, hidden)
        self.say = conv(hidden, 2 + shares)
        nn.init.zeros_(self.say.weight)

    def forward(self, x: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """
        x [B, C, h, w], found [B, R, C, h, w] -> change of the flow [B, R, 2, h, w] and logits [B, R, shares, h, w].
        """
        rows, count = found.shape[:2]
        asked = x[:, None].expand(-1, count, -1, -1, -1)
        pair = torch.cat([asked, found], 2).flatten(0, 1)
        said = self.say(functional.silu(self.both(pair))).float().unflatten(0, (rows, count))
        return _STEP * said[:, :, :2], said[:, :, 2:]


class Stage(nn.Module):
    """One step from coarse to fine: finds each reference's features, refines its flow, merges what was found."""

    def __init__(self, coarse: int, fine: int, hidden: int, shares: int) -> None:
        super().__init__()
        self.narrow = conv(coarse, fine, 1)
        self.match = Match(fine, hidden, shares)
        self.merge = conv(2 * fine, fine, 1)
        self.refine = Block(fine)

    def forward(self, x: Tensor, flow: Tensor, logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        x [B, coarse, h, w], flow [B, R, 2, h, w], logits [B, R, 1, h, w], features [B, R, fine, 2h, 2w] -> the same at
        twice the size; logits [B, R, shares, 2h, 2w].
        """
        rows, count = flow.shape[:2]
        x = functional.interpolate(self.narrow(x), scale_factor=2, mode="nearest")
        flow = 2 * finer(flow.flatten(0, 1)).unflatten(0, (rows, count))
        logits = finer(logits.flatten(0, 1)).unflatten(0, (rows, count))
        height, width = features.shape[-2:]
        at = places(height, width, flow) + flow.flatten(0, 1) / width  # square, as all pictures here
        found = sample(features.flatten(0, 1), at).unflatten(0, (rows, count))
        change, more = self.match(x, found)
        logits = logits + more
        blended = (logits.mean(2, keepdim=True).softmax(1).to(found.dtype) * found).sum(1)
        return self.refine(self.merge(torch.cat([x, blended], 1))), flow + change, logits


class Painter(nn.Module):
    """The coarse network, at an eighth of 512 pixels. See the module's docstring."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        fine, middle, deep = config.coarse
        self.pyramid = Descent(4, config.channels, (1, 1, 1, 2))
        self.keep_middle = conv(config.channels[2], middle, 1)
        self.keep_fine = conv(config.channels[1], fine, 1)
        self.enter = conv(config.latent + deep, deep)
        self.pose = conv(POSE, deep)
        self.deep = nn.Sequential(Block(deep), Block(deep))
        self.match = Match(deep, config.match[2], 1)
        self.stages = nn.ModuleList([Stage(deep, middle, config.match[1], 1), Stage(middle, fine, config.match[0], 4)])
        self.paint = conv(fine, 5 * 4)
        self.patch = Patch(config)
        nn.init.zeros_(self.pose.weight)
        with torch.no_grad():
            self.paint.weight.mul_(0.1)

    def references(self, pictures: Tensor) -> References:
        """Pictures [B, R, 4, S, S], the neutral one first -> their features."""
        rows = pictures.shape[:2]
        features = self.pyramid(pictures.flatten(0, 1))
        kept = features[3], self.keep_middle(features[2]), self.keep_fine(features[1])
        return References(*(level.unflatten(0, rows) for level in kept))

    def forward(
        self, latent: Tensor, pose: Tensor | None, references: References, missing: Tensor | None = None
    ) -> Painted:
        """
        latent [B, Z, s, s], pose [B, 8, s, s] or None, references of the same B. `missing`, bool [B, R]: references
        that get no share, as if they had not been given, so that characters with fewer references share a batch.
        """
        deep = references.deep
        x = self.enter(torch.cat([latent, deep[:, 0]], 1))
        if pose is not None:
            x = x + self.pose(pose)
        x = self.deep(x)
        flow, logits = self.match(x, deep)
        if missing is not None:  # what the stages add to the logits is small
            logits = logits.masked_fill(missing[:, :, None, None, None], _NO_SHARE)
        flows = [flow]
        for stage, features in zip(self.stages, (references.middle, references.fine), strict=True):
            x, flow, logits = stage(x, flow, logits, features)
            flows.append(flow)
        said = functional.pixel_shuffle(self.paint(x).float(), 2)
        shuffled = functional.pixel_shuffle(logits.flatten(0, 1), 2)  # ONNX knows it for four dimensions only
        shares = shuffled[:, 0].unflatten(0, logits.shape[:2]).softmax(1)
        share = torch.sigmoid(_MOST * torch.tanh((said[:, 4:] - 2) / _MOST))
        return Painted(flow, shares, said[:, :4], share, x, tuple(flows[:-1]))


class Patch(nn.Module):
    """Repaints a crop of the composed frame at its own resolution."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        wide, deep = config.patch
        self.enter = conv(4 * 16, wide, 1)
        self.guide = conv(config.coarse[0], wide, 1)
        self.first = Block(wide)
        self.down = conv(wide, deep, 3, 2)
        self.deep = nn.Sequential(Block(deep), Block(deep))
        self.up = conv(deep, wide, 1)
        self.last = Block(wide)
        self.paint = conv(wide, 4 * 16, 1)
        nn.init.zeros_(self.paint.weight)  # at first nothing is changed

    def forward(self, composed: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """
        composed [B, 4, 8n, 8n], features [B, C4, n, n] -> a change of the colours [B, 4, 8n, 8n] and its share
        [1, 1, 8n, 8n], which fades towards the rim: the result is composed + share * change.
        """
        x = self.enter(functional.pixel_unshuffle(composed, 4)) + finer(self.guide(features))
        x = self.first(x)
        below = self.deep(self.down(functional.silu(x)))
        x = self.last(x + functional.interpolate(self.up(below), scale_factor=2, mode="nearest"))
        change = functional.pixel_shuffle(self.paint(x).float(), 4)
        return change, fade(change)


def fade(like: Tensor) -> Tensor:
    """[1, 1, h, w]: 1 inside, falling to 0 over the last CELL pixels before the rim."""
    height, width = like.shape[2:]
    place = places(height, width, like)
    across, down = torch.minimum(place, 1 - place)
    return ((across * (width / CELL)).clamp(max=1) * (down * (height / CELL)).clamp(max=1))[None, None]


def compose(textures: Tensor, painted: Painted, size: int, frames: int = 1) -> Tensor:
    """
    The frame as the coarse network says, for `frames` consecutive frames of each character:
    [B * frames, 4, size, size].

    textures [B, R, 4, P, P]: the references at any size, or `enlarged` from it: an odd P says so. The counterpart of
    `runtime.compose` in training and on a GPU.
    """
    at = places(size, size, painted.flow).expand(len(painted.flow), -1, -1, -1)
    return _composed(textures, painted, at, frames)


def compose_part(textures: Tensor, painted: Painted, size: int, corners: Tensor, edge: int, frames: int = 1) -> Tensor:
    """
    `compose` for a part `edge` wide of each frame of `size`, whose upper left corners are `corners` [B * frames, 2]
    (x, y in pixels): [B * frames, 4, edge, edge].
    """
    at = places(edge, edge, painted.flow) * (edge / size) + corners[:, :, None, None] / size
    return _composed(textures, painted, at, frames)


def _composed(textures: Tensor, painted: Painted, at: Tensor, frames: int) -> Tensor:
    """The frame at places `at` [B * frames, 2, y, x], in fractions of its edge."""
    count, height = painted.flow.shape[1], at.shape[2]
    scenes, edge = textures.shape[0], textures.shape[-1]
    flow = sample(painted.flow.flatten(1, 2), at).unflatten(1, (count, 2)) / painted.flow.shape[-1]
    said = sample(torch.cat([painted.shares, painted.painted, painted.painted * painted.paint], 1), at)
    total: Tensor | None = None
    for r in range(count):
        source = at + flow[:, r]
        if edge % 2:  # an enlarged picture's outermost pixels lie on its rim
            source = (source * (edge + 1) - 0.5) / edge
        # The frames of a character are sampled from its picture in one call, one below the other.
        tall = source.unflatten(0, (scenes, frames)).transpose(1, 2).flatten(2, 3)
        copied = sample(textures[:, r].float(), tall).unflatten(2, (frames, height)).transpose(1, 2).flatten(0, 1)
        copied = copied * said[:, r : r + 1]
        total = copied if total is None else total + copied
    assert total is not None
    return total * (1 - said[:, count : count + 1]) + said[:, count + 1 :]


def crop_features(features: Tensor, corners: Tensor, edge: int) -> Tensor:
    """
    Features [B, C, h, h] below patches `edge` wide whose corners [B, 2] are multiples of CELL pixels:
    [B, C, edge / CELL, edge / CELL].
    """
    cells = edge // CELL
    return sample(
        features,
        (places(cells, cells, features) * cells + corners[:, :, None, None] / CELL) / features.shape[-1],
    )
