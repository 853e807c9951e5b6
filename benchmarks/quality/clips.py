"""Passages of the quality benchmark: who speaks what, the rig's drawings, and the generator's frames.

Characters have seeds below scenes.FIRST_SEED, and speakers are those of the speech set's split "test": neither was part
of the training. Speakers whose ground truth quality/articulation.py does not trust are excluded. Everything is driven
as in a live session: the articulation network provides the curves, `IdleMotion` the motion plan, and the generator gets
the pictures that `avatar.portrait` makes. Time passes for the rig in every frame, so that its loose parts swing.

Letters in shapes: T frames, S edge of frames, s edge of the networks' pictures, C controls, M mouth channels, Q outputs
of the articulation network.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.lib.paths import RESULTS
from benchmarks.quality.measures import closures
from streamer.avatar.characters import CharacterRecord
from streamer.avatar.portrait import MOST_REFERENCES, Portrait, portrait
from streamer.base.alpha import premultiplied
from streamer.base.constants import FPS
from streamer.model.config import ModelConfig
from streamer.model.runtime.graph_cpu import GraphFrameRenderer, Stream
from streamer.model.runtime.stream import FrameConditions, NotFinite
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


def frame_size(config: ModelConfig) -> int:
    """The edge of the frames that are measured: twice that of the networks' pictures."""
    return 2 * config.size


def given(seed: int, size: int, background: bool = True, references: int = MOST_REFERENCES) -> Portrait:
    """The first `references` pictures of a studio character, as a live session with frames of `size` has them."""
    character = Character.from_seed(seed)
    whole = portrait(CharacterRecord(str(seed), character.name, character, seed), size, background)
    return with_references(whole, references)


def with_references(whole: Portrait, count: int) -> Portrait:
    """A portrait with only its first `count` pictures."""
    return dataclasses.replace(whole, references=whole.references[:count], roles=whole.roles[:count])


def over(plate: np.ndarray | None, cut_out: np.ndarray) -> np.ndarray:
    """A premultiplied cut-out [S, S, 4] over an opaque plate of its size, or alone."""
    if plate is None:
        return cut_out
    behind = cv2.merge([255 - cut_out[..., 3]] * 4)
    return np.asarray(cv2.add(cut_out, cv2.multiply(plate, behind, scale=1 / 255)))


def averaged(picture: np.ndarray, size: int) -> np.ndarray:
    """[T, T, n] uint8 with T at least `size` -> [size, size, n], the mean over areas."""
    if len(picture) == size:
        return picture
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))


@dataclass(frozen=True, eq=False)
class Drawn:
    """The true frames of a passage."""

    given: Portrait
    still: np.ndarray  # [S, S, 4] uint8 premultiplied: the character at rest
    frames: np.ndarray  # [T, S, S, 4] uint8 premultiplied, over the plate if there is one
    seen: np.ndarray  # [T, s, s, 4] uint8 premultiplied: the cut-outs as the encoder sees them; none if s is 0
    mouths: list[Box]
    eyes: list[tuple[Box, Box]]

    def person(self, k: int) -> np.ndarray:
        """[S, S] bool: where frame k shows anything but the plate."""
        frame = self.frames[k]
        if self.given.plate is None:
            return np.asarray(frame[..., 3] > 0)
        return np.asarray((frame[..., :3] != self.given.plate[..., :3]).any(-1))


def draw(
    seed: int,
    size: int,
    controls: np.ndarray,
    background: bool = True,
    at: Sequence[int] | None = None,
    seen: int = 0,
) -> Drawn:
    """
    Draws the character of `seed` with controls [T, C], a row for each frame; only the frames `at` if given. `seen`: the
    edge s of what the encoder sees.
    """
    whole = given(seed, size, background)
    wanted = set(range(len(controls)) if at is None else at)
    frames, small, mouths, eyes = [], [], [], []
    with Rig(Character.from_seed(seed), size, background=False) as rig:
        still = over(whole.plate, premultiplied(rig.draw(rest())))
        for k, row in enumerate(controls):
            rig.advance(row)
            if k not in wanted:
                continue
            image, truth = rig.draw_with_truth(row)
            cut_out = premultiplied(image)
            frames.append(over(whole.plate, cut_out))
            if seen:
                small.append(averaged(cut_out, seen))
            mouths.append(truth.mouth_box)
            eyes.append(truth.eye_boxes)
    cut_outs = np.stack(small) if small else np.zeros((0, 0, 0, 4), np.uint8)
    return Drawn(whole, still, np.stack(frames), cut_outs, mouths, eyes)


def cue(controls: np.ndarray, heard: np.ndarray) -> FrameConditions:
    """A frame's conditions, with the neutral emotion of a new session."""
    return FrameConditions(controls, heard.astype(np.float32), np.zeros(len(EMOTIONS), np.float32))


def begin(renderer: GraphFrameRenderer, shown: Portrait, size: int, seed: int) -> Stream:
    """Opens a session with frames of `size`."""
    return renderer.stream(renderer.prepare(shown.references, shown.face, shown.centre, size, shown.plate), seed)


def paint(renderer: GraphFrameRenderer, stream: Stream, now: FrameConditions) -> np.ndarray:
    """The session's next frame, [S, S, 4] uint8 premultiplied. Raises NotFinite."""
    renderer.hear(stream, now)
    return drawn_frame(renderer, stream)


def drawn_frame(renderer: GraphFrameRenderer, stream: Stream) -> np.ndarray:
    """What was heard last as a frame [S, S, 4] uint8 premultiplied. Raises NotFinite."""
    (frame,) = renderer.draw([stream], planes=False)
    if isinstance(frame, NotFinite):
        raise frame
    pixels = np.asarray(frame)
    return pixels if stream.still.scene.opaque else premultiplied(pixels)


def painted(
    renderer: GraphFrameRenderer, shown: Portrait, size: int, said: Passage, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yields the passage's frames, each [S, S, 4] uint8 premultiplied."""
    stream = begin(renderer, shown, size, seed)
    for controls, heard in zip(said.controls, said.heard, strict=True):
        yield paint(renderer, stream, cue(controls, heard))


def cut(frame: np.ndarray, box: Box, margin: float = 3.0) -> np.ndarray:
    """The part [h, w, 3] of a frame [S, S, 4] inside a box with a margin in pixels of a frame of 256."""
    size = frame.shape[0]
    around = margin * size / 256
    x0, y0 = (int(np.clip(v - around, 0, size - 2)) for v in box[:2])
    x1, y1 = (int(np.clip(np.ceil(v + around), 2, size)) for v in box[2:])
    return frame[y0 : max(y1, y0 + 2), x0 : max(x1, x0 + 2), :3]
