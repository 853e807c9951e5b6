"""The face in 3D: its vertices as in the picture, how to close its mouth, and the displacement by each channel.

Frame units; x to the right, y down, z away from the viewer. Letters used in shapes: V vertices of the divided mesh, K
channels of `expression.CHANNELS`, H vertices on the inner lips.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu

from streamer.studio.picture_rig import anatomy
from streamer.studio.picture_rig.expression import CHANNELS, JAW, NAMES, OPENING
from streamer.studio.picture_rig.seam import Seam
from streamer.studio.picture_rig.topology import CHIN, LEFT_CORNER, LEFT_RIM, RIGHT_CORNER, RIGHT_RIM, STABLE, topology

_FLIP = np.array([1.0, -1.0, -1.0])  # from MakeHuman's axes to ours
_MOUTH = (6.6, 0.42, 0.9, 6.88)
"""The mean face's mouth: its height (dm), range of lip corrections (dm; height to width), the base of the nose (dm)."""
_WIDE_OPEN = 0.30  # gap (mouth widths) from which the jaw must be closed, not only the lips
_SHUT_BY_JAW = 0.8
_UPPER_SHARE = {True: 0.62, False: 0.45}  # fraction of a gap closed by the upper lip, with and without teeth
_PROFILE = 0.8  # exponent of the open mouth's outline 1 - x²; the raw units give a V shape


@dataclass(frozen=True, eq=False)
class Geometry:
    vertices: np.ndarray
    """[V, 3] float32: as in the picture."""

    closing: np.ndarray
    """[V, 3] float32: displacement that closes the lips."""

    lifting: np.ndarray
    """[V, 3] float32: the part of `closing` that lowers the upper lip over teeth."""

    channels: np.ndarray
    """[K, V, 3] float32: displacement by each channel at full strength."""

    lips: np.ndarray
    """[H] int: vertices of the inner lips."""

    reach: np.ndarray
    """[V, H] float32: weight with which each vertex follows a correction of each lip vertex."""

    upper: np.ndarray
    """[N] indices into `lips` of the upper lip's edge, without the corners; `lower` likewise."""

    lower: np.ndarray

    axes: np.ndarray
    """[3, 3]: columns are the face's own x, y (up) and z (towards the viewer) axes, one decimetre in frame units."""

    pivot: np.ndarray
    """[3]: pivot of the head."""

    yaw: float
    """Yaw of the picture's face to the viewer's right, radians."""

    open: bool
    """Whether the picture shows an open mouth."""

    @property
    def mouth_width(self) -> float:
        return float(np.hypot(*(self.vertices[RIGHT_CORNER, :2] - self.vertices[LEFT_CORNER, :2])))

    @property
    def up(self) -> np.ndarray:
        """[3]: the face's upward direction, of length 1."""
        return self.axes[:, 1] / np.linalg.norm(self.axes[:, 1])

    def gaps(self, vertices: np.ndarray) -> np.ndarray:
        """[N]: distance of the lips at each pair of `upper` and `lower`, along the face; negative if they cross."""
        return self.lip_gaps(vertices[self.lips])

    def lip_gaps(self, lips: np.ndarray) -> np.ndarray:
        """As `gaps`, from the lips' vertices [H, 3] alone."""
        return -((lips[self.lower] - lips[self.upper]) @ self.up)


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """The scale and rotation [3, 3] that best map points [n, 3] onto others (Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return float((d * np.diag(sign)).sum() / (a**2).sum()), u @ sign @ vt


def fit_geometry(seam: Seam) -> Geometry:
    """The geometry of a face with a known lip seam."""
    mean, mesh = anatomy.load(), topology()
    landmarks = seam.landmarks
    scale, turn = similarity(mean.places[list(STABLE)], (landmarks * _FLIP)[list(STABLE)])
    axes = turn * scale * _FLIP[:, None]
    vertices = mesh.divided(landmarks)
    channels = np.stack([mesh.divided(sum(mean.units[unit] for unit in CHANNELS[name]) @ axes.T) for name in NAMES])

    lips = np.array(sorted({*mesh.upper, *mesh.lower}))
    reach = _lip_reach(mesh.divided(mean.places), mesh.triangles, lips)
    place = {int(vertex): i for i, vertex in enumerate(lips)}
    upper, lower = (np.array([place[int(v)] for v in chain[1:-1]]) for chain in (mesh.upper, mesh.lower))

    def pulled(by_upper: np.ndarray, by_lower: np.ndarray) -> np.ndarray:
        """[V, 3]: displacement of all vertices when the edges [N, 3] of the upper and the lower lip are moved."""
        moves = np.zeros((len(lips), 3))
        moves[upper], moves[lower] = by_upper, by_lower
        return reach @ moves

    def opened(of: np.ndarray) -> np.ndarray:
        return of[lips[lower]] - of[lips[upper]]

    for k, name in enumerate(NAMES):
        if name not in OPENING:
            channels[k] += pulled(opened(channels[k]) / 2, -opened(channels[k]) / 2)
    up = axes[:, 1] / np.linalg.norm(axes[:, 1])
    jaw_gap = -opened(channels[JAW]) @ up
    x = np.linspace(-1, 1, len(upper) + 2)[1:-1]
    wanted = (jaw_gap.max() * (1 - x**2) ** _PROFILE - jaw_gap)[:, None] * up
    channels[JAW] += pulled(0.3 * wanted, -0.7 * wanted)

    shut_jaw = np.zeros_like(vertices)
    share = _UPPER_SHARE[seam.open]
    if seam.gap > _WIDE_OPEN:
        middle = len(upper) // 2
        gap = max(0.0, float(-opened(vertices)[middle] @ up) / float(-opened(channels[JAW])[middle] @ up))
        shut_jaw, share = -_SHUT_BY_JAW * gap * channels[JAW], 0.5
    left = opened(vertices + shut_jaw)
    lifting = pulled(share * left, np.zeros_like(left))
    closing = shut_jaw + lifting + pulled(np.zeros_like(left), -(1 - share) * left)

    rims = (landmarks[LEFT_RIM] + landmarks[RIGHT_RIM]) / 2
    pivot = np.array([rims[0], (rims[1] + landmarks[CHIN, 1]) / 2, rims[2]]) - 0.25 * axes[:, 2]
    vertices, closing, lifting, channels = (a.astype(np.float32) for a in (vertices, closing, lifting, channels))
    return Geometry(
        vertices, closing, lifting, channels, lips, reach.astype(np.float32), upper, lower, axes, pivot,
        yaw=float(np.arctan2(turn[0, 2], turn[2, 2])), open=seam.open,
    )  # fmt: skip


def _lip_reach(places: np.ndarray, triangles: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """[V, H]: a biharmonic extension that interpolates the lips' displacement and fades out around the mouth."""
    count = len(places)
    height, wide, tall, nose = _MOUTH
    still = (np.hypot(places[:, 0], (places[:, 1] - height) / tall) > wide) | (places[:, 1] > nose)
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    sides = np.unique(np.sort(sides, 1), axis=0)
    joined = sparse.coo_matrix((np.ones(len(sides)), sides.T), (count, count))
    joined = (joined + joined.T).tocsr()
    laplacian = sparse.diags(1 / np.asarray(joined.sum(1)).ravel()) @ joined - sparse.identity(count)
    bending = (laplacian.T @ laplacian).tocsc()
    held = still.copy()
    held[lips] = True
    free = np.flatnonzero(~held)
    reach = np.zeros((count, len(lips)))
    reach[free] = splu(bending[free][:, free].tocsc()).solve(-bending[free][:, lips].toarray())
    reach[lips, np.arange(len(lips))] = 1
    reach[np.abs(reach) < 1e-4] = 0
    return reach
