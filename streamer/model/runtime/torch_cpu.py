"""Live use of the networks on the CPU: characters, sessions, and a step for several sessions at once.

A `FrameRenderer` owns the weights, a `PreparedCharacter` what was computed from a character's picture, a `Stream` one
session's state. None of them is thread-safe: the caller that runs the steps owns them.

Letters used in shapes: B sessions, S picture edge, s latent edge, C controls, N tokens, Q outputs of the articulation
network.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamer.model.autoencoder import Anchor, enlarged, to_pixels, to_tensor
from streamer.model.checkpoint import Networks
from streamer.model.config import HEARD, PLAN, STRIDE, ModelConfig
from streamer.model.kv_cache import Cache, stack
from streamer.model.sampling import advance, generate, remember, times
from streamer.model.transformer import Conditions, Reference, face_tokens
from streamer.motion.controls import CONTROLS, EMOTIONS, MOUTH

TIMES = (1, 2)
"""Maximum size of a character's picture, and so of its frames, relative to the networks' own size."""


@dataclass(frozen=True)
class FrameConditions:
    """The conditions of one frame."""

    controls: np.ndarray  # [C] float32: the motion plan; its mouth controls are ignored
    heard: np.ndarray  # [Q] float32: the articulation network's mouth, prosody and embedding
    emotion: np.ndarray  # [len(EMOTIONS)] float32: strength of each


@dataclass(frozen=True)
class PreparedCharacter:
    """A character, ready to be rendered."""

    anchor: Anchor
    reference: Reference
    faces: Tensor  # [1, 1, N]


def silence() -> FrameConditions:
    """Conditions of silence and rest."""
    return FrameConditions(
        np.zeros(len(CONTROLS), np.float32), np.zeros(HEARD, np.float32), np.zeros(len(EMOTIONS), np.float32)
    )


class NotFinite(ArithmeticError):
    """A session's state contained NaN or Inf; it was reset."""


@dataclass(kw_only=True, eq=False)
class Hearing:
    """One session's recent conditions, from which its next frame is generated."""

    plans: list[np.ndarray] = field(default_factory=list)
    heard: list[np.ndarray] = field(default_factory=list)
    emotion: np.ndarray = field(default_factory=lambda: np.zeros(len(EMOTIONS), np.float32))

    def hear(self, cue: FrameConditions, window: int) -> None:
        """Adds the next frame's conditions and keeps the last `window`. Raises NotFinite, ValueError."""
        wanted = (len(CONTROLS),), (HEARD,), (len(EMOTIONS),)
        if (shapes := (cue.controls.shape, cue.heard.shape, cue.emotion.shape)) != wanted:
            raise ValueError(f"conditions of shapes {shapes}: want {wanted}")
        if not (np.isfinite(cue.controls).all() and np.isfinite(cue.heard).all() and np.isfinite(cue.emotion).all()):
            raise NotFinite("a frame's conditions contain NaN or Inf and are ignored")
        plan = cue.controls[len(MOUTH) :]
        self.plans = [*(self.plans or [plan]), plan][-2:]
        self.heard = [*(self.heard or [cue.heard] * (window - 1)), cue.heard][-window:]
        self.emotion = cue.emotion


@dataclass
class Stream(Hearing):
    """One session's state: a small ring, recent conditions, its noise."""

    still: PreparedCharacter
    cache: Cache
    noise: torch.Generator
    previous: tuple[Tensor, Conditions] | None = None  # the last frame, not in the ring yet; None without a ring

    def reset_nonfinite(self) -> NotFinite:
        """Clears everything but the character after NaN or Inf. Returns the error to report."""
        self.cache.reset()
        self.previous = None
        return NotFinite("the session state contained NaN or Inf and was reset")


class FrameRenderer:
    """Renders frames with a preset's networks in one precision."""

    max_batch_size = 8
    """Maximum batch size where each session adds to the step's time: with more, the first would wait for the last."""

    def __init__(self, networks: Networks, dtype: torch.dtype = torch.float32, steps: int = 1) -> None:
        self.config: ModelConfig = networks.config
        self.dtype = dtype
        self._transformer = copy.deepcopy(networks.transformer).to(dtype)
        autoencoder = copy.deepcopy(networks.autoencoder).to(dtype)
        self._autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._times = times(steps)

    @torch.inference_mode()
    def still(self, picture: np.ndarray, face: np.ndarray) -> PreparedCharacter:
        """
        Prepares a picture [S, S, 4] uint8 premultiplied RGBA, or twice as large, with face [s, s]: the fraction of each
        latent cell that shows the face. Frames get the picture's size. Raises ValueError for any other size.
        """
        size = self.config.size
        if picture.shape not in [(times * size, times * size, 4) for times in TIMES]:
            wanted = " or ".join(f"{times * size}x{times * size}x4" for times in TIMES)
            raise ValueError(f"a picture of shape {picture.shape}: the preset {self.config.name} wants {wanted}")
        pixels, times = to_tensor(picture[None]), len(picture) // size
        seen = functional.avg_pool2d(pixels, times).to(self.dtype).contiguous(memory_format=torch.channels_last)
        features = tuple(self._autoencoder.pyramid(seen))
        # The picture's own pixels are copied in float32.
        anchor = Anchor(enlarged(pixels) if times == 1 else pixels, features, times)
        faces = face_tokens(torch.from_numpy(face.astype(np.float32)), self.config.edge)
        return PreparedCharacter(anchor, self._transformer.reference(features[-1]), faces.view(1, 1, -1).to(self.dtype))

    def stream(self, still: PreparedCharacter, seed: int = 0, context: int | None = None) -> Stream:
        """Opens a session of that character."""
        cache = Cache.empty(self.config, still.reference.sinks, context)
        return Stream(still, cache, torch.Generator().manual_seed(seed))

    def hear(self, stream: Stream, cue: FrameConditions) -> None:
        """Takes each frame's conditions in order, also of skipped frames. Raises NotFinite, ValueError."""
        stream.hear(cue, self.config.transformer.window)

    def leave(self, stream: Stream) -> None:
        """Ends the session, which holds nothing beyond its own memory."""

    @torch.inference_mode()
    def draw(self, streams: Sequence[Stream]) -> list[np.ndarray | NotFinite]:
        """
        Renders the next frame of each session: [S, S, 4] uint8 premultiplied RGBA, or of its picture's size. A session
        whose frame is not finite is reset and gets NotFinite in its place; other sessions are unaffected.
        """
        # A session's first frame has no predecessor to store.
        kinds = [(s.previous is None, s.still.anchor.times) for s in streams]
        if len(set(kinds)) > 1:
            groups = {kind: [s for s, its in zip(streams, kinds, strict=True) if its == kind] for kind in set(kinds)}
            drawn = {kind: iter(self.draw(group)) for kind, group in groups.items()}
            return [next(drawn[kind]) for kind in kinds]
        cache = stack([s.cache for s in streams]) if len(streams) > 1 else streams[0].cache
        conditions, added = self.conditions(streams), torch.cat([s.still.reference.added for s in streams])
        noise = torch.cat([self.noise(s) for s in streams]).to(self.dtype)
        latents = self._next(streams, noise, conditions, added, cache)
        anchor = Anchor(
            torch.cat([s.still.anchor.picture for s in streams]),
            tuple(torch.cat(level) for level in zip(*(s.still.anchor.features for s in streams), strict=True)),
            streams[0].still.anchor.times,
        )
        painted = self._autoencoder.decode(latents, anchor)
        finite = (latents.flatten(1).float().sum(1) + painted.flatten(1).float().sum(1)).isfinite()
        pixels = to_pixels(painted)
        out: list[np.ndarray | NotFinite] = []
        for b, stream in enumerate(streams):
            if len(streams) > 1:
                stream.cache = cache.row(b)
            if finite[b]:
                if stream.cache.context:
                    stream.previous = latents[b : b + 1], conditions.rows(torch.tensor([b]))
                out.append(np.ascontiguousarray(pixels[b]))
            else:
                out.append(stream.reset_nonfinite())
        return out

    def noise(self, stream: Stream) -> Tensor:
        """[1, Z, s, s]: the noise of the session's next frame."""
        edge = self.config.size // STRIDE
        return torch.randn(1, self.config.autoencoder.latent, edge, edge, generator=stream.noise)

    def _next(
        self, streams: Sequence[Stream], noise: Tensor, conditions: Conditions, added: Tensor, cache: Cache
    ) -> Tensor:
        """The latents [B, Z, s, s] of the next frames; stores the previous ones in the ring."""
        before = [s.previous for s in streams if s.previous is not None]
        if not before:
            return generate(self._transformer, noise, conditions, added, cache, self._times)
        previous = (
            torch.cat([latent for latent, _ in before]),
            Conditions.stack([given for _, given in before]),
        )
        if len(self._times) == 1:
            return advance(self._transformer, previous, noise, conditions, added, cache)
        remember(self._transformer, *previous, added, cache)
        return generate(self._transformer, noise, conditions, added, cache, self._times)

    def conditions(self, streams: Sequence[Stream]) -> Conditions:
        """The sessions' recent conditions, one row each."""
        given = torch.ones(len(streams))

        def rows(parts: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(parts)).to(self.dtype)

        return Conditions(
            rows([np.stack(s.plans) for s in streams]).view(-1, 2, PLAN),
            given,
            rows([np.stack(s.heard) for s in streams])[:, None],
            given,
            torch.cat([s.still.faces for s in streams]),
            rows([s.emotion for s in streams])[:, None],
            given,
        )


def blocks(size: int, rng: np.random.Generator) -> np.ndarray:
    """An opaque picture [size, size, 4] uint8 with edges that make any motion visible."""
    colours = rng.integers(0, 256, (size // 8, size // 8, 4))
    colours[..., 3] = 255
    return np.kron(colours, np.ones((8, 8, 1))).astype(np.uint8)


def random_conditions(rng: np.random.Generator) -> FrameConditions:
    """Conditions of small random values."""
    return FrameConditions(
        *(0.3 * rng.standard_normal(n).astype(np.float32) for n in (len(CONTROLS), HEARD, len(EMOTIONS)))
    )


def stand_in(frame_renderer: FrameRenderer, rng: np.random.Generator, times: int = 1) -> Stream:
    """A session of `blocks`, all of it face, in frames `times` times as large as the networks': for trials."""
    size = frame_renderer.config.size
    return frame_renderer.stream(
        frame_renderer.still(blocks(times * size, rng), np.ones((size // STRIDE, size // STRIDE)))
    )


class Trial(NamedTuple):
    """A renderer's result for a few frames, the same for all renderers of a preset."""

    seconds: float  # per frame, without interference: the minimum after two warm-up frames
    frames: np.ndarray  # [T, S, S, 4] uint8


def probe(frame_renderer: FrameRenderer, tries: int) -> Trial:
    """Renders `tries` + 2 frames. Raises NotFinite."""
    rng = np.random.default_rng(0)
    stream, taken, frames = stand_in(frame_renderer, rng), [], []
    for _ in range(tries + 2):
        frame_renderer.hear(stream, random_conditions(rng))
        began = time.perf_counter()
        (frame,) = frame_renderer.draw([stream])
        taken.append(time.perf_counter() - began)
        if isinstance(frame, NotFinite):
            raise frame
        frames.append(frame)
    return Trial(min(taken[2:]), np.stack(frames))


def fastest_dtype(networks: Networks, tries: int = 5) -> torch.dtype:
    """float32 or bfloat16, whichever renders a frame faster here; measuring takes half a second."""
    taken = {dtype: probe(FrameRenderer(networks, dtype), tries).seconds for dtype in (torch.float32, torch.bfloat16)}
    return min(taken, key=taken.__getitem__)
