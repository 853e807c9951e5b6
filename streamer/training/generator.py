"""The generator's three stages: a flow-matching teacher, one step, and one step on its own past.

1. **Teacher**: each frame of a passage from its own noise level, with the true frames before it as context, at times
   noised (InfiniteTalk's context frames; noise against drift). Conditions are left out now and then.
2. **One step**: the same weights learn to give at once, from pure noise, what the teacher reaches in many steps from
   the same noise, and the truth besides. Plan and audio leave little to chance, so this regression does not blur as it
   would for a free generator; it needs no second network and no discriminator, which a CPU could not train.
3. **Rollout**: frame by frame as in live use, each from the network's own frames before it (Self-Forcing). Gradients
   stay within the frame. This is what keeps an hour from drifting.

Half of the passages are told apart from the neutral picture, as in live use, the other half from a frame less than a
second away (InfiniteTalk's M3).

Letters used in shapes: B passages, T frames, Z latent channels, s latent edge, N tokens, C channels of the coarsest
features, P the plan's numbers, Q numbers that the articulation network says, E emotions.
"""

import dataclasses
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.autoencoder import Autoencoder, to_tensor
from streamer.model.cache import Cache
from streamer.model.config import ModelConfig
from streamer.model.sampler import generate, passage, remember, times
from streamer.model.transformer import Conditions, Transformer, face_tokens
from streamer.studio.controls import MOUTH
from streamer.training.common import Average, Log, Progress, save_checkpoint
from streamer.training.scenes import WEIGHT_STRIDE, Scene, Scenes

DROP = 0.1
"""How often each condition is left out."""
_FORGETFUL = 0.6
"""Share of the teacher's steps in which no frame sees those before it."""
TEACHER_STEPS = 4
"""Steps of the teacher whose result the one-step generator learns."""


@dataclass
class Take:
    """A scene as the generator sees it."""

    latents: Tensor  # [T, Z, s, s] float16, normalised
    features: Tensor  # [C, s, s] float16: the picture's coarsest features
    plan: Tensor  # [T, P]
    heard: Tensor  # [T, Q]
    emotion: Tensor  # [T, E]
    faces: Tensor  # [N]: the share of each token that shows the face, one token round it included
    weights: Tensor  # [T, 1, s, s]


@torch.no_grad()
def take_of(
    scene: Scene, autoencoder: Autoencoder, config: ModelConfig, neutral: bool, rng: np.random.Generator
) -> Take:
    """Encodes a scene against its neutral picture or against one of its own frames."""
    device = autoencoder.mean.device
    frames = to_tensor(scene.frames).to(device)
    source = scene.picture if neutral else scene.frames[int(rng.integers(len(scene.frames)))]
    picture = to_tensor(source[None]).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        latents = autoencoder.encode(frames, picture.expand_as(frames))
        features = autoencoder.anchor(picture).features[-1][0]
    shrink = config.size // WEIGHT_STRIDE // latents.shape[-1]
    weights = functional.avg_pool2d(torch.from_numpy(scene.weights.astype(np.float32))[:, None], shrink)
    return Take(
        latents.half(),
        features.half(),
        torch.from_numpy(scene.controls[:, len(MOUTH) :]),
        torch.from_numpy(scene.heard.astype(np.float32)),
        torch.from_numpy(scene.emotion),
        face_tokens(torch.from_numpy(scene.face.astype(np.float32)), config.edge),
        weights,
    )


class Takes:
    """Encoded scenes, many of which are kept: a latent is small, and drawing is dearer than learning."""

    def __init__(
        self, scenes: Scenes, autoencoder: Autoencoder, config: ModelConfig, capacity: int, reuse: float
    ) -> None:
        self._scenes, self._autoencoder, self._config, self._reuse = scenes, autoencoder, config, reuse
        self._kept: deque[Take] = deque(maxlen=capacity)
        self._due = 0.0
        self._count = 0

    def sample(self, count: int, rng: np.random.Generator) -> list[Take]:
        """`count` takes; draws anew what keeps each used about `reuse` times."""
        self._due += count / self._reuse
        while len(self._kept) < min(8 * count, self._kept.maxlen or 1) or self._due >= 1:
            neutral = self._count % 2 == 0
            self._kept.append(take_of(self._scenes.take(), self._autoencoder, self._config, neutral, rng))
            self._count += 1
            self._due = max(self._due - 1, 0.0)
        return [self._kept[i] for i in rng.integers(len(self._kept), size=count)]


@dataclass
class Batch:
    """Passages of equal length."""

    latents: Tensor  # [B, T, Z, s, s]
    features: Tensor  # [B, C, s, s]
    conditions: Conditions  # of B * T rows
    weights: Tensor  # [B, T, 1, s, s], mean 1

    @property
    def shape(self) -> tuple[int, int]:
        return self.latents.shape[0], self.latents.shape[1]


def windows(x: Tensor, length: int) -> Tensor:
    """x [T, Q] -> [T, length, Q]: each frame with those before it, oldest first; the first frame is repeated."""
    padded = torch.cat([x[:1].expand(length - 1, -1), x])
    return padded.unfold(0, length, 1).transpose(1, 2)


def batch_of(
    takes: list[Take], frames: int, config: ModelConfig, rng: np.random.Generator, device: torch.device
) -> Batch:
    """`frames` consecutive frames of each take; conditions are left out here and there."""
    latents, plans, heard, emotions, weights = [], [], [], [], []
    for take in takes:
        first = int(rng.integers(len(take.latents) - frames + 1))
        span = slice(first, first + frames)
        latents.append(take.latents[span].float())
        plans.append(windows(take.plan, 2)[span])
        heard.append(windows(take.heard, config.transformer.window)[span])
        emotions.append(take.emotion[span])
        weights.append(take.weights[span])
    rows = len(takes)

    def given() -> Tensor:
        return torch.from_numpy(rng.random(rows) >= DROP).float().repeat_interleave(frames)

    faces = torch.stack([take.faces for take in takes])
    faces = torch.where(torch.from_numpy(rng.random(rows) < DROP)[:, None], torch.ones_like(faces), faces)
    weight = torch.stack(weights)
    conditions = Conditions(
        torch.cat(plans),
        given(),
        torch.cat(heard)[:, None],
        given(),
        faces.repeat_interleave(frames, 0)[:, None],
        torch.cat(emotions)[:, None],
        given(),
    )
    return Batch(
        torch.stack(latents).to(device),
        torch.stack([take.features.float() for take in takes]).to(device),
        Conditions(*(part.to(device) for part in conditions)),
        (weight / weight.mean()).to(device),
    )


def _error(drawn: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared error of each row, [B, T]; large errors count less, so that no single place rules."""
    return (functional.smooth_l1_loss(drawn, wanted, reduction="none", beta=1.0) * 2 * weights).mean((2, 3, 4))


def teacher_loss(model: Transformer, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
    """Flow matching with the clean latent as prediction: the velocity's error is the prediction's over t."""
    device = batch.latents.device
    b, frames = batch.shape
    at = 1 / (1 + np.exp(-rng.normal(0.6, 1.2, (b, frames))))
    at[rng.random((b, frames)) < 0.3] = 1.0
    t = torch.from_numpy(at).float().to(device)
    spread = t[:, :, None, None, None]
    noisy = (1 - spread) * batch.latents + spread * torch.randn_like(batch.latents)
    blur = torch.from_numpy(0.4 * rng.random(b) * (rng.random(b) < 0.5)).float().to(device).view(-1, 1, 1, 1, 1)
    context = batch.latents + blur * torch.randn_like(batch.latents)
    # Frames are so like those before them that copying comes first; without context only the conditions are left.
    looks_back = model.config.transformer.context if rng.random() >= _FORGETFUL else 0
    with torch.autocast(device.type, torch.bfloat16):
        reference = model.reference(batch.features)
        drawn = passage(model, context, noisy, t, batch.conditions, reference, looks_back)
    error = _error(drawn.float(), batch.latents, batch.weights)
    pure = error.detach()[t == 1]
    return {
        "loss": (error / t.clamp(min=0.4) ** 2).mean(),
        "from_noise": pure.mean() if len(pure) else error.detach().mean(),
        "no_motion": _error(
            batch.latents.mean((1,), keepdim=True).expand_as(drawn), batch.latents, batch.weights
        ).mean(),
    }


def one_step_loss(model: Transformer, teacher: Transformer, batch: Batch) -> dict[str, Tensor]:
    """What the teacher reaches in TEACHER_STEPS steps from the same noise and context, and the truth."""
    device = batch.latents.device
    context = model.config.transformer.context
    noise = torch.randn_like(batch.latents)
    ones = torch.ones(batch.shape, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        with torch.no_grad():
            told = teacher.reference(batch.features)
            z = noise
            at = times(TEACHER_STEPS)
            for here, following in zip(at, [*at[1:], 0.0], strict=True):
                clean = passage(teacher, batch.latents, z, here * ones, batch.conditions, told, context).float()
                z = clean + (following / here) * (z - clean)
        reference = model.reference(batch.features)
        drawn = passage(model, batch.latents, noise, ones, batch.conditions, reference, context)
    to_teacher = _error(drawn.float(), z, batch.weights).mean()
    to_truth = _error(drawn.float(), batch.latents, batch.weights).mean()
    return {"loss": to_teacher + 0.5 * to_truth, "to_teacher": to_teacher.detach(), "to_truth": to_truth.detach()}


def rollout_loss(model: Transformer, batch: Batch) -> dict[str, Tensor]:
    """
    Live use: each frame from noise and the network's own frames. Backpropagates frame by frame, so that memory does not
    grow; the returned loss is already in the gradients.
    """
    device = batch.latents.device
    b, frames = batch.shape
    total, last = torch.zeros((), device=device), torch.zeros((), device=device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        sinks = model.reference(batch.features)
    cache = Cache.empty(model.config, sinks.sinks)
    for k in range(frames):
        now = batch.conditions.rows(torch.arange(b, device=device) * frames + k)
        with torch.autocast(device.type, torch.bfloat16):
            reference = model.reference(batch.features)
            keys, values = (torch.stack(side) for side in zip(*reference.sinks, strict=True))
            live = dataclasses.replace(cache, sink_keys=keys, sink_values=values)
            drawn = generate(model, torch.randn_like(batch.latents[:, k]), now, reference.added, live).float()
        error = _error(drawn[:, None], batch.latents[:, k : k + 1], batch.weights[:, k : k + 1]).mean()
        (error / frames).backward()
        total, last = total + error.detach() / frames, error.detach()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            remember(model, drawn.detach(), now, sinks.added, cache)
    return {"loss": total, "last_frame": last}


def train(
    stage: str,
    model: Transformer,
    takes: Takes,
    work: Path,
    steps: int,
    minutes: float | None,
    batch: int,
    frames: int,
    rate: float,
    device: torch.device,
    teacher: Transformer | None = None,
    seed: int = 0,
) -> Transformer:
    """
    Runs a stage ("teacher", "one_step" or "rollout") from `model`, or from the stage's checkpoint in `work` if there is
    one. Returns the averaged network.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    average = Average(model, 0.998)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-2}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, rate, betas=(0.9, 0.98))
    progress = Progress(steps, minutes)
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / f"{stage}.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        average.module.load_state_dict(saved["average"])
        average.updates = saved["step"]
        optimizer.load_state_dict(saved["optimizer"])
        progress = Progress(steps, minutes, saved["step"], saved["minutes"])
        rng = np.random.default_rng([seed, saved["step"]])

    def save() -> None:
        save_checkpoint(checkpoint, model=model.state_dict(), average=average.module.state_dict(),
                        optimizer=optimizer.state_dict(), step=progress.step, minutes=progress.spent)  # fmt: skip

    log = Log(work / f"{stage}.jsonl", every=50)
    saved_at = progress.spent
    while not progress.over:
        samples = batch_of(takes.sample(batch, rng), frames, model.config, rng, device)
        for group in optimizer.param_groups:
            group["lr"] = progress.rate(rate, warm_up=200 if stage == "teacher" else 50)
        if stage == "rollout":
            told = rollout_loss(model, samples)
        else:
            told = teacher_loss(model, samples, rng) if teacher is None else one_step_loss(model, teacher, samples)
            told["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(model)
        progress.step += 1
        log.add(progress, **{name: value.detach() for name, value in told.items()})
        if progress.spent - saved_at > 4:
            save()
            saved_at = progress.spent
    save()
    return average.module
