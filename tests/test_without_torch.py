"""A default installation has no torch: everything but training and CUDA works without it, and those name the extra."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
import wave
from importlib import metadata
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from streamer.base.errors import NotInstalled
from streamer.base.extras import import_extra
from streamer.embed.local_avatar import Runtime

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "clients" / "page" / "sample.wav"
GPU = "which is not installed: pip install 'lipstream[gpu]'"
NEEDS_LINUX_OR_WINDOWS = pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no CUDA")


@pytest.fixture
def torchless(tmp_path: Path) -> dict[str, str]:
    """An environment in which neither a Python nor those that it starts can import torch or Triton."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = sys.modules['triton'] = None\n")
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    return {**os.environ, **cache, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}


def run(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Half a second of the sample voice."""
    path = tmp_path / "speech.wav"
    with wave.open(str(SAMPLE)) as source, wave.open(str(path), "wb") as out:
        out.setparams(source.getparams())
        source.setpos(source.getframerate())
        out.writeframes(source.readframes(source.getframerate() // 2))
    return path


def smoke() -> ModuleType:
    """The functions with which CI tries an installed wheel."""
    spec = importlib.util.spec_from_file_location("smoke", ROOT / ".ci" / "smoke.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_environment_has_no_torch(torchless: dict[str, str], tmp_path: Path) -> None:
    """The check itself can fail: there torch is neither found nor imported, nor in a process of a process."""
    code = (
        "import importlib.util, subprocess, sys\n"
        "assert importlib.util.find_spec('torch') is None\n"
        "sys.exit(subprocess.run([sys.executable, '-c', 'import torch']).returncode)"
    )
    done = run(torchless, tmp_path, "-c", code)
    assert done.returncode == 1 and "ModuleNotFoundError: import of torch halted" in done.stderr


def test_it_serves_and_holds_a_session(torchless: dict[str, str], tmp_path: Path) -> None:
    """The page with all that it loads is served, and a session's frames arrive, drawn by the rig."""
    command = [sys.executable, "-m", "streamer", "--port", "0", "--generator", "rig"]
    process = subprocess.Popen(command, env=torchless, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.search(r"http://[\w.:]+", line)
        assert url, line
        tried = smoke()
        tried.crawl(url[0])
        assert asyncio.run(tried.speak(url[0], SAMPLE, "1")) > 0
    finally:
        process.terminate()
        assert process.wait(20) in (0, -15)
        process.stdout.close()


def test_it_renders(torchless: dict[str, str], tmp_path: Path, speech: Path) -> None:
    """`lipstream render` draws a recording with the rig."""
    out = tmp_path / "out.mp4"
    done = run(torchless, tmp_path, "-m", "streamer", "render", str(speech), str(out), "--generator", "rig")
    assert done.returncode == 0, done.stderr
    with av.open(str(out)) as video:
        assert sum(1 for _ in video.decode(video=0)) >= 12


def test_the_neural_generator_draws(torchless: dict[str, str], tmp_path: Path) -> None:
    """`NeuralBackend.load()` draws on the CPU; the line that says so names the extra for CUDA. No torch is loaded."""
    code = """
import sys
import numpy as np
from streamer.avatar.characters import Characters
from streamer.avatar.neural import NeuralBackend
from streamer.media.video_encoder import to_rgba
from streamer.motion.articulation import EMBEDDING, PROSODY, ArticulationFrame
from streamer.motion.controls import EMOTIONS, MOUTH, rest
generator = NeuralBackend.load()
assert generator.device == "cpu", generator.where
assert sys.platform == "darwin" or "pip install 'lipstream[gpu]'" in generator.where, generator.where
characters = Characters()
rig = generator.create_renderer(characters.get(characters.default), 256, True)
mouth, prosody, embedding = (np.zeros(n, np.float32) for n in (len(MOUTH), len(PROSODY), EMBEDDING))
rig.hear(rest(), ArticulationFrame(mouth, prosody, embedding), np.zeros(len(EMOTIONS), np.float32))
frame = to_rgba(rig.draw(rest()))
assert frame.shape == (256, 256, 4) and frame[..., :3].std() > 10
assert not [name for name in sys.modules if name.startswith("torch.")]
"""
    done = run(torchless, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["train", "nano", "set"], 1, "training needs torch, which is not installed: pip install 'lipstream[train]'"),
        (["train", "face", "set"], 1, "training needs torch, which is not installed: pip install 'lipstream[train]'"),
        pytest.param(
            ["serve", "--port", "0", "--generator", "neural", "--device", "cuda"],
            1,
            f"--device cuda: CUDA needs torch, {GPU}",
            marks=NEEDS_LINUX_OR_WINDOWS,
        ),
        pytest.param(
            ["serve", "--port", "0", "--device", "cuda"],
            1,
            f"--device cuda: CUDA needs torch, {GPU}",
            marks=NEEDS_LINUX_OR_WINDOWS,
        ),
        pytest.param(
            ["render", str(SAMPLE), "out.mp4", "--generator", "neural", "--device", "cuda"],
            1,
            f"--device cuda: CUDA needs torch, {GPU}",
            marks=NEEDS_LINUX_OR_WINDOWS,
        ),
        (["bench", "--only", "quality", "--data", "set"], 2, "torch missing: run pip install -e '.[test]'"),
    ],
    ids=["train a preset", "train a part", "serve", "serve by itself", "render", "bench"],
)
def test_a_command_that_needs_torch_names_the_extra(
    torchless: dict[str, str], tmp_path: Path, arguments: list[str], status: int, reason: str
) -> None:
    """One sentence with the command that installs it, and nothing written."""
    done = run(torchless, tmp_path, "-m", "streamer", *arguments)
    assert done.returncode == status, done.stderr
    assert reason in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.mp4"))


@NEEDS_LINUX_OR_WINDOWS
def test_a_runtime_on_cuda_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Avatars in a process of one's own, LiveKit's and Pipecat's too, are refused with the same sentence."""
    monkeypatch.setitem(sys.modules, "torch", None)
    for generator in ("auto", "neural"):
        with pytest.raises(NotInstalled, match=re.escape(f"--device cuda: CUDA needs torch, {GPU}")):
            Runtime.load(generator, "cuda")


@NEEDS_LINUX_OR_WINDOWS
def test_measuring_on_cuda_names_the_extra(torchless: dict[str, str], tmp_path: Path) -> None:
    """The process that measures the neural generator ends with the same sentence."""
    done = run(torchless, tmp_path, "-m", "streamer.avatar.capacity", "cuda")
    assert (done.returncode, done.stderr) == (1, f"--device cuda: CUDA needs torch, {GPU}\n")


@pytest.mark.parametrize("program", ["triton_kernels", "model_step"])
def test_the_kernels_benchmark_names_the_extra(torchless: dict[str, str], tmp_path: Path, program: str) -> None:
    """Each of its programs ends with one sentence."""
    done = run(torchless, tmp_path, "-m", f"benchmarks.kernels.{program}")
    assert (done.returncode, done.stderr) == (1, f"benchmarks.kernels needs torch, {GPU}\n")


def test_the_doctor_needs_none(torchless: dict[str, str], tmp_path: Path) -> None:
    """Its absence is no problem, and the engines' line names the extra."""
    done = run(torchless, tmp_path, "-m", "streamer", "doctor", "--json", "--port", "0")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["engines"]["status"] == "ok" and not findings["engines"]["facts"]["cuda"]
    assert f"no CUDA: CUDA needs torch, {GPU}" in findings["engines"]["detail"]
    assert findings["extras"]["facts"]["gpu"] is False
    assert findings["versions"]["status"] == "ok"


def test_only_extras_ask_for_torch() -> None:
    """No dependency brings torch or Triton, not by others either; the extras that the errors name do."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, brought = [*project["dependencies"]], set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in brought or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        brought.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):  # one of another system
            waiting += metadata.requires(name) or ()
    assert {"numpy", "cffi"} <= brought and not brought & {"torch", "triton"}
    for extra in ("gpu", "train", "test"):
        assert any(line.startswith("torch==2.13.0") for line in project["optional-dependencies"][extra]), extra


class TestImportExtra:
    def test_installed(self) -> None:
        """A module that is installed is imported and returned."""
        assert import_extra("numpy", "train", "training") is np

    def test_missing(self) -> None:
        """The message says what is missing, what needs it, and how to install it."""
        with pytest.raises(
            NotInstalled, match=r"^x needs no_such, which is not installed: pip install 'lipstream\[y\]'$"
        ):
            import_extra("no_such", "y", "x")

    def test_incomplete(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A module whose own dependency is missing, and one whose library cannot be loaded, have their own reasons."""
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "lacks_some.py").write_text("import no_such_part\n")
        (tmp_path / "cannot_load.py").write_text("raise OSError('libx.so: cannot open shared object file\\nmore')\n")
        with pytest.raises(NotInstalled, match=r"needs lacks_some, whose no_such_part is not installed: pip install"):
            import_extra("lacks_some", "y", "x")
        with pytest.raises(NotInstalled, match=r"which cannot be imported: libx\.so: cannot open shared object file$"):
            import_extra("cannot_load", "y", "x")
