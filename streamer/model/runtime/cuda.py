"""Live sessions on a CUDA GPU, over `Slots` and `Scenes`.

A step is one CUDA graph: it unpacks the host's inputs, makes noise, generates the next latent of every slot, draws its
frame, checks for NaN and Inf, composites over the plate and converts to YUV. The host writes one pinned tensor that is
copied in, and receives one that is copied out; it waits only for the event after that copy. There is a graph for each
of a few batch sizes, and a step uses the smallest that includes the last slot that is due. All graphs are captured at
start, the largest first: a capture takes seconds during which no session is rendered and no other thread may allocate.

Frames are drawn at twice the edge of the networks' pictures; those of other sizes are scaled from them.

Without CUDA (`device="cpu"`) the same step runs without a graph: this is for tests, and slow.

`draw` belongs to one thread. `prepare`, `stream` and `leave` may be called from others: `prepare` runs on a CUDA stream
of its own, and changes of slots are enqueued on the steps' stream under a lock.

Letters used in shapes: P slots, S edge of the networks' pictures, D = 2 S edge of frames as drawn, s latent edge,
Z latent channels, K values that the host passes for a session, b slots of a step, T edge of a given picture.
"""

import contextlib
import copy
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamer.base.errors import NotInstalled
from streamer.base.image import Yuv
from streamer.model.attention import choose
from streamer.model.checkpoint import Networks
from streamer.model.config import HEARD, PLAN, STRIDE
from streamer.model.painter import References
from streamer.model.runtime import cuda_step
from streamer.model.runtime.color import scaled, straight, to_planes, with_alpha
from streamer.model.runtime.cuda_frame import (
    PreparedCharacter,
    Scenes,
    checked,
    frame_edge,
    limited,
    network_input,
    on_device,
    plate_of,
)
from streamer.model.runtime.slots import Seat, Slots
from streamer.model.runtime.stream import FrameConditions, Full, Hearing, NotFinite, blocks, random_conditions
from streamer.model.transformer import face_tokens
from streamer.motion.controls import EMOTIONS


@dataclass(kw_only=True, eq=False)
class Seated(Hearing):
    """One session: its slot, the size of its frames, and its latest conditions."""

    seat: Seat
    size: int
    transparent: bool
    """Whether its frames come with alpha."""


def card() -> str:
    """The name of the card that CUDA uses. Raises RuntimeError without one."""
    return torch.cuda.get_device_name(0)


def why_no_cuda() -> str | None:
    """Why CUDA cannot be used here; None if a test computation succeeds."""
    with warnings.catch_warnings(record=True) as said:  # for example of a driver that is too old
        warnings.simplefilter("always")
        if torch.version.cuda is None and torch.version.hip is None:
            return "this PyTorch is built without CUDA"
        if not torch.cuda.is_available():
            return f"PyTorch finds no CUDA device{''.join(f' ({w.message})' for w in said[:1])}"
        try:
            if float(torch.ones(8, device="cuda", dtype=torch.float16).sum()) == 8:
                return None
            return "the CUDA device computes wrong sums"
        except RuntimeError as error:
            return f"the CUDA device does not work: {str(error).splitlines()[0]}"


def buckets(capacity: int) -> tuple[int, ...]:
    """Batch sizes that have a graph: powers of two below `capacity`, and `capacity` itself."""
    return (*(2**i for i in range(capacity.bit_length()) if 2**i < capacity), capacity)


def noise(seed: Tensor, frame: Tensor, shape: Sequence[int]) -> Tensor:
    """
    Normal noise [b, *shape] that depends only on seeds and frame numbers, int64 [b]: a session's noise is the same in
    any slot and any batch.
    """
    count = int(np.prod(shape))
    place = torch.arange(2 * count, device=seed.device)
    bits = _hashed(_hashed(_hashed(seed) + frame)[:, None] + place)
    uniform = (bits.float() + 0.5) * 2.0**-32
    radius, angle = uniform.view(-1, 2, count).unbind(1)
    return ((-2 * radius.log()).clamp(min=0).sqrt() * (2 * torch.pi * angle).cos()).view(-1, *shape)


def _hashed(x: Tensor) -> Tensor:
    """A hash of the low 32 bits (xor-shift and multiplication) that decorrelates neighbouring inputs."""
    low = 0xFFFFFFFF
    x = x & low
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & low
    x = ((x ^ (x >> 15)) * 0x846CA68B) & low
    return x ^ (x >> 16)


class CudaFrameRenderer:
    """Renders frames of up to `capacity` sessions with a preset's networks, in one step for all that are due."""

    def __init__(
        self, networks: Networks, capacity: int, device: torch.device | str, dtype: torch.dtype = torch.float16
    ) -> None:
        """float16 has a hundredfold range to spare for the networks' values, and a tenth of bfloat16's error."""
        c = networks.config
        self.config, self.dtype, self.device = c, dtype, torch.device(device)
        self.choice = choose(self.device, dtype, c.tokens, c.transformer.head, c.transformer.width)
        self._step = cuda_step.chosen(self.choice)
        self._transformer = copy.deepcopy(networks.transformer).to(self.device, dtype)
        autoencoder = copy.deepcopy(networks.autoencoder).to(self.device, dtype)
        self._autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._slots = Slots(c, capacity, self.device, dtype)
        self._scenes = Scenes(c, capacity, self.device, dtype)
        self.buckets = buckets(capacity)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._lock = threading.Lock()
        self._cuda = self.device.type == "cuda"
        self._steps = torch.cuda.Stream(self.device) if self._cuda else None
        self._aside = torch.cuda.Stream(self.device) if self._cuda else None
        self._pool = torch.cuda.graph_pool_handle() if self._cuda else None
        self._allocate()
        if self._cuda:
            torch.cuda.synchronize(self.device)  # the streams above do not wait for copies and fills made here

    @property
    def capacity(self) -> int:
        return self._slots.capacity

    @property
    def line(self) -> str:
        """The device and the attention, for the start-up log."""
        name = torch.cuda.get_device_name(self.device) if self._cuda else "the CPU"
        graphs = f", a CUDA graph for {', '.join(map(str, self._graphs))} sessions" if self._graphs else ""
        return f"{self.device.type} ({name}){graphs}; {self.choice.line}"

    def _allocate(self) -> None:
        """Allocates the tensors beside the slots, and a step's inputs and outputs."""
        capacity, edge = self.capacity, frame_edge(self.config)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        with torch.inference_mode(False):  # inference tensors cannot be written outside of inference mode
            self._seed, self._frame = (zeros(capacity, dtype=torch.int64) for _ in range(2))
            self._widths = (2 * PLAN, self.config.transformer.window * HEARD, len(EMOTIONS), 1)  # the last: is it due
            self._inputs = zeros(capacity, sum(self._widths))  # [P, K]
            self._pinned_inputs = self._pinned(capacity, sum(self._widths), dtype=torch.float32)
            self._frames = zeros(capacity, 4, edge, edge, dtype=torch.uint8)  # premultiplied: for frames of other sizes
            # Planes of YUV, alpha, and a row whose first value says whether the frame is finite.
            self._drawn = zeros(capacity, 5 * edge // 2 + 1, edge, dtype=torch.uint8)
            self._out = self._pinned(capacity, 5 * edge // 2 + 1, edge)
            self._others: dict[int, Tensor] = {}  # pinned planes of other sizes

    def _pinned(self, *shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
        """Allocates pinned host memory, which the device accesses directly."""
        return torch.zeros(shape, dtype=dtype, pin_memory=self._cuda)

    def _session_tensors(self) -> list[Tensor]:
        """Tensors that move with a session from slot to slot, in addition to those of `Slots`."""
        return [*self._scenes.tensors(), self._seed, self._frame]

    def _on_steps(self) -> contextlib.AbstractContextManager:
        return torch.cuda.stream(self._steps) if self._steps is not None else contextlib.nullcontext()

    @torch.no_grad()
    def capture(self) -> None:
        """Captures the graphs, if on CUDA; takes seconds. Call it before the first session."""
        if not self._cuda:
            return
        if len(self._slots):
            raise RuntimeError(f"{len(self._slots)} sessions are open: graphs must be captured before the first")
        tries, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True  # shapes are fixed
        try:
            for count in reversed(self.buckets):
                self._graphs[count] = self._captured(count)
        finally:
            torch.backends.cudnn.benchmark = tries

    def _captured(self, count: int) -> torch.cuda.CUDAGraph:
        """Captures a step over `count` slots. All graphs share a memory pool: only one runs at a time."""
        with self._on_steps():
            for _ in range(3):  # warm-up: compilation and selection on first use must not be captured
                self._compute(count)
        torch.cuda.synchronize(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._steps, capture_error_mode="thread_local"):
            self._compute(count)
        torch.cuda.synchronize(self.device)
        return graph

    @property
    def max_batch_size(self) -> int:
        """A step computes all slots up to the last anyway."""
        return self.capacity

    @torch.no_grad()
    def prepare(
        self,
        references: Sequence[np.ndarray],
        face: np.ndarray,
        centre: tuple[float, float],
        size: int,
        plate: np.ndarray | None = None,
    ) -> PreparedCharacter:
        """
        Prepares a character for frames of `size`: pictures [T, T, 4] uint8 premultiplied RGBA, T at least D, the
        neutral one first; face [s, s], the fraction of each latent cell that shows the face in it, and its `centre`,
        x and y in edges; `plate`, the background, [T, T, 3] RGB or [T, T, 4] straight RGBA uint8. Without one, frames
        keep the person's alpha. Returns when the device has finished. Raises ValueError for other shapes and sizes.
        """
        c, edge, cells = self.config, frame_edge(self.config), self.config.size // STRIDE
        given = checked(references, edge)
        if face.shape != (cells, cells):
            raise ValueError(f"a face of shape {face.shape}: the preset {c.name} wants {cells}x{cells}")
        if not all(0 <= value <= 1 for value in centre):
            raise ValueError(f"a face's centre at {tuple(centre)}: want x and y from 0 to 1")
        if size % 4 or size < 16:
            raise ValueError(f"frames of {size} pixels per edge: want a multiple of 4, at least 16")
        with torch.cuda.stream(self._aside) if self._aside is not None else contextlib.nullcontext():
            behind = None if plate is None else plate_of(plate, edge, self.device)
            pictures = tuple(limited(on_device(picture, self.device), edge) for picture in given)
            seen = torch.cat([network_input(picture, c.size) for picture in pictures])
            features = self._autoencoder.painter.references(seen[None].to(self.dtype))
            faces = face_tokens(torch.from_numpy(face.astype(np.float32)), c.edge).view(1, 1, -1)
            opaque = all(bool(picture[..., 3].min() == 255) for picture in given)
            covered = opaque or (plate is not None and (plate.shape[2] == 3 or bool(plate[..., 3].min() == 255)))
            still = PreparedCharacter(
                size=size,
                transparent=not covered,
                pictures=pictures,
                features=References(*(level.contiguous() for level in features)),
                plate=behind,
                opaque=opaque,
                centre=centre,
                reference=self._transformer.reference(features.deep[:, 0]),
                faces=faces.to(self.device),
            )
        if self._aside is not None:
            self._aside.synchronize()
        return still

    @torch.no_grad()
    def stream(self, still: PreparedCharacter, seed: int = 0) -> Seated:
        """Opens a session of that character. Raises Full."""
        with self._lock, self._on_steps():
            if len(self._slots) == self.capacity:
                raise Full(f"all {self.capacity} slots on the device are taken")
            seat = self._slots.seat(still.reference, still.faces)
            self._scenes.seat(seat.slot, still)
            self._seed[seat.slot].fill_(seed)
            self._frame[seat.slot].zero_()
            seated = torch.cuda.Event() if self._cuda else None
            if seated is not None:
                seated.record()
        if seated is not None:
            seated.synchronize()  # afterwards nothing reads the still, so it may be freed
        return Seated(seat=seat, size=still.size, transparent=still.transparent)

    def hear(self, stream: Seated, cue: FrameConditions) -> None:
        """Takes each frame's conditions in order, also of skipped frames. Raises NotFinite, ValueError."""
        stream.hear(cue, self.config.transformer.window)

    @torch.no_grad()
    def leave(self, stream: Seated) -> None:
        """Ends the session; the last session moves into its slot. Idempotent."""
        with self._lock, self._on_steps():
            slot, last = stream.seat.slot, len(self._slots) - 1
            if slot < 0:
                return
            self._slots.leave(stream.seat)
            if slot != last:
                for part in self._session_tensors():
                    part[slot].copy_(part[last])

    @torch.no_grad()
    def draw(self, streams: Sequence[Seated]) -> list[Yuv | NotFinite]:
        """
        Renders the next frame of each session, valid until the next call. A session whose frame is not finite is reset
        and gets NotFinite in its place; other sessions are unaffected.
        """
        if not streams:
            return []
        with self._lock, self._on_steps():
            slots = self._write_inputs(streams)
            reach = max(slots) + 1
            bucket = next(count for count in self.buckets if count >= reach)
            self._inputs[:bucket].copy_(self._pinned_inputs[:bucket], non_blocking=True)
            if bucket in self._graphs:
                self._graphs[bucket].replay()
            else:
                self._compute(bucket)
            self._out[:reach].copy_(self._drawn[:reach], non_blocking=True)
            rescaled = self._rescale(streams, slots)
            done = torch.cuda.Event(blocking=True) if self._cuda else None
            if done is not None:
                done.record()
        if done is not None:
            done.synchronize()
        out = self._out.numpy()
        frames: list[Yuv | NotFinite] = []
        for stream, slot in zip(streams, slots, strict=True):
            if out[slot, -1, 0]:
                planes = rescaled.get(slot, out[slot, :-1])
                edge = planes.shape[1]
                frames.append(Yuv(planes[:-edge], planes[-edge:] if stream.transparent else None))
                continue
            with self._lock, self._on_steps():
                if stream.seat.slot >= 0:
                    self._slots.reset(stream.seat)
                    self._scenes.reset(stream.seat.slot)
            frames.append(NotFinite("the session state contained NaN or Inf and was reset"))
        return frames

    def _write_inputs(self, streams: Sequence[Seated]) -> list[int]:
        """Writes the sessions' conditions and which are due into the pinned input. Returns their slots."""
        slots = [stream.seat.slot for stream in streams]
        if min(slots) < 0 or len(set(slots)) < len(slots):
            raise ValueError(f"sessions in slots {slots}: each must be open and occur only once")
        rows = self._pinned_inputs.numpy()
        rows[:, -1] = 0
        for stream, slot in zip(streams, slots, strict=True):
            if not stream.heard:
                raise ValueError(f"the session in slot {slot} has no conditions yet")
            rows[slot] = np.concatenate([*stream.plans, *stream.heard, stream.emotion, [1]])
        return slots

    def _rescale(self, streams: Sequence[Seated], slots: Sequence[int]) -> dict[int, np.ndarray]:
        """Planes and alpha, by slot, of frames that are not of D pixels; starts their copy to the host."""
        found: dict[int, np.ndarray] = {}
        for size in {stream.size for stream in streams} - {frame_edge(self.config)}:
            of_size = [slot for stream, slot in zip(streams, slots, strict=True) if stream.size == size]
            pictures = scaled(torch.stack([self._frames[slot] for slot in of_size]).float(), size)
            planes = with_alpha(to_planes(straight(pictures)), pictures)
            if len(self._others.get(size, ())) < len(of_size):
                count = next(count for count in self.buckets if count >= len(of_size))
                self._others[size] = self._pinned(count, 5 * size // 2, size)
            self._others[size][: len(of_size)].copy_(planes, non_blocking=True)
            found |= dict(zip(of_size, self._others[size].numpy(), strict=False))
        return found

    def _compute(self, count: int) -> None:
        """The whole step over the first `count` slots, from inputs to planes, all on the device."""
        first, slots = slice(count), self._slots
        plan, heard, emotion, due = self._inputs[first].split(self._widths, 1)
        for place, new in zip(
            (slots.now.plan, slots.now.heard, slots.now.emotion), (plan, heard, emotion), strict=True
        ):
            place[first].copy_(new.reshape(place[first].shape))
        slots.due[first].copy_(due[:, 0] > 0)
        slots.noise[first].copy_(self._noise(count))
        self._frame[first] += slots.due[first]
        latents = self._step(self._transformer, slots, count)
        frames, finite = self._scenes.draw(self._autoencoder, latents, slots.due[first])
        self._frames[first].copy_(frames)
        self._drawn[first, :-1].copy_(with_alpha(to_planes(straight(frames)), frames))
        self._drawn[first, -1, 0].copy_(finite)

    def _noise(self, count: int) -> Tensor:
        """[b, Z, s, s]"""
        edge = self.config.size // STRIDE
        shape = (self.config.autoencoder.latent, edge, edge)
        return noise(self._seed[:count], self._frame[:count], shape)


MOST_APART = (0.02, 0.25)
"""
Tolerated mean deviations from the CPU: of latents, whose variance is 1, and of frames, in levels of 255. On a CPU,
an early `nano` deviates by 0.4 of it in float16, by 2.6 in bfloat16, and by 4.0 if its last change of the flow is a
tenth too weak.
"""


def apart(frame_renderer: CudaFrameRenderer, networks: Networks) -> float:
    """
    The deviation from the same step in float32 on the CPU, relative to the tolerance: the worst frame of two sessions,
    beyond the wrap-around of their rings. Infinite if a frame is not finite. Takes some seconds with `nano`.
    """
    plain = CudaFrameRenderer(networks, 2, "cpu", torch.float32)
    config, rng = networks.config, np.random.default_rng(0)
    edge = frame_edge(config)
    given = [blocks(edge, rng) for _ in range(2)], np.ones((config.size // STRIDE,) * 2), (0.5, 0.5), edge
    pairs = [[one.stream(one.prepare(*given), seed) for seed in (1, 2)] for one in (plain, frame_renderer)]
    worst = 0.0
    try:
        for _ in range(config.transformer.context + 2):
            cue = random_conditions(rng)
            for one, streams in zip((plain, frame_renderer), pairs, strict=True):
                for stream in streams:
                    one.hear(stream, cue)
            for wanted, found in zip(plain.draw(pairs[0]), frame_renderer.draw(pairs[1]), strict=True):
                if isinstance(wanted, NotFinite) or isinstance(found, NotFinite):
                    return float("inf")
                worst = max(
                    worst, float(np.abs(found.planes.astype(np.float32) - wanted.planes).mean()) / MOST_APART[1]
                )
            for mine, other in zip(*pairs, strict=True):
                latent = (
                    frame_renderer._slots.latent[other.seat.slot].cpu().float() - plain._slots.latent[mine.seat.slot]
                )
                worst = max(worst, float(latent.abs().mean()) / MOST_APART[0])
    finally:
        for stream in pairs[1]:
            frame_renderer.leave(stream)
    return worst


_CORES = torch.get_num_threads()
_MOST_THREADS = 4
"""More threads were never measured."""


def load_verified(networks: Networks, sessions: int) -> CudaFrameRenderer:
    """Loads a frame renderer on CUDA for so many sessions, and checks its output against the CPU.

    A session may briefly hold three slots: for the current character, for the next one, and for one being created.
    Leaves one core of the host for packets and encoding. Raises NotInstalled if the step fails or its frames differ
    from the CPU's.
    """
    torch.set_num_threads(min(max(_CORES - 1, 1), _MOST_THREADS))
    try:
        frame_renderer = CudaFrameRenderer(networks, 3 * sessions + 1, "cuda")
        frame_renderer.capture()
        difference = apart(frame_renderer, networks)
    except Exception as error:  # out of memory, a kernel that does not compile, a capture that fails
        raise NotInstalled(f"the CUDA step failed: {(str(error) or repr(error)).splitlines()[0]}") from error
    if not difference <= 1:
        raise NotInstalled(f"CUDA frames differ from the CPU's by {difference:.1f} times the tolerance")
    return frame_renderer
