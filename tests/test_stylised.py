"""Clips as if painted or drawn: alike in all pictures, without flicker, with their truth unchanged."""

from dataclasses import fields, replace
from functools import cache

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra `train`")

from meshed_faces import Meshed  # noqa: E402

from streamer.training.clip import FLOW_UNIT, UNSEEN, Clip, Passage  # noqa: E402
from streamer.training.people import motion  # noqa: E402
from streamer.training.photographs.clips import Studio  # noqa: E402
from streamer.training.photographs.portraits import Portrait  # noqa: E402
from streamer.training.stylised import KINDS, Painting, stylised  # noqa: E402

PICTURES = ("background", "references", "frames", "grain")


@cache
def clip() -> Clip:
    pixels, fit, share = Meshed().paint()
    return Studio(Passage(256, 4), motion.babble(4, 1), motion.quiet()).clip(3, Portrait(1_000_002, pixels, share, fit))


def painting(kind: str) -> Painting:
    """The first random painting of a kind."""
    found = (Painting.random(np.random.default_rng(seed)) for seed in range(200))
    return next(each for each in found if each.kind == kind)


def missed(references: np.ndarray, frames: np.ndarray) -> float:
    """Mean difference of frames from the neutral picture, warped by the clip's flow, where it is seen."""
    y, x = np.mgrid[0:256:2, 0:256:2].astype(np.float32)
    errors = []
    for frame, flow in zip(frames, clip().flow, strict=True):
        seen = flow[..., 0] != UNSEEN
        moved = np.where(seen[..., None], flow, 0).astype(np.float32) / FLOW_UNIT
        there = cv2.remap(references[0], x + moved[..., 0], y + moved[..., 1], cv2.INTER_LINEAR)
        errors.append(np.abs(there.astype(int) - frame[::2, ::2])[seen].mean())
    return float(np.mean(errors))


def test_only_the_pictures_change() -> None:
    """Flows, parts, points and controls are the same arrays; frames and references differ; the same seed repeats."""
    once, again = (stylised(clip(), np.random.default_rng(5)) for _ in range(2))
    for field in fields(Clip):
        same = getattr(once, field.name) is getattr(clip(), field.name)
        assert same != (field.name in PICTURES), field.name
    np.testing.assert_array_equal(once.frames, again.frames)
    assert once.frames.dtype == np.uint8 and once.frames.shape == clip().frames.shape
    assert not any(grain.strength for grain in once.grain)
    assert [grain.quality for grain in once.grain] == [grain.quality for grain in clip().grain]


@pytest.mark.parametrize("kind", KINDS)
def test_a_painting_follows_the_motion(kind: str) -> None:
    """What is copied looks the same in frame and reference after painting: within three levels, as colours allow."""
    paint = painting(kind)
    references, frames = (np.stack([paint(p) for p in of]) for of in (clip().references, clip().frames))
    assert np.abs(frames.astype(int) - clip().frames).mean() > 3
    contrast = max(float(frames.std()) / float(clip().frames.std()), 1.0)
    assert missed(references, frames) < 3 * contrast


def test_paintings_flatten_areas_and_keep_edges() -> None:
    """A toon has fewer tones than its picture; the person's outline stays as strong as it was."""
    paint = replace(painting("toon"), style=replace(painting("toon").style, mix=np.eye(3, dtype=np.float32),
                    tones=np.arange(256, dtype=np.uint8)))  # fmt: skip
    frame = clip().frames[0]
    noisy = np.clip(frame + np.random.default_rng(1).normal(0, 4, frame.shape), 0, 255).astype(np.uint8)
    painted = paint(noisy)

    def roughness(picture: np.ndarray) -> float:
        return float(np.median(np.abs(np.diff(picture[..., 1].astype(int), axis=1))))

    assert roughness(painted) < roughness(noisy) / 2
    inside, outside = clip().mattes[0] == 255, clip().mattes[0] == 0
    before, after = (np.abs(p[inside].mean(0) - p[outside].mean(0)).max() for p in (frame, painted))
    assert after > 0.5 * before
