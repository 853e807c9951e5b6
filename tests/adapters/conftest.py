"""Fixtures: a runtime whose rig draws, some speech, and a check that nobody leaves tasks or threads behind."""

import asyncio
import logging
import math
import sys
import threading
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from streamer.avatar.admission import AdmissionConfig  # noqa: E402
from streamer.embed.local_avatar import Runtime  # noqa: E402

RATE = 24_000
SAMPLE = TESTS.parent.parent / "clients" / "page" / "sample.wav"

CHARACTER = "24"
SIZE = 256
MOUTH = np.s_[135:170, 100:150, :3]
"""Where that character's mouth is, in a picture of `SIZE` pixels."""


def _sample() -> np.ndarray:
    """[n] int16 at 16 kHz."""
    with wave.open(str(SAMPLE)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def speech(seconds: float, rate: int = 16_000, start: float = 0.5) -> np.ndarray:
    """[n] int16 of somebody talking."""
    at = np.arange(round(seconds * rate)) / rate + start
    sample = _sample()
    return np.rint(np.interp(at, np.arange(len(sample)) / 16_000, sample)).astype(np.int16)


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """[n] int16, in which each stretch is unmistakable, and no sample is 0."""
    values = np.random.default_rng(seed).integers(1, 9000, round(seconds * rate))
    return (values * np.where(np.arange(len(values)) % 2, 1, -1)).astype(np.int16)


def motion(pictures: list[np.ndarray]) -> float:
    """How much the mouth changes from picture to picture: mean difference, of 255."""
    mouths = [picture[MOUTH].astype(np.int16) for picture in pictures]
    return float(np.mean([np.abs(b - a).mean() for a, b in zip(mouths, mouths[1:], strict=False)]))


class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
async def leaves_nothing() -> AsyncIterator[None]:
    """Fails a test after which a task or a thread is left, or an error was logged, but for the engine's own."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        yield
        if left := asyncio.all_tasks() - tasks - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=3)
            assert not (left := {task for task in left if not task.done()}), f"tasks are left: {left}"
        for thread in set(threading.enumerate()) - threads:
            # Pools live as long as their loop, and native threads that called Python (livekit's) as they please.
            if not thread.name.startswith(("asyncio_", "ThreadPoolExecutor", "Dummy-")):
                thread.join(3)
                assert not thread.is_alive(), f"thread {thread.name} is left"
        unexpected = [record.getMessage() for record in errors.records if record.name != "streamer.avatar.engine"]
        assert not unexpected, unexpected
    finally:
        logging.getLogger().removeHandler(errors)


@pytest.fixture
async def runtime(leaves_nothing: None) -> AsyncIterator[Runtime]:
    everybody = AdmissionConfig(most_load=math.inf)  # however busy other work keeps this machine
    runtime = await asyncio.to_thread(Runtime.load, "rig", admission=everybody)
    yield runtime
    await runtime.aclose()


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """A test that hangs says where, and ends the run."""
    import faulthandler

    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
