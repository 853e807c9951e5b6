"""Exported networks: engines compute what torch computes, without torch; damaged or foreign files are refused."""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from painted_networks import CONTEXT, exported_networks
from random_networks import cue

from streamer.base.image import Yuv
from streamer.model.checkpoint import Networks
from streamer.model.runtime import compiled, trial
from streamer.model.runtime.compiled import Compiled
from streamer.model.runtime.engines import BF16, F32, Engine, OnnxRuntime, OpenVino
from streamer.model.runtime.graph_cpu import (
    GraphFrameRenderer,
    PreparedCharacter,
    Ring,
    Stream,
    face_tokens,
    probe,
    stand_in,
)
from streamer.model.runtime.graphs import ADVANCE, GRAPHS, PAINT, PATCH, STEP, Graphs
from streamer.model.runtime.stream import NotFinite, blocks, random_conditions
from streamer.model.transformer import face_tokens as torch_face_tokens
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


CompiledBy = Callable[[Callable[[], Engine]], Compiled]


@pytest.fixture(scope="module")
def compiled_by(graphs: Graphs) -> CompiledBy:
    """The networks in float32, compiled once by each engine."""
    return cache(lambda kind: Compiled(graphs, kind(), once=OnnxRuntime()))


@pytest.fixture(scope="module")
def reference(networks: Networks) -> dict[str, export.Network]:
    """What torch computes."""
    return {graph: export.in_torch(networks, graph) for graph in GRAPHS}


def character(renderer: GraphFrameRenderer, size: int = 512, references: int = 1, seed: int = 0) -> PreparedCharacter:
    rng = np.random.default_rng(seed)
    pictures = [blocks(512, rng) for _ in range(references)]
    return renderer.prepare(pictures, rng.random((16, 16), np.float32), (0.5, 0.4), size)


def run(renderer: GraphFrameRenderer, stream: Stream, frames: int, first: int = 0) -> list[np.ndarray]:
    drawn = []
    for k in range(first, first + frames):
        renderer.hear(stream, cue(k))
        (frame,) = renderer.draw([stream], planes=False)
        assert isinstance(frame, np.ndarray), frame
        drawn.append(frame)
    return drawn


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_engines_compute_what_torch_computes(
    kind: Callable[[], Engine],
    graph: str,
    networks: Networks,
    graphs: Graphs,
    compiled_by: CompiledBy,
    reference: dict[str, export.Network],
) -> None:
    """Each graph in float32, up to rounding, for inputs other than those it was traced with."""
    rng = np.random.default_rng(1)
    given = []
    for name, example in zip(GRAPHS[graph][0], export.example(networks, graph), strict=True):
        made = rng.standard_normal(example.shape).astype(np.float32)
        given.append(np.array([CONTEXT - 1]) if name == "filled" else made)
    found = compiled_by(kind)[graph](given)
    wanted = reference[graph](given)
    assert len(found) == len(wanted) == len(GRAPHS[graph][1])
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape and a.dtype == np.float32 and b.any()
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("references", [1, 2, 4])
def test_frames_are_torchs(
    references: int, graphs: Graphs, compiled_by: CompiledBy, reference: dict[str, export.Network]
) -> None:
    """From a session's first frame past a full ring, to a few levels of 255 where shares round differently."""
    drawn = []
    for networks in (compiled_by(OnnxRuntime), reference):
        renderer = GraphFrameRenderer(graphs.config, networks, CONTEXT)
        drawn.append(run(renderer, renderer.stream(character(renderer, 512, references), 7), CONTEXT + 3))
    for a, b in zip(*drawn, strict=True):
        assert a.shape == (512, 512, 4) and a.dtype == np.uint8
        apart = np.abs(a.astype(int) - b)
        assert apart.max() <= 4 and apart.mean() < 0.01
    assert all((a != b).any() for a, b in zip(drawn[0], drawn[0][1:], strict=False))


def test_the_first_frame_is_that_of_an_empty_ring(networks: Networks, reference: dict[str, export.Network]) -> None:
    """A session with a ring begins with the graph that has none: torch gives the same latent for an empty ring."""
    from streamer.model.kv_cache import Cache
    from streamer.model.sampling import generate
    from streamer.model.transformer import Conditions

    renderer = GraphFrameRenderer(networks.config, reference, CONTEXT)
    stream = renderer.stream(character(renderer), 3)
    renderer.hear(stream, cue(0))
    given = renderer.conditions(stream)
    (latent,) = renderer._next(stream, given)
    noise = torch.from_numpy(renderer.noise(renderer.stream(stream.still, 3)))
    plan, heard, emotion, faces, added, *sinks = map(
        torch.from_numpy, (*given, stream.still.faces, stream.still.added, *stream.still.sinks)
    )
    one = torch.ones(1)
    cache = Cache.empty(networks.config, (sinks[0], sinks[1]))
    now = Conditions(plan, one, heard, one, faces, emotion, one)
    with torch.inference_mode():
        wanted = generate(networks.transformer, noise, now, added, cache)
    assert cache.context == CONTEXT
    np.testing.assert_allclose(latent, wanted.numpy(), atol=1e-4)


def test_the_ring_keeps_the_newest(networks: Networks) -> None:
    """In order, the newest last, as many as it holds; a reset leaves nothing."""
    ring = Ring((1, 1, CONTEXT, 2, 1, 1))
    for k in range(1, CONTEXT + 2):
        ring.append(np.full((1, 1, 2, 1, 1), k, np.float32), np.full((1, 1, 2, 1, 1), -k, np.float32))
        assert ring.filled == min(k, CONTEXT)
    assert ring.keys[0, 0, :, 0, 0, 0].tolist() == [2, 3] and ring.values[0, 0, :, 0, 0, 0].tolist() == [-2, -3]
    ring.reset()
    assert not ring.keys.any() and not ring.values.any() and ring.filled == 0


def test_faces_are_torchs() -> None:
    """Tokens of a face mask, dilated, as in training."""
    face = np.random.default_rng(0).random((16, 16), np.float32)
    wanted = torch_face_tokens(torch.from_numpy(face), 8).numpy()
    assert np.array_equal(face_tokens(face, 8).ravel(), wanted)


def test_half_precision_is_near(graphs: Graphs, reference: dict[str, export.Network]) -> None:
    """Whatever precision this CPU has draws nearly what torch draws in float32."""
    engine = OpenVino()
    plain = probe(GraphFrameRenderer(graphs.config, reference), 512, 2).frames.astype(int)
    for precision in engine.precisions():
        networks = Compiled(graphs, engine, precision)
        found = trial.difference(
            trial.outputs(graphs.config, networks), trial.read_expected(graphs.expected, graphs.config)
        )
        assert found <= trial.MOST_APART[precision] / 4
        frames = probe(GraphFrameRenderer(graphs.config, networks), 512, 2).frames
        assert np.abs(frames - plain).mean() < {F32: 0.01, BF16: 4}[precision]


@pytest.mark.parametrize("size", [256, 512])
def test_frames_have_the_size_asked_for(size: int, graphs: Graphs, compiled_by: CompiledBy) -> None:
    """As planes or RGBA; the patch is painted where frames are larger than the networks' pictures."""
    renderer = GraphFrameRenderer(graphs.config, compiled_by(OnnxRuntime))
    stream = renderer.stream(character(renderer, size))
    (frame,) = run(renderer, stream, 1)
    assert frame.shape == (size, size, 4) and (frame[..., 3] == 255).all()
    assert (stream.place is not None) == (size > 256)
    renderer.hear(stream, cue(1))
    (planes,) = renderer.draw([stream])
    assert isinstance(planes, Yuv) and planes.planes.shape == (3 * size // 2, size)


def test_a_seed_is_a_sequence_of_frames(graphs: Graphs, compiled_by: CompiledBy) -> None:
    """The same seed and conditions draw the same frames, whatever other sessions draw between; other seeds others."""
    renderer = GraphFrameRenderer(graphs.config, compiled_by(OnnxRuntime), CONTEXT)
    still = character(renderer, 256)
    alone = run(renderer, renderer.stream(still, 5), 3)
    streams = [renderer.stream(still, seed) for seed in (5, 6)]
    together = []
    for k in range(3):
        for stream in streams:
            renderer.hear(stream, cue(k))
        together.append(renderer.draw(streams, planes=False))
    for k, (mine, other) in enumerate(together):
        assert np.array_equal(np.asarray(mine), alone[k]) and (np.asarray(mine) != np.asarray(other)).any()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stream: stream.ring.values.fill(np.nan),
        lambda stream: stream.ring.keys.fill(np.inf),
        lambda stream: stream.previous[0].fill(np.nan),
    ],
    ids=["values", "keys", "previous"],
)
@pytest.mark.parametrize("kind", ENGINES)
def test_nan_stays_in_its_session(
    kind: Callable[[], Engine], spoil: Callable[[Stream], object], graphs: Graphs, compiled_by: CompiledBy
) -> None:
    """A session whose state contains NaN or Inf is reset and reported, and goes on; its neighbour is unaffected."""
    renderer = GraphFrameRenderer(graphs.config, compiled_by(kind), CONTEXT)
    still = character(renderer, 256)
    undisturbed = run(renderer, renderer.stream(still, 2), 4)
    streams = [renderer.stream(still, seed) for seed in (1, 2)]
    for k in range(4):
        for stream in streams:
            renderer.hear(stream, cue(k))
        if k == 2:
            spoil(streams[0])
        spoilt, whole = renderer.draw(streams, planes=False)
        assert isinstance(spoilt, NotFinite) == (k == 2)
        assert np.array_equal(np.asarray(whole), undisturbed[k])
    assert streams[0].ring is not None and streams[0].ring.filled == 0  # the frame after the reset has no predecessor


@pytest.mark.parametrize("kind", ENGINES)
def test_a_character_with_nan_is_reported(kind: Callable[[], Engine], graphs: Graphs, compiled_by: CompiledBy) -> None:
    """Without a ring, too: what engines hide in one output shows in another."""
    renderer = GraphFrameRenderer(graphs.config, compiled_by(kind))
    for part in ("sinks", "features"):
        stream = renderer.stream(character(renderer, 256))
        renderer.hear(stream, cue(0))
        getattr(stream.still, part)[1][:] = np.nan
        assert isinstance(renderer.draw([stream])[0], NotFinite), part


def test_conditions_of_skipped_frames_count(graphs: Graphs, compiled_by: CompiledBy) -> None:
    """A frame that is heard and not drawn changes the next one's motion and voice."""
    renderer = GraphFrameRenderer(graphs.config, compiled_by(OnnxRuntime))
    streams = [renderer.stream(character(renderer, 256), 1) for _ in range(2)]
    renderer.hear(streams[0], cue(0))
    for stream in streams:
        renderer.hear(stream, cue(1))
    one, other = renderer.draw(streams, planes=False)
    assert (np.asarray(one) != np.asarray(other)).any()


def test_drawing_compiles_nothing(graphs: Graphs) -> None:
    """All that a character's frames need is compiled when it is prepared, once for all characters."""
    compiled_graphs: list[str] = []

    class Recording(OnnxRuntime):
        def compile(self, path: Path, graph: str, precision: str = F32, threads: int = 1) -> export.Network:
            compiled_graphs.append(graph)
            return super().compile(path, graph, precision, threads)

    renderer = GraphFrameRenderer(graphs.config, Compiled(graphs, Recording()), CONTEXT)
    streams = [renderer.stream(character(renderer, 512, references)) for references in (1, 3, 3)]
    frequent = [graph for graph in compiled_graphs if graph not in compiled.ONCE]
    assert sorted(frequent) == sorted([STEP, ADVANCE, PATCH, PAINT[0], PAINT[2]])
    prepared = len(compiled_graphs)
    for k in range(2):
        for stream in streams:
            renderer.hear(stream, cue(k))
        assert all(isinstance(frame, Yuv) for frame in renderer.draw(streams))
    assert len(compiled_graphs) == prepared


def test_wrong_shapes_are_refused(graphs: Graphs, compiled_by: CompiledBy) -> None:
    """With the shapes that are wanted."""
    renderer = GraphFrameRenderer(graphs.config, compiled_by(OnnxRuntime))
    with pytest.raises(ValueError, match=r"face of shape \(8, 8\).*16x16"):
        renderer.prepare([blocks(512, np.random.default_rng(0))], np.ones((8, 8)), (0.5, 0.5), 512)
    with pytest.raises(ValueError, match="5 references"):
        character(renderer, 512, 5)
    stream = renderer.stream(character(renderer, 256))
    with pytest.raises(NotFinite):
        renderer.hear(stream, cue(0).__class__(*(np.full_like(part, np.nan) for part in vars(cue(0)).values())))


def test_stand_ins_have_references(graphs: Graphs, compiled_by: CompiledBy) -> None:
    """As many as asked for, for timings."""
    renderer = GraphFrameRenderer(graphs.config, compiled_by(OnnxRuntime))
    stream = stand_in(renderer, 256, np.random.default_rng(0), 3)
    assert len(stream.still.scene.textures) == 3
    renderer.hear(stream, random_conditions(np.random.default_rng(0)))
    assert isinstance(renderer.draw([stream])[0], Yuv)
