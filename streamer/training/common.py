"""Shared by all training stages: resumable checkpoints, weight averaging, learning-rate schedules, logs."""

import copy
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


def save_checkpoint(path: Path, **parts: Any) -> None:
    """Writes a temporary file and renames it, so that an interruption keeps the last complete checkpoint."""
    part = path.with_suffix(".part")
    torch.save(parts, part)
    part.replace(path)


class Average(Generic[M]):
    """Exponential moving average of a module's weights; forgets faster at the start."""

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
    Progress of a stage by steps or minutes, whichever is further: a stage that runs out of time still ends with a small
    learning rate. Minutes spent before an interruption count.
    """

    def __init__(self, steps: int, minutes: float | None) -> None:
        self.steps, self.minutes = steps, minutes
        self.resume(0, 0.0)

    def resume(self, step: int, spent: float) -> None:
        """Continues after `step` steps and `spent` minutes."""
        self.step, self._began = step, time.monotonic() - 60 * spent

    @property
    def spent(self) -> float:
        """Minutes spent so far."""
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
        """The learning rate: a linear warm-up, then half a cosine down to `floor` times the peak."""
        return peak * min(1.0, (self.step + 1) / warm_up) * max(floor, 0.5 * (1 + math.cos(math.pi * self.share)))


class Log:
    """Writes JSON lines to a file, and to the terminal with running means."""

    def __init__(self, path: Path, every: int = 100) -> None:
        self._path, self._every = path, every
        self._sums: dict[str, tuple[float, int]] = {}
        self._count = 0

    def add(self, progress: Progress, **values: float | Tensor) -> None:
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + float(value), count + 1
        self._count += 1
        if self._count >= self._every:
            self.write(step=progress.step, minutes=round(progress.spent, 2),
                       **{name: round(total / count, 5) for name, (total, count) in self._sums.items()})  # fmt: skip
            self._sums, self._count = {}, 0

    def write(self, **line: Any) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        with self._path.open("a") as file:
            file.write(text + "\n")


class Training(Generic[M]):
    """
    A running stage: the network, the average of its weights, its optimiser and its progress, all saved to `path`.
    Iterate over it: each iteration is one step, for which the body computes gradients; afterwards `average` is the
    result. Resumes from `path` if it exists.
    """

    def __init__(
        self,
        network: M,
        path: Path,
        progress: Progress,
        rate: float,
        seed: int,
        decay: float = 0.999,
        warm_up: int = 200,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-3,
        clip: float = 1.0,
        save_every: float = 4.0,
    ) -> None:
        torch.manual_seed(seed)
        self.network, self.progress = network, progress
        self._path, self._rate, self._warm_up, self._clip, self._save_every = path, rate, warm_up, clip, save_every
        self.average = Average(network, decay)
        learnt = [p for p in network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learnt if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, rate, betas=betas, fused=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            saved = torch.load(path, map_location=next(network.parameters()).device, weights_only=True)
            network.load_state_dict(saved["model"])
            self.average.module.load_state_dict(saved["average"])
            self.average.updates = saved["step"]
            self._optimizer.load_state_dict(saved["optimizer"])
            progress.resume(saved["step"], saved["minutes"])
        self.rng = np.random.default_rng([seed, progress.step])
        """For the body's own choices: after a resumption it does not repeat the same ones."""

    def __iter__(self) -> Iterator[int]:
        saved_at = self.progress.spent
        while not self.progress.over:
            rate = self.progress.rate(self._rate, self._warm_up)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            yield self.progress.step
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            self.average.update(self.network)
            self.progress.step += 1
            if self.progress.spent - saved_at > self._save_every:
                self.save()
                saved_at = self.progress.spent
        self.save()

    def save(self) -> None:
        """Saves everything to the path."""
        save_checkpoint(
            self._path,
            model=self.network.state_dict(),
            average=self.average.module.state_dict(),
            optimizer=self._optimizer.state_dict(),
            step=self.progress.step,
            minutes=self.progress.spent,
        )


class Kept(Generic[T]):
    """A buffer of recent samples, each used several times: rendering costs more than training on one again."""

    def __init__(self, draw: Callable[[], list[T]], capacity: int, reuse: float) -> None:
        self._draw, self._reuse = draw, reuse
        self._kept: deque[T] = deque(maxlen=capacity)
        self._due = 0.0

    def sample(self, count: int, rng: np.random.Generator) -> list[T]:
        """Returns `count` samples; renders as many new ones as keep the reuse at about `reuse` times."""
        self._due += count / self._reuse
        while len(self._kept) < min(8 * count, self._kept.maxlen or 1) or self._due >= 1:
            drawn = self._draw()
            self._kept.extend(drawn)
            self._due = max(self._due - len(drawn), 0.0)
        return [self._kept[i] for i in rng.integers(len(self._kept), size=count)]

    def latest(self, count: int) -> list[T]:
        """Returns `count` distinct samples, or the capacity if that is less; renders what is missing."""
        while len(self._kept) < min(count, self._kept.maxlen or 1):
            self._kept.extend(self._draw())
        return list(self._kept)[-count:]


def store_in_half(model: "onnx.ModelProto", path: Path) -> None:
    """Writes an ONNX model with its weights in half precision: onnxruntime casts them once, when it loads."""
    import onnx  # only training needs it
    from onnx import helper, numpy_helper

    casts = []
    for i, weight in enumerate(model.graph.initializer):
        array = numpy_helper.to_array(weight)
        if array.dtype == np.float32 and array.size > 256:
            casts.append(helper.make_node("Cast", [f"{weight.name}_half"], [weight.name], to=onnx.TensorProto.FLOAT))
            half = numpy_helper.from_array(array.astype(np.float16), f"{weight.name}_half")
            model.graph.initializer[i].CopyFrom(half)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    part = path.with_suffix(".part")
    part.write_bytes(model.SerializeToString())
    part.replace(path)


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
