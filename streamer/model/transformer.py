"""The generator: a diffusion transformer that predicts the next latent frame from noise, context and conditions.

Its sequence is [reference | last t_c frames | this frame]: the reference's tokens are a pinned sink and are also added
to every frame (HunyuanVideo-Avatar's token + add injection); context frames are clean latents, stored as keys and
values (InfiniteTalk's context frames without decoding and re-encoding). Each block attends to these and, in parallel,
to the audio (InfinityHuman's multimodal conditional attention) through the face mask and to the emotion's reference.
Time and motion plan modulate every block. It predicts the clean latent, not the velocity.

A pass over a clean latent at t = 0 gives a frame's keys and values for the ring; a pass over noise gives the frame.

Letters used in shapes: B rows, N tokens of a latent frame, W width, H heads, D channels of a head, Z latent channels,
s latent edge, F faces, R references, A frames of audio in the window, P values of the plan, E emotions, Q outputs of
the articulation network.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamer.model.attention import attend, face_audio_attention, rolling_attention, rotation_table
from streamer.model.config import HEARD, PLAN, ModelConfig
from streamer.motion.articulation import EMBEDDING, PROSODY
from streamer.motion.controls import CONTROLS, EMOTIONS, HEAD, MOUTH

_SPREAD = {**dict.fromkeys(HEAD, 0.08), **dict.fromkeys(MOUTH, 0.18)}
"""Approximate standard deviations of plan and voice values in training. Without this scaling, a network takes long to
learn the head's small angles."""
_PLAN_SPREAD = tuple(_SPREAD.get(name, 0.25) for name in CONTROLS[len(MOUTH) :])
_HEARD_SPREAD = (*(_SPREAD[name] for name in MOUTH), *(0.3,) * len(PROSODY), *(1.2,) * EMBEDDING)


class Conditions(NamedTuple):
    """A frame's conditions besides its context. Each has a mask: 0 where the condition was dropped."""

    plan: Tensor  # [B, 2, P]: the motion plan of the frame before and of this one
    plan_given: Tensor  # [B]
    heard: Tensor  # [B, F, A, Q]: articulation outputs in the window, oldest frame first, for each face
    heard_given: Tensor  # [B]
    faces: Tensor  # [B, F, N]: the fraction of each token that shows the face
    emotion: Tensor  # [B, R, E]: strength of each emotion, as a reference
    emotion_given: Tensor  # [B]

    def rows(self, index: Tensor) -> "Conditions":
        """The conditions of the rows in `index`."""
        return Conditions(*(part[index] for part in self))

    @classmethod
    def stack(cls, several: Sequence["Conditions"]) -> "Conditions":
        """Concatenates the rows of several conditions."""
        return cls(*(torch.cat(part) for part in zip(*several, strict=True)))


def to_tokens(latent: Tensor, patch: int) -> Tensor:
    """[B, Z, s, s] -> [B, N, Z * patch^2]: "B Z (h p) (w q) -> B (h w) (Z p q)"."""
    rows, channels, edge, _ = latent.shape
    grid = edge // patch
    split = latent.reshape(rows, channels, grid, patch, grid, patch)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(rows, grid * grid, channels * patch * patch)


def to_latent(tokens: Tensor, patch: int) -> Tensor:
    """[B, N, Z * patch^2] -> [B, Z, s, s]: the inverse of `to_tokens`."""
    rows, count, width = tokens.shape
    grid, channels = math.isqrt(count), width // patch**2
    split = tokens.reshape(rows, grid, grid, channels, patch, patch)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(rows, channels, grid * patch, grid * patch)


def face_tokens(face: Tensor, edge: int) -> Tensor:
    """
    face [..., s, s], the fraction of each latent cell that shows it -> [..., N] tokens, dilated by one token
    because the head moves while the mask is that of the picture at rest.
    """
    shape = face.shape[:-2]
    grid = functional.adaptive_max_pool2d(face.reshape(-1, 1, *face.shape[-2:]), edge)
    return functional.max_pool2d(grid, 3, 1, 1).reshape(*shape, -1)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without parameters, then an affine transformation: x [B, N, W], shift and scale [B, 1, W]."""
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=1e-6), scale)


def _time_features(t: Tensor, width: int) -> Tensor:
    """t [B] in 0..1 -> [B, width] of sines."""
    frequency = torch.exp(-math.log(1000.0) * torch.arange(width // 2, device=t.device) / (width // 2))
    angle = 1000 * t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)


class HeadNorm(nn.Module):
    """RMSNorm of each head's channels, in the precision of its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> the same shape."""
        if torch.jit.is_tracing():  # ONNX has this operator from opset 23 on only
            return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * self.weight
        return functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)


class Branch(NamedTuple):
    """Keys (normalised) and values of a layer's cross-attention."""

    keys: Tensor  # audio [B, F, A, H, D]; emotion [B, R, H, D]
    values: Tensor


class Block(nn.Module):
    """One layer. Its three attentions run in parallel: one projection for their inputs, one for their outputs."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.transformer
        self.heads, self.widths = c.heads, (3 * c.width, c.width, c.emotion_width)
        self.ask = nn.Linear(c.width, sum(self.widths))
        self.answer = nn.Linear(2 * c.width + c.emotion_width, c.width)
        self.q_norm, self.k_norm = HeadNorm(c.head), HeadNorm(c.head)
        self.audio_norm, self.emotion_norm = HeadNorm(c.head), HeadNorm(c.emotion_head)
        self.feed = nn.Sequential(nn.Linear(c.width, c.hidden), nn.GELU(), nn.Linear(c.hidden, c.width))
        self.audio_strength = nn.Parameter(torch.ones(()))  # alpha_A
        self.emotion_strength = nn.Parameter(torch.ones(()))  # gamma_E

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        audio: Branch,
        emotion: Branch,
        faces: Tensor,
        look_back: "LookBack",
        layer: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        x [B, N, W]; modulation [B, 1, 6 W]; faces [B, F, N]. Returns the new x and this layer's keys and values
        [B, N, H, D], for the ring.
        """
        shift, scale, gate, shift2, scale2, gate2 = modulation.chunk(6, -1)
        qkv, audio_q, emotion_q = self.ask(_modulated(x, shift, scale)).split(self.widths, -1)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)
        k = self.k_norm(k)
        seen = look_back(layer, self.q_norm(q), k, v)
        audio_q = self.audio_norm(audio_q.unflatten(-1, (self.heads, -1)))
        heard = face_audio_attention(audio_q, audio.keys, audio.values, faces, self.audio_strength)
        felt = self._attend_emotion(emotion_q, emotion) * self.emotion_strength.to(x.dtype)
        x = torch.addcmul(x, gate, self.answer(torch.cat([seen.flatten(2), heard.flatten(2), felt], -1)))
        return torch.addcmul(x, gate2, self.feed(_modulated(x, shift2, scale2))), k, v

    def _attend_emotion(self, q: Tensor, emotion: Branch) -> Tensor:
        """q [B, N, emotion_width] -> the same shape: what its tokens read from the references."""
        if emotion.keys.shape[1] == 1:  # softmax over one key is 1
            return emotion.values.flatten(2).expand_as(q)
        q = self.emotion_norm(q.unflatten(-1, emotion.keys.shape[-2:]))
        seen = attend(q.transpose(1, 2), emotion.keys.transpose(1, 2), emotion.values.transpose(1, 2))
        return seen.transpose(1, 2).flatten(2)


class LookBack(Protocol):
    """Self-attention of a layer: q, k, v [B, N, H, D] of the rows -> [B, N, H, D]."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


class Reference(NamedTuple):
    """Computed once from a character's picture."""

    added: Tensor  # [B, N, W]: added to every frame's tokens
    sinks: tuple[Tensor, Tensor]  # keys, not rotated, and values [L, B, N, H, D]

    def rows(self, index: Tensor) -> "Reference":
        keys, values = self.sinks
        return Reference(self.added[index], (keys[:, index], values[:, index]))


class Transformer(nn.Module):
    """See the module's docstring. Latents are normalised to mean 0 and variance 1 per channel."""

    table: Tensor
    plan_gain: Tensor
    heard_gain: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c = config.transformer
        self.enter = nn.Linear(config.token_width, c.width)
        self.enter_reference = nn.Linear(config.reference_width, c.width)
        self.add_reference = nn.Linear(c.width, c.width)
        self.place = nn.Parameter(0.02 * torch.randn(config.tokens, c.width))
        self.plan = nn.Sequential(nn.Linear(2 * PLAN, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.no_plan = nn.Parameter(torch.zeros(c.width))
        # A head rotation moves each position differently, which modulation shared by all tokens learns slowly.
        self.motion = nn.Linear(PLAN, config.tokens * c.width, bias=False)
        self.time = nn.Sequential(nn.Linear(c.width, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.condition = nn.Linear(c.width, c.modulation)
        self.audio = nn.Linear(HEARD, c.width)
        self.audio_place = nn.Parameter(0.02 * torch.randn(c.window, c.width))
        self.no_audio = nn.Parameter(0.02 * torch.randn(c.width))
        self.emotion = nn.Linear(len(EMOTIONS), c.emotion_width)
        self.no_emotion = nn.Parameter(0.02 * torch.randn(c.emotion_width))
        # For all layers at once: a step is many small products, and fewer larger ones take less time.
        self.modulations = nn.Linear(c.modulation, 6 * c.width * c.depth)
        self.audio_memory = nn.Linear(c.width, 2 * c.width * c.depth)
        self.emotion_memory = nn.Linear(c.emotion_width, 2 * c.emotion_width * c.depth)
        self.audio_norm, self.emotion_norm = HeadNorm(c.head), HeadNorm(c.emotion_head)
        self.blocks = nn.ModuleList(Block(config) for _ in range(c.depth))
        self.leave_modulation = nn.Linear(c.modulation, 2 * c.width)
        self.leave = nn.Linear(c.width, config.token_width)
        self.register_buffer("plan_gain", 1 / torch.tensor(_PLAN_SPREAD), persistent=False)
        self.register_buffer("heard_gain", 1 / torch.tensor(_HEARD_SPREAD), persistent=False)
        self.register_buffer("table", rotation_table(config.edge, c.context, c.head, c.rope_time), persistent=False)
        nn.init.zeros_(self.motion.weight)
        for silent in (self.modulations, self.leave_modulation, self.leave):
            nn.init.zeros_(silent.weight)
            nn.init.zeros_(silent.bias)
        with torch.no_grad():  # scales and gates start at 1, shifts at 0
            self.modulations.bias.view(c.depth, 6, c.width)[:, [1, 2, 4, 5]] = 1
            self.leave_modulation.bias.view(2, c.width)[1] = 1

    def reference(self, features: Tensor) -> Reference:
        """
        From the picture's coarsest features [B, C, s, s]: their tokens pass through all blocks alone, at t = 0. Latents
        are relative to the picture, so its features carry the identity.
        """
        tokens = to_tokens(features, self.config.transformer.patch)
        x = self.enter_reference(functional.layer_norm(tokens, tokens.shape[-1:]))
        added = self.add_reference(x)
        rows = len(features)
        x = x + self.place
        c = self._modulation(features.new_zeros(rows), self.no_plan.expand(rows, -1))
        audio, emotion = self.no_audio.expand(rows, 1, 1, -1), self.no_emotion.expand(rows, 1, -1)
        faces = x.new_zeros(rows, 1, x.shape[1])
        filled = torch.zeros(rows, dtype=torch.int64, device=x.device)

        def alone(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            nothing, ring = (k[:, :0], v[:, :0]), (k[:, None][:, :0], v[:, None][:, :0])
            return rolling_attention(q[:, None], k[:, None], v[:, None], nothing, ring, filled, self.table)[:, 0]

        _, keys, values = self._through(x, c, audio, emotion, faces, alone)
        return Reference(added, (keys, values))

    def _through(
        self, x: Tensor, c: Tensor, audio: Tensor, emotion: Tensor, faces: Tensor, look_back: "LookBack"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All blocks: x [B, N, W] -> x, and the keys and values [L, B, N, H, D] of all layers."""
        config = self.config.transformer
        modulations = self.modulations(c)[:, None].chunk(config.depth, -1)
        audio_memory = self.audio_memory(audio).unflatten(-1, (config.depth, 2, config.heads, -1))
        emotion_memory = self.emotion_memory(emotion).unflatten(-1, (config.depth, 2, -1, config.emotion_head))
        audio_keys = self.audio_norm(audio_memory[..., 0, :, :])  # [B, F, A, L, H, D]
        emotion_keys = self.emotion_norm(emotion_memory[..., 0, :, :])  # [B, R, L, H, D]
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            heard = Branch(audio_keys[:, :, :, layer], audio_memory[:, :, :, layer, 1])
            felt = Branch(emotion_keys[:, :, layer], emotion_memory[:, :, layer, 1])
            x, k, v = block(x, modulations[layer], heard, felt, faces, look_back, layer)
            keys.append(k)
            values.append(v)
        return x, torch.stack(keys), torch.stack(values)

    def _modulation(self, t: Tensor, plan: Tensor) -> Tensor:
        """t [B], plan [B, W] -> [B, modulation]."""
        width = self.config.transformer.width
        time = self.time(_time_features(t, width).to(plan.dtype))
        return functional.silu(self.condition(functional.silu(time + plan)))

    def _entered(self, latent: Tensor, given: Conditions, reference: Tensor) -> Tensor:
        """Tokens [B, N, W] of latents [B, Z, s, s], with their position, the picture and the plan added."""
        motion = self.motion(given.plan[:, 1] * self.plan_gain)
        motion = motion * given.plan_given[:, None].to(motion.dtype)
        tokens = self.enter(to_tokens(latent, self.config.transformer.patch))
        return tokens + self.place + reference + motion.unflatten(-1, self.place.shape)

    def _conditions(self, t: Tensor, given: Conditions) -> tuple[Tensor, Tensor, Tensor]:
        """Modulation [B, modulation], audio [B, F, A, W], emotion [B, R, emotion_width]."""
        plan, heard = self.plan((given.plan * self.plan_gain).flatten(1)), self.audio(given.heard * self.heard_gain)
        plan = torch.where(given.plan_given[:, None] > 0, plan, self.no_plan)
        audio = torch.where(given.heard_given[:, None, None, None] > 0, heard, self.no_audio)
        emotion = torch.where(given.emotion_given[:, None, None] > 0, self.emotion(given.emotion), self.no_emotion)
        return self._modulation(t, plan), audio + self.audio_place, emotion

    def forward(
        self, latent: Tensor, t: Tensor, conditions: Conditions, reference: Tensor, look_back: LookBack
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        latent [B, Z, s, s], noised to t [B] (0: clean, 1: noise); `reference` is the picture's `Reference.added` for
        each row. Returns the predicted clean latent, and the keys and values [L, B, N, H, D] of all layers.
        """
        patch = self.config.transformer.patch
        c, audio, emotion = self._conditions(t, conditions)
        x = self._entered(latent, conditions, reference)
        x, keys, values = self._through(x, c, audio, emotion, conditions.faces, look_back)
        shift, scale = self.leave_modulation(c)[:, None].chunk(2, -1)
        return to_latent(self.leave(_modulated(x, shift, scale)), patch), keys, values
