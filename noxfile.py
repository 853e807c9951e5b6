"""The task runner: `nox` runs the quick checks, `nox -l` lists the sessions, `nox -s coverage` runs one.

Each session has its own environment. Set PIP_INDEX_URL or UV_TORCH_BACKEND to use torch's CPU wheels.
"""

import os
import re
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]

PURE = [
    "streamer/audio/*",
    "streamer/avatar/admission.py",
    "streamer/base/*",
    "streamer/media/av_sync.py",
    "streamer/media/frame_stamp.py",
    "streamer/media/packed_alpha.py",
    "streamer/media/rate_control.py",
    "streamer/motion/*",
    "streamer/rtc/sdp.py",
    "streamer/server/tokens.py",
    "streamer/server/turn.py",
    "streamer/session/messages.py",
    "clients/python/lipstream_client/errors.py",
    "clients/python/lipstream_client/protocol.py",
    "clients/python/lipstream_client/queues.py",
    "clients/python/lipstream_client/samples.py",
    "clients/python/lipstream_client/stats.py",
]
"""Modules without I/O: `mypy` is strict in them, and each must reach PURE_FLOOR."""

PURE_FLOOR = 95
FLOOR = 79
"""Percent of lines and branches, of all of it. Half of the suite reaches 79.9; raise it to what all of it does."""

CHECKED = {
    "vendor.compose-spec": ["compose.yaml"],
    "vendor.github-workflows": [".github/workflows/*.yml"],
    "vendor.github-issue-forms": [".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/feature.yml"],
    "vendor.github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "vendor.dependabot": [".github/dependabot.yml"],
}
"""Schemas from check-jsonschema for files that nothing in the checkout runs."""


def _pinned(session: nox.Session, *names: str) -> None:
    """Installs packages at the versions in requirements-dev.lock."""
    lock = (ROOT / "requirements-dev.lock").read_text()
    session.install(*(re.search(rf"^{re.escape(name)}==[^\s;]+", lock, re.M)[0] for name in names))  # type: ignore[index]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite; `nox -s tests -- tests/test_vad.py` runs a part of it."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The test suite with branch coverage, which must reach the floors: about 25 minutes on two cores."""
    session.install("-e", ".[dev]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs, success_codes=[0, 1])
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", f"--fail-under={FLOOR}")
    for pattern in PURE:
        session.run("coverage", "report", f"--include={pattern}", f"--fail-under={PURE_FLOOR}")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and formatting, and the schemas of configuration files."""
    _pinned(session, "ruff", "check-jsonschema")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    for schema, patterns in CHECKED.items():
        files = [str(path) for pattern in patterns for path in sorted(ROOT.glob(pattern))]
        if files:
            session.run("check-jsonschema", "--builtin-schema", schema, *files)


@nox.session
def types(session: nox.Session) -> None:
    """mypy over the server, the Python client, the kernels and the example; strict in the pure modules."""
    session.install("-e", ".[test]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The docs site; fails on a broken link or an unknown name in the API reference."""
    session.install(".[docs]")
    session.run("mkdocs", "build", "--strict", "--site-dir", session.create_tmp(), env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def wheel(session: nox.Session) -> None:
    """Builds sdist and wheel, installs only the wheel in an empty environment, and runs a character there."""
    session.install("build")
    out = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(out / "dist"))
    (built,) = (out / "dist").glob("lipstream-*.whl")
    session.run("python", "-m", "venv", "--clear", str(out / "venv"))
    python = out / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    session.run(str(python), "-m", "pip", "install", str(built), external=True)
    with session.chdir(out):
        session.run(str(python), str(ROOT / ".ci" / "smoke.py"), external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """The quick benchmark of this machine; `nox -s bench -- --help` lists others."""
    session.install("-e", ".[test]")
    session.run("lipstream", "bench", *(session.posargs or ["--quick"]))


@nox.session
def lock(session: nox.Session) -> None:
    """Refreshes requirements-dev.lock: the newest versions that pyproject.toml allows and that have wheels for Linux.

    The lock omits torch's CUDA packages, so that it also fits torch's CPU wheels. Installing torch with its
    dependencies adds them.
    """
    session.install("uv")
    out, linux = ROOT / "requirements-dev.lock", Path(session.create_tmp()) / "linux.txt"
    compile = ["uv", "pip", "compile", "pyproject.toml", "--extra=dev", "--python-version=3.11", "--upgrade"]
    compile += ["--no-header", "--no-annotate", "--quiet"]
    # A universal resolution would also choose versions that have wheels only for other systems.
    wheels = ["--python-platform=x86_64-manylinux_2_36", "--only-binary=:all:"]
    session.run(*compile, *wheels, f"--output-file={linux}")
    cuda = sorted(set(re.findall(r"^((?:nvidia|cuda)-[\w-]+)==", linux.read_text(), re.M)))
    left_out = [f"--no-emit-package={name}" for name in cuda]
    session.run(*compile, "--universal", f"--constraint={linux}", *left_out, f"--output-file={out}")
    head = "# Versions for development, on every system and Python. Refreshed by `nox -s lock`; installed by\n"
    head += "# `pip install --no-deps -r requirements-dev.lock -e .`, after torch where its CUDA packages are wanted.\n"
    out.write_text(head + out.read_text().partition("# The following packages were excluded")[0].rstrip() + "\n")
