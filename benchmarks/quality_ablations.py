"""What each part of the generator is worth: the same small model without it, trained for as long, measured alike.

All is 128² (or the `tiny` preset, for a trial of the benchmark itself). Every variant of the generator is trained from
nothing on the latents of the shipped autoencoder, and gets the same steps, shared out among its stages as the recipe
does: steps and not minutes, so that what else the machine does favours nobody. Scenes are drawn and encoded before the
training begins, and all variants share them. The anchored decoder is compared by autoencoders of their own, small ones,
since a generator cannot be better than the decoder that draws for it.
"""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import describe
from lip_reader import Reader
from quality_clips import Passage, cut, draw
from quality_drift import drift, idle
from quality_lips import Sides, given_back
from quality_lips import measure as measure_lips
from quality_measures import psnr
from torch import Tensor

from streamer.model.autoencoder import Autoencoder
from streamer.model.config import AutoencoderConfig, ModelConfig, TransformerConfig
from streamer.model.loading import Networks
from streamer.model.stream import Painter
from streamer.model.transformer import Reference, Transformer
from streamer.training import autoencoder as ae
from streamer.training import generator as gen
from streamer.training.common import Progress
from streamer.training.scenes import Scenes, Shot
from streamer.training.voices import Voices

SIZE = 128
SMALL = TransformerConfig(width=128, depth=4, heads=2, hidden=384, context=3)
SMALL_AUTOENCODER = AutoencoderConfig(latent=32, channels=(24, 40, 80, 112))
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
    told: bool = True
    """Whether the teacher tells one step what it reaches in several; else the rollout has those steps, too."""
    seed: int = 0
    """Of all that is random in training."""

    @property
    def shares(self) -> dict[str, float]:
        """Each stage's share of the steps."""
        if self.told:
            return _SHARES
        return {"teacher": _SHARES["teacher"], "rollout": _SHARES["one_step"] + _SHARES["rollout"]}


VARIANTS = (
    Variant("context 3, sink"),
    Variant("context 0", context=0),
    Variant("context 1", context=1),
    Variant("context 5", context=5),
    Variant("without the sink", sink=False),
    Variant("no step told by the teacher", told=False),
    Variant("context 3, sink, another seed", seed=1),
)


@dataclass(frozen=True)
class Budget:
    """What every variant gets."""

    steps: int
    """Of a generator, all stages together."""
    autoencoder_steps: int
    """Of an autoencoder."""
    batch: int = 4
    frames: int = 6
    """Of a passage in training: more than the longest context has, so that rings fill."""
    takes: int = 400
    """Scenes that are drawn before the clock runs."""
    processes: int = 1


def config_of(base: ModelConfig, variant: Variant) -> ModelConfig:
    return replace(base, transformer=replace(base.transformer, context=variant.context))


def decoders(
    config: ModelConfig, budget: Budget, voices: Voices, silence: np.ndarray, passages: Sequence[Passage]
) -> list[dict[str, Any]]:
    """Autoencoders whose decoder is anchored and whose is not, trained alike from nothing."""
    rows = []
    for anchored in (True, False):
        torch.manual_seed(0)
        network = Autoencoder(replace(config.autoencoder, anchored=anchored))
        shot, progress = Shot(config.size, 8, spread=12, wide=0.4), Progress(budget.autoencoder_steps, None)
        with tempfile.TemporaryDirectory() as folder, Scenes(shot, voices, silence, 1, budget.processes) as scenes:
            network = ae.train(network, "autoencoder", scenes, Path(folder), progress, 2, 4, config.size,
                               torch.device("cpu"))  # fmt: skip
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


CONTEXTS = (0, 1, 2, 3)
"""Frames that the shipped weights are told to look back on."""


def told(networks: Networks, variant: Variant) -> Networks:
    """The shipped weights, told to look back on other frames, or not on the picture: this is no new model."""
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
    """What the shipped weights need of context and sink: lips and pictures of `passages`, and silence's motion."""
    shipped = networks.config.transformer.context
    others = [Variant(f"context {n}", n) for n in CONTEXTS if n != shipped]
    variants = [Variant(f"as shipped: context {shipped}", shipped), *others,
                Variant("without the sink", shipped, sink=False)]  # fmt: skip
    rows = []
    for variant in variants:
        painter = Painter(told(networks, variant), dtype)
        lips = measure_lips(passages, Sides(painter, None, networks.autoencoder, 1), reader, None)
        still = idle(painter, reader, [passages[0].seed], silence, seconds, np.random.default_rng(3))["sides"]
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
    """
    Trains and measures every variant. voices: those to train on; passages and `long`: held out, to measure on; `keep`
    is told what there is after each.
    """
    tiny = networks.config.name == "tiny"
    base = networks.config if tiny else ModelConfig("ablation", SIZE, networks.config.autoencoder, SMALL)
    autoencoder = networks.autoencoder
    found: dict[str, Any] = {
        "cpu": describe()["cpu"],
        "size": base.size,
        "steps_each": budget.steps,
        "autoencoder_steps": budget.autoencoder_steps,
        "n": sum(map(len, passages)),
        "variants": [],
    }
    shot = Shot(base.size, 4 * budget.frames, budget.frames, 24, wide=0.2)
    with tempfile.TemporaryDirectory() as folder, Scenes(shot, voices, silence, 2, budget.processes) as scenes:
        takes = gen.Takes(scenes, budget.frames, autoencoder, base, max(4 * budget.takes, 64), reuse=8)
        takes.sample(max(budget.takes // 16, budget.batch), np.random.default_rng(0))  # draws 16 for each
        for number, variant in enumerate(variants):
            config = config_of(base, variant)
            model, steps = _generator(config, variant, takes, autoencoder.shows, budget, Path(folder) / str(number))
            painter = Painter(Networks(config, autoencoder, model.eval().requires_grad_(False)))
            lips = measure_lips(passages, Sides(painter, None, autoencoder, len(passages)), reader, None)
            found["variants"].append({
                "variant": variant.name, "steps": steps, "one step": lips["columns"]["one step"],
                "autoencoder": lips["columns"]["autoencoder"],
                "drift": drift(painter, reader, long)["sides"]["one step"],
            })  # fmt: skip
            print(f"ablation: {variant.name}: {steps}", flush=True)
            keep(found)
    small = base if tiny else replace(base, autoencoder=SMALL_AUTOENCODER)
    return found | {"decoders": decoders(small, budget, voices, silence, passages)}
