"""`face_audio_attention` under Triton's interpreter, against its float64 reference."""

import pytest
import torch
from avatar_kernels.face_audio_attention import face_audio_attention
from avatar_kernels.face_audio_attention.configs import choose
from avatar_kernels.face_audio_attention.reference import face_audio_attention_reference
from avatar_kernels.tolerances import TOLERANCES, excess
from hypothesis import given
from hypothesis import strategies as st
from kernels_cases.scenes import normal
from torch import Tensor

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def voices(rows: int, faces: int, window: int, heads: int, head: int, dtype: torch.dtype) -> list[Tensor]:
    """Keys and values [B, F, W, H, D], side by side as a projection leaves them."""
    return list(normal(rows, faces, window, 2, heads, head, dtype=dtype).unbind(3))


def check(
    rows: int = 2,
    tokens: int = 37,
    faces: int = 1,
    window: int = 5,
    heads: int = 2,
    head: int = 32,
    dtype: torch.dtype = torch.float32,
    residual: bool = True,
) -> None:
    q = normal(rows, tokens, heads, head, dtype=dtype)
    k, v = voices(rows, faces, window, heads, head, dtype)
    shares = (torch.rand(rows, faces, tokens) - 0.5).clamp(min=0)  # half of the tokens show no face
    inputs = (q, k, v, shares, torch.tensor(0.7), torch.randn_like(q) if residual else None)
    out = face_audio_attention(*inputs)
    assert excess(out, face_audio_attention_reference(*inputs, precision=torch.float64)) <= 1


@DTYPES
@pytest.mark.parametrize("head", [16, 40, 64, 128])
def test_hears_through_the_mask(head: int, dtype: torch.dtype) -> None:
    """Odd heads, odd numbers of tokens and every dtype equal the reference."""
    check(head=head, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("window", [1, 16, 77])
def test_windows_of_any_length(window: int, dtype: torch.dtype) -> None:
    """A window of one token, of a whole tile and of several tiles is weighed as a whole."""
    check(window=window, dtype=dtype)


def test_without_a_residual() -> None:
    """Where none is given, nothing is added, and tokens without a face are 0."""
    check(faces=2, residual=False)


def test_each_face_hears_only_its_own_voice() -> None:
    """Another's voice changes no bit of the tokens that show one face alone."""
    q = normal(1, 40, 2, 32)
    k, v = voices(1, 2, 5, 2, 32, torch.float32)
    shares = torch.zeros(1, 2, 40)
    shares[0, 0, :25] = 1
    shares[0, 1, 20:] = 0.5
    before = face_audio_attention(q, k, v, shares, torch.tensor(1.0))
    k[:, 1], v[:, 1] = torch.randn_like(k[:, 1]), torch.randn_like(v[:, 1])
    after = face_audio_attention(q, k, v, shares, torch.tensor(1.0))
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:25], after[:, 20:25])
    assert not torch.equal(before[:, 25:], after[:, 25:])


def test_tiles_without_a_face_are_not_computed() -> None:
    """Queries of a tile that shows no face are not even read: NaN in them harms nobody."""
    tile = choose(32, 5, torch.float32).tokens
    q, k = normal(1, 3 * tile, 2, 32), normal(1, 1, 5, 2, 32)
    q[:, tile : 2 * tile] = torch.nan
    shares = torch.ones(1, 1, 3 * tile)
    shares[..., tile : 2 * tile] = 0
    residual = torch.randn_like(q.nan_to_num())
    out = face_audio_attention(q, k, k, shares, torch.tensor(1.0), residual)
    assert torch.equal(out[:, tile : 2 * tile], residual[:, tile : 2 * tile])
    assert out.isfinite().all()


def test_a_broken_mask_is_seen() -> None:
    """NaN in the mask is not taken for a face-free tile: it comes out."""
    q, k = normal(1, 16, 1, 32), normal(1, 1, 5, 1, 32)
    assert face_audio_attention(q, k, k, torch.full((1, 1, 16), torch.nan), torch.tensor(1.0)).isnan().all()


def test_overlapping_windows_of_one_stream() -> None:
    """Windows that are views into one stream, shifted by a token from frame to frame, are read where they lie."""
    stream = normal(9, 2, 32)  # [A, H, D]
    windows = stream.unfold(0, 5, 1).movedim(-1, 1)[:, None]  # [T, 1, W, H, D]
    q, shares = normal(5, 20, 2, 32), torch.rand(5, 1, 20)
    inputs = (q, windows, windows, shares, torch.tensor(1.3))
    assert windows.untyped_storage().size() == stream.untyped_storage().size()
    out = face_audio_attention(*inputs)
    assert excess(out, face_audio_attention_reference(*inputs, precision=torch.float64)) <= 1


@given(
    st.integers(1, 3),
    st.integers(1, 70),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(16, 128),
)
def test_any_shape(rows: int, tokens: int, faces: int, window: int, heads: int, head: int) -> None:
    """Any valid shape is right."""
    check(rows, tokens, faces, window, heads, head)
