"""Ablations of the painter: one checkpoint, tuned with one part changed, for the same processor time each.

Variants: one or three references only; latents that are not degraded; studio characters only, people only. Each is
tuned with two seeds, so that the difference between seeds shows the effect of chance. Judged on held-out studio
characters and, for the mixes of data, on photographs that no variant is tuned on. The encoder stays as it is.

Processor minutes are those of the training process on one thread; footage is rendered by another one.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.hardware import describe
from benchmarks.quality import footage
from benchmarks.quality.fidelity import autoencoder
from benchmarks.quality.reconstruction import Reconstruction
from streamer.model.autoencoder import Autoencoder
from streamer.model.checkpoint import Networks
from streamer.training.clip import Clip
from streamer.training.common import Kept, Progress, Training
from streamer.training.footage import Footage, Made, Mix, make_footage
from streamer.training.painter import NOISE, Crops, crops, losses
from streamer.training.scenes import Shot
from streamer.training.voices import Voices

SEEDS = (0, 1)
JUDGED_NOISE = 0.3
"""Standard deviation of the noise on whitened latents with which variants are judged besides exact ones."""

_PATCH_EVERY = 3
_REUSE, _KEPT = 6.0, 120
_LOG_EVERY = 200


@dataclass(frozen=True)
class Variant:
    name: str
    references: tuple[float, float, float] = (0.4, 0.2, 0.4)
    """Shares of steps with one, two and three references."""
    noise: float = NOISE
    people: float = 0.6
    """Share of footage of people; the rest are studio characters."""


VARIANTS = (
    Variant("as trained"),
    Variant("one reference", references=(1.0, 0.0, 0.0)),
    Variant("three references", references=(0.0, 0.0, 1.0)),
    Variant("exact latents", noise=0.0),
    Variant("studio characters only", people=0.0),
    Variant("people only", people=1.0),
)


@dataclass(frozen=True)
class Budget:
    """The training budget of every variant and seed."""

    minutes: float
    """Of processor time."""
    batch: int = 2
    frames: int = 4
    crop: int = 160
    """Edge in pixels at the networks' size."""
    rate: float = 3e-4
    steps: int = 1_000_000
    """Ends earlier than the minutes: for tests."""


class ProcessorTime(Progress):
    """Progress by this process's processor time instead of the clock."""

    def resume(self, step: int, spent: float) -> None:
        self.step, self._began = step, time.process_time() - 60 * spent

    @property
    def spent(self) -> float:
        return (time.process_time() - self._began) / 60


def tuned(
    start: Autoencoder, variant: Variant, budget: Budget, take: Callable[[], Footage], seed: int, folder: Path
) -> tuple[Autoencoder, int]:
    """`start` with its painter tuned on footage from `take`, and the number of steps. `start` stays as it is."""
    model = Autoencoder(start.config)
    model.load_state_dict(start.state_dict())
    model.train()
    model.encoder.requires_grad_(False)
    progress = ProcessorTime(budget.steps, budget.minutes)
    training = Training(model, folder / "painter.pt", progress, budget.rate, seed)
    pool = Kept(lambda: [take()], _KEPT, _REUSE)
    rng = np.random.default_rng([seed, 1])
    for step in training:
        count = int(rng.choice((1, 2, 3), p=variant.references))
        able = [one for one in pool.sample(4 * budget.batch, rng) if len(one.references) >= count]
        chosen = able[: budget.batch] or pool.sample(budget.batch, rng)
        count = min(count, *(len(one.references) for one in chosen))
        given = Crops(*crops(chosen, budget.frames, count, budget.crop, rng))
        told = losses(model, given, budget.frames, step % _PATCH_EVERY == 0, variant.noise)
        told["loss"].backward()
        if step % _LOG_EVERY == 0:
            print(f"{variant.name}: step {step}, {progress.spent:.1f} core minutes", flush=True)
    return training.average.module, progress.step


def mix_of(variant: Variant, people: Path | None) -> Mix:
    """Raises ValueError for a share of people without a folder of them."""
    if variant.people and (people is None or not any(people.glob("shard_*.npz"))):
        raise ValueError(f"the variant {variant.name!r} needs clips of people, and there are none in {people}")
    clips = {"people": (people, variant.people)} if people is not None and variant.people else {}
    return Mix(clips, 1 - variant.people)


def judged(
    networks: Networks,
    passages: Sequence[tuple[int, np.ndarray]],
    photographs: Callable[[], Iterable[Clip]] | None,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """What the autoencoder reaches with one and three references: on the studio's characters and on photographs."""
    painter = Reconstruction(networks, dtype)
    out = {
        "drawn": autoencoder(painter, passages)["references"],
        "drawn, noisy latents": autoencoder(painter, passages, noise=JUDGED_NOISE)["references"],
    }
    if photographs is not None:
        columns = footage.measure(None, painter, photographs())["columns"]
        out["photographs"] = {name.rpartition(" ")[2]: column for name, column in columns.items()}
    return out


def run(
    networks: Networks,
    budget: Budget,
    voices: Voices,
    silence: np.ndarray,
    people: Path | None,
    passages: Sequence[tuple[int, np.ndarray]],
    photographs: Callable[[], Iterable[Clip]] | None,
    keep: Callable[[dict[str, Any]], None],
    variants: Sequence[Variant] = VARIANTS,
    seeds: Sequence[int] = SEEDS,
) -> dict[str, Any]:
    """
    Tunes and judges every variant with every seed. `voices` are for training; `passages`, (seed, controls [T, C]), and
    `photographs` are held out. `keep` receives the results so far after each.
    """
    found: dict[str, Any] = {
        "cpu": describe()["cpu"],
        "size": networks.config.size,
        "core_minutes_each": budget.minutes,
        "not_run": [each.name for each in VARIANTS if each not in variants],
        "photographs_missing": photographs is None,
        "start": judged(networks, passages, photographs),
        "rows": [],
    }
    shot = Shot(2 * networks.config.size, 2 * budget.frames, spread=12, wide=0.6, references=4, tracked=2048)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for variant in variants:
            mix = mix_of(variant, people)
            for seed in seeds:
                with (
                    tempfile.TemporaryDirectory() as folder,
                    Made(make_footage, mix, shot, voices, silence, 100 + seed) as made,
                ):
                    painter, steps = tuned(networks.autoencoder, variant, budget, made.take, seed, Path(folder))
                ready = Networks(networks.config, painter.eval().requires_grad_(False), networks.transformer)
                found["rows"].append({"variant": variant.name, "seed": seed, "steps": steps,
                                      **judged(ready, passages, photographs)})  # fmt: skip
                print(f"ablation: {variant.name}, seed {seed}: {steps} steps", flush=True)
                keep(found)
    finally:
        torch.set_num_threads(threads)
    return found
