"""The ring of context frames, as kernels and references read it: its layout, its references and its checks.

A ring [G, S, N, H, D] has, for each of G sessions, S slots of N tokens. A session's frame number j is in slot j % S.
`written` [B] (int64) counts the frames a session has appended so far; of those it sees the newest
`filled = min(written, C)`, where the context C is S unless specified. Frame `written - filled` is the oldest
context frame: its index is 0, the current frames follow with index `filled`, and the reference's is -1, however large
the count.

With C = S - 1, one slot is spare: a frame may be appended before its own step has read all C frames before it. There
may be several rows per session, B = n G: row b reads the ring of session b % G with its own count, and only the first G
rows are written. So a frame can be stored and the next one generated in one pass: the first G rows are the stored
frames, at `written`, the others the generated ones, at `written + 1`, which see what the first have stored.

A table [rows, N, D / 2, 2] holds the cosines and sines of the rotary angles for index -1 (row 0), 0, 1, … and for each
of the N positions in a frame. The first half of a head's channels is paired with the second. In float32 a key's row of
the table has twice the bytes of a 16-bit key, and every tile of queries reads it again; in float16 it has as many, and
is four times as exact as bfloat16 keys.
"""

import torch
from torch import Tensor

from avatar_kernels import checks

MAX_HEAD = 128
"""Channels of the largest head."""


def order(written: Tensor, slots: int, context: int) -> tuple[Tensor, Tensor]:
    """written [B] -> filled [B], and slots of the context's frames [B, C], oldest first (arbitrary beyond `filled`)."""
    filled = written.clamp(0, context)
    start = written.clamp(min=0) - filled
    return filled, (start[:, None] + torch.arange(context, device=written.device)) % max(slots, 1)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """x [..., H, D] rotated by `turns` [..., D / 2, 2], in the precision of x."""
    first, second = x.chunk(2, -1)
    cos, sin = turns[..., 0].unsqueeze(-2).to(x.dtype), turns[..., 1].unsqueeze(-2).to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def quantise(x: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """x [..., H, D] as stored in a ring of `dtype`: with a scale [H], x / scale, saturated at e4m3's maximum."""
    if scale is None:
        return x.to(dtype)
    return (x / scale[:, None].to(x.dtype)).clamp(-checks.FP8_MAX, checks.FP8_MAX).float().to(dtype)


def dequantise(x: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The inverse of `quantise`, in `dtype`."""
    return x.to(dtype) if scale is None else x.float().to(dtype) * scale[:, None].to(dtype)


def check_tokens(q: Tensor, k: Tensor, v: Tensor) -> None:
    """q, k, v [B, M, H, D] of the current frames."""
    checks.dimensions("q", q, "B M H D")
    checks.filled("q", q)
    checks.dtype("q", q, *checks.FLOATS)
    head = q.shape[3]
    if head % 2 or not 32 <= head <= MAX_HEAD:
        raise ValueError(f"a head has {head} channels, wanted an even number from 32 to {MAX_HEAD}")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        checks.shape(name, tensor, *q.shape)
        checks.dtype(name, tensor, q.dtype)
        checks.together(name, tensor, "q", q)
        checks.packed(name, tensor, 2)
        checks.reach(name, tensor)


def check_ring(
    q: Tensor,
    ring: tuple[Tensor, Tensor],
    scales: tuple[Tensor, Tensor] | None,
    written: Tensor,
    table: Tensor,
    context: int | None,
) -> int:
    """Ring, count and table against q [B, M, H, D]. Returns C."""
    rows, count, heads, head = q.shape
    for name, tensor in (("ring keys", ring[0]), ("ring values", ring[1])):
        checks.dimensions(name, tensor, "G S N H D")
        checks.shape(name, tensor, *ring[0].shape[:3], heads, head)
        checks.dtype(name, tensor, *((q.dtype,) if scales is None else (checks.FP8,)))
        checks.together(name, tensor, "q", q)
        checks.packed(name, tensor, 4)
        checks.reach(name, tensor)
        if tensor.dtype == checks.FP8:
            checks.fp8(name, tensor)
    sessions, slots, tokens = ring[0].shape[:3]
    if sessions < 1 or rows % sessions:
        raise ValueError(f"{rows} rows are not a multiple of the {sessions} sessions of the ring")
    if tokens < 1 or count % tokens:
        raise ValueError(f"{count} current tokens are not a whole number of frames of {tokens} tokens")
    context = slots if context is None else context
    if not 0 <= context <= slots:
        raise ValueError(f"a context of {context} frames does not fit into a ring of {slots}")
    if scales is not None:
        for name, tensor in (("scale of the keys", scales[0]), ("scale of the values", scales[1])):
            checks.shape(name, tensor, heads)
            checks.dtype(name, tensor, torch.float32)
            checks.packed(name, tensor, 1)
            checks.together(name, tensor, "q", q)
    checks.shape("written", written, rows)
    checks.dtype("written", written, torch.int64)
    checks.packed("written", written, 1)
    checks.together("written", written, "q", q)
    if written.device.type == "cpu" and int(written.min()) < 0:
        # On a GPU reading the value would wait for it; there the kernel treats a negative count as 0.
        raise ValueError(f"written must not be negative, and contains {int(written.min())}")
    checks.dimensions("table", table, "rows N D/2 2")
    needed = 1 + context + count // tokens
    if table.shape[0] < needed:
        raise ValueError(
            f"the table has {table.shape[0]} rows, wanted at least {needed}: the reference, {context} context frames "
            f"and {count // tokens} current ones"
        )
    checks.shape("table", table, table.shape[0], tokens, head // 2, 2)
    checks.dtype("table", table, *checks.FLOATS)
    checks.packed("table", table, 4)
    checks.together("table", table, "q", q)
    return context
