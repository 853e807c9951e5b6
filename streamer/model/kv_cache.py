"""Stream state: for each session, a ring of context frames' keys and values, and its pinned reference.

Letters used in shapes: L layers, B sessions, C context frames, N tokens of a latent frame, H heads, D channels of a
head, R references.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from streamer.model.config import ModelConfig


@dataclass
class Cache:
    """Keys are normalised and not rotated: their position in the ring determines their rotation at each step."""

    ring_keys: Tensor  # [L, B, C, N, H, D]
    ring_values: Tensor  # [L, B, C, N, H, D]
    sink_keys: Tensor  # [L, B, R * N, H, D], not rotated either
    sink_values: Tensor  # [L, B, R * N, H, D]
    written: Tensor  # [B] int64: frames appended so far

    @classmethod
    def empty(cls, config: ModelConfig, sinks: tuple[Tensor, Tensor], context: int | None = None) -> "Cache":
        """An empty cache; `sinks` holds the reference's keys and values [L, B, R * N, H, D]."""
        size = config.transformer.context if context is None else context
        keys, values = sinks
        layers, rows = keys.shape[:2]
        shape = (layers, rows, size, config.tokens, *keys.shape[3:])
        ring = keys.new_zeros(shape), keys.new_zeros(shape)
        return cls(*ring, keys, values, torch.zeros(rows, dtype=torch.int64, device=keys.device))

    @property
    def context(self) -> int:
        return self.ring_keys.shape[2]

    @property
    def filled(self) -> Tensor:
        """[B]: number of valid frames in the ring."""
        return self.written.clamp(max=self.context)

    def read(self) -> tuple[Tensor, Tensor]:
        """Keys and values [L, B, C, N, H, D], newest last; unfilled entries come first."""
        if self.context == 0:
            return self.ring_keys, self.ring_values
        order = (self.written[:, None] + torch.arange(self.context, device=self.written.device)) % self.context
        rows = torch.arange(len(order), device=order.device)[:, None]
        return self.ring_keys[:, rows, order], self.ring_values[:, rows, order]

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Replaces the oldest frame by a frame's keys and values [L, B, N, H, D]."""
        if self.context == 0:
            return
        rows = torch.arange(len(self.written), device=self.written.device)
        slot = self.written % self.context
        self.ring_keys[:, rows, slot] = keys.to(self.ring_keys.dtype)
        self.ring_values[:, rows, slot] = values.to(self.ring_values.dtype)
        self.written += 1

    def row(self, b: int) -> "Cache":
        """A copy of one session's part."""
        only = slice(b, b + 1)
        return Cache(
            self.ring_keys[:, only].clone(),
            self.ring_values[:, only].clone(),
            self.sink_keys[:, only],
            self.sink_values[:, only],
            self.written[only].clone(),
        )

    def reset(self) -> None:
        """Clears the context, not the reference. Masked values still enter products, so no NaN may remain."""
        for part in (self.ring_keys, self.ring_values, self.written):
            part.zero_()


def stack(caches: list[Cache]) -> Cache:
    """A copy of several sessions' caches as one; `row` is the inverse."""
    return Cache(
        torch.cat([c.ring_keys for c in caches], 1),
        torch.cat([c.ring_values for c in caches], 1),
        torch.cat([c.sink_keys for c in caches], 1),
        torch.cat([c.sink_values for c in caches], 1),
        torch.cat([c.written for c in caches]),
    )
