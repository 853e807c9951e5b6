"""How far a kernel may be from its float64 reference: the one table that tests and benchmarks hold it to.

An output must be within `absolute + relative * |reference|` everywhere. Keys are rotated in float32 and rounded to the
dtype before they are multiplied, weights are rounded before they meet the values: a few units in the last place of
numbers of magnitude 1. A context in FP8 adds nothing: the reference reads the same FP8 numbers.
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
    The largest error as a share of what is allowed for the output's dtype, both of any one shape: at most 1 is right.
    Infinite where anything is not finite, so that what was never written cannot pass.
    """
    if output.shape != reference.shape:
        raise ValueError(f"output {list(output.shape)} and reference {list(reference.shape)} differ in shape")
    relative, absolute = TOLERANCES[output.dtype]
    error = (output.double() - reference.double()).abs() / (absolute + relative * reference.double().abs())
    return float(error.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
