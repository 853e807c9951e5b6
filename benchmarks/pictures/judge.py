"""The judge: MediaPipe's attention mesh, which is not used for drawing, in its own environment.

The package requires numpy below 2 and packages that the project does not depend on. It is therefore installed once into
a virtual environment in the cache folder, and runs as a process that receives frames through a pipe.
"""

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

POINTS = 478
PROCESS = Path(__file__).with_name("judge_process.py")
PYTHONS = ((3, 9), (3, 12))
REQUIREMENTS = (
    "mediapipe==0.10.21",
    "numpy==1.26.4",
    "opencv-python-headless==4.10.0.84",
    "absl-py==2.1.0",
    "attrs==24.3.0",
    "flatbuffers==24.12.23",
    "protobuf==4.25.8",
)
"""Installed without their dependencies, which the judge does not use."""

UPPER_LIP, LOWER_LIP = 13, 14
MOUTH_CORNERS = (61, 291)
EYE_CORNERS = ((33, 133), (263, 362))
"""Outer and inner corner of the eye on the viewer's left, then right."""
UPPER_LIDS, LOWER_LIDS = (159, 386), (145, 374)
IRISES = (468, 473)


class NoJudge(RuntimeError):
    """The judge cannot be installed or has failed; the message gives the reason."""


@dataclass(frozen=True, eq=False)
class Reading:
    """The judge's landmarks in T frames. Distances are relative to the distance between the outer eye corners."""

    points: np.ndarray
    """[T, 478, 3] float32 pixels; NaN where no face was found."""

    @property
    def found(self) -> np.ndarray:
        """[T] bool: whether a face was found."""
        return np.isfinite(self.points[:, 0, 0])

    @property
    def gap(self) -> np.ndarray:
        """[T] distance between the inner lips."""
        return self._between(UPPER_LIP, LOWER_LIP)

    @property
    def lids(self) -> np.ndarray:
        """[T, 2] distance between the middles of the lids of the left and the right eye, as the viewer sees them."""
        return np.stack([self._between(*pair) for pair in zip(UPPER_LIDS, LOWER_LIDS, strict=True)], 1)

    @property
    def mouth_width(self) -> np.ndarray:
        """[T] distance between the corners of the mouth."""
        return self._between(*MOUTH_CORNERS)

    @property
    def gaze(self) -> np.ndarray:
        """[T, 2] shift of the irises to the viewer's right and up, in eye widths, mean of both eyes."""
        shifts = []
        for iris, (outer, inner) in zip(IRISES, EYE_CORNERS, strict=True):
            left, right = (outer, inner) if iris == IRISES[0] else (inner, outer)
            a, b, c = (self.points[:, i, :2].astype(float) for i in (left, right, iris))
            across = b - a
            width = np.hypot(*across.T)
            along = across / width[:, None]
            up = np.stack([along[:, 1], -along[:, 0]], 1)
            offset = (c - (a + b) / 2) / width[:, None]
            shifts.append(np.stack([(offset * along).sum(1), (offset * up).sum(1)], 1))
        return np.mean(shifts, 0)

    @property
    def yaw(self) -> np.ndarray:
        """[T] radians, from the depths of the outer eye corners; positive turns the face to the viewer's right."""
        across = self.points[:, EYE_CORNERS[1][0]] - self.points[:, EYE_CORNERS[0][0]]
        return np.arctan2(across[:, 2].astype(float), across[:, 0])

    @property
    def roll(self) -> np.ndarray:
        """[T] radians; positive: clockwise on the screen."""
        across = self.points[:, EYE_CORNERS[1][0]] - self.points[:, EYE_CORNERS[0][0]]
        return np.arctan2(across[:, 1].astype(float), across[:, 0])

    def _between(self, one: int, other: int) -> np.ndarray:
        eyes = self.points[:, EYE_CORNERS[0][0], :2] - self.points[:, EYE_CORNERS[1][0], :2]
        apart = self.points[:, one, :2] - self.points[:, other, :2]
        return np.asarray(np.hypot(*apart.astype(float).T) / np.hypot(*eyes.astype(float).T))


def cache_folder(requirements: Sequence[str] = REQUIREMENTS) -> Path:
    """Path of the environment; its name depends on the requirements."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256("\n".join((version, *requirements)).encode()).hexdigest()[:12]
    return root / "lipstream" / f"judge-{digest}"


def python_of_judge() -> Path:
    """The environment's interpreter; creates the environment if it is missing (about 120 MB). Raises NoJudge."""
    folder = cache_folder()
    python = folder / ("Scripts" if os.name == "nt" else "bin") / ("python.exe" if os.name == "nt" else "python")
    ready = folder / "ready"  # written last, so that an interrupted installation is restarted
    if ready.is_file() and python.is_file():
        return python
    lowest, highest = PYTHONS
    if not lowest <= sys.version_info[:2] <= highest:
        here, least, most = ("{}.{}".format(*v[:2]) for v in (sys.version_info, lowest, highest))
        raise NoJudge(f"mediapipe has wheels for Python {least} to {most}, but this is {here}")
    print(f"creating the judge's environment in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run([*command, *REQUIREMENTS], capture_output=True, text=True)
    if done.returncode:
        says = done.stderr.strip().splitlines()[-1:]
        raise NoJudge(f"pip could not install the judge (it ended with {done.returncode}): {' '.join(says)}")
    ready.write_text("\n".join(REQUIREMENTS))
    return python


class Judge:
    """A running judge. As a context manager, it ends the process on exit."""

    def __init__(self, python: Path | None = None) -> None:
        self._log = open(os.devnull, "wb")
        self._process = subprocess.Popen(
            [str(python or python_of_judge()), str(PROCESS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def __enter__(self) -> "Judge":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:  # it died before it read the buffered data
                pass
        self._process.wait()
        self._log.close()

    def read(self, frames: Iterable[np.ndarray]) -> Reading:
        """Reads frames [H, W, 3] uint8 RGB. Raises NoJudge if the judge has died."""
        read = [self._one(np.ascontiguousarray(frame)) for frame in frames]
        return Reading(np.stack(read) if read else np.zeros((0, POINTS, 3), np.float32))

    def _one(self, frame: np.ndarray) -> np.ndarray:
        assert self._process.stdin is not None and self._process.stdout is not None
        height, width = frame.shape[:2]
        wanted = POINTS * 3 * 4
        try:
            self._process.stdin.write(json.dumps({"height": height, "width": width}).encode() + b"\n")
            self._process.stdin.write(frame.tobytes())
            self._process.stdin.flush()
            answer = self._process.stdout.read(wanted)
        except BrokenPipeError:
            answer = b""
        if len(answer) != wanted:
            code = self._process.wait()
            raise NoJudge(f"the judge answered {len(answer)} of {wanted} bytes and ended with {code}: run it manually")
        return np.frombuffer(answer, np.float32).reshape(POINTS, 3).copy()
