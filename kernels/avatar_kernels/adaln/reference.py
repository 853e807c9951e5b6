"""The truth of `adaln`, in plain PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional

from avatar_kernels.adaln import Adaln


def adaln_reference(
    x: Tensor,
    shift: Tensor | None = None,
    scale: Tensor | None = None,
    branch: Tensor | None = None,
    gate: Tensor | None = None,
    *,
    norm: bool = True,
    eps: float = 1e-6,
    precision: torch.dtype | None = None,
) -> Adaln:
    """
    x, branch [B, M, W]; shift, scale, gate [B, 1, W]. Computed, and returned, in `precision`: torch.float64 for the
    truth, None for the dtype of the input.
    """
    x, shift, scale, branch, gate = (
        part if part is None else part.to(precision or part.dtype) for part in (x, shift, scale, branch, gate)
    )
    if branch is not None:
        x = x + (1 + gate) * branch
    if not norm:
        return Adaln(x, None)
    level = functional.layer_norm(x, x.shape[-1:], eps=eps)
    if shift is not None:
        level = level * (1 + scale) + shift
    return Adaln(x, level)
