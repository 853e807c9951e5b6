"""A kernel launch as a value: the same launch runs on a device and is compiled ahead of time."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Gpu(NamedTuple):
    """Device properties on which program sizes depend."""

    multiprocessors: int
    shared_memory: int
    """Bytes available to a single program."""
    capability: tuple[int, int]

    @property
    def holds_products_in_memory(self) -> bool:
        """Whether tensor cores read both factors from shared memory, as they do from sm_90 on."""
        return self.capability >= (9, 0)


@lru_cache
def gpu(device: torch.device) -> Gpu:
    """For a device that is not a GPU (the interpreter's CPU), one that a single program fills."""
    if device.type != "cuda":
        return Gpu(1, 227 * 1024, (9, 0))
    found = torch.cuda.get_device_properties(device)
    shared = getattr(found, "shared_memory_per_block_optin")  # noqa: B009  PyTorch's stubs do not know it
    return Gpu(found.multi_processor_count, shared, (found.major, found.minor))


@dataclass(frozen=True)
class Launch:
    """Arguments are the kernel's, by name; constants are compiled into it."""

    kernel: Any  # triton's JITFunction, or its interpreter's
    grid: tuple[int, ...]
    arguments: dict[str, Tensor | int | float]
    constants: dict[str, int | float | bool | str]
    warps: int
    stages: int
    registers: int | None = None
    """Maximum per thread; None: up to the compiler."""

    @property
    def options(self) -> dict[str, int]:
        """Triton's launch options besides the arguments."""
        chosen = {"num_warps": self.warps, "num_stages": self.stages}
        return chosen if self.registers is None else chosen | {"maxnreg": self.registers}

    def run(self) -> None:
        device = next(value.device for value in self.arguments.values() if isinstance(value, Tensor))
        # Triton launches on the current device, whatever device the tensors are on.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self.kernel[self.grid](**self.arguments, **self.constants, **self.options)


def power_of_two(number: int) -> int:
    """The smallest power of two not below `number`."""
    return 1 << max(number - 1, 0).bit_length()
