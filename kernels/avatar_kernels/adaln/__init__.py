"""Adaptive layer normalisation: gate and residual, then LayerNorm and modulation, in one pass over the tokens.

Letters used in shapes: B rows, M tokens, W width.
"""

from typing import NamedTuple

from torch import Tensor

from avatar_kernels import checks
from avatar_kernels.adaln.configs import MAX_WIDTH


class Adaln(NamedTuple):
    x: Tensor  # [B, M, W]: with the branch added; the input itself without a branch
    level: Tensor | None  # [B, M, W]: normalised and modulated; None if not requested


def adaln(
    x: Tensor,
    shift: Tensor | None = None,
    scale: Tensor | None = None,
    branch: Tensor | None = None,
    gate: Tensor | None = None,
    *,
    norm: bool = True,
    eps: float = 1e-6,
) -> Adaln:
    """
    x' = x + gate * branch, then level = LayerNorm(x') * scale + shift.

    x, branch [B, M, W]; shift, scale, gate [B, 1, W] (may be slices of one projection). Without a branch, x' is x.
    Without shift and scale, the level is only normalised; with `norm=False` there is none. To use 1 + scale or 1 +
    gate, add the 1 to the bias of the projection. Sums are in float32. Forward only.
    """
    _check(x, shift, scale, branch, gate, norm, eps)
    checks.offered("adaln", x.device)
    from avatar_kernels.adaln.kernel import plan

    launch, result = plan(x, shift, scale, branch, gate, norm, eps)
    launch.run()
    return result


def _check(
    x: Tensor,
    shift: Tensor | None,
    scale: Tensor | None,
    branch: Tensor | None,
    gate: Tensor | None,
    norm: bool,
    eps: float,
) -> None:
    checks.dimensions("x", x, "B M W")
    checks.filled("x", x)
    checks.dtype("x", x, *checks.FLOATS)
    checks.eps(eps)
    rows, _, width = x.shape
    if width > MAX_WIDTH:
        raise ValueError(f"width {width} is above {MAX_WIDTH}: a token must fit into the registers of a program")
    if (shift is None) != (scale is None):
        raise ValueError("shift and scale go together: one was given without the other")
    if (branch is None) != (gate is None):
        raise ValueError("branch and gate go together: one was given without the other")
    if branch is None and not norm:
        raise ValueError("nothing to do: no branch was given, and norm is False")
    if shift is not None and not norm:
        raise ValueError("shift and scale modulate the normalised x, and norm is False")
    for name, tensor in (("x", x), ("branch", branch)):
        if tensor is not None:
            checks.shape(name, tensor, *x.shape)
            checks.packed(name, tensor, 1)
            checks.reach(name, tensor)
    for name, tensor in (("shift", shift), ("scale", scale), ("gate", gate)):
        if tensor is not None:
            checks.shape(name, tensor, rows, 1, width)
            checks.packed(name, tensor, 1)
    for name, tensor in (("branch", branch), ("shift", shift), ("scale", scale), ("gate", gate)):
        if tensor is not None:
            checks.dtype(name, tensor, x.dtype)
            checks.together(name, tensor, "x", x)
    checks.forward_only("adaln", x=x, shift=shift, scale=scale, branch=branch, gate=gate)
