"""The exported networks of a preset: ONNX graphs without weights, which they read from the weights file beside them.

`streamer.training.export` writes them. Each names the weights file and the place of every tensor in it, and carries the
SHA-256 of that file's header: with other weights the places would be wrong, and the engines could not tell.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamer.base.resources import WEIGHTS
from streamer.model.config import ModelConfig, preset
from streamer.model.weights_file import BadWeights, check_finite, read_header

PREPARE = "prepare"
"""From a reference picture to its features."""
IDENTITY = "identity"
"""From the neutral picture's features to what the step needs of it."""
STEP = "step"
"""From noise and conditions to a latent, without context."""
ADVANCE = "advance"
"""The same with a ring of context; also gives the previous frame's keys and values."""
PAINT = ("paint1", "paint2", "paint3", "paint4")
"""From a latent to flows, shares and paint, for 1 to 4 references."""
PATCH = "patch"
"""From a part of the composed frame to the same in detail."""

_PAINT = (("latent", "deep", "middle", "fine"), ("flow", "shares", "paint", "features"))

GRAPHS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    PREPARE: (("picture",), ("deep", "middle", "fine")),
    IDENTITY: (("deep",), ("added", "sink_keys", "sink_values")),
    STEP: (("noise", "added", "faces", "plan", "heard", "emotion", "sink_keys", "sink_values"), ("latent",)),
    ADVANCE: (
        ("noise", "previous", "added", "faces", "plan", "plan_before", "heard", "heard_before", "emotion",
         "emotion_before", "ring_keys", "ring_values", "filled", "sink_keys", "sink_values"),
        ("latent", "keys", "values"),
    ),
    **dict.fromkeys(PAINT, _PAINT),
    PATCH: (("composed", "features"), ("painted",)),
}  # fmt: skip
"""Names of each graph's inputs and outputs, in order."""

_DIGEST = re.compile(rb"weights-header-sha256.{1,4}?([0-9a-f]{64})", re.DOTALL)


@dataclass(frozen=True)
class Graphs:
    """A preset's files, checked."""

    config: ModelConfig
    paths: Mapping[str, Path]  # by name in GRAPHS
    expected: Path  # what they compute for known inputs, see `trial`


def graph_path(folder: Path, preset_name: str, graph: str) -> Path:
    return folder / f"{preset_name}.{graph}.onnx"


def expected_path(folder: Path, preset_name: str) -> Path:
    return folder / f"{preset_name}.expected.npz"


def find(name: str = "nano", folder: Path = WEIGHTS, config: ModelConfig | None = None) -> Graphs:
    """
    Finds the graphs of a preset, or of another `config` of that name, in `folder`, and checks that they belong to the
    weights there. Raises FileNotFoundError, BadWeights, or ValueError for an unknown preset.
    """
    config = config or preset(name)
    weights = folder / f"{name}.safetensors"
    header = read_header(weights)
    check_finite(weights, header)
    # Some installers link files to a cache of theirs, and engines read no weights through such links.
    paths = {graph: graph_path(folder, name, graph).resolve() for graph in GRAPHS}
    for path in paths.values():
        if not path.is_file():
            raise FileNotFoundError(f"no exported network at {path}")
        found = digest_of(path)
        if found is None:
            raise BadWeights(f"{path} ({path.stat().st_size} bytes) is no whole exported network of lipstream")
        if found != header.digest:
            raise BadWeights(
                f"{path} was exported for other weights than {weights}, whose header has the digest "
                f"{header.digest[:12]}…, not {found[:12]}…"
            )
    return Graphs(config, paths, expected_path(folder, name))


def digest_of(path: Path) -> str | None:
    """The digest that a graph carries. ONNX stores its metadata last, so a truncated file has none."""
    found = _DIGEST.findall(path.read_bytes())
    return found[-1].decode() if found else None
