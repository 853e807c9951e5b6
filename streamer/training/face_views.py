"""What the face detector is trained on: views composed of the studio's characters, scribbled faces and backgrounds.

Letters used in shapes: V the view's edge, P the 3 points of a face.
"""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from streamer.base.alpha import premultiplied
from streamer.faces.detector import Face, sampled, similarity
from streamer.motion.controls import CONTROLS, EMOTIONS, INDEX
from streamer.motion.emotions import expression
from streamer.studio.character import Character
from streamer.studio.draw.background import background as paint_background
from streamer.studio.draw.portrait import portrait
from streamer.studio.rig import KEYPOINTS, Rig, Truth
from streamer.training.scenes import FIRST_SEED
from streamer.training.scribble import EDGE, any_colour, scribble

DRAWN = EDGE  # of a character's cut-out
_POINT = {name: i for i, name in enumerate(KEYPOINTS)}


@dataclass(frozen=True, eq=False)
class Cutout:
    """Something with a face, or without (`face` None)."""

    image: Image.Image  # RGBa, premultiplied
    face: Face | None
    whole: bool = True
    """Whether eyes and mouth are in sight: where they are not, nobody says whether it is a face."""


def face_of(truth: Truth) -> tuple[Face, bool]:
    """The studio's truth as the detector is to see it, and whether nothing covers eyes and mouth."""

    def middle(*names: str) -> np.ndarray:
        return truth.keypoints[[_POINT[name] for name in names], :2].mean(0)

    eyes = np.stack([middle(f"eye_{side}_top", f"eye_{side}_bottom") for side in ("left", "right")])
    needed = [_POINT[f"eye_{side}_{part}"] for side in ("left", "right") for part in ("inner", "bottom")]
    needed += [_POINT[name] for name in ("inner_lip_left", "inner_lip_right", "lip_bottom")]
    whole = bool(truth.keypoints[needed, 2].mean() > 0.7)
    return Face(1.0, eyes, middle("lip_top", "lip_bottom")), whole


def pose(rng: np.random.Generator) -> np.ndarray:
    """[C]: any emotion, the head turned a little, the mouth at rest or speaking, now and then eyes closed."""
    vector = expression(EMOTIONS[int(rng.integers(len(EMOTIONS)))], float(rng.uniform(0, 1)))
    vector[INDEX["yaw"]] += rng.normal(0, 0.15)
    vector[INDEX["pitch"]] += rng.normal(0, 0.08)
    vector[INDEX["gaze_x"]], vector[INDEX["gaze_y"]] = rng.uniform(-0.8, 0.8, 2)
    if rng.random() < 0.4:
        vector[INDEX["open"]] = rng.uniform(0, 1)
        vector[INDEX["wide" if rng.random() < 0.5 else "round"]] = rng.uniform(0, 0.8)
    if rng.random() < 0.12:
        vector[INDEX["blink_left"]] = vector[INDEX["blink_right"]] = rng.uniform(0.5, 1)
    if rng.random() < 0.12:
        vector[INDEX["left_raise"]] = 1.0
    assert vector.shape == (len(CONTROLS),)
    return vector


def drawn(seed: int, rng: np.random.Generator) -> tuple[np.ndarray, Face, bool]:
    """A character of the studio, cut out: [DRAWN, DRAWN, 4] uint8 premultiplied, its face, whether that is whole."""
    with Rig(Character.from_seed(seed), DRAWN, background=False) as rig:
        image, truth = rig.draw_with_truth(pose(rng))
        return premultiplied(image), *face_of(truth)


def erased(cutout: Cutout) -> Cutout:
    """The same head without features: skin where they were."""
    assert cutout.face is not None
    pixels = np.asarray(cutout.image).copy()
    face = cutout.face
    x, y = np.clip((face.middle + [0, 0.1 * face.eye_distance]).astype(int), 2, DRAWN - 3)
    x0, y0, x1, y1 = (int(np.clip(v, 0, DRAWN)) for v in face.box)
    mask = Image.new("L", (DRAWN, DRAWN))
    ImageDraw.Draw(mask).ellipse((x0, y0, x1, y1), fill=255)
    share = np.asarray(mask.filter(ImageFilter.GaussianBlur(2)), np.float32)[..., None] / 255
    skin = np.median(pixels[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 4), 0)
    covered = pixels[..., 3:].astype(np.float32) / 255
    return Cutout(Image.fromarray((pixels * (1 - share) + skin * share * covered).astype(np.uint8), "RGBa"), None)


class Stock:
    """Characters and painted backgrounds, drawn once and kept in a file."""

    def __init__(self, path: Path, characters: int, first_seed: int = FIRST_SEED) -> None:
        if not path.exists():
            self._draw(path, characters, first_seed)
        with np.load(path) as kept:
            self.pictures, self.backgrounds = kept["pictures"], kept["backgrounds"]
            self._points, self._whole = kept["points"], kept["whole"]

    @staticmethod
    def _draw(path: Path, characters: int, first_seed: int) -> None:
        rng = np.random.default_rng(first_seed)
        rows = [drawn(first_seed + i, rng) for i in range(characters)]
        grounds = []
        for i in range(max(8, characters // 8)):
            anatomy = portrait(Character.from_seed(first_seed + characters + i), 96, straight=False)
            grounds.append(paint_background(anatomy, 96)[..., :3].copy())
            anatomy.sketch.close()
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            pictures=np.stack([row[0] for row in rows]),
            points=np.stack([row[1].points for row in rows]),
            whole=np.array([row[2] for row in rows]),
            backgrounds=np.stack(grounds),
        )
        part.replace(path)

    def character(self, rng: np.random.Generator) -> Cutout:
        return self.cutout(int(rng.integers(len(self.pictures))))

    def cutout(self, i: int) -> Cutout:
        points = self._points[i]
        image = Image.fromarray(self.pictures[i], "RGBa")
        return Cutout(image, Face(1.0, points[:2], points[2]), bool(self._whole[i]))

    def background(self, rng: np.random.Generator) -> Image.Image:
        return Image.fromarray(self.backgrounds[int(rng.integers(len(self.backgrounds)))])


# Views ------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class View:
    """A picture and the faces in it; those of which nobody should say whether they are some are `unclear`."""

    image: Image.Image  # RGB
    faces: list[Face]
    unclear: list[Face]


def noise(edge: int, rng: np.random.Generator) -> Image.Image:
    """Cloudy texture in any colours, of one grain or of several."""
    total = np.zeros((edge, edge, 3), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        cells = int(rng.choice([3, 6, 12, 24, 48]))
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        kind = Image.Resampling.BICUBIC if rng.random() < 0.7 else Image.Resampling.NEAREST
        total += np.asarray(coarse.resize((edge, edge), kind), np.float32) * (8 / cells if rng.random() < 0.5 else 1)
    low, high = np.sort(rng.uniform(0, 255, (2, 3)), 0)
    total -= total.min()
    return Image.fromarray((low + total / max(total.max(), 1e-6) * (high - low)).astype(np.uint8))


def ground(stock: Stock, edge: int, rng: np.random.Generator) -> Image.Image:
    """A background [edge, edge] without faces."""
    kind = rng.random()
    if kind < 0.25:
        image = Image.new("RGB", (edge, edge), any_colour(rng) if rng.random() < 0.5 else (200,) * 3)
    elif kind < 0.55:
        image = stock.background(rng)
        side = int(rng.integers(24, image.width + 1))
        x, y = (int(v) for v in rng.integers(image.width - side + 1, size=2))
        image = image.crop((x, y, x + side, y + side)).resize((edge, edge), Image.Resampling.BICUBIC)
    else:
        image = noise(edge, rng)
    if rng.random() < 0.4:
        pen = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(1, 12))):
            _shape(pen, edge, rng)
    return image


def _shape(pen: ImageDraw.ImageDraw, edge: int, rng: np.random.Generator) -> None:
    """Something that is no face: a disc, a bar, a corner, a line, a letter, a pair of dots."""
    x, y = rng.uniform(0, edge, 2)
    width, height = edge * rng.uniform(0.02, 0.35, 2)
    colour, kind = any_colour(rng), rng.random()
    if kind < 0.3:
        pen.ellipse((x, y, x + width, y + height), fill=colour, outline=any_colour(rng) if rng.random() < 0.3 else None)
    elif kind < 0.5:
        pen.rectangle((x, y, x + width, y + height), fill=colour)
    elif kind < 0.65:
        points = [(x + rng.uniform(-width, width), y + rng.uniform(-height, height)) for _ in range(4)]
        pen.polygon(points, fill=colour)
    elif kind < 0.8:
        pen.line((x, y, *rng.uniform(0, edge, 2)), fill=colour, width=int(rng.integers(1, 5)))
    elif kind < 0.9:
        pen.text((x, y), chr(int(rng.integers(33, 127))), fill=colour, font_size=float(rng.uniform(8, 0.4 * edge)))
    else:
        size, apart = edge * rng.uniform(0.01, 0.05), edge * rng.uniform(0.05, 0.25)
        for at in (x, x + apart):
            pen.ellipse((at - size, y - size, at + size, y + size), fill=colour)


def _recoloured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Other hues, contrast and brightness; RGB, or RGBa, whose alpha stays."""
    pixels = np.asarray(image, np.float32)
    colours = pixels[..., :3]
    luma = np.array([0.3, 0.59, 0.11], np.float32)
    mix = np.eye(3, dtype=np.float32)
    if rng.random() < 0.6:  # hue: a turn about the axis of greys
        turn, axis = float(rng.normal(0, 0.9)), np.full((3, 3), 1 / 3, np.float32)
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / math.sqrt(3)
        mix = (math.cos(turn) * np.eye(3) + (1 - math.cos(turn)) * axis + math.sin(turn) * cross).astype(np.float32)
    vivid = 0.0 if rng.random() < 0.15 else float(rng.uniform(0.4, 1.4))
    mix = vivid * mix + (1 - vivid) * luma[None]
    cover = pixels[..., 3:] if pixels.shape[2] == 4 else 255.0
    contrast, light = float(rng.uniform(0.5, 1.3)), float(rng.normal(0, 0.12))
    colours = contrast * (colours @ mix.T) + ((1 - contrast) / 2 + light) * cover
    pixels = np.concatenate([np.clip(colours, 0, cover), pixels[..., 3:]], 2)
    return Image.fromarray(pixels.astype(np.uint8), image.mode)


def _worn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """RGB as cameras, scalers and codecs leave it."""
    edge = image.width
    if rng.random() < 0.7:
        image = _recoloured(image, rng)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.6))))
    if rng.random() < 0.15:
        small = int(edge * rng.uniform(0.45, 0.9))
        kind = Image.Resampling.NEAREST if rng.random() < 0.4 else Image.Resampling.BILINEAR
        image = image.resize((small, small), Image.Resampling.BILINEAR).resize((edge, edge), kind)
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.UnsharpMask(2, 150, 0))
    if rng.random() < 0.3:
        grain = rng.normal(0, rng.uniform(2, 18), (edge, edge, 1 if rng.random() < 0.5 else 3))
        image = Image.fromarray(np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=int(rng.integers(12, 85)))
        image = Image.open(stream).convert("RGB")
    if rng.random() < 0.02:
        image = Image.fromarray(255 - np.asarray(image))
    return image


def _place(cutout: Cutout, apart: float, at: np.ndarray, edge: int, rng: np.random.Generator,
           turn: float) -> tuple[Image.Image, Face | None]:  # fmt: skip
    """The cut-out on an empty view: with `apart` pixels between its eyes, its face's middle at `at`, turned."""
    image, face = cutout.image, cutout.face
    width = image.width
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if face is not None:
            eyes, mouth = face.eyes[::-1].copy(), face.mouth.copy()
            eyes[:, 0], mouth[0] = width - eyes[:, 0], width - mouth[0]
            face = Face(1.0, eyes, mouth)
    source = face.middle if face is not None else np.array([width / 2, 0.52 * width])
    between = face.eye_distance if face is not None else 0.17 * width
    matrix = similarity(turn, apart / between, (0.0, 0.0), (0.0, 0.0))[:, :2]
    stretch = math.exp(rng.normal(0, 0.09))
    matrix = matrix @ np.diag([stretch, 1 / stretch])
    matrix = np.column_stack([matrix, at - matrix @ source])
    return sampled(image, matrix, (edge, edge)), face.moved(matrix) if face is not None else None


def view(stock: Stock, edge: int, rng: np.random.Generator, apart: tuple[float, float], most: int = 3) -> View:
    """One view with up to `most` faces whose eyes lie `apart` pixels (least, most) from one another."""
    image = ground(stock, edge, rng).convert("RGBA")
    faces: list[tuple[Face, bool]] = []
    count = int(rng.choice(4, p=[0.2, 0.5, 0.2, 0.1]))
    biggest = math.exp(rng.uniform(*np.log(apart)))
    for i in range(min(count, most)):
        size = biggest * (rng.uniform(0.5, 1.0) if i else 1.0)
        for _ in range(8):
            at = rng.uniform(0.05, 0.95, 2) * edge
            if all(np.hypot(*(at - f.middle)) > 2.4 * max(size, f.eye_distance) for f, _ in faces):
                break
        else:
            continue
        cutout = stock.character(rng) if rng.random() < 0.55 else Cutout(*scribble(rng))
        if rng.random() < 0.5:
            cutout = Cutout(_recoloured(cutout.image, rng), cutout.face, cutout.whole)
        upright, none = True, False
        turn = math.radians(np.clip(rng.normal(0, 11), -27, 27))
        fate = rng.random()
        if fate < 0.07 and cutout.whole and cutout.image.width == DRAWN:
            cutout, none = erased(cutout), True
        elif fate < 0.17:  # lying on its side or standing on its head: none that is wanted
            turn, upright = turn + math.pi / 2 * int(rng.integers(1, 4)), False
        layer, face = _place(cutout, size, at, edge, rng, turn)
        pixels = np.asarray(layer)[..., 3]
        whole = []
        for other, clear in faces:
            x, y = np.clip(other.points, 0, edge - 1).astype(int).T
            whole.append((other, clear and bool((pixels[y, x] < 60).all())))
        faces = whole
        image = Image.alpha_composite(image, layer.convert("RGBA"))
        if face is not None and upright and not none:
            inside = bool(((face.points > 1) & (face.points < edge - 1)).all())
            faces.append((face, cutout.whole and inside))
    if rng.random() < 0.2:  # something without a face: a hand's or garment's part of a picture
        body = stock.character(rng)
        pixels = np.asarray(body.image).copy()
        assert body.face is not None
        pixels[: int(min(body.face.box[3] + 6, DRAWN - 20))] = 0
        at = rng.uniform(0, 1, 2) * edge
        if all(np.hypot(*(at - f.middle)) > 3 * f.eye_distance for f, _ in faces):
            layer, _ = _place(Cutout(Image.fromarray(pixels, "RGBa"), None), biggest, at, edge, rng, rng.normal(0, 1))
            covered = np.asarray(layer)[..., 3]
            faces = [
                (f, c and bool((covered[tuple(np.clip(f.points, 0, edge - 1).astype(int).T[::-1])] < 60).all()))
                for f, c in faces
            ]
            image = Image.alpha_composite(image, layer.convert("RGBA"))
    worn = _worn(image.convert("RGB"), rng)
    return View(worn, [f for f, clear in faces if clear], [f for f, clear in faces if not clear])
