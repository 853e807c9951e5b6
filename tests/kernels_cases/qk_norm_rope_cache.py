"""`qk_norm_rope_cache` under Triton's interpreter, against its float64 reference."""

import pytest
import torch
from avatar_kernels.qk_norm_rope_cache import qk_norm_rope_cache
from avatar_kernels.qk_norm_rope_cache.reference import qk_norm_rope_cache_reference
from avatar_kernels.tolerances import TOLERANCES, excess
from hypothesis import given
from hypothesis import strategies as st
from kernels_cases.scenes import FP8, Scene

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def check(scene: Scene, write: bool = True) -> None:
    """Outputs against the reference, and every number of the ring, those that must stay among them."""
    head = scene.q.shape[-1]
    weights = (0.5 + torch.rand(head), 0.5 + torch.rand(head))
    before = [part.clone() for part in scene.ring]
    expected = tuple(part.clone() if part.dtype == FP8 else part.double() for part in scene.ring)

    def step(function, ring, **options):  # noqa: ANN001, ANN003, ANN202
        return function(
            scene.q,
            scene.k,
            scene.v,
            *weights,
            ring,
            scene.written,
            scene.table,
            write=write,
            **scene.options,
            **options,
        )

    out = step(qk_norm_rope_cache, scene.ring)
    truth = step(qk_norm_rope_cache_reference, expected, precision=torch.float64)
    assert excess(out[0], truth[0]) <= 1
    assert excess(out[1], truth[1]) <= 1
    rows, slots, tokens = scene.ring[0].shape[:3]
    frames = scene.q.shape[1] // tokens
    for part, old, wanted in zip(scene.ring, before, expected, strict=True):
        for row in range(rows):
            new = {(int(scene.written[row]) + frame) % slots for frame in range(frames)} if write else set()
            for slot in range(slots):
                if slot not in new:
                    assert torch.equal(part[row, slot].view(torch.uint8), old[row, slot].view(torch.uint8))
                elif part.dtype == FP8:
                    # A number between two of e4m3's may fall to either: one step, an eighth at most.
                    got, want = part[row, slot].float(), wanted[row, slot].float()
                    assert ((got - want).abs() <= 2**-9 + want.abs() / 8).all()
                    assert (got == want).float().mean() > 0.9
                else:
                    assert excess(part[row, slot], wanted[row, slot]) <= 1


@DTYPES
@pytest.mark.parametrize("head", [32, 40, 128])
def test_norms_turns_and_writes(head: int, dtype: torch.dtype) -> None:
    """Sessions at different positions, odd heads and every dtype: outputs and ring equal the reference's."""
    check(Scene([0, 2, 3, 10**12 + 1], head=head, dtype=dtype))


@pytest.mark.parametrize("count", range(8))
def test_the_seam(count: int) -> None:
    """Whatever has been written, a frame goes into the slot of the oldest, and the query stands behind the newest."""
    check(Scene([count], tokens=3))


@pytest.mark.parametrize("written", [[0, 4], [2, 3]], ids=str)
def test_several_frames_cross_the_seam(written: list[int]) -> None:
    """A step of two frames writes both, on either side of the ring's seam."""
    check(Scene(written, frames=2))


def test_without_writing_the_ring_stays() -> None:
    """A pass over noise only reads positions: the ring keeps every bit."""
    check(Scene([1, 5]), write=False)


def test_an_empty_ring_can_be_read() -> None:
    """A model without context has a ring of no slots, and its queries stand at index 0."""
    check(Scene([0, 0], slots=0), write=False)


def test_a_spare_slot() -> None:
    """With one slot more than the context, positions count the context and the slots count all."""
    check(Scene([0, 2, 3, 9], slots=4, context=3))


@DTYPES
def test_writes_e4m3(dtype: torch.dtype) -> None:
    """A ring in FP8 gets keys and values divided by their head's scale, rounded to the nearest."""
    check(Scene([0, 4], dtype=dtype, fp8=True))


def test_e4m3_saturates() -> None:
    """What is too large for e4m3 becomes its largest number, never NaN; what is NaN stays NaN, and alone."""
    scene = Scene([0], fp8=True)
    scene.v.mul_(1e4)
    scene.v[0, 1, 0, 3] = torch.nan
    scene.k[0, 2, 1, 5] = torch.nan  # and with it its whole head, which is normed together
    qk_norm_rope_cache(
        scene.q,
        scene.k,
        scene.v,
        torch.ones(32),
        torch.ones(32),
        scene.ring,
        scene.written,
        scene.table,
        **scene.options,
    )
    keys, values = (part[0, 0].float() for part in scene.ring)
    assert values.nan_to_num(0).abs().max() == 448
    assert values.isnan().nonzero().tolist() == [[1, 0, 3]]
    assert keys[2, 1].isnan().all() and keys.isnan().sum() == 32


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(16, 64),
    st.integers(1, 5),
)
def test_any_shape(written: list[int], tokens: int, heads: int, half: int, slots: int) -> None:
    """Any valid shape and any position is right."""
    check(Scene(written, tokens=tokens, heads=heads, head=2 * half, slots=slots))
