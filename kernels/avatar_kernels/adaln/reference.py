"""The reference of `adaln`, in plain PyTorch."""

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
    x, branch [B, M, W]; shift, scale, gate [B, 1, W]. Computed and returned in `precision`: torch.float64 for the
    reference, None for the dtype of the input.
    """
    dtype = precision or x.dtype
    x = x.to(dtype)
    if branch is not None and gate is not None:
        x = x + gate.to(dtype) * branch.to(dtype)
    if not norm:
        return Adaln(x, None)
    level = functional.layer_norm(x, x.shape[-1:], eps=eps)
    if shift is not None and scale is not None:
        level = level * scale.to(dtype) + shift.to(dtype)
    return Adaln(x, level)
