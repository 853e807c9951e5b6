"""How long the Triton kernels and their baselines take, each checked before it is timed."""

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from avatar_kernels.rolling_attention import rolling_attention
from avatar_kernels.rolling_attention.configs import Config
from avatar_kernels.shapes import Shape
from torch import Tensor

from benchmarks.kernels.baselines import block_mask, flex, sdpa, sdpa_masked, side_by_side
from benchmarks.kernels.gpu import reason_of
from benchmarks.kernels.inputs import FACE_AREA, attention_inputs
from benchmarks.kernels.verification import FUSED, Truth, results, truth_of, worst

REPLAYS = 60

CACHES = 4
"""How many times the L2 cache the sets of inputs of one measurement have together."""

UNKNOWN_CACHE = 64 * 2**20
"""Bytes assumed for the L2 cache where PyTorch does not report its size."""

MOST_SETS = 64

OURS = "ours"


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
    """Bytes of the L2 cache, as PyTorch reports them."""
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
        timing.failed[name] = reason_of(trouble)
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
        timing.failed[OURS] = reason_of(trouble)
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
