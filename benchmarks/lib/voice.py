"""The recording that the fake microphone plays in a loop."""

import wave
from pathlib import Path

import numpy as np

from benchmarks.lib.alignment import RATE, Voice
from benchmarks.lib.paths import SPEECH


def make_voice(path: Path, pause: float = 1.0, every: float = 4.0) -> Voice:
    """The sample voice as a loop of whole seconds, written to `path` (48 kHz, mono).

    About `every` so many seconds, at the quietest place, a `pause` is put in: speech has onsets, and they are measured.
    """
    with wave.open(str(SPEECH)) as source:
        rate = source.getframerate()
        speech = np.frombuffer(source.readframes(source.getnframes()), np.int16) / 32768
    parts, begin = [], 0
    while len(speech) - begin > 1.5 * every * rate:
        cut = begin + int((every - 1) * rate) + _quietest(speech[begin + int((every - 1) * rate) :][: 2 * rate], rate)
        parts += [speech[begin:cut], np.zeros(int(pause * rate))]
        begin = cut
    parts += [speech[begin:], np.zeros(int(pause * rate))]
    joined = np.concatenate(parts)
    seconds = -(-len(joined) // rate)
    loop = np.zeros(seconds * rate)
    loop[: len(joined)] = joined
    spectrum = np.zeros(seconds * RATE // 2 + 1, complex)
    own = np.fft.rfft(loop)
    spectrum[: len(own)] = own
    samples = np.fft.irfft(spectrum, seconds * RATE) * (RATE / rate)
    coded = (samples * 32767).clip(-32767, 32767).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(coded.tobytes())
    return Voice(coded / 32767)


def _quietest(samples: np.ndarray, rate: int) -> int:
    """Where the quietest 50 ms are centred."""
    width = rate // 20
    energy = np.convolve(np.square(samples), np.ones(width), "valid")
    return int(np.argmin(energy)) + width // 2
