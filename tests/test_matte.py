"""Mattes: what is the person, what is not, and an edge without the background's colour."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from streamer.faces.landmarks import Landmarker
from streamer.faces.matte import Matting, cut_out, matte
from streamer.studio.face_fit import FaceFit

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"


@cache
def landmarker() -> Landmarker:
    return Landmarker.load()


@cache
def portrait() -> np.ndarray:
    """[448, 448, 4]: a photograph with things in the background."""
    return np.asarray(Image.open(PICTURES / "astronaut.jpg").convert("RGBA"))


@cache
def found() -> FaceFit:
    return landmarker().find(portrait())[0]


@cache
def shown() -> np.ndarray:
    return matte(portrait(), found())


def test_face_hair_and_shoulders_are_the_person() -> None:
    """Hair and collar are, and all of the face but its rim; wall, flag and the model of a rocket are none of it."""
    face = cv2.fillConvexPoly(np.zeros((448, 448), np.uint8), cv2.convexHull(found().points[:, :2].astype(np.int32)), 1)
    assert shown()[cv2.erode(face, np.ones((7, 7), np.uint8)) > 0].min() == 255
    assert shown()[25:45, 180:230].min() > 240  # hair above the forehead
    assert shown()[200:290, 130:260].mean() > 240  # the suit's collar
    for clear in (shown()[:100, :90], shown()[:150, 300:], shown()[120:180, 260:300]):
        assert clear.mean() < 8


def test_the_edge_is_narrow() -> None:
    """Between head and wall the matte goes from 0 to 255 within 12 pixels on average, and is not a staircase."""
    rows = shown()[40:90].astype(int)
    part = ((rows > 12) & (rows < 243)).sum(1)
    assert 1 <= part.mean() / 2 <= 12


def test_another_person_is_not_the_person() -> None:
    """Of two people beside each other only the one of the face stays."""
    gap = np.full((448, 160, 4), (150, 148, 152, 255), np.uint8)
    head = portrait().copy()
    head[:, :100] = (150, 148, 152, 255)
    head[:, 270:] = (150, 148, 152, 255)
    both = np.hstack([head, gap, head])
    for fit in landmarker().find(both):
        alone = matte(both, fit)
        left, right = alone[20:150, :448], alone[20:150, 608:]
        mine, other = (left, right) if fit.points[1, 0] < 448 else (right, left)
        assert mine.mean() > 45
        assert other.mean() < 2


def test_a_large_picture_keeps_its_size() -> None:
    """What is worked at smaller comes back at the picture's own edges, saying the same."""
    large = cv2.resize(portrait(), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    large[..., 3] = 255
    again = matte(large, found().moved(np.array([[3.0, 0, 0], [0, 3.0, 0]])))
    assert again.shape == (1344, 1344)
    small = cv2.resize(again, (448, 448), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - shown())[:200].mean() < 8


def test_a_cut_out_keeps_its_own_alpha() -> None:
    """A picture that is clear somewhere is not cut out anew."""
    clear = portrait().copy()
    clear[:, :100, 3] = 0
    assert np.array_equal(matte(clear, found()), clear[..., 3])


def test_the_edge_of_a_cut_out_has_the_persons_colours() -> None:
    """A red disc blended into green comes out red at the edge too, and is as it was inside."""
    y, x = np.mgrid[0:128, 0:128] + 0.5
    alpha = np.clip((40 - np.hypot(x - 64, y - 64)) / 8 + 0.5, 0, 1)
    red, green = np.array([200.0, 40, 30]), np.array([30.0, 180, 60])
    mixed = alpha[..., None] * red + (1 - alpha[..., None]) * green
    picture = np.dstack([mixed + 0.5, np.full_like(x, 255)]).astype(np.uint8)
    cut = cut_out(picture, (alpha * 255 + 0.5).astype(np.uint8))
    edge = (alpha > 0.05) & (alpha < 0.95)
    assert np.abs(cut[edge][:, :3] - red).max() < 12
    assert np.array_equal(cut[60:68, 60:68, :3], picture[60:68, 60:68, :3])


def test_a_matte_of_another_size_is_refused() -> None:
    """Both sizes are named."""
    with pytest.raises(ValueError, match=r"\[3, 3\] does not fit a picture of \[4, 4\]"):
        cut_out(np.zeros((4, 4, 4), np.uint8), np.zeros((3, 3), np.uint8))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    """The path is in the reason."""
    with pytest.raises(FileNotFoundError, match="none.onnx"):
        Matting.load(tmp_path / "none.onnx")
