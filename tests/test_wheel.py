"""The distributions: a wheel built from the sdist holds all that is served and drawn with, and serves it."""

import email.message
import email.parser
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import streamer

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / ".ci" / "smoke.py"


def _build(kind: str, tree: Path) -> Path:
    """The distribution that setuptools builds in `tree`, without a network."""
    code = f"from setuptools.build_meta import build_{kind} as build; print(build('dist'))"
    built = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr[-2000:]
    return tree / "dist" / built.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, because setuptools writes beside its sources."""
    pytest.importorskip("setuptools", "77", reason="builds distributions as pyproject.toml describes them")
    copy = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":  # which is a file in a work tree
            shutil.copy(path, copy)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "kernels_cases", "adapters")
    for name in ("streamer", "kernels", "clients", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    # What an earlier build left: a module that is no longer in the tree.
    stale = copy / "build" / "lib" / "streamer" / "moved_elsewhere.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    return _build("sdist", copy)


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what the sdist holds."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [tree] = folder.iterdir()
    stale = tree / "build" / "lib" / "streamer" / "moved_elsewhere.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    return _build("wheel", tree)


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: set[str]) -> email.message.Message:
    [name] = [name for name in names if name.endswith(".dist-info/METADATA")]
    with zipfile.ZipFile(wheel) as archive:
        return email.parser.Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The Python of a virtual environment with the wheel in it. Its dependencies are this environment's, by their folders:
    of these no .pth file is read, so that an editable installation of lipstream is not seen.
    """
    folder = tmp_path_factory.mktemp("environment")
    builder = venv.EnvBuilder(with_pip=True)
    builder.create(folder)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    python = Path(paths["scripts"], "python.exe" if os.name == "nt" else "python")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)]
    subprocess.run(install, check=True, timeout=120, cwd=folder)
    theirs = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    Path(paths["purelib"], "dependencies.pth").write_text("\n".join(theirs) + "\n")
    return python


def _tracked(*folders: str) -> set[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    command = ["git", "ls-files", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    return set(listed.stdout.splitlines())


def test_a_wheel_holds_what_is_read_at_run_time(names: set[str]) -> None:
    """All weights, and all files that are served, the latter below the package."""
    data = {name for name in _tracked("streamer") if not name.endswith(".py")}
    assert {"streamer/weights/face_rig.npz", "streamer/weights/mediapipe/face_mesh.onnx", "streamer/py.typed"} <= data
    served = {f"streamer/{name}" for name in _tracked("clients/page", "clients/element", "clients/obs")}
    assert {"streamer/clients/page/index.html", "streamer/clients/page/sample.wav"} <= served
    missing = (data | served) - names
    assert not missing, missing


def test_a_wheel_holds_nothing_else(names: set[str]) -> None:
    """Two packages and their metadata: no test, no build script, no module that an earlier build left behind."""
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"streamer", "avatar_kernels"}
    ours = _tracked("streamer", "kernels/avatar_kernels", "clients")
    known = {name.removeprefix("kernels/").replace("clients/", "streamer/clients/", 1) for name in ours}
    strange = {name for name in names if ".dist-info/" not in name} - known
    assert not strange, strange


def test_an_sdist_holds_the_sources_and_their_licences(sdist: Path) -> None:
    """What a wheel is built from, the licences and the history of changes, and no tests that lack their pictures."""
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "CHANGELOG.md"} <= files
    assert "clients/page/index.html" in files
    assert not [name for name in files if name.startswith("tests") or name.endswith(".pyc")]


def test_a_wheel_introduces_itself(metadata: email.message.Message, names: set[str]) -> None:
    """Name, version, summary, description, licence with its files, keywords, and that it is typed."""
    assert (metadata["Name"], metadata["Version"]) == ("lipstream", streamer.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("License-File", [])) == {"LICENSE", "NOTICE"}
    assert {"LICENSE", "NOTICE"} <= {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert metadata["Summary"] and metadata["Keywords"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# lipstream" in metadata.get_payload()
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert "test" in metadata.get_all("Provides-Extra", [])


def test_an_installed_wheel_serves_and_draws(environment: Path, tmp_path: Path) -> None:
    """
    Outside the tree the installed command serves the page, the element and the OBS page with all that they load, makes
    a character of a picture and draws a session; what needs a checkout says so.
    """
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [str(environment), str(SMOKE), "--with-torch"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "/element/lip-stream.js" in ended.stdout and "/page/sample.wav" in ended.stdout
