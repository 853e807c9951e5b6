"""Training scenes for the generator: studio characters that speak, look around and gesture, rendered on the fly.

A scene is one character, its neutral picture, and some frames with full ground truth. Characters with seeds below
`FIRST_SEED`, including those that a server offers, are never used here: they are held out for testing.

Letters used in shapes: T frames, S picture edge, s latent edge (S / 16), C controls, A frames of audio per frame, W
outputs of the articulation network per frame (voices.WIDTH), M mouth channels.
"""

import multiprocessing
import queue
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamer.base.alpha import premultiplied
from streamer.base.constants import FPS
from streamer.model.config import STRIDE
from streamer.motion.articulation import PROSODY
from streamer.motion.controls import CONTROLS, EMOTIONS, INDEX, MOUTH, rest
from streamer.motion.idle import IdleMotion
from streamer.studio.character import Character
from streamer.studio.rig import KEYPOINTS, Rig, Truth
from streamer.training.variety import Bend, Style
from streamer.training.voices import Voices

FIRST_SEED = 100_000
SEEDS = 200_000
"""Training characters have the seeds FIRST_SEED to FIRST_SEED + SEEDS - 1."""

WEIGHT_STRIDE = 4
_MOUTH, _EYES, _FACE, _HANDS = 10.0, 9.0, 1.5, 2.5
_HAND_POINTS = np.array([i for i, name in enumerate(KEYPOINTS) if name.startswith("hand_")])
_POINTS = 400
_ALIKE = 30.0
"""Mean colour difference, of 255, up to which a point counts as visible in another frame."""
_LOOK_ROUND = 2.0
"""Seconds after which a waiting worker checks whether it is still needed."""
_WARM_UP = 2 * FPS  # frames of idle motion before a scene begins


@dataclass
class Scene:
    """One character's passage. Pictures are premultiplied RGBA."""

    seed: int
    picture: np.ndarray  # [S, S, 4] uint8: neutral, as in live use
    frames: np.ndarray  # [T, S, S, 4] uint8
    weights: np.ndarray  # [T, S / 4, S / 4] float16: importance of each position (mouth, eyes, face, hands)
    face: np.ndarray  # [s, s] float16: the fraction of a latent cell that shows the face, in the picture
    controls: np.ndarray  # [T, 2, C] float32: of the previous frame and of this one
    heard: np.ndarray  # [T, A, W] float32: recent articulation outputs; the mouth was drawn from the newest
    truth: np.ndarray  # [T, M] float32: the mouth that the phones require
    emotion: np.ndarray  # [T, len(EMOTIONS)] float32: strength of each
    mouths: np.ndarray  # [T, 4] float32: box of the mouth in pixels
    openings: np.ndarray  # [T] float32: distance between the inner lips relative to the character's maximum
    points: np.ndarray  # [P, 2] float32: points in the picture, in pixels
    followed: np.ndarray  # [T, P, 3] float32: their positions in the frame, and 1 if visible there, else 0
    style: Style | None  # a style to be applied; pictures and frames are stored without it


def _weights(truth: Truth, size: int) -> np.ndarray:
    """[S / 4, S / 4] float16."""
    edge = size // WEIGHT_STRIDE
    face = truth.face_mask.reshape(edge, WEIGHT_STRIDE, edge, WEIGHT_STRIDE).mean((1, 3))
    weights = 1 + (_FACE - 1) * face

    def raise_box(box: tuple[float, float, float, float], value: float, margin: float) -> None:
        x0, y0 = (int(max(v - margin, 0)) // WEIGHT_STRIDE for v in box[:2])
        x1, y1 = (-int(-(v + margin) // WEIGHT_STRIDE) for v in box[2:])
        region = weights[y0:y1, x0:x1]
        np.maximum(region, value, out=region)

    margin = 0.012 * size
    hands = truth.keypoints[_HAND_POINTS]
    hands = hands[hands[:, 2] > 0, :2]
    if len(hands):
        raise_box((*hands.min(0), *hands.max(0)), _HANDS, 2 * margin)
    for box in truth.eye_boxes:
        raise_box(box, _EYES, margin)
    raise_box(truth.mouth_box, _MOUTH, margin)
    return weights.astype(np.float16)


def _face(truth: Truth, size: int) -> np.ndarray:
    edge = size // STRIDE
    return truth.face_mask.reshape(edge, STRIDE, edge, STRIDE).mean((1, 3)).astype(np.float16)


def _smooth_noise(frames: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """[frames] of noise with variance about 1 that changes over `seconds`."""
    width = max(int(seconds * FPS), 2)
    window = np.hanning(width + 2)[1:-1]
    noise = np.convolve(rng.standard_normal(frames + width), window / np.sqrt((window**2).sum()), "valid")
    return noise[:frames]


# How far a user's motion plan may exceed the idle motion.
_REACH = {
    "yaw": 0.22, "pitch": 0.12, "roll": 0.14, "gaze_x": 0.5, "gaze_y": 0.4, "smile": 0.5, "brow_left": 0.5,
    "brow_right": 0.5, "brow_inner": 0.5, "lean": 0.4, "breath": 0.4,
}  # fmt: skip


def _ask_for_more(controls: np.ndarray, rng: np.random.Generator) -> None:
    """In place: a plan [T, C] as a user gives it, with poses, glances and winks of its own."""
    frames = len(controls)
    for name, reach in _REACH.items():
        if rng.random() < 0.5:
            controls[:, INDEX[name]] += reach * _smooth_noise(frames, float(rng.uniform(0.3, 2.0)), rng)
    for name in ("squint", "eye_wide", "blush", "shrug"):
        if rng.random() < 0.25:
            controls[:, INDEX[name]] += np.abs(0.5 * _smooth_noise(frames, 1.0, rng))
    for side in ("left", "right"):
        if rng.random() < 0.25:
            shut = (np.abs(_smooth_noise(frames, 0.3, rng)) > 1.0).astype(np.float32)
            blink = controls[:, INDEX[f"blink_{side}"]]
            np.maximum(blink, np.convolve(shut, [0.3, 0.6, 0.3], "same").clip(0, 1), out=blink)
        if rng.random() < 0.25:
            raised = np.clip(_smooth_noise(frames, 1.0, rng), 0, 1)
            controls[:, INDEX[f"{side}_raise"]] = np.maximum(controls[:, INDEX[f"{side}_raise"]], raised)
            for name, reach in (("x", 0.25), ("y", 0.25), ("turn", 0.4), ("curl", 0.8), ("point", 0.7)):
                controls[:, INDEX[f"{side}_{name}"]] += reach * _smooth_noise(frames, 1.5, rng)


def _mouthing(frames: int, rng: np.random.Generator) -> np.ndarray:
    """[T, M]: a mouth that takes all shapes, not only those of speech."""
    mouth = np.stack([np.clip(0.45 * _smooth_noise(frames, 0.25, rng), 0, 1) for _ in MOUTH], 1)
    mouth[:, 0] = np.clip(0.35 + 0.45 * _smooth_noise(frames, 0.25, rng), 0, 1)
    mouth[:, MOUTH.index("press")] *= mouth[:, 0] < 0.05
    return mouth.astype(np.float32)


def _blinking(frames: int, rng: np.random.Generator) -> np.ndarray:
    """[T, 2]: lids at any height, mostly equal: idle motion closes them in one frame of thirty."""
    left, right = (np.clip(0.5 + 0.6 * _smooth_noise(frames, 0.25, rng), 0, 1) for _ in range(2))
    return np.stack([left, left if rng.random() < 0.75 else right], 1).astype(np.float32)


def perform(
    frames: int, voices: Voices, silence: np.ndarray, wide: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    A passage of a speaking character: controls [T, C], heard [T, W], truth [T, M], emotion [T, E]. In a fraction `wide`
    of the passages, mouth and lids take all shapes instead.
    """
    total = frames + _WARM_UP
    heard, truth = voices.passage(total, silence, rng)
    all_shapes = rng.random() < wide
    if all_shapes:
        heard = heard.copy()
        heard[:, : len(MOUTH)] = _mouthing(total, rng)
    life = IdleMotion(int(rng.integers(2**31)))
    emotion = np.zeros((total, len(EMOTIONS)), np.float32)
    change = int(rng.integers(_WARM_UP, total)) if rng.random() < 0.3 else total
    for first, end in ((0, change), (change, total)):
        felt = int(rng.integers(len(EMOTIONS))) if rng.random() < 0.6 else 0
        emotion[first:end, felt] = rng.uniform(0.3, 1.0)
    controls = np.zeros((total, len(CONTROLS)), np.float32)
    for k in range(total):
        if k in (0, change):
            felt = int(emotion[k].argmax())
            life.emotion(EMOTIONS[felt], float(emotion[k, felt]))
        controls[k] = life.step(heard[k, : len(MOUTH)], heard[k, len(MOUTH) : len(MOUTH) + len(PROSODY)])
    if all_shapes:
        controls[:, [INDEX["blink_left"], INDEX["blink_right"]]] = _blinking(total, rng)
    controls, heard, truth, emotion = (x[_WARM_UP:] for x in (controls, heard, truth, emotion))
    if rng.random() < 0.35:
        _ask_for_more(controls, rng)
    return controls, heard, truth, emotion


def _patches(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Colours [P, 9, 3] of a premultiplied picture [S, S, 4] at and around points [P, 2]."""
    edge = len(picture) - 2
    x, y = np.floor(points).astype(int).clip(1, edge).T
    return np.stack([picture[y + j, x + i, :3] for j in (-1, 0, 1) for i in (-1, 0, 1)], 1).astype(np.int16)


def follow(picture: np.ndarray, points: np.ndarray, frame: np.ndarray, now: np.ndarray) -> np.ndarray:
    """[P, 3]: positions `now` [P, 2] in a frame of points [P, 2] of the picture, and 1 if it looks the same there."""
    inside = ((now >= 0) & (now < len(frame))).all(1)
    alike = np.abs(_patches(picture, points) - _patches(frame, now)).mean((1, 2)) < _ALIKE
    return np.concatenate([now, (inside & alike)[:, None]], 1).astype(np.float32)


def draw(
    seed: int, size: int, controls: np.ndarray, background: bool, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Renders the character of `seed` with controls [T, C]: a Scene's arrays."""
    with Rig(Character.from_seed(seed), size, background) as rig:
        image, truth = rig.draw_with_truth(rest())
        picture, face = premultiplied(image), _face(truth, size)
        points = rig.points()
        chosen = rng.choice(np.flatnonzero(points[:, 2]), _POINTS)
        points = points[chosen, :2]
        parts: dict[str, list] = {name: [] for name in ("frames", "followed", "weights", "mouths", "openings")}
        for row in controls:
            image, truth = rig.draw_with_truth(row)
            parts["frames"].append(premultiplied(image))
            parts["followed"].append(follow(picture, points, parts["frames"][-1], rig.points()[chosen, :2]))
            parts["weights"].append(_weights(truth, size))
            parts["mouths"].append(np.array(truth.mouth_box, np.float32))
            parts["openings"].append(np.float32(truth.inner_lip_share))
    return {
        "picture": picture,
        "face": face,
        "points": points,
        **{name: np.stack(rows) for name, rows in parts.items()},
    }


@dataclass(frozen=True)
class Shot:
    """Parameters of scenes."""

    size: int
    frames: int
    run: int = 1
    """Consecutive frames per run."""
    spread: int = 1
    """Frames of the passage from the start of one run to the start of the next."""
    window: int = 5
    """Number of frames, including its own, whose audio a frame sees."""
    wide: float = 0.1
    """Fraction of scenes in which mouth and lids take all shapes, not only those of speech and idle motion."""
    opaque: float = 0.8
    """Fraction of scenes with a painted background."""
    styled: float = 0.35
    """Fraction of scenes with a style other than the studio's."""
    bent: float = 0.5
    """Fraction of scenes that are slightly moved, stretched and bent."""

    def __post_init__(self) -> None:
        if min(self.frames, self.run, self.window) < 1 or self.frames % self.run or self.spread < self.run:
            raise ValueError(f"{self.frames} frames in runs of {self.run}, one every {self.spread}: do not fit")

    @property
    def drawn(self) -> np.ndarray:
        """[T]: indices of the passage's frames that are rendered."""
        k = np.arange(self.frames)
        return k // self.run * self.spread + k % self.run


def windows(x: np.ndarray, length: int) -> np.ndarray:
    """x [T, Q] -> [T, length, Q]: each frame with those before it, oldest first; the first frame is repeated."""
    padded = np.concatenate([np.repeat(x[:1], length - 1, 0), x])
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(padded, length, 0), -1, 1)


def scene(seed: int, shot: Shot, voices: Voices, silence: np.ndarray, rng: np.random.Generator) -> Scene:
    """One scene of the character with `seed`."""
    at = shot.drawn
    controls, heard, truth, emotion = perform(int(at[-1]) + 1, voices, silence, shot.wide, rng)
    drawn = draw(seed, shot.size, controls[at], rng.random() < shot.opaque, rng)
    if rng.random() < shot.bent:
        bend = Bend.random(rng)
        for name in ("picture", "face", "frames", "weights"):
            drawn[name] = bend(drawn[name])
        drawn["mouths"] = bend.places(drawn["mouths"].reshape(-1, 2), shot.size).reshape(-1, 4)
        drawn["points"] = bend.places(drawn["points"], shot.size)
        drawn["followed"][..., :2] = bend.places(drawn["followed"][..., :2].reshape(-1, 2), shot.size).reshape(
            *drawn["followed"].shape[:2], 2
        )
    style = Style.random(rng) if rng.random() < shot.styled else None
    return Scene(
        seed=seed, controls=windows(controls, 2)[at], heard=windows(heard, shot.window)[at], truth=truth[at],
        emotion=emotion[at], style=style, **drawn,
    )  # fmt: skip


def _work(job: tuple, out: "multiprocessing.Queue[Scene]", number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    shot, voices, silence, seed = job
    rng = np.random.default_rng([seed, number])
    parent = multiprocessing.parent_process()
    assert parent is not None
    while True:
        taken = scene(FIRST_SEED + int(rng.integers(SEEDS)), shot, voices, silence, rng)
        while True:
            try:
                out.put(taken, timeout=_LOOK_ROUND)
                break
            except queue.Full:  # if the training process was killed, nothing else ends this worker
                if not parent.is_alive():
                    out.cancel_join_thread()  # and nothing reads the remaining data
                    return


class Scenes:
    """An endless stream of scenes rendered by other processes. Close it, or use it as a context manager."""

    def __init__(self, shot: Shot, voices: Voices, silence: np.ndarray, seed: int, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue: multiprocessing.Queue[Scene] = context.Queue(4 * processes)
        job = (shot, voices, silence, seed)
        self._workers = [
            context.Process(target=_work, args=(job, self._queue, i), daemon=True) for i in range(processes)
        ]
        for worker in self._workers:
            worker.start()

    def __iter__(self) -> Iterator[Scene]:
        while True:
            yield self.take()

    def take(self) -> Scene:
        """The next scene. Raises RuntimeError if a worker has died."""
        while True:
            try:
                return self._queue.get(timeout=5.0)
            except queue.Empty:
                dead = [worker for worker in self._workers if not worker.is_alive()]
                if dead:
                    raise RuntimeError(f"{len(dead)} of {len(self._workers)} rendering workers have died") from None

    def close(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(5.0)
        self._queue.close()

    def __enter__(self) -> "Scenes":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
