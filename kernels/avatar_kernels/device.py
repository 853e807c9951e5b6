"""Device functions shared by several kernels, with workarounds for errors of Triton's interpreter."""

import triton
import triton.language as tl
from torch import Tensor

from avatar_kernels import interpreted

WIDEN = interpreted()
"""
The interpreter (as of Triton 3.7.1) multiplies the bits of bfloat16 as integers, drops the carry when it rounds to
e4m3, and turns NaN into 384 there. Only in the interpreter, operands that were rounded to their dtype are widened to
float32 before a dot, and values are rounded to e4m3's grid, NaN beyond it, before they are cast.
"""


@triton.jit
def dot(a, b, c, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """a [M, K] @ b [K, N] + c [M, N] in float32."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, c, input_precision=PRECISION)


@triton.jit
def to_e4m3(x, WIDEN: tl.constexpr):
    """float32 -> e4m3, saturated, to nearest even; NaN stays NaN, which a plain minimum would turn into 448."""
    x = tl.where(x != x, x, tl.minimum(tl.maximum(x, -448.0), 448.0))
    if WIDEN:
        bits = x.to(tl.int32, bitcast=True)
        normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) & -0x100000).to(tl.float32, bitcast=True)
        small = (x + 24576.0) - 24576.0  # 1.5 * 2^14: rounds to e4m3's smallest step, 2^-9
        number = tl.where(tl.abs(x) < 0.015625, small, normal)
        x = tl.where(x != x, 480.0, number)  # a step above the largest: the bit pattern of NaN
    return x.to(tl.float8e4nv)


@triton.jit
def turns(p_table, o_row, m_row, HALF: tl.constexpr, BH: tl.constexpr):
    """Rows of the table [rows * N, D / 2, 2] at o_row [R] -> cosines and sines [R, BH]."""
    o_pair = tl.arange(0, 2 * BH)
    # [R, 2 * BH]: cosine, sine, cosine, … in one load
    b_pair = tl.load(
        p_table + o_row[:, None] * (2 * HALF) + o_pair[None, :],
        mask=m_row[:, None] & (o_pair < 2 * HALF)[None, :],
        other=0.0,
    )
    b_cos, b_sin = tl.split(tl.reshape(b_pair, (o_row.shape[0], BH, 2)))
    return b_cos.to(tl.float32), b_sin.to(tl.float32)


@triton.jit
def seen(p_written, row, SLOTS: tl.constexpr, CONTEXT: tl.constexpr):
    """Number of context frames visible to a row, and slot of the oldest. SLOTS is at least 1, even without a ring."""
    written = tl.maximum(tl.load(p_written + row), 0)
    filled = tl.minimum(written, CONTEXT)
    start = (written - filled) % SLOTS
    return filled.to(tl.int32), start.to(tl.int32)


def precision(x: Tensor) -> str:
    """float32 is multiplied as float32, never as TF32."""
    return "ieee" if x.element_size() == 4 else "tf32"
