"""The reference of `face_audio_attention`, in plain PyTorch."""

import torch
from torch import Tensor


def face_audio_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    faces: Tensor,
    strength: Tensor,
    residual: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
) -> Tensor:
    """
    q, residual [B, N, H, D]; k, v [B, F, W, H, D]; faces [B, F, N]; strength []. Returns [B, N, H, D]. Computed and
    returned in `precision`: torch.float64 for the reference, None for the dtype of q.
    """
    dtype = precision or q.dtype
    q, k, v, faces, strength = (part.to(dtype) for part in (q, k, v, faces, strength))
    scores = torch.einsum("bnhd,bfwhd->bfhnw", q, k) * q.shape[-1] ** -0.5
    heard = torch.einsum("bfhnw,bfwhd->bfnhd", scores.softmax(-1), v)
    out = strength * (heard * faces[..., None, None]).sum(1)
    return out if residual is None else residual.to(dtype) + out
