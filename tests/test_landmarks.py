"""Landmarks: where eyes, lids, irises and lips of a photograph are, however it is turned; none where none is."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from streamer.base.onnx import BadNetwork
from streamer.faces.landmarks import WEIGHTS, Landmarker, roll_of
from streamer.faces.pose import turned
from streamer.studio.face_fit import FaceFit

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
NETWORKS = ("face_detection_short_range", "face_detection_full_range", "face_mesh", "iris", "selfie_segmentation")


@cache
def landmarker() -> Landmarker:
    return Landmarker.load()


@cache
def astronaut() -> np.ndarray:
    """[448, 448, 4]: a photograph from the front, smiling."""
    return np.asarray(Image.open(PICTURES / "astronaut.jpg").convert("RGBA"))


@cache
def found() -> FaceFit:
    (fit,) = landmarker().find(astronaut())
    return fit


def off(fit: FaceFit, points: np.ndarray) -> float:
    """Mean distance of the landmarks from where they should be, in distances between the eyes."""
    return float(np.hypot(*(fit.points[:, :2] - points).T).mean()) / fit.eye_distance


class TestPhotograph:
    def test_points_are_where_the_face_is(self) -> None:
        """Pupils and the corners of the mouth are within 3 pixels of where a person sees them."""
        seen = [(177.8, 88.3), (216.3, 90.5), (178.5, 122), (213.5, 123)]
        ours = [*found().irises[:, 0], *found().points[[61, 291], :2]]
        assert np.hypot(*(np.array(ours) - seen).T).max() < 3, ours

    def test_parts_lie_where_a_face_has_them(self) -> None:
        """Lids surround the iris, the mouth is below the nose, the nose nearest to the camera, the score sure."""
        fit = found()
        for lids, iris in zip(fit.lids, fit.irises, strict=True):
            assert lids[0, 0] != lids[8, 0]
            assert cv2.pointPolygonTest(np.concatenate([lids[:9], lids[:8:-1]]), tuple(map(float, iris[0])), False) > 0
            assert lids[1:8, 1].mean() > lids[9:, 1].mean()
        assert fit.points[13, 1] > fit.points[1, 1] > fit.points[168, 1]
        assert fit.points[1, 2] < fit.points[[234, 454], 2].min()
        assert fit.score > 0.95
        assert abs(np.degrees(turned(fit)[0])) < 10

    def test_the_mirrored_picture_has_mirrored_eyes(self) -> None:
        """Lids and irises of both eyes come out alike, whichever of them the network is shown mirrored."""
        picture = np.ascontiguousarray(astronaut()[:, ::-1])
        (fit,) = landmarker().find(picture)
        width, size = picture.shape[1], fit.eye_distance
        lids, irises = fit.lids[::-1].copy(), fit.irises[::-1].copy()
        lids[..., 0], irises[..., 0] = width - lids[..., 0], width - irises[..., 0]
        assert np.abs(lids - found().lids).max() < 0.05 * size
        assert np.abs(irises[:, 0] - found().irises[:, 0]).max() < 0.03 * size

    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_a_turned_picture_has_the_same_face(self, turns: int) -> None:
        """On its side or its head, landmarks lie within 4 % of the eyes' distance of the upright ones."""
        picture = np.ascontiguousarray(np.rot90(astronaut(), turns))
        (fit,) = landmarker().find(picture)
        points = found().points[:, :2]
        height, width = astronaut().shape[:2]
        for _ in range(turns):
            points = np.column_stack([points[:, 1], width - points[:, 0]])
            width, height = height, width
        assert off(fit, points) < 0.04
        assert abs(np.angle(np.exp(1j * (roll_of(fit) - roll_of(found()) + turns * np.pi / 2)))) < 0.1

    def test_a_small_face_in_a_large_picture_is_found(self) -> None:
        """Eyes 16 pixels apart in 1600×1200 are found where they are."""
        x, y = np.meshgrid(np.linspace(0, 255, 1600), np.linspace(0, 200, 1200))
        large = np.dstack([x, y, (x + y) / 2, np.full_like(x, 255)]).astype(np.uint8)
        scale = 0.3
        small = cv2.resize(astronaut(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        large[700 : 700 + len(small), 1100 : 1100 + small.shape[1]] = small
        (fit,) = landmarker().find(large)
        assert off(fit, found().points[:, :2] * scale + [1100, 700]) < 0.08

    def test_a_cut_out_is_laid_on_a_ground(self) -> None:
        """What clear pixels hide does not count."""
        picture = astronaut().copy()
        hidden = np.ones(picture.shape[:2], bool)
        hidden[20:200, 120:300] = False
        picture[hidden] = (255, 0, 255, 0)
        (fit,) = landmarker().find(picture)
        assert off(fit, found().points[:, :2]) < 0.03


class TestRefusals:
    def test_a_picture_of_another_kind_is_refused(self) -> None:
        """Shape and type are named."""
        with pytest.raises(ValueError, match=r"\[4, 4, 3\] uint8"):
            landmarker().find(np.zeros((4, 4, 3), np.uint8))

    def test_nothing_is_found_where_nothing_is(self) -> None:
        """One pixel, one colour, one line."""
        for shape in ((1, 1), (300, 300), (1, 700)):
            assert landmarker().find(np.full((*shape, 4), 255, np.uint8)) == []

    def test_missing_and_foreign_weights_are_named(self, tmp_path: Path) -> None:
        """A folder without the networks, and one in which they are others."""
        with pytest.raises(FileNotFoundError, match="short-range"):
            Landmarker.load(tmp_path)
        for name in NETWORKS:
            (tmp_path / f"{name}.onnx").write_bytes((WEIGHTS / "iris.onnx").read_bytes())
        with pytest.raises(BadNetwork, match="it takes picture and gives eye, iris"):
            Landmarker.load(tmp_path)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_engines_read_the_networks(name: str) -> None:
    """OpenVINO in single precision gives what onnxruntime gives, for one picture and for three."""
    openvino = pytest.importorskip("openvino")
    import onnxruntime

    session = onnxruntime.InferenceSession(WEIGHTS / f"{name}.onnx", providers=["CPUExecutionProvider"])
    _, height, width, _ = session.get_inputs()[0].shape
    view = cv2.resize(astronaut()[..., :3], (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    pictures = np.stack([view, view[:, ::-1], 1 - view])
    outputs = [output.name for output in session.get_outputs()]
    ours = session.run(outputs, {"picture": pictures})
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(WEIGHTS / f"{name}.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    )
    theirs = compiled(pictures)
    for output, one in zip(outputs, ours, strict=True):
        assert len(one) == 3
        assert np.abs(theirs[output] - one).max() <= 2e-3 + 1e-4 * np.abs(one).max()
        alone = session.run([output], {"picture": pictures[1:2]})[0]
        assert np.abs(alone - one[1:2]).max() <= 1e-3 + 1e-4 * np.abs(one).max()
