"""`lipstream doctor`: shows what this machine supports, as a table, or as JSON for a bug report.

Each check examines one thing and never fails itself: an exception becomes its result.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any, Literal

from streamer import __version__
from streamer.base.constants import DEFAULT_SIZES, FPS
from streamer.base.errors import NotInstalled
from streamer.base.extras import import_extra
from streamer.base.resources import PACKAGE, WEIGHTS, cache_folder, clients

LIBRARIES = (
    "aiortc", "av", "fastapi", "numpy", "onnxruntime", "opencv-python-headless", "openvino", "pydantic-settings",
    "thorvg-python", "torch", "uvicorn",
)  # fmt: skip
OPTIONAL = ("openvino", "torch")
"""Not installed by default, or not on every system."""
EXTRAS = {
    "c2pa": ("c2pa", "content credentials on recordings"),
    "gpu": ("torch", "the neural generator on CUDA"),
    "heic": ("pi_heif", "HEIC pictures"),
    "livekit": ("livekit.agents", "LiveKit Agents"),
    "pipecat": ("pipecat", "Pipecat"),
    "train": ("pocketsphinx", "training"),
}
_UDP_TRIED = 50
"""Maximum number of ports tried in a range."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    status: Literal["ok", "note", "problem"]
    """`note`: something optional is missing or limited; `problem`: lipstream does not work as it should."""
    detail: str
    facts: dict[str, Any]
    """The result as data, for programs."""


def _ok(name: str, detail: str, **facts: Any) -> Finding:
    return Finding(name, "ok", detail, facts)


def _note(name: str, detail: str, **facts: Any) -> Finding:
    return Finding(name, "note", detail, facts)


def _problem(name: str, detail: str, **facts: Any) -> Finding:
    return Finding(name, "problem", detail, facts)


# The checks ---------------------------------------------------------------------------------------------------------


def _versions() -> Finding:
    found: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = None
    missing = [name for name, version in found.items() if version is None and name not in OPTIONAL]
    facts = {"lipstream": __version__, "python": platform.python_version(), "libraries": found}
    if missing:
        return _problem("versions", f"missing: {', '.join(missing)}; run `pip install lipstream`", **facts)
    told = ("onnxruntime", "openvino", "torch", "aiortc", "av")
    shown = ", ".join(f"{name} {found[name]}" for name in told if found[name])
    return _ok("versions", f"lipstream {__version__}, Python {platform.python_version()}, {shown}", **facts)


def _machine() -> Finding:
    from streamer.avatar import capacity

    given = capacity.circumstances("auto")
    memory = None
    if hasattr(os, "sysconf"):
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    facts = {"system": platform.platform(), "cpu": given["cpu"], "cores": int(given["cores"]), "memory_gb": memory}
    text = f"{given['cpu']}, {given['cores']} cores, {memory} GB, {platform.platform()}"
    if capacity.crowded():
        return _note("machine", f"{text}; load {load:.1f}: other programs are using the processor", load=load, **facts)
    return _ok("machine", text, load=load, **facts)


def _files() -> Finding:
    missing = [
        str(path) for path in (WEIGHTS / "nano.safetensors", WEIGHTS / "articulation.onnx") if not path.is_file()
    ]
    if not (clients() / "page" / "index.html").is_file():
        missing.append(str(clients() / "page"))
    if missing:
        return _problem("files", f"missing: {', '.join(missing)}; reinstall lipstream", missing=missing)
    return _ok("files", f"page and weights are installed in {PACKAGE}", missing=[])


def _cache() -> Finding:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder):
            pass
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError as error:
        text = f"{folder} is not writable ({error.strerror}): every start repeats measuring and compiling"
        return _note("cache", text, folder=str(folder), writable=False)
    return _ok("cache", f"{folder}, {size / 1e6:.1f} MB", folder=str(folder), writable=True, bytes=size)


def _rigs() -> Finding:
    from streamer.avatar.backends import create
    from streamer.avatar.capacity import crowded, frame_costs
    from streamer.avatar.characters import Characters
    from streamer.motion.articulation import Articulation

    costs = frame_costs(create("rig"), Articulation.load(), Characters())
    times = {name: round(1000 * costs[name, size], 1) for name, size in DEFAULT_SIZES.items() if (name, size) in costs}
    shown = ", ".join(f"{name.replace('_', ' ')} {ms} ms" for name, ms in times.items())
    text = f"{shown} a frame at {DEFAULT_SIZES['studio_rig']}×{DEFAULT_SIZES['studio_rig']}, one core"
    if max(times.values()) > 1000 / FPS:
        if crowded():
            return _note("rigs", f"{text}, while other programs run: run this again without them", ms_a_frame=times)
        return _problem("rigs", f"{text}: too slow for {FPS} frames a second; choose a smaller size", ms_a_frame=times)
    return _ok("rigs", text, ms_a_frame=times)


def _neural(measure: bool) -> Finding:
    from streamer.avatar import capacity

    given = capacity.circumstances("auto")
    path = capacity.memory(given)
    try:
        measured = capacity.known_or_measured(given, path, _say) if measure else capacity.recall(given, path)
    except capacity.NotMeasured as error:
        return _note("neural generator", f"cannot be measured: {error}; the rigs draw", holds=False, reason=str(error))
    if measured is None:
        text = "not measured yet: run `lipstream doctor --measure`, or start with --generator auto"
        return _note("neural generator", text, holds=None)
    facts = {
        "holds": measured.holds(),
        "device": measured.device,
        "ms_a_frame": {"median": round(1000 * measured.typical, 1), "p95": round(1000 * measured.slow, 1)},
    }
    if measured.holds():
        return _ok("neural generator", f"fast enough for the studio's characters: {measured}", **facts)
    return _note("neural generator", f"too slow here, so the rigs draw: {measured}", **facts)


def _engines() -> Finding:
    openvino, triton = (find_spec(name) is not None for name in ("openvino", "triton"))
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    card, reason = _card()
    facts = {
        "cuda": reason is None,
        "cuda_reason": reason,
        "openvino": openvino,
        "triton": triton,
        "c_compiler": compiler,
    }
    cpu = "OpenVINO" if openvino else "onnxruntime (slower than OpenVINO, which is not installed)"
    if reason is None:
        kernels = "Triton kernels" if triton and compiler else "PyTorch's attention (Triton needs a C compiler)"
        return _ok("engines", f"CUDA on {card} with {kernels}; on the CPU {cpu}", card=card, **facts)
    return _ok("engines", f"on the CPU {cpu}; no CUDA: {reason}", **facts)


def _card() -> tuple[str | None, str | None]:
    """The name of the card that CUDA uses, or why it cannot be used."""
    try:
        import_extra("torch", "gpu", "CUDA")
    except NotInstalled as error:
        return None, str(error)
    from streamer.model.runtime.cuda import card, why_no_cuda

    reason = why_no_cuda()
    return (card() if reason is None else None), reason


def _browser() -> Finding:
    found = {}
    for name, commands in (
        ("chromium", ("chromium", "chromium-browser", "google-chrome")),
        ("firefox", ("firefox", "firefox-esr")),
    ):
        path = os.environ.get(f"LIPSTREAM_{name.upper()}") or next(filter(None, map(shutil.which, commands)), None)
        found[name] = _version_of(path) if path else None
    present = [version for version in found.values() if version]
    if not present:
        return _note("browser", "no browser on the path: only `lipstream bench` and the tests need one", **found)
    return _ok("browser", ", ".join(present), **found)


def _version_of(path: str) -> str:
    try:
        run = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return path
    return run.stdout.strip().splitlines()[-1] if run.stdout.strip() else path


def _ports(host: str, port: int, udp: tuple[int, int] | None) -> Finding:
    from streamer.server.startup import bind_for_a_moment

    facts: dict[str, Any] = {"host": host, "port": port, "udp_ports": udp}
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bind_for_a_moment(host, port)
    except OSError as error:
        return _problem("ports", f"TCP {host}:{port}: {error.strerror}; choose another port with --port", **facts)
    taken = []
    first, last = udp or (0, 0)
    for number in range(first, min(last, first + _UDP_TRIED - 1) + 1):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as tried:
                tried.bind(("", number))
        except OSError:
            taken.append(number)
    text = f"TCP {host}:{port} is free"
    if udp is None:
        return _ok("ports", f"{text}; the operating system chooses UDP ports", **facts)
    if taken:
        return _note("ports", f"{text}; {len(taken)} UDP ports from {taken[0]} on are in use", taken=taken, **facts)
    return _ok("ports", f"{text}; UDP {first}-{last} can be bound", taken=[], **facts)


def _ice(config: Any) -> Finding:
    from streamer.rtc.aiortc_internals import local_addresses

    addresses = [config.public_ip] if config.public_ip else local_addresses(config.loopback)
    servers = [url for server in config.ice_servers for url in server["urls"]]
    servers += list(config.turn.urls) if config.turn else []
    facts = {"addresses": addresses, "servers": servers}
    if not addresses:
        return _problem("ICE", "no network address to offer: no client can connect", **facts)
    text = f"offers {', '.join(addresses)}; {', '.join(servers) or 'no STUN or TURN server'}"
    if not config.loopback and not config.public_ip and not servers:
        return _note("ICE", f"{text}: clients behind another NAT need --public-ip or --turn-url", **facts)
    return _ok("ICE", text, **facts)


def _tools() -> Finding:
    found = {name: shutil.which(name) for name in ("ffmpeg",)}
    if found["ffmpeg"] is None:
        return _note("tools", "no ffmpeg: only --publish srt:// may need it", **found)
    return _ok("tools", f"ffmpeg at {found['ffmpeg']}", **found)


def _extras() -> Finding:
    present = {}
    for extra, (module, _) in EXTRAS.items():
        try:
            present[extra] = find_spec(module) is not None
        except ModuleNotFoundError:  # the parent package is missing
            present[extra] = False
    on = [extra for extra, there in present.items() if there]
    off = [f"{extra} ({EXTRAS[extra][1]})" for extra, there in present.items() if not there]
    return _ok("extras", f"installed: {', '.join(on) or 'none'}; not installed: {', '.join(off) or 'none'}", **present)


# Running the checks ---------------------------------------------------------------------------------------------------


def examine(given: argparse.Namespace) -> Iterator[Finding]:
    """Runs all checks, yielding each finding as it is available."""
    from streamer.server.config import ServerConfig
    from streamer.server.options import read_options

    config = ServerConfig()
    try:
        reading = read_options(given)
        config = reading.options.config()
        unknown = list(reading.unknown)
        if unknown:
            yield _note("options", f"not server options: {', '.join(unknown)}", unknown=unknown)
        else:
            given_by = sorted(set(reading.origins.values())) or ["defaults"]
            yield _ok("options", f"from {', '.join(given_by)}", origins=reading.origins)
    except ValueError as error:
        yield _problem("options", str(error))
    checks: dict[str, Callable[[], Finding]] = {
        "versions": _versions,
        "machine": _machine,
        "files": _files,
        "cache": _cache,
        "rigs": _rigs,
        "engines": _engines,
        "neural generator": lambda: _neural(given.measure),
        "browser": _browser,
        "ports": lambda: _ports(config.host, config.port, config.udp_ports),
        "ICE": lambda: _ice(config),
        "tools": _tools,
        "extras": _extras,
    }
    for name, check in checks.items():
        try:
            yield check()
        except Exception as error:
            yield _problem(name, f"{type(error).__name__}: {error}")


def _say(text: str) -> None:
    print(f"lipstream: {text}", file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    from streamer.server import options

    parser = argparse.ArgumentParser(
        prog="lipstream doctor",
        description="Show what this machine supports, and check the options of `lipstream serve`.",
        usage="lipstream doctor [--json] [--measure] [SERVER OPTIONS]",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for a bug report")
    parser.add_argument("--measure", action="store_true", help="measure the neural generator now, for up to a minute")
    options.add_arguments(parser)
    given = parser.parse_args(arguments)
    findings = []
    mark = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
    for finding in examine(given):
        findings.append(finding)
        if not given.json:
            print(f"{finding.name:<16}  {mark[finding.status]:<7}  {finding.detail}", flush=True)
    if given.json:
        print(
            json.dumps(
                {"lipstream": __version__, "findings": [asdict(each) for each in findings]}, indent=1, default=str
            )
        )
    problems = [finding.name for finding in findings if finding.status == "problem"]
    if problems and not given.json:
        print(f"\n{len(problems)} problem{'s'[: len(problems) > 1]}: {', '.join(problems)}")
    return 1 if problems else 0
