"""The measured pictures: folders, and development sets from well-known packages.

Photographs are stock portraits from UI templates on npm; drawings are avatars and emoji by other people. They are
unpacked into a folder outside the project: only figures are published, and the pictures are neither committed nor
shown.
"""

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmarks.lib.paths import PICTURES

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".avif")
SHEETS = ("overview",)
"""Names of files in docs/pictures that are not measured."""

REFUSED = ("profile", "turned-away")
"""Names of files there that show rejected pictures: faces from the side or turned away."""


PHOTOGRAPHS_OF_DOCS = ("astronaut",)
RENDERED = "rendered-"
"""Prefix of the names of rendered people in docs/pictures."""
MARKS = Path(__file__).with_name("marks.json")
"""Manual marks of the mouths of drawings: name to x and y, as shares of the picture's width and height."""

Kind = str
KINDS: tuple[Kind, ...] = ("photographs", "drawings", "rendered people")
"""Kinds are reported separately and never aggregated."""


@dataclass(frozen=True)
class Sample:
    name: str
    path: Path
    kind: Kind


class NoSet(RuntimeError):
    """A set is missing or could not be created; the message gives the reason."""


def samples(folder: Path, kind: Kind) -> list[Sample]:
    """The pictures in a folder, sorted by name. Raises NoSet if there are none."""
    if not folder.is_dir():
        raise NoSet(f"{folder} is not a folder")
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in ENDINGS and p.stem not in SHEETS]
    if not found:
        raise NoSet(f"{folder} contains 0 pictures: none of its files ends in {', '.join(ENDINGS)}")
    return [Sample(p.stem, p, kind) for p in found]


def mouths() -> dict[str, tuple[float, float]]:
    """The content of MARKS."""
    return {name: (x, y) for name, (x, y) in json.loads(MARKS.read_text()).items()}


def of_docs() -> list[Sample]:
    """The pictures in docs/pictures, with their kinds."""

    def kind(name: str) -> Kind:
        if name.startswith(RENDERED):
            return "rendered people"
        return "photographs" if name in PHOTOGRAPHS_OF_DOCS else "drawings"

    return [Sample(s.name, s.path, kind(s.name)) for s in samples(PICTURES, "drawings") if s.name not in REFUSED]


_TABLER = "dist/demo/faces"
PHOTOGRAPHS: Mapping[str, Mapping[str, str]] = {
    "admin-lte@3.2.0": {
        f"user-{n}": f"dist/img/user{n}-{'160x160' if n == 2 else '128x128'}.jpg" for n in (1, 2, 3, 7, 8)
    },
    "material-dashboard@3.1.0": {f"team-{n}": f"assets/img/team-{n}.jpg" for n in range(1, 6)},
    "@creative-tim-official/argon-dashboard-free@1.2.0": {
        f"theme-{n}": f"assets/img/theme/team-{n}.jpg" for n in range(1, 5)
    },
    "material-kit@2.0.4": {f"card-{n}": f"assets/img/faces/card-profile{n}-square.jpg" for n in (1, 4)},
    "tabler-ui@0.0.34": {
        **{f"female-{n}": f"{_TABLER}/female/{n}.jpg" for n in range(1, 10)},
        **{f"male-{n}": f"{_TABLER}/male/{n}.jpg" for n in (1, 3, 4, 5, 6, 7, 9, 10, 11)},
    },
}
"""Package to {name: file in the package}: frontal and half-turned portraits of different people, for development."""

HELD_OUT: Mapping[str, Mapping[str, str]] = {
    "tabler-ui@0.0.34": {
        **{f"female-{n}": f"{_TABLER}/female/{n}.jpg" for n in range(10, 33)},
        **{f"male-{n}": f"{_TABLER}/male/{n}.jpg" for n in (*range(12, 19), 20, 21, *range(24, 44))},
    },
}
"""Held-out photographs: do not use them for tuning."""

STYLES = (
    "adventurer",
    "avataaars",
    "bigEars",
    "bigSmile",
    "lorelei",
    "micah",
    "notionists",
    "openPeeps",
    "personas",
    "toonHead",
)
SEEDS = ("Ada", "Bo", "Cleo")
EMOJI = (
    "baby",
    "boy",
    "cat-face",
    "child",
    "dog-face",
    "girl",
    "grinning-face",
    "man",
    "man-beard",
    "man-teacher",
    "monkey-face",
    "neutral-face",
    "old-man",
    "old-woman",
    "panda",
    "person",
    "prince",
    "princess",
    "slightly-smiling-face",
    "smiling-face-with-smiling-eyes",
    "tiger-face",
    "woman",
    "woman-astronaut",
    "woman-with-headscarf",
)
DRAWING_PACKAGES = (
    "@dicebear/core@9.4.3",
    "@dicebear/collection@9.4.3",
    "@iconify-json/fluent-emoji@1.2.7",
    "@resvg/resvg-js@2.6.2",
)
_DRAW = """
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createAvatar } from "@dicebear/core";
import * as collection from "@dicebear/collection";
import { Resvg } from "@resvg/resvg-js";
const { out, styles, seeds, emoji, size } = JSON.parse(process.argv[2]);
const png = (name, svg) => {
  const drawn = new Resvg(svg, { fitTo: { mode: "width", value: size } }).render();
  writeFileSync(`${out}/${name}.png`, drawn.asPng());
};
for (const style of styles)
  for (const seed of seeds) png(`dicebear-${style}-${seed}`, createAvatar(collection[style], { seed }).toString());
const icons = createRequire(import.meta.url)("@iconify-json/fluent-emoji/icons.json");
for (const name of emoji) {
  const { body, width = icons.width ?? 32, height = icons.height ?? 32 } = icons.icons[name];
  png(`fluent-${name}`, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}">${body}</svg>`);
}
"""


def unpack_photographs(folder: Path, wanted: Mapping[str, Mapping[str, str]] = PHOTOGRAPHS) -> int:
    """Downloads the packages and extracts the named files; returns their number. Raises NoSet."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for package, files in wanted.items():
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / _npm(["pack", "--silent", package], Path(scratch)).split()[-1]
            with tarfile.open(archive) as packed:
                for name, inside in files.items():
                    member = packed.extractfile(str(PurePosixPath("package") / inside))
                    assert member is not None, inside
                    prefix = package.rpartition("@")[0].rpartition("/")[2].removesuffix("-free")
                    (folder / f"{prefix}-{name}{Path(inside).suffix}").write_bytes(member.read())
                    count += 1
    return count


def draw_drawings(folder: Path, size: int = 512) -> int:
    """Draws ten DiceBear styles for three seeds, and Fluent Emoji, as PNG; returns their number. Raises NoSet."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"out": str(folder), "styles": STYLES, "seeds": SEEDS, "emoji": EMOJI, "size": size}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "package.json").write_text('{"private": true}')
        (place / "draw.mjs").write_text(_DRAW)
        _npm(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", *DRAWING_PACKAGES], place)
        _run([_tool("node"), "draw.mjs", json.dumps(asked)], place)
    return len(STYLES) * len(SEEDS) + len(EMOJI)


def _npm(arguments: list[str], place: Path) -> str:
    return _run([_tool("npm"), *arguments], place)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NoSet(f"{name} is not installed: install Node.js to fetch the sets, or pass a folder")
    return found


def _run(command: list[str], place: Path) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if done.returncode:
        says = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NoSet(f"{Path(command[0]).name} {command[1]} ended with {done.returncode}: {' '.join(says)}")
    return done.stdout
