"""The face detector: what it finds on characters it was never trained on, what it passes over, and its training."""

import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from streamer.faces.alignment import BadFace, the_face
from streamer.faces.decode import decode_picture
from streamer.faces.detector import CELL, TRAINED, WEIGHTS, Face, FaceDetector, distinct, inverse, peaks, similarity
from streamer.faces.finder import find_face
from streamer.faces.landmarks import Landmarker
from streamer.motion.controls import rest
from streamer.studio.character import Character
from streamer.studio.rig import Rig
from streamer.training import face as recipe
from streamer.training import face_views as views
from streamer.training.scribble import scribble

HELD_OUT = 400  # the first of the seeds drawn here: training takes none below scenes.FIRST_SEED


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector.load()


@pytest.fixture(scope="module")
def landmarker() -> Landmarker:
    return Landmarker.load()


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> views.Stock:
    """Held-out characters, cut out, and backgrounds."""
    return views.Stock(tmp_path_factory.mktemp("stock") / "stock.npz", 24, first_seed=HELD_OUT)


def portrait(seed: int, size: int = 256, background: bool = True) -> tuple[np.ndarray, Face]:
    with Rig(Character.from_seed(seed), size, background) as rig:
        image, truth = rig.draw_with_truth(rest())
        return image.copy(), views.face_of(truth)[0]


def error(found: Face, face: Face) -> float:
    """Mean distance of the three points, in eye distances."""
    return float(np.hypot(*(found.points - face.points).T).mean() / face.eye_distance)


class TestDetector:
    def test_finds_characters_that_it_was_never_trained_on(self, detector: FaceDetector) -> None:
        """At least 95 % of 60 held-out characters, at scales of 0.15 to 1.2 of the picture, within 4 % of its edge."""
        rng = np.random.default_rng(0)
        hits = []
        for i in range(60):
            edge = (192, 256, 384)[i % 3]
            picture, face = recipe.held_out(HELD_OUT + i, edge, rng)
            hits.append(recipe.hit(detector.detect(picture), face, edge))
        assert np.mean(hits) >= 0.95, f"{sum(hits)} of {len(hits)}"

    def test_is_exact_on_a_portrait(self, detector: FaceDetector) -> None:
        """On the studio's own portraits eyes and mouth are off by less than a tenth of the eyes' distance."""
        off = []
        for seed in range(HELD_OUT, HELD_OUT + 10):
            picture, face = portrait(seed)
            off.append(error(the_face(picture, detector), face))
        assert np.mean(off) < 0.1, off

    def test_finds_nothing_in_backgrounds(self, detector: FaceDetector, stock: views.Stock) -> None:
        """No face in 40 backgrounds: painted, cloudy, plain, with shapes, letters and pairs of dots on them."""
        rng = np.random.default_rng(1)
        for _ in range(40):
            empty = np.asarray(views.ground(stock, 256, rng).convert("RGBA"))
            assert detector.detect(empty) == []

    def test_a_head_without_features_is_none(self, detector: FaceDetector, stock: views.Stock) -> None:
        """Where features are painted over with skin there is no face, whatever hair is round it (brows may remain)."""
        heads = [views.erased(stock.cutout(i)).image.convert("RGBA") for i in range(len(stock.pictures))]
        assert sum(len(detector.detect(np.asarray(head))) for head in heads) <= 4
        whole = [stock.cutout(i).image.convert("RGBA") for i in range(len(stock.pictures))]
        assert sum(len(detector.detect(np.asarray(head))) for head in whole) >= 23

    @pytest.mark.parametrize("count", [2, 3])
    def test_finds_each_of_several(self, detector: FaceDetector, count: int) -> None:
        """Characters side by side are found one by one."""
        row = np.concatenate([portrait(HELD_OUT + i, 192)[0] for i in range(count)], 1)
        found = sorted(detector.detect(row), key=lambda face: face.middle[0])
        assert len(found) == count
        for i, face in enumerate(found):
            assert error(face, portrait(HELD_OUT + i, 192)[1].moved(np.array([[1, 0, 192 * i], [0, 1, 0]]))) < 0.15

    def test_a_mirrored_picture_gives_the_mirrored_face(self, detector: FaceDetector) -> None:
        """Left stays the viewer's left."""
        picture, face = portrait(HELD_OUT + 3)
        [found] = detector.detect(np.ascontiguousarray(picture[:, ::-1]))
        mirrored = face.points[[1, 0, 2]] * [-1, 1] + [256, 0]
        assert error(found, Face(1.0, mirrored[:2], mirrored[2])) < 0.1

    @pytest.mark.parametrize("wear", ["grey", "jpeg", "dark", "small", "cut-out"])
    def test_finds_it_worn_and_cut_out(self, detector: FaceDetector, wear: str) -> None:
        """Grey, badly compressed, dark, 64 pixels small and without background it is still the one face."""
        size = 64 if wear == "small" else 256
        for seed in range(HELD_OUT, HELD_OUT + 4):
            picture, face = portrait(seed, size, background=wear != "cut-out")
            image = Image.fromarray(picture)
            if wear == "grey":
                image = image.convert("L").convert("RGBA")
            elif wear == "jpeg":
                stream = io.BytesIO()
                image.convert("RGB").save(stream, "JPEG", quality=15)
                image = Image.open(stream).convert("RGBA")
            elif wear == "dark":
                image = image.convert("RGB").point(lambda v: v // 3).convert("RGBA")
            [found] = detector.detect(np.asarray(image))
            assert error(found, face) < 0.2, seed

    @pytest.mark.parametrize("shape", [(10, 10), (10, 10, 3), (4, 10, 10)], ids=str)
    def test_refuses_what_is_no_picture(self, detector: FaceDetector, shape: tuple[int, ...]) -> None:
        """The shape is named."""
        with pytest.raises(ValueError, match=str(shape[0])):
            detector.detect(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize("size", [(1, 1), (3, 700), (1024, 16)], ids=str)
    def test_takes_any_size(self, detector: FaceDetector, size: tuple[int, int]) -> None:
        """Pictures of odd shapes hold no face and break nothing."""
        assert detector.detect(np.full((*size, 4), 128, np.uint8)) == []


class TestForeignPictures:
    PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
    ROWS = re.findall(r"^\| (\S+\.(?:png|jpg|webp)) \| (\w+) \|", (PICTURES / "README.md").read_text(), re.M)

    @pytest.mark.parametrize(("name", "outcome"), ROWS, ids=[name for name, _ in ROWS])
    def test_the_documented_outcomes_hold(
        self, landmarker: Landmarker, detector: FaceDetector, name: str, outcome: str
    ) -> None:
        """What docs/pictures/README.md says of pictures that the studio did not draw is what happens."""
        picture = decode_picture((self.PICTURES / name).read_bytes()).pixels
        try:
            find_face(picture, landmarker, detector)
            assert outcome == "found"
        except BadFace as error:
            assert error.reason == outcome

    def test_each_picture_is_documented(self) -> None:
        """No picture without its source and licence; all together, with those made of them, at most 2 MB."""
        files = [path for path in self.PICTURES.rglob("*") if path.suffix in (".png", ".jpg", ".webp")]
        assert {path.name for path in files if path.parent == self.PICTURES} == {n for n, _ in self.ROWS} | {
            "overview.jpg"
        }
        assert sum(path.stat().st_size for path in files) <= 2e6

    def test_all_that_is_found_is_shown_talking_but_no_real_person(self) -> None:
        """Every drawing and every rendered person with a face has its frames; the photograph has none."""
        found = {name.partition(".")[0] for name, outcome in self.ROWS if outcome == "found"}
        shown = {path.stem for path in (self.PICTURES / "talking").iterdir()}
        assert shown == found - {"astronaut"}
        links = re.findall(r"\(talking/(\S+)\.webp\)", (self.PICTURES / "README.md").read_text())
        assert sorted(links) == sorted(shown)


class TestWeights:
    def test_missing(self, tmp_path: Path) -> None:
        """Weights that are not there are named."""
        with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
            FaceDetector.load(tmp_path / "none.onnx")

    def test_truncated(self, tmp_path: Path) -> None:
        """Half of the weights are none, and the error says how many bytes there were."""
        half = tmp_path / "half.onnx"
        half.write_bytes(WEIGHTS.read_bytes()[:1000])
        with pytest.raises(ValueError, match="1000 bytes"):
            FaceDetector.load(half)

    def test_of_another_network(self) -> None:
        """The articulation network is not mistaken for the detector."""
        with pytest.raises(ValueError, match="another network"):
            FaceDetector.load(WEIGHTS.with_name("articulation.onnx"))

    def test_are_small_and_described(self) -> None:
        """At most half a megabyte, with a card beside them."""
        assert WEIGHTS.stat().st_size <= 0.5e6
        assert "licence" in WEIGHTS.with_suffix(".md").read_text().lower()


class TestGeometry:
    @pytest.mark.parametrize("degrees", [-30, 0, 25])
    def test_roll_is_what_a_face_was_turned_by(self, degrees: float) -> None:
        """A face turned clockwise has a positive roll; turning and scaling back is the identity."""
        upright = Face(1.0, np.array([[40, 50], [80, 50]], np.float32), np.array([60, 85], np.float32))
        matrix = similarity(math.radians(degrees), 1.7, upright.middle, (10, 20))
        turned = upright.moved(matrix)
        assert math.degrees(turned.roll) == pytest.approx(degrees, abs=1e-3)
        assert turned.middle == pytest.approx([10, 20], abs=1e-4)
        assert turned.eye_distance == pytest.approx(1.7 * 40, rel=1e-5)
        assert turned.moved(inverse(matrix)).points == pytest.approx(upright.points, abs=1e-3)

    def test_of_two_on_one_place_the_likelier_stays(self) -> None:
        """Two levels of the pyramid that see one face give one."""
        eyes, mouth = np.array([[40, 50], [80, 50]], np.float32), np.array([60, 85], np.float32)
        faces = [Face(0.7, eyes, mouth), Face(0.9, eyes + 3, mouth + 3), Face(0.8, eyes + 100, mouth + 100)]
        assert [face.score for face in distinct(faces)] == [0.9, 0.8]


class TestTraining:
    def test_targets_read_as_the_faces_they_were_made_of(self, stock: views.Stock) -> None:
        """What the network is to say, read as its word would be, gives the view's faces back exactly."""
        rng, count = np.random.default_rng(3), 0
        for _ in range(20):
            seen = views.view(stock, 128, rng, TRAINED)
            wanted = recipe.targets(seen, 128)
            grid = np.concatenate([wanted[:1], 16 * wanted[1:7]])
            found = [face for face in peaks(grid) if face.score > 0.99]
            known = [face for face in seen.faces if TRAINED[0] <= face.eye_distance <= TRAINED[1]]
            assert len(found) >= len(known)
            for face in known:
                assert min(np.abs(one.points - face.points).max() for one in found) < 1e-3
            count += len(known)
        assert count >= 8

    def test_a_scribble_is_where_it_says(self) -> None:
        """Scribbled faces lie inside of their picture, the mouth below the eyes."""
        rng = np.random.default_rng(4)
        for _ in range(30):
            image, face = scribble(rng)
            assert image.mode == "RGBa"
            assert (face.points > 0).all() and (face.points < image.width).all()
            assert face.mouth[1] > face.eyes[:, 1].max()
            assert face.eyes[0, 0] < face.eyes[1, 0]

    def test_held_out_seeds_are_not_trained_on(self) -> None:
        """The measure refuses a seed that training may have drawn."""
        with pytest.raises(ValueError, match="100000"):
            recipe.held_out(100_000, 128, np.random.default_rng(0))

    def test_what_is_exported_says_what_was_trained(self, tmp_path: Path) -> None:
        """The ONNX file gives the network's own scores and places, to float16's rounding of the weights."""
        pytest.importorskip("onnx")
        torch.manual_seed(0)
        network = recipe.Network().eval()
        recipe.export(network, tmp_path / "face.onnx")
        pictures = np.random.default_rng(5).uniform(-1, 1, (2, 3, 64, 96)).astype(np.float32)
        said = FaceDetector.load(tmp_path / "face.onnx")._run(pictures)
        with torch.no_grad():
            wanted = recipe.Runtime(network)(torch.from_numpy(pictures)).numpy()
        assert said.shape == (2, 7, 64 // CELL, 96 // CELL)
        assert np.abs(said - wanted).max() < 0.02

    def test_training_continues_where_it_stopped(self, stock: views.Stock, tmp_path: Path) -> None:
        """A second run goes on from the first one's step, and the loss is finite and falls."""
        recipe.train(tmp_path, stock, minutes=10, steps=2, size=2)
        assert torch.load(tmp_path / "face.pt", weights_only=True)["step"] == 2
        recipe.train(tmp_path, stock, minutes=10, steps=4, size=2)
        assert torch.load(tmp_path / "face.pt", weights_only=True)["step"] == 4

    def test_learns_a_batch(self, stock: views.Stock) -> None:
        """A few steps on one batch halve its loss: gradients reach what they should."""
        torch.manual_seed(0)
        network = recipe.Network()
        pictures, wanted = recipe.batch(stock, 4, np.random.default_rng(6))
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
        course = []
        for _ in range(25):
            score, points = recipe.losses(network(pictures), wanted)
            (score + 2 * points).backward()
            optimizer.step()
            optimizer.zero_grad()
            course.append((score + 2 * points).item())
        assert course[-1] < 0.5 * course[0], course
