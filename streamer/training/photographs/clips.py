"""A portrait and a seed to a clip, by the picture rig.

Letters used in shapes as in `streamer.training.clip`: T frames, R references, S edge, K key points, P followed points.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.faces.pose import mean_face
from streamer.motion.controls import HIGHEST, INDEX, LOWEST, controls, rest
from streamer.studio.face_fit import INNER_LIPS, LEFT_EYE, POINTS, RIGHT_EYE
from streamer.studio.picture_rig import PreparedPicture
from streamer.studio.picture_rig.field import Grid, cover
from streamer.studio.picture_rig.topology import CHIN, topology
from streamer.training.clip import FOLLOWED, KEYPOINTS, LANDMARKS, Clip, Passage, stored_flow, stored_tracks
from streamer.training.mirror import mirrored_controls
from streamer.training.people.film import Grain
from streamer.training.people.motion import performed, reference_pose
from streamer.training.people.parts import PART
from streamer.training.people.setting import background
from streamer.training.photographs.correspond import flow_between, found_in, torn
from streamer.training.photographs.look import Look
from streamer.training.photographs.portraits import Portrait
from streamer.training.pictures import BACKGROUND, EYES, FACE, MOUTH, PERSON, Shown, Teacher
from streamer.training.voices import Voices

ROLES = ("neutral", "eyes_shut", "mouth_open")
_REACH = {"yaw": 0.28, "pitch": 0.16, "roll": 0.24}
"""Radians by which the rig turns heads without flattening or smearing them."""
_MOST_TORN = 0.002
"""Share of the person's pixels that may be torn in a frame."""
_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))
_EYES = tuple((*eye[:9], *eye[:8:-1]) for eye in (LEFT_EYE, RIGHT_EYE))
_TO_TEMPLATE = np.array([0.8947, -0.8947, -0.8922], np.float32), np.array([0, 7.2872, 1.3498], np.float32)
"""Factors and offsets from the mean face to decimetres on MakeHuman's body, on which its landmarks lie."""


class Torn(ValueError):
    """A clip in which the rig tears the picture; the message says by how much."""


@dataclass(eq=False)
class Studio:
    """Makes clips of one size."""

    passage: Passage
    voices: Voices
    silence: np.ndarray

    def clip(self, seed: int, portrait: Portrait) -> Clip:
        """The clip of that seed with that portrait. Raises Torn."""
        rng = np.random.default_rng([seed, 0xF070])
        look = Look.random(rng)
        shown = look(portrait)
        cut_out = shown.pixels[..., 3].min() < 255
        teacher = Teacher(PreparedPicture.build(shown.pixels, shown.fit, shown.matte), self.passage.size, not cut_out)
        behind = teacher.background()
        if behind is None:
            behind = background(self.passage.size, rng) if cut_out else teacher.picture[..., :3].copy()
        at = self.passage.times(rng)
        now, heard, truth, emotion = performed(
            int(at[-1]) + 1, self.voices, self.silence, False, self.passage.wide, rng
        )
        now = _within_reach(mirrored_controls(now) if look.mirrored else now)
        poses = np.stack([rest() if role == "neutral" else _within_reach(reference_pose(role, rng)) for role in ROLES])

        rested = teacher.show(poses[0])
        teacher.speak()
        references = [rested, *(teacher.show(pose) for pose in poses[1:])]
        frames = [teacher.show(now[k]) for k in at]
        worst = max(torn(each) for each in [*references, *frames])
        if worst > _MOST_TORN:
            raise Torn(f"{worst:.1%} of a frame is torn, more than {_MOST_TORN:.1%}")
        widest = _opening(teacher.show(controls(open=1.0)))
        points = _followed(rested, rng)
        before = [frames[0], *frames[:-1]]
        return Clip(
            seed=seed, person=portrait.person, roles=ROLES, grain=tuple(Grain.random(rng) for _ in ROLES), at=at,
            background=behind, references=np.stack([_over(each, behind) for each in references]),
            frames=np.stack([_over(each, behind) for each in frames]),
            reference_mattes=np.stack([each.matte for each in references]),
            mattes=np.stack([each.matte for each in frames]),
            reference_parts=np.stack([_parts(each) for each in references]),
            parts=np.stack([_parts(each) for each in frames]),
            places=np.stack([_template_places(each) for each in references]),
            flow=np.stack([stored_flow(each.flow[::2, ::2], each.copied[::2, ::2]) for each in frames]),
            flows=np.stack([
                [stored_flow(*flow_between(each, other, 4)) for other in references[1:]] for each in frames
            ]),
            before=np.stack([stored_flow(*flow_between(each, other, 4))
                             for each, other in zip(frames, before, strict=True)]),
            reference_points=np.stack([_keypoints(each) for each in references]),
            points=np.stack([_keypoints(each) for each in frames]),
            tracks=np.stack([_tracks(each, points, rested) for each in [rested, *frames]]),
            reference_controls=poses, controls=np.stack([now[at - 1], now[at]], 1),
            heard=heard[at].astype(np.float16), truth=truth[at].astype(np.float16),
            emotion=emotion[at].astype(np.float16),
            openings=np.array([_opening(each) / max(widest, 1e-3) for each in frames], np.float32).clip(0, 1),
        )  # fmt: skip


def _within_reach(poses: np.ndarray) -> np.ndarray:
    """Controls [..., C] with heads turned no further than the rig draws well."""
    low, high = LOWEST.copy(), HIGHEST.copy()
    for name, reach in _REACH.items():
        low[INDEX[name]], high[INDEX[name]] = -reach, reach
    return np.clip(poses, low, high).astype(np.float32)


def _over(shown: Shown, behind: np.ndarray) -> np.ndarray:
    """[S, S, 3] uint8: a frame, over a background where it is transparent."""
    alpha = shown.frame[..., 3:].astype(np.float32) / 255
    if alpha.min() == 1:
        return np.ascontiguousarray(shown.frame[..., :3])
    return np.clip(shown.frame[..., :3] * alpha + behind * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)


def _polygon(on: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """[S, S] bool: inside an outline [n, 2]."""
    mask = np.zeros(on.shape, np.uint8)
    cv2.fillPoly(mask, [np.round(16 * outline - 8).astype(np.int32)], 1, cv2.LINE_8, 4)
    return mask > 0


def _parts(shown: Shown) -> np.ndarray:
    """
    [S, S] uint8: index in people.parts.PARTS. Round the face the rig knows no parts: above the chin all is called hair,
    below it cloth.
    """
    marks = shown.keypoints[:, :2]
    below = np.arange(len(shown.parts))[:, None] > marks[CHIN, 1]
    parts = np.full(shown.parts.shape, PART["background"], np.uint8)
    for kind, name in ((FACE, "face"), (EYES, "eye"), (MOUTH, "mouth")):
        parts[shown.parts == kind] = PART[name]
    person = shown.parts == PERSON
    parts[person & below] = PART["cloth"]
    parts[person & ~below] = PART["hair"]
    skin = shown.parts == FACE
    for outlines, name in ((_BROWS, "brow"), (_EYES, "eye"), ((_LIPS,), "lips")):
        for outline in outlines:
            parts[skin & _polygon(skin, marks[list(outline)])] = PART[name]
    return parts


def _template_places(shown: Shown) -> np.ndarray:
    """[S / 2, S / 2, 3] float16 as Clip.places has it; 0 outside the face, where the rig knows no mesh."""
    size, mesh = len(shown.frame), topology()
    found = cover(Grid(0, 0, 1.0, size, size), shown.vertices, mesh.triangles)
    scale, offset = _TO_TEMPLATE
    places = np.zeros((size, size, 3), np.float32)
    places[found.covered] = found.spread(mesh.divided(mean_face()) * scale + offset)
    places[shown.parts == BACKGROUND] = 0
    return places[::2, ::2].astype(np.float16)


def _keypoints(shown: Shown) -> np.ndarray:
    """[K, 3] float32 as Clip.points has it: landmarks on the face's far side, shoulders and hands are not visible."""
    points = np.zeros((len(KEYPOINTS), 3), np.float32)
    points[:LANDMARKS, :2] = shown.keypoints[:, :2]
    a, b, c = (shown.vertices[topology().triangles[:, i], :2] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    facing = np.zeros(len(shown.vertices))
    for corner in range(3):
        np.add.at(facing, topology().triangles[:, corner], area * np.sign(np.median(area)))
    inside = ((points[:LANDMARKS, :2] > 0) & (points[:LANDMARKS, :2] < len(shown.frame))).all(1)
    points[:LANDMARKS, 2] = inside & np.concatenate([facing[:POINTS] > 0, np.ones(LANDMARKS - POINTS, bool)])
    return points


def _opening(shown: Shown) -> float:
    """Distance of the inner lips in pixels."""
    upper, lower = (shown.keypoints[i, :2] for i in INNER_LIPS)
    return float(np.hypot(*(upper - lower)))


def _followed(rested: Shown, rng: np.random.Generator) -> np.ndarray:
    """[1, P, 2] float32: random places of the person in the picture at rest."""
    rows, columns = np.nonzero((rested.parts != BACKGROUND) & rested.copied)
    chosen = rng.integers(len(rows), size=FOLLOWED)
    return (np.stack([columns, rows], 1)[chosen] + rng.random((FOLLOWED, 2)))[None].astype(np.float32)


def _tracks(shown: Shown, points: np.ndarray, rested: Shown) -> np.ndarray:
    """[P, 3] uint16 as Clip.tracks has it."""
    if shown is rested:
        return stored_tracks(points[0], np.ones(points.shape[1], bool))
    places, seen = found_in(shown, points, np.ones(points.shape[:2], bool))
    return stored_tracks(places[0], seen[0])
