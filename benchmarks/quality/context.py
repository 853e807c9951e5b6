"""How the weights depend on frames of context and on attention to the picture's tokens, without further training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.clips import Passage
from benchmarks.quality.drift import idle
from benchmarks.quality.lip_reader import Reader
from benchmarks.quality.lips import Sides
from benchmarks.quality.lips import measure as measure_lips
from streamer.model.checkpoint import Networks
from streamer.model.config import ModelConfig
from streamer.model.runtime.torch_cpu import FrameRenderer
from streamer.model.transformer import Reference, Transformer

CONTEXTS = (0, 1, 2, 3)
"""Context lengths, in frames, with which weights are measured."""


class Sinkless(Transformer):
    """A generator whose reference is added to its tokens but never attended to."""

    def reference(self, features: Tensor) -> Reference:
        full = super().reference(features)
        return Reference(full.added, (full.sinks[0][:, :, :0], full.sinks[1][:, :, :0]))


@dataclass(frozen=True)
class Variant:
    name: str
    context: int = 0
    sink: bool = True


def config_of(base: ModelConfig, variant: Variant) -> ModelConfig:
    return replace(base, transformer=replace(base.transformer, context=variant.context))


def reconfigured(networks: Networks, variant: Variant) -> Networks:
    """The same weights with another context length or without the sink."""
    config = config_of(networks.config, variant)
    model = (Transformer if variant.sink else Sinkless)(config)
    model.load_state_dict(networks.transformer.state_dict())
    return Networks(config, networks.autoencoder, model.eval().requires_grad_(False))


def looking_back(
    networks: Networks,
    dtype: torch.dtype,
    passages: Sequence[Passage],
    silence: np.ndarray,
    reader: Reader,
    seconds: float = 8.0,
) -> dict[str, Any]:
    """Lips and pictures of `passages`, and motion in silence, for each variant."""
    shipped = networks.config.transformer.context
    others = [Variant(f"context {n}", n) for n in CONTEXTS if n != shipped]
    variants = [Variant(f"as shipped: context {shipped}", shipped), *others,
                Variant("without the sink", shipped, sink=False)]  # fmt: skip
    rows = []
    for variant in variants:
        renderer = FrameRenderer(reconfigured(networks, variant), dtype)
        lips = measure_lips(passages, Sides(renderer, None, None, 0), reader, None)
        still = idle(renderer, reader, [passages[0].seed], silence, seconds, np.random.default_rng(3))["sides"]
        rows.append({
            "variant": variant.name, "one step": lips["columns"]["one step"],
            "idle": still["one step"], "idle_rig": still["rig"],
        })  # fmt: skip
        print(f"looking back: {variant.name}", flush=True)
    return {"n": sum(map(len, passages)), "rows": rows}
