"""Clips of rendered people and of moved photographs: how close frames come, and whether lips follow the voice.

Clips are those of `streamer.training.clip`; the truth is their frames. Lips are read by the project's landmark network,
which has no part in training or drawing, as the distance of the inner lips relative to the eyes' distance. How well it
reads the true frames is measured alike.

Letters in shapes: T frames, S edge of frames, s edge of the networks' pictures.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from benchmarks.quality.clips import Drawn, averaged, begin, cue, frame_size, paint, with_references
from benchmarks.quality.lips import Fidelity, shut_lids
from benchmarks.quality.measures import Pairs, lag_ms, pcc
from benchmarks.quality.reconstruction import Reconstruction
from streamer.avatar.portrait import MOST_REFERENCES, Portrait
from streamer.faces.landmarks import box_of, roll_of
from streamer.model.config import STRIDE
from streamer.model.runtime.graph_cpu import GraphFrameRenderer
from streamer.motion.controls import INDEX
from streamer.studio.face_fit import FaceFit
from streamer.training.clip import Clip
from streamer.training.people import shards
from streamer.training.people.parts import PART

_LIPS = (61, 291, 0, 17, 37, 267, 84, 314, 40, 270, 91, 321)
_EYES = ((33, 133, 159, 145, 160, 144, 158, 153), (362, 263, 386, 374, 385, 380, 387, 373))
"""Landmarks around mouth and eyes, the viewer's left eye first."""
_ROLES = ("neutral", "eyes_shut", "mouth_open")
"""References in the order of live sessions."""
_FACE = [PART[name] for name in ("face", "lips", "mouth", "teeth", "tongue", "eye", "brow", "lash")]


def cut_out(picture: np.ndarray, matte: np.ndarray, background: np.ndarray) -> np.ndarray:
    """[S, S, 3] uint8, of which `matte` [S, S] uint8 covers the background: [S, S, 4] uint8 premultiplied."""
    share = matte[..., None].astype(np.float32) / 255
    colour = np.clip(picture - background * (1 - share), 0, 255 * share)
    return np.concatenate([colour.astype(np.uint8), matte[..., None]], 2)


def _box(points: np.ndarray, chosen: Sequence[int]) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = (edge(points[list(chosen), :2], 0) for edge in (np.min, np.max))
    return float(x0), float(y0), float(x1), float(y1)


def drawn_of(clip: Clip, size: int, seen: int) -> Drawn:
    """A clip with frames of `size`, drawn from its references, over its background; cut-outs at `seen`."""
    order = sorted(range(len(clip.roles)), key=lambda r: (*_ROLES, *clip.roles).index(clip.roles[r]))
    references = [cut_out(clip.references[r], clip.reference_mattes[r], clip.background) for r in order]
    roles = tuple(clip.roles[r] for r in order)
    full = clip.frames.shape[1]
    scale = np.float32(size / full)
    own = clip.reference_points[order[0]]
    eyes = np.concatenate([own[list(eye), :2] for eye in _EYES]).mean(0)
    centre = (eyes + own[list(_LIPS), :2].mean(0)) / 2 / full
    face = np.isin(clip.reference_parts[order[0]], _FACE).astype(np.float32)
    edge = seen // STRIDE
    plate = np.dstack([averaged(clip.background, size), np.full((size, size), 255, np.uint8)])
    portrait = Portrait(
        tuple(references[:MOST_REFERENCES]), roles[:MOST_REFERENCES], plate,
        cv2.resize(face, (edge, edge), interpolation=cv2.INTER_AREA), (float(centre[0]), float(centre[1])),
    )  # fmt: skip

    def opaque(picture: np.ndarray) -> np.ndarray:
        return np.dstack([averaged(picture, size), np.full((size, size), 255, np.uint8)])

    small = [averaged(cut_out(frame, matte, clip.background), seen)
             for frame, matte in zip(clip.frames, clip.mattes, strict=True)]  # fmt: skip
    points = clip.points[..., :2] * scale
    return Drawn(
        portrait, opaque(clip.references[order[0]]), np.stack([opaque(frame) for frame in clip.frames]),
        np.stack(small), [_box(each, _LIPS) for each in points],
        [(_box(each, _EYES[0]), _box(each, _EYES[1])) for each in points],
    )  # fmt: skip


class Finder(Protocol):
    """A landmark network, as `streamer.faces.landmarks.Landmarker`."""

    def find(self, picture: np.ndarray) -> list[FaceFit]: ...

    def look(self, picture: np.ndarray, box: Sequence[float], roll: float = 0.0) -> FaceFit | None: ...


def gaps(finder: Finder, frames: Sequence[np.ndarray], still: np.ndarray) -> np.ndarray | None:
    """
    [T]: distance of the inner lips in opaque frames [S, S, 4] of the face in `still`; the value before where no face is
    found. None if there is none in `still`.
    """
    found = finder.find(still)
    if not found:
        return None
    before, out = found[0], []
    for frame in frames:
        before = finder.look(frame, box_of(before).tolist(), roll_of(before)) or before
        out.append(before.lip_gap)
    return np.array(out, np.float32)


def read(folder: Path, most: int) -> Iterator[Clip]:
    """The first clip of each of the first `most` shards in `folder`. Raises FileNotFoundError if there are none."""
    paths = sorted(folder.glob("shard_*.npz"))[:most]
    if not paths:
        raise FileNotFoundError(f"no clips in {folder}")
    for path in paths:
        yield next(shards.read(path))


def _scaled(pairs: Pairs) -> Pairs:
    """Each clip's readings and its curve with mean 0, the readings as wide as the curve: faces differ in size."""
    out = []
    for seen, due in pairs:
        seen, due = seen - seen.mean(), due - due.mean()
        out.append((seen * (due.std() / max(float(seen.std()), 1e-6)), due))
    return out


def measure(
    renderer: GraphFrameRenderer | None,
    painter: Reconstruction,
    clips: Iterable[Clip],
    finder: Finder | None = None,
    references: Sequence[int] = (1, MOST_REFERENCES),
) -> dict[str, Any]:
    """
    Compares generator (with most references; none: not measured) and autoencoder (with each number of `references`)
    with the clips' frames; with a `finder` also the lips of all of them, and of the true frames, with the curves.
    """
    size, seen = frame_size(painter.config), painter.config.size
    names = [f"autoencoder, {count}" for count in references] + (["one step"] if renderer else [])
    fidelity = {name: Fidelity() for name in names}
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in ("true frames", *names)}
    count = people = unread = 0
    for clip in clips:
        drawn = drawn_of(clip, size, seen)
        controls = clip.controls[:, 1]
        shut, opening = shut_lids(controls), controls[:, INDEX["open"]].clip(0, 1)
        shown: dict[str, list[np.ndarray]] = {"true frames": list(drawn.frames)}
        for number in references:
            few = with_references(drawn.given, number)
            shown[f"autoencoder, {number}"] = list(painter.rebuild(few, size, drawn.seen))
        if renderer is not None:
            stream = begin(renderer, drawn.given, size, clip.person)
            cues = zip(controls, clip.heard, strict=True)
            shown["one step"] = [paint(renderer, stream, cue(row, heard)) for row, heard in cues]
        for name in names:
            for k, frame in enumerate(shown[name]):
                fidelity[name].add(frame, drawn, k, shut[k])
        if finder is not None:
            readings = {name: gaps(finder, frames, drawn.still) for name, frames in shown.items()}
            unread += readings["true frames"] is None
            for name, gap in readings.items():
                if gap is not None:
                    pairs[name].append((gap, opening))
        count, people = count + len(controls), people + 1
    out: dict[str, Any] = {"n": count, "clips": people, "size": size, "unread": unread, "columns": {}}
    for name in pairs:
        column = fidelity[name].numbers() if name in fidelity else {}
        if pairs[name]:
            scaled = _scaled(pairs[name])
            column |= {"pcc_curves": pcc(scaled), "lag_curves_ms": lag_ms(scaled)}
        if column:
            out["columns"][name] = column
    return out
