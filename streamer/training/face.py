"""`lipstream train face`: the face detector, trained on views composed from the studio's characters.

    characters, cut out, and scribbled faces ─▶ views of backgrounds, faces and distractors ─▶ network ─▶ face.onnx

A detector trained on the studio's characters alone knows little beyond their palette and proportions. So a fraction of
the faces is scribbled at random (`scribble`), and colours, proportions, sharpness and surroundings are augmented.

Letters used in shapes: V the view's edge, N views, h, w cells of the network's grid (V / 4), P the 3 points of a face.
"""

import argparse
import io
import json
import math
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor, nn
from torch.nn import functional

from streamer.base.alpha import premultiplied
from streamer.faces.detector import CELL, TRAINED, WEIGHTS, Face, FaceDetector, sampled, similarity, to_input
from streamer.motion.controls import CONTROLS, EMOTIONS, INDEX
from streamer.motion.emotions import expression
from streamer.studio.character import Character
from streamer.studio.draw.background import background as paint_background
from streamer.studio.draw.portrait import portrait
from streamer.studio.rig import KEYPOINTS, Rig, Truth
from streamer.training.common import Log, Progress, Training, store_in_half
from streamer.training.scenes import FIRST_SEED
from streamer.training.scribble import EDGE, any_colour, scribble

VIEW = 128
DRAWN = EDGE  # of a character's cut-out
_POINT = {name: i for i, name in enumerate(KEYPOINTS)}
_REACH = 16.0  # pixels: the network's unit for offsets to eyes and mouth


# The network ------------------------------------------------------------------------------------------------------


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Network(nn.Module):
    """[N, 3, H, W] in -1..1, edges multiples of 16, to the logits and offsets [N, 7, H / 4, W / 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.quarter = nn.Sequential(_conv(3, 16, 2), _conv(16, 24, 2), Residual(24))
        self.eighth = nn.Sequential(_conv(24, 48, 2), Residual(48))
        self.sixteenth = nn.Sequential(_conv(48, 64, 2), Residual(64))
        self.from_sixteenth, self.from_eighth = nn.Conv2d(64, 48, 1), nn.Conv2d(48, 24, 1)
        self.join_eighth, self.join_quarter = _conv(48, 48), _conv(24, 24)
        last = nn.Conv2d(40, 7, 1)
        nn.init.constant_(last.bias[:1], -5.0)  # type: ignore[index]  # faces are rare
        self.head = nn.Sequential(_conv(24, 40), last)

    def forward(self, x: Tensor) -> Tensor:
        quarter = self.quarter(x)
        eighth = self.eighth(quarter)
        wide = functional.interpolate(self.from_sixteenth(self.sixteenth(eighth)), scale_factor=2.0)
        wide = functional.interpolate(self.from_eighth(self.join_eighth(eighth + wide)), scale_factor=2.0)
        return self.head(self.join_quarter(quarter + wide))


class Runtime(nn.Module):
    """The exported network: scores in 0..1 and offsets in pixels."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out = self.network(x)
        return torch.cat([torch.sigmoid(out[:, :1]), _REACH * out[:, 1:]], 1)


def export(network: Network, path: Path) -> None:
    """Writes the network as ONNX with float16 weights, for faces.detector.FaceDetector."""
    import onnx  # only training needs it

    part = path.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its deprecation
        torch.onnx.export(
            Runtime(network).eval(),
            (torch.zeros(1, 3, VIEW, VIEW),),
            str(part),
            input_names=["picture"],
            output_names=["faces"],
            dynamic_axes={"picture": {0: "N", 2: "H", 3: "W"}, "faces": {0: "N", 2: "h", 3: "w"}},
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load(part)
    part.unlink()
    store_in_half(model, path)


# What is shown ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cutout:
    """A cut-out with a face, or without (`face` None)."""

    image: Image.Image  # RGBa, premultiplied
    face: Face | None
    whole: bool = True
    """Whether eyes and mouth are visible; otherwise the loss ignores it."""


def face_of(truth: Truth) -> tuple[Face, bool]:
    """Converts the studio's ground truth to the detector's target, and whether eyes and mouth are unoccluded."""

    def middle(*names: str) -> np.ndarray:
        return truth.keypoints[[_POINT[name] for name in names], :2].mean(0)

    eyes = np.stack([middle(f"eye_{side}_top", f"eye_{side}_bottom") for side in ("left", "right")])
    needed = [_POINT[f"eye_{side}_{part}"] for side in ("left", "right") for part in ("inner", "bottom")]
    needed += [_POINT[name] for name in ("inner_lip_left", "inner_lip_right", "lip_bottom")]
    whole = bool(truth.keypoints[needed, 2].mean() > 0.7)
    return Face(1.0, eyes, middle("lip_top", "lip_bottom")), whole


def pose(rng: np.random.Generator) -> np.ndarray:
    """[C]: any emotion, the head slightly rotated, the mouth at rest or speaking, occasionally closed eyes."""
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
    """A studio character, cut out: [DRAWN, DRAWN, 4] uint8 premultiplied, its face, whether that is unoccluded."""
    with Rig(Character.from_seed(seed), DRAWN, background=False) as rig:
        image, truth = rig.draw_with_truth(pose(rng))
        return premultiplied(image), *face_of(truth)


def erased(cutout: Cutout) -> Cutout:
    """The same head with its features replaced by skin."""
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
    """Characters and painted backgrounds, rendered once and stored in a file."""

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
    """A picture with its faces; `unclear` ones are ignored by the loss."""

    image: Image.Image  # RGB
    faces: list[Face]
    unclear: list[Face]


def _noise(edge: int, rng: np.random.Generator) -> Image.Image:
    """Cloudy texture in random colours, at one or several scales."""
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
        image = _noise(edge, rng)
    if rng.random() < 0.4:
        pen = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(1, 12))):
            _shape(pen, edge, rng)
    return image


def _shape(pen: ImageDraw.ImageDraw, edge: int, rng: np.random.Generator) -> None:
    """A distractor: a disc, a bar, a corner, a line, a letter, a pair of dots."""
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
    """Augments hue, contrast and brightness; RGB, or RGBa with its alpha unchanged."""
    pixels = np.asarray(image, np.float32)
    colours = pixels[..., :3]
    luma = np.array([0.3, 0.59, 0.11], np.float32)
    mix = np.eye(3, dtype=np.float32)
    if rng.random() < 0.6:  # hue: rotation about the grey axis
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
    """Degrades RGB as cameras, scalers and codecs do."""
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
    """The cut-out on an empty view: `apart` pixels between its eyes, its face's centre at `at`, rotated."""
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
    """One view with up to `most` faces whose eyes are `apart` pixels (minimum, maximum) apart."""
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
        elif fate < 0.17:  # sideways or upside down: a negative example
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
    if rng.random() < 0.2:  # a distractor: part of a picture with a hand or garment
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


def targets(seen: View, edge: int) -> np.ndarray:
    """[9, h, w] float32: target score, offsets / 16 [6], the offsets' weight, 0 where the score is ignored."""
    cells = edge // CELL
    row, column = np.mgrid[:cells, :cells]
    middles = CELL * (np.stack([column, row], -1) + 0.5)  # [h, w, 2]
    out = np.zeros((9, cells, cells), np.float32)
    out[8] = 1
    low, high = TRAINED

    def near(face: Face) -> np.ndarray:
        distance = np.hypot(*np.moveaxis(middles - face.middle, -1, 0))
        return np.exp(-((distance / max(0.16 * face.eye_distance, 0.55 * CELL)) ** 2) / 2)

    known = [f for f in seen.faces if low <= f.eye_distance <= high]
    for face in (*seen.unclear, *(f for f in seen.faces if f not in known)):
        out[8] = np.minimum(out[8], near(face) < 0.02)
    for face in known:
        heat = near(face)
        heat /= heat.max()
        nearest = heat > out[0]
        out[0] = np.maximum(out[0], heat)
        offsets = (face.points - middles[..., None, :]).reshape(cells, cells, 6) / _REACH
        out[1:7][:, nearest] = np.moveaxis(offsets, -1, 0)[:, nearest]
        # Small faces need accuracy relative to their size.
        out[7][nearest] = ((heat > 0.25) * heat * 16 / face.eye_distance)[nearest]
        out[8][heat > 0.02] = 1
    return out


def batch(stock: Stock, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """[N, 3, V, V] and [N, 9, h, w]."""
    low, high = TRAINED
    views = [view(stock, VIEW, rng, (0.7 * low, 1.35 * high)) for _ in range(count)]
    pictures = to_input(np.stack([np.asarray(v.image) for v in views]))
    return torch.from_numpy(pictures), torch.from_numpy(np.stack([targets(v, VIEW) for v in views]))


def losses(out: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the scores (CenterNet's focal loss) and of the points (absolute, in units of 16 pixels)."""
    logits, heat, said = out[:, 0].float(), wanted[:, 0], wanted[:, 8]
    share = torch.sigmoid(logits)
    faces = (heat > 0.999).sum().clamp(min=1)
    there = -((1 - share) ** 2) * functional.logsigmoid(logits) * (heat > 0.999)
    absent = -((1 - heat) ** 4) * share**2 * functional.logsigmoid(-logits) * (heat <= 0.999)
    score = ((there + absent) * said).sum() / faces
    weight = wanted[:, 7:8]
    points = ((out[:, 1:].float() - wanted[:, 1:7]).abs() * weight).sum() / (6 * weight.sum().clamp(min=1))
    return score, points


def train(work: Path, stock: Stock, minutes: float, steps: int, size: int, seed: int = 0) -> Network:
    """Trains, resuming from the checkpoint in `work` if there is one; returns the averaged network."""
    torch.manual_seed(seed)
    network = Network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
    progress = Progress(steps, minutes)
    training = Training(network, work / "face.pt", progress, 3e-3, seed, 0.99, warm_up=60, betas=(0.9, 0.999), clip=5.0,
                        save_every=1.0)  # fmt: skip
    log = Log(work / "face.jsonl", 50)
    for _ in training:
        pictures, wanted = batch(stock, size, training.rng)
        with torch.autocast("cpu", torch.bfloat16):
            out = network(pictures.contiguous(memory_format=torch.channels_last))
        score, points = losses(out, wanted)
        (score + 2 * points).backward()
        log.add(progress, score=score.detach(), points=_REACH * points.detach())
    return training.average.module


# Measuring --------------------------------------------------------------------------------------------------------


def held_out(seed: int, edge: int, rng: np.random.Generator, scale: float | None = None) -> tuple[np.ndarray, Face]:
    """A picture with one character of a held-out seed: [edge, edge, 4] uint8, and its face.

    The character's own frame is `scale` (default: 0.15 to 1.2) of the picture's edge.
    """
    if not 0 <= seed < FIRST_SEED:
        raise ValueError(f"seed {seed} is used for training: held-out seeds are 0 to {FIRST_SEED - 1}")
    with Rig(Character.from_seed(seed), 256, background=False) as rig:
        image, truth = rig.draw_with_truth(pose(rng))
        face, _ = face_of(truth)
        picture = Image.fromarray(premultiplied(image), "RGBa")
    share = math.exp(rng.uniform(math.log(0.15), math.log(1.2))) if scale is None else scale
    margin = min(0.2 * share, 0.35)
    at = rng.uniform(margin, 1 - margin, 2) * edge
    matrix = similarity(math.radians(rng.uniform(-20, 20)), share * edge / 256, face.middle, at)
    layer = sampled(picture, matrix, (edge, edge))
    if rng.random() < 0.3:  # a cut-out
        return np.asarray(layer.convert("RGBA")), face.moved(matrix)
    behind = _noise(edge, rng).convert("RGBA")
    return np.asarray(Image.alpha_composite(behind, layer.convert("RGBA"))), face.moved(matrix)


def hit(found: list[Face], face: Face, edge: int, within: float = 0.04) -> bool:
    """Whether exactly this face was found, each point within a fraction of the picture's edge."""
    return len(found) == 1 and bool((np.hypot(*(found[0].points - face.points).T) <= within * edge).all())


def measure(detector: FaceDetector, stock: Stock, count: int) -> dict[str, float]:
    """Metrics on pictures of held-out characters, and on backgrounds."""
    rng = np.random.default_rng(7)
    hits, errors, seconds, false = [], [], [], 0
    for i in range(count):
        edge = int(rng.choice([192, 256, 384, 640]))
        picture, face = held_out(1000 + i, edge, rng)
        began = time.perf_counter()
        found = detector.detect(picture)
        seconds.append(time.perf_counter() - began)
        hits.append(hit(found, face, edge))
        if hits[-1]:
            errors.append(np.hypot(*(found[0].points - face.points).T).mean() / face.eye_distance)
    for _ in range(count):
        empty = ground(stock, 256, rng).convert("RGBA")
        false += len(detector.detect(np.asarray(empty)))
    return {
        "pictures": count,
        "found_share": float(np.mean(hits)),
        "mean_error_in_eye_distances": round(float(np.mean(errors)), 4) if errors else math.nan,
        "found_in_backgrounds": false,
        "median_ms": round(1000 * float(np.median(seconds)), 1),
    }


def main(argv: list[str] | None = None) -> int:
    """`lipstream train face`: the whole recipe, resumable."""
    parser = argparse.ArgumentParser(prog="lipstream train face", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("face"), help="folder for characters and checkpoints")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--characters", type=int, default=1600)
    parser.add_argument("--minutes", type=float, default=9.0, help="of training, excluding the rendering of characters")
    parser.add_argument("--steps", type=int, default=4000, help="at most")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        stock = Stock(args.work / f"stock-{args.characters}.npz", args.characters)
        network = train(args.work, stock, args.minutes, args.steps, args.batch)
        export(network, args.out)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"lipstream train face: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")
    print(json.dumps(measure(FaceDetector.load(args.out), stock, 200)))
    return 0
