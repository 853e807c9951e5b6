"""One kernel launch as a value: what is run on a device is what is compiled ahead of time."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Launch:
    """Arguments are those of the kernel by name; constants are compiled into it."""

    kernel: Any  # triton's JITFunction, or its interpreter's
    grid: tuple[int, ...]
    arguments: dict[str, Tensor | int | float]
    constants: dict[str, int | float | bool | str]
    warps: int
    stages: int

    def run(self) -> None:
        self.kernel[self.grid](**self.arguments, **self.constants, num_warps=self.warps, num_stages=self.stages)


def power_of_two(number: int) -> int:
    """The least power of two that is not below `number`."""
    return 1 << max(number - 1, 0).bit_length()
