"""The compiled engine at the tiny preset: it draws what torch draws, is kept, and can be done without."""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from random_networks import cue, random_networks

from streamer.avatar.neural import NeuralRig
from streamer.model.checkpoint import Networks
from streamer.model.config import PRESETS
from streamer.model.runtime import openvino_cpu
from streamer.model.runtime.openvino_cpu import Models, OpenVinoFrameRenderer, cache_folder, fastest, models, openvino
from streamer.model.runtime.torch_cpu import FrameRenderer, NotFinite, Stream, Trial, blocks, probe

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO has no package for this machine"
)

TINY = PRESETS["tiny"]
ALONE = dataclasses.replace(TINY, transformer=dataclasses.replace(TINY.transformer, context=0))
"""Without frames of context, as `nano` is: another step is compiled."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """What is as small as this takes longer on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Random weights everywhere, so that every condition shows."""
    return random_networks(TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "lipstream"


@pytest.fixture(scope="module")
def made(networks: Networks, folder: Path) -> Models:
    return models(networks, folder)


@pytest.fixture(scope="module")
def frame_renderer(networks: Networks, made: Models) -> OpenVinoFrameRenderer:
    return OpenVinoFrameRenderer(networks, made=made)


def begin(frame_renderer: FrameRenderer, seed: int) -> Stream:
    rng = np.random.default_rng(seed)
    still = frame_renderer.still(rng.integers(0, 256, (64, 64, 4)).astype(np.uint8), rng.random((4, 4)))
    return frame_renderer.stream(still, seed)


def run(frame_renderer: FrameRenderer, seeds: list[int], frames: int) -> list[list[np.ndarray]]:
    """Sessions that each begin one frame after the one before, drawn together; their frames."""
    streams = [begin(frame_renderer, seed) for seed in seeds]
    drawn: list[list[np.ndarray]] = [[] for _ in seeds]
    for k in range(frames):
        active = [i for i in range(len(seeds)) if k >= i]
        for i in active:
            frame_renderer.hear(streams[i], cue(100 * seeds[i] + k - i))
        for i, frame in zip(active, frame_renderer.draw([streams[i] for i in active]), strict=True):
            assert isinstance(frame, np.ndarray)
            drawn[i].append(frame)
    return drawn


def apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other).max())


def test_it_draws_what_torch_draws(networks: Networks, frame_renderer: OpenVinoFrameRenderer) -> None:
    """From the first frame past a full ring, of sessions of different ages, to a level of 255; and frames are kept."""
    frames = 4 * (TINY.transformer.context + 1)
    plain, found = run(FrameRenderer(networks), [1, 2, 3], frames), run(frame_renderer, [1, 2, 3], frames)
    for one, other in zip(plain, found, strict=True):
        assert len(one) == len(other) >= frames - 2
        for a, b in zip(one, other, strict=True):
            assert b.shape == (64, 64, 4) and b.dtype == np.uint8 and b.flags["C_CONTIGUOUS"] and b.flags["WRITEABLE"]
            assert apart(a, b) <= 1
        assert all((a != b).any() for a, b in zip(other, other[1:], strict=False))


def test_larger_frames(networks: Networks, frame_renderer: OpenVinoFrameRenderer, folder: Path) -> None:
    """Of a larger picture, as torch draws them, in one call with others; their decoder is kept beside the first."""
    pictures = blocks(64, np.random.default_rng(1)), blocks(128, np.random.default_rng(2))
    drawn = []
    for one in (FrameRenderer(networks), frame_renderer):
        streams = [one.stream(one.still(picture, np.ones((4, 4))), 3) for picture in pictures]
        for k in range(2):
            for stream in streams:
                one.hear(stream, cue(k))
            frames = one.draw(streams)
        drawn.append([np.asarray(frame) for frame in frames])
    assert [frame.shape for frame in drawn[1]] == [(64, 64, 4), (128, 128, 4)]
    assert all(apart(a, b) <= 1 for a, b in zip(*drawn, strict=True))
    (kept,) = folder.glob("*-picture2-*")
    kept.unlink()  # others count the files


def test_without_context_it_draws_what_torch_draws(tmp_path: Path) -> None:
    """From a session's first frame on, which is compiled, too; a session whose character is spoilt is told so."""
    networks = random_networks(ALONE)
    frame_renderer = OpenVinoFrameRenderer(networks, made=models(networks, tmp_path))
    plain, found = run(FrameRenderer(networks), [1, 2], 4), run(frame_renderer, [1, 2], 4)
    for one, other in zip(plain, found, strict=True):
        assert all(apart(a, b) <= 1 for a, b in zip(one, other, strict=True))
    streams = [begin(frame_renderer, seed) for seed in (1, 2)]
    for stream in streams:
        frame_renderer.hear(stream, cue(stream.noise.initial_seed() * 100))
    with torch.inference_mode():
        streams[0].cache.sink_values.fill_(float("nan"))
    spoilt, whole = frame_renderer.draw(streams)
    assert isinstance(spoilt, NotFinite) and apart(np.asarray(whole), found[1][0]) <= 1


def test_half_precision_is_near(networks: Networks, made: Models) -> None:
    """Whatever this CPU has it compute in draws nearly what float32 draws."""
    (fine,) = run(FrameRenderer(networks), [1], 5)
    for dtype in made.precisions():
        (frames,) = run(OpenVinoFrameRenderer(networks, dtype, made), [1], 5)
        assert np.abs(np.stack(frames).astype(int) - np.stack(fine)).mean() < 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stream: stream.cache.ring_values.fill_(float("nan")),
        lambda stream: stream.cache.ring_keys.fill_(float("inf")),
        lambda stream: stream.previous[0].fill_(float("nan")),
    ],
    ids=["values", "keys", "previous"],
)
def test_nan_stays_in_its_session(
    networks: Networks, frame_renderer: OpenVinoFrameRenderer, spoil: Callable[[Stream], object]
) -> None:
    """A session whose state is spoilt is told so and starts anew as torch's does; its neighbour does not notice."""
    told = []
    for one in (FrameRenderer(networks), frame_renderer):
        streams = [begin(one, seed) for seed in (1, 2)]
        drawn = []
        for k in range(6):
            for seed, stream in zip((1, 2), streams, strict=True):
                one.hear(stream, cue(100 * seed + k))
            if k == 3:
                with torch.inference_mode():
                    spoil(streams[0])
            drawn.append(one.draw(streams))
        told.append(drawn)
    for k, (plain, found) in enumerate(zip(*told, strict=True)):
        for session, (a, b) in enumerate(zip(plain, found, strict=True)):
            if (k, session) == (3, 0):
                assert isinstance(b, NotFinite) and str(a) == str(b)
            else:
                assert apart(np.asarray(a), np.asarray(b)) <= 1


def test_what_is_kept_draws_the_same(
    networks: Networks,
    made: Models,
    frame_renderer: OpenVinoFrameRenderer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second start traces nothing; other weights are other files."""
    assert made.source == "compiled anew" and len(list(folder.iterdir())) == 2
    other = dataclasses.replace(networks, transformer=random_networks(TINY).transformer)
    other.transformer.leave.bias.add_(1)
    assert (
        openvino_cpu._digest(other, "1") != openvino_cpu._digest(networks, "1") != openvino_cpu._digest(networks, "2")
    )
    monkeypatch.setattr(torch.jit, "trace", lambda *_: pytest.fail("it was kept"))
    again = models(networks, folder)
    assert again.source == "from the cache"
    (one,), (two,) = run(frame_renderer, [5], 4), run(OpenVinoFrameRenderer(networks, made=again), [5], 4)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-1] + bytes([data[-1] ^ 1])],
    ids=["truncated", "empty", "changed"],
)
def test_a_spoilt_file_is_made_again(
    networks: Networks, made: Models, folder: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """A file that is not whole is passed over and replaced by one that is."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = next(tmp_path.glob("tiny-picture-*"))
    path.write_bytes(spoil(path.read_bytes()))
    assert models(networks, tmp_path).source == "compiled anew"
    assert models(networks, tmp_path).source == "from the cache"
    assert len(list(tmp_path.iterdir())) == 2


def test_no_folder_is_no_failure(
    networks: Networks, made: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be written, models are made and not kept."""
    monkeypatch.setattr(openvino_cpu, "_traced", lambda package, networks, name, times: getattr(made, name))
    place = tmp_path / "file"
    place.write_text("no folder")
    again = models(networks, place / "cache")
    assert again.source == "compiled anew" and place.read_text() == "no folder"
    assert isinstance(run(OpenVinoFrameRenderer(networks, made=again), [1], 2)[0][1], np.ndarray)


def test_old_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the cache's files the newest few are kept, and nothing else is touched."""
    monkeypatch.setattr(openvino_cpu, "_MOST_KEPT", 2)
    for name in ("a.model", "b.model", "c.model", "d.txt"):
        (tmp_path / name).write_bytes(b"")
    openvino_cpu._forget_old(tmp_path)
    assert len(list(tmp_path.glob("*.model"))) == 2 and (tmp_path / "d.txt").exists()


@pytest.mark.parametrize(
    ("platform", "name", "place"),
    [
        ("linux", "XDG_CACHE_HOME", ""),
        ("linux", "", ".cache"),
        ("darwin", "", "Library/Caches"),
        ("win32", "LOCALAPPDATA", ""),
    ],
)
def test_the_cache_is_among_the_users(
    platform: str, name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each system's folder for caches, or the one that the environment names."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if name:
        monkeypatch.setenv(name, str(tmp_path / "named"))
    assert cache_folder() == (tmp_path / "named" if name else tmp_path / "home" / place) / "lipstream"


@pytest.mark.parametrize("fastest_one", ["PyTorch in float32", "PyTorch in bfloat16", "OpenVINO"])
def test_the_fastest_is_chosen(
    networks: Networks, folder: Path, monkeypatch: pytest.MonkeyPatch, fastest_one: str
) -> None:
    """Of all engines that draw what torch draws; the line says which, in one sentence, and what others took."""
    monkeypatch.setattr(openvino_cpu, "cache_folder", lambda: folder)

    def timed(frame_renderer: FrameRenderer, tries: int) -> Trial:
        kind = (
            "OpenVINO"
            if isinstance(frame_renderer, OpenVinoFrameRenderer)
            else f"PyTorch in {str(frame_renderer.dtype)[6:]}"
        )
        return probe(frame_renderer, tries)._replace(seconds=0.005 if kind == fastest_one else 0.02)

    monkeypatch.setattr(openvino_cpu, "probe", timed)
    found = fastest(networks, tries=1)
    assert found.line.startswith(fastest_one) and ", 5 ms a frame" in found.line and "\n" not in found.line
    assert "PyTorch in float32" in found.line and "OpenVINO 20" in found.line
    assert isinstance(found.frame_renderer, OpenVinoFrameRenderer) == (fastest_one == "OpenVINO")
    if fastest_one != "OpenVINO":
        assert str(found.frame_renderer.dtype)[6:] == fastest_one.split()[-1]


def test_an_engine_that_errs_is_not_used(networks: Networks, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its frames are not torch's, torch draws, and the line says so."""
    monkeypatch.setattr(openvino_cpu, "cache_folder", lambda: folder)
    monkeypatch.setattr(openvino_cpu, "MOST_APART", dict.fromkeys(openvino_cpu.MOST_APART, -1.0))
    found = fastest(networks, tries=1)
    assert type(found.frame_renderer) is FrameRenderer and "deviates by" in found.line


def test_without_openvino_torch_draws(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, nothing fails, and the line says so."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = fastest(networks, tries=1)
    assert type(found.frame_renderer) is FrameRenderer and "OpenVINO is not installed" in found.line


def test_nobody_is_told_of_an_import() -> None:
    """OpenVINO's telemetry is not even loaded."""
    package = openvino()
    assert sys.modules["openvino_telemetry"] is None
    assert package.tools.ovc.telemetry_utils.tm.__name__.endswith("telemetry_stub")


def test_another_context_is_refused(frame_renderer: OpenVinoFrameRenderer) -> None:
    """The ring's size is compiled in."""
    with pytest.raises(ValueError, match="7 frames: 2 are"):
        frame_renderer.stream(begin(frame_renderer, 1).still, context=7)


def test_sessions_take_turns(frame_renderer: OpenVinoFrameRenderer) -> None:
    """A drawable does not wait for its neighbours' frames: each leaves as soon as it is drawn."""
    assert NeuralRig(frame_renderer, begin(frame_renderer, 1), 64, True).max_batch_size == 1
