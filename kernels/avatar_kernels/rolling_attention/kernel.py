"""The kernels of `rolling_attention`.

A program processes one tile of queries of one head of one row, and its part of three runs of keys: the sink, the
context's frames from the oldest on, the current tokens. Keys are loaded in halves [BN, BH], rotated in registers, and
multiplied half by half: q k^T = q1 k1^T + q2 k2^T, so that nothing needs to be concatenated. Weights are powers of two
relative to the running maximum (online softmax). If the keys are split, each part stores its normalised sum and the
logarithm of its weights; `combine_kernel` merges them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from avatar_kernels.device import WIDEN, dot, precision, seen, turns
from avatar_kernels.launch import Gpu, Launch, gpu, power_of_two
from avatar_kernels.rolling_attention import MAX_SPLITS
from avatar_kernels.rolling_attention.configs import Config, choose, parts

LOG2E = 1.4426950408889634


@triton.jit
def _tile(
    b_acc,
    b_top,
    b_total,
    b_q1,
    b_q2,
    p_k,
    p_v,
    p_table,
    o_key,
    o_value,
    o_turn,
    m_n,
    scale_k,
    scale_v,
    score_scale,
    D: tl.constexpr,
    TURN: tl.constexpr,
    DEQUANTISE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BH: tl.constexpr,
):
    """One tile of keys at o_key [BN], values at o_value [BN], positions at o_turn [BN], of which m_n [BN] are valid."""
    HALF: tl.constexpr = D // 2
    o_h = tl.arange(0, BH)
    o_d = tl.arange(0, 2 * BH)
    m_h = m_n[:, None] & (o_h < HALF)[None, :]
    # [BN, BH]
    b_k1 = tl.load(p_k + o_key[:, None] + o_h[None, :], mask=m_h, other=0.0).to(tl.float32)
    b_k2 = tl.load(p_k + o_key[:, None] + HALF + o_h[None, :], mask=m_h, other=0.0).to(tl.float32)
    b_r1 = b_k1
    b_r2 = b_k2
    if TURN:
        b_cos, b_sin = turns(p_table, o_turn, m_n, HALF, BH)
        b_r1 = b_k1 * b_cos - b_k2 * b_sin
        b_r2 = b_k1 * b_sin + b_k2 * b_cos
    if DEQUANTISE:
        b_r1 *= scale_k
        b_r2 *= scale_k
    # [BM, BN]
    b_s = tl.zeros((b_q1.shape[0], o_key.shape[0]), tl.float32)
    b_s = dot(b_q1, tl.trans(b_r1.to(b_q1.dtype)), b_s, PRECISION, WIDEN)
    b_s = dot(b_q2, tl.trans(b_r2.to(b_q1.dtype)), b_s, PRECISION, WIDEN)
    b_s = tl.where(m_n[None, :], b_s, float("-inf"))
    b_new = tl.maximum(b_top, tl.max(b_s, 1))
    # The scale, which is positive, is fused with the subtraction: one instruction per score.
    b_p = tl.exp2(b_s * score_scale - (b_new * score_scale)[:, None])
    b_keep = tl.exp2((b_top - b_new) * score_scale)
    b_total = b_total * b_keep + tl.sum(b_p, 1)
    # [BN, 2 * BH]
    b_v = tl.load(p_v + o_value[:, None] + o_d[None, :], mask=m_n[:, None] & (o_d < D)[None, :], other=0.0)
    if DEQUANTISE:
        b_v = b_v.to(tl.float32) * scale_v
    b_v = b_v.to(b_q1.dtype)
    b_acc = dot(b_p.to(b_q1.dtype), b_v, b_acc * b_keep[:, None], PRECISION, WIDEN)
    return b_acc, b_new, b_total


@triton.jit(do_not_specialize=["rows", "sessions"])
def rolling_attention_kernel(
    p_q,
    p_k,
    p_v,
    p_sink_k,
    p_sink_v,
    p_ring_k,
    p_ring_v,
    p_scale_k,
    p_scale_v,
    p_written,
    p_table,
    p_out,
    p_weight,
    q_row,
    q_token,
    k_row,
    k_token,
    v_row,
    v_token,
    sink_k_row,
    sink_k_token,
    sink_v_row,
    sink_v_token,
    ring_k_row,
    ring_v_row,
    rows,
    sessions,
    score_scale,
    COUNT: tl.constexpr,
    TOKENS: tl.constexpr,
    SINK: tl.constexpr,
    SLOTS: tl.constexpr,
    CONTEXT: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    SPLITS: tl.constexpr,
    Q_TURNED: tl.constexpr,
    SINK_TURNED: tl.constexpr,
    QUANTISED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BH: tl.constexpr,
):
    HALF: tl.constexpr = D // 2
    TILES: tl.constexpr = (COUNT + BM - 1) // BM
    head = (tl.program_id(0) // TILES) % HEADS
    row = (tl.program_id(0) // (TILES * HEADS)).to(tl.int64)
    session = row % sessions
    split = tl.program_id(1)
    o_m = (tl.program_id(0) % TILES) * BM + tl.arange(0, BM)
    m_m = o_m < COUNT
    o_n = tl.arange(0, BN)
    o_h = tl.arange(0, BH)
    o_d = tl.arange(0, 2 * BH)
    filled, start = seen(p_written, row, SLOTS, CONTEXT)

    # [BM, BH]
    m_q = m_m[:, None] & (o_h < HALF)[None, :]
    p_tile = p_q + row * q_row + head * D + o_m[:, None] * q_token + o_h[None, :]
    b_q1 = tl.load(p_tile, mask=m_q, other=0.0)
    b_q2 = tl.load(p_tile + HALF, mask=m_q, other=0.0)
    if not Q_TURNED:
        b_cos, b_sin = turns(p_table, (1 + filled) * TOKENS + o_m, m_m, HALF, BH)
        b_f1 = b_q1.to(tl.float32)
        b_f2 = b_q2.to(tl.float32)
        b_q1 = (b_f1 * b_cos - b_f2 * b_sin).to(b_q1.dtype)
        b_q2 = (b_f1 * b_sin + b_f2 * b_cos).to(b_q2.dtype)

    b_acc = tl.zeros((BM, 2 * BH), tl.float32)
    b_top = tl.full((BM,), float("-inf"), tl.float32)
    b_total = tl.zeros((BM,), tl.float32)

    # This program's part of the tiles of sink, context and current tokens, which are numbered consecutively.
    SINK_TILES: tl.constexpr = (SINK + BN - 1) // BN
    past_tiles = SINK_TILES + tl.cdiv(filled * TOKENS, BN)
    tiles = past_tiles + tl.cdiv(COUNT, BN)
    each = tl.cdiv(tiles, SPLITS)
    first = split * each
    last = tl.minimum(first + each, tiles)

    if SINK > 0:
        for i in range(first, tl.minimum(last, SINK_TILES)):
            o_t = i * BN + o_n
            m_n = o_t < SINK
            b_acc, b_top, b_total = _tile(
                b_acc,
                b_top,
                b_total,
                b_q1,
                b_q2,
                p_sink_k + session * sink_k_row + head * D,
                p_sink_v + session * sink_v_row + head * D,
                p_table,
                o_t * sink_k_token,
                o_t * sink_v_token,
                o_t % TOKENS,
                m_n,
                1.0,
                1.0,
                score_scale,
                D,
                not SINK_TURNED,
                False,
                PRECISION,
                WIDEN,
                BH,
            )
    if CONTEXT > 0:
        scale_k = 1.0
        scale_v = 1.0
        if QUANTISED:
            scale_k = tl.load(p_scale_k + head)
            scale_v = tl.load(p_scale_v + head)
        for i in range(tl.maximum(first, SINK_TILES) - SINK_TILES, tl.minimum(last, past_tiles) - SINK_TILES):
            o_t = i * BN + o_n
            m_n = o_t < filled * TOKENS
            # Index and position give the rotation, the slot gives the address.
            o_slot = (start + o_t // TOKENS) % SLOTS
            o_line = (o_slot * TOKENS + o_t % TOKENS) * (HEADS * D)
            b_acc, b_top, b_total = _tile(
                b_acc,
                b_top,
                b_total,
                b_q1,
                b_q2,
                p_ring_k + session * ring_k_row + head * D,
                p_ring_v + session * ring_v_row + head * D,
                p_table,
                o_line,
                o_line,
                TOKENS + o_t,
                m_n,
                scale_k,
                scale_v,
                score_scale,
                D,
                True,
                QUANTISED,
                PRECISION,
                WIDEN,
                BH,
            )
    for i in range(tl.maximum(first, past_tiles) - past_tiles, last - past_tiles):
        o_t = i * BN + o_n
        m_n = o_t < COUNT
        b_acc, b_top, b_total = _tile(
            b_acc,
            b_top,
            b_total,
            b_q1,
            b_q2,
            p_k + row * k_row + head * D,
            p_v + row * v_row + head * D,
            p_table,
            o_t * k_token,
            o_t * v_token,
            (1 + filled) * TOKENS + o_t,
            m_n,
            1.0,
            1.0,
            score_scale,
            D,
            True,
            False,
            PRECISION,
            WIDEN,
            BH,
        )

    # [BM, 2 * BH]
    m_out = m_m[:, None] & (o_d < D)[None, :]
    o_line = (row * COUNT + o_m) * HEADS + head
    if SPLITS == 1:
        b_out = b_acc / b_total[:, None]
        tl.store(p_out + o_line[:, None] * D + o_d[None, :], b_out.to(p_out.dtype.element_ty), mask=m_out)
    else:
        # A part without a tile has weight zero: 2 to the power of minus infinity.
        b_total = tl.where(b_total > 0, b_total, 1.0)
        b_out = b_acc / b_total[:, None]
        o_part = split.to(tl.int64) * rows * (COUNT * HEADS) + o_line
        tl.store(p_out + o_part[:, None] * D + o_d[None, :], b_out, mask=m_out)
        tl.store(p_weight + o_part, b_top * score_scale + tl.log2(b_total), mask=m_m)


@triton.jit(do_not_specialize=["lines"])
def combine_kernel(
    p_part,
    p_weight,
    p_out,
    lines,
    D: tl.constexpr,
    SPLITS: tl.constexpr,
    BL: tl.constexpr,
    BD: tl.constexpr,
):
    """parts [SPLITS, lines, D], log2 of their weights [SPLITS, lines] -> out [lines, D]; a line: a query of a head."""
    o_line = tl.program_id(0).to(tl.int64) * BL + tl.arange(0, BL)
    m_line = o_line < lines
    o_d = tl.arange(0, BD)
    m_out = m_line[:, None] & (o_d < D)[None, :]
    b_top = tl.full((BL,), float("-inf"), tl.float32)
    b_total = tl.zeros((BL,), tl.float32)
    b_acc = tl.zeros((BL, BD), tl.float32)
    o_part = o_line
    for _ in range(SPLITS):
        # [BL]; a part without a tile has minus infinity, and the first part always has one
        b_weight = tl.load(p_weight + o_part, mask=m_line, other=0.0)
        b_new = tl.maximum(b_top, b_weight)
        b_keep = tl.exp2(b_top - b_new)
        b_share = tl.exp2(b_weight - b_new)
        # [BL, BD]
        b_part = tl.load(p_part + o_part[:, None] * D + o_d[None, :], mask=m_out, other=0.0)
        b_acc = b_acc * b_keep[:, None] + b_part * b_share[:, None]
        b_total = b_total * b_keep + b_share
        b_top = b_new
        o_part += lines
    b_out = b_acc / b_total[:, None]
    tl.store(p_out + o_line[:, None] * D + o_d[None, :], b_out.to(p_out.dtype.element_ty), mask=m_out)


def plan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sink: tuple[Tensor, Tensor],
    ring: tuple[Tensor, Tensor],
    written: Tensor,
    table: Tensor,
    scales: tuple[Tensor, Tensor] | None,
    context: int,
    q_turned: bool,
    sink_turned: bool,
    splits: int | None,
    card: Gpu | None = None,
    config: Config | None = None,
) -> tuple[list[Launch], Tensor]:
    """
    Inputs checked by `rolling_attention` -> the launches, and the output that they will write. `card` and `config`
    default to the tensors' device and its configuration.
    """
    rows, count, heads, head = q.shape
    slots, tokens = ring[0].shape[1:3]
    card = card or gpu(q.device)
    config = config or choose(head, q.dtype, rows * heads, count, card)
    programs = rows * heads * triton.cdiv(count, config.queries)
    if splits is None:
        runs = (sink[0].shape[1], context * tokens, count)
        splits = parts(programs, sum(triton.cdiv(run, config.keys) for run in runs), card.multiprocessors, MAX_SPLITS)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if splits > 1:
        part = torch.empty((splits, *q.shape), dtype=torch.float32, device=q.device)
        weight = torch.empty((splits, rows, count, heads), dtype=torch.float32, device=q.device)
    else:
        part, weight = out, out  # weights are not written
    scale_k, scale_v = scales or (table, table)  # pointers that are never read
    half = power_of_two(head // 2)
    launch = Launch(
        rolling_attention_kernel,
        (programs, splits),
        {
            "p_q": q,
            "p_k": k,
            "p_v": v,
            "p_sink_k": sink[0],
            "p_sink_v": sink[1],
            "p_ring_k": ring[0],
            "p_ring_v": ring[1],
            "p_scale_k": scale_k,
            "p_scale_v": scale_v,
            "p_written": written,
            "p_table": table,
            "p_out": part,
            "p_weight": weight,
            "q_row": q.stride(0),
            "q_token": q.stride(1),
            "k_row": k.stride(0),
            "k_token": k.stride(1),
            "v_row": v.stride(0),
            "v_token": v.stride(1),
            "sink_k_row": sink[0].stride(0),
            "sink_k_token": sink[0].stride(1),
            "sink_v_row": sink[1].stride(0),
            "sink_v_token": sink[1].stride(1),
            "ring_k_row": ring[0].stride(0),
            "ring_v_row": ring[1].stride(0),
            "rows": rows,
            "sessions": ring[0].shape[0],
            "score_scale": head**-0.5 * LOG2E,
        },
        {
            "COUNT": count,
            "TOKENS": tokens,
            "SINK": sink[0].shape[1],
            "SLOTS": max(slots, 1),
            "CONTEXT": context,
            "HEADS": heads,
            "D": head,
            "SPLITS": splits,
            "Q_TURNED": q_turned,
            "SINK_TURNED": sink_turned,
            "QUANTISED": scales is not None,
            "PRECISION": precision(q),
            "WIDEN": WIDEN,
            "BM": config.queries,
            "BN": config.keys,
            "BH": half,
        },
        config.warps,
        config.stages,
        config.registers,
    )
    if splits == 1:
        return [launch], out
    lines = rows * count * heads
    rows_of_lines = max(1024 // power_of_two(head), 1)
    combine = Launch(
        combine_kernel,
        (triton.cdiv(lines, rows_of_lines),),
        {"p_part": part, "p_weight": weight, "p_out": out, "lines": lines},
        {"D": head, "SPLITS": splits, "BL": rows_of_lines, "BD": power_of_two(head)},
        4,
        1,
    )
    return [launch, combine], out
