"""Paints lids and gaze over a frame that has already been warped.

Each eye has its own coordinates, fixed to the picture: t from the corner on the viewer's left (0) to the other (1), v
upwards in the same unit, an eye's width. Every frame pixel near an eye gets its t and v from its source position in the
picture; what is painted there is sampled elsewhere in the picture: the displaced iris, the lowered lashes, the
stretched skin of lid and cheek.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.studio.face_fit import FaceFit
from streamer.studio.picture_rig.colours import Colours, luma
from streamer.studio.picture_rig.curves import smoothstep
from streamer.studio.picture_rig.framing import FRAME
from streamer.studio.picture_rig.lent import Lent
from streamer.studio.picture_rig.topology import EYES

_REACH = (0.3, 0.5, 0.62)  # painted area beside, below and above the eye, in eye widths
_TABLE = 101  # samples along the eye
_LOWER_SHARE = 0.22  # fraction of the eye's opening by which the lower lid rises when closing
_LOOKING_DOWN = 0.22  # fraction by which the upper lid lowers
_STILL_LIDS = 0.15  # downward gaze up to which the lids do not follow
_GAZE = (0.17, 0.11)  # displacement of the iris for a gaze of 1, sideways and up, in eye widths
_RIM = 0.07  # eye widths of the lower lid's bright rim, which stays beneath the upper lid
_STRETCH = 0.3  # eye widths of cheek below the eye that follow the lower lid
_LASHES = (0.08, 0.2)  # minimum and maximum height of the upper lashes, eye widths
_OWN_LID = 0.4  # eye widths above the eye for which a picture with closed eyes is used
_SHADED = (0.5, 0.85, 0.75)  # brightness, or brightness and saturation, relative to the cheek: below, it is not skin
_LID_OF_CHEEK = 0.9  # brightness of a lid, relative to the cheek, in that case
_COVERED = 0.58  # brightness relative to the skin: if four fifths around the eye are darker, it is covered


@dataclass(frozen=True, eq=False)
class Eye:
    origin: np.ndarray
    """[2]: the corner at t = 0, frame units."""

    along: np.ndarray
    """[2]: unit vector of t."""

    width: float
    upper: np.ndarray
    """[101]: v of the upper lid's edge for t from 0 to 1; `lower` likewise."""

    lower: np.ndarray
    lashes: float
    """Distance in v from the upper lid's edge to where lashes and lines end and skin begins."""

    lid: np.ndarray
    """[101, 3] float32: colour of the skin above the lashes; `cheek` is that below the eye."""

    cheek: np.ndarray
    iris: tuple[float, float]
    """t of the iris's centre, and its radius."""

    skin_above: bool = True
    """Whether the picture shows the lid's own skin, whose pores and folds are then used."""

    @property
    def up(self) -> np.ndarray:
        return np.array([self.along[1], -self.along[0]])

    def place(self, t: np.ndarray, v: np.ndarray) -> np.ndarray:
        """[..., 2]: x, y in frame units."""
        (x, y), (ax, ay), (ux, uy) = self.origin, self.width * self.along, self.width * self.up
        return np.stack([x + ax * t + ux * v, y + ay * t + uy * v], -1)

    def local(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """t and v of places [..., 2] in frame units."""
        x, y = (np.moveaxis(places, -1, 0) - self.origin.reshape(2, *[1] * (places.ndim - 1))) / self.width
        (ax, ay), (ux, uy) = self.along, self.up
        return (x * ax + y * ay).astype(np.float32), (x * ux + y * uy).astype(np.float32)

    def edges(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v of the upper and of the lower lid's edge at t, in the picture."""
        table = np.linspace(0, 1, _TABLE)
        return np.interp(t, table, self.upper), np.interp(t, table, self.lower)

    def shut(self, top: np.ndarray, bottom: np.ndarray, blink: float, up: float) -> tuple[np.ndarray, np.ndarray]:
        """v of the edges `top` and `bottom` with lids closed by `blink`, 0..1, and the gaze raised by `up`, -1..1."""
        met = bottom + _LOWER_SHARE * (top - bottom)
        sunk = (top - bottom) * (_LOOKING_DOWN * _down(up) * (1 - blink))
        return top + (met - top) * blink - sunk, bottom + (met - bottom) * blink

    def turned(self, right: float) -> float:
        """Displacement of the iris in t for a gaze to the `right`, limited to the eye."""
        left, end = self.iris[0] - self.iris_reach, self.iris[0] + self.iris_reach
        return float(np.clip(_GAZE[0] * right, -0.8 * max(left, 0.0), 0.8 * max(1 - end, 0.0)))

    def raised(self, up: float) -> float:
        """Displacement of the iris in v for a gaze `up`."""
        return _GAZE[1] * up

    @property
    def iris_reach(self) -> float:
        """Distance in t from the iris's centre that is moved without stretching."""
        return 1.05 * self.iris[1]


@dataclass(frozen=True, eq=False)
class Eyes:
    eyes: tuple[Eye, Eye]
    """The viewer's left and right eye; neither moves if they are covered."""

    covered: bool
    drawing: bool


def prepare_eyes(image: np.ndarray, landmarks: np.ndarray, fit: FaceFit, colours: Colours, enlargement: float) -> Eyes:
    """Analyses the square at rest [FRAME, FRAME, 3] uint8; landmarks and fit in frame units."""
    drawing = fit.style == "drawing"
    eyes = tuple(
        _prepare(image, landmarks[list(lower), :2], landmarks[list(upper), :2], iris, colours, enlargement, drawing)
        for (lower, upper), iris in zip(EYES, fit.irises, strict=True)
    )
    covered = fit.eyes_covered or any(_is_covered(image, eye, colours) for eye in eyes)
    return Eyes(eyes, covered, drawing)  # type: ignore[arg-type]


def _sampled(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[r, c, n] float32: samples an image whose pixels are frame units at positions [r, c, 2]."""
    at = (places - 0.5).astype(np.float32)
    out = cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out.astype(np.float32)


def _prepare(
    image: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    iris: np.ndarray,
    colours: Colours,
    enlargement: float,
    drawing: bool,
) -> Eye:
    width = float(np.hypot(*(lower[-1] - lower[0])))
    along = (lower[-1] - lower[0]) / width
    t = np.linspace(0, 1, _TABLE)
    bare = Eye(lower[0], along, width, t, t, 0.0, t, t, (0.5, 0.2))

    def curve(points: np.ndarray) -> np.ndarray:
        x, y = bare.local(points)
        order = np.argsort(x)
        window = np.hanning(19)[1:-1]
        padded = np.pad(np.interp(t, x[order], y[order]), 8, "reflect", reflect_type="odd")
        return np.convolve(padded, window / window.sum(), "valid")

    top, bottom = curve(upper), np.minimum(curve(lower), curve(upper))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    heights = np.arange(0, 0.34, 0.01)
    across = np.linspace(0.25, 0.75, 11)
    column = np.median(
        _sampled(grey, bare.place(across[:, None] + 0 * heights, np.interp(across, t, top)[:, None] + heights)), 0
    )
    darkest = int(column[:10].argmin())
    brightest = column[darkest : darkest + 16].max()
    risen = column[darkest:] >= column[darkest] + 0.72 * (brightest - column[darkest])
    more = 0.012 * min(enlargement, 4.0) if enlargement > 1.6 else 0.0
    lashes = float(np.clip(heights[darkest + int(risen.argmax())] + 0.035 + more, _LASHES[0], _LASHES[1]))

    def band(base: np.ndarray, offsets: tuple[float, ...]) -> np.ndarray:
        rows = np.array(offsets)[:, None]
        colour = np.median(_sampled(image, bare.place(t + 0 * rows, base + rows)), 0)
        kernel = np.exp(-0.5 * (np.arange(-20, 21) / 9.0) ** 2)
        padded = np.pad(colour, ((20, 20), (0, 0)), "edge")
        return np.stack([np.convolve(padded[:, i], kernel / kernel.sum(), "valid") for i in range(3)], 1)

    lid = band(top + lashes, (0.0, 0.02, 0.04, 0.06, 0.08))
    cheek = band(bottom, (-0.10, -0.13, -0.16, -0.19))
    skin_above = True
    darker = np.median(luma(lid)) / max(np.median(luma(cheek)), 1.0)
    greyer = np.median(np.ptp(lid, axis=1) / lid.max(1)) / max(np.median(np.ptp(cheek, axis=1) / cheek.max(1)), 1e-3)
    if darker < _SHADED[0] or (darker < _SHADED[1] and greyer < _SHADED[2]):  # the rim of glasses or hair, not skin
        lid, skin_above = _LID_OF_CHEEK * cheek, False
    least = 0.72 * max(float(np.median(luma(cheek))), 0.5 * float(luma(colours.skin)))
    lid = np.minimum(lid * np.maximum(1, least / np.maximum(luma(lid), 1))[:, None], 255)
    middle, _ = bare.local(iris[0])
    radius = float(np.hypot(*(iris[1:] - iris[0]).T).mean()) / width
    return Eye(
        lower[0], along, width, top.astype(np.float32), bottom.astype(np.float32),
        lashes, lid.astype(np.float32), cheek.astype(np.float32), (float(middle), radius),
        skin_above,
    )  # fmt: skip


def _is_covered(image: np.ndarray, eye: Eye, colours: Colours) -> bool:
    t = np.linspace(0.1, 0.9, 9)
    table = np.linspace(0, 1, _TABLE)
    below = [np.interp(t, table, eye.lower) - dv for dv in (0.1, 0.17, 0.24, 0.31)]
    above = [np.interp(t, table, eye.upper) + dv for dv in (0.12, 0.2, 0.28)]
    seen = _sampled(image, eye.place(np.tile(t, (7, 1)), np.stack(below + above)))
    return bool((luma(seen) < _COVERED * luma(colours.skin)).mean() > 0.8)


class EyePainter:
    """Paints both eyes into frames of one size."""

    def __init__(self, eyes: Eyes, texture: np.ndarray, margin: int, size: int, shut: Lent | None = None) -> None:
        """
        `texture` as from framing.enlarged, with `margin` frame pixels on each side; `shut`: a picture of the same face
        with closed eyes.
        """
        self._eyes = eyes
        self._texture = texture
        self._margin, self._scale, self._size = margin, size / FRAME, size
        self._shut = None if shut is None else shut.image(size, margin)
        self._shut_lines = []
        for side, eye in enumerate(eyes.eyes if shut is not None else ()):
            t, v = eye.local(shut.shut_line(side))  # type: ignore[union-attr]
            self._shut_lines.append(np.interp(np.linspace(0, 1, _TABLE), t, v))
        self._blurred = []
        for eye in eyes.eyes:
            x0, y0, x1, y1 = self._box(eye, np.zeros(2), self._margin, 2, texture.shape[0])
            part = texture[y0:y1, x0:x1]
            self._blurred.append((cv2.GaussianBlur(part, (0, 0), max(1.6, 0.06 * eye.width * self._scale)), (x0, y0)))

    def _box(
        self,
        eye: Eye,
        shift: np.ndarray,
        margin: int,
        per_pixel: int,
        limit: int,
        reach: tuple[float, float, float] = _REACH,
    ) -> tuple[int, int, int, int]:
        beside, below, above = reach
        corners = np.array(
            [eye.place(np.array(t), np.array(v)) for t in (-beside, 1 + beside) for v in (-below, above)]
        )
        corners = ((corners + shift) * self._scale + margin) * per_pixel
        low = np.clip(np.floor(corners.min(0)).astype(int), 0, limit)
        high = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, limit)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def paint(
        self, frame: np.ndarray, places: np.ndarray, shifts: np.ndarray, blinks: tuple[float, float],
        gaze: tuple[float, float],
    ) -> None:  # fmt: skip
        """
        Paints into a frame [S, S, 4] uint8 whose pixels come from `places` [S, S, 2] of the texture. `shifts` [2, 2]:
        each eye's displacement in frame units.
        """
        if self._eyes.covered:
            return
        for i, eye in enumerate(self._eyes.eyes):
            if max(blinks[i], abs(gaze[0]), abs(gaze[1])) < 0.01:
                continue
            blink = float(np.clip(blinks[i], 0, 1))
            acting = float(smoothstep(5 * max(blink, 0.5 * _down(gaze[1]))))
            # If no lid moves only the opening is painted; head rotation enlarges it slightly.
            reach = _REACH if acting > 0 else (0.1, 0.1 - eye.lower.min(), eye.upper.max() + 0.1)
            x0, y0, x1, y1 = self._box(eye, shifts[i], 0, 1, self._size, reach)
            if x1 - x0 < 2 or y1 - y0 < 2:
                continue
            region = frame[y0:y1, x0:x1]
            painted = self._paint(i, eye, region, places[y0:y1, x0:x1], blink, gaze, acting)
            region[..., :3] = np.clip(painted + 0.5, 0, 255).astype(np.uint8)

    def _read(self, eye: Eye, t: np.ndarray, v: np.ndarray) -> np.ndarray:
        """[h, w, 3] float32: the picture at t, v."""
        at = 2 * (eye.place(t, v) * self._scale + (self._margin - 0.5))
        out = cv2.remap(self._texture, at.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return out[..., :3].astype(np.float32)

    def _detail(self, i: int, eye: Eye, t: np.ndarray, v: np.ndarray) -> np.ndarray:
        """[h, w, 3]: the picture's detail finer than shading at t, v."""
        blurred, corner = self._blurred[i]
        at = 2 * (eye.place(t, v) * self._scale + (self._margin - 0.5)) - corner
        soft = cv2.remap(blurred, at.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return self._read(eye, t, v) - soft[..., :3]

    def _paint(
        self,
        i: int,
        eye: Eye,
        region: np.ndarray,
        places: np.ndarray,
        blink: float,
        gaze: tuple[float, float],
        acting: float,
    ) -> np.ndarray:
        t, v = eye.local((places / 2 - (self._margin - 0.5)) / self._scale)
        pixel = 1 / (eye.width * self._scale)
        beside = np.maximum(np.maximum(-t, t - 1), 0)
        fading = smoothstep(1 - beside / 0.22)
        row = np.clip(t, 0, 1) * (_TABLE - 1)
        index = np.minimum(row.astype(int), _TABLE - 2)
        share = (row - index).astype(np.float32)

        def along(table: np.ndarray) -> np.ndarray:
            f = share if table.ndim == 1 else share[..., None]
            return table[index] * (1 - f) + table[index + 1] * f

        top, bottom = along(eye.upper), along(eye.lower)
        within = (t > 0) & (t < 1)
        edge, under = eye.shut(top, bottom, blink, gaze[1])

        def covers(from_: np.ndarray) -> np.ndarray:
            return np.clip(from_ / pixel + 0.5, 0, 1)

        before = region[..., :3].astype(np.float32)
        out: np.ndarray = before
        if abs(gaze[0]) > 0.01 or abs(gaze[1]) > 0.01 or blink > 0.01:
            ball = self._ball(eye, t, v, gaze)
            seen = covers(edge - v) * covers(v - under) * within
            out = out + (ball - out) * seen[..., None]
        if acting > 0:
            out = self._with_lid(i, eye, out, t, v, edge, top, acting, blink, along)
            below = covers(under - v) * np.clip((v - (bottom - _STRETCH)) / 0.1, 0, 1) * acting * within
            f = np.clip((v - (bottom - _STRETCH)) / np.maximum(under - (bottom - _STRETCH), 1e-3), 0, 1)
            rim = _RIM * float(smoothstep(2 * blink))
            cheek = self._read(eye, t, bottom - _STRETCH + f * (_STRETCH - rim))
            out = out + (cheek - out) * below[..., None]
            if self._shut is not None:
                own = self._read_shut(eye, t, v + along(self._shut_lines[i]) - edge)
                whole = float(smoothstep((blink - 0.5) / 0.5)) * (v <= edge) * smoothstep((v - bottom + 0.4) / 0.2)
                out = out + (own - out) * whole[..., None]
        return before + (out - before) * fading[..., None]

    def _read_shut(self, eye: Eye, t: np.ndarray, v: np.ndarray) -> np.ndarray:
        """[h, w, 3] float32: the picture with closed eyes at t, v."""
        assert self._shut is not None
        at = eye.place(t, v) * self._scale + (self._margin - 0.5)
        out = cv2.remap(self._shut, at.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return out[..., :3].astype(np.float32)

    def _ball(self, eye: Eye, t: np.ndarray, v: np.ndarray, gaze: tuple[float, float]) -> np.ndarray:
        """[h, w, 3]: the rotated eyeball; the iris keeps its shape, the white beside it is stretched or compressed."""
        left, right = eye.iris[0] - eye.iris_reach, eye.iris[0] + eye.iris_reach
        turned = eye.turned(gaze[0])
        to = (-_REACH[0], 0.0, left + turned, right + turned, 1.0, 1 + _REACH[0])
        source = np.interp(t, to, (-_REACH[0], 0.0, left, right, 1.0, 1 + _REACH[0]))
        raised = eye.raised(gaze[1]) * np.interp(t, to[1:5], (0.0, 1.0, 1.0, 0.0))
        return self._read(eye, source, v - raised)

    def _with_lid(
        self, i: int, eye: Eye, out: np.ndarray, t: np.ndarray, v: np.ndarray, edge: np.ndarray, top: np.ndarray,
        acting: float, blink: float, along,
    ) -> np.ndarray:  # fmt: skip
        """`out` with the upper lid's skin and lashes down to `edge`."""
        pixel = 1 / (eye.width * self._scale)
        if self._shut is not None:
            lid = self._read_shut(eye, t, v + along(self._shut_lines[i]) - edge)
            covered = np.clip((v - edge) / pixel + 0.5, 0, 1) * smoothstep((top + _OWN_LID - v) / (0.5 * _OWN_LID))
            return out + (lid - out) * (covered * acting)[..., None]
        ends = top + eye.lashes
        f = np.clip((ends - v) / np.maximum(ends - edge, 1e-3), 0, 1)
        skin = along(eye.lid) + (along(eye.cheek) - along(eye.lid)) * (0.55 * f)[..., None]
        if eye.skin_above:
            skin = skin + 0.6 * np.clip(self._detail(i, eye, t, ends + 0.015 + 0.28 * (ends - v)), -14, 14)
        if not self._eyes.drawing:  # a lid is curved: lightest in its middle, darker at its edge and crease
            round_ = 0.98 + 0.03 * np.sin(np.pi * f) - 0.09 * f**2
            crease = 1 - 0.05 * blink * np.exp(-(((v - ends + 0.03) / 0.025) ** 2))
            skin = skin * (round_ * crease)[..., None]
        lashes = self._read(eye, t, top + v - edge)
        strength = smoothstep(1 - (v - edge - 0.25 * eye.lashes) / (0.75 * eye.lashes))
        lid = skin + (lashes - skin) * strength[..., None]
        covered = np.clip((v - edge) / pixel + 0.5, 0, 1) * smoothstep((ends + 0.02 - v) / (0.30 * eye.lashes))
        covered = covered * acting * smoothstep(np.minimum(t + 0.15, 1.15 - t) / 0.15)
        return out + (lid - out) * covered[..., None]


def _down(up: float) -> float:
    """0..1: how far a downward gaze exceeds the point at which the upper lid follows."""
    return max(-up - _STILL_LIDS, 0.0) / (1 - _STILL_LIDS)
