"""Voice activity detection: when the speaker starts and stops.

A detector gives the probability of speech for each window; a pure state machine with two thresholds and two times
turns it into events. The detector is Silero's network, or WebRTC's Gaussian mixture if that cannot be loaded.
"""

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.base import resources
from streamer.base.constants import SAMPLE_RATE

logger = logging.getLogger(__name__)

Samples = NDArray[np.float32]

WEIGHTS = resources.WEIGHTS / "silero_vad.onnx"


@dataclass(frozen=True)
class VadConfig:
    """Speech starts at `start_threshold` held for `min_speech_ms`; it ends after `hang_over_ms` below `end_threshold`.

    Times are rounded up to whole windows (32 ms with Silero).
    """

    start_threshold: float = 0.5
    end_threshold: float = 0.35
    min_speech_ms: float = 32  # one window: a late reaction is worse than a reaction to a cough
    hang_over_ms: float = 400  # longer than the pauses within a phrase

    def __post_init__(self) -> None:
        if not 0 < self.end_threshold <= self.start_threshold < 1:
            raise ValueError(
                f"need 0 < end_threshold <= start_threshold < 1, got {self.end_threshold} and {self.start_threshold}"
            )
        if self.min_speech_ms < 0 or self.hang_over_ms < 0:
            raise ValueError(f"times must not be negative, got {self.min_speech_ms} and {self.hang_over_ms} ms")


@dataclass(frozen=True, slots=True)
class VadEvent:
    """Speech began (`speaking`) or ended at sample `pts`, accurate to one window."""

    speaking: bool
    pts: int


class Detector(Protocol):
    """Estimates the probability of speech per window. Holds the state of one stream."""

    window: int  # samples

    def __call__(self, samples: Samples) -> float:
        """Returns the probability, 0 to 1, for the next [window] samples."""

    def reset(self) -> None:
        """Clears the stream state, for example at a discontinuity."""


@lru_cache(maxsize=1)
def silero_session() -> Any:
    """The network, stateless and shared by all streams. Loading takes 0.1 s: call it before serving."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the network is tiny: threads would slow it down
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(WEIGHTS), options, providers=["CPUExecutionProvider"])


class SileroDetector:
    """Silero VAD 6: windows of 32 ms, each with 4 ms of preceding context."""

    window = 512
    _CONTEXT = 64

    def __init__(self) -> None:
        self._session = silero_session()
        self._rate = np.array(SAMPLE_RATE, np.int64)
        self.reset()

    def reset(self) -> None:
        self._state = np.zeros((2, 1, 128), np.float32)
        self._input = np.zeros((1, self._CONTEXT + self.window), np.float32)

    def __call__(self, samples: Samples) -> float:
        self._input[0, : self._CONTEXT] = self._input[0, -self._CONTEXT :]
        self._input[0, self._CONTEXT :] = samples
        feed = {"input": self._input, "state": self._state, "sr": self._rate}
        probability, self._state = self._session.run(None, feed)
        return float(probability[0, 0])


class WebrtcDetector:
    """WebRTC's detector: the share of a window's 10 ms frames classified as speech."""

    window = 480
    _FRAME = 160

    def __init__(self, aggressiveness: int = 2) -> None:
        self._aggressiveness = aggressiveness
        self.reset()

    def reset(self) -> None:
        import webrtcvad

        self._vad = webrtcvad.Vad(self._aggressiveness)

    def __call__(self, samples: Samples) -> float:
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2")
        frames = pcm.reshape(-1, self._FRAME)
        return sum(bool(self._vad.is_speech(frame.tobytes(), SAMPLE_RATE)) for frame in frames) / len(frames)


def best_detector() -> Detector:
    """Returns Silero's detector, or WebRTC's, with a log warning, if Silero cannot be loaded."""
    try:
        return SileroDetector()
    except Exception as error:  # onnxruntime has its own exception types for a missing or broken file
        logger.warning("Silero VAD cannot be loaded (%s): using webrtcvad instead", error)
        return WebrtcDetector()


class SpeechState:
    """Hysteresis from probabilities to speaking or not. Pure; positions are samples."""

    def __init__(self, config: VadConfig) -> None:
        self.speaking = False
        self._config = config
        self._min_speech = config.min_speech_ms * SAMPLE_RATE / 1000
        self._hang_over = config.hang_over_ms * SAMPLE_RATE / 1000
        self._onset: int | None = None  # start of the current run of speech, while it is too short
        self._last = 0  # end of the last window with speech

    def step(self, probability: float, start: int, end: int) -> VadEvent | None:
        """Processes the window from sample `start` to `end`; returns an event or None."""
        if not self.speaking:
            if probability < self._config.start_threshold:
                self._onset = None
                return None
            self._onset = start if self._onset is None else self._onset
            if end - self._onset < self._min_speech:
                return None
            self.speaking, self._last = True, end
            return VadEvent(True, self._onset)
        if probability >= self._config.end_threshold:
            self._last = end
        elif end - self._last >= self._hang_over:
            self.speaking, self._onset = False, None
            return VadEvent(False, self._last)
        return None


class Vad:
    """Voice activity of one stream: `push` its samples in pieces of any length."""

    def __init__(self, config: VadConfig | None = None, detector: Detector | None = None) -> None:
        self._detector = detector if detector is not None else best_detector()
        self._state = SpeechState(config or VadConfig())
        self._pending = np.zeros(0, np.float32)  # less than a window
        self._next: int | None = None  # the sample after `pending`
        self.probability = 0.0  # of the last whole window

    @property
    def speaking(self) -> bool:
        return self._state.speaking

    def push(self, samples: Samples, pts: int) -> list[VadEvent]:
        """Takes samples [n] float32 at 16 kHz, the first of which is sample `pts`; returns the resulting events."""
        if self._next is not None and pts != self._next:
            # A discontinuity. `speaking` is kept: the next windows decide.
            self._pending = self._pending[:0]
            self._detector.reset()
        self._next = pts + len(samples)
        sound = np.concatenate([self._pending, samples])
        events = []
        window = self._detector.window
        at = 0
        while len(sound) - at >= window:
            start = self._next - (len(sound) - at)
            self.probability = self._detector(sound[at : at + window])
            event = self._state.step(self.probability, start, start + window)
            if event is not None:
                events.append(event)
            at += window
        self._pending = sound[at:]
        return events
