"""Training at the tiny preset: every stage runs, learns, and continues from its checkpoint."""

import copy
import dataclasses
import itertools
import json
import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch.nn import functional

from streamer.base.image import Yuv
from streamer.model.autoencoder import Autoencoder
from streamer.model.checkpoint import load
from streamer.model.config import HEARD, PRESETS
from streamer.model.painter import Painted
from streamer.model.runtime.cuda import CudaFrameRenderer
from streamer.model.runtime.stream import FrameConditions
from streamer.model.transformer import Transformer, face_tokens
from streamer.motion.articulation import PROSODY
from streamer.motion.controls import EMOTIONS, MOUTH, rest
from streamer.training import generator as gen
from streamer.training import main, painter
from streamer.training import preset as recipes
from streamer.training.common import Average, Kept, Progress
from streamer.training.footage import Footage, Made, Make, Mix, make_footage
from streamer.training.losses import sharpness_loss
from streamer.training.scenes import FIRST_SEED, Scenes, Shot, scene, windows
from streamer.training.variety import Bend, Style
from streamer.training.voices import Voices

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def voices() -> tuple[Voices, np.ndarray]:
    """Made-up speech: mouths that swing, and a silence."""
    t = np.arange(400)[:, None]
    heard = np.zeros((400, HEARD), np.float32)
    heard[:, : len(MOUTH)] = 0.5 + 0.5 * np.sin(t / np.linspace(2, 6, len(MOUTH)))
    heard[:, len(MOUTH) : len(MOUTH) + len(PROSODY)] = 0.5
    truth = heard[:, : len(MOUTH)]
    made = Voices(heard.astype(np.float16), truth.astype(np.float16), np.array([0, 150, 400]), ("a", "b"))
    return made, np.zeros((100, HEARD), np.float32)


@pytest.fixture(scope="module")
def scenes(voices: tuple[Voices, np.ndarray]) -> Iterator[Scenes]:
    with Scenes(Shot(TINY.size, 8, 4, 6), *voices, seed=0, processes=1) as running:
        yield running


class MadeHere(Made[Any]):
    """Eight makings in turn, without a process of its own: to start one takes longer than a test."""

    def __init__(self, make: Make[Any], mix: Mix, shot: Shot, voices: Voices, silence: np.ndarray, seed: int,
                 processes: int = 1) -> None:  # fmt: skip
        self._workers, self._queue = [], multiprocessing.Queue()
        rng = np.random.default_rng(seed)
        self._made = itertools.cycle([make(mix, shot, voices, silence, rng) for _ in range(8)])

    def take(self) -> Any:
        return next(self._made)


@pytest.fixture(scope="module")
def footages(voices: tuple[Voices, np.ndarray]) -> Iterator[Made[Footage]]:
    with MadeHere(
        make_footage,
        Mix({}, 1.0),
        Shot(2 * TINY.size, 4, spread=6, styled=0, references=3, tracked=600),
        *voices,
        seed=0,
    ) as made:
        yield made


_KILLED = """
import os, signal, sys
import numpy as np
from streamer.model.config import HEARD
from streamer.motion.controls import MOUTH
from streamer.training.scenes import Scenes, Shot
from streamer.training.voices import Voices

if __name__ == "__main__":
    heard, truth = np.zeros((50, HEARD), np.float16), np.zeros((50, len(MOUTH)), np.float16)
    scenes = Scenes(Shot(64, 8), Voices(heard, truth, np.array([0, 50]), ("a",)), heard.astype(np.float32), 0, 1)
    scenes.take()
    print(scenes._workers[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_do_not_outlive_a_killed_training(tmp_path: Path) -> None:
    """A training that is killed can end nobody: those that draw for it notice, and go."""
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    try:
        psutil.Process(int(done.stdout)).wait(60)
    except psutil.NoSuchProcess:
        pass


@pytest.mark.parametrize("bent", [0.0, 1.0])
def test_a_scene_is_whole(voices: tuple[Voices, np.ndarray], bent: float) -> None:
    """A scene's arrays agree, the mouth weighs most, and the same generator draws the same scene."""
    taken = [scene(FIRST_SEED, Shot(64, 5, bent=bent), *voices, np.random.default_rng(3)) for _ in range(2)]
    a = taken[0]
    assert a.frames.shape == (5, 64, 64, 4) and a.picture.shape == (64, 64, 4)
    assert a.weights.shape == (5, 16, 16) and a.face.shape == (4, 4)
    assert a.controls.shape[:2] == (5, 2) and a.heard.shape[:2] == (5, 5)
    assert a.truth.shape[0] == a.emotion.shape[0] == 5
    np.testing.assert_array_equal(a.controls[1:, 0], a.controls[:-1, 1])
    np.testing.assert_array_equal(a.heard[1:, :-1], a.heard[:-1, 1:])
    for k in range(5):
        x, y = ((a.mouths[k, :2] + a.mouths[k, 2:]) / 2 / 4).astype(int)
        assert a.weights[k, y, x] >= (0.5 if bent else 1) * a.weights[k].max() > 1
    np.testing.assert_array_equal(a.frames, taken[1].frames)
    assert (a.picture[..., :3] <= a.picture[..., 3:]).all()


def test_points_are_followed_from_picture_to_frame(voices: tuple[Voices, np.ndarray]) -> None:
    """In a nodding head points move; where one is said to be seen it looks as it does in the picture, bent or not."""
    for bent in (0.0, 1.0):
        one = scene(FIRST_SEED, Shot(128, 4, 1, 6, bent=bent, opaque=1.0), *voices, np.random.default_rng(5))
        moved = np.abs(one.followed[..., :2] - one.points).max(-1)
        seen = one.followed[..., 2] > 0
        assert 0.3 < seen.mean() < 1 and moved[seen].max() > 2
        x, y = one.points.astype(int).clip(0, 127).T
        for k in range(4):
            u, v = one.followed[k, :, :2].astype(int).clip(0, 127).T
            there = np.abs(one.frames[k][v, u, :3].astype(int) - one.picture[y, x, :3]).mean(1)
            here = np.abs(one.frames[k][y, x, :3].astype(int) - one.picture[y, x, :3]).mean(1)
            far = seen[k] & (moved[k] > 2)
            assert not far.sum() > 20 or there[far].mean() < here[far].mean()


def test_flows_are_judged_by_points(footages: Made[Footage]) -> None:
    """A flow that leads where the points came from is not off; one that stands still is, by as much as they moved."""
    crops = painter.crops([footages.take()], 2, 1, 64, np.random.default_rng(1))
    still = torch.zeros(2, 1, 2, 16, 16)
    painted = Painted(still, still[:, :, 0], still[:, 0], still[:, 0], still[:, 0], ())
    wanted = crops.origins - crops.places[:, None]
    apart = (wanted.abs().sum(-1) * crops.known).sum() / crops.known.sum()
    assert 0 < painter.match_loss(painted, crops) <= apart
    places = crops.places.clamp(8, 56)
    shifted = crops._replace(places=places, origins=places[:, None] + 6)
    assert painter.match_loss(painted._replace(flow=still + 1.5), shifted) < 1e-6


def test_blur_costs_sharpness_and_a_shift_does_not() -> None:
    """Edges a pixel off are as strong as those that are wanted; blurred ones are not, where the weight is."""
    edges = torch.zeros(1, 4, 64, 64)
    edges[..., 2::8] = edges[..., 3::8] = 1
    weights = torch.ones(1, 1, 64, 64)
    shifted, blurred = edges.roll(1, 3), functional.avg_pool2d(edges, 5, 1, 2)
    costs = [float(sharpness_loss(x, edges, weights)) for x in (edges, shifted, blurred)]
    assert costs[0] == 0 and costs[1] < 0.05 * costs[2]
    weights[..., :32] = 0
    half = torch.cat([blurred[..., :28], edges[..., 28:]], 3)
    assert sharpness_loss(half, edges, weights) < 0.1 * costs[2]


def test_a_bend_moves_pictures_maps_and_places_alike() -> None:
    """The middle stays but for the shift, what is beside it moves away with the zoom, and the border goes on."""
    still = np.zeros((2, 3, 3))
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[30:34, 30:34] = picture[30:34, 46:50] = 255
    np.testing.assert_array_equal(Bend(np.ones(2), np.zeros(2), still)(picture), picture)
    bend = Bend(np.array([1.25, 1.0]), np.array([0.0, 0.125]), still)
    rows, columns = np.nonzero(bend(picture[None])[0, ..., 3] > 127)
    assert 37.5 < rows.mean() < 41.5  # 8 lower
    assert abs(columns[columns < 40].mean() + 0.5 - 32) < 1 and abs(columns[columns >= 40].mean() + 0.5 - 52) < 1
    np.testing.assert_allclose(bend.places(np.array([[46, 30], [50, 34]]), 64), [[49.5, 38], [54.5, 42]], atol=0.01)
    rng = np.random.default_rng(0)
    for _ in range(10):
        bend = Bend.random(rng)
        dot = np.zeros((64, 64), np.float32)
        x, y = rng.integers(20, 44, 2)
        dot[y : y + 2, x : x + 2] = 1
        seen = bend(dot)
        at = (np.array([seen.sum(0), seen.sum(1)]) @ (np.arange(64) + 0.5)) / seen.sum()
        np.testing.assert_allclose(bend.places(np.array([[x + 1, y + 1]]), 64)[0], at, atol=0.25)
        grey = bend(np.full((3, 16, 16), 0.5, np.float16))
        assert grey.dtype == np.float16 and (grey == 0.5).all()


def test_a_style_changes_looks_and_moves_nothing() -> None:
    """Alpha stays, colours stay below it, greys grey; pictures of a scene are changed alike, and visibly."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (8, 16, 4)).astype(np.uint8)
    picture[..., 3] = picture[..., 3].clip(100)
    picture[..., :3] = np.minimum(picture[..., :3], picture[..., 3:])
    grey = np.concatenate([np.repeat(picture[..., :1], 3, -1), picture[..., 3:]], -1)
    for _ in range(20):
        style = Style.random(rng)
        pair = style(np.stack([picture, grey]))
        if not style.blur:
            np.testing.assert_array_equal(pair[..., 3], np.stack([picture, picture])[..., 3])
        assert (pair[..., :3] <= pair[..., 3:]).all() and not np.array_equal(pair[0], picture)
        assert np.ptp(pair[1, ..., :3].astype(int), axis=-1).max() <= 1
        np.testing.assert_array_equal(style(picture), pair[0])


def test_latents_hold_no_style(footages: Made[Footage]) -> None:
    """The painter is asked for footage in its style, the encoder is shown the same footage without it."""
    rng = np.random.default_rng(0)
    one = footages.take()
    plain, styled = (
        painter.crops([dataclasses.replace(one, style=style)], 2, 1, 64, np.random.default_rng(1))
        for style in (None, Style.random(rng))
    )
    assert torch.equal(plain.plain_frames, styled.plain_frames) and torch.equal(plain.plain_frames, plain.frames)
    for name in ("frames", "references", "fine_references", "patches"):
        assert not torch.equal(getattr(plain, name), getattr(styled, name)), name


def test_crops_fit_together(footages: Made[Footage]) -> None:
    """
    References, frames, patches and known points of a crop show the same places: the frame at a point has the colour
    of the reference at its origin, at either size.
    """
    rng = np.random.default_rng(2)
    errors, found = [], 0
    for _ in range(6):
        given = painter.crops([footages.take()], 2, 1, 64, rng)
        small = functional.avg_pool2d(given.patches, 2)
        for frame, part, (x, y) in zip(given.frames, small, given.corners.tolist(), strict=True):
            own = frame[:, y // 2 : y // 2 + part.shape[1], x // 2 : x // 2 + part.shape[2]]
            assert (own - part).abs().max() < 0.02

        def colours(pictures: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            return functional.grid_sample(pictures, (at / 32 - 1)[:, :, None], align_corners=False)[..., 0]

        sources = given.references[:, 0].repeat_interleave(2, 0)
        off = (colours(given.frames, given.places) - colours(sources, given.origins[:, 0])).abs().mean(1)
        errors += off[given.known[:, 0] > 0].tolist()
        found += int(given.known.sum())
    assert found > 500 and np.median(errors) < 0.06


def test_passages_hold_silence(voices: tuple[Voices, np.ndarray]) -> None:
    """A passage has the length asked for and is at times all silence, at times all speech."""
    rng = np.random.default_rng(0)
    passages = [voices[0].passage(40, voices[1], rng)[0][:, 0] for _ in range(200)]
    assert {len(p) for p in passages} == {40}
    still = np.array([np.mean(p == 0) for p in passages])
    assert (still == 1).any() and (still < 0.1).any()


def test_progress_continues() -> None:
    """Steps or minutes end a stage, whichever comes first, and minutes before an interruption count."""
    progress = Progress(10, None)
    progress.step = 5
    assert progress.share == 0.5 and not progress.over
    assert progress.rate(1.0, warm_up=1) == pytest.approx(0.5, abs=0.01)
    spent = Progress(10**9, 1.0)
    spent.resume(3, 2.0)
    assert spent.over and spent.step == 3


def test_what_was_drawn_lately_is_given_once() -> None:
    """`latest` draws what is missing and no more, and gives each thing once."""
    drawn = iter(range(100))
    kept = Kept(lambda: [next(drawn), next(drawn)], capacity=6, reuse=2.0)
    assert kept.latest(3) == [1, 2, 3] and kept.latest(3) == [1, 2, 3]
    assert kept.latest(50) == [0, 1, 2, 3, 4, 5] and next(drawn) == 6


def test_averages_follow() -> None:
    """An average starts at the weights and follows them."""
    module = torch.nn.Linear(2, 2)
    average = Average(module, 0.9)
    with torch.no_grad():
        module.weight.add_(1.0)
    before = (average.module.weight - module.weight).abs().max()
    for _ in range(50):
        average.update(module)
    assert (average.module.weight - module.weight).abs().max() < 0.05 * before


def test_autoencoder_learns_and_continues(footages: Made[Footage], tmp_path: Path) -> None:
    """Some steps lessen the error; a second call goes on from the first one's checkpoint."""

    torch.manual_seed(0)

    def go(steps: int, name: str = "autoencoder", model: Autoencoder | None = None) -> Autoencoder:
        model = model or Autoencoder(TINY.autoencoder)
        path, frozen = tmp_path / f"{name}.pt", name == "painter"
        return painter.train(model, footages, path, Progress(steps, None), 2, 2, 64, torch.device("cpu"),
                             reuse=16, capacity=8, rate=2e-3, frozen=frozen)  # fmt: skip

    go(30)
    first = torch.load(tmp_path / "autoencoder.pt", weights_only=True)
    trained = go(300)
    again = torch.load(tmp_path / "autoencoder.pt", weights_only=True)
    assert (first["step"], again["step"]) == (30, 300)
    lines = [json.loads(line) for line in (tmp_path / "autoencoder.jsonl").read_text().splitlines()]
    gains = [line["psnr"] - line["copy_psnr"] for line in lines]
    assert gains[-1] > gains[0] + 0.3
    assert trained.shows.mean() == pytest.approx(1, abs=0.1)
    # Strongest first; with so few scenes two neighbours may be in another order in those that it is measured on.
    assert trained.shows[:2].sum() > trained.shows[2:].sum()
    latents = []
    for _ in range(8):
        picture, frames = painter.seen(footages.take(), torch.device("cpu"))
        latents.append(trained.encode(frames, picture.expand_as(frames)))
    covariance = torch.cov(torch.cat(latents).transpose(0, 1).flatten(1))
    assert (covariance - torch.eye(len(covariance))).abs().max() < 0.5
    torch.testing.assert_close(trained.whiten @ trained.colour, torch.eye(len(covariance)), atol=1e-3, rtol=0)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    after = go(5, "painter", trained).state_dict()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"painter"}


def test_generator_learns_in_three_stages(scenes: Scenes, footages: Made[Footage], tmp_path: Path) -> None:
    """The teacher lessens the error from noise, one step keeps what it gained, and the rollout gains more."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    rng = np.random.default_rng(0)
    autoencoder = Autoencoder(TINY.autoencoder).eval().requires_grad_(False)
    painter.normalise(autoencoder, [footages.take() for _ in range(8)], device)
    takes = gen.Takes(scenes, 4, autoencoder, TINY, 400, 24)
    held = gen.batch_of(takes.sample(4, rng), 4, TINY, autoencoder.shows, rng, device)

    def error(model: Transformer) -> float:
        torch.manual_seed(1)
        return float(gen.rollout_loss(copy.deepcopy(model).requires_grad_(True), held)["loss"])

    model = Transformer(TINY)
    errors, teacher = [error(model)], None
    for stage, steps, rate in (("teacher", 250, 3e-3), ("one_step", 30, 2e-3), ("rollout", 80, 2e-3)):
        model = copy.deepcopy(model).requires_grad_(True)
        model = gen.train(stage, model, takes, autoencoder.shows, tmp_path, Progress(steps, None), 4, 4, rate, device,
                          teacher if stage == "one_step" else None)  # fmt: skip
        errors.append(error(model))
        teacher = model if stage == "teacher" else teacher
    assert errors[1] < 0.96 * errors[0]
    assert errors[2] < errors[0] and errors[3] < errors[1]
    assert {path.name for path in tmp_path.glob("*.pt")} == {"teacher.pt", "one_step.pt", "rollout.pt"}


def test_windows_repeat_the_first_frame() -> None:
    """Each frame's window ends with itself."""
    x = np.arange(4.0)[:, None]
    assert windows(x, 3)[:, :, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]


def test_face_tokens_have_a_margin() -> None:
    """A face in one latent's place reaches its token and those round it, and no further."""
    face = torch.zeros(16, 16)
    face[8, 8] = 0.5
    tokens = face_tokens(face, 8).reshape(8, 8)
    assert (tokens > 0).sum() == 9 and tokens[4, 4] == 0.5


@pytest.mark.usefixtures("denormals")
def test_the_whole_recipe(voices: tuple[Voices, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lipstream train tiny` goes through all stages and writes weights that draw; again, it finds all of it done."""
    for name in ("autoencoder", "painter", "teacher", "one_step", "rollout"):
        short = dataclasses.replace(getattr(recipes.RECIPES["tiny"], name), steps=3)
        monkeypatch.setitem(recipes.RECIPES, "tiny", dataclasses.replace(recipes.RECIPES["tiny"], **{name: short}))
    monkeypatch.setattr(recipes, "Made", MadeHere)
    made = voices[0]
    work, out = tmp_path / "work", tmp_path / "tiny.safetensors"
    work.mkdir()
    np.savez(work / "voices.npz", heard=made.heard, truth=made.truth, starts=made.starts, speakers='["a", "b"]')
    command = ["tiny", str(tmp_path / "data"), "--work", str(work), "--out", str(out), "--processes", "1"]
    assert main(command) == 0
    networks = load("tiny", out)
    assert main(command) == 0
    for name, value in load("tiny", out).transformer.state_dict().items():
        torch.testing.assert_close(value, networks.transformer.state_dict()[name], atol=0, rtol=0)
    frame_renderer = CudaFrameRenderer(networks, 1, "cpu", torch.float32)
    picture = np.full((2 * TINY.size, 2 * TINY.size, 4), 255, np.uint8)
    session = frame_renderer.stream(frame_renderer.prepare([picture], np.ones((4, 4)), (0.5, 0.5), TINY.size))
    frame_renderer.hear(session, FrameConditions(rest(), made.clip(0)[0][0], np.zeros(len(EMOTIONS), np.float32)))
    assert isinstance(frame_renderer.draw([session])[0], Yuv)


@pytest.mark.usefixtures("denormals")
def test_a_recipe_without_speech(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a speech set the command says how to build one; an unknown recipe is told the known ones."""
    assert main(["nano", str(tmp_path / "none"), "--work", str(tmp_path / "work")]) == 1
    assert "lipstream data" in capsys.readouterr().err
    assert main(["giant"]) == 2
    assert "nano" in capsys.readouterr().err
