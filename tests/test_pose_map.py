"""Key points become soft lines in eight channels, alike for few points and for many."""

import numpy as np
import pytest

from streamer.motion.controls import controls
from streamer.motion.pose_map import CHANNELS, DRAWN, LANDMARKS, layout, pose_map
from streamer.studio.character import Character
from streamer.studio.rig import KEYPOINTS, Rig
from streamer.training.clip import KEYPOINTS as PEOPLE_KEYPOINTS


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """[K, 3] of a drawn face whose key points are all visible."""
    with Rig(Character.from_traits({"hair": "bald"}), 256) as rig:
        found = rig.draw_with_truth(controls())[1].keypoints
    found[[not name.startswith("hand_") for name in KEYPOINTS], 2] = 1  # also the cheeks, which ears hide
    return found


def test_each_channel_is_where_its_feature_is(points: np.ndarray) -> None:
    """A channel's brightest cell holds one of its points; the chin is in the contour, the nose between the eyes."""
    where = layout(KEYPOINTS, DRAWN)
    made = pose_map(points, where, 256)
    assert made.shape == (8, 16, 16) and made.dtype == np.float32 and made.min() >= 0 and made.max() <= 1
    for channel, picture in zip(CHANNELS, made, strict=True):
        cell = np.unravel_index(picture.argmax(), picture.shape)
        names = {name for path in DRAWN[channel] for name in path}
        mine = points[[KEYPOINTS.index(name) for name in names], :2] / 16
        assert picture.max() > 0.5, channel
        assert np.hypot(mine[:, 0] - cell[1] - 0.5, mine[:, 1] - cell[0] - 0.5).min() < 2.5, channel
        assert 0.002 < (picture > 0.5).mean() < 0.25, channel
    x, y = (points[KEYPOINTS.index("chin"), :2] / 16).astype(int)
    assert made[CHANNELS.index("contour"), y, x] > 0.5 > made[CHANNELS.index("eyes"), y, x]


@pytest.mark.parametrize("edge", [1, 7, 16, 64])
def test_a_map_of_any_edge_shows_the_same(points: np.ndarray, edge: int) -> None:
    """Points in a picture of twice the size give the same map; a finer map averages to a coarser one, nearly."""
    where = layout(KEYPOINTS, DRAWN)
    made = pose_map(points, where, 256, edge)
    np.testing.assert_allclose(made, pose_map(points * (2, 2, 1), where, 512, edge), atol=1e-6)
    if edge > 1:
        fine = pose_map(points, where, 256, 4 * edge).reshape(8, edge, 4, edge, 4).mean((2, 4))
        assert np.abs(fine - made).max() < {7: 0.5, 16: 0.18, 64: 0.05}[edge]


def test_invisible_points_leave_nothing(points: np.ndarray) -> None:
    """Without visible points the map is empty; a hidden iris leaves the other one, a hidden chin breaks the contour."""
    where = layout(KEYPOINTS, DRAWN)
    hidden = points * (1, 1, 0)
    assert not pose_map(hidden, where, 256).any()
    some = points.copy()
    some[[KEYPOINTS.index("iris_left"), KEYPOINTS.index("chin")], 2] = 0
    whole, made = pose_map(points, where, 256), pose_map(some, where, 256)
    assert (made <= whole + 1e-6).all()
    irises = made[CHANNELS.index("irises")]
    assert irises[:, :8].max() < 0.2 < irises[:, 8:].max()
    x, y = (points[KEYPOINTS.index("chin"), :2] / 16).astype(int)
    assert made[CHANNELS.index("contour"), y, x] < whole[CHANNELS.index("contour"), y, x]
    untouched = [k for k, name in enumerate(CHANNELS) if name not in ("irises", "contour")]
    np.testing.assert_array_equal(made[untouched], whole[untouched])


def test_a_mesh_of_a_face_gives_the_drawn_face_s_map(points: np.ndarray) -> None:
    """Landmarks put where the drawn face's lines run give nearly the same map, although there are many more of them."""
    mesh = np.zeros((len(PEOPLE_KEYPOINTS), 3), np.float32)
    index = {name: k for k, name in enumerate(PEOPLE_KEYPOINTS)}
    for channel in CHANNELS:
        for drawn, dense in zip(DRAWN[channel], LANDMARKS[channel], strict=True):
            path = points[[KEYPOINTS.index(name) for name in drawn]]
            along = np.r_[0, np.hypot(*np.diff(path[:, :2], axis=0).T).cumsum()]
            for name, at in zip(dense, np.linspace(0, along[-1], len(dense)), strict=True):
                mesh[index[name]] = [np.interp(at, along, path[:, k]) for k in range(2)] + [1.0]
    few = pose_map(points, layout(KEYPOINTS, DRAWN), 256)
    many = pose_map(mesh, layout(PEOPLE_KEYPOINTS, LANDMARKS), 256)
    for k, channel in enumerate(CHANNELS):
        assert np.corrcoef(few[k].ravel(), many[k].ravel())[0, 1] > 0.9, channel


def test_wrong_points_are_refused() -> None:
    """Another number of points, NaN, an unknown name or an edge of 0 is an error with its numbers."""
    where = layout(KEYPOINTS, DRAWN)
    with pytest.raises(ValueError, match="5, 3"):
        pose_map(np.zeros((5, 3)), where, 256)
    with pytest.raises(ValueError, match="not finite"):
        pose_map(np.full((len(KEYPOINTS), 3), np.nan), where, 256)
    with pytest.raises(ValueError, match="above 0"):
        pose_map(np.zeros((len(KEYPOINTS), 3)), where, 256, 0)
    with pytest.raises(ValueError, match="are not among"):
        layout(KEYPOINTS, LANDMARKS)
