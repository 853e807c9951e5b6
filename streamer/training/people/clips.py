"""A seed to a clip: a person in some light, pictures of them to copy from, frames of them moving, and the truth.

People of the seeds below `FIRST_PERSON` are never made for training: they are held out.

Letters used in shapes: T frames, R references, S pixels along an edge, K key points, P followed points, C controls.
"""

from dataclasses import dataclass, field

import numpy as np

from streamer.studio.rig import FINGERS
from streamer.training.clip import FOLLOWED, LANDMARKS, Clip, Passage, stored_flow, stored_tracks
from streamer.training.people import setting
from streamer.training.people.assets import Assets
from streamer.training.people.figure import Figure, Posed
from streamer.training.people.film import Grade, Grain
from streamer.training.people.identity import identity
from streamer.training.people.motion import REFERENCES, performed, reference_pose
from streamer.training.people.renderer import Frame, Renderer
from streamer.training.voices import Voices

FIRST_PERSON = 1_000


@dataclass(frozen=True)
class Shot(Passage):
    hands: float = 0.35
    """Share of the clips that show hands."""
    toon: float = 0.0
    """Share of the clips lit in flat tones."""


def flow_between(frame: Frame, other: Frame, step: int) -> np.ndarray:
    """[S / step, S / step, 2] int16: as Clip.flow has it, of every `step`th pixel."""
    flow, seen = frame.flow(other, step)
    return stored_flow(flow, seen)


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
        return stored_tracks(projected[:, :2], visible)


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
        poses = np.stack([reference_pose(role, rng) for role in roles])
        references = [shown(pose) for pose in poses]
        tracker = Tracker(references[0][0], FOLLOWED, rng)
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


def _matte(frame: Frame) -> np.ndarray:
    return (frame.matte * 255 + 0.5).clip(0, 255).astype(np.uint8)
