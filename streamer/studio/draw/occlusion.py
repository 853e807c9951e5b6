"""Which shape is in front at each pixel, and where the character's points are: dense, exact correspondence.

Every shape with an opaque fill or line is drawn once more in a colour of its own. A point is seen where its own shape
is in front. Points are the control points of the shapes, points between them, and the surface of the face; the n-th is
the same point of the character in every picture.

Letters used in shapes: Q points, S picture size in pixels.
"""

from collections.abc import Iterator

import numpy as np

from streamer.studio import canvas as cv
from streamer.studio.draw.sketch import Ink, Outline, Sketch

_BASE, _STEP = 9, 31  # digits of a shape's number in red, green and blue, far enough apart that no blend is another
_ACROSS, _LEVEL = (1 / 3, 2 / 3), (0.1, 0.3, 0.5, 0.7, 0.9)  # where on a chord points lie


class Occlusion:
    """Built for one sketch after its first picture, whose shapes decide which points lie between which."""

    def __init__(self, sketch: Sketch, surfaces: dict[int, slice]) -> None:
        """`surfaces`: further control points that lie on a shape, by the start of that shape's outline."""
        self._sketch, self._lib = sketch, sketch.canvas.lib
        self.canvas = cv.Canvas(sketch.size)
        self._shapes: list[tuple[Ink, int, int | None]] = []
        first, second, share, owner = [], [], [], []
        inks = [ink for ink in sketch.inks if ink.filled or ink.line]
        if len(inks) >= _BASE**3:
            raise ValueError(f"{len(inks)} opaque shapes, but only {_BASE**3 - 1} can be told apart")
        for number, ink in enumerate(inks, 1):
            self._add(ink, number)
            own = [(np.arange(ink.outline.points.start, ink.outline.points.stop),) * 2 + (0.0,)]
            if ink.filled and ink.outline.start in surfaces:
                surface = surfaces[ink.outline.start]
                own.append((np.arange(surface.start, surface.stop),) * 2 + (0.0,))
            elif ink.filled:
                own += [(a, b, t) for a, b, between in _chords(ink.outline, sketch) for t in between]
            for a, b, t in own:
                first.append(a)
                second.append(b)
                share.append(np.full(len(a), t))
                owner.append(np.full(len(a), number))
        self._first, self._second = np.concatenate(first), np.concatenate(second)
        self._share, self._owner = np.concatenate(share), np.concatenate(owner)

    def _add(self, ink: Ink, number: int) -> None:
        lib = self._lib
        shape, clip = lib.tvg_shape_new(), None
        red, green, blue = (_STEP * (number // _BASE**k % _BASE) for k in range(3))
        if ink.filled:
            lib.tvg_shape_set_fill_color(shape, red, green, blue, 255)
        if ink.line:
            lib.tvg_shape_set_stroke_width(shape, ink.line)
            lib.tvg_shape_set_stroke_color(shape, red, green, blue, 255)
            lib.tvg_shape_set_stroke_cap(shape, cv.ROUND)
            lib.tvg_shape_set_stroke_join(shape, cv.ROUND)
        if ink.clip is not None:
            clip = lib.tvg_shape_new()
            cv.check(lib.tvg_paint_set_clip(shape, clip), "tvg_paint_set_clip")
        self.canvas.add(shape)
        self._shapes.append((ink, shape, clip))

    def shapes(self) -> np.ndarray:
        """[S, S] int: the number of the shape in front in the last picture; 0 where none is, or more than one."""
        lib, sketch = self._lib, self._sketch
        for ink, shape, clip in self._shapes:
            lib.tvg_paint_set_visible(shape, ink.visible)
            for handle, outline in ((shape, ink.outline), (clip, ink.clip)):  # a clip without a path crashes ThorVG
                if handle is not None and outline is not None:
                    lib.tvg_shape_reset(handle)
                    curves = sketch.address + 8 * outline.start
                    lib.tvg_shape_append_path(handle, outline.address, outline.n_commands, curves, outline.count)
        self.canvas.draw()
        colour = self.canvas.pixels[..., :3].astype(int)
        digits, rest = np.divmod(colour, _STEP)
        pure = (rest == 0).all(-1) & (self.canvas.pixels[..., 3] == 255)
        number: np.ndarray = np.where(pure, digits @ np.array([1, _BASE, _BASE**2]), 0)
        return number

    def points(self) -> np.ndarray:
        """[Q, 3] float32: x, y in pixels of the sketch, and 1 if the point is seen in the last picture, else 0."""
        sketch, number = self._sketch, self.shapes()
        x, y = (v[self._first] + self._share * (v[self._second] - v[self._first]) for v in (sketch.x, sketch.y))
        size = sketch.size
        column, row = np.floor(x).astype(int), np.floor(y).astype(int)
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        padded = np.pad(number, 1)
        seen = np.zeros(len(x), bool)
        column, row = column.clip(0, size - 1), row.clip(0, size - 1)
        for down in (0, 1, 2):  # a point on an edge may be seen beside its pixel
            for across in (0, 1, 2):
                seen |= padded[row + down, column + across] == self._owner
        return np.stack([x, y, seen & inside], -1).astype(np.float32)

    def close(self) -> None:
        """Frees the canvas. Idempotent."""
        self.canvas.close()


def _paths(outline: Outline) -> Iterator[tuple[int, int]]:
    """First control point and number of each path."""
    start, commands = outline.points.start, outline.commands
    begins = np.flatnonzero(commands == cv.MOVE)
    for begin, end in zip(begins, [*begins[1:], len(commands)], strict=True):
        segments = int((commands[begin:end] == cv.CUBIC).sum())
        count = segments if commands[end - 1] == cv.CLOSE else segments + 1
        yield start, count
        start += count


def _chords(outline: Outline, sketch: Sketch) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Pairs of control points of one path between which the shape is filled, and where points lie between them: the
    nearest one across, and the one at the same height.
    """
    for start, count in _paths(outline):
        if count < 4:
            continue
        p = np.stack([sketch.x[start : start + count], sketch.y[start : start + count]], -1)
        across, down = np.abs(p[:, None] - p).transpose(2, 0, 1)
        apart = np.hypot(across, down)
        beside = np.abs(np.arange(count)[:, None] - np.arange(count))
        usable = (np.minimum(beside, count - beside) >= 2) & (apart > 1.0) & _inside((p[:, None] + p) / 2, p)
        broad = usable & (across > 0.08 * sketch.size)
        for allowed, cost, between in ((usable, apart, _ACROSS), (broad, down, _LEVEL)):
            best = np.where(allowed, cost, np.inf).argmin(1)
            found = np.flatnonzero(allowed[np.arange(count), best])
            if len(found):
                yield start + found, start + best[found], between


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Whether points [..., 2] lie in a polygon [n, 2], by the even-odd rule."""
    x, y = points[..., None, 0], points[..., None, 1]
    (ax, ay), (bx, by) = polygon.T, np.roll(polygon, -1, 0).T
    with np.errstate(divide="ignore", invalid="ignore"):
        at = ax + (y - ay) / (by - ay) * (bx - ax)
    crossings: np.ndarray = (((ay > y) != (by > y)) & (x < at)).sum(-1)
    return crossings % 2 == 1
