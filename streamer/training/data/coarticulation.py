"""Converts timed phones and audio to the articulation network's targets: mouth curves with coarticulation, prosody.

Letters used in shapes: T frames, N phones, M mouth channels (7), P prosody channels, H hops of 10 ms.

Frame k corresponds to sample 640·k. `curves` and `prosody` process a whole recording.
"""

import numpy as np

from streamer.base.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from streamer.motion.controls import MOUTH
from streamer.training.data.phones import PHONES, SILENCE, TimedPhone

OPEN, PRESS, TUCK = MOUTH.index("open"), MOUTH.index("press"), MOUTH.index("tuck")

# Decay (1/s) of a phone's dominance outside its own time: lips prepare earlier than the jaw (Cohen, Massaro).
_JAW_BEFORE, _JAW_AFTER = 24.0, 26.0
_LIPS_BEFORE, _LIPS_AFTER = 17.0, 22.0
_SHAPE = 1.3
_EDGE = 0.04  # seconds inside a phone's ends where its dominance starts to decrease
_LIP_TRAVEL = 0.055  # seconds the lips need to close or to open
_RELEASE = 0.75  # fraction of a p or b during which the lips are closed; the rest is its burst


def frame_count(samples: int) -> int:
    """Number of frames of a recording of this length."""
    return samples // SAMPLES_PER_FRAME + 1


def curves(phones: list[TimedPhone], frames: int, loudness: np.ndarray | None = None) -> np.ndarray:
    """
    The mouth while these phones are spoken: [T, M] float32. `loudness` [T], in decibels relative to the speaker's
    average, scales the jaw's opening.
    """
    mouth = np.zeros((frames, len(MOUTH)), np.float32)
    if not phones:
        return mouth
    times = np.arange(frames) / FPS
    known = [PHONES[p.phone] for p in phones]
    targets = np.stack([p.target for p in known])  # [N, M]
    starts = np.array([p.start for p in phones])
    ends = np.array([p.end for p in phones])
    centres, halves = (starts + ends) / 2, np.maximum((ends - starts) / 2, 0.01)
    plateaus = np.maximum(halves - _EDGE, 0.3 * halves)
    offset = times[:, None] - centres  # [T, N]
    outside = np.maximum(np.abs(offset) - plateaus, 0)
    for channels, strength, before, after in (
        (slice(0, 1), np.array([p.jaw for p in known]), _JAW_BEFORE, _JAW_AFTER),
        (slice(1, None), np.array([p.lips for p in known]), _LIPS_BEFORE, _LIPS_AFTER),
    ):
        rate = np.where(offset < 0, before, after)
        dominance = strength * np.exp(-((rate * outside) ** _SHAPE))  # [T, N]
        mouth[:, channels] = dominance @ targets[:, channels] / (dominance.sum(1, keepdims=True) + 1e-4)
    if loudness is not None:
        mouth[:, OPEN] *= np.clip(1 + 0.025 * loudness, 0.7, 1.15)
    _close(mouth, times, phones)
    _tuck(mouth, times, phones)
    return np.clip(mouth, 0, 1)


def closures(phones: list[TimedPhone]) -> list[tuple[float, float]]:
    """When the lips are closed for p, b and m: (from, to) in seconds."""
    return [
        (p.start, p.end if p.phone == "m" else p.start + _RELEASE * (p.end - p.start))
        for p in phones
        if PHONES[p.phone].closes
    ]


def _close(mouth: np.ndarray, times: np.ndarray, phones: list[TimedPhone]) -> None:
    """Closes the lips for p, b and m on at least one frame, however short the closure."""
    closing = [p for p in phones if PHONES[p.phone].closes]
    for phone, (start, end) in zip(closing, closures(phones), strict=True):
        distance = np.maximum(np.maximum(start - times, times - end), 0)
        near = np.clip(1 - distance / _LIP_TRAVEL, 0, 1)
        gate = 1 - near * near * (3 - 2 * near)
        gate[distance <= 0.005] = 0
        gate[np.abs(times - (start + end) / 2).argmin()] = 0
        mouth[:, OPEN] *= gate
        pressed = gate == 0
        mouth[pressed, PRESS] = np.maximum(mouth[pressed, PRESS], PHONES[phone.phone].target[PRESS])


def _tuck(mouth: np.ndarray, times: np.ndarray, phones: list[TimedPhone]) -> None:
    """Tucks the lip under the teeth for f and v on the frame nearest to the phone's middle, however short it is."""
    for phone in phones:
        target = PHONES[phone.phone].target[TUCK]
        if target > 0:
            k = np.abs(times - (phone.start + phone.end) / 2).argmin()
            mouth[k, TUCK] = max(mouth[k, TUCK], 0.9 * target)
            mouth[k, OPEN] = min(mouth[k, OPEN], PHONES[phone.phone].target[OPEN] + 0.06)


# Prosody -------------------------------------------------------------------------------------------------------------

_HOP = SAMPLE_RATE // 100
_F0_WINDOW = 800
_QUIET = -45.0  # decibels relative to full scale below which nothing counts as speech


def _smooth(x: np.ndarray, sigma: float) -> np.ndarray:
    """[H] smoothed by a Gaussian of `sigma` hops."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(x, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def levels(audio: np.ndarray) -> np.ndarray:
    """[n] -> [H] decibels (0: full scale) in a window of 20 ms every 10 ms."""
    padded = np.pad(audio.astype(np.float64), (_HOP, _HOP))
    sums = np.concatenate([[0.0], np.cumsum(padded**2)])
    at = np.arange(len(audio) // _HOP + 1) * _HOP
    return 10 * np.log10(np.maximum(sums[at + 2 * _HOP] - sums[at], 0) / (2 * _HOP) + 1e-10)


def pitch(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n] -> fundamental frequency in Hz (0: unvoiced) and periodicity (0..1), [H] each, by autocorrelation."""
    lags = np.arange(SAMPLE_RATE // 400, SAMPLE_RATE // 70)
    padded = np.pad(audio.astype(np.float64), (_F0_WINDOW // 2, _F0_WINDOW // 2 + _HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _F0_WINDOW)[::_HOP][: len(audio) // _HOP + 1]
    taper = np.hanning(_F0_WINDOW)
    spread = np.fft.irfft(np.abs(np.fft.rfft(taper, 2048)) ** 2)[lags]
    spread /= np.sum(taper**2)
    f0, strength = np.zeros(len(windows)), np.zeros(len(windows))
    for start in range(0, len(windows), 512):
        part = windows[start : start + 512]
        part = (part - part.mean(1, keepdims=True)) * taper
        correlation = np.fft.irfft(np.abs(np.fft.rfft(part, 2048)) ** 2)
        power = correlation[:, 0]
        score = correlation[:, lags] / (power[:, None] + 1e-9) / spread
        # Half the frequency fits as well as the true one: a slight preference for short periods decides.
        best = (score - 0.0008 * lags).argmax(1)
        rows = np.arange(len(part))
        strength[start : start + 512] = np.clip(score[rows, best], 0, 1) * (power > 1e-4)
        f0[start : start + 512] = SAMPLE_RATE / lags[best]
    return np.where(strength > 0.5, f0, 0.0), strength


def prosody(audio: np.ndarray) -> np.ndarray:
    """
    Prosody of the voice, [T, P] float32 in the order of articulation.PROSODY: energy and its beats, voicing, the head's
    nod that accompanies energy, the brows that accompany pitch.
    """
    decibels = levels(audio)
    top = max(float(np.percentile(decibels, 95)), _QUIET + 10)
    energy = np.clip((decibels - (top - 35)) / 35, 0, 1) * (decibels > _QUIET)
    syllable = _smooth(energy, 4.0)
    f0, strength = pitch(audio)
    voiced = _smooth(((f0 > 0) & (energy > 0.2)).astype(float), 1.5)

    beat = np.zeros_like(energy)
    last = -100
    for h in np.flatnonzero(syllable > 0.6):
        if h - last >= 20 and syllable[h] >= syllable[max(h - 14, 0) : h + 15].max():
            height = np.clip((syllable[h] - syllable[max(h - 25, 0) : h + 26].min()) * 2, 0, 1)
            reach = np.arange(max(int(h) - 25, 0), min(int(h) + 26, len(beat)))
            beat[reach] = np.maximum(beat[reach], height * np.exp(-0.5 * ((reach - h) / 7.0) ** 2))
            last = int(h)
    nod = -np.clip(1.6 * (_smooth(energy, 7.0) - _smooth(energy, 35.0)), -1, 1)

    spoken = (f0 > 0) & (energy > 0.2)
    if spoken.sum() >= 10:
        log = np.log(f0[spoken])
        relative = np.interp(np.arange(len(f0)), np.flatnonzero(spoken), log) - np.median(log)
        brow = _smooth(np.tanh(relative / 0.3) * (_smooth(spoken.astype(float), 12.0) > 0.15), 9.0)
    else:
        brow = np.zeros_like(energy)
    rows = np.stack([_smooth(energy, 2.0), voiced, beat, nod, brow], 1)
    per_frame = SAMPLES_PER_FRAME // _HOP
    return rows[::per_frame][: frame_count(len(audio))].astype(np.float32)


def truth(audio: np.ndarray, phones: list[TimedPhone]) -> tuple[np.ndarray, np.ndarray]:
    """A recording with its phones -> mouth [T, M] and prosody [T, P]: the network's targets."""
    frames = frame_count(len(audio))
    decibels = _smooth(levels(audio), 4.0)[:: SAMPLES_PER_FRAME // _HOP][:frames]
    centres = np.arange(frames) / FPS
    speaking = np.zeros(frames, bool)
    for phone in phones:
        if phone.phone != SILENCE:
            speaking |= (centres >= phone.start) & (centres < phone.end)
    usual = float(np.median(decibels[speaking])) if speaking.any() else 0.0
    return curves(phones, frames, decibels - usual), prosody(audio)


# Life ----------------------------------------------------------------------------------------------------------------
