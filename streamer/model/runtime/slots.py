"""Live sessions' state and a step's inputs on a device, in tensors that never move: a CUDA graph captured over them
stays valid while sessions come and go.

Each session occupies a slot, and the first `len(slots)` slots are in use: when a session leaves, the last one moves
into the gap. So a step over the first b slots wastes little work, and a graph of a small batch suffices whenever there
are few sessions. A move copies one session's state, a few dozen megabytes at most, and only happens when a session
leaves; a `Seat` tracks its session's slot.

Not every session is due in a step. `due` marks those that are: the other slots are computed too, but keep their state
(`streamer.model.runtime.cuda_step`). For this each ring has a spare entry: what a step writes outside the context is
neither counted nor read.

On a GPU, seating, leaving and resetting must run on the same stream as the steps.

Letters used in shapes: P slots, L layers, C context frames, N tokens of a latent frame, W width, H heads, D channels of
a head, Z latent channels, s latent edge, F faces, R references of the emotion.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from streamer.model.attention import rotate, rotation_table
from streamer.model.config import HEARD, PLAN, STRIDE, ModelConfig
from streamer.model.transformer import Conditions, Reference
from streamer.motion.controls import EMOTIONS


@dataclass(eq=False)
class Seat:
    """A session's slot, which changes when another session leaves."""

    slot: int


class Memory(NamedTuple):
    """A copy of one session's state."""

    written: int  # frames appended so far
    keys: Tensor  # [L, filled, N, H, D], oldest first
    values: Tensor  # [L, filled, N, H, D]
    previous: tuple[Tensor, Conditions] | None  # the last frame [1, Z, s, s], not in the ring yet, and its conditions


class Slots:
    """State of up to `capacity` sessions. Tensors are written in place and never replaced."""

    def __init__(
        self,
        config: ModelConfig,
        capacity: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        context: int | None = None,
        faces: int = 1,
        emotions: int = 1,
    ) -> None:
        """`dtype` is the transformer's. Raises ValueError for sizes that cannot hold a session."""
        c = config.transformer
        context = c.context if context is None else context
        if not 0 <= context <= c.context:
            raise ValueError(f"a context of {context} frames: the preset {config.name} has positions for {c.context}")
        for name, number in (("capacity", capacity), ("faces", faces), ("emotions", emotions)):
            if number < 1:
                raise ValueError(f"{name} must be positive, got {number}")
        self.config, self.capacity, self.context, self.dtype = config, capacity, context, dtype
        self.device = torch.device(device)
        self._seats: list[Seat] = []
        edge = config.size // STRIDE
        layer = (c.depth, capacity)

        def zeros(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        def conditions() -> Conditions:
            return Conditions(
                zeros(capacity, 2, PLAN),
                zeros(capacity, dtype=torch.float32),
                zeros(capacity, faces, c.window, HEARD),
                zeros(capacity, dtype=torch.float32),
                zeros(capacity, faces, config.tokens),
                zeros(capacity, emotions, len(EMOTIONS)),
                zeros(capacity, dtype=torch.float32),
            )

        with torch.inference_mode(False):  # inference tensors cannot be written outside of inference mode
            self.ring_keys = zeros(*layer, context + 1, config.tokens, c.heads, c.head)  # normed, not rotated
            self.ring_values = zeros(*layer, context + 1, config.tokens, c.heads, c.head)
            self.sink_keys = zeros(*layer, config.tokens, c.heads, c.head)  # rotated to the fixed position -1
            self.sink_values = zeros(*layer, config.tokens, c.heads, c.head)
            self.written = zeros(capacity, dtype=torch.int64)  # frames appended so far
            self.added = zeros(capacity, config.tokens, c.width)  # `Reference.added`
            self.latent = zeros(capacity, config.autoencoder.latent, edge, edge)  # the previous frame
            self.given = conditions()  # its conditions
            self.has_previous = zeros(capacity, dtype=torch.bool)  # whether there is a previous frame
            # Inputs of a step:
            self.noise = zeros(capacity, config.autoencoder.latent, edge, edge)
            self.now = conditions()  # conditions of the next frame; `seat` sets its faces
            self.due = zeros(capacity, dtype=torch.bool)
            # Exact angles, even if the model's own table was rounded.
            table = rotation_table(config.edge, context, c.head, c.rope_time).to(self.device)
            self._beside = table[1, 0]  # [N, 2, D]
            half = dtype if dtype == torch.float32 else torch.float16
            self.table = pairs(table).to(half)  # [C + 3, N, D / 2, 2], as the kernels read it

    def __len__(self) -> int:
        """Number of sessions."""
        return len(self._seats)

    def _memory(self, slot: int) -> list[Tensor]:
        """Views of the tensors that `reset` clears."""
        rings = [part[:, slot] for part in (self.ring_keys, self.ring_values)]
        return [*rings, *(part[slot] for part in (self.written, self.latent, self.has_previous, *self.given))]

    def _all(self, slot: int) -> list[Tensor]:
        sinks = [part[:, slot] for part in (self.sink_keys, self.sink_values)]
        return [*self._memory(slot), *sinks, *(part[slot] for part in (self.added, self.noise, self.due, *self.now))]

    @torch.no_grad()
    def seat(self, reference: Reference, faces: Tensor) -> Seat:
        """
        Opens a session: `reference` of its character (one row) and faces [1, F, N]. Raises ValueError if all slots are
        taken or a size does not match.
        """
        if len(self) == self.capacity:
            raise ValueError(f"all {self.capacity} slots are taken")
        slot = len(self)
        keys, values = reference.sinks
        fitting = (
            ("added", reference.added, self.added[:1]),
            ("sink keys", keys, self.sink_keys[:, :1]),
            ("sink values", values, self.sink_values[:, :1]),
            ("faces", faces, self.now.faces[:1]),
        )
        for name, part, place in fitting:
            if part.shape != place.shape:
                raise ValueError(f"{name} of shape {list(part.shape)}, the slot wants {list(place.shape)}")
        for part in self._all(slot):
            part.zero_()
        self.added[slot].copy_(reference.added[0])
        keys = rotate(keys[:, 0].to(self.device, torch.float32), self._beside[:, None])
        self.sink_keys[:, slot].copy_(keys)
        self.sink_values[:, slot].copy_(values[:, 0])
        self.now.faces[slot].copy_(faces[0])
        for present in (self.now.plan_given, self.now.heard_given, self.now.emotion_given):
            present[slot].fill_(1)
        seat = Seat(slot)
        self._seats.append(seat)
        return seat

    def _known(self, seat: Seat) -> int:
        if not (0 <= seat.slot < len(self) and self._seats[seat.slot] is seat):
            raise ValueError(f"no session has this seat (slot {seat.slot}); {len(self)} sessions are open")
        return seat.slot

    @torch.no_grad()
    def leave(self, seat: Seat) -> None:
        """Ends the session; the last one moves into its slot."""
        slot = self._known(seat)
        last = self._seats.pop()
        if last is not seat:
            for to, source in zip(self._all(slot), self._all(last.slot), strict=True):
                to.copy_(source)
            self._seats[slot] = last
        self.due[last.slot].zero_()
        last.slot, seat.slot = slot, -1

    @torch.no_grad()
    def reset(self, seat: Seat) -> None:
        """Clears the session's frames, not its character. Masked values still enter products, so no NaN may remain."""
        for part in self._memory(self._known(seat)):
            part.zero_()

    @torch.no_grad()
    def take(self, noise: Tensor, given: Conditions, due: Tensor) -> None:
        """
        Sets the next step's inputs for the first b slots: noise [b, Z, s, s], conditions of b rows, and `due`, bool
        [b]. No other slot is due. Copies from pinned host memory run asynchronously.
        """
        count = len(noise)
        if not 1 <= count <= self.capacity:
            raise ValueError(f"inputs of {count} sessions, the slots hold 1 to {self.capacity}")
        places = {"noise": self.noise, **self.now._asdict(), "due": self.due}
        inputs = {"noise": noise, **given._asdict(), "due": due}
        for name, place in places.items():
            if inputs[name].shape != (count, *place.shape[1:]):
                raise ValueError(
                    f"{name} of shape {list(inputs[name].shape)}, wanted {[count, *place.shape[1:]]} of these slots"
                )
        for name, place in places.items():
            place[:count].copy_(inputs[name], non_blocking=True)
        self.due[count:].zero_()

    def turn(self, seats: Collection[Seat]) -> Tensor:
        """`due` as `take` expects it for all sessions: bool [len(self)], on the CPU."""
        due = torch.zeros(len(self), dtype=torch.bool)
        for seat in seats:
            due[self._known(seat)] = True
        return due

    @torch.no_grad()
    def read(self, seat: Seat) -> Memory:
        """A session's state; waits for the device."""
        slot = self._known(seat)
        written = int(self.written[slot])
        filled = min(written, self.context)
        order = torch.arange(written - filled, written, device=self.device) % (self.context + 1)
        previous = None
        if self.has_previous[slot]:
            only = torch.tensor([slot], device=self.device)
            previous = self.latent[only], self.given.rows(only)
        return Memory(written, self.ring_keys[:, slot, order], self.ring_values[:, slot, order], previous)


def pairs(table: Tensor) -> Tensor:
    """
    Converts `rotation_table`'s factors [2, C + 2, N, 2, D] to the kernels' layout [C + 3, N, D / 2, 2]: cosine and sine
    of each pair, for the reference at -1 and frames from 0 on.
    """
    frames, references = table
    table, half = torch.cat([references[:1], frames]), table.shape[-1] // 2
    return torch.stack([table[:, :, 0, :half], table[:, :, 1, half:]], -1)
