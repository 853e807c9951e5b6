"""Blinks and gazes of drawn eyes, painted over a frame that has already been moved.

Every pixel of the frame near an eye knows where in the picture it comes from. There it is decided what it shows: the
eye, its iris moved over the white; the skin without the eye, where a lid has come down; or the line of the lid's edge.
"""

import cv2
import numpy as np

from streamer.studio.picture_rig.curves import smoothstep
from streamer.studio.picture_rig.drawn_eyes import DrawnEye, DrawnEyes
from streamer.studio.picture_rig.framing import FRAME

_FINE = 513  # places along the eye in the tables that frames are painted from
_LEAST = 0.01  # below which a blink or a gaze is none
_LINED = 0.82  # of a dot's blink after which the line takes its place
_WIDENED = 0.12  # share of its width that a dot grows meanwhile
_LONG = 1.4  # times its height that a solid eye is wide from which on it has lashes, and keeps their shape


def _mixed(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """[h, w, 3] float32: of two images, the second by a share [h, w], 0..1."""
    return cv2.blendLinear(second, first, share, 1 - share)


class DrawnEyePainter:
    """Paints both eyes into frames of one size. The same calls as EyePainter."""

    def __init__(self, eyes: DrawnEyes, texture: np.ndarray, margin: int, size: int) -> None:
        """`texture` as framing.enlarged gives it, with `margin` pixels of the frame on each side."""
        self._texture = texture
        self._margin, self._scale, self._size = margin, size / FRAME, size
        self._eyes = [None if eye is None else _Painted(eye, texture, margin, self._scale) for eye in eyes.eyes]

    def paint(
        self, frame: np.ndarray, places: np.ndarray, shifts: np.ndarray, blinks: tuple[float, float],
        gaze: tuple[float, float],
    ) -> None:  # fmt: skip
        """Into a frame [S, S, 4] uint8 whose pixels come from `places` [S, S, 2] of the texture. `shifts` [2, 2]: by
        how much each eye has moved, in frame units."""
        for eye, shift, blink in zip(self._eyes, shifts, blinks, strict=True):
            if eye is None or max(blink, abs(gaze[0]), abs(gaze[1])) < _LEAST:
                continue
            x0, y0, x1, y1 = eye.box(shift, self._size)
            if x1 - x0 < 2 or y1 - y0 < 2:
                continue
            region = frame[y0:y1, x0:x1]
            out = eye.painted(region, places[y0:y1, x0:x1], float(np.clip(blink, 0, 1)), gaze)
            if region[..., 3].min() < 255:
                out = np.minimum(out, region[..., 3:])
            region[..., :3] = np.clip(out + 0.5, 0, 255)


def _split(patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[h, w, 4] to colours [h, w, 3] and shares [h, w]."""
    return np.ascontiguousarray(patch[..., :3]), np.ascontiguousarray(patch[..., 3])


class _Painted:
    """One eye at one size."""

    def __init__(self, eye: DrawnEye, texture: np.ndarray, margin: int, scale: float) -> None:
        self._eye = eye
        self._texture = texture
        self._scale, self._offset = scale, margin - 0.5
        per = 2 * scale  # texture pixels of a frame unit
        high, wide = eye.plate.shape[:2]
        self._first = np.floor(per * np.array(eye.corner) + 2 * self._offset).astype(int)
        last = np.ceil(per * (np.array(eye.corner) + [wide, high]) + 2 * self._offset).astype(int)
        edges = tuple(int(edge) for edge in last - self._first + 1)
        # Of a pixel of the texture, the place in the eye's patch; OpenCV's pixels are points at whole numbers.
        shift = (self._first - 2 * self._offset) / per - np.array(eye.corner) - 0.5
        matrix = np.array([[1 / per, 0, shift[0]], [0, 1 / per, shift[1]]])

        def enlarged(patch: np.ndarray) -> np.ndarray:
            flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
            return cv2.warpAffine(patch, matrix, edges, flags=flags, borderMode=cv2.BORDER_REPLICATE)

        self._plate, self._covered = _split(enlarged(eye.plate))
        self._origin, self._along = eye.origin.astype(np.float32), eye.along.astype(np.float32)
        self._fine = {
            name: np.interp(np.linspace(0, 1, _FINE), np.linspace(0, 1, len(table)), table).astype(np.float32)
            for name, table in (("upper", eye.upper), ("lower", eye.lower), ("shut", eye.shut))
        }
        self._iris: tuple[np.ndarray, ...] | None = None
        if eye.iris is not None:
            layer, own = enlarged(eye.iris.layer), enlarged(eye.iris.own)
            # Where the texture has more detail than the patch, it counts.
            x0, y0, x1, y1 = *np.maximum(self._first, 0), *np.minimum(last + 1, texture.shape[1::-1])
            rows = slice(y0 - self._first[1], y1 - self._first[1])
            columns = slice(x0 - self._first[0], x1 - self._first[0])
            part = layer[rows, columns, :3]
            part += (texture[y0:y1, x0:x1, :3] - part) * own[rows, columns, None]
            self._iris = (*_split(layer), *_split(enlarged(eye.iris.white)), *_split(enlarged(eye.iris.ground)))

    def box(self, shift: np.ndarray, size: int) -> tuple[int, int, int, int]:
        rows, columns = self._eye.plate.shape[:2]
        low = (np.array(self._eye.corner) + shift) * self._scale
        high = low + np.array([columns, rows]) * self._scale
        x0, y0 = (int(v) for v in np.clip(np.floor(low), 0, size))
        x1, y1 = (int(v) for v in np.clip(np.ceil(high), 0, size))
        return x0, y0, x1, y1

    def _read(self, of: np.ndarray, local: np.ndarray) -> np.ndarray:
        """[h, w(, n)] of an enlarged patch at places of it [h, w, 2]."""
        return cv2.remap(of, local, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def painted(self, region: np.ndarray, places: np.ndarray, blink: float, gaze: tuple[float, float]) -> np.ndarray:
        """[h, w, 3] float32."""
        local = places - self._first.astype(np.float32)
        away = places * np.float32(0.5 / self._scale) - (self._origin + np.float32(self._offset / self._scale))
        u = away[..., 0] * self._along[0] + away[..., 1] * self._along[1]
        v = away[..., 0] * self._along[1] - away[..., 1] * self._along[0]
        before = cv2.cvtColor(region, cv2.COLOR_RGBA2RGB).astype(np.float32)
        if self._eye.solid:
            return self._squeezed(before, local, u, v, blink, gaze)
        return self._lidded(self._looking(before, local, gaze), local, u, v, blink)

    def _moved(self, x: float, y: float) -> np.ndarray:
        """[2] float32: so many frame units along the eye and upwards, in the texture's pixels."""
        along = self._eye.along
        return (2 * self._scale * (x * along + y * np.array([along[1], -along[0]]))).astype(np.float32)

    def _looking(self, out: np.ndarray, local: np.ndarray, gaze: tuple[float, float]) -> np.ndarray:
        """The eyeball turned."""
        if self._iris is None or self._eye.iris is None or max(abs(gaze[0]), abs(gaze[1])) < _LEAST:
            return out
        left, right, up, down = self._eye.iris.travel
        x = gaze[0] * (right if gaze[0] > 0 else left)
        y = gaze[1] * (up if gaze[1] > 0 else down)
        there = local - self._moved(x, y)
        layer, covers, white, share, ground, region = self._iris
        ball = _mixed(self._read(white, local), self._read(layer, there), self._read(covers, there))
        turned = _mixed(self._read(ground, local), ball, self._read(share, local))
        return _mixed(out, turned, self._read(region, local))

    def _index(self, u: np.ndarray) -> np.ndarray:
        """[h, w] int32: the place in the fine tables."""
        at = u * np.float32((_FINE - 1) / self._eye.width) + np.float32(_FINE / 2)
        return np.clip(at, 0, _FINE - 1).astype(np.int32)

    def _line(self, u: np.ndarray, v: np.ndarray, table: np.ndarray, index: np.ndarray, thick: float) -> np.ndarray:
        """[h, w]: how much of each pixel a line along a curve covers, which ends in points."""
        upright = 1 / np.sqrt(1 + (np.gradient(table) * ((_FINE - 1) / self._eye.width)) ** 2)
        across = np.abs(v - table[index]) * upright.astype(np.float32)[index]
        x = u * np.float32(2 / (self._eye.width + 0.7 * thick))
        x *= x
        half = np.float32(thick / 2) * np.sqrt(np.maximum(1 - x * x, 0))
        return np.clip((half - across) * np.float32(self._scale) + np.float32(0.5), 0, 1) * (x < 1)

    def _lined(self, out: np.ndarray, share: np.ndarray) -> np.ndarray:
        """With the lid's line where it covers."""
        line = np.empty_like(out)
        line[:] = self._eye.line
        return _mixed(out, line, share)

    def _lidded(self, out: np.ndarray, local: np.ndarray, u: np.ndarray, v: np.ndarray, blink: float) -> np.ndarray:
        """With the lids shut by that much."""
        if blink < _LEAST:
            return out
        eye, fine, index = self._eye, self._fine, self._index(u)
        shut, left = np.float32(blink), np.float32(1 - blink)
        acting = np.float32(smoothstep(6 * blink))
        edge = fine["upper"] * left + fine["shut"] * shut
        under = fine["lower"] * left + fine["shut"] * shut
        covers = np.maximum(v - edge[index], under[index] - v) * np.float32(self._scale) + np.float32(0.5)
        skin = self._read(self._covered, local) * np.clip(covers, 0, 1) * acting
        out = _mixed(out, self._read(self._plate, local), skin)
        lines = self._line(u, v, edge - left * np.float32(eye.thick / 2), index, eye.thick)
        if eye.below:
            lower = under + left * np.float32(eye.below / 2)
            lines = np.maximum(lines, self._line(u, v, lower, index, eye.below))
        return self._lined(out, lines * acting)

    def _squeezed(
        self, out: np.ndarray, local: np.ndarray, u: np.ndarray, v: np.ndarray, blink: float,
        gaze: tuple[float, float],
    ) -> np.ndarray:  # fmt: skip
        """Of an eye without a white: moved by the gaze and squeezed to a line."""
        eye = self._eye
        if blink < _LEAST and eye.travel == 0:
            return out
        index, shut = self._index(u), self._fine["shut"]
        # What is at height v comes from where it was before: the eye shrinks towards the shut lid's line.
        high = 1 - (1 - min(1.0, eye.thick / eye.height)) * blink
        middle = float(eye.upper[len(eye.upper) // 2] + eye.lower[len(eye.lower) // 2]) / 2
        wide = 1 + _WIDENED * blink if eye.width < _LONG * eye.height else 1.0
        level = float(shut.min())
        to = (middle + (level - middle) * blink + (shut - level) * blink**3).astype(np.float32)
        x = u * np.float32(1 / wide - 1)
        y = (v - to[index]) * np.float32(1 / high) + np.float32(middle) - v
        along = self._along * np.float32(2 * self._scale)
        at = local + np.stack([x * along[0] + y * along[1], x * along[1] - y * along[0]], -1)
        at -= self._moved(gaze[0] * eye.travel, gaze[1] * eye.travel)
        seen = self._read(self._texture, at + self._first.astype(np.float32))
        seen = cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB).astype(np.float32)
        bare = _mixed(out, self._read(self._plate, local), self._read(self._covered, local))
        squeezed = _mixed(bare, seen, self._read(self._covered, at))
        ending = float(smoothstep((blink - _LINED) / (1 - _LINED)))
        if ending == 0:
            return squeezed
        ready = self._lined(bare, self._line(u, v, shut, index, eye.thick))
        return squeezed + (ready - squeezed) * np.float32(ending)
