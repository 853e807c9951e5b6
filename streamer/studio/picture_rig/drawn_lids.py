"""Paints blinks and gazes of drawn eyes over a frame that has already been warped.

For every frame pixel near an eye, its source position in the picture is known. There it is decided what to show: the
eye, with its iris moved over the white; the skin without the eye, where a lid has closed; or the line of the lid's
edge.
"""

import cv2
import numpy as np

from streamer.studio.picture_rig.curves import smoothstep
from streamer.studio.picture_rig.drawn_eyes import DrawnEye, DrawnEyes
from streamer.studio.picture_rig.drawn_iris import Iris
from streamer.studio.picture_rig.framing import FRAME

_LEAST = 0.01  # blinks and gazes below this are ignored
_OPEN = 0.15  # blinks below this move no lid: a line that has barely left the outline looks like a second one
_LINED = 0.82  # blink of a dot eye from which a line replaces it
_LONG = 1.4  # width-to-height ratio from which a solid eye is taken to have lashes, whose shape is preserved


class DrawnEyePainter:
    """Paints both eyes into frames of one size. The same interface as EyePainter."""

    def __init__(self, eyes: DrawnEyes, texture: np.ndarray, margin: int, size: int) -> None:
        """`texture` as from framing.enlarged, with `margin` frame pixels on each side."""
        self._texture = texture
        self._margin, self._scale, self._size = margin, size / FRAME, size
        self._eyes = [None if eye is None else _Painted(eye, texture, margin, self._scale) for eye in eyes.eyes]

    def paint(
        self, frame: np.ndarray, places: np.ndarray, shifts: np.ndarray, blinks: tuple[float, float],
        gaze: tuple[float, float],
    ) -> None:  # fmt: skip
        """
        Paints into a frame [S, S, 4] uint8 whose pixels come from `places` [S, S, 2] of the texture. `shifts` [2, 2]:
        each eye's displacement in frame units.
        """
        for eye, shift, asked in zip(self._eyes, shifts, blinks, strict=True):
            blink = max(0.0, (float(asked) - _OPEN) / (1 - _OPEN))
            if eye is None or max(blink, abs(gaze[0]), abs(gaze[1])) < _LEAST:
                continue
            x0, y0, x1, y1 = eye.box(shift, self._size)
            if x1 - x0 < 2 or y1 - y0 < 2:
                continue
            region = frame[y0:y1, x0:x1]
            out = eye.painted(region, places[y0:y1, x0:x1], min(blink, 1.0), gaze)
            np.clip(out, 0, region[..., 3:], out=out)
            region[..., :3] = out + 0.5


class _Painted:
    """One eye at one size."""

    def __init__(self, eye: DrawnEye, texture: np.ndarray, margin: int, scale: float) -> None:
        self._eye = eye
        self._texture = texture
        self._scale, self._offset = scale, margin - 0.5
        per = 2 * scale  # texture pixels per frame unit
        rows, columns = eye.plate.shape[:2]
        self._first = np.floor(per * np.array(eye.corner) + 2 * self._offset).astype(int)
        last = np.ceil(per * (np.array(eye.corner) + [columns, rows]) + 2 * self._offset).astype(int)
        edges = tuple(int(edge) for edge in last - self._first + 1)
        # Maps texture pixels to the eye's patch; OpenCV's pixel centres are at integers.
        shift = (self._first - 2 * self._offset) / per - np.array(eye.corner) - 0.5
        matrix = np.array([[1 / per, 0, shift[0]], [0, 1 / per, shift[1]]])

        def enlarged(patch: np.ndarray) -> np.ndarray:
            flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
            return cv2.warpAffine(patch, matrix, edges, flags=flags, borderMode=cv2.BORDER_REPLICATE)

        self._plate = enlarged(eye.plate)
        self._iris: Iris | None = None
        if eye.iris is not None:
            layer, own, white, ground = (
                enlarged(plane) for plane in (eye.iris.layer, eye.iris.own, eye.iris.white, eye.iris.ground)
            )
            # Where the texture has more detail than the patch, the texture is used.
            (x0, y0), (x1, y1) = np.maximum(self._first, 0), np.minimum(last + 1, texture.shape[1::-1])
            rows, columns = (
                slice(y0 - self._first[1], y1 - self._first[1]),
                slice(x0 - self._first[0], x1 - self._first[0]),
            )
            part = layer[rows, columns, :3]
            part += (texture[y0:y1, x0:x1, :3] - part) * own[rows, columns, None]
            self._iris = Iris(layer, own, white, ground, eye.iris.travel)

    def box(self, shift: np.ndarray, size: int) -> tuple[int, int, int, int]:
        rows, columns = self._eye.plate.shape[:2]
        low = (np.array(self._eye.corner) + shift) * self._scale
        high = low + np.array([columns, rows]) * self._scale
        x0, y0 = (int(v) for v in np.clip(np.floor(low), 0, size))
        x1, y1 = (int(v) for v in np.clip(np.ceil(high), 0, size))
        return x0, y0, x1, y1

    def _read(self, of: np.ndarray, at: np.ndarray) -> np.ndarray:
        """[h, w(, n)]: samples an enlarged patch at texture positions [h, w, 2]."""
        local = (at - self._first).astype(np.float32)
        return cv2.remap(of, local, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def painted(self, region: np.ndarray, places: np.ndarray, blink: float, gaze: tuple[float, float]) -> np.ndarray:
        """[h, w, 3] float32."""
        eye = self._eye
        away = (places / 2 - self._offset) / self._scale - eye.origin
        u = (away[..., 0] * eye.along[0] + away[..., 1] * eye.along[1]).astype(np.float32)
        v = (away[..., 0] * eye.along[1] - away[..., 1] * eye.along[0]).astype(np.float32)
        plate = self._read(self._plate, places)
        before = region[..., :3].astype(np.float32)
        if eye.solid:
            return self._squeezed(before, plate, places, u, v, blink, gaze)
        return self._lidded(self._looking(before, places, gaze), plate, u, v, blink)

    def _moved(self, x: float, y: float) -> np.ndarray:
        """[2]: a displacement of frame units along the eye and upwards, in texture pixels."""
        along = self._eye.along
        return 2 * self._scale * (x * along + y * np.array([along[1], -along[0]]))

    def _looking(self, out: np.ndarray, places: np.ndarray, gaze: tuple[float, float]) -> np.ndarray:
        """Paints the rotated eyeball."""
        iris = self._iris
        if iris is None or max(abs(gaze[0]), abs(gaze[1])) < _LEAST:
            return out
        left, right, up, down = iris.travel
        x = gaze[0] * (right if gaze[0] > 0 else left)
        y = gaze[1] * (up if gaze[1] > 0 else down)
        white = self._read(iris.white, places)
        layer = self._read(iris.layer, places - self._moved(x, y))
        ball = white[..., :3] + (layer[..., :3] - white[..., :3]) * layer[..., 3:]
        ground = self._read(iris.ground, places)
        turned = ground[..., :3] + (ball - ground[..., :3]) * white[..., 3:]
        return out + (turned - out) * ground[..., 3:]

    def _table(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        eye = self._eye
        at = np.clip(u / eye.width + 0.5, 0, 1) * (len(eye.upper) - 1)
        index = np.minimum(at.astype(np.int32), len(eye.upper) - 2)
        return index, at - index

    def _line(self, u: np.ndarray, v: np.ndarray, curve: np.ndarray, slope: np.ndarray, thick: float) -> np.ndarray:
        """[h, w]: coverage of each pixel by a line along `curve` with pointed ends."""
        across = np.abs(v - curve) / np.sqrt(1 + slope**2)
        x = 2 * u / (self._eye.width + 0.7 * thick)
        half = thick / 2 * np.sqrt(np.clip(1 - x**4, 0, 1))
        return np.clip((half - across) * self._scale + 0.5, 0, 1) * (np.abs(x) < 1)

    def _lidded(self, out: np.ndarray, plate: np.ndarray, u: np.ndarray, v: np.ndarray, blink: float) -> np.ndarray:
        """Paints the lids, closed by `blink`."""
        if blink < _LEAST:
            return out
        eye = self._eye
        index, share = self._table(u)

        def along(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            step = table[index + 1] - table[index]
            return table[index] + share * step, step * ((len(table) - 1) / eye.width)

        acting = float(smoothstep(20 * blink))
        edge, slope = along(eye.upper + (eye.shut - eye.upper) * blink)
        under, slant = along(eye.lower + (eye.shut - eye.lower) * blink)
        covers = np.maximum(v - edge, under - v) * self._scale + 0.5
        skin = plate[..., 3] * np.clip(covers, 0, 1) * acting
        out = out + (plate[..., :3] - out) * skin[..., None]
        lines = self._line(u, v, edge - (1 - blink) * eye.thick / 2, slope, eye.thick)
        if eye.below:
            lines = np.maximum(lines, self._line(u, v, under + (1 - blink) * eye.below / 2, slant, eye.below))
        return out + (eye.line - out) * (acting * lines)[..., None]

    def _squeezed(
        self, out: np.ndarray, plate: np.ndarray, places: np.ndarray, u: np.ndarray, v: np.ndarray, blink: float,
        gaze: tuple[float, float],
    ) -> np.ndarray:  # fmt: skip
        """Paints an eye without a white: moved by the gaze and squeezed to a line."""
        eye = self._eye
        if blink < _LEAST and eye.travel == 0:
            return out
        index, share = self._table(u)
        shut = eye.shut[index] + share * (eye.shut[index + 1] - eye.shut[index])
        slope = (eye.shut[index + 1] - eye.shut[index]) * ((len(eye.shut) - 1) / eye.width)
        # The pixel at height v comes from its original height: the eye shrinks towards the closed lid's line.
        high = 1 - (1 - min(1.0, eye.thick / eye.height)) * blink
        middle = (eye.upper + eye.lower)[len(eye.upper) // 2] / 2
        dot = eye.width < _LONG * eye.height
        level = float(eye.shut.min())
        to = middle + (level - middle) * blink + (shut - level) * blink**3
        wide = 1 + 0.12 * blink if dot else 1.0
        x = u / wide - u
        y = middle + (v - to) / high - v
        moved = 2 * self._scale * np.stack([
            x * eye.along[0] + y * eye.along[1], x * eye.along[1] - y * eye.along[0],
        ], -1)  # fmt: skip
        at = places + moved - self._moved(gaze[0] * eye.travel, gaze[1] * eye.travel)
        at = at.astype(np.float32)
        at = np.ascontiguousarray(at)
        there = self._read(self._plate, at)[..., 3:]
        seen = cv2.remap(self._texture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[..., :3]
        bare = out + (plate[..., :3] - out) * plate[..., 3:]
        squeezed = bare + (seen - bare) * there
        ending = float(smoothstep((blink - _LINED) / (1 - _LINED)))
        if ending == 0:
            return squeezed
        line = self._line(u, v, shut, slope, eye.thick)
        ready = bare + (eye.line - bare) * line[..., None]
        return squeezed + (ready - squeezed) * ending
