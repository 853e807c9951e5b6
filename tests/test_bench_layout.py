"""The layout of `benchmarks/`: which folder may import which, no import circle, and modules of a readable size."""

import ast
import graphlib
from pathlib import Path

import pytest

from benchmarks.lib.paths import ROOT

FOLDER = ROOT / "benchmarks"
MAY_IMPORT = {
    "lib": {"lib"},
    **{name: {"lib", name} for name in ("latency", "quality", "kernels", "network", "pictures")},
    "report": {"lib", "report", "quality"},  # the quality benchmark's aims stand beside the rest in the report
}
"""Folders by what each may import, itself included."""

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(FOLDER.rglob("*.py"))
}


def imported(path: Path) -> set[str]:
    """The benchmarks' modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            base = node.module or ""
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return {name for name in found if name.split(".")[0] == "benchmarks" and name != "benchmarks"}


def test_folders_are_those_of_the_plan() -> None:
    """Each folder with code has its row in the table above; nothing lies beside the folders."""
    folders = {path.parent.relative_to(FOLDER).parts[:1] for path in MODULES.values()}
    assert folders == {(), *((name,) for name in MAY_IMPORT)}
    assert [path.name for path in FOLDER.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("name", [name for name in MODULES if name.count(".") > 1])
def test_imports_go_down(name: str) -> None:
    """A module imports from its own folder and from those that its folder may import."""
    allowed = MAY_IMPORT[name.split(".")[1]]
    wrong = {other for other in imported(MODULES[name]) if other.split(".")[1] not in allowed}
    assert not wrong, f"{name} imports {wrong}"


def test_no_import_circle() -> None:
    """Module by module the imports have an order."""
    graphlib.TopologicalSorter({name: imported(path) - {name} for name, path in MODULES.items()}).prepare()


def test_an_import_circle_would_be_seen() -> None:
    """The graph that is sorted holds the imports that are there."""
    assert "benchmarks.lib.session_analysis" in imported(MODULES["benchmarks.latency.mic_to_photon"])
    assert "benchmarks.quality.rows" in imported(MODULES["benchmarks.report.rows"])


def test_no_module_changes_the_import_path() -> None:
    """Absolute imports work from the checkout; nobody helps them along."""
    helped = [name for name, path in MODULES.items() if "sys.path" in path.read_text(encoding="utf-8")]
    assert not helped


def test_modules_are_readable() -> None:
    """None is longer than 500 lines."""
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 500}
    assert not long
