"""Training scenes for the generator: studio characters that speak, look around and gesture, rendered on the fly.

A scene is one character, its reference pictures, and some frames with full ground truth. Loose parts and latches
remember the whole passage, its undrawn frames included. Characters with seeds below `FIRST_SEED`, including those that
a server offers, are never used here: they are held out for testing.

Letters used in shapes: T frames, N frames of a passage, S picture edge, s latent edge (S / 16), C controls, A frames of
audio per frame, W outputs of the articulation network per frame (voices.WIDTH), M mouth channels, R references, K key
points of rig.KEYPOINTS, P followed points, Q tracked points, L latches (dynamics.LATCHES).
"""

import multiprocessing
import queue
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from streamer.base.constants import FPS
from streamer.motion.articulation import PROSODY
from streamer.motion.controls import CONTROLS, EMOTIONS, HIGHEST, INDEX, LOWEST, MOUTH
from streamer.motion.idle import IdleMotion
from streamer.training.drawn_scene import WEIGHT_STRIDE, Passage, choose_roles, draw
from streamer.training.variety import Bend, Style
from streamer.training.voices import Voices

__all__ = ["FIRST_SEED", "SEEDS", "WEIGHT_STRIDE", "Scene", "Scenes", "Shot", "passage", "perform", "scene", "windows"]

FIRST_SEED = 100_000
SEEDS = 200_000
"""Training characters have the seeds FIRST_SEED to FIRST_SEED + SEEDS - 1."""

_LOOK_ROUND = 2.0
"""Seconds after which a waiting worker checks whether it is still needed."""
_SHOWN = 0.45  # from which a raised hand is well in the picture
_WARM_UP = 2 * FPS  # frames of idle motion before a scene begins


def _nothing() -> np.ndarray:
    return np.zeros(0, np.float32)


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
    # From here on arrays are empty where a scene's source does not tell.
    references: np.ndarray = field(default_factory=_nothing)
    """[R, S, S, 4] uint8: pictures to copy from, the first of which is `picture`"""
    reference_roles: tuple[str, ...] = ()
    """[R] of drawn_scene.ROLES"""
    reference_controls: np.ndarray = field(default_factory=_nothing)
    """[R, C] float32"""
    reference_points: np.ndarray = field(default_factory=_nothing)
    """[R, Q, 3] float32: points of the character in each reference, in pixels, and 1 where seen there, else 0. A point
    that is seen in reference and frame is exact flow between them."""
    frame_points: np.ndarray = field(default_factory=_nothing)
    """[T, Q, 3] float32: the same points in each frame"""
    keypoints: np.ndarray = field(default_factory=_nothing)
    """[T, K, 3] float32: x, y in pixels, and 1 where visible, else 0"""
    reference_keypoints: np.ndarray = field(default_factory=_nothing)
    """[R, K, 3] float32"""
    boxes: np.ndarray = field(default_factory=_nothing)
    """[T, 5, 4] float32: x0, y0, x1, y1 in pixels of drawn_scene.BOXES; 0 for a hand that is not in the picture"""
    reference_boxes: np.ndarray = field(default_factory=_nothing)
    """[R, 5, 4] float32"""
    latches: np.ndarray = field(default_factory=_nothing)
    """[T, L] float32: 0 in place, to 1 out of place"""


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


def _ask_for_more(controls: np.ndarray, rng: np.random.Generator, further: float = 1.0) -> None:
    """In place: a plan [T, C] as a user gives it, with poses, glances and winks of its own. Heads turn `further` than
    _REACH.
    """
    frames = len(controls)
    for name, reach in _REACH.items():
        if rng.random() < 0.5:
            reach *= further if name in ("yaw", "pitch", "roll") else 1.0
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


def _lived(
    total: int, voices: Voices, silence: np.ndarray, wide: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Controls [N, C], heard [N, W], truth [N, M] and emotion [N, E] of idle motion and speech."""
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
    return controls, heard, truth, emotion


def perform(
    frames: int, voices: Voices, silence: np.ndarray, wide: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    A passage of a speaking character: controls [T, C], heard [T, W], truth [T, M], emotion [T, E]. In a fraction `wide`
    of the passages, mouth and lids take all shapes instead.
    """
    lived = _lived(frames + _WARM_UP, voices, silence, wide, rng)
    controls, heard, truth, emotion = (x[_WARM_UP:] for x in lived)
    if rng.random() < 0.35:
        _ask_for_more(controls, rng)
    return controls, heard, truth, emotion


def passage(
    frames: int, drawn: np.ndarray, hands: bool, voices: Voices, silence: np.ndarray, wide: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """
    As `perform`, of _WARM_UP + `frames` frames, so that loose parts have swung before the first that counts. Heads turn
    up to twice as far, shake, nod and toss. Hands are seen in some of the frames `drawn` [T], or in none at all.
    """
    total = frames + _WARM_UP
    controls, heard, truth, emotion = _lived(total, voices, silence, wide, rng)
    if rng.random() < 0.5:
        _ask_for_more(controls, rng, float(rng.uniform(1.0, 2.0)))
    for chance, gesture in ((0.4, _shake), (0.35, _nods), (0.3, _toss)):
        if rng.random() < chance:
            gesture(controls, int(rng.integers(total)), rng)
    _show_hands(controls, _WARM_UP + drawn, hands, rng)
    np.clip(controls, LOWEST, HIGHEST, out=controls)
    return controls, heard, truth, emotion


def _shake(controls: np.ndarray, start: int, rng: np.random.Generator) -> None:
    """In place: the head shakes, hard enough that a lock of hair may fall."""
    t = np.arange(min(int(rng.uniform(0.8, 1.6) * FPS), len(controls) - start)) / FPS
    swing = rng.uniform(0.2, 0.35) * np.sin(2 * np.pi * rng.uniform(1.6, 2.4) * t) * np.minimum(1, 6 * t)
    controls[start : start + len(t), INDEX["yaw"]] += swing


def _nods(controls: np.ndarray, start: int, rng: np.random.Generator) -> None:
    """In place: deep nods, at which glasses slip."""
    t = np.arange(min(int(rng.uniform(1.0, 3.0) * FPS), len(controls) - start)) / FPS
    swing = rng.uniform(0.12, 0.28) * np.maximum(np.sin(2 * np.pi * rng.uniform(1.0, 1.8) * t), 0)
    controls[start : start + len(t), INDEX["pitch"]] -= swing


def _toss(controls: np.ndarray, start: int, rng: np.random.Generator) -> None:
    """In place: the head is tossed back, which puts hair, glasses and hoods in place."""
    shape = np.array([-0.25, -0.3, 0.5, 1.0, 0.9, 0.5, 0.2, 0.05])[: len(controls) - start]
    controls[start : start + len(shape), INDEX["pitch"]] += rng.uniform(0.22, 0.3) * shape
    controls[start : start + len(shape), INDEX["yaw"]] += rng.normal(0, 0.08) * shape


def _show_hands(controls: np.ndarray, drawn: np.ndarray, hands: bool, rng: np.random.Generator) -> None:
    """In place: one or both hands are up in some of the frames `drawn`, or both are down throughout."""
    raises = np.array([INDEX["left_raise"], INDEX["right_raise"]])
    if not hands:
        controls[:, raises] = 0
        return
    if (controls[np.ix_(drawn, raises)] > _SHOWN).any():
        return
    middle = int(rng.choice(drawn))
    ramp = np.clip(1 - (np.abs(np.arange(len(controls)) - middle) - rng.uniform(4, 40)) / 8, 0, 1)
    for side in ("left", "right") if rng.random() < 0.5 else (str(rng.choice(("left", "right"))),):
        controls[:, INDEX[f"{side}_raise"]] = rng.uniform(0.6, 1.0) * ramp
        for name, middling, reach in (("x", 0.0, 0.2), ("y", 0.05, 0.15), ("turn", 0.1, 0.25), ("curl", 0.2, 0.3),
                                      ("point", 0.0, 0.4)):  # fmt: skip
            controls[:, INDEX[f"{side}_{name}"]] = middling + reach * _smooth_noise(len(controls), 1.5, rng)


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
    hands: float = 0.4
    """Fraction of scenes in which hands are seen in at least one drawn frame; in the others they never are."""
    references: int = 1
    """Reference pictures at most, the neutral one included; each number from 1 on is equally likely."""
    tracked: int = 0
    """Points whose places are told in all references and frames. 0 draws twice as fast."""

    def __post_init__(self) -> None:
        if min(self.frames, self.run, self.window) < 1 or self.frames % self.run or self.spread < self.run:
            raise ValueError(f"{self.frames} frames in runs of {self.run}, one every {self.spread}: do not fit")
        if self.references < 1 or self.tracked < 0:
            raise ValueError(f"a scene has at least 1 reference and 0 tracked points, not {self.references} and "
                             f"{self.tracked}")  # fmt: skip

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
    frames = int(at[-1]) + 1
    hands = bool(rng.random() < shot.hands)
    controls, heard, truth, emotion = passage(frames, at, hands, voices, silence, shot.wide, rng)
    acted = Passage(controls, emotion, _WARM_UP + at)
    roles = choose_roles(shot.references, hands, rng)
    drawn = draw(seed, shot.size, acted, roles, shot.tracked, rng.random() < shot.opaque, rng)
    if rng.random() < shot.bent:
        _bend(drawn, Bend.random(rng), shot.size)
    style = Style.random(rng) if rng.random() < shot.styled else None
    controls, heard, truth, emotion = (x[_WARM_UP:] for x in (controls, heard, truth, emotion))
    return Scene(
        seed=seed, controls=windows(controls, 2)[at], heard=windows(heard, shot.window)[at], truth=truth[at],
        emotion=emotion[at], style=style, reference_roles=roles, **drawn,
    )  # fmt: skip


def _bend(drawn: dict[str, np.ndarray], bend: Bend, size: int) -> None:
    """In place: bends all pictures, maps, points and boxes of a scene alike."""
    for name in ("picture", "face", "frames", "weights", "references"):
        drawn[name] = bend(drawn[name])
    for name in ("mouths", "points", "boxes", "reference_boxes"):
        places = drawn[name]
        drawn[name] = bend.places(places.reshape(-1, 2), size).reshape(places.shape)
        if name.endswith("boxes"):
            drawn[name][~places.any(-1)] = 0
    for name in ("followed", "keypoints", "reference_keypoints", "reference_points", "frame_points"):
        places = drawn[name]
        if places.size:
            moved = bend.places(places[..., :2].reshape(-1, 2), size).reshape(*places.shape[:-1], 2)
            moved[~places.any(-1)] = 0  # a lowered hand's points have no place
            drawn[name] = np.concatenate([moved, places[..., 2:]], -1)


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
