"""The rig: what is drawn follows the controls, and the truth beside it follows what is drawn."""

import hashlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from streamer.motion.controls import CONTROLS, EMOTIONS, controls, rest
from streamer.motion.emotions import expression
from streamer.studio.character import TRAITS, Character
from streamer.studio.draw.palette import SKINS
from streamer.studio.rig import KEYPOINTS, Rig

PLAIN = Character.from_traits({"hair": "slick back", "background": "plain", "skin": "peach"})
FRINGED = Character.from_traits({"hair": "hime cut", "hair_colour": "midnight blue", "skin": "peach", "brows": "thin"})


def keypoint(truth, name):
    """(x, y, visible)."""
    return truth.keypoints[KEYPOINTS.index(name)]


def crop(image, box, margin=2):
    """The part of a picture in a box of x0, y0, x1, y1."""
    x0, y0, x1, y1 = (round(v) for v in box)
    return image[max(0, y0 - margin) : y1 + margin, max(0, x0 - margin) : x1 + margin, :3].astype(int)


def test_equal_controls_give_equal_bytes_on_another_rig():
    """Drawing is a function of character and controls while no time advances: no history, no chance."""
    pose = controls(open=0.6, yaw=0.3, smile=0.5, left_raise=0.8)
    with Rig(Character.from_seed(3), 128) as one, Rig(Character.from_seed(3), 128) as other:
        first = one.draw(pose, 1.5).copy()
        other.draw(controls(blink_left=1, blink_right=1, right_raise=1, tuck=1, tongue=1), 9.0)
        assert np.array_equal(first, other.draw(pose, 1.5))
        other.draw(controls(left_raise=1, blink_left=1))
        lowered = controls(blink_left=1, blink_right=1)
        assert np.array_equal(other.draw_with_truth(lowered)[1].keypoints, one.draw_with_truth(lowered)[1].keypoints)


@pytest.mark.parametrize("trait", [t for t, s in TRAITS.items() if s["kind"] == "choice"])
def test_every_choice_is_drawn_and_shows(trait):
    """Each value of each trait draws, and no two values of a trait give the same picture."""
    seen = {}
    for value in (c["value"] for c in TRAITS[trait]["choices"]):
        base = {"hair": "slick back", "headwear": "none", "background": "plain", "lashes": "long"}
        with Rig(Character.from_traits({**base, trait: value}), 96) as rig:
            digest = hashlib.sha256(rig.draw(controls(smile=0.2)).tobytes()).hexdigest()
        assert digest not in seen, f"{trait} {value} looks like {seen.get(digest)}"
        seen[digest] = value


def test_seeds_stay_inside_the_picture_and_are_drawn_over_their_background():
    """The head is in the frame at rest: no character touches the upper corners or fills its sides' upper half."""
    for seed in range(25):
        with Rig(Character.from_seed(seed), 64, background=False) as rig:
            alpha = rig.draw(rest())[..., 3]
        assert alpha[:20, :3].max() == 0 and alpha[:20, -3:].max() == 0, seed
        assert alpha[20:38, 28:36].min() == 255, seed
        assert 0.25 < (alpha > 0).mean() < 0.8, seed


@pytest.mark.parametrize("size", [128, 192, 256, 512, 1024])
def test_sizes_show_the_same_picture(size):
    """A picture keeps its composition at every size, with the truth in its own pixels."""
    with Rig(PLAIN, size) as rig:
        image, truth = rig.draw_with_truth(controls(open=0.5))
        assert image.shape == (size, size, 4) and image.dtype == np.uint8
        assert (image[..., 3] == 255).all()
        assert truth.face_mask.shape == (size, size)
        assert keypoint(truth, "nose_tip")[0] / size == pytest.approx(0.5, abs=0.01)
        assert 0.05 < truth.face_mask.mean() < 0.2
        assert truth.inner_lip / size == pytest.approx(0.5 * 0.225 * 0.352, rel=0.08)


@pytest.mark.parametrize("size", [0, 31, 4096])
def test_sizes_out_of_bounds_are_refused(size):
    """A size that cannot be drawn is an error that says so."""
    with pytest.raises(ValueError, match=str(size)):
        Rig(PLAIN, size)


def test_controls_of_another_shape_or_not_finite_are_refused():
    """A wrong control vector is an error with its shape or the controls' names."""
    with Rig(PLAIN, 64) as rig:
        with pytest.raises(ValueError, match="7"):
            rig.draw(np.zeros(7, np.float32))
        broken = rest()
        broken[CONTROLS.index("yaw")] = np.nan
        with pytest.raises(ValueError, match="yaw"):
            rig.draw(broken)


@pytest.mark.parametrize("size", [128, 256])
def test_without_background_it_is_transparent_and_straight(size):
    """Corners are empty, the inside is solid, and edges keep the drawing's colour instead of a dark fringe."""
    character = Character.from_traits({"hair": "bald", "garment": "turtleneck", "garment_colour": "white"})
    with Rig(character, size, background=False) as rig, Rig(character, size) as solid:
        image, opaque = rig.draw(rest()).copy(), solid.draw(rest())
    alpha = image[..., 3].astype(int)
    assert alpha[0, 0] == alpha[0, -1] == 0 and alpha[size // 2, size // 2] == 255
    inside = alpha == 255
    assert np.abs(image[inside, :3].astype(int) - opaque[inside, :3]).max() <= 2
    assert ((alpha > 0) & (alpha < 255)).sum() > size  # the outline is antialiased


def test_opening_is_linear_and_closed_is_closed():
    """The inner lips' distance is proportional to `open`, whatever else the mouth does; 0 is one line."""
    with Rig(PLAIN, 256) as rig:
        widest = rig.draw_with_truth(controls(open=1))[1].inner_lip
        assert widest > 15
        for shape in (
            {},
            {"wide": 1},
            {"round": 1},
            {"smile": 1},
            {"teeth": 1},
            {"tongue": 1},
            {"tuck": 1},
            {"press": 1},
        ):
            for opening in (0.0, 0.25, 0.5, 1.0):
                truth = rig.draw_with_truth(controls(open=opening, **shape))[1]
                assert truth.inner_lip / widest == pytest.approx(opening, abs=0.02), (shape, opening)
                assert truth.inner_lip_share == pytest.approx(opening)
        for shape in ({}, {"press": 1}, {"round": 1}, {"wide": 1}, {"teeth": 1}, {"tongue": 1}):
            image, truth = rig.draw_with_truth(controls(**shape))
            mouth = crop(image, truth.mouth_box)
            bright = (mouth.min(-1) > 236).mean()
            assert bright < 0.02, f"teeth show in a closed mouth: {shape}"


def test_the_mouth_shows_what_it_says():
    """Between the inner lips there is a mouth, not skin; and every mouth shape looks different at 128 pixels."""
    skin = np.array(SKINS["peach"].base)
    with Rig(PLAIN, 256) as rig:
        image, truth = rig.draw_with_truth(controls(open=0.8))
        top, bottom = keypoint(truth, "inner_lip_top"), keypoint(truth, "inner_lip_bottom")
        assert truth.mouth_box[1] < top[1] < bottom[1] < truth.mouth_box[3]
        column = image[int(top[1]) + 2 : int(bottom[1]) - 1, int(top[0]), :3].astype(int)
        assert len(column) > 8 and (np.abs(column - skin).sum(-1) > 60).all()
    shapes = (
        {}, {"open": 0.9}, {"open": 0.4, "wide": 1}, {"open": 0.4, "round": 1}, {"open": 0.1, "tuck": 1},
        {"open": 0.35, "tongue": 1}, {"open": 0.25, "teeth": 1}, {"smile": 1}, {"smile": -1},
    )  # fmt: skip
    with Rig(PLAIN, 128) as rig:
        pictures = []
        for shape in shapes:
            image, _ = rig.draw_with_truth(controls(**shape))
            pictures.append(image[64:88, 48:80, :3].astype(int))
        for i, one in enumerate(pictures):
            for j in range(i):
                assert (np.abs(one - pictures[j]).sum(-1) > 60).sum() >= 8, (shapes[i], shapes[j])


def test_eyes_close_for_real():
    """At blink = 1 no iris and no white is left; halfway it is."""
    character = Character.from_traits(
        {"hair": "slick back", "eye_colour": "blue", "skin": "peach", "background": "plain"}
    )
    with Rig(character, 256) as rig:

        def seen(**values):
            image, truth = rig.draw_with_truth(controls(**values))
            eye = crop(image, truth.eye_boxes[0])
            return ((eye[..., 2] - eye[..., 0]) > 40).sum(), (eye.min(-1) > 225).sum()

        blue, white = seen()
        assert blue > 60 and white > 20
        assert 10 < seen(blink_left=0.5)[0] < blue
        assert seen(blink_left=1) == (0, 0)
        assert seen(blink_right=1)[0] == blue


def test_face_mask_leaves_out_the_hair_in_front():
    """Where a fringe lies over a bare face's mask, the mask is off and the picture shows hair."""
    bare_traits = {**FRINGED.traits, "hair": "bald"}
    with Rig(FRINGED, 256) as fringed, Rig(Character.from_traits(bare_traits), 256) as bare:
        image, truth = fringed.draw_with_truth(rest())
        image = image.astype(int)
        bare_truth = bare.draw_with_truth(rest())[1]
    hidden = bare_truth.face_mask & ~truth.face_mask
    assert hidden.sum() > 0.15 * bare_truth.face_mask.sum()
    assert (truth.face_mask & ~bare_truth.face_mask).sum() < 30
    skin = SKINS["peach"]
    far_from_skin = np.min(
        [np.abs(image[..., :3] - np.array(c)).sum(-1) for c in (skin.base, skin.light, skin.shadow)], 0
    )
    assert (far_from_skin[hidden] > 90).mean() > 0.95
    left, right = keypoint(truth, "brow_left_mid"), keypoint(bare_truth, "brow_left_mid")
    assert left[2] == 0 and right[2] == 1


def test_hands_rise_cover_and_are_known():
    """A raised hand is in the picture, its key points lie on it, and it hides the face behind it."""
    with Rig(PLAIN, 256) as rig:
        before_image, before = rig.draw_with_truth(rest())
        before_image = before_image.copy()
        hands = [i for i, name in enumerate(KEYPOINTS) if name.startswith("hand_")]
        assert len(hands) == 42 and before.keypoints[hands, 2].sum() == 0
        image, truth = rig.draw_with_truth(controls(left_raise=1, left_x=0.1, left_y=-0.3))
        changed = np.abs(image.astype(int) - before_image).sum(-1) > 20
        left = [i for i in hands if KEYPOINTS[i].startswith("hand_left")]
        assert truth.keypoints[left, 2].sum() == len(left)
        for x, y, _ in truth.keypoints[left]:
            assert changed[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].any()
        image, truth = rig.draw_with_truth(controls(left_raise=1, left_x=-0.9, left_y=0.8))
        changed = np.abs(image.astype(int) - before_image).sum(-1) > 12
        lost = before.face_mask & ~truth.face_mask
        assert lost.sum() > 150 and changed[lost].mean() > 0.5  # a hand's skin and the face's are alike
        open_tip = keypoint(truth, "hand_left_middle_4")[1]
        fist = rig.draw_with_truth(controls(left_raise=1, left_x=-0.9, left_y=0.8, left_curl=1))[1]
        assert keypoint(fist, "hand_left_middle_4")[1] > open_tip + 10


def test_key_points_follow_the_head():
    """A turn to the viewer's right moves the nose right and narrows the far eye; a nod moves it; a tilt turns it."""
    with Rig(PLAIN, 256) as rig:

        def at(name, **values):
            return keypoint(rig.draw_with_truth(controls(**values))[1], name)

        assert at("nose_tip", yaw=0.45)[0] > at("nose_tip")[0] + 12
        assert at("nose_tip", pitch=0.3)[1] < at("nose_tip")[1] - 5
        assert at("chin", roll=0.3)[0] < at("nose_bridge", roll=0.3)[0] - 8

        def width(side, **values):
            return abs(at(f"eye_{side}_outer", **values)[0] - at(f"eye_{side}_inner", **values)[0])

        assert width("right", yaw=0.45) < 0.8 * width("right")
        assert at("eye_left_top", blink_left=1)[1] > at("eye_left_top")[1] + 4
        assert at("shoulder_left", shrug=1)[1] < at("shoulder_left")[1] - 3


def test_turned_far_the_features_stay_on_the_face():
    """At the limits of the head's motion eyes, nose and mouth lie inside the face."""
    names = [f"eye_{s}_{p}" for s in ("left", "right") for p in ("inner", "top")] + [
        "nose_tip",
        "lip_top",
        "lip_bottom",
    ]
    for values in (
        {"yaw": 0.45},
        {"yaw": -0.45},
        {"pitch": 0.33},
        {"pitch": -0.33},
        {"yaw": 0.4, "pitch": 0.25, "roll": 0.3},
    ):
        with Rig(Character.from_traits({"hair": "bald"}), 256) as rig:
            truth = rig.draw_with_truth(controls(**values))[1]
        for name in names:
            x, y, visible = keypoint(truth, name)
            assert visible and truth.face_mask[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].any(), (values, name)


@pytest.mark.parametrize("emotion", [e for e in EMOTIONS if e != "neutral"])
def test_each_emotion_changes_the_face(emotion):
    """An emotion is seen at 128 pixels; strength 0 is neutral; unknown ones are refused."""
    with Rig(PLAIN, 128) as rig:
        neutral = rig.draw(expression("neutral")).astype(int)
        felt = rig.draw(expression(emotion)).astype(int)
    assert (np.abs(felt - neutral).sum(-1) > 60).sum() > 60
    assert not expression(emotion, 0.0).any()
    with pytest.raises(ValueError, match="hungry"):
        expression("hungry")


def test_breath_and_sway_move_what_hangs_and_nothing_jumps():
    """Idle life is there: long hair sways with its controls, chests breathe; small steps move little."""
    with Rig(Character.from_traits({"hair": "twin tails"}), 128) as rig:
        still = rig.draw(rest()).astype(int)
        for values in ({"sway_x": 1}, {"sway_y": 1}, {"breath": 1}):
            assert (np.abs(rig.draw(controls(**values)).astype(int) - still).sum(-1) > 30).sum() > 40
        assert (np.abs(rig.draw(controls(yaw=0.002)).astype(int) - still).sum(-1) > 120).mean() < 0.01


def test_rigs_in_threads_draw_what_they_draw_alone():
    """Rigs made here and used from worker threads at once give the same bytes as one after the other."""
    poses = [controls(open=k / 10, yaw=k / 30) for k in range(10)]
    rigs = [Rig(Character.from_seed(seed), 128) for seed in range(3)]
    alone = [[hashlib.sha256(rig.draw(p).tobytes()).digest() for p in poses] for rig in rigs]
    together: list[list[bytes]] = [[] for _ in rigs]

    def work(k):
        for _ in range(3):
            together[k] = [hashlib.sha256(rigs[k].draw(p).tobytes()).digest() for p in poses]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(rigs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rig in rigs:
        rig.close()
    assert together == alone


def test_closing_twice_is_fine_and_a_closed_rig_says_so():
    """`close` is idempotent; drawing afterwards is a clear error."""
    rig = Rig(PLAIN, 64)
    rig.close()
    rig.close()
    with pytest.raises(RuntimeError, match="closed"):
        rig.draw(rest())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_drawing_loads_no_library_of_the_system_s_graphics():
    """After a frame the process has ThorVG in memory and nothing of GL, EGL, X11, expat, fontconfig or skia."""
    code = (
        "from streamer.studio.character import Character; from streamer.studio.rig import Rig\n"
        "from streamer.motion.controls import rest\n"
        "Rig(Character.from_seed(1), 64).draw(rest())\n"
        "print({line.split('/')[-1] for line in open('/proc/self/maps').read().split(chr(10)) if '.so' in line})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.lower()
    assert "libthorvg" in loaded
    for name in ("libgl", "libegl", "libx11", "libexpat", "libfontconfig", "skia"):
        assert name not in loaded
