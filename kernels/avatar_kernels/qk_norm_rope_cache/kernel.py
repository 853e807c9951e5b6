"""The kernel of `qk_norm_rope_cache`: a program processes some lines (one head of one token each) of one row."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from avatar_kernels.device import WIDEN, seen, to_e4m3, turns
from avatar_kernels.launch import Launch, power_of_two
from avatar_kernels.qk_norm_rope_cache.configs import choose


@triton.jit
def _normed(p_x, p_weight, o_x, o_h, m_x, m_h, eps, D: tl.constexpr, HALF: tl.constexpr):
    """RMSNorm of lines at o_x [BL, 1], in halves [BL, BH]."""
    b_1 = tl.load(p_x + o_x + o_h, mask=m_x, other=0.0).to(tl.float32)
    b_2 = tl.load(p_x + o_x + HALF + o_h, mask=m_x, other=0.0).to(tl.float32)
    # [BL, 1]
    b_scale = tl.rsqrt((tl.sum(b_1 * b_1, 1) + tl.sum(b_2 * b_2, 1)) / D + eps)[:, None]
    # [1, BH]
    b_w1 = tl.load(p_weight + o_h, mask=m_h, other=0.0).to(tl.float32)
    b_w2 = tl.load(p_weight + HALF + o_h, mask=m_h, other=0.0).to(tl.float32)
    return b_1 * b_scale * b_w1, b_2 * b_scale * b_w2


@triton.jit
def _keep(p_ring, p_scale, o_ring, o_head, b_x, m_x, QUANTISED: tl.constexpr, WIDEN: tl.constexpr):
    """Writes b_x [BL, BH] into the ring at o_ring, divided by its head's scale if the ring is e4m3."""
    if QUANTISED:
        # [BL]
        b_scale = tl.load(p_scale + o_head)
        tl.store(p_ring + o_ring, to_e4m3(b_x / b_scale[:, None], WIDEN), mask=m_x)
    else:
        tl.store(p_ring + o_ring, b_x.to(p_ring.dtype.element_ty), mask=m_x)


@triton.jit(do_not_specialize=["sessions"])
def qk_norm_rope_cache_kernel(
    p_q,
    p_k,
    p_v,
    p_wq,
    p_wk,
    p_table,
    p_written,
    p_ring_k,
    p_ring_v,
    p_scale_k,
    p_scale_v,
    p_out_q,
    p_out_k,
    q_row,
    q_token,
    k_row,
    k_token,
    v_row,
    v_token,
    ring_k_row,
    ring_v_row,
    sessions,
    eps,
    COUNT: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    SLOTS: tl.constexpr,
    CONTEXT: tl.constexpr,
    WRITE: tl.constexpr,
    QUANTISED: tl.constexpr,
    WIDEN: tl.constexpr,
    BL: tl.constexpr,
    BH: tl.constexpr,
):
    HALF: tl.constexpr = D // 2
    TILES: tl.constexpr = (COUNT * HEADS + BL - 1) // BL
    row = (tl.program_id(0) // TILES).to(tl.int64)
    o_line = (tl.program_id(0) % TILES) * BL + tl.arange(0, BL)
    m_line = o_line < COUNT * HEADS
    o_token = tl.where(m_line, o_line // HEADS, 0)
    o_head = o_line % HEADS
    o_h = tl.arange(0, BH)[None, :]
    m_h = o_h < HALF
    m_x = m_line[:, None] & m_h
    o_out = row * (COUNT * HEADS * D) + o_line[:, None] * D + o_h

    written = tl.maximum(tl.load(p_written + row), 0)
    filled, _ = seen(p_written, row, SLOTS, CONTEXT)

    # [BL, BH]
    b_q1, b_q2 = _normed(
        p_q, p_wq, row * q_row + (o_token * q_token + o_head * D)[:, None], o_h, m_x, m_h, eps, D, HALF
    )
    b_cos, b_sin = turns(p_table, (1 + filled + o_token // TOKENS) * TOKENS + o_token % TOKENS, m_line, HALF, BH)
    tl.store(p_out_q + o_out, (b_q1 * b_cos - b_q2 * b_sin).to(p_out_q.dtype.element_ty), mask=m_x)
    tl.store(p_out_q + o_out + HALF, (b_q1 * b_sin + b_q2 * b_cos).to(p_out_q.dtype.element_ty), mask=m_x)

    b_k1, b_k2 = _normed(
        p_k, p_wk, row * k_row + (o_token * k_token + o_head * D)[:, None], o_h, m_x, m_h, eps, D, HALF
    )
    tl.store(p_out_k + o_out, b_k1.to(p_out_k.dtype.element_ty), mask=m_x)
    tl.store(p_out_k + o_out + HALF, b_k2.to(p_out_k.dtype.element_ty), mask=m_x)

    if WRITE:
        if row < sessions:
            o_slot = ((written % SLOTS).to(tl.int32) + o_token // TOKENS) % SLOTS
            o_ring = ((o_slot * TOKENS + o_token % TOKENS) * HEADS + o_head)[:, None] * D + o_h
            _keep(p_ring_k + row * ring_k_row, p_scale_k, o_ring, o_head, b_k1, m_x, QUANTISED, WIDEN)
            _keep(p_ring_k + row * ring_k_row, p_scale_k, o_ring + HALF, o_head, b_k2, m_x, QUANTISED, WIDEN)
            p_line = p_v + row * v_row + (o_token * v_token + o_head * D)[:, None] + o_h
            b_v1 = tl.load(p_line, mask=m_x, other=0.0).to(tl.float32)
            b_v2 = tl.load(p_line + HALF, mask=m_x, other=0.0).to(tl.float32)
            _keep(p_ring_v + row * ring_v_row, p_scale_v, o_ring, o_head, b_v1, m_x, QUANTISED, WIDEN)
            _keep(p_ring_v + row * ring_v_row, p_scale_v, o_ring + HALF, o_head, b_v2, m_x, QUANTISED, WIDEN)


def plan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    ring: tuple[Tensor, Tensor],
    written: Tensor,
    table: Tensor,
    scales: tuple[Tensor, Tensor] | None,
    context: int,
    write: bool,
    eps: float,
) -> tuple[Launch, tuple[Tensor, Tensor]]:
    """Inputs checked by `qk_norm_rope_cache` -> the launch, and the outputs that it will write."""
    rows, count, heads, head = q.shape
    slots, tokens = ring[0].shape[1:3]
    config = choose(head)
    outputs = (
        torch.empty(q.shape, dtype=q.dtype, device=q.device),
        torch.empty(k.shape, dtype=k.dtype, device=k.device),
    )
    scale_k, scale_v = scales or (table, table)  # pointers that are never read
    launch = Launch(
        qk_norm_rope_cache_kernel,
        (rows * triton.cdiv(count * heads, config.lines),),
        {
            "p_q": q,
            "p_k": k,
            "p_v": v,
            "p_wq": q_weight,
            "p_wk": k_weight,
            "p_table": table,
            "p_written": written,
            "p_ring_k": ring[0],
            "p_ring_v": ring[1],
            "p_scale_k": scale_k,
            "p_scale_v": scale_v,
            "p_out_q": outputs[0],
            "p_out_k": outputs[1],
            "q_row": q.stride(0),
            "q_token": q.stride(1),
            "k_row": k.stride(0),
            "k_token": k.stride(1),
            "v_row": v.stride(0),
            "v_token": v.stride(1),
            "ring_k_row": ring[0].stride(0),
            "ring_v_row": ring[1].stride(0),
            "sessions": ring[0].shape[0],
            "eps": eps,
        },
        {
            "COUNT": count,
            "TOKENS": tokens,
            "HEADS": heads,
            "D": head,
            "SLOTS": max(slots, 1),
            "CONTEXT": context,
            "WRITE": write,
            "QUANTISED": scales is not None,
            "WIDEN": WIDEN,
            "BL": config.lines,
            "BH": power_of_two(head // 2),
        },
        config.warps,
        1,
    )
    return launch, outputs
