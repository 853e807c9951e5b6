"""From noise to the next latent frame: in one step or many; live with a ring, or a whole passage at once in training.

Flow matching: z_t = (1 - t) z + t noise, t from 1 to 0. The transformer predicts z, from which the velocity at t is
(z_t - z) / t. One step from t = 1 is its prediction itself.

Letters used in shapes: B rows, T frames of a passage, N tokens of a latent frame, H heads, D channels of a head,
Z latent channels, s latent edge, C context frames.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from streamer.model.attention import rolling_attention
from streamer.model.kv_cache import Cache
from streamer.model.transformer import Conditions, LookBack, Reference, Transformer


def times(steps: int) -> tuple[float, ...]:
    """n evenly spaced times from 1 downwards: the last step ends at 0."""
    if steps < 1:
        raise ValueError(f"want at least one step, got {steps}")
    return tuple(1 - i / steps for i in range(steps))


ONE_STEP = times(1)


def solve(predict: Callable[[Tensor, float], Tensor], noise: Tensor, at: Sequence[float]) -> Tensor:
    """Euler steps from noise through the times `at` to 0; `predict` gives the clean latent from z at a time."""
    z = noise
    for here, following in zip(at, [*at[1:], 0.0], strict=True):
        clean = predict(z, here)
        z = clean if following == 0 else clean + (following / here) * (z - clean)
    return z


def _look_back(cache: Cache, table: Tensor, frames: int = 1) -> LookBack:
    """Self-attention of rows that are `frames` frames of each session, grouped by session."""
    ring_keys, ring_values = cache.read()
    filled = cache.filled

    def look_back(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(0, (-1, frames)) for x in (q, k, v))
        sink = cache.sink_keys[layer], cache.sink_values[layer]
        ring = ring_keys[layer], ring_values[layer]
        return rolling_attention(q, k, v, sink, ring, filled, table).flatten(0, 1)

    return look_back


def generate(
    model: Transformer,
    noise: Tensor,
    conditions: Conditions,
    added: Tensor,
    cache: Cache,
    at: Sequence[float] = ONE_STEP,
) -> Tensor:
    """Generates the next frame of each session: noise [B, Z, s, s] -> clean latent. The cache is unchanged."""
    look_back = _look_back(cache, model.table)

    def predict(z: Tensor, t: float) -> Tensor:
        return model(z, torch.full((len(noise),), t, device=noise.device), conditions, added, look_back)[0]

    return solve(predict, noise, at)


def remember(model: Transformer, latent: Tensor, conditions: Conditions, added: Tensor, cache: Cache) -> None:
    """Appends a generated frame [B, Z, s, s] to the context, by a clean pass under its own conditions."""
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
    `remember` for the previous frame [B, Z, s, s] and one-step `generate` of the next, in one pass: in each layer the
    next frame attends to the keys and values that the previous one stores there. Returns [B, Z, s, s].
    """
    if cache.context == 0:
        return generate(model, noise, conditions, added, cache)
    rows, device = len(noise), noise.device

    def in_turn(before: Tensor, now: Tensor) -> Tensor:
        """Interleaves the two rows of each session."""
        return torch.stack([before, now], 1).flatten(0, 1)

    both = Conditions(*(in_turn(*pair) for pair in zip(previous[1], conditions, strict=True)))
    t = torch.tensor([0.0, 1.0], device=device).repeat(rows)
    look_back = _look_back(cache, model.table, 2)
    latents = in_turn(previous[0], noise)
    drawn, keys, values = model(latents, t, both, added.repeat_interleave(2, 0), look_back)
    cache.append(keys[:, ::2], values[:, ::2])
    return drawn[1::2]


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
    All frames of a passage at once, each from its own noise and from the clean frames before it: equivalent to
    `generate` and `remember` frame by frame.

    clean and noisy [B, T, Z, s, s]; t [B, T]; conditions of B * T rows, passage by passage. Returns [B, T, Z, s, s].
    """
    batch, frames = clean.shape[:2]
    kept = frames - 1 if context else 0  # the last frame is never context
    device = clean.device
    # Rows of a passage: its clean frames 0..kept-1, then its noisy frames 0..T-1.
    latent = torch.cat([clean[:, :kept], noisy], 1).flatten(0, 1)
    time = torch.cat([t.new_zeros(batch, kept), t], 1).flatten()
    frame = torch.cat([torch.arange(kept), torch.arange(frames)]).to(device)  # [rows of a passage]
    rows = kept + frames
    per_row = (torch.arange(batch, device=device)[:, None] * frames + frame).flatten()
    passages = torch.arange(batch, device=device).repeat_interleave(rows)
    looked = reference.rows(passages)
    index = (frame[:, None] + torch.arange(-context, 0, device=device)).clamp(min=0)  # [rows, C]
    filled = torch.minimum(frame, torch.tensor(context, device=device)).repeat(batch)

    def look_back(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def ring(x: Tensor) -> Tensor:
            return x.unflatten(0, (batch, rows))[:, :kept][:, index].flatten(0, 1) if context else x[:, None][:, :0]

        k_sink, v_sink = (side[layer] for side in looked.sinks)
        held = (k_sink, v_sink) if sink else (k_sink[:, :0], v_sink[:, :0])
        alone = q[:, None], k[:, None], v[:, None]
        return rolling_attention(*alone, held, (ring(k), ring(v)), filled, model.table)[:, 0]

    drawn, _, _ = model(latent, time, conditions.rows(per_row), looked.added, look_back)
    return drawn.unflatten(0, (batch, rows))[:, kept:]
