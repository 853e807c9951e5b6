"""Compiles launches to machine code without a GPU, and analyses it: registers, spills, memory, tensor cores.

    python -m avatar_kernels.ahead [--arch 80 --arch 90] [--all] [--json OUT]

compiles the shipped configurations and prints a table. It must run in its own process without the interpreter:
TRITON_INTERPRET determines what a kernel is when it is decorated. `shipped` lists what is compiled; its tensors have
shapes and strides but no memory, and the launches are those of the public functions.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar_kernels import interpreted
from avatar_kernels.launch import Gpu, Launch
from avatar_kernels.shapes import LARGE, LIVE, NANO, Shape

ARCHITECTURES = (80, 90)
GPUS = {80: Gpu(108, 163 * 1024, (8, 0)), 90: Gpu(132, 227 * 1024, (9, 0))}
"""An A100; an H100 or H200."""

_TYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.int64: "i64",
}
_TENSOR_CORES = re.compile(r"\b(?:HGMMA|HMMA|QGMMA)\b")
_LOCAL_MEMORY = re.compile(r"\b(?:STL|LDL)\b")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True)
class Build:
    """A launch to be compiled for an architecture, created on demand."""

    op: str
    case: str
    arch: int
    make: Callable[[], Launch]
    tensor_cores: bool
    """Whether it contains a dot of a dtype that tensor cores support."""


@dataclass(frozen=True)
class Compiled:
    """A row of the table."""

    op: str
    case: str
    arch: int
    registers: int
    """Per thread."""
    spilled: int
    """Bytes of a thread's stack, which holds spilled registers, and instructions that access it."""
    shared_memory: int
    """Bytes per program."""
    warps: int
    tensor_core_instructions: int
    tensor_cores_wanted: bool

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if anything."""
        if self.spilled:
            return f"spills registers: {self.spilled}"
        if self.shared_memory > GPUS[self.arch].shared_memory:
            return f"{self.shared_memory} bytes of shared memory are above {GPUS[self.arch].shared_memory}"
        if self.tensor_cores_wanted and not self.tensor_core_instructions:
            return "has a dot, but no tensor-core instruction"
        return None


def _signature(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int, ...], Any]]:
    """Types, constants and alignments of the arguments, as Triton specialises them at launch."""
    names: list[str] = list(launch.kernel.arg_names)
    types: dict[str, str] = {}
    constants: dict[str, Any] = dict(launch.constants)
    attributes: dict[tuple[int, ...], Any] = {}
    for place, name in enumerate(names):
        special = not launch.kernel.params[place].do_not_specialize
        if name in launch.constants:
            types[name] = "constexpr"
            continue
        value = launch.arguments[name]
        if isinstance(value, Tensor):
            types[name] = "*" + _TYPES[value.dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            types[name] = "fp32"
        elif value == 1 and special:
            types[name] = "constexpr"
            constants[name] = 1
        else:
            types[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0 and special:
                attributes[(place,)] = [["tt.divisibility", 16]]
    return types, constants, attributes


def _tool(name: str) -> str:
    from triton import knobs

    return str(getattr(knobs.nvidia, name).path)


def assemble(launch: Launch, arch: int) -> tuple[Any, str]:
    """Compiles a launch to Triton's compiled kernel and its disassembly."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types, constants, attributes = _signature(launch)
    source = ASTSource(launch.kernel, types, constants, attributes)
    kernel = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=launch.options)
    return kernel, _dump(kernel.asm["cubin"], "-sass")


def _dump(cubin: bytes, *options: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        return subprocess.run(
            [_tool("cuobjdump"), *options, str(path)], capture_output=True, text=True, check=True
        ).stdout


def compile_ahead(build: Build) -> Compiled:
    launch = build.make()
    kernel, code = assemble(launch, build.arch)
    usage = _USAGE.search(_dump(kernel.asm["cubin"], "-res-usage"))
    if usage is None:
        raise RuntimeError(f"cuobjdump reports no registers for {build.op} {build.case}")
    registers, stack, _, local = (int(number) for number in usage.groups())
    return Compiled(
        build.op,
        build.case,
        build.arch,
        registers,
        stack + local + len(_LOCAL_MEMORY.findall(code)),
        kernel.metadata.shared,
        launch.warps,
        len(_TENSOR_CORES.findall(code)),
        build.tensor_cores,
    )


def _empty(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def _projection(shape: Shape, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v [B, M, H, D]: slices of one projection."""
    whole = _empty(rows, shape.queries, 3 * shape.width, dtype=dtype)
    q, k, v = whole.unflatten(-1, (3, shape.heads, shape.head)).unbind(2)
    return q, k, v


def _context(
    shape: Shape, rows: int, dtype: torch.dtype, quantised: bool
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """Ring, count, table and scales."""
    lies = torch.float8_e4m3fn if quantised else dtype
    part = _empty(rows, shape.context, shape.tokens, shape.heads, shape.head, dtype=lies)
    written = _empty(rows, dtype=torch.int64)
    angles = torch.float32 if dtype == torch.float32 else torch.float16
    table = _empty(1 + shape.context + shape.frames, shape.tokens, shape.head // 2, 2, dtype=angles)
    scale = _empty(shape.heads, dtype=torch.float32)
    return (part, part), written, table, (scale, scale) if quantised else None


def rolling(
    shape: Shape, rows: int, dtype: torch.dtype, arch: int, quantised: bool = False, turned: bool = True
) -> list[Launch]:
    """
    turned: queries are rotated by `qk_norm_rope_cache`, the sink was rotated once, and angles have 16 bits if keys do;
    otherwise everything is rotated on load, by float32 angles.
    """
    from avatar_kernels.rolling_attention.kernel import plan

    q, k, v = _projection(shape, rows, dtype)
    ring, written, table, scales = _context(shape, rows, dtype, quantised)
    sink = _empty(rows, shape.tokens, shape.heads, shape.head, dtype=dtype)
    table = table if turned else table.float()
    return plan(q, k, v, (sink, sink), ring, written, table, scales, shape.context, turned, turned, None, GPUS[arch])[0]


def _qk(shape: Shape, dtype: torch.dtype, quantised: bool = False) -> Launch:
    from avatar_kernels.qk_norm_rope_cache.kernel import plan

    q, k, v = _projection(shape, 4, dtype)
    weight = _empty(shape.head, dtype=dtype)
    ring, written, table, scales = _context(shape, 4, dtype, quantised)
    return plan(q, k, v, weight, weight, ring, written, table, scales, shape.context, True, 1e-6)[0]


def _face(shape: Shape, dtype: torch.dtype) -> Launch:
    from avatar_kernels.face_audio_attention.kernel import plan

    q = _empty(4, shape.tokens, shape.heads, shape.head, dtype=dtype)
    k, v = _empty(4, 1, shape.window, 2 * shape.width, dtype=dtype).unflatten(-1, (2, *q.shape[2:])).unbind(3)
    faces, strength = _empty(4, 1, shape.tokens, dtype=torch.float32), torch.empty((), dtype=dtype, device="meta")
    return plan(q, k, v, faces, strength, q)[0]


def _adaln(shape: Shape, dtype: torch.dtype) -> Launch:
    from avatar_kernels.adaln.kernel import plan

    x = _empty(4, shape.tokens, shape.width, dtype=dtype)
    shift, scale, gate = _empty(4, 1, 6 * shape.width, dtype=dtype).chunk(6, -1)[:3]
    return plan(x, shift, scale, x, gate, True, 1e-6)[0]


def shipped(arch: int, everything: bool = False) -> Iterator[Build]:
    """The shipped configurations: both presets in bfloat16 and the most different ones, or all of them."""
    short = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
    half = torch.bfloat16

    def attention(
        shape: Shape, rows: int, dtype: torch.dtype, quantised: bool = False, turned: bool = True
    ) -> Iterator[Build]:
        case = f"{shape.name} x{rows} {short[dtype]}" + (" fp8 ring" if quantised else "")
        case += "" if turned else ", all turned on load"
        for place, launch in enumerate(rolling(shape, rows, dtype, arch, quantised, turned)):
            wanted = place == 0 and dtype != torch.float32
            config = launch.constants
            name = f"{case}, {config['BM']}x{config['BN']}" if place == 0 else f"{case}, combine"
            name += f", {config['SPLITS']} parts" if config["SPLITS"] != 1 else ""
            yield Build("rolling_attention", name, arch, lambda launch=launch: launch, wanted)  # type: ignore[misc]

    yield from attention(NANO, 1, half)
    yield from attention(LIVE, 1, half)  # few programs: its keys are split
    yield from attention(LIVE, 16, half)
    yield from attention(LARGE, 1, half)
    yield from attention(NANO, 64, torch.float32)
    if arch >= 90:
        yield from attention(LIVE, 16, half, True)
    for shape, dtype in ((LIVE, half), *(((NANO, torch.float32), (LARGE, half)) if everything else ())):
        case = f"{shape.name} {short[dtype]}"
        dots = dtype != torch.float32
        yield Build("face_audio_attention", case, arch, lambda s=shape, d=dtype: _face(s, d), dots)  # type: ignore[misc]
        yield Build("qk_norm_rope_cache", case, arch, lambda s=shape, d=dtype: _qk(s, d), False)  # type: ignore[misc]
        yield Build("adaln", case, arch, lambda s=shape, d=dtype: _adaln(s, d), False)  # type: ignore[misc]
    if everything:
        for rows in (1, 4, 16, 64):
            for shape in (NANO, LIVE, LARGE):
                for dtype in short:
                    yield from attention(shape, rows, dtype)
                if arch >= 90:
                    yield from attention(shape, rows, half, True)
        for shape in (NANO, LIVE, LARGE):
            yield from attention(shape, 16, half, turned=False)
        for head in (32, 40, 80, 96):
            yield from attention(Shape(f"{head} channels", 3, head, 130, 2), 16, half, turned=False)
        if arch >= 90:
            yield Build("qk_norm_rope_cache", "live bf16 fp8 ring", arch, lambda: _qk(LIVE, half, True), False)


def distinct(builds: Iterator[Build]) -> Iterator[Build]:
    """Without builds that would compile to the same code."""
    found = set()
    for build in builds:
        launch = build.make()
        key = (launch.kernel.__name__, build.arch, str(launch.options), str(_signature(launch)))
        if key not in found:
            found.add(key)
            yield build


def table(rows: list[Compiled]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| operation | case | sm | warps | registers | spills | shared memory | tensor-core instructions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cores = str(row.tensor_core_instructions) if row.tensor_cores_wanted else "–"
        lines.append(
            f"| {row.op} | {row.case} | {row.arch} | {row.warps} | {row.registers} | {row.spilled} | "
            f"{row.shared_memory} | {cores} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="avatar_kernels.ahead", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", type=int, action="append", choices=ARCHITECTURES, help="default: all")
    parser.add_argument("--all", action="store_true", help="all shipped configurations, not only the most different")
    parser.add_argument("--json", type=Path, help="also writes the table's rows to this file")
    options = parser.parse_args()
    if importlib.util.find_spec("triton") is None:
        parser.error("Triton is not installed")
    if interpreted():
        parser.error("compiling needs real kernels, not the interpreter's: unset TRITON_INTERPRET")
    builds = [b for arch in options.arch or ARCHITECTURES for b in distinct(shipped(arch, options.all))]
    rows = []
    for number, build in enumerate(builds, 1):
        print(f"{number}/{len(builds)} {build.op} {build.case} sm_{build.arch}", file=sys.stderr, flush=True)
        rows.append(compile_ahead(build))
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    faults = [f"{row.op} {row.case} sm_{row.arch} {fault}" for row in rows if (fault := row.fault)]
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
