"""Cross-attention of each latent frame to its own audio window, through the face mask, plus the residual, in one pass.

Letters used in shapes: B latent frames (of all sessions), N tokens of a latent frame, H heads, D channels of a head,
F faces, W audio tokens in a window.
"""

import torch
from torch import Tensor

from avatar_kernels import checks
from avatar_kernels.ring import MAX_HEAD


def face_audio_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    faces: Tensor,
    strength: Tensor,
    residual: Tensor | None = None,
) -> Tensor:
    """
    residual + strength * sum over faces f of faces[f] * softmax(q k[f]^T / sqrt(D)) v[f]: each face attends to its own
    voice, weighted by where it is.

    q [B, N, H, D]; k, v [B, F, W, H, D], of which B, F and W may have any stride, so that overlapping windows of one
    stream need no copy; faces [B, F, N], the fraction of a token that shows the face, in q's dtype or float32; strength
    [] (alpha_A); residual [B, N, H, D] or None. Returns [B, N, H, D]. Tiles of tokens without a face are not computed.
    Forward only.
    """
    _check(q, k, v, faces, strength, residual)
    checks.offered("face_audio_attention", q.device)
    from avatar_kernels.face_audio_attention.kernel import plan

    launch, out = plan(q, k, v, faces, strength, residual)
    launch.run()
    return out


def _check(q: Tensor, k: Tensor, v: Tensor, faces: Tensor, strength: Tensor, residual: Tensor | None) -> None:
    checks.dimensions("q", q, "B N H D")
    checks.dimensions("k", k, "B F W H D")
    checks.filled("q", q)
    checks.filled("k", k)
    checks.dtype("q", q, *checks.FLOATS)
    rows, tokens, heads, head = q.shape
    if not 16 <= head <= MAX_HEAD:
        raise ValueError(f"a head has {head} channels, wanted 16 to {MAX_HEAD}")
    count, window = k.shape[1:3]
    for name, memory in (("k", k), ("v", v)):
        checks.shape(name, memory, rows, count, window, heads, head)
    checks.shape("faces", faces, rows, count, tokens)
    checks.shape("strength", strength)
    checks.packed("faces", faces, 1)
    checks.reach("faces", faces)
    if residual is not None:
        checks.shape("residual", residual, *q.shape)
    for name, tensor in (("q", q), ("k", k), ("v", v), ("residual", residual)):
        if tensor is not None:
            checks.dtype(name, tensor, q.dtype)
            checks.packed(name, tensor, 2)
            checks.reach(name, tensor)
            checks.together(name, tensor, "q", q)
    for name, share in (("faces", faces), ("strength", strength)):
        checks.dtype(name, share, *dict.fromkeys((q.dtype, torch.float32)))
        checks.together(name, share, "q", q)
    checks.forward_only("face_audio_attention", q=q, k=k, v=v, faces=faces, strength=strength, residual=residual)
