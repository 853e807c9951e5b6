"""The reference of `rolling_attention`, in plain PyTorch: one session after another, with concatenated keys."""

import torch
from torch import Tensor

from avatar_kernels.ring import dequantise, order, rotate


def rolling_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sink: tuple[Tensor, Tensor],
    ring: tuple[Tensor, Tensor],
    written: Tensor,
    table: Tensor,
    *,
    scales: tuple[Tensor, Tensor] | None = None,
    context: int | None = None,
    q_turned: bool = False,
    sink_turned: bool = False,
    precision: torch.dtype | None = None,
) -> Tensor:
    """
    Shapes and meaning as in `rolling_attention`. Computed and returned in `precision`: torch.float64 for the reference,
    None for the dtype of q.
    """
    dtype = precision or q.dtype
    slots, tokens = ring[0].shape[1:3]
    frames, references = q.shape[1] // tokens, sink[0].shape[1] // tokens
    scale_k, scale_v = scales or (None, None)
    filled, slot = order(written, slots, slots if context is None else context)
    rows = []
    for b, count in enumerate(filled.tolist()):
        seen, g = slot[b, :count], b % len(ring[0])
        own = table[1 + count : 1 + count + frames].flatten(0, 1)
        pinned = sink[0][g].to(dtype)
        if not sink_turned:
            pinned = rotate(pinned, table[:1].expand(references, -1, -1, -1).flatten(0, 1))
        keys = torch.cat(
            [
                pinned,
                rotate(dequantise(ring[0][g, seen], scale_k, dtype), table[1 : 1 + count]).flatten(0, 1),
                rotate(k[b].to(dtype), own),
            ]
        )
        values = torch.cat(
            [sink[1][g].to(dtype), dequantise(ring[1][g, seen], scale_v, dtype).flatten(0, 1), v[b].to(dtype)]
        )
        query = q[b].to(dtype) if q_turned else rotate(q[b].to(dtype), own)
        weights = (torch.einsum("mhd,khd->hmk", query, keys) * q.shape[-1] ** -0.5).softmax(-1)
        rows.append(torch.einsum("hmk,khd->mhd", weights, values))
    return torch.stack(rows)
