"""The machine and the versions that a number was measured on: one description for all benchmarks."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("lipstream", "aiortc", "av", "numpy", "onnxruntime", "thorvg-python", "torch", "playwright")


def describe(browser: str | None = None) -> dict[str, Any]:
    """JSON-ready. `browser`: its version, where one took part."""
    return {
        "cpu": cpu_model(),
        "cores": {"logical": os.cpu_count(), "usable": usable_cores()},
        "ram_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "os": operating_system(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "browser": browser,
        "commit": commit(),
    }


def line(described: dict[str, Any]) -> str:
    """One line for tables and captions."""
    cores = described["cores"]["usable"]
    return f"{described['cpu']}, {cores} core{'s' * (cores != 1)}, {described['ram_gb']:g} GB, {described['os']}"


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may run on, which a container may have fewer of than the machine."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def commit() -> str | None:
    """The commit that is checked out, with "+" where files that git follows differ from it; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        head = _git(git, "rev-parse", "--short", "HEAD")
        # Results are written by benchmarks themselves: they do not make the measured code another.
        changed = _git(git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(git: str, *arguments: str) -> str:
    return subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def load() -> float | None:
    """Mean number of runnable processes over the last minute; None where the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
