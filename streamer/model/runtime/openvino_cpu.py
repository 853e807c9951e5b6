"""The faster CPU engine: a `FrameRenderer` whose step and decoder are compiled by OpenVINO.

Torch runs a step operator by operator, and spends most of its time on calls and on memory traffic between them. Here
the same functions are traced once, for one session, and compiled for this CPU; sessions are rendered one after another.
Their state is a `Stream`, as in `FrameRenderer`. For presets with context, a session's first frame, which has no
predecessor to store, is rendered by torch: it would need a third compiled network.

Tracing takes seconds. The result is cached in the user's cache folder, under a digest of everything it depends on;
incomplete files are ignored. A decoder for larger frames is traced when the first character needs it.

OpenVINO is optional: it is imported only on request, with its telemetry disabled.

Letters used in shapes: L layers, C context frames, N tokens of a latent frame, H heads, D channels of a head, Z latent
channels, S picture edge, s latent edge.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import inspect
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from streamer import __version__
from streamer.base.resources import cache_folder
from streamer.model import attention, autoencoder, kv_cache, sampling, transformer
from streamer.model.autoencoder import Anchor, Autoencoder
from streamer.model.checkpoint import Networks
from streamer.model.kv_cache import Cache
from streamer.model.runtime import color
from streamer.model.runtime.color import eight_bit
from streamer.model.runtime.torch_cpu import (
    FrameRenderer,
    NotFinite,
    PreparedCharacter,
    Stream,
    Trial,
    probe,
    silence,
    stand_in,
)
from streamer.model.sampling import advance, generate
from streamer.model.transformer import Conditions, Transformer

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}

MOST_APART = {torch.float32: 0.05, torch.bfloat16: 1.0}
"""
Tolerated mean deviation of frames from torch in float32, in levels of 255; more means that the engine computes wrongly
on this machine. With `nano` it is 0.0001 and 0.06 (benchmarks/results/engines.json).
"""


class Unavailable(RuntimeError):
    """This engine cannot be used here; the message says why."""


def openvino() -> Any:
    """The package, whose telemetry `streamer.base.telemetry` hides. Raises Unavailable."""
    try:
        package = importlib.import_module("openvino")
        package.convert_model  # noqa: B018  which the package leaves out where something that it needs is missing
    except (ImportError, OSError, AttributeError) as error:  # OSError: a library that cannot be loaded
        raise Unavailable(f"OpenVINO is not installed or incomplete: {_first_line(error)}") from None
    return package


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or repr(error)


# What is compiled --------------------------------------------------------------------------------------------------


class _Ring(Cache):
    """One session's cache in a traced step: a frame's keys and values are returned, not stored."""

    appended: tuple[Tensor, Tensor]

    def read(self) -> tuple[Tensor, Tensor]:
        order = (self.written + torch.arange(self.context)) % self.context
        return self.ring_keys.index_select(2, order), self.ring_values.index_select(2, order)

    def append(self, keys: Tensor, values: Tensor) -> None:
        self.appended = keys, values


class _Alone(nn.Module):
    """`generate` for one session without context."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self, noise: Tensor, added: Tensor, faces: Tensor, plan: Tensor, heard: Tensor, emotion: Tensor,
        sink_keys: Tensor, sink_values: Tensor,
    ) -> Tensor:  # fmt: skip
        """The next latent [1, Z, s, s]; conditions as in `Conditions`, the sink as in `Cache`."""
        given = torch.ones(1)
        now = Conditions(plan, given, heard, given, faces, emotion, given)
        cache = Cache.empty(self.transformer.config, (sink_keys, sink_values), 0)
        return generate(self.transformer, noise, now, added, cache)


class _Step(nn.Module):
    """`advance` for one session."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self, noise: Tensor, latent: Tensor, added: Tensor, faces: Tensor, plan: Tensor, plan_before: Tensor,
        heard: Tensor, heard_before: Tensor, emotion: Tensor, emotion_before: Tensor, *ring: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """
        The next latent [1, Z, s, s], and keys and values [L, 1, N, H, D] of the previous one, `latent`; conditions as
        in `Conditions`, `ring` as in `Cache`.
        """
        given = torch.ones(1)
        now = Conditions(plan, given, heard, given, faces, emotion, given)
        before = Conditions(plan_before, given, heard_before, given, faces, emotion_before, given)
        cache = _Ring(*ring)
        drawn = advance(self.transformer, (latent, before), noise, now, added, cache)
        return drawn, *cache.appended


class _Picture(nn.Module):
    """The decoder and its post-processing."""

    def __init__(self, autoencoder: Autoencoder, times: int) -> None:
        super().__init__()
        self.autoencoder, self.times = autoencoder, times

    def forward(self, latent: Tensor, picture: Tensor, *features: Tensor) -> tuple[Tensor, Tensor]:
        """
        Pixels [times S, times S, 4] uint8 of a latent [1, Z, s, s], and a sum that is finite only if all decoder
        outputs are.
        """
        painted = self.autoencoder.decode(latent, Anchor(picture, features, self.times))
        return eight_bit(painted)[0].permute(1, 2, 0).to(torch.uint8), painted.sum()


class Models(NamedTuple):
    """Both networks as OpenVINO models, for any precision."""

    core: Any
    step: Any
    picture: Any
    larger: Callable[[int], Any]  # `picture` for frames this many times as large: also cached or traced
    name: str  # OpenVINO and its version
    source: str  # whether they were cached or compiled

    def precisions(self) -> list[torch.dtype]:
        """Precisions that this CPU supports, the one likely to be faster first."""
        able = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return [*([torch.bfloat16] if "BF16" in able else []), torch.float32]


def models(networks: Networks, folder: Path | None = None) -> Models:
    """
    Loads the models from the cache `folder` (default: the user's), or traces and caches them if possible. Raises
    Unavailable.
    """
    package = openvino()
    version = package.__version__.partition("-")[0]
    folder = folder or cache_folder()
    key = _digest(networks, package.__version__)
    source = "from the cache"

    def model(name: str, times: int = 1) -> Any:
        nonlocal source
        path = folder / f"{networks.config.name}-{name}{times if times > 1 else ''}-{key}.model"
        with _as_unavailable():
            found = _read(core, package, path)
            if found is None:
                found = _traced(package, networks, name, times)
                _keep(package, found, path)
                source = "compiled anew"
        return found

    with _as_unavailable():
        core = package.Core()
    step, picture = model("step"), model("picture")
    return Models(core, step, picture, partial(model, "picture"), f"OpenVINO {version}", source)


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    """Converts OpenVINO's exceptions to Unavailable: an unknown operator, a plug-in that does not load."""
    try:
        yield
    except Exception as error:
        raise Unavailable(f"OpenVINO cannot compile the networks: {_first_line(error)}") from error


def _traced(package: Any, networks: Networks, name: str, times: int) -> Any:
    frame_renderer = FrameRenderer(networks)
    session = stand_in(frame_renderer, np.random.default_rng(0), times)
    frame_renderer.hear(session, silence())
    conditions, noise = frame_renderer.conditions([session]), frame_renderer.noise(session)
    module: nn.Module
    if name == "step":
        module = (_Step if networks.config.transformer.context else _Alone)(networks.transformer)
        inputs = _step_inputs(session, noise, conditions, (noise, conditions))
    else:
        module, inputs = _Picture(networks.autoencoder, times), (noise, *_picture_inputs(session.still))
    inputs = tuple(x.clone() for x in inputs)
    with torch.no_grad(), warnings.catch_warnings():
        # Shapes are fixed by the preset and a single session, and no branch depends on a value.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # Its successor, torch.export, traces with fake tensors, which would remain in `autoencoder`'s caches.
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(module.eval(), inputs, check_trace=False)
        model = package.convert_model(traced, example_input=inputs, input=[tuple(x.shape) for x in inputs])
    # Sampling positions have hundreds and fractions, which exceeds bfloat16's precision. Everything from the last heavy
    # operator to an output is computed in float32: so they are made outputs, too.
    model.add_outputs([op.input_value(1) for op in model.get_ordered_ops() if op.get_type_name() == "GridSample"])
    return model


def _step_inputs(
    stream: Stream, noise: Tensor, now: Conditions, previous: tuple[Tensor, Conditions] | None
) -> tuple[Tensor, ...]:
    """Inputs of `_Step`, or of `_Alone` without context."""
    still, cache = stream.still, stream.cache
    if not cache.context:
        sink = cache.sink_keys, cache.sink_values
        return noise, still.reference.added, still.faces, now.plan, now.heard, now.emotion, *sink
    assert previous is not None
    latent, before = previous
    return (
        noise, latent, still.reference.added, still.faces, now.plan, before.plan, now.heard, before.heard, now.emotion,
        before.emotion, cache.ring_keys, cache.ring_values, cache.sink_keys, cache.sink_values,
        cache.written,
    )  # fmt: skip


def _picture_inputs(still: PreparedCharacter) -> tuple[Tensor, ...]:
    """Inputs of `_Picture` other than the latent."""
    return still.anchor.picture, *(level.contiguous() for level in still.anchor.features)


class OpenVinoFrameRenderer(FrameRenderer):
    """A `FrameRenderer` on OpenVINO's compiled models, one session after another."""

    max_batch_size = 1  # so that each frame is sent as soon as it is rendered

    def __init__(
        self, networks: Networks, dtype: torch.dtype = torch.float32, made: Models | None = None, threads: int = 1
    ) -> None:
        """Computes in `dtype`; its state is kept in float32. Raises Unavailable."""
        super().__init__(networks)
        self._made = made or models(networks)
        self.precision = dtype
        self._settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # packets, encoding and perhaps a browser need the same cores
        }
        self._step, self._pictures = self._request(self._made.step), {1: self._request(self._made.picture)}
        self._lock = threading.Lock()  # a request has only one set of outputs
        self._compiling = threading.Lock()  # separate, so that sessions continue meanwhile

    def _request(self, model: Any) -> Any:
        with _as_unavailable():
            return self._made.core.compile_model(model, "CPU", self._settings).create_infer_request()

    def still(self, picture: np.ndarray, face: np.ndarray) -> PreparedCharacter:
        """Like `FrameRenderer.still`. The first larger picture takes seconds: a decoder for its size is compiled."""
        made = super().still(picture, face)
        times = made.anchor.times
        with self._compiling:
            if times not in self._pictures:
                self._pictures[times] = self._request(self._made.larger(times))
        return dataclasses.replace(made, anchor=Anchor(made.anchor.picture, _picture_inputs(made)[1:], times))

    def stream(self, still: PreparedCharacter, seed: int = 0, context: int | None = None) -> Stream:
        """Like `FrameRenderer.stream`. Raises ValueError for a context other than the compiled one, the preset's."""
        if context not in (None, self.config.transformer.context):
            raise ValueError(f"a context of {context} frames: {self.config.transformer.context} are compiled in")
        return super().stream(still, seed)

    def draw(self, streams: Sequence[Stream]) -> list[np.ndarray | NotFinite]:
        return [self._one(stream) for stream in streams]

    @torch.inference_mode()
    def _one(self, stream: Stream) -> np.ndarray | NotFinite:
        conditions, noise = self.conditions([stream]), self.noise(stream)
        with self._lock:
            if stream.cache.context and stream.previous is None:
                latent = self._next([stream], noise, conditions, stream.still.reference.added, stream.cache)
                kept = float(latent.sum())
            else:
                given = _step_inputs(stream, noise, conditions, stream.previous)
                drawn, *remembered = _infer(self._step, given)
                if remembered:
                    stream.cache.append(*map(torch.from_numpy, remembered))
                latent = torch.from_numpy(drawn.copy())
                kept = sum(float(part.sum()) for part in (drawn, *remembered))
            picture = self._pictures[stream.still.anchor.times]
            pixels, total, *_ = _infer(picture, (latent, *_picture_inputs(stream.still)))
            pixels = pixels.copy()
            # Compiled operators may suppress NaN: everything that is kept is checked, too.
            finite = np.isfinite(total).all() and np.isfinite(kept)
        if not finite:
            return stream.reset_nonfinite()
        if stream.cache.context:
            stream.previous = latent, conditions
        return pixels


class Fastest(NamedTuple):
    frame_renderer: FrameRenderer
    line: str  # the choice and its reason, for the start-up log


def fastest(networks: Networks, threads: int = 1, tries: int = 5) -> Fastest:
    """
    Measures which renderer is fastest on this CPU: torch or OpenVINO, float32 or bfloat16, with `threads` threads.
    Takes a few seconds, and more if the cache is empty.
    """
    painters: dict[str, FrameRenderer] = {}
    taken: dict[str, float] = {}

    def enter(name: str, frame_renderer: FrameRenderer) -> Trial:
        tried = probe(frame_renderer, tries)
        painters[name], taken[name] = frame_renderer, tried.seconds
        return tried

    # The reference for all engines' frames, which reveals an engine that computes wrongly on this machine.
    plain = enter("PyTorch in float32", FrameRenderer(networks)).frames.astype(np.float32)
    enter("PyTorch in bfloat16", FrameRenderer(networks, torch.bfloat16))
    passed = ""
    try:
        made = models(networks)
        for dtype in made.precisions():
            if min(taken, key=taken.__getitem__).startswith(made.name):
                break  # bfloat16 is the fastest so far, and float32 would take another two seconds to compile
            name = f"{made.name} in {str(dtype).removeprefix('torch.')}"
            tried = enter(name, OpenVinoFrameRenderer(networks, dtype, made, threads))
            apart = float(np.abs(tried.frames - plain).mean())
            if not apart <= MOST_APART[dtype]:
                passed += f"; {name} deviates by {apart:.1f} of 255 levels and is not used"
                del painters[name], taken[name]
        passed += f"; {made.name} {made.source}"
    except (RuntimeError, NotFinite) as error:  # OpenVINO's exceptions are RuntimeErrors
        passed += f"; {_first_line(error)}"
    best = min(taken, key=taken.__getitem__)
    others = ", ".join(f"{name} {1000 * took:.0f}" for name, took in taken.items() if name != best)
    return Fastest(painters[best], f"{best}, {1000 * taken[best]:.0f} ms a frame ({others}{passed})")


def _infer(request: Any, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    """The outputs, in the request's own memory, which its next run overwrites."""
    found = request.infer([x.numpy() for x in inputs], share_inputs=True, share_outputs=True)
    return list(found.values())


# The cache ---------------------------------------------------------------------------------------------------------


def _digest(networks: Networks, version: str) -> str:
    """Of everything that a traced model depends on: weights, sizes, versions, and the program's source."""
    digest = hashlib.sha256(f"{__version__} {torch.__version__} {version} {networks.config}".encode())
    for module in (attention, autoencoder, kv_cache, color, sampling, transformer, sys.modules[__name__]):
        with contextlib.suppress(OSError):  # if only compiled files are installed, the version is used instead
            digest.update(inspect.getsource(module).encode())
    for part in (networks.transformer, networks.autoencoder):
        for name, value in part.state_dict().items():
            digest.update(name.encode())
            digest.update(value.contiguous().numpy())
    return digest.hexdigest()[:32]


def _read(core: Any, package: Any, path: Path) -> Any | None:
    """Reads a file written by `_keep`: a digest of the rest, the text's length, text, weights."""
    try:
        data = path.read_bytes()
        body = memoryview(data)[32:]
        if len(body) < 8 or hashlib.sha256(body).digest() != data[:32]:
            return None
        end = 8 + int.from_bytes(body[:8], "little")
        weights = np.frombuffer(body[end:], np.uint8)
        return core.read_model(bytes(body[8:end]), package.Tensor(weights.copy()))
    except (OSError, RuntimeError, ValueError):
        return None


def _keep(package: Any, model: Any, path: Path) -> None:
    """Writes the model atomically; failure to write is ignored."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="making-") as place:
            text, weights = Path(place, "model.xml"), Path(place, "model.bin")
            package.save_model(model, text, compress_to_fp16=False)
            whole = text.read_bytes()
            body = len(whole).to_bytes(8, "little") + whole + weights.read_bytes()
            ready = Path(place, "ready")
            ready.write_bytes(hashlib.sha256(body).digest() + body)
            os.replace(ready, path)
    except (OSError, RuntimeError):
        return
    _forget_old(path.parent)


_MOST_KEPT = 8
"""Maximum number of cached files, two or three per set of weights (5 and 31 MB with `nano`): older ones are deleted."""


def _forget_old(folder: Path) -> None:
    with contextlib.suppress(OSError):
        kept = sorted(folder.glob("*.model"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[_MOST_KEPT:]:
            path.unlink(missing_ok=True)
