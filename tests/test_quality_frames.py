"""What the quality benchmark compares: true frames, reconstructions, clips, variants that are tuned, and stages."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painted_networks import exported_networks, painted_networks

from benchmarks.quality import ablations, clips, context, footage, lips, speed
from benchmarks.quality import fidelity as pictures
from benchmarks.quality import measures as m
from benchmarks.quality.reconstruction import Reconstruction
from streamer.base.alpha import premultiplied
from streamer.model.config import HEARD
from streamer.model.runtime.torch_cpu import FrameRenderer
from streamer.motion.controls import CONTROLS, EMOTIONS, INDEX, MOUTH, controls, rest
from streamer.motion.idle import IdleMotion
from streamer.studio.character import Character
from streamer.studio.rig import Rig
from streamer.training.clip import KEYPOINTS, Clip
from streamer.training.footage import Footage
from streamer.training.people.parts import PART


def test_the_truth_is_the_rig_with_its_memory() -> None:
    """Frames equal the rig's over its own background but for rounding, and loose parts swing in skipped frames, too."""
    life = IdleMotion(4)
    rows = np.stack([life.step(np.zeros(len(MOUTH), np.float32), np.full(5, 0.5, np.float32)) for _ in range(8)])
    rows[4:, INDEX["yaw"]] = 0.4
    drawn = clips.draw(24, 256, rows, at=[7], seen=64)
    with Rig(Character.from_seed(24), 256) as rig:
        for row in rows:
            rig.advance(row)
        wanted = premultiplied(rig.draw(rows[7]))
        apart = np.abs(drawn.frames[0].astype(int) - wanted)
        assert apart[..., :3].max() <= 3 and apart.mean() < 0.2
    assert drawn.seen.shape == (1, 64, 64, 4) and drawn.seen[..., 3].min() == 0
    assert 0.1 < drawn.person(0).mean() < 0.95
    forgetful = clips.draw(24, 256, rows[7:])
    assert (forgetful.frames[0] != drawn.frames[0]).any()


def test_pictures_are_those_of_live_sessions() -> None:
    """Three pictures of twice the frame's size, or the first of them; without a background there is no plate."""
    shown = clips.given(5, 128)
    assert shown.roles == ("neutral", "eyes_shut", "mouth_open") and len(shown.references[0]) == 256
    assert shown.plate is not None and shown.plate.shape == (128, 128, 4)
    one = clips.given(5, 128, background=False, references=1)
    assert one.roles == ("neutral",) and len(one.references) == 1 and one.plate is None


def test_shut_lids_are_measured_alone() -> None:
    """Only eyes whose own lid is shut count as shut, in the order of the boxes."""
    rows = np.stack([controls(blink_left=0.9), controls(blink_right=1.0, blink_left=0.85), controls(blink_left=0.5)])
    assert lips.shut_lids(rows).tolist() == [[True, False], [True, True], [False, False]]
    drawn, fidelity = clips.draw(5, 128, rows, background=False), lips.Fidelity()
    for k, shut in enumerate(lips.shut_lids(rows)):
        fidelity.add(drawn.still, drawn, k, shut)
    found = fidelity.numbers()
    assert found["shut_lids"] == 3 and found["psnr_shut_lids"] < found["psnr_eyes"]
    assert fidelity.first(1).numbers()["psnr_shut_lids"] is None and lips.Fidelity().numbers() == {}


def test_moments_are_of_all_of_it_and_of_shut_lids() -> None:
    """Frames are spread over the passage, and some have shut lids, wherever these are."""
    rows = np.stack([rest()] * 120)
    rows[71:80, [INDEX["blink_left"], INDEX["blink_right"]]] = 1.0
    assert {71, 79} <= set(pictures.moments(rows))
    assert set(range(30, 120, 15)) <= set(pictures.moments(rows)) and len(pictures.moments(rows)) <= 6 + 4


@pytest.mark.usefixtures("denormals")
def test_a_reconstruction_follows_the_true_frames() -> None:
    """What is encoded decides what is painted, and noise changes it; equal frames give equal frames."""
    painter = Reconstruction(painted_networks())
    shown = clips.given(5, 256, references=2)
    poses = np.stack([rest(), controls(open=1.0, yaw=0.3)])
    drawn = clips.draw(5, 256, poses, seen=256)
    seen = np.stack([drawn.seen[0], drawn.seen[1], drawn.seen[1]])
    exact = list(painter.rebuild(shown, 256, seen))
    noisy = list(painter.rebuild(shown, 256, seen, noise=1.0))
    assert exact[0].shape == (256, 256, 4) and (exact[0] != exact[1]).any()
    np.testing.assert_array_equal(exact[1], exact[2])
    assert (noisy[1] != noisy[2]).any()


@pytest.mark.usefixtures("denormals")
def test_without_sink_nothing_is_attended_but_the_reference_is_added() -> None:
    """The ablation changes the sink and nothing else: it draws, and differs from the model with the sink."""
    networks = painted_networks(1)
    without = context.reconfigured(networks, context.Variant("without", 1, sink=False))
    plain, sinkless = networks.transformer, without.transformer
    features = torch.randn(1, networks.config.autoencoder.channels[-1], 16, 16)
    assert sinkless.reference(features).sinks[0].shape[2] == 0
    assert torch.equal(sinkless.reference(features).added, plain.reference(features).added)
    said = clips.passage(5, "x", np.full((3, HEARD), 0.2), np.zeros((3, len(MOUTH))))
    shown = clips.given(5, 256, references=1)
    frames = [np.stack(list(clips.painted(FrameRenderer(each), shown, 256, said))) for each in (networks, without)]
    assert frames[0].shape == (3, 256, 256, 4) and (frames[0] != frames[1]).any()


@pytest.mark.usefixtures("denormals")
def test_shipped_weights_look_back_as_they_are_told() -> None:
    """Any context takes the same weights, draws from its first frame on, and is another generator."""
    networks = painted_networks(2)
    said = clips.passage(5, "x", np.full((4, HEARD), 0.2), np.zeros((4, len(MOUTH))))
    shown = clips.given(5, 256, references=1)
    frames = []
    for count in (2, 1, 0):
        other = context.reconfigured(networks, context.Variant(str(count), count))
        assert other.config.transformer.context == count
        frames.append(np.stack(list(clips.painted(FrameRenderer(other), shown, 256, said))))
    apart = [np.abs(a.astype(int) - b).max((1, 2, 3)) for a, b in zip(frames, frames[1:], strict=False)]
    assert apart[0][:2].max() <= 1  # until a ring of one is full, no ring is longer; rounding differs
    assert apart[0][2:].max() > 1 and apart[1].max() > 1


def made_up_footage() -> Footage:
    """Three references and two frames of noise, twice as large as the networks' pictures."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 512, 512, 4)).astype(np.uint8)
    places = rng.uniform(200, 300, (2, 50, 2)).astype(np.float32)
    return Footage(
        "drawn", frames[:3], frames[3:], np.ones((2, 128, 128), np.float16),
        np.full((2, 4), [230, 270, 280, 300], np.float32), np.full((2, 2), 220, np.float32), places,
        np.repeat(places[:, None], 3, 1), np.ones((2, 3, 50), bool),
    )  # fmt: skip


@pytest.mark.usefixtures("denormals")
def test_variants_are_tuned_alike(tmp_path: Path) -> None:
    """Each starts from the given painter, which stays as it is, and trains for the same steps; the encoder is kept."""
    start, made = painted_networks().autoencoder, made_up_footage()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    budget = ablations.Budget(10, batch=1, frames=2, crop=128, steps=2)
    weights = []
    for name in ("one reference", "three references"):
        (variant,) = (each for each in ablations.VARIANTS if each.name == name)
        folder = tmp_path / name
        tuned, steps = ablations.tuned(start, variant, budget, lambda: made, 0, folder)
        assert steps == 2
        weights.append(tuned.state_dict())
    for name, value in start.state_dict().items():
        assert torch.equal(value, before[name])
        if not name.startswith("painter."):
            assert torch.equal(weights[0][name], value) and torch.equal(weights[1][name], value)
    for one, other in ((weights[0], before), (weights[1], before), (weights[0], weights[1])):
        assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_mixes_are_what_their_names_say(tmp_path: Path) -> None:
    """A mix without people needs none; one with people says where there are none."""
    by_name = {variant.name: variant for variant in ablations.VARIANTS}
    assert ablations.mix_of(by_name["studio characters only"], None).drawn == 1.0
    with pytest.raises(ValueError, match="'people only' needs clips of people"):
        ablations.mix_of(by_name["people only"], tmp_path)
    (tmp_path / "shard_00000.npz").touch()
    only, both = (ablations.mix_of(by_name[name], tmp_path) for name in ("people only", "as trained"))
    assert only.drawn == 0.0 and only.clips["people"][1] == 1.0 and both.drawn == pytest.approx(0.4)


def test_progress_is_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage is over after so many minutes of this process, whatever the clock says, and resumes where it was."""
    now = [100.0]
    monkeypatch.setattr(ablations.time, "process_time", lambda: now[0])
    progress = ablations.ProcessorTime(1000, 2.0)
    now[0] += 60
    assert progress.share == pytest.approx(0.5) and not progress.over
    progress.resume(10, 1.5)
    now[0] += 31
    assert progress.over and progress.step == 10


def made_up_clip(frames: int = 6, size: int = 512) -> Clip:
    """A clip whose pictures are noise in a matte, with its references in an order that is not that of live sessions."""
    rng = np.random.default_rng(1)
    roles = ("neutral", "mouth_open", "eyes_shut")
    pixels = rng.integers(0, 256, (frames + 4, size, size, 3)).astype(np.uint8)
    mattes = np.zeros((frames, size, size), np.uint8)
    mattes[:, 100:, 100:400] = 255
    background = pixels[-1]
    shown = np.where(mattes[..., None] > 0, pixels[:frames], background)
    points = np.zeros((frames, len(KEYPOINTS), 3), np.float32)
    points[..., :2] = rng.uniform(200, 260, (1, len(KEYPOINTS), 2))
    rows = np.zeros((frames, 2, len(CONTROLS)), np.float32)
    rows[:, 1, INDEX["open"]] = np.linspace(0, 1, frames)
    return Clip(
        seed=1, person=3, roles=roles, grain=(), at=np.arange(frames), background=background,
        references=pixels[frames : frames + 3], frames=shown, reference_mattes=mattes[:3], mattes=mattes,
        reference_parts=np.full((3, size, size), PART["face"], np.uint8), parts=np.zeros_like(mattes),
        places=np.zeros(0), flow=np.zeros(0), flows=np.zeros(0), before=np.zeros(0), reference_points=points[:3],
        points=points, tracks=np.zeros(0), reference_controls=np.zeros((3, len(CONTROLS))), controls=rows,
        heard=np.zeros((frames, HEARD), np.float16), truth=np.zeros((frames, len(MOUTH))),
        emotion=np.zeros((frames, len(EMOTIONS))), openings=np.zeros(frames),
    )  # fmt: skip


def test_a_clip_is_drawn_from_its_own_pictures() -> None:
    """References come in the order of live sessions, cut out; frames lie over the clip's background."""
    clip = made_up_clip()
    drawn = footage.drawn_of(clip, 256, 128)
    assert drawn.given.roles == ("neutral", "eyes_shut", "mouth_open")
    np.testing.assert_array_equal(drawn.given.references[1][100:, 100:400, :3], clip.references[2][100:, 100:400])
    assert not drawn.given.references[0][:100].any() and drawn.seen.shape == (6, 128, 128, 4)
    assert drawn.frames.shape == (6, 256, 256, 4) and drawn.given.face.min() == 1.0
    assert drawn.person(0)[60:, 60:190].mean() > 0.9 and not drawn.person(0)[:48].any()
    assert all(100 < value < 130 for value in drawn.mouths[0])
    assert all(0.39 < value < 0.51 for value in drawn.given.centre)


class FakeFinder:
    """Finds one face whose lips are as far apart as it is told, frame by frame."""

    def __init__(self, gaps: list[float | None]) -> None:
        self.gaps = gaps

    def face(self, gap: float) -> Any:
        @dataclasses.dataclass
        class Found:
            lip_gap: float
            points: np.ndarray

        points = np.arange(478 * 3, dtype=np.float32).reshape(478, 3)
        return Found(gap, points)

    def find(self, picture: np.ndarray) -> list[Any]:
        return [] if self.gaps == [] else [self.face(0.0)]

    def look(self, picture: np.ndarray, box: Any, roll: float = 0.0) -> Any:
        gap = self.gaps.pop(0)
        return None if gap is None else self.face(gap)


def test_lips_are_read_frame_by_frame() -> None:
    """A frame in which no face is found keeps the gap before it; without a face at rest nothing is read."""
    frames = [np.zeros((8, 8, 4), np.uint8)] * 4
    np.testing.assert_allclose(footage.gaps(FakeFinder([0.1, 0.3, None, 0.2]), frames, frames[0]), [0.1, 0.3, 0.3, 0.2])
    assert footage.gaps(FakeFinder([]), frames, frames[0]) is None


def test_faces_of_different_sizes_are_pooled() -> None:
    """Lips that follow the curves in their own units correlate fully over all clips."""
    curves = [np.sin(np.arange(60) / (2 + seed)) for seed in range(3)]
    pairs = [(0.1 * curve * (1 + seed) + seed, curve) for seed, curve in enumerate(curves)]
    assert m.pcc(pairs) < 0.5 and m.pcc(footage._scaled(pairs)) == pytest.approx(1)


@pytest.mark.usefixtures("denormals")
def test_clips_are_compared_with_their_own_frames() -> None:
    """Autoencoder with each number of references and generator are measured, and lips of all, the true frames' too."""
    networks = painted_networks()
    clip = made_up_clip(4)
    opening = clip.controls[:, 1, INDEX["open"]].tolist()
    finder = FakeFinder([*opening, *opening[::-1], *opening, *opening])
    found = footage.measure(FrameRenderer(networks), Reconstruction(networks), [clip], finder)
    columns = found["columns"]
    assert list(columns) == ["true frames", "autoencoder, 1", "autoencoder, 3", "one step"] and found["n"] == 4
    assert columns["true frames"]["pcc_curves"] == pytest.approx(1)
    assert columns["autoencoder, 1"]["pcc_curves"] == pytest.approx(-1)
    assert 0 < columns["one step"]["psnr"] < 40
    with pytest.raises(FileNotFoundError, match="no clips in"):
        next(footage.read(Path("nowhere"), 1))


@pytest.mark.usefixtures("denormals")
def test_a_frames_stages_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine draws every case; stages are seen where they run, and together they are the whole."""
    networks, graphs = exported_networks()
    monkeypatch.setattr(speed, "exported", lambda *given: graphs)
    said = clips.passage(5, "x", np.full((5, HEARD), 0.2), np.zeros((5, len(MOUTH))))
    found = speed.measure(networks, tmp_path / "none.safetensors", said)
    cases = {(c["size"], c["references"]) for c in found["configurations"]}
    assert cases == {(512, 1), (512, 3), (256, 1)}
    engines = {c["engine"].split()[0] for c in found["configurations"]}
    assert engines >= {"torch", "onnxruntime"}
    assert ("OpenVINO" in engines) == (importlib.util.find_spec("openvino") is not None)
    for each in found["configurations"]:
        assert each["n"] == 2 and each["processor_ms"]["p50"] > 0
        assert all(each["stages_ms"][name] > 0 for name in ("step", "paint", "compose", "finish"))
        assert (each["stages_ms"]["patch"] > 0) == (each["size"] == 512)
