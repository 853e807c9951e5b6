"""Makes a data set of rendered people: `python -m streamer.training.people --out DIR --scenes 3000`.

Shards lie in DIR, each with the clips of one person. Making a set again continues where it stopped, and the same seed
gives the same set. `shards.read` returns the clips; `training_scene.scene_of` converts each to what the painter trains
on.
"""

import argparse
import dataclasses
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from streamer.motion.articulation import Articulation
from streamer.training.people import motion, shards
from streamer.training.people.assets import Assets
from streamer.training.people.clips import FIRST_PERSON, Shot, Studio
from streamer.training.people.renderer import sheet
from streamer.training.people.template import ASSETS_VARIABLE, MESH_VARIABLE, MissingAssets, found_files
from streamer.training.voices import Voices, silence

CLIPS_EACH = 3
"""Clips of one person in a shard."""
SPLITS = ("train", "test")
_BABBLE = 400
_Job = tuple[int, int]
"""Shard, and how many clips it has."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a set is made by."""

    shot: Shot
    seed: int
    people: int
    split: str
    voices: str

    def person(self, shard: int) -> int:
        number = shard % self.people
        return number % FIRST_PERSON if self.split == "test" else FIRST_PERSON + number

    def clip_seed(self, shard: int, number: int) -> int:
        return (self.seed * len(SPLITS) + SPLITS.index(self.split)) * 100_000_000 + shard * CLIPS_EACH + number


def _voices(path: str) -> tuple[Voices, np.ndarray]:
    """Real speech as `voices.load` keeps it, or random syllables; and what the network says of silence."""
    if not path:
        return motion.babble(_BABBLE, 0), motion.quiet()
    with np.load(path) as packed:
        speakers = tuple(json.loads(str(packed["speakers"])))
        spoken = Voices(packed["heard"], packed["truth"], packed["starts"], speakers)
    return spoken, silence(Articulation.load())


class _Worker:
    def __init__(self, recipe: Recipe, out: Path, mesh: Path, assets: Path) -> None:
        cv2.setNumThreads(1)
        self._recipe, self._out = recipe, out
        self._studio = Studio(Assets(mesh, assets), recipe.shot, *_voices(recipe.voices))

    def make(self, job: _Job) -> tuple[int, int, float]:
        shard, count = job
        began, person = time.process_time(), self._recipe.person(shard)
        clips = [self._studio.clip(self._recipe.clip_seed(shard, number), person) for number in range(count)]
        shards.write(shard_path(self._out, shard), clips)
        pictures = sum(len(clip.frames) + len(clip.references) for clip in clips)
        return shard, pictures, time.process_time() - began


_worker: _Worker | None = None


def _begin(*arguments: object) -> None:
    global _worker
    _worker = _Worker(*arguments)  # type: ignore[arg-type]


def _make(job: _Job) -> tuple[int, int, float]:
    assert _worker is not None
    return _worker.make(job)


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"shard_{shard:05d}.npz"


def make(out: Path, scenes: int, recipe: Recipe, workers: int, mesh: Path, assets: Path, limit: float) -> int:
    """
    Makes the shards that are missing for so many scenes, and stops early where the set has `limit` gigabytes; returns
    how many pictures were made. Raises ValueError where the folder holds a set of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    told = json.loads(json.dumps(dataclasses.asdict(recipe)))
    path = out / "recipe.json"
    if path.exists() and json.loads(path.read_text()) != told:
        raise ValueError(f"{out} holds a set made by another recipe: choose an empty folder")
    path.write_text(json.dumps(told))
    counts = [min(CLIPS_EACH, scenes - start) for start in range(0, scenes, CLIPS_EACH)]
    jobs = [(shard, count) for shard, count in enumerate(counts) if not shard_path(out, shard).exists()]
    size = sum(file.stat().st_size for file in out.glob("shard_*.npz"))
    total, arguments = 0, (recipe, out, mesh, assets)
    pool = None
    if workers > 1:
        pool = multiprocessing.get_context("spawn").Pool(workers, _begin, arguments)
    elif jobs:
        _begin(*arguments)
    try:
        for shard, pictures, seconds in pool.imap_unordered(_make, jobs) if pool else map(_make, jobs):
            total += pictures
            size += shard_path(out, shard).stat().st_size
            print(f"shard {shard}: {pictures} pictures, {pictures / seconds:.1f} a second of processor time, "
                  f"{size / 1e9:.2f} GB in all", flush=True)  # fmt: skip
            if size > limit * 1e9:
                print(f"stopped at {limit:g} GB", flush=True)
                break
    finally:
        if pool:
            pool.terminate()
            pool.join()
    return total


def _contact_sheet(out: Path, shard: Path) -> None:
    clips = list(shards.read(shard))
    rows = [picture for clip in clips for picture in [*clip.references[:4], *clip.frames[:: len(clip.frames) // 4]][:8]]
    cv2.imwrite(str(out), cv2.cvtColor(sheet(rows, 8), cv2.COLOR_RGB2BGR))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m streamer.training.people", description=__doc__)
    p.add_argument("--out", type=Path, required=True, help="folder for the set")
    p.add_argument("--scenes", type=int, default=3000, help="clips")
    p.add_argument("--size", type=int, default=512, help="pixels along a picture's edge")
    p.add_argument("--frames", type=int, default=16, help="frames a clip, beside the pictures to copy from")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--people", type=int, default=1000, help="how many different ones there are")
    p.add_argument("--split", choices=SPLITS, default="train", help="test: of people that training never shows")
    p.add_argument("--workers", type=int, default=1, help="processes")
    p.add_argument("--limit", type=float, default=8.0, help="gigabytes at which it stops")
    p.add_argument("--voices", default="", help="speech as streamer.training.voices.load keeps it; else syllables")
    p.add_argument("--mesh", type=Path, help=f"people.npz; else {MESH_VARIABLE}")
    p.add_argument("--assets", type=Path, help=f"folder of MakeHuman's assets; else {ASSETS_VARIABLE}")
    p.add_argument("--sheet", type=Path, help="also writes a picture of the first shard")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        shot = Shot(options.size, options.frames)
        if options.scenes < 1 or options.people < 1 or options.workers < 1:
            raise ValueError(f"{options.scenes} scenes of {options.people} people by {options.workers} processes: "
                             "at least one of each")  # fmt: skip
        mesh, assets = found_files(options.mesh, options.assets)
        recipe = Recipe(shot, options.seed, options.people, options.split, options.voices)
        made = make(options.out, options.scenes, recipe, options.workers, mesh, assets, options.limit)
        if options.sheet:
            _contact_sheet(options.sheet, shard_path(options.out, 0))
    except (MissingAssets, ValueError, FileNotFoundError) as error:
        print(f"people: {error}", file=sys.stderr)
        return 1
    print(f"{made} pictures made")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
