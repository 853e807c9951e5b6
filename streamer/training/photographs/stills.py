"""Neutral pictures of rendered people, out of a set of their clips, as further portraits with exact mattes."""

import json
from pathlib import Path

import cv2

from streamer.training.clip import KEYPOINTS
from streamer.training.people import shards
from streamer.training.photographs.licences import FIELDS, Source

_IRISES = [KEYPOINTS.index("landmark_468"), KEYPOINTS.index("landmark_473")]
_CREDIT = ("lipstream", "CC0", "http://www.makehumancommunity.org")
"""Rendered from MakeHuman's assets."""


class NoStills(ValueError):
    """The folder has no people for training; the message gives the reason."""


def extract(people: Path, out: Path, count: int) -> list[Source]:
    """
    Writes the neutral picture of up to `count` people of the training set in `people` into `out`, each with its matte,
    and returns them; people with hair over an eye are left out. What was written before stays as it is, so that a set
    keeps its people while theirs grows. Raises NoStills.
    """
    listing = out / "sources.json"
    if listing.is_file():
        return [Source(**row) for row in json.loads(listing.read_text())]
    recipe = people / "recipe.json"
    paths = sorted(people.glob("shard_*.npz"))
    if not recipe.is_file() or not paths:
        raise NoStills(f"{people} holds no set of rendered people")
    split = json.loads(recipe.read_text()).get("split")
    if split != "train":
        raise NoStills(f"the people in {people} are of the split {split!r} and held out: only 'train' may be used")
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Source] = {}
    for path in paths:
        if len(found) >= count:
            break
        person = shards.manifest(path)[0]["person"]
        name, matte = f"person_{person:05d}.png", f"person_{person:05d}_matte.png"
        if name in found:
            continue
        [points] = shards.read_arrays(path, 0, ["reference_points"])
        if not points[0, _IRISES, 2].all():
            continue  # hair over an eye would blink with it
        pictures, mattes = shards.read_arrays(path, 0, ["references", "reference_mattes"])
        cv2.imwrite(str(out / matte), mattes[0])
        cv2.imwrite(str(out / name), cv2.cvtColor(pictures[0], cv2.COLOR_RGB2BGR))
        author, licence, url = _CREDIT
        found[name] = Source(name, f"rendered person {person}", author, licence, url, matte)
    rows = [{**{field: getattr(source, field) for field in FIELDS}, "matte": source.matte} for source in found.values()]
    listing.write_text(json.dumps(rows, indent=1))
    return list(found.values())
