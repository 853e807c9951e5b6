"""A seed to a clip: a person in some light, pictures of them to copy from, frames of them moving, and the truth.

People of the seeds below `FIRST_PERSON` are never made for training: they are held out.

Letters used in shapes: T frames, R references, S pixels along an edge, K key points, P followed points, C controls.
"""

from dataclasses import dataclass, field, fields

import numpy as np

from streamer.motion.controls import CONTROLS, INDEX
from streamer.studio.rig import BODY_KEYPOINTS, FINGERS, HAND_KEYPOINTS
from streamer.training.people import setting
from streamer.training.people.assets import Assets
from streamer.training.people.figure import Figure, Posed
from streamer.training.people.film import Grade, Grain
from streamer.training.people.identity import identity
from streamer.training.people.motion import REFERENCES, performed
from streamer.training.people.renderer import Frame, Renderer
from streamer.training.voices import Voices

FIRST_PERSON = 1_000
LANDMARKS = 478
KEYPOINTS = (*(f"landmark_{i}" for i in range(LANDMARKS)), *BODY_KEYPOINTS, *HAND_KEYPOINTS)
"""MediaPipe's 468 landmarks; the left and the right iris (the viewer's), middle and four points of the rim; the body's
and hands' points as the studio names them."""
UNSEEN = -20_000
"""In `flow`: the place is not to be seen in the other picture."""
FLOW_UNIT, TRACK_UNIT = 8.0, 32.0
"""Steps a pixel in which flows and followed points are stored."""
_FOLLOWED = 400
_WARM = 2


@dataclass(frozen=True)
class Shot:
    size: int = 512
    frames: int = 16
    hands: float = 0.35
    """Share of the clips that show hands."""
    wide: float = 0.2
    """Share of the clips whose mouth and lids go through all shapes and not only those of speech."""
    apart: float = 0.5
    """Share of the clips whose frames come in runs of four, some time apart; the others follow one another."""
    toon: float = 0.0
    """Share of the clips lit in flat tones."""

    def __post_init__(self) -> None:
        if self.size % 8 or not 64 <= self.size <= 1024:
            raise ValueError(f"a clip's pictures are 64 to 1024 pixels wide and divisible by 8, not {self.size}")
        if self.frames < 1 or self.frames % 4:
            raise ValueError(f"a clip has 4, 8, 12, … frames, not {self.frames}")

    def times(self, rng: np.random.Generator) -> np.ndarray:
        """[T]: which frames of the passage are rendered."""
        k = np.arange(self.frames)
        return _WARM + (k // 4 * 14 + k % 4 if rng.random() < self.apart else k)


@dataclass(frozen=True, eq=False)
class Clip:
    """Pictures are opaque sRGB before `background`; what covers it is in the mattes."""

    seed: int
    person: int
    roles: tuple[str, ...]
    """Of the references: the first is neutral."""
    grain: tuple[Grain, ...]
    """What the camera and its file would add to each reference."""
    at: np.ndarray
    """[T] int: when each frame is, in frames; neighbours follow one another where they differ by 1"""
    background: np.ndarray
    """[S, S, 3] uint8"""
    references: np.ndarray
    """[R, S, S, 3] uint8"""
    frames: np.ndarray
    """[T, S, S, 3] uint8"""
    reference_mattes: np.ndarray
    """[R, S, S] uint8"""
    mattes: np.ndarray
    """[T, S, S] uint8"""
    reference_parts: np.ndarray
    """[R, S, S] uint8: index in parts.PARTS"""
    parts: np.ndarray
    """[T, S, S] uint8"""
    places: np.ndarray
    """[R, S / 2, S / 2, 3] float16: where on the template each reference's pixel lies; pixel (2 i, 2 j) at [i, j]"""
    flow: np.ndarray
    """[T, S / 2, S / 2, 2] int16: x, y to be added to a pixel's place, in 1 / FLOW_UNIT pixels, to find it in the first
    reference; UNSEEN in x where it is not to be seen there. Of pixel (2 i, 2 j) at [i, j]."""
    flows: np.ndarray
    """[T, R - 1, S / 4, S / 4, 2] int16: the same for the other references; of pixel (4 i, 4 j)"""
    before: np.ndarray
    """[T, S / 4, S / 4, 2] int16: the same for the frame before in `frames`; of pixel (4 i, 4 j); the first's is 0"""
    reference_points: np.ndarray
    """[R, K, 3] float32: x, y in pixels, and 1 where visible"""
    points: np.ndarray
    """[T, K, 3] float32"""
    tracks: np.ndarray
    """[1 + T, P, 3] uint16: points of the first reference, there and in each frame: x, y in 1 / TRACK_UNIT pixels from
    (-128, -128); and 1 where visible"""
    reference_controls: np.ndarray
    """[R, C] float32"""
    controls: np.ndarray
    """[T, 2, C] float32: of the frame before in time, and of this one"""
    heard: np.ndarray
    """[T, W] float16: what the articulation network would say"""
    truth: np.ndarray
    """[T, M] float16"""
    emotion: np.ndarray
    """[T, E] float16"""
    openings: np.ndarray
    """[T] float32: distance of the inner lips, as a share of this face's widest"""

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.controls) or len(self.roles) != len(self.references):
            raise ValueError(f"{len(self.frames)} frames with {len(self.controls)} controls, {len(self.roles)} roles "
                             f"for {len(self.references)} references")  # fmt: skip


ARRAYS = tuple(f.name for f in fields(Clip) if f.name not in ("seed", "person", "roles", "grain"))


def flow_between(frame: Frame, other: Frame, step: int) -> np.ndarray:
    """[S / step, S / step, 2] int16: as Clip.flow has it, of every `step`th pixel."""
    flow, seen = frame.flow(other, step)
    result = np.round(flow * FLOW_UNIT).clip(-16_000, 16_000).astype(np.int16)
    result[~seen] = UNSEEN, 0
    return result


def keypoints(posed: Posed, frame: Frame, renderer: Renderer, matrix: np.ndarray, hands: bool) -> np.ndarray:
    """[K, 3] float32: x, y in pixels, and 1 where visible."""
    figure = posed.figure
    irises = figure.irises(posed)
    body = [posed.joint("neck02"), posed.joint("upperarm01.R"), posed.joint("upperarm01.L")]
    points = [*posed.landmarks, *irises, *body]
    for side in ("R", "L"):  # the viewer's left first
        points.append(posed.joint(f"wrist.{side}"))
        for finger in range(1, len(FINGERS) + 1):
            joints = [posed.joint(f"finger{finger}-{joint}.{side}") for joint in (1, 2, 3)]
            points += [*joints, joints[2] + 0.85 * (joints[2] - joints[1])]
    projected = renderer.project(np.array(points), matrix)
    # Joints lie inside: as deep as a shoulder or a finger is thick.
    depth = np.full(len(points), 0.12, np.float32)
    depth[LANDMARKS : LANDMARKS + 3] = 1.2
    depth[LANDMARKS + 3 :] = 0.22
    visible = frame.visible(projected, depth)
    if not hands:
        visible[LANDMARKS + 3 :] = False
    return np.concatenate([projected[:, :2], visible[:, None]], 1).astype(np.float32)


class Tracker:
    """Follows points of one frame of a figure through others."""

    def __init__(self, frame: Frame, count: int, rng: np.random.Generator) -> None:
        shown = np.flatnonzero(frame.hit.ravel() >= 0)
        hit = frame.hit.ravel()[rng.choice(shown, count)] if len(shown) else np.zeros(count, int)
        self._corners = frame.posed.figure.triangles[hit]
        self._weights = rng.dirichlet([2.0, 2.0, 2.0], count)

    def places(self, posed: Posed, frame: Frame, renderer: Renderer, matrix: np.ndarray) -> np.ndarray:
        """[P, 3] uint16 as Clip.tracks has it."""
        points = np.einsum("pk,pkc->pc", self._weights, posed.points[self._corners])
        projected = renderer.project(points, matrix)
        visible = frame.visible(projected, 0.06)
        steps = ((projected[:, :2] + 128) * TRACK_UNIT).round().clip(0, 65_535)
        return np.concatenate([steps, visible[:, None]], 1).astype(np.uint16)


@dataclass(eq=False)
class Studio:
    """Makes clips of one size. Keeps the last person, whose clips are best asked for one after the other."""

    assets: Assets
    shot: Shot
    voices: Voices
    silence: np.ndarray
    _figures: dict[tuple[int, bool], Figure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._renderer = Renderer(self.shot.size)

    def figure(self, person: int, hands: bool) -> Figure:
        key = person, hands
        if key not in self._figures:
            if any(kept != person for kept, _ in self._figures):
                self._figures.clear()
            who = identity(person, self.assets.template.targets)
            self._figures[key] = Figure(who, self.assets, hands, fine=self.shot.size >= 384)
        return self._figures[key]

    def clip(self, seed: int, person: int) -> Clip:
        """The clip of that seed with that person."""
        shot, renderer = self.shot, self._renderer
        rng = np.random.default_rng([seed, 0xC11])
        hands = bool(rng.random() < shot.hands)
        figure = self.figure(person, hands)
        at = shot.times(rng)
        now, heard, truth, emotion = performed(int(at[-1]) + 1, self.voices, self.silence, hands, shot.wide, rng)
        chin, crown = figure.neutral[:, 1][self.assets.head].min(), figure.neutral[:, 1][self.assets.head].max()
        camera = setting.camera(figure.eyes.mean(0), float(crown - chin), hands, rng)
        light = setting.light(rng, bool(rng.random() < shot.toon))
        grade = Grade.random(rng)
        background = grade(setting.background(shot.size, rng))
        matrix = camera.matrix()
        renderer.begin(figure.pose(REFERENCES["neutral"]), camera)

        def shown(controls: np.ndarray) -> tuple[Frame, np.ndarray, np.ndarray]:
            posed = figure.pose(controls)
            frame = renderer.draw(posed, camera, light)
            foreground = grade(frame.picture)
            share = frame.matte[..., None]
            picture = np.clip(foreground * share + background * (1 - share) + 0.5, 0, 255).astype(np.uint8)
            return frame, picture, keypoints(posed, frame, renderer, matrix, hands)

        roles = tuple(role for role in REFERENCES if hands or role != "hands")
        poses = np.stack([self._reference(role, rng) for role in roles])
        references = [shown(pose) for pose in poses]
        tracker = Tracker(references[0][0], _FOLLOWED, rng)
        tracks = [tracker.places(references[0][0].posed, references[0][0], renderer, matrix)]
        frames: list[tuple[Frame, np.ndarray, np.ndarray]] = []
        flow, flows, before, openings = [], [], [], []
        for k in at:
            frames.append(shown(now[k]))
            frame = frames[-1][0]
            flow.append(flow_between(frame, references[0][0], 2))
            flows.append([flow_between(frame, reference, 4) for reference, _, _ in references[1:]])
            previous = frames[-2][0] if len(frames) > 1 else frame
            before.append(flow_between(frame, previous, 4))
            tracks.append(tracker.places(frame.posed, frame, renderer, matrix))
            openings.append(frame.posed.opening)
        return Clip(
            seed=seed, person=person, roles=roles, grain=tuple(Grain.random(rng) for _ in roles), at=at,
            background=background, references=np.stack([p for _, p, _ in references]),
            frames=np.stack([p for _, p, _ in frames]),
            reference_mattes=np.stack([_matte(f) for f, _, _ in references]),
            mattes=np.stack([_matte(f) for f, _, _ in frames]),
            reference_parts=np.stack([f.parts() for f, _, _ in references]),
            parts=np.stack([f.parts() for f, _, _ in frames]),
            places=np.stack([f.template_places()[::2, ::2].astype(np.float16) for f, _, _ in references]),
            flow=np.stack(flow), flows=np.array(flows), before=np.stack(before),
            reference_points=np.stack([k for _, _, k in references]), points=np.stack([k for _, _, k in frames]),
            tracks=np.stack(tracks), reference_controls=poses, controls=np.stack([now[at - 1], now[at]], 1),
            heard=heard[at].astype(np.float16), truth=truth[at].astype(np.float16),
            emotion=emotion[at].astype(np.float16), openings=np.array(openings, np.float32),
        )  # fmt: skip

    def _reference(self, role: str, rng: np.random.Generator) -> np.ndarray:
        """[C]: a picture for a role as people send them, never quite straight."""
        pose = REFERENCES[role].copy()
        reach = 0.05 if role == "neutral" else 0.12
        for name, share in (("yaw", 1.0), ("pitch", 0.5), ("roll", 0.5), ("gaze_x", 0.8), ("gaze_y", 0.5)):
            pose[INDEX[name]] += reach * share * rng.normal()
        pose[INDEX["smile"]] += 0.08 * rng.normal()
        assert pose.shape == (len(CONTROLS),)
        return pose


def _matte(frame: Frame) -> np.ndarray:
    return (frame.matte * 255 + 0.5).clip(0, 255).astype(np.uint8)
