"""The project's habits agree: one list of pure modules, one version of each tool, workflows that run what exists."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def constant(name: str) -> Any:
    """A literal of noxfile.py, which is not imported: the test extra has no nox."""
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"noxfile.py has no {name}")


def sessions() -> set[str]:
    """The names of noxfile.py's sessions."""
    functions = [n for n in ast.parse((ROOT / "noxfile.py").read_text()).body if isinstance(n, ast.FunctionDef)]
    return {f.name for f in functions if any(ast.unparse(d).startswith("nox.session") for d in f.decorator_list)}


def locked() -> dict[str, str]:
    """Package to version in requirements-dev.lock."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements-dev.lock").read_text(), re.M))


def strict() -> list[str]:
    """The modules that mypy is strict in, as patterns."""
    for override in PROJECT["tool"]["mypy"]["overrides"]:
        if override.get("disallow_untyped_defs"):
            return override["module"]
    raise AssertionError("mypy is strict in no module")


class TestPureModules:
    @pytest.mark.parametrize("pattern", constant("PURE"))
    def test_exist_and_are_strict(self, pattern: str) -> None:
        """Each pattern of pure modules matches files, and mypy is strict in all of them."""
        files = [path for path in ROOT.glob(pattern) if path.suffix == ".py"]
        assert files
        for path in files:
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            parts = parts[parts.index("lipstream_client") if "lipstream_client" in parts else 0 :]
            module = ".".join(parts).removesuffix(".__init__")
            covered = [each for each in strict() if module == each or f"{module}.".startswith(each.removesuffix("*"))]
            assert covered, module

    @pytest.mark.parametrize("pattern", strict())
    def test_strict_modules_exist(self, pattern: str) -> None:
        """mypy's patterns name what is there, so that a moved module does not silently become lax."""
        relative = pattern.removesuffix(".*").replace(".", "/")
        places = [ROOT, ROOT / "kernels", ROOT / "clients" / "python"]
        assert any((place / relative).is_dir() or (place / f"{relative}.py").is_file() for place in places)


class TestVersions:
    def test_lock_has_all_that_development_needs(self) -> None:
        """Every dependency of the package and of its dev and test extras is locked in a version that it allows."""
        extras = PROJECT["project"]["optional-dependencies"]
        wanted = [Requirement(text) for text in PROJECT["project"]["dependencies"] + extras["test"] + extras["dev"]]
        versions = locked()
        for each in wanted:
            if each.name == "lipstream":
                continue
            assert each.name in versions, f"{each.name} is not locked: run nox -s lock"
            assert each.specifier.contains(versions[each.name]), (
                f"{each} against {versions[each.name]}: run nox -s lock"
            )

    def test_lock_names_no_place(self) -> None:
        """The lock has names and versions only: it installs from wherever pip is set up to, without torch's CUDA."""
        text = (ROOT / "requirements-dev.lock").read_text()
        assert "://" not in text and "--index" not in text and " @ " not in text
        assert not [name for name in locked() if name.startswith(("nvidia-", "cuda-"))]

    def test_hooks_have_the_locks_versions(self) -> None:
        """pre-commit's packages are pinned, those that are locked in the lock's version."""
        hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        pins = [pin for repo in hooks for hook in repo["hooks"] for pin in hook.get("additional_dependencies", [])]
        assert len(pins) >= 5
        versions = locked()
        for pin in pins:
            name, _, version = pin.partition("==")
            assert version, f"{pin} is not pinned"
            assert versions.get(name, version) == version, f"{pin}, but {versions[name]} is locked"


class TestForges:
    @pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
    def test_workflows_say_that_they_never_ran(self, path: Path) -> None:
        """Each workflow says at its top that it has never been run, and may only read unless a job says more."""
        assert "never been run" in path.read_text().splitlines()[0]
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 90

    def test_workflows_run_what_exists(self) -> None:
        """Sessions and scripts that workflows run exist, and the Pythons tried are those of the task runner."""
        asked: set[str] = set()
        for path in WORKFLOWS:
            text = path.read_text()
            for line in re.findall(r"nox -s ([^\n]*)", text):
                asked |= {
                    word.strip('"').partition("-$")[0] for word in line.partition(" --")[0].split() if word[0] != "$"
                }
            for script in re.findall(r"bash (\.\S+)", text):
                assert (ROOT / script).is_file(), script
        asked = {word for word in asked if re.fullmatch(r"\w+", word)}
        assert {"lint", "types", "docs", "tests", "wheel", "coverage"} <= asked <= sessions()
        matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["matrix"]["strategy"]["matrix"]
        assert matrix["python"] == constant("PYTHONS")

    def test_bug_reports_ask_for_the_doctor(self) -> None:
        """The bug form wants the doctor's report, from a command that the program has."""
        form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())
        fields = {field["id"]: field for field in form["body"] if "id" in field}
        assert "lipstream doctor --json" in fields["doctor"]["attributes"]["label"]
        assert fields["doctor"]["validations"]["required"]
        assert "doctor" in (ROOT / "streamer" / "cli" / "main.py").read_text()

    def test_owners_name_what_exists(self) -> None:
        """Each path of CODEOWNERS is in the tree."""
        for line in (ROOT / ".github" / "CODEOWNERS").read_text().splitlines():
            if line.startswith("/"):
                assert (ROOT / line.split()[0].strip("/")).exists(), line
