"""Small networks with a painter and random weights, saved and exported, for the tests of exported graphs."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

from streamer.model.autoencoder import Autoencoder
from streamer.model.checkpoint import Networks, save
from streamer.model.config import AutoencoderConfig, ModelConfig, TransformerConfig
from streamer.model.runtime.graphs import Graphs, find
from streamer.model.transformer import Transformer
from streamer.training import export

CONTEXT = 2


def small(context: int = 0, patch: tuple[int, int] = (8, 8)) -> ModelConfig:
    """A preset of the size for which frames can be composed, with few channels."""
    return ModelConfig(
        "small",
        256,
        AutoencoderConfig(4, (4, 4, 8, 8), (0, 0, 0, 0), (4, 8, 8), (4, 4, 4), patch),
        TransformerConfig(
            width=32, depth=2, heads=2, hidden=64, modulation=16, emotion_width=16, context=context, rope_time=4
        ),
    )


def painted_networks(context: int = 0, patch: tuple[int, int] = (8, 8)) -> Networks:
    """Random weights that float16 holds, everywhere, so that every condition shows."""
    config = small(context, patch)
    torch.manual_seed(0)
    made = Networks(config, Autoencoder(config.autoencoder), Transformer(config))
    for module in (made.autoencoder, made.transformer):
        module.eval().requires_grad_(False)
        for value in module.state_dict().values():
            value.add_(0.05 * torch.randn_like(value))
            value.copy_(value.half().float())
    return made


def saved(networks: Networks, folder: Path) -> Path:
    """Writes the weights."""
    path = folder / f"{networks.config.name}.safetensors"
    save(path, networks.config, networks.autoencoder, networks.transformer)
    return path


@cache
def exported_networks() -> tuple[Networks, Graphs]:
    """Networks with CONTEXT and their graphs, exported once for all tests of a process: it takes some seconds."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, True)
    networks = painted_networks(CONTEXT)
    export.export(networks, saved(networks, folder))
    return networks, find("small", folder, networks.config)
