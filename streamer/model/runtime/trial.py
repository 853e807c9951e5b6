"""Checks an engine on this machine: known inputs, and what the networks compute from them in float32.

`streamer.training.export` stores some of each output, so that the check needs neither torch nor a second engine.
"""

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from streamer.model.config import CELL, HEARD, PLAN, STRIDE, ModelConfig, patch_edge
from streamer.model.runtime.engines import BF16, F32, Network
from streamer.model.runtime.graphs import ADVANCE, GRAPHS, IDENTITY, PAINT, PATCH, PREPARE, STEP
from streamer.model.weights_file import BadWeights
from streamer.motion.controls import EMOTIONS

MOST_APART = {F32: 1e-3, BF16: 0.25}
"""
Tolerated difference of an output from what is expected, relative to its root mean square; more means that the engine
computes wrongly on this machine.
"""

_KEPT = 256
"""Most values kept of an output."""


def checked(config: ModelConfig) -> list[str]:
    """The graphs that are checked."""
    return [PREPARE, IDENTITY, STEP, *([ADVANCE] if config.transformer.context else []), PAINT[0], PATCH]


def outputs(config: ModelConfig, networks: Mapping[str, Network]) -> dict[str, np.ndarray]:
    """Some values of each network's outputs, float32, by graph and output; each network takes those before it."""
    rng = np.random.RandomState(0)  # its numbers are the same in every version of numpy
    c, edge = config.transformer, config.size // STRIDE

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    found: dict[str, np.ndarray] = {}

    def run(graph: str, *given: np.ndarray) -> list[np.ndarray]:
        made = networks[graph](list(given))
        for name, array in zip(GRAPHS[graph][1], made, strict=True):
            flat = array.ravel()
            found[f"{graph}.{name}"] = flat[:: -(-flat.size // _KEPT)].astype(np.float32)
        return made

    picture = normal(1, 4, config.size // 8, config.size // 8).clip(-1, 1).repeat(8, 2).repeat(8, 3)
    features = run(PREPARE, picture)
    added, *sinks = run(IDENTITY, features[0])
    plan, heard, emotion = normal(1, 2, PLAN), normal(1, 1, c.window, HEARD), normal(1, 1, len(EMOTIONS))
    noise, faces = normal(1, config.autoencoder.latent, edge, edge), np.ones((1, 1, config.tokens), np.float32)
    (latent,) = run(STEP, noise, added, faces, plan, heard, emotion, *sinks)
    if c.context:
        keys, values = (np.repeat(each[:, :, None], c.context, 2) for each in sinks)
        twice = [each for each in (plan, heard, emotion) for _ in range(2)]
        run(ADVANCE, noise, latent, added, faces, *twice, keys, values, np.array([c.context - 1]), *sinks)
    *_, features_here = run(PAINT[0], latent, *features)
    patch = patch_edge(config.size)
    cells = patch // CELL
    composed = np.ascontiguousarray(picture[:, :, :patch, :patch] / 2 + 0.5)
    run(PATCH, composed, np.ascontiguousarray(features_here[:, :, :cells, :cells]))
    return found


def difference(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """The largest root mean square difference of an output, relative to what is expected of it; NaN if any is."""
    apart = [
        float(np.sqrt(np.mean((found[name] - wanted) ** 2) / max(np.mean(wanted**2), 1e-12)))
        for name, wanted in expected.items()
    ]
    return float(np.max(apart))  # unlike max(), it keeps NaN


def read_expected(path: Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """What the graphs of `config` compute, stored at `path`. Raises FileNotFoundError, BadWeights."""
    if not path.is_file():
        raise FileNotFoundError(f"no expected outputs at {path}")
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            expected = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise BadWeights(f"{path} ({path.stat().st_size} bytes) holds no expected outputs: {error}") from None
    wanted = {f"{graph}.{name}" for graph in checked(config) for name in GRAPHS[graph][1]}
    if expected.keys() != wanted:
        raise BadWeights(
            f"{path} holds {len(expected)} outputs, {len(expected.keys() & wanted)} of {len(wanted)} known"
        )
    return expected
