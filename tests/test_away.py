"""What is shown while somebody is away."""

import numpy as np
import pytest

from streamer.avatar.characters import Characters
from streamer.avatar.rig_backend import RigBackend
from streamer.media.away_card import card, fitted


@pytest.fixture(scope="module")
def still() -> np.ndarray:
    return RigBackend().still(Characters().get("13"), 256, False)


class TestCard:
    def test_is_the_character_dimmed(self, still: np.ndarray) -> None:
        """Above the words it is the same picture, darker, as transparent as it was."""
        shown = card(still)
        assert shown.shape == still.shape and shown.dtype == np.uint8
        above = slice(0, 150)
        assert (shown[above, :, 3] == still[above, :, 3]).all()
        solid = still[above, :, 3] == 255
        bright, dim = (picture[above, :, :3][solid].astype(float).mean(-1) for picture in (still, shown))
        assert dim.mean() == pytest.approx(bright.mean() / 2, abs=8)
        assert np.corrcoef(bright, dim)[0, 1] > 0.95

    @pytest.mark.parametrize("size", [128, 256, 512])
    def test_says_so(self, size: int) -> None:
        """White words on a dark plate that nothing shines through, within the picture, on any ground."""
        shown = card(np.zeros((size, size, 4), np.uint8))
        rows, columns = np.nonzero(shown[..., 3] > 200)
        assert 0 < columns.min() and columns.max() < size - 1 and rows.max() < size - 1
        assert rows.min() > size / 2
        plate = shown[rows.min() : rows.max(), columns.min() : columns.max()]
        white = (plate[..., :3].min(-1) > 200).mean()
        assert 0.02 < white < 0.4

    def test_leaves_the_still_alone(self, still: np.ndarray) -> None:
        """It draws on a copy."""
        before = still.copy()
        card(still)
        assert (still == before).all()


class TestFitted:
    @pytest.mark.parametrize(("height", "width"), [(100, 400), (400, 100), (256, 256), (1000, 7)])
    def test_whole_and_in_the_middle(self, height: int, width: int) -> None:
        """The whole picture is there, as wide or as high as the square, with nothing beside it."""
        shown = fitted(np.full((height, width, 4), 255, np.uint8), 128)
        rows, columns = np.nonzero(shown[..., 3] > 127)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 128
        assert abs(rows.min() + rows.max() - 127) <= 1 and abs(columns.min() + columns.max() - 127) <= 1
        ratio = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
        assert ratio == pytest.approx(width / height, rel=0.1) or min(np.ptp(rows), np.ptp(columns)) < 3
