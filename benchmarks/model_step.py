"""What a live step costs, and how many sessions hold 25 frames a second: `python benchmarks/model_step.py [--out OUT]`.

    python benchmarks/model_step.py                      # on a CUDA GPU: verifies, then times kernels and SDPA
    python benchmarks/model_step.py --device cpu --quick # a trial of the plain step; needs no GPU, proves little

Method. A step remembers each session's last frame and draws its next one (`streamer/model/fused.py`), for a batch of
sessions whose rings are full. Stages: the transformer alone; the decoder alone, half precision, channels last; the
whole, which ends with 8-bit pixels in pinned memory of the host. Ways: on the project's Triton kernels or on PyTorch's
operators (SDPA), each launched one by one (eager) or replayed as one CUDA graph. A time is the median over repetitions,
from before the first launch until the device is done, so that waiting for launches counts. Weights are random: they do
not change the time. Before a way is timed, its frames are compared with those of the plain step in float32, and with
what the plain step errs in the same precision; no speed-up is reported where that failed.
"""

import argparse
import copy
import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hardware
import torch
from torch import Tensor

from streamer.config import FPS
from streamer.model import fused
from streamer.model.attention import choose
from streamer.model.autoencoder import Anchor, Autoencoder
from streamer.model.config import HEARD, PLAN, PRESETS, STRIDE, ModelConfig
from streamer.model.slots import Seat, Slots
from streamer.model.transformer import Conditions, Transformer
from streamer.studio.controls import EMOTIONS

BATCHES = (1, 4, 16, 64, 256)
REPEATS = 60
WARM_UP = 5
STAGES = ("transformer", "decoder", "whole")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
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
    """Largest difference from float32, as a multiple of the plain step's in the same precision: at most 2 is right."""
    ms: float | None = None
    """Median, of the step for the whole batch."""
    p95: float | None = None
    note: str = ""

    @property
    def right(self) -> bool:
        return self.error is None or self.error <= 2

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
    anchor = autoencoder.anchor(picture.to(dtype).contiguous(memory_format=torch.channels_last))
    return Anchor(
        picture.repeat(batch, 1, 1, 1),
        tuple(f.repeat(batch, 1, 1, 1).contiguous(memory_format=torch.channels_last) for f in anchor.features),
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


def milliseconds(call: Call, device: str, repeats: int) -> list[float]:
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


def error(model: Transformer, exact: Transformer, ways: Sequence[fused.Step], device: str, graph: bool) -> list[float]:
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
        wanted = fused.reference_step(exact, truth, CHECKED)
        for i, call in enumerate(calls):
            difference = (call().float() - wanted).abs().nan_to_num(nan=torch.inf)
            worst[i] = max(worst[i], float(difference.max()))
        plain = max(plain, float((fused.reference_step(model, state, CHECKED).float() - wanted).abs().max()))
    return [found / plain for found in worst]


def measure(
    config: ModelConfig, batches: Sequence[int], dtype: torch.dtype, device: str, repeats: int, kernels: bool
) -> Iterator[Row]:
    """All stages, all ways, each batch: kernels where they are offered, graphs on a GPU."""
    exact = transformer(config).to(device)
    model = copy.deepcopy(exact).to(dtype)
    exact = copy.deepcopy(model).float()  # the same weights, rounded
    autoencoder = Autoencoder(config.autoencoder).eval().requires_grad_(False).to(device, dtype)
    autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps: dict[str, fused.Step] = {"plain": fused.reference_step}
    if kernels:
        steps = {"kernels": fused.step, **steps}
    modes = (False, True) if device != "cpu" else (False,)
    errors: dict[tuple[str, bool], float] = {}
    for graph in modes:
        found = error(model, exact, list(steps.values()), device, graph)
        errors |= {(how, graph): value for how, value in zip(steps, found, strict=True)}
    del exact
    features = random_features(config)
    for batch in batches:
        slots, _ = seated(model, batch, device, features)
        slots.take(*inputs(config, batch, slots.now.faces))
        full(slots)
        anchor = anchors(autoencoder, config, batch, device, dtype)
        latents = torch.randn_like(slots.noise)
        size = config.size
        host = torch.empty(batch, size, size, 4, dtype=torch.uint8, pin_memory=device != "cpu")

        def decoder(latents: Tensor = latents, anchor: Anchor = anchor) -> Tensor:
            return eight_bit(autoencoder.decode(latents, anchor))

        for how, step in (*steps.items(), ("-", None)):

            def drawn(step: fused.Step | None = step, slots: Slots = slots) -> Tensor:
                assert step is not None
                return step(model, slots, slots.capacity)

            def whole(drawn: Call = drawn, decoder: Callable[..., Tensor] = decoder) -> Tensor:
                return decoder(drawn())

            calls: dict[str, Call] = {"decoder": decoder} if step is None else {"transformer": drawn, "whole": whole}
            for stage, call in calls.items():
                for graph in modes:
                    row = Row(config.name, batch, stage, how, graph, errors.get((how, graph)))
                    yield timed(row, call, device, repeats, host if stage == "whole" else None)
        if device != "cpu":
            torch.cuda.empty_cache()


def timed(row: Row, call: Call, device: str, repeats: int, host: Tensor | None = None) -> Row:
    """The row with its times, or with the reason why there are none. What is made goes to `host`, if that is given."""
    if not row.right:
        return row
    try:
        body = captured(call) if row.captured else call
        out = body if host is None else lambda: host.copy_(body(), non_blocking=True)
        taken = milliseconds(out, device, repeats)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return Row(**asdict(row) | {"note": "out of memory"})
    p95 = sorted(taken)[round(0.95 * (len(taken) - 1))]
    return Row(**asdict(row) | {"ms": statistics.median(taken), "p95": p95})


# --- report ---------------------------------------------------------------------------------------------------------

HEADINGS = (
    f"| preset | batch | stage | way | ms | p95 | ms a frame | sessions at {FPS} fps | speed-up |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row, rows: Sequence[Row]) -> str:
    """One row of the table, in Markdown."""
    way = f"{row.how}, {'graph' if row.captured else 'eager'}".removeprefix("-, ")
    head = f"| {row.preset} | {row.batch} | {row.stage} | {way} "
    if not row.right:
        return f"{head}| check failed: {row.error:.2g} times the plain error | – | – | – | – |"
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, or cpu: the plain step, as a trial")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), help="default: nano live")
    parser.add_argument("--batches", nargs="+", type=int, help="default: 1 4 16 64 256")
    parser.add_argument("--dtype", choices=list(DTYPES), help="default: bfloat16; on a CPU float32")
    parser.add_argument("--quick", action="store_true", help="the tiny preset, small batches, few repetitions")
    parser.add_argument("--out", type=Path, help="writes the result there as JSON")
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
    dtype = DTYPES[options.dtype or ("float32" if device == "cpu" else "bfloat16")]
    repeats = 3 if options.quick else REPEATS
    torch.backends.cudnn.benchmark = True  # shapes are fixed
    if device != "cpu":
        torch.cuda.set_device(device)  # graphs are captured on the current device
    rows: list[Row] = []
    choices: list[str] = []
    print(f"{dtype} on {device}\n")
    for name in presets:
        config = PRESETS[name]
        size = config.transformer
        choice = choose(device, dtype, config.tokens, size.head, size.width)
        if choice.kernels and device == "cpu":
            parser.error("TRITON_INTERPRET is set, and the interpreter's times say nothing")
        choices.append(f"{name}: {choice.line}")
        print(f"{choices[-1]}\n\n{HEADINGS}")
        torch.manual_seed(0)
        with torch.inference_mode():
            found = list(measure(config, batches, dtype, device, repeats, choice.kernels))
        rows += found
        print("\n".join(line(row, rows) for row in found) + "\n", flush=True)
    if options.out:
        result = {
            "hardware": describe(device),
            "device": device,
            "dtype": str(dtype),
            "quick": options.quick,
            "choices": choices,
            "rows": [asdict(row) | {"held": row.held, "speed_up": speed_up(row, rows)} for row in rows],
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
