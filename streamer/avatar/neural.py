"""The backend that draws every frame of a character's picture with the neural generator."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from streamer.avatar.characters import CharacterRecord
from streamer.avatar.renderer import BatchRenderer, Renderer
from streamer.base.alpha import premultiplied, straighten
from streamer.base.constants import DEVICES, MAX_SESSIONS
from streamer.base.errors import NotInstalled, RequestError
from streamer.base.image import Picture, backdrop
from streamer.faces.alignment import PLACES, aligned, face_mask, placed
from streamer.faces.detector import Face, similarity
from streamer.faces.drawn_mouth import with_drawn_mouth
from streamer.model.checkpoint import BadWeights, Networks, load
from streamer.model.runtime.cuda import CudaFrameRenderer, Full, Seated, apart, why_no_cuda
from streamer.model.runtime.openvino_cpu import fastest
from streamer.model.runtime.torch_cpu import TIMES, FrameConditions, FrameRenderer, NotFinite, PreparedCharacter, Stream
from streamer.motion.articulation import ArticulationFrame
from streamer.motion.controls import INDEX, rest

_CORES = torch.get_num_threads()
_MOST_THREADS = 4
"""More threads were never measured."""

_MOST_STILLS = 24
"""Prepared characters in the cache, 8 MB each with `nano`; beyond this the least recently used is evicted."""


def on_device(networks: Networks, sessions: int) -> CudaFrameRenderer:
    """Loads a frame renderer on CUDA, and checks its output against the CPU.

    A session may briefly hold three slots: for the current character, for the next one, and for one being created.
    Raises NotInstalled if CUDA fails or its frames differ from the CPU's.
    """
    if reason := why_no_cuda():
        raise NotInstalled(reason)
    try:
        frame_renderer = CudaFrameRenderer(networks, 3 * sessions + 1, "cuda")
        frame_renderer.prepare()
        difference = apart(frame_renderer, networks)
    except Exception as error:  # out of memory, a kernel that does not compile, a capture that fails
        raise NotInstalled(f"the CUDA step failed: {(str(error) or repr(error)).splitlines()[0]}") from error
    if not difference <= 1:
        raise NotInstalled(f"CUDA frames differ from the CPU's by {difference:.1f} times the tolerance")
    return frame_renderer


class NeuralBackend:
    """Holds the weights; each session gets its own `NeuralRig` or `DeviceRig`."""

    name = "neural"

    def __init__(self, frame_renderer: FrameRenderer | CudaFrameRenderer, where: str = "") -> None:
        self.frame_renderer = frame_renderer
        self.where = where
        self._created = 0
        self._stills: OrderedDict[tuple[str, bool, int], tuple[PreparedCharacter, bool]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, preset: str = "nano", device: str = DEVICES[0], sessions: int = MAX_SESSIONS) -> "NeuralBackend":
        """Loads the packaged weights on one of constants.DEVICES. Raises NotInstalled.

        On the CPU it chooses the fastest of the available engines and precisions.
        """
        try:
            networks = load(preset)
        except (FileNotFoundError, BadWeights) as error:
            raise NotInstalled(f"{error}; --generator rig does not need them") from None
        # Leave one core for packets and encoding: on two cores next to a browser, two torch threads wait for each other
        # and are slower than one. OpenVINO is not slower with two threads in that case, and takes 25 % less time on an
        # idle machine, so it may use every core.
        torch.set_num_threads(min(max(_CORES - 1, 1), _MOST_THREADS))
        reason = "--device cpu"
        if device != "cpu":
            try:
                frame_renderer = on_device(networks, sessions)
                return cls(frame_renderer, f"the {preset} network draws on {frame_renderer.line}")
            except NotInstalled as error:
                if device == "cuda":
                    raise NotInstalled(f"--device cuda: {error}") from error
                reason = str(error)
        try:
            found = fastest(networks, min(_CORES, _MOST_THREADS))
        except NotFinite as error:
            raise NotInstalled(f"PyTorch computes NaN or Inf on this CPU: {error}") from error
        return cls(found.frame_renderer, f"the {preset} network draws on the CPU ({reason}) by {found.line}")

    @property
    def device(self) -> str:
        """The device it draws on: "cpu" or "cuda"."""
        return "cuda" if isinstance(self.frame_renderer, CudaFrameRenderer) else "cpu"

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return NeuralRig.name

    def relative_cost(self, renderer: str, size: int) -> float:
        if self._times(size) > 1:
            return 1.6
        return 1.0 if size <= self.frame_renderer.config.size else 1.1  # drawn at the networks' size, then scaled

    def _times(self, size: int) -> int:
        """The factor of the networks' size at which frames of this size are drawn; always 1 on CUDA."""
        return (
            1
            if size <= self.frame_renderer.config.size or isinstance(self.frame_renderer, CudaFrameRenderer)
            else max(TIMES)
        )

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        """Raises `RequestError`: 422 if the picture's face is unknown, 503 if the device has no free slot."""
        still, opaque = self._ready(entry, size, background)
        with self._lock:
            self._created += 1
            seed = self._created
        if isinstance(self.frame_renderer, CudaFrameRenderer):
            try:
                seated = self.frame_renderer.stream(still, seed, size, opaque, background)
            except Full as error:
                raise RequestError(503, "too_many_sessions", str(error)) from None
            return DeviceRig(self.frame_renderer, seated)
        behind = None if opaque or not background else backdrop(size)
        return NeuralRig(self.frame_renderer, self.frame_renderer.stream(still, seed), size, opaque, behind)

    def prepare(self, entry: CharacterRecord, size: int, background: bool) -> None:
        self._ready(entry, size, background)

    def _ready(self, entry: CharacterRecord, size: int, background: bool) -> tuple[PreparedCharacter, bool]:
        """A prepared character, and whether its picture is opaque.

        Prepared characters depend only on the picture and are read-only, so they are cached across sessions.
        """
        edge, times = self.frame_renderer.config.size, self._times(size)
        key = entry.id, background, times
        with self._lock:
            if key in self._stills:
                self._stills.move_to_end(key)
                return self._stills[key]
        picture, face = portrait(entry, times * edge, background)
        still = self.frame_renderer.still(premultiplied(picture), face_mask(face.moved(_shrunk(times)), edge))
        made = still, bool((picture[..., 3] == 255).all())
        with self._lock:
            self._stills[key] = made
            while len(self._stills) > _MOST_STILLS:
                self._stills.popitem(last=False)
        return made

    def still(self, entry: CharacterRecord, size: int, background: bool) -> np.ndarray:
        picture, _ = portrait(entry, size, background)
        if not background:
            return picture
        return np.asarray(Image.alpha_composite(Image.fromarray(backdrop(size)), Image.fromarray(picture)))


def _shrunk(times: int) -> np.ndarray:
    """[2, 3]: maps a picture's coordinates to those of one `times` smaller."""
    return similarity(0.0, 1 / times, (0, 0), (0, 0))


def portrait(entry: CharacterRecord, edge: int, background: bool) -> tuple[np.ndarray, Face]:
    """The picture of a character that the generator draws from, [edge, edge, 4] uint8 straight RGBA, and its face."""
    if entry.character is not None:
        rig = entry.rig(edge, background)
        try:
            return rig.draw(rest()).copy(), Face(1.0, PLACES[:2] * edge, PLACES[2] * edge)
        finally:
            rig.close()
    assert entry.picture is not None
    if entry.face is None:
        raise RequestError(422, "no_face", "no face is known in the picture: mark its eyes and mouth")
    picture, face = aligned(entry.picture, entry.face, edge), placed(entry.picture, entry.face, edge)
    return picture if entry.own_mouth else with_drawn_mouth(picture, face), face


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
    """Draws one session's character on the CPU."""

    name = "neural"

    def __init__(
        self, frame_renderer: FrameRenderer, stream: Stream, size: int, opaque: bool, behind: np.ndarray | None = None
    ) -> None:
        self.size, self._opaque = size, opaque
        self._behind = None if behind is None else Image.fromarray(behind)
        self.batch_key: object = (frame_renderer, size)
        self.max_batch_size = frame_renderer.max_batch_size
        self._frame_renderer, self._stream = frame_renderer, stream

    def hear(self, controls: np.ndarray, curves: ArticulationFrame, emotion: np.ndarray) -> None:
        self._frame_renderer.hear(self._stream, _frame_conditions(controls, curves, emotion))

    def draw(self, controls: np.ndarray, t: float = 0.0) -> Picture:
        """Draws the last frame heard, straight RGBA. Raises NotFinite if the session had to be reset."""
        (frame,) = self.render_batch([self])
        if isinstance(frame, Exception):
            raise frame
        return frame

    def render_batch(self, renderers: Sequence[BatchRenderer]) -> list[Picture | Exception]:
        """Draws several sessions in one pass through the networks."""
        rigs = [rig for rig in renderers if isinstance(rig, NeuralRig)]
        frames = self._frame_renderer.draw([rig._stream for rig in rigs])
        return [
            frame if isinstance(frame, NotFinite) else rig._finished(frame)
            for rig, frame in zip(rigs, frames, strict=True)
        ]

    def _finished(self, frame: np.ndarray) -> np.ndarray:
        """Converts a premultiplied frame at the drawn size to the session's size and format."""
        if self._opaque:
            frame[..., 3] = 255  # the picture is opaque; the networks' alpha is not exact
        else:
            straighten(frame)
        if self.size != frame.shape[0]:
            scaled = Image.fromarray(frame).resize((self.size, self.size), Image.Resampling.BICUBIC)
            frame = np.asarray(scaled)
        if self._behind is None:
            return frame
        return np.asarray(Image.alpha_composite(self._behind, Image.fromarray(frame)))

    def close(self) -> None:
        self._frame_renderer.leave(self._stream)


class DeviceRig:
    """Draws one session's character in a slot on the GPU, which also scales and composites the frames."""

    name = "neural"

    def __init__(self, frame_renderer: CudaFrameRenderer, stream: Seated) -> None:
        self.size = stream.size
        self.batch_key: object = frame_renderer
        self.max_batch_size = frame_renderer.capacity  # a step computes all slots up to the last anyway
        self._frame_renderer, self._stream = frame_renderer, stream

    def hear(self, controls: np.ndarray, curves: ArticulationFrame, emotion: np.ndarray) -> None:
        self._frame_renderer.hear(self._stream, _frame_conditions(controls, curves, emotion))

    def draw(self, controls: np.ndarray, t: float = 0.0) -> Picture:
        """Draws the last frame heard, as planes. Raises NotFinite if the session had to be reset."""
        (frame,) = self._frame_renderer.draw([self._stream])
        if isinstance(frame, NotFinite):
            raise frame
        return frame

    def render_batch(self, renderers: Sequence[BatchRenderer]) -> list[Picture | Exception]:
        """Draws several sessions, of any sizes, in one step."""
        rigs = [rig for rig in renderers if isinstance(rig, DeviceRig)]
        return list(self._frame_renderer.draw([rig._stream for rig in rigs]))

    def close(self) -> None:
        """Frees the slot; idempotent."""
        self._frame_renderer.leave(self._stream)
