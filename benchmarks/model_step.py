"""What a live step costs, and how many sessions hold 25 frames a second: `python benchmarks/model_step.py [--out OUT]`.

    python benchmarks/model_step.py --seconds 300        # on a CUDA GPU: verifies, then times kernels and SDPA
    python benchmarks/model_step.py --device cpu --quick # a trial of the plain step; needs no GPU, proves little

Method. A step remembers each session's last frame and draws its next one (`streamer/model/runtime/cuda_step.py`), for a
batch of sessions whose rings are full. Stages: the transformer alone; the decoder alone, half precision, channels last;
the whole, which ends with 8-bit pixels in pinned memory of the host; and what the server does with them (served), cues
in and planes of YUV out (`streamer/model/runtime/cuda.py`), as it chooses to. Ways: on the project's Triton kernels or
on PyTorch's operators (SDPA), each launched one by one (eager) or replayed as one CUDA graph. A time is the median over
repetitions, from before the first launch until the device is done, so that waiting for launches counts. Weights are
random: they do not change the time. Before a way is timed, its frames are compared with those of the plain step in
float32, and with what the plain step errs in the same precision, and the decoder's graph with the decoder; no speed-up
is reported where that failed. What fails leaves its reason in its row, and the next is measured. Rows come in the order
of their weight, each is printed and written as soon as it is there."""

import argparse
import copy
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import hardware
import numpy as np
import torch
from torch import Tensor

from streamer.base.constants import FPS
from streamer.model.attention import choose
from streamer.model.autoencoder import Anchor, Autoencoder, enlarged
from streamer.model.checkpoint import Networks
from streamer.model.config import HEARD, PLAN, PRESETS, STRIDE, ModelConfig
from streamer.model.runtime import cuda_step
from streamer.model.runtime.cuda import CudaFrameRenderer
from streamer.model.runtime.slots import Seat, Slots
from streamer.model.runtime.torch_cpu import NotFinite, blocks, random_conditions
from streamer.model.transformer import Conditions, Transformer
from streamer.motion.controls import EMOTIONS

BATCHES = (1, 4, 16, 64, 256)
BUSY = (4, 16)
"""Sessions of a busy server: measured first."""

REPEATS = 60
"""Up to 16 sessions; of more, as many as take the same time, and 10 at least."""

WARM_UP = 5
STAGES = ("served", "whole", "transformer", "decoder")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
SERVED = "float16"
"""What the server draws in, on CUDA."""

CHECKED = 3
"""Sessions in the comparison, and twice as many frames: past the seam of their rings."""

Call = Callable[[], Tensor]


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
    """Why there is no time, where nothing is wrong."""
    failed: str = ""
    """Why there is none, where something is."""

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


# --- what is measured -----------------------------------------------------------------------------------------------


def transformer(config: ModelConfig) -> Transformer:
    """Random weights everywhere, also where training starts from zero: else nothing would be told apart."""
    model = Transformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.03 * torch.randn_like(parameter))
    return model


def random_features(config: ModelConfig) -> Tensor:
    edge = config.size // STRIDE
    return torch.randn(1, config.autoencoder.channels[-1], edge, edge)


def seated(model: Transformer, batch: int, device: str, features: Tensor) -> tuple[Slots, list[Seat]]:
    """A session in each of `batch` slots, at its beginning; the face covers the middle of the picture."""
    config, dtype = model.config, model.enter.weight.dtype
    slots = Slots(config, batch, device, dtype)
    edge = config.edge
    face = torch.zeros(edge, edge)
    face[edge // 4 : -(edge // 4) or None, edge // 4 : -(edge // 4) or None] = 1
    reference = model.reference(features.to(device, dtype))
    return slots, [slots.seat(reference, face.view(1, 1, -1)) for _ in range(batch)]


def inputs(config: ModelConfig, batch: int, faces: Tensor) -> tuple[Tensor, Conditions, Tensor]:
    """What `Slots.take` wants, for a step in which every session is due."""
    edge, given = config.size // STRIDE, torch.ones(batch)
    conditions = Conditions(
        torch.randn(batch, 2, PLAN),
        given,
        torch.randn(batch, 1, config.transformer.window, HEARD),
        given,
        faces[:batch],
        torch.rand(batch, 1, len(EMOTIONS)),
        given,
    )
    return torch.randn(batch, config.autoencoder.latent, edge, edge), conditions, torch.ones(batch, dtype=torch.bool)


def full(slots: Slots) -> None:
    """As after a minute: rings full of numbers of the size that they hold, at different places."""
    for ring in (slots.ring_keys, slots.ring_values):
        ring.normal_()
    slots.latent.normal_()
    slots.has_previous.fill_(True)
    slots.written.copy_(torch.randint(slots.context, 1500, (slots.capacity,)))


def anchors(autoencoder: Autoencoder, config: ModelConfig, batch: int, device: str, dtype: torch.dtype) -> Anchor:
    """A random picture for each session."""
    picture = torch.rand(1, 4, config.size, config.size, device=device) * 2 - 1
    features = autoencoder.pyramid(picture.to(dtype).contiguous(memory_format=torch.channels_last))
    return Anchor(
        enlarged(picture).repeat(batch, 1, 1, 1),
        tuple(f.repeat(batch, 1, 1, 1).contiguous(memory_format=torch.channels_last) for f in features),
    )


def eight_bit(painted: Tensor) -> Tensor:
    """[B, 4, S, S] in -1..1 -> [B, S, S, 4] uint8."""
    return painted.add(1).mul_(127.5).clamp_(0, 255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def captured(call: Call) -> Call:
    """The same as one CUDA graph; its result is the same tensor at each replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what is compiled or chosen on first use is not captured
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def milliseconds(call: Callable[[], object], device: str, repeats: int) -> list[float]:
    """Of each call, from before it until the device is done."""
    taken = []
    for _ in range(WARM_UP + repeats):
        wait(device)
        began = time.perf_counter()
        call()
        wait(device)
        taken.append(1000 * (time.perf_counter() - began))
    return taken[WARM_UP:]


# --- right, and how fast --------------------------------------------------------------------------------------------


def tensors(slots: Slots) -> list[Tensor]:
    """State and inputs, in one order."""
    found = [slots.ring_keys, slots.ring_values, slots.sink_keys, slots.sink_values, slots.written, slots.added]
    found += [slots.latent, *slots.given, slots.has_previous, slots.noise, *slots.now, slots.due]
    return found


def same_state(slots: Slots, source: Slots) -> None:
    for to, part in zip(tensors(slots), tensors(source), strict=True):
        to.copy_(part)


def error(
    model: Transformer, exact: Transformer, ways: Sequence[cuda_step.Step], device: str, graph: bool
) -> list[float]:
    """
    For each way, its largest difference from the plain step of `exact` in float32, as a multiple of the plain step's in
    the model's precision: over frames that each begin from one state. Infinite where a number is none.
    """
    features = random_features(model.config)
    truth, _ = seated(exact, CHECKED, device, features)
    state, _ = seated(model, CHECKED, device, features)
    trials = [seated(model, CHECKED, device, features)[0] for _ in ways]
    calls: list[Call] = [lambda w=w, s=s: w(model, s, CHECKED) for w, s in zip(ways, trials, strict=True)]  # type: ignore[misc]
    calls = [captured(call) for call in calls] if graph else calls
    worst = [0.0] * len(ways)
    plain = 1e-5  # of float32, in which the plain step errs nothing
    for _ in range(2 * CHECKED):
        state.take(*inputs(model.config, CHECKED, state.now.faces))
        for slots in (truth, *trials):
            same_state(slots, state)
        wanted = cuda_step.reference_step(exact, truth, CHECKED)
        for i, call in enumerate(calls):
            difference = (call().float() - wanted).abs().nan_to_num(nan=torch.inf)
            worst[i] = max(worst[i], float(difference.max()))
        plain = max(plain, float((cuda_step.reference_step(model, state, CHECKED).float() - wanted).abs().max()))
    return [found / plain for found in worst]


def repeats(batch: int) -> int:
    return max(REPEATS * 16 // max(batch, 16), 10)


def said(trouble: Exception) -> str:
    """What went wrong, in a line that a table can hold."""
    text = (str(trouble).strip().splitlines() or ["without a word"])[0]
    return f"{type(trouble).__name__}: {text[:160]}".replace("|", "/")


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
                self._errors[how, graph] = said(trouble)
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
        self._anchor = anchors(ready.autoencoder, config, batch, device, dtype)
        self._latents = torch.randn_like(self._slots.noise)
        size = config.size
        self._host = torch.empty(batch, size, size, 4, dtype=torch.uint8, pin_memory=device != "cpu")

    def drawn(self, how: str) -> Tensor:
        return STEPS[how](self._ready.model, self._slots, self._slots.capacity)

    def decoded(self, latents: Tensor) -> Tensor:
        return eight_bit(self._ready.autoencoder.decode(latents, self._anchor))

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


def levels_apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of two pictures, uint8."""
    return float((found.int() - wanted.int()).abs().max())


def served(ready: Ready, batch: int) -> Callable[[], object]:
    """A frame of each session as the server draws it, from what they heard; their rings are full."""
    config, rng = ready.config, np.random.default_rng(0)
    frame_renderer = CudaFrameRenderer(
        Networks(config, ready.autoencoder, ready.model), batch, ready.device, ready.dtype
    )
    frame_renderer.buckets = (batch,)  # the others' graphs would take seconds each
    frame_renderer.prepare()
    edge = config.size // STRIDE
    face = np.zeros((edge, edge))
    face[edge // 4 : -(edge // 4) or None, edge // 4 : -(edge // 4) or None] = 1
    still = frame_renderer.still(blocks(config.size, rng), face)
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
    """The rows in their order, with their times, or with the reason why there are none."""
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
                found = replace(row, failed=said(trouble))
            torch.cuda.empty_cache()
            yield found


def timed(row: Row, call: Callable[[], object], device: str, repeats: int) -> Row:
    """The row with its times, if it is right."""
    if not row.right:
        return row
    taken = milliseconds(call, device, repeats)
    return replace(row, ms=statistics.median(taken), p95=sorted(taken)[round(0.95 * (len(taken) - 1))])


# --- report ---------------------------------------------------------------------------------------------------------

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


def describe(device: str) -> dict[str, Any]:
    """The machine, the versions, and the GPU where one was measured."""
    found = hardware.describe() | {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if device == "cpu":
        return found
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm", "--format=csv"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as trouble:
        driver = [f"nvidia-smi: {trouble}"]
    card = torch.cuda.get_device_properties(device)
    return found | {
        "gpu": card.name,
        "multiprocessors": card.multi_processor_count,
        "capability": f"{card.major}.{card.minor}",
        "nvidia_smi": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "triton": importlib.metadata.version("triton") if importlib.util.find_spec("triton") else None,
    }


def over(device: str, end: float) -> str:
    """Why no new row is begun, if so: after an illegal access, for one, a device refuses whatever is asked."""
    try:
        wait(device)
    except Exception as trouble:
        return said(trouble)
    return "the seconds are over" if time.monotonic() > end else ""


def as_json(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """Errors that are no numbers are null there."""
    error = row.error if row.error is not None and math.isfinite(row.error) else None
    return asdict(row) | {"error": error, "right": row.right, "held": row.held, "speed_up": speed_up(row, rows)}


def write(path: Path | None, result: dict[str, Any]) -> None:
    """The whole file, in place of the last one at once: whenever this ends, one of them is there."""
    if path:
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, or cpu: the plain step, as a trial")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), help="default: nano live")
    parser.add_argument("--batches", nargs="+", type=int, help="default: 1 4 16 64 256")
    parser.add_argument("--dtype", choices=list(DTYPES), help=f"default: {SERVED}; on a CPU float32")
    parser.add_argument("--quick", action="store_true", help="the tiny preset, small batches, few repetitions")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begins no new row after so many seconds")
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
