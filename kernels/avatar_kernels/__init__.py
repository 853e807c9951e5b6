"""Triton GPU kernels of the talking avatar's transformer, each with a plain PyTorch reference.

Each operation is a subpackage with one public function of the same name:

    from avatar_kernels.rolling_attention import rolling_attention
    from avatar_kernels.face_audio_attention import face_audio_attention
    from avatar_kernels.qk_norm_rope_cache import qk_norm_rope_cache
    from avatar_kernels.adaln import adaln

Everything can be imported without Triton. `why_not` says whether the kernels can run, and if not, why; their references
(`avatar_kernels.<op>.reference`) run anywhere.
"""

import importlib.util
import os

OPS = ("rolling_attention", "face_audio_attention", "qk_norm_rope_cache", "adaln")
"""The operations, available if `why_not` returns None."""

CAPABILITY = (8, 0)
"""Minimum compute capability: bfloat16 on tensor cores, and asynchronous copies."""

FP8_CAPABILITY = (9, 0)
"""Minimum compute capability for a context in FP8 (e4m3)."""


def interpreted() -> bool:
    """Whether kernels run on the CPU in Triton's interpreter. Triton checks once, when a kernel is decorated."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def why_not(device: str = "cuda") -> str | None:
    """None if the kernels run on `device` ("cuda", "cuda:1", "cpu", …); otherwise the reason why not."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return None if interpreted() else "kernels run on a CPU only under Triton's interpreter (TRITON_INTERPRET=1)"
    if kind != "cuda":
        return f"kernels run on CUDA devices, not on {device!r}"
    if interpreted():
        return "TRITON_INTERPRET is set, and Triton's interpreter runs kernels on a CPU only"
    import torch

    if torch.version.hip is not None:
        return "kernels are made for NVIDIA GPUs, and this PyTorch is built for AMD's"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return "there is no CUDA device"
    which = int(index) if index else torch.cuda.current_device()
    if which >= count:
        return f"device {device!r} does not exist: there are {count} CUDA devices"
    found = torch.cuda.get_device_capability(which)
    if found < CAPABILITY:
        return f"compute capability {found[0]}.{found[1]} is below {CAPABILITY[0]}.{CAPABILITY[1]}"
    return None
