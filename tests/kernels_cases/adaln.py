"""`adaln` under Triton's interpreter, against its float64 reference."""

import pytest
import torch
from avatar_kernels.adaln import adaln
from avatar_kernels.adaln.configs import MAX_WIDTH
from avatar_kernels.adaln.reference import adaln_reference
from avatar_kernels.tolerances import TOLERANCES, excess
from hypothesis import given
from hypothesis import strategies as st
from kernels_cases.scenes import normal

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def check(x: torch.Tensor, *, modulated: bool, gated: bool, norm: bool = True) -> None:
    """Both outputs against the reference; shift, scale and gate are slices of one projection."""
    rows, _, width = x.shape
    shift, scale, gate = normal(rows, 1, 3 * width, dtype=x.dtype).chunk(3, -1)
    given = (shift, scale) if modulated else (None, None)
    branch = (torch.randn_like(x), gate) if gated else (None, None)
    out = adaln(x, *given, *branch, norm=norm)
    truth = adaln_reference(x, *given, *branch, norm=norm, precision=torch.float64)
    if gated:
        assert excess(out.x, truth.x) <= 1
    else:
        assert out.x is x
    if norm:
        assert excess(out.level, truth.level) <= 1
    else:
        assert out.level is None


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 40), (3, 5, 129), (2, 3, 640)], ids=str)
def test_gates_norms_and_modulates(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    """One pass equals gate, residual, LayerNorm and modulation in float64, at odd widths and in every dtype."""
    check(normal(*shape, dtype=dtype), modulated=True, gated=True)


@pytest.mark.parametrize(
    ("modulated", "gated", "norm"),
    [(True, False, True), (False, False, True), (False, True, True), (False, True, False)],
)
def test_does_each_part_alone(modulated: bool, gated: bool, norm: bool) -> None:
    """What is not asked for is neither computed nor returned."""
    check(normal(2, 9, 33), modulated=modulated, gated=gated, norm=norm)


def test_the_widest_token_fits() -> None:
    """A token of the largest width is normed whole."""
    check(normal(1, 2, MAX_WIDTH), modulated=True, gated=True)


def test_a_large_mean_leaves_the_variance_exact() -> None:
    """The variance is taken of centred numbers: a mean of a thousand does not drown it."""
    x = normal(1, 4, 64) + 1000
    assert (adaln(x).level - adaln_reference(x.double()).level).abs().max() < 2e-3


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 300), st.booleans(), st.booleans())
def test_any_shape(rows: int, tokens: int, width: int, modulated: bool, gated: bool) -> None:
    """Any valid shape is right."""
    check(normal(rows, tokens, width), modulated=modulated, gated=gated)


def test_reads_tokens_where_they_lie() -> None:
    """Tokens that are slices of wider ones are read in place."""
    check(normal(2, 6, 3 * 24)[:, ::2, 24:48], modulated=True, gated=True)
