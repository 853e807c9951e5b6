"""What every stage of training shares: checkpoints that continue, averaged weights, learning-rate schedules, logs."""

import copy
import json
import math
import time
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def save_checkpoint(path: Path, **parts: Any) -> None:
    """Written beside and renamed, so that an interruption leaves the last whole checkpoint."""
    part = path.with_suffix(".part")
    torch.save(parts, part)
    part.replace(path)


class Average(Generic[M]):
    """Exponential moving average of a module's weights; young averages forget faster."""

    def __init__(self, module: M, decay: float = 0.999) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(theirs, weight)
        for kept, new in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(new)


class Progress:
    """
    How far a stage is, by steps or by minutes, whichever comes first: a stage that is short of time still ends with a
    small learning rate. Minutes spent before an interruption count.
    """

    def __init__(self, steps: int, minutes: float | None, step: int = 0, spent: float = 0.0) -> None:
        self.steps, self.minutes, self.step = steps, minutes, step
        self._began = time.monotonic() - 60 * spent

    @property
    def spent(self) -> float:
        """Minutes."""
        return (time.monotonic() - self._began) / 60

    @property
    def share(self) -> float:
        """0 at the start, 1 at the end."""
        by_time = self.spent / self.minutes if self.minutes else 0.0
        return min(max(self.step / self.steps, by_time), 1.0)

    @property
    def over(self) -> bool:
        return self.share >= 1.0

    def rate(self, peak: float, warm_up: int = 200, floor: float = 0.02) -> float:
        """The learning rate: a linear rise, then half a cosine down to `floor` times the peak."""
        return peak * min(1.0, (self.step + 1) / warm_up) * max(floor, 0.5 * (1 + math.cos(math.pi * self.share)))


class Log:
    """Lines of JSON in a file, and the same to the terminal, with running means between them."""

    def __init__(self, path: Path, every: int = 100) -> None:
        self._path, self._every = path, every
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, progress: Progress, **values: float | Tensor) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += 1
        if self._count >= self._every:
            self.write(step=progress.step, minutes=round(progress.spent, 2),
                       **{name: round(total / self._count, 5) for name, total in self._sums.items()})  # fmt: skip
            self._sums, self._count = {}, 0

    def write(self, **line: Any) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        with self._path.open("a") as file:
            file.write(text + "\n")


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
