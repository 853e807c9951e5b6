"""Sessions on a device as the pipeline sees them, and which device is chosen; on a CPU."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from device_frames import SIZE, TINY
from PIL import Image
from random_networks import random_networks

from streamer.avatar.avatar import Avatar
from streamer.avatar.backends import AutoBackend, create
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.engine import Engine
from streamer.avatar.neural import NeuralBackend, NeuralRig
from streamer.avatar.renderer import BatchRenderer, ConditionedRenderer
from streamer.base.errors import NotInstalled, RequestError
from streamer.base.frames import Frame, Step
from streamer.base.image import Yuv
from streamer.cli import render
from streamer.media import frame_stamp
from streamer.media.video_encoder import VideoEncoder
from streamer.model.checkpoint import Networks
from streamer.model.runtime.cuda import CudaFrameRenderer
from streamer.motion.articulation import EMBEDDING, PROSODY, ArticulationFrame, Loudness
from streamer.motion.controls import EMOTIONS, MOUTH, rest
from streamer.motion.idle import IdleMotion


@pytest.fixture(scope="module")
def networks() -> Networks:
    return random_networks(TINY)


def test_a_rig_on_a_device(networks: Networks) -> None:
    """It hears and draws planes of the size asked for, gives its slot back, and a full device is a refusal."""
    generator = NeuralBackend(CudaFrameRenderer(networks, 2, "cpu", torch.float32))
    rigs = [generator.create_renderer(Characters().get("24"), size, True) for size in (64, SIZE)]
    with pytest.raises(RequestError, match="all 2 slots") as refused:
        generator.create_renderer(Characters().get("24"), 128, True)
    assert refused.value.status == 503
    curves = ArticulationFrame(np.zeros(len(MOUTH)), np.zeros(len(PROSODY)), np.zeros(EMBEDDING))
    for rig in rigs:
        assert isinstance(rig, NeuralRig) and isinstance(rig, ConditionedRenderer) and isinstance(rig, BatchRenderer)
        rig.hear(rest(), curves, np.zeros(len(EMOTIONS), np.float32))
    assert rigs[0].batch_key == rigs[1].batch_key  # type: ignore[attr-defined]
    frames = rigs[0].render_batch(rigs)  # type: ignore[attr-defined]
    assert [frame.size for frame in frames] == [64, SIZE]
    single = rigs[1].draw(rest())
    assert isinstance(single, Yuv) and single.size == SIZE
    for rig in rigs:
        rig.close()
        rig.close()
    generator.create_renderer(Characters().get("24"), 128, True)


def test_the_engine_and_the_encoder_take_planes(networks: Networks) -> None:
    """Two sessions on a device through the engine: planes of their own, stamped, coded, and their slots given back."""
    frame_renderer = CudaFrameRenderer(networks, 2, "cpu", torch.float32)
    generator = NeuralBackend(frame_renderer)
    engine, frames, came = Engine(), [], threading.Semaphore(0)

    def drawn(frame: Frame) -> None:
        frame_stamp.stamp(frame.image, frame.frame)
        frames.append(frame)
        came.release()

    avatars = [
        Avatar(Loudness(), generator.create_renderer(Characters().get("24"), size, True), IdleMotion(0))
        for size in (64, SIZE)
    ]
    seats = [engine.add(avatar, drawn, lambda events: None, lambda error: came.release()) for avatar in avatars]
    for seat in seats:
        seat.submit(Step(7, 0, np.zeros(640, np.float32)))
    engine.start()
    for _ in seats:
        assert came.acquire(timeout=20)
    for seat in seats:
        seat.close()
    engine.close()
    assert [frame.image.size for frame in frames] == [64, SIZE]
    for frame in frames:
        assert isinstance(frame.image, Yuv) and frame.image.planes.base is None  # its own
        assert frame_stamp.read(frame.image.brightness) == 7
        assert VideoEncoder("H264", frame.image.size).encode(frame.image, 7).is_keyframe
    assert len(frame_renderer._slots) == 0


def test_a_slot_is_given_back_with_a_change_of_renderer(networks: Networks) -> None:
    """A session goes to and fro between a device and a rig: each frame is drawn, planes or RGBA, and coded."""
    frame_renderer = CudaFrameRenderer(networks, 1, "cpu", torch.float32)
    generator = AutoBackend("", NeuralBackend(frame_renderer))
    studio, picture = Characters().get("24"), CharacterRecord("p", "p", picture=np.full((80, 80, 4), 255, np.uint8))
    avatar, encoder = (
        Avatar(Loudness(), generator.create_renderer(studio, 128, True), IdleMotion(0)),
        VideoEncoder("H264", 128),
    )
    for frame, entry in enumerate((studio, picture, studio, picture, studio)):
        if frame:
            avatar.set_renderer(generator.create_renderer(entry, 128, True))
        controls, _ = avatar.hear(Step(frame, 0, np.zeros(640, np.float32)))
        image = avatar.draw(controls, frame / 25).copy()
        assert isinstance(image, Yuv) == (entry is studio) == (avatar.renderer == "neural")
        assert len(frame_renderer._slots) == (entry is studio)
        assert encoder.encode(image, frame).size > 0
    avatar.close()
    assert len(frame_renderer._slots) == 0


def test_a_render_from_a_device(networks: Networks, tmp_path: Path) -> None:
    """Planes become a video, and PNGs where they are asked for."""
    generator = NeuralBackend(CudaFrameRenderer(networks, 1, "cpu", torch.float32))
    entry, sound = Characters().get("13"), np.zeros(5 * 1920, np.float32)
    frames = render.draw_frames(np.zeros(5 * 640, np.float32), entry, 128, True, Loudness(), generator=generator)
    assert render.write_video(tmp_path / "out.mp4", render._keep(frames, tmp_path), sound, 128, lambda done: None) == 5
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
    kept = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("*.png"))]
    assert len(shown) == len(kept) == 5
    for one, other in zip(shown, kept, strict=True):
        assert np.abs(one.astype(int) - other[..., :3]).mean() < 12


CPU = SimpleNamespace(config=TINY, max_batch_size=1)
"""Stands in for the CPU's renderer."""


@pytest.fixture
def small(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is loaded is the tiny preset, and the CPU's renderer is not looked for."""
    monkeypatch.setattr("streamer.model.checkpoint.load", lambda preset: networks)
    monkeypatch.setattr("streamer.avatar.neural._on_cpu", lambda preset: (CPU, "some engine"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("small")
def test_the_device_is_chosen_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` falls back to the CPU with the reason, `cuda` refuses with it, `cpu` does not ask; each in one line."""
    monkeypatch.setattr("streamer.model.runtime.cuda.why_no_cuda", lambda: "no card is in here")
    fallen = create("neural")
    assert "on the CPU (no card is in here) by some engine" in fallen.where
    assert isinstance(fallen, NeuralBackend) and fallen.frame_renderer is CPU and fallen.device == "cpu"
    with pytest.raises(NotInstalled, match="--device cuda: no card is in here"):
        create("neural", "cuda")
    monkeypatch.setattr("streamer.model.runtime.cuda.why_no_cuda", lambda: pytest.fail("nobody asked for CUDA"))
    chosen = create("neural", "cpu")
    assert "(--device cpu)" in chosen.where and "\n" not in chosen.where
    assert "rig" in create("rig", "cuda").where
    with pytest.raises(ValueError, match="'tpu' is not one of auto, cpu, cuda"):
        create("neural", "tpu")


@pytest.mark.usefixtures("small")
def test_cuda_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the step does not run on a card, `auto` draws on the CPU and says why; `cuda` ends with the reason."""

    def fails(*_: object) -> None:
        raise RuntimeError("no kernel image is available\nand more")

    monkeypatch.setattr("streamer.model.runtime.cuda.why_no_cuda", lambda: None)
    monkeypatch.setattr("streamer.model.runtime.cuda.CudaFrameRenderer", fails)
    assert "the CUDA step failed: no kernel image is available) by" in create("neural").where
    with pytest.raises(NotInstalled, match="no kernel image"):
        create("neural", "cuda")


@pytest.mark.usefixtures("small")
def test_cuda_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes it, with places for three characters of each session and one; the line names the attention."""

    class Card(CudaFrameRenderer):
        def __init__(self, networks: Networks, capacity: int, device: str, dtype: object = None) -> None:
            assert device == ("cuda" if dtype is None else "cpu")  # the latter is what it is compared with
            super().__init__(networks, capacity, "cpu", torch.float32)

    monkeypatch.setattr("streamer.model.runtime.cuda.why_no_cuda", lambda: None)
    monkeypatch.setattr("streamer.model.runtime.cuda.CudaFrameRenderer", Card)
    generator = create("neural", sessions=4)
    assert isinstance(generator, NeuralBackend) and isinstance(generator.frame_renderer, Card)
    assert generator.device == "cuda"
    assert generator.frame_renderer.capacity == 13
    assert "attention by" in generator.where and "\n" not in generator.where
    assert len(generator.frame_renderer._slots) == 0  # the trial's sessions have left


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("wrong", [0.8, torch.nan])
def test_cuda_that_draws_something_else_is_not_used(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents that are not the CPU's are noticed at start: `auto` draws on the CPU and says why; `cuda` refuses."""

    class Card(CudaFrameRenderer):
        def __init__(self, networks: Networks, capacity: int, device: str, dtype: object = None) -> None:
            super().__init__(networks, capacity, "cpu", torch.float32)
            if device == "cuda":
                self._transformer.leave.weight.mul_(wrong)

    monkeypatch.setattr("streamer.model.runtime.cuda.why_no_cuda", lambda: None)
    monkeypatch.setattr("streamer.model.runtime.cuda.CudaFrameRenderer", Card)
    assert "differ from the CPU's by" in create("neural").where
    with pytest.raises(NotInstalled, match="differ from the CPU's by"):
        create("neural", "cuda")
