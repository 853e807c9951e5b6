"""Processor time of a frame and of its stages, on one thread, by engine, precision, size and number of references.

A held-out character speaks, so that networks return what they return in live sessions: how long pixels take to copy
depends on it. All configurations take turns frame by frame, so that other load on the machine affects them alike.
Processor time is that of the whole process; networks and composing run on one thread.
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import torch

from benchmarks.quality.clips import Passage, begin, cue, frame_size, given, with_references
from streamer.avatar.portrait import MOST_REFERENCES
from streamer.base.image import Picture
from streamer.model.checkpoint import Networks, save, weights_path
from streamer.model.runtime.compiled import Compiled
from streamer.model.runtime.compose import Composer, Scene
from streamer.model.runtime.engines import Engine, Network, OnnxRuntime, OpenVino, Unavailable
from streamer.model.runtime.graph_cpu import GraphFrameRenderer, Stream
from streamer.model.runtime.graphs import ADVANCE, PAINT, PATCH, STEP, Graphs, find
from streamer.model.runtime.stream import NotFinite
from streamer.model.runtime.torch_cpu import in_torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

STAGES = ("step", "paint", "compose", "patch", "finish", "rest")
_STAGE = {STEP: "step", ADVANCE: "step", **dict.fromkeys(PAINT, "paint"), PATCH: "patch"}
_WARM = 3

Spans = dict[str, float]
"""Processor seconds of the current frame by stage."""


@contextlib.contextmanager
def _timed(spans: Spans, stage: str) -> Iterator[None]:
    began = time.process_time()
    yield
    spans[stage] = spans.get(stage, 0.0) + time.process_time() - began


class TimedNetworks(Mapping[str, Network]):
    """Networks that record how long they take."""

    def __init__(self, networks: Mapping[str, Network], spans: Spans) -> None:
        self._networks, self._spans = networks, spans

    def __getitem__(self, graph: str) -> Network:
        network, stage = self._networks[graph], _STAGE.get(graph)
        if stage is None:  # once for each character
            return network

        def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
            with _timed(self._spans, stage):
                return network(values)

        return run

    def __iter__(self) -> Iterator[str]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)


class TimedComposer(Composer):
    """A composer that records how long it takes."""

    def __init__(self, size: int, spans: Spans) -> None:
        super().__init__(size)
        self._spans = spans

    def compose(self, *values: Any, **settings: Any) -> np.ndarray:
        with _timed(self._spans, "compose"):
            return super().compose(*values, **settings)

    def finish(self, scene: Scene, *values: Any, **settings: Any) -> Picture:
        with _timed(self._spans, "finish"):
            return super().finish(scene, *values, **settings)


@dataclass
class Configuration:
    """One way to draw a frame, and what was measured of it."""

    engine: str
    precision: str
    size: int
    references: int
    renderer: GraphFrameRenderer
    stream: Stream
    spans: Spans
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STAGES})

    def draw(self, said: Passage, k: int) -> None:
        """Draws frame k as planes for the encoder. Raises NotFinite."""
        self.spans.clear()
        wall, processor = time.perf_counter(), time.process_time()
        self.renderer.hear(self.stream, cue(said.controls[k], said.heard[k]))
        (frame,) = self.renderer.draw([self.stream], planes=True)
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        if isinstance(frame, NotFinite):
            raise frame
        if k >= _WARM:
            self.wall.append(wall)
            self.processor.append(processor)
            rest = processor - sum(self.spans.values())
            for name, values in self.stages.items():
                values.append(rest if name == "rest" else self.spans.get(name, 0.0))

    def numbers(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "precision": self.precision,
            "size": self.size,
            "references": self.references,
            "threads": 1,
            "n": len(self.wall),
            "processor_ms": _milliseconds(self.processor),
            "wall_ms": _milliseconds(self.wall),
            "stages_ms": {name: 1000 * float(np.median(each)) for name, each in self.stages.items()},
        }


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    values = np.array(seconds) * 1000
    return {"mean": float(values.mean()), **{f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)}}


def exported(networks: Networks, weights: Path, folder: Path) -> Graphs:
    """The graphs of these weights: the packaged ones, or newly exported to `folder`. Raises Unavailable."""
    name = networks.config.name
    if weights == weights_path(name):
        return find(name)
    try:
        from streamer.training import export

        copied = folder / f"{name}.safetensors"
        save(copied, networks.config, networks.autoencoder, networks.transformer)
        export.export(networks, copied)
        return find(name, folder, networks.config)
    except ImportError as error:
        raise Unavailable(f"the weights cannot be exported: {error}") from None


def _engines(
    networks: Networks, weights: Path, folder: Path
) -> tuple[list[tuple[str, str, Mapping[str, Network]]], str]:
    """Name, precision and networks of every engine on one thread, and what is missing."""
    found: list[tuple[str, str, Mapping[str, Network]]] = [
        ("torch", name, in_torch(networks, dtype)) for name, dtype in DTYPES.items()
    ]
    missing = []
    try:
        graphs = exported(networks, weights, folder)
        for kind in (OpenVino, OnnxRuntime):
            try:
                engine: Engine = kind()
                found += [(engine.name, each, Compiled(graphs, engine, each)) for each in engine.precisions()]
            except Unavailable as error:
                missing.append(str(error))
    except (Unavailable, FileNotFoundError, ValueError) as error:
        missing.append(str(error))
    return found, "; ".join(missing)


def measure(networks: Networks, weights: Path, said: Passage, only: str = "") -> dict[str, Any]:
    """
    Measures each engine and precision on frames of the default size with one and most references, and on the networks'
    own size with one. `weights`: the file of these networks. `only`: a part of the engines' names.
    """
    size, before = frame_size(networks.config), torch.get_num_threads()
    cases = ((size, 1), (size, MOST_REFERENCES), (networks.config.size, 1))
    portraits = {edge: given(said.seed, edge) for edge, _ in cases}
    configurations: list[Configuration] = []
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            engines, missing = _engines(networks, weights, Path(folder))
            for engine, precision, compiled in engines:
                if only not in engine:
                    continue
                for edge, references in cases:
                    spans: Spans = {}
                    timed = TimedNetworks(compiled, spans)
                    renderer = GraphFrameRenderer(networks.config, timed, networks.config.transformer.context)
                    renderer._composers[edge] = TimedComposer(edge, spans)
                    stream = begin(renderer, with_references(portraits[edge], references), edge, 0)
                    configurations.append(Configuration(engine, precision, edge, references, renderer, stream, spans))
            for k in range(len(said)):
                for configuration in configurations:
                    configuration.draw(said, k)
    finally:
        torch.set_num_threads(before)
        cv2.setNumThreads(-1)
    painter = networks.autoencoder.painter
    return {
        "configurations": [configuration.numbers() for configuration in configurations],
        "missing": missing or None,
        "parameters": {
            "transformer": sum(p.numel() for p in networks.transformer.parameters()),
            "painter": sum(p.numel() for p in painter.parameters()),
            "of it once a character": sum(p.numel() for p in painter.pyramid.parameters()),
        },
        "memory_mb": {"process": psutil.Process().memory_info().rss / 1e6},
    }
