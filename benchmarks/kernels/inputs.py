"""Random inputs of the Triton kernels, of the sizes that networks give them."""

import math
from dataclasses import replace
from typing import Any

import torch
from avatar_kernels.shapes import Shape
from torch import Tensor

FACE_AREA = 0.2

WEIGHTY = 64
"""
Of how many keys an output of `rolling_attention` is made in the main, however many a query sees. Plain queries would
have the mean of all of them: at thousands it is smaller than the absolute tolerance, and a forgotten tile would pass.
"""

SMALL = Shape("small", heads=2, head=40, tokens=21, context=3, frames=2)
"""What the interpreter verifies: nothing in it is a power of two."""


def pairs(rows: int, tokens: int, head: int, device: str) -> Tensor:
    """A table [rows, N, D / 2, 2] of rotary angles."""
    angles = 6.3 * torch.rand(rows, tokens, head // 2, device=device)
    return torch.stack([angles.cos(), angles.sin()], -1)


def attention_inputs(shape: Shape, batch: int, rings: str, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `rolling_attention`; the sink is turned once, the queries come unturned, and sharp."""

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=dtype)

    q, k, v = normal(batch, shape.queries, 3 * shape.width).unflatten(-1, (3, shape.heads, shape.head)).unbind(2)
    # Normal scores of variance s let n keys weigh as n / e^s equal ones do.
    q *= max(math.log(shape.keys / WEIGHTY), 1) ** 0.5
    sink = (batch, shape.tokens, shape.heads, shape.head)
    ring = (batch, shape.context, *sink[1:])
    low = shape.context if rings == "full" else 0
    written = torch.randint(low, 3 * shape.context + 1, (batch,), device=device)
    if rings == "mixed":
        written[0] = 0
    return {
        "q": q,
        "k": k,
        "v": v,
        "sink": (normal(*sink), normal(*sink)),
        "ring": (normal(*ring), normal(*ring)),
        "written": written,
        "table": pairs(1 + shape.context + shape.frames, shape.tokens, shape.head, device),
        "sink_turned": True,
    }


def norm_inputs(shape: Shape, batch: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `qk_norm_rope_cache`. A ring has room for a step's frames, also where nobody looks back on them."""
    shape = replace(shape, context=max(shape.context, shape.frames))
    given = attention_inputs(shape, batch, "full", dtype, device)
    del given["sink"], given["sink_turned"]
    weights = {f"{name}_weight": 0.5 + torch.rand(shape.head, device=device).to(dtype) for name in "qk"}
    return given | weights


def face_inputs(shape: Shape, batch: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `face_audio_attention`: one face, a square in the middle that covers FACE_AREA of the frame."""
    edge = next(edge for edge in range(int(shape.tokens**0.5), 0, -1) if shape.tokens % edge == 0)
    height, width = edge, shape.tokens // edge
    tall, wide = round(height * FACE_AREA**0.5), round(width * FACE_AREA**0.5)
    face = torch.zeros(height, width, device=device)
    top, left = (height - tall) // 2, (width - wide) // 2
    face[top : top + max(tall, 1), left : left + max(wide, 1)] = 1
    q = torch.randn(batch, shape.tokens, shape.heads, shape.head, device=device, dtype=dtype)
    memory = torch.randn(batch, 1, shape.window, 2, shape.heads, shape.head, device=device, dtype=dtype)
    return {
        "q": q,
        "k": memory[:, :, :, 0],
        "v": memory[:, :, :, 1],
        "faces": face.flatten().expand(batch, 1, -1).to(dtype),
        "strength": torch.tensor(0.7, device=device, dtype=dtype),
        "residual": torch.randn_like(q),
    }


def adaln_inputs(shape: Shape, batch: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `adaln`, all parts of it."""
    x = torch.randn(batch, shape.queries, shape.width, device=device, dtype=dtype)
    change = torch.randn(batch, 1, 6 * shape.width, device=device, dtype=dtype).chunk(6, -1)
    return {"x": x, "shift": change[0], "scale": change[1], "branch": torch.randn_like(x), "gate": change[2]}
