"""Scribbled faces for training the face detector: of any shape and colour, like emoji, toys and comics."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from streamer.faces.detector import Face

EDGE = 192


def any_colour(rng: np.random.Generator, pale: float = 0.0) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in rng.uniform(255 * pale, 256, 3))
    return r, g, b


def scribble(rng: np.random.Generator) -> tuple[Image.Image, Face]:
    """A head with two eyes and a mouth on an empty picture [EDGE, EDGE] (RGBa, premultiplied), and its face."""
    edge = EDGE
    image = Image.new("RGBA", (edge, edge))
    pen = ImageDraw.Draw(image)
    apart = float(rng.uniform(26, 58))
    left, right = edge / 2 - apart / 2, edge / 2 + apart / 2
    aside = float(rng.uniform(-0.35, 0.35)) if rng.random() < 0.5 else 0.0  # the face looks past the viewer
    centre = edge / 2 - aside * apart
    eye_y = float(rng.uniform(0.36, 0.5)) * edge
    mouth_y = eye_y + apart * float(rng.uniform(0.45, 1.15))
    middle = edge / 2 + apart * (float(rng.normal(0, 0.03)) + 0.3 * aside)
    top, bottom = eye_y - apart * rng.uniform(0.6, 1.3), mouth_y + apart * rng.uniform(0.3, 0.7)
    half = apart * float(rng.uniform(0.85, 1.35))
    natural = ((255, 204, 77), (245, 205, 170), (224, 172, 125), (150, 100, 65), (92, 58, 40), (250, 225, 200))
    skin = natural[int(rng.integers(len(natural)))] if rng.random() < 0.6 else any_colour(rng)
    dark = tuple(int(v * rng.uniform(0.05, 0.45)) for v in skin) if rng.random() < 0.5 else (20, 20, 25)
    line = int(rng.integers(1, 5))
    outline = dark if rng.random() < 0.4 else None
    hair = any_colour(rng) if rng.random() < 0.4 else tuple(int(v) for v in rng.uniform(10, 120, 3))

    if rng.random() < 0.5:  # body
        wide = half * rng.uniform(0.8, 1.6)
        pen.rounded_rectangle((centre - wide, bottom - 8, centre + wide, edge + 40), 25, fill=any_colour(rng))
        pen.rectangle((centre - half / 3, bottom - 10, centre + half / 3, bottom + 8), fill=skin)
    if rng.random() < 0.35:  # hair behind
        reach = half * rng.uniform(1.05, 1.4)
        pen.ellipse((centre - reach, top - 15, centre + reach, bottom + rng.uniform(-20, 50)), fill=hair)
    if rng.random() < 0.4:  # ears: of a person, or of an animal
        size = apart * rng.uniform(0.15, 0.45)
        high = eye_y + apart * 0.2 if rng.random() < 0.5 else top + 4
        for x in (centre - half * 0.92, centre + half * 0.92):
            if rng.random() < 0.5:
                pen.ellipse((x - size, high - size, x + size, high + size), fill=skin, outline=outline, width=line)
            else:
                pen.polygon([(x - size, high), (x + size, high), (x, high - 2.2 * size)], fill=skin, outline=outline)
    box = (centre - half, top, centre + half, bottom)
    kind = rng.random()
    if kind < 0.6:
        pen.ellipse(box, fill=skin, outline=outline, width=line)
    elif kind < 0.85:
        pen.rounded_rectangle(box, half * rng.uniform(0.15, 0.9), fill=skin, outline=outline, width=line)
    else:
        angles = np.sort(rng.uniform(0, 2 * math.pi, 9))
        points = [(centre + 1.15 * half * math.cos(a), (top + bottom) / 2 + 0.62 * (bottom - top) * math.sin(a))
                  for a in np.concatenate([angles, np.linspace(0, 2 * math.pi, 8)])]  # fmt: skip
        points.sort(key=lambda p: math.atan2(p[1] - (top + bottom) / 2, p[0] - centre))
        pen.polygon(points, fill=skin, outline=outline)
    if rng.random() < 0.3:  # shading, as on painted heads
        light = Image.linear_gradient("L").resize((edge, edge)).rotate(float(rng.uniform(0, 360)))
        shade = Image.merge("RGBA", (*(Image.new("L", (edge, edge), c) for c in dark), light.point(lambda v: v // 3)))
        shade.putalpha(Image.fromarray(np.minimum(np.asarray(shade.getchannel("A")), np.asarray(image)[..., 3])))
        image.alpha_composite(shade)
        pen = ImageDraw.Draw(image)
    if rng.random() < 0.3:  # muzzle or beard
        low = any_colour(rng, 0.5) if rng.random() < 0.6 else hair
        reach = apart * rng.uniform(0.35, 0.7)
        pen.ellipse((middle - reach, mouth_y - 0.6 * reach, middle + reach, bottom + 3), fill=low)
    if rng.random() < 0.3:  # cheeks
        size = apart * rng.uniform(0.1, 0.22)
        for x in (left - apart * 0.12, right + apart * 0.12):
            y = (eye_y + mouth_y) / 2 + size / 2
            pen.ellipse((x - size, y - size, x + size, y + size), fill=(240, 130, 120))

    _scribble_eyes(pen, rng, (left, right), eye_y, apart, dark, line)
    nose = rng.random()
    nose_y = eye_y + (mouth_y - eye_y) * rng.uniform(0.45, 0.65)
    size = apart * rng.uniform(0.03, 0.16)
    if nose < 0.25:
        pen.ellipse((middle - size, nose_y - size, middle + size, nose_y + size * 0.7), fill=dark)
    elif nose < 0.5:
        pen.line([(middle, eye_y + 4), (middle - size, nose_y), (middle + size, nose_y)], fill=dark, width=line)
    elif nose < 0.6:
        pen.polygon([(middle - size, nose_y - size), (middle + size, nose_y - size), (middle, nose_y)], fill=dark)
    _scribble_mouth(pen, rng, middle, mouth_y, apart, dark, line)
    if rng.random() < 0.5:  # fringe
        comb = [(centre - half, eye_y - apart * 0.1), (centre - half * 0.9, top - 6), (centre, top - 14)]
        comb += [(centre + half * 0.9, top - 6), (centre + half, eye_y - apart * 0.1)]
        hem = eye_y - apart * 0.3
        comb += [(centre + half * x, hem - rng.uniform(0, 0.3) * apart) for x in (0.7, 0.3, 0, -0.3, -0.7)]
        pen.polygon(comb, fill=hair)
    eyes = np.array([[left, eye_y], [right, eye_y]], np.float32)
    face = Face(1.0, eyes, np.array([middle, mouth_y], np.float32))
    if rng.random() < 0.12:  # a line drawing
        pixels = np.asarray(image.convert("L").filter(ImageFilter.FIND_EDGES))
        flat = np.repeat((255 - np.minimum(2 * pixels.astype(int), 255)).astype(np.uint8)[..., None], 3, 2)
        image = Image.fromarray(np.concatenate([flat, np.asarray(image)[..., 3:]], 2), "RGBA")
    return image.convert("RGBa"), face


def _scribble_eyes(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    places: tuple[float, float],
    y: float,
    apart: float,
    dark: tuple[int, ...],
    line: int,
) -> None:
    kind = rng.random()
    wide = apart * float(rng.uniform(0.08, 0.45))
    high = wide * float(rng.uniform(0.5, 1.7))
    iris = any_colour(rng) if rng.random() < 0.5 else dark
    look = rng.uniform(-0.25, 0.25, 2)
    small = rng.uniform(0.35, 0.8)
    lids, arched = rng.random() < 0.4, rng.random() < 0.6
    for x in places:
        box = (x - wide, y - high, x + wide, y + high)
        if kind < 0.3:  # a dot
            pen.ellipse(box, fill=dark)
        elif kind < 0.75:  # white with an iris
            pen.ellipse(box, fill=(255, 255, 255), outline=dark if rng.random() < 0.6 else None, width=max(line - 1, 1))
            cx, cy = x + look[0] * wide, y + look[1] * high
            pen.ellipse((cx - wide * small, cy - high * small, cx + wide * small, cy + high * small), fill=iris)
            core = small * 0.5
            pen.ellipse((cx - wide * core, cy - high * core, cx + wide * core, cy + high * core), fill=dark)
            if lids:
                pen.arc((x - wide * 1.1, y - high * 1.1, x + wide * 1.1, y + high), 190, 350, fill=dark, width=line + 2)
        elif kind < 0.9:  # closed: an arc up or down, its middle at x, y
            start, lift = (180, high / 2) if arched else (0, -high / 2)
            pen.arc(
                (x - wide, y - high + lift, x + wide, y + high + lift), start, start + 180, fill=dark, width=line + 1
            )
        else:
            pen.line([(x - wide, y), (x + wide, y)], fill=dark, width=line + 2)
    size = max(2.0, wide * 0.25)
    if kind < 0.75 and rng.random() < 0.5:  # a highlight
        for x in places:
            pen.ellipse((x - wide * 0.3, y - high * 0.5, x - wide * 0.3 + size, y - high * 0.5 + size), fill="white")
    if rng.random() < 0.5:  # brows
        lift, tilt = high + apart * rng.uniform(0.06, 0.2), apart * rng.normal(0, 0.05)
        for x, sign in zip(places, (-1, 1), strict=True):
            ends = [(x - wide * 1.2, y - lift + sign * tilt), (x + wide * 1.2, y - lift - sign * tilt)]
            pen.line(ends, fill=dark, width=line + 1)
    if rng.random() < 0.15:  # glasses
        reach = max(wide, high) + apart * rng.uniform(0.08, 0.15)
        for x in places:
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), outline=dark, width=line)
        pen.line([(places[0] + reach, y), (places[1] - reach, y)], fill=dark, width=line)


def _scribble_mouth(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    x: float,
    y: float,
    apart: float,
    dark: tuple[int, ...],
    line: int,
) -> None:
    """Draws a mouth of any kind with its centre at x, y."""
    kind = rng.random()
    wide = apart * float(rng.uniform(0.12, 0.8))
    high = min(apart * float(rng.uniform(0.05, 0.4)), wide)
    inside = (120, 30, 40) if rng.random() < 0.6 else dark
    if kind < 0.35:  # an arc up or down
        if rng.random() < 0.75:
            pen.arc((x - wide, y - 3.5 * high, x + wide, y + high / 2), 30, 150, fill=dark, width=line + 1)
        else:
            pen.arc((x - wide, y - high / 2, x + wide, y + 3.5 * high), 210, 330, fill=dark, width=line + 1)
    elif kind < 0.5:
        pen.line([(x - wide, y), (x + wide, y + apart * rng.normal(0, 0.02))], fill=dark, width=line + 1)
    elif kind < 0.7:  # open
        pen.ellipse((x - wide * 0.7, y - high, x + wide * 0.7, y + high), fill=inside, outline=dark, width=line)
    elif kind < 0.9:  # laughing, with teeth
        pen.chord((x - wide, y - 3.5 * high, x + wide, y + 0.8 * high), 15, 165, fill=inside, outline=dark, width=line)
        teeth = rng.random()
        if teeth < 0.5:
            pen.line([(x - wide * 0.7, y - high * 0.6), (x + wide * 0.7, y - high * 0.6)], fill="white", width=line + 3)
        elif teeth < 0.7:
            pen.chord((x - wide, y - 3.5 * high, x + wide, y + 0.8 * high), 15, 165, fill="white", outline=dark)
    else:  # lips
        red = (int(rng.uniform(150, 230)), 70, 80)
        pen.ellipse((x - wide * 0.8, y - high * 0.7, x + wide * 0.8, y + high * 0.7), fill=red)
        pen.line([(x - wide * 0.8, y), (x + wide * 0.8, y)], fill=dark, width=1)
