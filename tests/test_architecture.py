"""The floor plan holds: imports flow down, importing costs nothing, and the README's plan is the tree."""

import ast
import contextlib
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Which rooms (folders of `streamer/`) each room may import. Nothing else is allowed, in either direction.
ROOMS: dict[str, set[str]] = {
    "base": set(),
    "audio": {"base"},
    "motion": {"base"},
    "media": {"base"},
    "rtc": {"base"},
    "provenance": {"base"},
    "model": {"base", "motion"},
    "studio": {"base", "motion"},
    "outputs": {"base", "media"},
    "faces": {"base", "motion", "model", "studio"},
    "avatar": {"base", "audio", "motion", "model", "studio", "faces"},
    "session": {"base", "audio", "motion", "media", "rtc", "provenance", "avatar"},
    "embed": {"base", "audio", "motion", "media", "provenance", "avatar"},
    "server": {"base", "motion", "media", "rtc", "provenance", "outputs", "studio", "faces", "avatar", "session"},
    "training": {"base", "audio", "motion", "media", "model", "studio", "faces"},
    "cli": {
        "base",
        "rtc",
        "model",
        "audio",
        "motion",
        "media",
        "provenance",
        "studio",
        "avatar",
        "session",
        "embed",
        "server",
        "training",
    },
}

# Which rooms or modules alone may import a library.
QUARANTINED: dict[str, set[str]] = {
    "aiortc": {"rtc"},
    "aioice": {"rtc"},
    "fastapi": {"server"},
    "starlette": {"server"},
    "uvicorn": {"cli"},
    "torch": {
        "model.attention",
        "model.autoencoder",
        "model.checkpoint",
        "model.graph_modules",
        "model.kv_cache",
        "model.layers",
        "model.painter",
        "model.runtime.color",
        "model.runtime.cuda",
        "model.runtime.cuda_frame",
        "model.runtime.cuda_step",
        "model.runtime.slots",
        "model.runtime.torch_cpu",
        "model.sampling",
        "model.transformer",
        "training",
    },
    "av": {"base", "audio", "media", "outputs", "provenance", "faces", "training", "cli"},
}

# Moved in 0.2; each only re-exports its new module, with a warning.
MOVED = {
    "streamer.local": "streamer.embed.local_avatar",
    "streamer.adapters.livekit": "streamer.embed.livekit",
    "streamer.adapters.pipecat": "streamer.embed.pipecat",
}


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "streamer").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it, those that it names in a string (for importlib, say) included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and node.level == 0, f"{path.relative_to(ROOT)} has a relative import: name the room"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("streamer."):
            names.add(node.value)
    return names


def _room(module: str) -> str:
    """The folder below `streamer` that a module lies in; empty for `streamer` and its `__main__`."""
    return "" if module in ("streamer", "streamer.__main__") else module.split(".")[1]


def test_every_module_has_a_room() -> None:
    """Each module lies in one of the rooms, and each room exists."""
    rooms = {_room(module) for module in _modules().keys() - MOVED.keys()} - {"", "adapters"}
    assert rooms == ROOMS.keys()


def test_imports_follow_the_rooms() -> None:
    """A room imports those that ROOMS allows it, and no other, siblings included."""
    modules = _modules()
    wrong = []
    for module in modules.keys() - MOVED.keys():
        for imported in _imports(modules[module]) & modules.keys():
            here, there = _room(module), _room(imported)
            if here and there and here != there and there not in ROOMS.get(here, set()):
                wrong.append(f"{module} imports {imported}")
    assert not wrong, "\n".join(sorted(wrong))


def test_rooms_have_one_direction() -> None:
    """No room is reached from itself by way of others."""
    reached: dict[str, set[str]] = {}

    def below(room: str, path: tuple[str, ...]) -> set[str]:
        assert room not in path, " imports ".join((*path, room))
        if room not in reached:
            reached[room] = set().union(*({each} | below(each, (*path, room)) for each in ROOMS[room]))
        return reached[room]

    for room in ROOMS:
        below(room, ())


def _edges(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """Modules of lipstream that a file takes something from; for a module taken from a package, that module alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {each if each in modules else node.module for each in whole}
    return found & modules.keys() - {"streamer"}


def test_no_import_circles() -> None:
    """No module imports itself by way of others, imports inside functions and for types alone included."""
    modules = _modules()
    try:
        TopologicalSorter({module: _edges(path, modules) for module, path in modules.items()}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("library", QUARANTINED)
def test_libraries_stay_in_their_rooms(library: str) -> None:
    """A library is imported in its rooms alone, wherever in a module, and in each of them."""
    used = set()
    for module, path in _modules().items():
        if library in {name.partition(".")[0] for name in _imports(path)}:
            places = {_room(module), module.removeprefix("streamer.")} & QUARANTINED[library]
            assert places, f"{module} imports {library}"
            used |= places
    assert used == QUARANTINED[library]


def test_modules_that_need_torch() -> None:
    """
    Without torch every module can be imported but those that may import it themselves; in training, also those that
    build on them, and of the data sets' modules none.
    """
    code = (
        "import importlib, sys\n"
        "sys.modules['torch'] = None\n"
        "for name in sys.argv[1:]:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        if error.name == 'torch': print(name)\n"
    )
    modules = sorted(_modules().keys() - MOVED.keys() - {"streamer.__main__"})
    command = [sys.executable, "-c", code, *modules]
    done = subprocess.run(command, check=True, timeout=120, cwd=ROOT, capture_output=True, text=True)
    needing = {name.removeprefix("streamer.") for name in done.stdout.splitlines()}
    training = {name for name in needing if name.startswith("training.")}
    assert needing - training == QUARANTINED["torch"] - {"training"}
    assert not {name for name in training if name.startswith("training.data")}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_documented_imports_still_work(old: str, new: str) -> None:
    """A name of 0.1 gives what its new module does, and warns."""
    path = _modules()[old]
    assert _imports(path) & _modules().keys() - {old} == {new} and len(path.read_text().splitlines()) < 20
    if old == "streamer.local":
        sys.modules.pop(old, None)
        with pytest.warns(DeprecationWarning, match=re.escape(new)):
            moved = importlib.import_module(old)
        assert moved.LocalAvatar is importlib.import_module(new).LocalAvatar


def test_no_source_file_is_long() -> None:
    """No source file has more than 500 lines; tests and data may."""
    for folder, ends in (
        ("streamer", "*.py"),
        ("kernels", "*.py"),
        ("benchmarks", "*.*"),
        ("clients", "*.*"),
        ("examples", "*.py"),
    ):
        for path in (ROOT / folder).rglob(ends):
            if path.suffix in (".py", ".js", ".ts", ".css", ".html"):
                lines = len(path.read_text().splitlines())
                assert lines <= 500, f"{path.relative_to(ROOT)} has {lines} lines"


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        *((f"streamer/{room}", {"asyncio"}) for room in ("audio", "motion", "provenance", "model", "studio", "faces")),
        ("kernels", {"streamer", "asyncio", "aiortc"}),
    ],
)
def test_pure_packages_stay_pure(package: str, forbidden: set[str]) -> None:
    """Drawing, models, ingest and kernels know no event loop and no network."""
    for path in (ROOT / package).rglob("*.py"):
        roots = {name.partition(".")[0] for name in _imports(path)}
        assert not roots & forbidden, f"{path.relative_to(ROOT)} imports {roots & forbidden}"


def test_only_tracks_touches_aiortcs_internals() -> None:
    """Name-mangled attributes of aiortc's classes appear in one module alone."""
    for module, path in _modules().items():
        if module != "streamer.rtc.aiortc_internals":
            assert not re.search(r"_RTC[A-Za-z]+__", path.read_text()), module


def test_importing_costs_nothing() -> None:
    """Importing the server's modules and the backends loads no engine and no model, and starts no thread."""
    code = (
        "import sys, threading, streamer.cli.main, streamer.server.app, streamer.session.session, streamer.embed\n"
        "import streamer.avatar.backends, streamer.avatar.neural\n"
        "loaded = {'torch', 'triton', 'onnxruntime', 'openvino'} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import streamer", {"numpy", "PIL", "av", "pydantic"}),
        (
            "from streamer.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
            {"uvicorn", "cryptography"},
        ),
    ],
    ids=["the package", "the help"],
)
def test_the_first_import_is_light(code: str, forbidden: set[str]) -> None:
    """`import streamer` loads no library at all, and the help none that draws, serves or runs networks."""
    heavy = {"torch", "onnxruntime", "openvino", "cv2", "scipy", "aiortc", "fastapi"} | forbidden
    code += f"\nimport sys; loaded = {heavy} & sys.modules.keys(); assert not loaded, loaded"
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, timeout=60, cwd=ROOT, stdout=subprocess.DEVNULL)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the store has another place")
def test_nobody_is_told_that_networks_run(tmp_path: Path) -> None:
    """onnxruntime's telemetry, which keeps its events and an id of the machine in the cache folder, stays off."""
    code = "from streamer.motion.articulation import Articulation; Articulation.load()"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT, env=environment)
    assert not list(tmp_path.rglob("*"))


def test_what_is_imported_is_asked_for() -> None:
    """
    `pip install` brings whatever the package imports: each distribution is asked for in pyproject.toml, at once or by
    one that is asked for there.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "test"}
    asked = {_distribution(line) for lines in (project["dependencies"], *extras.values()) for line in lines}
    brought = set(asked)
    for name in asked:
        with contextlib.suppress(metadata.PackageNotFoundError):  # an extra's, which need not be installed
            brought |= {_distribution(line) for line in metadata.requires(name) or () if "extra ==" not in line}

    known = metadata.packages_distributions()
    used = {name.partition(".")[0] for path in _modules().values() for name in _imports(path)}
    used -= {*sys.stdlib_module_names, "streamer", "avatar_kernels"}
    assert {"cv2", "scipy", "python_multipart"} <= used
    unasked = {
        name: known[name]
        for name in used & known.keys()
        if not brought & {_distribution(found) for found in known[name]}
    }
    assert not unasked, unasked
    optional = {"livekit", "pipecat", "pi_heif"}  # of extras that the tests do without
    assert used - known.keys() <= optional | {"numba", "onnx", "pocketsphinx", "tflite"}, used - known.keys()
    names = [_distribution(line) for line in project["dependencies"]]
    assert len(names) == len(set(names)), "one is asked for twice"


def _distribution(requirement: str) -> str:
    """The normalized name in a line of requirements."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


def test_kernels_is_no_package() -> None:
    """A package importable as `kernels` would break transformers, and one named `tests` would shadow others'."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_the_readme_is_short() -> None:
    """It fits a newcomer's patience: 130 lines; what is measured and how it works is in docs/."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_the_readme_holds_the_two_commands() -> None:
    """The commands that CI proves are the ones that a newcomer reads first."""
    text = (ROOT / "README.md").read_text()
    first_screen = "\n".join(text.splitlines()[:45])
    assert "pip install -e . && lipstream" in first_screen
    assert "pip install -e '.[test]' && pytest" in first_screen


def test_tracked_weights_stay_small() -> None:
    """All weights together have at most 64 MB."""
    total = sum(path.stat().st_size for path in (ROOT / "streamer" / "weights").rglob("*") if path.is_file())
    assert total <= 64e6, f"{total / 1e6:.1f} MB of weights"
