"""Tolerances of kernels against their float64 references: the one table used by tests and benchmarks.

An output must be within `absolute + relative * |reference|` everywhere. Keys are rotated in float32 and rounded to the
dtype before they are multiplied, and weights are rounded before they are multiplied with the values: a few units in the
last place of values of magnitude 1. A context in FP8 adds nothing: the reference reads the same FP8 values.
"""

import torch
from torch import Tensor

TOLERANCES: dict[torch.dtype, tuple[float, float]] = {  # relative, absolute
    torch.float32: (1e-5, 1e-5),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (1.6e-2, 1.6e-2),
}


def excess(output: Tensor, reference: Tensor) -> float:
    """
    The largest error relative to the tolerance of the output's dtype, for tensors of the same shape: at most 1 passes.
    Infinite if anything is not finite, so that unwritten outputs cannot pass.
    """
    if output.shape != reference.shape:
        raise ValueError(f"output {list(output.shape)} and reference {list(reference.shape)} differ in shape")
    relative, absolute = TOLERANCES[output.dtype]
    error = (output.double() - reference.double()).abs() / (absolute + relative * reference.double().abs())
    return float(error.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
