"""The kernel of `adaln`: a program holds a few whole tokens of one row in registers and reads everything once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from avatar_kernels.adaln import Adaln
from avatar_kernels.adaln.configs import choose
from avatar_kernels.launch import Launch


@triton.jit
def adaln_kernel(
    p_x,
    p_branch,
    p_gate,
    p_shift,
    p_scale,
    p_sum,
    p_level,
    tokens,
    x_row,
    x_token,
    branch_row,
    branch_token,
    gate_row,
    shift_row,
    scale_row,
    eps,
    WIDTH: tl.constexpr,
    GATED: tl.constexpr,
    NORMED: tl.constexpr,
    MODULATED: tl.constexpr,
    BM: tl.constexpr,
    BW: tl.constexpr,
):
    tiles = tl.cdiv(tokens, BM)
    row = (tl.program_id(0) // tiles).to(tl.int64)
    o_m = (tl.program_id(0) % tiles) * BM + tl.arange(0, BM)
    o_w = tl.arange(0, BW)
    m_w = o_w < WIDTH
    m_x = (o_m < tokens)[:, None] & m_w[None, :]
    o_out = row * tokens * WIDTH + o_m[:, None] * WIDTH + o_w[None, :]

    # [BM, BW]
    b_x = tl.load(p_x + row * x_row + o_m[:, None] * x_token + o_w[None, :], mask=m_x, other=0.0).to(tl.float32)
    if GATED:
        # [BW]
        b_gate = tl.load(p_gate + row * gate_row + o_w, mask=m_w, other=0.0).to(tl.float32)
        # [BM, BW]
        p_tile = p_branch + row * branch_row + o_m[:, None] * branch_token + o_w[None, :]
        b_x += b_gate[None, :] * tl.load(p_tile, mask=m_x, other=0.0).to(tl.float32)
        tl.store(p_sum + o_out, b_x.to(p_sum.dtype.element_ty), mask=m_x)
    if NORMED:
        b_mean = tl.sum(b_x, 1) / WIDTH
        b_centred = tl.where(m_w[None, :], b_x - b_mean[:, None], 0.0)
        b_variance = tl.sum(b_centred * b_centred, 1) / WIDTH
        b_level = b_centred * tl.rsqrt(b_variance + eps)[:, None]
        if MODULATED:
            # [BW]
            b_scale = tl.load(p_scale + row * scale_row + o_w, mask=m_w, other=0.0).to(tl.float32)
            b_shift = tl.load(p_shift + row * shift_row + o_w, mask=m_w, other=0.0).to(tl.float32)
            b_level = b_level * b_scale[None, :] + b_shift[None, :]
        tl.store(p_level + o_out, b_level.to(p_level.dtype.element_ty), mask=m_x)


def plan(
    x: Tensor,
    shift: Tensor | None,
    scale: Tensor | None,
    branch: Tensor | None,
    gate: Tensor | None,
    norm: bool,
    eps: float,
) -> tuple[Launch, Adaln]:
    """Inputs checked by `adaln` -> the launch, and the result that it will write."""
    rows, tokens, width = x.shape
    config = choose(width)
    total = x if branch is None else torch.empty(x.shape, dtype=x.dtype, device=x.device)
    level = torch.empty(x.shape, dtype=x.dtype, device=x.device) if norm else None

    def given(tensor: Tensor | None) -> Tensor:
        return x if tensor is None else tensor  # a pointer that is never read

    launch = Launch(
        adaln_kernel,
        (rows * triton.cdiv(tokens, config.tokens),),
        {
            "p_x": x,
            "p_branch": given(branch),
            "p_gate": given(gate),
            "p_shift": given(shift),
            "p_scale": given(scale),
            "p_sum": total,
            "p_level": given(level),
            "tokens": tokens,
            "x_row": x.stride(0),
            "x_token": x.stride(1),
            "branch_row": given(branch).stride(0),
            "branch_token": given(branch).stride(1),
            "gate_row": given(gate).stride(0),
            "shift_row": given(shift).stride(0),
            "scale_row": given(scale).stride(0),
            "eps": eps,
        },
        {
            "WIDTH": width,
            "GATED": branch is not None,
            "NORMED": norm,
            "MODULATED": shift is not None,
            "BM": config.tokens,
            "BW": config.width,
        },
        config.warps,
        1,
    )
    return launch, Adaln(total, level)
