"""Losses and weights that the training stages share.

Letters used in shapes: B frames, T frames of a scene, Z latent channels, s latent edge.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.config import STRIDE
from streamer.training.scenes import WEIGHT_STRIDE

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
