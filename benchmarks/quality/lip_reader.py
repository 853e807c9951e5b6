"""Estimates from a frame's pixels how far the inner lips and the lids are open, so that drawn and generated frames can
be compared with the ground truth: `python -m benchmarks.quality.lip_reader [--reader PATH]` trains it and prints its
error.

Two small networks of the same architecture see a fixed crop of a frame, one of the mouth and one of the eyes, large
enough for a moving head, together with the same crop of the character's picture at rest. They train on the studio's
rig, whose controls are the exact ground truth, on the seeds that the generator trains on. Their error is measured on
characters with lower seeds, which neither has seen, in frames of the size that is measured, whose loose parts swing.
Frames are blurred, shaded and shifted in training, so that the result depends on what a frame shows and not on how it
was drawn.

Letters in shapes: B frames, S picture edge, h, w a crop's edges, C controls.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.quality.measures import blink_moments, matched, pcc
from streamer.avatar.characters import SHOWN_SEEDS
from streamer.base.constants import FPS
from streamer.motion.controls import EMOTIONS, INDEX, MOUTH, rest
from streamer.motion.idle import IdleMotion
from streamer.studio.character import Character
from streamer.studio.rig import Rig
from streamer.training.scenes import FIRST_SEED

READER = Path.home() / ".cache" / "lipstream" / "lip_reader.pt"
VERSION = 2
CANONICAL = 256
"""Edge of the frames that the networks see; larger ones are averaged over areas."""
CROPS = {"lips": (80, 101, 176, 197), "lids": (72, 86, 184, 150)}
"""x0, y0, x1, y1 in the canonical frame: mouth and eyes at rest, with a margin of 30 pixels."""
CLOSED = 0.1
"""Share of the maximum opening up to which a mouth counts as closed."""
SHUT = 0.5
_APART = 8
"""Frames from one pose to the next."""


@dataclass(frozen=True)
class Plan:
    """The reader's training: about five minutes on one thread."""

    characters: int = 420
    frames: int = 28  # per character
    steps: int = 1800  # per network
    batch: int = 48
    checked: int = 40  # held-out characters on which the error is measured
    seed: int = 0


class Gauge(nn.Module):
    """Maps crops of a frame and of the picture at rest, [B, 6, h, w] in -1..1, to an opening in about 0..1, [B]."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        channels = (6, 16, 32, 48, 64)
        layers: list[nn.Module] = []
        for a, b in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.SiLU()]
        self.see = nn.Sequential(*layers)
        places = -(-height // 16) * -(-width // 16)
        self.say = nn.Sequential(nn.Linear(64 * places, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, crops: Tensor) -> Tensor:
        return self.say(self.see(crops).flatten(1))[:, 0]


def _gauges() -> nn.ModuleDict:
    return nn.ModuleDict({name: Gauge(y1 - y0, x1 - x0) for name, (x0, y0, x1, y1) in CROPS.items()})


def canonical(frame: np.ndarray) -> np.ndarray:
    """[S, S, 3+] uint8 -> [256, 256, 3] uint8."""
    frame = frame[..., :3]
    if frame.shape[0] == CANONICAL:
        return frame
    way = cv2.INTER_AREA if frame.shape[0] > CANONICAL else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (CANONICAL, CANONICAL), interpolation=way))


def crop(frame: np.ndarray, name: str) -> np.ndarray:
    """[S, S, 3+] uint8 -> the named crop [h, w, 3] uint8, a copy."""
    x0, y0, x1, y1 = CROPS[name]
    return canonical(frame)[y0:y1, x0:x1].copy()


def _tensor(crops: np.ndarray) -> Tensor:
    """[B, h, w, 3] uint8 -> [B, 3, h, w] in -1..1."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class Reader:
    """Trained networks, and their error on held-out characters as `check` returns it."""

    gauges: nn.ModuleDict
    error: dict[str, float]
    plan: Plan

    @torch.inference_mode()
    def read(self, frames: Sequence[np.ndarray], picture: np.ndarray) -> dict[str, np.ndarray]:
        """Reads frames [S, S, 3+] uint8 of the character whose picture at rest is `picture` [S, S, 3+].

        Returns "lips": opening [B], 0 closed, 1 at maximum; "lids": closure [B], 0 open, 1 closed. Raises ValueError
        without frames.
        """
        if not len(frames):
            raise ValueError("no frames to read")
        found: dict[str, list[np.ndarray]] = {name: [] for name in CROPS}
        for first in range(0, len(frames), 64):
            for name in CROPS:
                seen = _tensor(np.stack([crop(frame, name) for frame in frames[first : first + 64]]))
                still = _tensor(crop(picture, name)[None]).expand_as(seen)
                found[name].append(self.gauges[name](torch.cat([seen, still], 1)).clamp(0, 1).numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}


def poses(frames: int, seed: int, wide: bool) -> np.ndarray:
    """Controls [frames, C] of idle motion, a third of a second apart, with a random mouth.

    With `wide`, the lids are random too; otherwise they blink naturally.
    """
    rng = np.random.default_rng(seed)
    life = IdleMotion(seed)
    life.emotion(EMOTIONS[int(rng.integers(len(EMOTIONS)))], float(rng.random()))
    out = []
    for k in range(_APART * (frames + 4)):
        prosody = np.clip(rng.normal([0.4, 0.5, 0.2, 0.0, 0.0], 0.3), [0, 0, 0, -1, -1], 1).astype(np.float32)
        controls = life.step(np.zeros(len(MOUTH), np.float32), prosody)
        if k % _APART == _APART - 1:
            out.append(controls)
    rows = np.stack(out[4:])
    shut = rng.random(frames) < 0.25
    rows[:, INDEX["open"]] = np.where(shut, 0, rng.random(frames) ** 1.3)
    rows[:, INDEX["press"]] = np.where(shut, rng.random(frames), 0)
    for name, often in (("wide", 0.5), ("round", 0.35), ("tuck", 0.1), ("tongue", 0.2), ("teeth", 0.3)):
        rows[:, INDEX[name]] = np.where(rng.random(frames) < often, rng.random(frames), 0)
    rows[:, INDEX["tuck"]] *= ~shut
    if wide:
        lids = np.where(rng.random(frames) < 0.35, rng.random(frames), np.where(rng.random(frames) < 0.3, 1.0, 0.0))
        for side in ("left", "right"):
            rows[:, INDEX[f"blink_{side}"]] = lids
        rows[:, INDEX["squint"]] *= 1 - lids
        rows[:, INDEX["eye_wide"]] *= 1 - lids
    return rows


def ground_truth(controls: np.ndarray) -> dict[str, np.ndarray]:
    """The ground truth of drawn frames, from controls [B, C]: what `Reader.read` should return."""
    lids = (controls[:, INDEX["blink_left"]] + controls[:, INDEX["blink_right"]]) / 2
    return {"lips": controls[:, INDEX["open"]].clip(0, 1), "lids": lids.clip(0, 1)}


Drawn = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
"""For each crop: frames [B, h, w, 3], pictures at rest [B, h, w, 3], truth [B]."""


def _draw(seeds: Sequence[int], frames: int, rng: np.random.Generator) -> Drawn:
    parts: dict[str, tuple[list, list, list]] = {name: ([], [], []) for name in CROPS}
    for seed in seeds:
        rows = poses(frames, int(rng.integers(2**31)), wide=True)
        truth = ground_truth(rows)
        with Rig(Character.from_seed(seed), CANONICAL) as rig:
            still = rig.draw(rest()).copy()
            for k, row in enumerate(rows):
                frame = rig.draw(row)
                for name, (seen, rested, true) in parts.items():
                    seen.append(crop(frame, name))
                    rested.append(crop(still, name))
                    true.append(truth[name][k])
    return {name: tuple(np.stack(part) for part in each) for name, each in parts.items()}  # type: ignore[misc]


_BLUR = torch.tensor([1.0, 2.0, 1.0]) / 4


def _augmented(frames: Tensor, pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Training augmentation, [B, 3, h, w] each -> [B, 6, h, w]: shift, blur, shading and noise."""
    x, y = (int(v) for v in rng.integers(-4, 5, 2))
    both = torch.roll(torch.cat([frames, pictures], 1), (y, x), (2, 3))
    frames, pictures = both[:, :3], both[:, 3:]
    if rng.random() < 0.5:
        kernel = (_BLUR[:, None] * _BLUR)[None, None].expand(3, 1, 3, 3)
        for _ in range(int(rng.integers(1, 4))):
            frames = functional.conv2d(functional.pad(frames, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    if rng.random() < 0.2:
        small = functional.avg_pool2d(frames, 2)
        frames = functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    shape = (len(frames), 3, 1, 1)
    gain = torch.from_numpy(rng.uniform(0.92, 1.08, shape)).float()
    shade = torch.from_numpy(rng.normal(0, 0.03, shape)).float()
    grain = float(rng.uniform(0, 0.04)) * torch.randn(frames.shape)
    return torch.cat([frames * gain + shade + grain, pictures], 1)


def train(plan: Plan | None = None) -> Reader:
    """Draws frames, trains, and measures the error on held-out characters. One thread; deterministic for a plan."""
    plan = plan or Plan()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    seeds = FIRST_SEED + rng.choice(100_000, plan.characters, replace=False)
    drawn = _draw([int(seed) for seed in seeds], plan.frames, rng)
    gauges = _gauges()
    for name, gauge in gauges.items():
        seen, rested, true = drawn[name]
        truth = torch.from_numpy(true.astype(np.float32))
        optimizer = torch.optim.AdamW(gauge.parameters(), 2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=plan.steps, pct_start=0.1)
        for _ in range(plan.steps):
            chosen = rng.integers(len(seen), size=plan.batch)
            predicted = gauge(_augmented(_tensor(seen[chosen]), _tensor(rested[chosen]), rng))
            loss = functional.smooth_l1_loss(predicted, truth[torch.from_numpy(chosen)], beta=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(gauge.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    gauges.eval().requires_grad_(False)
    reader = Reader(gauges, check(Reader(gauges, {}, plan), plan.checked), plan)
    torch.set_num_threads(threads)
    return reader


def held_out(count: int) -> list[int]:
    """`count` seeds on which no network of this project was trained, starting with the built-in characters."""
    others = [seed for seed in range(FIRST_SEED) if seed not in SHOWN_SEEDS]
    return [*SHOWN_SEEDS, *others][:count]


def check(
    reader: Reader, characters: int, frames: int = 20, seconds: float = 8.0, size: int = 2 * CANONICAL
) -> dict[str, float]:
    """The reader's error on drawn frames of held-out characters, `size` pixels wide.

    Three quarters of the characters take random poses; the others show passages of idle motion with natural blinks.
    Time passes in every frame, so that loose parts swing.
    """
    lips: list[tuple[np.ndarray, np.ndarray]] = []
    lids: list[tuple[np.ndarray, np.ndarray]] = []
    found = blinks = hits = 0
    for i, seed in enumerate(held_out(characters)):
        flowing = i % 4 == 0
        rows = _life(int(seconds * 25), 9000 + i) if flowing else poses(frames, 9000 + i, wide=True)
        with Rig(Character.from_seed(seed), size) as rig:
            still = rig.draw(rest()).copy()
            shown = []
            for row in rows:
                rig.advance(row, (1 if flowing else _APART) / FPS)
                shown.append(canonical(rig.draw(row)).copy())
            result = reader.read(shown, still)
        truth = ground_truth(rows)
        if flowing:
            seen, due = (blink_moments(side["lids"], SHUT) for side in (result, truth))
            found, blinks, hits = found + len(seen), blinks + len(due), hits + matched(seen, due)
        else:
            lips.append((result["lips"], truth["lips"]))
            lids.append((result["lids"], truth["lids"]))
    read, true = (np.concatenate(side) for side in zip(*lips, strict=True))
    shut = true <= 0.01
    closure, closed = (np.concatenate(side) for side in zip(*lids, strict=True))
    return {
        "frames": len(true),
        "characters": characters,
        "lips_pcc": round(pcc(lips), 4),
        "lips_mae": round(float(np.abs(read - true).mean()), 4),
        "closed_frames": int(shut.sum()),
        "closed_called_closed": round(float((read[shut] <= CLOSED).mean()), 4),
        "open_called_closed": round(float((read[true > 0.2] <= CLOSED).mean()), 4),
        "lids_pcc": round(pcc(lids), 4),
        "lids_mae": round(float(np.abs(closure - closed).mean()), 4),
        "blinks": blinks,
        "blinks_found": hits,
        "blinks_invented": found - hits,
    }


def _life(frames: int, seed: int) -> np.ndarray:
    """Controls [frames, C] of idle motion in silence."""
    life, silent = IdleMotion(seed), np.zeros(5, np.float32)
    return np.stack([life.step(np.zeros(len(MOUTH), np.float32), silent) for _ in range(frames)])


def save(reader: Reader, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"version": VERSION, "weights": reader.gauges.state_dict(), "error": reader.error,
                "plan": asdict(reader.plan)}, part)  # fmt: skip
    part.replace(path)


def load(path: Path) -> Reader:
    """Raises FileNotFoundError, or ValueError for a reader of another version."""
    saved = torch.load(path, weights_only=True)
    if saved.get("version") != VERSION:
        raise ValueError(f"{path} is a reader of version {saved.get('version')}, but version {VERSION} is required")
    gauges = _gauges()
    gauges.load_state_dict(saved["weights"])
    return Reader(gauges.eval().requires_grad_(False), saved["error"], Plan(**saved["plan"]))


def ready(path: Path = READER, plan: Plan | None = None) -> Reader:
    """Loads the reader at `path`, or trains it if there is none with this plan."""
    plan = plan or Plan()
    if path.is_file():
        reader = load(path)
        if reader.plan == plan:
            return reader
    print("training the lip reader (once, about five minutes on one thread)", flush=True)
    reader = train(plan)
    save(reader, path)
    return reader


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", type=Path, default=READER, help="file of its weights (default: %(default)s)")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    reader = ready(args.reader)
    print(json.dumps({**reader.error, "seconds": round(time.perf_counter() - began)}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
