"""Footage for the painter: points of frames and their sources in the references, from clips and from studio scenes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from streamer.motion.controls import CONTROLS, EMOTIONS, MOUTH
from streamer.training.clip import FLOW_UNIT, KEYPOINTS, TRACK_UNIT, UNSEEN, Clip
from streamer.training.footage import Made, Mix, drawn, half, make_footage, of_clip
from streamer.training.people import shards
from streamer.training.people.film import Grain
from streamer.training.people.motion import babble, quiet
from streamer.training.scenes import FIRST_SEED, Shot, scene
from streamer.training.voices import WIDTH

_SIZE, _FRAMES = 128, 4


def moved_clip() -> Clip:
    """A square of noise that moves by whole pixels before a plain background, in frames and references."""
    rng = np.random.default_rng(0)
    person = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    background = np.full((_SIZE, _SIZE, 3), 90, np.uint8)

    def shown(x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        picture, matte = background.copy(), np.zeros((_SIZE, _SIZE), np.uint8)
        picture[y : y + 64, x : x + 64], matte[y : y + 64, x : x + 64] = person, 255
        return picture, matte

    at = [(32 + 4 * k, 24 + 8 * (k % 2)) for k in range(_FRAMES)]
    sources = [(32, 24), (24, 32)]
    frames, mattes = (np.stack(part) for part in zip(*(shown(*one) for one in at), strict=True))
    references, reference_mattes = (np.stack(part) for part in zip(*(shown(*one) for one in sources), strict=True))

    def flow(k: int, r: int, step: int) -> np.ndarray:
        """Constant on the person, but its left half is not to be seen in the second reference."""
        offset = np.array(sources[r]) - at[k]
        out = np.tile((offset * FLOW_UNIT).astype(np.int16), (_SIZE // step, _SIZE // step, 1))
        if r == 1:
            out[:, : (at[k][0] + 32) // step, 0] = UNSEEN
        return out

    points = np.zeros((_FRAMES, len(KEYPOINTS), 3), np.float32)
    points[..., 2] = 1
    for k, (x, y) in enumerate(at):
        points[k, :, :2] = (x + 32, y + 40)
        points[k, ::2, 0] += 8
    tracks = np.ones((1 + _FRAMES, 20, 3), np.uint16)
    tracks[..., :2] = ((np.array([sources[0], *at])[:, None] + 10 + 128) * TRACK_UNIT).astype(np.uint16)
    small = np.zeros((_FRAMES, _SIZE // 4, _SIZE // 4, 2), np.int16)
    plain = Grain(0, 0.0, 1.0, 0.0, 101)
    return Clip(
        seed=1, person=2, roles=("neutral", "eyes_shut"), grain=(plain, plain), at=np.arange(_FRAMES),
        background=background, references=references, frames=frames, reference_mattes=reference_mattes, mattes=mattes,
        reference_parts=reference_mattes // 255, parts=mattes // 255,
        places=np.zeros((2, _SIZE // 2, _SIZE // 2, 3), np.float16),
        flow=np.stack([flow(k, 0, 2) for k in range(_FRAMES)]),
        flows=np.stack([flow(k, 1, 4)[None] for k in range(_FRAMES)]), before=small,
        reference_points=points[:2], points=points, tracks=tracks,
        reference_controls=np.zeros((2, len(CONTROLS)), np.float32),
        controls=np.zeros((_FRAMES, 2, len(CONTROLS)), np.float32), heard=np.zeros((_FRAMES, WIDTH), np.float16),
        truth=np.zeros((_FRAMES, len(MOUTH)), np.float16), emotion=np.zeros((_FRAMES, len(EMOTIONS)), np.float16),
        openings=np.zeros(_FRAMES, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("opaque", [0.0, 1.0])
def test_a_clips_points_have_their_sources(opaque: float) -> None:
    """A frame at a point has the colours of the references at its origins; what is not to be seen is not known."""
    rng = np.random.default_rng(1)
    found = set()
    for _ in range(8):
        made = of_clip(moved_clip(), "people", rng, opaque, 3, 0.0)
        assert made.frames.shape == (3, _SIZE, _SIZE, 4) and made.places.shape[:2] == (3, 500)
        assert bool((made.frames[..., 3] == 255).all()) == bool(opaque)
        found.add(len(made.references))
        for k, r in np.ndindex(3, len(made.references)):
            known = made.known[k, r]
            assert known.any() and (r == 0 or not known.all())
            here, there = (np.floor(part).astype(int)[known] for part in (made.places[k], made.origins[k, r]))
            frame, reference = made.frames[k][here[:, 1], here[:, 0]], made.references[r][there[:, 1], there[:, 0]]
            inside = frame[:, 3] > 0
            np.testing.assert_allclose(frame[inside].astype(int), reference[inside], atol=1)
    assert found == {2}


def test_studio_scenes_give_footage() -> None:
    """Points of a drawn frame have its colours in the references where they are seen; halves keep the layout."""
    rng = np.random.default_rng(0)
    shot = Shot(256, 4, spread=6, styled=0, bent=0, opaque=0, references=4, tracked=1024)
    made = drawn(scene(FIRST_SEED + 1, shot, babble(4, 0), quiet(), rng), rng)
    count = len(made.references)
    assert made.known.shape == (4, count, 500) and made.known[:, 0].mean() > 0.3
    assert (made.eyes[:, 1] < made.mouths[:, 1]).all()
    for k, r in np.ndindex(4, count):
        known = made.known[k, r]
        here, there = (part[known].astype(int).clip(0, 255) for part in (made.places[k], made.origins[k, r]))
        off = np.abs(made.frames[k][here[:, 1], here[:, 0]].astype(int) - made.references[r][there[:, 1], there[:, 0]])
        assert np.median(off) < 8, (k, r)
    references, frames = half(made, np.array([2, 0]))
    assert references.shape == (count, 128, 128, 4) and frames.shape == (2, 128, 128, 4)


def test_footage_comes_from_the_whole_mix(tmp_path: Path) -> None:
    """Clips on disk and studio scenes are both taken, in other processes, at about their shares."""
    shards.write(tmp_path / "shard_00000.npz", [moved_clip(), dataclasses.replace(moved_clip(), seed=2)])
    mix = Mix({"people": (tmp_path, 0.5)}, 0.5, frames=2)
    with Made(make_footage, mix, Shot(128, 4, references=3, tracked=600), babble(4, 0), quiet(), 3) as running:
        sources = {running.take().source for _ in range(12)}
    assert sources == {"people", "drawn"}
