"""The networks as the renderer calls them: one module for each graph of `runtime.graphs`, for one session.

They are exported for the CPU (`streamer.training.export`), and called as they are by `runtime.torch_cpu`.

Letters used in shapes: S edge of the networks' pictures, s latent edge, Z latent channels, C channels, R references,
h = 4 s edge of the flow, P edge of a patch, L layers, N tokens of a latent frame, H heads, D channels of a head.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from streamer.model.checkpoint import Networks
from streamer.model.kv_cache import Cache
from streamer.model.painter import References
from streamer.model.runtime.graphs import ADVANCE, IDENTITY, PAINT, PATCH, PREPARE, STEP
from streamer.model.sampling import advance, generate, times
from streamer.model.transformer import Conditions, Transformer


class Prepare(nn.Module):
    """A reference [1, 4, S, S] in -1..1 -> its features at strides 16, 8 and 4: [1, C, s, s] and so on."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.autoencoder = networks.autoencoder

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        return tuple(level[0] for level in self.autoencoder.painter.references(picture[None]))


class Identity(nn.Module):
    """The neutral picture's deep features [1, C, s, s] -> `Reference`."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.transformer = networks.transformer

    def forward(self, deep: Tensor) -> tuple[Tensor, ...]:
        reference = self.transformer.reference(deep)
        return reference.added, *reference.sinks


class Step(nn.Module):
    """`generate` without context, in one step or several."""

    def __init__(self, networks: Networks, steps: int = 1) -> None:
        super().__init__()
        self.transformer, self.times = networks.transformer, times(steps)

    def forward(
        self, noise: Tensor, added: Tensor, faces: Tensor, plan: Tensor, heard: Tensor, emotion: Tensor,
        sink_keys: Tensor, sink_values: Tensor,
    ) -> Tensor:  # fmt: skip
        """The next latent [1, Z, s, s]; conditions as in `Conditions`, the sink as in `Cache`."""
        given = torch.ones(1)
        now = Conditions(plan, given, heard, given, faces, emotion, given)
        cache = Cache.empty(self.transformer.config, (sink_keys, sink_values), 0)
        return generate(self.transformer, noise, now, added, cache, self.times)


class _Ring(Cache):
    """One session's cache whose ring is in order; a frame's keys and values are returned, not stored."""

    appended: tuple[Tensor, Tensor]

    def read(self) -> tuple[Tensor, Tensor]:
        return self.ring_keys, self.ring_values

    def append(self, keys: Tensor, values: Tensor) -> None:
        self.appended = keys, values


class Advance(nn.Module):
    """`advance` for one session."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.transformer = networks.transformer

    def forward(
        self, noise: Tensor, previous: Tensor, added: Tensor, faces: Tensor, plan: Tensor, plan_before: Tensor,
        heard: Tensor, heard_before: Tensor, emotion: Tensor, emotion_before: Tensor, ring_keys: Tensor,
        ring_values: Tensor, filled: Tensor, sink_keys: Tensor, sink_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """
        The next latent [1, Z, s, s], and keys and values [L, 1, N, H, D] of the previous one; conditions as in
        `Conditions`, the ring and the sink as in `Cache`, `filled` int64 [1].
        """
        given = torch.ones(1)
        now = Conditions(plan, given, heard, given, faces, emotion, given)
        before = Conditions(plan_before, given, heard_before, given, faces, emotion_before, given)
        cache = _Ring(ring_keys, ring_values, sink_keys, sink_values, filled)
        drawn = advance(self.transformer, (previous, before), noise, now, added, cache)
        return drawn, *cache.appended


class Paint(nn.Module):
    """
    A latent [1, Z, s, s] and R references' features [R, C, s, s], [R, C, 2s, 2s] and [R, C, 4s, 4s] -> what is copied
    and painted, h = 4s: flow [R, 2, h, h] in edges of the frame, shares [R, 2h, 2h] with the sum 1, paint [5, 2h, 2h]:
    premultiplied RGBA in 0..1 and its share, and features [1, C, h, h] for the patches.
    """

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.autoencoder = networks.autoencoder

    def forward(self, latent: Tensor, deep: Tensor, middle: Tensor, fine: Tensor) -> tuple[Tensor, ...]:
        painted = self.autoencoder.decode(latent, None, References(deep[None], middle[None], fine[None]))
        paint = torch.cat([(painted.paint[0] + 1) / 2, painted.painted[0]])
        return painted.flow[0] / painted.flow.shape[-1], painted.shares[0], paint, painted.features


class PaintPatch(nn.Module):
    """
    A part [1, 4, P, P] of the composed frame, premultiplied RGBA in 0..1, and its features [1, C, P / 8, P / 8] ->
    [5, P, P]: RGBA in detail and its share.
    """

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.autoencoder = networks.autoencoder

    def forward(self, composed: Tensor, features: Tensor) -> Tensor:
        change, share = self.autoencoder.painter.patch(2 * composed - 1, features)
        return torch.cat([composed[0] + change[0] / 2, share[0]])


MODULES: Mapping[str, type[nn.Module]] = {
    PREPARE: Prepare,
    IDENTITY: Identity,
    STEP: Step,
    ADVANCE: Advance,
    **dict.fromkeys(PAINT, Paint),
    PATCH: PaintPatch,
}


def with_context(networks: Networks, context: int) -> Networks:
    """The same networks with a table of positions for that many context frames; no weight depends on it."""
    old = networks.config
    if old.transformer.context == context:
        return networks
    config = dataclasses.replace(old, transformer=dataclasses.replace(old.transformer, context=context))
    transformer = Transformer(config)
    transformer.load_state_dict(networks.transformer.state_dict())
    return Networks(config, networks.autoencoder, transformer.eval().requires_grad_(False))
