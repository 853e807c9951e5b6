"""Training scenes of drawn characters: references, points, boxes and memory agree with what is drawn."""

import numpy as np
import pytest

from streamer.model.config import HEARD
from streamer.motion.articulation import PROSODY
from streamer.motion.controls import EMOTIONS, HIGHEST, INDEX, LOWEST, MOUTH, rest
from streamer.studio.character import Character
from streamer.studio.rig import KEYPOINTS, Rig
from streamer.training.drawn_scene import BOXES, ROLES, Passage, choose_roles, draw, reference_pose
from streamer.training.scenes import _WARM_UP, FIRST_SEED, Scene, Shot, passage, scene
from streamer.training.voices import Voices

Speech = tuple[Voices, np.ndarray]


@pytest.fixture(scope="module")
def speech() -> Speech:
    t = np.arange(400)[:, None]
    heard = np.zeros((400, HEARD), np.float32)
    heard[:, : len(MOUTH)] = 0.5 + 0.5 * np.sin(t / np.linspace(2, 6, len(MOUTH)))
    heard[:, len(MOUTH) : len(MOUTH) + len(PROSODY)] = 0.5
    made = Voices(heard.astype(np.float16), heard[:, : len(MOUTH)].astype(np.float16), np.array([0, 400]), ("a",))
    return made, np.zeros((100, HEARD), np.float32)


@pytest.fixture(scope="module")
def scenes(speech: Speech) -> list[Scene]:
    """Scenes with points, some bent."""
    shot = Shot(192, 4, 2, 6, references=4, tracked=900, hands=0.6, styled=0.0)
    return [scene(FIRST_SEED + k, shot, *speech, np.random.default_rng(k)) for k in range(6)]


def colours(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y = np.floor(points[:, :2]).astype(int).clip(0, picture.shape[0] - 1).T
    return picture[y, x, :3].astype(int)


def test_every_reference_is_told(scenes: list[Scene]) -> None:
    """Pictures, roles, poses, points, key points and boxes have a row for each; the first is the neutral picture."""
    assert len({len(one.references) for one in scenes}) > 1
    for one in scenes:
        count = len(one.references)
        assert one.reference_roles[0] == "neutral" and len(set(one.reference_roles)) == count <= 4
        assert set(one.reference_roles) <= set(ROLES)
        np.testing.assert_array_equal(one.references[0], one.picture)
        assert one.references.shape == (count, 192, 192, 4)
        assert (one.references[..., :3] <= one.references[..., 3:]).all()
        assert one.reference_points.shape == (count, 900, 3) and one.frame_points.shape == (4, 900, 3)
        assert one.keypoints.shape == (4, len(KEYPOINTS), 3)
        assert one.reference_keypoints.shape == (count, len(KEYPOINTS), 3)
        assert one.boxes.shape == (4, len(BOXES), 4) and one.reference_boxes.shape == (count, len(BOXES), 4)
        assert one.latches.shape == (4, 3) and len(one.reference_controls) == count


def test_points_look_the_same_in_frames_and_references(scenes: list[Scene]) -> None:
    """A point seen in a frame and in a reference has nearly the same colour in both, unlike any other place."""
    alike, unlike, moved = [], [], []
    rng = np.random.default_rng(0)
    for one in scenes:
        for frame, points in zip(one.frames, one.frame_points, strict=True):
            for reference, places in zip(one.references, one.reference_points, strict=True):
                both = (points[:, 2] > 0) & (places[:, 2] > 0)
                assert both.sum() > 150
                here, there = colours(frame, points[both]), colours(reference, places[both])
                alike.append(np.abs(here - there).mean(1))
                unlike.append(np.abs(here - there[rng.permutation(len(there))]).mean(1))
                moved.append(np.hypot(*(points - places)[both, :2].T))
    assert np.median(np.concatenate(alike)) < 6 < 20 < np.median(np.concatenate(unlike))
    assert np.quantile(np.concatenate(moved), 0.9) > 2


def test_boxes_and_key_points_are_where_the_parts_are(scenes: list[Scene]) -> None:
    """Mouth, eyes and hands lie in their boxes, in frames and references; a hand that is not shown has no box."""
    names = list(KEYPOINTS)
    of = {
        "mouth": [names.index("inner_lip_top"), names.index("inner_lip_bottom")],
        "eye_left": [names.index(f"eye_left_{part}") for part in ("inner", "outer", "top")],
        "eye_right": [names.index(f"eye_right_{part}") for part in ("inner", "outer", "top")],
        "hand_left": [names.index("hand_left_index_4"), names.index("hand_left_thumb_4")],
        "hand_right": [names.index("hand_right_index_4"), names.index("hand_right_thumb_4")],
    }  # fmt: skip
    hands = 0
    for one in scenes:
        for boxes, keypoints in ((one.boxes, one.keypoints), (one.reference_boxes, one.reference_keypoints)):
            for row, points in zip(boxes, keypoints, strict=True):
                for box, name in zip(row, BOXES, strict=True):
                    mine = points[of[name]]
                    if not box.any():
                        assert name.startswith("hand") and not mine[:, 2].any()
                        continue
                    hands += name.startswith("hand")
                    assert (mine[:, :2] > box[:2] - 2).all() and (mine[:, :2] < box[2:] + 2).all(), name
    assert hands > 4


def test_hands_are_seen_in_the_share_that_was_asked_for(speech: Speech) -> None:
    """Where hands are wanted one is up in a drawn frame, elsewhere none is in any; heads turn further than before."""
    at = Shot(64, 8, 4, 12).drawn
    furthest = 0.0
    for k in range(40):
        rng = np.random.default_rng(k)
        controls, heard, truth, emotion = passage(int(at[-1]) + 1, at, k % 2 == 0, *speech, 0.1, rng)
        assert len(controls) == len(heard) == len(truth) == len(emotion) == int(at[-1]) + 1 + _WARM_UP
        raised = controls[:, [INDEX["left_raise"], INDEX["right_raise"]]]
        assert (raised[_WARM_UP + at].max() > 0.45) if k % 2 == 0 else (raised.max() == 0)
        assert (controls <= HIGHEST).all() and (controls >= LOWEST).all()
        furthest = max(furthest, float(np.abs(controls[:, INDEX["yaw"]]).max()))
    assert furthest > 0.4
    rng = np.random.default_rng(0)
    shares = [scene(FIRST_SEED + k, Shot(32, 1), *speech, rng).boxes[:, 3:].any() for k in range(40)]
    assert 0.2 < np.mean(shares) < 0.6


def test_a_reference_shows_its_role() -> None:
    """Shut eyes, an open mouth, teeth, hands and a turned head are in the poses; the neutral one is at rest."""
    rng = np.random.default_rng(0)
    assert not reference_pose("neutral", rng).any()
    assert reference_pose("eyes_shut", rng)[INDEX["blink_left"]] == 1
    assert reference_pose("mouth_open", rng)[INDEX["open"]] > 0.5
    assert reference_pose("teeth", rng)[INDEX["teeth"]] >= 0.5
    assert reference_pose("hands", rng)[INDEX["right_raise"]] > 0.8
    assert abs(reference_pose("turned", rng)[INDEX["yaw"]]) > 0.2
    counts = {len(choose_roles(4, False, rng)) for _ in range(60)}
    assert counts == {1, 2, 3, 4} and choose_roles(1, True, rng) == ("neutral",)


def test_frames_remember_what_was_not_drawn() -> None:
    """A frame after a shake that was not drawn differs from the same pose at rest, and equals the rig's own history."""
    still = np.zeros((60, len(rest())), np.float32)
    shaken = still.copy()
    shaken[20:45, INDEX["yaw"]] = 0.3 * np.sin(2 * np.pi * 2 * np.arange(25) / 25)
    emotion = np.zeros((60, len(EMOTIONS)), np.float32)
    emotion[:, EMOTIONS.index("sad")] = 0.9
    seed = FIRST_SEED + 3
    results = [
        draw(seed, 64, Passage(controls, emotion, np.array([50, 59])), ("neutral",), 0, True, np.random.default_rng(0))
        for controls in (still, shaken)
    ]
    assert not np.array_equal(results[0]["frames"][0], results[1]["frames"][0])
    np.testing.assert_array_equal(results[0]["picture"], results[1]["picture"])
    with Rig(Character.from_seed(seed), 64) as rig:
        rig.set_emotion(emotion[0])
        for row in shaken[:51]:
            rig.advance(row)
        np.testing.assert_array_equal(rig.draw(shaken[50])[..., :3], results[1]["frames"][0][..., :3])


def test_an_impossible_shot_is_refused() -> None:
    """No reference, or fewer tracked points than none, ends with both numbers."""
    for given in ({"references": 0}, {"tracked": -1}):
        with pytest.raises(ValueError, match="reference"):
            Shot(64, 4, **given)
