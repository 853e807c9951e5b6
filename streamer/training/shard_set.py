"""Makes a set of clips, shard by shard, in several processes; making it again continues where it stopped.

A set is a folder with `recipe.json` and shards (`people.shards`). The same recipe gives the same set.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from streamer.motion.articulation import Articulation
from streamer.training import voices
from streamer.training.clip import Clip
from streamer.training.people import motion, shards

CLIPS_EACH = 3
"""Clips in a shard."""
_BABBLE = 400
_Job = tuple[int, int]
"""Shard, and how many clips it has."""


class Maker(Protocol):
    def clips(self, shard: int, count: int) -> Sequence[Clip]:
        """The first `count` clips of a shard; fewer where some had to be dropped."""


def speech(path: str) -> tuple[voices.Voices, np.ndarray]:
    """Real speech as `voices.load` keeps it, or random syllables; and what the network says of silence."""
    if not path:
        return motion.babble(_BABBLE, 0), motion.quiet()
    return voices.read(Path(path)), voices.silence(Articulation.load())


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"shard_{shard:05d}.npz"


_maker: Maker | None = None


def _begin(create: Callable[[], Maker]) -> None:
    global _maker
    cv2.setNumThreads(1)
    _maker = create()


def _make(job: tuple[Path, int, int]) -> tuple[int, int, int, float]:
    assert _maker is not None
    (out, shard, count), began = job, time.process_time()
    clips = _maker.clips(shard, count)
    shards.write(shard_path(out, shard), clips)
    pictures = sum(len(clip.frames) + len(clip.references) for clip in clips)
    return shard, pictures, count - len(clips), time.process_time() - began


def make(
    out: Path, scenes: int, recipe: dict[str, Any], create: Callable[[], Maker], workers: int, limit: float
) -> int:
    """
    Makes the shards that are missing for `scenes` clips, and stops early where the set has `limit` gigabytes; returns
    how many pictures were made. `create` must be picklable if there are several workers. Raises ValueError where the
    folder holds a set of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    told = json.loads(json.dumps(recipe))
    path = out / "recipe.json"
    if path.exists() and json.loads(path.read_text()) != told:
        raise ValueError(f"{out} holds a set made by another recipe: choose an empty folder")
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False))
    counts = [min(CLIPS_EACH, scenes - start) for start in range(0, scenes, CLIPS_EACH)]
    jobs = [(out, shard, count) for shard, count in enumerate(counts) if not shard_path(out, shard).exists()]
    size = sum(file.stat().st_size for file in out.glob("shard_*.npz"))
    total, pool = 0, None
    if workers > 1:
        pool = multiprocessing.get_context("spawn").Pool(workers, _begin, (create,))
    elif jobs:
        _begin(create)
    try:
        for shard, pictures, dropped, seconds in pool.imap_unordered(_make, jobs) if pool else map(_make, jobs):
            total += pictures
            size += shard_path(out, shard).stat().st_size
            lost = f"{dropped} clips dropped, " if dropped else ""
            print(f"shard {shard}: {pictures} pictures, {lost}{pictures / seconds:.1f} a second of processor time, "
                  f"{size / 1e9:.2f} GB in all", flush=True)  # fmt: skip
            if size > limit * 1e9:
                print(f"stopped at {limit:g} GB", flush=True)
                break
    finally:
        if pool:
            pool.terminate()
            pool.join()
    return total


def add_arguments(p: argparse.ArgumentParser, scenes: int, limit: float) -> None:
    """Options that every set has."""
    p.add_argument("--out", type=Path, required=True, help="folder for the set")
    p.add_argument("--scenes", type=int, default=scenes, help="clips")
    p.add_argument("--size", type=int, default=512, help="pixels along a picture's edge")
    p.add_argument("--frames", type=int, default=16, help="frames a clip, beside the pictures to copy from")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--workers", type=int, default=1, help="processes")
    p.add_argument("--limit", type=float, default=limit, help="gigabytes at which it stops")
    p.add_argument("--voices", default="", help="speech as streamer.training.voices.load keeps it; else syllables")
    p.add_argument("--sheet", type=Path, help="also writes a picture of the first shard")


def check_arguments(scenes: int, people: int, workers: int) -> None:
    """Raises ValueError if there is nothing to make, or nobody to make it of or by."""
    if scenes < 1 or people < 1 or workers < 1:
        raise ValueError(f"{scenes} scenes of {people} people by {workers} processes: at least one of each")


def sheet(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size side by side."""
    rows = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    width = rows[0].shape[1]
    rows = [cv2.copyMakeBorder(row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT) for row in rows]
    return np.concatenate(rows)


def contact_sheet(out: Path, shard: Path) -> None:
    """Writes a picture of a shard: a row a clip, references first."""
    rows = []
    for clip in shards.read(shard):
        row = [*clip.references[:4], *clip.frames[:: max(len(clip.frames) // 4, 1)]][:8]
        rows += [*row, *[np.zeros_like(row[0])] * (8 - len(row))]
    if rows:
        cv2.imwrite(str(out), cv2.cvtColor(sheet(rows, 8), cv2.COLOR_RGB2BGR))
