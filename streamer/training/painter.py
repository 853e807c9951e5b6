"""The first stage: encoder and painter, trained on crops of footage.

Each sample is a few frames of one character, its neutral picture and up to two more references. The encoder sees frame
and neutral picture at 256 pixels; the coarse network's frame is compared at 256 pixels, the patch's at 512. Crops at
the same position in all of them take a third of the compute of whole frames; positions near a crop's border, whose
source may lie outside, have less weight.

The encoder sees the pictures as rendered, the painter reproduces them in the footage's style: latents encode no style.
Latents are degraded before they are painted (noise, and at times a low-pass filter), since a generator's are never
exact (InfinityHuman's refiner).

Letters used in shapes: B scenes, T frames of each, R references, S edge of the networks' pictures, P points, Z latent
channels.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.autoencoder import Autoencoder
from streamer.model.config import CELL, patch_edge
from streamer.model.layers import enlarged, to_tensor
from streamer.model.painter import (
    Painted,
    References,
    compose,
    compose_part,
    crop_features,
)
from streamer.training.common import Kept, Log, Progress, Training
from streamer.training.footage import Footage, Made, half
from streamer.training.losses import corner, likeness, loss, sharpness_loss, weights_at
from streamer.training.scenes import WEIGHT_STRIDE

NOISE = 0.12
"""Maximum noise added to whitened latents."""
_SMOOTHED = 0.15
"""Share of latents that are low-pass filtered."""
_LATENT_PENALTY = 1e-5
_LIKENESS_WEIGHT = 0.02
_SHARPNESS_WEIGHT = 0.2
_MATCH_WEIGHT = 0.1
_FURTHER_WEIGHT = 0.1
"""Of the shares of further references: where the neutral one is as good they only blur, and cost time."""
_PAINT_WEIGHT = 0.1
"""Of the paint where it is not shown: it must be good before it can be preferred to a copy."""
_LEAST_SHOWN = 0.02
_PATCH_EVERY = 3
"""Steps from one that trains the patch to the next: the flow, on which it depends, takes longer to learn."""
_REFERENCES = (0.4, 0.2, 0.4)
"""Shares of steps with one, two and three references."""
_JITTER = 0.1
"""Patch edges by which a patch is off the face."""
_ELSEWHERE = 0.2
"""Share of patches that lie anywhere."""


class Crops(NamedTuple):
    """Crops at one position of the references and some frames of each scene."""

    plain: Tensor  # [B, 4, h, h]: the neutral picture as rendered, at the networks' size
    plain_frames: Tensor  # [B * T, 4, h, h]
    references: Tensor  # [B, R, 4, h, h]: in the footage's style, as all that follows
    frames: Tensor  # [B * T, 4, h, h]
    fine_references: Tensor  # [B, R, 4, 2h, 2h]
    patches: Tensor  # [B * T, 4, p, p]: of the frames at twice the size
    corners: Tensor  # [B * T, 2] int64: of the patches, x and y in pixels of the crop at twice the size
    weights: Tensor  # [B * T, 1, h, h]
    patch_weights: Tensor  # [B * T, 1, p, p]
    places: Tensor  # [B * T, P, 2]: points in the frames' crops, x and y in pixels
    origins: Tensor  # [B * T, R, P, 2]: the same points in the references' crops
    known: Tensor  # [B * T, R, P]: 1 if visible in both, else 0


def patch_corner(middle: np.ndarray, patch: int, edge: int, rng: np.random.Generator) -> tuple[int, int]:
    """Position of a patch about `middle` [2] in a crop `edge` wide, a multiple of CELL pixels."""
    if rng.random() < _ELSEWHERE:
        at = rng.uniform(0, edge - patch, 2)
    else:
        at = middle - patch / 2 + _JITTER * patch * rng.uniform(-1, 1, 2)
    x, y = (int(np.clip(round(v / CELL), 0, (edge - patch) // CELL)) * CELL for v in at)
    return x, y


def crops(footages: list[Footage], targets: int, count: int, edge: int, rng: np.random.Generator) -> Crops:
    """Crops of `targets` frames of each footage, `edge` pixels wide at the networks' size, with `count` references."""
    parts: list[list[np.ndarray]] = [[] for _ in Crops._fields]
    step = WEIGHT_STRIDE
    for footage in footages:
        whole = footage.frames.shape[1]
        size = whole // 2
        patch = patch_edge(size)
        chosen = rng.choice(len(footage.frames), targets, replace=False)
        x, y = corner(footage.mouths[chosen[0]] / 2, size, edge, rng)
        small, large = slice(y, y + edge), slice(2 * y, 2 * (y + edge))
        across, wide = slice(x, x + edge), slice(2 * x, 2 * (x + edge))
        references, frames = half(footage, chosen)
        own = references[:1, small, across], frames[:, small, across]
        fine = footage.references[:count, large, wide]
        corners, patches, patch_weights = [], [], []
        for k in chosen:
            middle = (footage.eyes[k] + (footage.mouths[k, :2] + footage.mouths[k, 2:]) / 2) / 2
            cx, cy = patch_corner(middle - 2 * np.array([x, y]), patch, 2 * edge, rng)
            corners.append((cx, cy))
            top, left = 2 * y + cy, 2 * x + cx
            patches.append(footage.frames[k, top : top + patch, left : left + patch])
            at = footage.weights[k, top // step : (top + patch) // step, left // step : (left + patch) // step]
            patch_weights.append(at.astype(np.float32).repeat(step, -2).repeat(step, -1))
        styled: tuple[np.ndarray, ...] = (references[:count, small, across], own[1], fine, np.stack(patches))
        if footage.style:
            styled = tuple(footage.style(np.ascontiguousarray(pictures)) for pictures in styled)
        part = footage.weights[chosen, 2 * y // step : 2 * (y + edge) // step, 2 * x // step : 2 * (x + edge) // step]
        # At the networks' size a weight covers two pixels.
        coarse = weights_at(part[:, ::2, ::2], edge, size)
        places = (footage.places[chosen] - 2 * np.array([x, y], np.float32)) / 2
        origins = (footage.origins[chosen, :count] - 2 * np.array([x, y], np.float32)) / 2
        there, whence = (np.asarray(((at >= 0) & (at < edge)).all(-1)) for at in (places, origins))
        inside = there[:, None] & whence
        known = (footage.known[chosen, :count] & inside).astype(np.float32)
        pick = rng.choice(places.shape[1], min(places.shape[1], 400), replace=False)
        pictures = *own, styled[0][None], styled[1], styled[2][None], styled[3]
        weights = coarse[:, None], np.stack(patch_weights)[:, None]
        points = places[:, pick], origins[:, :, pick], known[:, :, pick]
        row: tuple[np.ndarray, ...] = (*pictures, np.array(corners), *weights, *points)
        for kept, new in zip(parts, row, strict=True):
            kept.append(new)
    joined = [np.concatenate(part) for part in parts]
    shown = [to_tensor(part) for part in joined[:6]]
    return Crops(*shown, *(torch.from_numpy(np.ascontiguousarray(part)) for part in joined[6:]))


def match_loss(painted: Painted, given: Crops) -> Tensor:
    """Endpoint error of all stages' flows in pixels at points with known sources, for each reference."""
    edge = given.frames.shape[-1]
    rows, count = painted.flow.shape[:2]
    wanted = (given.origins - given.places[:, None]).flatten(0, 1)
    known = given.known.flatten(0, 1)
    at = (given.places * 2 / edge - 1)[:, None].expand(-1, count, -1, -1).flatten(0, 1)[:, :, None]
    total = wanted.new_zeros(())
    for flow in (*painted.flows, painted.flow):
        found = functional.grid_sample(flow.float().flatten(0, 1), at, padding_mode="border", align_corners=False)[
            ..., 0
        ].transpose(1, 2) * (edge / flow.shape[-1])
        error = functional.smooth_l1_loss(found, wanted, reduction="none", beta=0.5).sum(-1)
        total = total + (error * known).sum() / known.sum().clamp(min=1)
    return total / (1 + len(painted.flows))


def degraded(latent: Tensor, most: float = NOISE) -> Tensor:
    """Latents [B, Z, s, s] with noise, and some of them smoothed."""
    rows = len(latent)
    noise = most * torch.rand(rows, 1, 1, 1, device=latent.device)
    smooth = functional.avg_pool2d(functional.pad(latent, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(rows, 1, 1, 1, device=latent.device)
    share = torch.where(share < _SMOOTHED, 0.6 * share / _SMOOTHED, torch.zeros_like(share))
    return torch.lerp(latent, smooth, share) + noise * torch.randn_like(latent)


def _on(part: Tensor, device: torch.device) -> Tensor:
    part = part.to(device)
    return part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part


def losses(
    model: Autoencoder, given: Crops, targets: int, patches: bool = True, noise: float = NOISE
) -> dict[str, Tensor]:
    """The parts of the loss; "loss" is what is learnt. Without `patches` the patch network learns nothing."""
    device = given.frames.device
    edge, patch = given.frames.shape[-1], given.patches.shape[-1]
    with torch.autocast(device.type, torch.bfloat16):
        latent = model.encode(given.plain_frames, given.plain.repeat_interleave(targets, 0)).float()
        references = model.painter.references(given.references).expand(targets)
        painted = model.decode(degraded(latent, noise), None, references)
    rows, count = given.references.shape[:2]

    def larger(pictures: Tensor) -> Tensor:
        return enlarged(pictures.flatten(0, 1)).unflatten(0, (rows, count))

    coarse = compose(larger(given.references), painted, edge, targets)
    error = loss(coarse, given.frames, given.weights)
    total = error + _SHARPNESS_WEIGHT * sharpness_loss(coarse, given.frames, given.weights)
    told: dict[str, Tensor] = {}
    if patches:
        composed = compose_part(larger(given.fine_references), painted, 2 * edge, given.corners, patch, targets)
        with torch.autocast(device.type, torch.bfloat16):
            change, share = model.painter.patch(composed, crop_features(painted.features, given.corners, patch))
        fine = composed + share * change.float()
        told["fine"] = loss(fine, given.patches, given.patch_weights)
        total = total + told["fine"] + _SHARPNESS_WEIGHT * sharpness_loss(fine, given.patches, given.patch_weights)
        told |= {"patch_psnr": _psnr(fine, given.patches), "composed_psnr": _psnr(composed, given.patches)}
    matches, alike = match_loss(painted, given), likeness(latent)
    total = total + _MATCH_WEIGHT * matches
    total = total + _PAINT_WEIGHT * loss(
        painted.paint, functional.avg_pool2d(given.frames, 2), functional.avg_pool2d(given.weights, 2)
    )
    total = total + _FURTHER_WEIGHT * painted.shares[:, 1:].sum(1).mean()
    total = total + _LATENT_PENALTY * latent.square().mean() + _LIKENESS_WEIGHT * alike
    own = given.references[:, 0].repeat_interleave(targets, 0)
    told |= {"psnr": _psnr(coarse, given.frames), "copy_psnr": _psnr(own, given.frames)}
    if count > 1:
        told["further"] = painted.shares[:, 1:].sum(1).mean()
    return {"loss": total, "error": error, "pixels_off": matches, "alike": alike, "painted": painted.painted.mean(),
            **told}  # fmt: skip


@torch.no_grad()
def _psnr(drawn: Tensor, wanted: Tensor) -> Tensor:
    return -10 * torch.log10(functional.mse_loss(drawn, wanted) / 4 + 1e-9)


def train(
    model: Autoencoder,
    footages: Made[Footage],
    path: Path,
    progress: Progress,
    batch: int,
    targets: int,
    edge: int,
    device: torch.device,
    reuse: float = 6.0,
    capacity: int = 120,
    rate: float = 7e-4,
    frozen: bool = False,
    seed: int = 0,
) -> Autoencoder:
    """Trains, resuming from the checkpoint `path` if there is one. Returns the averaged network."""
    model = model.to(device).to(memory_format=torch.channels_last).requires_grad_(True)  # type: ignore[call-overload]
    model.encoder.requires_grad_(not frozen)
    training = Training(model, path, progress, rate, seed)
    log, pool = (
        Log(path.with_suffix(".jsonl")),
        Kept(lambda: [footages.take()], capacity, reuse),
    )
    for step in training:
        rng = training.rng
        count = int(rng.choice((1, 2, 3), p=_REFERENCES))
        chosen = sorted(pool.sample(4 * batch, rng), key=lambda one: len(one.references) < count)[:batch]
        count = min(count, *(len(footage.references) for footage in chosen))
        given = Crops(*(_on(part, device) for part in crops(chosen, targets, count, edge, rng)))
        told = losses(model, given, targets, step % _PATCH_EVERY == 0)
        told["loss"].backward()
        log.add(progress, **{name: value.detach() for name, value in told.items()})
    finished = training.average.module
    if not frozen:
        normalise(finished, pool.latest(100), device)
    return finished


def seen(footage: Footage, device: torch.device) -> tuple[Tensor, Tensor]:
    """The neutral picture [1, 4, S, S] and the frames [T, 4, S, S] as the networks see them."""
    references, frames = half(footage, np.arange(len(footage.frames)))
    return to_tensor(references[:1]).to(device), to_tensor(frames).to(device)


@torch.no_grad()
def normalise(model: Autoencoder, footages: list[Footage], device: torch.device) -> None:
    """
    Computes the whitening of the latents from some footage: mean 0, covariance 1. Among all such bases, it chooses the
    one in which errors of different channels are visually uncorrelated (see `sensitivity`), strongest first.
    """
    identity = torch.eye(model.config.latent, device=device)
    model.mean.zero_()
    model.whiten.copy_(identity)
    model.colour.copy_(identity)
    latents = []
    for footage in footages:
        picture, frames = seen(footage, device)
        latents.append(model.encode(frames, picture.expand_as(frames)))
    every = torch.cat(latents).transpose(0, 1).flatten(1)
    model.mean.copy_(every.mean(1))
    variance, basis = torch.linalg.eigh(torch.cov(every))
    spread = variance.clamp(min=1e-4 * float(variance.mean())).sqrt()

    def turn(rotation: Tensor) -> None:
        model.whiten.copy_(rotation.T @ (basis / spread).T)
        model.colour.copy_(basis * spread @ rotation)

    turn(identity)
    _, rotation = torch.linalg.eigh(sensitivity(model, footages[:16], device))
    turn(rotation.flip(1))
    shows = sensitivity(model, footages[-8:], device).diag()
    model.shows.copy_((shows / shows.mean()).clamp(min=_LEAST_SHOWN))


@torch.no_grad()
def sensitivity(model: Autoencoder, footages: list[Footage], device: torch.device, push: float = 0.3) -> Tensor:
    """
    [Z, Z]: visibility of small errors in a latent's channels, and the similarity of two channels' errors. With J the
    painter's Jacobian and W the weights of positions: J^T W J, averaged over positions and footage.
    """
    count = model.config.latent
    total = torch.zeros(count, count, device=device)
    for footage in footages:
        picture, frames = seen(footage, device)
        size = picture.shape[-1]
        latent = model.encode(frames[:1], picture)
        references = model.painter.references(picture[None])
        weight = torch.from_numpy(footage.weights[:1].astype(np.float32)).to(device)[:, None]
        weight = functional.interpolate(weight, (size, size))

        def drawn(z: Tensor, frames: int, references: References = references, own: Tensor = picture) -> Tensor:
            return compose(own[None], model.decode(z, None, references.expand(frames)), own.shape[-1], frames)

        sign = torch.randint(0, 2, latent[:, :1].shape, device=device) * 2.0 - 1
        pushed = latent + push * sign * torch.eye(count, device=device)[:, :, None, None]
        shown = ((drawn(pushed, count) - drawn(latent, 1)) * weight.sqrt() / push).flatten(1)
        total += shown @ shown.T / weight.sum()
    return total / len(footages)
