"""How fast the Triton kernels are on a GPU, beside PyTorch's operators. Each is verified before it is timed.

    python -m benchmarks.kernels.triton_kernels --seconds 400 --out OUT.json   # verifies and times; needs a CUDA GPU
    python -m benchmarks.kernels.triton_kernels --tune                   # times tile sizes of rolling_attention instead
    TRITON_INTERPRET=1 python -m benchmarks.kernels.triton_kernels --verify    # only verifies, small sizes, on the CPU
    python -m benchmarks.kernels.triton_kernels --compile   # the table of machine code, without a GPU

Method. A call is captured in a CUDA graph over several sets of random inputs, which together are several times as large
as the L2 cache, so that no set finds its data cached; at the smallest sizes there are 64 sets at most, and "rotated" in
the result shows whether they exceed "l2_cache". The graph is replayed, and a time is the median over replays between
CUDA events, divided by the number of sets. The baselines start from the same unrotated ring; their rotation and
concatenation, fused by torch.compile, are included: SDPA on keys and values laid side by side, where all rings are
full; SDPA with a mask, and compiled FlexAttention, whether rings are full or not. A speed-up is relative to the fastest
baseline whose results are right, and is reported only where ours are. A failure is recorded with its reason in its row,
and the next row is measured. Rows are ordered by importance; each is printed and written as soon as it is measured.
The ceilings are measured on the same card: a copy of 2 GiB, and a bfloat16 product of 8192 x 8192.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from avatar_kernels import ahead, interpreted, why_not
from avatar_kernels.rolling_attention.configs import candidates
from avatar_kernels.shapes import LIVE, NANO, SHAPES, Shape

from benchmarks.kernels.gpu import describe, finite, reason_of, write
from benchmarks.kernels.inputs import SMALL
from benchmarks.kernels.timing import OURS, Case, Timing, ceilings, measure
from benchmarks.kernels.verification import FUSED, checks, verify

BATCHES = (1, 4, 16, 64)

TUNED = (4, 16)
"""Sessions of a busy server: what is tuned, and measured first."""

LARGE_BATCHES = (1, 4)
"""Of the 14B network: its rivals' copies at more would measure memory, not attention."""

HEADINGS = (
    "| operation | shape | batch | rings | µs | rivals, µs | speed-up | bytes, of a copy's | work, of a product's |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


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


def run_timing(options: argparse.Namespace, cases: Sequence[Case], device: str = "cuda") -> int:
    """Verifies, then measures the cases in their order, and writes down what there is after each of them."""
    end = time.monotonic() + options.seconds

    def over() -> str:
        """The reason to begin nothing new, if any: after an illegal access, a device refuses every call."""
        try:
            if device != "cpu":
                torch.cuda.synchronize()
        except Exception as trouble:
            return reason_of(trouble)
        return f"{options.seconds:g} s are over" if time.monotonic() > end else ""

    rows: list[Timing] = []
    done: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "hardware": describe("cuda"),
        "ceilings": {},
        "verified": None,
        "checks": done,
        "timings": [],
    }
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
        print(f"\nno ceilings: {reason_of(trouble)}")
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
    parser.add_argument("--verify", action="store_true", help="only compare with the references, on CPU or GPU")
    parser.add_argument("--compile", action="store_true", help="only compile all shipped configurations, without a GPU")
    parser.add_argument("--tune", action="store_true", help="time tile sizes of rolling_attention, on full rings alone")
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--shapes", nargs="+", choices=names, help="default: all, with --tune live")
    parser.add_argument("--batches", nargs="+", type=int, help="default: 1 4 16 64, with --tune 4 16")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no new row after this many seconds")
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
