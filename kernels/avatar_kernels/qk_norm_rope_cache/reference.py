"""The reference of `qk_norm_rope_cache`, in plain PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional

from avatar_kernels.ring import order, quantise, rotate


def qk_norm_rope_cache_reference(
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
    precision: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """
    Shapes and meaning as in `qk_norm_rope_cache`; writes into the ring. Computed and returned in `precision`:
    torch.float64 for the reference, None for the dtype of q.
    """
    dtype = precision or q.dtype
    _, count, _, head = q.shape
    slots, tokens = ring[0].shape[1:3]
    frames = count // tokens
    filled, _ = order(written, slots, slots if context is None else context)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x.to(dtype), (head,), weight.to(dtype), eps)

    index = 1 + filled[:, None] + torch.arange(frames, device=q.device)  # [B, T]
    turned = rotate(norm(q, q_weight), table[index].flatten(1, 2))
    k = norm(k, k_weight)
    if write:
        sessions = len(ring[0])
        row = torch.arange(sessions, device=q.device)[:, None]
        slot = (written[:sessions, None] + torch.arange(frames, device=q.device)) % slots  # [B, T]
        for part, new, scale in zip(ring, (k, v), scales or (None, None), strict=True):
            part[row, slot] = quantise(new[:sessions].unflatten(1, (frames, tokens)), scale, part.dtype)
    return turned, k
