"""Displacement fields of a picture, prepared once, and the flow of one frame.

    Geometry ─▶ Motion: maps of each channel, of depth and of head coupling, on a grid over the whole square and, with
                        the lips apart, on a finer one over the mouth
    strengths, pose ─▶ Motion.flow ─▶ Flow: the source of each frame position

Frame units. Letters used in shapes: R, C rows and columns of a grid; K channels, plus two: `closing` and `lifting` of
the Geometry; H vertices on the lips.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import scipy.sparse as sparse
from scipy.ndimage import distance_transform_edt
from scipy.sparse.linalg import splu

from streamer.motion.controls import INDEX
from streamer.studio.picture_rig.curves import smoothstep
from streamer.studio.picture_rig.field import Cover, Grid, cover
from streamer.studio.picture_rig.framing import FRAME, rotation
from streamer.studio.picture_rig.geometry import Geometry
from streamer.studio.picture_rig.topology import (
    CHIN,
    FOREHEAD,
    LEFT_CORNER,
    LEFT_RIM,
    RIGHT_CORNER,
    RIGHT_RIM,
    topology,
)

CELLS = 96
"""Cells along an edge of the grid over the square."""

_ROUNDS_WHOLE = 3  # iterations of the inversion: away from the lips the field is smooth
_FINE = 60  # columns of the grid over the mouth
_MOUTH = (1.05, 0.8, 1.25)  # its extent beside, above and below the mouth's centre, in mouth widths
_FADE = 0.13  # face heights over which an expression's displacement falls to a third outside the face
_AROUND = 0.45  # face heights outside the face beyond which expressions move nothing
_HEAD = (0.75, 0.95, 0.75)  # face heights beside, above and below the face's centre that rotate with it
_NECK = (-1.0, 0.7)  # height below which nothing follows the head, and length of the transition
_STEEPEST = 1.7  # maximum slope of a face's depth: rotation by 0.3 rad then compresses skin to a half
_BEHIND_RIM = 0.08  # decimetres of the head's pivot behind the face's rim
_BREATH, _SHRUG, _LEAN = 0.009, 0.07, 0.06  # displacement in face heights for a control of 1


@dataclass(frozen=True, eq=False)
class Layer:
    """Maps on one grid."""

    grid: Grid
    channels: np.ndarray
    """[K + 2, 3, r, c] float32: displacement by each channel, in the cells of `box`."""

    box: tuple[slice, slice]
    """Rows and columns outside of which no expression moves anything."""

    turning: np.ndarray
    """[3, R, C] float32: position relative to the pivot, times the coupling to the head."""

    body: np.ndarray
    """[3, 2, R, C] float32: displacement by breath, shrug and lean."""

    reach: np.ndarray | None = None
    """[R, C, H] float32: weight with which each cell follows a correction of each lip vertex; may be absent."""

    up: np.ndarray | None = None
    """[3] float32: the direction of corrections; present if `reach` is."""

    def moves(
        self, strengths: np.ndarray, turn: np.ndarray, body: np.ndarray, corrections: np.ndarray | None = None
    ) -> np.ndarray:
        """[R, C, 2] float32: displacement of each picture position.

        `strengths` [K + 2], `turn` [3, 3], `body` [3]; `corrections` [H] of the lips, along `self.up`.
        """
        more, turn = (turn - np.eye(3)).astype(np.float32), turn.astype(np.float32)
        out = _turned(more, self.turning)
        for amount, map_ in zip(body.astype(np.float32), self.body, strict=True):
            if amount:
                out += amount * map_
        # Sums over the active channels only: matrix products would start BLAS threads at a higher cost.
        expression = np.zeros(self.channels.shape[1:], np.float32)
        flat = expression.reshape(-1)
        for k in np.flatnonzero(strengths):
            cv2.scaleAdd(self.channels[k].reshape(-1), float(strengths[k]), flat, flat)
        if corrections is not None and self.reach is not None:
            follows = np.einsum("rch,h->rc", self.reach, corrections.astype(np.float32))
            assert self.up is not None
            expression += self.up[:, None, None] * follows
        out[:, *self.box] += _turned(turn, expression)
        return np.moveaxis(out, 0, -1)


def _turned(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[2, R, C]: x and y of positions [3, R, C] after a linear map [3, 3]."""
    x, y, z = places
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in matrix[:2]])


@dataclass(frozen=True, eq=False)
class Pose:
    """The face of one frame."""

    strengths: np.ndarray
    """[K + 2]."""

    turn: np.ndarray
    """[3, 3]: the head's rotation."""

    body: np.ndarray
    """[3]: breath, shrug, lean."""

    corrections: np.ndarray | None
    """[H], upwards, which keep the lips from crossing or parting; None if not needed."""

    upper: np.ndarray
    """[21, 3] float64: the upper lip's inner edge in the frame."""

    lower: np.ndarray

    gap: float
    """Maximum distance of the lips, along the face."""

    shift: np.ndarray
    """[2]: displacement of the mouth's centre."""

    body_shift: np.ndarray
    """[2]: the part of it caused by the trunk."""


@dataclass(frozen=True, eq=False)
class Flow:
    """The source of each frame position: displacements to positions in the picture."""

    whole: np.ndarray
    """[CELLS, CELLS, 2] float32."""

    mouth: Grid
    """The finer grid, positioned in the frame."""

    upper: np.ndarray
    """[R, C, 2] float32 on `mouth`: extended from the upper lip and everything above; `lower` likewise."""

    lower: np.ndarray


@dataclass(frozen=True, eq=False)
class Motion:
    geometry: Geometry
    whole: Layer
    upper: Layer
    lower: Layer
    body_on_face: np.ndarray
    """[3, 2]: displacement of the face by breath, shrug and lean."""

    lip_channels: np.ndarray
    """[K + 2, H, 3] float32: displacement of the lips by each channel."""

    def pose(
        self, strengths: np.ndarray, closing: float, lifting: float, controls: np.ndarray, together: bool = False
    ) -> Pose:
        """The face for channel strengths [K]: `closing` 0..1 closes the mouth that the picture shows open, `lifting`
        reverts that fraction of the upper lip's part; `together` keeps the lips from parting."""
        face = self.geometry
        every = np.concatenate([strengths, [closing, -closing * lifting]]).astype(np.float32)
        lips = face.vertices[face.lips].astype(np.float64)
        for k in np.flatnonzero(every):
            lips += every[k] * self.lip_channels[k]
        wrong = face.lip_gaps(lips)
        if not together:
            wrong = np.minimum(wrong, 0)
        corrections = None
        if closing > 0 and np.abs(wrong).max() > 0.05:
            corrections = np.zeros(len(lips))
            corrections[face.upper], corrections[face.lower] = -wrong / 2, wrong / 2
            lips = lips + corrections[:, None] * face.up
        yaw, pitch, roll = (float(controls[INDEX[name]]) for name in ("yaw", "pitch", "roll"))
        turn = rotation(yaw, pitch, roll)
        body = np.array([controls[INDEX[name]] for name in ("breath", "shrug", "lean")], np.float64)
        shown = (lips - face.pivot) @ turn.T + face.pivot
        body_shift = body @ self.body_on_face
        shown[:, :2] += body_shift
        mesh = topology()
        upper, lower = (shown[np.searchsorted(face.lips, chain)] for chain in (mesh.upper, mesh.lower))
        corners = face.vertices[[LEFT_CORNER, RIGHT_CORNER]]
        shift = (shown[np.searchsorted(face.lips, [LEFT_CORNER, RIGHT_CORNER])] - corners)[:, :2].mean(0)
        gap = max(float(face.lip_gaps(lips).max()), 0.0)
        return Pose(every, turn, body, corrections, upper, lower, gap, shift, body_shift)

    def shifts(self, pose: Pose, pairs: np.ndarray) -> np.ndarray:
        """[n, 2]: displacement of the midpoints between landmarks [n, 2], without the expression."""
        at = self.geometry.vertices[pairs].mean(1) - self.geometry.pivot
        return (at @ pose.turn.T - at)[:, :2] + pose.body_shift

    def vertices(self, pose: Pose, beforehand: np.ndarray) -> np.ndarray:
        """[V, 3]: the mesh in a frame; `beforehand` [V, 2] is added to its positions in the picture first."""
        face = self.geometry
        places = face.vertices.astype(np.float64)
        places[:, :2] += beforehand
        body = sum(
            amount * np.stack([self.whole.grid.sampled(plane, places[None, :, :2])[0] for plane in map_], 1)
            for amount, map_ in zip(pose.body, self.whole.body, strict=True)
        )
        channels = [*face.channels, face.closing, face.lifting]
        for k in np.flatnonzero(pose.strengths):
            places += pose.strengths[k] * channels[k]
        if pose.corrections is not None:
            places += (face.reach @ pose.corrections)[:, None] * face.up
        shown = (places - face.pivot) @ pose.turn.T + face.pivot
        shown[:, :2] += body
        return shown.astype(np.float32)

    def carried(self, pose: Pose, places: np.ndarray) -> np.ndarray:
        """[r, c, 2] float32: frame positions of picture positions [r, c, 2], which must be away from the mouth."""
        moves = self.whole.moves(pose.strengths, pose.turn, pose.body)
        moved = [self.whole.grid.sampled(moves[..., i], places) for i in (0, 1)]
        return (places + np.stack(moved, -1)).astype(np.float32)

    def flow(self, pose: Pose) -> Flow:
        arguments = pose.strengths, pose.turn, pose.body
        whole = self.whole.grid.inverted(self.whole.moves(*arguments), _ROUNDS_WHOLE)
        shift = pose.shift.astype(np.float32)
        still = self.upper.grid
        mouth = Grid(still.x + float(shift[0]), still.y + float(shift[1]), still.cell, still.rows, still.columns)
        halves = [
            still.inverted(layer.moves(*arguments, pose.corrections) - shift) - shift
            for layer in (self.upper, self.lower)
        ]
        return Flow(whole, mouth, *halves)


def prepare_motion(face: Geometry) -> Motion:
    """Everything that does not change from frame to frame."""
    mesh = topology()
    grid = Grid(0, 0, FRAME / CELLS, CELLS, CELLS)
    forehead, chin = face.vertices[FOREHEAD, :2], face.vertices[CHIN, :2]
    tall = float(np.hypot(*(forehead - chin)))
    up = (forehead - chin) / tall
    right = np.array([-up[1], up[0]])
    from_middle = grid.middles - (forehead + chin) / 2
    beside, above = from_middle @ right / tall, from_middle @ up / tall

    channels = np.concatenate([face.channels, face.closing[None], face.lifting[None]])
    lies = cover(grid, face.vertices, mesh.triangles)
    rows, columns = np.nonzero(lies.covered)
    margin = int(np.ceil(_AROUND * tall / grid.cell))
    down, across = (
        slice(max(0, int(of.min()) - margin), min(CELLS, int(of.max()) + margin + 1)) for of in (rows, columns)
    )
    box = (down, across)
    depth = _depth(face, grid, lies, tall)
    vertices = face.vertices.copy()
    vertices[:, 2] = grid.sampled(depth, vertices[None, :, :2])[0]
    pivot = face.pivot.copy()
    pivot[2] = vertices[[LEFT_RIM, RIGHT_RIM], 2].mean() + _BEHIND_RIM * np.linalg.norm(face.axes[:, 2])
    face = replace(face, vertices=vertices, pivot=pivot)
    maps = _extended(lies.spread(channels), lies.covered, box, grid.cell / (_FADE * tall))

    weight = _follows_head(beside, above, lies.covered)
    body = _body(beside, above, weight, up, right, tall)

    whole = Layer(grid, maps, box, _from_pivot(grid, depth, face.pivot) * weight, body)
    everywhere = np.zeros((len(channels), 3, CELLS, CELLS), np.float32)
    everywhere[:, :, *box] = maps
    planes = [*everywhere.reshape(-1, CELLS, CELLS), *body.reshape(-1, CELLS, CELLS), depth, weight]

    middle, width = face.vertices[[LEFT_CORNER, RIGHT_CORNER], :2].mean(0), face.mouth_width
    cell = 2 * _MOUTH[0] * width / _FINE
    fine = Grid(
        float(middle[0] - _MOUTH[0] * width),
        float(middle[1] - _MOUTH[1] * width),
        cell,
        int((_MOUTH[1] + _MOUTH[2]) * width / cell),
        _FINE,
    )
    beyond = np.stack([grid.sampled(plane, fine.middles) for plane in planes])
    count = everywhere.shape[0] * 3
    below = cover(fine, face.vertices, mesh.triangles)
    halves = []
    for chain, side in ((mesh.upper, 1.0), (mesh.lower, -1.0)):
        lies = _extended_from(below, chain, fine, face.vertices, side)
        own = beyond[:count].copy()
        own[:, lies.covered] = lies.spread(channels).transpose(0, 2, 1).reshape(count, -1)
        deep = beyond[-2].copy()
        deep[lies.covered] = lies.spread(face.vertices[:, 2:])[:, 0]
        reach = np.zeros((fine.rows, fine.columns, len(face.lips)), np.float32)
        reach[lies.covered] = lies.spread(face.reach)
        turning = _from_pivot(fine, deep, face.pivot) * beyond[-1]
        own = own.reshape(-1, 3, fine.rows, fine.columns)
        halves.append(
            Layer(
                fine,
                own,
                np.s_[:, :],
                turning,
                beyond[count:-2].reshape(3, 2, *deep.shape),
                reach,
                face.up.astype(np.float32),
            )
        )
    at_mouth = [float(grid.sampled(plane, middle[None, None])[0, 0]) for plane in body.reshape(-1, CELLS, CELLS)]
    return Motion(face, whole, halves[0], halves[1], np.array(at_mouth).reshape(3, 2), channels[:, face.lips])


def _depth(face: Geometry, grid: Grid, lies: Cover, tall: float) -> np.ndarray:
    """
    [R, C] float32: the face's depth, with limited slope, extended over hair and neck. At its rim a face recedes so
    steeply that the warp would fold over; parts nearer to the viewer are unchanged.
    """
    depth = np.full((grid.rows, grid.columns), np.float32(1e6))
    depth[lies.covered] = lies.spread(face.vertices[:, 2:])[:, 0]
    depth = _cones(depth, _STEEPEST * grid.cell, int(0.5 * tall / grid.cell))
    rows, columns = distance_transform_edt(~lies.covered, return_distances=False, return_indices=True)
    around = cv2.GaussianBlur(depth[rows, columns], (0, 0), 0.06 * tall / grid.cell)
    return cv2.GaussianBlur(np.where(lies.covered, depth, around), (0, 0), 0.02 * tall / grid.cell)


def _cones(depth: np.ndarray, rise: float, rounds: int) -> np.ndarray:
    """[R, C]: the largest field that is nowhere above `depth` and rises by at most `rise` per cell."""
    for _ in range(rounds):
        padded = np.pad(depth, 1, "edge")
        straight = np.minimum.reduce([padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]])
        aslant = np.minimum.reduce([padded[:-2, :-2], padded[:-2, 2:], padded[2:, :-2], padded[2:, 2:]])
        nearer = np.minimum(straight + np.float32(rise), aslant + np.float32(rise * 2**0.5))
        depth = np.minimum(depth, nearer)
    return depth


def _from_pivot(grid: Grid, depth: np.ndarray, pivot: np.ndarray) -> np.ndarray:
    """[3, R, C] float32: x, y and depth of the cell centres, relative to the pivot."""
    middles = np.moveaxis(grid.middles, -1, 0)
    return (np.concatenate([middles, depth[None]]) - pivot[:, None, None]).astype(np.float32)


def _extended(known: np.ndarray, covered: np.ndarray, box: tuple[slice, slice], fade: float) -> np.ndarray:
    """Extends values [m, n, 3] of the covered cells into the box, fading smoothly to zero: [m, 3, r, c].

    A screened Laplace equation; `fade` is a cell's edge over the distance in which they fall to a third.
    """
    inside = covered[box]
    rows, columns = inside.shape
    number = np.arange(rows * columns).reshape(rows, columns)
    beside, below = (number[:, :-1], number[:, 1:]), (number[:-1], number[1:])
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()]) for a, b in (beside, below)], 1)
    joined = sparse.coo_matrix((np.ones(pairs.shape[1]), pairs), (number.size,) * 2)
    joined = (joined + joined.T).tocsr()
    operator = ((4 + fade**2) * sparse.identity(number.size) - joined).tocsr()  # beyond the box everything is zero
    free, held = np.flatnonzero(~inside.ravel()), np.flatnonzero(inside.ravel())
    values = known.transpose(1, 0, 2).reshape(len(held), -1)
    solver = splu(operator[free][:, free].tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    out = np.zeros((number.size, values.shape[1]), np.float32)
    out[held] = values
    out[free] = solver.solve(-(operator[free][:, held] @ values))
    return np.ascontiguousarray(out.T).reshape(len(known), 3, rows, columns)


def _follows_head(beside: np.ndarray, above: np.ndarray, face: np.ndarray) -> np.ndarray:
    """[R, C]: 1 on the head, falling to 0 around it and down the neck. Positions in face heights from its centre."""
    wide, high, low = _HEAD
    radius = np.hypot(beside / wide, np.where(above > 0, above / high, above / low))
    weight = smoothstep((1.75 - radius) / 0.75) * smoothstep((above - _NECK[0]) / _NECK[1])
    return np.where(face, 1.0, weight)


def _body(
    beside: np.ndarray, above: np.ndarray, head: np.ndarray, up: np.ndarray, right: np.ndarray, tall: float
) -> np.ndarray:
    """[3, 2, R, C] float32: displacement by breath, shrug and lean."""
    trunk = smoothstep((-0.55 - above) / 0.4) * smoothstep((1.5 - np.abs(beside)) / 0.4)
    shoulders = trunk * smoothstep((np.abs(beside) - 0.3) / 0.35)
    leaning = np.maximum(head, smoothstep((1.2 - np.abs(beside)) / 0.5)) * smoothstep((above + 1.25) / 1.2)
    moved = ((_BREATH * up, trunk), (_SHRUG * up, shoulders), (_LEAN * right, leaning))
    return np.stack([tall * by[:, None, None] * where for by, where in moved]).astype(np.float32)


def _extended_from(below: Cover, chain: np.ndarray, grid: Grid, vertices: np.ndarray, side: float) -> Cover:
    """Like `below`, but everything beyond one lip's edge, into the mouth and over the other lip, extends that edge.

    `side` is 1 for the upper lip's edge (everything below it), -1 for the lower.
    """
    line = vertices[chain, :2]
    along = (line[-1] - line[0]) / np.hypot(*(line[-1] - line[0]))
    down = np.array([-along[1], along[0]])
    t, v = (grid.middles - line[0]) @ along, (grid.middles - line[0]) @ down
    x = np.maximum.accumulate((line - line[0]) @ along)
    y = (line - line[0]) @ down
    beyond = (t > 0) & (t < x[-1]) & (side * (v - np.interp(t, x, y)) > 0)
    covered = below.covered | beyond
    corners = np.zeros((grid.rows, grid.columns, 3), int)
    weights = np.zeros((grid.rows, grid.columns, 3), np.float32)
    corners[below.covered], weights[below.covered] = below.vertices, below.weights
    place = np.interp(t[beyond], x + 1e-6 * np.arange(len(x)), np.arange(len(x)))
    first = np.minimum(place.astype(int), len(x) - 2)
    share = (place - first).astype(np.float32)
    corners[beyond] = np.stack([chain[first], chain[first + 1], chain[first]], -1)
    weights[beyond] = np.stack([1 - share, share, np.zeros_like(share)], -1)
    return Cover(covered, corners[covered], weights[covered])
