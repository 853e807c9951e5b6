"""The generator's three stages: a flow-matching teacher, one step, and one step on its own past.

1. **Teacher**: each frame of a passage from its own noise level, with the true frames before it as context, sometimes
   noised (InfiniteTalk's context frames; noise against drift). Conditions are dropped occasionally.
2. **One step**: the same weights learn to produce in one step, from pure noise, the teacher's multi-step result from
   the same noise, and the truth. Plan and audio leave little to chance, so this regression does not blur as it would
   for a free generator; it needs neither a second network nor a discriminator, which a CPU could not train.
3. **Rollout**: frame by frame as in live use, each from the network's own previous frames (Self-Forcing). Gradients
   stay within the frame. This is what prevents drift over an hour. A preset without context has no past to learn from:
   then this is one step against the truth.

All three are trained on latents. Trained on pixels, together with the decoder, the last stage gained a decibel in the
mouth but smeared every edge that the generator had slightly misplaced.

Half of the runs are encoded relative to the neutral picture, as in live use, the other half relative to a frame less
than a second away (InfiniteTalk's M3).

Letters used in shapes: B passages, T frames, Z latent channels, s latent edge, N tokens, C channels of the coarsest
features, P values of the plan, Q outputs of the articulation network, E emotions.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.autoencoder import Autoencoder
from streamer.model.config import ModelConfig
from streamer.model.kv_cache import Cache
from streamer.model.layers import to_tensor
from streamer.model.sampling import generate, passage, remember, solve, times
from streamer.model.transformer import Conditions, Transformer, face_tokens
from streamer.motion.controls import MOUTH
from streamer.training.common import Kept, Log, Progress, Training
from streamer.training.footage import Made
from streamer.training.scenes import WEIGHT_STRIDE, Scene, Scenes

DROP = 0.1
"""Dropout probability of each condition."""
_ALONE_UNTIL = 0.8
"""Fraction of the teacher's training in which no frame sees the previous ones."""
_ALONE = 0.5
"""Probability of the same for steps after that, and for the other stages."""
_FROM_NOISE = 0.4
"""Fraction of the teacher's rows at t = 1, from which the one-step generator is derived."""
TEACHER_STEPS = 4
"""Steps of the teacher whose result the one-step generator learns."""


@dataclass
class Take:
    """A run of a scene's frames as training data for the generator."""

    latents: Tensor  # [T, Z, s, s] float16, whitened
    features: Tensor  # [C, s, s] float16: the picture's coarsest features
    plan: Tensor  # [T, 2, P]
    heard: Tensor  # [T, A, Q]
    emotion: Tensor  # [T, E]
    faces: Tensor  # [N]: the fraction of each token that shows the face, dilated by one token
    weights: Tensor  # [T, 1, s, s]


@torch.no_grad()
def takes_of(
    scene: Scene, run: int, autoencoder: Autoencoder, config: ModelConfig, rng: np.random.Generator
) -> list[Take]:
    """
    The runs of a scene, encoded alternately relative to its neutral picture and to one of the run's frames, less than a
    second away.
    """
    device = autoencoder.mean.device
    faces = face_tokens(torch.from_numpy(scene.face.astype(np.float32)), config.edge)
    takes = []
    for number, first in enumerate(range(0, len(scene.frames), run)):
        span = slice(first, first + run)
        source = scene.frames[first + int(rng.integers(run))] if (scene.seed + number) % 2 else scene.picture
        picture = to_tensor(source[None]).to(device).contiguous(memory_format=torch.channels_last)
        frames = to_tensor(scene.frames[span]).to(device).contiguous(memory_format=torch.channels_last)
        shown = to_tensor(scene.style(source[None])).to(device) if scene.style else picture
        with torch.autocast(device.type, torch.bfloat16):
            latents = autoencoder.encode(frames, picture.expand_as(frames))
            features = autoencoder.painter.pyramid(shown)[-1][0]
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
            )
        )
    return takes


class Takes(Kept[Take]):
    """A buffer of takes from scenes that are rendered on the fly."""

    def __init__(
        self,
        scenes: "Scenes | Made[Scene]",
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
    """`frames` consecutive frames of each take, with random dropout of conditions."""
    starts = (int(rng.integers(len(take.latents) - frames + 1)) for take in takes)
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
        torch.stack([take.latents[span].float() for take, span in spans]).to(device),
        torch.stack([take.features.float() for take in takes]).to(device),
        Conditions(*(part.to(device) for part in conditions)),
        (weight / weight.mean()).to(device),
        shows,
    )


def _error(drawn: Tensor, wanted: Tensor, weights: Tensor, shows: Tensor) -> Tensor:
    """
    Robust squared error of each row, [B, T], weighted by position and by channel visibility; large errors are dampened,
    so that no single position dominates.
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
    """Error against the teacher's result after TEACHER_STEPS steps from the same noise and context, and the truth."""
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


def alone_loss(model: Transformer, batch: Batch) -> dict[str, Tensor]:
    """One step from pure noise without any context, against the truth: half the cost of a rollout."""
    noise = torch.randn_like(batch.latents)
    ones = torch.ones(batch.shape, device=noise.device)
    with torch.autocast(noise.device.type, torch.bfloat16):
        reference = model.reference(batch.features)
        drawn = passage(model, batch.latents, noise, ones, batch.conditions, reference, 0).float()
    error = _error(drawn, batch.latents, batch.weights, batch.shows)
    return {"loss": error.mean(), "last_frame": error[:, -1].mean()}


def rollout_loss(model: Transformer, batch: Batch) -> dict[str, Tensor]:
    """
    Live use: each frame from noise and the network's own frames. Backpropagates frame by frame to bound memory; the
    returned loss is already in the gradients.
    """
    device = batch.latents.device
    b, frames = batch.shape
    total, last = torch.zeros((), device=device), torch.zeros((), device=device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        known = model.reference(batch.features)
    cache = Cache.empty(model.config, known.sinks)
    learns = int(torch.randint(frames, ()))  # the frame that trains the reference, which costs as much as the frame
    for k in range(frames):
        now = batch.conditions.rows(torch.arange(b, device=device) * frames + k)
        with torch.autocast(device.type, torch.bfloat16):
            reference, live = known, cache
            if k == learns:
                reference = model.reference(batch.features)
                live = dataclasses.replace(cache, sink_keys=reference.sinks[0], sink_values=reference.sinks[1])
            drawn = generate(model, torch.randn_like(batch.latents[:, k]), now, reference.added, live).float()
        wanted, weights = batch.latents[:, k : k + 1], batch.weights[:, k : k + 1]
        error = _error(drawn[:, None], wanted, weights, batch.shows).mean()
        (error / frames).backward()
        total, last = total + error.detach() / frames, error.detach()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            remember(model, drawn.detach(), now, known.added, cache)
    return {"loss": total, "last_frame": last}


def train(
    stage: str,
    model: Transformer,
    takes: Takes,
    shows: Tensor,
    work: Path,
    progress: Progress,
    batch: int,
    frames: int,
    rate: float,
    device: torch.device,
    teacher: Transformer | None = None,
    seed: int = 0,
) -> Transformer:
    """
    Runs a stage ("teacher", "one_step" or "rollout") from `model`, or from the stage's checkpoint in `work` if there is
    one. `shows` [Z] is the autoencoder's. Returns the averaged network.
    """
    training = Training(model, work / f"{stage}.pt", progress, rate, seed, 0.998, 200 if stage == "teacher" else 50,
                        betas=(0.9, 0.98), weight_decay=1e-2)  # fmt: skip
    log, rng = Log(work / f"{stage}.jsonl", every=50), training.rng
    for _ in training:
        samples = batch_of(takes.sample(batch, rng), frames, model.config, shows, rng, device)
        # Consecutive frames are so alike that copying is learned first; without context only the conditions remain.
        alone = 1.0 if stage == "teacher" and progress.share < _ALONE_UNTIL else _ALONE
        looks_back = 0 if rng.random() < alone else model.config.transformer.context
        if stage == "rollout":
            told = rollout_loss(model, samples) if looks_back else alone_loss(model, samples)
        elif teacher is None:
            told = teacher_loss(model, samples, looks_back, rng)
        else:
            told = one_step_loss(model, teacher, samples, looks_back)
        if told["loss"].requires_grad:  # a rollout has already backpropagated frame by frame
            told["loss"].backward()
        log.add(progress, **{name: value.detach() for name, value in told.items()})
    return training.average.module
