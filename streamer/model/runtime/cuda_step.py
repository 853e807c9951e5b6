"""One live step of the transformer for the sessions in the first slots: stores each one's previous frame and generates
its next one, in one pass (`sampling.advance` over `Slots`).

`step` uses the project's Triton kernels, `reference_step` PyTorch's own operators; `attention.choose` selects one. Both
compute the same result from the model's own weights. Neither reads a tensor's value on the host or branches on one, so
that both can be captured in a CUDA graph.

Rows of a step over b slots: the previous frames of all b sessions, then their next frames; without context only the
latter. In each layer the former store their keys and values in the rings, at `written`; the next frames read them
there, unless it is a session's first frame. What is stored for a session without a previous frame, or that is not due,
goes to its ring's spare entry and is overwritten later: only advancing `written` makes it a context frame.

Letters used in shapes: b slots of the step, B = 2 b rows, or b without context, N tokens of a latent frame, W width,
H heads, D channels of a head, Z latent channels, s latent edge, S = C + 1 entries of a ring, K keys.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor

from streamer.model.attention import Choice, attend, rotate
from streamer.model.runtime.slots import Slots
from streamer.model.transformer import Block, Branch, Conditions, Transformer, to_latent

Step = Callable[[Transformer, Slots, int], Tensor]
"""Model, slots and b -> generated latents [b, Z, s, s]. Those of slots that are not due are undefined."""


class _Rows(NamedTuple):
    latent: Tensor  # [B, Z, s, s]
    time: Tensor  # [B]
    given: Conditions
    added: Tensor  # [B, N, W]
    written: Tensor  # [B] int64: number of frames before each row


def _rows(model: Transformer, slots: Slots, count: int) -> _Rows:
    if not 1 <= count <= slots.capacity:
        raise ValueError(f"a step over {count} slots: there are {slots.capacity}")
    if model.config != slots.config:
        raise ValueError(f"a model {model.config.name} over slots for {slots.config.name}, or of another size")
    if (dtype := model.enter.weight.dtype) != slots.dtype:
        raise ValueError(f"a model in {dtype} over slots in {slots.dtype}")
    first = slice(count)
    before = slots.written[first]
    if slots.context == 0:
        now = Conditions(*(new[first] for new in slots.now))
        return _Rows(slots.noise[first], torch.ones(count, device=slots.device), now, slots.added[first], before)
    return _Rows(
        torch.cat([slots.latent[first], slots.noise[first]]),
        torch.cat([torch.zeros(count, device=slots.device), torch.ones(count, device=slots.device)]),
        Conditions(*(torch.cat([old[first], new[first]]) for old, new in zip(slots.given, slots.now, strict=True))),
        slots.added[first].repeat(2, 1, 1),
        torch.cat([before, before + slots.has_previous[first]]),
    )


def _store_previous(slots: Slots, count: int, drawn: Tensor) -> None:
    """Stores the generated frames [b, Z, s, s] as the previous frames of the sessions that were due."""
    first = slice(count)
    due, previous = slots.due[first], slots.has_previous[first]
    slots.written[first] += due & previous
    previous |= due
    for old, new in zip((slots.latent, *slots.given), (drawn, *slots.now), strict=True):
        turn = due.view(-1, *[1] * (old.dim() - 1))
        old[first] = torch.where(turn, new[first], old[first])


@torch.no_grad()
def step(model: Transformer, slots: Slots, count: int) -> Tensor:
    """On the Triton kernels. The previous frames' rows end once their last keys and values are stored."""
    from avatar_kernels.adaln import adaln
    from avatar_kernels.face_audio_attention import face_audio_attention
    from avatar_kernels.qk_norm_rope_cache import qk_norm_rope_cache
    from avatar_kernels.rolling_attention import rolling_attention

    rows = _rows(model, slots, count)
    config = model.config.transformer
    faces, written = rows.given.faces, rows.written
    c, audio, emotion = model._conditions(rows.time, rows.given)
    modulations = model.modulations(c)[:, None].chunk(6 * config.depth, -1)
    audio_memory = model.audio_memory(audio).unflatten(-1, (config.depth, 2, config.heads, -1))  # [B, F, A, L, 2, H, D]
    emotion_memory = model.emotion_memory(emotion).unflatten(-1, (config.depth, 2, -1, config.emotion_head))
    audio_keys = model.audio_norm(audio_memory[..., 0, :, :])
    emotion_keys = model.emotion_norm(emotion_memory[..., 0, :, :])
    x = model._entered(rows.latent, rows.given, rows.added)
    branch: Tensor | None = None  # of the layer before, with its gate: added when the next norm reads x anyway
    gate: Tensor | None = None
    for layer, block in enumerate(cast(Iterable[Block], model.blocks)):
        change = modulations[6 * layer : 6 * layer + 6]
        x, level = adaln(x, change[0], change[1], branch, gate)
        qkv, audio_q, emotion_q = block.ask(level).split(block.widths, -1)
        q, k, v = qkv.unflatten(-1, (3, config.heads, -1)).unbind(2)
        ring = slots.ring_keys[layer, :count], slots.ring_values[layer, :count]
        q, k = qk_norm_rope_cache(
            *(q, k, v, block.q_norm.weight, block.k_norm.weight, ring, written, slots.table),
            context=slots.context,
            write=slots.context > 0,  # without context nothing would read it
        )
        heard = Branch(audio_keys[:, :, :, layer], audio_memory[:, :, :, layer, 1])
        felt = Branch(emotion_keys[:, :, layer], emotion_memory[:, :, layer, 1])
        if layer == config.depth - 1:  # the last layer's other outputs for the previous frames are not needed
            x, q, k, v, audio_q, emotion_q, faces, written = (
                part[-count:] for part in (x, q, k, v, audio_q, emotion_q, faces, written)
            )
            change = [part[-count:] for part in change]
            heard, felt = (Branch(*(part[-count:] for part in memory)) for memory in (heard, felt))
        sink = slots.sink_keys[layer, :count], slots.sink_values[layer, :count]
        seen = rolling_attention(
            *(q, k, v, sink, ring, written, slots.table), context=slots.context, q_turned=True, sink_turned=True
        )
        audio_q = block.audio_norm(audio_q.unflatten(-1, (config.heads, -1)))
        spoken = face_audio_attention(audio_q, *heard, faces, block.audio_strength)
        feeling = block._attend_emotion(emotion_q, felt) * block.emotion_strength.to(x.dtype)
        answer = block.answer(torch.cat([seen.flatten(2), spoken.flatten(2), feeling], -1))
        x, level = adaln(x, change[3], change[4], answer, change[2])
        branch, gate = block.feed(level), change[5]
    shift, scale = model.leave_modulation(c[-count:])[:, None].chunk(2, -1)
    drawn = to_latent(model.leave(adaln(x, shift, scale, branch, gate).level), config.patch)
    _store_previous(slots, count, drawn)
    return drawn


@torch.no_grad()
def reference_step(model: Transformer, slots: Slots, count: int) -> Tensor:
    """On PyTorch's own operators, which run anywhere: concatenates all keys of a row, with a mask."""
    rows = _rows(model, slots, count)
    places, context = slots.context + 1, slots.context
    each = len(rows.written) // count  # rows of a session
    session = torch.arange(count, device=slots.device)
    newest = slots.written[:count] % places
    filled = rows.written.clamp(max=context)
    # The index of each ring entry for each row: 0 is its oldest frame, and the row itself is at `filled`.
    index = (torch.arange(places, device=slots.device) - (rows.written - filled)[:, None]) % places  # [B, S]
    frames = model.table[0].to(slots.dtype)
    around, own = frames[index][:, :, :, None], frames[filled][:, :, None]  # [B, S, N, 1, 2, D], [B, N, 1, 2, D]
    seen = (index < filled[:, None]).repeat_interleave(slots.config.tokens, 1)  # [B, S N]
    always = torch.ones_like(seen[:, : slots.config.tokens])
    mask = torch.cat([always, seen, always], 1)[:, None, None]  # [B, 1, 1, K]

    def look_back(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = slots.ring_keys[layer, :count], slots.ring_values[layer, :count]
        keys[session, newest] = k[:count]
        values[session, newest] = v[:count]
        sinks = (part[layer, :count].repeat(each, 1, 1, 1) for part in (slots.sink_keys, slots.sink_values))
        held = rotate(keys.repeat(each, 1, 1, 1, 1), around), values.repeat(each, 1, 1, 1, 1)
        new = rotate(k, own), v
        keys, values = (
            torch.cat([sunk, old.flatten(1, 2), latest], 1).transpose(1, 2)
            for sunk, old, latest in zip(sinks, held, new, strict=True)
        )
        return attend(rotate(q, own).transpose(1, 2), keys, values, mask).transpose(1, 2)

    drawn = model(rows.latent, rows.time, rows.given, rows.added, look_back)[0][-count:]
    _store_previous(slots, count, drawn)
    return drawn


def chosen(choice: Choice) -> Step:
    """The implementation for this choice."""
    return step if choice.kernels else reference_step
