"""Time per frame: the whole step and its parts, by engine, batch size, precision and threads."""

import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from benchmarks.lib.hardware import usable_cores
from benchmarks.quality.clips import Portrait as Given
from benchmarks.quality.clips import begin, cue, paint
from streamer.model.autoencoder import Decoder
from streamer.model.checkpoint import Networks
from streamer.model.config import HEARD
from streamer.model.runtime.openvino_cpu import Models, OpenVinoFrameRenderer, Unavailable, models
from streamer.model.runtime.torch_cpu import FrameRenderer
from streamer.model.transformer import Transformer
from streamer.motion.controls import CONTROLS

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Timed:
    """An OpenVINO request that records its duration."""

    def __init__(self, request: Any, kind: type[nn.Module], spans: list[tuple[type[nn.Module], float]]) -> None:
        self._request, self._kind, self._spans = request, kind, spans

    def infer(self, *given: Any, **settings: Any) -> Any:
        began = time.perf_counter()
        found = self._request.infer(*given, **settings)
        self._spans.append((self._kind, time.perf_counter() - began))
        return found


class Stopwatch:
    """Measures the seconds in the transformer and the decoder, by torch's hooks or around OpenVINO's requests.

    The code under test is unchanged.
    """

    def __init__(self, frame_renderer: FrameRenderer) -> None:
        self._frame_renderer = frame_renderer
        self.spans: list[tuple[type[nn.Module], float]] = []
        self._began: dict[int, float] = {}

    def __enter__(self) -> "Stopwatch":
        self._handles = [
            nn.modules.module.register_module_forward_pre_hook(self._before),
            nn.modules.module.register_module_forward_hook(self._after),
        ]
        if isinstance(self._frame_renderer, OpenVinoFrameRenderer):
            self._requests = self._frame_renderer._step, self._frame_renderer._pictures
            self._frame_renderer._step = Timed(self._requests[0], Transformer, self.spans)
            self._frame_renderer._pictures = {
                times: Timed(request, Decoder, self.spans) for times, request in self._requests[1].items()
            }
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()
        if isinstance(self._frame_renderer, OpenVinoFrameRenderer):
            self._frame_renderer._step, self._frame_renderer._pictures = self._requests

    def _before(self, module: nn.Module, inputs: object) -> None:
        if isinstance(module, (Transformer, Decoder)):
            self._began[id(module)] = time.perf_counter()

    def _after(self, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(module, (Transformer, Decoder)):
            kind = Transformer if isinstance(module, Transformer) else Decoder
            self.spans.append((kind, time.perf_counter() - self._began.pop(id(module))))

    def split(self) -> dict[str, float]:
        """A frame's seconds in the transformer and in the decoder, and the number of transformer passes."""
        took = {"transformer": 0.0, "decoder": 0.0, "passes": 0.0}
        for kind, seconds in self.spans:
            if kind is Decoder:
                took["decoder"] += seconds
            else:
                took["transformer"] += seconds
                took["passes"] += 1
        self.spans.clear()
        return took


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    values = np.array(seconds) * 1000
    return {"mean": float(values.mean()), **{f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)}}


def _frames(frame_renderer: FrameRenderer, batch: int, count: int, rng: np.random.Generator) -> dict[str, Any]:
    """Milliseconds of a step for `batch` sessions, and of its parts in a second run, which hooks slow down slightly."""
    size = frame_renderer.config.size
    picture = rng.integers(0, 256, (size, size, 4)).astype(np.uint8)
    given = Given(picture, np.ones((size // 16, size // 16), np.float32))
    streams = [begin(frame_renderer, given, seed) for seed in range(batch)]

    def step() -> float:
        cues = [
            cue(rng.normal(0, 0.2, len(CONTROLS)).astype(np.float32), rng.normal(0, 0.5, HEARD)) for _ in range(batch)
        ]
        began = time.perf_counter()
        paint(frame_renderer, streams, cues)
        return time.perf_counter() - began

    for _ in range(5):
        step()
    whole = [step() for _ in range(count)]
    parts: dict[str, list[float]] = {"transformer": [], "decoder": [], "rest": []}
    passes = []
    with Stopwatch(frame_renderer) as watch:
        for _ in range(max(count // 3, 3)):
            took = step()
            split = watch.split()
            passes.append(split["passes"])
            for name in ("transformer", "decoder"):
                parts[name].append(split[name])
            parts["rest"].append(took - split["transformer"] - split["decoder"])
    return {
        "n": count,
        "whole_ms": _milliseconds(whole),
        "parts_p50_ms": {name: float(np.median(each)) * 1000 for name, each in parts.items()},
        "transformer_passes": float(np.mean(passes)),
    }


def _bytes(parts: Sequence[torch.Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in parts)


def measure(
    networks: Networks, count: int, threads: int | None = None, batches: Sequence[int] = (1, 2, 4)
) -> dict[str, Any]:
    """Measures each combination of engine, batch, precision and threads (`threads`, or 1 and 2), and a session's
    memory.

    The compiled engine draws a batch's sessions sequentially. If it is unavailable, `compiled` gives the reason.
    """
    rng = np.random.default_rng(0)
    before = torch.get_num_threads()
    configurations = []
    made: Models | None = None
    try:
        made = models(networks)
        compiled = made.name
    except Unavailable as error:
        compiled = str(error)
    try:
        for used in [threads] if threads else sorted({1, min(2, usable_cores())}):
            torch.set_num_threads(used)
            for engine, name in product(("torch", "compiled"), DTYPES):
                if engine == "torch":
                    frame_renderer = FrameRenderer(networks, DTYPES[name])
                elif made is not None and DTYPES[name] in made.precisions():
                    frame_renderer = OpenVinoFrameRenderer(networks, DTYPES[name], made, used)
                else:
                    continue
                for batch in batches:
                    steps = 5 * count if batch == 1 else count  # a 99th percentile needs hundreds
                    found = _frames(frame_renderer, batch, steps, rng)
                    configurations.append({"engine": engine, "threads": used, "dtype": name, "batch": batch, **found})
    finally:
        torch.set_num_threads(before)
    size = networks.config.size
    frame_renderer = FrameRenderer(networks)
    blank = Given(np.zeros((size, size, 4), np.uint8), np.ones((size // 16, size // 16), np.float32))
    stream = begin(frame_renderer, blank, 0)
    cache = stream.cache
    return {
        "configurations": configurations,
        "compiled": compiled,
        "parameters": {
            "transformer": sum(p.numel() for p in networks.transformer.parameters()),
            "decoder": sum(p.numel() for p in networks.autoencoder.decoder.parameters()),
            "once a character": sum(p.numel() for p in networks.autoencoder.pyramid.parameters()),
        },
        "memory_mb": {
            "process": psutil.Process().memory_info().rss / 1e6,
            "ring and sink of a session, fp32": _bytes(
                [cache.ring_keys, cache.ring_values, cache.sink_keys, cache.sink_values]
            )
            / 1e6,
            "anchor of a character, fp32": _bytes([stream.still.anchor.picture, *stream.still.anchor.features]) / 1e6,
        },
    }
