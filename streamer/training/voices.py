"""Speech for training the generator: the articulation network's output for every clip of the speech set.

The generator is trained on what it receives live, so its articulation frames are the network's and not the truth: the
pictures are drawn from the same values that condition them. The truth is stored with them for measurements.

Letters used in shapes: T frames, M mouth channels, P prosody channels, E embedding.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.base.constants import FPS
from streamer.motion.articulation import EMBEDDING, PROSODY, Articulation
from streamer.motion.controls import MOUTH
from streamer.training.data.dataset import read_shard

WIDTH = len(MOUTH) + len(PROSODY) + EMBEDDING
"""Outputs of the network per frame: mouth, prosody, embedding, in this order."""


@dataclass(frozen=True)
class Voices:
    """Concatenated clips, at 25 frames per second."""

    heard: np.ndarray  # [N, M + P + E] float16: output of the articulation network
    truth: np.ndarray  # [N, M] float16: the mouth that the phones require
    starts: np.ndarray  # [clips + 1]: where each clip begins, and the end
    speakers: tuple[str, ...]  # of each clip

    def __len__(self) -> int:
        return len(self.starts) - 1

    def clip(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """heard [T, M + P + E] and truth [T, M] of clip i, float32."""
        span = slice(self.starts[i], self.starts[i + 1])
        return self.heard[span].astype(np.float32), self.truth[span].astype(np.float32)

    def passage(self, frames: int, silence: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """
        `frames` frames of speech with pauses, starting anywhere: heard [frames, M + P + E], truth [frames, M]. Pauses
        are from `silence` [T, M + P + E], the network's output for a room without a voice; some fill the whole passage.
        """
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        have = 0
        begins = rng.random()
        if begins < 0.2:  # starts with a pause, which may fill the passage
            parts.append(self._pause(silence, frames if begins < 0.06 else int(rng.integers(frames)) + 1, rng))
            have = len(parts[0][0])
        while have < frames:
            heard, truth = self.clip(int(rng.integers(len(self))))
            if not parts:  # the first clip starts in the middle
                begin = int(rng.integers(max(len(heard) - frames // 2, 1)))
                heard, truth = heard[begin:], truth[begin:]
            parts.append((heard, truth))
            have += len(heard)
            if rng.random() < 0.4:
                parts.append(self._pause(silence, int(rng.gamma(2.0, 0.6) * FPS), rng))
                have += len(parts[-1][0])
        heard, truth = (np.concatenate(side)[:frames] for side in zip(*parts, strict=True))
        return heard, truth

    def _pause(self, silence: np.ndarray, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        first = int(rng.integers(len(silence)))
        rows = np.take(silence, np.arange(first, first + frames), axis=0, mode="wrap")
        return rows.astype(np.float32), np.zeros((frames, len(MOUTH)), np.float32)


def silence(articulation: Articulation, seconds: float = 60.0, seed: int = 0) -> np.ndarray:
    """[T, M + P + E] float32: the network's output for digital silence and faint room noise."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * 16_000)
    level = np.repeat(rng.choice([0.0, 1e-4, 5e-4, 2e-3], samples // 32_000 + 1), 32_000)[:samples]
    curves = articulation.whole((rng.standard_normal(samples) * level).astype(np.float32))
    return np.concatenate([curves.mouth, curves.prosody, curves.embedding], 1)


def listen(folder: Path, split: str, hours: float, articulation: Articulation, seed: int = 0) -> Voices:
    """
    Processes up to `hours` of a split ("train", "val", "test") of the speech set in `folder`, shuffled by `seed`.
    Raises FileNotFoundError if there is no set.
    """
    shards = sorted(folder.glob("shard_*.npz"))
    if not shards:
        raise FileNotFoundError(f"no speech set in {folder}: build it with `lipstream data speech {folder}`")
    order = np.random.default_rng(seed).permutation(len(shards))
    heard, truth, speakers, lengths = [], [], [], []
    frames = 0
    for i in order:
        for line, arrays in read_shard(shards[i]):
            if line["split"] != split:
                continue
            curves = articulation.whole(arrays["audio"].astype(np.float32) / 32768)
            length = min(len(curves.mouth), len(arrays["mouth"]))
            rows = np.concatenate([curves.mouth, curves.prosody, curves.embedding], 1)[:length]
            heard.append(rows.astype(np.float16))
            truth.append(arrays["mouth"][:length])
            speakers.append(line["speaker"])
            lengths.append(length)
            frames += length
        if frames >= hours * 3600 * FPS:
            break
    if not heard:
        raise FileNotFoundError(f"the speech set in {folder} has no clip of the split {split!r}")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Voices(np.concatenate(heard), np.concatenate(truth), starts, tuple(speakers))


def read(path: Path) -> Voices:
    """What `load` has stored."""
    with np.load(path) as packed:
        speakers = tuple(json.loads(str(packed["speakers"])))
        return Voices(packed["heard"], packed["truth"], packed["starts"], speakers)


def load(path: Path, folder: Path, split: str, hours: float, articulation: Articulation) -> Voices:
    """`listen`, cached at `path`."""
    if path.exists():
        return read(path)
    voices = listen(folder, split, hours, articulation)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, heard=voices.heard, truth=voices.truth, starts=voices.starts, speakers=json.dumps(voices.speakers))
    part.replace(path)
    return voices
