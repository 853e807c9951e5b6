"""The generator's three stages: a flow-matching teacher, one step, and one step on its own past.

1. **Teacher**: each frame of a passage from its own noise level, with the true frames before it as context, at times
   noised (InfiniteTalk's context frames; noise against drift). Conditions are left out now and then.
2. **One step**: the same weights learn to give at once, from pure noise, what the teacher reaches in many steps from
   the same noise, and the truth besides. Plan and audio leave little to chance, so this regression does not blur as it
   would for a free generator; it needs no second network and no discriminator, which a CPU could not train.
3. **Rollout**: frame by frame as in live use, each from the network's own frames before it (Self-Forcing), judged by
   the pixels that the decoder, trained along, makes of it. Gradients stay within the frame. This is what keeps an hour
   from drifting, and what the generator cannot foresee the decoder no longer waits for.

Half of the runs are told apart from the neutral picture, as in live use, the other half from a frame less than a second
away (InfiniteTalk's M3).

Letters used in shapes: B passages, T frames, Z latent channels, s latent edge, N tokens, C channels of the coarsest
features, P the plan's numbers, Q numbers that the articulation network says, E emotions.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamer.model.autoencoder import Anchor, Autoencoder, to_tensor
from streamer.model.cache import Cache
from streamer.model.config import STRIDE, ModelConfig
from streamer.model.sampler import generate, passage, remember, solve, times
from streamer.model.transformer import Conditions, Transformer, face_tokens
from streamer.studio.controls import MOUTH
from streamer.training.autoencoder import corner, weights_at
from streamer.training.autoencoder import loss as pixel_loss
from streamer.training.common import Kept, Log, Progress, Training
from streamer.training.scenes import WEIGHT_STRIDE, Scene, Scenes

DROP = 0.1
"""How often each condition is left out."""
_ALONE_UNTIL = 0.8
"""Share of the teacher's time in which no frame sees those before it."""
_ALONE = 0.5
"""Share of the steps after that, and of the one-step stage's, in which none does."""
_FROM_NOISE = 0.4
"""Share of the teacher's rows at t = 1, of which the one-step generator is made."""
_LATENTS_WEIGHT = 0.1
"""Of the latents' error in the last stage, beside the pixels'."""
TEACHER_STEPS = 4
"""Steps of the teacher whose result the one-step generator learns."""


@dataclass
class Take:
    """A run of a scene's frames as the generator sees it."""

    latents: Tensor  # [T, Z, s, s] float16, whitened
    features: Tensor  # [C, s, s] float16: the picture's coarsest features
    plan: Tensor  # [T, 2, P]
    heard: Tensor  # [T, A, Q]
    emotion: Tensor  # [T, E]
    faces: Tensor  # [N]: the share of each token that shows the face, one token round it included
    weights: Tensor  # [T, 1, s, s]
    picture: np.ndarray  # [S, S, 4] uint8: what the latents are told apart from
    frames: np.ndarray  # [T, S, S, 4] uint8
    fine_weights: np.ndarray  # [T, S / 4, S / 4] float16
    mouths: np.ndarray  # [T, 4]


@torch.no_grad()
def takes_of(
    scene: Scene, run: int, autoencoder: Autoencoder, config: ModelConfig, rng: np.random.Generator
) -> list[Take]:
    """
    The runs of a scene, in turn encoded against its neutral picture and against one of the frames of the run, less than
    a second away.
    """
    device = autoencoder.mean.device
    faces = face_tokens(torch.from_numpy(scene.face.astype(np.float32)), config.edge)
    takes = []
    for number, first in enumerate(range(0, len(scene.frames), run)):
        span = slice(first, first + run)
        source = scene.frames[first + int(rng.integers(run))] if (scene.seed + number) % 2 else scene.picture
        picture = to_tensor(source[None]).to(device).contiguous(memory_format=torch.channels_last)
        frames = to_tensor(scene.frames[span]).to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            latents = autoencoder.encode(frames, picture.expand_as(frames))
            features = autoencoder.anchor(picture).features[-1][0]
        shrink = config.size // WEIGHT_STRIDE // latents.shape[-1]
        takes.append(
            Take(
                latents.half(),
                features.half(),
                torch.from_numpy(scene.controls[span, :, len(MOUTH) :]),
                torch.from_numpy(scene.heard[span]),
                torch.from_numpy(scene.emotion[span]),
                faces,
                functional.avg_pool2d(torch.from_numpy(scene.weights[span].astype(np.float32))[:, None], shrink),
                source,
                scene.frames[span],
                scene.weights[span],
                scene.mouths[span],
            )
        )
    return takes


class Takes(Kept[Take]):
    """Takes of scenes that are drawn on the fly, many of them kept."""

    def __init__(
        self,
        scenes: Scenes,
        run: int,
        autoencoder: Autoencoder,
        config: ModelConfig,
        capacity: int,
        reuse: float,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        super().__init__(lambda: takes_of(scenes.take(), run, autoencoder, config, rng), capacity, reuse)


@dataclass
class Batch:
    """Passages of equal length."""

    takes: list[Take]
    first: list[int]  # of the takes' frames
    latents: Tensor  # [B, T, Z, s, s]
    features: Tensor  # [B, C, s, s]
    conditions: Conditions  # of B * T rows
    weights: Tensor  # [B, T, 1, s, s], mean 1
    shows: Tensor  # [Z]

    @property
    def shape(self) -> tuple[int, int]:
        return self.latents.shape[0], self.latents.shape[1]


def batch_of(
    takes: list[Take],
    frames: int,
    config: ModelConfig,
    shows: Tensor,
    rng: np.random.Generator,
    device: torch.device,
) -> Batch:
    """`frames` consecutive frames of each take; conditions are left out here and there."""
    starts = [int(rng.integers(len(take.latents) - frames + 1)) for take in takes]
    spans = [(take, slice(first, first + frames)) for take, first in zip(takes, starts, strict=True)]
    rows = len(takes)

    def given() -> Tensor:
        return torch.from_numpy(rng.random(rows) >= DROP).float().repeat_interleave(frames)

    faces = torch.stack([take.faces for take in takes])
    faces = torch.where(torch.from_numpy(rng.random(rows) < DROP)[:, None], torch.ones_like(faces), faces)
    weight = torch.stack([take.weights[span] for take, span in spans])
    conditions = Conditions(
        torch.cat([take.plan[span] for take, span in spans]),
        given(),
        torch.cat([take.heard[span] for take, span in spans])[:, None],
        given(),
        faces.repeat_interleave(frames, 0)[:, None],
        torch.cat([take.emotion[span] for take, span in spans])[:, None],
        given(),
    )
    return Batch(
        takes,
        starts,
        torch.stack([take.latents[span].float() for take, span in spans]).to(device),
        torch.stack([take.features.float() for take in takes]).to(device),
        Conditions(*(part.to(device) for part in conditions)),
        (weight / weight.mean()).to(device),
        shows,
    )


def _error(drawn: Tensor, wanted: Tensor, weights: Tensor, shows: Tensor) -> Tensor:
    """
    Squared error of each row, [B, T], weighted by place and by how much a channel shows; large errors count less, so
    that no single place rules.
    """
    error = 2 * functional.smooth_l1_loss(drawn, wanted, reduction="none", beta=1.0)
    return (error * weights * shows.view(-1, 1, 1)).mean((2, 3, 4))


def teacher_loss(model: Transformer, batch: Batch, looks_back: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """Flow matching with the clean latent as prediction: the velocity's error is the prediction's over t."""
    device = batch.latents.device
    b, frames = batch.shape
    at = 1 / (1 + np.exp(-rng.normal(0.6, 1.2, (b, frames))))
    at[rng.random((b, frames)) < _FROM_NOISE] = 1.0
    t = torch.from_numpy(at).float().to(device)
    spread = t[:, :, None, None, None]
    noisy = (1 - spread) * batch.latents + spread * torch.randn_like(batch.latents)
    blur = torch.from_numpy(0.4 * rng.random(b) * (rng.random(b) < 0.5)).float().to(device).view(-1, 1, 1, 1, 1)
    context = batch.latents + blur * torch.randn_like(batch.latents)
    with torch.autocast(device.type, torch.bfloat16):
        reference = model.reference(batch.features)
        drawn = passage(model, context, noisy, t, batch.conditions, reference, looks_back)
    error = _error(drawn.float(), batch.latents, batch.weights, batch.shows)
    pure = error.detach()[t == 1]
    return {
        "loss": (error / t.clamp(min=0.4) ** 2).mean(),
        "from_noise": pure.mean() if len(pure) else error.detach().mean(),
        "of_nothing": _error(torch.zeros_like(batch.latents), batch.latents, batch.weights, batch.shows).mean(),
    }


def one_step_loss(model: Transformer, teacher: Transformer, batch: Batch, looks_back: int) -> dict[str, Tensor]:
    """What the teacher reaches in TEACHER_STEPS steps from the same noise and context, and the truth."""
    noise = torch.randn_like(batch.latents)
    ones = torch.ones(batch.shape, device=noise.device)
    with torch.autocast(noise.device.type, torch.bfloat16):
        with torch.no_grad():
            told = teacher.reference(batch.features)

            def predict(z: Tensor, t: float) -> Tensor:
                return passage(teacher, batch.latents, z, t * ones, batch.conditions, told, looks_back).float()

            reached = solve(predict, noise, times(TEACHER_STEPS))
        reference = model.reference(batch.features)
        drawn = passage(model, batch.latents, noise, ones, batch.conditions, reference, looks_back).float()
    to_teacher = _error(drawn, reached, batch.weights, batch.shows).mean()
    to_truth = _error(drawn, batch.latents, batch.weights, batch.shows).mean()
    return {"loss": to_teacher + 0.5 * to_truth, "to_teacher": to_teacher.detach(), "to_truth": to_truth.detach()}


class Crops(NamedTuple):
    """The same part of each passage's picture and frames."""

    anchor: Anchor  # of B rows
    frames: Tensor  # [B, T, 4, h, h]
    weights: Tensor  # [B, T, 1, h, h]
    places: list[tuple[slice, slice]]  # of each passage's latents

    def cut(self, latents: Tensor) -> Tensor:
        """[B, Z, s, s] -> [B, Z, h / 16, h / 16]."""
        return torch.stack([latent[:, y, x] for latent, (y, x) in zip(latents, self.places, strict=True)])


def crops_of(batch: Batch, autoencoder: Autoencoder, edge: int, rng: np.random.Generator) -> Crops:
    """Mostly round the faces, `edge` pixels high and wide."""
    device, frames = batch.latents.device, batch.shape[1]
    pictures = to_tensor(np.stack([take.picture for take in batch.takes])).to(device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        whole = autoencoder.anchor(pictures.contiguous(memory_format=torch.channels_last))
    corners = [
        corner(take.mouths[first], pictures.shape[-1], edge, rng)
        for take, first in zip(batch.takes, batch.first, strict=True)
    ]

    def places(stride: int) -> list[tuple[slice, slice]]:
        return [
            (slice(y // stride, (y + edge) // stride), slice(x // stride, (x + edge) // stride)) for x, y in corners
        ]

    def cut(x: Tensor, stride: int) -> Tensor:
        return torch.stack([row[:, i, j] for row, (i, j) in zip(x, places(stride), strict=True)])

    spans = [(take, slice(first, first + frames)) for take, first in zip(batch.takes, batch.first, strict=True)]
    shown = [take.frames[span][:, i, j] for (take, span), (i, j) in zip(spans, places(1), strict=True)]
    weights = [
        weights_at(take.fine_weights[span][:, i, j], edge, pictures.shape[-1])
        for (take, span), (i, j) in zip(spans, places(WEIGHT_STRIDE), strict=True)
    ]
    return Crops(
        Anchor(cut(whole.picture, 1), tuple(cut(f, 2 << i) for i, f in enumerate(whole.features))),
        to_tensor(np.stack(shown)).to(device),
        torch.from_numpy(np.stack(weights))[:, :, None].to(device),
        places(STRIDE),
    )


def rollout_loss(model: Transformer, decoder: Autoencoder, batch: Batch, crops: Crops) -> dict[str, Tensor]:
    """
    Live use: each frame from noise and the network's own frames, judged by its pixels. Backpropagates frame by frame,
    so that memory does not grow; the returned loss is already in the gradients.
    """
    device = batch.latents.device
    b, frames = batch.shape
    sums = {name: torch.zeros((), device=device) for name in ("loss", "pixels", "latents")}
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        known = model.reference(batch.features)
    cache = Cache.empty(model.config, known.sinks)
    learns = int(torch.randint(frames, ()))  # the frame that teaches the reference, which costs as much as the frame
    for k in range(frames):
        now = batch.conditions.rows(torch.arange(b, device=device) * frames + k)
        with torch.autocast(device.type, torch.bfloat16):
            reference, live = known, cache
            if k == learns:
                reference = model.reference(batch.features)
                keys, values = (torch.stack(side) for side in zip(*reference.sinks, strict=True))
                live = dataclasses.replace(cache, sink_keys=keys, sink_values=values)
            drawn = generate(model, torch.randn_like(batch.latents[:, k]), now, reference.added, live).float()
            part = crops.cut(drawn).contiguous(memory_format=torch.channels_last)
            painted = decoder.decode(part, crops.anchor)
        wanted, weights = batch.latents[:, k : k + 1], batch.weights[:, k : k + 1]
        latents = _error(drawn[:, None], wanted, weights, batch.shows).mean()
        pixels = pixel_loss(painted, crops.frames[:, k], crops.weights[:, k])
        loss = pixels + _LATENTS_WEIGHT * latents
        (loss / frames).backward()
        for name, value in (("loss", loss), ("pixels", pixels), ("latents", latents)):
            sums[name] += value.detach() / frames
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            remember(model, drawn.detach(), now, known.added, cache)
    return sums


class Drawing(nn.Module):
    """What a live frame passes through: generator and decoder, which the last stage trains together."""

    def __init__(self, transformer: Transformer, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.transformer = transformer
        self.autoencoder = autoencoder.requires_grad_(False)
        self.autoencoder.decoder.requires_grad_(True)


def train(
    stage: str,
    drawing: Drawing,
    takes: Takes,
    work: Path,
    progress: Progress,
    batch: int,
    frames: int,
    rate: float,
    crop: int,
    device: torch.device,
    teacher: Transformer | None = None,
    seed: int = 0,
) -> Drawing:
    """
    Runs a stage ("teacher", "one_step" or "rollout") from `drawing`, or from the stage's checkpoint in `work` if there
    is one. Only the rollout touches the decoder. Returns the averaged networks.
    """
    trained: Any = drawing if stage == "rollout" else drawing.transformer
    training = Training(trained, work / f"{stage}.pt", progress, rate, seed, 0.998, 200 if stage == "teacher" else 50,
                        betas=(0.9, 0.98), weight_decay=1e-2)  # fmt: skip
    log, rng = Log(work / f"{stage}.jsonl", every=50), training.rng
    model = drawing.transformer
    for _ in training:
        samples = batch_of(takes.sample(batch, rng), frames, model.config, drawing.autoencoder.shows, rng, device)
        # Frames are so like those before them that copying comes first; without context only the conditions are left.
        alone = 1.0 if stage == "teacher" and progress.share < _ALONE_UNTIL else _ALONE
        looks_back = 0 if rng.random() < alone else model.config.transformer.context
        if stage == "rollout":
            told = rollout_loss(model, drawing.autoencoder, samples, crops_of(samples, drawing.autoencoder, crop, rng))
        elif teacher is None:
            told = teacher_loss(model, samples, looks_back, rng)
        else:
            told = one_step_loss(model, teacher, samples, looks_back)
        if stage != "rollout":
            told["loss"].backward()
        log.add(progress, **{name: value.detach() for name, value in told.items()})
    average = training.average.module
    return average if stage == "rollout" else Drawing(average, drawing.autoencoder)
