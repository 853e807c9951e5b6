"""Ablations: the shipped weights with one part changed, fine-tuned for the same number of steps and measured alike.

A small generator of 128², trained from scratch for ten minutes on a CPU, had not learned to speak yet, so its results
were meaningless. Every variant therefore starts from the shipped weights, at their size, and is fine-tuned for the same
number of steps of the recipe's last stage; steps rather than minutes, so that other load on the machine does not affect
the comparison. One variant changes nothing and another only the seed: their difference shows the effect of chance. All
variants train on one pool of scenes. The anchored decoder is compared by small autoencoders of 128², trained from
scratch, because a generator cannot be better than its decoder.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.lib.hardware import describe
from benchmarks.quality.clips import Passage, cut, draw
from benchmarks.quality.drift import drift, idle
from benchmarks.quality.lip_reader import Reader
from benchmarks.quality.lips import Sides, given_back
from benchmarks.quality.lips import measure as measure_lips
from benchmarks.quality.measures import psnr
from streamer.model.autoencoder import Autoencoder
from streamer.model.checkpoint import Networks
from streamer.model.config import AutoencoderConfig, ModelConfig
from streamer.model.runtime.torch_cpu import FrameRenderer
from streamer.model.transformer import Reference, Transformer
from streamer.training import autoencoder as ae
from streamer.training import generator as gen
from streamer.training.common import Progress
from streamer.training.scenes import Scenes, Shot
from streamer.training.voices import Voices

SMALL = ModelConfig("small", 128, AutoencoderConfig(latent=32, channels=(24, 40, 80, 112)))
"""The configuration of the decoders that are compared."""
_RATE = 2e-4


class Sinkless(Transformer):
    """A generator whose reference is added to its tokens but never attended to."""

    def reference(self, features: Tensor) -> Reference:
        full = super().reference(features)
        return Reference(full.added, (full.sinks[0][:, :, :0], full.sinks[1][:, :, :0]))


@dataclass(frozen=True)
class Variant:
    name: str
    context: int = 0
    sink: bool = True
    seed: int = 0
    """Seed of all randomness in training."""


VARIANTS = (
    Variant("context 0"),
    Variant("context 0, another seed", seed=1),
    Variant("context 1", context=1),
    Variant("context 3", context=3),
    Variant("context 5", context=5),
    Variant("context 0, without the sink", sink=False),
)


@dataclass(frozen=True)
class Budget:
    """The training budget of every variant."""

    steps: int
    """Training steps of a generator."""
    autoencoder_steps: int
    """Training steps of an autoencoder."""
    batch: int = 4
    frames: int = 6
    """Frames of a training passage: more than the longest context, so that the rings fill."""
    takes: int = 400
    """Passages drawn before the first variant, and scenes kept for an autoencoder."""
    processes: int = 1


def config_of(base: ModelConfig, variant: Variant) -> ModelConfig:
    return replace(base, transformer=replace(base.transformer, context=variant.context))


def decoders(
    config: ModelConfig, budget: Budget, voices: Voices, silence: np.ndarray, passages: Sequence[Passage]
) -> list[dict[str, Any]]:
    """Trains and measures autoencoders with and without an anchored decoder, from scratch and alike."""
    rows = []
    for anchored in (True, False):
        torch.manual_seed(0)
        network = Autoencoder(replace(config.autoencoder, anchored=anchored))
        shot, progress = Shot(config.size, 8, spread=12, wide=0.7), Progress(budget.autoencoder_steps, None)
        with tempfile.TemporaryDirectory() as folder, Scenes(shot, voices, silence, 1, budget.processes) as scenes:
            network = ae.train(network, "autoencoder", scenes, Path(folder), progress, 2, 4, config.size,
                               torch.device("cpu"), capacity=budget.takes)  # fmt: skip
        network.eval().requires_grad_(False)
        whole, mouth = [], []
        for said in passages:
            drawn = draw(said.seed, config.size, said.controls[::5])
            for got, wanted, box in zip(given_back(network, drawn), drawn.frames, drawn.mouths, strict=True):
                whole.append(psnr(got[..., :3], wanted[..., :3]))
                mouth.append(psnr(cut(got, box), cut(wanted, box)))
        rows.append({
            "variant": "anchored" if anchored else "not anchored", "steps": progress.step, "n": len(whole),
            "psnr": float(np.mean(whole)), "psnr_mouth": float(np.mean(mouth)),
        })  # fmt: skip
        print(f"ablation: decoder {rows[-1]['variant']}: {progress.step} steps", flush=True)
    return rows


CONTEXTS = (0, 1, 2, 3)
"""Context lengths, in frames, with which the shipped weights are measured."""


def reconfigured(networks: Networks, variant: Variant) -> Networks:
    """The shipped weights with another context length or without the sink, without further training."""
    config = config_of(networks.config, variant)
    model = (Transformer if variant.sink else Sinkless)(config)
    model.load_state_dict(networks.transformer.state_dict())
    return Networks(config, networks.autoencoder, model.eval().requires_grad_(False))


def looking_back(
    networks: Networks,
    dtype: torch.dtype,
    passages: Sequence[Passage],
    silence: np.ndarray,
    reader: Reader,
    seconds: float = 8.0,
) -> dict[str, Any]:
    """How the shipped weights depend on context and sink: lips and pictures of `passages`, and motion in silence."""
    shipped = networks.config.transformer.context
    others = [Variant(f"context {n}", n) for n in CONTEXTS if n != shipped]
    variants = [Variant(f"as shipped: context {shipped}", shipped), *others,
                Variant("without the sink", shipped, sink=False)]  # fmt: skip
    rows = []
    for variant in variants:
        frame_renderer = FrameRenderer(reconfigured(networks, variant), dtype)
        lips = measure_lips(passages, Sides(frame_renderer, None, networks.autoencoder, 1), reader, None)
        still = idle(frame_renderer, reader, [passages[0].seed], silence, seconds, np.random.default_rng(3))["sides"]
        rows.append({
            "variant": variant.name, "one step": lips["columns"]["one step"],
            "idle": still["one step"], "idle_rig": still["rig"],
        })  # fmt: skip
        print(f"looking back: {variant.name}", flush=True)
    return {"n": sum(map(len, passages)), "rows": rows}


def run(
    networks: Networks,
    budget: Budget,
    voices: Voices,
    silence: np.ndarray,
    passages: Sequence[Passage],
    long: Passage,
    reader: Reader,
    keep: Callable[[dict[str, Any]], None],
    variants: Sequence[Variant] = VARIANTS,
) -> dict[str, Any]:
    """Fine-tunes and measures every variant.

    `voices` are for training; `passages` and `long` are held out for measuring. `keep` receives the results so far
    after each variant.
    """
    autoencoder, device = networks.autoencoder, torch.device("cpu")
    found: dict[str, Any] = {
        "cpu": describe()["cpu"],
        "size": networks.config.size,
        "steps_each": budget.steps,
        "batch": budget.batch,
        "frames": budget.frames,
        "autoencoder_steps": budget.autoencoder_steps,
        "n": sum(map(len, passages)),
        "variants": [],
    }
    shot = Shot(networks.config.size, 4 * budget.frames, budget.frames, 24, wide=0.2)
    with tempfile.TemporaryDirectory() as folder, Scenes(shot, voices, silence, 2, budget.processes) as scenes:
        takes = gen.Takes(scenes, budget.frames, autoencoder, networks.config, max(4 * budget.takes, 64), reuse=8)
        takes.latest(budget.takes)
        for number, variant in enumerate(variants):
            changed = reconfigured(networks, variant)
            model = changed.transformer.requires_grad_(True).train()
            progress, began = Progress(budget.steps, None), time.process_time()
            model = gen.train("rollout", model, takes, autoencoder.shows, Path(folder) / str(number), progress,
                              budget.batch, budget.frames, _RATE, device, seed=variant.seed)  # fmt: skip
            minutes = (time.process_time() - began) / 60
            frame_renderer = FrameRenderer(Networks(changed.config, autoencoder, model.eval().requires_grad_(False)))
            lips = measure_lips(passages, Sides(frame_renderer, None, autoencoder, 1), reader, None)
            found["variants"].append({
                "variant": variant.name, "steps": progress.step, "minutes": minutes,
                "one step": lips["columns"]["one step"],
                "drift": drift(frame_renderer, reader, long)["sides"]["one step"],
            })  # fmt: skip
            print(f"ablation: {variant.name}: {progress.step} steps, {minutes:.1f} core minutes", flush=True)
            keep(found)
    small = networks.config if networks.config.name == "tiny" else SMALL
    return found | {"decoders": decoders(small, budget, voices, silence, passages)}
