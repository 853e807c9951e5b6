"""The first stage: the anchored autoencoder, trained on crops of drawn frames.

Each sample is a picture of a character and frames of the same one. The picture is mostly the neutral one, as in live
use, else any other frame of the scene, since an uploaded picture may smile or look aside. Crops of the same place in
both are a third of the work of whole frames; places near a crop's border, whose origin may lie outside, count less.

Letters used in shapes: B scenes, T frames of each, S picture edge, Z latent channels.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.autoencoder import Autoencoder, to_pixels, to_tensor, warp
from streamer.model.config import STRIDE, AutoencoderConfig
from streamer.training.common import Average, Log, Progress, save_checkpoint
from streamer.training.scenes import WEIGHT_STRIDE, Scene, Scenes

LATENT_NOISE = 0.03
"""Added to latents before they are decoded, as a share of their own spread: the generator is never exact."""
_LATENT_PENALTY = 1e-5
_FLOW_WEIGHT = 0.5
_BORDER = 12
_BORDER_WEIGHT = 0.2


def loss(painted: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """painted and wanted [B, 4, h, w], weights [B, 1, h, w]: absolute error and that of its gradients, weighted."""
    error = painted.float() - wanted
    total = weights.sum() * wanted.shape[1]
    plain = (torch.sqrt(error**2 + 1e-6) * weights).sum() / total
    across = ((error[..., 1:] - error[..., :-1]).abs() * weights[..., 1:]).sum() / total
    down = ((error[..., 1:, :] - error[..., :-1, :]).abs() * weights[..., 1:, :]).sum() / total
    return plain + 0.5 * (across + down)


def flow_loss(flows: list[Tensor], picture: Tensor, frames: Tensor) -> Tensor:
    """
    How far the picture, shrunk and moved along each stage's flow [B, 2, h, h], is from the frame [B, 4, S, S]. Where
    outlines are thin only a coarse picture tells a flow that is far off which way to go.
    """
    total = frames.new_zeros(())
    for flow in flows:
        shrink = frames.shape[-1] // flow.shape[-1]
        error = warp(functional.avg_pool2d(picture, shrink), flow.float()) - functional.avg_pool2d(frames, shrink)
        total = total + torch.sqrt(error**2 + 1e-4).mean()
    return total / len(flows)


class Pool:
    """Scenes that were drawn lately, each used some times over: drawing is dearer than learning from another crop."""

    def __init__(self, scenes: Scenes, capacity: int, reuse: float) -> None:
        self._scenes, self._reuse = scenes, reuse
        self._kept: deque[Scene] = deque(maxlen=capacity)
        self._due = 0.0

    def sample(self, count: int, rng: np.random.Generator) -> list[Scene]:
        """`count` scenes; draws anew what keeps each used about `reuse` times."""
        self._due += count / self._reuse
        while len(self._kept) < min(8 * count, self._kept.maxlen or 1) or self._due >= 1:
            self._kept.append(self._scenes.take())
            self._due = max(self._due - 1, 0.0)
        return [self._kept[i] for i in rng.integers(len(self._kept), size=count)]


def crops(scenes: list[Scene], targets: int, edge: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """pictures [B, 4, edge, edge], frames and weights [B * targets, 4 or 1, edge, edge]."""
    pictures, frames, weights = [], [], []
    size = scenes[0].picture.shape[0]
    most = (size - edge) // STRIDE
    border = np.full((edge, edge), _BORDER_WEIGHT, np.float32)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1
    for scene in scenes:
        chosen = rng.choice(len(scene.frames), targets, replace=False)
        if rng.random() < 0.65:  # round the face
            at = (scene.mouths[chosen[0], :2] + scene.mouths[chosen[0], 2:]) / 2 - edge / 2
            at = at + rng.uniform(-0.15, 0.15, 2) * size - np.array([0, 0.08 * size])
            x, y = (int(np.clip(round(v / STRIDE), 0, most)) * STRIDE for v in at)
        else:
            x, y = (int(v) * STRIDE for v in rng.integers(most + 1, size=2))
        source = scene.picture
        if rng.random() < 0.25:
            source = scene.frames[int(rng.integers(len(scene.frames)))]
        pictures.append(source[y : y + edge, x : x + edge])
        frames.append(scene.frames[chosen, y : y + edge, x : x + edge])
        step = WEIGHT_STRIDE
        part = scene.weights[chosen, y // step : (y + edge) // step, x // step : (x + edge) // step].astype(np.float32)
        weights.append(part.repeat(step, 1).repeat(step, 2) * (border if edge < size else 1.0))
    return (
        to_tensor(np.stack(pictures)),
        to_tensor(np.concatenate(frames)),
        torch.from_numpy(np.concatenate(weights))[:, None],
    )


def train(
    config: AutoencoderConfig,
    scenes: Scenes,
    work: Path,
    steps: int,
    minutes: float | None,
    batch: int,
    targets: int,
    edge: int,
    device: torch.device,
    reuse: float = 4.0,
    capacity: int = 2000,
    rate: float = 7e-4,
    seed: int = 0,
) -> Autoencoder:
    """Trains, continuing from the checkpoint in `work` if there is one; returns the averaged network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Autoencoder(config).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-3)
    progress = Progress(steps, minutes)
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "autoencoder.pt"
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

    log, pool = Log(work / "autoencoder.jsonl"), Pool(scenes, capacity, reuse)
    saved_at = progress.spent
    while not progress.over:
        picture, frames, weights = (part.to(device) for part in crops(pool.sample(batch, rng), targets, edge, rng))
        picture, frames = (part.contiguous(memory_format=torch.channels_last) for part in (picture, frames))
        for group in optimizer.param_groups:
            group["lr"] = progress.rate(rate)
        with torch.autocast(device.type, torch.bfloat16):
            latent = model.encode(frames, picture.repeat_interleave(targets, 0)).float()
            noisy = latent + LATENT_NOISE * latent.std().detach() * torch.randn_like(latent)
            painted, flows = model.decode_with_flows(noisy, model.anchor(picture).expand(targets))
        error = loss(painted, frames, weights)
        if config.anchored:
            error = error + _FLOW_WEIGHT * flow_loss(flows, picture.repeat_interleave(targets, 0), frames)
        (error + _LATENT_PENALTY * latent.square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(model)
        progress.step += 1
        with torch.no_grad():
            square = functional.mse_loss(painted.float(), frames)
            copied = functional.mse_loss(picture.repeat_interleave(targets, 0), frames)
            log.add(progress, loss=error.detach(), psnr=-10 * torch.log10(square / 4),
                    psnr_of_copying=-10 * torch.log10(copied / 4 + 1e-9), latent=latent.detach().std())  # fmt: skip
        if progress.spent - saved_at > 4:
            save()
            saved_at = progress.spent
    save()
    normalise(average.module, pool, device, rng)
    return average.module


@torch.no_grad()
def normalise(model: Autoencoder, pool: Pool, device: torch.device, rng: np.random.Generator, scenes: int = 64) -> None:
    """Sets the mean and the scale of the latents from some scenes."""
    model.mean.zero_()
    model.scale.fill_(1)
    latents = [encode(model, scene, device)[:4] for scene in pool.sample(scenes, rng)]
    every = torch.cat(latents).transpose(0, 1).flatten(1)
    model.mean.copy_(every.mean(1))
    model.scale.copy_(every.std(1).clamp(min=1e-3))


@torch.no_grad()
def encode(model: Autoencoder, scene: Scene, device: torch.device) -> Tensor:
    """The scene's latents against its neutral picture: [T, Z, s, s]."""
    frames = to_tensor(scene.frames).to(device)
    return model.encode(frames, to_tensor(scene.picture).to(device).expand_as(frames))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels between two uint8 pictures of the same shape; infinite where they are equal."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@torch.no_grad()
def reconstruct(model: Autoencoder, scene: Scene, device: torch.device) -> np.ndarray:
    """The scene's frames as the autoencoder gives them back from its neutral picture: [T, S, S, 4] uint8."""
    anchor = model.anchor(to_tensor(scene.picture[None]).to(device)).expand(len(scene.frames))
    return to_pixels(model.decode(encode(model, scene, device), anchor))


def measure(model: Autoencoder, scenes: Iterator[Scene], count: int, device: torch.device) -> dict[str, float]:
    """Mean PSNR (dB) over frames of `count` scenes: whole, mouth, and of the picture merely copied."""
    whole, mouth, copied = [], [], []
    for _, scene in zip(range(count), scenes, strict=False):
        painted = reconstruct(model, scene, device)
        for got, wanted, box in zip(painted, scene.frames, scene.mouths, strict=True):
            x0, y0, x1, y1 = (int(round(v)) for v in box)
            whole.append(psnr(got, wanted))
            mouth.append(psnr(got[y0 - 3 : y1 + 3, x0 - 3 : x1 + 3, :3], wanted[y0 - 3 : y1 + 3, x0 - 3 : x1 + 3, :3]))
            copied.append(psnr(scene.picture, wanted))
    return {"psnr": float(np.mean(whole)), "mouth_psnr": float(np.mean(mouth)), "copying": float(np.mean(copied))}
