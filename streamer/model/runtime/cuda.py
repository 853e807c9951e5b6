"""Live sessions on a CUDA GPU: the counterpart of `torch_cpu.FrameRenderer`, over `Slots`.

A step is one CUDA graph: it unpacks the host's inputs, makes noise, generates and decodes the next latent of every
slot, checks for NaN and Inf, composites over the backdrop and converts to YUV. The host writes one pinned tensor that
is copied in, and receives one that is copied out; it waits only for the event after that copy. There is a graph for
each of a few batch sizes, and a step uses the smallest that includes the last slot that is due. All graphs are captured
at start, the largest first: a capture takes seconds during which no session is rendered and no other thread may
allocate.

Without CUDA (`device="cpu"`) the same step runs without a graph: this is for tests, and slower than `FrameRenderer`.

`draw` belongs to one thread. `still`, `stream` and `leave` may be called from others: `still` runs on a CUDA stream of
its own, and changes of slots are enqueued on the steps' stream under a lock.

Letters used in shapes: P slots, S picture edge, s latent edge, Z latent channels, K values that the host passes for a
session, b slots of a step.
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

from streamer.base.image import Yuv, backdrop
from streamer.model.attention import choose
from streamer.model.autoencoder import Anchor, enlarged, to_tensor
from streamer.model.checkpoint import Networks
from streamer.model.config import HEARD, PLAN, STRIDE
from streamer.model.runtime import cuda_step
from streamer.model.runtime.color import eight_bit, scaled, shown, to_planes, with_alpha
from streamer.model.runtime.slots import Seat, Slots
from streamer.model.runtime.torch_cpu import (
    FrameConditions,
    Hearing,
    NotFinite,
    PreparedCharacter,
    blocks,
    random_conditions,
)
from streamer.model.transformer import face_tokens
from streamer.motion.controls import EMOTIONS


class Full(RuntimeError):
    """No slot is free."""


@dataclass(kw_only=True, eq=False)
class Seated(Hearing):
    """One session: its slot, the size of its frames, and its latest conditions."""

    seat: Seat
    size: int
    transparent: bool = False
    """Whether its frames may be transparent: they then come with alpha."""


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
        c, capacity, size = self.config, self.capacity, self.config.size

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        with torch.inference_mode(False):  # inference tensors cannot be written outside of inference mode
            self._picture = zeros(capacity, 4, 2 * size - 1, 2 * size - 1)  # its own pixels are copied in float32
            self._features = tuple(
                zeros(capacity, channels, size >> i, size >> i, dtype=self.dtype).contiguous(
                    memory_format=torch.channels_last
                )
                for i, channels in enumerate(c.autoencoder.channels, 1)
            )
            self._opaque, self._backed = (zeros(capacity, dtype=torch.bool) for _ in range(2))
            self._seed, self._frame = (zeros(capacity, dtype=torch.int64) for _ in range(2))
            self._backdrops: dict[int, Tensor] = {}
            self._backdrop(size)
            self._widths = (2 * PLAN, c.transformer.window * HEARD, len(EMOTIONS), 1)  # the last: whether it is due
            self._inputs = zeros(capacity, sum(self._widths))  # [P, K]
            self._pinned_inputs = self._pinned(capacity, sum(self._widths), dtype=torch.float32)
            self._painted = zeros(capacity, 4, size, size)  # premultiplied, 0..255: for frames of another size
            # Planes of YUV, alpha, and a row whose first value says whether the frame is finite.
            self._drawn = zeros(capacity, 5 * size // 2 + 1, size, dtype=torch.uint8)
            self._out = self._pinned(capacity, 5 * size // 2 + 1, size)
            self._others: dict[int, Tensor] = {}  # pinned planes of other sizes

    def _pinned(self, *shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
        """Allocates pinned host memory, which the device accesses directly."""
        return torch.zeros(shape, dtype=dtype, pin_memory=self._cuda)

    def _session_tensors(self) -> list[Tensor]:
        """Tensors that move with a session from slot to slot, in addition to those of `Slots`."""
        return [self._picture, *self._features, self._opaque, self._backed, self._seed, self._frame]

    def _backdrop(self, size: int) -> Tensor:
        """The backdrop [3, size, 1], constant along each row."""
        if size not in self._backdrops:
            rows = torch.from_numpy(backdrop(size)[:, :1, :3].astype(np.float32))
            self._backdrops[size] = rows.permute(2, 0, 1).contiguous().to(self.device)
        return self._backdrops[size]

    def _on_steps(self) -> contextlib.AbstractContextManager:
        return torch.cuda.stream(self._steps) if self._steps is not None else contextlib.nullcontext()

    @torch.no_grad()
    def prepare(self) -> None:
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

    @torch.no_grad()
    def still(self, picture: np.ndarray, face: np.ndarray) -> PreparedCharacter:
        """Like `FrameRenderer.still`; returns when the device has finished."""
        size = self.config.size
        if picture.shape != (size, size, 4):
            raise ValueError(f"a picture of shape {picture.shape}: the preset {self.config.name} wants {size}x{size}x4")
        with torch.cuda.stream(self._aside) if self._aside is not None else contextlib.nullcontext():
            pixels = to_tensor(picture[None]).to(self.device)
            seen = pixels.to(self.dtype).contiguous(memory_format=torch.channels_last)
            features = tuple(self._autoencoder.pyramid(seen))
            faces = face_tokens(torch.from_numpy(face.astype(np.float32)), self.config.edge).view(1, 1, -1)
            anchor = Anchor(enlarged(pixels), features)
            still = PreparedCharacter(anchor, self._transformer.reference(features[-1]), faces.to(self.device))
        if self._aside is not None:
            self._aside.synchronize()
        return still

    @torch.no_grad()
    def stream(
        self,
        still: PreparedCharacter,
        seed: int = 0,
        size: int | None = None,
        opaque: bool = False,
        backed: bool = True,
    ) -> Seated:
        """
        Opens a session of that character. Its frames have `size` pixels per edge, by default the preset's. `opaque`:
        its picture has no transparency. `backed`: otherwise the backdrop is behind it. Raises Full.
        """
        size = size or self.config.size
        if size % 4 or size < 16:
            raise ValueError(f"frames of {size} pixels per edge: want a multiple of 4, at least 16")
        with self._lock, self._on_steps():
            if len(self._slots) == self.capacity:
                raise Full(f"all {self.capacity} slots on the device are taken")
            seat = self._slots.seat(still.reference, still.faces)
            self._picture[seat.slot].copy_(still.anchor.picture[0])
            for place, level in zip(self._features, still.anchor.features, strict=True):
                place[seat.slot].copy_(level[0])
            self._opaque[seat.slot].fill_(opaque)
            self._backed[seat.slot].fill_(backed)
            self._seed[seat.slot].fill_(seed)
            self._frame[seat.slot].zero_()
            self._backdrop(size)
            seated = torch.cuda.Event() if self._cuda else None
            if seated is not None:
                seated.record()
        if seated is not None:
            seated.synchronize()  # afterwards nothing reads the still, so it may be freed
        return Seated(seat=seat, size=size, transparent=not (opaque or backed))

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
        """Planes and alpha, by slot, of frames whose size is not the preset's; starts their copy to the host."""
        found: dict[int, np.ndarray] = {}
        for size in {stream.size for stream in streams} - {self.config.size}:
            of_size = [slot for stream, slot in zip(streams, slots, strict=True) if stream.size == size]
            picked, opaque, backed = (
                torch.stack([part[slot] for slot in of_size]) for part in (self._painted, self._opaque, self._backed)
            )
            pictures = scaled(picked, size)
            planes = with_alpha(to_planes(shown(pictures, opaque, backed, self._backdrop(size))), pictures)
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
        painted = self._autoencoder.decode(
            latents, Anchor(self._picture[first], tuple(level[first] for level in self._features))
        )
        finite = (latents.flatten(1).float().sum(1) + painted.flatten(1).float().sum(1)).isfinite()
        self._painted[first].copy_(eight_bit(painted))
        pictures = shown(
            self._painted[first], self._opaque[first], self._backed[first], self._backdrop(self.config.size)
        )
        self._drawn[first, :-1].copy_(with_alpha(to_planes(pictures), self._painted[first]))
        self._drawn[first, -1, 0].copy_(finite)

    def _noise(self, count: int) -> Tensor:
        """[b, Z, s, s]"""
        edge = self.config.size // STRIDE
        shape = (self.config.autoencoder.latent, edge, edge)
        return noise(self._seed[:count], self._frame[:count], shape)


MOST_APART = (0.02, 0.25)
"""
Tolerated mean deviations from the CPU: of latents, whose variance is 1, and of frames, in levels of 255. On a CPU,
`nano` deviates by 0.2 of it in float16, by 0.9 in bfloat16, and by 11 times if its last layer is a tenth too weak.
"""


def apart(frame_renderer: CudaFrameRenderer, networks: Networks) -> float:
    """
    The deviation from the same step in float32 on the CPU, relative to the tolerance: the worst frame of two sessions,
    beyond the wrap-around of their rings. Infinite if a frame is not finite. Takes a second.
    """
    plain = CudaFrameRenderer(networks, 2, "cpu", torch.float32)
    config, rng = networks.config, np.random.default_rng(0)
    picture = blocks(config.size, rng)
    face = np.ones((config.size // STRIDE,) * 2)
    pairs = [[one.stream(one.still(picture, face), seed) for seed in (1, 2)] for one in (plain, frame_renderer)]
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
