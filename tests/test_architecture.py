"""The floor plan holds: imports flow down, importing costs nothing, and the README's plan is the tree."""

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Later layers may import earlier ones, never the other way; modules of one layer do not know each other unless listed.
LAYERS = [
    {
        "streamer",
        "streamer.base.constants",
        "streamer.base.resources",
        "streamer.base.clock",
        "streamer.base.queues",
        "streamer.media.frame_stamp",
        "streamer.base.image",
        "streamer.base.onnx",
        "streamer.server.turn",
        "streamer.provenance.marker",
        "streamer.base",
    },
    {"streamer.outputs.relay"},
    {
        "streamer.base.frames",
        "streamer.motion.gestures",
        "streamer.media.packed_alpha",
        "streamer.media.away_card",
        "streamer.motion.controls",
        "streamer.studio.canvas",
        "streamer.motion.plan",
        "streamer.base.metrics",
        "streamer.avatar.admission",
    },
    {
        "streamer.motion.articulation",
        "streamer.audio",
        "streamer.audio.vad",
        "streamer.media.av_sync",
        "streamer.session.messages",
    },
    {"streamer.studio"},
    {"streamer.model"},
    {"streamer.faces"},
    {"streamer.avatar.avatar", "streamer.media.video_encoder", "streamer.rtc.aiortc_internals"},
    {"streamer.avatar.engine", "streamer.rtc.negotiation", "streamer.media.muxer"},
    {"streamer.avatar.characters", "streamer.server.tokens"},
    {"streamer.avatar.capacity", "streamer.avatar.backends", "streamer.avatar.neural"},
    {"streamer.session.viewer", "streamer.session.microphone", "streamer.session.speech_input", "streamer.session.bot"},
    {"streamer.session.fanout", "streamer.outputs.recording"},
    {"streamer.outputs.publisher", "streamer.session.viewers"},
    {"streamer.provenance.content_credentials", "streamer.provenance.detector"},
    {"streamer.session.session", "streamer.cli.render", "streamer.embed.local_avatar"},
    {"streamer.server.state"},
    {"streamer.server.routes"},
    {"streamer.server.app"},
    {"streamer.training", "streamer.cli.bench", "streamer.cli.main", "streamer.adapters"},
    {"streamer.__main__"},
]


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "streamer").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _layer(module: str) -> int:
    for i, layer in enumerate(LAYERS):
        if module in layer:
            return i
    packages = [(len(name), i) for i, layer in enumerate(LAYERS) for name in layer if module.startswith(name + ".")]
    if packages := [(length, i) for length, i in packages if length > len("streamer.")]:
        return max(packages)[1]  # a package's place holds for its modules
    raise AssertionError(f"{module} has no place in the floor plan: give it one in LAYERS")


def _imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_imports_flow_down() -> None:
    """No module imports one of a later layer."""
    modules = _modules()
    upward = []
    for module, path in modules.items():
        for imported in _imports(path) & modules.keys():
            if imported != "streamer" and _layer(imported) > _layer(module):
                upward.append(f"{module} imports {imported}")
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("streamer/model", {"asyncio", "aiortc", "fastapi"}),
        ("streamer/studio", {"asyncio", "aiortc", "fastapi"}),
        ("streamer/faces", {"asyncio", "aiortc", "fastapi"}),
        ("streamer/ingest", {"asyncio", "aiortc", "fastapi"}),
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
    """Importing the command and the server's modules loads neither torch nor a model, and starts no thread."""
    code = (
        "import sys, threading, streamer.cli.main, streamer.avatar.avatar, streamer.session.session\n"
        "loaded = {'torch', 'onnxruntime', 'openvino'} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


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
    assert used - known.keys() <= optional | {"onnx", "pocketsphinx", "tflite"}, used - known.keys()
    names = [_distribution(line) for line in project["dependencies"]]
    assert len(names) == len(set(names)), "one is asked for twice"


def _distribution(requirement: str) -> str:
    """The normalized name in a line of requirements."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


def test_a_wheel_holds_all_weights(tmp_path: Path) -> None:
    """What is tracked below streamer/ beside its code travels with it."""
    pytest.importorskip("setuptools", "77", reason="builds wheels as pyproject.toml describes them")
    tracked = subprocess.run(["git", "ls-files", "streamer"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    if tracked.returncode:
        pytest.skip("no git checkout")
    data = {name for name in tracked.stdout.splitlines() if not name.endswith(".py")}
    assert {"streamer/weights/face_rig.npz", "streamer/weights/mediapipe/face_mesh.onnx"} <= data
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("streamer", "kernels"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    code = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    with zipfile.ZipFile(tmp_path / "dist" / built.stdout.splitlines()[-1]) as wheel:
        missing = data - set(wheel.namelist())
    assert not missing, missing


def test_kernels_is_no_package() -> None:
    """A package importable as `kernels` would break transformers, and one named `tests` would shadow others'."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_the_readmes_floor_plan_is_the_tree() -> None:
    """Every path that the README's floor plan names exists, and every package folder is named."""
    text = (ROOT / "README.md").read_text()
    plan = re.search(r"## Floor plan\n.*?```\n(.*?)```", text, re.S)
    assert plan, "README.md has no floor plan"
    named = {line.split()[0] for line in plan[1].splitlines() if line and not line[0].isspace()}
    for name in named:
        assert (ROOT / name).exists(), f"the floor plan names {name}, which does not exist"
    tracked = {"streamer/", "kernels/", "clients/", "benchmarks/", "tests/", "docs/"}
    assert tracked <= named, tracked - named


def test_the_readme_holds_the_two_commands() -> None:
    """The commands that CI proves are the ones that a newcomer reads first."""
    text = (ROOT / "README.md").read_text()
    first_screen = "\n".join(text.splitlines()[:45])
    assert "pip install -e . && lipstream" in first_screen
    assert "pip install -e '.[test]' && pytest" in first_screen


def test_tracked_weights_stay_small() -> None:
    """All weights together have at most 44 MB."""
    total = sum(path.stat().st_size for path in (ROOT / "streamer" / "weights").rglob("*") if path.is_file())
    assert total <= 44e6, f"{total / 1e6:.1f} MB of weights"
