"""`lipstream train face`: the face detector, trained on views composed from the studio's characters.

    characters, cut out, and scribbled faces ─▶ views of backgrounds, faces and distractors ─▶ network ─▶ face.onnx

A detector trained on the studio's characters alone knows little beyond their palette and proportions. So a fraction of
the faces is scribbled at random (`scribble`), and colours, proportions, sharpness and surroundings are augmented.

Letters used in shapes: V the view's edge, N views, h, w cells of the network's grid (V / 4), P the 3 points of a face.
"""

import argparse
import json
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from streamer.base.alpha import premultiplied
from streamer.faces.detector import CELL, TRAINED, WEIGHTS, Face, FaceDetector, sampled, similarity, to_input
from streamer.studio.character import Character
from streamer.studio.rig import Rig
from streamer.training.common import Log, Progress, Training, store_in_half
from streamer.training.face_views import Stock, View, face_of, ground, noise, pose, view
from streamer.training.scenes import FIRST_SEED

VIEW = 128
_REACH = 16.0  # pixels: the network's unit for where eyes and mouth are


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


# How it is trained ------------------------------------------------------------------------------------------------


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
    behind = noise(edge, rng).convert("RGBA")
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
