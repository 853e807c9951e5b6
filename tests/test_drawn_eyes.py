"""Eyes drawn by code are found, shut and turned as a drawing's are."""

import cv2
import numpy as np
import pytest

from streamer.base.image import enlarged
from streamer.studio.face_fit import POINTS, FaceFit
from streamer.studio.picture_rig.colours import read_colours
from streamer.studio.picture_rig.drawn_eyes import DrawnEyes, prepare_drawn_eyes
from streamer.studio.picture_rig.drawn_lids import DrawnEyePainter
from streamer.studio.picture_rig.framing import FRAME

SKIN, PUPIL, OUTLINE = (240, 190, 150), (30, 90, 40), (40, 20, 20)
CENTRES = ((196, 240), (316, 240))
MARGIN = 20


def drawn(kind: str) -> np.ndarray:
    """[FRAME, FRAME, 4] uint8: a face of one colour with eyes of that kind."""
    fine = 4
    image = np.full((fine * FRAME, fine * FRAME, 3), SKIN, np.uint8)

    def oval(x: float, y: float, wide: float, high: float, colour: tuple[int, int, int]) -> None:
        axes = round(fine * wide), round(fine * high)
        cv2.ellipse(image, (round(fine * x), round(fine * y)), axes, 0, 0, 360, colour, -1)

    for x, y in CENTRES:
        if kind == "oval":
            oval(x, y, 24, 30, OUTLINE)
            oval(x, y, 21, 27, (255, 255, 255))
            oval(x, y, 9, 11, PUPIL)
        elif kind == "dot":
            oval(x, y, 9, 11, PUPIL)
        elif kind == "anime":
            oval(x, y, 30, 24, OUTLINE)
            oval(x, y + 2, 28, 20, (250, 250, 255))
            oval(x, y + 2, 12, 18, PUPIL)
            oval(x - 4, y - 6, 4, 4, (255, 255, 255))
    image = cv2.resize(image, (FRAME, FRAME), interpolation=cv2.INTER_AREA)
    return np.dstack([image, np.full((FRAME, FRAME), 255, np.uint8)])


def fitted() -> FaceFit:
    """A mesh whose eyes lie a little beside those drawn."""
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    points = np.stack([256 + 150 * np.cos(angles), 270 + 180 * np.sin(angles), 0 * angles], 1).astype(np.float32)
    points[33, :2], points[263, :2] = (166, 246), (346, 246)
    around = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = np.stack([20 * np.cos(around), 6 * np.sin(around)], 1)
    middles = np.array(CENTRES) + [4, 7]
    lids = np.stack([middle + ring for middle in middles]).astype(np.float32)
    irises = np.repeat(middles[:, None], 5, 1).astype(np.float32)
    return FaceFit(points, lids, irises, style="drawing")


def found(image: np.ndarray) -> DrawnEyes | None:
    fit, rgb = fitted(), np.ascontiguousarray(image[..., :3])
    return prepare_drawn_eyes(rgb, fit.points, fit, read_colours(rgb, fit.points, fit.eye_distance, True), 1.0)


def painted(image: np.ndarray, blink: float = 0.0, gaze: tuple[float, float] = (0.0, 0.0), size: int = FRAME):
    eyes = found(image)
    assert eyes is not None
    still = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    texture = enlarged(cv2.copyMakeBorder(still, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REPLICATE))
    at = 2 * np.arange(MARGIN, MARGIN + size, dtype=np.float32)
    frame = still.copy()
    painter = DrawnEyePainter(eyes, texture, MARGIN, size)
    painter.paint(frame, np.stack(np.meshgrid(at, at), -1), np.zeros((2, 2)), (blink, blink), gaze)
    return still, frame


def like(image: np.ndarray, colour: tuple[int, int, int], levels: int = 60) -> np.ndarray:
    return np.abs(image[..., :3].astype(int) - colour).max(2) < levels


def middle(mask: np.ndarray) -> np.ndarray:
    """[2]: x, y of what is on the left half."""
    return np.argwhere(mask[:, : mask.shape[1] // 2]).mean(0)[::-1]


@pytest.mark.parametrize("kind", ["oval", "dot", "anime"])
def test_both_eyes_are_found_where_they_are_drawn(kind: str) -> None:
    """The mesh's eyes lie beside them."""
    eyes = found(drawn(kind))
    assert eyes is not None
    for eye, centre in zip(eyes.eyes, CENTRES, strict=True):
        assert eye is not None
        assert np.hypot(*(eye.origin - centre)) < 2


@pytest.mark.parametrize("kind", ["oval", "dot", "anime"])
@pytest.mark.parametrize("size", [128, 512, 1024])
def test_at_rest_the_picture_is_exact(kind: str, size: int) -> None:
    """Nothing is painted without a blink and a gaze."""
    still, frame = painted(drawn(kind), size=size)
    assert np.array_equal(still, frame)


@pytest.mark.parametrize("kind", ["oval", "anime"])
@pytest.mark.parametrize("size", [256, 512, 1024])
def test_a_shut_eye_shows_neither_pupil_nor_white(kind: str, size: int) -> None:
    """Only skin and the lid's line are left."""
    _, frame = painted(drawn(kind), blink=1.0, size=size)
    assert not like(frame, PUPIL, 25).any()
    assert frame[..., :3].min(2).max() < 200
    assert like(frame, OUTLINE).any()


def test_a_dot_shrinks_to_a_line() -> None:
    """It is lower by more than half, and about as wide as before."""
    still, frame = painted(drawn("dot"), blink=1.0)
    before, after = (like(image, PUPIL)[:, : FRAME // 2] for image in (still, frame))
    assert after.sum(0).max() < 0.5 * before.sum(0).max()
    assert 0.7 < after.any(0).sum() / before.any(0).sum() < 1.5


@pytest.mark.parametrize("kind", ["oval", "anime", "dot"])
@pytest.mark.parametrize("gaze", [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
def test_a_gaze_moves_the_pupil_that_way(kind: str, gaze: tuple[float, float]) -> None:
    """By more than a pixel, and nothing is left behind."""
    still, frame = painted(drawn(kind), gaze=gaze)
    before, after = (like(image, PUPIL, 30) for image in (still, frame))
    moved = middle(after) - middle(before)
    assert moved @ [gaze[0], -gaze[1]] > 0.6
    assert after.sum() < 1.1 * before.sum()


@pytest.mark.parametrize("gaze", [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
def test_a_pupil_stays_inside_its_white(gaze: tuple[float, float]) -> None:
    """The outline and the skin beyond it are the picture's own."""
    still, frame = painted(drawn("oval"), gaze=gaze)
    y, x = np.mgrid[:FRAME, :FRAME] + 0.5
    outside = np.ones((FRAME, FRAME), bool)
    for centre in CENTRES:
        outside &= ((x - centre[0]) / 23) ** 2 + ((y - centre[1]) / 29) ** 2 > 1
    assert np.abs(still.astype(int) - frame)[outside].max() <= 8


def test_alpha_is_left_as_it_is() -> None:
    """Painting changes colours alone."""
    still, frame = painted(drawn("anime"), blink=0.5, gaze=(0.5, 0.5))
    assert np.array_equal(still[..., 3], frame[..., 3])


def test_a_face_without_eyes_has_none() -> None:
    """A patch of skin is no eye, nor is one covered by something."""
    assert found(drawn("none")) is None


def test_shut_eyes_stay_shut() -> None:
    """Arcs have nothing to close."""
    image = drawn("none")
    for x, y in CENTRES:
        cv2.ellipse(image, (x, y), (22, 14), 0, 180, 360, (*OUTLINE, 255), 5, cv2.LINE_AA)
    assert found(image) is None
