"""A picture becomes a character: which are refused and why, where the face comes to lie, what fills the rest."""

import io
import math
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from lipstream_client import Client
from lipstream_client import RequestError as ClientRefused
from PIL import Image

from streamer.avatar.characters import Characters
from streamer.base.errors import RequestError
from streamer.faces.alignment import PLACES, SCALES, BadFace, aligned, face_mask, marked, placed, placement, the_face
from streamer.faces.detector import Face, FaceDetector, similarity
from streamer.motion.controls import rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig
from streamer.training.face_views import face_of

SEED = 500


def portrait(seed: int = SEED, size: int = 256, background: bool = True) -> tuple[np.ndarray, Face]:
    with Rig(Character.from_seed(seed), size, background) as rig:
        image, truth = rig.draw_with_truth(rest())
        return image.copy(), face_of(truth)[0]


def png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def pasted(pictures: list[np.ndarray], size: int, places: list[tuple[int, int]], ground: int = 235) -> np.ndarray:
    """Cut-outs on one opaque picture [size, size, 4]."""
    image = Image.new("RGBA", (size, size), (ground, ground, ground, 255))
    for picture, place in zip(pictures, places, strict=True):
        image.alpha_composite(Image.fromarray(picture), place)
    return np.asarray(image)


def distance(face: Face, places: np.ndarray) -> float:
    """Mean distance in pixels."""
    return float(np.hypot(*(face.points - places).T).mean())


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector.load()


@pytest.fixture(scope="module")
def cut_out() -> np.ndarray:
    return portrait(SEED, 256, background=False)[0]


class TestTheFace:
    @pytest.mark.parametrize(
        ("reason", "says"),
        [
            ("no_face", "mark its eyes"),
            ("one_colour", "#4678a0"),
            ("several_faces", "3 faces"),
            ("small_face", r"\d\.\d pixels apart, 12"),
            ("sideways", "90° to the right"),
        ],
    )
    def test_a_picture_without_one_face_is_refused(
        self, detector: FaceDetector, cut_out: np.ndarray, reason: str, says: str
    ) -> None:
        """Each kind of picture that cannot be animated gets its reason and its number."""
        clouds = np.random.default_rng(0).integers(0, 255, (6, 6, 4), np.uint8)
        tiny = np.asarray(Image.fromarray(cut_out).resize((48, 48), Image.Resampling.LANCZOS))
        pictures = {
            "no_face": np.asarray(Image.fromarray(clouds).resize((200, 200)).convert("RGB").convert("RGBA")),
            "one_colour": np.full((100, 100, 4), (70, 120, 160, 255), np.uint8),
            "several_faces": pasted([cut_out] * 3, 700, [(0, 100), (230, 400), (440, 50)]),
            "small_face": pasted([tiny], 256, [(100, 90)]),
            "sideways": np.ascontiguousarray(np.rot90(portrait()[0])),
        }
        with pytest.raises(BadFace, match=says) as caught:
            the_face(pictures[reason], detector)
        assert caught.value.reason == reason
        assert len(caught.value.faces) >= {"several_faces": 3, "small_face": 1}.get(reason, 0)

    @pytest.mark.parametrize(("turns", "says"), [(1, "to the right"), (2, "by 180°"), (3, "to the left")])
    def test_says_how_to_turn_a_picture(self, detector: FaceDetector, turns: int, says: str) -> None:
        """Characters turned by 90°, 180° and 270° are told from faceless pictures, and the way back is named."""
        named = 0
        for seed in range(SEED, SEED + 6):
            picture, _ = portrait(seed)
            with pytest.raises(BadFace) as caught:
                the_face(np.ascontiguousarray(np.rot90(picture, turns)), detector)
            named += caught.value.reason == "sideways" and says in str(caught.value)
        assert named >= 5

    def test_a_clear_picture_shows_nothing(self, detector: FaceDetector) -> None:
        """Whatever colours hide under full transparency."""
        clear = np.random.default_rng(0).integers(0, 255, (64, 64, 4), np.uint8)
        clear[..., 3] = 0
        with pytest.raises(BadFace, match="4096 pixels are transparent"):
            the_face(clear, detector)

    def test_bystanders_are_passed_over(self, detector: FaceDetector, cut_out: np.ndarray) -> None:
        """A face much smaller than the one in front does not make two."""
        small = np.asarray(Image.fromarray(cut_out).resize((120, 120), Image.Resampling.LANCZOS))
        large = np.asarray(Image.fromarray(cut_out).resize((500, 500), Image.Resampling.LANCZOS))
        picture = pasted([small, large], 640, [(5, 5), (120, 140)])
        assert the_face(picture, detector).eye_distance == pytest.approx(500 * 0.167, rel=0.15)

    def test_a_doubtful_second_face_is_none(self, detector: FaceDetector) -> None:
        """Every one of 12 characters is one face, whatever their hair looks like."""
        for seed in range(400, 412):
            picture, face = portrait(seed)
            assert distance(the_face(picture, detector), face.points) < 6


class TestMarks:
    def test_eyes_may_come_in_either_order(self) -> None:
        """The left one is the one on the picture's left."""
        face = marked([80, 50, 40, 52, 60, 85], 200, 200)
        assert face.eyes.tolist() == [[40, 52], [80, 50]]
        assert face.score == 1

    @pytest.mark.parametrize(
        ("points", "says"),
        [
            ([40, 50, 80, 50, 60], "not 5"),
            ([40, 50, 80, 50, 60, math.nan], "6 numbers"),
            ([40, 50, 230, 50, 60, 85], "second eye at 230, 50 is not inside the 200×150"),
            ([40, 50, 80, 50, 60, 151], "mouth at 60, 151"),
            ([-1, 50, 80, 50, 60, 100], "first eye at -1, 50"),
            ([40, 50, 45, 50, 42, 60], "5.0 pixels apart"),
            ([40, 50, 80, 50, 60, 20], "-0.75 eye distances below"),
            ([40, 20, 60, 20, 50, 140], "6.00 eye distances below"),
            ([40, 50, 80, 50, 110, 90], "1.25 eye distances off"),
            ([40, 50, 60, 100, 20, 100], "tilted by 6[0-9]°"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_cannot_be_a_face_is_refused(self, points: list[float], says: str) -> None:
        """Marks outside of the picture, too close, upside down, beside it or tilted: each with its number."""
        with pytest.raises(BadFace, match=says) as caught:
            marked(points, 200, 150)
        assert caught.value.reason == "bad_marks"


class TestAlignment:
    @pytest.mark.parametrize("background", [True, False], ids=["opaque", "cut-out"])
    def test_the_studios_own_pictures_stay_as_they_are(self, detector: FaceDetector, background: bool) -> None:
        """Found and aligned, a studio's picture lies where it lay: within two pixels of 256."""
        for seed in range(SEED, SEED + 5):
            picture, face = portrait(seed, 256, background)
            found = the_face(picture, detector)
            matrix = placement(picture, found, 256)
            assert distance(face.moved(matrix), 256 * PLACES) < 3
            corner = matrix[:, :2] @ [256, 256] + matrix[:, 2]
            assert np.abs(corner - 256).max() < 12, seed
            assert aligned(picture, found, 256).shape == (256, 256, 4)

    @pytest.mark.parametrize("size", [128, 256, 512])
    def test_brings_any_face_to_its_place(self, size: int) -> None:
        """Small, shifted and tilted, the face comes to lie within 4 % of the frame, and is only turned and scaled."""
        picture, face = portrait(background=False)
        rng = np.random.default_rng(0)
        for _ in range(12):
            matrix = similarity(rng.uniform(-0.4, 0.4), rng.uniform(0.3, 2.5), face.middle, rng.uniform(0, 600, 2))
            moved = face.moved(matrix)
            # What the picture shows besides plays a part in the scale alone.
            back = placement(picture, moved, size)
            assert distance(moved.moved(back), size * PLACES) < 0.04 * size
            turn = back[:, :2] / math.sqrt(np.linalg.det(back[:, :2]))
            assert turn @ turn.T == pytest.approx(np.eye(2), abs=1e-6)

    def test_the_scale_stays_in_its_bounds(self) -> None:
        """However little or much a picture shows, the face is 13 % smaller to 15 % larger than the studio's."""
        for shape, clear in (((60, 60), False), ((60, 60), True), ((2000, 1500), False), ((2000, 1500), True)):
            picture = np.full((*shape, 4), 255, np.uint8)
            if clear:
                picture[0, 0, 3] = 0
            middle = np.array([shape[1] / 2, shape[0] / 2])
            points = (middle + 200 * (PLACES - PLACES.mean(0))).astype(np.float32)
            matrix = placement(picture, Face(1.0, points[:2], points[2]), 256)
            scale = math.sqrt(np.linalg.det(matrix[:, :2])) * 200 / 256
            assert SCALES[0] - 1e-6 <= scale <= SCALES[1] + 1e-6
            assert scale != pytest.approx(1, abs=1e-3) or shape == (2000, 1500)

    def test_an_opaque_picture_goes_on_in_its_own_colours(self) -> None:
        """Beyond a picture there is neither transparency nor a black bar, but what its border shows."""
        picture = np.full((120, 120, 4), 255, np.uint8)
        picture[..., :3] = (250, 180, 90)
        picture[:, :40, :3] = (90, 200, 240)
        face = Face(1.0, np.array([[30, 50], [90, 50]], np.float32), np.array([60, 92], np.float32))
        out = aligned(picture, face, 256)
        assert (out[..., 3] == 255).all()
        assert out[..., :3].min() >= 80
        assert np.abs(out[128, 0, :3].astype(int) - (90, 200, 240)).max() < 12
        assert np.abs(out[128, -1, :3].astype(int) - (250, 180, 90)).max() < 12

    def test_a_tilted_opaque_picture_has_no_corners_missing(self) -> None:
        """Where a turn uncovers the frame's corners they are filled."""
        picture = np.full((300, 300, 4), 200, np.uint8)
        picture[..., 3] = 255
        eyes = np.array([[105, 110], [175, 150]], np.float32)
        out = aligned(picture, Face(1.0, eyes, np.array([115, 190], np.float32)), 256)
        assert (out[..., 3] == 255).all()
        assert np.abs(out[..., :3].astype(int) - 200).max() <= 2

    def test_beyond_a_cut_out_is_nothing(self, cut_out: np.ndarray) -> None:
        """What was transparent stays so, and colours hidden under transparency do not shine through."""
        loud = cut_out.copy()
        loud[loud[..., 3] == 0, :3] = (255, 0, 255)
        face = portrait()[1]
        out = aligned(loud, face, 256)
        assert out[4, 4, 3] == 0
        seen = out[out[..., 3] > 60][:, :3].astype(int)
        magenta = (seen[:, 0] > 230) & (seen[:, 1] < 40) & (seen[:, 2] > 230)
        assert magenta.mean() < 0.001

    def test_a_bust_goes_on_to_the_frames_edge(self, cut_out: np.ndarray) -> None:
        """A cut-out that its picture's lower edge cuts off does not float: the clothes go on downwards."""
        short = cut_out[:215]
        out = aligned(short, portrait()[1], 256)
        wide = (cut_out[214, :, 3] > 128).sum()
        assert (out[-1, :, 3] > 128).sum() == pytest.approx(wide, rel=0.25)

    def test_a_full_figure_is_cropped_to_its_bust(self, cut_out: np.ndarray) -> None:
        """A tall picture with the face near its top fills the frame with head and shoulders."""
        tall = np.zeros((900, 256, 4), np.uint8)
        tall[:256] = cut_out
        tall[256:] = cut_out[-1]
        face = portrait()[1]
        assert distance(placed(tall, face, 256), 256 * PLACES) < 4


class TestMask:
    def test_covers_what_the_studio_calls_face(self) -> None:
        """On 20 characters the ellipse is off by less than 0.04 a place in the mean, and is the same at any size."""
        off = []
        for seed in range(SEED, SEED + 20):
            with Rig(Character.from_seed(seed), 256, False) as rig:
                _, truth = rig.draw_with_truth(rest())
            shares = truth.face_mask.reshape(16, 16, 16, 16).mean((1, 3))
            off.append(np.abs(face_mask(face_of(truth)[0], 256) - shares).mean())
        assert np.mean(off) < 0.04
        large = face_mask(portrait(SEED, 512)[1], 512)
        assert large.shape == (32, 32)
        assert np.abs(large.reshape(16, 2, 16, 2).mean((1, 3)) - face_mask(portrait(SEED)[1], 256)).max() < 0.15

    def test_turns_with_the_face(self) -> None:
        """A face tilted to one side covers that side's places."""
        upright = Face(1.0, np.array([[100, 100], [160, 100]], np.float32), np.array([130, 160], np.float32))
        tilted = upright.moved(similarity(0.5, 1.0, upright.middle, upright.middle))
        there, back = face_mask(tilted, 256), face_mask(upright, 256)
        assert there.sum() == pytest.approx(back.sum(), rel=0.05)
        assert (there != back).any()
        flipped = np.array([[-1, 0, 2 * upright.middle[0]], [0, 1, 0]])
        other = tilted.moved(flipped)
        other = Face(1.0, other.eyes[::-1].copy(), other.mouth)
        assert not np.allclose(face_mask(other, 256), there)


class TestCharacters:
    def test_the_rig_takes_a_picture_without_a_face(self) -> None:
        """It moves a picture as a whole, so it asks for none, and no detector is loaded."""
        entry = Characters().from_picture(png(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)))
        assert entry.face is None
        assert entry.to_json()["face"] is False

    def test_the_neural_generator_is_given_the_face(self) -> None:
        """Its characters know where their face is."""
        picture, face = portrait()
        entry = Characters(needs_face=True).from_picture(png(picture))
        assert entry.face is not None
        assert distance(entry.face, face.points) < 5
        assert entry.to_json()["face"] is True

    def test_places_are_the_sent_pictures(self) -> None:
        """A picture that is kept smaller than it was sent is marked, and refused, in the pixels that it was sent in."""
        picture, face = portrait()
        large = np.asarray(Image.fromarray(picture).resize((2048, 2048), Image.Resampling.BICUBIC))
        pair = np.concatenate([large, large], 1)
        with pytest.raises(RequestError) as caught:
            Characters(needs_face=True).from_picture(png(pair))
        assert (caught.value.status, caught.value.reason) == (422, "several_faces")
        found = sorted(caught.value.more["faces"], key=lambda one: one["mouth"][0])
        assert len(found) == 2
        assert found[1]["mouth"] == pytest.approx(8 * face.mouth + [2048, 0], abs=60)
        marks = [v for point in (*found[1]["eyes"], found[1]["mouth"]) for v in point]
        entry = Characters(needs_face=True).from_picture(png(pair), marks=marks)
        assert entry.picture is not None and entry.face is not None
        assert entry.picture.shape == (1024, 2048, 4)
        assert entry.face.mouth == pytest.approx(4 * face.mouth + [1024, 0], abs=30)

    def test_other_marks_make_another_character(self) -> None:
        """One picture marked at two places is two characters; marked again at one, the same."""
        data = png(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
        store = Characters()
        marks = [40.0, 50.0, 80.0, 50.0, 60.0, 85.0]
        first, again = store.from_picture(data, marks=marks), store.from_picture(data, marks=marks)
        other = store.from_picture(data, marks=[v + 5 for v in marks])
        assert first.id == again.id != other.id
        assert store.from_picture(data).id not in (first.id, other.id)

    def test_a_photo_that_lies_on_its_side_by_its_own_word_is_upright(self) -> None:
        """The orientation that cameras write is followed, as browsers follow it; marks are in the upright picture."""
        picture, face = portrait()
        lying = Image.fromarray(picture).convert("RGB").transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # "turn me clockwise by 90°"
        stream = io.BytesIO()
        lying.save(stream, "JPEG", exif=exif, quality=92)
        entry = Characters(needs_face=True).from_picture(stream.getvalue())
        assert entry.face is not None
        assert distance(entry.face, face.points) < 5


@pytest.fixture(scope="module")
def strict(server: Any) -> Iterator[str]:
    """A server that takes only pictures with a face."""
    with type(server)() as running:
        running.state.characters.needs_face = True
        yield running.url


class TestServer:
    def test_refuses_and_then_takes_the_marks(self, strict: str, cut_out: np.ndarray) -> None:
        """The problem carries the faces that could be meant; marks on one of them make the character."""
        picture = png(pasted([cut_out] * 2, 520, [(0, 100), (260, 200)]))
        headers = {"Content-Type": "image/png"}
        url = f"{strict}/v1/characters"
        refused = httpx.post(url, content=picture, headers=headers, timeout=20)
        problem = refused.json()
        assert (refused.status_code, problem["reason"]) == (422, "several_faces")
        assert [sorted(face) for face in problem["faces"]] == [["box", "eyes", "mouth", "score"]] * 2
        chosen = problem["faces"][1]
        marks = {
            "eyes": ",".join(str(v) for eye in chosen["eyes"] for v in eye),
            "mouth": ",".join(map(str, chosen["mouth"])),
        }
        taken = httpx.post(url, content=picture, headers=headers, params=marks, timeout=20)
        assert taken.status_code == 201, taken.text
        assert taken.json()["face"] is True

    def test_refuses_marks_with_their_numbers(self, strict: str, cut_out: np.ndarray) -> None:
        """Marks outside of the picture are named."""
        answer = httpx.post(
            f"{strict}/v1/characters",
            content=png(cut_out),
            headers={"Content-Type": "image/png"},
            params={"eyes": "10,10,60,10", "mouth": "30,999"},
            timeout=20,
        )
        assert (answer.status_code, answer.json()["reason"]) == (422, "bad_marks")
        assert "30, 999" in answer.json()["detail"]

    async def test_the_python_client_sends_marks(self, strict: str) -> None:
        """A picture without a face becomes a character by marks; without them the client says why not."""
        clouds = png(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
        async with Client(strict) as client:
            with pytest.raises(ClientRefused, match="mark its eyes") as caught:
                await client.upload(clouds)
            assert caught.value.reason == "no_face"
            character = await client.upload(clouds, marks=[40, 50, 90.5, 50, 66, 90])
        assert character["face"] is True
