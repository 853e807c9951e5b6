"""How long a live step takes on a GPU, and how many sessions it can serve at 25 frames a second.

    python -m benchmarks.kernels.model_step --seconds 300 --out OUT.json   # on a CUDA GPU: verifies, then times
    python -m benchmarks.kernels.model_step --device cpu --quick           # a trial without a GPU, proves little

Method. A step remembers each session's last frame and draws the next one (`streamer/model/runtime/cuda_step.py`), for a
batch of sessions whose rings are full. Stages: the transformer alone; the decoder alone, which paints, copies three
references and repaints the face; the whole step, which ends with 8-bit pixels in pinned memory of the host; and what
the server does with them ("served"), from inputs to planes of YUV (`streamer/model/runtime/cuda.py`), as it would
choose. Ways: with the project's Triton kernels or with PyTorch's operators (SDPA), launched one by one (eager) or
replayed as one CUDA graph. A time is the median over repetitions, from before the first launch until the device is
done, so that launch overhead counts. Weights are random, which does not change the time. Before a way is timed, its
frames are compared with those of the plain step in float32, relative to the error of the plain step in the same
precision, and the decoder's graph with the decoder; no speed-up is reported where the comparison failed. A failure is
recorded with its reason in its row, and the next row is measured. Rows are ordered by importance; each is printed and
written as soon as it is measured.
"""

import argparse
import copy
import functools
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.kernels.gpu import describe, reason_of, write
from benchmarks.kernels.live_step import (
    Call,
    captured,
    eight_bit,
    error,
    full,
    inputs,
    levels_apart,
    milliseconds,
    random_features,
    scenes,
    seated,
    transformer,
    wait,
)
from streamer.base.constants import FPS
from streamer.model.attention import choose
from streamer.model.autoencoder import Autoencoder
from streamer.model.checkpoint import Networks
from streamer.model.config import PRESETS, STRIDE, ModelConfig
from streamer.model.runtime import cuda_step
from streamer.model.runtime.cuda import CudaFrameRenderer
from streamer.model.runtime.cuda_frame import frame_edge
from streamer.model.runtime.stream import NotFinite, blocks, random_conditions

BATCHES = (1, 4, 16, 64, 256)

BUSY = (4, 16)
"""Sessions of a busy server: measured first."""

REPEATS = 60
"""Up to 16 sessions; of more, as many as take the same time, and 10 at least."""

STAGES = ("served", "whole", "transformer", "decoder")

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

SERVED = "float16"
"""What the server draws in, on CUDA."""


@dataclass(frozen=True)
class Row:
    """One measurement."""

    preset: str
    batch: int
    stage: str
    how: str
    """What attends: "kernels" or "plain"; "-" for the decoder."""
    captured: bool
    """In a CUDA graph; else launched one by one."""
    error: float | None = None
    """
    Largest difference from float32, as a multiple of the plain step's in the same precision; of the decoder's graph,
    from the decoder, in levels of 255: at most 2 is right.
    """
    ms: float | None = None
    """Median, of the step for the whole batch."""
    p95: float | None = None
    note: str = ""
    """The reason why there is no time, where nothing is wrong."""
    failed: str = ""
    """The reason, where something is wrong."""

    @property
    def right(self) -> bool:
        return not self.failed and (self.error is None or self.error <= 2)

    def __str__(self) -> str:
        return f"{self.preset} x{self.batch} {self.stage}, {self.way}"

    @property
    def way(self) -> str:
        return f"{self.how}, {'graph' if self.captured else 'eager'}".removeprefix("-, ")

    @property
    def held(self) -> int | None:
        return None if self.ms is None else held(self.batch, self.ms)


def held(batch: int, ms: float) -> int:
    """Sessions at FPS frames a second, by steps of `batch` of them one after the other."""
    return batch * int(1000 / FPS / ms)


def speed_up(row: Row, rows: Sequence[Row]) -> float | None:
    """Against the same stage in plain PyTorch, launched one by one. None where either is wrong or was not measured."""
    for other in rows:
        same = (other.preset, other.batch, other.stage) == (row.preset, row.batch, row.stage)
        if same and other.how != "kernels" and not other.captured:
            if row.ms is None or other.ms is None or not (row.right and other.right):
                return None
            return other.ms / row.ms
    return None


def repeats(batch: int) -> int:
    return max(REPEATS * 16 // max(batch, 16), 10)


def planned(presets: Sequence[str], batches: Sequence[int], kernels: Mapping[str, bool], gpu: bool) -> list[Row]:
    """
    All rows, those first that matter most: `live` at the batches of a busy server, then the other presets, then the
    rest. kernels: whether a preset is drawn on them. Plain rows launched one by one lead: speed-ups are against them.
    """

    def rank(pair: tuple[str, int]) -> tuple[int, int]:
        preset, batch = pair
        large = batch > 64
        return (0 if batch in BUSY else 2 + large) if preset == "live" else 1 + 2 * large, batch

    def rows(preset: str, batch: int) -> Iterator[Row]:
        ways = [("plain", False), ("kernels", True), ("plain", True), ("kernels", False)]
        ways = [(how, graph) for how, graph in ways if (gpu or not graph) and (kernels[preset] or how == "plain")]
        yield Row(preset, batch, "served", "kernels" if kernels[preset] else "plain", gpu)
        yield from (Row(preset, batch, stage, *way) for stage in ("whole", "transformer") for way in ways)
        yield from (Row(preset, batch, "decoder", "-", graph) for graph in (False, True)[: 1 + gpu])

    return [row for pair in sorted(itertools.product(presets, batches), key=rank) for row in rows(*pair)]


class Ready:
    """A preset's networks on the device, and how far each way to compute a step is from float32."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: str) -> None:
        self.config, self.dtype, self.device = config, dtype, device
        exact = transformer(config).to(device)
        self.model = copy.deepcopy(exact).to(dtype)
        self._exact = copy.deepcopy(self.model).float()  # the same weights, rounded
        autoencoder = Autoencoder(config.autoencoder).eval().requires_grad_(False).to(device, dtype)
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._errors: dict[tuple[str, bool], float | str] = {}

    def error(self, how: str, graph: bool) -> float | str:
        """Found once, or why it could not be."""
        if (how, graph) not in self._errors:
            try:
                found = error(self.model, self._exact, [STEPS[how]], self.device, graph)[0]
            except Exception as trouble:
                self._errors[how, graph] = reason_of(trouble)
            else:
                self._errors[how, graph] = found
        return self._errors[how, graph]


STEPS: dict[str, cuda_step.Step] = {"plain": cuda_step.reference_step, "kernels": cuda_step.step}


class Sessions:
    """A batch of sessions whose rings are full, and what is timed of them."""

    def __init__(self, ready: Ready, batch: int) -> None:
        self._ready = ready
        config, dtype, device = ready.config, ready.dtype, ready.device
        self._slots, _ = seated(ready.model, batch, device, random_features(config))
        self._slots.take(*inputs(config, batch, self._slots.now.faces))
        full(self._slots)
        self._scenes = scenes(ready.autoencoder, config, batch, device, dtype)
        self._latents = torch.randn_like(self._slots.noise)
        edge = frame_edge(config)
        self._host = torch.empty(batch, 4, edge, edge, dtype=torch.uint8, pin_memory=device != "cpu")

    def drawn(self, how: str) -> Tensor:
        return STEPS[how](self._ready.model, self._slots, self._slots.capacity)

    def decoded(self, latents: Tensor) -> Tensor:
        return eight_bit(self._scenes.draw(self._ready.autoencoder, latents, self._slots.due)[0])

    def row(self, row: Row) -> Row:
        """Checked, and timed."""
        device = self._ready.device
        if row.stage == "served":
            return timed(row, served(self._ready, row.batch), device, repeats(row.batch))
        if row.stage == "decoder":
            call: Call = functools.partial(self.decoded, self._latents)
            if row.captured:
                wanted, call = call(), captured(call)
                row = replace(row, error=levels_apart(call(), wanted))
            return timed(row, call, device, repeats(row.batch))
        found = self._ready.error(row.how, row.captured)
        row = replace(row, failed=found) if isinstance(found, str) else replace(row, error=found)
        if not row.right:
            return row
        call = functools.partial(self.drawn, row.how)
        if row.stage == "transformer":
            return timed(row, captured(call) if row.captured else call, device, repeats(row.batch))
        draw = call

        def whole() -> Tensor:
            return self.decoded(draw())

        call = captured(whole) if row.captured else whole
        return timed(row, lambda: self._host.copy_(call(), non_blocking=True), device, repeats(row.batch))


def served(ready: Ready, batch: int) -> Callable[[], object]:
    """A frame of each session as the server draws it, from what they heard; their rings are full."""
    config, rng = ready.config, np.random.default_rng(0)
    frame_renderer = CudaFrameRenderer(
        Networks(config, ready.autoencoder, ready.model), batch, ready.device, ready.dtype
    )
    frame_renderer.buckets = (batch,)  # the others' graphs would take seconds each
    frame_renderer.capture()
    edge = config.size // STRIDE
    face = np.zeros((edge, edge))
    face[edge // 4 : -(edge // 4) or None, edge // 4 : -(edge // 4) or None] = 1
    size = frame_edge(config)
    still = frame_renderer.prepare([blocks(size, rng)], face, (0.5, 0.5), size)
    sessions = [frame_renderer.stream(still, seed) for seed in range(batch)]
    for session in sessions:
        frame_renderer.hear(session, random_conditions(rng))

    def draw() -> object:
        frames = frame_renderer.draw(sessions)
        if bad := [frame for frame in frames if isinstance(frame, NotFinite)]:
            raise bad[0]
        return frames

    for _ in range(config.transformer.context + 2):
        draw()
    return draw


def measure(rows: Sequence[Row], dtype: torch.dtype, device: str) -> Iterator[Row]:
    """The rows in order, with their times or the reason why there are none."""
    ready: dict[str, Ready] = {}
    for (preset, batch), group in itertools.groupby(rows, lambda row: (row.preset, row.batch)):
        sessions: Sessions | None = None
        for row in group:
            torch.manual_seed(0)
            try:
                if preset not in ready:
                    ready[preset] = Ready(PRESETS[preset], dtype, device)
                sessions = sessions or Sessions(ready[preset], batch)
                found = sessions.row(row)
            except torch.OutOfMemoryError:
                found = replace(row, note="out of memory")
            except Exception as trouble:
                found = replace(row, failed=reason_of(trouble))
            torch.cuda.empty_cache()
            yield found


def timed(row: Row, call: Callable[[], object], device: str, repeats: int) -> Row:
    """The row with its times, if it is right."""
    if not row.right:
        return row
    taken = milliseconds(call, device, repeats)
    return replace(row, ms=statistics.median(taken), p95=sorted(taken)[round(0.95 * (len(taken) - 1))])


HEADINGS = (
    f"| preset | batch | stage | way | ms | p95 | ms a frame | sessions at {FPS} fps | speed-up |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row, rows: Sequence[Row]) -> str:
    """One row of the table, in Markdown."""
    head = f"| {row.preset} | {row.batch} | {row.stage} | {row.way} "
    if not row.right:
        why = f"failed: {row.failed}" if row.failed else f"check failed: {row.error:.2g}, at most 2 is right"
        return f"{head}| {why} | – | – | – | – |"
    if row.ms is None or row.p95 is None:
        return f"{head}| {row.note or '–'} | – | – | – | – |"
    ratio = speed_up(row, rows)
    return (
        f"{head}| {row.ms:.2f} | {row.p95:.2f} | {row.ms / row.batch:.3f} | {row.held} | "
        f"{'–' if ratio is None else f'{ratio:.2f}'} |"
    )


def over(device: str, end: float) -> str:
    """The reason to begin no new row, if any: after an illegal access, for example, a device refuses every call."""
    try:
        wait(device)
    except Exception as trouble:
        return reason_of(trouble)
    return "the seconds are over" if time.monotonic() > end else ""


def as_json(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """Errors that are no numbers are null there."""
    error = row.error if row.error is not None and math.isfinite(row.error) else None
    return asdict(row) | {"error": error, "right": row.right, "held": row.held, "speed_up": speed_up(row, rows)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, or cpu: the plain step, as a trial")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), help="default: nano live")
    parser.add_argument("--batches", nargs="+", type=int, help="default: 1 4 16 64 256")
    parser.add_argument("--dtype", choices=list(DTYPES), help=f"default: {SERVED}; on a CPU float32")
    parser.add_argument("--quick", action="store_true", help="the tiny preset, small batches, few repetitions")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no new row after this many seconds")
    parser.add_argument("--out", type=Path, help="writes the result there as JSON, after each row")
    options = parser.parse_args(arguments)
    device = options.device
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        parser.error(
            f"nothing can be measured on {device!r}: it needs a CUDA GPU, and there is none here. "
            "--device cpu --quick tries the plain step without one"
        )
    presets = options.presets or (["tiny"] if options.quick else ["nano", "live"])
    batches = options.batches or ([1, 2] if options.quick else list(BATCHES))
    if min(batches) < 1:
        parser.error(f"a batch has one session at least, got {min(batches)}")
    dtype = DTYPES[options.dtype or ("float32" if device == "cpu" else SERVED)]
    end = time.monotonic() + options.seconds
    torch.backends.cudnn.benchmark = True  # shapes are fixed
    if device != "cpu":
        torch.cuda.set_device(torch.device(device).index or 0)  # graphs are captured on the current device
    choices = {
        name: choose(device, dtype, PRESETS[name].tokens, size.head, size.width)
        for name, size in ((name, PRESETS[name].transformer) for name in presets)
    }
    if device == "cpu" and any(choice.kernels for choice in choices.values()):
        parser.error("TRITON_INTERPRET is set, and the interpreter's times say nothing")
    plan = planned(presets, batches, {name: choice.kernels for name, choice in choices.items()}, device != "cpu")
    rows: list[Row] = []
    result: dict[str, Any] = {
        "hardware": describe(device),
        "device": device,
        "dtype": str(dtype),
        "quick": options.quick,
        "choices": [f"{name}: {choice.line}" for name, choice in choices.items()],
        "stopped": None,
    }

    def keep() -> None:
        result["rows"] = [as_json(row, rows) for row in rows]
        result["not_reached"] = [str(row) for row in plan[len(rows) :]]
        write(options.out, result)

    print(f"{dtype} on {device}\n", *result["choices"], f"\n{HEADINGS}", sep="\n", flush=True)
    keep()
    with torch.inference_mode():
        measured = measure(plan, dtype, device)
        while len(rows) < len(plan) and not (why := over(device, end)):
            rows.append(next(measured))
            print(line(rows[-1], rows), flush=True)
            keep()
    if left := len(plan) - len(rows):
        result["stopped"] = why
        print(f"\n{why}: {left} rows were not reached, from: {plan[len(rows)]}")
        keep()
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
