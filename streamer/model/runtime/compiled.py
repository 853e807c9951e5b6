"""A preset's exported networks, compiled by the engine that is fastest on this CPU and computes what it should.

OpenVINO is preferred, in bfloat16 where the CPU has it; onnxruntime serves where OpenVINO is not installed or fails.
What runs once for each character is loaded when it is needed and dropped afterwards: it would hold as much memory as
all that runs for each frame.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np

from streamer.model.runtime import trial
from streamer.model.runtime.engines import BF16, F32, Engine, Network, OnnxRuntime, OpenVino, Unavailable, first_line
from streamer.model.runtime.graph_cpu import GraphFrameRenderer, probe
from streamer.model.runtime.graphs import IDENTITY, PREPARE, Graphs
from streamer.model.runtime.stream import NotFinite

ONCE = (PREPARE, IDENTITY)
"""What runs once for each character: in float32."""

NAMES = {F32: "float32", BF16: "bfloat16"}


class Compiled(Mapping[str, Network]):
    """Networks by name, compiled when they are first asked for. Thread-safe. Looking one up raises Unavailable."""

    def __init__(
        self, graphs: Graphs, engine: Engine, precision: str = F32, threads: int = 1, once: Engine | None = None
    ) -> None:
        """`once`: the engine of ONCE (default: the same)."""
        self._graphs, self._engine, self._once = graphs, engine, once or engine
        self.precision, self.threads = precision, threads
        self._networks: dict[str, Network] = {}
        self._lock = threading.Lock()  # two threads must not compile the same network

    def __getitem__(self, graph: str) -> Network:
        if graph in ONCE:
            return self._once.compile(self._graphs.paths[graph], graph, F32, self.threads)
        if graph in self._networks:  # without waiting for another network to be compiled
            return self._networks[graph]
        with self._lock:
            if graph not in self._networks:
                path = self._graphs.paths[graph]
                self._networks[graph] = self._engine.compile(path, graph, self.precision, self.threads)
            return self._networks[graph]

    def __iter__(self) -> Iterator[str]:
        return iter(self._graphs.paths)

    def __len__(self) -> int:
        return len(self._graphs.paths)


class Fastest(NamedTuple):
    renderer: GraphFrameRenderer
    line: str  # the choice and its reason, for the start-up log
    seconds: float  # a frame's time


def fastest(
    graphs: Graphs,
    size: int,
    threads: int = 1,
    tries: int = 5,
    beside: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Fastest:
    """
    The first engine and precision whose outputs are what is expected, and the time of a frame of `size` with it, beside
    the load that `beside` makes. Raises Unavailable if there is none, BadWeights, FileNotFoundError.
    """
    expected = trial.read_expected(graphs.expected, graphs.config)
    passed: list[str] = []
    once: Engine | None = None
    with contextlib.suppress(Unavailable):
        once = OnnxRuntime()  # loads a network in a third of OpenVINO's time
    for kind in (OpenVino, OnnxRuntime):
        try:
            engine: Engine = kind()
            for precision in engine.precisions():
                name = f"{engine.name} in {NAMES[precision]}"
                networks = Compiled(graphs, engine, precision, threads, once)
                apart = trial.difference(trial.outputs(graphs.config, networks), expected)
                if not apart <= trial.MOST_APART[precision]:
                    passed.append(f"{name} deviates by {100 * apart:.1f} % and is not used")
                    continue
                renderer = GraphFrameRenderer(graphs.config, networks, graphs.config.transformer.context)
                with beside():
                    took = float(np.median(probe(renderer, size, tries).seconds))
                seconds = f"{1000 * took:.0f} ms a frame of {size} pixels on {threads} thread{'s' * (threads > 1)}"
                return Fastest(renderer, "; ".join([f"{name}, {seconds}", *passed]), took)
        except (Unavailable, NotFinite) as error:
            passed.append(first_line(error))
    raise Unavailable("; ".join(passed))
