"""The kernel of `face_audio_attention`: a program processes one head of one tile of tokens, and all faces in turn."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from avatar_kernels.device import WIDEN, dot, precision
from avatar_kernels.face_audio_attention.configs import choose
from avatar_kernels.launch import Launch, power_of_two

LOG2E = 1.4426950408889634


@triton.jit
def face_audio_attention_kernel(
    p_q,
    p_k,
    p_v,
    p_faces,
    p_strength,
    p_residual,
    p_out,
    q_row,
    q_token,
    k_row,
    k_face,
    k_token,
    v_row,
    v_face,
    v_token,
    faces_row,
    faces_face,
    residual_row,
    residual_token,
    score_scale,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    FACES: tl.constexpr,
    WINDOW: tl.constexpr,
    RESIDUAL: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    TILES: tl.constexpr = (TOKENS + BM - 1) // BM
    head = (tl.program_id(0) // TILES) % HEADS
    row = (tl.program_id(0) // (TILES * HEADS)).to(tl.int64)
    o_m = (tl.program_id(0) % TILES) * BM + tl.arange(0, BM)
    m_m = o_m < TOKENS
    o_d = tl.arange(0, BD)
    m_d = o_d < D
    m_q = m_m[:, None] & m_d[None, :]

    # [BM, BD]
    b_out = tl.zeros((BM, BD), tl.float32)
    for face in range(FACES):
        # [BM]
        b_share = tl.load(p_faces + row * faces_row + face * faces_face + o_m, mask=m_m, other=0.0).to(tl.float32)
        if tl.sum((b_share != 0).to(tl.int32), 0) > 0:
            # [BM, BD]
            p_tile = p_q + row * q_row + o_m[:, None] * q_token + head * D + o_d[None, :]
            b_q = tl.load(p_tile, mask=m_q, other=0.0)
            b_top = tl.full((BM,), float("-inf"), tl.float32)
            b_total = tl.zeros((BM,), tl.float32)
            b_heard = tl.zeros((BM, BD), tl.float32)
            for first in range(0, WINDOW, BN):
                o_n = first + tl.arange(0, BN)
                m_n = o_n < WINDOW
                # [BD, BN]
                p_keys = p_k + row * k_row + face * k_face + head * D + o_n[None, :] * k_token + o_d[:, None]
                b_k = tl.load(p_keys, mask=m_n[None, :] & m_d[:, None], other=0.0)
                # [BM, BN], scaled for exp2
                b_s = dot(b_q, b_k, tl.zeros((BM, BN), tl.float32), PRECISION, WIDEN) * score_scale
                b_s = tl.where(m_n[None, :], b_s, float("-inf"))
                b_new = tl.maximum(b_top, tl.max(b_s, 1))
                b_p = tl.exp2(b_s - b_new[:, None])
                b_keep = tl.exp2(b_top - b_new)
                b_total = b_total * b_keep + tl.sum(b_p, 1)
                # [BN, BD]
                p_values = p_v + row * v_row + face * v_face + head * D + o_n[:, None] * v_token + o_d[None, :]
                b_v = tl.load(p_values, mask=m_n[:, None] & m_d[None, :], other=0.0)
                b_heard = dot(b_p.to(b_v.dtype), b_v, b_heard * b_keep[:, None], PRECISION, WIDEN)
                b_top = b_new
            b_out += b_heard * (b_share / b_total)[:, None]
    b_out *= tl.load(p_strength).to(tl.float32)
    if RESIDUAL:
        p_tile = p_residual + row * residual_row + o_m[:, None] * residual_token + head * D + o_d[None, :]
        b_out += tl.load(p_tile, mask=m_q, other=0.0).to(tl.float32)
    p_tile = p_out + row * (TOKENS * HEADS * D) + o_m[:, None] * (HEADS * D) + head * D + o_d[None, :]
    tl.store(p_tile, b_out.to(p_out.dtype.element_ty), mask=m_q)


def plan(
    q: Tensor, k: Tensor, v: Tensor, faces: Tensor, strength: Tensor, residual: Tensor | None
) -> tuple[Launch, Tensor]:
    """Inputs checked by `face_audio_attention` -> the launch, and the output that it will write."""
    rows, tokens, heads, head = q.shape
    count, window = k.shape[1:3]
    config = choose(head, window, q.dtype)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    added = q if residual is None else residual  # a pointer that is never read
    launch = Launch(
        face_audio_attention_kernel,
        (triton.cdiv(tokens, config.tokens) * heads * rows,),
        {
            "p_q": q,
            "p_k": k,
            "p_v": v,
            "p_faces": faces,
            "p_strength": strength,
            "p_residual": added,
            "p_out": out,
            "q_row": q.stride(0),
            "q_token": q.stride(1),
            "k_row": k.stride(0),
            "k_face": k.stride(1),
            "k_token": k.stride(2),
            "v_row": v.stride(0),
            "v_face": v.stride(1),
            "v_token": v.stride(2),
            "faces_row": faces.stride(0),
            "faces_face": faces.stride(1),
            "residual_row": added.stride(0),
            "residual_token": added.stride(1),
            "score_scale": head**-0.5 * LOG2E,
        },
        {
            "TOKENS": tokens,
            "HEADS": heads,
            "D": head,
            "FACES": count,
            "WINDOW": window,
            "RESIDUAL": residual is not None,
            "PRECISION": precision(q),
            "WIDEN": WIDEN,
            "BM": config.tokens,
            "BN": config.keys,
            "BD": max(power_of_two(head), 16),
        },
        config.warps,
        config.stages,
    )
    return launch, out
