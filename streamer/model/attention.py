"""Attention over a rolling context: the one place that decides how it is computed.

A step's queries see the reference (the sink), the ring of context frames and their own frame. Keys are kept without
their rotary position, because a frame's index changes as the ring turns: indices count from the oldest context frame
(0), the current frame follows the newest, and the reference stays at -1, shifted aside in space so that it is never
mistaken for a frame (HunyuanVideo-Avatar's mechanism c). Positions never grow with time.

Letters used in shapes: B rows (sessions, or frames in training), N tokens of a latent frame, H heads, D channels of a
head, C context frames, R references, K keys.
"""

import torch
from torch import Tensor
from torch.nn import functional

_BASE = 100.0
"""Of the rotary frequencies: indices are small (a few frames, some tens of places)."""


def _angles(positions: Tensor, channels: int) -> Tensor:
    """positions [...] -> [..., channels / 2] radians."""
    frequency = _BASE ** -(torch.arange(channels // 2, dtype=torch.float32) / (channels // 2))
    return positions[..., None].float() * frequency


def rotation_table(edge: int, context: int, head: int, time: int) -> Tensor:
    """
    Rotary positions in 3D for frames -1 (the reference, shifted by `edge` in space) to `context` (the current frame
    behind a full ring): [context + 2, N, 2, D], what a channel and what its partner are multiplied by. A head's first
    half pairs with its second.
    """
    row, column = torch.meshgrid(torch.arange(edge), torch.arange(edge), indexing="ij")
    space = (head - time) // 2
    frames = []
    for index in range(-1, context + 1):
        shift = edge if index < 0 else 0
        angles = torch.cat(
            [
                _angles(torch.full((edge * edge,), index), time),
                _angles(row.flatten() + shift, space),
                _angles(column.flatten() + shift, space),
            ],
            -1,
        )
        cos, sin = angles.cos(), angles.sin()
        frames.append(torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)], -2))
    return torch.stack(frames)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """x [..., H, D] turned by `turns` [..., 2, D] of `rotation_table`."""
    own, partner = turns.to(x.dtype).unsqueeze(-2).unbind(-3)
    return torch.addcmul(x * own, x.roll(x.shape[-1] // 2, -1), partner)


def rotate_sink(k: Tensor, table: Tensor) -> Tensor:
    """The references' keys [B, R * N, H, D], which never change their place, turned to it once."""
    tokens = table.shape[1]
    return rotate(k.unflatten(1, (-1, tokens)), table[0]).flatten(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    softmax(q k^T / sqrt(D)) v: q [B, N, H, D], k and v [B, K, H, D], `mask` bool [B, 1, 1 or N, K] of the keys that are
    seen. Returns [B, N, H, D].
    """
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
    # On a CPU, for a few hundred keys, torch's fused attention is no faster forward and three times slower backward.
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.matmul(scores.softmax(-1), v).transpose(1, 2)


def rolling_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sink: tuple[Tensor, Tensor],
    ring: tuple[Tensor, Tensor],
    filled: Tensor,
    table: Tensor,
) -> Tensor:
    """
    q, k, v [B, N, H, D] of the current frame, normed and not rotated; sink keys, rotated by `rotate_sink`, and values
    [B, R * N, H, D] (R may be 0); ring keys, not rotated, and values [B, C, N, H, D], oldest first, of which row b has
    the first `filled[b]` (int64 [B]); table of `rotation_table`. Returns [B, N, H, D].
    """
    rows, tokens, heads, _ = q.shape
    context = ring[0].shape[1]
    table = table.to(q.dtype)
    own = table[filled + 1]  # [B, N, 2, D]: the current frame stands behind what its row holds
    keys = [rotate(k, own)]
    values = [v]
    if sink[0].shape[1]:
        keys.append(sink[0])
        values.append(sink[1])
    mask = None
    if context:
        keys.append(rotate(ring[0], table[1 : context + 1]).flatten(1, 2))
        values.append(ring[1].flatten(1, 2))
        if int(filled.min()) < context:
            held = torch.arange(context, device=q.device) < filled[:, None]  # [B, C]
            always = held.new_ones(rows, sum(part.shape[1] for part in keys[:-1]))
            mask = torch.cat([always, held.repeat_interleave(tokens, 1)], 1)[:, None, None]  # [B, 1, 1, K]
    return attend(rotate(q, own), torch.cat(keys, 1), torch.cat(values, 1), mask)


def face_audio_attention(q: Tensor, k: Tensor, v: Tensor, faces: Tensor, strength: Tensor) -> Tensor:
    """
    Each face hears its own voice, and only where it is (HunyuanVideo-Avatar's face-aware audio adapter).

    q [B, N, H, D]; k, v [B, F, W, H, D] for F faces with W audio tokens each; faces [B, F, N], the share of a token
    that shows the face; strength: alpha_A, a scalar. Returns [B, N, H, D].
    """
    batch, count = k.shape[:2]
    expanded = q[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1)
    heard = attend(expanded, k.flatten(0, 1), v.flatten(0, 1)).unflatten(0, (batch, count))
    return (heard * faces[..., None, None].to(heard.dtype)).sum(1) * strength.to(heard.dtype)
