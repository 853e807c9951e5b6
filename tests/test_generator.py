"""The engine: one thread, earliest first, late work dropped whole, failures kept apart."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from streamer.avatar.avatar import Avatar
from streamer.avatar.engine import Engine, EngineSlot
from streamer.base.frames import Frame, Step, Times
from streamer.motion.articulation import Loudness
from streamer.motion.idle import IdleMotion


class Brush:
    """A rig whose drawing can be held up, or fail."""

    name = "studio_rig"
    size = 16

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.drawing = threading.Event()
        self.fail = False
        self.error: Exception = RuntimeError("the brush broke")
        self.closed = threading.Event()

    def draw(self, controls: np.ndarray, t: float = 0.0) -> np.ndarray:
        self.drawing.set()
        assert self.go.wait(10)
        if self.fail:
            raise self.error
        return np.full((16, 16, 4), round(t * 25) % 256, np.uint8)

    def close(self) -> None:
        self.closed.set()


class Twin(Brush):
    """A brush that is drawn together with its like, and notes how many were."""

    name = "neural"
    batch_key: object = "twins"
    max_batch_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.together: list[int] = []

    def render_batch(self, renderers: Sequence[Any]) -> list[np.ndarray | Exception]:
        self.together.append(len(renderers))
        frames: list[np.ndarray | Exception] = []
        for twin in renderers:
            frames.append(RuntimeError("the brush broke") if twin.fail else np.full((16, 16, 4), 7, np.uint8))
        return frames


class Sitter:
    """A seated session that collects what the engine gives it."""

    def __init__(self, engine: Engine, brush: Brush | None = None) -> None:
        self.brush = brush or Brush()
        self.frames: list[Frame] = []
        self.failures: list[Exception] = []
        self.came = threading.Semaphore(0)
        avatar = Avatar(Loudness(), self.brush, IdleMotion(0))
        self.seat: EngineSlot = engine.add(avatar, self._frame, lambda events: None, self._failure)

    def _frame(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.came.release()

    def _failure(self, error: Exception) -> None:
        self.failures.append(error)
        self.came.release()

    def submit(self, frame: int, arrived: float = 0.0) -> None:
        self.seat.submit(Step(frame, 0, np.zeros(640, np.float32), times=Times(arrived=arrived)))

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.came.acquire(timeout=10)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    engine.start()
    yield engine
    engine.close()
    engine.close()


def test_a_step_gives_its_frame(engine: Engine) -> None:
    """The picture is the frame's own copy, and its moments are in order."""
    sitter = Sitter(engine)
    for k in range(3):
        sitter.submit(k)
        sitter.wait()
    assert [(f.frame, int(f.image[0, 0, 0])) for f in sitter.frames] == [(0, 0), (1, 1), (2, 2)]
    assert all(0 < f.times.started <= f.times.drawn for f in sitter.frames)
    assert sitter.seat.cost > 0
    assert engine.load > 0


def test_late_frames_are_heard_but_not_drawn(engine: Engine) -> None:
    """While one frame holds the thread up, of those that wait only the newest is drawn."""
    sitter = Sitter(engine)
    sitter.brush.go.clear()
    sitter.submit(0)
    assert sitter.brush.drawing.wait(10)
    for k in range(1, 6):
        sitter.submit(k)
    sitter.brush.go.set()
    sitter.wait(2)
    assert [f.frame for f in sitter.frames] == [0, 5]
    assert sitter.seat.skipped == 4


def test_what_waits_is_bounded(engine: Engine) -> None:
    """Past two seconds of waiting steps the oldest are dropped and counted."""
    sitter = Sitter(engine)
    sitter.brush.go.clear()
    sitter.submit(0)
    assert sitter.brush.drawing.wait(10)
    for k in range(1, 71):
        sitter.submit(k)
    sitter.brush.go.set()
    sitter.wait(2)
    assert sitter.frames[-1].frame == 70
    assert sitter.seat.unheard == 20


def test_the_longest_waiting_session_goes_first(engine: Engine) -> None:
    """Of two sessions with work, the one whose speech arrived first is served first."""
    holder, later, earlier = Sitter(engine), Sitter(engine), Sitter(engine)
    order: list[str] = []
    later.brush.draw = lambda *a: order.append("later") or np.zeros((16, 16, 4), np.uint8)  # type: ignore[method-assign,func-returns-value]
    earlier.brush.draw = lambda *a: order.append("earlier") or np.zeros((16, 16, 4), np.uint8)  # type: ignore[method-assign,func-returns-value]
    holder.brush.go.clear()
    holder.submit(0)
    assert holder.brush.drawing.wait(10)
    later.submit(0, arrived=2.0)
    earlier.submit(0, arrived=1.0)
    holder.brush.go.set()
    later.wait()
    earlier.wait()
    assert order == ["earlier", "later"]


@pytest.mark.filterwarnings("ignore")
def test_one_failure_leaves_the_others_alone(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A step that raises tells its own session; the thread goes on for the rest."""
    broken, whole = Sitter(engine), Sitter(engine)
    broken.brush.fail = True
    broken.submit(0)
    broken.wait()
    whole.submit(0)
    whole.wait()
    assert [str(e) for e in broken.failures] == ["the brush broke"]
    assert [f.frame for f in whole.frames] == [0]


def test_a_frame_of_no_numbers_is_left_out(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """One frame, or some, are left out and the session goes on; a second of nothing else ends it."""
    sitter, other = Sitter(engine), Sitter(engine)
    sitter.brush.error = ArithmeticError("no numbers")

    def draw(first: int, count: int) -> None:
        for k in range(first, first + count):
            sitter.submit(k)
            other.submit(k)
            other.wait()

    for first in (0, 25):  # what was left out before a frame that came is forgotten
        sitter.brush.fail = True
        draw(first, 20)
        sitter.brush.fail = False
        draw(first + 20, 5)
        sitter.wait(5)
    assert sitter.failures == [] and sitter.seat.skipped == 40
    assert [frame.frame for frame in sitter.frames] == [*range(20, 25), *range(45, 50)]
    sitter.brush.fail = True
    draw(50, 26)
    sitter.wait()
    assert [str(error) for error in sitter.failures] == ["no numbers"] and other.failures == []


def test_one_that_changes_its_renderer_meanwhile_is_drawn_by_itself(engine: Engine) -> None:
    """Chosen to be drawn with others, it puts on a rig of another kind before it is: every frame comes all the same."""
    held = Sitter(engine)
    held.brush.go.clear()
    held.submit(0)
    assert held.brush.drawing.wait(10)
    twins, other = [Sitter(engine, Twin()) for _ in range(3)], Brush()
    hear = twins[0].seat.avatar.hear

    def hear_and_change(step: Step) -> object:
        heard = hear(step)
        twins[1].seat.avatar.set_renderer(other)  # as the event loop may, between two looks at it
        return heard

    twins[0].seat.avatar.hear = hear_and_change  # type: ignore[method-assign,assignment]
    for k, twin in enumerate(twins):
        twin.submit(k + 5, arrived=1.0 + k)
    held.brush.go.set()
    for sitter in (held, *twins):
        sitter.wait()
    assert [[int(frame.image[0, 0, 0]) for frame in twin.frames] for twin in twins] == [[7], [6], [7]]
    assert twins[0].brush.together == [2] and twins[1].brush.closed.is_set()
    assert [twin.failures for twin in twins] == [[], [], []]
    assert [twin.seat.renderer for twin in twins] == ["neural", "studio_rig", "neural"]


def test_what_a_frame_costs_is_the_present_renderers() -> None:
    """The first frames count alike, later ones a twentieth; another renderer's cost begins anew."""
    seat = Sitter(Engine()).seat
    for seconds in (0.030, 0.010, 0.020):
        seat.took("neural", seconds)
    assert seat.cost == pytest.approx(0.020)
    for _ in range(40):
        seat.took("neural", 0.020)
    seat.took("neural", 0.040)
    assert seat.cost == pytest.approx(0.021)
    seat.took("studio_rig", 0.005)
    assert (seat.cost, seat.renderer) == (0.005, "studio_rig")


def test_leaving_closes_the_rig_and_frees_the_load(engine: Engine) -> None:
    """A closed seat takes no more steps, its rig is closed on the engine's thread, and its load is gone."""
    sitter = Sitter(engine)
    sitter.submit(0)
    sitter.wait()
    sitter.seat.close()
    sitter.seat.close()
    assert sitter.brush.closed.wait(10)
    sitter.submit(1)
    assert engine.load == 0.0
    assert len(sitter.frames) == 1


def test_kindred_sessions_are_drawn_at_once(engine: Engine) -> None:
    """Steps that wait for the same networks share a pass; another kind is drawn alone, and a failure stays its own."""
    held = Sitter(engine)
    held.brush.go.clear()
    held.submit(0)
    assert held.brush.drawing.wait(10)
    twins = [Sitter(engine, Twin()) for _ in range(3)]
    twins[1].brush.fail = True
    for k, twin in enumerate(twins):
        twin.submit(0, arrived=1.0 + k)
    held.brush.go.set()
    held.wait()
    for twin in twins:
        twin.wait()
    assert twins[0].brush.together == [3]
    assert [len(twin.frames) for twin in twins] == [1, 0, 1]
    assert [len(twin.failures) for twin in twins] == [0, 1, 0]
    assert twins[2].frames[0].image[0, 0, 0] == 7
