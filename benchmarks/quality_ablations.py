"""What each part of the generator is worth: the same small model without it, trained for as long, measured alike.

All variants are 128² (or the `tiny` preset, for a trial of the benchmark itself). Autoencoders with and without the
anchored decoder get twice `steps` each, then every variant of the generator gets `steps`, shared out among its stages
as the recipe does: steps and not minutes, so that what else the machine does favours nobody. Scenes are drawn and
encoded before the generator's training begins, and variants of one autoencoder share them.
"""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import describe
from lip_reader import Reader
from quality_clips import Passage
from quality_drift import drift
from quality_lips import Sides
from quality_lips import measure as measure_lips
from torch import Tensor

from streamer.model.autoencoder import Autoencoder
from streamer.model.config import PRESETS, AutoencoderConfig, ModelConfig, TransformerConfig
from streamer.model.loading import Networks
from streamer.model.stream import Painter
from streamer.model.transformer import Reference, Transformer
from streamer.training import autoencoder as ae
from streamer.training import generator as gen
from streamer.training.common import Progress
from streamer.training.scenes import Scenes, Shot
from streamer.training.voices import Voices

SMALL = ModelConfig(
    "ablation",
    128,
    AutoencoderConfig(latent=32, channels=(24, 40, 80, 112)),
    TransformerConfig(width=192, depth=4, heads=3, hidden=576, patch=1, context=3),
)
_SHARES = {"teacher": 0.6, "one_step": 0.15, "rollout": 0.25}
_RATES = {"teacher": 1e-3, "one_step": 3e-4, "rollout": 2e-4}


class Sinkless(Transformer):
    """A generator whose reference is only added to its tokens and never attended to."""

    def reference(self, features: Tensor) -> Reference:
        told = super().reference(features)
        return Reference(told.added, (told.sinks[0][:, :, :0], told.sinks[1][:, :, :0]))


@dataclass(frozen=True)
class Variant:
    name: str
    context: int = 3
    sink: bool = True
    anchored: bool = True
    told: bool = True
    """Whether the teacher tells one step what it reaches in several; else the rollout has those steps, too."""
    seed: int = 0
    """Of all that is random in training; an autoencoder is shared by the variants of one seed."""

    @property
    def shares(self) -> dict[str, float]:
        """Each stage's share of the steps."""
        if self.told:
            return _SHARES
        return {"teacher": _SHARES["teacher"], "rollout": _SHARES["one_step"] + _SHARES["rollout"]}


VARIANTS = (
    Variant("as shipped: context 3, sink, anchored decoder"),
    Variant("context 0", context=0),
    Variant("context 1", context=1),
    Variant("context 5", context=5),
    Variant("without the sink", sink=False),
    Variant("no step told by the teacher", told=False),
    Variant("decoder not anchored", anchored=False),
    Variant("as shipped, once more with another seed", seed=1),
)


@dataclass(frozen=True)
class Budget:
    """What every variant gets."""

    steps: int
    """Of a generator, all stages together; an autoencoder has twice as many."""
    batch: int = 4
    frames: int = 6
    """Of a passage in training: more than the longest context has, so that rings fill."""
    takes: int = 400
    """Scenes that are drawn before the clock runs."""
    processes: int = 1


def config_of(base: ModelConfig, variant: Variant) -> ModelConfig:
    return replace(
        base,
        autoencoder=replace(base.autoencoder, anchored=variant.anchored),
        transformer=replace(base.transformer, context=variant.context),
    )


def _autoencoder(
    config: ModelConfig, budget: Budget, voices: Voices, silence: np.ndarray, work: Path, seed: int
) -> tuple[Autoencoder, int]:
    """Trained, and how many steps."""
    torch.manual_seed(seed)
    device = torch.device("cpu")
    shot = Shot(config.size, 8, spread=12, wide=0.4)
    with Scenes(shot, voices, silence, 2 * seed + 1, budget.processes) as scenes:
        progress = Progress(2 * budget.steps, None)
        network = ae.train(
            Autoencoder(config.autoencoder), "autoencoder", scenes, work, progress, 2, 4, config.size, device, seed=seed
        )
    steps = torch.load(work / "autoencoder.pt", weights_only=True)["step"]
    return network.eval().requires_grad_(False), int(steps)


def _generator(
    config: ModelConfig, variant: Variant, takes: gen.Takes, shows: Tensor, budget: Budget, work: Path
) -> tuple[Transformer, dict[str, int]]:
    """Trained through all three stages; and the steps of each."""
    torch.manual_seed(variant.seed)
    device = torch.device("cpu")
    model: Transformer = (Transformer if variant.sink else Sinkless)(config)
    teacher: Transformer | None = None
    steps = {}
    for stage, share in variant.shares.items():
        model = copy.deepcopy(model).requires_grad_(True).train()
        model = gen.train(
            stage, model, takes, shows, work, Progress(round(budget.steps * share), None), budget.batch, budget.frames,
            _RATES[stage], device, teacher if stage == "one_step" else None, seed=variant.seed,
        )  # fmt: skip
        teacher = model if stage == "teacher" else teacher
        steps[stage] = int(torch.load(work / f"{stage}.pt", weights_only=True)["step"])
    return model, steps


def run(
    preset: str,
    budget: Budget,
    voices: Voices,
    silence: np.ndarray,
    passages: Sequence[Passage],
    long: Passage,
    reader: Reader,
    variants: Sequence[Variant] = VARIANTS,
) -> dict[str, Any]:
    """Trains and measures every variant. voices: those to train on; passages and `long`: held out, to measure on."""
    base = PRESETS["tiny"] if preset == "tiny" else SMALL
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for anchored, seed in dict.fromkeys((variant.anchored, variant.seed) for variant in variants):
            group = [variant for variant in variants if (variant.anchored, variant.seed) == (anchored, seed)]
            work = Path(folder) / f"anchored_{anchored}_{seed}"
            config = config_of(base, group[0])
            autoencoder, seen = _autoencoder(config, budget, voices, silence, work, seed)
            shot = Shot(config.size, 4 * budget.frames, budget.frames, 24, wide=0.2)
            with Scenes(shot, voices, silence, 2 * seed + 2, budget.processes) as scenes:
                takes = gen.Takes(scenes, budget.frames, autoencoder, config, max(4 * budget.takes, 64), reuse=8)
                takes.sample(max(budget.takes // 16, budget.batch), np.random.default_rng(seed))  # draws 16 for each
                for variant in group:
                    config = config_of(base, variant)
                    name = str(VARIANTS.index(variant)) if variant in VARIANTS else variant.name
                    model, steps = _generator(config, variant, takes, autoencoder.shows, budget, work / name)
                    painter = Painter(Networks(config, autoencoder, model.eval().requires_grad_(False)))
                    lips = measure_lips(passages, Sides(painter, None, autoencoder, len(passages)), reader, None)
                    rows.append({
                        "variant": variant.name, "steps": {"autoencoder": seen, **steps},
                        "one step": lips["columns"]["one step"],
                        "autoencoder": lips["columns"]["autoencoder"],
                        "drift": drift(painter, reader, long)["sides"]["one step"],
                    })  # fmt: skip
                    print(f"ablation: {variant.name}: {rows[-1]['steps']}", flush=True)
    return {
        "cpu": describe()["cpu"],
        "size": base.size,
        "steps_each": budget.steps,
        "n": sum(map(len, passages)),
        "variants": rows,
    }
