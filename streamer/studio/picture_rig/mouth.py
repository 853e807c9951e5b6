"""The mouth's inside: teeth and tongue as flat layers that rotate with the head and drop with the jaw.

    anatomy, the face's axes, colours ─▶ layers at a size (once) ─▶ composited behind the lips' opening (per frame)

If the picture shows teeth, they are used as the upper layer: a person's own.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from streamer.studio.picture_rig import anatomy
from streamer.studio.picture_rig.anatomy import LOWER_TEETH, TONGUE, UPPER_TEETH
from streamer.studio.picture_rig.colours import Colours, luma
from streamer.studio.picture_rig.curves import smoothstep
from streamer.studio.picture_rig.expression import JAW
from streamer.studio.picture_rig.field import Grid, cover
from streamer.studio.picture_rig.framing import FRAME
from streamer.studio.picture_rig.geometry import Geometry
from streamer.studio.picture_rig.lent import Lent
from streamer.studio.picture_rig.motion import Pose
from streamer.studio.picture_rig.topology import topology

_SEAM = 6.615  # dm: height of the mean face's closed lips
_LOWERED = {UPPER_TEETH: -0.019, LOWER_TEETH: -0.025, TONGUE: -0.012}  # dm, relative to the mean face
_BEHIND = {UPPER_TEETH: 0.0, LOWER_TEETH: 0.0, TONGUE: -0.05}
_DROP = 0.215  # dm by which the tongue sinks with the open jaw
_FRONT = 1.53  # dm: depth of the foremost tooth
_DEPTHS = {UPPER_TEETH: 0.42, LOWER_TEETH: 0.42, TONGUE: 0.75}  # dm behind it where no light arrives
_SMOOTH = 41  # points along each lip
_SUPERSAMPLED = 4  # factor for the opening's mask
_LEAST = 0.125  # pixels between the lips below which the mouth is closed
_SOFT = 0.0085  # softness of the lips' edge, in mouth widths
_SHADOW = (0.035, 0.5, 0.46)  # the lips' shadow: extent in mouth widths, extent downwards, remaining light
_TEETH_HEIGHT = 0.15  # minimum height (mouth widths, without lips) of an opening that shows enough teeth
_TEETH_LIGHT, _TEETH_SHARE = 0.8, 0.25  # teeth are visible if this fraction is this bright, relative to the skin
_LIP_RIM = 0.036  # mouth widths inside the opening that are not taken for teeth
_LINE = (0.009, 0.011, 0.6)  # the line of closed lips: thickness and softness in mouth widths, darkness
_LINE_UNTIL = 0.05  # mouth widths between the lips at which it disappears
_HALO = (0.018, 0.22)  # darker skin at the opening's rim: width in mouth widths, strength


@dataclass(frozen=True, eq=False)
class Opening:
    """The area of a frame between the lips."""

    x: int
    y: int
    """The upper left pixel of `share`."""

    share: np.ndarray
    """[h, w] float32: coverage of each pixel, 0..1."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A flat image of a part of the mouth, in that part's plane."""

    pixels: np.ndarray
    """[h, w, 4] float32 premultiplied, alpha 0..1."""

    grid: Grid
    """Its position with the head straight and the jaw closed; one cell per pixel."""

    depth: float
    """z in frame units."""

    jaw: np.ndarray
    """[3]: displacement by the open jaw."""

    raised: np.ndarray
    """[3]: displacement by a raised tongue."""


@dataclass(frozen=True, eq=False)
class Inside:
    """The mouth's inside of one face at one size."""

    layers: dict[int, _Layer]
    colours: Colours
    own_teeth: bool
    softness: float
    """Blur (pixels) of the picture itself, due to its magnification."""

    drawing: bool

    open_mouth: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    """Another picture's square [S, S, 4] and its inner lip edges [41, 2] in pixels: shown when the mouth opens."""

    def paint(self, frame: np.ndarray, pose: Pose, geometry: Geometry, tongue: float) -> Opening | None:
        """Paints into a frame [S, S, 4] uint8 premultiplied whose lips are already in `pose`. Returns the area between
        the lips; None if they are closed."""
        size = len(frame)
        scale = size / FRAME
        upper, lower = (_curve(lip[::2, :2], _SMOOTH) * scale for lip in (pose.upper, pose.lower))
        width = geometry.mouth_width * scale
        if geometry.open and not self.drawing and pose.gap < _LINE_UNTIL * geometry.mouth_width:
            _darken_line(frame, (upper + lower) / 2, width, 1 - pose.gap / (_LINE_UNTIL * geometry.mouth_width))
        if pose.gap * scale < _LEAST:
            return None
        down = -(pose.turn @ geometry.up)[:2]
        crossed = (lower - upper) @ down < 0
        middle = (upper + lower) / 2
        upper[crossed], lower[crossed] = middle[crossed], middle[crossed]
        outline = np.concatenate([upper, lower[::-1]])
        margin = int(6 * scale + 3 + 0.05 * width)
        x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - margin, 0)
        x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + margin, size)
        if x1 - x0 < 4 or y1 - y0 < 4:
            return None
        opening = _mask(outline - [x0, y0], x1 - x0, y1 - y0)
        on = Grid(x0 / scale, y0 / scale, 1 / scale, y1 - y0, x1 - x0)
        if self.open_mouth is not None:
            inside = self._lent(upper - [x0, y0], lower - [x0, y0], on)
        else:
            inside = self._inside(pose, geometry, tongue, on)
            inside *= self._light(opening, pose.gap * scale, width)[..., None]
        edge = max(0.45, _SOFT * width, 0.8 * self.softness)
        if self.softness > 0.5:
            inside = cv2.GaussianBlur(inside, (0, 0), self.softness)
        alpha = np.maximum(cv2.GaussianBlur(opening, (0, 0), edge), opening)[..., None]
        region = frame[y0:y1, x0:x1]
        skin = region[..., :3].astype(np.float32)
        if not self.drawing:
            halo = cv2.GaussianBlur(opening, (0, 0), _HALO[0] * width + 0.4)
            skin *= (1 - _HALO[1] * halo * (1 - opening))[..., None]
        region[..., :3] = np.clip(skin + (inside - skin) * alpha + 0.5, 0, 255).astype(np.uint8)
        region[..., 3] = np.maximum(region[..., 3], (255 * opening + 0.5).astype(np.uint8))
        return Opening(int(x0), int(y0), opening)

    def _inside(self, pose: Pose, geometry: Geometry, tongue: float, on: Grid) -> np.ndarray:
        """[h, w, 3] float32: everything behind the lips, in full light."""
        jaw = float(pose.strengths[JAW])
        out = np.empty((on.rows, on.columns, 3), np.float32)
        out[:] = self.colours.cavity
        order = (TONGUE, LOWER_TEETH, UPPER_TEETH) if tongue < 0.3 else (LOWER_TEETH, TONGUE, UPPER_TEETH)
        for part in order:
            layer = self.layers.get(part)
            if layer is None:
                continue
            lift = tongue * (layer.raised - 0.75 * jaw * layer.jaw * (part == TONGUE))
            moved = jaw * layer.jaw + lift
            # A raised tongue stays rooted below: its upper end rises and it is stretched, to leave no gap.
            stretched = 1 + max(float(lift @ geometry.up), 0.0) / (layer.grid.rows * layer.grid.cell)
            at = np.array([layer.grid.x, layer.grid.y, layer.depth]) + moved - geometry.pivot
            corner = (pose.turn @ at + geometry.pivot)[:2] + pose.body_shift
            linear = pose.turn[:2, :2] * (layer.grid.cell / on.cell) @ np.diag([1.0, stretched])
            # Maps the layer's pixels to the frame's; both are relative to the centre of their first pixel.
            shift = (corner - [on.x, on.y]) / on.cell + linear @ np.full(2, 0.5) - 0.5
            pixels = cv2.warpAffine(
                layer.pixels, np.column_stack([linear, shift]), (on.columns, on.rows), flags=cv2.INTER_LINEAR
            )
            out = out * (1 - pixels[..., 3:]) + pixels[..., :3]
        return out

    def _lent(self, upper: np.ndarray, lower: np.ndarray, on: Grid) -> np.ndarray:
        """[h, w, 3] float32: the other picture's open mouth between lips [41, 2] in pixels of the region."""
        assert self.open_mouth is not None
        image, above, below = self.open_mouth
        along, theirs = upper[-1] - upper[0], above[-1] - above[0]
        axes = np.stack([along, [-along[1], along[0]]], 1) / (along @ along)
        places = np.stack(np.meshgrid(np.arange(on.columns) + 0.5, np.arange(on.rows) + 0.5), -1)
        x, y = np.moveaxis((places - upper[0]) @ axes, -1, 0)
        top, bottom = ((lip - upper[0]) @ axes for lip in (upper, lower))
        first, last = (np.interp(x, lip[:, 0], lip[:, 1]) for lip in (top, bottom))
        their_axes = np.stack([theirs, [-theirs[1], theirs[0]]], 1) / (theirs @ theirs)
        their_top, their_bottom = ((lip - above[0]) @ their_axes for lip in (above, below))
        their_first, their_last = (np.interp(x, lip[:, 0], lip[:, 1]) for lip in (their_top, their_bottom))
        # Drawn mouths are stretched as a whole; teeth keep their size and are cropped below.
        share = (y - first) / np.maximum(last - first, 1e-3)
        down = share * (their_last - their_first) if self.drawing else np.minimum(y - first, their_last - their_first)
        source = np.clip(their_first + down, their_first + 0.01, np.maximum(their_last - 0.01, their_first + 0.01))
        at = above[0] + x[..., None] * theirs + source[..., None] * np.array([-theirs[1], theirs[0]])
        out = cv2.remap(image, (at - 0.5).astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return out[..., :3].astype(np.float32)

    def _light(self, opening: np.ndarray, gap: float, width: float) -> np.ndarray:
        """[h, w] 0..1: light that passes the lips, above all the upper one."""
        reach, down, least = _SHADOW
        blur = max(0.6, min(reach * width, 0.22 * gap))
        soft = cv2.GaussianBlur(opening, (0, 0), blur)
        below = cv2.warpAffine(soft, np.array([[1, 0, 0], [0, 1, down * blur]]), soft.shape[::-1])
        light = np.clip((below - 0.25) / 0.55, 0, 1) * np.clip((soft - 0.1) / 0.45, 0, 1)
        if self.drawing:
            return 0.75 + 0.25 * light
        least = max(least, 0.6 * self.own_teeth)
        return least + (1 - least) * light**1.1


def _darken_line(frame: np.ndarray, line: np.ndarray, width: float, strength: float) -> None:
    """Paints the dark line [n, 2] (pixels) between lips that the picture shows apart and that are now closed."""
    margin = int(3 + 0.1 * width)
    x0, y0 = np.maximum(np.floor(line.min(0)).astype(int) - margin, 0)
    x1, y1 = np.minimum(np.ceil(line.max(0)).astype(int) + margin, len(frame))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    k = _SUPERSAMPLED
    drawn = np.zeros(((y1 - y0) * k, (x1 - x0) * k), np.uint8)
    thick = max(1, round(_LINE[0] * width * k))
    points = np.round((line[2:-2] - [x0, y0]) * k * 16 - 8).astype(np.int32)
    cv2.polylines(drawn, [points], False, 255, thick, cv2.LINE_AA, 4)
    soft = cv2.resize(drawn, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA).astype(np.float32)
    soft = cv2.GaussianBlur(soft, (0, 0), max(0.5, _LINE[1] * width)) * (_LINE[2] * strength / 255)
    region = frame[y0:y1, x0:x1, :3]
    region[:] = (region * (1 - soft)[..., None] + 0.5).astype(np.uint8)


def _curve(points: np.ndarray, count: int) -> np.ndarray:
    """A Catmull-Rom curve through points [n, 2]: [count, 2]."""
    t = np.linspace(0, len(points) - 1, count)
    i = np.clip(t.astype(int), 0, len(points) - 2)
    f = (t - i)[:, None]
    ends = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    a, b, c, d = ends[i], ends[i + 1], ends[i + 2], ends[i + 3]
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


def _mask(outline: np.ndarray, width: int, height: int) -> np.ndarray:
    """[height, width] float32: coverage of each pixel by an outline [n, 2] in pixels."""
    k = _SUPERSAMPLED
    fine = np.zeros((height * k, width * k), np.uint8)
    cv2.fillPoly(fine, [np.round(outline * k * 16 - 8).astype(np.int32)], 255, cv2.LINE_8, 4)
    return cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def prepare_inside(
    geometry: Geometry,
    colours: Colours,
    image: np.ndarray,
    enlargement: float,
    drawing: bool,
    open_mouth: Lent | None = None,
) -> Inside:
    """
    Prepares frames of the size of `image` [S, S, 4], the square at rest; `enlargement` as in Framing; `open_mouth`:
    another picture of the face with an open mouth.
    """
    size = len(image)
    layers = {part: _rendered(part, geometry, colours, size, drawing) for part in (UPPER_TEETH, LOWER_TEETH, TONGUE)}
    own = _own_teeth(geometry, image, colours) if geometry.open and not drawing else None
    if own is not None:
        layers[UPPER_TEETH] = own
    if drawing:  # one row of teeth is enough
        del layers[LOWER_TEETH]
    softness = 0.33 * enlargement if enlargement > 1.6 else 0.0
    lent = None
    if open_mouth is not None:
        upper, lower = (_curve(lip, _SMOOTH) * size / FRAME for lip in open_mouth.lips())
        lent = (open_mouth.image(size), upper, lower)
    return Inside(layers, colours, own is not None, softness, drawing, lent)


def _anchor(geometry: Geometry) -> np.ndarray:
    """[3]: the middle of the closed lips."""
    mesh = topology()
    shut = geometry.vertices + geometry.closing
    return (shut[mesh.upper[len(mesh.upper) // 2]] + shut[mesh.lower[len(mesh.lower) // 2]]) / 2


def _rendered(part: int, geometry: Geometry, colours: Colours, size: int, drawing: bool) -> _Layer:
    """Renders a part of the anatomy from the viewpoint of the picture's face."""
    mean = anatomy.load()
    mesh = mean.tongue if part == TONGUE else mean.teeth
    of_part = mesh.part == part
    triangles = mesh.triangles[of_part[mesh.triangles].all(1)]
    lips = (mean.places[13] + mean.places[14]) / 2
    from_seam = mesh.vertices - [0, _SEAM, lips[2]]
    from_seam = from_seam + [0, _LOWERED[part], _BEHIND[part]]
    ratio = geometry.mouth_width / (np.linalg.norm(geometry.axes[:2, 0]) * np.ptp(mean.places[[78, 308], 0]))
    ratio = float(np.clip(ratio, 0.75, 1.35))
    from_seam = from_seam * [ratio**0.6, min(ratio, 1.1) ** 0.5, 1.0]
    vertices = from_seam @ geometry.axes.T + _anchor(geometry) - 0.03 * geometry.axes[:, 2]

    enamel, shade = mesh.enamel[:, None], mesh.shade[:, None]
    flesh = colours.tongue if part == TONGUE else colours.gum
    deep = np.clip(1 - (_FRONT - 0.03 - mesh.vertices[:, 2:] - _BEHIND[part]) / _DEPTHS[part], 0, 1) ** 1.35
    facing = np.clip(0.35 * mesh.normals[:, 2:] + 0.65 + (0.25 * mesh.normals[:, 1:2] - 0.1) * (part == TONGUE), 0.1, 1)
    lit = np.clip(shade * deep * facing, 0, 1)
    if drawing:
        lit = smoothstep((mesh.vertices[:, 2:] - (0.9 if part == TONGUE else 1.22)) / 0.06)
    colour = colours.cavity + (enamel * colours.enamel + (1 - enamel) * flesh - colours.cavity) * lit

    used = vertices[np.unique(triangles)]
    cell = FRAME / size / 2
    low, high = np.floor(used[:, :2].min(0) / cell - 2), np.ceil(used[:, :2].max(0) / cell + 2)
    columns, rows = (2 * ((high - low).astype(int) // 2 + 1)).tolist()
    grid = Grid(low[0] * cell, low[1] * cell, cell, rows, columns)
    lies = cover(grid, vertices, triangles)
    pixels = np.zeros((rows, columns, 4), np.float32)
    pixels[lies.covered, :3] = lies.spread(colour)
    pixels[lies.covered, 3] = 1
    pixels = cv2.resize(pixels, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    grid = replace(grid, cell=2 * cell, rows=rows // 2, columns=columns // 2)
    jaw = np.zeros(3)
    if part == LOWER_TEETH:
        jaw = (mesh.jaw[of_part].mean(0) * [0, 1, 1]) @ geometry.axes.T
    elif part == TONGUE:
        jaw = -_DROP * geometry.axes[:, 1]
    raised = (0.09 * geometry.axes[:, 2] + 0.05 * geometry.axes[:, 1]) * (part == TONGUE)
    return _Layer(pixels, grid, float(np.percentile(used[:, 2], 20)), jaw, raised)


def _within(image: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """[n, 3]: the pixels of an image inside an outline."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(outline - 0.5).astype(np.int32)], 1)
    return image[mask > 0, :3].astype(np.float64)


def _own_teeth(geometry: Geometry, image: np.ndarray, colours: Colours) -> _Layer | None:
    """The teeth visible in the picture, extended under the upper lip; None if too little is visible."""
    size, mesh = len(image), topology()
    scale = size / FRAME
    upper, lower = (geometry.vertices[chain, :2].astype(np.float64) * scale for chain in (mesh.upper, mesh.lower))
    outline = np.concatenate([upper, lower[::-1]])
    high = float(np.abs(lower[:, 1] - upper[:, 1]).max())
    if high < max(2.5, _TEETH_HEIGHT * geometry.mouth_width * scale):
        return None
    shown = _within(image, outline)
    if (luma(shown) > _TEETH_LIGHT * luma(colours.skin)).mean() < _TEETH_SHARE:
        return None
    more = int(np.ceil(0.5 * high))
    x0, y0 = np.floor(outline.min(0)).astype(int) - [2, more]
    x1, y1 = np.ceil(outline.max(0)).astype(int) + 2
    xs, ys = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    top, bottom = (np.interp(xs[0] + 0.5, lip[:, 0], lip[:, 1]) for lip in (upper, lower))
    # The seam cuts outwards of the lips' edges: what lies there is still lip, not teeth.
    inner = np.clip(_LIP_RIM * geometry.mouth_width * scale, 0.06 * (bottom - top), 0.35 * (bottom - top))
    source = np.clip(ys + 0.0, (top + inner - 0.5)[None], (bottom - inner - 0.5)[None])
    colour = cv2.remap(
        image[..., :3].astype(np.float32), xs.astype(np.float32), source.astype(np.float32), cv2.INTER_LINEAR
    )
    alpha = np.clip((bottom - inner)[None] - ys, 0, 1) * np.clip((xs - outline[:, 0].min()) / 2, 0, 1)
    alpha *= np.clip((outline[:, 0].max() - xs) / 2, 0, 1)
    pixels = np.concatenate([colour * alpha[..., None], alpha[..., None]], -1).astype(np.float32)
    grid = Grid(x0 / scale, y0 / scale, 1 / scale, int(y1 - y0), int(x1 - x0))
    depth = float(geometry.vertices[mesh.upper, 2].mean())
    return _Layer(pixels, grid, depth, np.zeros(3), np.zeros(3))
