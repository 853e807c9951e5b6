"""What the painter learns from: pictures of one character, frames of it in motion, and where everything comes from.

    studio characters (rendered as needed) ──┐
    clips of people, photographs (on disk) ──┴▶ Footage ─▶ `Made`, rendered and read by other processes

Everything is cut out: frames and references are premultiplied RGBA of the character alone, which live sessions
composite over a static background. A small part keeps its background, for pictures whose character cannot be cut out.

Letters used in shapes: T frames, R references, S picture edge, P points, C controls.
"""

import dataclasses
import multiprocessing
import queue
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

import cv2
import numpy as np

from streamer.training.clip import FLOW_UNIT, UNSEEN, Clip
from streamer.training.drawn_scene import BOXES
from streamer.training.people import shards
from streamer.training.people.training_scene import scene_of
from streamer.training.scenes import FIRST_SEED, SEEDS, Scene, Shot, scene, windows
from streamer.training.stylised import stylised
from streamer.training.variety import Style
from streamer.training.voices import Voices

T = TypeVar("T")

_RUN = 4
"""Consecutive frames of a clip."""

_LIVE = ("neutral", "eyes_shut", "mouth_open")
"""Roles of the references of studio characters in live sessions."""
_AS_LIVE = 0.7

POINTS = 500
"""Points per frame whose source in each reference is known."""

_LOOK_ROUND = 2.0
"""Seconds after which a waiting worker checks whether it is still needed."""


@dataclass(frozen=True, eq=False)
class Footage:
    """One character. Pictures are premultiplied RGBA."""

    source: str
    """"drawn", "people" or another key of the mix."""
    references: np.ndarray  # [R, S, S, 4] uint8: the neutral picture first
    frames: np.ndarray  # [T, S, S, 4] uint8
    weights: np.ndarray  # [T, S / 4, S / 4] float16: importance of each position
    mouths: np.ndarray  # [T, 4] float32: box of the mouth in pixels
    eyes: np.ndarray  # [T, 2] float32: midpoint between the eyes in pixels
    places: np.ndarray  # [T, P, 2] float32: points of each frame, in pixels
    origins: np.ndarray  # [T, R, P, 2] float32: where they are in each reference
    known: np.ndarray  # [T, R, P] bool: whether they can be seen there
    style: Style | None = None
    """Applied when a crop is taken; the encoder sees the pictures without it."""


def _eyes(mouths: np.ndarray, size: int) -> np.ndarray:
    """[T, 2]: about where the eyes are above a mouth; patches need no better."""
    return (mouths[:, :2] + mouths[:, 2:]) / 2 - np.array([0, 0.12 * size], np.float32)


def drawn(taken: Scene, rng: np.random.Generator) -> Footage:
    """A studio scene with tracked points, its references in a random order that mostly begins as live sessions do."""
    count = len(taken.references)
    order = [0, *(1 + rng.permutation(count - 1))]
    if rng.random() < _AS_LIVE:
        order.sort(key=lambda r: _LIVE.index(role) if (role := taken.reference_roles[r]) in _LIVE else len(_LIVE))
    origins, frames = taken.reference_points[order], taken.frame_points
    seen = np.stack([rng.choice(np.flatnonzero(frame[:, 2] > 0), POINTS) for frame in frames])
    row = np.arange(len(frames))[:, None]
    sources = origins[:, seen].swapaxes(0, 1)
    return Footage(
        "drawn",
        taken.references[order],
        taken.frames,
        taken.weights,
        taken.boxes[:, BOXES.index("mouth")],
        (taken.boxes[:, 1, :2] + taken.boxes[:, 1, 2:] + taken.boxes[:, 2, :2] + taken.boxes[:, 2, 2:]) / 4,
        frames[row, seen, :2],
        sources[..., :2],
        sources[..., 2] > 0,
        taken.style,
    )


def _sources(clip: Clip, chosen: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """places [T, P, 2], origins [T, R, P, 2], known [T, R, P] of random places of a clip, more of them in its face."""
    frames, size = clip.frames.shape[:2]
    half = size // 2
    places = np.empty((frames, POINTS, 2), np.float32)
    for k in range(frames):
        candidates = np.flatnonzero(clip.mattes[k, ::2, ::2] > 200)
        if not len(candidates):
            candidates = np.arange(half * half)
        picked = rng.choice(candidates, POINTS)
        places[k] = np.stack([picked % half, picked // half], 1) * 2
    x, y = places.astype(int).transpose(2, 0, 1)
    row = np.arange(frames)[:, None]
    origins, known = [], []
    for r in chosen:
        if r == 0:
            moved = clip.flow[row, y // 2, x // 2]
        else:
            moved = clip.flows[row, r - 1, y // 4, x // 4]
        known.append(moved[..., 0] != UNSEEN)
        # A coarser flow is that of a neighbouring pixel, which moves alike.
        origins.append(places + moved.astype(np.float32) / FLOW_UNIT)
    return places + 0.5, np.stack(origins, 1) + 0.5, np.stack(known, 1)


def of_clip(clip: Clip, source: str, rng: np.random.Generator, opaque: float, frames: int, styled: float) -> Footage:
    """Some frames of a clip with its references: the neutral one, and a random few of the others."""
    at = np.sort(rng.choice(len(clip.frames), min(frames, len(clip.frames)), replace=False))
    names = ("at", "frames", "mattes", "parts", "flow", "flows", "before", "points", "controls", "heard", "truth",
             "emotion", "openings")  # fmt: skip
    values = {name: getattr(clip, name)[at] for name in names}
    values["tracks"] = clip.tracks[np.concatenate([[0], at + 1])]
    few = type(clip)(**{**{f: getattr(clip, f) for f in clip.__dataclass_fields__}, **values})
    taken = scene_of(few, clip.frames.shape[1], rng, opaque=opaque)
    solid = bool((taken.picture[..., 3] == 255).all())
    others = 1 + rng.permutation(len(clip.references) - 1)
    if rng.random() < _AS_LIVE:
        others = np.array(sorted(others, key=lambda r: clip.roles[r] not in _LIVE))
    others = others[:2]
    references = [taken.picture]
    for r in others:
        picture, matte = clip.grain[r](clip.references[r]), clip.reference_mattes[r]
        if solid:
            references.append(np.concatenate([picture, np.full_like(picture[..., :1], 255)], 2))
        else:
            share = matte[..., None].astype(np.float32) / 255
            colour = np.clip(picture - clip.background * (1 - share), 0, 255 * share)
            references.append(np.concatenate([colour.astype(np.uint8), matte[..., None]], 2))
    places, origins, known = _sources(few, [0, *others], rng)
    return Footage(
        source,
        np.stack(references),
        taken.frames,
        taken.weights,
        taken.mouths,
        _eyes(taken.mouths, len(taken.picture)),
        places,
        origins,
        known,
        Style.random(rng) if rng.random() < styled else None,
    )


def half(footage: Footage, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """References, and the chosen frames, at half the size: what the networks see."""

    def shrunk(pictures: np.ndarray) -> np.ndarray:
        edge = pictures.shape[1] // 2
        return np.stack([cv2.resize(picture, (edge, edge), interpolation=cv2.INTER_AREA) for picture in pictures])

    return shrunk(footage.references), shrunk(footage.frames[chosen])


@dataclass(frozen=True)
class Mix:
    """Where footage comes from."""

    clips: Mapping[str, tuple[Path, float]]
    """Name -> folder of shards, and its share."""
    drawn: float
    """Share of studio scenes."""
    frames: int = 8
    opaque: float = 0.12
    """Share of footage that keeps its background."""
    styled: float = 0.3
    """Share of clips in a style that is not theirs; studio scenes have a share of their own."""
    repainted: float = 0.2
    """Share of clips that are painted, inked or toned anew (`stylised`)."""


def _chosen(mix: Mix, rng: np.random.Generator) -> tuple[str, Clip | None]:
    """A source and a clip of it; none of "drawn", which is rendered."""
    names = [*mix.clips, "drawn"]
    shares = np.array([*(share for _, share in mix.clips.values()), mix.drawn])
    source = str(rng.choice(names, p=shares / shares.sum()))
    if source == "drawn":
        return source, None
    files = sorted(mix.clips[source][0].glob("shard_*.npz"))
    clip = shards.read_random(files[int(rng.integers(len(files)))], rng)
    return source, stylised(clip, rng) if rng.random() < mix.repainted else clip


def make_footage(mix: Mix, shot: Shot, voices: Voices, silence: np.ndarray, rng: np.random.Generator) -> Footage:
    """One footage of the mix, for the painter."""
    source, clip = _chosen(mix, rng)
    if clip is None:
        return drawn(scene(FIRST_SEED + int(rng.integers(SEEDS)), shot, voices, silence, rng), rng)
    return of_clip(clip, source, rng, mix.opaque, mix.frames, mix.styled)


def make_scene(mix: Mix, shot: Shot, voices: Voices, silence: np.ndarray, rng: np.random.Generator) -> Scene:
    """One scene of the mix, for the generator: runs of `shot.run` frames, with what was heard before each."""
    _, clip = _chosen(mix, rng)
    if clip is None:
        return scene(FIRST_SEED + int(rng.integers(SEEDS)), shot, voices, silence, rng)
    taken = scene_of(clip, shot.size, rng, opaque=mix.opaque)
    # Clips consist of runs of four consecutive frames; what was heard before a run is not known.
    runs = taken.heard[:, 0].reshape(-1, _RUN, taken.heard.shape[-1])
    heard = np.concatenate([windows(run, shot.window) for run in runs])
    return dataclasses.replace(taken, heard=heard, style=Style.random(rng) if rng.random() < mix.styled else None)


Make = Callable[[Mix, Shot, Voices, np.ndarray, np.random.Generator], T]


def _work(
    make: "Make[T]", mix: Mix, shot: Shot, voices: Voices, silence: np.ndarray, seed: int,
    out: "multiprocessing.Queue[T]",
) -> None:  # fmt: skip
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    parent = multiprocessing.parent_process()
    assert parent is not None
    while True:
        made = make(mix, shot, voices, silence, rng)
        while True:
            try:
                out.put(made, timeout=_LOOK_ROUND)
                break
            except queue.Full:  # if the training process was killed, nothing else ends this worker
                if not parent.is_alive():
                    out.cancel_join_thread()
                    return


class Made(Generic[T]):
    """An endless stream of what other processes make. Close it, or use it as a context manager."""

    def __init__(
        self,
        make: "Make[T]",
        mix: Mix,
        shot: Shot,
        voices: Voices,
        silence: np.ndarray,
        seed: int,
        processes: int = 1,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue: multiprocessing.Queue[T] = context.Queue(3 * processes)
        self._workers = [
            context.Process(target=_work, args=(make, mix, shot, voices, silence, seed + i, self._queue), daemon=True)
            for i in range(processes)
        ]
        for worker in self._workers:
            worker.start()

    def take(self) -> T:
        """The next one. Raises RuntimeError if a worker has died."""
        while True:
            try:
                return self._queue.get(timeout=5.0)
            except queue.Empty:
                dead = [worker for worker in self._workers if not worker.is_alive()]
                if dead:
                    raise RuntimeError(f"{len(dead)} of {len(self._workers)} workers have died") from None

    def close(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(5.0)
        self._queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
