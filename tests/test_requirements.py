"""The tests need what the README's command and CI's script install, and nothing that happens to be on a machine."""

import ast
import contextlib
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

OPTIONAL_MODULES = {
    "benchmarks": {"mediapipe"},  # judges pictures where it is installed (benchmarks/README.md)
    "clients": {"sounddevice"},  # the Python client's extra `microphone`
    "tests": {"livekit", "pipecat"},  # tests/adapters/run installs them, in environments of their own
}
OPTIONAL_COMMANDS = {
    "espeak-ng",  # a bot's voice and the training set's
    "ffmpeg",  # publishes by SRT and TLS
    "firefox",  # where a system has no firefox-esr
    "flite",  # the training set's
    "git",  # names the commit in reports
    "google-chrome",  # where a system has no chromium
    "promtool",  # parses the dashboard's expressions
}
"""Where these are missing, what needs them is skipped with a reason."""


def _name(requirement: str) -> str:
    """The normalized name in a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


def _installed() -> set[str]:
    """The distributions that `pip install -e '.[test]'` asks for, and those that these ask for in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {_name(line) for line in (*project["dependencies"], *project["optional-dependencies"]["test"])}
    brought = set(asked)
    for name in asked:
        with contextlib.suppress(metadata.PackageNotFoundError):  # one of another system
            brought |= {_name(line) for line in metadata.requires(name) or () if "extra ==" not in line}
    return brought


def _imported(path: Path) -> set[str]:
    """The top names of the modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def _own() -> set[str]:
    """Modules and packages of the tree itself."""
    paths = [path for name in ("benchmarks", "clients", "examples", "tests") for path in (ROOT / name).rglob("*.py")]
    return {"streamer", "avatar_kernels"} | {path.stem for path in paths} | {path.parent.name for path in paths}


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "clients", "examples"])
def test_what_is_imported_comes_with_the_test_extra(folder: str) -> None:
    """Each module comes from the standard library, the tree, or a distribution that the README's command installs."""
    known = metadata.packages_distributions()
    installed = _installed()
    missing = {}
    for path in (ROOT / folder).rglob("*.py"):
        for name in _imported(path) - sys.stdlib_module_names - _own() - OPTIONAL_MODULES.get(folder, set()):
            if not installed & {_name(distribution) for distribution in known.get(name, ())}:
                missing[str(path.relative_to(ROOT))] = name
    assert not missing, missing


def test_commands_that_are_looked_for_are_installed() -> None:
    """Each command that a test or a benchmark looks for is one that CI installs, or one that it does without."""
    installed = set(re.findall(r"command -v ([\w-]+)", (ROOT / ".ci" / "run").read_text()))
    paths = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    wanted = {name for path in paths for name in re.findall(r"\bwhich\(\"([^\"]+)\"\)", path.read_text())}
    assert {"chromium", "firefox-esr"} <= wanted & installed
    assert wanted - OPTIONAL_COMMANDS == installed
