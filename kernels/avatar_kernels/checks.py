"""Argument checks shared by all kernels: each error states what was given and what was expected, in numbers."""

from functools import lru_cache

import torch
from torch import Tensor

from avatar_kernels import FP8_CAPABILITY, why_not

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0

_REACH = 2**31
"""Offsets within a row of the batch are 32-bit; offsets of rows are 64-bit."""


@lru_cache
def _why_not(device: str) -> str | None:
    return why_not(device)


@lru_cache
def _capability(device: str) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def offered(op: str, device: torch.device) -> None:
    """Raises RuntimeError if kernels cannot run on `device`."""
    if reason := _why_not(str(device)):
        raise RuntimeError(f"{op}: {reason}; its reference in avatar_kernels.{op}.reference runs anywhere")


def shape(name: str, tensor: Tensor, *wanted: int) -> None:
    if tuple(tensor.shape) != wanted:
        raise ValueError(f"{name} has shape {list(tensor.shape)}, wanted {list(wanted)}")


def dimensions(name: str, tensor: Tensor, letters: str) -> None:
    """`letters`: the dimensions' names, as in "B N H D"."""
    count = len(letters.split())
    if tensor.dim() != count:
        raise ValueError(f"{name} has {tensor.dim()} dimensions {list(tensor.shape)}, wanted {count}: [{letters}]")


def filled(name: str, tensor: Tensor) -> None:
    """No dimension may be empty."""
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: shape {list(tensor.shape)}")


def dtype(name: str, tensor: Tensor, *allowed: torch.dtype) -> None:
    if tensor.dtype not in allowed:
        raise ValueError(f"{name} is {tensor.dtype}, wanted {' or '.join(str(one) for one in allowed)}")


def together(name: str, tensor: Tensor, with_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(f"{name} is on {tensor.device}, {with_name} on {other.device}")


def packed(name: str, tensor: Tensor, inner: int) -> None:
    """
    The last `inner` dimensions must be contiguous, as in a slice of a projection's output. The dimensions before them
    may have any stride and are read in place.
    """
    wanted = 1
    for axis in range(tensor.dim() - 1, tensor.dim() - 1 - inner, -1):
        if tensor.shape[axis] > 1 and tensor.stride(axis) != wanted:
            raise ValueError(
                f"{name} is not contiguous in its last {inner} dimensions: shape {list(tensor.shape)} has strides "
                f"{list(tensor.stride())}, wanted {wanted} in dimension {axis}"
            )
        wanted *= tensor.shape[axis]


def reach(name: str, tensor: Tensor) -> None:
    """A row of the batch (without the first dimension) must be addressable with 32 bits."""
    far = sum((size - 1) * stride for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))
    far = max(far, tensor.shape[1:].numel() - 1)  # an output of this shape has no overlapping elements
    if far >= _REACH:
        raise ValueError(f"a row of {name} reaches over {far + 1} numbers, at most {_REACH} can be addressed")


def separate(name: str, tensor: Tensor) -> None:
    """A tensor that is written must not overlap itself, as expanded tensors and overlapping windows do."""
    span = 1  # elements from the first to the last, of the innermost dimensions so far
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride < span:
            raise ValueError(f"{name} is written to, and its rows share memory: strides {list(tensor.stride())}")
        span += (size - 1) * stride


def apart(name: str, tensor: Tensor, with_name: str, other: Tensor) -> None:
    """
    Both tensors are written and must not share memory: they have one shape and dtype and contiguous rows. Rows may
    interleave. Tensors without memory pass.
    """
    row = tensor.shape[1:].numel() * tensor.element_size()
    if "meta" in (tensor.device.type, other.device.type) or not (tensor.numel() and other.numel()):
        return
    here, there = (part.data_ptr() for part in (tensor, other))
    steps = [part.stride(0) * part.element_size() if len(part) > 1 else row for part in (tensor, other)]
    first = here + (len(tensor) - 1) * steps[0] + row <= there
    last = there + (len(other) - 1) * steps[1] + row <= here
    between = steps[0] == steps[1] and row <= (there - here) % steps[0] <= steps[0] - row
    if not (first or last or between):
        raise ValueError(f"{name} and {with_name} are written to, and share memory")


def fp8(name: str, tensor: Tensor) -> None:
    """FP8 needs a GPU that converts it; the interpreter converts it anywhere."""
    if tensor.device.type == "cuda" and (found := _capability(str(tensor.device))) < FP8_CAPABILITY:
        raise ValueError(
            f"{name} is {tensor.dtype}, which wants compute capability {FP8_CAPABILITY[0]}.{FP8_CAPABILITY[1]} or "
            f"later; {tensor.device} has {found[0]}.{found[1]}"
        )


def forward_only(op: str, **tensors: Tensor | None) -> None:
    """These kernels have no backward pass: an error is better than a cut graph. Training uses PyTorch's own."""
    if torch.is_grad_enabled():
        for name, tensor in tensors.items():
            if tensor is not None and tensor.requires_grad:
                raise ValueError(f"{op} has no backward pass, and {name} requires a gradient: use torch.no_grad()")


def eps(value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"eps must be between 0 and 1, got {value}")
