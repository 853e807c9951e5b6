"""The backend over exported networks: characters of the studio and uploads, sizes, backgrounds; which path is taken."""

import numpy as np
import pytest
from painted_networks import exported_networks

from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.neural import NeuralBackend, NeuralRig
from streamer.base.constants import SIZES
from streamer.base.errors import NotInstalled, RequestError
from streamer.base.image import Yuv, backdrop
from streamer.faces.alignment import PLACES
from streamer.faces.detector import Face
from streamer.faces.pack import Pack
from streamer.faces.pose import placed
from streamer.model.runtime import compiled, graphs
from streamer.model.runtime.compiled import Compiled
from streamer.model.runtime.engines import OnnxRuntime
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.model.runtime.stream import NotFinite
from streamer.model.weights_file import BadWeights
from streamer.motion.articulation import EMBEDDING, PROSODY, ArticulationFrame
from streamer.motion.controls import EMOTIONS, MOUTH, rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig

FACE = Face(1.0, (PLACES[:2] * 256).astype(np.float32), (PLACES[2] * 256).astype(np.float32))
CALM = np.zeros(len(EMOTIONS), np.float32)
QUIET = ArticulationFrame(*(np.zeros(n, np.float32) for n in (len(MOUTH), len(PROSODY), EMBEDDING)))


@pytest.fixture(scope="module")
def found() -> graphs.Graphs:
    return exported_networks()[1]


@pytest.fixture(scope="module")
def backend(found: graphs.Graphs) -> NeuralBackend:
    return NeuralBackend(GraphFrameRenderer(found.config, Compiled(found, OnnxRuntime())))


@pytest.mark.parametrize(("size", "background"), [*((size, True) for size in SIZES), (128, False), (512, False)])
def test_a_session_is_drawn(backend: NeuralBackend, size: int, background: bool) -> None:
    """In the size asked for: planes over a background, straight RGBA without one."""
    entry = Characters().get("24")
    rig = backend.create_renderer(entry, size, background)
    assert isinstance(rig, NeuralRig) and rig.size == size and rig.max_batch_size == 1 and backend.device == "cpu"
    rig.hear(rest(), QUIET, CALM)
    frame = rig.draw(rest())
    if background:
        assert isinstance(frame, Yuv) and frame.size == size and frame.planes[:size].std() > 10
    else:
        assert isinstance(frame, np.ndarray) and frame.shape == (size, size, 4)
        assert frame[..., 3].min() == 0 and frame[..., 3].max() > 200
    rig.close()


def test_characters_are_prepared_once(backend: NeuralBackend) -> None:
    """For each size and background; sessions share them."""
    entry = Characters().get("3")
    one, other = (backend.create_renderer(entry, 256, True) for _ in range(2))
    third = backend.create_renderer(entry, 384, True)
    assert isinstance(one, NeuralRig) and isinstance(other, NeuralRig) and isinstance(third, NeuralRig)
    assert one._stream.still is other._stream.still is not third._stream.still
    assert one.batch_key is third.batch_key


def test_sessions_differ_and_fail_alone(backend: NeuralBackend) -> None:
    """Drawn together: each has its own noise, and NaN in one is reported for that one only."""
    entry = Characters().get("3")
    rigs = [backend.create_renderer(entry, 256, True) for _ in range(3)]
    for rig in rigs:
        assert isinstance(rig, NeuralRig)
        rig.hear(rest(), QUIET, CALM)
    assert isinstance(rigs[2], NeuralRig)
    rigs[2]._stream.emotion = np.full(len(EMOTIONS), np.nan, np.float32)
    one, other, spoilt = rigs[0].render_batch(rigs)
    assert isinstance(one, Yuv) and isinstance(other, Yuv) and isinstance(spoilt, NotFinite)
    assert (one.planes != other.planes).any()
    with pytest.raises(NotFinite):
        rigs[2].draw(rest())


def test_the_background_is_behind_the_character(backend: NeuralBackend) -> None:
    """A studio character stands before the background that its rig draws."""
    entry = Characters().get("24")
    rig = backend.create_renderer(entry, 256, True)
    assert isinstance(rig, NeuralRig) and rig._stream.still.scene.opaque
    assert entry.character is not None
    with Rig(entry.character, 256) as drawn:
        np.testing.assert_array_equal(rig._stream.still.scene.plate, drawn.plate())


def test_an_upload_is_drawn(backend: NeuralBackend) -> None:
    """A picture whose face is known is drawn over a backdrop where it is clear; one without a face is refused."""
    with Rig(Character.from_seed(500), 256, background=False) as drawn:
        picture = drawn.draw(rest()).copy()
    entry = CharacterRecord("p", "p", picture=picture, pack=Pack(picture, placed(FACE), {}, (), ()))
    rig = backend.create_renderer(entry, 256, True)
    assert isinstance(rig, NeuralRig)
    rig.hear(rest(), QUIET, CALM)
    assert isinstance(rig.draw(rest()), Yuv)
    plate = rig._stream.still.scene.plate
    assert plate is not None
    np.testing.assert_array_equal(plate, backdrop(256))
    with pytest.raises(RequestError, match="no face is known"):
        backend.create_renderer(CharacterRecord("q", "q", picture=picture), 256, True)


def test_cost_grows_with_size(backend: NeuralBackend) -> None:
    """Relative to the default size: the same up to the networks' size, without the patch of the face, then more."""
    costs = [backend.relative_cost("neural", size) for size in (128, 256, 384, 512, 1024)]
    assert costs[0] == costs[1] < costs[2] < costs[3] == 1 < costs[4]


def test_exported_networks_draw(found: graphs.Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says by which engine; errors name their reason."""
    monkeypatch.setattr(graphs, "find", lambda name: found)
    generator = NeuralBackend.load("nano", "cpu")
    assert isinstance(generator.frame_renderer, GraphFrameRenderer)
    assert generator.where.startswith("the nano network draws on the CPU (--device cpu) by ")
    assert "ms a frame of " in generator.where

    def broken(*args: object, **options: object) -> None:
        raise compiled.Unavailable("no engine is whole")

    monkeypatch.setattr(compiled, "fastest", broken)
    with pytest.raises(NotInstalled, match="no engine is whole; --generator rig does not"):
        NeuralBackend.load("nano", "cpu")

    for error in (BadWeights("the file is spoilt"), FileNotFoundError("no file is here")):

        def spoilt(name: str, error: Exception = error) -> graphs.Graphs:
            raise error

        monkeypatch.setattr(graphs, "find", spoilt)
        with pytest.raises(NotInstalled, match=f"{error}; --generator rig does not"):
            NeuralBackend.load("nano", "cpu")


def test_threads_follow_the_cores(found: graphs.Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the process may use, four at most."""
    asked: list[int] = []

    def fastest(of: graphs.Graphs, size: int, threads: int, **options: object) -> compiled.Fastest:
        asked.append(threads)
        return compiled.Fastest(GraphFrameRenderer(of.config, {}), "line", 0.01)

    monkeypatch.setattr(graphs, "find", lambda name: found)
    monkeypatch.setattr(compiled, "fastest", fastest)
    for cores in (1, 2, 64):
        monkeypatch.setattr("streamer.avatar.machine.cores", lambda cores=cores: cores)
        NeuralBackend.load("nano", "cpu")
    assert asked == [1, 2, 4]
