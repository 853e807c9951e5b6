"""Painted backgrounds, slightly out of focus, drawn once per rig: one function each, in BACKGROUNDS."""

from collections.abc import Callable

import numpy as np

from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.palette import Color, mix, tone


def backdrop(size: int, stops: list[tuple[float, Color]], tilt: float = 0.15) -> np.ndarray:
    """[S,S,3] float32: a vertical gradient with a soft vignette."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / max(1, size - 1)
    v = np.clip(y + tilt * (x - 0.5), 0, 1)
    offsets = [o for o, _ in stops]
    image = np.stack([np.interp(v, offsets, [c[k] for _, c in stops]) for k in range(3)], -1).astype(np.float32)
    return image * (1.04 - 0.22 * ((x - 0.5) ** 2 + (y - 0.45) ** 2))[..., None]


def span(low: float, high: float, size: int) -> slice:
    """The pixel range between two fractions of the size, plus one at each end."""
    return slice(min(max(0, int(low * size) - 1), size), min(max(0, int(high * size) + 2), size))


def disc(
    image: np.ndarray, x: float, y: float, radius: float, color: Color, opacity: float, soft: float = 0.15
) -> None:
    """Adds a soft disc for bokeh; lengths as fractions of the size."""
    size = len(image)
    rows, columns = span(y - radius, y + radius, size), span(x - radius, x + radius, size)
    v, u = np.mgrid[rows, columns].astype(np.float32) / size
    d = np.hypot(u - x, v - y) / radius
    m = np.clip((1 - d) / soft, 0, 1) * (0.72 + 0.28 * np.clip(d, 0, 1) ** 4) * opacity
    image[rows, columns] += (np.array(color[:3], np.float32) - image[rows, columns]) * m[..., None]


def box(
    image: np.ndarray,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    color: Color,
    opacity: float = 1.0,
    blur: float = 0.012,
) -> None:
    """Adds a rectangle with soft edges; lengths as fractions of the size."""
    size = len(image)
    g = (np.arange(size, dtype=np.float32) + 0.5) / size

    def edge(a: float, b: float) -> np.ndarray:
        return np.clip((g - a) / blur + 0.5, 0, 1) * np.clip((b - g) / blur + 0.5, 0, 1)

    rows, columns = span(y0 - blur, y1 + blur, size), span(x0 - blur, x1 + blur, size)
    m = edge(y0, y1)[rows, None] * edge(x0, x1)[None, columns] * opacity
    image[rows, columns] += (np.array(color[:3], np.float32) - image[rows, columns]) * m[..., None]


def bokeh(a: Anatomy, size: int, rng: np.random.Generator) -> np.ndarray:
    key = a.accent.base if max(a.accent.base) - min(a.accent.base) > 40 else a.colour("eye_colour")
    soft = mix(tone(key, 1.25, 0.0, 0.7), (255, 250, 245), 0.45)
    image = backdrop(
        size, [(0, mix(soft, (255, 255, 255), 0.25)), (0.55, soft), (1, mix(tone(key, 0.8, 0.06, 0.8), soft, 0.35))]
    )
    for _ in range(16):
        disc(
            image,
            rng.uniform(0, 1),
            rng.uniform(0, 1),
            rng.uniform(0.03, 0.10),
            mix(soft, (255, 255, 255), 0.75),
            rng.uniform(0.12, 0.4),
        )
    return image


def soften(image: np.ndarray, radius: float) -> np.ndarray:
    """Blurs by three box blurs, approximately Gaussian. `radius` as a fraction of the size."""
    r = max(1, round(radius * len(image)))
    for axis in (0, 1):
        for _ in range(3):
            n = image.shape[axis]
            index = np.clip(np.arange(-r, n + r + 1), 0, n - 1)
            total = np.cumsum(np.take(image, index, axis), axis, dtype=np.float64)
            upper, lower = np.take(total, np.arange(2 * r, 2 * r + n), axis), np.take(total, np.arange(0, n), axis)
            image = ((upper - lower) / (2 * r)).astype(np.float32)
    return image


def room(a: Anatomy, size: int, rng: np.random.Generator) -> np.ndarray:
    """A sunlit room: window, shelf, plant."""
    wall = mix((232, 214, 196), tone(a.accent.base, 1.2, 0.0, 0.6), 0.22)
    image = backdrop(size, [(0, mix(wall, (255, 250, 240), 0.25)), (1, tone(wall, 0.84))], 0.0)
    box(image, 0.0, 0.86, 1.0, 1.05, tone(wall, 0.66), 1.0, 0.02)
    # window with a sky and hills, and its light on the wall
    box(image, 0.05, 0.06, 0.40, 0.58, (250, 246, 240))
    x0, y0, x1, y1 = (int(v * size) for v in (0.075, 0.085, 0.375, 0.555))
    sky = backdrop(
        max(8, y1 - y0),
        [(0, (150, 200, 240)), (0.6, (216, 236, 246)), (0.62, (150, 190, 140)), (1, (110, 160, 110))],
        0.25,
    )
    image[y0:y1, x0:x1] = sky[: y1 - y0, np.linspace(0, len(sky) - 1, x1 - x0).astype(int)]
    box(image, 0.218, 0.06, 0.232, 0.58, (250, 246, 240))
    box(image, 0.05, 0.30, 0.40, 0.314, (250, 246, 240))
    box(image, 0.03, 0.58, 0.42, 0.605, (236, 226, 214))
    curtain = mix(a.cloth.light, (255, 250, 244), 0.55)
    for u, v in ((0.0, 0.075), (0.385, 0.45)):
        box(image, u, 0.02, v, 0.82, curtain, 0.9, 0.02)
        box(image, u + 0.025, 0.02, u + 0.035, 0.82, tone(curtain, 0.9), 0.6, 0.02)
    # shelf with books and a plant
    box(image, 0.60, 0.36, 1.0, 0.385, (150, 108, 80))
    x = 0.63
    while x < 0.84:
        w, h = rng.uniform(0.014, 0.03), rng.uniform(0.10, 0.17)
        c = [a.cloth.base, a.accent.base, (196, 90, 80), (90, 120, 150), (226, 190, 110)][int(rng.integers(5))]
        box(image, x, 0.36 - h, x + w, 0.36, mix(c, wall, 0.2), 1.0, 0.006)
        x += w + 0.002
    box(image, 0.885, 0.29, 0.945, 0.36, (216, 128, 96))
    for _ in range(14):
        disc(
            image,
            0.915 + rng.normal(0, 0.035),
            0.235 + rng.normal(0, 0.035),
            rng.uniform(0.018, 0.035),
            mix((92, 150, 96), (60, 110, 76), rng.random()),
            0.9,
        )
    box(image, 0.66, 0.08, 0.86, 0.16, mix(a.accent.light, wall, 0.3), 0.0)
    image = soften(image, 0.008)
    disc(image, 0.2, 0.3, 0.75, (255, 240, 214), 0.28, 1.0)
    return image


def evening_city(a: Anatomy, size: int, rng: np.random.Generator) -> np.ndarray:
    """Dusk behind towers, lights out of focus."""
    image = backdrop(
        size,
        [
            (0, (44, 42, 92)),
            (0.4, (112, 78, 140)),
            (0.68, (232, 138, 128)),
            (0.85, (250, 190, 140)),
            (1, (120, 84, 110)),
        ],
        0.08,
    )
    for depth, color in ((0.0, (120, 84, 138)), (0.5, (78, 60, 112)), (1.0, (46, 40, 82))):
        x = -0.05
        while x < 1.0:
            w, h = rng.uniform(0.06, 0.14), rng.uniform(0.12, 0.34) * (1.15 - 0.3 * depth)
            top = 0.86 + 0.07 * depth - h
            box(image, x, top, x + w, 1.1, color, 0.95, 0.01)
            for _ in range(int(10 * depth + 5)):
                u, v = rng.uniform(x + 0.01, x + w - 0.01), rng.uniform(top + 0.02, 0.98)
                box(image, u, v, u + 0.008, v + 0.012, (255, 218, 150), rng.uniform(0.3, 0.9), 0.006)
            x += w + rng.uniform(0.0, 0.04)
    image = soften(image, 0.011)
    for _ in range(20):
        c = [(255, 206, 140), (255, 150, 150), (150, 200, 255), (255, 240, 200)][int(rng.integers(4))]
        disc(image, rng.uniform(0, 1), rng.uniform(0.5, 1.0), rng.uniform(0.014, 0.045), c, rng.uniform(0.15, 0.45))
    return image


def studio_lights(a: Anatomy, size: int, rng: np.random.Generator) -> np.ndarray:
    """A streamer's corner at night: two coloured lights on a dark wall, panels, a shelf's glow."""
    warm = tone(a.accent.base, 1.0, 0.0, 1.3) if max(a.accent.base) - min(a.accent.base) > 50 else (255, 92, 170)
    cool = mix(tone(warm, 1.0, 0.45, 1.1), (70, 120, 255), 0.55)
    image = backdrop(size, [(0, (36, 32, 54)), (1, (22, 20, 36))], 0.0)
    for i in range(7):
        for j in range(7):
            x, y = (i + 0.5 * (j % 2)) * 0.17 - 0.05, j * 0.15
            box(image, x, y, x + 0.15, y + 0.13, (52, 48, 74), 0.5, 0.02)
    disc(image, 0.0, 0.32, 0.75, warm, 0.62, 1.0)
    disc(image, 1.0, 0.40, 0.75, cool, 0.62, 1.0)
    box(image, 0.06, 0.10, 0.075, 0.80, mix(warm, (255, 255, 255), 0.6), 0.95, 0.008)
    box(image, 0.925, 0.10, 0.94, 0.80, mix(cool, (255, 255, 255), 0.6), 0.95, 0.008)
    image = soften(image, 0.012)
    for _ in range(8):
        disc(
            image,
            rng.uniform(0, 1),
            rng.uniform(0, 0.7),
            rng.uniform(0.012, 0.035),
            mix(warm if rng.random() < 0.5 else cool, (255, 255, 255), 0.5),
            rng.uniform(0.15, 0.35),
        )
    return image


def plain(a: Anatomy, size: int, rng: np.random.Generator) -> np.ndarray:
    """One calm colour, with a big disc behind the head."""
    key = mix(tone(a.accent.base, 1.15, 0.0, 0.8), (250, 244, 236), 0.35)
    image = backdrop(size, [(0, key), (1, tone(key, 0.93))], 0.0)
    disc(image, 0.5, 0.46, 0.42, mix(key, (255, 255, 255), 0.42), 0.9, 0.008)
    return image


def sky(a: Anatomy, size: int, rng: np.random.Generator) -> np.ndarray:
    """Summer clouds."""
    image = backdrop(size, [(0, (92, 164, 232)), (0.6, (164, 212, 246)), (1, (228, 242, 250))], 0.05)
    for cx, cy, scale in ((0.12, 0.30, 1.0), (0.86, 0.22, 0.8), (0.75, 0.78, 1.3), (0.1, 0.85, 1.4), (0.5, 0.95, 1.3)):
        for _ in range(12):
            dx, dy = rng.normal(0, 0.075) * scale, -abs(rng.normal(0, 0.032)) * scale
            disc(image, cx + dx, cy + dy, rng.uniform(0.03, 0.07) * scale, (255, 255, 255), 0.75, 0.6)
    return soften(image, 0.010)


def library(a: Anatomy, size: int, rng: np.random.Generator) -> np.ndarray:
    """Shelves of books under a warm lamp."""
    image = backdrop(size, [(0, (96, 66, 50)), (1, (66, 44, 38))], 0.0)
    colors = [
        (156, 68, 60),
        (72, 98, 124),
        (196, 156, 92),
        (98, 122, 86),
        (120, 84, 120),
        (214, 196, 166),
        (88, 60, 52),
        a.cloth.base,
        a.accent.base,
    ]
    for row in range(5):
        y = 0.20 + row * 0.205
        x = -0.01
        while x < 1.0:
            if rng.random() < 0.08:
                x += rng.uniform(0.02, 0.05)
                continue
            w, h = rng.uniform(0.014, 0.036), rng.uniform(0.115, 0.165)
            c = mix(colors[int(rng.integers(len(colors)))], (84, 58, 46), 0.25)
            box(image, x, y - h, x + w, y, c, 1.0, 0.006)
            box(image, x + 0.003, y - h + 0.02, x + w - 0.003, y - h + 0.03, mix(c, (240, 220, 170), 0.5), 0.7, 0.006)
            x += w + 0.0015
        box(image, 0.0, y, 1.0, y + 0.022, (124, 84, 58), 1.0, 0.006)
    image = soften(image, 0.010)
    disc(image, 0.78, 0.16, 0.7, (255, 212, 140), 0.42, 1.0)
    for _ in range(9):
        disc(
            image,
            rng.uniform(0, 1),
            rng.uniform(0, 0.9),
            rng.uniform(0.012, 0.035),
            (255, 224, 170),
            rng.uniform(0.1, 0.28),
        )
    return image


BACKGROUNDS: dict[str, Callable[[Anatomy, int, np.random.Generator], np.ndarray]] = {
    "bokeh": bokeh,
    "room": room,
    "evening city": evening_city,
    "studio lights": studio_lights,
    "plain": plain,
    "sky": sky,
    "library": library,
}


def background(a: Anatomy, size: int) -> np.ndarray:
    """[S,S,4] uint8 opaque."""
    image = BACKGROUNDS[str(a.traits["background"])](a, size, a.rng("background"))
    return np.dstack([np.clip(image + 0.5, 0, 255).astype(np.uint8), np.full((size, size), 255, np.uint8)])
