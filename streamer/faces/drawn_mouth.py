"""Replaces a picture's mouth with one that the generator can animate.

The generator learned speech from the studio's characters, whose closed mouth is a line between two lips. It hardly
moves a mouth that is a single stroke, is open, or belongs to an animal. So the picture's mouth is removed, the skin is
inpainted, and a mouth of the studio's proportions is painted there, in colours derived from the surrounding skin.

Letters used in shapes: S the frame's edge.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from streamer.faces.detector import Face

# All lengths are relative to the distance between the eyes, which is 0.456 in the studio's heads.
_HALF_WIDTH = 0.33  # the studio's are 0.24 to 0.32; a wider one opens farther
_UPPER, _LOWER = 0.040, 0.062
_STROKE = 0.040
_SMILE = 0.044  # height of the corners above the middle
_SEARCHED = (0.70, 0.36)  # half axes of the ellipse in which the picture's mouth is searched
_CORE = (0.45, 0.24)  # half axes of the ellipse that must contain the centre of each part of it
_STANDS_OUT = 24  # grey levels from the skin's colour, in the channel that differs most
_LIP, _LIP_OPACITY = np.array([0.80, 0.47, 0.48]), 0.45  # relative to the skin's colour
_LINE = np.array([0.38, 0.18, 0.19])
_FINER = 4  # supersampling factor, for smooth edges


def with_drawn_mouth(picture: np.ndarray, face: Face) -> np.ndarray:
    """Straight RGBA [S, S, 4] uint8 with its face at `face` -> the same with a closed, replaced mouth."""
    u, v = _across_and_down(face, len(picture))
    searched = (u / _SEARCHED[0]) ** 2 + (v / _SEARCHED[1]) ** 2 <= 1
    seen = searched & (picture[..., 3] > 250)
    if not seen.any():
        return picture
    shade = _skin(picture[..., :3], seen, u, v)
    skin = shade[seen].mean(0)
    odd = np.abs(picture[..., :3] - shade).max(-1) > _STANDS_OUT
    around = (u / (2 * _SEARCHED[0])) ** 2 + (v / (2 * _SEARCHED[1])) ** 2 <= 1
    near = _box(around)
    own = np.zeros_like(odd)
    own[near] = _own_mouth((odd & around)[near], u[near], v[near])
    gone = _grown(own, 2) & (picture[..., 3] > 0)
    out = picture.copy()
    out[..., :3] = _closed(picture[..., :3].astype(np.float32), gone, _grown(odd, 1) & ~gone, shade) + 0.5
    painted = Image.fromarray(out)
    painted.alpha_composite(_mouth(face, len(picture), skin))
    out[..., :3] = np.asarray(painted)[..., :3]
    return out


def _across_and_down(face: Face, size: int) -> tuple[np.ndarray, np.ndarray]:
    """[S, S] each: every pixel's position relative to the mouth, along the line of the eyes and down from it."""
    x, y = np.meshgrid(np.arange(size) + 0.5 - face.mouth[0], np.arange(size) + 0.5 - face.mouth[1])
    cos, sin = np.cos(face.roll), np.sin(face.roll)
    return (cos * x + sin * y) / face.eye_distance, (cos * y - sin * x) / face.eye_distance


def _skin(colours: np.ndarray, seen: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """[S, S, 3] float32: a smooth (second-order) robust fit of the skin's colour around the mouth to `seen` pixels."""
    basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)
    x, y = basis[seen], colours[seen].astype(np.float64)
    shade = np.median(y, axis=0) + np.zeros_like(y)
    for width in (80, 60, 40, 30, 25, 20, 20, 20):  # grey levels: outliers lose weight with each iteration
        weight = 1 / (1 + (np.abs(y - shade).max(-1) / width) ** 4)
        fitted = np.linalg.lstsq(x * weight[:, None] ** 0.5, y * weight[:, None] ** 0.5, rcond=None)[0]
        shade = x @ fitted
    return np.clip(basis @ fitted, 0, 255).astype(np.float32)


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    image = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * by + 1))
    return np.asarray(image) > 0


def _box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the bounding box."""
    rows, columns = (slice(max(int(k.min()) - margin, 0), int(k.max()) + margin + 1) for k in np.nonzero(mask))
    return rows, columns


def _own_mouth(odd: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The connected parts of the mask `odd` that belong to the mouth, not to a chin line or a nose."""
    left, own = odd.copy(), np.zeros_like(odd)
    while left.any():
        part = np.zeros_like(odd)
        part[np.unravel_index(left.argmax(), left.shape)] = True
        while True:
            grown = _grown(part, 1) & left
            if (grown == part).all():
                break
            part = grown
        left &= ~part
        inside = ((u / _SEARCHED[0]) ** 2 + (v / _SEARCHED[1]) ** 2 <= 1)[part].mean()
        middle = (u[part].mean() / _CORE[0]) ** 2 + (v[part].mean() / _CORE[1]) ** 2
        if middle <= 1 and inside > 0.9:
            own |= part
    if not own.any():  # it is connected to a nose or a beard
        own = odd & ((u / _CORE[0]) ** 2 + (v / _CORE[1]) ** 2 <= 1)
    return own


def _closed(colours: np.ndarray, gone: np.ndarray, lines: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """[S, S, 3]: inpaints `gone` from its surroundings except `lines`, starting from `shade`."""
    if not gone.any():
        return colours
    near = _box(gone, 2)
    part, hole = colours[near].copy(), gone[near]
    flows = (~lines[near]).astype(np.float32)[..., None]
    part[hole] = shade[near][hole]
    for _ in range(2 * max(part.shape)):
        total, weight = np.zeros_like(part), np.zeros_like(flows)
        for axis, by in ((0, 1), (0, -1), (1, 1), (1, -1)):
            total += np.roll(part * flows, by, axis)
            weight += np.roll(flows, by, axis)
        part[hole] = (total / np.maximum(weight, 1e-6))[hole]
    out = colours.copy()
    out[near] = part
    return out


def _mouth(face: Face, size: int, skin: np.ndarray) -> Image.Image:
    """RGBA of the frame's size: two touching lips with a line between them."""
    layer = Image.new("RGBA", (size * _FINER, size * _FINER))
    pen = ImageDraw.Draw(layer)
    t = np.linspace(-1, 1, 41)
    across = _HALF_WIDTH * t
    line = _SMILE * (0.35 - t**2) + 0.008 * np.exp(-((t / 0.22) ** 2))
    body = 0.45 + 0.55 * (1 - t**2)
    cos, sin = np.cos(face.roll), np.sin(face.roll)

    def area(top: np.ndarray, bottom: np.ndarray, colour: np.ndarray, opacity: float) -> None:
        x, y = np.r_[across, across[::-1]], np.r_[top, bottom[::-1]]
        places = np.stack([cos * x - sin * y, sin * x + cos * y], -1) * face.eye_distance + face.mouth
        pen.polygon(
            [tuple(p) for p in (places * _FINER).tolist()], (*colour.astype(int).tolist(), round(255 * opacity))
        )

    area(
        line - _UPPER * (1 - t**2) ** 0.8 * (1 - 0.22 * np.exp(-((t / 0.2) ** 2))),
        line,
        _LIP * skin,
        _LIP_OPACITY * 0.9,
    )
    area(line, line + _LOWER * (1 - np.abs(t) ** 2.5), _LIP * skin, _LIP_OPACITY)
    area(line - 0.6 * _STROKE * body, line + 0.4 * _STROKE * body, _LINE * skin, 1.0)
    return layer.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS).convert("RGBA")
