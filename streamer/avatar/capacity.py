"""Measures what drawing costs on this machine, and whether the neural generator sustains 25 fps under other load.

A generator that is fast enough on an idle machine may be too slow next to a browser that shows the result and keeps a
core busy. The measurement therefore runs alongside a process that keeps one core busy. It runs in a separate process,
because a server that ends up using the rigs should not load networks and their engines. The times are stored in the
user's cache folder under everything they depend on; the verdict is always recomputed from the times.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from streamer import __version__
from streamer.audio.vad import Vad
from streamer.avatar.avatar import Avatar
from streamer.avatar.characters import Characters
from streamer.avatar.machine import busy_core, cores
from streamer.avatar.renderer import Renderer, RendererBackend
from streamer.base import clock, resources
from streamer.base.constants import DEFAULT_SIZES, FPS, SAMPLES_PER_FRAME, SIZES
from streamer.base.errors import NotInstalled
from streamer.base.frames import Step
from streamer.base.resources import cache_folder
from streamer.motion.articulation import Articulation, ArticulationModel
from streamer.motion.idle import IdleMotion

COMFORTABLE = 0.7
"""Maximum share of a frame interval that drawing may take; the rest is for everything else."""

_WEIGHTS = resources.WEIGHTS / "nano.safetensors"
_WARM = 10  # warm-up frames, not counted
_FRAMES = 75  # counted frames: 3 s
_ROUNDS = 2  # at most; a second round keeps short-lived load, such as an installation, from deciding
_FEWEST = 20  # times that a stored measurement must contain
_TRIED = 6  # frames by which a renderer's cost is estimated at start
_TIMEOUT = 300.0  # seconds that measuring may take, including compiling the networks


class NotMeasured(RuntimeError):
    """The neural generator could not be measured; the message gives the reason."""


# Costs --------------------------------------------------------------------------------------------------------------


def frame_times(listener: ArticulationModel, rig: Renderer, frames: int, interval: float = 0.0) -> list[float]:
    """Measures the seconds that processing and drawing take for each of `frames` frames.

    Frames start `interval` seconds apart, or when the previous one is done if that is later. Closes the rig. Blocking.
    """
    avatar, rng = Avatar(listener, rig, IdleMotion(0), Vad()), np.random.default_rng(0)
    seconds = []
    try:
        due = clock.now()
        for frame in range(frames):
            if (ahead := due - clock.now()) > 0:
                time.sleep(ahead)
            began = clock.now()
            samples = 0.05 * rng.standard_normal(SAMPLES_PER_FRAME)
            controls, _ = avatar.hear(Step(frame, 0, samples.astype(np.float32)))
            avatar.draw(controls, frame / FPS)
            seconds.append(clock.now() - began)
            due = max(due + interval, clock.now() - interval)
    finally:
        avatar.close()
    return seconds


def frame_costs(
    generator: RendererBackend, listener: ArticulationModel, characters: Characters
) -> dict[tuple[str, int], float]:
    """Estimates the seconds per frame by (renderer, size).

    Each renderer that the backend uses is measured at its default size. This also performs the warm-up for which the
    first session would otherwise wait. Blocking.
    """
    costs: dict[tuple[str, int], float] = {}
    for entry in characters.samples():
        renderer = generator.renderer_name(entry)
        if (renderer, SIZES[0]) in costs:
            continue
        rig = generator.create_renderer(entry, DEFAULT_SIZES[renderer], True)
        typical = sorted(frame_times(listener, rig, _TRIED))[_TRIED // 2]
        for size in SIZES:
            costs[renderer, size] = typical * generator.relative_cost(renderer, size)
    return costs


# The verdict --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Frame times of the neural generator at its default size and 25 fps."""

    device: str
    """Where the frames were drawn: "cpu" (with another core kept busy) or "cuda"."""

    seconds: tuple[float, ...]
    """Time of each frame."""

    @property
    def typical(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def slow(self) -> float:
        """The 95th percentile, in seconds."""
        return float(np.percentile(self.seconds, 95))

    def holds(self, relative: float = 1.0) -> bool:
        """Whether frames that cost `relative` times as much sustain 25 fps.

        The median must leave time for the rest of a session's work, and the 95th percentile must fit a frame interval.
        """
        return relative * self.typical <= COMFORTABLE / FPS and relative * self.slow <= 1 / FPS

    def __str__(self) -> str:
        beside = "" if self.device == "cuda" else " beside a busy core"
        return (
            f"{1000 * self.typical:.0f} ms a frame{beside}, {1000 * self.slow:.0f} at the 95th percentile; "
            f"{FPS} frames a second need at most {1000 * COMFORTABLE / FPS:.0f} and {1000 / FPS:.0f}"
        )


# Stored measurements ------------------------------------------------------------------------------------------------


def _cpu() -> str:
    """The CPU's model name, or the closest description that the system gives."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def circumstances(device: str) -> dict[str, str]:
    """Everything the times depend on, found without importing it. Raises FileNotFoundError if weights are missing."""
    return {
        "cpu": _cpu(),
        "cores": str(cores()),
        "device": device,
        "nvidia": str(os.path.exists("/dev/nvidiactl") or shutil.which("nvidia-smi") is not None),
        "lipstream": __version__,
        "weights": hashlib.sha256(_WEIGHTS.read_bytes()).hexdigest()[:16],
        **{package: _version(package) for package in ("openvino", "onnxruntime", "torch")},
    }


def memory(given: dict[str, str], folder: Path | None = None) -> Path:
    """The file that stores the times measured under these circumstances, in `folder` or the user's cache folder."""
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]
    return (folder or cache_folder()) / f"capacity-{digest}.json"


def recall(given: dict[str, str], path: Path) -> Measured | None:
    """The measurement that `remember` wrote under the same circumstances; None if there is none or it is invalid."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["circumstances"] != given or kept["drawn_on"] not in ("cpu", "cuda"):
            return None
        seconds = tuple(map(float, kept["seconds"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    valid = len(seconds) >= _FEWEST and all(math.isfinite(one) and one > 0 for one in seconds)
    return Measured(kept["drawn_on"], seconds) if valid else None


def remember(given: dict[str, str], path: Path, measured: Measured) -> None:
    """Writes the file atomically. Failing to write it is not an error."""
    text = json.dumps({"circumstances": given, "drawn_on": measured.device, "seconds": measured.seconds}, indent=1)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="making-") as place:
            ready = Path(place, "ready")
            ready.write_text(text, encoding="utf-8")
            os.replace(ready, path)


def known_or_measured(given: dict[str, str], path: Path, tell: Callable[[str], None]) -> Measured:
    """Returns the stored measurement, or measures and stores one, announcing it first through `tell`.

    A negative result on a machine busy with other work is not stored. Blocking. Raises NotMeasured.
    """
    if (measured := recall(given, path)) is None:
        tell("measuring once, for up to a minute, whether the neural generator is fast enough here next to a browser")
        disturbed = crowded()
        measured = measure(given["device"])
        if measured.holds() or not disturbed:
            remember(given, path, measured)
    return measured


def crowded() -> bool:
    """Whether the load average exceeds the number of cores. False if the system does not report it."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > cores()


# Measuring ----------------------------------------------------------------------------------------------------------


def measure(device: str, timeout: float = _TIMEOUT) -> Measured:
    """Measures the neural generator on one of constants.DEVICES in a subprocess. Blocking. Raises NotMeasured."""
    paths = [str(Path(__file__).resolve().parent.parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "streamer.avatar.capacity", device]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"measuring the neural generator took more than {timeout:.0f} s") from None
    except OSError as error:
        raise NotMeasured(f"the process that measures the neural generator could not be started: {error}") from None
    lines = ended.stdout.splitlines() or [""]
    try:
        found = json.loads(lines[-1])
        return Measured(str(found["device"]), tuple(map(float, found["seconds"])))
    except (ValueError, LookupError, TypeError):
        reason = next(reversed(ended.stderr.splitlines()), "it printed no error")
        raise NotMeasured(f"measuring the neural generator ended with status {ended.returncode}: {reason}") from None


def main(arguments: Sequence[str]) -> int:
    """Measures in this process, and prints the JSON line that `measure` reads."""
    from streamer.avatar.neural import NeuralBackend

    (device,) = arguments
    try:
        generator = NeuralBackend.load(device=device, sessions=1)
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 1
    characters = Characters()
    entry, listener = characters.get(characters.default), Articulation.load()
    rounds: list[Measured] = []
    # A busy CPU core does not affect the GPU's frame times.
    with contextlib.nullcontext() if generator.device == "cuda" else busy_core():
        while len(rounds) < _ROUNDS and not (rounds and rounds[-1].holds()):
            rig = generator.create_renderer(entry, DEFAULT_SIZES["neural"], True)
            seconds = frame_times(listener, rig, _WARM + _FRAMES, 1 / FPS)[_WARM:]
            rounds.append(Measured(generator.device, tuple(seconds)))
    best = min(rounds, key=lambda measured: measured.typical)
    print(json.dumps({"device": best.device, "seconds": [round(one, 6) for one in best.seconds]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
