"""The backend that draws every frame of a character's picture with the neural generator.

No library that runs networks is imported before one is needed: torch serves CUDA, and a default installation lacks it.
"""

import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import cv2
import numpy as np
from PIL import Image

from streamer.avatar.characters import CharacterRecord
from streamer.avatar.portrait import portrait
from streamer.avatar.renderer import BatchRenderer, Renderer
from streamer.base.alpha import straighten
from streamer.base.constants import DEFAULT_SIZES, DEVICES, MAX_SESSIONS
from streamer.base.errors import NotInstalled, RequestError
from streamer.base.extras import import_extra
from streamer.base.image import Picture, Yuv
from streamer.model.config import ModelConfig
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.model.runtime.stream import FrameConditions, Full, NotFinite
from streamer.motion.articulation import ArticulationFrame
from streamer.motion.controls import INDEX

if TYPE_CHECKING:
    from streamer.model.checkpoint import Networks

_MOST_STILLS = 24
"""Prepared characters in the cache, 13 MB each at 512 pixels; beyond this the least recently used is evicted."""


@runtime_checkable
class SlotFrameRenderer(Protocol):
    """Renders frames of a limited number of sessions on a GPU; documented at `cuda.CudaFrameRenderer`."""

    config: ModelConfig

    @property
    def capacity(self) -> int: ...

    @property
    def max_batch_size(self) -> int: ...

    def prepare(
        self,
        references: Sequence[np.ndarray],
        face: np.ndarray,
        centre: tuple[float, float],
        size: int,
        plate: np.ndarray | None = None,
    ) -> Any: ...

    def stream(self, still: Any, seed: int = 0) -> Any: ...

    def hear(self, stream: Any, cue: FrameConditions) -> None: ...

    def leave(self, stream: Any) -> None: ...

    def draw(self, streams: Sequence[Any]) -> list[Yuv | NotFinite]: ...


def _networks(preset: str) -> "Networks":
    """The packaged weights as torch's modules. Raises NotInstalled."""
    from streamer.model.checkpoint import BadWeights, load

    try:
        return load(preset)
    except (FileNotFoundError, BadWeights) as error:
        raise NotInstalled(f"{error}; --generator rig does not need them") from None


def _on_cuda(preset: str, sessions: int) -> tuple[SlotFrameRenderer, str]:
    """A frame renderer on CUDA and its description. Raises NotInstalled."""
    if sys.platform == "darwin":
        raise NotInstalled("macOS has no CUDA")
    import_extra("torch", "gpu", "CUDA")
    from streamer.model.runtime.cuda import load_verified, why_no_cuda
    from streamer.model.runtime.torch_cpu import limit_threads

    if reason := why_no_cuda():
        raise NotInstalled(reason)
    limit_threads()
    frame_renderer = load_verified(_networks(preset), sessions)
    return frame_renderer, frame_renderer.line


_MOST_THREADS = 4
"""More threads were never measured."""


def _on_cpu(preset: str) -> tuple[GraphFrameRenderer, str]:
    """The fastest frame renderer of this CPU and its description. Raises NotInstalled."""
    from streamer.avatar.machine import busy_core, cores
    from streamer.model.runtime import compiled, graphs
    from streamer.model.weights_file import BadWeights

    try:
        found = compiled.fastest(
            graphs.find(preset), DEFAULT_SIZES["neural"], min(cores(), _MOST_THREADS), beside=busy_core
        )
    except (FileNotFoundError, BadWeights, compiled.Unavailable) as error:
        raise NotInstalled(f"{error}; --generator rig does not need them") from None
    return found.renderer, found.line


class NeuralBackend:
    """Holds the weights; each session gets its own `NeuralRig`."""

    name = "neural"

    def __init__(self, frame_renderer: GraphFrameRenderer | SlotFrameRenderer, where: str = "") -> None:
        self.frame_renderer = frame_renderer
        self.where = where
        self._created = 0
        self._stills: OrderedDict[tuple[str, bool, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, preset: str = "nano", device: str = DEVICES[0], sessions: int = MAX_SESSIONS) -> "NeuralBackend":
        """Loads the packaged weights on one of constants.DEVICES. Raises NotInstalled.

        On the CPU it chooses the fastest of the available engines and precisions.
        """
        reason = "--device cpu"
        if device != "cpu":
            try:
                card, line = _on_cuda(preset, sessions)
                return cls(card, f"the {preset} network draws on {line}")
            except NotInstalled as error:
                if device == "cuda":
                    raise NotInstalled(f"--device cuda: {error}") from error
                reason = str(error)
        frame_renderer, line = _on_cpu(preset)
        return cls(frame_renderer, f"the {preset} network draws on the CPU ({reason}) by {line}")

    @property
    def device(self) -> str:
        """The device it draws on: "cpu" or "cuda"."""
        return "cuda" if isinstance(self.frame_renderer, SlotFrameRenderer) else "cpu"

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return NeuralRig.name

    def relative_cost(self, renderer: str, size: int) -> float:
        if self.device == "cuda":
            return 1.0 if size <= 2 * self.frame_renderer.config.size else 1.1  # drawn at one size, then scaled
        if size <= self.frame_renderer.config.size:
            return 0.7  # without the patch of the face
        return 0.85 + 0.15 * (size / DEFAULT_SIZES["neural"]) ** 2  # the networks', and the pixels'

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        """Raises `RequestError`: 422 if the picture's face is unknown, 503 if the device has no free slot."""
        still = self._ready(entry, size, background)
        with self._lock:
            self._created += 1
            seed = self._created
        try:
            return NeuralRig(self.frame_renderer, self.frame_renderer.stream(still, seed), size)
        except Full as error:
            raise RequestError(503, "too_many_sessions", str(error)) from None

    def prepare(self, entry: CharacterRecord, size: int, background: bool) -> None:
        self._ready(entry, size, background)

    def _ready(self, entry: CharacterRecord, size: int, background: bool) -> Any:
        """A prepared character: they depend only on pictures and size and are read-only, so sessions share them."""
        key = entry.id, background, size
        with self._lock:
            if key in self._stills:
                self._stills.move_to_end(key)
                return self._stills[key]
        drawn = max(size, 2 * self.frame_renderer.config.size) if self.device == "cuda" else size
        shown = portrait(entry, drawn, background)
        made = self.frame_renderer.prepare(shown.references, shown.face, shown.centre, size, shown.plate)
        with self._lock:
            self._stills[key] = made
            while len(self._stills) > _MOST_STILLS:
                self._stills.popitem(last=False)
        return made

    def still(self, entry: CharacterRecord, size: int, background: bool) -> np.ndarray:
        shown = portrait(entry, size, background)
        picture = shown.references[0]
        if len(picture) != size:
            picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        picture = picture.copy()
        straighten(picture)
        if shown.plate is None:
            return picture
        return np.asarray(Image.alpha_composite(Image.fromarray(shown.plate), Image.fromarray(picture)))


_FARTHEST = {"yaw": 0.28, "pitch": 0.25, "roll": 0.16}
"""Maximum head yaw, pitch and roll in radians, each by itself. The current weights blur larger rotations."""
_POSE = [INDEX[name] for name in _FARTHEST]
_REACH = np.array([*_FARTHEST.values()], np.float32)


def within_reach(controls: np.ndarray) -> np.ndarray:
    """Controls [C] with the head's rotation scaled into the ellipsoid whose semi-axes are `_FARTHEST`."""
    pose = controls[_POSE] / _REACH
    near = controls.copy()
    near[_POSE] = _REACH * pose / max(float(np.linalg.norm(pose)), 1.0)
    return near


def _frame_conditions(controls: np.ndarray, curves: ArticulationFrame, emotion: np.ndarray) -> FrameConditions:
    controls = within_reach(controls)
    return FrameConditions(
        controls, np.concatenate([curves.mouth, curves.prosody, curves.embedding]).astype(np.float32), emotion
    )


class NeuralRig:
    """Draws one session's character."""

    name = "neural"

    def __init__(self, frame_renderer: GraphFrameRenderer | SlotFrameRenderer, stream: Any, size: int) -> None:
        self.size = size
        self.batch_key: object = frame_renderer
        # A step on a GPU computes all slots up to the last anyway; a CPU draws sessions one after another.
        self.max_batch_size = frame_renderer.max_batch_size
        self._frame_renderer, self._stream = frame_renderer, stream

    def hear(self, controls: np.ndarray, curves: ArticulationFrame, emotion: np.ndarray) -> None:
        self._frame_renderer.hear(self._stream, _frame_conditions(controls, curves, emotion))

    def draw(self, controls: np.ndarray, t: float = 0.0) -> Picture:
        """Draws the last frame heard: planes if it is opaque, else straight RGBA. Raises NotFinite after a reset."""
        (frame,) = self._frame_renderer.draw([self._stream])
        if isinstance(frame, NotFinite):
            raise frame
        return frame

    def render_batch(self, renderers: Sequence[BatchRenderer]) -> list[Picture | Exception]:
        """Draws several sessions: in one step on a GPU."""
        rigs = [rig for rig in renderers if isinstance(rig, NeuralRig)]
        return list(self._frame_renderer.draw([rig._stream for rig in rigs]))

    def close(self) -> None:
        """Frees what the session holds; idempotent."""
        self._frame_renderer.leave(self._stream)
