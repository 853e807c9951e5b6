"""The truth of a talking picture: its flow leads to what it shows, its masks and key points say where that lies."""

from functools import cache

import cv2
import numpy as np
import pytest
from meshed_faces import HAIR, IRIS, NOSE, Meshed

from streamer.motion.controls import CONTROLS, controls, rest
from streamer.studio.face_fit import LEFT_EYE
from streamer.studio.picture_rig import PictureRig, PreparedPicture
from streamer.studio.picture_rig.topology import CHIN, LOWER_LIP, UPPER_LIP
from streamer.training.pictures import BACKGROUND, EYES, FACE, MOUTH, PERSON, Shown, Teacher, warped

SHUT, TOOTHY, CUT = Meshed(), Meshed(gap=0.15, teeth=True), Meshed(cut_out=True)
SIZE = 256
BUSY = controls(open=0.6, tongue=0.4, blink_left=0.7, gaze_x=0.8, yaw=0.2, pitch=-0.1, roll=0.1, smile=0.5, lean=0.5)
POSES = {
    "speaks": controls(open=0.8),
    "presses": controls(press=1),
    "blinks": controls(blink_left=1, blink_right=0.5),
    "turns": controls(yaw=0.25, pitch=0.1, roll=-0.1),
    "all": BUSY,
}
FACES = {"shut": SHUT, "teeth": TOOTHY, "cut-out": CUT, "loose": SHUT}


@cache
def prepared(name: str) -> PreparedPicture:
    pixels, fit, share = FACES[name].paint()
    return PreparedPicture.build(pixels, fit, share if name in ("shut", "teeth") else None)


@cache
def teacher(name: str = "shut") -> Teacher:
    return Teacher(prepared(name), SIZE)


@cache
def shown(name: str, pose: str) -> Shown:
    return teacher(name).show(POSES[pose])


def error(of: Shown, picture: np.ndarray) -> np.ndarray:
    """[S, S]: by how much the warped picture at rest misses the frame."""
    return np.abs(warped(picture, of.flow).astype(int) - of.frame).mean(-1)


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("name", FACES)
def test_the_flow_leads_to_what_is_copied(name: str, pose: str) -> None:
    """The picture at rest, warped by the flow, is the frame where the mask says so: less than a level in the mean."""
    of, by = shown(name, pose), teacher(name)
    assert of.flow.shape == (SIZE, SIZE, 2) and of.flow.dtype == np.float32
    missed = error(of, by.picture)
    assert missed[of.copied].mean() < 1 and np.percentile(missed[of.copied], 99) < 8
    assert of.copied.mean() > 0.75
    if pose in ("speaks", "blinks", "all"):
        assert missed[~of.copied].mean() > 2 * missed[of.copied].mean()


@pytest.mark.parametrize("name", FACES)
def test_the_frame_is_the_rigs(name: str) -> None:
    """Explaining a frame changes no byte of it, and costs no state: drawing after it gives the same."""
    rig = PictureRig(prepared(name), SIZE)
    wanted = rig.draw(BUSY).copy()
    assert np.array_equal(shown(name, "all").frame, wanted)
    assert np.array_equal(rig.explain(BUSY).frame, wanted) and np.array_equal(rig.draw(BUSY), wanted)


@pytest.mark.parametrize("name", FACES)
def test_at_rest_all_is_copied_from_its_own_place(name: str) -> None:
    """No flow; everything but mixed edges is copied; the landmarks are the picture's."""
    of = teacher(name).show(rest())
    assert not of.flow.any() and np.array_equal(of.frame, teacher(name).picture)
    assert of.copied.mean() > 0.93
    wanted = prepared(name).geometry.vertices[:468, :2] * SIZE / 512
    assert np.abs(of.keypoints[:468, :2] - wanted).max() < 0.01
    assert EYES not in of.parts and (MOUTH in of.parts) == (name == "teeth")


def test_what_is_painted_is_not_copied() -> None:
    """Neither the mouth's inside nor lids, nor what the head has uncovered or what lies beyond the picture's border."""
    for name, pose in (("shut", "all"), ("teeth", "all"), ("cut-out", "all")):
        of = shown(name, pose)
        assert not of.copied[of.parts == MOUTH].any() and (of.parts == MOUTH).sum() > 50
        assert not of.copied[of.parts == EYES].any() and (of.parts == EYES).sum() > 50
    still, turned = teacher().show(rest()), shown("shut", "turns")
    uncovered = (turned.parts == BACKGROUND) & (still.parts != BACKGROUND)
    assert uncovered.sum() > 50 and not turned.copied[uncovered].any()
    close = Meshed(eyes=190.0, centre=(192.0, 150.0))  # hair and coat reach the picture's border
    pixels, fit, _ = close.paint()
    by = Teacher(PreparedPicture.build(pixels, fit), SIZE)
    of = by.show(controls(roll=0.3))
    source = of.flow + np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1)
    beyond = ((source < 0) | (source > SIZE - 1)).any(-1)
    assert beyond.sum() > 100 and not of.copied[beyond].any()


def test_shading_is_no_copy() -> None:
    """Cheeks that a blush reddens are not called copied; they are still the face's."""
    of, by = teacher().show(controls(blush=1)), teacher()
    reddened = np.abs(of.frame.astype(int) - by.picture).max(-1) > 4
    assert reddened.sum() > 100 and not of.copied[reddened].any() and (of.parts[reddened] == FACE).mean() > 0.9
    assert not of.flow.any() and of.copied.mean() > 0.7


def test_parts_are_where_they_are_seen() -> None:
    """Each pixel has one part; skin is the face's, hair the person's, and the background is the matte's other side."""
    of = shown("shut", "all")
    assert set(np.unique(of.parts)) == {BACKGROUND, PERSON, FACE, EYES, MOUTH}

    def like(colour: tuple[int, int, int]) -> np.ndarray:
        return np.abs(of.frame[..., :3].astype(int) - colour).max(-1) < 25

    assert (of.parts[like(NOSE)] == FACE).all() and like(NOSE).sum() > 5
    hair = cv2.erode(like(HAIR).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert hair.sum() > 500 and (of.parts[hair] == PERSON).mean() > 0.97
    still = of.parts == BACKGROUND
    assert not of.flow[still & of.copied].any() and 0.3 < still.mean() < 0.8
    assert not (teacher("loose").show(BUSY).parts == BACKGROUND).any()


def test_mouth_is_what_lies_between_the_lips() -> None:
    """As large as the lips' outline: it grows with the opening, and is none where they are pressed."""
    areas = [int((teacher().show(controls(open=v)).parts == MOUTH).sum()) for v in (0.2, 0.5, 1.0)]
    assert areas[0] < areas[1] < areas[2] and areas[2] > 200
    of = shown("shut", "speaks")
    lips = np.concatenate([of.keypoints[list(UPPER_LIP), :2], of.keypoints[list(LOWER_LIP[::-1]), :2]])
    assert (of.parts == MOUTH).sum() == pytest.approx(cv2.contourArea(lips), rel=0.12)
    assert not (shown("teeth", "presses").parts == MOUTH).any()


@pytest.mark.parametrize("pose", ["speaks", "turns", "presses"])
@pytest.mark.parametrize("name", ["shut", "loose"])
def test_key_points_agree_with_the_flow(name: str, pose: str) -> None:
    """From where a landmark lies in the frame the flow leads to where it lies at rest, except at the lips' cut."""
    of, still = shown(name, pose), teacher(name).show(rest())
    assert of.keypoints.shape == (478, 3) and of.keypoints.dtype == np.float32
    at = (of.keypoints[:, :2] - 0.5).astype(np.float32)[None]
    back = of.keypoints[:, :2] + cv2.remap(of.flow, at[..., 0], at[..., 1], cv2.INTER_LINEAR)[0]
    missed = np.hypot(*(back - still.keypoints[:, :2]).T)
    lips = of.keypoints[[*UPPER_LIP, *LOWER_LIP], :2]
    clear = np.hypot(*np.moveaxis(of.keypoints[:, None, :2] - lips, -1, 0)).min(1) > 3
    clear &= of.parts[tuple(np.floor(of.keypoints[:, 1::-1]).astype(int).clip(0, SIZE - 1).T)] >= FACE
    assert clear.sum() > 350
    assert np.percentile(missed[clear], 95) < 0.5 and np.median(missed) < 0.2
    assert np.hypot(*(of.keypoints[CHIN, :2] - still.keypoints[CHIN, :2])) > (1 if pose != "presses" else -1)


def test_key_points_follow_lids_and_gaze() -> None:
    """A shut eye's lids meet; irises go where they are seen."""
    still, shut = teacher().show(rest()), shown("shut", "blinks")
    lower, upper = list(LEFT_EYE[1:8]), list(LEFT_EYE[9:])

    def gap(of: Shown) -> np.ndarray:
        return of.keypoints[lower, 1] - of.keypoints[upper, 1]

    assert gap(still).mean() > 2 and np.abs(gap(shut)).max() < 0.35 * gap(still).max()
    for values in ({"gaze_x": 1.0}, {"gaze_x": -1.0}, {"gaze_x": 1.0, "yaw": 0.2}):
        of = Teacher(prepared("shut"), 512).show(controls(**values))
        for iris in of.keypoints[[468, 473], :2]:
            x, y = iris.astype(int)
            region = of.frame[y - 7 : y + 8, x - 14 : x + 15, :3].astype(int)
            seen = np.abs(region - IRIS).max(-1) < 45
            assert seen.sum() > 15
            found = np.argwhere(seen).mean(0)[::-1] + [x - 14 + 0.5, y - 7 + 0.5]
            assert abs(found[0] - iris[0]) < 2.5, values


@pytest.mark.parametrize("name", ["cut-out", "shut"])
def test_cut_outs_on_nothing(name: str) -> None:
    """Without a backdrop frames and picture are straight and transparent, and the flow leads to them all the same."""
    by = Teacher(prepared(name), SIZE, background=False)
    of = by.show(BUSY)
    assert (by.picture[..., 3] == 0).mean() > 0.2 and (of.frame[of.parts == BACKGROUND][:, 3] < 128).all()
    assert error(of, by.picture)[of.copied].mean() < 1


def test_no_numbers_are_refused() -> None:
    """As by the rig; what is shown after it is as if it had not been asked."""
    wanted = shown("shut", "all")
    with pytest.raises(ArithmeticError):
        teacher().show(np.full(len(CONTROLS), np.nan, np.float32))
    again = teacher().show(BUSY)
    assert np.array_equal(again.frame, wanted.frame) and np.array_equal(again.flow, wanted.flow)


def test_the_background_is_what_the_frame_shows_beside_the_person() -> None:
    """
    It is what the frame shows where the matte is 0, but for the ringing of an outline, also where the head has been. A
    cut-out has none, nor a picture without a matte.
    """
    by, rested = teacher(), teacher().show(rest())
    behind = by.background()
    assert behind is not None
    for pose in ("turns", "all"):
        of = shown("shut", pose)
        bare = of.matte == 0
        same = (of.frame[bare][:, :3] == behind[bare]).all(-1)
        assert same.mean() > 0.995 and (bare & (rested.matte > 0)).sum() > 500
        assert (of.matte[of.parts == FACE] > 128).all()
    assert teacher("cut-out").background() is None and teacher("loose").background() is None
    assert (shown("loose", "all").matte == 255).all()


def test_a_speaking_teacher_closes_the_pictures_own_mouth() -> None:
    """At rest the lips stay as in the picture, until they speak: then controls at rest close them over the teeth."""
    by = Teacher(prepared("teeth"), SIZE)

    def gap() -> float:
        points = by.show(rest()).keypoints
        return float(points[LOWER_LIP[5], 1] - points[UPPER_LIP[5], 1])

    before = gap()
    by.speak()
    assert before > 4 and gap() < before / 4
    assert by.show(rest()).frame.shape == by.picture.shape
