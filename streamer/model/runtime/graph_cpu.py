"""Live use of the exported networks on the CPU, without torch: characters, sessions, and their next frames.

    references ─▶ prepare, identity ─▶ PreparedCharacter
    conditions, noise ─▶ step ─▶ latent ─▶ paint ─▶ compose ─▶ patch ─▶ finish ─▶ frame

The counterpart of `torch_cpu.FrameRenderer` over `graphs`, `engines` and `compose`. A `PreparedCharacter` holds what
was computed from a character's pictures, a `Stream` one session's state. Sessions are rendered one after another, so
that each frame is sent as soon as it is rendered. All sessions of a renderer are drawn by one thread at a time;
preparing characters on another is safe.

Letters used in shapes: S edge of the networks' pictures, O edge of frames, R references, s latent edge, Z latent
channels, h = 4 s edge of the flow, N tokens of a latent frame, W width, L layers, C context frames, H heads, D channels
of a head, P values of the plan, A frames of audio, Q outputs of the articulation network, E emotions.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from streamer.base.image import Picture
from streamer.model.config import PLAN, STRIDE, ModelConfig, patch_edge
from streamer.model.runtime.compose import (
    UNIT,
    Composer,
    NotFiniteInput,
    Patch,
    Place,
    Scene,
    crop,
    patch_input,
    patch_place,
)
from streamer.model.runtime.engines import Network
from streamer.model.runtime.graphs import ADVANCE, IDENTITY, PAINT, PATCH, PREPARE, STEP
from streamer.model.runtime.stream import FrameConditions, Hearing, NotFinite, blocks, random_conditions

PATCH_EDGE = patch_edge(UNIT // 2)
"""Edge of the patch of the face, in pixels of a frame of UNIT."""


@dataclass(frozen=True, eq=False)
class PreparedCharacter:
    """A character in frames of one size, ready to be rendered; read-only."""

    scene: Scene
    features: tuple[np.ndarray, ...]  # of the references, coarse to fine: [R, C, s, s] and so on
    added: np.ndarray  # [1, N, W]
    sinks: tuple[np.ndarray, np.ndarray]  # keys and values [L, 1, N, H, D]
    faces: np.ndarray  # [1, 1, N]
    centre: tuple[float, float]  # of the face in the neutral picture, x and y in edges


class Conditions(NamedTuple):
    """A frame's conditions, as the step takes them."""

    plan: np.ndarray  # [1, 2, P]: the motion plan of the frame before and of this one
    heard: np.ndarray  # [1, 1, A, Q]: articulation outputs in the window, oldest frame first
    emotion: np.ndarray  # [1, 1, E]


class Ring:
    """Keys and values of a session's context frames, newest last."""

    def __init__(self, shape: Sequence[int]) -> None:
        """Of `shape` [L, 1, C, N, H, D]."""
        self.keys, self.values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.filled = 0

    def append(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Replaces the oldest frame by a frame's keys and values [L, 1, N, H, D]."""
        for part, new in ((self.keys, keys), (self.values, values)):
            part[:, :, :-1] = part[:, :, 1:].copy()
            part[:, :, -1] = new
        self.filled = min(self.filled + 1, self.keys.shape[2])

    def reset(self) -> None:
        """Clears it. Masked values still enter products, so no NaN may remain."""
        self.keys[:], self.values[:], self.filled = 0, 0, 0


@dataclass(eq=False)
class Stream(Hearing):
    """One session's state."""

    still: PreparedCharacter
    noise: np.random.Generator
    ring: Ring | None = None
    previous: tuple[np.ndarray, Conditions] | None = None  # the last frame, not in the ring yet; None without a ring
    place: Place | None = None  # of the last frame's patch

    def reset_nonfinite(self) -> NotFinite:
        """Clears everything but the character after NaN or Inf. Returns the error to report."""
        if self.ring is not None:
            self.ring.reset()
        self.previous = self.place = None
        return NotFinite("the session state contained NaN or Inf and was reset")


def face_tokens(face: np.ndarray, edge: int) -> np.ndarray:
    """
    face [s, s], the fraction of each latent cell that shows it -> [1, 1, N] tokens, dilated by one token because the
    head moves while the mask is that of the picture at rest. s must be a multiple of `edge`.
    """
    cell = len(face) // edge
    grid = face.astype(np.float32).reshape(edge, cell, edge, cell).max((1, 3))
    around = np.pad(grid, 1, constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(around, (3, 3)).max((2, 3)).reshape(1, 1, -1)


def network_input(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture [T, T, 4] uint8 at the networks' size: [1, 4, S, S] float32 in -1..1."""
    if len(picture) != size:
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / np.float32(127.5) - 1


def finite(arrays: Sequence[np.ndarray]) -> bool:
    """Whether all arrays are free of NaN and Inf."""
    return all(bool(np.isfinite(array).all()) for array in arrays)


class GraphFrameRenderer:
    """Renders frames with a preset's exported networks."""

    max_batch_size = 1

    def __init__(self, config: ModelConfig, networks: Mapping[str, Network], context: int = 0) -> None:
        """`networks` by the names in `graphs`; `context`: frames of the ring for which ADVANCE was exported, or 0."""
        self.config, self.context = config, context
        self._networks = networks
        self._composers: dict[int, Composer] = {}

    def prepare(
        self,
        references: Sequence[np.ndarray],
        face: np.ndarray,
        centre: tuple[float, float],
        size: int,
        plate: np.ndarray | None = None,
    ) -> PreparedCharacter:
        """
        Prepares a character for frames of `size`: 1 to 4 pictures [T, T, 4] uint8 premultiplied RGBA, T at least `size`
        and S, the neutral one first; face [s, s], the fraction of each latent cell that shows the face in it, and its
        `centre`, x and y in edges; `plate` as in `Scene`. Raises ValueError for other shapes.
        """
        edge = self.config.size // STRIDE
        if face.shape != (edge, edge):
            raise ValueError(f"a face of shape {face.shape}: the preset {self.config.name} wants {edge}x{edge}")
        scene = Scene.prepare(references, size, plate)
        for graph in self._for_each_frame(len(references), size):
            self._networks[graph]  # compiled now, not when the first frame is due
        found = [self._networks[PREPARE]([network_input(picture, self.config.size)]) for picture in references]
        features = tuple(np.concatenate(level) for level in zip(*found, strict=True))
        added, keys, values = self._networks[IDENTITY]([features[0][:1]])
        return PreparedCharacter(scene, features, added, (keys, values), face_tokens(face, self.config.edge), centre)

    def _for_each_frame(self, references: int, size: int) -> list[str]:
        """The graphs that draw frames of `size`."""
        patch = [PATCH] if size > self.config.size else []
        return [STEP, *([ADVANCE] if self.context else []), PAINT[references - 1], *patch]

    def stream(self, still: PreparedCharacter, seed: int = 0) -> Stream:
        """Opens a session of that character."""
        c = self.config.transformer
        ring = Ring((c.depth, 1, self.context, self.config.tokens, c.heads, c.head)) if self.context else None
        return Stream(still, np.random.default_rng(seed), ring)

    def hear(self, stream: Stream, cue: FrameConditions) -> None:
        """Takes each frame's conditions in order, also of skipped frames. Raises NotFinite, ValueError."""
        stream.hear(cue, self.config.transformer.window)

    def leave(self, stream: Stream) -> None:
        """Ends the session, which holds nothing beyond its own memory."""

    def draw(self, streams: Sequence[Stream], planes: bool | None = None) -> list[Picture | NotFinite]:
        """
        Renders the next frame of each session, in its character's size: YUV planes or straight RGBA, as in
        `Composer.finish`. A session whose frame is not finite is reset and gets NotFinite in its place; other sessions
        are unaffected.
        """
        return [self._one(stream, planes) for stream in streams]

    def _one(self, stream: Stream, planes: bool | None) -> Picture | NotFinite:
        still, conditions = stream.still, self.conditions(stream)
        latent, *kept = self._next(stream, conditions)
        flow, shares, paint, features = self._networks[PAINT[len(still.features[0]) - 1]]([latent, *still.features])
        # Engines may suppress NaN: everything that is kept or shown is checked. `compose` checks the rest.
        if not finite([latent, *kept, features]):
            return stream.reset_nonfinite()
        size = still.scene.size
        composer = self._composers.setdefault(size, Composer(size))
        try:
            frame = composer.compose(still.scene, flow, shares, paint)
            patches = self._patches(stream, frame, flow[0], features) if size > self.config.size else []
            picture = composer.finish(still.scene, frame, patches, planes)
        except NotFiniteInput:
            return stream.reset_nonfinite()
        if stream.ring is not None:
            if kept:
                stream.ring.append(*kept)
            stream.previous = latent, conditions
        return picture

    def _patches(self, stream: Stream, frame: np.ndarray, flow: np.ndarray, features: np.ndarray) -> list[Patch]:
        """The face in detail, for frames larger than the networks' pictures."""
        stream.place = patch_place(flow, stream.still.centre, PATCH_EDGE, stream.place)
        composed = patch_input(frame, stream.place, PATCH_EDGE)[None]
        (painted,) = self._networks[PATCH]([composed, np.ascontiguousarray(crop(features, stream.place))])
        return [Patch(stream.place, painted)]

    def noise(self, stream: Stream) -> np.ndarray:
        """[1, Z, s, s]: the noise of the session's next frame."""
        edge = self.config.size // STRIDE
        return stream.noise.standard_normal((1, self.config.autoencoder.latent, edge, edge), np.float32)

    def conditions(self, stream: Stream) -> Conditions:
        """The session's recent conditions."""
        return Conditions(
            np.stack(stream.plans).astype(np.float32).reshape(1, 2, PLAN),
            np.stack(stream.heard).astype(np.float32)[None, None],
            stream.emotion.astype(np.float32)[None, None],
        )

    def _next(self, stream: Stream, now: Conditions) -> list[np.ndarray]:
        """The next latent [1, Z, s, s]; with a predecessor, also that one's keys and values for the ring."""
        still, noise = stream.still, self.noise(stream)
        if stream.ring is None or stream.previous is None:  # attention is the same: it depends on differences only
            return self._networks[STEP]([noise, still.added, still.faces, *now, *still.sinks])
        latent, before = stream.previous
        ring = stream.ring
        pairs = [each for pair in zip(now, before, strict=True) for each in pair]
        filled = np.array([ring.filled], np.int64)
        return self._networks[ADVANCE](
            [noise, latent, still.added, still.faces, *pairs, ring.keys, ring.values, filled, *still.sinks]
        )


class Trial(NamedTuple):
    """A renderer's result for a few frames, the same for all renderers of a preset."""

    seconds: np.ndarray  # [T]: of each frame, after two to warm up
    frames: np.ndarray  # [T, O, O, 4] uint8 straight RGBA


def stand_in(renderer: GraphFrameRenderer, size: int, rng: np.random.Generator, references: int = 1) -> Stream:
    """A session of `blocks`, all of it face: for trials."""
    edge = renderer.config.size // STRIDE
    pictures = [blocks(max(size, renderer.config.size), rng) for _ in range(references)]
    return renderer.stream(renderer.prepare(pictures, np.ones((edge, edge), np.float32), (0.5, 0.5), size))


def probe(renderer: GraphFrameRenderer, size: int, tries: int) -> Trial:
    """Renders `tries` + 2 frames. Raises NotFinite."""
    rng = np.random.default_rng(0)
    stream, taken, frames = stand_in(renderer, size, rng), [], []
    for _ in range(tries + 2):
        renderer.hear(stream, random_conditions(rng))
        began = time.perf_counter()
        (frame,) = renderer.draw([stream], planes=False)
        taken.append(time.perf_counter() - began)
        if isinstance(frame, NotFinite):
            raise frame
        frames.append(np.asarray(frame))
    return Trial(np.array(taken[2:]), np.stack(frames[2:]))
