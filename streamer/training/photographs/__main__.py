"""Makes a data set of photographs: `python -m streamer.training.photographs --out DIR --pictures FOLDER`.

FOLDER holds pictures with faces and a manifest of their licences (see `licences`); pictures whose licence does not
allow training, and those on which lipstream is measured, are refused by name. `--people` names a set of rendered
people, whose neutral pictures serve as further portraits. Shards are as those of rendered people: `people.shards.read`
returns their clips, `people.training_scene.scene_of` converts them. Making a set again continues where it stopped.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamer.base.errors import NotInstalled
from streamer.base.onnx import BadNetwork
from streamer.training import shard_set
from streamer.training.clip import Clip, Passage
from streamer.training.photographs import stills
from streamer.training.photographs.clips import Studio, Torn
from streamer.training.photographs.licences import BadManifest, Refusal, Source, attribution, sources
from streamer.training.photographs.portraits import Opener, Portrait, Refused

STILLS = "stills"
"""Folder within a set."""
_TRIES = 3
"""For each clip: another seed is tried where the rig tears the picture."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a set is made by."""

    passage: Passage
    seed: int
    stills: float
    """Share of the shards that show rendered people, if there are any and photographs too."""
    voices: str

    def clip_seed(self, shard: int, number: int, attempt: int) -> int:
        return ((self.seed * 1_000_000 + shard) * shard_set.CLIPS_EACH + number) * _TRIES + attempt


@dataclasses.dataclass(frozen=True)
class Material:
    """What a set is made of: folders with the pictures in them that are used."""

    photographs: tuple[tuple[Path, Source], ...]
    people: tuple[tuple[Path, Source], ...]

    def of_shard(self, shard: int, recipe: Recipe) -> tuple[Path, Source]:
        rng = np.random.default_rng([recipe.seed, shard, 0x50])
        rendered = not self.photographs or (bool(self.people) and rng.random() < recipe.stills)
        return (self.people if rendered else self.photographs)[
            shard % len(self.people if rendered else self.photographs)
        ]


class Maker:
    """Makes the clips of a shard, all of one portrait."""

    def __init__(self, recipe: Recipe, material: Material) -> None:
        self._recipe, self._material = recipe, material
        self._opener = Opener(recipe.passage.size)
        self._studio = Studio(recipe.passage, *shard_set.speech(recipe.voices))

    def clips(self, shard: int, count: int) -> list[Clip]:
        portrait = self._opener.open(*self._material.of_shard(shard, self._recipe))
        made = [self._clip(shard, number, portrait) for number in range(count)]
        return [clip for clip in made if clip is not None]

    def _clip(self, shard: int, number: int, portrait: Portrait) -> Clip | None:
        for attempt in range(_TRIES):
            try:
                return self._studio.clip(self._recipe.clip_seed(shard, number, attempt), portrait)
            except Torn:
                continue
        return None


def usable(folder: Path, listed: Sequence[Source], opener: Opener) -> tuple[list[Source], list[Refusal]]:
    """Those of a folder's pictures that can be moved and are not held out, and the others with reasons."""
    found, refused = [], []
    for source in listed:
        try:
            opener.open(folder, source)
            found.append(source)
        except Refused as error:
            refused.append(Refusal(source.file, str(error)))
    return found, refused


def survey(pictures: Path | None, people: Path | None, out: Path, size: int, most_people: int) -> Material:
    """Looks through everything, says what is refused, and returns the rest. Raises BadManifest or NoStills."""
    opener = Opener(size)
    photographs: list[Source] = []
    if pictures is not None:
        listed, refused = sources(pictures)
        photographs, further = usable(pictures, listed, opener)
        for refusal in [*refused, *further]:
            print(f"{refusal.file} is not used: {refusal.reason}", flush=True)
    rendered: list[Source] = []
    if people is not None:
        listed = stills.extract(people, out / STILLS, most_people)
        rendered, further = usable(out / STILLS, listed, opener)
        for refusal in further:
            print(f"{refusal.file} is not used: {refusal.reason}", flush=True)
    if not photographs and not rendered:
        raise BadManifest("no picture is left to make clips of")
    return Material(
        tuple((pictures, source) for source in photographs if pictures is not None),
        tuple((out / STILLS, source) for source in rendered),
    )


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m streamer.training.photographs", description=__doc__)
    shard_set.add_arguments(p, scenes=900, limit=2.0)
    p.add_argument("--pictures", type=Path, help="folder of pictures with LICENCES.csv or sources.json")
    p.add_argument("--people", type=Path, help="a training set of rendered people")
    p.add_argument("--stills", type=float, default=0.6, help="share of the clips that show rendered people")
    p.add_argument("--most-people", type=int, default=300, help="how many different rendered people at most")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        if options.pictures is None and options.people is None:
            raise ValueError("name a folder of pictures (--pictures), a set of rendered people (--people), or both")
        shard_set.check_arguments(options.scenes, options.most_people, options.workers)
        recipe = Recipe(Passage(options.size, options.frames), options.seed, options.stills, options.voices)
        material = survey(options.pictures, options.people, options.out, options.size, options.most_people)
        told = {
            **dataclasses.asdict(recipe),
            "pictures": attribution([source for _, source in material.photographs]),
            "people": [source.title for _, source in material.people],
        }
        create = functools.partial(Maker, recipe, material)
        made = shard_set.make(options.out, options.scenes, told, create, options.workers, options.limit)
        if options.sheet:
            shard_set.contact_sheet(options.sheet, shard_set.shard_path(options.out, 0))
    except (ValueError, FileNotFoundError, BadNetwork, NotInstalled) as error:
        print(f"photographs: {error}", file=sys.stderr)
        return 1
    print(f"{made} pictures made of {len(material.photographs)} photographs and {len(material.people)} rendered people")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
