"""RMSNorm of queries and keys, RoPE on the queries, and the write of keys and values into the ring, in one pass.

Letters used in shapes: G sessions, B rows (one for each session, or several), M current tokens (T frames of N), H
heads, D channels of a head, S slots of the ring, C context frames (see `avatar_kernels.ring`).
"""

import torch
from torch import Tensor

from avatar_kernels import checks
from avatar_kernels.ring import check_ring, check_tokens


def qk_norm_rope_cache(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    ring: tuple[Tensor, Tensor],
    written: Tensor,
    table: Tensor,
    *,
    scales: tuple[Tensor, Tensor] | None = None,
    context: int | None = None,
    write: bool = True,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """
    q, k, v [B, M, H, D] as projected (may be slices of one projection); q_weight, k_weight [D] of the norms; ring keys
    and values [G, S, N, H, D]; written [B] int64; table [>= 1 + C + T, N, D / 2, 2]; scales, each [H] float32, if the
    ring holds e4m3: the value of 1 in each head.

    Returns q [B, M, H, D], normalised and rotated to the current frames' position, and k [B, M, H, D], normalised and
    not rotated. With `write`, this k, and v, of the first G rows replace the oldest frames in slots written % S and
    following; `written` itself is not incremented, so that all layers see the same. Forward only.
    """
    context = _check(q, k, v, q_weight, k_weight, ring, written, table, scales, context, write, eps)
    checks.offered("qk_norm_rope_cache", q.device)
    from avatar_kernels.qk_norm_rope_cache.kernel import plan

    launch, outputs = plan(q, k, v, q_weight, k_weight, ring, written, table, scales, context, write, eps)
    launch.run()
    return outputs


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    ring: tuple[Tensor, Tensor],
    written: Tensor,
    table: Tensor,
    scales: tuple[Tensor, Tensor] | None,
    context: int | None,
    write: bool,
    eps: float,
) -> int:
    check_tokens(q, k, v)
    checks.eps(eps)
    for name, tensor in (("q_weight", q_weight), ("k_weight", k_weight)):
        checks.shape(name, tensor, q.shape[3])
        checks.dtype(name, tensor, *{q.dtype, torch.float32})
        checks.packed(name, tensor, 1)
        checks.together(name, tensor, "q", q)
    context = check_ring(q, ring, scales, written, table, context)
    frames, slots = q.shape[1] // ring[0].shape[2], ring[0].shape[1]
    if write:
        if frames > slots:
            raise ValueError(f"{frames} frames cannot be written into a ring of {slots}")
        checks.separate("ring keys", ring[0])
        checks.separate("ring values", ring[1])
        checks.apart("ring keys", ring[0], "ring values", ring[1])
    checks.forward_only("qk_norm_rope_cache", q=q, k=k, v=v, q_weight=q_weight, k_weight=k_weight)
    return context
