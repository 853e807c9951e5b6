"""The parts of a device's frame: as the CPU's runtime composes it, where its patch lies, references, textures."""

import numpy as np
import pytest
import torch
from device_frames import EDGE, TINY, character
from painted_networks import painted_networks
from random_networks import cue, random_networks
from torch import Tensor

from streamer.base.image import Yuv
from streamer.model.layers import enlarged, to_tensor
from streamer.model.runtime import compose as cpu
from streamer.model.runtime import cuda_frame, graphs
from streamer.model.runtime.cuda import CudaFrameRenderer
from streamer.model.runtime.graph_cpu import GraphFrameRenderer, Stream
from streamer.training.export import in_torch


@pytest.mark.parametrize(
    ("count", "opaque", "plated", "edge"),
    [(1, True, False, 512), (2, False, True, 512), (3, False, True, 1024), (3, False, False, 512)],
)
def test_a_device_draws_what_the_cpus_runtime_draws(count: int, opaque: bool, plated: bool, edge: int) -> None:
    """The same character and conditions given to both: planes differ by rounding and by how textures are enlarged."""
    networks = painted_networks()
    painter = networks.autoencoder.painter
    for layer in (painter.paint, painter.patch.paint):  # within the range of colours, beyond which the CPU cuts earlier
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    painter.paint.bias[12:16] = 0.6  # alpha
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    class Device(CudaFrameRenderer):
        def _noise(self, count: int) -> Tensor:
            return noise.expand(count, -1, -1, -1)

    class Cpu(GraphFrameRenderer):
        def noise(self, stream: Stream) -> np.ndarray:
            return noise.numpy()

    made = character(5, 512, count, opaque, plated, edge, 512)
    given = made._replace(face=np.ones((16, 16), np.float32))
    names = (graphs.PREPARE, graphs.IDENTITY, graphs.STEP, graphs.PAINT[count - 1], graphs.PATCH)
    device = Device(networks, 1, "cpu", torch.float32)
    runtime = Cpu(networks.config, {name: in_torch(networks, name) for name in names})
    seated, stream = device.stream(device.prepare(*given)), runtime.stream(runtime.prepare(*given))
    luma = []
    for frame in range(2):
        device.hear(seated, cue(frame))
        runtime.hear(stream, cue(frame))
        (found,), (wanted,) = device.draw([seated]), runtime.draw([stream], planes=True)
        assert isinstance(found, Yuv) and isinstance(wanted, Yuv) and found.size == wanted.size == 512
        luma.append(found.brightness.astype(int))
        apart = np.abs(found.planes.astype(int) - wanted.planes)
        if opaque or plated:
            assert found.alpha is None and wanted.alpha is None
            assert apart.mean() < 0.5
        else:
            assert found.alpha is not None and wanted.alpha is not None
            assert np.abs(found.alpha.astype(int) - wanted.alpha).mean() < 0.7
            apart = apart[:512][wanted.alpha >= 128]  # below, a level more or less of alpha changes the colour a lot
            assert apart.mean() < 1
        assert np.quantile(apart, 0.999) <= 4
        assert stream.place is not None
        assert (device._scenes.place[0] * cpu.STEP).tolist() == list(stream.place[:2])
    assert np.abs(luma[1] - luma[0]).mean() > 0.2  # conditions are seen


def _flow(rng: np.random.Generator, far: float) -> np.ndarray:
    """[2, F, F] in edges: a movement that differs from place to place, with strays."""
    grid = np.linspace(0, 1, cpu.CELLS)
    shift, slope = rng.normal(0, far, 2), rng.normal(0, 0.2, (2, 2))
    flow = shift[:, None, None] + slope[:, :1, None] * grid + slope[:, 1:, None] * grid[:, None]
    flow += rng.normal(0, 0.01, flow.shape)
    stray = rng.random((cpu.CELLS, cpu.CELLS)) < 0.2
    flow[:, stray] = rng.normal(0, 0.3, (2, int(stray.sum())))
    return flow.astype(np.float32)


def test_a_patch_lies_where_the_cpus_does() -> None:
    """Over many movements, within a cell of the CPU's place, nearly always in the same; it stays where that stays."""
    rng = np.random.default_rng(0)
    flows = np.stack([_flow(rng, far) for far in np.repeat([0.02, 0.1, 0.3], 40)])
    centres = rng.uniform(0.2, 0.8, (len(flows), 2)).astype(np.float32)
    last = torch.full((len(flows), 2), -1)
    places: list[cpu.Place | None] = [None] * len(flows)
    same = moved = 0
    for step in range(4):
        found = cuda_frame.patch_place(torch.from_numpy(flows * cpu.CELLS), torch.from_numpy(centres), 24, last)
        for k, place in enumerate(places):
            wanted = cpu.patch_place(flows[k], tuple(centres[k]), 192, place)
            off = found[k].numpy() - np.array(wanted[:2]) // cpu.STEP
            assert np.abs(off).max() <= 1, (k, step)
            same += not off.any()
            moved += bool(place and place != wanted)
            places[k] = wanted
            last[k] = torch.tensor(wanted[:2]) // cpu.STEP
        flows = flows + rng.normal(0, 0.006, (len(flows), 2, 1, 1)).astype(np.float32)
    assert same >= 0.97 * 4 * len(flows) and moved > len(flows) / 4


def test_a_patch_of_no_place() -> None:
    """Where nothing of the face is shown, or the flow is not finite, the patch is where the face was, in the frame."""
    centre, none = torch.tensor([[0.5, 0.25]]), torch.full((1, 2), -1)
    for value in (torch.nan, torch.inf, 1e4):
        flow = torch.full((1, 2, 64, 64), value)
        assert cuda_frame.patch_place(flow, centre, 24, none).tolist() == [[20, 4]]
        flow[:, :, :, :40] = 2.0
        assert cuda_frame.patch_place(flow, centre, 24, none).tolist() == [[18, 2]]
    still = torch.zeros(1, 2, 64, 64)
    assert cuda_frame.patch_place(still, torch.tensor([[0.0, 1.0]]), 24, none).tolist() == [[0, 40]]
    near = torch.tensor([[0.51, 0.25]])  # 0.64 cells off: it stays, and moves if there was none before
    assert cuda_frame.patch_place(still, near, 24, torch.tensor([[20, 4]])).tolist() == [[20, 4]]
    assert cuda_frame.patch_place(still, near, 24, none).tolist() == [[21, 4]]


@torch.no_grad()
def test_a_missing_reference_is_as_none() -> None:
    """Two references and a missing one give what two give, whatever stands in its place."""
    painter = random_networks(TINY).autoencoder.painter
    given = torch.cat([to_tensor(picture[None]) for picture in character(1, count=3, edge=64).references])[None]
    latent = torch.randn(1, TINY.autoencoder.latent, EDGE, EDGE)
    wanted = painter(latent, None, painter.references(given[:, :2]))
    found = painter(latent, None, painter.references(given), torch.tensor([[False, False, True]]))
    assert not found.shares[:, 2].any()
    torch.testing.assert_close(found.shares[:, :2], wanted.shares, atol=1e-5, rtol=1e-4)
    for name in ("paint", "painted", "features"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=1e-4, rtol=1e-4)
    doubled = painter(latent, None, painter.references(given[:, [0, 1, 0]]))
    assert (doubled.shares[:, 1] - wanted.shares[:, 1]).abs().mean() > 0.05  # a copy in its place would have a share


def test_textures_keep_the_detail_of_larger_pictures() -> None:
    """A picture of the frame's edge is `enlarged`; a larger one gives the same positions, more exactly."""
    rng = np.random.default_rng(0)
    waves = [(rng.uniform(0.1, 0.35, 2), rng.uniform(0, 6)) for _ in range(6)]

    def values(at: np.ndarray) -> np.ndarray:
        """At places along both edges, in pixels of a frame of 64."""
        return sum((np.sin(2 * np.pi * (u * at + v * at[:, None]) + phase) for (u, v), phase in waves), np.zeros(()))

    def picture(edge: int) -> Tensor:
        levels = 127.5 + 20 * values((np.arange(edge) + 0.5) / edge * 64)
        return torch.from_numpy(np.stack([levels] * 4).round().astype(np.uint8))

    exact = 20 / 127.5 * values((np.arange(127) + 1) / 2)
    small = cuda_frame.texture(picture(64), 64)
    assert torch.equal(small, enlarged(picture(64)[None].float() / 127.5 - 1)[0])
    errors = []
    for edge in (64, 96, 128, 192):
        found = cuda_frame.texture(cuda_frame.limited(picture(edge), 64), 64)
        assert found.shape == (4, 127, 127)
        errors.append(float(np.abs(found.numpy() - exact)[:, 4:-4, 4:-4].mean()))
    assert max(errors[2:]) < errors[0] / 2 and errors[1] < errors[0] < 0.1, errors
    assert cuda_frame.limited(picture(192), 64).shape == (4, 128, 128)
