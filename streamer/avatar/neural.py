"""The neural generator as the pipeline sees it: any character's picture, drawn anew at every frame."""

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
"""More were never tried."""

_MOST_STILLS = 24
"""Characters kept ready, 8 MB each with `nano`; beyond it the one unused for longest is forgotten."""


def on_device(networks: Networks, sessions: int) -> CudaFrameRenderer:
    """
    A painter on CUDA, ready to draw. A session may hold three places for a moment: for the character that it wears, for
    the one that it puts on next, and for one that is being made meanwhile. Raises NotInstalled where CUDA fails, or
    draws something else than the CPU.
    """
    if reason := why_no_cuda():
        raise NotInstalled(reason)
    try:
        frame_renderer = CudaFrameRenderer(networks, 3 * sessions + 1, "cuda")
        frame_renderer.prepare()
        difference = apart(frame_renderer, networks)
    except Exception as error:  # out of memory, a kernel that does not compile, a capture that fails
        raise NotInstalled(f"the step does not run on CUDA: {(str(error) or repr(error)).splitlines()[0]}") from error
    if not difference <= 1:
        raise NotInstalled(f"what is drawn on CUDA differs from the CPU's by {difference:.1f} times what it may")
    return frame_renderer


class NeuralBackend:
    """Holds the weights; each session gets a `NeuralRig` of its own."""

    name = "neural"

    def __init__(self, frame_renderer: FrameRenderer | CudaFrameRenderer, where: str = "") -> None:
        self.frame_renderer = frame_renderer
        self.where = where
        self._made = 0
        self._stills: OrderedDict[tuple[str, bool, int], tuple[PreparedCharacter, bool]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, preset: str = "nano", device: str = DEVICES[0], sessions: int = MAX_SESSIONS) -> "NeuralBackend":
        """
        With the weights that come with the package, on one of constants.DEVICES; on the CPU by the engine and in the
        precision that are fastest here. Raises NotInstalled.
        """
        try:
            networks = load(preset)
        except (FileNotFoundError, BadWeights) as error:
            raise NotInstalled(f"{error}; --generator rig draws without it") from None
        # One core stays free for packets and encoding: on two cores, with a browser beside, two of torch's threads wait
        # for each other and take longer than one. Two of OpenVINO's then show as many frames as one, and where nothing
        # else runs they take three quarters of its time.
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
            raise NotInstalled(f"PyTorch computes no numbers here: {error}") from error
        return cls(found.frame_renderer, f"the {preset} network draws on the CPU ({reason}) by {found.line}")

    @property
    def device(self) -> str:
        """Where it draws: "cpu" or "cuda"."""
        return "cuda" if isinstance(self.frame_renderer, CudaFrameRenderer) else "cpu"

    def renderer_name(self, entry: CharacterRecord, size: int | None = None) -> str:
        return NeuralRig.name

    def relative_cost(self, renderer: str, size: int) -> float:
        if self._times(size) > 1:
            return 1.6
        return 1.0 if size <= self.frame_renderer.config.size else 1.1  # drawn at the networks' size, then scaled

    def _times(self, size: int) -> int:
        """So many times as large as the networks' size a session's frames are drawn: never on a device."""
        return (
            1
            if size <= self.frame_renderer.config.size or isinstance(self.frame_renderer, CudaFrameRenderer)
            else max(TIMES)
        )

    def create_renderer(self, entry: CharacterRecord, size: int, background: bool) -> Renderer:
        """Raises `RequestError`: 422 for a picture whose face is not known, 503 where the device has no place left."""
        still, opaque = self._ready(entry, size, background)
        with self._lock:
            self._made += 1
            seed = self._made
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
        """
        A character ready to be drawn, and whether nothing shines through it. Those last asked for are kept: a still
        is computed from a picture alone, and sessions only read it.
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
    """[2, 3]: from places of a picture to those of one that is smaller."""
    return similarity(0.0, 1 / times, (0, 0), (0, 0))


def portrait(entry: CharacterRecord, edge: int, background: bool) -> tuple[np.ndarray, Face]:
    """The one picture that the generator gets of a character, [edge, edge, 4] uint8 straight RGBA, and its face."""
    if entry.character is not None:
        rig = entry.rig(edge, background)
        try:
            return rig.draw(rest()).copy(), Face(1.0, PLACES[:2] * edge, PLACES[2] * edge)
        finally:
            rig.close()
    assert entry.picture is not None
    if entry.face is None:
        raise RequestError(422, "no_face", "the picture's face is not known: mark its eyes and its mouth")
    picture, face = aligned(entry.picture, entry.face, edge), placed(entry.picture, entry.face, edge)
    return picture if entry.own_mouth else with_drawn_mouth(picture, face), face


_FARTHEST = {"yaw": 0.28, "pitch": 0.25, "roll": 0.16}
"""How far a head turns, nods and tilts by itself, in radians: today's weights smear one that goes farther."""
_POSE = [INDEX[name] for name in _FARTHEST]
_REACH = np.array([*_FARTHEST.values()], np.float32)


def within_reach(controls: np.ndarray) -> np.ndarray:
    """Controls [C] with a head that is turned, nodded and tilted together as far as it may be by one of them alone."""
    pose = controls[_POSE] / _REACH
    near = controls.copy()
    near[_POSE] = _REACH * pose / max(float(np.linalg.norm(pose)), 1.0)
    return near


def _cue(controls: np.ndarray, curves: ArticulationFrame, emotion: np.ndarray) -> FrameConditions:
    controls = within_reach(controls)
    return FrameConditions(
        controls, np.concatenate([curves.mouth, curves.prosody, curves.embedding]).astype(np.float32), emotion
    )


class NeuralRig:
    """One session's character on a CPU: hears every frame, draws those asked for."""

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
        self._frame_renderer.hear(self._stream, _cue(controls, curves, emotion))

    def draw(self, controls: np.ndarray, t: float = 0.0) -> Picture:
        """The frame last heard, straight RGBA. Raises NotFinite where the session had to be reset."""
        (frame,) = self.render_batch([self])
        if isinstance(frame, Exception):
            raise frame
        return frame

    def render_batch(self, renderers: Sequence[BatchRenderer]) -> list[Picture | Exception]:
        """One pass through the networks for several sessions."""
        rigs = [rig for rig in renderers if isinstance(rig, NeuralRig)]
        frames = self._frame_renderer.draw([rig._stream for rig in rigs])
        return [
            frame if isinstance(frame, NotFinite) else rig._finished(frame)
            for rig, frame in zip(rigs, frames, strict=True)
        ]

    def _finished(self, frame: np.ndarray) -> np.ndarray:
        """Premultiplied at the size that was drawn to what the session asked for."""
        if self._opaque:
            frame[..., 3] = 255  # whatever the networks say of a picture that nothing shines through
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
    """One session's character in a slot of a device, which finishes the frames, too."""

    name = "neural"

    def __init__(self, frame_renderer: CudaFrameRenderer, stream: Seated) -> None:
        self.size = stream.size
        self.batch_key: object = frame_renderer
        self.max_batch_size = frame_renderer.capacity  # a step computes the slots between along anyway
        self._frame_renderer, self._stream = frame_renderer, stream

    def hear(self, controls: np.ndarray, curves: ArticulationFrame, emotion: np.ndarray) -> None:
        self._frame_renderer.hear(self._stream, _cue(controls, curves, emotion))

    def draw(self, controls: np.ndarray, t: float = 0.0) -> Picture:
        """The frame last heard, as planes. Raises NotFinite where the session had to be reset."""
        (frame,) = self._frame_renderer.draw([self._stream])
        if isinstance(frame, NotFinite):
            raise frame
        return frame

    def render_batch(self, renderers: Sequence[BatchRenderer]) -> list[Picture | Exception]:
        """One step for several sessions, of whichever sizes."""
        rigs = [rig for rig in renderers if isinstance(rig, DeviceRig)]
        return list(self._frame_renderer.draw([rig._stream for rig in rigs]))

    def close(self) -> None:
        """Gives the slot up; idempotent."""
        self._frame_renderer.leave(self._stream)
