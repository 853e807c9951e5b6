"""docs/architecture.md names what is in the tree."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text() if PAGE.exists() else ""
PATH = re.compile(r"`((?:streamer|kernels|clients|benchmarks|examples|tests)/[\w./-]*)`")
PLACED = re.compile(r"`(streamer/[\w/]+\.py)` ((?:`[\w.]+`(?:, )?)+)")


def _names(path: Path) -> set[str]:
    """Top-level classes and functions of a module, and `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


def test_every_path_exists() -> None:
    """Each file and folder that the page names."""
    paths = PATH.findall(TEXT)
    assert len(paths) > 50
    for path in paths:
        assert (ROOT / path).exists(), f"docs/architecture.md names {path}"


def test_every_placed_name_is_there() -> None:
    """A name beside a file is defined in that file."""
    placed = PLACED.findall(TEXT)
    assert len(placed) > 20
    for path, names in placed:
        for name in re.findall(r"`([\w.]+)`", names):
            assert name in _names(ROOT / path), f"docs/architecture.md: {path} has no {name}"


def test_every_other_name_is_somewhere() -> None:
    """Any class that the page names is one of the tree's."""
    defined: set[str] = set()
    for path in (ROOT / "streamer").rglob("*.py"):
        defined |= _names(path)
    for name in re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]*)*(?:\.\w+)?)`", TEXT):
        assert name in defined, f"docs/architecture.md names {name}"


def test_every_room_is_described() -> None:
    """The table of rooms is the folders of `streamer/`, less weights and names that moved."""
    rows = set(re.findall(r"^\| `streamer/(\w+)/` \|", TEXT, re.M))
    folders = {path.parent.name for path in (ROOT / "streamer").glob("*/__init__.py")} - {"adapters"}
    assert rows == folders


@pytest.mark.parametrize("walk", ["A microphone packet", "A bot's message", "An uploaded picture"])
def test_the_walks_are_whole(walk: str) -> None:
    """Each walk numbers its hops from 1 without a gap."""
    part = TEXT.split(f"## {walk}\n")[1].split("\n## ")[0]
    hops = [int(number) for number in re.findall(r"^\| (\d+) \|", part, re.M)]
    assert hops == list(range(1, len(hops) + 1)) and len(hops) >= 7
