"""What the Triton kernels save on a GPU: `python benchmarks/kernels.py [--out OUT.json]`. Each is verified, then timed.

    python benchmarks/kernels.py --seconds 400                     # verifies and times; wants a CUDA GPU
    python benchmarks/kernels.py --tune                            # tries tile sizes of rolling_attention instead
    TRITON_INTERPRET=1 python benchmarks/kernels.py --verify       # the verification alone, at small sizes on the CPU
    python benchmarks/kernels.py --compile                         # the table of machine code; no GPU is needed

Method. A call is captured in a CUDA graph over sets of random inputs, which together are several times as large as the
L2 cache, so that it holds nothing of the next; at the smallest sizes there are 64 sets at most, and "rotated" in the
result tells whether they exceed "l2_cache". The graph is replayed, and a time is the median over replays between CUDA
events, divided by the sets. Rivals start from the same unrotated ring, and their rotation and concatenation are timed,
fused by torch.compile: SDPA on keys and values laid side by side, where all rings are full; SDPA with a mask, and
compiled FlexAttention, where rings are full or not. A speed-up is against the fastest rival that is right, and is
reported only where ours is. What fails leaves its reason in its row, and the next is measured. Rows come in the order
of their weight, each is printed and written as soon as it is there. Ceilings are measured on the same card: a copy of
2 GiB, a bfloat16 product of 8192 x 8192.
"""

import argparse
import functools
import itertools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

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
from avatar_kernels.rolling_attention.configs import Config, candidates
from avatar_kernels.rolling_attention.reference import rolling_attention_reference
from avatar_kernels.shapes import LIVE, NANO, SHAPES, Shape
from avatar_kernels.tolerances import TOLERANCES, excess
from torch import Tensor
from torch.nn import functional

from benchmarks.lib import hardware

BATCHES = (1, 4, 16, 64)
TUNED = (4, 16)
"""Sessions of a busy server: what is tuned, and measured first."""

LARGE_BATCHES = (1, 4)
"""Of the 14B network: its rivals' copies at more would measure memory, not attention."""

FACE_AREA = 0.2
REPLAYS = 60
CACHES = 4
"""How many times the L2 cache the sets of inputs of one measurement have together."""

UNKNOWN_CACHE = 64 * 2**20
"""Bytes that are taken for the L2 cache where PyTorch does not tell."""

MOST_SETS = 64
WEIGHTY = 64
"""
Of how many keys an output of `rolling_attention` is made in the main, however many a query sees. Plain queries would
have the mean of all of them: at thousands it is smaller than the absolute tolerance, and a forgotten tile would pass.
"""

SMALL = Shape("small", heads=2, head=40, tokens=21, context=3, frames=2)
"""What the interpreter verifies: nothing in it is a power of two."""


@dataclass(frozen=True)
class Case:
    """What is to be measured: one row."""

    op: str
    shape: Shape
    batch: int
    rings: str = "-"
    """Which context the sessions hold: "full", "mixed", or "-" where the operation has none."""
    config: Config | None = None
    """Tile sizes of `rolling_attention` in place of the chosen ones, for ours alone."""

    @property
    def name(self) -> str:
        if (c := self.config) is None:
            return self.op
        most = f", {c.registers} registers" if c.registers else ""
        return f"{self.op} {c.queries}x{c.keys}, {c.warps} warps, {c.stages} stages{most}"

    def __str__(self) -> str:
        return f"{self.name}, {self.shape.name} x{self.batch}, {self.rings}"


@dataclass
class Timing:
    """One measurement: times in microseconds a call."""

    op: str
    shape: str
    batch: int
    rings: str
    bytes: int = 0
    """Read and written at the least, each number once."""
    flops: int = 0
    rotated: int = 0
    """Bytes of all sets of inputs together."""
    error: float | None = None
    """Of ours, as a share of the tolerance: at most 1 is right. None where ours failed before there was a result."""
    ours: float | None = None
    rivals: dict[str, float] = field(default_factory=dict)
    wrong: dict[str, float] = field(default_factory=dict)
    """Rivals whose error exceeded the tolerance, and by how much: not compared with."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why there is no time: of rivals by their name, of ours as OURS."""

    @property
    def right(self) -> bool:
        return self.error is not None and self.error <= 1 and OURS not in self.failed

    @property
    def speed_up(self) -> float | None:
        """Against the fastest rival. None where ours is wrong or nothing right is there to compare with."""
        if not self.right or self.ours is None or not self.rivals:
            return None
        return min(self.rivals.values()) / self.ours


OURS = "ours"


def said(error: Exception) -> str:
    """What went wrong, in a line that a table can hold."""
    text = (str(error).strip().splitlines() or ["without a word"])[0]
    return f"{type(error).__name__}: {text[:160]}".replace("|", "/")


# --- inputs ---------------------------------------------------------------------------------------------------------


def pairs(rows: int, tokens: int, head: int, device: str) -> Tensor:
    """A table [rows, N, D / 2, 2] of rotary angles."""
    angles = 6.3 * torch.rand(rows, tokens, head // 2, device=device)
    return torch.stack([angles.cos(), angles.sin()], -1)


def attention_inputs(shape: Shape, batch: int, rings: str, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `rolling_attention`; the sink is turned once, the queries come unturned, and sharp."""

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=dtype)

    q, k, v = normal(batch, shape.queries, 3 * shape.width).unflatten(-1, (3, shape.heads, shape.head)).unbind(2)
    # Normal scores of variance s let n keys weigh as n / e^s equal ones do.
    q *= max(math.log(shape.keys / WEIGHTY), 1) ** 0.5
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
    """Arguments of `qk_norm_rope_cache`. A ring has room for a step's frames, also where nobody looks back on them."""
    shape = replace(shape, context=max(shape.context, shape.frames))
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
    index = 1 + (torch.arange(slots, device=q.device) - (written - filled)[:, None]) % max(slots, 1)

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


def results(call: Callable[..., Any], given: dict[str, Any], **options: Any) -> list[Tensor]:
    """What a call returns, and what it left in the ring, if it was given one: a copy, so that inputs stay."""
    ring = tuple(part.clone() for part in given.get("ring", ()))
    found = call(**(given | {"ring": ring} if ring else given), **options)
    return [*([found] if isinstance(found, Tensor) else found), *ring]


def truth_of(reference: Callable[..., Any], given: dict[str, Any]) -> list[Tensor]:
    """`results` of the reference in float64, in a ring of float64."""
    exact = {"ring": tuple(part.double() for part in given["ring"])} if "ring" in given else {}
    return results(reference, given | exact, precision=torch.float64)


def worst(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    return max(excess(ours, wanted) for ours, wanted in zip(found, truth, strict=True))


FUSED: dict[str, tuple[Callable[..., Any], ...]] = {
    "face_audio_attention": (face_audio_attention, face_unfused, face_audio_attention_reference, face_inputs),
    "qk_norm_rope_cache": (qk_norm_rope_cache, norm_unfused, qk_norm_rope_cache_reference, norm_inputs),
    "adaln": (adaln, adaln_unfused, adaln_reference, adaln_inputs),
}
"""Of each of these operations: ours, its parts one after the other, the reference, and what makes its inputs."""

Check = tuple[str, Callable[[], float]]
"""A name, and what finds the error as a share of the tolerance. To be called before the next is asked for."""


def checks(shapes: list[Shape], batches: list[int], device: str) -> Iterator[Check]:
    """Each dtype, each operation; 16-bit numbers first, since those are served."""
    for dtype, shape, batch in itertools.product(reversed(TOLERANCES), shapes, batches):
        yield from checks_of(shape, batch, dtype, device)
    if device == "cpu" or torch.cuda.get_device_capability() >= (9, 0):
        yield f"rolling_attention {shapes[0].name} x3, context in e4m3", lambda: e4m3_error(shapes[0], device)


def checks_of(shape: Shape, batch: int, dtype: torch.dtype, device: str) -> Iterator[Check]:
    case = f"{shape.name} x{batch} {dtype}"
    for rings in ("full", "mixed") if shape.context else ("full",):
        given = attention_inputs(shape, batch, rings, dtype, device)
        truth = Truth(given)
        name = f"rolling_attention {case} {rings}"

        def error(given: dict[str, Any] = given, truth: Truth = truth, **options: Any) -> float:
            return truth.error(rolling_attention(**given, **options))

        yield f"{name}, chosen parts", error
        yield f"{name}, 3 parts", functools.partial(error, splits=3)
        if dtype.itemsize == 2:
            half = given | {"table": given["table"].half()}
            yield f"{name}, table in float16", functools.partial(error, half)
    for op, (ours, _, reference, inputs) in FUSED.items():
        given = inputs(shape, batch, dtype, device)
        wanted = truth_of(reference, given)
        yield f"{op} {case}", lambda o=ours, g=given, w=wanted: worst(results(o, g), w)  # type: ignore[misc]


def e4m3_error(shape: Shape, device: str) -> float:
    """Of attention over a ring that holds e4m3."""
    given = attention_inputs(replace(shape, frames=1), 3, "mixed", torch.bfloat16, device)
    given["ring"] = tuple(part.to(torch.float8_e4m3fn) for part in given["ring"])
    given["scales"] = tuple(0.5 + torch.rand(shape.heads, device=device) for _ in range(2))
    return excess(rolling_attention(**given), rolling_attention_reference(**given, precision=torch.float64))


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


def cache_size(device: str) -> int:
    """Bytes of the L2 cache, as PyTorch tells them."""
    if device == "cpu":
        return UNKNOWN_CACHE
    return getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or UNKNOWN_CACHE


def sets_of(size: int, cache: int) -> int:
    """How many sets of inputs of `size` bytes exceed the cache together."""
    return max(2, min(MOST_SETS, -(-CACHES * cache // size)))


def enter(timing: Timing, name: str, error: Callable[[], float], calls: Callable[[], Sequence[Any]]) -> None:
    """Checks one way to compute, and times it if it is right. What fails is noted, and the others are measured."""
    try:
        found = error()
        if name == OURS:
            timing.error = found
        if not found <= 1:
            timing.wrong |= {} if name == OURS else {name: found}
            return
        taken = microseconds(calls())
    except Exception as trouble:
        timing.failed[name] = said(trouble)
        return
    if name == OURS:
        timing.ours = taken
    else:
        timing.rivals[name] = taken


def measure(case: Case, dtype: torch.dtype, device: str) -> Timing:
    """A row; where nothing of it could be measured, with the reason."""
    timing = Timing(case.name, case.shape.name, case.batch, case.rings)
    torch.manual_seed(0)
    try:
        (measure_rolling if case.op == "rolling_attention" else measure_fused)(case, timing, dtype, device)
    except Exception as trouble:
        timing.failed[OURS] = said(trouble)
    return timing


def measure_rolling(case: Case, timing: Timing, dtype: torch.dtype, device: str) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    shape, batch, size = case.shape, case.batch, dtype.itemsize
    seen = 2 * batch * shape.keys * shape.width * size
    sets = [attention_inputs(shape, batch, case.rings, dtype, device) for _ in range(sets_of(seen, cache_size(device)))]
    for other in sets[1:]:
        other["written"] = sets[0]["written"]  # one fill, so that FlexAttention needs one mask
    held = float(sets[0]["written"].clamp(max=shape.context).double().mean())  # frames
    keys = (1 + held + shape.frames) * shape.tokens
    table = sets[0]["table"].nbytes // 2
    timing.bytes = round(2 * batch * (keys + shape.queries) * shape.width * size) + table
    timing.flops = round(4 * batch * shape.heads * shape.queries * keys * shape.head)
    timing.rotated = len(sets) * round(batch * (2 * keys + shape.queries) * shape.width * size)
    truth = Truth(sets[0])
    # Angles in half the bytes are ours to choose: the truth, and the rivals, have them in float32.
    own = [given | {"table": given["table"].half()} for given in sets]
    call = rolling_attention if case.config is None else functools.partial(tiled, case.config)
    enter(timing, OURS, lambda: truth.error(call(**own[0])), lambda: [functools.partial(call, **g) for g in own])
    if case.config is not None:
        return
    lay = torch.compile(side_by_side, dynamic=False)
    attend = torch.compile(flex_attention, dynamic=False)
    mask = functools.cache(lambda: block_mask(sets[0]))
    rivals: dict[str, Callable[[dict[str, Any]], Tensor]] = {
        "SDPA": lambda given: sdpa(given, lay),
        "SDPA, masked": lambda given: sdpa_masked(given, lay),
        "FlexAttention": lambda given: flex(given, lay, attend, mask()),
    }
    if case.rings != "full":
        del rivals["SDPA"]
    for name, rival in rivals.items():
        enter(
            timing,
            name,
            lambda r=rival: truth.error(r(sets[0])),  # type: ignore[misc]
            lambda r=rival: [functools.partial(r, given) for given in sets],  # type: ignore[misc]
        )


def tiled(config: Config, sink_turned: bool, **given: Any) -> Tensor:
    """`rolling_attention` with tiles of these sizes."""
    from avatar_kernels.rolling_attention.kernel import plan

    launches, out = plan(
        **given,
        scales=None,
        context=given["ring"][0].shape[1],
        q_turned=False,
        sink_turned=sink_turned,
        splits=None,
        config=config,
    )
    for launch in launches:
        launch.run()
    return out


def measure_fused(case: Case, timing: Timing, dtype: torch.dtype, device: str) -> None:
    """An operation against its parts one after the other, eagerly and compiled; all captured in graphs."""
    ours, unfused, reference, inputs = FUSED[case.op]
    timing.bytes, timing.flops = least_work(case, dtype.itemsize)
    sets = [inputs(case.shape, case.batch, dtype, device) for _ in range(sets_of(timing.bytes, cache_size(device)))]
    timing.rotated = len(sets) * timing.bytes
    truth = truth_of(reference, sets[0])
    ways = {OURS: ours, "unfused": unfused, "unfused, compiled": torch.compile(unfused, dynamic=False)}
    for name, way in ways.items():
        enter(
            timing,
            name,
            lambda w=way: worst(results(w, sets[0]), truth),  # type: ignore[misc]
            lambda w=way: [functools.partial(w, **given) for given in sets],  # type: ignore[misc]
        )


def least_work(case: Case, size: int) -> tuple[int, int]:
    """Bytes that an operation but attention must move, in numbers of `size` bytes, and products that it takes."""
    shape, batch = case.shape, case.batch
    frame, step = batch * shape.tokens * shape.width * size, batch * shape.queries * shape.width * size
    if case.op != "face_audio_attention":
        return {"qk_norm_rope_cache": 7, "adaln": 4}[case.op] * step, 0
    memory = 2 * batch * shape.window * shape.width * size
    products = 4 * FACE_AREA * batch * shape.heads * shape.tokens * shape.window * shape.head
    return round((2 + FACE_AREA) * frame) + memory, round(products)


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
    found = [f"{name} {taken:.1f}" for name, taken in sorted(timing.rivals.items(), key=lambda r: r[1])]
    found += [f"{name} is wrong ({error:.2g} of the tolerance)" for name, error in timing.wrong.items()]
    found += [f"{name} failed ({why})" for name, why in timing.failed.items() if name != OURS]
    others = ", ".join(found)
    if timing.ours is None:
        why = timing.failed.get(OURS)
        why = f"failed: {why}" if why else f"check failed: {timing.error:.2g} of the tolerance"
        return f"{head}| {why} | {others} | – | – | – |"
    ratio = "–" if timing.speed_up is None else f"{timing.speed_up:.2f}"
    rate, work = timing.bytes / timing.ours * 1e6, timing.flops / timing.ours * 1e6

    def share(reached: float, most: str) -> str:
        return f"{reached / ceiling[most]:.0%}" if most in ceiling else "–"

    return (
        f"{head}| {timing.ours:.1f} | {others} | {ratio} | "
        f"{rate / 1e12:.2f} TB/s, {share(rate, 'bytes')} | {work / 1e12:.0f} TFLOP/s, {share(work, 'flops')} |"
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
        "l2_cache": getattr(found, "L2_cache_size", None),
        "nvidia_smi": driver,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }


def finite(error: float | None) -> float | None:
    """As JSON can hold it: infinity and NaN are no numbers there."""
    return error if error is not None and math.isfinite(error) else None


def verify(checks: Iterator[Check], over: Callable[[], str] = str) -> Iterator[dict[str, Any]]:
    """Runs checks, and prints each; one that fails is wrong, with the reason. Ends when `over` says why."""
    for name, error in checks:
        found, why = math.inf, ""
        try:
            found = error()
        except Exception as trouble:
            why = said(trouble)
        right = found <= 1
        print(f"{'right' if right else 'WRONG'}  {name}: {why or f'{found:.2g} of the tolerance'}", flush=True)
        yield {"check": name, "right": right, "error": finite(found), "failed": why}
        if over():
            return


def planned(shapes: Sequence[Shape], batches: Sequence[int], tune: bool, device: str) -> list[Case]:
    """All rows, those first that matter most: `live` at the batches of a busy server, then what is small, then 14B."""
    from avatar_kernels.launch import gpu

    def rank(pair: tuple[Shape, int]) -> tuple[int, int]:
        shape, batch = pair
        if shape.name == LIVE.name:
            return (0 if batch in TUNED else 2), batch
        return (1 if shape.name == NANO.name else 3), batch

    def cases(shape: Shape, batch: int) -> Iterator[Case]:
        yield Case("rolling_attention", shape, batch, "full")
        if tune:
            for config in candidates(shape.head, torch.bfloat16, gpu(torch.device(device))):
                yield Case("rolling_attention", shape, batch, "full", config)
            return
        yield from (Case(op, shape, batch) for op in FUSED)
        if shape.context:
            yield Case("rolling_attention", shape, batch, "mixed")

    pairs = [(s, b) for s in shapes for b in batches if s.head < 128 or b in LARGE_BATCHES]
    return [case for pair in sorted(pairs, key=rank) for case in cases(*pair)]


def write(path: Path | None, result: dict[str, Any]) -> None:
    """The whole file, in place of the last one at once: whenever this ends, one of them is there."""
    if path:
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(path)


def run_timing(options: argparse.Namespace, cases: Sequence[Case], device: str = "cuda") -> int:
    """Verifies, then measures the cases in their order, and writes down what there is after each of them."""
    end = time.monotonic() + options.seconds

    def over() -> str:
        """Why nothing new is begun, if so: after an illegal access, for one, a device refuses whatever is asked."""
        try:
            if device != "cpu":
                torch.cuda.synchronize()
        except Exception as trouble:
            return said(trouble)
        return f"{options.seconds:g} s are over" if time.monotonic() > end else ""

    rows: list[Timing] = []
    done: list[dict[str, Any]] = []
    result: dict[str, Any] = {"hardware": describe(), "ceilings": {}, "verified": None, "checks": done, "timings": []}
    result["stopped"] = None

    def keep() -> None:
        result["timings"] = [
            asdict(row) | {"error": finite(row.error), "right": row.right, "speed_up": row.speed_up} for row in rows
        ]
        result["not_reached"] = [str(case) for case in cases[len(rows) :]]
        write(options.out, result)

    verification = iter(()) if options.tune else checks([LIVE, NANO, SMALL], [3], device)
    for check in verify(verification, over):
        done.append(check)
        keep()
    if done:
        whole = next(verification, None) is None
        result["verified"] = all(check["right"] for check in done) and (whole or None)
    ceiling: dict[str, float] = {}
    try:
        ceiling |= ceilings()
        print(f"\nmeasured ceilings: {ceiling['bytes'] / 1e12:.2f} TB/s, {ceiling['flops'] / 1e12:.0f} TFLOP/s")
    except Exception as trouble:
        print(f"\nno ceilings: {said(trouble)}")
    result["ceilings"] = ceiling
    print(f"\n{HEADINGS}", flush=True)
    keep()
    for case in cases:
        if why := over():
            result["stopped"] = why
            print(f"\n{why}: {len(cases) - len(rows)} rows were not reached, from: {case}")
            break
        if not rows or (rows[-1].shape, rows[-1].batch) != (case.shape.name, case.batch):
            torch.compiler.reset()
            torch.cuda.empty_cache()
        rows.append(measure(case, torch.bfloat16, device))
        print(line(rows[-1], ceiling), flush=True)
        keep()
    keep()
    return 0 if all(check["right"] for check in done) and all(row.right for row in rows) else 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verify", action="store_true", help="only check against the reference, on whatever runs here")
    parser.add_argument("--compile", action="store_true", help="only compile all shipped configurations, without a GPU")
    parser.add_argument("--tune", action="store_true", help="time tile sizes of rolling_attention, on full rings alone")
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--shapes", nargs="+", choices=names, help="default: all, with --tune live")
    parser.add_argument("--batches", nargs="+", type=int, help="default: 1 4 16 64, with --tune 4 16")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begins no new row after so many seconds")
    parser.add_argument("--out", type=Path, help="writes the result there as JSON, after each row")
    options = parser.parse_args(arguments)
    batches = options.batches or (TUNED if options.tune else BATCHES)
    if min(batches) < 1:
        parser.error(f"a batch has one session at least, got {min(batches)}")
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
        return 0 if all([check["right"] for check in verify(checks(shapes, [3], device))]) else 1
    if interpreted():
        reason = "TRITON_INTERPRET is set, and the interpreter's times say nothing"
    if reason:
        parser.error(f"times are taken on a CUDA GPU only: {reason}. --compile, and --verify under the interpreter, do")
    chosen = options.shapes or ([LIVE.name] if options.tune else names)
    shapes = [shape for shape in SHAPES if shape.name in chosen]
    return run_timing(options, planned(shapes, batches, options.tune, device))


if __name__ == "__main__":
    sys.exit(main())
