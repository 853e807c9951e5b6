"""Audio to articulation: for each 40 ms of speech, the mouth's shape, prosody, and an embedding.

Letters used in shapes: P prosody channels (`len(PROSODY)`), E embedding channels (`EMBEDDING`), B mel bands.

Frame k corresponds to sample 640·k. A model needs `lookahead` samples beyond that, so step k receives the samples
[640·(k-1) + lookahead, 640·k + lookahead); anything before the first call counts as silence. Weights and stream state
are separate: one loaded model serves many sessions, each with its own `ArticulationState`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from streamer.base import resources
from streamer.base.constants import SAMPLE_RATE, SAMPLES_PER_FRAME
from streamer.base.onnx import load_onnx_session
from streamer.motion.controls import MOUTH

if TYPE_CHECKING:
    import onnxruntime

WEIGHTS = resources.WEIGHTS / "articulation.onnx"

PROSODY = (
    "energy",  # 0..1: loudness of the voice, relative to the speaker's range
    "voiced",  # 0..1: whether the vocal folds vibrate
    "beat",  # 0..1: a stressed syllable's peak, for nods and hands
    "nod",  # -1..1: head pitch that accompanies the voice's energy, positive: up
    "brow",  # -1..1: brow motion that accompanies the voice's pitch, positive: up
)
EMBEDDING = 64

WINDOW = 400
HOP = 160
HOPS_PER_FRAME = SAMPLES_PER_FRAME // HOP
FFT = 512
BANDS = EMBEDDING
_QUIETEST = 1e-7  # mel energy below which everything is silence; a loud voice reaches 1e4
SILENT_MEL = float(np.log(_QUIETEST) / 2.5 + 2.45)


@dataclass(frozen=True)
class ArticulationFrame:
    """The articulation of one frame."""

    mouth: np.ndarray  # [7] float32, in the order of controls.MOUTH
    prosody: np.ndarray  # [P] float32, in the order of PROSODY
    embedding: np.ndarray  # [E] float32


@dataclass
class ArticulationState:
    """One session's state: audio still inside the window, and the model's recurrent state."""

    samples: np.ndarray = field(default_factory=lambda: np.zeros(WINDOW - HOP, np.float32))
    memory: dict[str, np.ndarray] = field(default_factory=dict)

    def reset(self) -> None:
        """Restores the state before the first step."""
        self.samples = np.zeros_like(self.samples)
        self.memory = {}


class ArticulationModel(Protocol):
    """The interface of models that turn audio into articulation frames."""

    lookahead: int

    def state(self) -> ArticulationState: ...

    def step(self, state: ArticulationState, samples: np.ndarray) -> ArticulationFrame: ...


def _mel_filters() -> np.ndarray:
    """Triangular filters from 60 Hz to 7.6 kHz: [FFT // 2 + 1, B] float32."""
    lowest, highest = 2595 * np.log10(1 + np.array([60.0, 7600.0]) / 700)
    mel = np.linspace(lowest, highest, BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.clip(np.minimum(rising, falling), 0, None)
    # The lowest filters are narrower than a bin: without this minimum width they could be empty.
    nearest = np.abs(bins[:, None] - edges[1:-1]).argmin(0)
    filters[nearest, np.arange(BANDS)] = np.maximum(filters[nearest, np.arange(BANDS)], 0.5)
    return filters.astype(np.float32)


_FILTERS = _mel_filters()
_HANN = np.hanning(WINDOW + 1)[:-1].astype(np.float32)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """[n] float32 of 16 kHz audio -> [(n - WINDOW) // HOP + 1, B] float32, about -4 (silence) to 4 (loud)."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows * _HANN, FFT)) ** 2
    energy = power.astype(np.float32) @ _FILTERS
    scaled: np.ndarray = (np.log(np.maximum(energy, _QUIETEST)) / 2.5 + 2.45).astype(np.float32)
    return scaled


def _checked(samples: np.ndarray) -> np.ndarray:
    """[640] float32; raises ValueError with the shape otherwise."""
    samples = np.asarray(samples)
    if samples.shape != (SAMPLES_PER_FRAME,):
        raise ValueError(f"a step takes {SAMPLES_PER_FRAME} samples, got an array of shape {samples.shape}")
    return samples.astype(np.float32, copy=False)


def _extended(state: ArticulationState, samples: np.ndarray) -> np.ndarray:
    """The buffered samples followed by the new ones; updates the buffer."""
    heard = np.concatenate([state.samples, samples])
    state.samples = heard[-(WINDOW - HOP) :]
    return heard


class Loudness:
    """A mouth that opens with loudness: no weights, no phones; the baseline that the network must beat."""

    lookahead = SAMPLES_PER_FRAME // 2
    """Centres the 640 samples of a step on the sample that the frame corresponds to."""

    def state(self) -> ArticulationState:
        return ArticulationState()

    def step(self, state: ArticulationState, samples: np.ndarray) -> ArticulationFrame:
        """[640] samples -> the articulation frame."""
        samples = _checked(samples)
        mel = log_mel(_extended(state, samples))  # [4, B]
        decibels = 10 * np.log10(float(np.mean(np.square(samples, dtype=np.float64))) + 1e-9)
        quiet, loud, before = state.memory.get("level", np.array([-60.0, -25.0, 0.0]))
        # The range adapts fast outwards and slowly inwards, which makes it independent of level and noise.
        quiet += (decibels - quiet) * (0.3 if decibels < quiet else 0.004)
        loud += (decibels - loud) * (0.3 if decibels > loud else 0.004)
        energy = float(np.clip((decibels - quiet - 8) / max(loud - quiet - 8, 18), 0, 1))
        state.memory["level"] = np.array([quiet, loud, energy])
        mouth = np.zeros(len(MOUTH), np.float32)
        mouth[MOUTH.index("open")] = 0.8 * energy**1.5
        rise = max(energy - float(before), 0)
        prosody = np.array([energy, energy > 0.3, min(2 * rise, 1) * energy, -0.6 * rise, 0], np.float32)
        return ArticulationFrame(mouth, prosody, mel.mean(0))


_SAID = "mouth", "prosody", "embedding"


class Articulation:
    """The articulation network: log-mel bands through an onnxruntime session, which releases the GIL."""

    def __init__(self, session: "onnxruntime.InferenceSession") -> None:
        self._session = session
        about = session.get_modelmeta().custom_metadata_map
        self.lookahead = int(about["lookahead"])
        """Look-ahead in samples beyond the one that the frame corresponds to."""
        self._states = {i.name: tuple(i.shape) for i in session.get_inputs() if i.name != "mel"}
        self._outputs = [*_SAID, *(f"{name}_next" for name in self._states)]

    @classmethod
    def load(cls, path: Path | None = None, threads: int = 1) -> "Articulation":
        """
        Loads the network from `path`, or from the weights shipped with the package. Raises FileNotFoundError, or
        BadNetwork for weights that are damaged or of a different network.
        """
        return cls(load_onnx_session(path or WEIGHTS, "weights of the articulation network", ["mel"], _SAID, threads))

    def state(self) -> ArticulationState:
        return ArticulationState()

    def _memory(self, state: ArticulationState) -> dict[str, np.ndarray]:
        return state.memory or {name: np.zeros(shape, np.float32) for name, shape in self._states.items()}

    def step(self, state: ArticulationState, samples: np.ndarray) -> ArticulationFrame:
        """[640] samples -> the articulation frame."""
        mouth, prosody, embedding = self._run(state, _extended(state, _checked(samples)))
        return ArticulationFrame(mouth[0], prosody[0], embedding[0])

    def whole(self, audio: np.ndarray) -> ArticulationFrame:
        """[n] float32 at 16 kHz -> all n // 640 + 1 articulation frames at once, with a leading axis of frames."""
        state = self.state()
        fed = feed(audio, self.lookahead)
        return ArticulationFrame(*self._run(state, _extended(state, fed)))

    def _run(self, state: ArticulationState, heard: np.ndarray) -> list[np.ndarray]:
        """Samples preceded by the window's buffer -> mouth [T, 7], prosody [T, P], embedding [T, E]."""
        inputs = {"mel": log_mel(heard)[None], **self._memory(state)}
        out = self._session.run(self._outputs, inputs)
        state.memory = dict(zip(self._states, out[3:], strict=True))
        return [part[0] for part in out[:3]]


def feed(audio: np.ndarray, lookahead: int) -> np.ndarray:
    """The concatenated input of all steps of a recording [n]: [(n // 640 + 1) * 640]."""
    frames = len(audio) // SAMPLES_PER_FRAME + 1
    before = SAMPLES_PER_FRAME - lookahead
    audio = np.concatenate([np.zeros(max(before, 0), np.float32), audio[max(-before, 0) :].astype(np.float32)])
    return np.pad(audio, (0, max(frames * SAMPLES_PER_FRAME - len(audio), 0)))[: frames * SAMPLES_PER_FRAME]


def stepped(listener: ArticulationModel, audio: np.ndarray) -> ArticulationFrame:
    """Processes a recording [n] float32 at 16 kHz step by step: frames with a leading axis of n // 640 + 1."""
    state = listener.state()
    steps = [
        listener.step(state, samples) for samples in feed(audio, listener.lookahead).reshape(-1, SAMPLES_PER_FRAME)
    ]
    return ArticulationFrame(
        *(np.stack([getattr(s, part) for s in steps]) for part in ("mouth", "prosody", "embedding"))
    )
