"""The engines that run exported networks on a CPU: OpenVINO, and onnxruntime where OpenVINO is not installed.

Both are imported only on request; `streamer.base.telemetry` hides their telemetry. A compiled network takes and returns
numpy arrays in the order of `graphs.GRAPHS`.
"""

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from streamer.base.onnx import BadNetwork, load_onnx_session
from streamer.model.runtime.graphs import GRAPHS

F32, BF16 = "f32", "bf16"
"""Precisions, as OpenVINO names them."""

Network = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""A compiled network. Thread-safe; the outputs are the caller's."""


class Unavailable(RuntimeError):
    """This engine cannot be used here; the message says why."""


def first_line(error: Exception) -> str:
    """The first line of an error that says something: OpenVINO's begin with places in its source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from ", "Check '", "FrontEnd API failed"))]
    return next(iter(said or lines), "") or repr(error)


class Engine(Protocol):
    """Compiles networks for this CPU."""

    name: str  # the package and its version

    def precisions(self) -> list[str]:
        """Precisions that this CPU supports, the one likely to be faster first."""
        ...

    def compile(self, path: Path, graph: str, precision: str = F32, threads: int = 1) -> Network:
        """Compiles the graph of that name at `path`. Raises Unavailable."""
        ...


@contextlib.contextmanager
def _as_unavailable(what: str) -> Iterator[None]:
    """Converts an engine's exceptions to Unavailable: an unknown operator, a plug-in that does not load."""
    try:
        yield
    except Exception as error:
        raise Unavailable(f"{what}: {first_line(error)}") from error


class OpenVino:
    """OpenVINO on the CPU."""

    def __init__(self) -> None:
        """Raises Unavailable."""
        try:
            self._package = importlib.import_module("openvino")
            version = self._package.__version__.partition("-")[0]
        except (ImportError, OSError, AttributeError) as error:  # OSError: a library that cannot be loaded
            raise Unavailable(f"OpenVINO is not installed or incomplete: {first_line(error)}") from None
        self.name = f"OpenVINO {version}"
        with _as_unavailable("OpenVINO does not start"):
            self._core = self._package.Core()

    def precisions(self) -> list[str]:
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return [*([BF16] if "BF16" in able else []), F32]

    def compile(self, path: Path, graph: str, precision: str = F32, threads: int = 1) -> Network:
        takes, gives = GRAPHS[graph]
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # packets, encoding and perhaps a browser need the same cores
        }
        with _as_unavailable(f"OpenVINO cannot compile {path.name}"):
            model = self._core.read_model(path)
            if precision != F32:
                # Sampling positions have hundreds and fractions, which exceeds bfloat16's precision. Everything from
                # the last heavy operator to an output is computed in float32: so they are made outputs, too.
                sampled = [op for op in model.get_ordered_ops() if op.get_type_name() == "GridSample"]
                model.add_outputs([op.input_value(1) for op in sampled])
            request = self._core.compile_model(model, "CPU", settings).create_infer_request()
            places = {name: i for i, port in enumerate(model.outputs) for name in port.get_names()}
            order = [places[name] for name in gives]
        lock = threading.Lock()  # a request has only one set of outputs

        def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
            with lock:
                found = request.infer(dict(zip(takes, given, strict=True)), share_inputs=True, share_outputs=True)
                outputs = list(found.values())
                return [outputs[i].copy() for i in order]

        return run


class OnnxRuntime:
    """onnxruntime on the CPU, in float32."""

    def __init__(self) -> None:
        """Raises Unavailable."""
        try:
            package: Any = importlib.import_module("onnxruntime")
            self.name = f"onnxruntime {package.__version__}"
        except (ImportError, OSError, AttributeError) as error:
            raise Unavailable(f"onnxruntime is not installed or incomplete: {first_line(error)}") from None

    def precisions(self) -> list[str]:
        return [F32]

    def compile(self, path: Path, graph: str, precision: str = F32, threads: int = 1) -> Network:
        if precision != F32:
            raise Unavailable(f"onnxruntime computes in {F32} here, not in {precision}")
        takes, gives = GRAPHS[graph]
        try:
            session = load_onnx_session(path, f"network to {graph}", takes, gives, threads)
        except BadNetwork as error:
            raise Unavailable(f"onnxruntime cannot load {path.name}: {first_line(error)}") from error

        def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
            found = session.run(list(gives), dict(zip(takes, given, strict=True)))
            return [np.asarray(each) for each in found]

        return run
