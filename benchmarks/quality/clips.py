"""Passages of the quality benchmark: who speaks what, the rig's drawings, and the generator's frames.

Characters have seeds below scenes.FIRST_SEED, and speakers are those of the speech set's split "test": neither was part
of the training. Speakers whose ground truth quality/articulation.py does not trust are excluded. Everything is driven
as in a live session: the articulation network provides the curves, `IdleMotion` the motion plan, and the generator gets
one picture at rest with the face mask of an uploaded picture.

Letters in shapes: T frames, S picture edge, C controls, M mouth channels, Q outputs of the articulation network,
N sessions.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.lib.paths import RESULTS
from benchmarks.quality.measures import closures
from streamer.base.alpha import premultiplied
from streamer.base.constants import FPS
from streamer.faces.alignment import PLACES, face_mask
from streamer.faces.detector import Face
from streamer.model.runtime.torch_cpu import FrameConditions, FrameRenderer, NotFinite, PreparedCharacter, Stream
from streamer.motion.articulation import PROSODY
from streamer.motion.controls import EMOTIONS, MOUTH, rest
from streamer.motion.idle import IdleMotion
from streamer.studio.character import Character
from streamer.studio.rig import Box, Rig
from streamer.training.voices import Voices

TRUSTED = 0.9
"""Share of aligned p, t and k with a dip from which a speaker's truth is trusted (quality/articulation.py)."""
_ARTICULATION = RESULTS / "articulation.json"


def trusted_speakers(voices: Voices, results: Path = _ARTICULATION) -> list[str]:
    """Speakers whose aligned ground truth can be trusted. Raises ValueError if there are none."""
    dips = {who: found["dips"] for who, found in json.loads(results.read_text())["truth"].items()}
    found = sorted({who for who in voices.speakers if dips.get(who, 0.0) >= TRUSTED})
    if not found:
        raise ValueError(f"none of {len(set(voices.speakers))} speakers has a trusted ground truth in {results}")
    return found


@dataclass(frozen=True)
class Passage:
    """What one character says and does."""

    seed: int
    speaker: str
    heard: np.ndarray  # [T, Q]: output of the articulation network
    truth: np.ndarray  # [T, M]: ground truth from the phones
    controls: np.ndarray  # [T, C]

    def __len__(self) -> int:
        return len(self.heard)

    @property
    def driven(self) -> np.ndarray:
        """[T]: the opening of the inner lips that drives the character."""
        return self.heard[:, 0].clip(0, 1)

    @property
    def due(self) -> np.ndarray:
        """[T]: the opening in the ground truth."""
        return self.truth[:, 0]


def lived(heard: np.ndarray, seed: int) -> np.ndarray:
    """Controls [T, C] of idle motion combined with the speech `heard` [T, Q]."""
    life = IdleMotion(seed)
    mouths, prosody = heard[:, : len(MOUTH)], heard[:, len(MOUTH) : len(MOUTH) + len(PROSODY)]
    return np.stack([life.step(m, p) for m, p in zip(mouths, prosody, strict=True)])


def passage(seed: int, speaker: str, heard: np.ndarray, truth: np.ndarray) -> Passage:
    return Passage(seed, speaker, heard, truth, lived(heard, seed))


def spoken(
    voices: Voices,
    silence: np.ndarray,
    speaker: str | None,
    frames: int,
    rng: np.random.Generator,
    share: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """heard [frames, Q] and truth [frames, M] of one speaker's clips, or of all speakers', in random order.

    Each clip is followed by a pause of 0.2 to 1 s, taken from `silence` [.., Q], the network's output for silence. A
    `share` below 1 selects that share of the clips, those with the most closures per second.
    """
    own = [i for i, who in enumerate(voices.speakers) if speaker in (None, who)]
    if share < 1:
        dense = {i: len(closures(voices.clip(i)[1])) / (voices.starts[i + 1] - voices.starts[i]) for i in own}
        own = sorted(own, key=dense.__getitem__, reverse=True)[: max(int(share * len(own)), 1)]
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    have = 0
    while have < frames:
        for i in rng.permutation(own):
            pause = quiet(silence, int(rng.uniform(0.2, 1.0) * FPS), rng)
            parts += [voices.clip(int(i)), pause]
            have += len(parts[-2][0]) + len(pause[0])
            if have >= frames:
                break
    heard, truth = (np.concatenate(side)[:frames] for side in zip(*parts, strict=True))
    return heard, truth


def quiet(silence: np.ndarray, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """heard [frames, Q] of silence, and its ground truth [frames, M]: the mouth at rest."""
    first = int(rng.integers(len(silence)))
    heard = np.take(silence, np.arange(first, first + frames), axis=0, mode="wrap")
    return heard.astype(np.float32), np.zeros((frames, len(MOUTH)), np.float32)


@dataclass(frozen=True)
class Portrait:
    """The picture of a character that the generator gets, as in a live session."""

    picture: np.ndarray  # [S, S, 4] uint8, premultiplied
    face: np.ndarray  # [S / 16, S / 16]


def face_of_studio(size: int) -> np.ndarray:
    """[S / 16, S / 16]: the face mask of all studio characters."""
    return face_mask(Face(1.0, PLACES[:2] * size, PLACES[2] * size), size)


def portrait(rig: Rig) -> Portrait:
    return Portrait(premultiplied(rig.draw(rest())), face_of_studio(rig.size))


@dataclass(frozen=True)
class Drawn:
    """The rig's frames of a passage: the ground truth of the picture."""

    portrait: Portrait
    frames: np.ndarray  # [T, S, S, 4] uint8, premultiplied
    mouths: list[Box]
    eyes: list[tuple[Box, Box]]


def draw(seed: int, size: int, controls: np.ndarray, background: bool = True) -> Drawn:
    """Draws the character of `seed` with controls [T, C]."""
    with Rig(Character.from_seed(seed), size, background) as rig:
        still = portrait(rig)
        frames, mouths, eyes = [], [], []
        for row in controls:
            frame, truth = rig.draw_with_truth(row)
            frames.append(premultiplied(frame))
            mouths.append(truth.mouth_box)
            eyes.append(truth.eye_boxes)
    return Drawn(still, np.stack(frames), mouths, eyes)


def cue(controls: np.ndarray, heard: np.ndarray) -> FrameConditions:
    """A frame's conditions, with the neutral emotion of a new session."""
    return FrameConditions(controls, heard.astype(np.float32), np.zeros(len(EMOTIONS), np.float32))


def begin(frame_renderer: FrameRenderer, given: Portrait, seed: int, context: int | None = None) -> Stream:
    still: PreparedCharacter = frame_renderer.still(given.picture, given.face)
    return frame_renderer.stream(still, seed, context)


def paint(
    frame_renderer: FrameRenderer, streams: Sequence[Stream], cues: Sequence[FrameConditions]
) -> list[np.ndarray]:
    """The next frame of each session, [S, S, 4] uint8 premultiplied. Raises NotFinite."""
    for stream, now in zip(streams, cues, strict=True):
        frame_renderer.hear(stream, now)
    frames = []
    for frame in frame_renderer.draw(streams):
        if isinstance(frame, NotFinite):
            raise frame
        frames.append(frame)
    return frames


def painted(frame_renderer: FrameRenderer, given: Portrait, said: Passage, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields the passage's frames, each [S, S, 4] uint8 premultiplied."""
    stream = begin(frame_renderer, given, seed)
    for controls, heard in zip(said.controls, said.heard, strict=True):
        yield paint(frame_renderer, [stream], [cue(controls, heard)])[0]


def cut(frame: np.ndarray, box: Box, margin: float = 3.0) -> np.ndarray:
    """The part [h, w, 3] of a frame [S, S, 4] inside a box with a margin in pixels."""
    size = frame.shape[0]
    x0, y0 = (int(np.clip(v - margin, 0, size - 2)) for v in box[:2])
    x1, y1 = (int(np.clip(np.ceil(v + margin), 2, size)) for v in box[2:])
    return frame[y0 : max(y1, y0 + 2), x0 : max(x1, x0 + 2), :3]
