"""Attention over a rolling context, with the choice of its implementation.

A step's queries attend to the reference (the sink), the ring of context frames and their own frame. Keys are stored
without rotary embedding, because a frame's index changes as the ring advances: the reference is at -1, shifted in space
so that it is never mistaken for a frame (HunyuanVideo-Avatar's mechanism c), the oldest context frame is at 0, and the
current frame follows the newest. Positions stay bounded. Attention depends only on differences of positions: if several
frames of a session are generated in one pass, all of them count from the first one's oldest frame, and each has a sink
rotated for its distance.

Letters used in shapes: B rows (sessions, or frames in training), M frames generated in one pass, N tokens of a latent
frame, H heads, D channels of a head, C context frames, R references, K keys.
"""

import importlib.util
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_BASE = 100.0
"""Base of the rotary frequencies: indices are small (a few frames, some tens of positions)."""


def _angles(positions: Tensor, channels: int) -> Tensor:
    """positions [...] -> [..., channels / 2] radians."""
    frequency = _BASE ** -(torch.arange(channels // 2, dtype=torch.float32) / (channels // 2))
    return positions[..., None].float() * frequency


def rotation_table(edge: int, context: int, head: int, time: int) -> Tensor:
    """
    3D rotary factors of each channel and its partner: [2, context + 2, N, 2, D]. The first half holds frames 0 to
    context + 1; the second holds references, shifted by `edge` in space, at -1 to context. The first half of a head's
    channels pairs with its second half.
    """
    row, column = torch.meshgrid(torch.arange(edge), torch.arange(edge), indexing="ij")
    space = (head - time) // 2

    def turns(index: int, shift: int) -> Tensor:
        angles = torch.cat(
            [
                _angles(torch.full((edge * edge,), index), time),
                _angles(row.flatten() + shift, space),
                _angles(column.flatten() + shift, space),
            ],
            -1,
        )
        cos, sin = angles.cos(), angles.sin()
        return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)], -2)

    places = range(context + 2)
    return torch.stack([torch.stack([turns(i, 0) for i in places]), torch.stack([turns(i - 1, edge) for i in places])])


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """x [..., D] rotated by `turns` [..., 2, D] of `rotation_table`."""
    own, partner = turns.to(x.dtype).unbind(-2)
    if torch.jit.is_tracing():  # OpenVINO's own roll takes a sixth of a step
        rolled = torch.cat(x.chunk(2, -1)[::-1], -1)
    else:
        rolled = x.roll(x.shape[-1] // 2, -1)
    return torch.addcmul(x * own, rolled, partner)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    softmax(q k^T / sqrt(D)) v: q [..., H, N, D], k and v [..., H, K, D], `mask` bool [..., 1, 1 or N, K], True for keys
    that are attended to. Returns [..., H, N, D].
    """
    if q.device.type != "cpu":
        lead = q.shape[:-3]  # the fused kernels need four dimensions

        def flat(x: Tensor) -> Tensor:
            return x.expand(*lead, *x.shape[-3:]).reshape(-1, *x.shape[-3:])

        seen = None if mask is None else flat(mask)
        return functional.scaled_dot_product_attention(flat(q), flat(k), flat(v), attn_mask=seen).view(q.shape)
    # On a CPU, for a few hundred keys, torch's fused attention takes twice the time forward and three times backward.
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.matmul(scores.softmax(-1), v)


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
    Attention of consecutive frames; each sees itself and the C before it. q, k, v [B, M, N, H, D]; sink keys
    and values [B, R * N, H, D] (R may be 0); ring keys and values [B, C, N, H, D], newest last, of which the last
    `filled[b]` (int64 [B]) are valid in row b; table from `rotation_table`. Queries and keys are normalised and not
    rotated. Returns [B, M, N, H, D].
    """
    rows, frames, tokens, heads, channels = q.shape
    context = ring[0].shape[1]
    table = table.to(q.dtype)
    inside, beside = table[0, : context + frames], table[1]

    def heads_first(of_ring: Tensor, new: Tensor) -> Tensor:
        """Ring and new frames [B, H, C + M, N, D]."""
        return torch.cat([of_ring.permute(0, 3, 1, 2, 4), new.permute(0, 3, 1, 2, 4)], 2)

    def windows(x: Tensor, sunk: Tensor) -> Tensor:
        """Keys or values for each new frame, the sink [B, M or 1, H, R * N, D] first: [B, M, H, K, D]."""
        seen = x.unfold(2, context + 1, 1).permute(0, 2, 1, 5, 3, 4).flatten(3, 4)  # [B, M, H, (C + 1) N, D]
        return torch.cat([sunk.expand(-1, frames, -1, -1, -1), seen], 3) if sunk.shape[3] else seen

    q = rotate(q.permute(0, 1, 3, 2, 4), inside[context:, None])
    keys = rotate(heads_first(ring[0], k), inside)
    # Frame m is stored at C + m but has only min(filled + m, C) predecessors: its sink moves from -1 by the difference.
    moved = torch.maximum(context - filled[:, None], torch.arange(frames, device=q.device))  # [B, M]
    sunk = sink[0].transpose(1, 2).unflatten(2, (-1, tokens))  # [B, H, R, N, D]
    sunk = rotate(sunk[:, None], beside[moved][:, :, None, None]).flatten(3, 4)
    keys = windows(keys, sunk)
    values = windows(heads_first(ring[1], v), sink[1].transpose(1, 2)[:, None])
    mask = None
    if context and (torch.jit.is_tracing() or int(filled.min()) < context):  # a traced step must handle any ring
        place = torch.arange(frames, device=q.device)[:, None] + torch.arange(context + 1, device=q.device)
        held = (place >= context - filled[:, None, None]).repeat_interleave(tokens, 2)  # [B, M, (C + 1) N]
        mask = torch.cat([held.new_ones(rows, frames, sunk.shape[3]), held], 2)[:, :, None, None]
    return attend(q, keys, values, mask).transpose(2, 3)


def face_audio_attention(q: Tensor, k: Tensor, v: Tensor, faces: Tensor, strength: Tensor) -> Tensor:
    """
    Each face attends to its own voice, weighted by where it is (HunyuanVideo-Avatar's face-aware audio adapter).

    q [B, N, H, D]; k, v [B, F, W, H, D] for F faces with W audio tokens each; faces [B, F, N], the fraction of a token
    that shows the face; strength: alpha_A, a scalar. Returns [B, N, H, D].
    """
    count = k.shape[1]
    asked = q.transpose(1, 2)[:, None].expand(-1, count, -1, -1, -1)
    heard = attend(asked, k.transpose(2, 3), v.transpose(2, 3))  # [B, F, H, N, D]
    heard = heard * (faces * strength).to(heard.dtype)[:, :, None, :, None]
    return (heard[:, 0] if count == 1 else heard.sum(1)).transpose(1, 2)


MOST_TOKENS = 1024
"""
Limit of tokens per latent frame for the kernels: they save copies of keys and values, but with more tokens the matrix
products dominate (estimated from the roofline in kernels/README.md, between `live` with 256 and networks with 1560).
"""


class Choice(NamedTuple):
    kernels: bool  # whether to use the project's Triton kernels instead of PyTorch's scaled dot-product attention
    line: str  # the choice and its reason, for the start-up log


def choose(device: torch.device | str, dtype: torch.dtype, tokens: int, head: int, width: int) -> Choice:
    """
    Chooses the attention of a live step on that device, once: tokens N of a latent frame, channels D of a head, width
    of a token.
    """
    reason = _objection(torch.device(device), dtype, tokens, head, width)
    shape = f"{str(dtype).removeprefix('torch.')}, {tokens} tokens per frame, heads of {head} on {device}"
    if reason is None:
        return Choice(True, f"attention by the project's Triton kernels ({shape})")
    return Choice(False, f"attention by PyTorch's operators ({shape}): {reason}")


def _objection(device: torch.device, dtype: torch.dtype, tokens: int, head: int, width: int) -> str | None:
    """Why the kernels cannot be used or would be slower; None if they are suitable."""
    if importlib.util.find_spec("avatar_kernels") is None:
        return "the package avatar_kernels is not installed"
    from avatar_kernels import why_not
    from avatar_kernels.adaln.configs import MAX_WIDTH
    from avatar_kernels.ring import MAX_HEAD

    if reason := why_not(str(device)):
        return reason
    if dtype not in (torch.float16, torch.bfloat16):
        return "the kernels use the tensor cores in float16 and bfloat16 only"
    if head % 2 or not 32 <= head <= MAX_HEAD:
        return f"the kernels need heads of an even number of channels from 32 to {MAX_HEAD}"
    if width > MAX_WIDTH:
        return f"the kernels need tokens of width {MAX_WIDTH} at most, these have {width}"
    if tokens > MOST_TOKENS:
        return f"with more than {MOST_TOKENS} tokens per frame, matrix products outweigh the copies saved"
    return _trial(device, dtype)


def _trial(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the smallest kernel does not run, for example if Triton finds no C compiler; None if it does."""
    from avatar_kernels.adaln import adaln

    try:
        x, level = torch.ones(1, 4, 32, device=device, dtype=dtype), torch.zeros(1, 1, 32, device=device, dtype=dtype)
        adaln(x, level, level)
        torch.cuda.synchronize(device)
    except Exception as error:  # from Triton, its compiler or the driver
        return f"the kernels do not run here: {(str(error) or repr(error)).splitlines()[0]}"
    return None
