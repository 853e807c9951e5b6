"""Sessions on a device: frames as each session alone would get, whoever comes, goes, waits or fails; all but graphs, on
a CPU.

What needs CUDA is in `test_device_cuda.py`, what the pipeline makes of it in `test_device_pipeline.py`.
"""

import contextlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from device_frames import SIZE, TINY, TOLERANCES, Character, character, close, seated
from plain_frames import Plain
from random_networks import cue, random_networks
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from streamer.base.image import Yuv
from streamer.model.checkpoint import Networks, untrained
from streamer.model.config import PRESETS
from streamer.model.painter import compose
from streamer.model.runtime import cuda as device_module
from streamer.model.runtime import cuda_step
from streamer.model.runtime.cuda import CudaFrameRenderer, Full, Seated, apart, buckets, noise, why_no_cuda
from streamer.model.runtime.stream import FrameConditions, NotFinite
from streamer.motion.controls import MOUTH


@pytest.fixture(scope="module")
def networks() -> Networks:
    return random_networks(TINY)


class SameNoise(CudaFrameRenderer):
    """Takes each session's noise from where `Plain` takes it, so that their frames can be compared."""

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
    frame_renderer.capture()
    return frame_renderer


class Session:
    """The same session twice: alone, and on a device among others."""

    def __init__(self, networks: Networks, frame_renderer: CudaFrameRenderer, seed: int, given: Character) -> None:
        self.frame_renderer, self.given = frame_renderer, given
        self.seed, self.frame = seed, 0
        self.plain = Plain(networks, given, seed)
        self.seated: Seated = frame_renderer.stream(frame_renderer.prepare(*given), seed)

    def hear(self) -> None:
        said = cue(1000 * self.seed + self.frame)
        self.frame += 1
        self.plain.listen(said)
        self.frame_renderer.hear(self.seated, said)


def draw(frame_renderer: CudaFrameRenderer, sessions: Sequence[Session]) -> None:
    """Each hears, all are drawn together, and each is compared."""
    for session in sessions:
        session.hear()
    wanted = [session.plain.planes() for session in sessions]
    found = frame_renderer.draw([session.seated for session in sessions])
    for planes, truth in zip(found, wanted, strict=True):
        close(planes, truth)


@pytest.mark.parametrize("opaque", [True, False])
def test_a_device_draws_what_the_networks_draw(networks: Networks, opaque: bool) -> None:
    """Sessions of different ages and numbers of references, past the wrap-around of their rings, in float32."""
    frame_renderer = on_cpu(networks)
    sessions: list[Session] = []
    for frame in range(7):
        if frame in (0, 1, 4):
            given = character(frame + 1, count=len(sessions) + 1, opaque=opaque)
            sessions.append(Session(networks, frame_renderer, frame + 1, given))
        draw(frame_renderer, sessions)
    places = {tuple(session.plain.place[0].tolist()) for session in sessions}
    assert len(places) > 1 and (frame_renderer._scenes.place[:3] >= 0).all()


def test_the_patch_and_the_references_are_seen(networks: Networks) -> None:
    """What the comparisons above would miss if frames hardly depended on it: flow, further references, the patch."""
    plain = Plain(networks, character(1, count=3), 1)
    plain.listen(cue(1))
    painted = networks.autoencoder.decode(plain.latent(), None, plain.features)
    assert painted.flow.abs().mean() > 0.1  # cells of 8 pixels
    assert (painted.shares - 1 / 3).abs().mean() > 0.01
    part = compose(plain.textures, painted, SIZE)[:, :, :48, :48]
    change, share = networks.autoencoder.painter.patch(part, painted.features[:, :, :6, :6])
    assert (share * change).abs().mean() > 0.05


def test_sessions_come_go_and_wait(networks: Networks) -> None:
    """Who leaves or is not drawn changes nothing for the rest; a frame that is heard and not drawn is remembered."""
    frame_renderer = on_cpu(networks, 3)
    first, second, third = (Session(networks, frame_renderer, k, character(k, count=k)) for k in (1, 2, 3))
    draw(frame_renderer, [first, second, third])
    draw(frame_renderer, [third])  # neither in the first slot nor the whole bucket
    second.hear()  # its frame is dropped
    draw(frame_renderer, [second, first])  # in another order than the slots
    frame_renderer.leave(first.seated)
    frame_renderer.leave(first.seated)  # idempotent
    assert third.seated.seat.slot == 0
    draw(frame_renderer, [second, third])
    fourth = Session(networks, frame_renderer, 4, character(4))  # in a slot that held three references
    assert fourth.seated.seat.slot == 2
    for turn in ([fourth, third], [second], [fourth, second, third], [fourth, second, third]):
        draw(frame_renderer, turn)


def test_frames_of_other_sizes(networks: Networks) -> None:
    """In one step, sessions of several sizes: scaled as the CPU scales, and none gets another's planes."""
    frame_renderer = on_cpu(networks, 5)
    sizes = (32, SIZE, 64, 192, 192)
    sessions = [Session(networks, frame_renderer, k, character(k, size, k % 3 + 1)) for k, size in enumerate(sizes, 1)]
    for _ in range(3):
        draw(frame_renderer, sessions)
    for session, frame in zip(sessions, frame_renderer.draw([s.seated for s in sessions]), strict=True):
        assert isinstance(frame, Yuv) and frame.size == session.given.size


def test_plates_of_any_size(networks: Networks) -> None:
    """A plate is scaled to the frame as it is drawn; each session is in front of its own, one without is not."""
    frame_renderer = on_cpu(networks)
    sessions = [Session(networks, frame_renderer, k, character(k, plate_edge=k * 64)) for k in (1, 2, 3)]
    draw(frame_renderer, sessions)
    frame_renderer.leave(sessions[0].seated)
    draw(frame_renderer, sessions[1:])
    bare = frame_renderer.stream(frame_renderer.prepare(*character(4, plated=False)), 4)
    assert not frame_renderer._scenes.plates[bare.seat.slot].any()


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
def test_alpha_of_what_is_transparent(networks: Networks, size: int) -> None:
    """Frames without a plate come with the person's alpha, those over a plate that covers everything without."""
    frame_renderer = on_cpu(networks)
    bare = Session(networks, frame_renderer, 1, character(1, size, 2, plated=False))
    plated = Session(networks, frame_renderer, 1, character(1, size, 2))
    veil = character(1, size)
    half = np.concatenate([veil.plate, np.full((SIZE, SIZE, 1), 128, np.uint8)], -1)  # type: ignore[list-item]
    veiled = frame_renderer.stream(frame_renderer.prepare(*veil._replace(plate=half)), 1)
    frame_renderer.hear(veiled, cue(1000))
    for session in (bare, plated):
        session.hear()
    wanted = bare.plain.finished()
    frames = frame_renderer.draw([bare.seated, plated.seated, veiled])
    frame, before, between = frames
    assert isinstance(frame, Yuv) and isinstance(before, Yuv) and isinstance(between, Yuv)
    assert before.alpha is None
    close(before, plated.plain.planes())
    assert frame.alpha is not None and frame.alpha.shape == (size, size)
    assert 0 < frame.alpha.mean() < 255 and np.abs(frame.alpha.astype(int) - wanted[..., 3]).max() <= 1
    luma = wanted[..., :3] @ np.array([65.481, 128.553, 24.966]) / 255 + 16
    solid = wanted[..., 3] >= 128  # below, a level more or less of alpha changes the colour a lot
    assert np.abs(frame.brightness - luma)[solid].max() <= 4
    assert between.alpha is not None and between.alpha.mean() > frame.alpha.mean() + 20
    assert size > SIZE or between.alpha.min() >= 128  # cubic interpolation may undershoot


def test_nan_stays_in_its_session(networks: Networks) -> None:
    """A session whose state contains NaN is reset and says so; its neighbours' frames stay as they were."""
    frame_renderer = on_cpu(networks)
    sessions = [Session(networks, frame_renderer, k, character(k, count=k)) for k in (1, 2, 3)]
    for _ in range(2):
        draw(frame_renderer, sessions)
    slot = sessions[1].seated.seat.slot
    frame_renderer._slots.ring_values[:, slot] = torch.nan
    for session in sessions:
        session.hear()
    found = frame_renderer.draw([session.seated for session in sessions])
    assert isinstance(found[1], NotFinite)
    assert (frame_renderer._scenes.place[slot] == -1).all()
    sessions[1].plain.draw()
    sessions[1].plain.reset()
    for session, frame in ((sessions[0], found[0]), (sessions[2], found[2])):
        close(frame, session.plain.planes())
    for _ in range(3):
        draw(frame_renderer, sessions)


@pytest.mark.parametrize("level", range(3))
def test_nan_of_a_character_is_found(networks: Networks, level: int) -> None:
    """NaN among a character's features is noticed wherever it is, also where it moves a flow only."""
    frame_renderer = on_cpu(networks, 2)
    good, bad = (Session(networks, frame_renderer, k, character(k)) for k in (1, 2))
    frame_renderer._scenes.features[level][bad.seated.seat.slot, 0, :, 0, 0] = torch.nan
    for session in (good, bad):
        session.hear()
    frame, told = frame_renderer.draw([good.seated, bad.seated])
    assert isinstance(told, NotFinite)
    close(frame, good.plain.planes())


def test_half_precision_is_near(networks: Networks) -> None:
    """bf16 draws nearly what float32 draws."""
    frame_renderer = on_cpu(networks, 2, torch.bfloat16)
    session = Session(networks, frame_renderer, 1, character(1, count=2))
    for _ in range(2):
        session.hear()
        close(frame_renderer.draw([session.seated])[0], session.plain.planes(), TOLERANCES["cpu", torch.bfloat16])


def test_the_smallest_bucket_that_reaches(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step covers the slots up to the last whose turn it is, in the next larger batch that a graph exists for."""
    assert buckets(1) == (1,) and buckets(2) == (1, 2) and buckets(25) == (1, 2, 4, 8, 16, 25)
    frame_renderer, counts = on_cpu(networks, 5), []
    monkeypatch.setattr(frame_renderer, "_compute", counts.append)
    frame_renderer._drawn[:, -1, 0] = 1
    still = frame_renderer.prepare(*character(1))
    sessions = [frame_renderer.stream(still, seed) for seed in range(5)]
    for session in sessions:
        frame_renderer.hear(session, cue(1))
    for turn in ([0], [1], [0, 2], [3], [4]):
        frame_renderer.draw([sessions[i] for i in turn])
    assert counts == [1, 2, 4, 4, 5]
    assert frame_renderer.draw([]) == []


def test_nothing_moves(networks: Networks) -> None:
    """A graph captured over a renderer stays valid: sessions, steps and departures all write in place."""

    def addresses() -> dict[str, int]:
        parts = (frame_renderer, frame_renderer._slots, frame_renderer._scenes)
        found = {
            f"{type(part).__name__} {name}": tensor.data_ptr()
            for part in parts
            for name, tensor in vars(part).items()
            if isinstance(tensor, Tensor)
        }
        return found | {f"features {i}": level.data_ptr() for i, level in enumerate(frame_renderer._scenes.features)}

    frame_renderer = on_cpu(networks, 3)
    before = addresses()
    assert len(before) > 20
    assert {level.data_ptr() for level in frame_renderer._scenes.tensors()} <= set(before.values())
    sessions = [Session(networks, frame_renderer, k, character(k, size)) for k, size in ((1, SIZE), (2, 64), (3, SIZE))]
    draw(frame_renderer, sessions)
    frame_renderer.leave(sessions[0].seated)
    draw(frame_renderer, sessions[1:])
    assert addresses() == before


def test_every_tensor_of_a_scene_moves_with_it(networks: Networks) -> None:
    """A session that moves into the gap of another takes all of its character along."""
    frame_renderer = on_cpu(networks, 3)
    scenes = frame_renderer._scenes
    first, last = (Session(networks, frame_renderer, k, character(k, count=k)) for k in (1, 2))
    draw(frame_renderer, [first, last])
    held = [part[1].clone() for part in scenes.tensors()]
    everything = {id(part) for part in vars(scenes).values() if isinstance(part, Tensor)} | set(
        map(id, scenes.features)
    )
    assert everything == set(map(id, scenes.tensors()))
    frame_renderer.leave(first.seated)
    assert all(torch.equal(part[0], kept) for part, kept in zip(scenes.tensors(), held, strict=True))
    draw(frame_renderer, [last])


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
    """With the renderer's own noise, the same session gives the same video, alone or in company."""

    def video(company: int) -> list[np.ndarray]:
        frame_renderer = CudaFrameRenderer(networks, 4, "cpu", torch.float32)
        others = [seated(frame_renderer, 50 + k) for k in range(company)]
        session = seated(frame_renderer, 9)
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
    frame_renderer = on_cpu(networks, 4)
    first = seated(frame_renderer, 5)
    stayed = Session(networks, frame_renderer, 1, character(1, count=3))
    ended, came = threading.Event(), threading.Semaphore(0)
    failures: list[Exception] = []

    def visits() -> None:
        try:
            still = frame_renderer.prepare(*character(6))
            while not ended.is_set():
                guests = [frame_renderer.stream(still, 100 + i) for i in range(2)]
                for guest in guests:
                    frame_renderer.leave(guest)
                came.release()
        except Exception as error:
            failures.append(error)
            came.release()

    visitor = threading.Thread(target=visits)
    visitor.start()
    try:
        for frame in range(8):
            assert came.acquire(timeout=10)
            if frame == 4:
                frame_renderer.leave(first)  # the one that stays moves
            draw(frame_renderer, [stayed])
    finally:
        ended.set()
        visitor.join(10)
    assert not failures and not visitor.is_alive()


def test_refusals(networks: Networks) -> None:
    """A full device, pictures and sizes that do not fit, sessions that left: each error says so with its numbers."""
    frame_renderer, given = on_cpu(networks, 1), character(1)

    def refused(say: str, **wrong: Any) -> None:
        with pytest.raises(ValueError, match=say):
            frame_renderer.prepare(*given._replace(**wrong))

    refused("of 0 references", references=[])
    refused("of 64 pixels for frames drawn at 128", references=[np.zeros((64, 64, 4), np.uint8)])
    refused(r"shape \(128, 128, 3\)", references=[np.zeros((128, 128, 3), np.uint8)])
    refused("and float32: want uint8", references=[np.zeros((128, 128, 4), np.float32)])
    refused("further.*64|of 64 pixels", references=[*given.references, np.zeros((64, 64, 4), np.uint8)])
    refused(r"shape \(3, 3\).*tiny wants 4x4", face=np.zeros((3, 3)))
    for centre in ((0.5, 1.5), (float("nan"), 0.5)):
        refused("want x and y from 0 to 1", centre=centre)
    for size in (130, 8):
        refused(f"frames of {size} pixels", size=size)
    refused(r"a plate of shape \(128, 64, 3\)", plate=np.zeros((128, 64, 3), np.uint8))
    refused("and float64: want uint8", plate=np.zeros((128, 128, 3)))
    still = frame_renderer.prepare(*given)
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
    frame_renderer = SameNoise(networks, 3, "cpu", torch.float32)
    card = Card(frame_renderer, monkeypatch)
    tries = torch.backends.cudnn.benchmark
    frame_renderer.capture()
    assert [entry for entry in card.log if "capture" in entry] == ["capture 3", "capture 2", "capture 1"]
    assert card.log.count("launch 2") == 3 and card.log.index("launch 2") < card.log.index("capture 2")
    assert torch.backends.cudnn.benchmark == tries
    assert "a card), a CUDA graph for 3, 2, 1 sessions; attention by" in frame_renderer.line
    card.log.clear()
    sessions = [Session(networks, frame_renderer, k, character(k, size)) for k, size in ((1, SIZE), (2, 64))]
    assert card.log == ["wait aside", "record", "wait"] * 2
    with pytest.raises(RuntimeError, match="2 sessions are open"):
        frame_renderer.capture()
    for turn, bucket in ((sessions, 2), (sessions[:1], 1), (sessions, 2)):
        card.log.clear()
        draw(frame_renderer, turn)
        assert card.log == [f"replay {bucket}", "record", "wait"]


# --- whether a device can be used -----------------------------------------------------------------------------------


def test_the_trial_measures(networks: Networks) -> None:
    """The same step in the same precision is 0 apart; float16 a little."""
    assert apart(CudaFrameRenderer(networks, 2, "cpu", torch.float32), networks) == 0
    assert 0 < apart(CudaFrameRenderer(networks, 2, "cpu", torch.float16), networks) < 1


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
