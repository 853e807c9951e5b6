"""What the Triton kernels are compared with: the same results from PyTorch's operators."""

from collections.abc import Callable
from typing import Any

import torch
from avatar_kernels.ring import order, rotate
from torch import Tensor
from torch.nn import functional


def side_by_side(given: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """
    Turned queries, and keys and values of sink, current tokens and ring [B, H, K, D]. The ring is laid down as it
    lies, and each slot's row of the table is looked up: cheaper than to bring the frames into order.
    """
    q, k, v, sink, ring, written, table = (given[n] for n in ("q", "k", "v", "sink", "ring", "written", "table"))
    slots, tokens = ring[0].shape[1:3]
    frames = q.shape[1] // tokens
    filled, _ = order(written, slots, slots)
    current = 1 + filled[:, None] + torch.arange(frames, device=q.device)
    index = 1 + (torch.arange(slots, device=q.device) - (written - filled)[:, None]) % max(slots, 1)

    def turned(x: Tensor, rows: Tensor) -> Tensor:
        return rotate(x.float(), table[rows].flatten(1, 2)).to(x.dtype)

    keys = torch.cat([sink[0], turned(k, current), turned(ring[0].flatten(1, 2), index)], 1)
    values = torch.cat([sink[1], v, ring[1].flatten(1, 2)], 1)
    return turned(q, current).transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)


def sdpa(given: dict[str, Any], lay: Callable[..., Any]) -> Tensor:
    """On keys and values laid side by side: right where all rings are full."""
    return functional.scaled_dot_product_attention(*lay(given)).transpose(1, 2)


def sdpa_masked(given: dict[str, Any], lay: Callable[..., Any]) -> Tensor:
    """With a mask of what each session holds."""
    q, keys, values = lay(given)
    slots, tokens = given["ring"][0].shape[1:3]
    before = keys.shape[2] - slots * tokens
    held = given["written"].clamp(max=slots) * tokens + before
    mask = (torch.arange(keys.shape[2], device=q.device) < held[:, None])[:, None, None]
    return functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask).transpose(1, 2)


def flex(given: dict[str, Any], lay: Callable[..., Any], attend: Callable[..., Any], blocks: Any) -> Tensor:
    """FlexAttention, with the blocks' mask made beforehand: what a session holds changes only while it begins."""
    return attend(*lay(given), block_mask=blocks).transpose(1, 2)


def block_mask(given: dict[str, Any]) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    slots, tokens = given["ring"][0].shape[1:3]
    queries = given["q"].shape[1]
    before = given["sink"][0].shape[1] + queries
    held = given["written"].clamp(max=slots) * tokens + before

    def seen(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return key < held[b]

    rows, device = len(held), given["q"].device.type
    return create_block_mask(seen, rows, None, queries, before + slots * tokens, device=device)


def face_unfused(q: Tensor, k: Tensor, v: Tensor, faces: Tensor, strength: Tensor, residual: Tensor) -> Tensor:
    """SDPA for each face, then mask, strength and residual."""
    rows, count = k.shape[:2]
    expanded = q[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1).transpose(1, 2)
    heard = functional.scaled_dot_product_attention(
        expanded, k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1).transpose(1, 2)
    )
    heard = heard.transpose(1, 2).unflatten(0, (rows, count))
    return residual + (heard * faces[..., None, None]).sum(1) * strength


def norm_unfused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ring: tuple[Tensor, Tensor],
    written: Tensor,
    table: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """RMSNorm twice, a rotation, two writes."""
    slots, tokens = ring[0].shape[1:3]
    steps = torch.arange(q.shape[1] // tokens, device=q.device)
    q = functional.rms_norm(q, q_weight.shape, q_weight, 1e-6)
    k = functional.rms_norm(k, k_weight.shape, k_weight, 1e-6)
    turns = table[1 + written.clamp(max=slots)[:, None] + steps].flatten(1, 2)
    slot = (written[:, None] + steps) % slots
    row = torch.arange(len(written), device=q.device)[:, None]
    for part, new in zip(ring, (k, v), strict=True):
        part[row, slot] = new.unflatten(1, (len(steps), tokens))
    return rotate(q.float(), turns).to(q.dtype), k


def adaln_unfused(x: Tensor, shift: Tensor, scale: Tensor, branch: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """A multiplication with addition, a norm, another."""
    x = torch.addcmul(x, gate, branch)
    return x, torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=1e-6), scale)
