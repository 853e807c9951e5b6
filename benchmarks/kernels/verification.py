"""Whether the Triton kernels are right: their results against the references in float64."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from avatar_kernels.adaln import adaln
from avatar_kernels.adaln.reference import adaln_reference
from avatar_kernels.face_audio_attention import face_audio_attention
from avatar_kernels.face_audio_attention.reference import face_audio_attention_reference
from avatar_kernels.qk_norm_rope_cache import qk_norm_rope_cache
from avatar_kernels.qk_norm_rope_cache.reference import qk_norm_rope_cache_reference
from avatar_kernels.rolling_attention import rolling_attention
from avatar_kernels.rolling_attention.reference import rolling_attention_reference
from avatar_kernels.shapes import Shape
from avatar_kernels.tolerances import TOLERANCES, excess
from torch import Tensor

from benchmarks.kernels.baselines import adaln_unfused, face_unfused, norm_unfused
from benchmarks.kernels.gpu import finite, reason_of
from benchmarks.kernels.inputs import adaln_inputs, attention_inputs, face_inputs, norm_inputs


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


def verify(checks: Iterator[Check], over: Callable[[], str] = str) -> Iterator[dict[str, Any]]:
    """Runs checks and prints each; one that raises is wrong, with the reason. Ends when `over` gives a reason."""
    for name, error in checks:
        found, why = math.inf, ""
        try:
            found = error()
        except Exception as trouble:
            why = reason_of(trouble)
        right = found <= 1
        print(f"{'right' if right else 'WRONG'}  {name}: {why or f'{found:.2g} of the tolerance'}", flush=True)
        yield {"check": name, "right": right, "error": finite(found), "failed": why}
        if over():
            return
