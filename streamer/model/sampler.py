"""From noise to the next latent frame: one step, or many; live with a ring, or a whole passage at once for training.

Flow matching: z_t = (1 - t) z + t noise, t from 1 to 0. The transformer predicts z, from which the velocity at t is
(z_t - z) / t. One step from t = 1 is its prediction itself.

Letters used in shapes: B rows, T frames of a passage, N tokens of a latent frame, H heads, D channels of a head,
Z latent channels, s latent edge, C context frames.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from streamer.model.attention import rolling_attention
from streamer.model.cache import Cache
from streamer.model.transformer import Conditions, Reference, Transformer


def times(steps: int) -> tuple[float, ...]:
    """n times from 1 downwards, evenly spaced: the last step ends at 0."""
    if steps < 1:
        raise ValueError(f"want at least one step, got {steps}")
    return tuple(1 - i / steps for i in range(steps))


ONE_STEP = times(1)


def solve(predict: Callable[[Tensor, float], Tensor], noise: Tensor, at: Sequence[float]) -> Tensor:
    """Euler's steps from noise through the times `at` to 0; `predict` gives the clean latent from z at a time."""
    z = noise
    for here, following in zip(at, [*at[1:], 0.0], strict=True):
        clean = predict(z, here)
        z = clean if following == 0 else clean + (following / here) * (z - clean)
    return z


def _look_back(cache: Cache, table: Tensor):
    """The self-attention of rows that are one frame of each session."""

    def look_back(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        sink = cache.sink_keys[layer], cache.sink_values[layer]
        return rolling_attention(q, k, v, sink, cache.read(layer), cache.filled, table)

    return look_back


def generate(
    model: Transformer,
    noise: Tensor,
    conditions: Conditions,
    added: Tensor,
    cache: Cache,
    at: Sequence[float] = ONE_STEP,
) -> Tensor:
    """The next frame of each session: noise [B, Z, s, s] -> its clean latent. The cache stays as it is."""
    look_back = _look_back(cache, model.table)

    def predict(z: Tensor, t: float) -> Tensor:
        return model(z, torch.full((len(noise),), t, device=noise.device), conditions, added, look_back)[0]

    return solve(predict, noise, at)


def remember(model: Transformer, latent: Tensor, conditions: Conditions, added: Tensor, cache: Cache) -> None:
    """Appends a drawn frame [B, Z, s, s] to the context, by a clean pass under the conditions it was drawn from."""
    if cache.context == 0:
        return
    t = torch.zeros(len(latent), device=latent.device)
    _, keys, values = model(latent, t, conditions, added, _look_back(cache, model.table))
    cache.append(keys, values)


def advance(
    model: Transformer,
    previous: tuple[Tensor, Conditions],
    noise: Tensor,
    conditions: Conditions,
    added: Tensor,
    cache: Cache,
) -> Tensor:
    """
    `remember` of the frame drawn before, [B, Z, s, s] with its conditions, and one-step `generate` of the next, in one
    pass: in each layer the next frame looks back on what the previous one leaves there. Returns [B, Z, s, s].
    """
    if cache.context == 0:
        return generate(model, noise, conditions, added, cache)
    rows, device = len(noise), noise.device
    filled = cache.filled
    # Among the ring's frames and the previous one behind them: those that the next frame sees, oldest first.
    order = (filled + 1 - cache.context).clamp(min=0)[:, None] + torch.arange(cache.context, device=device)
    order = torch.where(order < filled[:, None], order, cache.context)
    row = torch.arange(rows, device=device)[:, None]
    seen = torch.cat([filled, (filled + 1).clamp(max=cache.context)])

    def look_back(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def rings(ring: Tensor, own: Tensor) -> Tensor:
            return torch.cat([ring, torch.cat([ring, own[:rows, None]], 1)[row, order]])

        keys, values = cache.read(layer)
        sink = cache.sink_keys[layer].repeat(2, 1, 1, 1), cache.sink_values[layer].repeat(2, 1, 1, 1)
        return rolling_attention(q, k, v, sink, (rings(keys, k), rings(values, v)), seen, model.table)

    both = Conditions.stack([previous[1], conditions])
    t = torch.cat([torch.zeros(rows, device=device), torch.ones(rows, device=device)])
    drawn, new_keys, new_values = model(torch.cat([previous[0], noise]), t, both, added.repeat(2, 1, 1), look_back)
    cache.append([k[:rows] for k in new_keys], [v[:rows] for v in new_values])
    return drawn[rows:]


def passage(
    model: Transformer,
    clean: Tensor,
    noisy: Tensor,
    t: Tensor,
    conditions: Conditions,
    reference: Reference,
    context: int,
    sink: bool = True,
) -> Tensor:
    """
    All frames of a passage at once, each from its own noise and from the clean frames before it: what `generate` and
    `remember` give one frame at a time.

    clean and noisy [B, T, Z, s, s]; t [B, T]; conditions of B * T rows, passage by passage. Returns [B, T, Z, s, s].
    """
    batch, frames = clean.shape[:2]
    kept = frames - 1 if context else 0  # the last frame is nobody's context
    device = clean.device
    # Rows of a passage: its clean frames 0..kept-1, then its noisy frames 0..T-1.
    latent = torch.cat([clean[:, :kept], noisy], 1).flatten(0, 1)
    time = torch.cat([t.new_zeros(batch, kept), t], 1).flatten()
    frame = torch.cat([torch.arange(kept), torch.arange(frames)]).to(device)  # [rows of a passage]
    rows = kept + frames
    per_row = (torch.arange(batch, device=device)[:, None] * frames + frame).flatten()
    passages = torch.arange(batch, device=device).repeat_interleave(rows)
    looked = reference.rows(passages)
    first = (frame - context).clamp(min=0)
    index = (first[:, None] + torch.arange(context, device=device)).clamp(max=max(kept - 1, 0))  # [rows, C]
    filled = torch.minimum(frame, torch.tensor(context, device=device)).repeat(batch)

    def look_back(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def ring(x: Tensor) -> Tensor:
            return x.unflatten(0, (batch, rows))[:, :kept][:, index].flatten(0, 1) if context else x[:, None][:, :0]

        k_sink, v_sink = looked.sinks[layer]
        held = (k_sink, v_sink) if sink else (k_sink[:, :0], v_sink[:, :0])
        return rolling_attention(q, k, v, held, (ring(k), ring(v)), filled, model.table)

    drawn, _, _ = model(latent, time, conditions.rows(per_row), looked.added, look_back)
    return drawn.unflatten(0, (batch, rows))[:, kept:]
