"""A picture talks: what moves, what stays, and that the same controls give the same frame."""

import dataclasses
import threading
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meshed_faces import COAT, IRIS, LIP, NOSE, SKIN, TEETH, Meshed

from streamer.faces.decode import decode_picture
from streamer.faces.landmarks import Landmarker
from streamer.motion.controls import CONTROLS, HIGHEST, INDEX, LOWEST, controls, rest
from streamer.studio.picture_rig import PictureRig, PreparedPicture
from streamer.studio.picture_rig.expression import strengths
from streamer.studio.picture_rig.framing import FRAME
from streamer.studio.picture_rig.motion import Pose
from streamer.studio.picture_rig.topology import LEFT_CORNER, LEFT_RIM, RIGHT_CORNER

SHUT, TOOTHY, GAPING = Meshed(), Meshed(gap=0.15, teeth=True), Meshed(gap=0.3)
BLINK = controls(blink_left=1, blink_right=1)
BUSY = controls(open=0.5, tongue=0.4, blink_left=0.6, gaze_x=0.7, yaw=0.2, pitch=-0.1, roll=0.1, smile=0.5, lean=0.5)


@cache
def prepared(face: Meshed = SHUT, matted: bool = True) -> PreparedPicture:
    pixels, fit, share = face.paint()
    return PreparedPicture.build(pixels, fit, share if matted and not face.cut_out else None)


@cache
def photograph() -> PreparedPicture:
    """A person who smiles and shows her teeth, found as an upload is."""
    with open("docs/pictures/astronaut.jpg", "rb") as file:
        pixels = decode_picture(file.read(), "astronaut.jpg").pixels
    return PreparedPicture.build(pixels, Landmarker.load().find(pixels)[0])


def rig(face: Meshed = SHUT, size: int = 256, matted: bool = True) -> PictureRig:
    return PictureRig(prepared(face, matted), size)


def draw(by: PictureRig, **values: float) -> np.ndarray:
    return by.draw(controls(**values)).copy()


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[S, S] int16: the most that any channel differs."""
    return np.abs(a.astype(np.int16) - b).max(-1)


def like(frame: np.ndarray, colour: tuple[int, int, int], within: float = 45) -> np.ndarray:
    """[S, S] bool: pixels of about that colour."""
    return np.abs(frame[..., :3].astype(np.int16) - colour).max(-1) < within


def middle(mask: np.ndarray) -> np.ndarray:
    """[2]: x, y."""
    assert mask.sum() > 3, "nothing of that colour is seen"
    return np.argwhere(mask).mean(0)[::-1]


def at(of: PreparedPicture, size: int, *landmarks: int) -> np.ndarray:
    """[n, 2]: where landmarks lie at rest, in pixels of a frame."""
    return of.geometry.vertices[list(landmarks), :2] * (size / FRAME)


def around(of: PreparedPicture, size: int, side: int) -> tuple[slice, slice]:
    """The region of an eye in a frame at rest."""
    lids = of.framing.fit.lids[side] * (size / FRAME)
    (x0, y0), (x1, y1) = np.floor(lids.min(0) - 3).astype(int), np.ceil(lids.max(0) + 3).astype(int)
    return slice(y0, y1), slice(x0, x1)


def opening(frame: np.ndarray, of: PreparedPicture) -> int:
    """Pixels that are neither lip nor skin in the mouth's middle column band, down to the chin."""
    size = len(frame)
    (x0, y0), (x1, y1) = at(of, size, LEFT_CORNER, RIGHT_CORNER)
    width = x1 - x0
    band = frame[int(y0 - 0.35 * width) : int(y1 + 0.7 * width), int(x0 + 0.3 * width) : int(x1 - 0.3 * width)]
    return int((~like(band, LIP) & ~like(band, SKIN, 40)).sum())


def pose(of: PreparedPicture, vector: np.ndarray) -> Pose:
    return of.motion.pose(strengths(vector), 1.0, 0.0, vector)


class TestAtRest:
    @pytest.mark.parametrize("size", [128, 200, 512, 1024])
    def test_is_the_picture(self, size: int) -> None:
        """Where no control moves anything all pixels are the file's; nearly so where two layers are put together."""
        for matted, most in ((False, 0.001), (True, 0.1)):  # a thousandth: what moving a picture by whole pixels rounds
            of = prepared(SHUT, matted)
            frame = PictureRig(of, size).draw(rest())
            assert frame.shape == (size, size, 4) and frame.dtype == np.uint8
            assert difference(frame, of.framing.image(size)).mean() <= most

    @pytest.mark.parametrize("face", [TOOTHY, GAPING, SHUT.but(style="drawing")], ids=["teeth", "open", "drawing"])
    def test_shows_the_mouth_and_the_eyes_of_the_picture(self, face: Meshed) -> None:
        """What the picture shows is not redrawn before anything is asked for."""
        of = prepared(face, False)
        assert np.array_equal(PictureRig(of, 256).draw(rest()), of.framing.image(256))

    def test_after_a_silence_the_mouth_goes_back(self) -> None:
        """A picture that shows teeth keeps its lips together between words, and shows its teeth a second after."""
        talking = rig(TOOTHY)
        still = draw(talking)
        talking.hear(controls(open=0.6), None, np.zeros(6))
        for _ in range(4):
            talking.hear(rest(), None, np.zeros(6))
        assert difference(draw(talking), still).max() > 60
        for _ in range(25):
            talking.hear(rest(), None, np.zeros(6))
        assert np.array_equal(draw(talking), still)


class TestDeterminism:
    def test_same_controls_same_frame(self) -> None:
        """Neither what was drawn before nor which rig of the picture draws changes a byte."""
        one, other = rig(TOOTHY), rig(TOOTHY)
        first = one.draw(BUSY).copy()
        for vector in (rest(), BLINK, controls(open=1, yaw=-0.3)):
            one.draw(vector)
        assert np.array_equal(one.draw(BUSY), first)
        assert np.array_equal(other.draw(BUSY), first)

    def test_same_voice_same_frames(self) -> None:
        """What was heard counts, and counts alike for two sessions."""
        passage = [controls(open=max(0.0, float(np.sin(k / 3)))) for k in range(20)] + [rest()] * 20
        frames = []
        for by in (rig(TOOTHY, 128), rig(TOOTHY, 128)):
            frames.append([])
            for vector in passage:
                by.hear(vector, None, np.zeros(6))
                frames[-1].append(by.draw(vector).copy())
        assert np.array_equal(*frames)

    def test_two_threads_do_not_disturb_one_another(self) -> None:
        """Rigs of one prepared picture share nothing that drawing changes."""
        vectors = [controls(open=k / 7, yaw=0.04 * k, blink_left=k / 7, gaze_x=k / 7) for k in range(8)]
        alone = rig(TOOTHY, 128)
        wanted = [alone.draw(vector).copy() for vector in vectors]
        wrong: list[int] = []

        def work(step: int) -> None:
            by = rig(TOOTHY, 128)
            for k in range(0, 24 * step, step):
                if not np.array_equal(by.draw(vectors[k % 8]), wanted[k % 8]):
                    wrong.append(k)

        threads = [threading.Thread(target=work, args=(step,)) for step in (1, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not wrong


class TestMouth:
    @pytest.mark.parametrize("face", [SHUT, TOOTHY, GAPING], ids=["shut", "teeth", "open"])
    def test_opens_as_asked(self, face: Meshed) -> None:
        """The more is asked for, the more of the mouth's inside is seen, and the farther the lips are apart."""
        of, by = prepared(face), rig(face)
        asked = np.linspace(0.1, 1, 7)
        seen = [opening(draw(by, open=float(v)), of) for v in asked]
        gaps = [pose(of, controls(open=float(v))).gap for v in asked]
        assert (np.diff(gaps) > 0).all() and (np.diff(seen) > 0).all(), seen
        assert gaps[-1] > 0.10 * of.framing.fit.eye_distance
        assert np.corrcoef(asked, seen)[0, 1] > 0.95

    @pytest.mark.parametrize("face", [SHUT, TOOTHY, GAPING], ids=["shut", "teeth", "open"])
    def test_plosives_close(self, face: Meshed) -> None:
        """p, b and m bring the lips together, whatever the picture shows between them."""
        of = prepared(face)
        assert pose(of, controls(press=1)).gap <= 0.02 * of.framing.fit.eye_distance
        frame = draw(rig(face), press=1)
        (x0, y0), (x1, y1) = at(of, 256, LEFT_CORNER, RIGHT_CORNER)
        width = x1 - x0
        inner = frame[int(y0 - 0.3 * width) : int(y1 + 0.7 * width), int(x0 + 0.15 * width) : int(x1 - 0.15 * width)]
        assert like(inner, TEETH, 30).sum() == 0
        assert opening(frame, of) <= 1.3 * opening(draw(rig(SHUT)), prepared(SHUT))

    def test_photograph_with_teeth_closes(self) -> None:
        """A real smile's lips meet too, and its teeth are gone."""
        of = photograph()
        assert of.geometry.open and pose(of, rest()).gap <= 0.02 * of.framing.fit.eye_distance
        (x0, y0), (x1, y1) = at(of, 256, LEFT_CORNER, RIGHT_CORNER)
        mouth = np.s_[int(y0) : int(y1 + 0.3 * (x1 - x0)), int(x0) : int(x1)]
        shown = [PictureRig(of, 256).draw(vector)[mouth][..., :3] for vector in (rest(), controls(press=0.5))]
        still, shut = (int(((frame.min(-1) > 150) & (np.ptp(frame, -1) < 45)).sum()) for frame in shown)
        assert still > 40 and shut < 0.2 * still

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        shares=st.lists(st.floats(0, 1), min_size=len(CONTROLS), max_size=len(CONTROLS)),
        opened=st.sampled_from([0.0, 0.05, 1.0]),
    )
    def test_lips_never_cross(self, shares: list[float], opened: float) -> None:
        """Whatever is asked for, the lower lip stays below the upper one."""
        vector = (LOWEST + (HIGHEST - LOWEST) * np.array(shares)).astype(np.float32)
        vector[[INDEX["open"], INDEX["teeth"]]] *= opened  # else hardly a mouth of those asked for is shut
        for of in (prepared(SHUT), prepared(TOOTHY), prepared(GAPING), photograph()):
            shown = pose(of, vector)
            down = -(shown.turn @ of.geometry.up)
            assert ((shown.lower - shown.upper) @ down).min() > -0.06, "frame units"

    def test_covered_mouth_stays_shut(self) -> None:
        """Behind a mask or a hand the lips are not parted, though the chin moves."""
        of = prepared(SHUT.but(mouth_covered=True))
        still, asked = (PictureRig(of, 256).draw(vector) for vector in (rest(), controls(open=1, teeth=1)))
        mouth = int(at(of, 256, 13)[0, 1])
        for frame in (still, asked):  # one dark line between the lips, not two with a gap between
            dark = frame[mouth - 12 : mouth + 20, 124:132, :3].max(-1) < 130
            assert (np.diff(dark.astype(int), axis=0) == 1).sum(0).tolist() == [1] * 8
        vector = controls(open=1, teeth=1)
        assert of.motion.pose(strengths(vector, True), 1.0, 0.0, vector, True).gap < 0.1
        assert difference(still, asked).max() > 40

    def test_moves_nothing_else(self) -> None:
        """Away from face, neck and hair pixels stay the file's when only the mouth moves: .1 level in the mean; above
        the eyes exactly."""
        for matted in (True, False):
            by = rig(SHUT, 256, matted)
            changed = difference(draw(by), draw(by, open=1, wide=0.5, teeth=0.5))
            chin, rows = at(prepared(), 256, 152)[0], np.arange(256)[:, None]
            person = SHUT.paint()[2]
            outside = like(draw(by), COAT, 30) | (prepared().framing.image(256, person) == 0)
            outside = cv2.erode(outside.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
            assert outside.mean() > 0.4
            assert changed[outside].mean() <= 0.1
            assert changed[:70].max() == 0 and changed[(rows > chin[1] + 45) & outside].max() <= 1


class TestEyes:
    @pytest.mark.parametrize("style", ["photo", "drawing"])
    def test_blink_covers_the_iris_alone(self, style: str) -> None:
        """Shut lids leave nothing of the irises, one eye's blink is its own, and the rest of the face is unchanged."""
        face = SHUT.but(style=style)
        of, by = prepared(face), rig(face)
        still, shut, wink = draw(by), by.draw(BLINK).copy(), draw(by, blink_left=1)
        eyes = np.zeros((256, 256), bool)
        for side in (0, 1):
            region = around(of, 256, side)
            assert like(still[region], IRIS).sum() > 10
            assert like(shut[region], IRIS).sum() == 0
            assert (like(wink[region], IRIS).sum() == 0) == (side == 0)
            rows, columns = region
            eyes[rows.start - 12 : rows.stop + 8, columns.start - 8 : columns.stop + 8] = True
        assert difference(still, shut)[~eyes].max() == 0

    @pytest.mark.parametrize("style", ["photo", "drawing"])
    def test_gaze_goes_where_asked(self, style: str) -> None:
        """Both irises follow the gaze to the viewer's right and left, and up."""
        face = SHUT.but(style=style)
        of, by = prepared(face), rig(face, 512)
        looks = {"ahead": draw(by), "right": draw(by, gaze_x=1), "left": draw(by, gaze_x=-1), "up": draw(by, gaze_y=1)}
        for side in (0, 1):
            region = around(of, 512, side)
            x = {name: middle(like(frame[region], IRIS)) for name, frame in looks.items()}
            assert x["left"][0] + 2 < x["ahead"][0] < x["right"][0] - 2
            assert x["up"][1] < x["ahead"][1]

    def test_covered_eyes_never_blink(self) -> None:
        """Behind sunglasses nothing is painted, whatever is asked for."""
        by = rig(SHUT.but(eyes_covered=True))
        assert np.array_equal(by.draw(controls(blink_left=1, blink_right=1, gaze_x=1, gaze_y=-1)), draw(by))


class TestHead:
    def test_yaw_moves_the_nose_most(self) -> None:
        """The face turns to the viewer's right: its nose goes there, the rim of the face much less."""
        by = rig(size=512)
        nose = [middle(like(draw(by, yaw=yaw), NOSE))[0] for yaw in (-0.3, 0.0, 0.3)]
        assert nose[0] + 8 < nose[1] < nose[2] - 8
        of = prepared()
        rims = [
            of.motion.vertices(pose(of, controls(yaw=yaw)), np.zeros((len(of.geometry.vertices), 2)))[LEFT_RIM, 0]
            for yaw in (0.0, 0.3)
        ]
        assert abs(rims[1] - rims[0]) < 0.6 * (nose[2] - nose[1])

    def test_pitch_and_roll(self) -> None:
        """Pitch lifts the nose; a positive roll turns the head clockwise on the screen."""
        of, by = prepared(), rig(size=512)
        assert middle(like(draw(by, pitch=0.3), NOSE))[1] < middle(like(draw(by), NOSE))[1] - 5
        frame = draw(by, roll=0.2)
        shown = of.motion.carried(pose(of, controls(roll=0.2)), of.framing.fit.irises)
        eyes = []
        for x, y in shown[:, 0]:
            region = np.s_[int(y) - 14 : int(y) + 14, int(x) - 14 : int(x) + 14]
            eyes.append(middle(like(frame[region], IRIS)) + [int(x) - 14, int(y) - 14])
        across = eyes[1] - eyes[0]
        assert np.arctan2(across[1], across[0]) == pytest.approx(0.2, abs=0.03)

    def test_background_stands_still(self) -> None:
        """With a matte nothing moves that is well away from the person, however the head turns."""
        face = SHUT
        _, _, share = face.paint()
        of, by = prepared(face), rig(face)
        person = of.framing.image(256, share)
        still = draw(by)
        for values in ({"yaw": 0.3}, {"roll": 0.3}, {"lean": 1.0}, {"pitch": 0.3, "breath": 1.0}):
            frame = draw(by, **values)
            reach = cv2.dilate(person, np.ones((61, 61), np.uint8))
            away = reach == 0
            assert away.sum() > 2000
            assert difference(still, frame)[away].max() <= 3, values
        loose = rig(face, matted=False)
        moved = difference(draw(loose), draw(loose, roll=0.3))[person == 0]
        kept = difference(still, draw(by, roll=0.3))[person == 0]
        assert (kept > 6).sum() < 0.5 * (moved > 6).sum()


class TestTransparency:
    CUT = SHUT.but(cut_out=True)

    def test_alpha_is_kept(self) -> None:
        """A cut-out stays one: at rest its straight colours and its alpha are the file's."""
        pixels, fit, share = self.CUT.paint()
        by = PictureRig(prepared(self.CUT), 256, background=False)
        frame = by.draw(rest())
        wanted = prepared(self.CUT).framing.image(256)
        assert np.array_equal(frame[..., 3], wanted[..., 3])
        assert (frame[..., 3] == 0).mean() > 0.2 and (frame[frame[..., 3] == 0] == 0).all()
        assert 0 < ((frame[..., 3] > 0) & (frame[..., 3] < 255)).sum()

    @pytest.mark.parametrize("values", [{}, {"yaw": 0.3}, {"open": 1.0, "roll": 0.2}])
    def test_edges_are_not_darkened(self, values: dict[str, float]) -> None:
        """Half transparent pixels of hair have hair's colour: nothing black is mixed in."""
        frame = draw(PictureRig(prepared(self.CUT), 256, background=False), **values)
        rows = np.arange(256)[:, None]
        top = at(prepared(), 256, 10)[0, 1]
        edge = (frame[..., 3] > 90) & (frame[..., 3] < 250) & (rows < top)
        assert edge.sum() > 20
        inside = frame[(frame[..., 3] == 255) & (rows < top - 4)][:, :3].mean(0)
        assert np.abs(frame[edge][:, :3].mean(0) - inside).max() < 12

    def test_background_is_asked_for(self) -> None:
        """Before a backdrop a cut-out is opaque; the person's own pixels are the same."""
        on, off = (PictureRig(prepared(self.CUT), 256, background).draw(BUSY) for background in (True, False))
        assert (on[..., 3] == 255).all()
        solid = off[..., 3] == 255
        assert np.array_equal(on[solid], off[solid])


class TestPacks:
    def test_lends_shut_lids(self) -> None:
        """A picture with shut eyes is what a blink shows: its lids have the colour painted there."""
        pixels, fit, _ = SHUT.paint()
        shut, shut_fit, _ = Meshed(lids=0.05).paint()
        lid = np.zeros(shut.shape[:2], np.uint8)
        for eye in shut_fit.lids:
            cv2.circle(lid, tuple(int(v) for v in eye.mean(0) - [0, 4]), 5, 255, -1)
        shut[lid > 0, :3] = (250, 230, 40)  # eye shadow that the neutral picture does not show
        of = PreparedPicture.build(pixels, fit, None, {"eyes_shut": (shut, shut_fit)})
        by = PictureRig(of, 256)
        assert like(draw(by), (250, 230, 40), 50).sum() == 0
        assert like(by.draw(BLINK), (250, 230, 40), 50).sum() > 20

    def test_lends_an_open_mouth(self) -> None:
        """A picture with an open mouth is what is seen between the lips."""
        pixels, fit, _ = SHUT.paint()
        wide, wide_fit, _ = GAPING.paint()
        inside = like(wide, (58, 22, 24), 30)
        wide[inside, :3] = (40, 160, 170)
        of = PreparedPicture.build(pixels, fit, None, {"mouth_open": (wide, wide_fit)})
        by = PictureRig(of, 256)
        assert like(draw(by, press=1), (40, 160, 170), 40).sum() == 0
        assert like(draw(by, open=1), (40, 160, 170), 40).sum() > 100


class TestBadInput:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("name", ["open", "yaw", "gaze_x", "breath", "blush"])
    def test_a_frame_of_no_numbers_is_refused_and_forgotten(self, name: str, value: float) -> None:
        """It is an ArithmeticError that names the control, and the next frame is as if it had not been."""
        by = rig(size=128)
        wanted = by.draw(BUSY).copy()
        vector = controls(**{name: value})
        with pytest.raises(ArithmeticError, match=f"1 of {len(CONTROLS)} controls are not finite: {name}"):
            by.draw(vector)
        assert np.array_equal(by.draw(BUSY), wanted)

    def test_hearing_no_numbers_spoils_nothing(self) -> None:
        """What was not finite counts as silence: the frames after it have numbers."""
        one, other = rig(TOOTHY, 128), rig(TOOTHY, 128)
        for by, heard in ((one, np.full(len(CONTROLS), np.nan, np.float32)), (other, rest())):
            by.hear(controls(open=0.5), None, np.zeros(6))
            by.hear(heard, None, np.zeros(6))
            by.hear(controls(open=0.5), None, np.zeros(6))
        assert np.array_equal(one.draw(BUSY), other.draw(BUSY))

    def test_what_lies_beyond_its_range_is_drawn_at_its_end(self) -> None:
        """Also what lies so far beyond that squares of it would be infinite."""
        by = rig(size=128)
        for far in (1.01, 50.0, 1e30):
            for end in (LOWEST, HIGHEST):
                vector = np.where(end == 0, -far, end * far).astype(np.float32)
                assert np.array_equal(by.draw(vector).copy(), by.draw(end))

    @pytest.mark.parametrize("shape", [(3,), (len(CONTROLS), 1), ()])
    def test_other_shapes_are_refused(self, shape: tuple[int, ...]) -> None:
        """The reason names both shapes."""
        with pytest.raises(ValueError, match=rf"shape .* not \({len(CONTROLS)},\)"):
            rig(size=128).draw(np.zeros(shape, np.float32))

    @pytest.mark.parametrize(
        "face",
        [
            Meshed(centre=(12.0, 150.0)),
            Meshed(centre=(372.0, 20.0)),
            Meshed(centre=(192.0, 375.0)),
            Meshed(eyes=17.0, centre=(32.0, 26.0), size=(64, 64)),
            Meshed(eyes=60.0, centre=(600.0, 60.0), size=(1200, 120)),
            Meshed(eyes=30.0, centre=(40.0, 300.0), size=(80, 900)),
            Meshed(eyes=300.0, centre=(128.0, 90.0), size=(256, 256)),
            Meshed(eyes=14.0, centre=(200.0, 150.0), gap=0.2, teeth=True),
        ],
        ids=["left-edge", "corner", "below", "tiny", "wide", "tall", "fills-everything", "small-face"],
    )
    @pytest.mark.parametrize("cut_out", [False, True], ids=["opaque", "cut-out"])
    def test_odd_pictures(self, face: Meshed, cut_out: bool) -> None:
        """A face at the edge, far too small or far too large is drawn, at rest and moved within its picture."""
        pixels, fit, share = face.but(cut_out=cut_out).paint()
        of = PreparedPicture.build(pixels, fit, None if cut_out else share)
        by = PictureRig(of, 128, background=not cut_out)
        still = by.draw(rest()).copy()
        assert still[..., :3].std() > 3
        for vector in (BUSY, BLINK, HIGHEST, LOWEST):
            frame = by.draw(vector)
            assert frame.shape == (128, 128, 4)
            if not cut_out:
                assert (frame[..., 3] == 255).all()
            assert np.abs(frame.astype(float).mean((0, 1)) - still.mean((0, 1))).max() < 45

    def test_eyes_shut_or_of_no_width(self) -> None:
        """A neutral picture whose eyes are shut, and landmarks that fall together, give frames all the same."""
        pixels, fit, _ = Meshed(lids=0.0).paint()
        assert PictureRig(PreparedPicture.build(pixels, fit), 128).draw(BLINK).std() > 3
        flat = dataclasses.replace(fit, irises=np.repeat(fit.irises[:, :1], 5, 1))
        assert PictureRig(PreparedPicture.build(pixels, flat), 128).draw(BUSY).std() > 3
