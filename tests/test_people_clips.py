"""Rendered people and their clips, as far as no assets are needed: identities, motion, film, shards and the command."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("numba", reason="the people studio's renderer needs the extra `train`")

from streamer.motion.controls import CONTROLS, HIGHEST, INDEX, LOWEST, MOUTH  # noqa: E402
from streamer.training.clip import ARRAYS, KEYPOINTS, Clip  # noqa: E402
from streamer.training.people import __main__ as command  # noqa: E402
from streamer.training.people import motion, shards  # noqa: E402
from streamer.training.people.clips import Shot  # noqa: E402
from streamer.training.people.film import Grade, Grain  # noqa: E402
from streamer.training.people.identity import LONG, SHORT, identity, shape_weights  # noqa: E402
from streamer.training.people.setting import background  # noqa: E402
from streamer.training.people.training_scene import scene_of  # noqa: E402

TARGETS = [f"{folder}/{side}{stem}-{way}" for folder, side, stem, ways in (
    ("nose", "", "nose-width1", ("incr", "decr")), ("cheek", "l-", "cheek-bones", ("incr", "decr")),
    ("cheek", "r-", "cheek-bones", ("incr", "decr")), ("mouth", "", "mouth-trans", ("in", "out")),
) for way in ways]  # fmt: skip


def test_a_seed_is_always_the_same_person_and_another_one_another():
    """Identities are functions of their seed."""
    assert identity(7, TARGETS) == identity(7, list(reversed(TARGETS)))
    assert identity(7, TARGETS) != identity(8, TARGETS)


def test_people_vary_within_what_bodies_bear():
    """Strengths of local shapes stay small, both cheeks go together, every kind of hair and both sexes are there."""
    crowd = [identity(seed, TARGETS) for seed in range(150)]
    assert {who.hair for who in crowd} == {*LONG, *SHORT, None}
    assert 0.3 < np.mean([who.gender > 0.5 for who in crowd]) < 0.7
    for who in crowd:
        local = {name: strength for name, strength in who.local.items() if not name.startswith(("head/", "eyebrows/"))}
        assert max(local.values()) < 0.5 and "mouth/mouth-trans-in" not in local
        sides = [max((s * (1 if n.endswith("incr") else -1) for n, s in local.items() if f"/{side}-" in n), key=abs)
                 for side in "lr"]  # fmt: skip
        assert abs(sides[0] - sides[1]) < 0.12
        weights = [w for name, w in shape_weights(who).items() if "macrodetails" in name and "universal" not in name]
        assert sum(weights) == pytest.approx(1)


def test_random_syllables_move_the_mouth_as_speech_does():
    """Lips close now and then, open in between, and prosody is there; nothing leaves its range."""
    voices = motion.babble(6, 1)
    mouth = voices.truth.astype(float)
    assert len(voices) == 6 and mouth.min() >= 0 and mouth.max() <= 1
    opened = mouth[:, MOUTH.index("open")]
    assert (opened < 0.02).mean() > 0.04 and opened.max() > 0.6
    assert mouth[:, MOUTH.index("press")].max() > 0.7
    assert np.isfinite(voices.heard.astype(float)).all()


@pytest.mark.parametrize("hands", [True, False])
def test_hands_move_in_clips_that_show_them_and_rest_in_all_others(hands):
    """Of all other controls both kinds use the same."""
    raised = INDEX["left_raise"], INDEX["right_raise"]
    passages = [
        motion.performed(40, motion.babble(4, 1), motion.quiet(), hands, 0.2, np.random.default_rng(seed))
        for seed in range(6)
    ]
    most = max(now[:, list(raised)].max() for now, *_ in passages)
    assert most > 0.4 if hands else most == 0
    for now, heard, truth, emotion in passages:
        assert len(now) == len(heard) == len(truth) == len(emotion) == 40
        assert (now >= LOWEST).all() and (now <= HIGHEST).all()
    assert max(np.ptp(now[:, INDEX["yaw"]]) for now, *_ in passages) > 0.1


def test_references_are_within_the_controls_ranges():
    """What a painter may copy from can be drawn."""
    for pose in motion.REFERENCES.values():
        assert (pose >= LOWEST).all() and (pose <= HIGHEST).all()


def test_grain_is_the_same_each_time_and_leaves_clean_pictures_alone():
    """A seed's grain repeats; without strength and compression nothing changes."""
    picture = background(48, np.random.default_rng(2))
    grain = Grain(3, 4.0, 0.6, 0.5, 80)
    np.testing.assert_array_equal(grain(picture), grain(picture))
    assert 0.5 < np.abs(grain(picture).astype(int) - picture).mean() < 8
    np.testing.assert_array_equal(Grain(3, 0.0, 0.6, 0.5, 101)(picture), picture)
    assert Grade.random(np.random.default_rng(1))(picture).shape == picture.shape


def made_up_clip(seed: int = 1, size: int = 64, frames: int = 4, roles: tuple[str, ...] = ("neutral", "teeth")) -> Clip:
    """A clip of noise with the shapes of a true one."""
    rng = np.random.default_rng(seed)
    r, k = len(roles), len(KEYPOINTS)

    def levels(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape).astype(np.uint8)

    def flow(*shape: int) -> np.ndarray:
        return rng.integers(-900, 900, (*shape, 2)).astype(np.int16)

    def points(count: int) -> np.ndarray:
        where = rng.uniform(8, size - 8, (count, k, 2))
        return np.concatenate([where, rng.integers(0, 2, (count, k, 1))], 2).astype(np.float32)

    def smooth(count: int) -> np.ndarray:
        coarse = [cv2.resize(levels(4, 4, 3), (size, size), interpolation=cv2.INTER_CUBIC) for _ in range(count)]
        return np.stack(coarse)

    return Clip(
        seed=seed, person=1000, roles=roles, grain=tuple(Grain(i, 0.0, 0.5, 0.5, 101) for i in range(r)),
        at=np.arange(frames), background=smooth(1)[0], references=smooth(r), frames=smooth(frames),
        reference_mattes=levels(r, size, size), mattes=levels(frames, size, size),
        reference_parts=levels(r, size, size) % 15, parts=levels(frames, size, size) % 15,
        places=rng.standard_normal((r, size // 2, size // 2, 3)).astype(np.float16),
        flow=flow(frames, size // 2, size // 2), flows=flow(frames, r - 1, size // 4, size // 4),
        before=flow(frames, size // 4, size // 4), reference_points=points(r), points=points(frames),
        tracks=rng.integers(4096, 6000, (1 + frames, 400, 3)).astype(np.uint16),
        reference_controls=np.zeros((r, len(CONTROLS)), np.float32),
        controls=np.zeros((frames, 2, len(CONTROLS)), np.float32), heard=np.zeros((frames, 76), np.float16),
        truth=np.zeros((frames, 7), np.float16), emotion=np.zeros((frames, 6), np.float16),
        openings=np.zeros(frames, np.float32),
    )  # fmt: skip


def test_a_shard_gives_its_clips_back(tmp_path: Path):
    """Truth comes back exactly, pictures within JPEG's loss, whatever the number of references."""
    clips = [
        made_up_clip(1),
        made_up_clip(2, roles=("neutral", "eyes_shut", "hands")),
        made_up_clip(3, roles=("neutral",)),
    ]
    path = tmp_path / "shard_00000.npz"
    shards.write(path, clips)
    assert [line["seed"] for line in shards.manifest(path)] == [1, 2, 3]
    back = list(shards.read(path))
    for clip, again in zip(clips, back, strict=True):
        assert (again.seed, again.person, again.roles, again.grain) == (clip.seed, clip.person, clip.roles, clip.grain)
        for name in ARRAYS:
            one, two = getattr(clip, name), getattr(again, name)
            assert one.shape == two.shape and one.dtype == two.dtype, name
            if name in ("background", "references", "frames"):
                assert np.abs(one.astype(int) - two).mean() < 2, name
            else:
                np.testing.assert_array_equal(one, two, name)
    assert [path.name for path in tmp_path.iterdir()] == ["shard_00000.npz"]


@pytest.mark.parametrize("opaque", [0.0, 1.0])
def test_a_clip_becomes_the_scene_that_the_painter_trains_on(opaque):
    """Shapes are those of a drawn scene, at another size too; transparent pictures are premultiplied."""
    clip = made_up_clip()
    scene = scene_of(clip, 32, np.random.default_rng(1), opaque)
    assert scene.picture.shape == (32, 32, 4) and scene.frames.shape == (4, 32, 32, 4)
    assert scene.weights.shape == (4, 8, 8) and scene.weights.max() == 10 and scene.weights.min() >= 1
    assert scene.face.shape == (2, 2) and scene.mouths.shape == (4, 4)
    assert scene.points.shape == (400, 2) and scene.followed.shape == (4, 400, 3)
    np.testing.assert_allclose(scene.points, (clip.tracks[0, :, :2] / 32 - 128) / 2, atol=1e-4)
    assert (scene.frames[..., 3] == 255).all() == bool(opaque)
    assert (scene.frames[..., :3] <= scene.frames[..., 3:]).all() or opaque


def test_shots_that_make_no_sense_are_refused_with_their_numbers():
    """Sizes and frame counts that do not fit say so."""
    with pytest.raises(ValueError, match="not 100"):
        Shot(size=100)
    with pytest.raises(ValueError, match="not 7"):
        Shot(frames=7)
    apart = {len(np.unique(np.diff(Shot().times(np.random.default_rng(seed))))) for seed in range(12)}
    assert apart == {1, 2}


def test_the_command_says_what_is_missing(tmp_path: Path, capsys, monkeypatch):
    """Without the mesh and the assets nothing is made, and the message names both and how to get them."""
    monkeypatch.delenv("LIPSTREAM_PEOPLE_MESH", raising=False)
    monkeypatch.delenv("LIPSTREAM_PEOPLE_ASSETS", raising=False)
    assert command.main(["--out", str(tmp_path / "set")]) == 1
    said = capsys.readouterr().err
    assert "people.npz" in said and "people.cut" in said and "LIPSTREAM_PEOPLE_ASSETS" in said
    assert not (tmp_path / "set").exists()
    (tmp_path / "skins").mkdir()
    assert command.main(["--out", str(tmp_path / "set"), "--assets", str(tmp_path)]) == 1
    assert "hair is missing" in capsys.readouterr().err


def test_held_out_people_and_seeds_are_apart():
    """Test sets show other people by other seeds than training sets."""
    train, test = (command.Recipe(Shot(), 1, 1000, split, "") for split in command.SPLITS)
    people = [{recipe.person(shard) for shard in range(2500)} for recipe in (train, test)]
    assert not people[0] & people[1] and len(people[0]) == 1000 and min(people[0]) == 1000
    seeds = [{recipe.clip_seed(shard, n) for shard in range(50) for n in range(3)} for recipe in (train, test)]
    assert not seeds[0] & seeds[1] and len(seeds[0]) == 150
