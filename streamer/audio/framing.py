"""Cuts gapless speech into one step per frame."""

from collections.abc import Iterable, Iterator

import numpy as np

from streamer.base.constants import SAMPLES_PER_FRAME
from streamer.base.frames import Step, Times


class Speech:
    """Buffers speech and cuts it into steps as they become complete.

    Step k holds the samples [640·(k-1) + look-ahead, 640·k + look-ahead); what precedes sample 0 is silence.
    """

    def __init__(self, lookahead: int) -> None:
        self._lookahead = lookahead
        self._pacer = FramePacer(lookahead)
        self._end = 0
        silence = max(0, SAMPLES_PER_FRAME - lookahead)  # step 0 begins before the first sample
        self._start = -silence
        self._buffer = np.zeros(silence, np.float32)  # the samples from _start to _end

    @property
    def end(self) -> int:
        """pts one past the newest sample."""
        return self._end

    @property
    def next_frame(self) -> int:
        """Number of the next frame."""
        return self._pacer.next_frame

    def push(self, pts: int, samples: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Adds samples [n] float32 that begin at `pts`. Returns (k, [640] samples) for each complete step.

        Raises ValueError if `pts` does not continue the previous samples.
        """
        if pts != self._end:
            raise ValueError(f"speech continues at sample {pts}, but sample {self._end} was expected")
        self._end += len(samples)
        self._buffer = np.concatenate([self._buffer, samples])
        steps = []
        for frame in self._pacer.due(self._end):
            first = SAMPLES_PER_FRAME * (frame - 1) + self._lookahead - self._start
            steps.append((frame, self._buffer[first : first + SAMPLES_PER_FRAME]))
            self._buffer = self._buffer[first + SAMPLES_PER_FRAME :]
            self._start += first + SAMPLES_PER_FRAME
        return steps


def steps_of(recording: np.ndarray | Iterable[np.ndarray], lookahead: int) -> Iterator[Step]:
    """A recording, [n] float32 at 16 kHz or blocks of it, as the steps of a live session.

    Yields a step for every frame whose own sample lies inside the recording, padded with silence for the look-ahead.
    Block sizes do not affect the result, and at most one block is held in memory.
    """
    speech, end = Speech(lookahead), 0
    waiting: list[
        tuple[int, np.ndarray]
    ] = []  # without look-ahead a step may be complete before its frame's own sample
    for samples in [recording] if isinstance(recording, np.ndarray) else recording:
        waiting += speech.push(end, samples)
        end += len(samples)
        while waiting and waiting[0][0] * SAMPLES_PER_FRAME < end:
            yield _step(*waiting.pop(0))
    frames = -(-end // SAMPLES_PER_FRAME)
    missing = (frames - 1) * SAMPLES_PER_FRAME + lookahead - end
    for frame, window in [*waiting, *speech.push(end, np.zeros(max(missing, 0), np.float32))]:
        if frame < frames:
            yield _step(frame, window)


def _step(frame: int, window: np.ndarray) -> Step:
    return Step(frame, 0, window, muted=False, times=Times())


class FramePacer:
    """Decides which frames can be drawn as speech arrives.

    Frame k needs the samples up to 640·k + look-ahead.
    """

    def __init__(self, lookahead: int) -> None:
        if lookahead < 0:
            raise ValueError(f"look-ahead of {lookahead} samples: must not be negative")
        self.lookahead = lookahead
        self.next_frame = 0

    def due(self, end: int) -> range:
        """The frames that become complete with samples up to `end` (16 kHz, exclusive), in order."""
        first = self.next_frame
        last = (end - self.lookahead) // SAMPLES_PER_FRAME
        self.next_frame = max(first, last + 1)
        return range(first, self.next_frame)
