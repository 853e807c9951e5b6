"""Finder: the one face that is meant, upright, with what the user should know; a reason where there is none."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from streamer.faces.alignment import BadFace, marked
from streamer.faces.detector import Face, FaceDetector
from streamer.faces.finder import FoundFace, find_face, find_faces, marked_face, quarter
from streamer.faces.landmarks import Landmarker
from streamer.faces.pose import face_of, placed
from streamer.studio.character import Character
from streamer.studio.draw.background import background
from streamer.studio.draw.portrait import portrait

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
DRAWN = ("blue-hair.webp", "composer.webp", "doctor.webp", "emoji-panda.webp", "emoji-woman.webp", "ink.png",
         "looking-aside.webp", "small-boy.png", "toon.png")  # fmt: skip


@cache
def landmarker() -> Landmarker:
    return Landmarker.load()


@cache
def detector() -> FaceDetector:
    return FaceDetector.load()


@cache
def picture(name: str = "astronaut.jpg") -> np.ndarray:
    """[H, W, 4] uint8."""
    return np.asarray(Image.open(PICTURES / name).convert("RGBA"))


def scaled(pixels: np.ndarray, scale: float) -> np.ndarray:
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def the_face(pixels: np.ndarray, at: tuple[float, float] | None = None) -> FoundFace:
    return find_face(pixels, landmarker(), detector(), at)


def codes(face: FoundFace) -> list[str]:
    return [notice.code for notice in face.notices]


def refused(pixels: np.ndarray) -> BadFace:
    with pytest.raises(BadFace) as caught:
        the_face(pixels)
    return caught.value


class TestFound:
    def test_a_photograph_is_one(self) -> None:
        """A smiling portrait is a photograph whose teeth show, and nothing else is said of it."""
        face = the_face(picture())
        assert (face.fit.style, face.turns, codes(face)) == ("photo", 0, ["teeth_shown"])
        assert not face.fit.eyes_covered
        assert not face.fit.mouth_covered
        assert face.picture is picture()

    @pytest.mark.parametrize("name", DRAWN)
    def test_drawings_are_found_and_told_as_such(self, name: str) -> None:
        """Eyes and mouth lie where the project's detector, which knows drawings, sees them."""
        face = the_face(picture(name))
        seen = detector().detect(picture(name))[0]
        ours = face_of(face.fit)
        assert np.hypot(*(ours.points - seen.points).T).max() < 0.4 * seen.eye_distance
        assert face.fit.style == "drawing"
        assert codes(face)[0] == "drawing"

    @pytest.mark.parametrize("name", ["profile.png", "turned-away.webp"])
    def test_one_eye_is_no_face(self, name: str) -> None:
        """Drawings from the side are refused."""
        assert refused(picture(name)).reason == "no_face"

    @pytest.mark.parametrize("name", ["astronaut.jpg", "toon.png"])
    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_turned_pictures_are_turned_upright(self, name: str, turns: int) -> None:
        """A picture on its side or its head comes back as the upright one."""
        turned = np.ascontiguousarray(np.rot90(picture(name), turns))
        face = the_face(turned)
        assert face.turns == (4 - turns) % 4
        assert np.array_equal(face.picture, picture(name))
        assert abs(face_of(face.fit).roll) < 0.3

    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    def test_points_turn_as_pixels_do(self, turns: int) -> None:
        """The map of a quarter's turn takes a pixel's middle to where np.rot90 puts the pixel."""
        pixels = np.arange(6).reshape(2, 3)
        matrix = quarter(turns, pixels)
        turned = np.rot90(pixels, turns)
        for row, column in np.ndindex(2, 3):
            x, y = matrix[:, :2] @ [column + 0.5, row + 0.5] + matrix[:, 2]
            assert turned[int(y), int(x)] == pixels[row, column]


class TestSeveral:
    def test_two_faces_are_given_to_choose_from(self) -> None:
        """Side by side, both are named with their places; the nearest to a point is the one that is meant."""
        both = np.hstack([picture(), picture()])
        error = refused(both)
        assert error.reason == "several_faces"
        assert sorted(round(face.middle[0] / picture().shape[1]) for face in error.faces) == [0, 1]
        for face in error.faces:
            chosen = the_face(both, tuple(face.middle))
            assert np.hypot(*(face_of(chosen.fit).middle - face.middle)) < 2

    def test_faces_of_a_turned_picture_are_given_where_the_user_sees_them(self) -> None:
        """Their places are those in the picture as it was given."""
        both = np.hstack([picture(), picture()])
        given = np.ascontiguousarray(np.rot90(both))
        places = sorted(face.middle[1] for face in refused(given).faces)
        upright = sorted(both.shape[1] - face.middle[0] for face in refused(both).faces)
        assert places == pytest.approx(upright, abs=3)

    def test_a_bystander_is_passed_over(self) -> None:
        """A face of less than two fifths of the size does not ask whom is meant."""
        beside = picture().copy()
        small = scaled(picture(), 0.36)
        beside[-len(small) :, : small.shape[1]] = small
        assert face_of(the_face(beside).fit).eye_distance > 30


class TestRefused:
    def test_nothing_to_see(self) -> None:
        """Clear, empty and one-coloured pictures are told as such, one without a face, too."""
        flat = np.full((64, 64, 4), 255, np.uint8)
        assert refused(flat).reason == "one_colour"
        assert refused(np.zeros((64, 64, 4), np.uint8)).reason == "one_colour"
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 4), dtype=np.uint8)
        noise[..., 3] = 255
        assert refused(noise).reason == "no_face"

    def test_a_small_face_is_refused_with_its_size(self) -> None:
        """Eyes 9 pixels apart: the number is in the reason."""
        error = refused(scaled(picture(), 9.4 / face_of(the_face(picture()).fit).eye_distance))
        assert error.reason == "small_face"
        assert "its eyes are 9." in str(error)
        assert len(error.faces) == 1

    def test_a_face_from_the_side_is_refused(self) -> None:
        """A mesh that is turned by more than half a right angle: the angle is in the reason."""

        class Profile(Landmarker):
            def __init__(self) -> None:
                pass

            def find(self, picture: np.ndarray, least: float = 0.5) -> list:
                fit = the_face(picture).fit
                spun = fit.points - fit.points.mean(0)
                angle = np.radians(65)
                cos, sin = np.cos(angle), np.sin(angle)
                points = spun @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], np.float32).T
                moved = type(fit)((points + fit.points.mean(0)).astype(np.float32), fit.lids, fit.irises)
                return [moved]

        with pytest.raises(BadFace, match="in profile .turned by 6[0-9]°") as caught:
            find_face(picture(), Profile(), detector())
        assert caught.value.reason == "from_the_side"


class TestMarked:
    def test_a_mean_face_lies_on_the_marks(self) -> None:
        """Where no mesh lies, eyes and mouth are the marked ones, the head turned as they are."""
        pixels = picture("profile.png")
        face = marked((150, 180, 230, 200, 180, 270), pixels.shape[1], pixels.shape[0])
        found = marked_face(pixels, face, landmarker())
        assert np.abs(face_of(found.fit).points - face.points).max() < 0.5
        assert found.fit.score == 1
        assert found.fit.lip_gap < 0.05
        assert "eyes_closed" not in codes(found)

    def test_the_mesh_is_taken_where_it_agrees(self) -> None:
        """Roughly marked, a photograph's face has its own landmarks."""
        own = the_face(picture()).fit
        seen = face_of(own)
        rough = Face(1.0, seen.eyes + np.array([[2, 1], [-1, 2]], np.float32), seen.mouth + 2)
        found = marked_face(picture(), rough, landmarker())
        assert np.abs(found.fit.points - own.points).max() < 0.05 * own.eye_distance
        assert codes(found) == ["teeth_shown"]

    def test_marks_elsewhere_are_obeyed(self) -> None:
        """Marked beside the face that is there, a face is where the marks are."""
        face = marked((60, 300, 110, 300, 85, 340), 448, 448)
        found = marked_face(picture(), face, landmarker())
        assert np.abs(face_of(found.fit).points - face.points).max() < 0.5

    def test_the_mean_face_is_in_proportion(self) -> None:
        """On a level face the chin is below the mouth, lids surround the irises, left is left."""
        fit = placed(Face(1.0, np.array([[40, 50], [60, 50]], np.float32), np.array([50, 72], np.float32)))
        assert fit.points[152, 1] > fit.points[14, 1] > fit.points[13, 1] > fit.points[1, 1]
        assert fit.points[33, 0] < fit.points[133, 0] < fit.points[362, 0] < fit.points[263, 0]
        assert (fit.lids[:, 1:8, 1].mean(1) > fit.irises[:, 0, 1]).all()
        assert (fit.lids[:, 9:, 1].mean(1) < fit.irises[:, 0, 1]).all()


class TestNotices:
    def test_a_mask_covers_the_mouth(self) -> None:
        """A smooth cloth from the nose to the chin: the lips do not part."""
        points = the_face(picture()).fit.points[:, :2]
        worn = picture().copy()
        edge = [2, 205, 207, 192, 135, 210, 194, 200, 418, 430, 364, 416, 427, 425]
        hull = cv2.convexHull(points[edge].astype(np.int32))
        soft = cv2.GaussianBlur(cv2.fillConvexPoly(np.zeros(worn.shape[:2], np.float32), hull, 1), (0, 0), 1)[..., None]
        worn[..., :3] = (worn[..., :3] * (1 - soft) + soft * np.array([170, 190, 210])).astype(np.uint8)
        face = the_face(worn)
        assert face.fit.mouth_covered
        assert "mouth_covered" in codes(face)

    def test_dark_glasses_cover_the_eyes(self) -> None:
        """Two dark lenses and a bridge: the lids are left alone. Clear ones are only told of."""
        for filled, code in ((True, "sunglasses"), (False, "glasses")):
            worn = scaled(picture(), 2.0)
            fit = the_face(worn).fit
            for lids in fit.lids:
                radius = int(0.2 * fit.eye_distance)
                middle = tuple(int(v) for v in lids.mean(0) + [0, 0.04 * fit.eye_distance])
                cv2.circle(worn, middle, radius, (20, 18, 22, 255), -1 if filled else 4)
            left, right = ((int(p[0]), int(p[1])) for p in fit.points[[133, 362], :2])
            cv2.line(worn, left, right, (20, 18, 22, 255), 5)
            face = the_face(worn)
            assert code in codes(face)
            assert face.fit.eyes_covered == filled

    def test_every_notice_is_one_sentence(self) -> None:
        """Each ends as a sentence does and has no gap left in it."""
        for name in ("astronaut.jpg", "toon.png", "small-boy.png"):
            for notice in the_face(picture(name)).notices:
                assert notice.text.endswith(".")
                assert "{" not in notice.text


def empty(count: int) -> Iterator[np.ndarray]:
    """Pictures [H, W, 4] without a face: the studio's backgrounds, noise of any grain, gradients."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        size = (128, 256, 384, 512)[seed % 4]
        if seed % 5 < 3:
            anatomy = portrait(Character.from_seed(seed + 70000), 96, straight=False)
            yield background(anatomy, size)
            anatomy.sketch.close()
            continue
        if seed % 5 == 3:
            cells = size // (1 + seed % 7) + 1
            coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            rgb = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC if seed % 2 else cv2.INTER_NEAREST)
        else:
            y, x = np.mgrid[0:size, 0:size] / size
            parts = np.stack([y, x, np.hypot(x - 0.5, y - 0.5)], -1)
            rgb = np.clip(parts @ rng.uniform(0, 255, (3, 3)), 0, 255).astype(np.uint8)
        yield np.dstack([rgb, np.full((size, size), 255, np.uint8)])


def test_nothing_is_found_in_backgrounds() -> None:
    """No face in 6 pictures without one."""
    for pixels in empty(6):
        assert find_faces(pixels, landmarker(), detector()).candidates == []


@pytest.mark.slow
def test_nothing_is_found_in_200_backgrounds() -> None:
    """No face in 200 pictures without one."""
    seen = [i for i, pixels in enumerate(empty(200)) if find_faces(pixels, landmarker(), detector()).candidates]
    assert seen == []
