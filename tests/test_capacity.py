"""What drawing costs here, and whether the neural generator keeps up beside other load: rule, memory, measuring."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from streamer.avatar import capacity
from streamer.avatar.capacity import Measured, NotMeasured
from streamer.avatar.characters import Characters
from streamer.avatar.rig_backend import RigBackend
from streamer.base.constants import SIZES
from streamer.base.errors import RequestError
from streamer.base.resources import cache_folder
from streamer.motion.articulation import Loudness
from streamer.server.state import State

GIVEN = {"cpu": "A CPU", "cores": "2"}


# The rule


@pytest.mark.parametrize(
    ("milliseconds", "holds"),
    [
        ([20] * 100, True),
        ([27.9] * 100, True),
        ([29] * 100, False),  # no time is left for sound, encoding and the network
        ([20] * 96 + [300] * 4, True),
        ([20] * 94 + [41] * 6, False),  # more than one frame in twenty comes too late
        ([34] * 50 + [50] * 50, False),
    ],
)
def test_25_frames_a_second_hold_with_time_to_spare(milliseconds: list[float], holds: bool) -> None:
    """The median leaves three tenths of the interval, and nineteen frames of twenty are there before the next."""
    assert Measured("cpu", tuple(ms / 1000 for ms in milliseconds)).holds() is holds


def test_frames_that_cost_more_are_judged_by_what_they_cost() -> None:
    """A session of larger frames holds where its frames would, not the default ones."""
    measured = Measured("cpu", (0.015,) * 40)
    assert measured.holds(1.6) and not measured.holds(2.0)


def test_the_numbers_are_told() -> None:
    """With what is wanted of them, and beside what they were measured."""
    told = str(Measured("cpu", tuple(0.001 * ms for ms in range(21, 62))))
    assert told.startswith("41 ms a frame beside a busy core, 59 at the 95th percentile") and "28 and 40" in told
    assert "busy" not in str(Measured("cuda", (0.002,) * 20))


# What is remembered


def test_what_was_measured_is_remembered(tmp_path: Path) -> None:
    """Under the same circumstances it is read back; under others nothing is, and another file would be written."""
    path, measured = capacity.memory(GIVEN, tmp_path / "new"), Measured("cpu", (0.0201,) * 40)
    assert capacity.recall(GIVEN, path) is None
    capacity.remember(GIVEN, path, measured)
    assert capacity.recall(GIVEN, path) == measured
    other = GIVEN | {"cores": "4"}
    assert capacity.recall(other, path) is None and capacity.memory(other, tmp_path / "new") != path
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": [0.02] * 5},
        {"seconds": [0.02] * 39 + [float("nan")]},
        {"seconds": [0.02] * 39 + [-1.0]},
        {"seconds": ["soon"] * 40},
        {"seconds": 3},
        {"drawn_on": "tpu"},
        {"circumstances": None},
        None,
    ],
    ids=str,
)
def test_a_file_that_is_not_whole_is_passed_over(change: dict[str, Any] | None, tmp_path: Path) -> None:
    """Whatever somebody made of it, the machine is measured again, and nothing is raised."""
    path = capacity.memory(GIVEN, tmp_path)
    capacity.remember(GIVEN, path, Measured("cpu", (0.02,) * 40))
    text = path.read_text()
    path.write_text(text[: len(text) // 2] if change is None else json.dumps(json.loads(text) | change))
    assert capacity.recall(GIVEN, path) is None


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    """Then the next start measures again."""
    (tmp_path / "file").write_text("")
    capacity.remember(GIVEN, tmp_path / "file" / "capacity.json", Measured("cpu", (0.02,) * 40))


def test_the_circumstances_are_those_of_this_machine() -> None:
    """Processor, cores, versions and weights, each of them told, the same at every call."""
    given = capacity.circumstances("auto")
    engines = {"openvino", "onnxruntime", "torch"}
    assert {"cpu", "cores", "device", "nvidia", "lipstream", "weights"} | engines == given.keys()
    assert all(given.values()) and int(given["cores"]) >= 1
    assert given == capacity.circumstances("auto") != capacity.circumstances("cpu")


# Measuring


def test_the_busy_process_ends() -> None:
    """Meanwhile another process runs, and afterwards it is gone."""
    before = set(psutil.Process().children())
    with capacity.busy_core():
        (busy,) = set(psutil.Process().children()) - before
        assert busy.status() in (psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING)
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('no such instruction')", "ended with status 1: no such instruction"),
        ("print('{}')", "ended with status 0: it printed no error"),
        ("while True: pass", "took more than 1 s"),
    ],
)
def test_what_cannot_be_measured_has_a_reason(
    code: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process that fails, says nothing of use, or does not end."""
    run = capacity.subprocess.run
    monkeypatch.setattr(
        capacity.subprocess, "run", lambda command, **options: run([sys.executable, "-c", code], **options)
    )
    with pytest.raises(NotMeasured, match=reason):
        capacity.measure("cpu", timeout=1.0 if "while" in code else 60.0)


def test_each_renderer_costs_what_it_was_measured_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rig is drawn with a character of its kind; larger pictures cost more."""
    drawn: list[tuple[str, int]] = []

    def times(listener: object, rig: Any, frames: int) -> list[float]:
        drawn.append((rig.name, rig.size))
        rig.close()
        return [0.9, *[0.007 if rig.name == "studio_rig" else 0.009] * (frames - 1)]

    monkeypatch.setattr(capacity, "frame_times", times)
    costs = capacity.frame_costs(RigBackend(), Loudness(), Characters())
    assert drawn == [("studio_rig", 512), ("picture_rig", 512), ("still", 512)]
    assert costs.keys() == {(name, size) for name, _ in drawn for size in SIZES}
    assert costs["studio_rig", 512] == pytest.approx(0.007) and costs["picture_rig", 512] == pytest.approx(0.009)
    for name, _ in drawn:
        each = [costs[name, size] for size in SIZES]
        assert each == sorted(each) and each[-1] > 1.5 * each[0]
    faces = capacity.frame_costs(RigBackend(), Loudness(), Characters(needs_face=True))
    assert {name for name, _ in faces} == {"studio_rig", "picture_rig"}


# Admission by what each renderer costs


def state(cost_of: dict[tuple[str, int], float], *sessions: tuple[str, int, float]) -> Any:
    """A server's state with sessions of (renderer, size, cost); those of no cost have drawn nothing yet."""
    held = SimpleNamespace(
        config=SimpleNamespace(max_sessions=8), cost_of=cost_of, openings=[], opening=0,
        engine=SimpleNamespace(load=25 * sum(cost for *_, cost in sessions)),
        sessions={
            str(i): SimpleNamespace(renderer=renderer, size=size, cost=cost)
            for i, (renderer, size, cost) in enumerate(sessions)
        },
    )  # fmt: skip
    for name in ("cost", "promised", "check_room"):
        setattr(held, name, getattr(State, name).__get__(held))
    return held


COSTS = {("picture_rig", 512): 0.0105, ("neural", 256): 0.024, ("neural", 512): 0.038, ("studio_rig", 512): 0.007}


def test_two_pictures_of_512_pixels_are_taken() -> None:
    """What the picture rig takes of the engine's thread leaves room for a second session, seen yet or not."""
    for cost in (0.0, 0.0105):
        state(COSTS, ("picture_rig", 512, cost)).check_room("picture_rig", 512)


def test_a_renderer_that_costs_more_is_judged_by_its_own_cost() -> None:
    """Beside the same session the networks find no room where a rig does."""
    held = state(COSTS, ("picture_rig", 512, 0.0105))
    held.check_room("studio_rig", 512)
    with pytest.raises(RequestError, match="60% of the generator's time, 26% is taken") as refused:
        held.check_room("neural", 256)
    assert (refused.value.status, refused.value.reason) == (503, "overloaded")


def test_what_is_being_made_counts_with_its_renderer() -> None:
    """Sessions that were admitted and are not open yet take what their renderer was measured at."""
    held = state(COSTS, ("picture_rig", 512, 0.010))
    held.openings.append(("neural", 256))
    assert held.promised() == pytest.approx(25 * (0.010 + 0.024))


def test_what_a_live_session_takes_is_known_better() -> None:
    """Where one is drawn by the same renderer at the same size, its own cost counts instead of the first estimate."""
    held = state(COSTS, ("picture_rig", 512, 0.020))
    assert held.cost("picture_rig", 512) == pytest.approx(0.5)
    assert held.cost("studio_rig", 512) == pytest.approx(25 * 0.007)


def test_a_change_that_would_take_the_others_time_is_refused() -> None:
    """A session may change its renderer for one that fits beside the others, its own share given back, or alone."""
    held = state(COSTS, ("picture_rig", 512, 0.010), ("picture_rig", 512, 0.010))
    one = held.sessions["0"]
    held.check_room("studio_rig", 512, instead=one)
    with pytest.raises(RequestError, match="95% of the generator's time, 25% is taken"):
        held.check_room("neural", 512, instead=one)
    held.check_room("picture_rig", 512, instead=one)
    del held.sessions["1"]
    held.engine.load = 0.25
    held.check_room("neural", 512, instead=one)


@pytest.mark.parametrize(
    ("platform", "name", "place"),
    [
        ("linux", "XDG_CACHE_HOME", ""),
        ("linux", "", ".cache"),
        ("darwin", "", "Library/Caches"),
        ("win32", "LOCALAPPDATA", ""),
    ],
)
def test_the_cache_is_among_the_users(
    platform: str, name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each system's folder for caches, or the one that the environment names."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if name:
        monkeypatch.setenv(name, str(tmp_path / "named"))
    assert cache_folder() == (tmp_path / "named" if name else tmp_path / "home" / place) / "lipstream"
