"""Weights on disk: one fp16 safetensors file per preset, with metadata in its header.

Loading is all or nothing: a file is checked completely before any weight is used.
"""

import dataclasses
import json
from pathlib import Path

from torch import Tensor, nn

from streamer.base.resources import WEIGHTS
from streamer.model.autoencoder import Autoencoder
from streamer.model.config import ModelConfig, preset
from streamer.model.transformer import Transformer
from streamer.model.weights_file import BadWeights

VERSION = "2"
"""Version of the networks' layout: weights of another version are incompatible."""


@dataclasses.dataclass(frozen=True)
class Networks:
    """A preset's networks, in evaluation mode and without gradients."""

    config: ModelConfig
    autoencoder: Autoencoder
    transformer: Transformer


def weights_path(name: str) -> Path:
    return WEIGHTS / f"{name}.safetensors"


def _described(config: ModelConfig) -> str:
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def _fits(described: str | None, config: ModelConfig) -> bool:
    """Whether weights of that description have these sizes, ignoring the context length, which no weight depends on."""
    try:
        found, wanted = json.loads(described or ""), json.loads(_described(config))
        found["transformer"]["context"] = wanted["transformer"]["context"]
    except (ValueError, LookupError, TypeError):
        return False
    return bool(found == wanted)


def _named(autoencoder: Autoencoder, transformer: Transformer) -> dict[str, nn.Module]:
    return {"autoencoder": autoencoder, "transformer": transformer}


def untrained(config: ModelConfig) -> Networks:
    """Random weights, for tests and for timings of presets without weights."""
    return _ready(config, Autoencoder(config.autoencoder), Transformer(config))


def _ready(config: ModelConfig, autoencoder: Autoencoder, transformer: Transformer) -> Networks:
    for module in (autoencoder, transformer):
        module.eval().requires_grad_(False)
    return Networks(config, autoencoder, transformer)


def save(path: Path, config: ModelConfig, autoencoder: Autoencoder, transformer: Transformer, **notes: str) -> None:
    """Writes fp16 weights, with `notes` in the header. Raises BadWeights for a weight that fp16 cannot hold."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for prefix, module in _named(autoencoder, transformer).items():
        for name, value in module.state_dict().items():
            half = value.detach().cpu().half()
            if not half.isfinite().all():
                raise BadWeights(f"{prefix}.{name} contains values that are not finite in fp16")
            tensors[f"{prefix}.{name}"] = half.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"version": VERSION, "preset": config.name, "config": _described(config), **notes})


def load(name: str = "nano", path: Path | None = None) -> Networks:
    """
    Loads the preset's networks in float32 from `path`, or from the weights shipped with the package. Raises
    FileNotFoundError, BadWeights, or ValueError for an unknown preset.
    """
    config = preset(name)
    path = path or weights_path(name)
    if not path.is_file():
        raise FileNotFoundError(f"no weights for the preset {name!r} at {path}")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise BadWeights(f"{path} ({path.stat().st_size} bytes) is no whole safetensors file: {error}") from None
    if about.get("version") != VERSION:
        raise BadWeights(f"{path} is of version {about.get('version', 'unknown')}, this program reads {VERSION}")
    if about.get("preset") != name:
        raise BadWeights(f"{path} contains the preset {about.get('preset')!r}, not {name!r}")
    if not _fits(about.get("config"), config):
        raise BadWeights(f"{path} was trained with other sizes than the preset {name!r} has now")
    autoencoder, transformer = Autoencoder(config.autoencoder), Transformer(config)
    parts = _named(autoencoder, transformer)
    if strange := [key for key in tensors if key.split(".")[0] not in parts]:
        raise BadWeights(f"{path}: {len(strange)} weights belong to no part of the networks, such as {strange[0]}")
    for prefix, module in parts.items():
        wanted = module.state_dict()
        found = {key.removeprefix(f"{prefix}."): t for key, t in tensors.items() if key.startswith(f"{prefix}.")}
        missing, alien = wanted.keys() - found.keys(), found.keys() - wanted.keys()
        if missing or alien:
            raise BadWeights(f"{path}: {len(missing)} weights of the {prefix} are missing, {len(alien)} are unknown")
        for key, tensor in found.items():
            if tensor.shape != wanted[key].shape:
                raise BadWeights(f"{path}: {prefix}.{key} is {list(tensor.shape)}, not {list(wanted[key].shape)}")
            if not tensor.isfinite().all():
                raise BadWeights(f"{path}: {prefix}.{key} contains values that are not finite")
        module.load_state_dict({key: tensor.float() for key, tensor in found.items()})
    return _ready(config, autoencoder, transformer)
