"""Rendered people themselves, small: with MakeHuman's mesh and assets, where the environment says where these lie."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("numba", reason="the people studio's renderer needs the extra `train`")

from streamer.motion.controls import controls  # noqa: E402
from streamer.training.clip import KEYPOINTS, UNSEEN  # noqa: E402
from streamer.training.people import __main__ as command  # noqa: E402
from streamer.training.people import motion, setting, shards  # noqa: E402
from streamer.training.people.assets import Assets  # noqa: E402
from streamer.training.people.clips import Shot, Studio  # noqa: E402
from streamer.training.people.figure import Figure  # noqa: E402
from streamer.training.people.identity import identity  # noqa: E402
from streamer.training.people.parts import PART  # noqa: E402
from streamer.training.people.renderer import Frame, Renderer  # noqa: E402
from streamer.training.people.template import MissingAssets, found_files  # noqa: E402

try:
    PLACES = found_files(None, None)
except MissingAssets as missing:
    pytest.skip(f"rendering people: {missing}", allow_module_level=True)

SIZE = 160
INSIDE = [PART[name] for name in ("mouth", "teeth", "tongue")]


class Scene:
    """One person before a camera, without hands."""

    def __init__(self, seed: int) -> None:
        self.assets = Assets(*PLACES)
        self.figure = Figure(identity(seed, self.assets.template.targets), self.assets, hands=False, fine=False)
        self.renderer = Renderer(SIZE)
        centre = self.figure.eyes.mean(0) + [0, -0.25, -0.4]
        self.camera = setting.Camera(centre + [0, 0.1, 9], centre, 2.6)
        self.light = setting.light(np.random.default_rng(seed))

    def draw(self, **values: float) -> Frame:
        return self.renderer.draw(self.figure.pose(controls(**values)), self.camera, self.light)

    def shown(self, part: list[int], **values: float) -> int:
        """Pixels that show one of the parts."""
        return int(np.isin(self.draw(**values).parts(), part).sum())


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(1003)


def test_the_mouth_opens_and_closes_as_the_control_says(scene: Scene):
    """Closed lips show no teeth, however pressed, rounded or smiling; the opening grows with `open`."""
    for values in ({}, {"press": 1.0}, {"round": 0.9}, {"smile": 0.9}):
        assert scene.shown(INSIDE[1:], **values) <= 2, values
    grown = [scene.shown(INSIDE, open=o) for o in (0.1, 0.3, 0.6, 1.0)]
    assert grown == sorted(grown) and grown[0] > 10 and grown[-1] > 100
    for opened in (0.0, 0.2, 0.5, 1.0):
        for shape in ({}, {"round": 0.7}, {"teeth": 0.8}):
            assert scene.figure.pose(controls(open=opened, **shape)).opening == pytest.approx(opened, abs=0.06)


def test_teeth_are_light_and_seen_in_a_smile(scene: Scene):
    """Enamel is as light as a pale face and less coloured."""
    frame = scene.draw(smile=0.8, open=0.3, teeth=0.6)
    teeth, face = (frame.picture[frame.parts() == PART[name]].astype(float) for name in ("teeth", "face"))
    assert len(teeth) > 15
    bright = teeth[teeth.mean(1) > np.quantile(teeth.mean(1), 0.6)].mean(0)
    assert bright.mean() > 0.85 * np.median(face.mean(1))
    assert np.ptp(bright) / bright.max() < np.ptp(np.median(face, 0)) / np.median(face, 0).max() + 0.03


def test_lids_shut_the_eyes(scene: Scene):
    """A blink at 1 leaves nothing of the eyeballs, at one half some, and each side shuts its own."""
    eye = [PART["eye"]]
    opened, half, shut = (scene.shown(eye, blink_left=b, blink_right=b) for b in (0.0, 0.5, 1.0))
    assert opened > 60 and 0.05 * opened < half < 0.8 * opened
    assert shut <= 0.04 * opened
    one = scene.draw(blink_left=1.0).parts() == PART["eye"]
    middle = int(scene.renderer.project(scene.figure.eyes.mean(0)[None], scene.camera.matrix())[0, 0])
    assert one[:, middle:].sum() > 10 * max(one[:, :middle].sum(), 1)  # the viewer's left is shut


def test_heads_and_eyes_turn_to_the_side_that_the_controls_say(scene: Scene):
    """The nose and the irises move to the viewer's right for positive yaw and gaze."""

    def nose_and_irises(**values: float) -> tuple[float, float]:
        posed = scene.figure.pose(controls(**values))
        points = np.concatenate([posed.landmarks[1:2], scene.figure.irises(posed)[[0, 5]]])
        x = scene.renderer.project(points, scene.camera.matrix())[:, 0]
        return float(x[0]), float(x[1:].mean())

    (nose, irises), (turned, _), (_, aside) = (nose_and_irises(**v) for v in ({}, {"yaw": 0.5}, {"gaze_x": 0.8}))
    assert turned > nose + 8 and aside > irises + 2


def test_controls_beyond_their_limits_are_drawn_at_them(scene: Scene):
    """As in the drawn studio, no value leads further than its range."""
    beyond, most = (scene.figure.pose(controls(yaw=yaw, smile=smile)) for yaw, smile in ((1.3, 2.2), (0.55, 1.0)))
    np.testing.assert_array_equal(beyond.points, most.points)


@pytest.mark.parametrize("values", [{"yaw": 0.4, "pitch": -0.2}, {"open": 0.8, "smile": 0.5}, {"lean": 1.0}], ids=str)
def test_flow_leads_to_the_same_point_of_the_same_person(scene: Scene, values):
    """Warping the neutral frame by the flow gives the moved one where it is seen, but for what light does; and the
    template's places agree."""
    neutral, moved = scene.draw(), scene.draw(**values)
    flow, seen = moved.flow(neutral)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    place = x + flow[..., 0], y + flow[..., 1]
    inside = seen & (moved.matte > 0.99) & (cv2.erode((moved.hit >= 0).astype(np.uint8), np.ones((3, 3))) > 0)
    found = cv2.remap(neutral.template_places(), *place, cv2.INTER_NEAREST)
    off = np.linalg.norm(found - moved.template_places(), axis=2)[inside]
    assert inside.sum() > 0.25 * SIZE * SIZE
    assert np.quantile(off, 0.5) < 0.03 and np.quantile(off, 0.95) < 0.12
    warped = cv2.remap(neutral.picture, *place, cv2.INTER_LINEAR)
    assert np.median(np.abs(warped.astype(int) - moved.picture)[inside]) < 8


def test_pictures_have_no_holes_and_no_stray_pixels(scene: Scene):
    """Inside its outline a head is covered everywhere: no crack lets the background through."""
    for values in ({}, {"yaw": 0.5, "pitch": 0.2}, {"open": 1.0}):
        matte = scene.draw(**values).matte
        rough = (matte < 0.99).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(rough, connectivity=8)
        assert sum(stats[i, cv2.CC_STAT_AREA] <= 3 for i in range(1, count)) <= 2


@pytest.fixture(scope="module")
def studio() -> Any:
    shot = Shot(size=96, frames=4, hands=1.0)
    return Studio(Assets(*PLACES), shot, motion.babble(4, 1), motion.quiet())


def test_a_clip_is_a_function_of_its_seed(studio: Any):
    """The same seed gives the same pictures and truth, another one others."""
    one, again, other = studio.clip(5, 1004), studio.clip(5, 1004), studio.clip(6, 1004)
    for name in ("frames", "references", "flow", "flows", "parts", "points", "tracks", "controls"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name), name)
    assert not np.array_equal(one.frames, other.frames)
    assert one.roles == ("neutral", "eyes_shut", "mouth_open", "teeth", "hands")


def test_a_clips_truth_fits_its_pictures(studio: Any):
    """Key points lie on their parts, hands are seen where they are raised, tracks agree with the flow."""
    clip = studio.clip(5, 1004)
    nose = clip.reference_points[0, 1]
    assert clip.reference_parts[0][int(nose[1]), int(nose[0])] == PART["face"] and nose[2] == 1
    hands = np.isin(clip.reference_parts[4], [PART["hand_left"], PART["hand_right"]])
    assert hands.sum() > 60
    tips = [KEYPOINTS.index(f"hand_{side}_middle_3") for side in ("left", "right")]
    seen = clip.reference_points[4, tips]
    assert seen[0, 0] < seen[1, 0]  # the viewer's left hand is on the left
    first, now = clip.tracks[0].astype(float), clip.tracks[-1].astype(float)
    both = (first[:, 2] == 1) & (now[:, 2] == 1)
    a, b = (points[both, :2] / 32 - 128 for points in (first, now))
    inside = ((b >= 0) & (b < 95)).all(1)
    cell = (b[inside] // 2).astype(int)
    flow = clip.flow[-1][cell[:, 1], cell[:, 0]].astype(float)
    known = flow[:, 0] != UNSEEN
    assert known.mean() > 0.7
    wrong = np.linalg.norm(b[inside][known] + flow[known] / 8 - a[inside][known], axis=1)
    assert np.median(wrong) < 0.75


def test_the_command_makes_a_set_and_goes_on_with_it(tmp_path: Path, capsys):
    """What is there is not made again; another recipe is refused; a shard says who is in it."""
    arguments = ["--out", str(tmp_path / "set"), "--scenes", "4", "--size", "64", "--frames", "4"]
    assert command.main(arguments) == 0
    paths = sorted((tmp_path / "set").glob("shard_*.npz"))
    assert [path.name for path in paths] == ["shard_00000.npz", "shard_00001.npz"]
    clips = list(shards.read(paths[0]))
    assert len(clips) == command.CLIPS_EACH and {clip.person for clip in clips} == {1000}
    first, second = paths[0].stat().st_mtime_ns, paths[1].read_bytes()
    paths[1].unlink()
    assert command.main(arguments) == 0
    assert paths[0].stat().st_mtime_ns == first
    with np.load(paths[1]) as file, np.load(io.BytesIO(second)) as before:
        assert file.files == before.files
        for name in file.files:
            np.testing.assert_array_equal(file[name], before[name])
    assert command.main([*arguments, "--seed", "2"]) == 1
    assert "another recipe" in capsys.readouterr().err
