"""The networks in torch on a CPU, behind the renderer of the exported ones.

The reference that exported networks and the GPU are compared with, and the way to draw with weights that are not
exported: those of a training's stages, in several steps or with another context.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from streamer.model.checkpoint import Networks
from streamer.model.graph_modules import MODULES, Step, with_context
from streamer.model.runtime.engines import Network
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.model.runtime.graphs import STEP

_CORES = torch.get_num_threads()
_MOST_THREADS = 4
"""More threads were never measured."""


def limit_threads() -> None:
    """
    Leaves one core for packets and encoding: on two cores beside a browser, two of torch's threads wait for each other
    and are slower than one.
    """
    torch.set_num_threads(min(max(_CORES - 1, 1), _MOST_THREADS))


class _InTorch:
    """One module as a `Network`."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype

    @torch.inference_mode()
    def __call__(self, given: Sequence[np.ndarray]) -> list[np.ndarray]:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in given]
        made = self._module(*(x.to(self._dtype) if x.is_floating_point() else x for x in tensors))
        return [x.float().numpy() for x in ([made] if isinstance(made, torch.Tensor) else made)]


def in_torch(networks: Networks, dtype: torch.dtype = torch.float32, steps: int = 1) -> Mapping[str, Network]:
    """A preset's networks by the names of `runtime.graphs`, in one precision."""
    own = Networks(
        networks.config, copy.deepcopy(networks.autoencoder).to(dtype), copy.deepcopy(networks.transformer).to(dtype)
    )
    modules = {name: Step(own, steps) if name == STEP else module(own) for name, module in MODULES.items()}
    return {name: _InTorch(module.eval(), dtype) for name, module in modules.items()}


class FrameRenderer(GraphFrameRenderer):
    """Renders frames with a preset's networks in torch."""

    def __init__(
        self, networks: Networks, dtype: torch.dtype = torch.float32, steps: int = 1, context: int | None = None
    ) -> None:
        """`context`: frames of context; by default the preset's. Several `steps` are for presets without context."""
        context = networks.config.transformer.context if context is None else context
        if context:
            networks = with_context(networks, context)
        super().__init__(networks.config, in_torch(networks, dtype, steps), context)
