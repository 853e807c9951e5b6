"""A preset's whole recipe in one command: `lipstream train nano SET`.

    speech set ─▶ voices ─┐
    clips of people ──────┴▶ autoencoder ─▶ painter ─▶ teacher ─▶ one step ─▶ rollout ─▶ weights

Each stage logs JSON lines and keeps a checkpoint in the working folder: the same command resumes where it was
interrupted. `--minutes` divides the available time; without it each stage has its number of steps.
"""

import argparse
import copy
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from streamer.model.autoencoder import Autoencoder
from streamer.model.checkpoint import save, weights_path
from streamer.model.config import PRESETS, ModelConfig
from streamer.model.transformer import Transformer
from streamer.motion.articulation import Articulation
from streamer.training import generator as gen
from streamer.training import painter, voices
from streamer.training.common import Progress, best_device
from streamer.training.footage import Made, Mix, make_footage, make_scene
from streamer.training.scenes import Shot


@dataclass(frozen=True)
class Stage:
    """The training parameters of one stage."""

    steps: int
    batch: int
    frames: int
    rate: float
    share: float
    """Fraction of the total time."""


@dataclass(frozen=True)
class Recipe:
    """The training parameters of a preset."""

    autoencoder: Stage
    painter: Stage
    """The same, with the encoder frozen."""
    crop: int
    """Edge in pixels of the autoencoder's crops, at the networks' size."""
    teacher: Stage
    one_step: Stage
    rollout: Stage
    hours: float
    """Hours of speech."""
    runs: int
    """Consecutive frames per run that the generator learns from."""
    spread: int
    """Frames from the start of one run to the start of the next."""
    kept: int
    """Number of runs in the buffer."""
    reuse: float
    """How often a rendered scene is used: 1 if rendering is cheap compared with training."""


RECIPES = {
    "tiny": Recipe(
        autoencoder=Stage(200, 2, 2, 2e-3, 0.3),
        painter=Stage(40, 2, 2, 1e-3, 0.1),
        crop=64,
        teacher=Stage(100, 4, 4, 3e-3, 0.3),
        one_step=Stage(20, 4, 4, 1e-3, 0.1),
        rollout=Stage(20, 4, 4, 1e-3, 0.2),
        hours=0.05,
        runs=2,
        spread=8,
        kept=200,
        reuse=20,
    ),
    "nano": Recipe(
        autoencoder=Stage(40_000, 2, 4, 1e-3, 0.4),
        painter=Stage(10_000, 2, 4, 7e-4, 0.1),
        crop=160,
        teacher=Stage(12_000, 6, 4, 1e-3, 0.27),
        one_step=Stage(1_000, 6, 4, 3e-4, 0.05),
        rollout=Stage(5_000, 8, 6, 4e-4, 0.18),
        hours=4,
        runs=4,
        spread=24,
        kept=4000,
        reuse=4,
    ),
    "live": Recipe(
        autoencoder=Stage(50_000, 8, 4, 7e-4, 0.37),
        painter=Stage(10_000, 8, 4, 5e-4, 0.08),
        crop=256,
        teacher=Stage(30_000, 16, 8, 4e-4, 0.3),
        one_step=Stage(5_000, 16, 8, 1e-4, 0.1),
        rollout=Stage(5_000, 16, 10, 1e-4, 0.15),
        hours=8,
        runs=4,
        spread=24,
        kept=4000,
        reuse=2,
    ),
}


def train(
    config: ModelConfig,
    recipe: Recipe,
    heard: voices.Voices,
    silence: np.ndarray,
    mix: Mix,
    work: Path,
    out: Path,
    minutes: float | None,
    device: torch.device,
    processes: int,
    seed: int,
) -> None:
    """Runs the remaining stages of the recipe and writes fp16 weights to `out`."""

    def time_for(stage: Stage) -> float | None:
        return None if minutes is None else minutes * stage.share

    torch.manual_seed(seed)
    autoencoder = Autoencoder(config.autoencoder)
    for name in ("autoencoder", "painter"):
        finished = work / f"{name}_finished.pt"
        if not finished.exists():
            stage: Stage = getattr(recipe, name)
            shot = Shot(
                2 * config.size, 2 * stage.frames, spread=12, wide=0.6, opaque=mix.opaque, references=4, tracked=2048
            )
            with Made(make_footage, mix, shot, heard, silence, seed, processes) as footages:
                autoencoder = painter.train(autoencoder, footages, work / f"{name}.pt",
                                            Progress(stage.steps, time_for(stage)), stage.batch, stage.frames,
                                            recipe.crop, device, reuse=recipe.reuse, rate=stage.rate,
                                            frozen=name == "painter", seed=seed)  # fmt: skip
            torch.save(autoencoder.state_dict(), finished)
        autoencoder.load_state_dict(torch.load(finished, map_location=device, weights_only=True))
    autoencoder = autoencoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    autoencoder.eval()

    torch.manual_seed(seed)
    model, teacher = Transformer(config).to(device), None
    for number, name in enumerate(("teacher", "one_step", "rollout")):
        stage = getattr(recipe, name)
        shot = Shot(config.size, recipe.runs * stage.frames, stage.frames, max(recipe.spread, stage.frames), wide=0.2)
        with Made(make_scene, mix, shot, heard, silence, seed + 1 + number, processes) as scenes:
            takes = gen.Takes(scenes, stage.frames, autoencoder, config, recipe.kept, recipe.reuse, seed)
            model = copy.deepcopy(model).requires_grad_(True).train()
            model = gen.train(name, model, takes, autoencoder.shows, work, Progress(stage.steps, time_for(stage)),
                              stage.batch, stage.frames, stage.rate, device,
                              teacher if name == "one_step" else None, seed)  # fmt: skip
        teacher = model if name == "teacher" else teacher
        # Each stage's own weights, too: the quality benchmark compares the teacher with the one-step generator.
        save(work / f"{name}.safetensors", config, autoencoder, model, stage=name)
    save(out, config, autoencoder, model, stage="rollout")


def main(preset: str, argv: list[str] | None = None) -> int:
    """`lipstream train PRESET`."""
    parser = argparse.ArgumentParser(prog=f"lipstream train {preset}", description=__doc__)
    parser.add_argument("data", type=Path, help="folder that `lipstream data` made")
    parser.add_argument("--work", type=Path, default=Path(preset), help="folder for checkpoints and logs")
    parser.add_argument("--out", type=Path, default=weights_path(preset), help="file for the weights")
    parser.add_argument("--minutes", type=float, help="time for all stages together (default: each has its steps)")
    parser.add_argument("--processes", type=int, default=max((os.cpu_count() or 2) - 1, 1), help="that render scenes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.minutes is not None and args.minutes <= 0:
        parser.error(f"--minutes is {args.minutes}: must be positive")
    torch.set_flush_denormal(True)
    args.work.mkdir(parents=True, exist_ok=True)
    recipe, articulation = RECIPES[preset], Articulation.load()
    try:
        heard = voices.load(args.work / "voices.npz", args.data / "speech", "train", recipe.hours, articulation)
    except FileNotFoundError as error:
        print(f"lipstream train {preset}: {error}", file=sys.stderr)
        return 1
    shares = {"people": 0.6, "photographs": 0.1}
    sources = {name: (args.data / name, share) for name, share in shares.items()
               if any((args.data / name).glob("shard_*.npz"))}  # fmt: skip
    for name in shares.keys() - sources.keys():
        print(f"lipstream train {preset}: no clips in {args.data / name}: trains without {name}", file=sys.stderr)
    mix = Mix(sources, 1 - sum(share for _, share in sources.values()))
    train(PRESETS[preset], recipe, heard, voices.silence(articulation), mix, args.work, args.out, args.minutes,
          best_device(), args.processes, args.seed)  # fmt: skip
    print(f"wrote {args.out}")
    return 0
