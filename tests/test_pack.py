"""One character from several pictures: roles by name, by request, by what is seen; aligned; nothing lost unsaid."""

import math
from dataclasses import replace

import numpy as np
import pytest
from drawn_faces import POSES, Drawn

from streamer.base.errors import BadPicture
from streamer.faces.detector import similarity
from streamer.faces.expression import expression
from streamer.faces.pack import MAX_PICTURES, STABLE, Given, make_pack, similarity_between
from streamer.faces.roles import ROLES, role_by_face, role_by_name
from streamer.motion.controls import controls
from streamer.studio.character import Character
from streamer.studio.rig import Rig


def given(name: str = "", role: str | None = None, **face: object) -> Given:
    pixels, fit = Drawn(**face).picture()  # type: ignore[arg-type]
    return Given(pixels, fit, name, role)  # type: ignore[arg-type]


STUDIO: dict[str, dict[str, float]] = {
    "neutral": {},
    "mouth_open": {"open": 0.9},
    "teeth": {"open": 0.35, "teeth": 1.0, "wide": 0.6},
    "eyes_shut": {"blink_left": 1.0, "blink_right": 1.0},
    "smile": {"smile": 1.0, "wide": 0.4},
    "look_aside": {"gaze_x": 1.0},
}


def codes(pack: object) -> list[str]:
    return [notice.code for notice in pack.notices]  # type: ignore[attr-defined]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "role"),
        [
            ("idle.png", "neutral"), ("Neutral.PNG", "neutral"), ("mouth_closed.png", "neutral"),
            ("closed.png", "neutral"), ("closed_eyes_open_mouth.png", "eyes_shut"),
            ("eyes-open_mouth-closed.png", "neutral"), ("EyesOpenMouthClosed.png", "neutral"),
            ("default2.webp", "neutral"),
            ("talk.png", "mouth_open"), ("Talking 01.png", "mouth_open"), ("speaking.gif", "mouth_open"),
            ("open.png", "mouth_open"), ("mouthOpen.png", "mouth_open"), ("open-mouth.png", "mouth_open"),
            ("eyes_open_mouth_open.png", "mouth_open"), ("happy_talk.png", "mouth_open"),
            ("blink.png", "eyes_shut"), ("eyes_closed.png", "eyes_shut"), ("closedEyes.png", "eyes_shut"),
            ("eyesclosed.png", "eyes_shut"), ("talk_blink.png", "eyes_shut"),
            ("mouth_open_eyes_closed.png", "eyes_shut"),
            ("smile.jpg", "smile"), ("happy_idle.png", "smile"), ("smiling.png", "smile"),
            ("teeth.png", "teeth"), ("big-grin.png", "teeth"), ("look_left.png", "look_aside"),
            ("C:\\Users\\open\\mia.png", None), ("IMG_2041.jpg", None), ("angry.png", None), ("", None),
            ("blinken-lights/mia.png", None), ("opening.png", None), ("restaurant.png", None),
        ],
    )  # fmt: skip
    def test_roles(self, name: str, role: str | None) -> None:
        """The words that PNG-tubers use are known, and no others."""
        assert role_by_name(name) == role


class TestFaces:
    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize("place", [{}, {"roll": 0.3, "eyes": 90.0}, {"eyes": 60.0, "yaw": 0.15}], ids=str)
    def test_roles(self, role: str, place: dict[str, float]) -> None:
        """What a face does says its role, however large and tilted it is."""
        neutral = expression(*Drawn().picture())
        found = role_by_face(expression(*Drawn(**POSES[role], **place).picture()), neutral)  # type: ignore[arg-type]
        assert found == (None if role == "neutral" else role)

    def test_numbers(self) -> None:
        """Gap, lids, gaze and yaw are what was drawn, in the face's own frame."""
        face = Drawn(gap=0.15, lids=0.25, gaze=-0.1, roll=-0.25, eyes=80.0)
        seen = expression(*face.picture())
        assert seen.gap == pytest.approx(0.15, abs=1e-3)
        assert seen.lids == pytest.approx(0.25, rel=0.1)
        assert seen.gaze == pytest.approx((-0.1, 0), abs=1e-3)
        assert expression(*Drawn(yaw=0.3).picture()).yaw == pytest.approx(0.3, abs=0.01)
        assert expression(*Drawn(yaw=-0.3).picture()).yaw == pytest.approx(-0.3, abs=0.01)

    def test_a_face_half_outside(self) -> None:
        """Landmarks beyond the picture's edges are no error."""
        for centre in ((-500.0, -500.0), (5.0, 390.0), (400.0, 0.0)):
            seen = expression(*Drawn(gap=0.2, centre=centre).picture())
            assert math.isfinite(seen.sharpness)


class TestRoles:
    def test_recognised_in_any_order(self) -> None:
        """Pictures that are called nothing are each taken for what they show, the calm one as the neutral one."""
        pack = make_pack([given(f"IMG_{i}.png", **POSES[role]) for i, role in enumerate(reversed(ROLES))])
        assert {chosen.role: chosen.name for chosen in pack.chosen} == {
            role: f"IMG_{i}.png" for i, role in enumerate(reversed(ROLES))
        }
        assert pack.chosen[0].role == "neutral"
        assert {chosen.by for chosen in pack.chosen} == {"face"}
        assert pack.notices == ()
        assert list(pack.others) == list(ROLES[1:])

    def test_request_before_name_before_face(self) -> None:
        """What the user says counts more than the file's name, and that more than what is seen."""
        pack = make_pack(
            [
                given("idle.png"),
                given("talk.png", "smile", gap=0.2),
                given("teeth.png", gap=0.2),
                given("x.png", lids=0.03),
            ]
        )
        assert {(one.name, one.role, one.by) for one in pack.chosen} == {
            ("idle.png", "neutral", "name"),
            ("talk.png", "smile", "role"),
            ("teeth.png", "teeth", "name"),
            ("x.png", "eyes_shut", "face"),
        }

    def test_one_picture(self) -> None:
        """A single picture is the neutral one, whatever it shows, and stays as it is."""
        only = given("talk.png", gap=0.2)
        pack = make_pack([only])
        assert pack.neutral is only.pixels
        assert pack.others == {}
        assert codes(pack) == ["no_neutral"]
        assert pack.to_json()["missing"] == list(ROLES[1:])

    def test_two_of_one_role(self) -> None:
        """The one that shows more is kept; what the user asked for is kept before it; the other is told."""
        wide, narrow = given("talk.png", gap=0.2), given("open.png", gap=0.09)
        pack = make_pack([given("idle.png"), narrow, wide])
        assert [one.name for one in pack.chosen] == ["idle.png", "talk.png"]
        assert codes(pack) == ["same_role"]
        assert "open.png" in pack.notices[0].text
        asked = make_pack([given("idle.png"), replace(narrow, role="mouth_open"), wide])
        assert [one.name for one in asked.chosen] == ["idle.png", "open.png"]

    def test_two_neutral(self) -> None:
        """Of two pictures that are called neutral the calmer one is animated."""
        pack = make_pack([given("idle.png", gap=0.1), given("neutral.png")])
        assert [one.name for one in pack.chosen] == ["neutral.png"]
        assert codes(pack) == ["same_role"]

    def test_nothing_new(self) -> None:
        """A picture that shows what the neutral one does is not used, and that is said."""
        pack = make_pack([given("a.png"), given("b.png")])
        assert len(pack.chosen) == 1
        assert codes(pack) == ["no_role"]

    def test_a_photograph_that_does_not_show_its_role(self) -> None:
        """A photograph called talk with closed lips is told; a drawing, whose landmarks say less, is not."""
        for style, said in (("photo", ["role_not_seen"]), ("drawing", [])):
            pack = make_pack([given("idle.png", style=style), given("talk.png", style=style)])
            assert "mouth_open" in pack.others
            assert codes(pack) == said

    def test_json(self) -> None:
        """The summary names each picture's role and who said so, what is missing, and what the user should know."""
        pack = make_pack([given("idle.png"), given("talk.png", gap=0.2)])
        assert pack.to_json() == {
            "size": [400, 400],
            "chosen": [
                {"role": "neutral", "name": "idle.png", "by": "name"},
                {"role": "mouth_open", "name": "talk.png", "by": "name"},
            ],
            "missing": ["teeth", "eyes_shut", "smile", "look_aside"],
            "notices": [],
        }


class TestAlignment:
    def test_of_another_size_and_crop(self) -> None:
        """A picture of another size, crop and tilt comes to lie on the neutral one, with its landmarks."""
        neutral = given("idle.png")
        other = given("talk.png", gap=0.2, roll=0.2, eyes=170.0, centre=(260.0, 240.0), size=(540, 620))
        member = make_pack([neutral, other]).others["mouth_open"]
        assert member.pixels.shape == neutral.pixels.shape
        _, wanted = Drawn(gap=0.2).picture()
        assert member.fit.points == pytest.approx(wanted.points, abs=0.2)
        assert member.fit.lids == pytest.approx(wanted.lids, abs=0.2)
        face = (slice(100, 250), slice(150, 250))
        expected = Drawn(gap=0.2).picture()[0][face].astype(int)
        assert np.abs(member.pixels[face].astype(int) - expected).mean() < 5
        assert member.pixels[399, 0, 3] == 0

    def test_on_one_canvas(self) -> None:
        """Pictures drawn on one canvas keep their pixels, though landmarks on drawings are off by some."""
        neutral, other = given("idle.png"), given("talk.png", gap=0.2)
        assert other.fit is not None
        off = other.fit.moved(similarity(0.01, 1.01, (200, 200), (202, 201)))
        member = make_pack([neutral, replace(other, fit=off)]).others["mouth_open"]
        assert (member.pixels == other.pixels).all()

    def test_of_one_size_though_moved(self) -> None:
        """Two photographs of one size in which the person moved lie on each other all the same."""
        for place in ({"centre": (330.0, 170.0)}, {"centre": (208.0, 176.0), "eyes": 126.0}):
            member = make_pack([given("idle.png"), given("talk.png", gap=0.2, **place)]).others["mouth_open"]
            assert member.fit.points == pytest.approx(Drawn(gap=0.2).picture()[1].points, abs=0.2)

    def test_bad_landmarks_do_not_count(self) -> None:
        """A quarter of landmarks that lie somewhere else do not move the alignment."""
        _, fit = Drawn().picture()
        source = fit.points[list(STABLE), :2].astype(float)
        matrix = similarity(0.2, 1.4, (200, 200), (260, 150))
        target = source @ matrix[:, :2].T + matrix[:, 2]
        target[[2, 9, 15]] += [40, -30]
        assert similarity_between(source, target) == pytest.approx(matrix, abs=1e-2)

    def test_a_turned_picture_is_told(self) -> None:
        """A picture turned far against the neutral one is used, and the user is told by how much."""
        pack = make_pack([given("idle.png"), given("talk.png", gap=0.2, yaw=0.4)])
        assert "mouth_open" in pack.others
        assert codes(pack) == ["turned"]
        assert "23°" in pack.notices[0].text


class TestPeople:
    @pytest.mark.parametrize(
        "other", [{"skin": (110, 70, 50)}, {"hair": (235, 205, 120)}, {"skin": (150, 190, 230)}], ids=str
    )
    @pytest.mark.parametrize("style", ["photo", "drawing"])
    def test_two_people_are_told(self, style: str, other: dict[str, tuple[int, int, int]]) -> None:
        """Other skin or hair is told with its number, and never refused: a drawing may change its colours."""
        pack = make_pack([given("idle.png", style=style), given("talk.png", gap=0.2, style=style, **other)])
        assert "mouth_open" in pack.others
        assert codes(pack) == ["other_person"]
        assert any(c.isdigit() for c in pack.notices[0].text)

    @pytest.mark.parametrize("light", [0.75, 1.1])
    def test_one_person_in_other_light(self, light: float) -> None:
        """Darker and lighter photographs of one person pass."""
        pixels, fit = Drawn(gap=0.2).picture()
        pixels[..., :3] = np.clip(pixels[..., :3] * light, 0, 255)
        assert make_pack([given("idle.png"), Given(pixels, fit, "talk.png")]).notices == ()

    def test_other_proportions(self) -> None:
        """Of photographs, another face's proportions are told; of drawings, they are not."""
        for style, said in (("photo", ["other_person"]), ("drawing", [])):
            other = given("talk.png", gap=0.2, style=style)
            assert other.fit is not None
            points = other.fit.points.copy()
            points[:, 1] = 170 + (points[:, 1] - 170) * 1.35
            pack = make_pack([given("idle.png", style=style), replace(other, fit=replace(other.fit, points=points))])
            assert codes(pack) == said


class TestStudio:
    @pytest.mark.parametrize("seed", [13, 71, 40])
    def test_drawn_characters(self, seed: int) -> None:
        """The studio's characters, whose landmarks are found as those of any picture, are told apart role by role."""
        landmarks = pytest.importorskip("streamer.faces.landmarks", reason="no landmarker")
        landmarker, pictures = landmarks.Landmarker.load(), []
        rig = Rig(Character.from_seed(seed), 512)
        for role, pose in STUDIO.items():
            pixels = rig.draw(controls(**pose)).copy()
            [fit] = landmarker.find(pixels)
            pictures.append(Given(pixels, fit, f"{len(pictures)} {role[::-1]}.png"))
        rig.close()
        pack = make_pack(pictures[::-1])
        assert {one.role: one.name[2:-4][::-1] for one in pack.chosen} == {role: role for role in ROLES}
        assert pack.notices == ()


class TestRefused:
    def test_counts(self) -> None:
        """None and more than eight pictures are refused with their number."""
        with pytest.raises(BadPicture, match="not 0"):
            make_pack([])
        with pytest.raises(BadPicture, match=f"1 to {MAX_PICTURES} pictures, not 9"):
            make_pack([given()] * 9)

    def test_pictures_without_a_face(self) -> None:
        """One without a face is named and left out; where none has one, the pack is refused."""
        faceless = Given(np.full((100, 100, 4), 255, np.uint8), None, "cat.png")
        pack = make_pack([faceless, given("idle.png"), given("talk.png", gap=0.2)])
        assert [one.name for one in pack.chosen] == ["idle.png", "talk.png"]
        assert codes(pack) == ["no_face"]
        assert "cat.png" in pack.notices[0].text
        with pytest.raises(BadPicture, match="any of the 2 pictures"):
            make_pack([faceless, faceless])
