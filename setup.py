"""Adds the web clients to the distributions: `clients/`, beside the package, becomes `streamer/clients/` in a wheel.

Everything else about the distribution is in pyproject.toml.
"""

import shutil
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build

SERVED = ("page", "element", "obs")
"""Folders of `clients/` that the server serves."""


class BuildClients(Command):
    """Copies what the server serves into the built package. An editable installation serves the checkout's files."""

    description = "copy the web clients into the package"
    user_options: ClassVar[list[tuple]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def get_source_files(self) -> list[str]:
        files = (path for folder in SERVED for path in Path("clients", folder).rglob("*"))
        return sorted(path.as_posix() for path in files if path.is_file() and not path.name.startswith("."))

    def get_output_mapping(self) -> dict[str, str]:
        return {f"{self.build_lib}/streamer/{file}": file for file in self.get_source_files()}

    def get_outputs(self) -> list[str]:
        return list(self.get_output_mapping())

    def run(self) -> None:
        if self.editable_mode:
            return
        assert self.build_lib is not None
        # setuptools keeps this folder between builds, and packs modules that have since been moved or deleted.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        for target, source in self.get_output_mapping().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)


build.sub_commands.insert(0, ("build_clients", None))  # before build_py, because it empties the folder
setup(cmdclass={"build_clients": BuildClients})
