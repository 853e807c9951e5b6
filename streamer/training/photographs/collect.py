"""Collects pictures of faces that may be trained on from installed packages:
`python -m streamer.training.photographs.collect FOLDER`.

`packaged.csv` lists them, with the package, author and licence of each. Further pictures can be added to the folder and
to its `sources.json` afterwards; collecting again keeps them.
"""

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from streamer.training.photographs.licences import FIELDS

LIST = Path(__file__).with_name("packaged.csv")
_GETS = {"debian": "apt install", "pypi": "pip install"}


@dataclass(frozen=True)
class Packaged:
    """A picture within a package."""

    registry: str
    package: str
    path: str
    title: str
    author: str
    licence: str
    url: str

    def found(self) -> Path | None:
        """Where the picture is on this machine, if its package is installed."""
        if self.registry == "debian":
            path = Path(self.path)
        else:
            try:
                path = Path(str(metadata.distribution(self.package).locate_file(self.path)))
            except metadata.PackageNotFoundError:
                return None
        return path if path.is_file() else None


def packaged() -> list[Packaged]:
    with LIST.open(newline="", encoding="utf-8") as lines:
        return [Packaged(**row) for row in csv.DictReader(lines)]


def collect(folder: Path) -> tuple[int, list[str]]:
    """Copies what is installed into a folder with a manifest; returns the number, and commands that get the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "sources.json"
    rows = {row["file"]: row for row in json.loads(manifest.read_text("utf-8"))} if manifest.is_file() else {}
    count, missing = 0, set()
    for picture in packaged():
        path = picture.found()
        if path is None:
            missing.add((picture.registry, picture.package))
            continue
        count += 1
        if path.name not in rows:
            shutil.copyfile(path, folder / path.name)
            rows[path.name] = dict(
                zip(FIELDS, (path.name, picture.title, picture.author, picture.licence, picture.url), strict=True)
            )
    manifest.write_text(json.dumps(list(rows.values()), indent=1, ensure_ascii=False), "utf-8")
    return count, [f"{_GETS[registry]} {package}" for registry, package in sorted(missing)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m streamer.training.photographs.collect", description=__doc__)
    parser.add_argument("folder", type=Path)
    count, commands = collect(parser.parse_args(arguments).folder)
    print(f"{count} pictures collected")
    for command in commands:
        print(f"missing: {command}", file=sys.stderr)
    return 0 if count else 1


if __name__ == "__main__":
    raise SystemExit(main())
