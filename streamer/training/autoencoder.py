"""The first stage: the anchored autoencoder, trained on crops of rendered frames.

Each sample is a picture of a character and frames of the same one. The picture is usually the neutral one, as in live
use, otherwise any frame of the scene, since an uploaded picture may smile or look aside. Crops at the same position in
both take a third of the compute of whole frames; positions near a crop's border, whose source may lie outside, have
less weight.

The encoder sees the studio's rendering, the decoder reproduces it in the scene's style: latents encode no style.

Letters used in shapes: B scenes, T frames of each, S picture edge, Z latent channels.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.autoencoder import Autoencoder, to_tensor, warp
from streamer.model.config import STRIDE
from streamer.training.common import Kept, Log, Progress, Training
from streamer.training.scenes import WEIGHT_STRIDE, Scene, Scenes

LATENT_NOISE = 0.002
"""Noise added to latents before decoding, relative to their standard deviation: enough that no detail is hidden in
their last digits. More makes channels redundant: with 0.03, only eight of 32 carried information of their own."""
DECODER_NOISE = 0.12
"""Maximum noise once the encoder is frozen and latents are whitened: the generator is never exact."""
_LATENT_PENALTY = 1e-5
_SHARPNESS_WEIGHT = 0.2
_FLOW_WEIGHT = 0.5
_PAINTED_FROM, _FLOW_WHERE_PAINTED = 4.0, 0.1
"""Weight from which a position counts as mouth or eye, and the weight of a flow error there: an open mouth and a closed
lid have no source in the picture, and a flow that tries to explain them fetches smudges."""
_MATCH_WEIGHT = 0.03
_LIKENESS_WEIGHT = 0.05
_LEAST_SHOWN = 0.02
_BORDER = 12
_BORDER_WEIGHT = 0.2


def loss(painted: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Weighted absolute error of [B, 4, h, w] and of its gradients, with weights [B, 1, h, w]."""
    error = painted.float() - wanted
    total = weights.sum() * wanted.shape[1]
    plain = (torch.sqrt(error**2 + 1e-6) * weights).sum() / total
    across = ((error[..., 1:] - error[..., :-1]).abs() * weights[..., 1:]).sum() / total
    down = ((error[..., 1:, :] - error[..., :-1, :]).abs() * weights[..., 1:, :]).sum() / total
    return plain + 0.5 * (across + down)


def sharpness_loss(painted: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """
    Error of the local edge strength of [B, 4, h, w] (root mean square over windows of 8 pixels), weighted by
    [B, 1, h, w]. With `loss` alone, blurring a slightly misplaced edge reduces its cost; here the misplacement costs
    nothing and the blur does.
    """

    def strength(pictures: Tensor) -> Tensor:
        across = functional.pad(pictures.diff(dim=3).square(), (0, 1))
        down = functional.pad(pictures.diff(dim=2).square(), (0, 0, 0, 1))
        return torch.sqrt(functional.avg_pool2d((across + down).sum(1, keepdim=True), 8, 4) + 1e-3)

    pooled = functional.avg_pool2d(weights, 8, 4)
    return ((strength(painted.float()) - strength(wanted)).abs() * pooled).sum() / pooled.sum()


def likeness(latent: Tensor) -> Tensor:
    """
    latent [B, Z, s, s]: the mean squared correlation of different channels (VICReg's covariance term). Without it, most
    channels are redundant, which makes the latent robust and the picture soft.
    """
    of_channels = torch.corrcoef(latent.transpose(0, 1).flatten(1))
    return (of_channels - torch.diag(of_channels.diag())).square().mean()


def flow_loss(flows: list[Tensor], picture: Tensor, frames: Tensor, weights: Tensor) -> Tensor:
    """
    Difference between the downscaled picture, warped by each stage's flow [B, 2, h, h], and the frame [B, 4, S, S];
    `weights` [B, 1, S, S] mark mouth and eyes. Where outlines are thin, only a coarse picture gives a flow that is far
    off a useful gradient.
    """
    total = frames.new_zeros(())
    counts = torch.where(weights < _PAINTED_FROM, 1.0, _FLOW_WHERE_PAINTED)
    for flow in flows:
        shrink = frames.shape[-1] // flow.shape[-1]
        error = warp(functional.avg_pool2d(picture, shrink), flow.float()) - functional.avg_pool2d(frames, shrink)
        total = total + (torch.sqrt(error**2 + 1e-4) * functional.avg_pool2d(counts, shrink)).mean()
    return total / len(flows)


class Crops(NamedTuple):
    """Crops at one position of a picture and some frames of each scene, as rendered and in the scene's style."""

    picture: Tensor  # [B, 4, h, h]
    frames: Tensor  # [B * T, 4, h, h]
    styled_picture: Tensor
    styled_frames: Tensor
    weights: Tensor  # [B * T, 1, h, h]
    places: Tensor  # [B * T, P, 2]: points in the frames' crops, x and y in pixels
    origins: Tensor  # [B * T, P, 2]: the same points in the picture's crop
    known: Tensor  # [B * T, P]: 1 if visible in both, else 0


def match_loss(flows: list[Tensor], crops: Crops) -> Tensor:
    """
    Endpoint error, in pixels, of the stages' flows [B, 2, h, h] at points with known correspondence. Colours alone
    cannot correct a flow that is several outlines off; the studio knows the true motion.
    """
    edge = crops.frames.shape[-1]
    wanted = crops.origins - crops.places
    total = wanted.new_zeros(())
    for flow in flows:
        at = (crops.places * 2 / edge - 1)[:, :, None]
        found = functional.grid_sample(flow, at, padding_mode="border", align_corners=False)[..., 0]
        found = found.transpose(1, 2) * (edge / flow.shape[-1])
        error = functional.smooth_l1_loss(found, wanted, reduction="none").sum(-1)
        total = total + (error * crops.known).sum() / crops.known.sum().clamp(min=1)
    return total / len(flows)


def corner(mouth: np.ndarray, size: int, edge: int, rng: np.random.Generator) -> tuple[int, int]:
    """Position of a crop in a picture, x and y in pixels: usually around the face, given the `mouth` box [4]."""
    most = (size - edge) // STRIDE
    if rng.random() >= 0.65:
        x, y = rng.integers(most + 1, size=2)
        return int(x) * STRIDE, int(y) * STRIDE
    at = (mouth[:2] + mouth[2:]) / 2 - edge / 2 + rng.uniform(-0.15, 0.15, 2) * size - np.array([0, 0.08 * size])
    x, y = (int(np.clip(round(v / STRIDE), 0, most)) * STRIDE for v in at)
    return x, y


def weights_at(part: np.ndarray, edge: int, size: int) -> np.ndarray:
    """[..., edge / 4, edge / 4] of a scene's weights -> [..., edge, edge] float32; a crop's border has less weight."""
    whole = part.astype(np.float32).repeat(WEIGHT_STRIDE, -2).repeat(WEIGHT_STRIDE, -1)
    if edge < size:
        border = np.full((edge, edge), _BORDER_WEIGHT, np.float32)
        border[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1
        whole *= border
    return whole


def crops(scenes: list[Scene], targets: int, edge: int, rng: np.random.Generator) -> Crops:
    """Crops of `targets` frames of each scene, `edge` pixels wide and high."""
    parts: list[list[np.ndarray]] = [[] for _ in Crops._fields]
    size = scenes[0].picture.shape[0]
    step = WEIGHT_STRIDE
    for scene in scenes:
        chosen = rng.choice(len(scene.frames), targets, replace=False)
        x, y = corner(scene.mouths[chosen[0]], size, edge, rng)
        source, points = scene.picture, np.pad(scene.points, ((0, 0), (0, 1)), constant_values=1)
        if rng.random() < 0.25:
            k = int(rng.integers(len(scene.frames)))
            source, points = scene.frames[k], scene.followed[k]
        picture = source[None, y : y + edge, x : x + edge]
        frames = scene.frames[chosen, y : y + edge, x : x + edge]
        part = scene.weights[chosen, y // step : (y + edge) // step, x // step : (x + edge) // step]
        styled = [scene.style(drawn) if scene.style else drawn for drawn in (picture, frames)]
        places = scene.followed[chosen] - np.array([x, y, 0], np.float32)
        origins = np.broadcast_to(points - np.array([x, y, 0], np.float32), places.shape)
        within = [((p[..., :2] >= 0) & (p[..., :2] < edge)).all(-1) & (p[..., 2] > 0) for p in (places, origins)]
        known = (within[0] & within[1]).astype(np.float32)
        crop = (picture, frames, *styled, weights_at(part, edge, size), places[..., :2], origins[..., :2], known)
        for kept, new in zip(parts, crop, strict=True):
            kept.append(new)
    *pictures, weights, places, origins, known = (np.concatenate(part) for part in parts)
    one, several, styled_one, styled_several = (to_tensor(part) for part in pictures)
    drawn = Crops(
        one,
        several,
        styled_one,
        styled_several,
        *(torch.from_numpy(part) for part in (weights, places, origins, known)),
    )
    return drawn._replace(weights=drawn.weights[:, None])


def _on(part: Tensor, device: torch.device) -> Tensor:
    part = part.to(device)
    return part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part


def train(
    model: Autoencoder,
    stage: str,
    scenes: Scenes,
    work: Path,
    progress: Progress,
    batch: int,
    targets: int,
    edge: int,
    device: torch.device,
    reuse: float = 4.0,
    capacity: int = 2000,
    rate: float = 7e-4,
    seed: int = 0,
) -> Autoencoder:
    """
    Trains everything (stage "autoencoder"), or with the encoder frozen (stage "decoder": the generator may be trained
    meanwhile), resuming from the stage's checkpoint in `work` if there is one. Returns the averaged network with
    whitened latents.
    """
    model = model.to(device).to(memory_format=torch.channels_last).requires_grad_(True)  # type: ignore[call-overload]
    model.encoder.requires_grad_(stage == "autoencoder")
    training = Training(model, work / f"{stage}.pt", progress, rate, seed)
    log, pool = Log(work / f"{stage}.jsonl"), Kept(lambda: [scenes.take()], capacity, reuse)
    for _ in training:
        drawn = crops(pool.sample(batch, training.rng), targets, edge, training.rng)
        given = Crops(*(_on(part, device) for part in drawn))
        picture, frames = given.styled_picture, given.styled_frames
        pictures = picture.repeat_interleave(targets, 0)
        with torch.autocast(device.type, torch.bfloat16):
            latent = model.encode(given.frames, given.picture.repeat_interleave(targets, 0)).float()
            if stage == "autoencoder":
                noise = LATENT_NOISE * latent.std().detach()
            else:
                noise = DECODER_NOISE * torch.rand(len(latent), 1, 1, 1, device=device)
            painted, flows = model.decode_with_flows(
                latent + noise * torch.randn_like(latent), model.anchor(picture).expand(targets)
            )
        matches = torch.zeros(())
        error, alike = loss(painted, frames, given.weights), likeness(latent)
        total = error + _SHARPNESS_WEIGHT * sharpness_loss(painted, frames, given.weights)
        if model.config.anchored:
            matches = match_loss(flows, given)
            total = total + _FLOW_WEIGHT * flow_loss(flows, pictures, frames, given.weights) + _MATCH_WEIGHT * matches
        if stage == "autoencoder":
            total = total + _LATENT_PENALTY * latent.square().mean() + _LIKENESS_WEIGHT * alike
        total.backward()
        with torch.no_grad():
            square = functional.mse_loss(painted.float(), frames)
            copied = functional.mse_loss(pictures, frames)
            log.add(progress, loss=error.detach(), psnr=-10 * torch.log10(square / 4),
                    psnr_of_copying=-10 * torch.log10(copied / 4 + 1e-9), alike=alike.detach(),
                    pixels_off=matches.detach())  # fmt: skip
    finished = training.average.module
    if stage == "autoencoder":
        normalise(finished, pool.latest(100), device)
    return finished


@torch.no_grad()
def normalise(model: Autoencoder, scenes: list[Scene], device: torch.device) -> None:
    """
    Computes the whitening of the latents from some scenes: mean 0, covariance 1. Among all such bases, it chooses the
    one in which errors of different channels are visually uncorrelated (see `sensitivity`), strongest first.
    """
    identity = torch.eye(model.config.latent, device=device)
    model.mean.zero_()
    model.whiten.copy_(identity)
    model.colour.copy_(identity)
    every = torch.cat([encode(model, scene, device) for scene in scenes]).transpose(0, 1).flatten(1)
    model.mean.copy_(every.mean(1))
    variance, basis = torch.linalg.eigh(torch.cov(every))
    spread = variance.clamp(min=1e-4 * float(variance.mean())).sqrt()

    def turn(rotation: Tensor) -> None:
        model.whiten.copy_(rotation.T @ (basis / spread).T)
        model.colour.copy_(basis * spread @ rotation)

    turn(identity)
    _, rotation = torch.linalg.eigh(sensitivity(model, scenes[:16], device))
    turn(rotation.flip(1))
    shows = sensitivity(model, scenes[-8:], device).diag()
    model.shows.copy_((shows / shows.mean()).clamp(min=_LEAST_SHOWN))


@torch.no_grad()
def sensitivity(model: Autoencoder, scenes: list[Scene], device: torch.device, push: float = 0.3) -> Tensor:
    """
    [Z, Z]: visibility of small errors in a latent's channels, and the similarity of two channels' errors. With J the
    decoder's Jacobian and W the weights of positions: J^T W J, averaged over positions and scenes.
    """
    count = model.config.latent
    total = torch.zeros(count, count, device=device)
    for scene in scenes:
        latent = encode(model, scene, device)[:1]
        anchor = model.anchor(to_tensor(scene.picture[None]).to(device))
        weight = torch.from_numpy(scene.weights[:1].astype(np.float32)).to(device)[:, None]
        weight = functional.interpolate(weight, scale_factor=WEIGHT_STRIDE)
        sign = torch.randint(0, 2, latent[:, :1].shape, device=device) * 2.0 - 1
        pushed = latent + push * sign * torch.eye(count, device=device)[:, :, None, None]
        moved = model.decode(pushed, anchor.expand(count)) - model.decode(latent, anchor)
        shown = (moved * weight.sqrt() / push).flatten(1)
        total += shown @ shown.T / weight.sum()
    return total / len(scenes)


@torch.no_grad()
def encode(model: Autoencoder, scene: Scene, device: torch.device) -> Tensor:
    """The scene's latents relative to its neutral picture: [T, Z, s, s]."""
    frames = to_tensor(scene.frames).to(device)
    return model.encode(frames, to_tensor(scene.picture).to(device).expand_as(frames))
