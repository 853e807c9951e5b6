"""Attention of one step's queries over [reference sink | ring of context | current tokens], each read in place.

Letters used in shapes: G sessions, B rows (one for each session, or several), M current tokens (T frames of N), H
heads, D channels of a head, R references, S slots of the ring, C context frames (see `avatar_kernels.ring`).
"""

from torch import Tensor

from avatar_kernels import checks
from avatar_kernels.ring import check_ring, check_tokens

MAX_SPLITS = 64


def rolling_attention(
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
    splits: int | None = None,
) -> Tensor:
    """
    q, k, v [B, M, H, D] of the current frames, q and k normalised; sink keys and values [G, R * N, H, D] (R may be 0);
    ring keys and values [G, S, N, H, D]; written [B] int64, frames that each row's session has appended so far; table
    [>= 1 + C + T, N, D / 2, 2], for 16-bit inputs best in float16. All keys are given unrotated and rotated on load:
    the sink's to index -1, the ring's to 0 and following from its oldest frame, the current ones to `filled` and
    following. So are the queries, unless they are already rotated (`q_turned`: `qk_norm_rope_cache` does it). A sink
    whose keys were rotated once, because their position never changes, is left unchanged (`sink_turned`).

    scales, each [H] float32, if the ring holds e4m3: the value of 1 in each head. context C: number of visible frames
    of the ring, by default all S. splits: number of parts into which the keys are split, whose results are then
    combined; by default chosen from the number of multiprocessors. All current tokens see each other. Returns [B, M, H,
    D]. Forward only.
    """
    context = _check(q, k, v, sink, ring, written, table, scales, context, splits)
    checks.offered("rolling_attention", q.device)
    from avatar_kernels.rolling_attention.kernel import plan

    launches, out = plan(q, k, v, sink, ring, written, table, scales, context, q_turned, sink_turned, splits)
    for launch in launches:
        launch.run()
    return out


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sink: tuple[Tensor, Tensor],
    ring: tuple[Tensor, Tensor],
    written: Tensor,
    table: Tensor,
    scales: tuple[Tensor, Tensor] | None,
    context: int | None,
    splits: int | None,
) -> int:
    check_tokens(q, k, v)
    context = check_ring(q, ring, scales, written, table, context)
    heads, head = q.shape[2:]
    sessions, _, tokens = ring[0].shape[:3]
    checks.dimensions("sink keys", sink[0], "G R*N H D")
    if sink[0].shape[1] % tokens:
        raise ValueError(f"{sink[0].shape[1]} tokens of the sink are not a whole number of frames of {tokens} tokens")
    for name, tensor in (("sink keys", sink[0]), ("sink values", sink[1])):
        checks.shape(name, tensor, sessions, sink[0].shape[1], heads, head)
        checks.dtype(name, tensor, q.dtype)
        checks.packed(name, tensor, 2)
        checks.reach(name, tensor)
        checks.together(name, tensor, "q", q)
    if splits is not None and not 1 <= splits <= MAX_SPLITS:
        raise ValueError(f"splits must be between 1 and {MAX_SPLITS}, got {splits}")
    checks.forward_only(
        "rolling_attention",
        q=q,
        k=k,
        v=v,
        **{"sink keys": sink[0], "sink values": sink[1], "ring keys": ring[0], "ring values": ring[1]},
    )
    return context
