"""The layer over ThorVG: where the library is, and what a canvas refuses."""

import importlib.util

import numpy as np
import pytest

from streamer.studio import canvas


def test_the_library_is_the_wheel_s_own():
    """ThorVG is found inside the installed package, for whatever system this is."""
    path = canvas.library_path()
    assert path.is_file() and path.parent.name == "thorvg_python"


def test_a_missing_wheel_is_named(monkeypatch):
    """Without the package the error says which one to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(canvas.DrawingError, match="thorvg-python"):
        canvas.library_path()


def test_a_shape_is_painted_where_its_path_is_and_nowhere_else():
    """A filled square covers its pixels alone; without clearing, the former picture stays around it."""
    commands = np.array([canvas.MOVE, canvas.LINE, canvas.LINE, canvas.LINE, canvas.CLOSE], np.uint8)
    points = np.array([(8, 8), (24, 8), (24, 24), (8, 24)], np.float32)
    with canvas.Canvas(32) as paper:
        shape = paper.lib.tvg_shape_new()
        paper.lib.tvg_shape_append_path(shape, commands.ctypes.data, len(commands), points.ctypes.data, len(points))
        paper.lib.tvg_shape_set_fill_color(shape, 200, 100, 50, 255)
        paper.add(shape)
        paper.draw()
        assert (paper.pixels[8:24, 8:24] == (200, 100, 50, 255)).all()
        assert paper.pixels[:8].max() == 0 and paper.pixels[24:].max() == 0
        paper.pixels[...] = 77
        paper.draw(clear=False)
        assert (paper.pixels[0, 0] == 77).all() and (paper.pixels[16, 16] == (200, 100, 50, 255)).all()


def test_a_closed_canvas_says_so():
    """Closing twice is fine, drawing after it is an error."""
    paper = canvas.Canvas(8)
    paper.close()
    paper.close()
    with pytest.raises(canvas.DrawingError, match="closed"):
        paper.draw()
