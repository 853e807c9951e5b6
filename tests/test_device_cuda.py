"""The neural generator on a GPU: captured steps draw what the CPU draws. Skipped where there is none.

It needs nothing but PyTorch, Triton, NumPy, Pillow, safetensors and pytest, so that it also runs from a bare checkout:

    PYTHONPATH=.:kernels:tests python -m pytest --noconftest -c /dev/null tests/test_device_cuda.py
"""

from dataclasses import replace

import pytest
import torch
from device_frames import SIZE, TINY, TOLERANCES, close, seated
from random_networks import cue, random_networks

from streamer.base.image import Yuv
from streamer.model.checkpoint import Networks
from streamer.model.runtime.cuda import CudaFrameRenderer, Seated

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: graphs and precision on it are untested"
)


@pytest.fixture(scope="module")
def wide() -> Networks:
    """Its heads have 32 channels, the least that the kernels take: in half precision they attend."""
    return random_networks(replace(TINY, transformer=replace(TINY.transformer, width=64, rope_time=16)))


@pytest.fixture(scope="module")
def alone(wide: Networks) -> Networks:
    """The same without context, as `nano` is."""
    config = replace(wide.config, transformer=replace(wide.config.transformer, context=0))
    return random_networks(config)


@pytest.mark.parametrize("networks", ["wide", "alone"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_gpu_draws_what_the_cpu_draws(networks: str, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    """Captured steps, sessions that come and go, of two sizes: planes within the table of those of the CPU's float32.

    A session's noise depends on its seed and its frame's number alone, so that both devices use the same.
    """
    made: Networks = request.getfixturevalue(networks)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        renderers = CudaFrameRenderer(made, 4, "cpu", torch.float32), CudaFrameRenderer(made, 4, "cuda", dtype)
        renderers[1].capture()
        assert set(renderers[1]._graphs) == {1, 2, 4}
        sessions = [
            [seated(frame_renderer, seed, size) for seed, size in ((1, SIZE), (2, 64), (3, SIZE))]
            for frame_renderer in renderers
        ]
        for frame in range(6):
            drawn = []
            for frame_renderer, mine in zip(renderers, sessions, strict=True):
                if frame == 4:
                    frame_renderer.leave(mine.pop(0))
                for number, session in enumerate(mine):
                    frame_renderer.hear(session, cue(100 * frame + len(mine) - number))
                drawn.append(frame_renderer.draw(mine))
            for wanted, found in zip(*drawn, strict=True):
                assert isinstance(wanted, Yuv)
                close(found, wanted.planes, TOLERANCES["cuda", dtype])


def test_a_graph_is_the_step_launched_one_by_one(wide: Networks) -> None:
    """Replayed or launched, a step gives the same planes for each bucket, but for how cuDNN chose to convolve."""
    captured, launched = (CudaFrameRenderer(wide, 4, "cuda") for _ in range(2))
    captured.capture()
    assert not launched._graphs
    sessions: list[list[Seated]] = [[], []]
    for frame in range(6):
        found = []
        for frame_renderer, mine in zip((captured, launched), sessions, strict=True):
            if frame < 3:
                mine.append(seated(frame_renderer, frame))
            for session in mine:
                frame_renderer.hear(session, cue(frame))
            found.append(frame_renderer.draw(mine))
        for one, other in zip(*found, strict=True):
            assert isinstance(other, Yuv)
            close(one, other.planes, TOLERANCES["cuda", torch.float16])


def test_the_kernels_are_chosen(wide: Networks) -> None:
    """Where Triton is there, half precision attends by the project's kernels, float32 by PyTorch's operators."""
    pytest.importorskip("triton")
    assert "Triton kernels" in CudaFrameRenderer(wide, 1, "cuda").line
    assert "PyTorch's operators" in CudaFrameRenderer(wide, 1, "cuda", torch.float32).line


def test_what_is_no_number_is_told(wide: Networks) -> None:
    """A session whose character contains NaN is reported; its neighbour's planes stay as they were."""
    frame_renderer = CudaFrameRenderer(wide, 2, "cuda")
    frame_renderer.capture()
    whole = seated(frame_renderer, 1)
    frame_renderer.hear(whole, cue(1))
    (alone,) = frame_renderer.draw([whole])
    assert isinstance(alone, Yuv)
    wanted = alone.planes.copy()
    frame_renderer.leave(whole)
    whole, spoilt = seated(frame_renderer, 1), seated(frame_renderer, 2)
    frame_renderer._scenes.features.deep[spoilt.seat.slot].fill_(float("nan"))
    for session in (whole, spoilt):
        frame_renderer.hear(session, cue(1))
    found, told = frame_renderer.draw([whole, spoilt])
    assert not isinstance(told, Yuv)
    close(found, wanted, TOLERANCES["cuda", torch.float16])
