"""Clips of people and photographs: pictures of somebody to copy from, frames of them moving, and the truth.

Rendered people (`people.clips`) and photographs that the picture rig moves (`photographs.clips`) are stored alike.

Letters used in shapes: T frames, R references, S pixels along an edge, K key points, P followed points, C controls.
"""

from dataclasses import dataclass, fields

import numpy as np

from streamer.studio.rig import BODY_KEYPOINTS, HAND_KEYPOINTS
from streamer.training.people.film import Grain

LANDMARKS = 478
KEYPOINTS = (*(f"landmark_{i}" for i in range(LANDMARKS)), *BODY_KEYPOINTS, *HAND_KEYPOINTS)
"""MediaPipe's 468 landmarks; the left and the right iris (the viewer's), middle and four points of the rim; the body's
and hands' points as the studio names them."""
UNSEEN = -20_000
"""In `flow`: the place is not to be seen in the other picture."""
FLOW_UNIT, TRACK_UNIT = 8.0, 32.0
"""Steps a pixel in which flows and followed points are stored."""
FOLLOWED = 400
"""Points that a clip follows."""
_WARM = 2


@dataclass(frozen=True)
class Passage:
    """What a clip shows of somebody's motion."""

    size: int = 512
    frames: int = 16
    wide: float = 0.2
    """Share of the clips whose mouth and lids go through all shapes and not only those of speech."""
    apart: float = 0.5
    """Share of the clips whose frames come in runs of four, some time apart; the others follow one another."""

    def __post_init__(self) -> None:
        if self.size % 8 or not 64 <= self.size <= 1024:
            raise ValueError(f"a clip's pictures are 64 to 1024 pixels wide and divisible by 8, not {self.size}")
        if self.frames < 1 or self.frames % 4:
            raise ValueError(f"a clip has 4, 8, 12, … frames, not {self.frames}")

    def times(self, rng: np.random.Generator) -> np.ndarray:
        """[T]: which frames of the passage are rendered."""
        k = np.arange(self.frames)
        return _WARM + (k // 4 * 14 + k % 4 if rng.random() < self.apart else k)


@dataclass(frozen=True, eq=False)
class Clip:
    """Pictures are opaque sRGB before `background`; what covers it is in the mattes."""

    seed: int
    person: int
    roles: tuple[str, ...]
    """Of the references: the first is neutral."""
    grain: tuple[Grain, ...]
    """What the camera and its file would add to each reference."""
    at: np.ndarray
    """[T] int: when each frame is, in frames; neighbours follow one another where they differ by 1"""
    background: np.ndarray
    """[S, S, 3] uint8"""
    references: np.ndarray
    """[R, S, S, 3] uint8"""
    frames: np.ndarray
    """[T, S, S, 3] uint8"""
    reference_mattes: np.ndarray
    """[R, S, S] uint8"""
    mattes: np.ndarray
    """[T, S, S] uint8"""
    reference_parts: np.ndarray
    """[R, S, S] uint8: index in parts.PARTS"""
    parts: np.ndarray
    """[T, S, S] uint8"""
    places: np.ndarray
    """[R, S / 2, S / 2, 3] float16: where on the template each reference's pixel lies; pixel (2 i, 2 j) at [i, j]"""
    flow: np.ndarray
    """[T, S / 2, S / 2, 2] int16: x, y to be added to a pixel's place, in 1 / FLOW_UNIT pixels, to find it in the first
    reference; UNSEEN in x where it is not to be seen there. Of pixel (2 i, 2 j) at [i, j]."""
    flows: np.ndarray
    """[T, R - 1, S / 4, S / 4, 2] int16: the same for the other references; of pixel (4 i, 4 j)"""
    before: np.ndarray
    """[T, S / 4, S / 4, 2] int16: the same for the frame before in `frames`; of pixel (4 i, 4 j); the first's is 0"""
    reference_points: np.ndarray
    """[R, K, 3] float32: x, y in pixels, and 1 where visible"""
    points: np.ndarray
    """[T, K, 3] float32"""
    tracks: np.ndarray
    """[1 + T, P, 3] uint16: points of the first reference, there and in each frame: x, y in 1 / TRACK_UNIT pixels from
    (-128, -128); and 1 where visible"""
    reference_controls: np.ndarray
    """[R, C] float32"""
    controls: np.ndarray
    """[T, 2, C] float32: of the frame before in time, and of this one"""
    heard: np.ndarray
    """[T, W] float16: what the articulation network would say"""
    truth: np.ndarray
    """[T, M] float16"""
    emotion: np.ndarray
    """[T, E] float16"""
    openings: np.ndarray
    """[T] float32: distance of the inner lips, as a share of this face's widest"""

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.controls) or len(self.roles) != len(self.references):
            raise ValueError(f"{len(self.frames)} frames with {len(self.controls)} controls, {len(self.roles)} roles "
                             f"for {len(self.references)} references")  # fmt: skip


ARRAYS = tuple(f.name for f in fields(Clip) if f.name not in ("seed", "person", "roles", "grain"))


def stored_flow(flow: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Flow [h, w, 2] in pixels and where it leads to what is seen [h, w] -> [h, w, 2] int16 as Clip.flow has it."""
    result = np.round(flow * FLOW_UNIT).clip(-16_000, 16_000).astype(np.int16)
    result[~seen] = UNSEEN, 0
    return result


def stored_tracks(points: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Points [P, 2] in pixels and which are visible [P] -> [P, 3] uint16 as Clip.tracks has them."""
    steps = ((points + 128) * TRACK_UNIT).round().clip(0, 65_535)
    return np.concatenate([steps, visible[:, None]], 1).astype(np.uint16)
