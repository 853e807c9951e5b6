"""A mouth drawn into a picture: the old one goes, the new one is there, and all else stays."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from streamer.avatar.characters import CharacterRecord
from streamer.faces.alignment import PLACES
from streamer.faces.detector import Face
from streamer.faces.drawn_mouth import with_drawn_mouth
from streamer.faces.pack import Pack
from streamer.faces.pose import placed

S = 256
SKIN = (236, 190, 160)
FACE = Face(1.0, PLACES[:2] * S, PLACES[2] * S)
X, Y = FACE.mouth
E = FACE.eye_distance

Draw = Callable[[ImageDraw.ImageDraw], None]


def picture(mouth: Draw | None = None, skin: tuple[int, int, int] = SKIN) -> np.ndarray:
    """[S, S, 4]: a head with eyes, a nose and an outline on a clear ground, and whatever mouth is drawn."""
    image = Image.new("RGBA", (S, S), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    pen.ellipse((58, 60, 198, 200), (*skin, 255), (20, 20, 20, 255), 4)
    for x, y in FACE.eyes:
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), (20, 20, 30, 255))
    pen.line((X, Y - 20, X + 4, Y - 14, X - 2, Y - 12), (60, 30, 20, 255), 2)
    if mouth is not None:
        mouth(pen)
    return np.asarray(image).copy()


def stroke(pen: ImageDraw.ImageDraw) -> None:
    pen.arc((X - 14, Y - 12, X + 14, Y + 6), 20, 160, (30, 20, 20, 255), 3)


def laughing(pen: ImageDraw.ImageDraw) -> None:
    pen.chord((X - 16, Y - 12, X + 16, Y + 12), 0, 180, (120, 20, 40, 255), (30, 10, 10, 255), 2)
    pen.rectangle((X - 10, Y + 1, X + 10, Y + 4), (255, 255, 255, 255))


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[S, S]: grey levels in the channel that differs most."""
    return np.abs(a.astype(int) - b).max(-1)


class TestDrawnMouth:
    @pytest.mark.parametrize("mouth", [stroke, laughing])
    def test_nothing_is_left_of_the_old_one(self, mouth: Draw) -> None:
        """Whatever mouth the picture had, what comes of it is what comes of the same face without any."""
        assert difference(picture(mouth), picture()).max() > 100
        assert difference(with_drawn_mouth(picture(mouth), FACE), with_drawn_mouth(picture(), FACE)).max() <= 6

    @pytest.mark.parametrize("skin", [SKIN, (90, 55, 40), (200, 180, 240), (255, 255, 255)])
    def test_the_new_one_is_a_dark_line_between_lips(self, skin: tuple[int, int, int]) -> None:
        """In the middle the line is much darker than the skin, and the lips beside it lie between the two."""
        out = with_drawn_mouth(picture(stroke, skin), FACE)
        column = out[round(Y) - 5 : round(Y) + 8, round(X), :3].astype(int).sum(-1)
        plain = sum(skin)
        assert column.min() < 0.5 * plain
        below = out[round(Y + 0.045 * E), round(X), :3].astype(int)
        assert 0.5 * plain < below.sum() < 0.95 * plain
        assert below[0] / max(skin[0], 1) > below[1] / max(skin[1], 1), "lips are redder than the skin"
        across = (difference(out, picture(None, skin)) > 20).any(0).nonzero()[0]
        assert 0.55 * E < np.ptp(across) < 0.8 * E

    def test_all_else_stays(self) -> None:
        """Eyes, nose, outline and what is clear are as they were, to the bit."""
        before = picture(laughing)
        after = with_drawn_mouth(before, FACE)
        y, x = np.nonzero(difference(after, before))
        assert abs(x - X).max() < 0.5 * E and abs(y - Y).max() < 0.4 * E
        assert (after[..., 3] == before[..., 3]).all()
        nose = np.s_[round(Y) - 21 : round(Y) - 11, round(X) - 4 : round(X) + 6]
        assert (after[nose] == before[nose]).all()

    def test_shaded_skin_stays_shaded(self) -> None:
        """Where light falls from one side, what is closed over the old mouth goes on in that light."""
        light = np.linspace(0.7, 1.05, S)[None, :, None]

        def lit(image: np.ndarray) -> np.ndarray:
            colours = np.clip(image[..., :3] * light, 0, 255)
            return np.concatenate([colours, image[..., 3:]], -1).astype(np.uint8)

        after = with_drawn_mouth(lit(picture(laughing)), FACE)
        wanted = lit(picture())
        beside = np.s_[round(Y) + 6 : round(Y) + 11, round(X) - 14 : round(X) + 15]  # below the new lips
        assert difference(after, wanted)[beside].max() <= 8

    def test_a_beard_stays(self) -> None:
        """Of what hangs together with something larger only the part at the mouth is taken."""

        def bearded(pen: ImageDraw.ImageDraw) -> None:
            pen.chord((66, 100, 190, 199), 20, 160, (40, 30, 30, 255))
            stroke(pen)
            pen.line((X, Y, X, Y + 40), (40, 30, 30, 255), 3)

        before = picture(bearded)
        after = with_drawn_mouth(before, FACE)
        chin = np.s_[round(Y + 0.5 * E) : 198, 80:176]
        assert (after[chin] == before[chin]).all()

    def test_a_tilted_face_gets_a_tilted_mouth(self) -> None:
        """The line of the lips is parallel to that of the eyes."""
        angle = 0.3
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = FACE.points.mean(0)
        points = (FACE.points - middle) @ turn.T + middle
        tilted = Face(1.0, points[:2].astype(np.float32), points[2].astype(np.float32))
        plain = picture()
        y, x = np.nonzero(difference(with_drawn_mouth(plain, tilted), plain) > 60)
        slope = np.polyfit(x, y, 1)[0]
        assert np.arctan(slope) == pytest.approx(angle, abs=0.1)

    def test_where_nothing_is_to_be_seen_nothing_is_drawn(self) -> None:
        """A face marked on a clear part of a picture leaves it as it is."""
        clear = np.zeros((S, S, 4), np.uint8)
        assert (with_drawn_mouth(clear, FACE) == clear).all()


class TestCharacter:
    def test_an_upload_gets_one_unless_it_keeps_its_own(self) -> None:
        """What the neural generator is given of a picture has the drawn mouth, or with `own_mouth` the picture's."""
        from streamer.avatar.neural import portrait

        image = picture(laughing)
        pack = Pack(image, placed(FACE), {}, (), ())
        drawn, _ = portrait(CharacterRecord("p", "p", picture=image, pack=pack), S, True)
        kept, face = portrait(CharacterRecord("p", "p", picture=image, pack=pack, own_mouth=True), S, True)
        assert (with_drawn_mouth(kept, face) == drawn).all()
        assert difference(kept, drawn).max() > 60
