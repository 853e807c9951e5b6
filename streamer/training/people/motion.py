"""What somebody does in a clip: speech, life and gestures as controls.

Without a set of real speech, random syllables drive the mouth by the same rules of coarticulation.

Letters used in shapes: T frames, C controls, E emotions, M mouth channels.
"""

import numpy as np

from streamer.base.constants import FPS
from streamer.motion.articulation import EMBEDDING, PROSODY
from streamer.motion.controls import HIGHEST, INDEX, LOWEST, MOUTH, controls
from streamer.training.data.coarticulation import curves
from streamer.training.data.phones import PHONES, SILENCE, TimedPhone
from streamer.training.scenes import perform
from streamer.training.voices import WIDTH, Voices

_SECONDS = 5.0
REFERENCES = {
    "neutral": controls(smile=0.08),
    "eyes_shut": controls(blink_left=1.0, blink_right=1.0, smile=0.05),
    "mouth_open": controls(open=0.75),
    "teeth": controls(smile=0.75, open=0.22, teeth=0.5, wide=0.4),
    "hands": controls(left_raise=0.8, right_raise=0.8, left_curl=0.08, right_curl=0.08, left_turn=0.1, right_turn=0.1),
}
"""Role -> controls of the pictures that a painter may copy from."""


def reference_pose(role: str, rng: np.random.Generator) -> np.ndarray:
    """[C]: a picture for a role as people send them, never quite straight."""
    pose = REFERENCES[role].copy()
    reach = 0.05 if role == "neutral" else 0.12
    for name, share in (("yaw", 1.0), ("pitch", 0.5), ("roll", 0.5), ("gaze_x", 0.8), ("gaze_y", 0.5)):
        pose[INDEX[name]] += reach * share * rng.normal()
    pose[INDEX["smile"]] += 0.08 * rng.normal()
    return pose


def _syllables(seconds: float, rng: np.random.Generator) -> list[TimedPhone]:
    """Random speech: syllables in words, with pauses between phrases."""
    vowels = [name for name, phone in PHONES.items() if phone.vowel]
    consonants = [name for name, phone in PHONES.items() if not phone.vowel and name != SILENCE]
    phones: list[TimedPhone] = []
    at, rate = 0.0, float(np.exp(rng.normal(0, 0.15)))

    def say(phone: str, length: float) -> None:
        nonlocal at
        phones.append(TimedPhone(phone, at, at + length * rate))
        at += length * rate

    while at < seconds:
        if not phones or rng.random() < 0.08:
            say(SILENCE, float(rng.uniform(0.08, 0.6)))
        for _ in range(int(rng.choice([0, 1, 2], p=[0.12, 0.68, 0.20]))):
            say(str(rng.choice(consonants)), float(rng.uniform(0.05, 0.11)))
        say(str(rng.choice(vowels)), float(rng.uniform(0.07, 0.19)))
        if rng.random() < 0.3:
            say(str(rng.choice(consonants)), float(rng.uniform(0.05, 0.1)))
    return phones


def babble(clips: int, seed: int) -> Voices:
    """Random syllables as a set of voices: mouth and prosody of each frame; the rest of what is heard is zero."""
    rng = np.random.default_rng([seed, 0xBAB])
    heard, mouths, starts = [], [], [0]
    frames = int(_SECONDS * FPS)
    for _ in range(clips):
        phones = _syllables(_SECONDS, rng)
        mouth = curves(phones, frames, rng.normal(0, 3, 1) * np.ones(frames))
        times = np.arange(frames) / FPS
        voiced = np.zeros(frames)
        beat = np.zeros(frames)
        for phone in phones:
            if PHONES[phone.phone].vowel:
                voiced += (times >= phone.start) & (times < phone.end)
                if rng.random() < 0.3:
                    beat = np.maximum(beat, rng.uniform(0.4, 1) * np.exp(-(((times - phone.start) / 0.07) ** 2)))
        energy = np.convolve(voiced, np.hanning(7) / 3, "same").clip(0, 1) * rng.uniform(0.5, 1)
        slow = np.convolve(rng.standard_normal(frames + 24), np.hanning(25) / 3, "valid")[:frames]
        rows = np.zeros((frames, WIDTH), np.float32)
        rows[:, : len(MOUTH)] = mouth
        prosody = energy, voiced.clip(0, 1), beat, -0.4 * slow * energy, np.tanh(slow) * energy
        rows[:, len(MOUTH) : len(MOUTH) + len(PROSODY)] = np.stack(prosody, 1)
        heard.append(rows.astype(np.float16))
        mouths.append(mouth.astype(np.float16))
        starts.append(starts[-1] + frames)
    return Voices(np.concatenate(heard), np.concatenate(mouths), np.array(starts), ("babble",) * clips)


def quiet() -> np.ndarray:
    """[T, W]: nothing is heard."""
    return np.zeros((FPS, len(MOUTH) + len(PROSODY) + EMBEDDING), np.float32)


def _wave(frames: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """[T] of smooth noise with variance about 1."""
    width = max(int(seconds * FPS), 3)
    window = np.hanning(width + 2)[1:-1]
    window /= np.sqrt((window**2).sum())
    return np.convolve(rng.standard_normal(frames + width), window, "valid")[:frames]


def performed(
    frames: int, voices: Voices, silence: np.ndarray, hands: bool, wide: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    Controls [T, C], heard [T, W], truth of the mouth [T, M], emotion [T, E]. Heads turn further than a life's do; hands
    move in clips that show them, and rest in all others.
    """
    now, heard, truth, emotion = perform(frames, voices, silence, wide, rng)
    if rng.random() < 0.5:
        for name, reach in (("yaw", 0.30), ("pitch", 0.16), ("roll", 0.16)):
            now[:, INDEX[name]] += reach * (rng.normal(0, 0.7) + 0.6 * _wave(frames, 1.2, rng))
    for side in ("left", "right"):
        names = [name for name in INDEX if name.startswith(f"{side}_")]
        if not hands:
            now[:, [INDEX[name] for name in names]] = 0
        elif rng.random() < 0.7:
            now[:, INDEX[f"{side}_raise"]] = np.clip(0.65 + 0.35 * _wave(frames, 1.0, rng), 0, 1)
            for name, middle, reach in (("x", -0.05, 0.14), ("y", -0.05, 0.15), ("turn", 0.05, 0.3)):
                now[:, INDEX[f"{side}_{name}"]] = middle + reach * _wave(frames, 0.8, rng)
            now[:, INDEX[f"{side}_curl"]] = np.clip(rng.uniform(0, 0.7) + 0.3 * _wave(frames, 0.8, rng), 0, 1)
            pointing = rng.random() < 0.35
            now[:, INDEX[f"{side}_point"]] = np.clip(0.7 + 0.5 * _wave(frames, 1.0, rng), 0, 1) * pointing
    return np.clip(now, LOWEST, HIGHEST), heard, truth, emotion
