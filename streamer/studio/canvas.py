"""A thin ctypes layer over ThorVG, the vector rasteriser in the `thorvg-python` wheel.

The wheel's own wrapper sets argument types on every call, which costs more than the drawing. Here they are set once,
and `draw.sketch` passes whole paths as numpy memory. ctypes releases the GIL during each call.
"""

import ctypes
import functools
import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

CLOSE, MOVE, LINE, CUBIC = 0, 1, 2, 3
ROUND = 1  # for stroke caps and stroke joins
PREMULTIPLIED, STRAIGHT = 0, 2  # RGBA bytes, ThorVG's ABGR8888 and ABGR8888S
_LIBRARIES = {"win32": "thorvg-1.dll", "darwin": "libthorvg-1.dylib"}


class ColorStop(ctypes.Structure):
    """One stop of a gradient: offset 0..1 and straight RGBA."""

    _fields_ = [("offset", ctypes.c_float)] + [(c, ctypes.c_uint8) for c in "rgba"]


class DrawingError(RuntimeError):
    """ThorVG is missing or a call failed; the message contains its result code."""


def library_path() -> Path:
    """The wheel's shared library, located without importing its slow wrapper."""
    spec = importlib.util.find_spec("thorvg_python")
    if spec is None or not spec.submodule_search_locations:
        raise DrawingError("the package thorvg-python is not installed, and the studio draws with it")
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = folder / _LIBRARIES.get(sys.platform, "libthorvg-1.so")
    if not path.is_file():
        raise DrawingError(f"thorvg-python at {folder} does not contain {path.name}")
    return path


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {}

# ThorVG's canvases share scratch memory: rasterising in two threads at once crashes. Editing shapes is safe meanwhile.
_RASTERISER = threading.RLock()  # re-entrant: the garbage collector may close a canvas while another is drawn


def _declare() -> None:
    p, u8, u32, f = ctypes.c_void_p, ctypes.c_uint8, ctypes.c_uint32, ctypes.c_float
    result = ctypes.c_int
    _SIGNATURES.update(
        {
            "tvg_engine_init": (result, [ctypes.c_uint]),
            "tvg_swcanvas_create": (p, [u8]),
            "tvg_swcanvas_set_target": (result, [p, p, u32, u32, u32, ctypes.c_int]),
            "tvg_canvas_add": (result, [p, p]),
            "tvg_canvas_remove": (result, [p, p]),
            "tvg_canvas_update": (result, [p]),
            "tvg_canvas_draw": (result, [p, ctypes.c_bool]),
            "tvg_canvas_sync": (result, [p]),
            "tvg_canvas_destroy": (result, [p]),
            "tvg_scene_new": (p, []),
            "tvg_scene_add": (result, [p, p]),
            "tvg_scene_add_effect_gaussian_blur": (
                result,
                [p, ctypes.c_double, ctypes.c_int, ctypes.c_int, ctypes.c_int],
            ),
            "tvg_shape_new": (p, []),
            "tvg_shape_reset": (result, [p]),
            "tvg_shape_append_path": (result, [p, p, u32, p, u32]),
            "tvg_shape_set_fill_color": (result, [p, u8, u8, u8, u8]),
            "tvg_shape_set_fill_rule": (result, [p, u32]),
            "tvg_shape_set_gradient": (result, [p, p]),
            "tvg_shape_set_stroke_width": (result, [p, f]),
            "tvg_shape_set_stroke_color": (result, [p, u8, u8, u8, u8]),
            "tvg_shape_set_stroke_cap": (result, [p, u32]),
            "tvg_shape_set_stroke_join": (result, [p, u32]),
            "tvg_linear_gradient_new": (p, []),
            "tvg_radial_gradient_new": (p, []),
            "tvg_linear_gradient_set": (result, [p, f, f, f, f]),
            "tvg_radial_gradient_set": (result, [p, f, f, f, f, f, f]),
            "tvg_gradient_set_color_stops": (result, [p, ctypes.POINTER(ColorStop), u32]),
            "tvg_paint_set_clip": (result, [p, p]),
            "tvg_paint_set_opacity": (result, [p, u8]),
            "tvg_paint_set_visible": (result, [p, ctypes.c_bool]),
        }
    )


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library with its signatures set and its engine started, once per process."""
    lib = ctypes.CDLL(str(library_path()))
    if not _SIGNATURES:
        _declare()
    for name, (restype, argtypes) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = restype, argtypes
    check(lib.tvg_engine_init(0), "tvg_engine_init")
    return lib


def check(result: int, call: str) -> None:
    """Raises DrawingError for any result other than success."""
    if result != 0:
        raise DrawingError(f"{call} returned {result}")


def color_stops(stops: list[tuple[float, tuple[int, ...]]]) -> ctypes.Array[ColorStop]:
    """Gradient stops as ThorVG reads them, from (offset, (r, g, b) or (r, g, b, a)) pairs."""
    return (ColorStop * len(stops))(*(ColorStop(o, *(c if len(c) == 4 else (*c, 255))) for o, c in stops))


class Canvas:
    """A square raster target. `pixels` [S,S,4] uint8 RGBA belongs to the canvas and is overwritten by `draw`."""

    def __init__(self, size: int, straight: bool = False) -> None:
        self.lib = library()
        self.size = size
        self.pixels = np.zeros((size, size, 4), np.uint8)
        with _RASTERISER:
            self._canvas = self.lib.tvg_swcanvas_create(0)
        if not self._canvas:
            raise DrawingError("tvg_swcanvas_create returned nothing")
        check(
            self.lib.tvg_swcanvas_set_target(
                self._canvas, self.pixels.ctypes.data, size, size, size, STRAIGHT if straight else PREMULTIPLIED
            ),
            f"tvg_swcanvas_set_target with size {size}",
        )

    def add(self, paint: int) -> None:
        """Adds `paint` on top of the others; the canvas takes ownership."""
        check(self.lib.tvg_canvas_add(self._canvas, paint), "tvg_canvas_add")

    def draw(self, clear: bool = True) -> None:
        """Draws all paints into `pixels`; without `clear`, over the previous content."""
        if self._canvas is None:
            raise DrawingError("the canvas is closed")
        lib, canvas = self.lib, self._canvas
        with _RASTERISER:
            check(lib.tvg_canvas_update(canvas), "tvg_canvas_update")
            check(lib.tvg_canvas_draw(canvas, clear), "tvg_canvas_draw")
            check(lib.tvg_canvas_sync(canvas), "tvg_canvas_sync")

    def close(self) -> None:
        """Frees the canvas and its paints. Idempotent."""
        if self._canvas is not None:
            with _RASTERISER:
                self.lib.tvg_canvas_destroy(self._canvas)
            self._canvas = None

    def __enter__(self) -> "Canvas":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_canvas", None) is not None:
            self.close()
