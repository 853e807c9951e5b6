"""The painter's side of a live step on a device: characters in slots, and frames from the slots' latents.

    latents, references ─▶ decode ─▶ compose ─▶ patch of the face ─▶ plate ─▶ frames

The counterpart of `compose`, which serves the CPU, for several sessions at once. Frames are drawn at twice the edge of
the networks' pictures, where patches are painted. As in `slots`, tensors are written in place and never replaced, and a
step reads no value on the host, so that it can be captured in a CUDA graph. Flows and positions are float32, whatever
the networks' precision is.

Letters used in shapes: P slots, b slots of a step, R references, S edge of the networks' pictures, D = 2 S edge of
frames, s = S / 16 latent edge, h = S / 4 edge of the flow in cells, T edge of a picture, Z latent channels, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.autoencoder import Autoencoder
from streamer.model.config import CELL, STRIDE, ModelConfig, patch_edge
from streamer.model.layers import enlarged
from streamer.model.painter import Painter, References, compose, places
from streamer.model.runtime.color import eight_bit, over, scaled
from streamer.model.transformer import Reference

REFERENCES = 3
"""References in a slot: of more, the first are used."""

_KEPT = 0.75
"""Cells by which a patch's exact position must change before the patch moves: a change of the grid is visible."""


def frame_edge(config: ModelConfig) -> int:
    """D: edge of frames as they are drawn."""
    return 2 * config.size


@dataclass(frozen=True, eq=False)
class PreparedCharacter:
    """A character, ready to be rendered, on the device; read-only."""

    size: int
    """Edge of its frames."""
    transparent: bool
    """Whether its frames may be transparent: they then come with alpha."""
    pictures: tuple[Tensor, ...]  # of each reference, [4, T, T] uint8; larger as textures, so made for a session only
    features: References  # [1, R, C, ...]
    plate: Tensor | None  # [4, D, D] uint8, premultiplied
    opaque: bool  # whether every reference is
    centre: tuple[float, float]  # of the face in the neutral picture, x and y in edges
    reference: Reference
    faces: Tensor  # [1, 1, N]


def checked(references: Sequence[np.ndarray], edge: int) -> Sequence[np.ndarray]:
    """The first REFERENCES pictures, [T, T, 4] uint8 with T at least `edge`. Raises ValueError for others."""
    if not references:
        raise ValueError("a character of 0 references: want 1 or more, the neutral one first")
    for picture in references:
        wide = picture.shape[0]
        if picture.ndim != 3 or picture.shape != (wide, wide, 4) or picture.dtype != np.uint8:
            raise ValueError(f"a reference of shape {picture.shape} and {picture.dtype}: want uint8 [T, T, 4]")
        if wide < edge:
            raise ValueError(f"a reference of {wide} pixels for frames drawn at {edge}: it must not be smaller")
    return references[:REFERENCES]


def on_device(picture: np.ndarray, device: torch.device) -> Tensor:
    """[T, T, C] uint8 -> [C, T, T] uint8."""
    return torch.from_numpy(np.ascontiguousarray(picture)).to(device).permute(2, 0, 1).contiguous()


def network_input(picture: Tensor, size: int) -> Tensor:
    """[4, T, T] uint8 -> [1, 4, S, S] in -1..1: means over areas."""
    return functional.interpolate(picture[None].float(), (size, size), mode="area") / 127.5 - 1


def plate_of(plate: np.ndarray, edge: int, device: torch.device) -> Tensor:
    """A plate [T, T, 3] RGB or [T, T, 4] straight RGBA, uint8 -> [4, edge, edge] uint8 premultiplied. Or ValueError."""
    wide = plate.shape[0]
    if plate.ndim != 3 or plate.shape not in ((wide, wide, 3), (wide, wide, 4)) or plate.dtype != np.uint8 or not wide:
        raise ValueError(f"a plate of shape {plate.shape} and {plate.dtype}: want uint8 [T, T, 3 or 4]")
    pixels = on_device(plate, device)[None].float()
    alpha = pixels[:, 3:] if plate.shape[2] == 4 else torch.full_like(pixels[:, :1], 255)
    pixels = torch.cat([(pixels[:, :3] * alpha / 255).round(), alpha], 1)
    return (pixels if wide == edge else scaled(pixels, edge))[0].to(torch.uint8)


def limited(picture: Tensor, edge: int) -> Tensor:
    """A reference [4, T, T] uint8 at no more than twice `edge`, beyond which a texture shows nothing."""
    return picture if picture.shape[-1] <= 2 * edge else scaled(picture[None].float(), 2 * edge)[0].to(torch.uint8)


def texture(picture: Tensor, edge: int) -> Tensor:
    """
    A reference [4, T, T] uint8, T at least `edge`, as `painter.compose` samples it: [4, 2 edge - 1, 2 edge - 1] in
    -1..1. `enlarged`, or from a larger picture its detail at the same positions.
    """
    pixels = picture[None].float() / 127.5 - 1
    if picture.shape[-1] == edge:
        return enlarged(pixels)[0]
    at = torch.arange(1, 2 * edge, device=picture.device, dtype=torch.float32) / edge - 1
    grid = torch.stack([at.expand(len(at), -1), at[:, None].expand(-1, len(at))], -1)[None]
    return functional.grid_sample(pixels, grid, "bicubic", "border", align_corners=False)[0]


def patch_place(flow: Tensor, centre: Tensor, cells: int, last: Tensor) -> Tensor:
    """
    Where the face is in each frame: corners [b, 2] int64, x and y in cells, of squares of `cells` around it.

    `compose.patch_place` for several frames, without a read on the host. `flow` [b, 2, h, h] of the neutral reference,
    in cells; `centre` [b, 2] of the face in it, in edges; `last` [b, 2] int64, the corners of the frames before,
    negative if there was none. NaN and Inf in the flow are ignored.
    """
    edge = flow.shape[-1]
    offsets = flow / edge
    away = places(edge, edge, flow) + offsets - centre[:, :, None, None]
    radius = cells / edge / 4
    near = (away.square().sum(1, keepdim=True) < radius**2).flatten(2)  # [b, 1, h h]
    offsets = offsets.flatten(2)
    known = offsets.masked_fill(~near, torch.nan)
    # PyTorch's median is the lower of the two middle values: the mean of both, or NaN if nothing is near.
    middle = (known.nanmedian(2, keepdim=True).values - (-known).nanmedian(2, keepdim=True).values) / 2
    close = near & ((offsets - middle).abs().amax(1, keepdim=True) <= radius)
    count = close.sum(2)
    mean = offsets.masked_fill(~close, 0).sum(2) / count.clamp(min=1)
    found = torch.where(count > 0, mean, middle[..., 0].nan_to_num(0.0))
    corner = edge * (centre - found) - cells / 2
    stays = (last >= 0) & ((corner - last).abs() <= _KEPT)
    return torch.where(stays, last.float(), corner).round().clamp(0, edge - cells).to(torch.int64)


def _square(corner: Tensor, edge: int) -> tuple[Tensor, slice, Tensor, Tensor]:
    """The index of squares with corners [b, 2] (x, y) in pictures [b, C, h, w]: their pixels are [b, edge, edge, C]."""
    row = torch.arange(len(corner), device=corner.device)[:, None, None]
    along = torch.arange(edge, device=corner.device)
    x, y = corner[:, :1] + along, corner[:, 1:] + along
    return row, slice(None), y[:, :, None], x[:, None, :]


def repaint(composed: Tensor, features: Tensor, corner: Tensor, painter: Painter) -> None:
    """
    Paints the patches at corners [b, 2], in cells, into composed frames [b, 4, D, D], in place. `features`
    [b, C, h, h] as in `Painted`, whose precision the painter's is.
    """
    cells = patch_edge(composed.shape[-1] // 2) // CELL
    at = _square(CELL * corner, CELL * cells)
    part = composed[at]
    guide = features[_square(corner, cells)].permute(0, 3, 1, 2).contiguous()
    change, share = painter.patch(part.permute(0, 3, 1, 2).to(features.dtype).contiguous(), guide)
    composed[at] = part + (share * change).permute(0, 2, 3, 1)


class Scenes:
    """What the frames of up to `capacity` sessions are drawn from, by slot. Tensors never move."""

    def __init__(self, config: ModelConfig, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        c, self.edge = config.autoencoder, frame_edge(config)
        self._cells = patch_edge(config.size) // CELL
        self._device = device
        deepest = config.size // STRIDE
        large = 2 * self.edge - 1

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(capacity, *shape, dtype=dtype, device=device)

        with torch.inference_mode(False):  # inference tensors cannot be written outside of inference mode
            self.textures = zeros(REFERENCES, 4, large, large)
            self.features = References(
                *(
                    zeros(REFERENCES, channels, deepest << i, deepest << i, dtype=dtype)
                    for i, channels in enumerate(reversed(c.coarse))
                )
            )
            self.missing = zeros(REFERENCES, dtype=torch.bool)
            self.plates = zeros(4, self.edge, self.edge, dtype=torch.uint8)  # transparent without one
            self.opaque = zeros(dtype=torch.bool)
            self.centre = zeros(2)
            self.place = zeros(2, dtype=torch.int64)  # the last patch's corner in cells; negative: none yet

    def tensors(self) -> list[Tensor]:
        """All tensors, which move with a session from slot to slot."""
        return [
            *(self.textures, *self.features, self.missing),
            *(self.plates, self.opaque, self.centre, self.place),
        ]

    def seat(self, slot: int, still: PreparedCharacter) -> None:
        """Writes a character into a slot. Copies of the neutral reference, without a share, stand for missing ones."""
        count = len(still.pictures)
        for r in range(REFERENCES):
            source = r if r < count else 0
            target = self.textures[slot, r]
            target.copy_(texture(still.pictures[r], self.edge) if r < count else self.textures[slot, 0])
            for place, level in zip(self.features, still.features, strict=True):
                place[slot, r].copy_(level[0, source])
            self.missing[slot, r].fill_(r >= count)
        if still.plate is None:
            self.plates[slot].zero_()
        else:
            self.plates[slot].copy_(still.plate)
        self.opaque[slot].fill_(still.opaque)
        for axis, value in enumerate(still.centre):
            self.centre[slot, axis].fill_(value)
        self.reset(slot)

    def reset(self, slot: int) -> None:
        """Forgets where the last patch was."""
        self.place[slot].fill_(-1)

    def draw(self, autoencoder: Autoencoder, latents: Tensor, due: Tensor) -> tuple[Tensor, Tensor]:
        """
        The frames of the first b slots from latents [b, Z, s, s]: premultiplied RGBA [b, 4, D, D] in 0..255, over their
        plates, and whether each is finite, bool [b]. `due`, bool [b]: other slots' frames are undefined, and their
        state is kept.
        """
        first = slice(len(latents))
        references = References(*(level[first] for level in self.features))
        painted = autoencoder.decode(latents, None, references, self.missing[first])
        composed = compose(self.textures[first], painted, self.edge)
        last = self.place[first]
        place = patch_place(painted.flow[:, 0], self.centre[first], self._cells, last)
        last.copy_(torch.where(due[:, None], place, last))
        repaint(composed, painted.features, place, autoencoder.painter)
        # The border's extension may hide a flow that is not finite.
        parts = (latents, painted.flow, composed)
        finite = torch.stack([part.flatten(1).float().sum(1) for part in parts]).isfinite().all(0)
        return over(eight_bit(composed), self.opaque[first], self.plates[first]), finite
