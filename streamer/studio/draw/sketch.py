"""A retained vector picture with movable control points, on which every part of a character is drawn.

Letters used in shapes: N control points, F points of the rasteriser's curves, S picture size in pixels.

Parts describe themselves once, in rest space: the unit is the width of a face, x to the viewer's right, y down, z
towards the viewer, the head's centre at 0. A frame then moves all control points at once (numpy, no loop), converts
them to cubic curves at once, and passes each shape its slice. Parts that change otherwise (mouth, eyes, hands) write
their own control points beforehand, in an `animate` callback.

Curves pass through their control points (Catmull-Rom). A point given twice in a row is a sharp corner.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamer.motion.controls import INDEX
from streamer.studio import canvas as cv
from streamer.studio.draw.skin import Hanging, Points, Skin, Sliding, head, points3, ramp
from streamer.studio.dynamics import Feelings, Latches, Loose, Part, Pendulums

Color = tuple[int, ...]  # (r, g, b) or (r, g, b, a), 0..255
Stops = list[tuple[float, Color]]

UNIT = 0.352  # of the picture's height
CENTRE = (0.5, 0.425)  # of the picture: position of the head's centre at rest
PIVOT_Y, PIVOT_Z = 0.52, -0.12  # the joint the head turns about
PERSPECTIVE = 0.11
FELT_Z = 0.35  # loose parts feel a turn of the head as if they were fixed this far in front of where they are

FACE, EAR, HAND, COVER = "face", "ear", "hand", "cover"
LABEL_COLORS: dict[str, Color] = {FACE: (255, 0, 0), EAR: (255, 0, 255), HAND: (0, 255, 0), COVER: (0, 0, 255)}


@dataclass(frozen=True)
class Linear:
    """A gradient between two control points."""

    start: Sequence[float]
    end: Sequence[float]
    stops: Stops


@dataclass(frozen=True)
class Radial:
    """A gradient about a control point, out to the distance of a second one."""

    centre: Sequence[float]
    edge: Sequence[float]
    stops: Stops


Fill = Color | Linear | Radial


@dataclass
class Outline:
    """Paths over consecutive control points: `points` of the sketch, `start`..`start+count` as the rasteriser reads."""

    points: slice
    start: int
    count: int
    commands: np.ndarray
    skin: Skin

    def __post_init__(self) -> None:
        self.address, self.n_commands = self.commands.ctypes.data, len(self.commands)


@dataclass
class Ink:
    """One drawn shape, and its gradient's two control points."""

    shape: int
    outline: Outline
    gradient: tuple[bool, int, Any, int] | None = None  # radial?, first of two control points, stops, their number
    visible: bool = True
    filled: bool = False  # with an opaque colour, so that it hides what is behind it
    line: float = 0.0  # width in pixels of an opaque line
    clip: Outline | None = None


@dataclass
class Stroke:
    """A shape to be drawn later, for parts that need each other before they are drawn."""

    paths: list[Points]
    fill: Fill | None = None
    line: Color | None = None
    width: float = 0.0
    closed: bool = True
    skin: Skin | None = None
    label: str | None = None
    casts: bool = False
    parts: Sequence[Part | None] = ()
    """The loose part of each path, if they differ; without it all paths follow the skin."""
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Moment:
    """A frame as seen by an `animate` callback: controls by name, latches, and marks of emotion."""

    controls: np.ndarray
    latches: Latches
    feelings: Feelings

    def __getitem__(self, name: str) -> float:
        return float(self.controls[INDEX[name]])


class Sketch:
    """The picture. Build it once (`outline`, `paint`, `group`, `animate`, `finish`), then `draw` frames."""

    def __init__(self, size: int, straight: bool = False) -> None:
        self.size, self.unit = size, UNIT * size
        self.canvas, self.truth_canvas = cv.Canvas(size, straight), cv.Canvas(size)
        self._lib = self.canvas.lib
        self._scenes: list[int] = []
        self._clips: list[Outline | None] = []
        self.inks: list[Ink] = []
        self._labelled: list[tuple[Ink, Ink]] = []  # (label shape, the ink it follows)
        self._callbacks: list[Callable[[Moment], None]] = []
        self._rest: list[np.ndarray] = []
        self._weight: list[np.ndarray] = []
        self._sway: list[np.ndarray] = []
        self._parts: dict[Part, int] = {}
        self._loose: list[tuple[slice, int]] = []
        self._sliding: list[tuple[slice, Sliding]] = []
        self.latches, self.feelings = Latches(), Feelings()
        self._n = self._f = 0
        self._gather: list[tuple[int, int, int, float]] = []
        self._finished = False

    # Building -------------------------------------------------------------------------------------------------------

    def place(self, points: Points, skin: Skin = head) -> slice:
        """Registers control points and returns their slice of `rest`."""
        p = points3(points)
        weight, sway = skin(p)
        self._rest.append(p)
        self._weight.append(np.broadcast_to(weight, len(p)))
        self._sway.append(np.broadcast_to(sway, len(p)))
        self._n += len(p)
        placed = slice(self._n - len(p), self._n)
        if isinstance(skin, Hanging) and skin.part is not None:
            self._loose.append((placed, self._parts.setdefault(skin.part, len(self._parts))))
        elif isinstance(skin, Sliding):
            self._sliding.append((placed, skin))
        return placed

    def outline(
        self,
        paths: Sequence[Points] | Points,
        skin: Skin = head,
        closed: bool = True,
        parts: Sequence[Part | None] = (),
    ) -> Outline:
        """An outline of one path (a list of points) or several (a list of such lists, each perhaps of a loose part)."""
        several = [paths] if np.isscalar(paths[0][0]) else list(paths)
        first, start, commands = self._n, self._f, []
        for number, path in enumerate(several):
            p = points3(path)
            corner, keep = np.zeros(len(p), bool), np.ones(len(p), bool)
            for i in range(1, len(p)):
                if np.array_equal(p[i], p[i - 1]):
                    keep[i], corner[i - 1] = False, True
            p, corner = p[keep], corner[keep]
            own = Hanging(skin, parts[number]) if parts else skin
            base = self.place(p, own).start
            commands += self._curves(base, len(p), corner, closed)
        return Outline(slice(first, self._n), start, self._f - start, np.array(commands, np.uint8), skin)

    def blank(self, *counts: int, closed: bool = True, corners: Sequence[int] = (), skin: Skin = head) -> Outline:
        """An outline of paths with these numbers of points, written by an `animate` callback; `corners` are sharp."""
        first, start, commands = self._n, self._f, []
        for n in counts:
            corner = np.zeros(n, bool)
            corner[list(corners)] = True
            base = self.place(np.zeros((n, 3)), skin).start
            commands += self._curves(base, n, corner, closed)
        return Outline(slice(first, self._n), start, self._f - start, np.array(commands, np.uint8), skin)

    def _curves(self, base: int, n: int, corner: np.ndarray, closed: bool) -> list[int]:
        """Coefficients of all points, f = x[i] + k (x[j] - x[m]), so that a frame's curves are one numpy expression."""

        def at(i: int) -> int:
            return base + i % n

        self._gather.append((base, base, base, 0.0))
        for i in range(n if closed else n - 1):
            b, d = at(i), at(i + 1)
            sharp_b = corner[i % n] or (not closed and i == 0)
            sharp_d = corner[(i + 1) % n] or (not closed and i == n - 2)
            self._gather.append((b, d, b, 1 / 3) if sharp_b else (b, d, at(i - 1), 1 / 6))
            self._gather.append((d, b, d, 1 / 3) if sharp_d else (d, b, at(i + 2), 1 / 6))
            self._gather.append((d, d, d, 0.0))
        segments = n if closed else n - 1
        self._f += 1 + 3 * segments
        return [cv.MOVE] + [cv.CUBIC] * segments + ([cv.CLOSE] if closed else [])

    def paint(
        self,
        outline: Outline,
        fill: Fill | None = None,
        line: Color | None = None,
        width: float = 0.0,
        label: str | None = None,
        even_odd: bool = False,
        least: float = 0.0,
    ) -> Ink:
        """Draws an outline on top. `width` in units, but at least `least` pixels."""
        lib = self._lib
        shape = lib.tvg_shape_new()
        ink = Ink(shape, outline)
        if isinstance(fill, (Linear, Radial)):
            radial = isinstance(fill, Radial)
            ends = (fill.centre, fill.edge) if isinstance(fill, Radial) else (fill.start, fill.end)
            skin = outline.skin
            if isinstance(skin, Hanging) and not skin.gradient:
                skin = skin.skin
            ink.gradient = (
                radial,
                self.place(list(ends), skin).start,
                cv.color_stops(fill.stops),
                len(fill.stops),
            )
        elif fill is not None:
            lib.tvg_shape_set_fill_color(shape, *_rgba(fill))
        if even_odd:
            lib.tvg_shape_set_fill_rule(shape, 1)
        if line is not None:
            self._stroke(shape, width, line, least)
        ink.filled, ink.clip = _opaque(fill), next((clip for clip in reversed(self._clips) if clip), None)
        ink.line = max(width * self.unit, least) if _opaque(line) else 0.0
        if self._scenes:
            cv.check(lib.tvg_scene_add(self._scenes[-1], shape), "tvg_scene_add")
        else:
            self.canvas.add(shape)
        self.inks.append(ink)
        if label is not None and not self._scenes:
            mark = lib.tvg_shape_new()
            color = LABEL_COLORS[label]
            if fill is not None:
                lib.tvg_shape_set_fill_color(mark, *_rgba(color))
            if line is not None:
                self._stroke(mark, width, color, least)
            self.truth_canvas.add(mark)
            self._labelled.append((Ink(mark, outline), ink))
        return ink

    def _stroke(self, shape: int, width: float, color: Color, least: float) -> None:
        self._lib.tvg_shape_set_stroke_width(shape, max(width * self.unit, least))
        self._lib.tvg_shape_set_stroke_color(shape, *_rgba(color))
        self._lib.tvg_shape_set_stroke_cap(shape, cv.ROUND)
        self._lib.tvg_shape_set_stroke_join(shape, cv.ROUND)

    def draw_stroke(self, stroke: Stroke, skin: Skin = head) -> Ink:
        """Paints a deferred stroke."""
        outline = self.outline(stroke.paths, stroke.skin or skin, stroke.closed, stroke.parts)
        return self.paint(outline, stroke.fill, stroke.line, stroke.width, stroke.label, **stroke.more)

    @contextmanager
    def group(self, clip: Outline | None = None, opacity: float = 1.0) -> Iterator[int]:
        """Groups what is painted inside: clipped to `clip`, faded by `opacity`. Yields the group's handle."""
        lib = self._lib
        scene = lib.tvg_scene_new()
        if clip is not None:
            cutter = lib.tvg_shape_new()
            cv.check(lib.tvg_paint_set_clip(scene, cutter), "tvg_paint_set_clip")
            self.inks.append(Ink(cutter, clip))
        if opacity < 1.0:
            lib.tvg_paint_set_opacity(scene, round(255 * opacity))
        self._scenes.append(scene)
        self._clips.append(clip)
        yield scene
        self._scenes.pop()
        self._clips.pop()
        if self._scenes:
            cv.check(lib.tvg_scene_add(self._scenes[-1], scene), "tvg_scene_add")
        else:
            self.canvas.add(scene)

    def animate(self, callback: Callable[[Moment], None]) -> None:
        """Registers a callback that runs before each frame; it may write `rest` and call `show` and `fade`."""
        self._callbacks.append(callback)

    def finish(self, rng: np.random.Generator) -> None:
        """Ends building: from now on callbacks may write `rest` [N,3]. `rng` varies how the loose parts swing."""
        self.rest = np.concatenate(self._rest)
        self.weight = np.concatenate(self._weight)
        self.sway = np.concatenate(self._sway)
        gather = np.array(self._gather, np.float64)
        self._i, self._j, self._m = (np.ascontiguousarray(gather[:, k]).astype(np.intp) for k in range(3))
        self._k = np.ascontiguousarray(gather[:, 3])
        self._flat = np.zeros((self._f, 2), np.float32)
        self.address = self._flat.ctypes.data  # of the rasteriser's points of the last picture
        self.x, self.y = np.zeros(self._n), np.zeros(self._n)
        # Motion of the torso, from the rest pose: it does not change when callbacks write other points.
        r = self.rest
        self._shoulder = ramp(np.abs(r[:, 0]), 0.25, 0.55) * ramp(r[:, 1], 2.2, 1.1)
        self._chest = ramp(r[:, 1], 1.9, 1.0) * (r[:, 1] != 0)
        self._build_dynamics(rng)
        self._finished = True

    def _build_dynamics(self, rng: np.random.Generator) -> None:
        parts = list(self._parts)
        index = [np.arange(placed.start, placed.stop) for placed, _ in self._loose]
        owner = [np.full(placed.stop - placed.start, part) for placed, part in self._loose]
        points = np.concatenate(index) if index else np.zeros(0, int)
        part = np.concatenate(owner) if owner else np.zeros(0, int)
        self.pendulums = Pendulums(parts, rng)
        self._swung = Loose(parts, points, part, self.rest[points], self.sway[points])
        self._slides = [(placed, skin.latch, skin.offset(self.rest[placed])) for placed, skin in self._sliding]
        p = self._anchors = np.array([each.anchor for each in parts], float).reshape(-1, 3)
        p[:, 2] = np.maximum(p[:, 2], 0.0) + FELT_Z
        self._anchor_skin = (
            np.array([each.weight for each in parts], float),
            np.zeros(len(parts)),
            ramp(np.abs(p[:, 0]), 0.25, 0.55) * ramp(p[:, 1], 2.2, 1.1),
            ramp(p[:, 1], 1.9, 1.0),
        )

    # Time -----------------------------------------------------------------------------------------------------------

    def advance(self, controls: np.ndarray, dt: float) -> None:
        """Lets `dt` seconds pass, at whose end the controls are these [C]. Draws nothing."""
        now = Moment(controls, self.latches, self.feelings)
        self.latches.step(controls, dt)
        self.feelings.step(dt)
        if len(self._anchors):
            x, y = self.project(self._anchors, *self._anchor_skin, now)
            self.pendulums.step(x / self.unit, y / self.unit, now["roll"], dt)

    # Drawing --------------------------------------------------------------------------------------------------------

    def show(self, ink: Ink, visible: bool) -> None:
        """Shows or hides a shape from the next frame on."""
        if ink.visible != visible:
            ink.visible = visible
            self._lib.tvg_paint_set_visible(ink.shape, visible)
            for mark, followed in self._labelled:
                if followed is ink:
                    mark.visible = visible
                    self._lib.tvg_paint_set_visible(mark.shape, visible)

    def fade(self, handle: int, opacity: float) -> None:
        """Opacity 0..1 of a shape or group."""
        self._lib.tvg_paint_set_opacity(handle, round(255 * min(1.0, max(0.0, opacity))))

    def move(self, controls: np.ndarray) -> None:
        """Poses all control points: fills `x`, `y` [N] in pixels."""
        now = Moment(controls, self.latches, self.feelings)
        for callback in self._callbacks:
            callback(now)
        p = self.rest if self.pendulums.still else self._swung.displaced(self.rest, self.pendulums)
        out_of_place = [(placed, self.latches.value[latch] * by) for placed, latch, by in self._slides]
        if any(by.any() for _, by in out_of_place):
            p = p.copy()
            for placed, by in out_of_place:
                p[placed] += by
        self.x, self.y = self.project(p, self.weight, self.sway, self._shoulder, self._chest, now)

    def project(
        self, p: np.ndarray, weight: np.ndarray, sway: np.ndarray, shoulder: np.ndarray, chest: np.ndarray, now: Moment
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rest space [n,3] to pixels x [n], y [n]: the head's and the torso's motion, by each point's weight."""
        yaw, pitch, roll = now["yaw"], now["pitch"], now["roll"]
        lean, breath, shrug = now["lean"], now["breath"], now["shrug"]
        x = p[:, 0] + sway * (0.16 * now["sway_x"])
        y = p[:, 1] + sway * (0.10 * now["sway_y"])
        z = p[:, 2]
        # torso: a third of the head's turn, a shear for the lean, shoulders that rise
        sin_b, cos_b = math.sin(0.35 * yaw), math.cos(0.35 * yaw)
        k_body = 1 + PERSPECTIVE * 0.5 * z
        x_body = (x * cos_b + z * sin_b) * k_body + lean * 0.10 * (1.9 - y)
        y_body = y + np.abs(lean) * 0.01 - breath * 0.014 * chest - shrug * 0.11 * shoulder
        # head: turn, nod, perspective, tilt, carried by the torso's lean
        sin_y, cos_y = math.sin(yaw), math.cos(yaw)
        sin_p, cos_p = math.sin(pitch), math.cos(pitch)
        sin_r, cos_r = math.sin(roll), math.cos(roll)
        zr, yr = z - PIVOT_Z, y - PIVOT_Y
        # Near the silhouette, widths are preserved, like the outline of a turning ball.
        rim = np.clip(1.0 - np.abs(z) / 0.3, 0.0, 1.0)
        xh = x * (cos_y + 0.75 * (1 - cos_y) * rim) + zr * sin_y
        zh = zr * cos_y - x * sin_y
        yh = yr * cos_p - zh * sin_p
        zh = zh * cos_p + yr * sin_p
        k = 1 + PERSPECTIVE * (zh + PIVOT_Z)
        xh, yh = xh * k, yh * k
        x_head = xh * cos_r - yh * sin_r + lean * 0.10 * (1.9 - PIVOT_Y) + 0.03 * yaw - 0.05 * sin_y
        y_head = xh * sin_r + yh * cos_r + PIVOT_Y - breath * 0.008
        x = x_head + weight * (x_body - x_head)
        y = y_head + weight * (y_body - y_head)
        return CENTRE[0] * self.size + x * self.unit, CENTRE[1] * self.size + y * self.unit

    def draw(self, clear: bool = True) -> None:
        """Rasterises the moved points into `canvas.pixels`."""
        self._bend()
        lib, flat = self._lib, self.address
        reset, append, set_gradient = lib.tvg_shape_reset, lib.tvg_shape_append_path, lib.tvg_shape_set_gradient
        for ink in self.inks:
            if not ink.visible:
                continue
            o = ink.outline
            reset(ink.shape)
            append(ink.shape, o.address, o.n_commands, flat + 8 * o.start, o.count)
            if ink.gradient is not None:
                radial, i, stops, n = ink.gradient
                x, y, u, v = self.x[i], self.y[i], self.x[i + 1], self.y[i + 1]
                if radial:
                    gradient = lib.tvg_radial_gradient_new()
                    lib.tvg_radial_gradient_set(gradient, x, y, max(0.1, math.hypot(u - x, v - y)), x, y, 0.0)
                else:
                    gradient = lib.tvg_linear_gradient_new()
                    lib.tvg_linear_gradient_set(gradient, x, y, u, v)
                lib.tvg_gradient_set_color_stops(gradient, stops, n)
                set_gradient(ink.shape, gradient)
        self.canvas.draw(clear)

    def draw_labels(self) -> np.ndarray:
        """After `draw`: which part is in front at each pixel, as LABEL_COLORS blended by coverage. [S,S,4] uint8."""
        lib, flat = self._lib, self.address
        for mark, _ in self._labelled:
            if mark.visible:
                o = mark.outline
                lib.tvg_shape_reset(mark.shape)
                lib.tvg_shape_append_path(mark.shape, o.address, o.n_commands, flat + 8 * o.start, o.count)
        self.truth_canvas.draw()
        return self.truth_canvas.pixels

    def _bend(self) -> None:
        for column, values in ((0, self.x), (1, self.y)):
            self._flat[:, column] = values[self._i] + self._k * (values[self._j] - values[self._m])

    def close(self) -> None:
        """Frees both canvases. Idempotent."""
        self.canvas.close()
        self.truth_canvas.close()


def _opaque(fill: Fill | None) -> bool:
    colors = [color for _, color in fill.stops] if isinstance(fill, (Linear, Radial)) else [fill] if fill else []
    return bool(colors) and all(len(color) == 3 or color[3] == 255 for color in colors)


def _rgba(color: Color) -> tuple[int, int, int, int]:
    r, g, b, *a = color
    return r, g, b, a[0] if a else 255
