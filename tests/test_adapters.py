"""What can be said of the adapters without the packages they are for; tests/adapters runs them against those."""

import importlib
import sys

import pytest


@pytest.mark.parametrize("name", ["livekit", "pipecat"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"streamer.adapters.{name}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'lipstream\[{name}\]'"):
        importlib.import_module(f"streamer.adapters.{name}")


def test_the_extras_that_the_errors_name_exist() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert {"livekit", "pipecat"} <= project["optional-dependencies"].keys()
    assert not any("livekit" in line or "pipecat" in line for line in project["optional-dependencies"]["test"])
