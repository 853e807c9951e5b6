"""Makes a data set of rendered people: `python -m streamer.training.people --out DIR --scenes 3000`.

Shards lie in DIR, each with the clips of one person. Making a set again continues where it stopped, and the same seed
gives the same set. `shards.read` returns the clips; `training_scene.scene_of` converts each to what the painter trains
on.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from streamer.training import shard_set
from streamer.training.clip import Clip
from streamer.training.people.assets import Assets
from streamer.training.people.clips import FIRST_PERSON, Shot, Studio
from streamer.training.people.template import ASSETS_VARIABLE, MESH_VARIABLE, MissingAssets, found_files
from streamer.training.shard_set import CLIPS_EACH, shard_path

SPLITS = ("train", "test")


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


class Maker:
    """Renders the clips of a shard."""

    def __init__(self, recipe: Recipe, mesh: Path, assets: Path) -> None:
        self._recipe = recipe
        self._studio = Studio(Assets(mesh, assets), recipe.shot, *shard_set.speech(recipe.voices))

    def clips(self, shard: int, count: int) -> list[Clip]:
        person = self._recipe.person(shard)
        return [self._studio.clip(self._recipe.clip_seed(shard, number), person) for number in range(count)]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m streamer.training.people", description=__doc__)
    shard_set.add_arguments(p, scenes=3000, limit=8.0)
    p.add_argument("--toon", type=float, default=0.0, help="share of the clips lit in flat tones, as cartoons are")
    p.add_argument("--people", type=int, default=1000, help="how many different ones there are")
    p.add_argument("--split", choices=SPLITS, default="train", help="test: of people that training never shows")
    p.add_argument("--mesh", type=Path, help=f"people.npz; else {MESH_VARIABLE}")
    p.add_argument("--assets", type=Path, help=f"folder of MakeHuman's assets; else {ASSETS_VARIABLE}")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        shot = Shot(options.size, options.frames, toon=options.toon)
        shard_set.check_arguments(options.scenes, options.people, options.workers)
        mesh, assets = found_files(options.mesh, options.assets)
        recipe = Recipe(shot, options.seed, options.people, options.split, options.voices)
        create = functools.partial(Maker, recipe, mesh, assets)
        told = dataclasses.asdict(recipe)
        made = shard_set.make(options.out, options.scenes, told, create, options.workers, options.limit)
        if options.sheet:
            shard_set.contact_sheet(options.sheet, shard_path(options.out, 0))
    except (MissingAssets, ValueError, FileNotFoundError) as error:
        print(f"people: {error}", file=sys.stderr)
        return 1
    print(f"{made} pictures made")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
