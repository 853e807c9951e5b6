"""What drawing costs on this machine, and whether the neural generator holds 25 frames a second beside other load.

A generator that is fast enough on an idle machine may not be beside a browser, which shows what is drawn and keeps a
core busy. So it is measured beside a process that does: in a process of its own, since a server that ends up with rigs
is not to load networks and their engines. The times are remembered in the user's cache folder, under what they depend
on; the verdict is always taken anew from the times.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from streamer import __version__
from streamer.audio.vad import Vad
from streamer.avatar.avatar import Avatar
from streamer.avatar.characters import Characters
from streamer.avatar.renderer import Renderer, RendererBackend
from streamer.base import clock, resources
from streamer.base.constants import DEFAULT_SIZES, FPS, SAMPLES_PER_FRAME, SIZES
from streamer.base.errors import NotInstalled
from streamer.base.frames import Step
from streamer.base.resources import cache_folder
from streamer.motion.articulation import Articulation, ArticulationModel
from streamer.motion.idle import IdleMotion

COMFORTABLE = 0.7
"""Share of the time between two frames that drawing one may take: the rest is for all else."""

_WEIGHTS = resources.WEIGHTS / "nano.safetensors"
_WARM = 10  # first frames that do not count
_FRAMES = 75  # that do: 3 s
_ROUNDS = 2  # at most: what else runs for a moment, as something that was just installed, is to decide nothing
_FEWEST = 20  # of a file that is believed
_TRIED = 6  # frames that a renderer's cost is taken from at start
_TIMEOUT = 300.0  # seconds that measuring may take: an engine may have to compile its networks first
_LONGEST_LOAD = 30.0  # seconds after which the busy process ends by itself


class NotMeasured(RuntimeError):
    """The neural generator could not be measured; the text says why."""


# Costs --------------------------------------------------------------------------------------------------------------


def frame_times(listener: ArticulationModel, rig: Renderer, frames: int, interval: float = 0.0) -> list[float]:
    """
    Seconds that hearing and drawing take for each of so many frames, which begin `interval` seconds apart or as soon
    as the one before is done. Closes the rig. Blocking.
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
    """
    Seconds that a frame takes by (renderer, size): each renderer that can draw here is measured at its default size on
    a character of its kind. It also warms up what the first session would otherwise wait for. Blocking.
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
    """Frames of the neural generator at its default size, one after the other, at 25 a second."""

    device: str
    """Where they were drawn: "cpu", beside a busy core, or "cuda"."""

    seconds: tuple[float, ...]
    """That each of them took."""

    @property
    def typical(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def slow(self) -> float:
        """The 95th percentile, in seconds."""
        return float(np.percentile(self.seconds, 95))

    def holds(self, relative: float = 1.0) -> bool:
        """
        Whether frames that cost so many times as much come 25 times a second: the median leaves time for all else that
        a session needs, and of twenty frames at most one takes longer than there is until the next.
        """
        return relative * self.typical <= COMFORTABLE / FPS and relative * self.slow <= 1 / FPS

    def __str__(self) -> str:
        beside = "" if self.device == "cuda" else " beside a busy core"
        return (
            f"{1000 * self.typical:.0f} ms a frame{beside}, {1000 * self.slow:.0f} at the 95th percentile, where "
            f"{FPS} frames a second want at most {1000 * COMFORTABLE / FPS:.0f} and {1000 / FPS:.0f}"
        )


# What is remembered -------------------------------------------------------------------------------------------------


def _cpu() -> str:
    """The processor's own name for itself, or what the system says instead."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def circumstances(device: str) -> dict[str, str]:
    """All that the times depend on, without importing any of it. Raises FileNotFoundError where weights are missing."""
    return {
        "cpu": _cpu(),
        "cores": str(_cores()),
        "device": device,
        "nvidia": str(os.path.exists("/dev/nvidiactl") or shutil.which("nvidia-smi") is not None),
        "lipstream": __version__,
        "weights": hashlib.sha256(_WEIGHTS.read_bytes()).hexdigest()[:16],
        **{package: _version(package) for package in ("torch", "openvino")},
    }


def memory(given: dict[str, str], folder: Path | None = None) -> Path:
    """The file of the cache `folder`, by default the user's, that the times under these circumstances are kept in."""
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]
    return (folder or cache_folder()) / f"capacity-{digest}.json"


def recall(given: dict[str, str], path: Path) -> Measured | None:
    """What `remember` wrote under the same circumstances; None where it did not, or the file is not whole."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["circumstances"] != given or kept["drawn_on"] not in ("cpu", "cuda"):
            return None
        seconds = tuple(map(float, kept["seconds"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    whole = len(seconds) >= _FEWEST and all(math.isfinite(one) and one > 0 for one in seconds)
    return Measured(kept["drawn_on"], seconds) if whole else None


def remember(given: dict[str, str], path: Path, measured: Measured) -> None:
    """Writes the file whole or not at all; that it cannot be written is no failure."""
    text = json.dumps({"circumstances": given, "drawn_on": measured.device, "seconds": measured.seconds}, indent=1)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="making-") as place:
            ready = Path(place, "ready")
            ready.write_text(text, encoding="utf-8")
            os.replace(ready, path)


def known_or_measured(given: dict[str, str], path: Path, tell: Callable[[str], None]) -> Measured:
    """
    What is remembered, or is measured and remembered now, which is told first. That it does not keep up on a crowded
    machine holds for this start only. Blocking. Raises NotMeasured.
    """
    if (measured := recall(given, path)) is None:
        tell("measuring once, for up to a minute, whether the neural generator keeps up here beside a browser")
        disturbed = crowded()
        measured = measure(given["device"])
        if measured.holds() or not disturbed:
            remember(given, path, measured)
    return measured


def crowded() -> bool:
    """Whether more wants to run at present than this machine has cores for. False where the system does not say."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > _cores()


# Measuring ----------------------------------------------------------------------------------------------------------


def measure(device: str, timeout: float = _TIMEOUT) -> Measured:
    """Has a process of its own measure the neural generator on a device of constants.DEVICES. Blocking.

    Raises NotMeasured.
    """
    paths = [str(Path(__file__).resolve().parent.parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "streamer.avatar.capacity", device]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"measuring it took more than {timeout:.0f} s") from None
    except OSError as error:
        raise NotMeasured(f"no process to measure it in could be started: {error}") from None
    lines = ended.stdout.splitlines() or [""]
    try:
        found = json.loads(lines[-1])
        return Measured(str(found["device"]), tuple(map(float, found["seconds"])))
    except (ValueError, LookupError, TypeError):
        reason = next(reversed(ended.stderr.splitlines()), "it said nothing")
        raise NotMeasured(f"measuring it ended with status {ended.returncode}: {reason}") from None


_BUSY = """
import os, sys, time
parent, end = os.getppid(), time.monotonic() + float(sys.argv[1])
print(flush=True)
while time.monotonic() < end and os.getppid() == parent:
    pass
"""


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Another process keeps one core busy meanwhile; it ends with this one, and after a while by itself."""
    command = [sys.executable, "-S", "-c", _BUSY, str(_LONGEST_LOAD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            yield
        finally:
            process.kill()


def main(arguments: Sequence[str]) -> int:
    """Measures here, and prints what `measure` reads."""
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
    # A device's own time does not depend on what keeps a core of the CPU busy.
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
