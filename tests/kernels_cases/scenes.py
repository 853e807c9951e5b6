"""Random inputs of the kernels' cases."""

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype)


def turns(rows: int, tokens: int, head: int) -> Tensor:
    """A table [rows, N, D / 2, 2] of angles that have nothing in common."""
    angles = 6.3 * torch.rand(rows, tokens, head // 2)
    return torch.stack([angles.cos(), angles.sin()], -1)


class Scene:
    """Inputs of one step: sessions that have written different counts of frames into rings of one size."""

    def __init__(
        self,
        written: list[int],
        *,
        tokens: int = 5,
        heads: int = 2,
        head: int = 32,
        slots: int = 3,
        context: int | None = None,
        frames: int = 1,
        references: int = 1,
        dtype: torch.dtype = torch.float32,
        fp8: bool = False,
    ) -> None:
        rows = len(written)
        self.written = torch.tensor(written)
        self.context = slots if context is None else context
        # As a projection leaves them: side by side.
        whole = normal(rows, frames * tokens, 3 * heads * head, dtype=dtype)
        self.q, self.k, self.v = whole.unflatten(-1, (3, heads, head)).unbind(2)
        self.sink = (
            normal(rows, references * tokens, heads, head, dtype=dtype),
            normal(rows, references * tokens, heads, head, dtype=dtype),
        )
        self.table = turns(1 + self.context + frames, tokens, head)
        self.scales = (0.5 + torch.rand(heads), 0.5 + torch.rand(heads)) if fp8 else None
        self.ring = tuple(
            normal(rows, slots, tokens, heads, head, dtype=dtype).to(FP8 if fp8 else dtype) for _ in range(2)
        )
        for row, count in enumerate(written):
            seen = {frame % slots for frame in range(max(count - self.context, 0), count)} if slots else set()
            for slot in set(range(slots)) - seen:
                for part in self.ring:
                    part[row, slot] = torch.nan  # what no session may read

    @property
    def inputs(self) -> tuple[object, ...]:
        return self.q, self.k, self.v, self.sink, self.ring, self.written, self.table

    @property
    def options(self) -> dict[str, object]:
        return {"scales": self.scales, "context": self.context}
