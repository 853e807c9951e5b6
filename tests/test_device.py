"""Sessions on a device: frames as `FrameRenderer` draws them, whoever comes, goes, waits or fails; all but graphs, on a
CPU.

What needs CUDA is in `test_device_cuda.py`.
"""

import contextlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from device_frames import EDGE, SIZE, TINY, TOLERANCES, close, picture
from PIL import Image
from random_networks import cue, random_networks
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from streamer.avatar.avatar import Avatar
from streamer.avatar.backends import AutoBackend, create
from streamer.avatar.characters import CharacterRecord, Characters
from streamer.avatar.engine import Engine
from streamer.avatar.neural import DeviceRig, NeuralBackend, NeuralRig
from streamer.avatar.renderer import BatchRenderer, ConditionedRenderer
from streamer.base.errors import NotInstalled, RequestError
from streamer.base.frames import Frame, Step
from streamer.base.image import Yuv, backdrop
from streamer.cli import render
from streamer.media import frame_stamp
from streamer.media.video_encoder import VideoEncoder, to_yuv
from streamer.model.checkpoint import Networks, untrained
from streamer.model.config import PRESETS
from streamer.model.runtime import cuda as device_module
from streamer.model.runtime import cuda_step
from streamer.model.runtime.cuda import CudaFrameRenderer, Full, Seated, apart, buckets, noise, why_no_cuda
from streamer.model.runtime.openvino_cpu import Fastest
from streamer.model.runtime.torch_cpu import FrameConditions, FrameRenderer, NotFinite, Stream
from streamer.motion.articulation import EMBEDDING, PROSODY, ArticulationFrame, Loudness
from streamer.motion.controls import EMOTIONS, MOUTH, rest
from streamer.motion.idle import IdleMotion


@pytest.fixture(scope="module")
def networks() -> Networks:
    return random_networks(TINY)


class SameNoise(CudaFrameRenderer):
    """Takes each session's noise from where `FrameRenderer` takes it, so that their frames can be compared."""

    def _noise(self, count: int) -> Tensor:
        self.generators: dict[int, torch.Generator] = getattr(self, "generators", {})
        rows = torch.zeros_like(self._slots.noise[:count])
        for slot in range(count):
            if self._slots.due[slot]:
                if int(self._frame[slot]) == 0:
                    self.generators[int(self._seed[slot])] = torch.Generator().manual_seed(int(self._seed[slot]))
                generator = self.generators[int(self._seed[slot])]
                rows[slot] = torch.randn(1, *rows.shape[1:], generator=generator)[0].to(rows)
        return rows


def on_cpu(networks: Networks, capacity: int = 4, dtype: torch.dtype = torch.float32) -> SameNoise:
    frame_renderer = SameNoise(networks, capacity, "cpu", dtype)
    frame_renderer.prepare()
    return frame_renderer


class Session:
    """
    The same session twice: alone with a `FrameRenderer`, finished by `NeuralRig`, and on a device among others. Where
    not opaque a backdrop is behind: bare colours of what hardly shows hang on the last digit of its opacity.
    """

    def __init__(
        self, alone: FrameRenderer, frame_renderer: CudaFrameRenderer, seed: int, size: int = SIZE, opaque: bool = True
    ) -> None:
        self.alone, self.frame_renderer, self.size = alone, frame_renderer, size
        self.seed, self.frame = seed, 0
        self.stream: Stream = alone.stream(alone.still(*picture(seed)), seed)
        self.rig = NeuralRig(alone, self.stream, size, opaque, None if opaque else backdrop(size))
        self.seated: Seated = frame_renderer.stream(
            frame_renderer.still(*picture(seed)), seed, size, opaque, backed=not opaque
        )

    def hear(self) -> None:
        said = cue(1000 * self.seed + self.frame)
        self.frame += 1
        self.alone.hear(self.stream, said)
        self.frame_renderer.hear(self.seated, said)

    def wanted(self) -> np.ndarray:
        """Its planes, drawn alone."""
        (frame,) = self.alone.draw([self.stream])
        assert isinstance(frame, np.ndarray)
        return to_yuv(np.ascontiguousarray(self.rig._finished(frame))).to_ndarray()


def draw(frame_renderer: CudaFrameRenderer, sessions: Sequence[Session]) -> None:
    """Each hears, all are drawn together, and each is compared."""
    for session in sessions:
        session.hear()
    wanted = [session.wanted() for session in sessions]
    found = frame_renderer.draw([session.seated for session in sessions])
    for planes, truth in zip(found, wanted, strict=True):
        close(planes, truth)


@pytest.mark.parametrize("opaque", [True, False])
def test_a_device_draws_what_the_painter_draws(networks: Networks, opaque: bool) -> None:
    """Sessions of different ages, past the seams of their rings, in float32: each as if alone on the CPU's own path."""
    alone, frame_renderer = FrameRenderer(networks), on_cpu(networks)
    sessions: list[Session] = []
    for frame in range(7):
        if frame in (0, 1, 4):
            sessions.append(Session(alone, frame_renderer, frame + 1, opaque=opaque))
        draw(frame_renderer, sessions)


def test_sessions_come_go_and_wait(networks: Networks) -> None:
    """Who leaves or is not drawn changes nothing for the rest; a frame that is heard and not drawn is remembered."""
    alone, frame_renderer = FrameRenderer(networks), on_cpu(networks, 3)
    first, second, third = (Session(alone, frame_renderer, seed) for seed in (1, 2, 3))
    draw(frame_renderer, [first, second, third])
    draw(frame_renderer, [third])  # neither in the first slot nor the whole bucket
    second.hear()  # its frame is dropped
    draw(frame_renderer, [second, first])  # in another order than the slots
    frame_renderer.leave(first.seated)
    frame_renderer.leave(first.seated)  # idempotent
    assert third.seated.seat.slot == 0
    draw(frame_renderer, [second, third])
    fourth = Session(alone, frame_renderer, 4)
    for turn in ([fourth, third], [second], [fourth, second, third], [fourth, second, third]):
        draw(frame_renderer, turn)


def test_frames_of_other_sizes(networks: Networks) -> None:
    """In one step, sessions of several sizes: scaled as the CPU scales, and none gets another's planes."""
    alone, frame_renderer = FrameRenderer(networks), on_cpu(networks)
    sizes = (32, SIZE, 128, 128)
    sessions = [Session(alone, frame_renderer, seed, size) for seed, size in enumerate(sizes, 1)]
    for _ in range(3):
        draw(frame_renderer, sessions)
    for session, frame in zip(sessions, frame_renderer.draw([s.seated for s in sessions]), strict=True):
        assert isinstance(frame, Yuv) and frame.size == session.size


def test_nan_stays_in_its_session(networks: Networks) -> None:
    """A session whose state is spoilt is told so and starts anew; its neighbours' frames stay as they were."""
    alone, frame_renderer = FrameRenderer(networks), on_cpu(networks)
    sessions = [Session(alone, frame_renderer, seed) for seed in (1, 2, 3)]
    for _ in range(2):
        draw(frame_renderer, sessions)
    frame_renderer._slots.ring_values[:, sessions[1].seated.seat.slot] = torch.nan
    spoilt = sessions[1]
    with torch.inference_mode():
        spoilt.stream.cache.ring_values.fill_(torch.nan)
    for session in sessions:
        session.hear()
    assert isinstance(alone.draw([spoilt.stream])[0], NotFinite)
    found = frame_renderer.draw([session.seated for session in sessions])
    assert isinstance(found[1], NotFinite)
    for session, frame in ((sessions[0], found[0]), (sessions[2], found[2])):
        close(frame, session.wanted())
    for _ in range(3):
        draw(frame_renderer, sessions)


def test_half_precision_is_near(networks: Networks) -> None:
    """bf16 draws nearly what float32 draws."""
    alone, frame_renderer = FrameRenderer(networks), on_cpu(networks, 2, torch.bfloat16)
    session = Session(alone, frame_renderer, 1)
    for _ in range(2):
        session.hear()
        close(frame_renderer.draw([session.seated])[0], session.wanted(), TOLERANCES["cpu", torch.bfloat16])


def test_the_smallest_bucket_that_reaches(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step covers the slots up to the last whose turn it is, in the next larger batch that a graph exists for."""
    assert buckets(1) == (1,) and buckets(2) == (1, 2) and buckets(25) == (1, 2, 4, 8, 16, 25)
    frame_renderer, counts = on_cpu(networks, 5), []
    monkeypatch.setattr(frame_renderer, "_compute", counts.append)
    frame_renderer._drawn[:, -1, 0] = 1
    sessions = [frame_renderer.stream(frame_renderer.still(*picture(1)), seed) for seed in range(5)]
    for session in sessions:
        frame_renderer.hear(session, cue(1))
    for turn in ([0], [1], [0, 2], [3], [4]):
        frame_renderer.draw([sessions[i] for i in turn])
    assert counts == [1, 2, 4, 4, 5]
    assert frame_renderer.draw([]) == []


def test_nothing_moves(networks: Networks) -> None:
    """A graph captured over a painter stays valid: sessions, steps and departures all write in place."""

    def addresses() -> dict[str, int]:
        found = {name: part.data_ptr() for name, part in vars(frame_renderer).items() if isinstance(part, Tensor)}
        found |= {
            f"slots {name}": part.data_ptr()
            for name, part in vars(frame_renderer._slots).items()
            if isinstance(part, Tensor)
        }
        return found | {f"features {i}": part.data_ptr() for i, part in enumerate(frame_renderer._features)}

    frame_renderer = on_cpu(networks, 3)
    before = addresses()
    assert len(before) > 20
    alone = FrameRenderer(networks)
    sessions = [Session(alone, frame_renderer, seed, size) for seed, size in ((1, SIZE), (2, 128), (3, SIZE))]
    draw(frame_renderer, sessions)
    frame_renderer.leave(sessions[0].seated)
    draw(frame_renderer, sessions[1:])
    assert addresses() == before
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in frame_renderer._features)


def test_noise_is_the_sessions_own() -> None:
    """Normal, never infinite, told by seed and frame alone, and different for each of them."""
    seeds, frames = torch.tensor([1, 1, 2, 2**31]), torch.tensor([0, 1, 0, 0])
    drawn = noise(seeds, frames, (32, 16, 16))
    assert drawn.shape == (4, 32, 16, 16) and drawn.isfinite().all()
    assert drawn.mean().abs() < 0.02 and (drawn.std() - 1).abs() < 0.02
    assert 3.5 < drawn.abs().max() < 6.8
    assert (drawn.pow(4).mean() - 3).abs() < 0.15  # as thick at the ends as it should be
    likeness = torch.corrcoef(drawn.flatten(1)) - torch.eye(4)
    assert likeness.abs().max() < 0.05
    neighbours = torch.corrcoef(torch.stack([drawn.flatten()[1:], drawn.flatten()[:-1]]))[0, 1]
    assert neighbours.abs() < 0.02
    assert torch.equal(noise(seeds[2:3], frames[2:3], (32, 16, 16))[0], drawn[2])


def test_a_session_is_its_seed(networks: Networks) -> None:
    """With the painter's own noise, the same session gives the same video, alone or in company."""

    def video(company: int) -> list[np.ndarray]:
        frame_renderer = CudaFrameRenderer(networks, 4, "cpu", torch.float32)
        others = [frame_renderer.stream(frame_renderer.still(*picture(seed)), 50 + seed) for seed in range(company)]
        session = frame_renderer.stream(frame_renderer.still(*picture(9)), 9)
        frames = []
        for k in range(4):
            for one in (*others, session):
                frame_renderer.hear(one, cue(k))
            frame = frame_renderer.draw([*others, session])[-1]
            assert isinstance(frame, Yuv)
            frames.append(frame.planes.copy())
        return frames

    alone, among = video(0), video(2)
    for one, other in zip(alone, among, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert not (alone[1] == alone[2]).all()


def test_sessions_come_from_other_threads(networks: Networks) -> None:
    """While one thread draws, others seat sessions and let them go: the frames are those of a session left alone."""
    alone, frame_renderer = FrameRenderer(networks), on_cpu(networks, 4)
    first, stayed = frame_renderer.stream(frame_renderer.still(*picture(5)), 5), Session(alone, frame_renderer, 1)
    ended, seated = threading.Event(), threading.Semaphore(0)
    failures: list[Exception] = []

    def visits() -> None:
        try:
            still = frame_renderer.still(*picture(6))
            while not ended.is_set():
                guests = [frame_renderer.stream(still, 100 + i) for i in range(2)]
                for guest in guests:
                    frame_renderer.leave(guest)
                seated.release()
        except Exception as error:
            failures.append(error)
            seated.release()

    visitor = threading.Thread(target=visits)
    visitor.start()
    try:
        for frame in range(8):
            assert seated.acquire(timeout=10)
            if frame == 4:
                frame_renderer.leave(first)  # the one that stays moves
            draw(frame_renderer, [stayed])
    finally:
        ended.set()
        visitor.join(10)
    assert not failures and not visitor.is_alive()


def test_refusals(networks: Networks) -> None:
    """A full painter, pictures and sizes that do not fit, sessions that left, say so with their numbers."""
    frame_renderer = on_cpu(networks, 1)
    still = frame_renderer.still(*picture(1))
    with pytest.raises(ValueError, match=r"32.*64x64"):
        frame_renderer.still(np.zeros((32, 32, 4), np.uint8), np.zeros((EDGE, EDGE)))
    for size in (130, 8):
        with pytest.raises(ValueError, match=f"frames of {size} pixels"):
            frame_renderer.stream(still, size=size)
    session = frame_renderer.stream(still)
    with pytest.raises(Full, match="all 1 slots"):
        frame_renderer.stream(still)
    with pytest.raises(ValueError, match="has no conditions"):
        frame_renderer.draw([session])
    good = cue(1)
    with pytest.raises(NotFinite):
        frame_renderer.hear(session, FrameConditions(good.controls, np.full_like(good.heard, np.nan), good.emotion))
    with pytest.raises(ValueError, match="31"):
        frame_renderer.hear(session, FrameConditions(good.controls[len(MOUTH) :], good.heard, good.emotion))
    frame_renderer.hear(session, good)
    with pytest.raises(ValueError, match=r"slots \[0, 0\]"):
        frame_renderer.draw([session, session])
    frame_renderer.leave(session)
    with pytest.raises(ValueError, match=r"slots \[-1\]"):
        frame_renderer.draw([session])
    frame_renderer.stream(still)


# --- what a GPU would be told, on tensors that hold nothing ---------------------------------------------------------


class FromHost(TorchDispatchMode):
    """Notes each operation that is given a tensor of the host: a CUDA graph would copy it once and never again."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tree_leaves((args, kwargs or {}))
        if any(isinstance(part, Tensor) and part.device.type == "cpu" for part in given):
            self.found.append(str(op))
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("kernels", [False, True], ids=["plain", "kernels"])
def test_a_step_needs_nothing_of_the_host(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    At the shipped size, on tensors without contents: no number is looked at, and what is not on the device already is
    not used, so that a CUDA graph can hold all of it, from what was said to planes.
    """
    config = PRESETS["nano"]
    frame_renderer = CudaFrameRenderer(untrained(config), 4, "meta", torch.float16)
    if kernels:
        if importlib.util.find_spec("triton") is None:
            pytest.skip("Triton is not installed")
        from avatar_kernels import checks, launch

        monkeypatch.setattr(checks, "offered", lambda op, device: None)
        monkeypatch.setattr(launch.Launch, "run", lambda self: None)
        monkeypatch.setattr(frame_renderer, "_step", cuda_step.step)
    with torch.no_grad():
        frame_renderer._compute(3)  # what is made once and kept
        with FromHost() as host:
            frame_renderer._compute(3)
    assert not host.found
    with FromHost() as host:
        frame_renderer._inputs.copy_(torch.zeros(frame_renderer._inputs.shape))
    assert host.found  # it would have been noticed


class Card:
    """Stands in for CUDA's streams, events and graphs, and notes what the host asks of them; a replay computes."""

    def __init__(self, frame_renderer: CudaFrameRenderer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[Any] = []
        self.capturing: Any = None
        card, compute = self, frame_renderer._compute

        class Graph:
            def replay(self) -> None:
                card.log.append(f"replay {self.count}")
                compute(self.count)

            count = 0

        class Event:
            def __init__(self, **_: bool) -> None: ...
            def record(self) -> None:
                card.log.append("record")

            def synchronize(self) -> None:
                card.log.append("wait")

        class Lane:
            def synchronize(self) -> None:
                card.log.append("wait aside")

        @contextlib.contextmanager
        def capture(graph: Graph, **_: object) -> Iterator[None]:
            card.capturing = graph
            yield
            card.capturing = None

        def computed(count: int) -> None:
            card.log.append(f"capture {count}" if card.capturing else f"launch {count}")
            if card.capturing:
                card.capturing.count = count
            else:
                compute(count)

        for name, part in (
            ("CUDAGraph", Graph),
            ("Event", Event),
            ("graph", capture),
            ("stream", lambda lane: contextlib.nullcontext()),
            ("synchronize", lambda device: card.log.append("wait for all")),
            ("get_device_name", lambda device: "a card"),
        ):
            monkeypatch.setattr(torch.cuda, name, part)
        frame_renderer._cuda, frame_renderer._steps, frame_renderer._aside = True, Lane(), Lane()  # type: ignore[assignment]
        monkeypatch.setattr(frame_renderer, "_compute", computed)
        monkeypatch.setattr(frame_renderer, "_pinned", lambda *shape: torch.zeros(shape, dtype=torch.uint8))


def test_what_the_host_asks_of_a_card(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every bucket is captured at start, the largest first, after it was launched; from then on a step is one replay, and
    the host waits for the event behind its copies alone. Frames are as without graphs.
    """
    alone, frame_renderer = FrameRenderer(networks), SameNoise(networks, 3, "cpu", torch.float32)
    card = Card(frame_renderer, monkeypatch)
    tries = torch.backends.cudnn.benchmark
    frame_renderer.prepare()
    assert [entry for entry in card.log if "capture" in entry] == ["capture 3", "capture 2", "capture 1"]
    assert card.log.count("launch 2") == 3 and card.log.index("launch 2") < card.log.index("capture 2")
    assert torch.backends.cudnn.benchmark == tries
    assert "a card), a CUDA graph for 3, 2, 1 sessions; attention by" in frame_renderer.line
    card.log.clear()
    sessions = [Session(alone, frame_renderer, seed, size) for seed, size in ((1, SIZE), (2, 128))]
    assert card.log == ["wait aside", "record", "wait"] * 2
    with pytest.raises(RuntimeError, match="2 sessions are open"):
        frame_renderer.prepare()
    for turn, bucket in ((sessions, 2), (sessions[:1], 1), (sessions, 2)):
        card.log.clear()
        draw(frame_renderer, turn)
        assert card.log == [f"replay {bucket}", "record", "wait"]


# --- as the pipeline sees it ----------------------------------------------------------------------------------------


def test_a_rig_on_a_device(networks: Networks) -> None:
    """It hears and draws planes of the size asked for, gives its slot back, and a full device is a refusal."""
    generator = NeuralBackend(CudaFrameRenderer(networks, 2, "cpu", torch.float32))
    rigs = [generator.create_renderer(Characters().get("24"), size, True) for size in (128, SIZE)]
    with pytest.raises(RequestError, match="all 2 slots") as refused:
        generator.create_renderer(Characters().get("24"), 128, True)
    assert refused.value.status == 503
    curves = ArticulationFrame(np.zeros(len(MOUTH)), np.zeros(len(PROSODY)), np.zeros(EMBEDDING))
    for rig in rigs:
        assert isinstance(rig, DeviceRig) and isinstance(rig, ConditionedRenderer) and isinstance(rig, BatchRenderer)
        rig.hear(rest(), curves, np.zeros(len(EMOTIONS), np.float32))
    assert rigs[0].batch_key == rigs[1].batch_key  # type: ignore[attr-defined]
    frames = rigs[0].render_batch(rigs)  # type: ignore[attr-defined]
    assert [frame.size for frame in frames] == [128, SIZE]
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
        for size in (128, SIZE)
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
    assert [frame.image.size for frame in frames] == [128, SIZE]
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


@pytest.fixture
def small(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is loaded is the tiny preset, and on a CPU torch draws it."""
    monkeypatch.setattr("streamer.avatar.neural.load", lambda preset: networks)
    monkeypatch.setattr(
        "streamer.avatar.neural.fastest", lambda networks, threads: Fastest(FrameRenderer(networks), "PyTorch")
    )
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("small")
def test_the_device_is_chosen_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` falls back to the CPU with the reason, `cuda` refuses with it, `cpu` does not ask; each in one line."""
    monkeypatch.setattr("streamer.avatar.neural.why_no_cuda", lambda: "no card is in here")
    fallen = create("neural")
    assert "on the CPU (no card is in here) by PyTorch" in fallen.where
    assert isinstance(fallen, NeuralBackend) and isinstance(fallen.frame_renderer, FrameRenderer)
    with pytest.raises(NotInstalled, match="--device cuda: no card is in here"):
        create("neural", "cuda")
    monkeypatch.setattr("streamer.avatar.neural.why_no_cuda", lambda: pytest.fail("nobody asked for CUDA"))
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

    monkeypatch.setattr("streamer.avatar.neural.why_no_cuda", lambda: None)
    monkeypatch.setattr("streamer.avatar.neural.CudaFrameRenderer", fails)
    assert "the CUDA step failed: no kernel image is available) by" in create("neural").where
    with pytest.raises(NotInstalled, match="no kernel image"):
        create("neural", "cuda")


@pytest.mark.usefixtures("small")
def test_cuda_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes it, with places for three characters of each session and one; the line names the attention."""

    class Card(CudaFrameRenderer):
        def __init__(self, networks: Networks, capacity: int, device: str) -> None:
            assert device == "cuda"
            super().__init__(networks, capacity, "cpu", torch.float32)

    monkeypatch.setattr("streamer.avatar.neural.why_no_cuda", lambda: None)
    monkeypatch.setattr("streamer.avatar.neural.CudaFrameRenderer", Card)
    generator = create("neural", sessions=4)
    assert isinstance(generator, NeuralBackend) and isinstance(generator.frame_renderer, Card)
    assert generator.frame_renderer.capacity == 13
    assert "attention by" in generator.where and "\n" not in generator.where
    assert len(generator.frame_renderer._slots) == 0  # the trial's sessions have left


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("wrong", [0.8, torch.nan])
def test_cuda_that_draws_something_else_is_not_used(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents that are not the CPU's are noticed at start: `auto` draws on the CPU and says why; `cuda` refuses."""

    class Card(CudaFrameRenderer):
        def __init__(self, networks: Networks, capacity: int, device: str) -> None:
            super().__init__(networks, capacity, "cpu", torch.float32)
            self._transformer.leave.weight.mul_(wrong)

    monkeypatch.setattr("streamer.avatar.neural.why_no_cuda", lambda: None)
    monkeypatch.setattr("streamer.avatar.neural.CudaFrameRenderer", Card)
    assert "differ from the CPU's by" in create("neural").where
    with pytest.raises(NotInstalled, match="differ from the CPU's by"):
        create("neural", "cuda")


def test_the_trial_measures(networks: Networks) -> None:
    """The same step in the same precision is 0 apart; bf16 a little."""
    assert apart(CudaFrameRenderer(networks, 2, "cpu", torch.float32), networks) == 0
    assert 0 < apart(CudaFrameRenderer(networks, 2, "cpu", torch.bfloat16), networks) < 1


def test_cuda_is_tried_before_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Built without it, no device, a device that fails: each is a reason."""
    monkeypatch.setattr(torch.version, "cuda", None)
    assert why_no_cuda() == "this PyTorch is built without CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in str(why_no_cuda())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image is available\nfor this device")

    monkeypatch.setattr(device_module.torch, "ones", broken)
    assert why_no_cuda() == "the CUDA device does not work: no kernel image is available"


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
def test_a_device_tells_what_is_transparent(networks: Networks, size: int) -> None:
    """Frames that something may shine through bring the painter's alpha; those before a backdrop bring none."""
    alone, frame_renderer = FrameRenderer(networks), on_cpu(networks)
    backed = Session(alone, frame_renderer, 1, size, opaque=False)
    bare = frame_renderer.stream(frame_renderer.still(*picture(1)), 1, size, opaque=False, backed=False)
    frame_renderer.hear(bare, cue(1000))
    backed.hear()
    (wanted,) = alone.draw([backed.stream])
    before, frame = frame_renderer.draw([backed.seated, bare])
    assert isinstance(wanted, np.ndarray) and isinstance(before, Yuv) and isinstance(frame, Yuv)
    assert before.alpha is None
    alpha = np.asarray(Image.fromarray(wanted).resize((size, size), Image.Resampling.BICUBIC))[..., 3]
    assert frame.alpha is not None and frame.alpha.shape == (size, size)
    assert 0 < alpha.mean() < 255 and np.abs(frame.alpha.astype(int) - alpha).mean() < 1
