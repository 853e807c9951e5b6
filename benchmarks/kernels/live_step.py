"""A live step of a batch of sessions, set up to be measured, and how far it is from float32."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from streamer.model.autoencoder import Autoencoder
from streamer.model.config import HEARD, PLAN, STRIDE, ModelConfig
from streamer.model.runtime import cuda_step
from streamer.model.runtime.cuda_frame import REFERENCES, Scenes
from streamer.model.runtime.slots import Seat, Slots
from streamer.model.transformer import Conditions, Transformer
from streamer.motion.controls import EMOTIONS

WARM_UP = 5

CHECKED = 3
"""Sessions in the comparison, and twice as many frames: past the seam of their rings."""

Call = Callable[[], Tensor]


def transformer(config: ModelConfig) -> Transformer:
    """Random weights everywhere, also where training starts from zero: with zeros every result would be the same."""
    model = Transformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.03 * torch.randn_like(parameter))
    return model


def random_features(config: ModelConfig) -> Tensor:
    edge = config.size // STRIDE
    return torch.randn(1, config.autoencoder.channels[-1], edge, edge)


def seated(model: Transformer, batch: int, device: str, features: Tensor) -> tuple[Slots, list[Seat]]:
    """A session in each of `batch` slots, at its beginning; the face covers the middle of the picture."""
    config, dtype = model.config, model.enter.weight.dtype
    slots = Slots(config, batch, device, dtype)
    edge = config.edge
    face = torch.zeros(edge, edge)
    face[edge // 4 : -(edge // 4) or None, edge // 4 : -(edge // 4) or None] = 1
    reference = model.reference(features.to(device, dtype))
    return slots, [slots.seat(reference, face.view(1, 1, -1)) for _ in range(batch)]


def inputs(config: ModelConfig, batch: int, faces: Tensor) -> tuple[Tensor, Conditions, Tensor]:
    """The arguments of `Slots.take`, for a step in which every session is due."""
    edge, given = config.size // STRIDE, torch.ones(batch)
    conditions = Conditions(
        torch.randn(batch, 2, PLAN),
        given,
        torch.randn(batch, 1, config.transformer.window, HEARD),
        given,
        faces[:batch],
        torch.rand(batch, 1, len(EMOTIONS)),
        given,
    )
    return torch.randn(batch, config.autoencoder.latent, edge, edge), conditions, torch.ones(batch, dtype=torch.bool)


def full(slots: Slots) -> None:
    """As after a minute: rings full of numbers of the size that they hold, at different places."""
    for ring in (slots.ring_keys, slots.ring_values):
        ring.normal_()
    slots.latent.normal_()
    slots.has_previous.fill_(True)
    slots.written.copy_(torch.randint(slots.context, 1500, (slots.capacity,)))


def scenes(autoencoder: Autoencoder, config: ModelConfig, batch: int, device: str, dtype: torch.dtype) -> Scenes:
    """Random pictures, as many as a slot holds, for each session."""
    made = Scenes(config, batch, torch.device(device), dtype)
    pictures = torch.rand(1, REFERENCES, 4, config.size, config.size, device=device) * 2 - 1
    made.textures.uniform_(-1, 1)
    for place, level in zip(made.features, autoencoder.painter.references(pictures.to(dtype)), strict=True):
        place.copy_(level.expand_as(place))
    made.centre.fill_(0.5)
    made.place.fill_(-1)
    return made


def eight_bit(frames: Tensor) -> Tensor:
    """[B, 4, D, D] in whole levels 0..255 -> the same, uint8."""
    return frames.to(torch.uint8)


def captured(call: Call) -> Call:
    """The same as one CUDA graph; its result is the same tensor at each replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what is compiled or chosen on first use is not captured
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def milliseconds(call: Callable[[], object], device: str, repeats: int) -> list[float]:
    """Of each call, from before it until the device is done."""
    taken = []
    for _ in range(WARM_UP + repeats):
        wait(device)
        began = time.perf_counter()
        call()
        wait(device)
        taken.append(1000 * (time.perf_counter() - began))
    return taken[WARM_UP:]


def tensors(slots: Slots) -> list[Tensor]:
    """State and inputs, in one order."""
    found = [slots.ring_keys, slots.ring_values, slots.sink_keys, slots.sink_values, slots.written, slots.added]
    found += [slots.latent, *slots.given, slots.has_previous, slots.noise, *slots.now, slots.due]
    return found


def same_state(slots: Slots, source: Slots) -> None:
    for to, part in zip(tensors(slots), tensors(source), strict=True):
        to.copy_(part)


def error(
    model: Transformer, exact: Transformer, ways: Sequence[cuda_step.Step], device: str, graph: bool
) -> list[float]:
    """
    For each way, its largest difference from the plain step of `exact` in float32, as a multiple of the plain step's in
    the model's precision: over frames that each begin from one state. Infinite where a number is none.
    """
    features = random_features(model.config)
    truth, _ = seated(exact, CHECKED, device, features)
    state, _ = seated(model, CHECKED, device, features)
    trials = [seated(model, CHECKED, device, features)[0] for _ in ways]
    calls: list[Call] = [lambda w=w, s=s: w(model, s, CHECKED) for w, s in zip(ways, trials, strict=True)]  # type: ignore[misc]
    calls = [captured(call) for call in calls] if graph else calls
    worst = [0.0] * len(ways)
    plain = 1e-5  # of float32, in which the plain step errs nothing
    for _ in range(2 * CHECKED):
        state.take(*inputs(model.config, CHECKED, state.now.faces))
        for slots in (truth, *trials):
            same_state(slots, state)
        wanted = cuda_step.reference_step(exact, truth, CHECKED)
        for i, call in enumerate(calls):
            difference = (call().float() - wanted).abs().nan_to_num(nan=torch.inf)
            worst[i] = max(worst[i], float(difference.max()))
        plain = max(plain, float((cuda_step.reference_step(model, state, CHECKED).float() - wanted).abs().max()))
    return [found / plain for found in worst]


def levels_apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of two pictures, uint8."""
    return float((found.int() - wanted.int()).abs().max())
