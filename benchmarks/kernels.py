"""What the Triton kernels save on a GPU: `python benchmarks/kernels.py [--out OUT.json]`. Each is verified, then timed.

    python benchmarks/kernels.py                                   # verifies and times; wants a CUDA GPU
    python benchmarks/kernels.py --tune                            # also tries all tile sizes of rolling_attention
    TRITON_INTERPRET=1 python benchmarks/kernels.py --verify       # the verification alone, at small sizes on the CPU
    python benchmarks/kernels.py --compile                         # the table of machine code; no GPU is needed

Method. A call is captured in a CUDA graph over enough sets of random inputs that the L2 cache holds none of the next;
the graph is replayed, and a time is the median over replays between CUDA events, divided by the sets. Rivals start
from the same unrotated ring, and their rotation and concatenation are timed, fused by torch.compile: SDPA on keys and
values laid side by side, where all rings are full; SDPA with a mask, and compiled FlexAttention, where rings are full
or not. A speed-up is against the fastest rival that is right, and is reported only where ours is. Ceilings are measured
on the same card: a copy of 2 GiB, a bfloat16 product of 8192 x 8192.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import hardware
import torch
from avatar_kernels import ahead, interpreted, why_not
from avatar_kernels.adaln import adaln
from avatar_kernels.adaln.reference import adaln_reference
from avatar_kernels.face_audio_attention import face_audio_attention
from avatar_kernels.face_audio_attention.reference import face_audio_attention_reference
from avatar_kernels.qk_norm_rope_cache import qk_norm_rope_cache
from avatar_kernels.qk_norm_rope_cache.reference import qk_norm_rope_cache_reference
from avatar_kernels.ring import order, rotate
from avatar_kernels.rolling_attention import rolling_attention
from avatar_kernels.rolling_attention.reference import rolling_attention_reference
from avatar_kernels.shapes import LIVE, NANO, SHAPES, Shape
from avatar_kernels.tolerances import TOLERANCES, excess
from torch import Tensor
from torch.nn import functional

BATCHES = (1, 4, 16, 64)
LARGE_BATCHES = (1, 4)
"""Of the 14B network: its rivals' copies at more would measure memory, not attention."""

FACE_AREA = 0.2
REPLAYS = 60
BEYOND_CACHE = 256 * 2**20
"""Bytes that the sets of inputs of one measurement have together; an H200's L2 cache holds 50 MiB."""

MOST_SETS = 64
SMALL = Shape("small", heads=2, head=40, tokens=21, context=3, frames=2)
"""What the interpreter verifies: nothing in it is a power of two."""


@dataclass
class Timing:
    """One measurement: times in microseconds a call."""

    op: str
    shape: str
    batch: int
    rings: str
    """Which context the sessions hold: "full", "mixed", or "-" where the operation has none."""
    bytes: int
    """Read and written at the least, each number once."""
    flops: int
    error: float
    """Of ours, as a share of the tolerance: at most 1 is right."""
    ours: float | None = None
    rivals: dict[str, float] = field(default_factory=dict)
    wrong: dict[str, float] = field(default_factory=dict)
    """Rivals whose error exceeded the tolerance, and by how much: not compared with."""

    @property
    def speed_up(self) -> float | None:
        """Against the fastest rival. None where ours is wrong or nothing right is there to compare with."""
        if not self.error <= 1 or self.ours is None or not self.rivals:
            return None
        return min(self.rivals.values()) / self.ours


# --- inputs ---------------------------------------------------------------------------------------------------------


def pairs(rows: int, tokens: int, head: int, device: str) -> Tensor:
    """A table [rows, N, D / 2, 2] of rotary angles."""
    angles = 6.3 * torch.rand(rows, tokens, head // 2, device=device)
    return torch.stack([angles.cos(), angles.sin()], -1)


def attention_inputs(shape: Shape, batch: int, rings: str, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `rolling_attention`; the sink is turned once, the queries come unturned."""

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=dtype)

    q, k, v = normal(batch, shape.queries, 3 * shape.width).unflatten(-1, (3, shape.heads, shape.head)).unbind(2)
    sink = (batch, shape.tokens, shape.heads, shape.head)
    ring = (batch, shape.context, *sink[1:])
    low = shape.context if rings == "full" else 0
    written = torch.randint(low, 3 * shape.context + 1, (batch,), device=device)
    if rings == "mixed":
        written[0] = 0
    return {
        "q": q,
        "k": k,
        "v": v,
        "sink": (normal(*sink), normal(*sink)),
        "ring": (normal(*ring), normal(*ring)),
        "written": written,
        "table": pairs(1 + shape.context + shape.frames, shape.tokens, shape.head, device),
        "sink_turned": True,
    }


def norm_inputs(shape: Shape, batch: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `qk_norm_rope_cache`."""
    given = attention_inputs(shape, batch, "full", dtype, device)
    del given["sink"], given["sink_turned"]
    weights = {f"{name}_weight": 0.5 + torch.rand(shape.head, device=device).to(dtype) for name in "qk"}
    return given | weights


def face_inputs(shape: Shape, batch: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `face_audio_attention`: one face, a square in the middle that covers FACE_AREA of the frame."""
    edge = next(edge for edge in range(int(shape.tokens**0.5), 0, -1) if shape.tokens % edge == 0)
    height, width = edge, shape.tokens // edge
    tall, wide = round(height * FACE_AREA**0.5), round(width * FACE_AREA**0.5)
    face = torch.zeros(height, width, device=device)
    top, left = (height - tall) // 2, (width - wide) // 2
    face[top : top + max(tall, 1), left : left + max(wide, 1)] = 1
    q = torch.randn(batch, shape.tokens, shape.heads, shape.head, device=device, dtype=dtype)
    memory = torch.randn(batch, 1, shape.window, 2, shape.heads, shape.head, device=device, dtype=dtype)
    return {
        "q": q,
        "k": memory[:, :, :, 0],
        "v": memory[:, :, :, 1],
        "faces": face.flatten().expand(batch, 1, -1).to(dtype),
        "strength": torch.tensor(0.7, device=device, dtype=dtype),
        "residual": torch.randn_like(q),
    }


def adaln_inputs(shape: Shape, batch: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `adaln`, all parts of it."""
    x = torch.randn(batch, shape.queries, shape.width, device=device, dtype=dtype)
    change = torch.randn(batch, 1, 6 * shape.width, device=device, dtype=dtype).chunk(6, -1)
    return {"x": x, "shift": change[0], "scale": change[1], "branch": torch.randn_like(x), "gate": change[2]}


# --- rivals ---------------------------------------------------------------------------------------------------------


def side_by_side(given: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """
    Turned queries, and keys and values of sink, current tokens and ring [B, H, K, D]. The ring is laid down as it
    lies, and each slot's row of the table is looked up: cheaper than to bring the frames into order.
    """
    q, k, v, sink, ring, written, table = (given[n] for n in ("q", "k", "v", "sink", "ring", "written", "table"))
    slots, tokens = ring[0].shape[1:3]
    frames = q.shape[1] // tokens
    filled, _ = order(written, slots, slots)
    current = 1 + filled[:, None] + torch.arange(frames, device=q.device)
    index = 1 + (torch.arange(slots, device=q.device) - (written - filled)[:, None]) % slots

    def turned(x: Tensor, rows: Tensor) -> Tensor:
        return rotate(x.float(), table[rows].flatten(1, 2)).to(x.dtype)

    keys = torch.cat([sink[0], turned(k, current), turned(ring[0].flatten(1, 2), index)], 1)
    values = torch.cat([sink[1], v, ring[1].flatten(1, 2)], 1)
    return turned(q, current).transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)


def sdpa(given: dict[str, Any], lay: Callable[..., Any]) -> Tensor:
    """On what lies side by side: right where all rings are full."""
    return functional.scaled_dot_product_attention(*lay(given)).transpose(1, 2)


def sdpa_masked(given: dict[str, Any], lay: Callable[..., Any]) -> Tensor:
    """With a mask of what each session holds."""
    q, keys, values = lay(given)
    slots, tokens = given["ring"][0].shape[1:3]
    before = keys.shape[2] - slots * tokens
    held = given["written"].clamp(max=slots) * tokens + before
    mask = (torch.arange(keys.shape[2], device=q.device) < held[:, None])[:, None, None]
    return functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask).transpose(1, 2)


def flex(given: dict[str, Any], lay: Callable[..., Any], attend: Callable[..., Any], blocks: Any) -> Tensor:
    """FlexAttention, with the blocks' mask made beforehand: what a session holds changes only while it begins."""
    return attend(*lay(given), block_mask=blocks).transpose(1, 2)


def block_mask(given: dict[str, Any]) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    slots, tokens = given["ring"][0].shape[1:3]
    queries = given["q"].shape[1]
    before = given["sink"][0].shape[1] + queries
    held = given["written"].clamp(max=slots) * tokens + before

    def seen(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return key < held[b]

    rows, device = len(held), given["q"].device.type
    return create_block_mask(seen, rows, None, queries, before + slots * tokens, device=device)


def face_unfused(q: Tensor, k: Tensor, v: Tensor, faces: Tensor, strength: Tensor, residual: Tensor) -> Tensor:
    """SDPA for each face, then mask, strength and residual."""
    rows, count = k.shape[:2]
    expanded = q[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1).transpose(1, 2)
    heard = functional.scaled_dot_product_attention(
        expanded, k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1).transpose(1, 2)
    )
    heard = heard.transpose(1, 2).unflatten(0, (rows, count))
    return residual + (heard * faces[..., None, None]).sum(1) * strength


def norm_unfused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ring: tuple[Tensor, Tensor],
    written: Tensor,
    table: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """RMSNorm twice, a rotation, two writes."""
    slots, tokens = ring[0].shape[1:3]
    steps = torch.arange(q.shape[1] // tokens, device=q.device)
    q = functional.rms_norm(q, q_weight.shape, q_weight, 1e-6)
    k = functional.rms_norm(k, k_weight.shape, k_weight, 1e-6)
    turns = table[1 + written.clamp(max=slots)[:, None] + steps].flatten(1, 2)
    slot = (written[:, None] + steps) % slots
    row = torch.arange(len(written), device=q.device)[:, None]
    for part, new in zip(ring, (k, v), strict=True):
        part[row, slot] = new.unflatten(1, (len(steps), tokens))
    return rotate(q.float(), turns).to(q.dtype), k


def adaln_unfused(x: Tensor, shift: Tensor, scale: Tensor, branch: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """A multiplication with addition, a norm, another."""
    x = torch.addcmul(x, gate, branch)
    return x, torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=1e-6), scale)


# --- verification ---------------------------------------------------------------------------------------------------


def attention_truth(given: dict[str, Any], rows: list[int], heads: int) -> Tensor:
    """The float64 reference of some rows and the first heads: all of it would not fit beside a large network."""

    def some(part: Tensor) -> Tensor:
        return part[rows][..., :heads, :]

    return rolling_attention_reference(
        some(given["q"]),
        some(given["k"]),
        some(given["v"]),
        (some(given["sink"][0]), some(given["sink"][1])),
        (some(given["ring"][0]), some(given["ring"][1])),
        given["written"][rows],
        given["table"],
        sink_turned=given["sink_turned"],
        precision=torch.float64,
    )


class Truth:
    """Judges outputs of `rolling_attention` and of its rivals on one set of inputs."""

    def __init__(self, given: dict[str, Any]) -> None:
        count = len(given["q"])
        # The longest and the shortest memory are among them, and the last row.
        written = given["written"]
        self._rows = sorted({0, int(written.argmin()), int(written.argmax()), count - 1})
        self._heads = min(given["q"].shape[2], 4)
        self._truth = attention_truth(given, self._rows, self._heads)

    def error(self, out: Tensor) -> float:
        return excess(out[self._rows][..., : self._heads, :], self._truth)


def verify(shapes: list[Shape], batches: list[int], device: str) -> Iterator[tuple[str, float]]:
    """Names of checks and their errors, as shares of the tolerance; each dtype, each operation."""
    for shape in shapes:
        for batch in batches:
            for dtype in TOLERANCES:
                case = f"{shape.name} x{batch} {dtype}"
                for rings in ("full", "mixed"):
                    given = attention_inputs(shape, batch, rings, dtype, device)
                    truth = Truth(given)
                    for splits in (None, 3):
                        out = rolling_attention(**given, splits=splits)
                        yield f"rolling_attention {case} {rings}, {splits or 'chosen'} parts", truth.error(out)
                    if dtype.itemsize == 2:
                        out = rolling_attention(**(given | {"table": given["table"].half()}))
                        yield f"rolling_attention {case} {rings}, table in float16", truth.error(out)
                given = norm_inputs(shape, batch, dtype, device)
                ring = tuple(part.double() for part in given["ring"])
                normed = qk_norm_rope_cache(**given)
                wanted = qk_norm_rope_cache_reference(**(given | {"ring": ring}), precision=torch.float64)
                errors = [*map(excess, normed, wanted), *map(excess, given["ring"], ring)]
                yield f"qk_norm_rope_cache {case}", max(errors)
                given = face_inputs(shape, batch, dtype, device)
                heard = face_audio_attention_reference(**given, precision=torch.float64)
                yield f"face_audio_attention {case}", excess(face_audio_attention(**given), heard)
                given = adaln_inputs(shape, batch, dtype, device)
                pair = zip(adaln(**given), adaln_reference(**given, precision=torch.float64), strict=True)
                yield f"adaln {case}", max(excess(ours, truth) for ours, truth in pair)  # type: ignore[arg-type]
    shape = replace(shapes[0], frames=1)
    if device == "cpu" or torch.cuda.get_device_capability() >= (9, 0):
        given = attention_inputs(shape, 3, "mixed", torch.bfloat16, device)
        given["ring"] = tuple(part.to(torch.float8_e4m3fn) for part in given["ring"])
        given["scales"] = tuple(0.5 + torch.rand(shape.heads, device=device) for _ in range(2))
        out = rolling_attention(**given)
        yield (
            f"rolling_attention {shape.name} x3, context in e4m3",
            excess(out, rolling_attention_reference(**given, precision=torch.float64)),
        )


# --- timing ---------------------------------------------------------------------------------------------------------


def microseconds(calls: Sequence[Callable[[], object]]) -> float:
    """Median time of a call, all of them captured in one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for call in (*calls, *calls):  # twice: what is compiled on first use is not captured
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    times = []
    for _ in range(REPLAYS + 5):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / len(calls))
    del graph
    return statistics.median(times[5:])


def sets_of(size: int) -> int:
    """How many sets of inputs of `size` bytes exceed the cache together."""
    return max(2, min(MOST_SETS, -(-BEYOND_CACHE // size)))


def time_rolling(shape: Shape, batch: int, rings: str, dtype: torch.dtype, tune: bool) -> Iterator[Timing]:
    from torch.nn.attention.flex_attention import flex_attention

    size, heads = dtype.itemsize, shape.heads
    seen = 2 * shape.keys * shape.width * size
    count = sets_of(batch * seen)
    sets = [attention_inputs(shape, batch, rings, dtype, "cuda") for _ in range(count)]
    for other in sets[1:]:
        other["written"] = sets[0]["written"]  # one fill, so that FlexAttention needs one mask
    held = float(sets[0]["written"].clamp(max=shape.context).double().mean())  # frames
    keys = (1 + held + shape.frames) * shape.tokens
    table = sets[0]["table"].nbytes // 2
    truth = Truth(sets[0])
    # Angles in half the bytes are ours to choose: the truth, and the rivals, have them in float32.
    own = [given | {"table": given["table"].half()} for given in sets]
    timing = Timing(
        "rolling_attention",
        shape.name,
        batch,
        rings,
        round(2 * batch * (keys + shape.queries) * shape.width * size) + table,
        round(4 * batch * heads * shape.queries * keys * shape.head),
        truth.error(rolling_attention(**own[0])),
    )
    if timing.error <= 1:
        timing.ours = microseconds([lambda g=g: rolling_attention(**g) for g in own])  # type: ignore[misc]
    lay = torch.compile(side_by_side, dynamic=False)
    attend = torch.compile(flex_attention, dynamic=False)
    mask = block_mask(sets[0])
    rivals: dict[str, list[Callable[[], Tensor]]] = {
        "SDPA, masked": [lambda g=g: sdpa_masked(g, lay) for g in sets],  # type: ignore[misc]
        "FlexAttention": [lambda g=g: flex(g, lay, attend, mask) for g in sets],  # type: ignore[misc]
    }
    if rings == "full":
        rivals["SDPA"] = [lambda g=g: sdpa(g, lay) for g in sets]  # type: ignore[misc]
    for name, calls in rivals.items():
        if (error := truth.error(calls[0]())) <= 1:
            timing.rivals[name] = microseconds(calls)
        else:
            timing.wrong[name] = error
    yield timing
    if tune:
        yield from tuned(timing, own, truth)


def tuned(base: Timing, sets: list[dict[str, Any]], truth: Truth) -> Iterator[Timing]:
    """The same with each candidate's tiles in place of the chosen ones; those that do not fit are left out."""
    from avatar_kernels.launch import gpu
    from avatar_kernels.rolling_attention.configs import Config, candidates
    from avatar_kernels.rolling_attention.kernel import plan
    from triton.runtime.errors import OutOfResources

    def run(given: dict[str, Any], config: Config) -> Tensor:
        launches, out = plan(
            given["q"],
            given["k"],
            given["v"],
            given["sink"],
            given["ring"],
            given["written"],
            given["table"],
            scales=None,
            context=given["ring"][0].shape[1],
            q_turned=False,
            sink_turned=True,
            splits=None,
            config=config,
        )
        for launch in launches:
            launch.run()
        return out

    q = sets[0]["q"]
    for config in candidates(q.shape[-1], q.dtype, gpu(q.device)):
        try:
            error = truth.error(run(sets[0], config))
        except OutOfResources:
            continue
        name = f"rolling_attention {config.queries}x{config.keys}, {config.warps} warps, {config.stages} stages"
        timing = replace(base, op=name, error=error, ours=None)
        if error <= 1:
            timing.ours = microseconds([lambda g=g, c=config: run(g, c) for g in sets])  # type: ignore[misc]
        yield timing


def time_fused(
    op: str,
    ours: Callable[..., Any],
    unfused: Callable[..., Any],
    reference: Callable[..., Any],
    sets: list[dict[str, Any]],
    shape: Shape,
    moved: int,
    flops: int,
) -> Timing:
    """An operation against its parts one after the other, eagerly and compiled; all captured in graphs."""

    def outputs(result: Any) -> list[Tensor]:
        return [result] if isinstance(result, Tensor) else list(result)

    truth = outputs(reference(**sets[0], precision=torch.float64))
    timing = Timing(op, shape.name, len(next(iter(sets[0].values()))), "-", moved, flops, 0.0)
    timing.error = max(map(excess, outputs(ours(**sets[0])), truth))
    if timing.error <= 1:
        timing.ours = microseconds([lambda g=g: ours(**g) for g in sets])  # type: ignore[misc]
    for name, rival in (("unfused", unfused), ("unfused, compiled", torch.compile(unfused, dynamic=False))):
        error = max(map(excess, outputs(rival(**sets[0])), truth))
        if error <= 1:
            timing.rivals[name] = microseconds([lambda g=g, r=rival: r(**g) for g in sets])  # type: ignore[misc]
        else:
            timing.wrong[name] = error
    return timing


def time_others(shape: Shape, batch: int, dtype: torch.dtype) -> Iterator[Timing]:
    size = dtype.itemsize
    frame, step = batch * shape.tokens * shape.width * size, batch * shape.queries * shape.width * size
    memory = 2 * batch * shape.window * shape.width * size
    jobs = (
        (
            "face_audio_attention",
            face_audio_attention,
            face_unfused,
            face_audio_attention_reference,
            face_inputs,
            round((2 + FACE_AREA) * frame) + memory,
            round(4 * FACE_AREA * batch * shape.heads * shape.tokens * shape.window * shape.head),
        ),
        (
            "qk_norm_rope_cache",
            qk_norm_rope_cache,
            norm_unfused,
            qk_norm_rope_cache_reference,
            norm_inputs,
            7 * step,
            0,
        ),
        ("adaln", adaln, adaln_unfused, adaln_reference, adaln_inputs, 4 * step, 0),
    )
    for op, ours, unfused, reference, inputs, moved, flops in jobs:
        if op == "qk_norm_rope_cache" and shape.frames > shape.context:
            continue
        sets = [inputs(shape, batch, dtype, "cuda") for _ in range(sets_of(moved))]
        yield time_fused(op, ours, unfused, reference, sets, shape, moved, flops)


def ceilings() -> dict[str, float]:
    """Measured on this card: bytes and operations a second."""
    source = torch.empty(2**30, dtype=torch.bfloat16, device="cuda").normal_()
    target = torch.empty_like(source)
    copied = microseconds([lambda: target.copy_(source)] * 4)
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    multiplied = microseconds([lambda: a @ b] * 4)
    return {"bytes": 2 * source.nbytes / copied * 1e6, "flops": 2 * 8192**3 / multiplied * 1e6}


# --- report ---------------------------------------------------------------------------------------------------------


def line(timing: Timing, ceiling: dict[str, float]) -> str:
    """One row of the table, in Markdown."""
    head = f"| {timing.op} | {timing.shape} | {timing.batch} | {timing.rings} "
    others = ", ".join(f"{name} {found:.1f}" for name, found in sorted(timing.rivals.items(), key=lambda r: r[1]))
    others += "".join(f", {name} is wrong ({error:.2g} of the tolerance)" for name, error in timing.wrong.items())
    if timing.ours is None:
        return f"{head}| check failed: {timing.error:.2g} of the tolerance | {others.removeprefix(', ')} | – | – | – |"
    ratio = "–" if timing.speed_up is None else f"{timing.speed_up:.2f}"
    seconds = timing.ours / 1e6
    rate, work = timing.bytes / seconds, timing.flops / seconds
    return (
        f"{head}| {timing.ours:.1f} | {others.removeprefix(', ')} | {ratio} | "
        f"{rate / 1e12:.2f} TB/s, {rate / ceiling['bytes']:.0%} | {work / 1e12:.0f} TFLOP/s, "
        f"{work / ceiling['flops']:.0%} |"
    )


HEADINGS = (
    "| operation | shape | batch | rings | µs | rivals, µs | speed-up | bytes, of a copy's | work, of a product's |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def describe() -> dict[str, Any]:
    """The machine, the GPU and the versions."""
    import triton

    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm", "--format=csv"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        driver = [f"nvidia-smi: {error}"]
    found = torch.cuda.get_device_properties(0)
    return hardware.describe() | {
        "gpu": found.name,
        "multiprocessors": found.multi_processor_count,
        "capability": f"{found.major}.{found.minor}",
        "nvidia_smi": driver,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }


def run_verification(shapes: list[Shape], batches: list[int], device: str) -> bool:
    """Prints each check; whether all were right."""
    right = True
    for name, error in verify(shapes, batches, device):
        print(f"{'right' if error <= 1 else 'WRONG'}  {name}: {error:.2g} of the tolerance", flush=True)
        right = right and error <= 1
    return right


def run_timing(options: argparse.Namespace) -> int:
    chosen = [shape for shape in SHAPES if options.shapes is None or shape.name in options.shapes]
    right = run_verification([SMALL, NANO, LIVE], [3], "cuda")
    ceiling = ceilings()
    print(
        f"\nmeasured ceilings: {ceiling['bytes'] / 1e12:.2f} TB/s, {ceiling['flops'] / 1e12:.0f} TFLOP/s\n\n{HEADINGS}"
    )
    rows: list[Timing] = []
    for shape in chosen:
        for batch in [b for b in options.batches if shape.head < 128 or b in LARGE_BATCHES]:
            torch.manual_seed(0)
            torch.compiler.reset()
            for rings in ("full", "mixed"):
                for timing in time_rolling(shape, batch, rings, torch.bfloat16, options.tune):
                    rows.append(timing)
                    print(line(timing, ceiling), flush=True)
            for timing in time_others(shape, batch, torch.bfloat16):
                rows.append(timing)
                print(line(timing, ceiling), flush=True)
            torch.cuda.empty_cache()
    if options.out:
        result = {
            "hardware": describe(),
            "ceilings": ceiling,
            "verified": right,
            "timings": [asdict(row) | {"speed_up": row.speed_up} for row in rows],
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if right and all(row.error <= 1 for row in rows) else 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verify", action="store_true", help="only check against the reference, on whatever runs here")
    parser.add_argument("--compile", action="store_true", help="only compile all shipped configurations, without a GPU")
    parser.add_argument("--tune", action="store_true", help="also time every tile size of rolling_attention")
    parser.add_argument("--shapes", nargs="+", choices=[shape.name for shape in SHAPES], help="default: all")
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="default: 1 4 16 64")
    parser.add_argument("--out", type=Path, help="writes the result there as JSON")
    options = parser.parse_args(arguments)
    if min(options.batches) < 1:
        parser.error(f"a batch has one session at least, got {min(options.batches)}")
    if options.compile:
        command = ["avatar_kernels.ahead", "--all", *(["--json", str(options.out)] if options.out else [])]
        sys.argv = command
        return ahead.main()
    device = "cpu" if interpreted() else "cuda"
    reason = why_not(device)
    if options.verify:
        if reason:
            parser.error(f"nothing here runs kernels: {reason}. On a CPU, set TRITON_INTERPRET=1")
        shapes = [SMALL] if interpreted() else [SMALL, NANO, LIVE]
        return 0 if run_verification(shapes, [3], device) else 1
    if interpreted():
        reason = "TRITON_INTERPRET is set, and the interpreter's times say nothing"
    if reason:
        parser.error(f"times are taken on a CUDA GPU only: {reason}. --compile, and --verify under the interpreter, do")
    return run_timing(options)


if __name__ == "__main__":
    sys.exit(main())
