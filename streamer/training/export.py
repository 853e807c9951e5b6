"""Exports a preset's networks for the CPU: `python -m streamer.training.export nano`.

    nano.safetensors ─▶ torch ─▶ trace ─▶ ONNX ─▶ constants folded ─▶ weights by reference ─▶ nano.step.onnx, …

The graphs contain no weights: each initializer is external data, the tensor's own bytes in the float16 weights file,
which are cast to float32 once, when an engine loads it. What does not depend on weights (shapes, rotary factors) is
folded, so that engines load quickly.

Needs the package `onnx` (extra `[train]`). For the letters used in shapes, see `streamer.model.runtime.graph_cpu`.
"""

import argparse
import copy
import sys
import tempfile
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from streamer.base.resources import WEIGHTS
from streamer.model.checkpoint import Networks, load
from streamer.model.config import CELL, HEARD, PLAN, STRIDE, patch_edge
from streamer.model.graph_modules import MODULES, with_context
from streamer.model.runtime import trial
from streamer.model.runtime.engines import Network
from streamer.model.runtime.graphs import (
    ADVANCE,
    GRAPHS,
    PAINT,
    expected_path,
    graph_path,
)
from streamer.model.weights_file import BadWeights, Header, read_header
from streamer.motion.controls import EMOTIONS

if TYPE_CHECKING:
    import onnx

CONTEXT = 3
"""Frames of context of the exported ADVANCE for presets that have none."""

_OPSET = 17


def example(networks: Networks, graph: str) -> tuple[Tensor, ...]:
    """Inputs of a graph, of random values."""
    config = networks.config
    c, edge = config.transformer, config.size // STRIDE
    latent = (1, config.autoencoder.latent, edge, edge)
    sink = (c.depth, 1, config.tokens, c.heads, c.head)
    ring = (c.depth, 1, c.context, config.tokens, c.heads, c.head)
    plan, heard, emotion = (1, 2, PLAN), (1, 1, c.window, HEARD), (1, 1, len(EMOTIONS))
    references = PAINT.index(graph) + 1 if graph in PAINT else 1
    painter, patch = config.autoencoder, patch_edge(config.size)
    shapes: dict[str, tuple[int, ...]] = {
        "picture": (1, 4, config.size, config.size),
        "deep": (references, painter.coarse[2], edge, edge),
        "middle": (references, painter.coarse[1], 2 * edge, 2 * edge),
        "fine": (references, painter.coarse[0], 4 * edge, 4 * edge),
        "composed": (1, 4, patch, patch),
        "features": (1, painter.coarse[0], patch // CELL, patch // CELL),
        "noise": latent, "latent": latent, "previous": latent,
        "added": (1, config.tokens, c.width), "faces": (1, 1, config.tokens),
        "plan": plan, "plan_before": plan, "heard": heard, "heard_before": heard, "emotion": emotion,
        "emotion_before": emotion, "ring_keys": ring, "ring_values": ring, "sink_keys": sink, "sink_values": sink,
    }  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.tensor([1]) if name == "filled" else torch.randn(shapes[name], generator=generator)
        for name in GRAPHS[graph][0]
    )


# The graph ----------------------------------------------------------------------------------------------------------


def traced(networks: Networks, graph: str) -> "onnx.ModelProto":
    """
    The graph with weights in it, as torch exports it. The weights are random and all different: torch would store equal
    ones once, and the graph would depend on their values.
    """
    import onnx  # only training needs it

    takes, gives = GRAPHS[graph]
    module = copy.deepcopy(MODULES[graph](networks)).eval()
    generator = torch.Generator().manual_seed(0)
    for value in module.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        # The exporter warns of its deprecation, and of shapes and branches that are fixed by the preset.
        warnings.simplefilter("ignore")
        path = Path(folder, "graph.onnx")
        torch.onnx.export(
            module, example(networks, graph), str(path), input_names=list(takes), output_names=list(gives),
            opset_version=_OPSET, do_constant_folding=False, dynamo=False,
        )  # fmt: skip
        return onnx.load(path)


def refer(model: "onnx.ModelProto", header: Header, weights: Path, names: Collection[str]) -> None:
    """Replaces each initializer in `names` by its tensor in the weights file. Raises BadWeights."""
    from onnx import TensorProto, helper

    initializers = list(model.graph.initializer)
    del model.graph.initializer[:]
    casts = []
    for old in initializers:
        if old.name not in names:
            model.graph.initializer.append(old)
            continue
        place = header.tensors.get(old.name)
        if place is None or place.shape != tuple(old.dims):
            raise BadWeights(f"{weights} has no {old.name} of shape {list(old.dims)}")
        new = model.graph.initializer.add(
            name=f"{old.name}_half", data_type=TensorProto.FLOAT16, dims=old.dims, data_location=TensorProto.EXTERNAL
        )
        entries = {"location": weights.name, "offset": place.offset, "length": place.length}
        for key, value in entries.items():
            new.external_data.add(key=key, value=str(value))
        casts.append(helper.make_node("Cast", [new.name], [old.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def fold(model: "onnx.ModelProto") -> None:
    """Computes all that depends on neither inputs nor weights, and removes what is not used; until nothing changes."""
    before = -1
    while before != (before := len(model.graph.node)):
        _fold_once(model)


def _fold_once(model: "onnx.ModelProto") -> None:
    from onnx import TensorProto, numpy_helper, shape_inference

    graph = model.graph
    shapes = {}
    for value in [*shape_inference.infer_shapes(model).graph.value_info, *graph.input]:
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            shapes[value.name] = [dim.dim_value for dim in kind.shape.dim]
    external = [t for t in graph.initializer if t.data_location == TensorProto.EXTERNAL]
    embedded = [t for t in graph.initializer if t.data_location != TensorProto.EXTERNAL]
    known = {t.name: numpy_helper.to_array(t) for t in embedded}
    nodes = []
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            known[node.output[0]] = np.array(shapes[node.input[0]], np.int64)
        elif all(name in known for name in node.input if name):
            known |= zip(node.output, _computed(model, node, known), strict=True)
        else:
            nodes.append(node)
    used, live = {output.name for output in graph.output}, []
    for node in reversed(nodes):
        if used & set(node.output):
            live.append(node)
            used |= set(node.input)
    names: dict[tuple[str, tuple[int, ...], bytes], str] = {}  # equal constants are stored once
    for node in live:
        for i, name in enumerate(node.input):
            if name in known:
                array = known[name]
                node.input[i] = names.setdefault((array.dtype.str, array.shape, array.tobytes()), name)
    constants = [numpy_helper.from_array(np.asarray(known[name], order="C"), name) for name in names.values()]
    kept = [tensor for tensor in external if tensor.name in used]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*kept, *constants])
    graph.node.extend(reversed(live))


def _computed(
    model: "onnx.ModelProto", node: "onnx.NodeProto", known: Mapping[str, np.ndarray]
) -> Sequence[np.ndarray]:
    """The outputs of a node whose inputs are known."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    given = {name: known[name] for name in node.input if name}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in given.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    alone = helper.make_model(helper.make_graph([node], "one", inputs, outputs), opset_imports=model.opset_import)
    return [np.asarray(each) for each in ReferenceEvaluator(alone).run(None, given)]


def shorten(model: "onnx.ModelProto") -> None:
    """Drops the nodes' names and numbers their values: torch's names tell the modules' paths, again and again."""
    graph = model.graph
    kept = {each.name for each in [*graph.input, *graph.output]}
    weights = {t.name.removesuffix("_half") for t in graph.initializer if t.external_data}
    kept |= weights | {f"{name}_half" for name in weights} | {""}
    names: dict[str, str] = {}

    def short(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"v{len(names)}")

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.input[:], node.output[:] = [short(name) for name in node.input], [short(name) for name in node.output]
        node.ClearField("name")
        node.ClearField("doc_string")
    del graph.value_info[:]


def exported(networks: Networks, graph: str, weights: Path) -> "onnx.ModelProto":
    """A graph of networks of this kind whose weights lie in the file `weights`. Raises BadWeights."""
    from onnx import helper

    header = read_header(weights)
    if graph == ADVANCE:
        networks = with_context(networks, networks.config.transformer.context or CONTEXT)
    model = traced(networks, graph)
    refer(model, header, weights, MODULES[graph](networks).state_dict().keys())
    fold(model)
    shorten(model)
    helper.set_model_props(model, {"weights-header-sha256": header.digest})
    model.producer_version = ""  # of torch, which changes nothing
    return model


def in_torch(networks: Networks, graph: str) -> Network:
    """The network of a graph as torch computes it: the reference for engines."""
    if graph == ADVANCE:
        networks = with_context(networks, networks.config.transformer.context or CONTEXT)
    module = MODULES[graph](networks).eval()

    @torch.inference_mode()
    def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = module(*map(torch.from_numpy, given))
        return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]

    return run


def export(networks: Networks, weights: Path) -> list[Path]:
    """
    Writes all graphs of the networks in the file `weights` beside it, and what they compute for known inputs. Raises
    BadWeights.
    """
    import onnx

    paths = []
    for graph in GRAPHS:
        model = exported(networks, graph, weights)
        path = graph_path(weights.parent, networks.config.name, graph)
        part = path.with_suffix(".part")
        part.write_bytes(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(part))  # by its path: the weights' file is found beside it
        part.replace(path)
        paths.append(path)
    expected = trial.outputs(networks.config, {graph: in_torch(networks, graph) for graph in GRAPHS})
    paths.append(expected_path(weights.parent, networks.config.name))
    np.savez(paths[-1], **expected)  # type: ignore[arg-type]
    return paths


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m streamer.training.export", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("preset", help="such as nano")
    parser.add_argument("--weights", type=Path, help="PRESET.safetensors; the graphs are written beside it "
                        "(default: the weights of this package)")  # fmt: skip
    args = parser.parse_args(argv)
    weights = args.weights or WEIGHTS / f"{args.preset}.safetensors"
    try:
        networks = load(args.preset, weights)
        for path in export(networks, weights):
            print(f"{path} ({path.stat().st_size / 1000:.0f} KB)")
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
