"""The contact sheet and its command."""

import pytest
from PIL import Image

from streamer.cli import sheet


def test_a_sheet_has_a_cell_for_each_seed(tmp_path):
    """Rows and columns follow from the seeds; a file is written in the kind its name says."""
    sheet.draw_sheet(tmp_path / "s.png", seeds=range(5), size=64, columns=3, gap=4)
    with Image.open(tmp_path / "s.png") as image:
        assert image.size == (3 * 68 + 4, 2 * 68 + 4)
        assert image.getpixel((36, 36)) != image.getpixel((2, 2))
        assert image.getpixel((2 * 68 + 36, 68 + 36)) == (250, 250, 250)  # the sixth cell is empty


def test_the_command_draws_and_refuses(tmp_path, capsys):
    """`studio sheet OUT.png` writes a picture; an impossible one exits with 2 and says why."""
    assert sheet.main(["sheet", str(tmp_path / "o.jpg"), "--first", "3", "--count", "2", "--size", "64"]) == 0
    assert (tmp_path / "o.jpg").stat().st_size > 1000
    assert sheet.main(["sheet", str(tmp_path / "o.png"), "--count", "2", "--size", "7"]) == 2
    assert "7" in capsys.readouterr().err
    assert sheet.main(["sheet", str(tmp_path / "no" / "o.png"), "--count", "1", "--size", "64"]) == 2
    with pytest.raises(ValueError, match="0"):
        sheet.draw_sheet(tmp_path / "n.png", seeds=[])
