"""Files of exported networks: whole, current, belonging together; and the choice of the engine that runs them."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from painted_networks import CONTEXT, exported_networks, painted_networks

from streamer.base.resources import WEIGHTS
from streamer.model.checkpoint import Networks, load
from streamer.model.runtime import compiled, trial
from streamer.model.runtime.compiled import Compiled, fastest
from streamer.model.runtime.engines import BF16, F32, Engine, OnnxRuntime, OpenVino, Unavailable
from streamer.model.runtime.graphs import GRAPHS, PAINT, PATCH, STEP, Graphs, find
from streamer.model.weights_file import BadWeights, read_header
from streamer.training import export

ENGINES = [
    pytest.param(
        OpenVino,
        marks=pytest.mark.skipif(
            importlib.util.find_spec("openvino") is None, reason="OpenVINO has no package for this machine"
        ),
    ),
    OnnxRuntime,
]


@pytest.fixture(scope="module")
def networks() -> Networks:
    return exported_networks()[0]


@pytest.fixture(scope="module")
def graphs() -> Graphs:
    return exported_networks()[1]


@pytest.fixture
def copy(graphs: Graphs, tmp_path: Path) -> Path:
    """A folder with the same files."""
    return Path(shutil.copytree(graphs.expected.parent, tmp_path / "copy"))


def test_graphs_contain_no_weights(networks: Networks, graphs: Graphs) -> None:
    """Every weight is a tensor of the weights file, at its place; what is embedded is small."""
    header = read_header(graphs.expected.parent / "small.safetensors")
    used = set()
    for path in graphs.paths.values():
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if not tensor.external_data:
                continue
            said = {entry.key: entry.value for entry in tensor.external_data}
            name = tensor.name.removesuffix("_half")
            place = header.tensors[name]
            assert said == {"location": "small.safetensors", "offset": str(place.offset), "length": str(place.length)}
            assert tuple(tensor.dims) == place.shape and tensor.data_type == onnx.TensorProto.FLOAT16
            used.add(name)
        embedded = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
        # Most of it: how a patch fades towards its rim.
        assert embedded < 160_000, (path, embedded)
    # Not in any graph: the encoder, which only training uses, and what is for dropped conditions.
    unused = {name for name in header.tensors.keys() - used if not name.startswith("autoencoder.encoder.")}
    assert unused == {
        *(f"autoencoder.{name}" for name in ("shows", "whiten", "painter.pose.weight", "painter.pose.bias")),
        *(f"transformer.blocks.{k}.emotion_norm.weight" for k in range(2)),
        "transformer.emotion_norm.weight",
    }


def test_a_second_export_is_the_same(networks: Networks, graphs: Graphs) -> None:
    """Byte for byte: the tracked files change only when the networks do."""
    weights = graphs.expected.parent / "small.safetensors"
    for graph in (STEP, PAINT[1]):
        again = export.exported(networks, graph, weights).SerializeToString(deterministic=True)
        assert again == graphs.paths[graph].read_bytes()


def structure(model: onnx.ModelProto) -> tuple[list[object], dict[str, np.ndarray]]:
    """Everything but constants, and the constants."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if not t.external_data}
    weights = [t.SerializeToString() for t in model.graph.initializer if t.external_data]
    nodes = [node.SerializeToString() for node in model.graph.node]
    ends = [end.SerializeToString() for end in (*model.graph.input, *model.graph.output)]
    return [nodes, weights, ends, sorted((p.key, p.value) for p in model.metadata_props)], constants


@pytest.mark.xfail(raises=BadWeights, strict=True, reason="the packaged weights are of networks without a painter")
@pytest.mark.parametrize("weights", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_packaged_graphs_are_current(weights: Path) -> None:
    """
    Exporting the packaged weights anew gives the packaged graphs, constants up to rounding, and they compute what is
    stored.
    """
    networks = load(weights.stem)
    found = find(weights.stem)
    for graph, path in found.paths.items():
        kept, constants = structure(onnx.load(path, load_external_data=False))
        wanted, computed = structure(export.exported(networks, graph, weights))
        assert kept == wanted and constants.keys() == computed.keys(), path
        for name, array in constants.items():
            np.testing.assert_allclose(array, computed[name], atol=1e-6)
    plain = trial.outputs(found.config, {graph: export.in_torch(networks, graph) for graph in GRAPHS})
    assert trial.difference(plain, trial.read_expected(found.expected, found.config)) < trial.MOST_APART[F32] / 10


def test_networks_of_other_sizes_are_not_exported(graphs: Graphs) -> None:
    """Whose tensors are not those of the weights file."""
    other = painted_networks(CONTEXT, patch=(12, 8))
    with pytest.raises(BadWeights, match=r"small.safetensors has no autoencoder.painter.patch.\S+ of shape \[12"):
        export.exported(other, PATCH, graphs.expected.parent / "small.safetensors")


def test_the_command_reports_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line: a preset that does not exist, a file that does not."""
    for arguments in (["huge"], ["nano", "--weights", str(tmp_path / "nano.safetensors")]):
        assert export.main(arguments) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_missing_files_are_named(networks: Networks, copy: Path) -> None:
    """The first that is missing."""
    (copy / "small.paint3.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="small.paint3.onnx"):
        find("small", copy, networks.config)
    (copy / "small.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="small.safetensors"):
        find("small", copy, networks.config)


@pytest.mark.parametrize("left", [0, 4, 1000, -1], ids=["empty", "no header", "half a header", "one byte less"])
def test_truncated_weights_are_refused(left: int, networks: Networks, copy: Path) -> None:
    """Before an engine reads beyond their end."""
    path = copy / "small.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(BadWeights, match=r"small.safetensors \(\d+ bytes\) is no whole safetensors file"):
        find("small", copy, networks.config)


def test_weights_of_another_layout_are_refused(networks: Networks, copy: Path) -> None:
    """Graphs exported for a file whose header differs in a single note."""
    from streamer.model.checkpoint import save

    path = copy / "small.safetensors"
    save(path, networks.config, networks.autoencoder, networks.transformer, stage="another")
    with pytest.raises(BadWeights, match="small.prepare.onnx was exported for other weights than"):
        find("small", copy, networks.config)


def test_weights_with_nan_are_refused(networks: Networks, copy: Path) -> None:
    """Engines would compute with them."""
    path = copy / "small.safetensors"
    place = read_header(path).tensors["transformer.leave.bias"]
    data = bytearray(path.read_bytes())
    data[place.offset : place.offset + 2] = np.float16(np.nan).tobytes()
    path.write_bytes(data)
    with pytest.raises(BadWeights, match="transformer.leave.bias contains values that are not finite"):
        find("small", copy, networks.config)


def test_files_may_be_links(networks: Networks, graphs: Graphs, tmp_path: Path) -> None:
    """As some installers make them: engines find the weights beside the files themselves."""
    for path in graphs.expected.parent.iterdir():
        (tmp_path / path.name).symlink_to(path)
    found = find("small", tmp_path, networks.config)
    for kind in (OpenVino, OnnxRuntime):
        assert callable(Compiled(found, kind())[PATCH])


def test_a_truncated_graph_is_refused(networks: Networks, copy: Path) -> None:
    """Its digest is at its end."""
    path = copy / "small.step.onnx"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadWeights, match=r"small.step.onnx \(\d+ bytes\) is no whole exported network"):
        find("small", copy, networks.config)


@pytest.mark.parametrize("kind", ENGINES)
def test_a_damaged_graph_is_unavailable(kind: Callable[[], Engine], networks: Networks, copy: Path) -> None:
    """What an engine cannot load is reported in one line that names the file."""
    path = copy / "small.patch.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes(200) + data[400:])
    found = find("small", copy, networks.config)
    with pytest.raises(Unavailable, match="small.patch.onnx") as raised:
        Compiled(found, kind())[PATCH]
    assert "\n" not in str(raised.value)


def test_expected_outputs_are_checked(networks: Networks, copy: Path) -> None:
    """A file that holds none, or not all of them."""
    found = find("small", copy, networks.config)
    for content in (b"", b"PK\x03\x04 and no more"):
        found.expected.write_bytes(content)
        with pytest.raises(BadWeights, match=r"small.expected.npz \(\d+ bytes\)"):
            trial.read_expected(found.expected, found.config)
    np.savez(found.expected, **{f"{STEP}.latent": np.zeros(3)})
    with pytest.raises(BadWeights, match="holds 1 outputs"):
        trial.read_expected(found.expected, found.config)
    found.expected.unlink()
    with pytest.raises(FileNotFoundError):
        trial.read_expected(found.expected, found.config)


# The choice ---------------------------------------------------------------------------------------------------------


def test_the_fastest_engine_that_computes_right_is_chosen(graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO in the first precision; where its outputs are not the expected ones the next, and the line says so."""
    first = OpenVino().precisions()[0]
    found = fastest(graphs, 256, tries=1)
    assert found.line.startswith(f"OpenVINO {found.line.split()[1]} in {compiled.NAMES[first]}, ")
    assert "ms a frame of 256 pixels on 1 thread" in found.line and found.seconds > 0
    monkeypatch.setattr(trial, "MOST_APART", {F32: 1e-3, BF16: -1.0})
    found = fastest(graphs, 256, tries=1)
    assert found.line.startswith("OpenVINO") and "in float32, " in found.line
    assert ("bfloat16 deviates by" in found.line) == (first == BF16)


def test_without_openvino_onnxruntime_draws(graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, and the line says so."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = fastest(graphs, 256, threads=2, tries=1)
    assert found.line.startswith("onnxruntime") and "on 2 threads; OpenVINO is not installed" in found.line


def test_no_engine_is_reported(graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each one's reason."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(trial, "MOST_APART", {F32: -1.0, BF16: -1.0})
    with pytest.raises(Unavailable, match="OpenVINO is not installed.*; onnxruntime .* deviates by"):
        fastest(graphs, 256, tries=1)


def test_the_time_is_measured_beside_load(graphs: Graphs) -> None:
    """While the load that the caller names lasts, and not while networks are compiled."""
    import contextlib

    inside = []

    @contextlib.contextmanager
    def load():  # type: ignore[no-untyped-def]
        inside.append(True)
        yield
        inside.append(False)

    fastest(graphs, 256, tries=1, beside=load)
    assert inside == [True, False]


DRAW = """
import sys
sys.modules.update(dict.fromkeys(["torch", "onnx", "triton"]))  # as if they were not installed
from pathlib import Path
import numpy as np
import streamer
from streamer.model.config import AutoencoderConfig, ModelConfig, TransformerConfig
from streamer.model.runtime.compiled import fastest
from streamer.model.runtime.graph_cpu import stand_in
from streamer.model.runtime.graphs import find
from streamer.model.runtime.stream import random_conditions
config = eval(sys.argv[2])
found = fastest(find("small", Path(sys.argv[1]), config), 512, tries=1)
rng = np.random.default_rng(0)
stream = stand_in(found.renderer, 512, rng)
found.renderer.hear(stream, random_conditions(rng))
(frame,) = found.renderer.draw([stream], planes=False)
assert frame.shape == (512, 512, 4) and frame.std() > 10
assert "openvino_telemetry" not in sys.modules or sys.modules["openvino_telemetry"] is None
print(found.line)
"""


def test_a_frame_is_drawn_without_torch(networks: Networks, graphs: Graphs) -> None:
    """In a process that cannot import it."""
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(graphs.expected.parent), repr(networks.config)],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " ms a frame of 512 pixels" in done.stdout
